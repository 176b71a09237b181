"""Ctrl-C in Python: a real SIGINT stops a training run at once, wherever it is, and leaves it resumable, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from train_program import hear_interrupts

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "c_examples" / "python"
LIMIT = 2.0  # seconds; half of one is what is promised on a machine that has time for us

# Trains as it is told and prints what happened. A run that was interrupted says how long its own end took.
PROGRAM = """
import json, sys, time
import setun

text, out, resume = sys.argv[1], sys.argv[2], sys.argv[3] == "resume"
geometry, options, call = (json.loads(argument) for argument in sys.argv[4:7])
tokenizer = setun.Tokenizer.train("byte")
dataset = setun.Dataset.open(text, tokenizer)
if call == "train":
    print("ready", flush=True)
    try:
        setun.train(text, model=geometry, checkpoint_dir=out, **options)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    sys.exit()
trainer = setun.Trainer(setun.Model(**geometry), dataset, tokenizer, lambda m: print("step", m.step, flush=True),
                        checkpoint_dir=out, **options)
if resume:
    trainer.resume(out)
print("ready", flush=True)
try:
    trainer.run()
except KeyboardInterrupt:
    print("interrupted after", trainer.metrics.step, flush=True)
    if call == "twice":
        trainer.run()  # the same trainer goes on
"""

GEOMETRY = {"layers": 2, "width": 64, "heads": 2, "context_length": 64, "seed": 3}
OPTIONS = {"max_steps": 60, "batch_size": 8, "warmup_steps": 5, "log_interval": 5, "evaluation_interval": 3}


class Interrupt(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        self.text = self.folder / "corpus.txt"
        self.text.write_bytes((ROOT / "include" / "setun.h").read_bytes())

    def start(self, out, resume="", geometry=GEOMETRY, options=OPTIONS, call=""):
        command = [sys.executable, "-c", PROGRAM, self.text, self.folder / out, resume]
        command += [json.dumps(argument) for argument in (geometry, options, call)]
        environment = {**os.environ, "PYTHONPATH": str(PYTHON)}
        return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment,
                                preexec_fn=hear_interrupts)

    def interrupt(self, process, after, wait=0.0, until="interrupted"):
        """Waits for a line that begins with `after`, and some seconds; interrupts, and says how long it took to be told."""
        for line in process.stdout:
            if line.startswith(after):
                break
        else:
            self.fail(f"the program ended without {after!r}")
        time.sleep(wait)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        for line in process.stdout:
            if line.startswith(until):
                return time.monotonic() - sent, line
        self.fail(f"the program ended without {until!r}")

    def finish(self, process):
        printed = process.communicate(timeout=600)[0]
        self.assertEqual(process.returncode, 0, printed)

    def results(self, out):
        last = self.folder / out / f"step-{OPTIONS['max_steps']:08}"
        files = [(last / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]
        lines = [json.loads(line) for line in (self.folder / out / "metrics.jsonl").read_text().splitlines()]
        clock = {"tokens_per_second", "elapsed_seconds", "remaining_seconds"}
        return files, [{name: line[name] for name in line if name not in clock} for line in lines]

    def test_a_run_that_is_interrupted_again_and_again_ends_as_one_that_was_not(self):
        self.finish(self.start("whole"))
        times, resume = [], ""
        for step in (1, 14, 30, 43):
            process = self.start("broken", resume)
            took, line = self.interrupt(process, f"step {step}\n")
            times.append(took)
            self.finish(process)
            self.assertGreaterEqual(int(line.split()[-1]), step)
            resume = "resume"
        self.finish(self.start("broken", resume))
        files, lines = self.results("broken")
        whole_files, whole_lines = self.results("whole")
        self.assertEqual(lines, whole_lines)
        self.assertTrue(files == whole_files, "the last checkpoints differ")
        print(f"\n  Ctrl-C took effect after {', '.join(f'{took:.2f}' for took in times)} s")
        self.assertLess(max(times), LIMIT)

    def test_the_same_trainer_goes_on(self):
        self.finish(self.start("whole"))
        process = self.start("broken", call="twice")
        self.interrupt(process, "step 10\n")
        self.finish(process)
        self.assertEqual(self.results("broken")[1], self.results("whole")[1])
        self.assertTrue(self.results("broken")[0] == self.results("whole")[0], "the last checkpoints differ")

    def test_inside_a_step_that_takes_long(self):
        # A step of some seconds: it is given up in the middle.
        geometry = {"layers": 6, "width": 384, "heads": 6, "context_length": 256, "vocabulary": 256}
        process = self.start("large", geometry=geometry, options={"max_steps": 10, "batch_size": 8})
        took, line = self.interrupt(process, "ready", 0.5)
        self.finish(process)
        print(f"\n  inside a step of 6 x 384, context 256, batch 8: {took:.2f} s")
        self.assertLess(took, LIMIT)

    def test_inside_an_evaluation_that_takes_long(self):
        options = {"max_steps": 5, "batch_size": 8, "evaluation_interval": 1}
        self.text.write_bytes(self.text.read_bytes() * 40)  # a validation part of 4000 windows
        process = self.start("evaluation", geometry={**GEOMETRY, "layers": 4, "width": 128}, options=options)
        # The first step is over, its evaluation is not.
        took, line = self.interrupt(process, "ready", 0.7)
        self.finish(process)
        print(f"\n  inside an evaluation: {took:.2f} s, {line.strip()}")
        self.assertLess(took, LIMIT)

    def test_the_one_call_pipeline(self):
        process = self.start("train", call="train")
        took, _ = self.interrupt(process, "ready")
        self.finish(process)
        self.assertLess(took, LIMIT)


class Script(unittest.TestCase):
    """c_examples/python/train.py as its users run it."""

    SMALL = "--steps 40 --layers 1 --width 32 --heads 2 --context 32 --batch 4 --warmup 5".split()

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        self.addCleanup(scratch.cleanup)
        self.out = Path(scratch.name, "run")

    def command(self, *more):
        text = str(ROOT / "include" / "setun.h")
        return [sys.executable, str(PYTHON / "train.py"), text, "--out", str(self.out), *self.SMALL, *more]

    def run_script(self, *more, status=0):
        done = subprocess.run(self.command(*more), capture_output=True, text=True, errors="replace", timeout=600)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_the_whole_way(self):
        printed = self.run_script()
        self.assertIn("200 tokens that model.safetensors writes", printed)
        self.assertIn("step     40/40", printed)
        picture = self.out / "loss.png"
        self.assertTrue(picture.exists() or "matplotlib is not installed" in printed, printed)
        refused = self.run_script(status=1)
        self.assertIn("--resume", refused)
        self.assertIn("from step 40", self.run_script("--resume"))
        self.assertIn("SETUN_ERR_ARGUMENT", self.run_script("--resume", "--seed", "7", status=1))

    def test_ctrl_c_and_resume(self):
        self.run_script()
        whole = (self.out / "model.safetensors").read_bytes()
        self.out = self.out.with_name("broken")
        process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, text=True, errors="replace",
                                   preexec_fn=hear_interrupts)
        for line in process.stdout:
            if line.startswith("step "):
                break
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=600)[0]
        self.assertEqual(process.returncode, 130, printed)
        self.assertIn("--resume goes on", printed)
        self.run_script("--resume")
        self.assertEqual((self.out / "model.safetensors").read_bytes(), whole)


if __name__ == "__main__":
    unittest.main()
