"""A long run that nobody watches and that is killed again and again, beside the same run left alone: both have to end with the
same bytes.

    python3 tests/python/kill_run.py tinyshakespeare.txt --steps 1200 --checkpoint-interval 50 -- --layers 6 --width 384 --heads 6

What follows -- is for the train program. The moments are random: each kill comes so many seconds after its run began or went on, a
share of the time that the steps still to do would take by the pace so far. Compared are the model and the optimizer of the last
checkpoint, the exported model, and the lines of metrics.jsonl but for their times. A line of tests/results/kill_run.jsonl says what
was found. With --whole FOLDER the run left alone is there already, or goes there and stays.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import results
from train_program import PROGRAM, ROOT

RESULTS = ROOT / "tests" / "results" / "kill_run.jsonl"
FILES = ["model.safetensors", "optimizer.safetensors"]
TIMES = ("elapsed_seconds", "remaining_seconds", "tokens_per_second")


def checkpoints(out):
    """The steps that have a checkpoint under its final name."""
    return sorted(int(path.name.removeprefix("step-")) for path in out.glob("step-*"))


def command(asked, out, resume):
    program = [PROGRAM, "--text", asked.text, "--out", out, "--steps", asked.steps, "--sample", 0, "--quiet",
               "--checkpoint-interval", asked.checkpoint_interval, *asked.options]
    return [*map(str, program), *(["--resume"] if resume else [])]


def finish(asked, out):
    """Runs, or goes on, to the end; the seconds that it took."""
    began = time.monotonic()
    done = subprocess.run(command(asked, out, bool(checkpoints(out))), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"the run ended with status {done.returncode}: {done.stderr.strip()}")
    return time.monotonic() - began


def kill(asked, out, seconds):
    """Begins or goes on, and kills it after so many seconds; whether it was there to be killed, and how long it had."""
    began = time.monotonic()
    process = subprocess.Popen(command(asked, out, bool(checkpoints(out))), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    error = process.communicate()[1]
    if process.returncode not in (0, -9):
        raise SystemExit(f"the run ended with status {process.returncode}: {error.strip()}")
    return process.returncode == -9, time.monotonic() - began


def ended(asked, out):
    """All that has to be the same."""
    last = out / f"step-{asked.steps:08}"
    files = [results.name_of((last / name).read_bytes()) for name in FILES]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    told = [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
    return {
        "checkpoint": files,
        "export": results.name_of((out / "model.safetensors").read_bytes()),
        "metrics": results.name_of(json.dumps(told).encode()),
        "lines": len(told),
        "validation_loss": told[-1]["validation_loss"],
    }


def check_whole(asked, whole, folder):
    """Whether what is there is the run that is asked for: this one goes on from it, and says what differs."""
    if not (whole / f"step-{asked.steps:08}").exists():
        raise SystemExit(f"{whole} is of another run: it has no checkpoint at step {asked.steps}")
    told = [*command(asked, folder / "told", False), "--resume-from", str(whole)]
    done = subprocess.run(told, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{whole} is of another run: {done.stderr.strip()}")


def run(asked, folder):
    whole = asked.whole or folder / "whole"
    alone = 0.0
    if (whole / "model.safetensors").exists():
        check_whole(asked, whole, folder)
    else:
        alone = finish(asked, whole)
    expected = ended(asked, whole)
    out, moment, kills = folder / "killed", random.Random(asked.seed), []
    # What a kill undoes is done again: the run as a whole takes longer than the one left alone.
    pace = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])["elapsed_seconds"] / asked.steps
    took = 0.0
    while len(kills) < asked.kills:
        at = (checkpoints(out) or [0])[-1]
        left = (asked.steps - at) * pace / (asked.kills - len(kills) + 1)
        killed, seconds = kill(asked, out, moment.uniform(0.2, asked.latest) * left)
        took += seconds
        if not killed:
            break
        kills.append({"after_seconds": round(seconds, 2), "from_step": at, "newest_checkpoint": (checkpoints(out) or [0])[-1]})
        print(f"kill {len(kills)}: {kills[-1]}", flush=True)
    took += finish(asked, out)
    found = ended(asked, out)
    return {
        "options": asked.options,
        "steps": asked.steps,
        "checkpoint_interval": asked.checkpoint_interval,
        "seed": asked.seed,
        "kills": kills,
        "seconds_alone": round(alone, 1) or None,
        "seconds_killed": round(took, 1),
        "expected": expected,
        "found": found,
        "same": found == expected,
    }


def main(given=None):
    given = sys.argv[1:] if given is None else given
    at = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--checkpoint-interval", type=int, default=50)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--latest", type=float, default=1.8, help="of a moment, in shares of an even pace; from .2")
    parser.add_argument("--whole", type=Path, help="folder of the run left alone")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args(given[:at])
    asked.options = given[at + 1 :]
    with tempfile.TemporaryDirectory(prefix="setun-kills-") as folder:
        found = run(asked, Path(folder))
    found["text"] = results.name_of(asked.text.read_bytes())
    results.append(asked.results, found | {"commit": results.commit(), "when": time.strftime("%Y-%m-%d %H:%M")})
    print(json.dumps(found, indent=1))
    if not found["same"] or len(found["kills"]) < asked.kills:
        raise SystemExit("the killed run is another, or was over too soon")


if __name__ == "__main__":
    main()
