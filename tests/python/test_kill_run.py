"""kill_run.py on a small model: what it finds equal, and what it would find different."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import kill_run
from train_program import ROOT

SMALL = "--layers 1 --width 32 --heads 2 --context 32 --batch 4 --threads 1 --tokenizer byte --eval-windows 10".split()


class KillRun(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)

    def run_with(self, *options, status=0):
        command = [sys.executable, ROOT / "tests/python/kill_run.py", ROOT / "include/setun.h", "--steps", "600", "--kills", "3",
                   "--checkpoint-interval", "50", "--results", self.folder / "results.jsonl", *options, "--", *SMALL]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stderr, json.loads((self.folder / "results.jsonl").read_text().splitlines()[-1])

    def test_a_killed_run_ends_as_the_other(self):
        whole = self.folder / "whole"
        _, found = self.run_with("--whole", whole)
        self.assertTrue(found["same"])
        self.assertEqual(len(found["kills"]), 3)
        self.assertEqual(found["expected"], found["found"])
        # One bit of the other, and they are not the same any more.
        model = whole / "model.safetensors"
        data = bytearray(model.read_bytes())
        data[-1] ^= 1
        model.write_bytes(data)
        said, found = self.run_with("--whole", whole, status=1)
        self.assertFalse(found["same"])
        self.assertIn("the killed run is another", said)

    def test_a_run_that_fails_says_why(self):
        command = [sys.executable, ROOT / "tests/python/kill_run.py", ROOT / "include/setun.h", "--steps", "10",
                   "--results", self.folder / "results.jsonl", "--", "--heads", "3"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 1)
        self.assertIn("heads", done.stderr)
        self.assertFalse((self.folder / "results.jsonl").exists())

    def test_times_are_no_part_of_it(self):
        self.assertEqual(set(kill_run.TIMES), {"elapsed_seconds", "remaining_seconds", "tokens_per_second"})


if __name__ == "__main__":
    unittest.main()
