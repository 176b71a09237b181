"""What one bad batch does to a run, with the guard and without: spikes, what is undone, and the loss at the end.

    nice -n 10 python tests/python/step_faults.py tinyshakespeare.txt
    nice -n 10 python tests/python/step_faults.py tinyshakespeare.txt --defaults --faults none targets nudge --seeds 4 5 6 7 8
    nice -n 10 python tests/python/step_faults.py tinyshakespeare.txt --defaults --faults none targets "left out" --at 60
    python tests/python/step_faults.py tinyshakespeare.txt --report

Needs NumPy. Trains the ternary model of size S for 1000 steps with a setun.Optimizer over the gradients of setun_model_backward:
characters as tokens, AdamW at 2e-3 with a cosine and 100 steps of warm-up, the rest at the defaults of setun_optimizer_options
but for what the case changes. One step meets its fault, after six tenths of them or from --at on:

    targets     the targets of the batch are drawn at random from the vocabulary
    token       the batch, inputs and targets, is one token of the vocabulary again and again
    ten         ten batches have random targets, spread evenly over the run
    gradient    the gradient is multiplied by 1000
    nan         one element of the gradient is a NaN
    infinite    the loss that the optimizer is told is infinite
    rate        the learning rate of a step is multiplied by 1000: the first from there on that the guard checks
    unchecked   the same for the first that it does not
    left out    none: the batch is left out by hand, which is the best that a guard can do about it
    ten left out  the same with those of `ten`
    nudge       none: one weight is moved by its last bit, which says how far apart rounding alone brings two runs

"Again" is a caller whose fault was a passing one: what was skipped or refused is evaluated a second time, without the fault.

A run with the guard says before each step that will be checked what the loss of every window of the batch is, and after it again.
After a step that was skipped, refused or undone, the tensors in the optimizer's checkpoint, the parameters and the model's own
tensors are compared byte for byte with those before it.

A spike is a loss more than 7 standard deviations above the mean of the 50 before it, those 50's; the loss of a batch that
is none is high of itself: it is told apart and no part of this. The final loss is that of the whole last tenth of the text. Every
run is a line of the results as it ends, and one that is there is not repeated.
"""

import argparse
import contextlib
import hashlib
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import results
import step_peers
from step_peers import BATCH, SIZE_S
from train_program import ROOT

try:
    import numpy as np
except ImportError:
    np = None

RESULTS = ROOT / "tests" / "results" / "step_faults.jsonl"
LEARNING_RATE, WARMUP = 2e-3, 100
#: Losses that a spike is measured against, and how many of their deviations it is.
BEFORE, SIGMAS = 50, 7.0
TIMES = 1000.0
FAULTS = ("none", "targets", "token", "ten", "gradient", "nan", "infinite", "rate", "unchecked", "left out", "ten left out", "nudge")
#: Those of which --at says nothing.
TIMELESS = ("none", "ten", "ten left out")
HARMLESS = ("none", "left out", "ten left out", "nudge")
#: Those whose batch is none, so that its loss says nothing of the model.
CORRUPT = ("targets", "token", "ten")
#: Those that a guard should answer as if the batch had never been.
SKIPPED = (*CORRUPT, "gradient", "nan", "infinite")


class Case(NamedTuple):
    fault: str
    guard: bool
    clip: float = 1.0
    radius_mode: str = "cap"
    again: bool = False
    #: The first step that may meet the fault; None: after six tenths of them.
    at: int | None = None

    @property
    def setting(self):
        return self.clip, self.radius_mode

    def like(self, fault, guard):
        """The same with another fault."""
        return self._replace(fault=fault, guard=guard, again=False, at=None if fault in TIMELESS else self.at)

    @property
    def model(self):
        """The fault of the run that this one should end with the weights of."""
        return "none" if self.again else "ten left out" if self.fault == "ten" else "left out"


