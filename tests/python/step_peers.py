"""How much the starting learning rate matters to other optimizers: the losses of size S over eleven of them.

    nice -n 19 python tests/python/step_peers.py tinyshakespeare.txt
    python tests/python/step_peers.py tinyshakespeare.txt --report

Needs NumPy. Every method of step_methods.py trains the ternary model of size S from 11 learning rates and 3 seeds, for 1000
steps, over the gradients of setun_model_backward: characters as tokens, the windows and random numbers that Setun's trainer
has of the same seed, its 8-bit products in the backward pass, weight decay 0.1 on matrices, the gradient clipped to a norm
of 1; the loss is that of the whole last 10% of the text, nats a token. Schedules are those of step_methods.py. NumPy runs on
one thread.

Every run is one line of the results file as it ends, and one that is there is not repeated: stop it and go on whenever. A
run that ends in a NaN is recorded as diverged, and counts as the untrained model. `--report` prints the table and writes the
figure: for each method its best learning rate, the losses there, the worst mean over the learning rates, and the sensitivity
of Wortsman et al., arXiv 2309.14322: the mean over the learning rates of min(loss, untrained loss), less the best. Runs of
Setun's trainer stand beside them where step_runs.py has made them: `--set radius_mode=exact` over the same learning rates, and
over as many radii.
"""

import argparse
import importlib.util
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

# NumPy's own threads would wait for each other beside Setun's, and the order of its sums would depend on them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

try:
    import numpy as np

    import step_methods
except ImportError:
    np = None

import results
from figure import chart
from results import ROOT

RESULTS = ROOT / "tests" / "results" / "step_peers.jsonl"
RATES = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0]
SIZE_S = {"layers": 4, "width": 128, "heads": 4, "context_length": 64}
BATCH, CLIP, WEIGHT_DECAY = 12, 1.0, 0.1
# Losses that a spike is measured against.
BEFORE = 50


