"""What tests/gpu.sh measures on a machine with a GPU, and the table that it ends with.

Each step is a process of its own:

    parity     every operation on the GPU against `scalar`, a process for each group of tests
    device     the tests that need a device, and whole training runs, which have to repeat to the bit
    first      the loss of the first step on the GPU and on the CPU, and the same run twice
    ceilings   what PyTorch reaches here: a copy, a product of 8-bit integers, a product of bf16
    kernels    the speed of every operation
    clusters   k-means of 1M points beside PyTorch: exact and as it is, with TF32 and without, eager and compiled
    train      size M on a text, and its loss on the whole validation split
    speed      size M as PyTorch is timed: no dropout, no validation, without the options that are on by default
    profile    its steps kernel by kernel (gpu_profile.py)
    pytorch    PyTorch on the same model: ternary by fake quantization, bf16, as it is and compiled
    sanitizer  the parity tests under compute-sanitizer, as far as the time goes
    cpu        comparison and speed of the CPU levels
    table      what the steps before it left in results.jsonl, beside the targets

It needs the programs that `tests/gpu.sh build` puts beside it. A step that needs what is not here, PyTorch among it, is
skipped with the reason. The exit status is 0, 1 for something that is wrong, and 3 for a step that was skipped. --tiny
is for a trial without a GPU: small sizes, few tests, PyTorch on the CPU.
"""

import argparse
import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results.jsonl"
TEXT = Path(os.environ.get("SETUN_GPU_TEXT") or FOLDER / "tinyshakespeare.txt")
WRONG, SKIPPED = 1, 3

# As in pytorch_speed.py, whose models are those of the PyTorch side.
SIZE_M = {"layers": 6, "width": 384, "heads": 6, "context": 256, "batch": 64}
SIZE_TINY = {"layers": 1, "width": 32, "heads": 2, "context": 16, "batch": 2}
PLAIN = ["--no-adaptive-lr", "--float-gradients", "--clusters", "0", "--dropout", "0", "--validation", "0"]

# Steps beyond which the validation loss of this text is not expected to fall: floats learn it by heart sooner.
MOST_STEPS = {"ternary": 1600, "f32": 1200}

# Targets: shares of a ceiling, a loss in nats, a ratio.
COPY_TARGET, PRODUCT_TARGET, VECTOR_TARGET, LOSS_TARGET, RATIO_TARGET = 0.8, 0.5, 0.8, 1.48, 2.0
CLUSTERS_TARGET = 5.0
COPY_TARGETS = (
    ("quantize_activations", "ternarize", "ternarize_stochastic", "quantize_gradients", "ternarize_gradients")
    + ("pack_two_bit", "pack_five", "pack_mask_sign", "step", "rms_norm", "rms_norm_backward", "rms_norm_quantize")
    + ("squared_relu_norm_quantize", "gated_squared_relu_norm_quantize", "squared_relu_norm_backward")
    + ("gated_squared_relu_norm_backward",)
)