CASES = [
    *(Case(fault, guard) for fault in ("none", *SKIPPED) for guard in (True, False)),
    *(Case(fault, True, again=True) for fault in ("ten", "gradient", "nan")),
    *(Case(fault, True) for fault in ("left out", "ten left out")),
    Case("nudge", False),
    *(Case(*how, 0.0, mode) for mode in ("cap", "off") for how in (("none", True), ("none", False), ("left out", True))),
    *(Case("gradient", guard, 0.0, mode) for mode in ("cap", "off") for guard in (True, False)),
    *(Case("none", guard, 1.0, "off") for guard in (True, False)),
    *(Case(fault, guard, 1.0, "off") for fault in ("rate", "unchecked") for guard in (True, False)),
    *(Case("rate", guard) for guard in (True, False)),
]


# --- what is measured -------------------------------------------------------------------------------------------------


def spikes(losses, corrupt=()):
    """The share of the losses that are spikes, and by how many deviations the worst was above its mean: (share, worst).

    `corrupt` are steps, from 1, whose losses are no part of it; a loss of None is one that was not computed."""
    kept = [loss for step, loss in enumerate(losses, 1) if step not in corrupt and loss is not None]
    found = []
    for i, loss in enumerate(kept[BEFORE:]):
        window = kept[i : i + BEFORE]
        above, deviation = loss - statistics.fmean(window), statistics.stdev(window)
        found.append(above / deviation if deviation > 0 else math.copysign(math.inf, above) if above else 0.0)
    if not found:
        return 0.0, None
    # A loss that is no number is above any.
    found = [math.inf if math.isnan(z) else z for z in found]
    return sum(z > SIGMAS for z in found) / len(found), max(found)


def from_clean(loss, clean):
    """By what percentage a loss is above that of another run."""
    return math.nan if loss is None or clean is None else 100 * (loss / clean - 1)


def read_checkpoint(path):
    """The tensors of a safetensors file, by name as their bytes, and its metadata."""
    data = Path(path).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    metadata = header.pop("__metadata__", {})
    return {name: data[end + each["data_offsets"][0] : end + each["data_offsets"][1]] for name, each in header.items()}, metadata


class Kept:
    """All that a step may change: the optimizer's checkpoint, its parameters, and what the model has of them."""

    def __init__(self, run):
        with tempfile.TemporaryDirectory(prefix="setun-") as folder:
            path = Path(folder, "optimizer.safetensors")
            run.optimizer.save(path)
            self.tensors, metadata = read_checkpoint(path)
        # What a refusal counts, what undoing takes of the radius and what the guard remembers is meant to change.
        self.steps = metadata["steps"]
        self.weights = [weight.tobytes() for weight in run.weights]
        self.model = [run.model.read(index).tobytes() for index in range(len(run.weights))]

    def __eq__(self, other):
        return vars(self) == vars(other)


