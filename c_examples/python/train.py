#!/usr/bin/env python3
"""Trains a ternary language model on a text, and shows what it writes.

    python3 train.py                       about two minutes on two cores, on the sources of this project
    python3 train.py my.txt --steps 5000   on a text of yours: a UTF-8 file, or a folder of them
    python3 train.py --resume              goes on with a run that Ctrl-C stopped
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import setun

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("text", nargs="?", type=Path, help="a UTF-8 file, or a folder of them (default: the project's own sources)")
    add("--out", type=Path, default=HERE.parent / "build" / "python", help="folder of the run (default: %(default)s)")
    add("--resume", action="store_true", help="go on with the run in --out")
    add("--steps", type=int, default=3000, help="steps of the whole run (default: %(default)s)")
    add("--batch", type=int, default=12, help="windows of text a step (default: %(default)s)")
    add("--lr", type=float, default=1e-3, help="the highest learning rate (default: %(default)s)")
    add("--warmup", type=int, default=100, help="steps in which it rises (default: %(default)s)")
    add("--tokenizer", choices=["byte", "character", "bpe"], default="byte", help="(default: %(default)s)")
    add("--vocabulary", type=int, default=1024, help="tokens that bpe learns (default: %(default)s)")
    add("--layers", type=int, default=4, help="(default: %(default)s)")
    add("--width", type=int, default=128, help="(default: %(default)s)")
    add("--heads", type=int, default=4, help="(default: %(default)s)")
    add("--context", type=int, default=64, help="tokens that the model sees (default: %(default)s)")
    add("--seed", type=int, default=1, help="(default: %(default)s)")
    add("--threads", type=int, default=0, help="0: as many as there are (default: %(default)s)")
    add("--prompt", default="The ", help="what the sample begins with (default: %(default)r)")
    return parser.parse_args()


def own_sources(path, keep):
    """The project's sources and documents in one file, so that training needs nothing else. A resumed run keeps its text."""
    if not (keep and path.exists()):
        names = [ROOT / "README.md"]
        for folder in ("include", "src", "c_examples", "tests"):
            names += sorted(p for p in (ROOT / folder).rglob("*") if p.suffix in {".md", ".rs", ".h", ".hpp", ".c", ".py"})
        texts = [name.read_text(encoding="utf-8") for name in names if "build" not in name.parts]
        path.write_text("\n".join(texts), encoding="utf-8")
    return path


def progress(m):
    """A line about twenty times in a run."""
    measured = "" if math.isnan(m.validation_loss) else f"  validation {m.validation_loss:.4f}"
    if measured or m.step % max(m.total_steps // 20, 1) == 0:
        left = time.strftime("%M:%S", time.gmtime(m.remaining_seconds))
        print(f"step {m.step:6}/{m.total_steps}  loss {m.loss:.4f}{measured}  {m.tokens_per_second:.0f} tokens/s  "
              f"{left} left", flush=True)


def plot(metrics, path):
    """The losses in metrics.jsonl as a picture, where matplotlib is there."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print("no picture of the losses: matplotlib is not installed")
        return
    figure, axes = pyplot.subplots(figsize=(8, 5))
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    for name, label in (("loss", "training"), ("validation_loss", "validation")):
        points = [(line["step"], line[name]) for line in lines if line[name] is not None]
        if points:
            axes.plot(*zip(*points), label=label)
    axes.set(xlabel="step", ylabel="loss, nats a token")
    axes.legend()
    figure.savefig(path)
    print(f"losses: {path}")


def sample(path, prompt):
    """The packed file is all that is needed to write."""
    with setun.Model.load(path) as model, setun.Tokenizer(path) as tokenizer:
        print(f"\n200 tokens that {path.name} writes:\n\n{prompt}", end="")
        setun.generate(model, tokenizer, prompt, lambda piece: print(piece, end="", flush=True), max_tokens=200,
                       temperature=0.8, top_k=40)
        print()


def main():
    a = arguments()
    if not a.resume and any(a.out.glob("step-*")):
        sys.exit(f"{a.out} holds an earlier run: go on with --resume, or choose another folder with --out")
    a.out.mkdir(parents=True, exist_ok=True)
    text = a.text or own_sources(a.out / "corpus.txt", a.resume)
    context = setun.Context(threads=a.threads)
    tokenizer = setun.Tokenizer.train(a.tokenizer, text, a.vocabulary)
    dataset = setun.Dataset.open(text, tokenizer)
    model = setun.Model(context, vocabulary=tokenizer.vocabulary, layers=a.layers, width=a.width, heads=a.heads,
                        context_length=a.context, seed=a.seed)
    trainer = setun.Trainer(model, dataset, tokenizer, progress, max_steps=a.steps, batch_size=a.batch,
                            learning_rate=a.lr, warmup_steps=a.warmup, seed=a.seed, checkpoint_dir=a.out,
                            evaluation_interval=max(a.steps // 10, 1), evaluation_windows=100,
                            checkpoint_interval=max(a.steps // 5, 1))
    if a.resume:
        trainer.resume(a.out)
    print(f"{text}: {dataset.tokens('train')} training and {dataset.tokens('validation')} validation tokens; "
          f"{model.parameters} parameters, {context.threads} threads, from step {trainer.metrics.step}", flush=True)
    try:
        trainer.run()
    except KeyboardInterrupt:
        step = trainer.metrics.step
        print(f"\nstopped after step {step}" + (f" and saved in {a.out}; --resume goes on" if step else ""))
        return 130
    packed = a.out / "model.safetensors"
    report = model.save(packed, tokenizer=tokenizer)
    print(f"{packed}: {report.file_bytes} bytes, {4 * report.parameters / report.file_bytes:.1f}x smaller than floats")
    plot(a.out / "metrics.jsonl", a.out / "loss.png")
    sample(packed, a.prompt)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except setun.Error as error:
        sys.exit(f"{error} (SETUN_ERR_{error.status.name})")
    except KeyboardInterrupt:
        sys.exit(130)