def results_of(output):
    """What `benchmark --json` printed, as far as it came."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{") and line.endswith("}")]


def record(kind, **values):
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": kind} | values) + "\n")


def recorded(kind):
    if not RESULTS.exists():
        return []
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] == kind]


def say(text):
    print(text, flush=True)


def skip(reason):
    say(f"skipped: {reason}")
    record("note", text=reason)
    return SKIPPED


RUNNING = []


class Ended(Exception):
    """A program that ended with another status than 0, or was ended."""


def program(arguments, limit, environment=None):
    """Status, output and seconds of a program, which is ended after `limit` seconds with all that it started (124)."""
    began = time.monotonic()
    with subprocess.Popen(
        ["timeout", "--kill-after=3", f"{max(limit, 1):.0f}", *map(str, arguments)],
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        RUNNING.append(process)
        output, _ = process.communicate()
        RUNNING.remove(process)
    status = 124 if process.returncode in (-9, 137) else process.returncode
    return status, output, time.monotonic() - began


def end_all(_signal, _frame):
    """What runs in groups of processes of its own does not hear a signal to this one."""
    for process in list(RUNNING):
        process.terminate()
    os._exit(143)


def ended(name, status, output):
    """That a program did not do what it had to, with its last words."""
    last = "\n".join(output.strip().splitlines()[-12:])
    how = "was ended, its time was over" if status == 124 else f"ended with status {status}"
    return Ended(f"{name} {how}:\n{last}")


# --- tests -----------------------------------------------------------------------------------------------------------


def outcomes(output):
    """What became of each test that began: "ok", "FAILED", "ignored", or "ended in it"."""
    found = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. ?(ok|FAILED|ignored)?", output, re.MULTILINE)
    return {name: status or "ended in it" for name, status in found if status != "ignored"}


def complaint(output, test):
    """The words of a test that failed."""
    part = output.split(f"---- {test} stdout ----", 1)
    lines = part[1].strip().splitlines() if len(part) == 2 else output.strip().splitlines()[-8:]
    words = []
    for line in lines:
        if line.startswith("---- ") or line.startswith("failures:") or len(words) == 8:
            break
        if line.strip() and not line.startswith("note:"):
            words.append("      " + line[:400])
    return "\n".join(words)


def list_tests(prefix):
    status, output, _ = program([FOLDER / "tests", "--list", "--include-ignored", prefix], 20)
    if status != 0:
        raise ended("tests", status, output)
    return re.findall(rf"^({re.escape(prefix)}\S*): test$", output, re.MULTILINE)


def groups_of(tests):
    """By the module that they stand in."""
    groups = {}
    for test in tests:
        groups.setdefault(test.rsplit("::", 1)[0] + "::", []).append(test)
    return groups


def run_tests(what, groups, workers, limit, environment=None, more=()):
    """Each group in a process of its own, several at once, and what failed once more, alone: a device that one test has
    broken fails all that come after it in the same process. `groups` has the names of tests by what selects them."""
    environment = {"RUST_BACKTRACE": "0"} | (environment or {})
    deadline = time.monotonic() + limit
    lock, bad, passed, seconds = threading.Lock(), {}, 0, {}

    def run(name):
        arguments = [FOLDER / "tests", name, "--include-ignored", "--test-threads", "1", *more]
        left = deadline - time.monotonic() - 0.4 * limit  # the rest is for what has to run again
        status, output, took = program(arguments, left, environment) if left > 1 else (124, "", 0)
        return name, status, output, took

    def one(name):
        nonlocal passed
        name, status, output, took = run(name)
        results = outcomes(output)
        failed = [test for test in groups[name] if results.get(test) != "ok"]
        short = name.removeprefix("backend::parity::")
        text = f"  {short:54} {len(groups[name]) - len(failed)} of {len(groups[name])} in {took:.1f} s"
        if status not in (0, 101):
            text += f", ended with status {status}" if took else ", no time was left"
        with lock:
            say(text)
            seconds[name] = took
            passed += len(groups[name]) - len(failed)
            for test in failed:
                # A process with a single test does not name it before it ends.
                bad[test] = results.get(test, "ended in it" if took and len(groups[name]) == 1 else "not run")
                if bad[test] == "FAILED":
                    say(f"    {test}:\n{complaint(output, test)}")
                elif bad[test] == "ended in it":
                    say(f"    {test}: the process ended in it:\n{complaint(output, test)}")

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, groups))

    def once_more(test):
        left = deadline - time.monotonic()
        if left < 2:
            return test, None, ""
        arguments = [FOLDER / "tests", "--exact", test, "--include-ignored", *more]
        output = program(arguments, min(left, 15), environment)[1]
        return test, outcomes(output).get(test, "not run"), output

    # What a process has ended in comes last: it may take all the time again.
    again = sorted(bad, key=lambda test: bad[test] == "ended in it")[:60]
    with ThreadPoolExecutor(workers) as pool:
        alone = {}
        for test, how, output in pool.map(once_more, again):
            alone[test] = how
            if how not in ("ok", None) and bad[test] != "FAILED":
                say(f"    {test}, alone:\n{complaint(output, test)}")
    # What another test kept from running, and what passes by itself, is right.
    caught_up = [test for test in bad if bad[test] == "not run" and alone.get(test) == "ok"]
    for test in caught_up:
        del bad[test]
    passed += len(caught_up)
    if caught_up:
        say(f"  {len(caught_up)} tests that had not been run passed alone")
    for test, how in bad.items():
        say(f"  {test}: {how}" + (f"; alone: {alone[test]}" if alone.get(test) else ""))
        record("failed test", test=test, how=how, alone=alone.get(test))
    value = f"{passed} of {passed + len(bad)} tests, {len(groups)} groups"
    record("correctness", what=what, value=value, good=not bad and passed > 0)
    return seconds, 0 if passed and not bad else WRONG


def parity(asked):
    groups = groups_of(list_tests("backend::parity::"))
    groups.pop("backend::parity::", None)  # the test of the comparison itself
    # What `scalar` takes long for is split, and begins first.
    slow = ("matmul_ternary::", "scheme::", "integer_gradient::", "kmeans::")
    parts = {test: [test] for part in slow for test in groups.pop(f"backend::parity::{part}", [])}
    groups = parts | groups
    if asked.tiny:
        groups = {name: groups[name] for name in groups if "elementwise" in name or "activation" in name}
    workers = max(1, min(12, (os.cpu_count() or 1) * 3 // 4))
    seconds, status = run_tests(
        "every operation as scalar; trits and codes equal", groups, workers, asked.limit, {"SETUN_PARITY_CUDA": "only"}
    )
    record("parity seconds", seconds=seconds)
    return status


def device(asked):
    one = [test for test in list_tests("backend::cuda::tests::") if "::special::" not in test]
    names = ("train::tests::cuda::", "cluster::tests::cuda::")
    groups = {"backend::cuda::tests::": one} | {name: list_tests(name) for name in names}
    if asked.tiny:
        groups = {"backend::cuda::tests::": one}
    _, status = run_tests("the device; training and generation", groups, 2, asked.limit, more=["--skip", "::special::"])
    return status


# --- sanitizer -------------------------------------------------------------------------------------------------------

FINDING = re.compile(
    r"^=+ (Invalid |Error: |Barrier error|Misaligned|Uninitialized|Program hit|Race reported).*", re.MULTILINE
)
SUMMARY = re.compile(r"^=+ (?:ERROR|RACECHECK) SUMMARY: .*", re.MULTILINE)


def findings(tool, output):
    """The tool's complaints, and whether it came to its end. Hazards that racecheck only warns of are none."""
    summary = SUMMARY.search(output)
    found = [line.group(0) for line in FINDING.finditer(output)]
    if summary:
        number = re.search(r"\((\d+) errors?" if tool == "racecheck" else r"SUMMARY: (\d+)", summary.group(0))
        if number and int(number.group(1)) == 0:
            found = []
        elif not found:
            found = [summary.group(0)]
    return found, summary is not None


