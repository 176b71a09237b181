"""How fast ternary is, through the calls of setun.h, beside the ceilings of the same run: python3 tests/python/ternary_speed.py

Everything is counted: checks, quantization of the activations, rescaling. Least times of several rounds, in which the cases
take turns. One thread is `simd`, two are `parallel`. Prints the tables of README.md.
"""

import argparse
import ctypes
import math
import os
import platform
import random
import sys
import time
from ctypes import byref, c_float, c_int8, c_size_t, c_uint8

import train_program
from train_program import ROOT

sys.path.insert(0, str(ROOT / "c_examples" / "python"))
import setun  # noqa: E402

PACKINGS = [("two bits", setun.Packing.TWO_BIT), ("five a byte", setun.Packing.FIVE_PER_BYTE),
            ("mask and sign", setun.Packing.MASK_SIGN)]
SCHEMES = [("absmean", setun.Scheme.ABSMEAN), ("least squares", setun.Scheme.LEAST_SQUARES)]


def gaussian(count, seed=1):
    """Random numbers of which a block is repeated: no speed knows."""
    draw = random.Random(seed)
    block = (c_float * min(count, 1 << 16))(*(draw.gauss(0, 1) for _ in range(min(count, 1 << 16))))
    array = (c_float * count)()
    for start in range(0, count, len(block)):
        size = min(len(block), count - start)
        ctypes.memmove(ctypes.addressof(array) + 4 * start, block, 4 * size)
    return array


def call(name, *arguments):
    function = getattr(setun._library, f"setun_{name}")
    return lambda: setun._check(function(*arguments))


def least(cases, seconds):
    """The least time of each case: batches of about a millisecond, in turns."""
    batches, best = {}, {}
    for name, work in cases.items():
        work()
        start = time.perf_counter()
        work()
        batches[name] = max(1, int(1e-3 / max(time.perf_counter() - start, 1e-7)))
        best[name] = math.inf
    end = time.perf_counter() + seconds * len(cases)
    while time.perf_counter() < end:
        for name, work in cases.items():
            start = time.perf_counter()
            for _ in range(batches[name]):
                work()
            best[name] = min(best[name], (time.perf_counter() - start) / batches[name])
    return best


class Matrix:
    def __init__(self, n, k, packing, scheme=setun.Scheme.LEAST_SQUARES, group=0, context=None):
        self.n, self.k, self.w = n, k, gaussian(n * k)
        self.options = setun.QuantizeOptions(packing=packing, scheme=scheme, group=group, context=context)
        self.size = c_size_t(setun.pack_size(n, k, packing))
        self.packed = (c_uint8 * self.size.value)()
        self.scales = (c_float * setun.scale_count(n, k, group))()
        self.quantize = call("quantize", self.w, n, k, byref(self.options), self.packed, byref(self.size), self.scales,
                             len(self.scales))
        self.room = self.size.value
        self.quantize()

    def quantized(self):
        """Quantizing again: the room is said anew."""
        def work():
            self.size.value = self.room
            self.quantize()
        return work

    def product(self, m):
        x, y = gaussian(m * self.k, 2), (c_float * (m * self.n))()
        return call("matmul", x, m, self.packed, self.size.value, self.n, self.k, self.scales, len(self.scales),
                    byref(self.options), y)

    def kept(self, m, context):
        """The same from a setun_packed, which is not checked at every call."""
        w = setun.Tensor.zeros("f32", (self.n, self.k))
        w.write(memoryview(self.w).cast("B").cast("f", (self.n, self.k)))
        packed = setun.Packed(w, context, packing=self.options.packing, group=self.options.group)
        x, y = setun.Tensor.zeros("f32", (m, self.k)), setun.Tensor.zeros("f32", (m, self.n))
        x.write(memoryview(gaussian(m * self.k, 2)).cast("B").cast("f", (m, self.k)))
        function = setun._library.setun_packed_matmul
        return lambda: (setun._check(function(packed._handle, x._handle, y._handle)), w)

    def trits(self):
        trits = (c_int8 * (self.n * self.k))()
        return call("unpack", self.packed, self.size.value, self.n, self.k, byref(self.options), trits)


