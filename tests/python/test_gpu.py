"""tests/gpu.sh, as far as that goes without a GPU: what it gathers, what it says, and two of its steps on the emulated driver."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from train_program import ROOT

SCRIPT = ROOT / "tests" / "gpu.sh"
DRIVER = ROOT / "target" / "emulate"


def run(*arguments, **environment):
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=300, env={**os.environ, **environment})


class Gpu(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name) / "gpu"

    def test_where_nothing_was_built_it_says_what_to_do(self):
        done = run(SETUN_GPU_FOLDER=str(self.folder))
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("run tests/gpu.sh build", done.stderr)
        done = run("no such thing")
        self.assertEqual(done.returncode, 2)
        self.assertIn("tests/gpu.sh build", done.stdout)

    def test_steps_run_on_the_emulated_driver(self):
        if not (DRIVER / "libcuda.so.1").exists():
            self.skipTest("no emulated driver: cargo test --lib makes it")
        text = self.folder.parent / "text.txt"
        text.write_text("".join(f"the {'cat' if i % 3 else 'dog'} sat on the mat.\n" for i in range(400)), encoding="utf-8")
        environment = {"SETUN_GPU_FOLDER": str(self.folder), "SETUN_GPU_TINY": "1", "SETUN_GPU_STEPS": "first kernels clusters",
                       "LD_LIBRARY_PATH": str(DRIVER)}
        # No step here runs the tests of the library: any program will do.
        done = run("gather", "/bin/true", ROOT / "target/release/libsetun.so", ROOT / "c_examples/build", text, **environment)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual((self.folder / "tinyshakespeare.txt").read_bytes(), text.read_bytes())
        done = run(**environment)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        table = done.stdout.split("==================== table ====================")[1]
        self.assertIn("nothing was wrong", table)
        self.assertRegex(table, r"first loss, and the same bits twice +ok")
        self.assertRegex(table, r"speed of every kernel +ok")
        self.assertRegex(table, r"k-means beside PyTorch +(ok|skipped)")
        self.assertEqual((self.folder / "gpu.log").read_text(encoding="utf-8"), done.stdout)


if __name__ == "__main__":
    unittest.main()
