"""step_faults.py: what it counts as a spike, what it compares, and a small run of every kind of fault."""

import contextlib
import io
import json
import math
import tempfile
import unittest
from pathlib import Path

try:
    import numpy as np

    import step_faults
    from step_faults import Case
    from test_step_peers import SMALL, write_corpus
except ImportError:
    np = None

# Enough for a loss that falls no more: while it does, the deviation of the last ones is that of the fall.
STEPS = 300
BAD = 180


@unittest.skipIf(np is None, "NumPy is not installed")
class Functions(unittest.TestCase):
    #: A mean of 2 and a deviation of about .1.
    CALM = [2.1, 1.9] * 50

    def test_spikes(self):
        self.assertEqual(step_faults.spikes([]), (0.0, None))
        self.assertEqual(step_faults.spikes(self.CALM[:50]), (0.0, None))
        share, worst = step_faults.spikes(self.CALM)
        self.assertEqual(share, 0)
        self.assertLess(worst, 1)
        # 7 deviations of the 50 before, whose own is sqrt(50 / 49) / 10.
        deviation = 0.1 * math.sqrt(50 / 49)
        for above, expected in ((6.99, 0), (7.01, 1)):
            share, worst = step_faults.spikes([*self.CALM[:50], 2 + above * deviation])
            self.assertEqual(share, expected)
            self.assertAlmostEqual(worst, above, places=6)
        # One of 50 that are counted; those after it are below the mean that it raised.
        self.assertEqual(step_faults.spikes([*self.CALM[:70], 9.0, *self.CALM[:29]])[0], 1 / 50)

    def test_losses_that_are_no_part_of_it(self):
        losses = [*self.CALM[:60], 9.0, *self.CALM[:39]]
        self.assertGreater(step_faults.spikes(losses)[0], 0)
        self.assertEqual(step_faults.spikes(losses, corrupt=[61]), step_faults.spikes(self.CALM[:60] + self.CALM[:39]))
        self.assertEqual(step_faults.spikes([*self.CALM, None]), step_faults.spikes(self.CALM))

    def test_losses_without_a_deviation(self):
        self.assertEqual(step_faults.spikes([1.0] * 60), (0.0, 0.0))
        self.assertEqual(step_faults.spikes([1.0] * 50 + [1.1]), (1.0, math.inf))
        self.assertEqual(step_faults.spikes(self.CALM[:50] + [math.nan]), (1.0, math.inf))

    def test_differences(self):
        self.assertAlmostEqual(step_faults.from_clean(2.02, 2.0), 1)
        self.assertTrue(math.isnan(step_faults.from_clean(None, 2.0)))
        self.assertEqual(step_faults.percents([1.0, -0.5]), "+1.00, -0.50 (+0.25 ± 0.75)")
        self.assertEqual(step_faults.percents([0.123]), "+0.12")
        self.assertEqual(step_faults.percents([1.0, math.nan, 3.0]), "+1.00, -, +3.00 (+2.00 ± 1.00)")

    def test_a_checkpoint_is_read(self):
        header = json.dumps({"__metadata__": {"steps": "3"}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                             "b": {"dtype": "I8", "shape": [2], "data_offsets": [4, 6]}}).encode()
        with tempfile.TemporaryDirectory(prefix="setun-") as folder:
            path = Path(folder, "optimizer")
            path.write_bytes(len(header).to_bytes(8, "little") + header + b"abcdef")
            self.assertEqual(step_faults.read_checkpoint(path), ({"a": b"abcd", "b": b"ef"}, {"steps": "3"}))


@unittest.skipIf(np is None, "NumPy is not installed")
class Runs(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        self.addCleanup(scratch.cleanup)
        self.corpus, self.results = Path(scratch.name, "corpus.txt"), Path(scratch.name, "results", "faults.jsonl")
        write_corpus(self.corpus)

    def measure(self, *case):
        text = step_faults.step_peers.Text(self.corpus, threads=1, geometry=SMALL)
        return step_faults.measure(text, Case(*case), 1, STEPS)

    def test_what_is_skipped_is_as_if_it_had_never_been(self):
        left_out = self.measure("left out", True)
        for fault in step_faults.SKIPPED:
            found = self.measure(fault, True)
            self.assertEqual((found["fault_step"], found["skipped"], found["refused"]), (BAD, [BAD], []), fault)
            self.assertGreater(found["compared"], 0)
            self.assertEqual((found["differing"], found["weights"]), ([], left_out["weights"]), fault)
        found = self.measure("nan", False)
        self.assertEqual((found["refused"], found["compared"], found["differing"]), ([BAD], 1, []))
        found = self.measure("targets", False)
        self.assertEqual((found["skipped"], found["compared"]), ([], 0))
        self.assertNotEqual(found["weights"], left_out["weights"])

    def test_a_difference_is_seen(self):
        text = step_faults.step_peers.Text(self.corpus, threads=1, geometry=SMALL)
        run = step_faults.Run(text, Case("none", False), 1, STEPS)
        run.step()
        kept = step_faults.Kept(run)
        self.assertTrue(kept == step_faults.Kept(run))
        run.weights[0].flat[3] = np.nextafter(run.weights[0].flat[3], np.float32(9))
        self.assertFalse(kept == step_faults.Kept(run))

    def test_a_step_that_is_undone(self):
        found = self.measure("rate", True, 1.0, "off")
        self.assertEqual(found["fault_step"] % 16, 0)
        self.assertIn(found["fault_step"], found["undone"])
        self.assertEqual(found["differing"], [])

    def test_a_series_goes_on_where_it_stopped_and_is_reported(self):
        def main(*more):
            printed = io.StringIO()
            asked = [str(self.corpus), "--results", str(self.results), "--steps", str(STEPS), "--seeds", "1", "2"]
            with contextlib.redirect_stdout(printed):
                step_faults.main([*asked, *more], geometry=SMALL)
            return printed.getvalue()

        main("--faults", "none")
        kept = self.results.read_bytes()
        printed = main("--faults", "none", "nan", "left out")
        self.assertTrue(self.results.read_bytes().startswith(kept))
        lines = [json.loads(line) for line in self.results.read_text().splitlines()]
        self.assertTrue(all(len(line["losses"]) == STEPS and line["commit"] for line in lines))
        # Without the guard for the first seed alone.
        self.assertEqual([(line["guard"], line["seed"]) for line in lines if line["fault"] == "nan"], [(True, 1), (False, 1), (True, 2)])
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("| nan")]
        guarded = dict(zip(step_faults.HEAD, rows[0]))
        self.assertEqual((guarded["guard"], guarded["skipped"], guarded["same weights as left out"]), ("yes", "1, 1", "yes"))
        self.assertEqual(main("--report"), main("--report", "--faults", "rate"))


if __name__ == "__main__":
    unittest.main()
