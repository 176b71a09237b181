"""Every function of include/setun.h, used in every wrong way: see wrong_use.py. Each in a process of its own, so that a
crash is a failure with a name."""

import subprocess
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from right_use import BUSY, HEADER, MAKE, TABLE

LIMIT = 300  # seconds, for a function that takes two on an idle machine


def wrong_use(name):
    command = [sys.executable, str(Path(__file__).with_name("wrong_use.py")), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT)
    except subprocess.TimeoutExpired as expired:
        return f"{name} hangs {last_line(expired.stderr or b'')}"
    if done.returncode < 0:
        return f"{name} ends the process with signal {-done.returncode} {last_line(done.stderr)}"
    return "" if done.returncode == 0 else done.stdout + done.stderr[-2000:]


def last_line(text):
    lines = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text).strip().splitlines()
    return lines[-1] if lines else ""


class WrongUse(unittest.TestCase):
    def test_every_function_and_handle_has_its_entry(self):
        self.assertGreater(len(HEADER.functions), 80)
        self.assertEqual(set(HEADER.functions) - set(TABLE), set(), "add a right call to TABLE in tests/python/right_use.py")
        self.assertEqual(set(TABLE) - set(HEADER.functions), set(), "TABLE in right_use.py has functions that are gone")
        self.assertEqual(HEADER.handles - set(MAKE), set(), "add how it is made to MAKE in right_use.py")
        changed = {
            parameter.base
            for function in HEADER.functions.values()
            for parameter in function.parameters
            if parameter.base in HEADER.handles and parameter.stars == 1 and not parameter.const
            and not function.name.endswith("_free")
        }
        self.assertEqual(changed - set(BUSY), set(), "add how it is kept in use to BUSY in right_use.py")

    def test_every_wrong_use_is_an_error(self):
        with ThreadPoolExecutor(2) as pool:
            for name, failures in zip(HEADER.functions, pool.map(wrong_use, HEADER.functions)):
                with self.subTest(function=name):
                    self.assertEqual(failures, "")


if __name__ == "__main__":
    unittest.main()