def sanitizer(asked):
    tool_path = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool_path).exists():
        record("correctness", what="compute-sanitizer", value="not on this machine", good=None)
        return skip("there is no compute-sanitizer on this machine")
    deadline = time.monotonic() + asked.limit
    # Memory that is kept for the next call would hide what lies outside of an allocation.
    environment = {"SETUN_PARITY_CUDA": "only", "SETUN_CUDA_CACHE": "0"}

    def run(job):
        tool, name, exact = job
        left = deadline - time.monotonic()
        if left < 2:
            return job, None
        command = [tool_path, "--tool", tool, "--error-exitcode", "99", "--print-limit", "5"]
        command += ["--report-api-errors", "no"] if tool == "memcheck" else []
        command += [FOLDER / "tests", name, "--test-threads", "1", *(["--exact"] if exact else [])]
        return job, program(command, left, environment)[1]

    _, output = run(("memcheck", "backend::parity::elementwise::fill", True))
    if not SUMMARY.search(output or ""):
        words = [line for line in (output or "").splitlines() if line.startswith("===")][:4]
        record("correctness", what="compute-sanitizer", value="cannot be used here: see the log", good=None)
        return skip("compute-sanitizer does not work here: " + "; ".join(words))
    known = recorded("parity seconds")
    seconds = known[-1]["seconds"] if known else {}
    groups = sorted(seconds or groups_of(list_tests("backend::parity::")), key=lambda name: seconds.get(name, 0))
    jobs = [(tool, name, False) for name in groups for tool in ("memcheck", "racecheck", "synccheck")]
    wrong, ended, cut = [], 0, 0
    with ThreadPoolExecutor(6) as pool:
        for (tool, name, _), output in pool.map(run, jobs):
            found, whole = findings(tool, output or "")
            ended, cut = ended + whole, cut + (not whole)
            if found:
                wrong.append(f"{tool} {name}")
                begin = max(0, (output or "").find(found[0]))
                say(f"  {tool} {name}: {len(found)} findings, the first:\n{(output or '')[begin : begin + 1200]}")
    value = f"{ended} of {len(jobs)} runs came to an end, findings in {len(wrong)}"
    say(f"  {value}" + (f": {', '.join(wrong)}" if wrong else ""))
    record(
        "correctness", what="memcheck, racecheck, synccheck", value=value, good=not wrong if ended or wrong else None
    )
    return WRONG if wrong else 0


# --- speed -----------------------------------------------------------------------------------------------------------


def need_torch(asked):
    """PyTorch and the device to use it on, or the reason why not."""
    try:
        import torch
    except ImportError as reason:
        return None, None, f"PyTorch is not here ({reason})"
    if asked.tiny:
        return torch, torch.device("cpu"), None
    if not torch.cuda.is_available():
        return None, None, "PyTorch sees no GPU"
    return torch, torch.device("cuda"), None


def torch_seconds(torch, where, call):
    """The least of several, each of enough calls to hide what a launch costs."""
    finish = torch.cuda.synchronize if where.type == "cuda" else lambda: None
    calls, least = (10, math.inf) if where.type == "cuda" else (1, math.inf)
    for _ in range(3):
        call()
    for _ in range(10):
        finish()
        began = time.perf_counter()
        for _ in range(calls):
            call()
        finish()
        least = min(least, (time.perf_counter() - began) / calls)
    return least


def ceilings(asked):
    torch, where, reason = need_torch(asked)
    if reason:
        return skip(f"no ceilings: {reason}")
    n, size = (256, 1 << 20) if asked.tiny else (4096, 1 << 29)
    say(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name() if where.type == 'cuda' else 'CPU'}")

    def copy():
        source, target = (torch.ones(size, dtype=torch.uint8, device=where) for _ in range(2))
        return 2 * size / torch_seconds(torch, where, lambda: target.copy_(source)), "B/s"

    def int8():
        x, w = (torch.randint(-127, 128, (n, n), dtype=torch.int8, device=where) for _ in range(2))
        return 2 * n**3 / torch_seconds(torch, where, lambda: torch._int_mm(x, w.t())), "OP/s"

    def bf16():
        x, w = (torch.randn(n, n, device=where).bfloat16() for _ in range(2))
        return 2 * n**3 / torch_seconds(torch, where, lambda: x @ w.t()), "FLOP/s"

    if where.type == "cuda":
        # Clocks that were idle take a while.
        x, until = torch.randn(n, n, device=where), time.monotonic() + 1
        while time.monotonic() < until:
            x @ x
            torch.cuda.synchronize()
        del x
    status = 0
    for name, measure in (("copy", copy), ("int8", int8), ("bf16", bf16)):
        try:
            rate, unit = measure()
        except RuntimeError as why:
            say(f"  {name}: {str(why).splitlines()[0]}")
            status = WRONG
            continue
        say(f"  {name:6} {rate / 1e12:8.3f} T{unit}")
        record("ceiling", name=name, rate=rate)
    return status


