"""What n_clusters and cluster_balance do to the validation loss.

    python3 tests/python/clusters.py tinyshakespeare.txt

Size S at the learning rate 1e-3, ternary: windows drawn evenly, and by 10 clusters of the text with a balance of 0, .5 and 1;
the plain schedule and float gradients. Text, tokens and validation as in quality.py. Every run is added to the results file
as it ends, and a run that is there already is not repeated. `--table` prints what is there without running anything.
"""

import argparse
import json
import statistics
from pathlib import Path

import quality
import results
import train_program

PLAIN = ["--no-adaptive-lr", "--float-gradients"]
SAMPLING = {
    "evenly": ["--clusters", "0"],
    "10 clusters, balance 0": ["--clusters", "10", "--cluster-balance", "0"],
    "10 clusters, balance .5": ["--clusters", "10", "--cluster-balance", "0.5"],
    "10 clusters, balance 1": ["--clusters", "10", "--cluster-balance", "1"],
}


def key(asked, text, sampling, seed):
    return {"sampling": sampling} | quality.key(asked, text, asked.rate, seed, False)


def print_table(asked, text, there):
    print(f"\n{'windows drawn':24} mean   range           runs")
    for sampling in SAMPLING:
        found = [results.find(there, key(asked, text, sampling, seed)) for seed in asked.seeds]
        losses = [result["validation_loss"] for result in found if result is not None]
        if losses:
            runs = ", ".join(f"{loss:.4f}" for loss in losses)
            print(f"{sampling:24} {statistics.mean(losses):.4f} {min(losses):.4f}-{max(losses):.4f}   {runs}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a UTF-8 file")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--results", type=Path, default=train_program.PROGRAM.parent / "clusters.jsonl")
    parser.add_argument("--table", action="store_true", help="only print the results that are there")
    return parser.parse_args()


def main():
    asked = arguments()
    text = asked.text.read_bytes()
    found = results.load(asked.results)
    if not asked.table:
        train_program.build()
        for seed in asked.seeds:
            for sampling, options in SAMPLING.items():
                wanted = key(asked, text, sampling, seed)
                if results.find(found, wanted) is not None:
                    continue
                found.append(quality.measure(asked, wanted, options=[*PLAIN, *options]))
                results.append(asked.results, found[-1])
                print(json.dumps(found[-1]), flush=True)
    print_table(asked, text, found)


if __name__ == "__main__":
    main()
