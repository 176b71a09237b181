"""The memory of optimizers: what setun_optimizer_state_bytes says, and what the process has of it."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import step_memory

LARGE = [(4096, 4096)]


class Memory(unittest.TestCase):
    def setUp(self):
        reason = step_memory.reason_not_to()
        if reason:
            self.skipTest(reason)

    def check(self, case, most):
        """At most so many bytes a parameter, all in, and a copy of as many while the guard has one."""
        found = step_memory.measure_apart(case, LARGE)
        said = found["state_bytes"] + found["weight_bytes"]
        self.assertLessEqual(said / found["parameters"], most)
        # Of the process's own, beside: under a megabyte.
        for name, times in (("grown", 1), ("kept", 2), ("left", 1)):
            self.assertLess(abs(found[name] / (times * said) - 1), 0.04, f"{name} of {case}: {found}")
        self.assertLess(found["peak_stepping"], 1.05 * said)
        self.assertLess(found["peak_checking"], 2.05 * said)

    def test_compact_parameters_take_little_more_than_two_bytes(self):
        self.check("compact", 2.2)

    def test_the_others_take_what_they_say(self):
        self.check("f32", 12.001)
        self.check("int8", 6.04)

    def test_what_was_measured_is_not_again(self):
        def main(*more):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                step_memory.main(["--results", str(results), "--models", "small", *more])
            return printed.getvalue()

        step_memory.MODELS["small"] = [(64, 64), (64,)]
        self.addCleanup(step_memory.MODELS.pop, "small")
        with tempfile.TemporaryDirectory(prefix="setun-") as folder:
            results = Path(folder, "results", "memory.jsonl")
            self.assertEqual(len(main("--report").splitlines()), 2)
            main("--cases", "int8")
            kept = results.read_bytes()
            printed = main("--cases", "int8", "f32")
            self.assertTrue(results.read_bytes().startswith(kept))
            lines = [json.loads(line) for line in results.read_text().splitlines()]
            self.assertEqual([line["case"] for line in lines], ["int8", "f32"])
            # Of floats: m and v of the matrix and of the vector, and the caller's.
            self.assertEqual([lines[1][name] for name in ("state_bytes", "weight_bytes", "parameters")], [8 * 4160, 4 * 4160, 4160])
            self.assertEqual(main("--report", "--cases", "int8", "f32"), printed)

    def test_what_fails_says_why(self):
        with self.assertRaisesRegex(RuntimeError, r"(?s)measuring nothing of .* failed: .*KeyError: 'nothing'"):
            step_memory.measure_apart("nothing", [(64, 64)])


class Reading(unittest.TestCase):
    def test_of_proc(self):
        self.assertEqual(step_memory.kilobytes("\t  12 kB"), 12288)
        with self.assertRaisesRegex(ValueError, "not in kB"):
            step_memory.kilobytes("12 MB")

    def test_a_row(self):
        found = {"parameters": 1000, "state_bytes": 2000, "weight_bytes": 4000, "grown": 6100, "peak_adding": 1, "peak_stepping": 6200,
                 "kept": 12_000, "peak_checking": 12_345, "left": 6000}
        cells = step_memory.row("matrix", "int8", found)
        self.assertEqual(cells, ["matrix, 1,000", "int8", "2.000", "6.000", "6.100", "0.001", "6.200", "12.000", "12.345", "6.000"])
        self.assertEqual(len(cells), len(step_memory.HEAD))


if __name__ == "__main__":
    unittest.main()
