"""recipe_runs.py: what its files are measured to be, on a few steps of a small model."""

import json
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

from train_program import ROOT

TEXT = ROOT / "include" / "setun.h"


class RecipeRuns(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        self.addCleanup(scratch.cleanup)
        self.results = Path(scratch.name) / "runs.jsonl"

    def run_with(self, *arguments, status=0):
        command = [sys.executable, ROOT / "tests/python/recipe_runs.py", TEXT, "--tokenizer", "byte", "--size", "XS", "--steps", "20",
                   "--threads", "1", "--results", self.results, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr, [json.loads(line) for line in self.results.read_text().splitlines()]

    def test_every_export_is_a_file_with_the_loss_of_the_model(self):
        _, [ternary] = self.run_with()
        printed, [_, twin] = self.run_with("--f32")
        _, [*_, few] = self.run_with("--f32", "--eval-windows", "7")
        self.assertAlmostEqual(few["files"]["f32"][1], few["validation_loss"], delta=1e-9)
        self.assertNotEqual(few["validation_loss"], twin["validation_loss"])
        self.assertIsNone(ternary["failure"] or twin["failure"])
        # What keeps every bit has the trainer's loss; what rounds, one near it.
        files = twin["files"]
        self.assertAlmostEqual(files["f32"][1], twin["validation_loss"], delta=1e-9)
        sizes = [files[name][0] for name in ("f32", "f16", "256 entries", "16 entries")]
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertLess(sizes[3], 0.2 * sizes[0])
        self.assertGreater(sizes[0], 4 * twin["parameters"])
        for run in (ternary, twin):
            for name, (_, loss) in run["files"].items():
                self.assertAlmostEqual(loss, run["validation_loss"], delta=0.2 if "16 entries" in name else 0.01)
        self.assertLess(max(size for size, _ in ternary["files"].values()), 0.25 * sizes[0])
        self.assertIn("16 entries", printed)
        again, runs = self.run_with("--f32")
        self.assertEqual((again, len(runs)), (printed, 3))
        figure = self.results.with_suffix(".svg")
        reported, _ = self.run_with("--report", "--figure", figure)
        self.assertIn(f"{twin['validation_loss']:.4f}", reported)
        self.assertIn("no runs with", self.run_with("--report", "--figure", figure, "--eval-windows", "5", status=1)[0])
        words = [text.text for text in xml.etree.ElementTree.parse(figure).iter("{http://www.w3.org/2000/svg}text")]
        self.assertTrue({"f32, f16", "ternary, five a byte, 16 entries", "bytes of the file"} <= set(words), words)
        self.run_with("--report", "--figure", figure, "--beside", "again=XS:20")
        self.assertIn("f32, f16, again", figure.read_text())
        for beside, why in (("more=XS:30", "no runs with"), ("more=S:20", "no f32 runs of 20 steps of size S"), ("more", "--beside is")):
            status = 2 if beside == "more" else 1
            self.assertIn(why, self.run_with("--report", "--figure", figure, "--beside", beside, status=status)[0])


if __name__ == "__main__":
    unittest.main()
