"""train_memory.py: what a small model takes in training, all in."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import step_memory
import train_memory


class Memory(unittest.TestCase):
    def setUp(self):
        reason = step_memory.reason_not_to()
        if reason:
            self.skipTest(reason)

    def test_compact_states_and_released_gradients_take_a_quarter_of_the_twin(self):
        # 12.6 million parameters in 4 layers, of which each has 4 bytes of gradients a quarter of the time.
        width, layers = 512, 4
        found = {case: train_memory.measure_apart(case, width, layers) for case in train_memory.CASES}
        each = {case: one["peak_stepping"] / one["linear_parameters"] for case, one in found.items()}
        self.assertEqual({one["linear_parameters"] for one in found.values()}, {12 * 512 * 512 * 4})
        self.assertGreater(each["f32 twin, AdamW"], 16)
        self.assertGreater(each["ternary, AdamW, COMPACT"], 6)
        # 2.3, 40 of 12 x 4 for gradients and floats, 16 of embedding and head, and the process's own.
        self.assertLess(each["ternary, AdamW, COMPACT, gradient_release"], 4.0)
        # What is saved and read is a tensor at a time, of which the largest has a twelfth of the parameters.
        for one in found.values():
            for name in ("peak_saving", "peak_resuming"):
                self.assertLess((one[name] - one["peak_stepping"]) / one["linear_parameters"], 1.0, name)
        # Of Muon that and 40 of 12 x 4 more, beside what the allocator keeps of the memory that its products work in: .5 to 1.2.
        muon = found["ternary, Muon, COMPACT, gradient_release"]
        self.assertLess(muon["resident"] / muon["linear_parameters"], 5.0)
        self.assertLess(each["ternary, Muon, COMPACT, gradient_release"], 6.0)

    def test_what_was_measured_is_not_again(self):
        def main(*more):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                train_memory.main(["--results", str(results), "--models", "small", "twice", *more])
            return printed.getvalue()

        for name, layers in (("small", 1), ("twice", 2)):
            train_memory.MODELS[name] = (64, layers)
            self.addCleanup(train_memory.MODELS.pop, name)
        with tempfile.TemporaryDirectory(prefix="setun-") as folder:
            results = Path(folder, "memory.jsonl")
            self.assertEqual(len(main("--report").splitlines()), 2)
            printed = main("--cases", "ternary, AdamW")
            lines = [json.loads(line) for line in results.read_text().splitlines()]
            self.assertEqual([line["layers"] for line in lines], [1, 2])
            self.assertEqual(lines[1]["linear_parameters"], 12 * 64 * 64 * 2)
            self.assertEqual(main("--report", "--cases", "ternary, AdamW"), printed)

    def test_what_fails_says_why(self):
        with self.assertRaisesRegex(RuntimeError, r"(?s)measuring nothing of .* failed: .*KeyError: 'nothing'"):
            train_memory.measure_apart("nothing", 64, 1)


class Reading(unittest.TestCase):
    def test_a_row(self):
        found = {"linear_parameters": 100, "resident": 300, "peak_stepping": 400, "peak_making": 500, "peak_saving": 600, "peak_resuming": 700}
        twice = {"linear_parameters": 200, "resident": 500, "peak_stepping": 650}
        cells = train_memory.row("m", "c", found, twice)
        self.assertEqual(cells, ["m, 100", "c", "3.00", "4.00", "5.00", "6.00", "7.00", "2.00", "2.50"])
        self.assertEqual(len(cells), len(train_memory.HEAD))
        self.assertEqual(train_memory.row("m", "c", found, None)[-2:], ["", ""])


if __name__ == "__main__":
    unittest.main()
