"""kill_run.py on a small model: what it finds equal, and what it would find different."""

import argparse
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
                   "--checkpoint-interval", "50", "--latest", "0.8", "--results", self.folder / "results.jsonl", *options, "--", *SMALL]
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

    def test_a_run_of_other_options_is_no_whole_one(self):
        whole = self.folder / "whole"
        asked = argparse.Namespace(text=ROOT / "include/setun.h", steps=10, checkpoint_interval=5, options=SMALL)
        kill_run.finish(asked, whole)
        for options, why in ((SMALL, "steps"), (["--width", "64", *SMALL[4:]], "width")):
            steps = "10" if why == "width" else "600"
            command = [sys.executable, ROOT / "tests/python/kill_run.py", asked.text, "--steps", steps, "--kills", "0", "--whole", whole,
                       "--checkpoint-interval", "5", "--results", self.folder / "results.jsonl", "--", *options]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
            self.assertIn("is of another run", done.stderr)
        self.assertFalse((self.folder / "results.jsonl").exists())


if __name__ == "__main__":
    unittest.main()
