"""Runs c_examples/build/train from other scripts, and reads what it leaves behind."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "c_examples" / "build" / "train"

# Size S of the README: 4 layers x 128, 4 heads, context 64, batch 12, ungated, tied embedding.
SIZE_S = ["--layers", "4", "--width", "128", "--heads", "4", "--context", "64", "--batch", "12"]


def build():
    subprocess.run(["make", "--silent", "-C", ROOT / "c_examples", "all"], check=True, stdout=sys.stderr)


class Run:
    """A finished run of the train program: its metrics, what it printed, and the memory it took."""

    def __init__(self, text, arguments):
        with tempfile.TemporaryDirectory(prefix="setun-") as folder:
            command = [PROGRAM, "--text", text, "--out", folder + "/run", "--sample", "0", "--quiet", *map(str, arguments)]
            with open(folder + "/printed", "w+", encoding="utf-8") as printed:
                process = subprocess.Popen(command, stdout=printed)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                printed.seek(0)
                self.printed = printed.read()
            if process.returncode != 0:
                raise SystemExit(f"{' '.join(map(str, command))} ended with status {process.returncode}")
            with open(folder + "/run/metrics.jsonl", encoding="utf-8") as lines:
                self.metrics = [json.loads(line) for line in lines]
        self.peak_megabytes = usage.ru_maxrss / 1024

    def seconds_between(self, first_step, last_step):
        """Time in training steps, from the metrics of the two."""
        elapsed = {line["step"]: line["elapsed_seconds"] for line in self.metrics}
        return elapsed[last_step] - elapsed[first_step]