def ceilings(threads):
    results = setun.benchmark(filter="matmul", scalar=0, simd=1, parallel=1, threads=threads, ceilings=1, seconds=0.3)
    found = {}
    for r in results:
        name = f"{r.operation} {r.sizes}".strip()
        found[name, r.threads] = max(r.rate, found.get((name, r.threads), 0))
    return found


def products(seconds):
    one, two = setun.Context(backend="simd"), setun.Context(backend="parallel", threads=2)
    ceiling = ceilings(2)
    print("ceilings and float products, in billions a second:")
    for (name, threads), rate in sorted(ceiling.items()):
        if "matmul_ternary" not in name:
            print(f"  {name}, {threads} thread{'s' * (threads > 1)}: {rate:.1f}")
    cases, work = {}, {}
    for m, n in [(256, 2048), (1, 2048), (8, 2048), (1, 32768)]:
        for label, packing in PACKINGS:
            for group in (0, 128):
                for context, threads in ((one, 1), (two, 2)):
                    if (group or n > 2048 or m == 8) and threads == 2 or (group and n > 2048):
                        continue
                    matrix = Matrix(n, 2048, packing, group=group, context=context)
                    for how in ("plain", "kept"):
                        name = m, n, label, group, threads, how
                        cases[name] = matrix.product(m) if how == "plain" else matrix.kept(m, context)
                        work[name] = 2 * m * n * 2048
    best = least(cases, seconds)
    print("\n| M x N x K | packing | scales | 1 thread: ms, GOP/s | kept ready (setun_packed) | 2 threads, kept ready |\n"
          "|---|---|---|---|---|---|")
    for m, n in [(256, 2048), (8, 2048), (1, 2048), (1, 32768)]:
        for label, _ in PACKINGS:
            for group in (0, 128):
                cells = []
                for threads, how in ((1, "plain"), (1, "kept"), (2, "kept")):
                    name = m, n, label, group, threads, how
                    cells.append(f"{best[name] * 1e3:.4g} ms, {work[name] / best[name] / 1e9:.0f}" if name in best else "-")
                if cells != ["-"] * 3:
                    scales = "one" if group == 0 else f"a group of {group}"
                    print(f"| {m} x {n} x 2048 | {label} | {scales} | {' | '.join(cells)} |")


def formats(seconds):
    one = setun.Context(backend="simd")
    small, large = (32, 2048), (4096, 4096)
    cases, matrices = {}, {}
    for size in (small, large):
        for scheme, kind in SCHEMES:
            for label, packing in PACKINGS:
                matrix = matrices[size, scheme, label] = Matrix(*size, packing, kind, context=one)
                cases[size, scheme, label, "quantize"] = matrix.quantized()
                cases[size, scheme, label, "decode"] = matrix.trits()
    best = least(cases, seconds)
    rate = lambda size, *name: size[0] * size[1] / best[(size, *name)] / 1e9
    print("\n| scheme | packing | bits a weight, all in | smaller than f32 | relative RMSE | quantize and pack, Gweights/s: 64K, 16M"
          " | decode to int8: 64K, 16M |\n|---|---|---|---|---|---|---|")
    for scheme, _ in SCHEMES:
        for label, _ in PACKINGS:
            m = matrices[large, scheme, label]
            report = setun.QuantizeReport()
            call("quantize_measure", m.w, m.n, m.k, m.packed, m.size.value, m.scales, len(m.scales), byref(m.options),
                 byref(report))()
            rates = [", ".join(f"{rate(size, scheme, label, what):.2g}" for size in (small, large)) for what in ("quantize", "decode")]
            print(f"| {scheme} | {label} | {report.bits_per_weight:.4f} | {report.ratio:.2f}x | {report.relative_rmse:.4f}"
                  f" | {rates[0]} | {rates[1]} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each case")
    parser.add_argument("--only", choices=("products", "formats"))
    options = parser.parse_args()
    print(f"Setun {setun.version()}, {platform.machine()}, {setun.Context().level}, load {os.getloadavg()[0]:.1f}")
    if options.only != "formats":
        products(options.seconds)
    if options.only != "products":
        formats(options.seconds)


if __name__ == "__main__":
    main()
