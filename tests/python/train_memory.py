"""What training takes of a process's memory, a parameter, all in: model, gradients, states and what steps work in. Linux only.

    python3 tests/python/train_memory.py
    python3 tests/python/train_memory.py --report

In a process of its own for each case, on one thread: a model of linear layers for the most part, a trainer over a text, and three
steps of a batch of 16 tokens, whose activations are next to nothing. Resident memory and its peak (VmHWM) are what they are less
what they were before the model existed, when a small one had been trained and freed: everything is in them. The peak of
steps is that of those after the first, that of making is before it, those of saving in a checkpoint and of going on
from it behind them. The bytes are for each
parameter of a linear layer, embedding and head, which stay floats, and gains in them too. The last columns are those of a parameter
more: of a model of twice the layers, less those of this one.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from step_memory import ROOT, apart, begin_peak, peak, reason_not_to, resident

RESULTS = ROOT / "tests" / "results" / "train_memory.jsonl"
#: Width and layers; the hidden width is four times the width.
MODELS = {"12 x 768": (768, 12), "24 x 768": (768, 24), "6 x 768": (768, 6)}
RELEASE = {"clip": 0.0, "gradient_release": 1}
CASES = {
    "f32 twin, AdamW": {"quantize_weights": 0},
    "f32 twin, AdamW, gradient_release": {"quantize_weights": 0} | RELEASE,
    "ternary, AdamW": {},
    "ternary, AdamW, COMPACT": {"states": "compact"},
    "ternary, AdamW, COMPACT, gradient_release": {"states": "compact"} | RELEASE,
    "ternary, Muon, COMPACT, gradient_release": {"method": "muon", "states": "compact"} | RELEASE,
}
STEPS, TOKENS = 3, 16


def linear_parameters(width, layers):
    """Queries, keys, values, outputs, and two layers of four times the width."""
    return layers * (4 + 8) * width * width


def build(setun, context, width, layers, dataset, options):
    model = setun.Model(
        context, vocabulary=256, layers=layers, width=width, heads=width // 64, context_length=TOKENS, hidden=4 * width,
        ffn_gated=0, quantize_weights=options.get("quantize_weights", 1), seed=1,
    )
    plain = {"use_adaptive_lr": 0, "quantize_gradients": 0, "n_clusters": 0, "activation_checkpointing": 1}
    return model, setun.Trainer(model, dataset, batch_size=1, max_steps=100, **(plain | options))


def measure(case, width, layers):
    with tempfile.TemporaryDirectory(prefix="setun-") as folder:
        return measure_in(folder, case, width, layers)


def measure_in(folder, case, width, layers):
    """In this process, which nothing has been measured in before; in bytes."""
    sys.path.insert(0, str(ROOT / "c_examples" / "python"))
    import setun

    context, options = setun.Context(threads=1), CASES[case] | {"checkpoint_dir": Path(folder, "run")}
    text = Path(folder, "text.txt")
    text.write_text("A text of a few thousand letters, which is all that is read here.\n" * 64)
    dataset = setun.Dataset.open(text, setun.Tokenizer.train("byte", text))
    small, trainer = build(setun, context, 64, 1, dataset, CASES[case])
    trainer.step()
    trainer.close()
    small.close()
    begin = resident()
    begin_peak()
    model, trainer = build(setun, context, width, layers, dataset, options)
    making = peak()
    trainer.step()
    resident()
    begin_peak()
    for _ in range(STEPS):
        trainer.step()
    stepping, after = peak(), resident()
    begin_peak()
    trainer.save()
    saving = peak()
    resident()
    begin_peak()
    trainer.resume(options["checkpoint_dir"])
    resuming = peak()
    return {
        "parameters": model.parameters,
        "linear_parameters": linear_parameters(width, layers),
        "peak_making": making - begin,
        "peak_stepping": stepping - begin,
        "resident": after - begin,
        "peak_saving": saving - begin,
        "peak_resuming": resuming - begin,
    }


def measure_apart(case, width, layers):
    """The same in a process of its own."""
    return apart(__file__, f"{case} of {layers} x {width}", case, str(width), str(layers))


HEAD = ["model", "case", "resident", "peak of steps", "peak while made", "peak of a checkpoint", "of a resume", "resident, a parameter more", "peak, a parameter more"]


def row(model, case, found, twice):
    each = lambda name: f"{found[name] / found['linear_parameters']:.2f}"
    more = lambda name: f"{(twice[name] - found[name]) / (twice['linear_parameters'] - found['linear_parameters']):.2f}"
    slopes = [more(name) if twice else "" for name in ("resident", "peak_stepping")]
    return [f"{model}, {found['linear_parameters']:,}", case, each("resident"), each("peak_stepping"), each("peak_making"), each("peak_saving"), each("peak_resuming"), *slopes]


def key(model, case):
    """What decides the numbers of a case."""
    width, layers = MODELS[model]
    return {"width": width, "layers": layers, "case": case, "options": CASES[case], "steps": STEPS, "tokens": TOKENS, "saves": True, "resumes": True}


def main(given=None):
    # Not in the processes that are measured, which need nothing of it.
    import results

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="only the table of what is there")
    asked = parser.parse_args(given)
    reason = None if asked.report else reason_not_to()
    if reason:
        sys.exit(f"train_memory.py: {reason}")
    there, of_models = results.load(asked.results), {}
    for model in asked.models:
        for case in asked.cases:
            found = results.find(there, key(model, case))
            if not asked.report:
                found = results.measured(asked.results, there, key(model, case), lambda: measure_apart(case, *MODELS[model]))
            if found is not None:
                of_models[(*MODELS[model], case)] = found
    for cells in HEAD, ["---"] * len(HEAD):
        print("| " + " | ".join(cells) + " |")
    for model in asked.models:
        width, layers = MODELS[model]
        for case in asked.cases:
            found, twice = of_models.get((width, layers, case)), of_models.get((width, 2 * layers, case))
            if found is not None:
                print("| " + " | ".join(row(model, case, found, twice)) + " |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
