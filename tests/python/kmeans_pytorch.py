"""k-means beside PyTorch on the same device: python3 tests/python/kmeans_pytorch.py [--tiny]

1M x 128 uniform points, 1024 clusters, 10 updates, the same first centroids. On the PyTorch side distances are a product of
matrices, |c|^2 / 2 - x c, in parts of the points that leave room for nothing else to matter, and clusters are added up by
index_add_: with products of f32 and of TF32, eager, and the first of them compiled. Setun gets host memory and gives labels to it,
so PyTorch is timed that way as well as with points that are on the device already. All labels are compared with those of
the same updates in f64. --tiny is for a trial without a GPU.
"""

import argparse
import ctypes
import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


class Case(NamedTuple):
    n: int
    d: int
    k: int
    updates: int
    rows: int  # of a part of the points


FULL = Case(n=1_000_000, d=128, k=1024, updates=10, rows=62_500)
TINY = Case(n=700, d=20, k=5, updates=3, rows=175)


def nearest(torch, x, centroids):
    """The label of each point: |x - c|^2 less |x|^2, halved."""
    return torch.addmm(centroids.square().sum(1) / 2, x, centroids.T, alpha=-1).argmin(1)


def means(torch, x, labels, centroids):
    """An empty cluster stays where it is."""
    sums = torch.zeros_like(centroids).index_add_(0, labels, x)
    counts = torch.zeros_like(centroids[:, 0]).index_add_(0, labels, torch.ones_like(x[:, 0]))
    return torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centroids)


class Lloyd:
    """As many updates as are asked for, and then the labels."""

    def __init__(self, torch, rows, compiled=False):
        wrap = (lambda call: torch.compile(call, dynamic=False)) if compiled else (lambda call: call)
        self.nearest = wrap(lambda x, centroids: nearest(torch, x, centroids))
        self.means = wrap(lambda x, labels, centroids: means(torch, x, labels, centroids))
        self.torch, self.rows = torch, rows

    def __call__(self, x, centroids, updates):
        def labels_of(centroids):
            return self.torch.cat([self.nearest(part, centroids) for part in x.split(self.rows)])

        labels = labels_of(centroids)
        for _ in range(updates):
            centroids = self.means(x, labels, centroids)
            labels = labels_of(centroids)
        return labels


def memory_of(tensor):
    """The tensor's memory, as the bindings take it, also where there is no numpy."""
    return (ctypes.c_float * tensor.numel()).from_address(tensor.data_ptr())


class Setun:
    def __init__(self, torch, case, x, start, backend):
        sys.path[:0] = [str(HERE), str(HERE.parents[1] / "c_examples" / "python")]
        import setun

        self.setun, self.torch, self.case, self.x, self.start = setun, torch, case, x, start
        self.context = setun.Context(backend=setun.Backend[backend])

    def __call__(self, updates):
        found = self.setun.cluster(
            memory_of(self.x), self.case.k, rows=self.case.n, columns=self.case.d, initial_centroids=memory_of(self.start),
            start=self.setun.KMeansStart.GIVEN, max_iterations=updates, context=self.context,
        )  # fmt: skip
        return self.torch.frombuffer(memoryview(found.labels).cast("B"), dtype=self.torch.int32).long()


def least(call, finish, rounds):
    """The least time of a call, and what it gave last."""
    seconds, given = math.inf, None
    for _ in range(rounds):
        finish()
        began = time.perf_counter()
        given = call()
        finish()
        seconds = min(seconds, time.perf_counter() - began)
    return seconds, given


def compare(torch, where, case, limit, tell, backend="CUDA", rounds=3):
    """Tells of each who, how, the seconds of the whole call and of one update more, and the share of labels that differ from those
    of f64. `tell(who, how, ...)` is called as soon as they are known; an error is told of as `failed`."""
    began = time.monotonic()
    finish = torch.cuda.synchronize if where.type == "cuda" else lambda: None
    torch.manual_seed(7)
    x = torch.rand(case.n, case.d)
    start = x[torch.randperm(case.n)[: case.k]].clone()
    there, start_there = x.to(where), start.to(where)
    # Parts of f64 are twice as large, and only the labels are kept.
    expected = Lloyd(torch, case.rows)(there.double(), start_there.double(), case.updates).cpu()

    def differing(labels):
        return (labels.cpu() != expected).double().mean().item()

    def attempt(who, how, work):
        try:
            tell(who, how, **work())
        except Exception as why:  # of several kinds, one for each part of the compiler that may be missing
            tell(who, how, failed=(str(why).strip() or type(why).__name__).splitlines()[0])

    def ours():
        run = Setun(torch, case, x, start, backend)
        run(1)  # compiles the kernels
        seconds, labels = least(lambda: run(case.updates), finish, rounds)
        few, _ = least(lambda: run(1), finish, rounds)
        each = (seconds - few) / (case.updates - 1)
        return {"seconds": seconds, "each": each, "differ": differing(labels)}

    def theirs(precision, compiled):
        torch.set_float32_matmul_precision(precision)
        run = Lloyd(torch, case.rows, compiled)
        run(there, start_there, case.updates)  # compiles
        whole, labels = least(lambda: run(x.to(where), start.to(where), case.updates).cpu(), finish, rounds)
        seconds, _ = least(lambda: run(there, start_there, case.updates), finish, rounds)
        few, _ = least(lambda: run(there, start_there, 1), finish, rounds)
        each = (seconds - few) / (case.updates - 1)
        return {"seconds": whole, "there": seconds, "each": each, "differ": differing(labels)}

    attempt("Setun", "exact", ours)
    attempt("PyTorch", "f32, eager", lambda: theirs("highest", False))
    attempt("PyTorch", "TF32, eager", lambda: theirs("high", False))
    for how, precision in (("f32, compiled", "highest"), ("TF32, compiled", "high")):
        if time.monotonic() - began > 0.4 * limit:
            tell("PyTorch", how, failed="left out, no time")
        else:
            attempt("PyTorch", how, lambda precision=precision: theirs(precision, True))


def text_of(who, how, seconds=None, each=None, differ=None, there=None, failed=None):
    if failed:
        return f"{who + ' ' + how:24} {failed}"
    text = f"{who + ' ' + how:24} {seconds * 1e3:10.1f} ms from the host, {each * 1e3:9.2f} ms for an update"
    text += f", {there * 1e3:.1f} ms on the device" if there else ""
    return text + f"; {100 * differ:.4f}% of the labels are not those of f64"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--backend", default="CUDA", help="of Setun")
    parser.add_argument("--limit", type=float, default=60, help="seconds")
    asked = parser.parse_args()
    try:
        import torch
    except ImportError as reason:
        print(f"skipped: the comparison needs PyTorch ({reason})")
        return
    where = torch.device("cuda" if torch.cuda.is_available() and not asked.tiny else "cpu")
    case = TINY if asked.tiny else FULL
    compare(torch, where, case, asked.limit, lambda *who, **found: print(text_of(*who, **found), flush=True), asked.backend)


if __name__ == "__main__":
    main()