def load_module():
    spec = importlib.util.spec_from_file_location("setun", ROOT / "c_examples" / "python" / "setun.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Text:
    """The tokens of a text, and models for them."""

    def __init__(self, path, threads=0, geometry=SIZE_S, backend="auto"):
        self.setun = load_module()
        self.path, self.geometry = path, geometry
        self.digest = results.name_of(Path(path).read_bytes())
        self.context = self.setun.Context(threads=threads, backend=backend)
        self.tokenizer = self.setun.Tokenizer.train("character", path)
        self.dataset = self.setun.Dataset.open(path, self.tokenizer, 0.1)
        self.untrained = {}

    def model(self, seed):
        return self.setun.Model(self.context, vocabulary=self.tokenizer.vocabulary, seed=seed, **self.geometry)

    def validation(self, model):
        """The trainer's own: all windows of the last tenth."""
        options = {"batch_size": BATCH, "n_clusters": 0, "use_adaptive_lr": 0, "max_steps": 1}
        options["quantize_weights"] = model.options.quantize_weights
        return self.setun.Trainer(model, self.dataset, **options).evaluate()

    def untrained_loss(self, seed):
        if seed not in self.untrained:
            self.untrained[seed] = self.validation(self.model(seed))
        return self.untrained[seed]


class Run:
    """A model in training: its weights and gradients are one vector each, beside the model."""

    def __init__(self, text, method, rate, seed, steps):
        self.text, self.rate, self.seed, self.steps = text, rate, seed, steps
        self.model = text.model(seed)
        described = self.model.descriptions()
        kinds = text.setun.ParameterKind
        embeddings = ("model.embed_tokens.weight", "lm_head.weight")
        linear = [each.kind != kinds.VECTOR and each.name not in embeddings for each in described]
        space = step_methods.Space([each.shape for each in described], linear, WEIGHT_DECAY)
        self.method = step_methods.METHODS[method](space)
        self.w, self.g = space.vector(), space.vector()
        self.weights, self.gradients = space.views(self.w), space.views(self.g)
        self.space, self.losses = space, []
        for index, view in enumerate(self.weights):
            self.model.read(index, view)

    def write(self, vector):
        for index, view in enumerate(self.space.views(vector)):
            self.model.write(index, view)

    def step(self):
        """False when the run has diverged."""
        t, setun = len(self.losses) + 1, self.text.setun
        window = self.text.geometry["context_length"]
        tokens, targets = self.text.dataset.batch(BATCH, window, step=t - 1, seed=self.seed)
        loss, _ = self.model.backward(tokens, targets, gradients=self.gradients, seed=self.seed, step=t - 1)
        with np.errstate(all="ignore"):
            norm = step_methods.norm(self.g[where] for where in self.space.slices)
            if not math.isfinite(loss) or not math.isfinite(norm):
                return False
            self.losses.append(loss)
            if norm > CLIP:
                self.g *= CLIP / norm
            rate = self.rate * step_methods.factor(self.method.schedule, t, self.steps)
            self.method.step(self.w, self.g, rate, t)
        return self.written(self.w)

    def written(self, vector):
        """False when there is a NaN or an infinity in it."""
        try:
            self.write(vector)
        except self.text.setun.Error as error:
            if error.status != self.text.setun.Status.ARGUMENT:
                raise
            return False
        return True

    def to_end(self):
        """The validation loss; None when the run has diverged."""
        for _ in range(self.steps):
            if not self.step():
                return None
        if not self.written(self.method.weights(self.w)):
            return None
        loss = self.text.validation(self.model)
        return loss if math.isfinite(loss) else None


def worst_spike(losses):
    """By how many nats a loss was at most above the mean of the BEFORE ones before it."""
    spikes = (loss - statistics.fmean(losses[i : i + BEFORE]) for i, loss in enumerate(losses[BEFORE:]))
    return max(spikes, default=None)


def key(text, method, rate, seed, steps):
    """What decides the numbers of a run."""
    kind = step_methods.METHODS[method]
    configuration = {"text": text.digest, "tokenizer": "character", **text.geometry, "batch": BATCH, "ternary": True}
    configuration |= {"gradients": "int8", "weight_decay": WEIGHT_DECAY, "clip": CLIP}
    settings = kind.settings | {"schedule": kind.schedule}
    return {"configuration": configuration, "method": method, "settings": settings, "lr": rate, "seed": seed, "steps": steps}


def measure(text, wanted):
    begin, begin_cpu = time.monotonic(), time.process_time()
    run = Run(text, wanted["method"], wanted["lr"], wanted["seed"], wanted["steps"])
    loss = run.to_end()
    return wanted | {
        "validation_loss": loss,
        "diverged": loss is None,
        "steps_done": len(run.losses),
        "untrained_loss": text.untrained_loss(wanted["seed"]),
        "last_loss": run.losses[-1] if run.losses else None,
        "training_loss": statistics.fmean(run.losses[-BEFORE:]) if run.losses else None,
        "worst_spike": worst_spike(run.losses),
        "commit": results.commit(),
        "seconds": round(time.monotonic() - begin, 2),
        "cpu_seconds": round(time.process_time() - begin_cpu, 2),
        "threads": text.context.threads,
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


# --- the report -------------------------------------------------------------------------------------------------------


def counted(result):
    """The loss of a run, at most that of the untrained model, which a diverged one has."""
    return result["untrained_loss"] if result["diverged"] else min(result["validation_loss"], result["untrained_loss"])


def summary(runs, rates, seeds):
    """Of the runs of one method: the losses by learning rate, and what the table says."""
    by_rate = {rate: [r for r in runs if r["lr"] == rate and r["seed"] in seeds] for rate in rates}
    by_rate = {rate: sorted(here, key=lambda r: r["seed"]) for rate, here in by_rate.items() if here}
    if not by_rate:
        return None
    means = {rate: statistics.fmean(map(counted, runs)) for rate, runs in by_rate.items()}
    best = min(means, key=means.get)
    return {
        "best_rate": best,
        "best": means[best],
        "losses": [counted(run) for run in by_rate[best]],
        "worst": max(means.values()),
        "sensitivity": statistics.fmean(means.values()) - means[best],
        "means": means,
        "ranges": {rate: (min(map(counted, runs)), max(map(counted, runs))) for rate, runs in by_rate.items()},
        "diverged": sum(run["diverged"] for runs in by_rate.values() for run in runs),
        "runs": sum(len(runs) for runs in by_rate.values()),
        "spike": max((run["worst_spike"] or 0 for run in by_rate[best]), default=0),
        "seconds": statistics.median(run["cpu_seconds"] for runs in by_rate.values() for run in runs),
    }


def print_table(found, whole):
    print(f"{'method':22} {'best LR':>8}  mean    {'losses at it':24} worst   sensitivity  spike  diverged  CPU s  runs")
    for method, s in found.items():
        losses = ", ".join(f"{loss:.4f}" for loss in s["losses"])
        line = f"{method:22} {s['best_rate']:8g}  {s['best']:.4f}  {losses:24} {s['worst']:.4f}  {s['sensitivity']:.4f}"
        seconds = "-" if math.isnan(s["seconds"]) else f"{s['seconds']:.1f}"
        rest = "" if s["runs"] == whole else f" of {whole}"
        print(f"{line:81}      {s['spike']:.2f}  {s['diverged']:8d}  {seconds:>5}  {s['runs']}{rest}")


def picture(found, rates, title):
    """The mean loss against the starting learning rate, a line a method, from the least to the largest of a seed."""
    lines = []
    for method, s in found.items():
        lines.append((f"{method}, {s['best']:.3f}", [(rate, loss, *s["ranges"][rate]) for rate, loss in sorted(s["means"].items())]))
    return chart(title, "starting learning rate, or radius", lines, [(rate, f"{rate:g}") for rate in rates])


def of_trainer(asked, text, name, method):
    """The runs of step_runs.py with an exact radius over the option `name`, in the form of those of the methods here."""
    fixed = {"radius_mode": "exact"} | ({"method": method} if method else {})
    found = []
    for result in results.load(asked.trainer):
        options = dict(result["options"])
        over = options.pop(name, None)
        wanted = {"text": text.digest, "size": "S", "f32": False, "steps": asked.steps, "options": result["options"]}
        if over is not None and options == fixed and results.same(result, wanted):
            untrained, loss = text.untrained_loss(result["seed"]), result["validation_loss"]
            diverged = result["failure"] is not None or loss is None
            found.append({"lr": over, "seed": result["seed"], "validation_loss": loss, "untrained_loss": untrained}
                         | {"diverged": diverged, "worst_spike": None, "cpu_seconds": math.nan})
    return found


#: Of the trainer: what a line of the figure is called, the option that it is over, and the method.
TRAINER = [
    ("Setun, radius by rule", "learning_rate", None),
    ("Setun, Muon, by rule", "learning_rate", "muon"),
    ("Setun, over the radius", "radius", None),
]


def report(asked, text):
    runs, found = results.load(asked.results), {}
    for title, name, method in TRAINER:
        s = summary(of_trainer(asked, text, name, method), asked.rates, asked.seeds)
        if s is not None:
            found[title] = s
    for method in asked.methods:
        of_method = [run for run in runs if results.same(run, key(text, method, run["lr"], run["seed"], asked.steps))]
        s = summary(of_method, asked.rates, asked.seeds)
        if s is not None:
            found[method] = s
    if not found:
        sys.exit(f"{asked.results} has none of the runs that were asked for")
    print_table(found, len(asked.rates) * len(asked.seeds))
    path = asked.figure or asked.results.with_suffix(".svg")
    title = f"Size S, ternary, {asked.steps} steps: the loss by the starting learning rate"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as beside:
        beside.write(picture(found, asked.rates, title))
    os.chmod(beside.name, 0o644)
    os.replace(beside.name, path)
    print(f"the figure is in {path}")


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a UTF-8 file")
    methods = [*step_methods.METHODS] if np is not None else []
    parser.add_argument("--methods", nargs="+", choices=methods or None, default=methods)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--trainer", type=Path, default=RESULTS.with_name("step_runs.jsonl"), help="those of step_runs.py")
    parser.add_argument("--report", action="store_true", help="only the table and the figure of the runs that are there")
    parser.add_argument("--figure", type=Path, help="an SVG file; default: beside the results")
    return parser.parse_args(given)


def main(given=None):
    asked = arguments(given)
    if np is None:
        sys.exit("step_peers.py needs NumPy, which is not installed")
    text = Text(asked.text, asked.threads)
    if asked.report:
        return report(asked, text)
    found = results.load(asked.results)
    for seed in asked.seeds:
        for method in asked.methods:
            for rate in asked.rates:
                wanted = key(text, method, rate, seed, asked.steps)
                if results.find(found, wanted) is not None:
                    continue
                found.append(measure(text, wanted))
                results.append(asked.results, found[-1])
                loss = found[-1]["validation_loss"]
                ending = "diverged" if loss is None else f"{loss:.4f}"
                print(f"seed {seed} {method:14} {rate:8g}  {ending}  {found[-1]['seconds']:.1f} s", flush=True)
    report(asked, text)


if __name__ == "__main__":
    main()
