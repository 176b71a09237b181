"""Models that are trained, exported in several ways, and measured as the files that came out: bytes against loss.

    python3 tests/python/recipe_runs.py tinyshakespeare.txt --size S256 --seeds 1 2 3
    python3 tests/python/recipe_runs.py tinyshakespeare.txt --size S --f32 --set learning_rate=2e-3 radius_mode=off
    python3 tests/python/recipe_runs.py peps.txt --tokenizer byte --size S --report

Each run is a line of tests/results/recipe_runs.jsonl, under what it was made with: the validation loss of the trainer (the
last 10% of the text, nats a token), and for each export its bytes, everything in it, and the loss of the loaded file on the same
windows. Muon by the rule for an exact radius, down to .01 of it, unless `--set` says otherwise; batches drawn evenly, gradients as floats. A run that
is there already is not repeated. `--report` prints what is there for all sizes of a text, without running anything, and with
`--figure FILE.svg` draws the losses of the files against their bytes, a line for each form over the sizes: of the runs of as many
steps with this tokenizer, and with `--beside "as many seconds=S64:5000,S:7000"` one more for f32 models of these sizes in f16 after other numbers of steps.
"""

import argparse
import html
import math
import re
import statistics
import sys
import tempfile
import time
from array import array
from pathlib import Path

import results
from figure import chart
from results import ROOT
from step_runs import PLAIN, SIZES, trainer_of, value

sys.path.insert(0, str(ROOT / "c_examples" / "python"))

RESULTS = ROOT / "tests" / "results" / "recipe_runs.jsonl"
RECIPE = {"method": "muon", "radius_mode": "exact", "minimum_lr_ratio": 0.01}
#: What a model is written as: packing, what else there is, entries of a codebook.
EXPORTS = {
    False: {
        "five a byte, f16": ("five_per_byte", "f16", 0),
        "five a byte, 256 entries": ("five_per_byte", "f16", 256),
        "five a byte, 16 entries": ("five_per_byte", "f16", 16),
        "mask and sign, 16 entries": ("mask_sign", "f16", 16),
    },
    True: {
        "f32": ("full", "f32", 0),
        "f16": ("five_per_byte", "f16", 0),
        "256 entries": ("five_per_byte", "f16", 256),
        "16 entries": ("five_per_byte", "f16", 16),
    },
}


def key(asked, text, seed, options):
    return {
        "text": results.name_of(text),
        "tokenizer": asked.tokenizer,
        "size": asked.size,
        "f32": asked.f32,
        "steps": asked.steps,
        "seed": seed,
        "options": options,
        "backend": asked.backend,
        "eval_windows": asked.eval_windows,
    }