def kernels(asked):
    command = [FOLDER / "benchmark", "--backend", "cuda", "--json", "--seconds", "0.03"]
    command += ["--quick", "--filter", "squared_relu"] if asked.tiny else []
    status, output, took = program(command, asked.limit)
    lines = results_of(output)
    lines = [line for line in lines if line["backend"] == "cuda"]
    for line in lines:
        record("kernel", **line)
        what = f"{line['operation']}, {line['sizes']}"
        say(f"  {what:66} {line['seconds'] * 1e6:11.2f} us {line['rate']:12.1f} {line['unit']}")
    say(f"  {len(lines)} results in {took:.0f} s")
    if status != 0 or not lines:
        say("\n".join(line for line in output.splitlines() if not line.startswith("{"))[-2000:])
        say(f"  benchmark ended with status {status}")
        return WRONG
    return 0


def clusters(asked):
    torch, where, reason = need_torch(asked)
    if reason:
        return skip(f"no k-means beside PyTorch: {reason}")
    import kmeans_pytorch

    status = 0

    def tell(who, how, **found):
        nonlocal status
        say("  " + kmeans_pytorch.text_of(who, how, **found))
        record("clusters", who=who, how=how, **found)
        # Ours have to be right, and theirs to run at all.
        wrong = found["differ"] > 0 if "differ" in found and who == "Setun" else "eager" in how and "failed" in found
        if wrong or who == "Setun" and "failed" in found:
            status = WRONG

    case = kmeans_pytorch.TINY if asked.tiny else kmeans_pytorch.FULL
    kmeans_pytorch.compare(torch, where, case, asked.limit, tell)
    return status


# --- training --------------------------------------------------------------------------------------------------------


def options(size, text=None):
    names = ("layers", "width", "heads", "context", "batch")
    shape = [part for name in names for part in (f"--{name}", size[name])]
    return ["--text", text or TEXT, "--tokenizer", "character", *shape, "--sample", "0", "--quiet", "--keep", "1"]


def setun(arguments, limit, out, backend="cuda", may_be_cut=False):
    """The lines of metrics.jsonl of a run of the train program, what it printed, and whether it came to its end.

    The program saves and stops when its time is over.
    """
    command = [FOLDER / "train", "--backend", backend, *arguments, "--out", out]
    status, output, _ = program(command, limit)
    metrics = Path(out) / "metrics.jsonl"
    if status != 0 and not (may_be_cut and status == 124 and metrics.exists()):
        raise ended("train", status, output)
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return lines, output, status == 0


def size_of(asked):
    return SIZE_TINY if asked.tiny else SIZE_M


def rates(metrics, tokens_a_step):
    """Tokens a second between one line and the next, where no validation lay between."""
    pairs = [(a, b) for a, b in zip(metrics, metrics[1:]) if b["validation_loss"] is None]
    return [(b["step"] - a["step"]) * tokens_a_step / (b["elapsed_seconds"] - a["elapsed_seconds"]) for a, b in pairs]