class Run:
    def __init__(self, text, case, seed, steps):
        self.text, self.case, self.seed, self.steps = text, case, seed, steps
        setun = text.setun
        self.model = text.model(seed)
        described = self.model.descriptions()
        self.weights = [self.model.read(index) for index in range(len(described))]
        self.gradients = [np.empty(each.shape, np.float32) for each in described]
        options = setun.OptimizerOptions(clip=case.clip, radius_mode=case.radius_mode)
        self.interval = options.guard_interval
        self.optimizer = setun.Optimizer(
            context=text.context, learning_rate=LEARNING_RATE, schedule="cosine", total_steps=steps,
            warmup_steps=min(WARMUP, steps // 10), clip=case.clip, radius_mode=case.radius_mode,
        )
        for weight, each in zip(self.weights, described):
            self.optimizer.add(each.name, weight, kind=each.kind)
        self.random = np.random.default_rng(seed)
        #: The losses of all steps; those that met a fault, with the loss that was told of them.
        self.losses, self.met, self.taken, self.failure = [], {}, 0, None
        self.skipped, self.undone, self.refused, self.compared, self.differing = [], [], [], 0, []
        self.guard_seconds = self.probe_seconds = 0.0

    @contextlib.contextmanager
    def timed(self, name):
        begin = time.process_time()
        yield
        setattr(self, name, getattr(self, name) + time.process_time() - begin)

    def fault(self, t):
        """What is wrong with step t, if anything is."""
        fault = self.case.fault
        if fault.startswith("ten"):
            return {"ten": "targets", "ten left out": "left out"}[fault] if t in ten_steps(self.steps) else None
        if fault == "none" or self.met or t < (self.case.at or 6 * self.steps // 10):
            return None
        due = (self.taken + 1) % self.interval == 0
        return fault if {"rate": due, "unchecked": not due}.get(fault, True) else None

    def batch(self, t, fault):
        tokens, targets = self.text.dataset.batch(BATCH, self.text.geometry["context_length"], step=t - 1, seed=self.seed)
        vocabulary = self.text.tokenizer.vocabulary
        if fault == "targets":
            targets = self.random.integers(vocabulary, size=targets.shape, dtype=np.uint32)
        elif fault == "token":
            token = self.random.integers(vocabulary, dtype=np.uint32)
            tokens, targets = np.full_like(tokens, token), np.full_like(targets, token)
        return tokens, targets

    def spoil(self, fault):
        """The gradient or a weight, where that is the fault."""
        if fault == "gradient":
            for gradient in self.gradients:
                gradient *= np.float32(TIMES)
        elif fault == "nan":
            self.gradients[len(self.gradients) // 2].flat[7] = np.nan
        elif fault == "nudge":
            weight = self.weights[len(self.weights) // 2]
            weight.flat[7] = np.nextafter(weight.flat[7], np.float32(np.inf))

    def windows(self, tokens, targets):
        losses = [self.model.loss(tokens[i : i + 1], targets[i : i + 1]) for i in range(len(tokens))]
        return np.array(losses, np.float32)

    def step(self):
        t = len(self.losses) + 1
        fault = self.fault(t)
        stays = self.attempt(t, fault)
        if fault and not stays and self.case.again:
            stays = self.attempt(t, None)
        self.taken += stays

    def attempt(self, t, fault):
        """Whether the step was taken, and stays."""
        tokens, targets = self.batch(t, fault)
        loss, _ = self.model.backward(tokens, targets, gradients=self.gradients, seed=self.seed, step=t - 1)
        self.losses[t - 1 :] = [loss]
        told = math.inf if fault == "infinite" else loss
        if fault:
            self.met[t] = told
        if fault == "left out":
            return False
        self.spoil(fault)
        due = self.case.guard and (self.taken + 1) % self.interval == 0
        kept = before = None
        if due or fault:
            with self.timed("probe_seconds"):
                kept = Kept(self)
        if due:
            with self.timed("guard_seconds"):
                before = self.windows(tokens, targets)
        if fault in ("rate", "unchecked"):
            self.optimizer.set_learning_rate(TIMES * LEARNING_RATE)
        stays = self.update(t, told, tokens, targets, before)
        self.optimizer.set_learning_rate(LEARNING_RATE)
        for index, weight in enumerate(self.weights):
            self.model.write(index, weight)
        if not stays and kept is not None:
            with self.timed("probe_seconds"):
                self.compared += 1
                if Kept(self) != kept:
                    self.differing.append(t)
        return stays

    def update(self, t, loss, tokens, targets, before):
        """The optimizer's step; whether it was taken, and stays."""
        setun, refusals = self.text.setun, self.refusals()
        try:
            report = self.optimizer.step(self.gradients, loss if self.case.guard else None)
        except setun.Error:
            # Of a run that the guard gives up nothing was refused.
            if self.refusals() == refusals:
                raise
            self.refused.append(t)
            return False
        if report.outcome == setun.StepOutcome.SKIPPED:
            self.skipped.append(t)
            return False
        if not report.check_due:
            return True
        with self.timed("guard_seconds"):
            for index, weight in enumerate(self.weights):
                self.model.write(index, weight)
            undone = self.optimizer.judge(before, self.windows(tokens, targets))
        if undone:
            self.undone.append(t)
        return not undone

    def refusals(self):
        report = self.optimizer.report()
        return report.refused_gradients + report.refused_parameters + report.refused_updates

    def to_end(self):
        """The validation loss; None where the run could not go on."""
        try:
            for _ in range(self.steps):
                self.step()
        except self.text.setun.Error as error:
            self.failure = f"step {len(self.losses)}: {error}"
            return None
        return self.text.validation(self.model)


def ten_steps(steps):
    return [steps * k // 11 for k in range(1, 11)]


def key(text, case, seed, steps):
    """What decides the numbers of a run."""
    configuration = {"text": text.digest, "tokenizer": "character", **text.geometry, "batch": BATCH, "ternary": True}
    configuration |= {"gradients": "int8", "learning_rate": LEARNING_RATE, "schedule": "cosine", "warmup": WARMUP}
    return {"configuration": configuration, **case._asdict(), "seed": seed, "steps": steps}


def measure(text, case, seed, steps):
    begin = time.process_time()
    run = Run(text, case, seed, steps)
    loss = run.to_end()
    seconds = time.process_time() - begin
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in run.weights)).hexdigest()[:16]
    return key(text, case, seed, steps) | {
        "validation_loss": loss,
        "failure": run.failure,
        "fault_steps": [*run.met],
        "fault_losses": [round(loss, 5) for loss in run.met.values()],
        "skipped": run.skipped,
        "undone": run.undone,
        "refused": run.refused,
        "compared": run.compared,
        "differing": run.differing,
        "weights": digest,
        "losses": [round(loss, 5) for loss in run.losses],
        "cpu_seconds": round(seconds - run.probe_seconds, 2),
        "guard_seconds": round(run.guard_seconds, 2),
        "commit": results.commit(),
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


# --- the report -------------------------------------------------------------------------------------------------------


def find(there, text, case, seed, steps):
    return results.find(there, key(text, case, seed, steps))


def percents(values):
    """Each, and where there are several their mean and its standard error."""
    told = ", ".join("-" if math.isnan(value) else f"{value:+.2f}" for value in values)
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return told
    return f"{told} ({statistics.fmean(known):+.2f} ± {statistics.stdev(known) / math.sqrt(len(known)):.2f})"


def span(losses):
    """The only one, or the least and the largest."""
    losses = [math.inf if loss is None else loss for loss in losses]
    return f"{min(losses):.2f}" + (f" to {max(losses):.2f}" if len(losses) > 1 else "")


def corrupt_steps(case, run):
    """Those whose loss is that of a batch that is none: what was skipped and evaluated again is one."""
    steps = run["fault_steps"] if case.fault in CORRUPT else []
    return [step for step in steps if not (case.again and step in run["skipped"])]


def row(case, runs, clean, free, models):
    """A row of the table. The runs of a case by seed; and of the same seeds those without a fault under the same guard and
    without a guard, and those whose weights they should end with, None where there is none."""
    found = [spikes(run["losses"], corrupt_steps(case, run)) for run in runs]
    count = lambda name: ", ".join(str(len(run[name])) for run in runs)
    compared, differing = sum(run["compared"] for run in runs), sum(len(run["differing"]) for run in runs)
    bad = [run["fault_losses"] for run in runs if run["fault_losses"]]
    loss = lambda run: None if run is None else run["validation_loss"]
    against = lambda others: percents([from_clean(loss(run), loss(other)) for run, other in zip(runs, others)])
    equal = [run["weights"] == other["weights"] for run, other in zip(runs, models) if other is not None]
    return [
        case.fault + (", again" if case.again else "") + (f", at {case.at}" if case.at else ""),
        "yes" if case.guard else "no",
        f"{case.clip:g}",
        case.radius_mode,
        count("skipped"),
        count("undone"),
        count("refused"),
        f"{compared - differing} of {compared}" if compared else "-",
        ", ".join(span(losses) for losses in bad) if case.fault not in HARMLESS else "-",
        f"{100 * statistics.fmean(share for share, _ in found):.2f}%",
        f"{max((worst or 0.0) for _, worst in found):.1f}",
        ", ".join("stopped" if loss(run) is None else f"{loss(run):.4f}" for run in runs),
        against(clean) if case.fault != "none" else "",
        against(free) if case.guard or case.fault != "none" else "",
        f"{sum(equal)} of {len(equal)}" if equal and case.fault in SKIPPED else "",
    ]


HEAD = ["fault", "guard", "clip", "radius", "skipped", "undone", "refused", "rolled back to the bit", "loss of the bad batch, by seed",
        f"spikes over {SIGMAS:g} sigma", "highest, sigma", "loss at the end, by seed", "% from no fault, same guard (mean)",
        "% from no fault, no guard (mean)", "same weights as left out by hand (again: as no fault)"]


def table(rows):
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def cost(case, runs, free):
    """What the guard took of runs without a fault, beside those without it."""
    mean = lambda name, of: statistics.fmean(run[name] for run in of if run is not None)
    without = f"{mean('cpu_seconds', free):.1f}" if any(free) else "-"
    return (
        f"the guard, clip {case.clip:g}, radius {case.radius_mode}: {mean('cpu_seconds', runs):.1f} s of CPU time a run, {without} s "
        f"without it; of that {mean('guard_seconds', runs):.1f} s in its checks"
    )


def report(there, text, cases, seeds, steps):
    rows, below = [], []
    for case in cases:
        runs = [run for seed in seeds if (run := find(there, text, case, seed, steps)) is not None]
        if not runs:
            continue
        others = lambda fault, guard: [find(there, text, case.like(fault, guard), run["seed"], steps) for run in runs]
        clean, free = others("none", case.guard), others("none", False)
        rows.append(row(case, runs, clean, free, others(case.model, case.guard)))
        if case.fault == "none" and case.guard:
            below.append(cost(case, runs, free))
        below += [f"{case}, seed {run['seed']}: {run['failure']}" for run in runs if run["failure"]]
    if not rows:
        sys.exit("there are none of the runs that were asked for")
    print("\n\n".join([table(rows), *below]))


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a UTF-8 file")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS)
    parser.add_argument("--defaults", action="store_true", help="only cases whose clip and radius are the optimizer's defaults")
    parser.add_argument("--at", type=int, help="the first step that may meet the fault; default: after six tenths")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="only the table of the runs that are there")
    return parser.parse_args(given)


def main(given=None, geometry=SIZE_S):
    asked = arguments(given)
    if np is None:
        sys.exit("step_faults.py needs NumPy, which is not installed")
    text, there = step_peers.Text(asked.text, threads=1, geometry=geometry), results.load(asked.results)
    cases = [case for case in CASES if not asked.defaults or case.setting == Case("none", True).setting]
    cases = [case._replace(at=None if case.fault in TIMELESS else asked.at) for case in cases]
    for seed in asked.seeds if not asked.report else ():
        for case in cases:
            if case.fault not in asked.faults or find(there, text, case, seed, asked.steps) is not None:
                continue
            there.append(measure(text, case, seed, asked.steps))
            results.append(asked.results, there[-1])
            loss = there[-1]["validation_loss"]
            ending = "stopped" if loss is None else f"{loss:.4f}"
            print(f"seed {seed} {case}  {ending}  {there[-1]['cpu_seconds']:.1f} s", flush=True)
    report(there, text, cases, asked.seeds, asked.steps)


if __name__ == "__main__":
    main()
