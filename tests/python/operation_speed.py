"""The table of README.md that compares the rows of the dispatch table: python3 tests/python/operation_speed.py [FILE]

Runs c_examples/build/benchmark --json, about two minutes on a machine that should do nothing else, or reads what such a run
wrote to FILE. One line for each operation: the rates of its middle size, and how many times as fast as scalar it is at every
size, the smallest first.
"""

import argparse
import itertools
import json
import subprocess

import train_program
from train_program import ROOT

PROGRAM = ROOT / "c_examples" / "build" / "benchmark"
# What the old design claimed over its baseline: the least of "3-10x" for C and of "5-20x" for C++.
CLAIMS = {"simd": 3, "parallel": 5}


def measure(*arguments):
    """The results of a run of the program, one dictionary each."""
    done = subprocess.run([PROGRAM, "--json", *arguments], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def significant(value):
    """About three digits, without an exponent."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def verdict(speedups, claim):
    reached = [speedup >= claim for speedup in speedups]
    return "true" if all(reached) else "not at every size" if any(reached) else "false"


def rows(results):
    """For each operation its sizes; of each size the results on scalar, on simd at the best level and on parallel."""
    # A GPU has sizes of its own, and a script of its own: tests/gpu.sh.
    operations = [result for result in results if not result["is_ceiling"] and result["backend"] != "cuda"]
    for operation, cases in itertools.groupby(operations, key=lambda result: result["operation"]):
        sizes = {}
        for case in cases:
            # Levels come in rising order: the last one stays.
            sizes.setdefault(case["sizes"], {})[case["backend"]] = case
        yield operation, list(sizes.values())


def by_operation(results):
    """The results with all sizes of an operation beside each other."""
    order = list(dict.fromkeys(result["operation"] for result in results))
    return sorted(results, key=lambda result: order.index(result["operation"]))


def table(results):
    ceilings = [r for r in results if r["is_ceiling"] and r["backend"] != "cuda"]
    lines = ["| ceiling | 1 thread | all threads |", "|---|---|---|"]
    for name in dict.fromkeys((r["operation"], r["sizes"]) for r in ceilings):
        rates = [f"{significant(r['rate'])} {r['unit']}" for r in ceilings if (r["operation"], r["sizes"]) == name]
        lines.append(f"| {' '.join(name).strip()} | {' | '.join((rates + ['-'])[:2])} |")
    lines += ["", "| operation, size | scalar | simd | parallel | simd is | simd / scalar, by size | parallel / scalar, by size |"
              " 3-10x (C) | 5-20x (C++) |", "|---|---|---|---|---|---|---|---|---|"]
    for operation, sizes in rows(by_operation(results)):
        middle = sizes[(len(sizes) - 1) // 2]
        simd = middle["simd"]
        rates = " | ".join(significant(middle[backend]["rate"]) for backend in ("scalar", "simd", "parallel"))
        speedups = {backend: [size[backend]["speedup"] for size in sizes] for backend in CLAIMS}
        ratios = " | ".join(", ".join(significant(s) for s in speedups[backend]) for backend in CLAIMS)
        verdicts = " | ".join(verdict(speedups[backend], claim) for backend, claim in CLAIMS.items())
        lines.append(f"| {operation}, {simd['sizes']} | {rates} {simd['unit']} | {100 * simd['share']:.0f}% of {simd['ceiling']}"
                     f" | {ratios} | {verdicts} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="what benchmark --json wrote")
    file = parser.parse_args().file
    if file:
        with open(file, encoding="utf-8") as lines:
            results = [json.loads(line) for line in lines]
    else:
        train_program.build()
        results = measure()
    print(table(results))


if __name__ == "__main__":
    main()
