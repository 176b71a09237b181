"""Runs of the trainer with options of the optimizer, each kept in tests/results/step_runs.jsonl under what it was made with.

    python3 tests/python/step_runs.py tinyshakespeare.txt --set method=muon --over learning_rate=3e-4,1e-3,3e-3 --seeds 1 2 3

Characters as tokens, the whole last 10% of the text as validation, nats a token; batches drawn evenly, gradients as floats, no
use_adaptive_lr unless asked for. `--set` gives options of setun_train_options and weight_threshold of the model, `--over` the values of one or several, of which all
combinations are run. A run that is in the file already is not repeated: an interrupted series goes on where it stopped. `--report`
prints what is there for the combinations, without running anything.
"""

import argparse
import itertools
import math
import statistics
import sys
import time
from pathlib import Path

import results
from results import ROOT

sys.path.insert(0, str(ROOT / "c_examples" / "python"))

RESULTS = ROOT / "tests" / "results" / "step_runs.jsonl"
#: Layers, width, heads, context and batch of the sizes.
SIZES = {
    "XS": (2, 64, 2, 64, 12),
    "XS128": (2, 128, 4, 64, 12),
    "S64": (4, 64, 2, 64, 12),
    "S": (4, 128, 4, 64, 12),
    "S256": (4, 256, 4, 64, 12),
    "S512": (4, 512, 8, 64, 12),
    "W": (2, 256, 4, 64, 12),
    "M128": (6, 384, 6, 128, 32),
    "M": (6, 384, 6, 256, 64),
}
#: What a line of the results does not say.
PLAIN = {"use_adaptive_lr": 0, "quantize_gradients": 0, "n_clusters": 0, "minimum_lr_ratio": 0.1, "distillation": 0.5}
#: Of these the model is told, not the trainer.
OF_MODEL = ("weight_threshold",)
TEACHERS = {}


