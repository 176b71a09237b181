"""What use_adaptive_lr and quantize_gradients do to the loss, at a good learning rate and at ones ten times off.

    python3 tests/python/adaptive.py tinyshakespeare.txt

Size S for 2000 steps over three seeds, at 1e-4, 1e-3 and 1e-2: the plain schedule, the adaptive learning rate, that with
gradients through 8 bits, and the defaults, whose windows are drawn by clusters too. Text, tokens and validation as in
quality.py. Every run is added to the results file as it ends, and a run that is there already is not repeated. `--layers`, `--width` and `--f32` measure another model, `--table`
prints what is there without running anything.
"""

import argparse
import json
import statistics
from pathlib import Path

import quality
import results
import train_program

OPTIONS = {
    "plain": train_program.PLAIN,
    "adaptive": ["--float-gradients", "--clusters", "0"],
    "adaptive, 8-bit gradients": ["--clusters", "0"],
    "the defaults": [],
}


def wanted_runs(asked, text):
    """The runs of the table, seed by seed, so that an interrupted one has whole comparisons."""
    geometry = {"layers": asked.layers, "width": asked.width}
    for seed in asked.seeds:
        for rate in asked.rates:
            for options in asked.options:
                yield geometry | {"options": options} | quality.key(asked, text, rate, seed, asked.f32)


def geometry(asked):
    sizes = [*train_program.SIZE_S]
    for name in ("layers", "width"):
        sizes[sizes.index(f"--{name}") + 1] = str(getattr(asked, name))
    return sizes


def print_table(asked, text, there):
    found = [(wanted, results.find(there, wanted)) for wanted in wanted_runs(asked, text)]
    print(f"\n{'learning rate':>13}  {'options':26} mean   range           runs")
    means = {}
    for rate in asked.rates:
        for options in asked.options:
            here = [r for w, r in found if r and (w["options"], w["learning_rate"]) == (options, rate)]
            losses = [result["validation_loss"] for result in here]
            if not losses:
                continue
            means[options, rate] = statistics.mean(losses)
            runs = ", ".join(f"{loss:.4f}" for loss in losses)
            factors = sorted({f"{result['factor']:.4g}" for result in here})
            print(f"{rate:13g}  {options:26} {means[options, rate]:.4f} {min(losses):.4f}-{max(losses):.4f}   {runs}", end="")
            print(f"   (factor at the end {', '.join(factors)})")
    for (options, rate), mean in means.items():
        if options != "plain" and ("plain", rate) in means:
            print(f"at {rate:g}, {options}: {mean / means['plain', rate] - 1:+.2%} of the plain loss")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a UTF-8 file")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 1e-3, 1e-2])
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=[*OPTIONS])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--f32", action="store_true", help="the f32 twin")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--results", type=Path, default=train_program.PROGRAM.parent / "adaptive.jsonl")
    parser.add_argument("--table", action="store_true", help="only print the results that are there")
    return parser.parse_args()


def main():
    asked = arguments()
    text = asked.text.read_bytes()
    found = results.load(asked.results)
    if not asked.table:
        train_program.build()
        for wanted in wanted_runs(asked, text):
            if results.find(found, wanted) is not None:
                continue
            found.append(quality.measure(asked, wanted, geometry(asked), OPTIONS[wanted["options"]]))
            results.append(asked.results, found[-1])
            print(json.dumps(found[-1]), flush=True)
    print_table(asked, text, found)


if __name__ == "__main__":
    main()
