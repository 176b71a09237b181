"""Fifty runs that checkpoint after every step are killed, each at a random moment: there is always a checkpoint that loads,
and the run that goes on from it ends with the very bytes of one that was never killed."""

import random
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from kill_run import FILES, checkpoints
from train_program import PROGRAM

KILLS = 50
STEPS = 120
SMALL = "--layers 1 --width 16 --heads 2 --context 8 --batch 2 --seed 5 --threads 1 --sample 0 --quiet".split()


class Kill(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="setun-kill-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.text = self.folder / "text.txt"
        self.text.write_text("the quick brown fox jumps over the lazy dog. " * 20, encoding="utf-8")

    def command(self, out, *more):
        program = [PROGRAM, "--text", self.text, "--out", out, "--steps", STEPS, "--checkpoint-interval", 1, *SMALL]
        return [*map(str, program), *more]

    def start(self, out):
        resume = ["--resume"] if checkpoints(out) else []
        if not resume:
            shutil.rmtree(out, ignore_errors=True)
        return subprocess.Popen(self.command(out, *resume), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def killed(self, out, moment):
        """Starts or resumes the run and kills it: after so many new checkpoints, and so many milliseconds more. False when
        it was over before."""
        more, delay = moment.choice([0, 0, 1, 2, 3, 5]), moment.random() * 0.03
        before = len(checkpoints(out)) and checkpoints(out)[-1]
        process = self.start(out)
        end = time.monotonic() + 120
        while process.poll() is None and checkpoints(out)[-1:] < [before + more] and more > 0:
            self.assertLess(time.monotonic(), end, "the run does not get on")
        time.sleep(delay)
        newest = checkpoints(out)[-1:]
        process.kill()
        errors = process.communicate()[1]
        if process.returncode == 0:
            return False
        self.assertEqual(process.returncode, -9, errors)
        self.assertGreaterEqual(checkpoints(out)[-1:], newest, "a checkpoint that was there is gone")
        return True

    def finished(self, out):
        done = subprocess.run(self.command(out, "--resume"), capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [(out / f"step-{STEPS:08}" / name).read_bytes() for name in FILES]

    def test_fifty_kills_lose_nothing(self):
        whole = self.folder / "whole"
        subprocess.run(self.command(whole), check=True, stdout=subprocess.DEVNULL)
        expected = [(whole / f"step-{STEPS:08}" / name).read_bytes() for name in FILES]
        moment, kills, run, half_written = random.Random(50), 0, 0, 0
        while kills < KILLS:
            out = self.folder / f"run{run}"
            while kills < KILLS and self.killed(out, moment):
                kills += 1
                half_written += any(path.name.startswith(".") for path in out.glob(".*"))
            self.assertEqual(self.finished(out), expected, f"run {run}, after {kills} kills")
            left = [path.name for path in out.iterdir() if path.name.startswith(".")]
            self.assertEqual(left, [])
            run += 1
        self.assertGreater(half_written, 0, "no kill was in the middle of a checkpoint: the moments are not random enough")


if __name__ == "__main__":
    unittest.main()
