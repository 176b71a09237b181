"""A run that is killed and resumed ends with the very bytes of one that was not, whatever the number of threads."""

import json
import os
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from train_program import PROGRAM, ROOT

STEPS = 200
SMALL = ["--layers", "2", "--width", "32", "--heads", "2", "--context", "32", "--batch", "4", "--seed", "5"]
TENSORS = ["model.safetensors", "optimizer.safetensors"]


def command(text, out, threads, *more):
    program = [PROGRAM, "--text", text, "--out", out, "--steps", STEPS, "--threads", threads, "--sample", 0, "--quiet"]
    return [*map(str, program), *SMALL, *map(str, more)]


def steps_in(out):
    """The steps that metrics.jsonl reports; the last line may be half written."""
    path = Path(out, "metrics.jsonl")
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["step"] for line in lines]


def final(out):
    return [Path(out, f"step-{STEPS:08}", name).read_bytes() for name in TENSORS]


class Resume(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="setun-resume-")
        self.addCleanup(self.folder.cleanup)
        self.text = Path(self.folder.name, "text.txt")
        self.text.write_text((ROOT / "src/train/trainer.rs").read_text(encoding="utf-8"), encoding="utf-8")

    def run_killed_at(self, out, threads, step, *more):
        """Starts a run and kills it, without warning, once it has reported `step`."""
        process = subprocess.Popen(command(self.text, out, threads, *more), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not any(reported >= step for reported in steps_in(out)):
            self.assertIsNone(process.poll(), "the run ended before it could be killed")
            self.assertLess(time.monotonic(), deadline, "the run does not get on")
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        self.assertEqual(process.wait(), -signal.SIGKILL)

    def test_killed_and_resumed_runs_end_with_the_same_bytes(self):
        whole = Path(self.folder.name, "whole")
        subprocess.run(command(self.text, whole, 2), check=True, stdout=subprocess.DEVNULL)
        expected, reported = final(whole), steps_in(whole)
        broken = Path(self.folder.name, "broken")
        often = ["--checkpoint-interval", 20]
        self.run_killed_at(broken, 1, 50, *often)
        self.assertLess(max(steps_in(broken)), STEPS)
        self.run_killed_at(broken, 3, 100, "--resume", *often)
        subprocess.run(command(self.text, broken, 8, "--resume", *often), check=True, stdout=subprocess.DEVNULL)
        self.assertEqual(final(broken), expected)
        self.assertEqual(steps_in(broken), reported)
        left_over = [name for name in os.listdir(broken) if name.startswith(".")]
        self.assertEqual(left_over, [])

    def test_an_interrupt_saves_and_says_how_to_go_on(self):
        whole = Path(self.folder.name, "whole")
        subprocess.run(command(self.text, whole, 2), check=True, stdout=subprocess.DEVNULL)
        stopped = Path(self.folder.name, "stopped")
        process = subprocess.Popen(
            command(self.text, stopped, 2), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        while not any(step >= 30 for step in steps_in(stopped)):
            self.assertIsNone(process.poll(), "the run ended before it could be stopped")
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)[0]
        self.assertIn("--resume", printed)
        self.assertTrue(any(name.startswith("step-") for name in os.listdir(stopped)), printed)
        subprocess.run(command(self.text, stopped, 1, "--resume"), check=True, stdout=subprocess.DEVNULL)
        self.assertEqual(final(stopped), final(whole))


if __name__ == "__main__":
    unittest.main()
