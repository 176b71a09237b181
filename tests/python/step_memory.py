"""What an optimizer takes of a process's memory, a parameter, beside what setun_optimizer_state_bytes says. Linux only.

    python3 tests/python/step_memory.py
    python3 tests/python/step_memory.py --report

In a process of its own for each case, on one thread: an optimizer over ternary parameters whose states are floats or codes of 8
bits, with the caller's floats as weights, or compact, where the weights are codes of the optimizer's own. It takes three steps along
one gradient, the largest parameter's, which is there before. Resident memory is Rss of /proc/self/smaps_rollup after malloc_trim,
less what it was before the optimizer and its parameters existed; a small optimizer has stepped before that, so that pages of the
library are no part of it. Peaks are VmHWM, begun anew for each phase: while parameters are added (the floats that a compact one
begins as are there then, and go before the next), in the steps, and in a step that the guard checks and undoes. The table is
in bytes a parameter. Every case is a line of the results, in bytes, and one that is there is not repeated.
"""

import argparse
import ctypes
import json
import math
import mmap
import random
import subprocess
import sys
from array import array
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "c_examples" / "python"))

RESULTS = ROOT / "tests" / "results" / "step_memory.jsonl"
ROLLUP = Path("/proc/self/smaps_rollup")
#: The ternary parameters, and the gains of norms, which are vectors of floats.
WIDTH, HIDDEN, LAYERS = 1024, 4096, 4
LAYER = [(WIDTH, WIDTH)] * 4 + [(HIDDEN, WIDTH), (WIDTH, HIDDEN), (WIDTH,), (WIDTH,)]
MODELS = {"matrix": [(4096, 4096)], "transformer": LAYER * LAYERS}
#: The last is held to a share of flips, for which the codes of the largest parameter are decoded in every step.
CASES = {
    "f32": {"states": "f32"},
    "int8": {"states": "int8"},
    "compact": {"states": "compact"},
    "compact, flip budget": {"states": "compact", "flip_budget": 0.01},
}
STEPS = 3


def lines(path):
    return dict(line.split(":", 1) for line in Path(path).read_text().splitlines() if ":" in line)


def kilobytes(text):
    number, unit = text.split()
    if unit != "kB":
        raise ValueError(f"{text} is not in kB")
    return 1024 * int(number)


def resident():
    """In bytes, without what the allocator keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)
    return kilobytes(lines(ROLLUP)["Rss"])


def begin_peak():
    Path("/proc/self/clear_refs").write_text("5")


def peak():
    return kilobytes(lines("/proc/self/status")["VmHWM"])


class Floats:
    """Memory of its own for floats of a shape, which goes back to the system as a whole."""

    def __init__(self, shape):
        count, draw = math.prod(shape), random.Random(1)
        some = array("f", (draw.gauss(0.0, 0.02) for _ in range(65_536))).tobytes()
        self.memory = mmap.mmap(-1, 4 * count)
        for at in range(0, 4 * count, len(some)):
            self.memory[at : at + len(some)] = some[: 4 * count - at]
        self.view = memoryview(self.memory).cast("f").cast("B").cast("f", shape)

    def first(self, count):
        return memoryview(self.memory).cast("f")[:count]

    def close(self):
        self.view.release()
        self.memory.close()


def build(setun, context, shapes, options):
    """The optimizer, and the floats that are the caller's."""
    optimizer = setun.Optimizer(context=context, learning_rate=1e-3, guard_interval=1, **options)
    weights = []
    for index, shape in enumerate(shapes):
        floats, kind = Floats(shape), "ternary" if len(shape) == 2 else "vector"
        if kind == "ternary" and options["states"] == "compact":
            optimizer.add_compact(str(index), floats.view)
            floats.close()
        else:
            optimizer.add(str(index), floats.view, kind=kind)
            weights.append(floats)
    return optimizer, weights


def measure(case, shapes):
    """In this process, which nothing has been measured in before; in bytes."""
    import setun

    context = setun.Context(threads=1)
    small, _ = build(setun, context, [(64, 64)], CASES[case])
    gradient = Floats(max(shapes, key=math.prod))
    for _ in range(2):
        small.step([gradient.first(4096)], loss=1.0)
    del small
    gradients = [gradient.first(math.prod(shape)) for shape in shapes]
    begin = resident()
    begin_peak()
    optimizer, weights = build(setun, context, shapes, CASES[case])
    adding = peak()
    resident()
    begin_peak()
    for _ in range(STEPS):
        optimizer.step(gradients)
    stepping, after = peak(), resident()
    begin_peak()
    due = optimizer.step(gradients, loss=1.0).check_due
    kept = resident()
    undone = optimizer.judge([1.0], [2.0])
    checking, left = peak(), resident()
    if not due or not undone:
        raise SystemExit("the guard checked no step, or undid none")
    return {
        "parameters": sum(map(math.prod, shapes)),
        "state_bytes": optimizer.state_bytes,
        "weight_bytes": sum(floats.view.nbytes for floats in weights),
        "grown": after - begin,
        "peak_adding": adding - begin,
        "peak_stepping": stepping - begin,
        "kept": kept - begin,
        "peak_checking": checking - begin,
        "left": left - begin,
    }


def measure_apart(case, shapes):
    """The same in a process of its own."""
    return apart(__file__, f"{case} of {shapes}", case, json.dumps(shapes))


def apart(script, what, *arguments):
    """What a script measures in a process of its own."""
    done = subprocess.run([sys.executable, script, "--one", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"measuring {what} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def reason_not_to():
    """Why nothing can be measured here; None where it can."""
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has no /proc/self/smaps_rollup"
    try:
        lines(ROLLUP)["Rss"]
        begin_peak()
    except (OSError, KeyError) as error:
        return f"no resident memory can be read: {error}"
    return None if hasattr(ctypes.CDLL(None), "malloc_trim") else "the C library has no malloc_trim"


HEAD = ["parameters", "states", "state_bytes says", "and the caller's floats", "resident after steps", "peak while added",
        "peak of steps", "resident while the guard keeps a copy", "peak of a check", "resident after it"]


def row(model, case, found):
    each = lambda name: f"{found[name] / found['parameters']:.3f}"
    said = (found["state_bytes"] + found["weight_bytes"]) / found["parameters"]
    told = [each(name) for name in ("grown", "peak_adding", "peak_stepping", "kept", "peak_checking", "left")]
    return [f"{model}, {found['parameters']:,}", case, each("state_bytes"), f"{said:.3f}", *told]


def key(model, case):
    """What decides the numbers of a case."""
    return {"model": model, "shapes": [list(shape) for shape in MODELS[model]], "case": case, "options": CASES[case], "steps": STEPS}


def main(given=None):
    # Not in the processes that are measured, which need nothing of it.
    import results

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="only the table of what is there")
    asked = parser.parse_args(given)
    reason = None if asked.report else reason_not_to()
    if reason:
        sys.exit(f"step_memory.py: {reason}")
    there = results.load(asked.results)
    for cells in HEAD, ["---"] * len(HEAD):
        print("| " + " | ".join(cells) + " |")
    for model in asked.models:
        for case in asked.cases:
            found = results.find(there, key(model, case))
            if not asked.report:
                found = results.measured(asked.results, there, key(model, case), lambda: measure_apart(case, MODELS[model]))
            if found is not None:
                print("| " + " | ".join(row(model, case, found)) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], [tuple(shape) for shape in json.loads(sys.argv[3])])))
    else:
        main()