def calibrate(asked, arguments, folder):
    """Seconds of a step, and of all that is not one, by a short run."""
    began, steps, size = time.monotonic(), 8 if asked.tiny else 40, size_of(asked)
    more = ["--steps", steps, "--log-interval", steps // 4, "--eval-windows", "4"]
    metrics, _, _ = setun([*arguments, *more], 60, Path(folder) / "short")
    step = size["batch"] * size["context"] / statistics.median(rates(metrics, size["batch"] * size["context"]))
    return step, max(0, time.monotonic() - began - steps * step)


def text_or_none():
    if TEXT.is_file():
        return None
    return skip(f"there is no text {TEXT.name} (SETUN_GPU_TEXT names another)")


def train(asked):
    if status := text_or_none():
        return status
    began, size, kind = time.monotonic(), size_of(asked), "f32" if asked.f32 else "ternary"
    arguments = [*options(size), "--dropout", ".2", *(["--f32"] if asked.f32 else [])]
    with tempfile.TemporaryDirectory(prefix="setun-") as folder:
        step, around = calibrate(asked, arguments, folder)
        # What lies around the training has to fit too, and a tenth is for the validations in it.
        seconds = min(asked.seconds, asked.limit - (time.monotonic() - began) - 2 * around - 5)
        steps = max(20, min(int(0.9 * seconds / step), 40 if asked.tiny else MOST_STEPS[kind]))
        say(f"  {kind}: {step * 1e3:.2f} ms a step, {around:.1f} s around: {steps} steps")
        every = max(1, steps // 10)
        more = ["--steps", steps, "--log-interval", max(1, every // 5), "--eval-interval", every]
        more += ["--eval-windows", 4 if asked.tiny else 0]
        limit = asked.limit - (time.monotonic() - began) - 3
        metrics, output, whole = setun([*arguments, *more], limit, Path(folder) / "run", may_be_cut=True)
    say("  " + output.strip().replace("\n", "\n  ") if whole else f"  cut short at step {metrics[-1]['step']}")
    return judge_training(kind, steps, metrics, size["batch"] * size["context"])


def judge_training(kind, steps, metrics, tokens):
    speed = statistics.median(rates(metrics, tokens) or [metrics[-1]["tokens_per_second"]])
    measured = [(line["validation_loss"], line["step"]) for line in metrics if line["validation_loss"] is not None]
    for loss, at in measured:
        say(f"    step {at}: validation {loss:.4f}")
    first_loss, last_loss = (line["loss"] and round(line["loss"], 4) for line in (metrics[0], metrics[-1]))
    # What is not a number is null there.
    good = None not in (first_loss, last_loss) and last_loss < first_loss
    value = f"loss {first_loss} to {last_loss} in {metrics[-1]['step']} of {steps} steps"
    record("correctness", what=f"size M trains, {kind}", value=value, good=good)
    more = {"tokens_per_second": speed, "seconds": metrics[-1]["elapsed_seconds"], "steps": metrics[-1]["step"]}
    if measured:
        (loss, at), (least, least_at) = measured[-1], min(measured)
        more |= {"loss": loss, "at": at, "least": least, "least_at": least_at}
    record("training", what=kind, planned=steps, **more)
    say(f"  {speed:.0f} tokens/s, {value}")
    return 0 if good else WRONG


def bytes_of(folder):
    """What a run computed: the weights, the optimizer's state, and the losses without their times."""
    kept = {path.name: path.read_bytes() for path in folder.glob("step-*/*.safetensors")}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return kept, [(line["step"], line["loss"], line["gradient_norm"]) for line in lines]


def first(asked):
    if status := text_or_none():
        return status
    began, size, status = time.monotonic(), size_of(asked), 0

    def left():
        return asked.limit - (time.monotonic() - began)

    with tempfile.TemporaryDirectory(prefix="setun-") as name:
        folder = Path(name)
        # Clusters of the whole text would take the CPU longer than the steps; validation of a small part only.
        text = folder / "text.txt"
        text.write_text(TEXT.read_text(encoding="utf-8")[:200_000], encoding="utf-8")
        for kind in ([], ["--f32"]):
            kind_name = "f32" if kind else "ternary"
            small = [*options(size | {"batch": min(size["batch"], 8)}, text), "--dropout", ".2", "--seed", "7", *kind]
            small += ["--steps", "2", "--log-interval", "1", "--eval-windows", "1"]
            losses = {}
            for backend in ("parallel", "cuda"):
                metrics, _, _ = setun(small, left(), folder / f"{backend}{kind_name}", backend)
                losses[backend] = [line["loss"] for line in metrics]
            apart = abs(losses["parallel"][0] - losses["cuda"][0])
            cpu, gpu = (f"{values[0]:.6f}, {values[1]:.6f}" for values in losses.values())
            say(f"  {kind_name}: CPU {cpu}; GPU {gpu}")
            record(
                "correctness",
                what=f"first loss as the CPU's, {kind_name}",
                value=f"apart by {apart:.1e} (1e-4)",
                good=apart < 1e-4,
            )
            status = status or (0 if apart < 1e-4 else WRONG)
            steps = 3 if asked.tiny else 20
            twice = [
                *options(size, text),
                "--dropout",
                ".2",
                "--seed",
                "7",
                *kind,
                "--steps",
                steps,
                "--log-interval",
                "1",
            ]
            runs = []
            for number in ("first", "second"):
                setun([*twice, "--eval-windows", "1"], left(), folder / f"{number}{kind_name}")
                runs.append(bytes_of(folder / f"{number}{kind_name}"))
            same = runs[0] == runs[1] and bool(runs[0][0])
            step = next((a[0] for a, b in zip(runs[0][1], runs[1][1]) if a != b), None)
            value = f"{steps} steps: " + ("same bits" if same else f"they differ, losses from step {step} on")
            say(f"  {kind_name}: the same run twice, {value}")
            record("correctness", what=f"the same run twice, {kind_name}", value=value, good=same)
            status = status or (0 if same else WRONG)
    return status


def speed(asked):
    if status := text_or_none():
        return status
    size = size_of(asked)
    for kind in ("ternary", "f32"):
        arguments = [*options(size), *PLAIN, *(["--f32"] if kind == "f32" else [])]
        with tempfile.TemporaryDirectory(prefix="setun-") as folder:
            step, _ = calibrate(asked, arguments, folder)
            steps = max(8, min(int(5 / step), 8 if asked.tiny else 1000))
            more = ["--steps", steps, "--log-interval", max(1, steps // 8)]
            metrics, _, _ = setun([*arguments, *more], 40, Path(folder) / "run")
        # The first interval has the warming up in it.
        found = rates(metrics, size["batch"] * size["context"])[1:]
        say(
            f"  {kind}: {min(found):.0f} to {max(found):.0f}, median {statistics.median(found):.0f} tokens/s, "
            f"{steps} steps"
        )
        record("speed", who="Setun", what=kind, tokens_per_second=statistics.median(found))
    return 0


def pytorch(asked):
    torch, where, reason = need_torch(asked)
    if reason:
        return skip(f"no comparison with PyTorch: {reason}")
    if status := text_or_none():
        return status
    began, failed = time.monotonic(), 0
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    text = TEXT.read_text(encoding="utf-8")
    number = {character: i for i, character in enumerate(sorted(set(text)))}
    data = torch.tensor([number[character] for character in text], device=where)
    for kind, compiled in (("ternary", False), ("ternary", True), ("f32", True)):
        name = f"{kind}, {'compiled' if compiled else 'eager'}"
        if kind == "f32" and time.monotonic() - began > 0.6 * asked.limit:
            say(f"  {name}: left out, no time")
            continue
        try:
            found, to_first = pytorch_rates(torch, size_of(asked), kind, compiled, data, len(number))
        except Exception as why:  # of several kinds, one for each part of the compiler that may be missing
            say(f"  {name}: {str(why).strip().splitlines()[0] if str(why).strip() else type(why).__name__}")
            failed = WRONG
            continue
        middle = statistics.median(found)
        say(
            f"  {name}: {min(found):.0f} to {max(found):.0f}, median {middle:.0f} tokens/s, first step {to_first:.1f} s"
        )
        how = "compiled" if compiled else "eager"
        record("speed", who="PyTorch", what=kind, how=how, tokens_per_second=middle)
    return failed


def profile(asked):
    if status := text_or_none():
        return status
    began, status = time.monotonic(), 0
    for kind in ([], ["--f32"]):
        left = asked.limit - (time.monotonic() - began)
        environment = {"SETUN_LIBRARY": str(FOLDER / "libsetun.so.0")}
        code, output, _ = program([sys.executable, FOLDER / "gpu_profile.py", TEXT, *kind], left, environment)
        say(f"{'f32' if kind else 'ternary'}:\n{output.strip()}")
        if code == SKIPPED:
            return skip(output.strip().splitlines()[-1])
        status = status or code
    return status


def pytorch_rates(torch, size, kind, compiled, data, vocabulary):
    """Tokens a second, five times, and the seconds that the first step took."""
    import pytorch_speed

    where = data.device
    finish = torch.cuda.synchronize if where.type == "cuda" else lambda: None
    model = pytorch_speed.TRAINERS[kind](pytorch_speed.Size(**size, warm_up=0, steps=0), vocabulary).to(where)
    optimizer, parameters = pytorch_speed.adamw(model), list(model.parameters())
    forward = torch.compile(model) if compiled else model
    window = torch.arange(size["context"] + 1, device=where)

    def steps(count):
        finish()
        began = time.perf_counter()
        for _ in range(count):
            starts = torch.randint(len(data) - size["context"], (size["batch"], 1), device=where)
            tokens = data[starts + window]
            with torch.autocast(where.type, torch.bfloat16):
                loss = forward(tokens[:, :-1], tokens[:, 1:])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        finish()
        if not math.isfinite(loss.item()):
            raise ArithmeticError("the model diverged")
        return time.perf_counter() - began

    to_first = steps(1)
    steps(3)
    count = max(2, min(20, int(2 / steps(1))))
    return [count * size["batch"] * size["context"] / steps(count) for _ in range(5)], to_first


# --- the CPU ---------------------------------------------------------------------------------------------------------


def cpu(asked):
    began = time.monotonic()
    quick = ["--quick", *(["--filter", "squared_relu"] if asked.tiny else [])]
    code, output, took = program([FOLDER / "benchmark", "--parity", "--json", *quick], asked.limit)
    lines = results_of(output)
    compared = [line for line in lines if line.get("agrees") is not None and line["backend"] != "scalar"]
    differ = [line for line in compared if not line["agrees"]]
    for line in differ:
        what = f"{line['operation']}, {line['sizes']}"
        say(f"  {what}: DIFFERS on {line['backend']} {line['level']}: {line['difference']}")
    levels = list(dict.fromkeys(line["level"] for line in compared if line["level"]))
    value = f"{len(compared)} comparisons, {len(differ)} differ; {', '.join(levels)}"
    value += ", cuda" if any(line["backend"] == "cuda" for line in compared) else ""
    good = code == 0 and not differ and bool(compared)
    say(f"  {value}, {took:.0f} s" + ("" if code in (0, 1) else f", ended with status {code}: {output[-500:]}"))
    record("correctness", what="every CPU level, and cuda, as scalar", value=value, good=good)
    status = 0 if good else WRONG
    left = asked.limit - (time.monotonic() - began)
    # The GPU's kernels have a step of their own.
    code, output, took = program([FOLDER / "benchmark", "--json", *quick], left, {"CUDA_VISIBLE_DEVICES": ""})
    lines = results_of(output)
    lines = [
        line for line in lines if not line["is_ceiling"] and line["speedup"] and line["backend"] in ("simd", "parallel")
    ]
    places = {}
    for line in lines:
        places.setdefault((line["backend"], line["level"]), []).append(line)
    for (backend, level), of_it in places.items():
        mean = math.exp(statistics.fmean(math.log(line["speedup"]) for line in of_it))
        product = next((line["rate"] for line in of_it if line["operation"] == "matmul_ternary"), None)
        record("cpu level", backend=backend, level=level, mean=mean, product=product, operations=len(of_it))
        say(f"  {backend}, {level}: {mean:.1f} times scalar in the mean of {len(of_it)} operations")
    if code != 0:
        say(f"  benchmark ended with status {code} after {took:.0f} s: {output[-300:]}")
    return status


# --- the table -------------------------------------------------------------------------------------------------------


def reached(good):
    return {True: "reached", False: "NOT REACHED", None: ""}[good]


def print_steps():
    say("\nsteps                                                         seconds")
    for line in (
        (FOLDER / "steps.tsv").read_text(encoding="utf-8").splitlines() if (FOLDER / "steps.tsv").exists() else []
    ):
        name, how, seconds = line.split("\t")
        say(f"  {name:44} {how:14} {seconds:>6}")


def print_correctness():
    say("\ncorrectness")
    for line in recorded("correctness"):
        good = {True: "ok", False: "WRONG", None: "not tried"}[line["good"]]
        say(f"  {line['what']:50} {good:10} {line['value']}")
    failed = recorded("failed test")
    for line in failed[:25]:
        say(f"    {line['test']}: {line['how']}" + (f"; alone: {line['alone']}" if line["alone"] else ""))
    if len(failed) > 25:
        say(f"    and {len(failed) - 25} more")


def work_of(line):
    return line["operations"] or line["bytes"] or 0


def vector_shape(line):
    """[n, k] of a product of one row with plain trits of two bits, or None."""
    shape = re.fullmatch(r"1 x (\d+) x (\d+)", line["sizes"])
    return [int(part) for part in shape.groups()] if shape and line["operation"] == "matmul_ternary" else None


def chosen_kernels(lines):
    """The largest size of each operation; of the ternary product also the two that have targets."""
    largest = {}
    for line in lines:
        name = line["operation"]
        if name not in largest or work_of(line) > work_of(largest[name]):
            largest[name] = line
    chosen = [line for name, line in largest.items() if name != "matmul_ternary"]
    products = [
        line for line in lines if line["operation"] == "matmul_ternary" and line["sizes"] == "4096 x 4096 x 4096"
    ]
    vectors = [line for line in lines if vector_shape(line)]
    chosen += products or [line for name, line in largest.items() if name == "matmul_ternary"]
    return chosen + ([max(vectors, key=lambda line: math.prod(vector_shape(line)))] if vectors else [])


def share_of(line, ceilings_found):
    """The share of the ceiling that bounds a call, its name, and the target."""
    copy = ceilings_found.get("copy")
    if vector_shape(line):
        n, k = vector_shape(line)
        share = n * ((k + 3) // 4) / line["seconds"] / copy if copy else None
        return share, "copy, packed bytes", VECTOR_TARGET
    shares = [(line["bytes"] / line["seconds"] / copy, "copy")] if copy and line["bytes"] else []
    peak = {"GOP/s": "int8", "GFLOP/s": "bf16"}.get(line["unit"])
    if peak in ceilings_found and line["operations"]:
        shares.append((line["operations"] / line["seconds"] / ceilings_found[peak], peak))
    if line["operation"] == "matmul_ternary":
        shares = [share for share in shares if share[1] == "int8"]
        return (*(shares or [(None, "int8")])[0], PRODUCT_TARGET if line["sizes"] == "4096 x 4096 x 4096" else None)
    target = COPY_TARGET if line["operation"] in COPY_TARGETS else None
    if target:
        shares = [share for share in shares if share[1] == "copy"]
    return (*(max(shares) if shares else (None, "")), target)


def print_kernels():
    lines = [line for line in recorded("kernel") if line["seconds"]]
    found = {line["name"]: line["rate"] for line in recorded("ceiling")}
    say(
        "\nceilings of PyTorch in this run: "
        + (", ".join(f"{name} {rate / 1e12:.3f} T/s" for name, rate in found.items()) or "none")
    )
    # The largest: a small one lies in the cache.
    copies = [line for line in lines if line["is_ceiling"] and line["operation"] == "copy"]
    own = max(((line["bytes"], line["bytes"] / line["seconds"]) for line in copies), default=(0, 0))[1]
    if own:
        say(
            f"ceiling of the benchmark itself: copy {own / 1e12:.3f} TB/s"
            + ("" if own < found.get("copy", 0) else ", which is used")
        )
        found["copy"] = max(own, found.get("copy", 0))
    lines = [line for line in lines if not line["is_ceiling"]]
    if not lines:
        return say("no kernel was timed")
    say(f"\n{'kernel, largest size':62} {'us':>10} {'rate':>19}  share of             target")
    for line in chosen_kernels(lines):
        share, of, target = share_of(line, found)
        text = f"{line['operation']}, {line['sizes']}"
        text = f"{text[:62]:62} {line['seconds'] * 1e6:10.1f} {line['rate']:11.1f} {line['unit']:7}"
        text += f"  {100 * share:5.1f}% {of:19}" if share is not None else " " * 28
        if target:
            text += f" {100 * target:.0f}% " + (reached(share >= target) if share is not None else "no ceiling")
        say(text.rstrip())
    if not any(line["operation"] == "matmul_ternary" and line["sizes"] == "4096 x 4096 x 4096" for line in lines):
        say("matmul_ternary, 4096 x 4096 x 4096: not timed; its target is 50% of int8")


def print_training():
    for line in recorded("training"):
        say(f"\nsize M, {line['what']}, dropout .2, defaults otherwise: {line['tokens_per_second']:.0f} tokens/s")
        if "loss" not in line:
            say("  it was cut short before its first validation")
            continue
        text = f"  validation {line['loss']:.4f} at step {line['at']} of {line['planned']} ({line['seconds']:.0f} s), "
        text += f"least {line['least']:.4f} at step {line['least_at']}; target {LOSS_TARGET}: "
        text += reached(line["loss"] <= LOSS_TARGET)
        say(text + (" at the end, reached by the least" if line["loss"] > LOSS_TARGET >= line["least"] else ""))
    speeds = recorded("speed")
    if speeds:
        say("\nsize M, plain, tokens/s")
    for line in speeds:
        say(f"  {line['who'] + ' ' + line['what']:24} {line.get('how', ''):10} {line['tokens_per_second']:12.0f}")
    ours = [("plain " + line["what"], line) for line in speeds if line["who"] == "Setun"]
    ours += [("default " + line["what"], line) for line in recorded("training")]
    for name, line in ours:
        kind, mine = line["what"], line["tokens_per_second"]
        for other in speeds:
            if other["who"] == "PyTorch" and other["what"] == kind:
                ratio = mine / other["tokens_per_second"]
                judged = name == "plain ternary" and other["how"] == "compiled"
                target = f"; target {RATIO_TARGET:.0f}: {reached(ratio >= RATIO_TARGET)}" if judged else ""
                say(f"  Setun {name} / PyTorch {kind}, {other['how']}: {ratio:.2f}{target}")


def print_clusters():
    lines = [line for line in recorded("clusters") if "seconds" in line]
    if lines:
        say("\nk-means of 1M x 128 points, 1024 clusters, 10 updates from the same start")
        say(f"{'':26} {'ms, from the host':>17} {'ms an update':>13} {'labels not as in f64':>21}")
    ours = [line for line in lines if line["who"] == "Setun"]
    for line in lines:
        text = f"  {line['who'] + ' ' + line['how']:24} {line['seconds'] * 1e3:17.1f} {line['each'] * 1e3:13.2f}"
        text += f" {100 * line['differ']:20.4f}%"
        if ours and line["who"] != "Setun":
            whole, each = (line[name] / ours[-1][name] for name in ("seconds", "each"))
            text += f"  Setun is {whole:.2f} times as fast, {each:.2f} an update; target {CLUSTERS_TARGET:.0f}: "
            text += reached(whole >= CLUSTERS_TARGET)
        say(text)


def print_cpu():
    lines = recorded("cpu level")
    if lines:
        say("\nCPU, smallest sizes: times scalar in the mean, and GOP/s of the ternary product")
    for line in lines:
        product = f"{line['product']:.1f}" if line["product"] else "-"
        say(f"  {line['backend']:10} {line['level']:18} {line['mean']:8.1f} {product:>10}")


def table(_asked):
    for part in (print_kernels, print_clusters, print_training, print_cpu, print_correctness, print_steps):
        try:
            part()
        except (KeyError, ValueError, TypeError, OSError) as why:  # one part that is damaged leaves the others
            say(f"{part.__name__}: {type(why).__name__}: {why}")
    for line in recorded("note"):
        say(f"note: {line['text']}")
    return 0


STEPS = (parity, device, first, ceilings, kernels, clusters, train, speed, profile, pytorch, sanitizer, cpu, table)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=[step.__name__ for step in STEPS])
    parser.add_argument("--limit", type=float, default=120, help="seconds for all of the step")
    parser.add_argument("--seconds", type=float, default=90, help="of training")
    parser.add_argument("--f32", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, end_all)
    step = next(step for step in STEPS if step.__name__ == asked.step)
    try:
        return step(asked)
    except Ended as why:
        say(f"  {why}")
        return WRONG


if __name__ == "__main__":
    sys.exit(main())