def loss_of(model, tokens, length, batch, windows):
    """The mean over windows of tokens, each with a target behind it, as a trainer validates: so many, spread evenly; 0 = all."""
    there = (len(tokens) - 1) // length
    total, count = 0.0, min(windows, there) or there
    for first in range(0, count, batch):
        starts = [number * there // count * length for number in range(first, min(first + batch, count))]
        texts = [[token for start in starts for token in tokens[start + shift : start + shift + length]] for shift in (0, 1)]
        total += len(starts) * model.loss(*(array("I", text) for text in texts), len(starts), length)
    return total / count


def measure_exports(setun, asked, model, tokens, context):
    """Bytes and loss of each file that the model is written as."""
    found = {}
    _, _, _, length, batch = SIZES[asked.size]
    with tempfile.TemporaryDirectory(prefix="setun-") as folder:
        path = Path(folder) / "model.safetensors"
        for name, (packing, rest, codebook) in EXPORTS[asked.f32].items():
            report = model.save(path, packing=packing, rest=rest, codebook=codebook)
            loaded = setun.Model.load(path, context)
            found[name] = [report.file_bytes, loss_of(loaded, tokens, length, batch, asked.eval_windows)]
            loaded.close()
    return found


def run(setun, asked, wanted, text):
    context = setun.Context(backend=asked.backend, threads=asked.threads)
    tokenizer = setun.Tokenizer.train(asked.tokenizer, text)
    dataset = setun.Dataset.open(text, tokenizer)
    options = PLAIN | wanted["options"] | {"log_interval": 100, "evaluation_windows": asked.eval_windows}
    model, trainer = trainer_of(
        setun, asked, wanted["seed"], asked.f32, dataset, tokenizer.vocabulary, options, context
    )
    began, failure, validation, files = time.time(), None, None, {}
    try:
        for _ in range(asked.steps):
            trainer.step()
        validation = trainer.evaluate()
    except setun.Error as error:
        failure = str(error)
    seconds = round(time.time() - began, 1)
    if failure is None:
        tokens = tokenizer.encode(text.read_bytes())
        validated = math.ceil(len(tokens) * 0.1 * (1 - 1e-12))
        files = measure_exports(setun, asked, model, tokens[len(tokens) - validated :], context)
    return wanted | {
        "parameters": model.parameters,
        "tokens": asked.steps * SIZES[asked.size][3] * SIZES[asked.size][4],
        "validation_loss": validation,
        "files": files,
        "failure": failure,
        "seconds": seconds,
        "commit": results.commit(),
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


def print_runs(runs):
    """One line for the runs of one configuration over their seeds."""
    first, losses = runs[0], [run["validation_loss"] for run in runs if run["validation_loss"] is not None]
    name = " ".join(f"{n}={v}" for n, v in first["options"].items() if RECIPE.get(n) != v) or "recipe"
    kind = "f32" if first["f32"] else "ternary"
    mean = f"{statistics.mean(losses):.4f}" if losses else "-"
    print(f"{first['size']:6} {kind:8} {first['steps']:6} {name:44} {mean} ({', '.join(f'{loss:.4f}' for loss in losses)})"
          f"{' ' + str(first['failure']) if first['failure'] else ''}", flush=True)
    for export in first["files"]:
        of = [run["files"][export] for run in runs if export in run["files"]]
        print(f"       {export:28} {round(statistics.mean(size for size, _ in of)):9} bytes  {statistics.mean(loss for _, loss in of):.4f}")


def group(there, text):
    """The runs of a text, by what they were made with but for the seed."""
    groups = {}
    for found in there:
        if found["text"] == results.name_of(text):
            wanted = {name: found[name] for name in ("tokenizer", "size", "f32", "steps", "options", "backend", "eval_windows")}
            groups.setdefault(repr(wanted), []).append(found)
    return [sorted(runs, key=lambda found: found["seed"]) for runs in groups.values()]


def best_of(asked, groups, steps):
    """Of the runs of so many steps with this tokenizer: the place in the figure of the best mean, by size and form."""
    best, wanted = {}, {"steps": steps, "tokenizer": asked.tokenizer, "eval_windows": asked.eval_windows}
    for runs in groups:
        if results.same(runs[0], wanted):
            for form in runs[0]["files"]:
                sizes, losses = zip(*(run["files"][form] for run in runs if form in run["files"]))
                place = (statistics.mean(sizes), statistics.mean(losses), min(losses), max(losses))
                name = (runs[0]["f32"], form, runs[0]["size"])
                best[name] = min(place, best.get(name, place), key=lambda place: place[1])
    if not best:
        raise SystemExit(f"there are no runs with {wanted}")
    return best


def picture(asked, groups):
    """The best mean of each size and form against its bytes, and of the f32 models of `--beside`."""
    lines = {}
    for (f32, form, _), place in best_of(asked, groups, asked.steps).items():
        lines.setdefault(f"{'f32' if f32 else 'ternary'}, {form}", []).append(place)
    for beside in asked.beside:
        name, of = beside.split("=")
        for size, steps in (item.split(":") for item in of.split(",")):
            best = best_of(asked, groups, int(steps))
            if (True, "f16", size) not in best:
                raise SystemExit(f"there are no f32 runs of {steps} steps of size {size}")
            lines.setdefault(f"f32, f16, {name}", []).append(best[True, "f16", size])
    marks = [(kilobytes * 1000, f"{kilobytes:g} kB") for kilobytes in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)]
    sizes = [place[0] for places in lines.values() for place in places]
    marks = [mark for mark in marks if min(sizes) <= mark[0] <= max(sizes)]
    title = f"Bytes against loss: {html.escape(asked.text.name)}, {asked.steps} steps"
    return chart(title, "bytes of the file", [(html.escape(name), sorted(places)) for name, places in lines.items()], marks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a UTF-8 file")
    parser.add_argument("--tokenizer", choices=["character", "byte"], default="character")
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--f32", action="store_true", help="the f32 twin")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--set", nargs="*", default=[], help="option=value")
    parser.add_argument("--backend", choices=["auto", "simd", "parallel", "cuda"], default="auto")
    parser.add_argument("--eval-windows", type=int, default=0, help="of the last 10%%, spread evenly; 0 = all")
    parser.add_argument("--threads", type=int, default=0, help="the numbers do not depend on them")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="only print what is there")
    parser.add_argument("--figure", type=Path, help="an SVG file that the report writes")
    parser.add_argument("--beside", nargs="+", default=[], metavar="NAME=SIZE:STEPS,...", help="f32 models after other steps, a line of the figure")
    asked = parser.parse_args()
    if asked.figure and not asked.report:
        parser.error("--figure goes with --report")
    if asked.beside and not (asked.figure and all(re.fullmatch(r"[^=]+=\w+:\d+(,\w+:\d+)*", beside) for beside in asked.beside)):
        parser.error("--beside is NAME=SIZE:STEPS,... and goes with --figure")
    text, there = asked.text.read_bytes(), results.load(asked.results)
    if asked.report:
        groups = group(there, text)
        for runs in groups:
            print_runs(runs)
        if asked.figure:
            asked.figure.write_text(picture(asked, groups), encoding="utf-8")
        return
    import setun

    options = RECIPE | {name: value(text) for name, text in (item.split("=") for item in asked.set)}
    runs = []
    for seed in asked.seeds:
        wanted = key(asked, text, seed, options)
        found = results.find(there, wanted)
        if found is None:
            found = run(setun, asked, wanted, asked.text)
            results.append(asked.results, found)
        runs.append(found)
    print_runs(runs)


if __name__ == "__main__":
    main()
