"""The quality table: the loss of size S after 2000 steps, ternary and as its f32 twin, over several seeds.

    python3 tests/python/quality.py tinyshakespeare.txt

Characters as tokens, the last 10% of the text as validation, all of its windows, nats a token; the plain schedule, float
gradients and even sampling (adaptive.py measures the options that are on by default). The twin is given each of
three learning rates and keeps its best. Every run is added to the results file as it ends, and a run that is there already
is not repeated: an interrupted table goes on where it stopped. `--table` prints what is there without running anything.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import results
import train_program


def key(asked, text, rate, seed, f32):
    return {
        "text": results.name_of(text),
        "steps": asked.steps,
        "f32": f32,
        "learning_rate": rate,
        "seed": seed,
    }


def measure(asked, wanted, geometry=train_program.SIZE_S, options=train_program.PLAIN):
    """Trains once and says how it ended."""
    arguments = [*geometry, *options, "--tokenizer", "character", "--steps", wanted["steps"], "--threads", asked.threads]
    arguments += ["--lr", wanted["learning_rate"], "--seed", wanted["seed"]] + (["--f32"] if wanted["f32"] else [])
    run = train_program.Run(asked.text, arguments)
    last = run.metrics[-1]
    return wanted | {
        "validation_loss": last["validation_loss"],
        "loss": last["loss"],
        "factor": last["learning_rate_factor"],
        "seconds": round(last["elapsed_seconds"], 1),
        "peak_megabytes": round(run.peak_megabytes),
        "model": run.printed.strip().splitlines()[-1],
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


def print_table(asked, text, there):
    print(f"\n{'model':8} {'learning rate':>13}   mean   range           runs")
    means = {}
    for f32, rate in [(False, asked.rate)] + [(True, rate) for rate in asked.twin_rates]:
        found = [results.find(there, key(asked, text, rate, seed, f32)) for seed in asked.seeds]
        losses = [result["validation_loss"] for result in found if result is not None]
        if not losses:
            continue
        means[f32, rate] = statistics.mean(losses)
        runs = ", ".join(f"{loss:.4f}" for loss in losses)
        name = "f32" if f32 else "ternary"
        print(f"{name:8} {rate:13g} {means[f32, rate]:.4f}   {min(losses):.4f}-{max(losses):.4f}   {runs}")
    twins = {rate: mean for (f32, rate), mean in means.items() if f32}
    if twins and (False, asked.rate) in means:
        best = min(twins, key=twins.get)
        gap = means[False, asked.rate] - twins[best]
        print(f"the twin is best at {best:g}; ternary is {gap:+.4f} nats, {gap / twins[best]:+.1%}, from it")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a UTF-8 file")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of the ternary model")
    parser.add_argument("--twin-rates", type=float, nargs="+", default=[1e-3, 2e-3, 5e-4])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--results", type=Path, default=train_program.PROGRAM.parent / "quality.jsonl")
    parser.add_argument("--table", action="store_true", help="only print the results that are there")
    return parser.parse_args()


def main():
    asked = arguments()
    text = asked.text.read_bytes()
    found = results.load(asked.results)
    if not asked.table:
        train_program.build()
        for seed in asked.seeds:
            for f32, rate in [(False, asked.rate)] + [(True, rate) for rate in asked.twin_rates]:
                wanted = key(asked, text, rate, seed, f32)
                if results.find(found, wanted) is not None:
                    continue
                found.append(measure(asked, wanted))
                results.append(asked.results, found[-1])
                print(json.dumps(found[-1]), flush=True)
    print_table(asked, text, found)


if __name__ == "__main__":
    main()
