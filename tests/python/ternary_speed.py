"""How fast ternary is, through the calls of setun.h, beside the ceilings of the same run: python3 tests/python/ternary_speed.py

Everything is counted: checks, quantization of the activations, rescaling. tests/speed/ternary.c makes the calls; the cases take
turns in several rounds, and the least time counts. One thread is `simd`, two are `parallel`. Prints the tables of README.md.
"""

import argparse
import array
import os
import random
import subprocess
import sys
import tempfile

from header import LIBRARY
from train_program import ROOT

sys.path.insert(0, str(ROOT / "c_examples" / "python"))
import setun  # noqa: E402

PACKINGS = {"two bits": 0, "five a byte": 1, "mask and sign": 3}
SCHEMES = {"absmean": 0, "least squares": 2}
SMALL, LARGE = (32, 2048), (4096, 4096)


class Timer:
    """Least seconds of calls, by their arguments."""

    def __init__(self, folder, seconds):
        self.program, self.seconds, self.best = os.path.join(folder, "ternary"), seconds, {}
        library = os.path.abspath(LIBRARY)
        link = os.path.join(folder, "libsetun.so.0")
        os.symlink(library, link)
        source = ROOT / "tests" / "speed" / "ternary.c"
        command = ["cc", "-std=c99", "-O2", "-I", ROOT / "include", "-o", self.program, source, link, f"-Wl,-rpath,{folder}", "-lm"]
        subprocess.run([str(part) for part in command], check=True)

    def round(self, cases):
        for case in cases:
            done = subprocess.run([self.program, *map(str, case), str(self.seconds)], check=True, capture_output=True, text=True)
            self.best[case] = min(self.best.get(case, float("inf")), float(done.stdout))


def ceilings():
    """The least of the peaks of the level that runs, and the float product of the same shape, on one thread and on two."""
    results = setun.benchmark(filter="matmul", scalar=0, threads=2, seconds=0.2, level=setun.Context().level)
    wanted = ("f32 peak", "int8 peak", "unpack peak", "read 128 MiB", "matmul 256 x 2048 x 2048")
    names = ((f"{r.operation} {r.sizes}".strip(), r.threads, r.rate) for r in results)
    return {(name, threads): rate for name, threads, rate in names if name in wanted}


def product(m, n, packing, group=0, threads=1, what="packed"):
    return what, n, 2048, m, PACKINGS[packing], 0, group, threads


def products(timer, rounds):
    shapes = [(256, 2048), (8, 2048), (1, 2048), (1, 32768)]
    cases = [product(m, n, packing, group, threads, what) for m, n in shapes for packing in PACKINGS for group in (0, 128)
             for threads in (1, 2) for what in ("packed", "matmul") if not (what == "matmul" and threads == 2)]
    peaks = {}
    for _ in range(rounds):
        for name, rate in ceilings().items():
            peaks[name] = max(rate, peaks.get(name, 0))
        timer.round(cases)
    for (name, threads), rate in sorted(peaks.items()):
        print(f"{name}, {threads} thread{'s' * (threads > 1)}: {rate:.4g} billion a second")
    print("\n| M x N x K | packing | scales | ms, 1 thread | GOP/s | of int8 peak | of unpack peak | x float product"
          " | 2 threads | checked at every call, 1 thread |\n|---|---|---|---|---|---|---|---|---|---|")
    for m, n in shapes:
        for packing in PACKINGS:
            for group in (0, 128):
                one, two = (timer.best[product(m, n, packing, group, threads)] for threads in (1, 2))
                plain = timer.best[product(m, n, packing, group, 1, "matmul")]
                rate = 2 * m * n * 2048 / one / 1e9
                floats = f"{rate / peaks['matmul 256 x 2048 x 2048', 1]:.2f}" if m == 256 else "-"
                print(f"| {m} x {n} x 2048 | {packing} | {'one' if group == 0 else 'groups of 128'} | {one * 1e3:.4g} | {rate:.0f}"
                      f" | {100 * rate / peaks['int8 peak', 1]:.0f}% | {100 * rate / peaks['unpack peak', 1]:.0f}% | {floats}"
                      f" | {one / two:.2f}x | {plain * 1e3:.4g} ms |")


def formats(timer, rounds):
    key = lambda what, size, scheme, packing: (what, *size, 1, PACKINGS[packing], SCHEMES[scheme], 0, 1)
    every = [(scheme, packing) for scheme in SCHEMES for packing in PACKINGS]
    for _ in range(rounds):
        timer.round([key(what, size, *names) for what in ("quantize", "unpack") for size in (SMALL, LARGE) for names in every])
    rate = lambda what, size, names: f"{size[0] * size[1] / timer.best[key(what, size, *names)] / 1e9:.2g}"
    draw = setun.Tensor.zeros("f32", LARGE)
    draw.write(memoryview(gaussian(LARGE[0] * LARGE[1])).cast("B").cast("f", LARGE))
    print("\n| scheme | packing | bits a weight, all in | smaller than f32 | relative RMSE"
          " | quantize and pack, Gweights/s: 64K, 16M weights | decode to int8, Gweights/s: 64K, 16M |\n|---|---|---|---|---|---|---|")
    for names in every:
        packed = setun.Packed(draw, packing=PACKINGS[names[1]], scheme=SCHEMES[names[0]])
        report = packed.measure(draw)
        speeds = " | ".join(", ".join(rate(what, size, names) for size in (SMALL, LARGE)) for what in ("quantize", "unpack"))
        print(f"| {names[0]} | {names[1]} | {report.bits_per_weight:.4f} | {report.ratio:.2f}x | {report.relative_rmse:.4f} | {speeds} |")


def gaussian(count):
    """Gaussian numbers, of which a block is repeated: neither error nor speed knows."""
    draw = random.Random(1)
    block = array.array("f", (draw.gauss(0, 1) for _ in range(1 << 20)))
    return block * (count // len(block))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each case in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("products", "formats"))
    options = parser.parse_args()
    print(f"Setun {'.'.join(map(str, setun.version()))}, {setun.Context().level}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="setun-") as folder:
        timer = Timer(folder, options.seconds)
        if options.only != "formats":
            products(timer, options.rounds)
        if options.only != "products":
            formats(timer, options.rounds)


if __name__ == "__main__":
    main()
