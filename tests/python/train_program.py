"""Runs c_examples/build/train from other scripts, and reads what it leaves behind."""

import ctypes
import json
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "c_examples" / "build" / "train"

# Size S of the README: 4 layers x 128, 4 heads, context 64, batch 12, ungated, tied embedding.
SIZE_S = ["--layers", "4", "--width", "128", "--heads", "4", "--context", "64", "--batch", "12"]


# AdamW on the schedule, on float gradients of windows drawn evenly: what the options that are on by default add to is off.
PLAIN = ["--no-adaptive-lr", "--float-gradients", "--clusters", "0"]


def hear_interrupts():
    """For preexec_fn: what is started in the background of a shell inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def has_gpu():
    """Whether the library finds one here, with whatever driver is found under that name."""
    count = ctypes.c_int32()
    library = ctypes.CDLL(str(ROOT / "target" / "release" / "libsetun.so"))
    return library.setun_device_count(ctypes.byref(count)) == 0 and count.value > 0


def build():
    subprocess.run(["make", "--silent", "-C", ROOT / "c_examples", "all"], check=True, stdout=sys.stderr)


def peak_megabytes(command, **more):
    """Runs a command, which has to succeed, and returns its peak memory in MiB.

    A process starts out with the peak of the one that forked it, so the command is started by a small process (this file as
    a program) and not from here, where gigabytes may be in use.
    """
    with tempfile.NamedTemporaryFile("r", prefix="setun-") as peak:
        through = [sys.executable, __file__, peak.name, *map(str, command)]
        done = subprocess.run(through, **more)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))} ended with status {done.returncode}")
        return int(peak.read()) / 1024


class Run:
    """A finished run of the train program: its metrics, what it printed, and the memory it took."""

    def __init__(self, text, arguments):
        with tempfile.TemporaryDirectory(prefix="setun-") as folder:
            command = [PROGRAM, "--text", text, "--out", folder + "/run", "--sample", "0", "--quiet", *arguments]
            with open(folder + "/printed", "w+", encoding="utf-8") as printed:
                self.peak_megabytes = peak_megabytes(command, stdout=printed)
                printed.seek(0)
                self.printed = printed.read()
            with open(folder + "/run/metrics.jsonl", encoding="utf-8") as lines:
                self.metrics = [json.loads(line) for line in lines]

    def seconds_between(self, first_step, last_step):
        """Time in training steps, from the metrics of the two."""
        elapsed = {line["step"]: line["elapsed_seconds"] for line in self.metrics}
        return elapsed[last_step] - elapsed[first_step]


if __name__ == "__main__":
    status = subprocess.call(sys.argv[2:])
    Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
    sys.exit(status if status >= 0 else 128 - status)
