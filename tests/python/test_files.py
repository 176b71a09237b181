"""Files, disks and memory that fail: the cases of file_faults.py, each in a process of its own."""

import os
import subprocess
import sys
import unittest
from pathlib import Path

from file_faults import CASES


class Files(unittest.TestCase):
    """One test for each case, made below."""


def test_of(case):
    def test(self):
        command = [sys.executable, str(Path(__file__).with_name("file_faults.py")), case.__name__]
        # Large blocks come from the system one by one, and go back to it: a limit of memory is met, not memory kept aside.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600, env=environment)
        if done.returncode == 77:
            self.skipTest(done.stdout.strip().removeprefix("skipped: "))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr[-3000:])

    return test


for case in CASES:
    setattr(Files, f"test_{case.__name__}", test_of(case))


if __name__ == "__main__":
    unittest.main()
