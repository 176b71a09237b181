"""AdamW beside PyTorch's: python3 tests/python/step_speed.py [--threads 1 2] [--rounds 15]

Both step the same float32 parameters along the same gradients, one after the other in every round, with as many threads. setun has
its two calls, setun_step, to which the caller hands all states, and setun_optimizer_step, with the radius off and as a cap, without
clipping and with it; it looks at all it is given before it writes anything. PyTorch has torch.optim.AdamW with fused=True and with
foreach=True, with torch.nn.utils.clip_grad_norm_ where the gradients are clipped. A round takes as many steps as fill some
milliseconds; the least and the median of the rounds are printed, and the ratio to the fused one's least. 28 bytes an element are what
a step reads and writes of gradient, parameter and two states. numpy and PyTorch are needed.
"""

import argparse
import ctypes
import importlib.util
import platform
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "c_examples" / "python"))

BYTES = 28
RATE, DECAY = 1e-4, 0.01


def transformer(layers=4, d=128, vocabulary=256):
    """The parameters of the library's own model of size S: gains, projections, feed-forward."""
    layer = [(d,)] + 4 * [(d, d)] + [(d,), (d,), (4 * d, d), (4 * d,), (d, 4 * d)]
    return [(vocabulary, d)] + layers * layer + [(d,)]


SHAPES = {
    "64K": [(256, 256)],
    "1M": [(1024, 1024)],
    "16M": [(4096, 4096)],
    "4 x 128 transformer": transformer(),
}


def arrays(shapes, seed):
    import numpy as np

    random = np.random.default_rng(seed)
    return [random.standard_normal(shape, dtype=np.float32) for shape in shapes]


def setun_simple(shapes, context, mode, clip):
    """setun_step knows one tensor: a list of them is as many calls."""
    import numpy as np
    import setun

    parameters, gradients = arrays(shapes, 1), arrays(shapes, 2)
    moments = [np.zeros((2, p.size), np.float32) for p in parameters]
    options = setun.OptimizerOptions(learning_rate=RATE, weight_decay=DECAY, radius_mode=mode, clip=clip, context=context)
    number = 0

    def step():
        nonlocal number
        number += 1
        for memory in zip(parameters, gradients, moments):
            p, g, m = (array.ctypes.data_as(ctypes.c_void_p) for array in memory)
            status = setun._library.setun_step(p, g, memory[0].size, m, number, ctypes.byref(options), None)
            assert status == 0, status

    return step


def setun_optimizer(shapes, context, mode, clip):
    import setun

    parameters, gradients = arrays(shapes, 1), arrays(shapes, 2)
    optimizer = setun.Optimizer(learning_rate=RATE, weight_decay=DECAY, radius_mode=mode, clip=clip, context=context)
    for i, parameter in enumerate(parameters):
        optimizer.add(f"p{i}", parameter)
    pointers = (ctypes.c_void_p * len(gradients))(*(gradient.ctypes.data for gradient in gradients))

    def step(memory=(parameters, gradients)):
        status = setun._library.setun_optimizer_step(optimizer._handle, pointers, len(gradients), None)
        assert status == 0, status

    return step


def torch_adamw(shapes, clip, **how):
    import torch

    parameters = [torch.nn.Parameter(torch.from_numpy(array)) for array in arrays(shapes, 1)]
    for parameter, gradient in zip(parameters, arrays(shapes, 2)):
        parameter.grad = torch.from_numpy(gradient)
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY, **how)

    def step():
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip, foreach=True)
        optimizer.step()

    return step


def least_steps(step, seconds=0.004):
    """How many steps fill a round."""
    step()
    begin = time.perf_counter()
    step()
    return max(1, int(seconds / max(time.perf_counter() - begin, 1e-6)))


def compare(name, shapes, clip, threads, rounds):
    import setun

    backend = setun.Backend.SIMD if threads == 1 else setun.Backend.PARALLEL
    context = setun.Context(threads=threads, backend=backend)
    off, cap = setun.RadiusMode.OFF, setun.RadiusMode.CAP
    runs = {
        "PyTorch, fused": torch_adamw(shapes, clip, fused=True),
        "PyTorch, foreach": torch_adamw(shapes, clip, foreach=True),
        "setun_step, radius off": setun_simple(shapes, context, off, clip),
        "setun_step, radius as a cap": setun_simple(shapes, context, cap, clip),
        "setun_optimizer_step, radius off": setun_optimizer(shapes, context, off, clip),
        "setun_optimizer_step, radius as a cap": setun_optimizer(shapes, context, cap, clip),
    }
    counts = {run: least_steps(step) for run, step in runs.items()}
    times = {run: [] for run in runs}
    for _ in range(rounds):
        for run, step in runs.items():
            begin = time.perf_counter()
            for _ in range(counts[run]):
                step()
            times[run].append((time.perf_counter() - begin) / counts[run])
    elements = sum(array.size for array in arrays(shapes, 1))
    print(f"\n{name}: {elements} elements in {len(shapes)} tensors, {threads} threads, clip {clip}")
    fused = min(times["PyTorch, fused"])
    for run, taken in times.items():
        least, median = min(taken), statistics.median(taken)
        rate = BYTES * elements / least / 1e9
        print(f"  {run:38} {least * 1e6:10.1f} us (median {median * 1e6:10.1f})  {rate:6.1f} GB/s  {fused / least:5.2f}x", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=list(SHAPES), help="one of the sizes")
    asked = parser.parse_args()
    missing = [name for name in ("numpy", "torch") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not installed: nothing to compare with")
    import torch

    print("PyTorch", torch.__version__, "python", platform.python_version())
    for threads in asked.threads:
        torch.set_num_threads(threads)
        for name, shapes in SHAPES.items():
            if asked.only in (None, name):
                for clip in (0.0, 1.0):
                    compare(name, shapes, clip, threads, asked.rounds)


if __name__ == "__main__":
    main()