def value(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def key(asked, text, seed, options):
    return {
        "text": results.name_of(text),
        "size": asked.size,
        "f32": asked.f32,
        "steps": asked.steps,
        "seed": seed,
        "options": options,
        "teacher": asked.teacher,
        # None in the lines that are older than these.
        "teacher_size": asked.teacher_size,
        "start": "teacher" if asked.start else None,
    }


def trainer_of(setun, asked, seed, f32, dataset, vocabulary, options, context=None, size=None, start=None):
    """A new model, or one that goes on from `start`, and what trains it."""
    layers, width, heads, length, batch = SIZES[size or asked.size]
    geometry = {name: options[name] for name in OF_MODEL if name in options}
    options = {name: value for name, value in options.items() if name not in geometry}
    model = start.copy(not f32) if start else setun.Model(
        context or setun.Context(threads=asked.threads), vocabulary=vocabulary, layers=layers, width=width, heads=heads,
        context_length=length, hidden=4 * width, quantize_weights=not f32, seed=seed, **geometry,
    )
    trainer = setun.Trainer(
        model, dataset, batch_size=batch, max_steps=asked.steps, seed=seed, quantize_weights=not f32, **options
    )
    return model, trainer


def teacher_of(setun, asked, seed, dataset, vocabulary, geometry):
    """The f32 model that the runs of a seed learn from, trained once: of the same geometry, which a student has from it."""
    made_with = (seed, *geometry.items())
    if made_with in TEACHERS:
        return TEACHERS[made_with]
    learning = PLAIN | {"method": "muon"} | geometry
    if asked.teacher == "rule":
        learning |= {"radius_mode": "exact", "minimum_lr_ratio": 0.01}
    else:
        learning["learning_rate"] = asked.teacher
    model, trainer = trainer_of(setun, asked, seed, True, dataset, vocabulary, learning, size=asked.teacher_size)
    for _ in range(asked.steps):
        trainer.step()
    trainer.close()
    TEACHERS[made_with] = model
    return model


def run(setun, asked, wanted, dataset, vocabulary):
    options = PLAIN | wanted["options"]
    if asked.teacher is not None:
        geometry = {name: options[name] for name in OF_MODEL if name in options}
        options["teacher"] = teacher_of(setun, asked, wanted["seed"], dataset, vocabulary, geometry)
    start = options["teacher"] if asked.start else None
    _, trainer = trainer_of(setun, asked, wanted["seed"], asked.f32, dataset, vocabulary, options, start=start)
    began, losses, flips = time.time(), [], []
    failure = None
    try:
        for _ in range(asked.steps):
            metrics = trainer.step()
            losses.append(metrics.loss)
            flips.append(metrics.flip_rate)
        validation = trainer.evaluate()
    except setun.Error as error:
        failure, validation = str(error), None
    return wanted | {
        "validation_loss": validation,
        "loss": losses[-1] if losses else None,
        "first_loss": losses[0] if losses else None,
        "highest_loss": max(losses, default=None),
        "flip_rate": statistics.mean(flips[len(flips) // 2 :]) if flips and not asked.f32 else None,
        "skipped": trainer.metrics.skipped_batches,
        "undone": trainer.metrics.undone_steps,
        "failure": failure,
        "seconds": round(time.time() - began, 1),
        "commit": results.commit(),
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a UTF-8 file")
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--f32", action="store_true", help="the f32 twin")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--set", nargs="*", default=[], help="option=value")
    parser.add_argument("--over", nargs="*", default=[], help="option=value,value")
    parser.add_argument(
        "--teacher", type=value, metavar="RATE|rule",
        help="learn from the f32 twin too, trained for as many steps: by Muon at this rate, or by the rule for its radius, down to .01 of it",
    )
    parser.add_argument("--teacher-size", choices=SIZES, help="another size than that of the model")
    parser.add_argument("--start", action="store_true", help="go on from the teacher's weights")
    parser.add_argument("--threads", type=int, default=0, help="the numbers do not depend on them")
    parser.add_argument("--report", action="store_true", help="only print what is there")
    asked = parser.parse_args()
    if asked.teacher_size == asked.size:
        asked.teacher_size = None
    if asked.start and (asked.teacher is None or asked.teacher_size):
        parser.error("--start needs a --teacher of the same size")
    return asked


def main():
    asked = arguments()
    import setun

    text = asked.text.read_bytes()
    fixed = {name: value(text) for name, text in (item.split("=") for item in asked.set)}
    over = [[(name, value(x)) for x in values.split(",")] for name, values in (item.split("=") for item in asked.over)]
    there, dataset = results.load(RESULTS), None
    for chosen in itertools.product(*over):
        options = fixed | dict(chosen)
        row = []
        for seed in asked.seeds:
            wanted = key(asked, text, seed, options)
            found = results.find(there, wanted)
            if found is None and not asked.report:
                if dataset is None:
                    tokenizer = setun.Tokenizer.train("character", asked.text)
                    dataset = setun.Dataset.open(asked.text, tokenizer)
                found = run(setun, asked, wanted, dataset, tokenizer.vocabulary)
                results.append(RESULTS, found)
            row.append(found)
        losses = [found["validation_loss"] for found in row if found is not None]
        losses = [math.nan if loss is None else loss for loss in losses]
        mean = f"{statistics.mean(losses):.4f}" if losses else "-"
        flips = [found["flip_rate"] for found in row if found and found["flip_rate"] is not None]
        flip = f"  flips {statistics.mean(flips):.2e}" if flips else ""
        name = " ".join(f"{n}={v}" for n, v in options.items()) + (f" teacher={asked.teacher}" if asked.teacher else "")
        name += (f" {asked.teacher_size}" if asked.teacher_size else "") + (" start" if asked.start else "")
        failure = next((found["failure"] for found in row if found and found["failure"]), "")
        print(f"{asked.size}{' f32' if asked.f32 else ''} {asked.steps}  {name:60}  {mean}  "
              f"({', '.join(f'{loss:.4f}' for loss in losses)}){flip} {failure}", flush=True)


if __name__ == "__main__":
    main()
