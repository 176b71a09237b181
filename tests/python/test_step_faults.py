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

    def test_a_span(self):
        self.assertEqual(step_faults.span([4.5]), "4.50")
        self.assertEqual(step_faults.span([4.5, 3.25, 4.0]), "3.25 to 4.50")
        self.assertEqual(step_faults.span([None, 3.25]), "3.25 to inf")  # a loss that was no number

    def test_steps_of_batches_that_are_none(self):
        run = {"fault_steps": [90, 181], "skipped": [181]}
        self.assertEqual(step_faults.corrupt_steps(Case("ten", True), run), [90, 181])
        self.assertEqual(step_faults.corrupt_steps(Case("ten", True, again=True), run), [90])
        self.assertEqual(step_faults.corrupt_steps(Case("gradient", True), run), [])

    def test_cases_that_are_compared(self):
        case = Case("targets", True, 0.0, "off", again=True, at=60)
        self.assertEqual(case.like("left out", True), Case("left out", True, 0.0, "off", at=60))
        self.assertEqual(case.like("none", False), Case("none", False, 0.0, "off"))
        self.assertEqual([Case(fault, True, again=again).model for fault, again in (("nan", False), ("ten", False), ("ten", True))],
                         ["left out", "ten left out", "none"])

    def test_a_row_of_the_table(self):
        run = {"losses": [*self.CALM[:60], 9.0, *self.CALM[:39]], "fault_steps": [61], "fault_losses": [9.0], "skipped": [61], "undone": [],
               "refused": [], "compared": 1, "differing": [], "weights": "a", "validation_loss": 2.02}
        clean = run | {"fault_steps": [], "fault_losses": [], "validation_loss": 2.0}
        cells = dict(zip(step_faults.HEAD, step_faults.row(Case("targets", True), [run], [clean], [None], [run]), strict=True))
        self.assertEqual([cells[name] for name in step_faults.HEAD[:4]], ["targets", "yes", "1", "cap"])
        self.assertEqual((cells["rolled back to the bit"], cells["spikes over 7 sigma"]), ("1 of 1", "0.00%"))
        self.assertEqual((cells["% from no fault, same guard (mean)"], cells["% from no fault, no guard (mean)"]), ("+1.00", "-"))
        # The same losses of a batch that is none of the corrupt ones are a spike.
        cells = step_faults.row(Case("gradient", True), [run | {"differing": [61]}], [clean], [None], [run | {"weights": "b"}])
        self.assertEqual((cells[7], cells[9], cells[-1]), ("0 of 1", "2.00%", "0 of 1"))

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

    def measure(self, *case, steps=STEPS, **more):
        text = step_faults.step_peers.Text(self.corpus, threads=1, geometry=SMALL)
        return step_faults.measure(text, Case(*case, **more), 1, steps)

    def test_what_is_skipped_is_as_if_it_had_never_been(self):
        left_out = self.measure("left out", True)
        for fault in ("targets", "token", "gradient", "nan", "infinite"):
            found = self.measure(fault, True)
            self.assertEqual((found["fault_steps"], found["skipped"], found["refused"]), ([BAD], [BAD], []), fault)
            self.assertGreater(found["compared"], 0)
            self.assertEqual((found["differing"], found["weights"]), ([], left_out["weights"]), fault)
        found = self.measure("nan", False)
        self.assertEqual((found["refused"], found["compared"], found["differing"]), ([BAD], 1, []))
        found = self.measure("targets", False)
        self.assertEqual((found["skipped"], found["compared"]), ([], 0))
        self.assertNotEqual(found["weights"], left_out["weights"])
        # Of a loss the optimizer knows under the guard alone.
        self.assertEqual(self.measure("infinite", False)["weights"], self.measure("none", False)["weights"])

    def test_ten_faults(self):
        # Of an untrained model a loss says nothing: the first comes after step 50.
        steps = step_faults.ten_steps(2 * STEPS)
        self.assertEqual((steps[0], steps[-1], len(set(steps))), (54, 545, 10))
        left_out, found = (self.measure(fault, True, steps=2 * STEPS) for fault in ("ten left out", "ten"))
        self.assertEqual((left_out["fault_steps"], found["fault_steps"]), (steps, steps))
        # What is skipped in both is no fault.
        self.assertEqual(found["skipped"], sorted([*steps, *left_out["skipped"]]))
        self.assertEqual(found["compared"], 10)
        self.assertEqual((found["differing"], found["weights"]), ([], left_out["weights"]))
        self.assertTrue(all(loss > 2.5 for loss in found["fault_losses"]), found["fault_losses"])

    def test_a_passing_fault_leaves_nothing_behind(self):
        clean = self.measure("none", True, steps=2 * STEPS)
        for fault, count in (("ten", 10), ("gradient", 1), ("nan", 1), ("infinite", 1)):
            found = self.measure(fault, True, again=True, steps=2 * STEPS)
            self.assertEqual((len(found["skipped"]), found["compared"] >= count), (count, True), fault)
            self.assertEqual((found["weights"], found["losses"]), (clean["weights"], clean["losses"]), fault)
            self.assertEqual(found["validation_loss"], clean["validation_loss"])

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
        (step,) = found["fault_steps"]
        self.assertEqual(step % 16, 0)
        self.assertIn(step, found["undone"])
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
        nan = [(line["guard"], line["again"], line["seed"]) for line in lines if line["fault"] == "nan"]
        self.assertEqual(nan, [(guard, again, seed) for seed in (1, 2) for guard, again in ((True, False), (False, False), (True, True))])
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("| nan")]
        for cells in rows[0], rows[2]:
            guarded = dict(zip(step_faults.HEAD, cells, strict=True))
            self.assertEqual((guarded["guard"], guarded["skipped"], cells[-1]), ("yes", "1, 1", "2 of 2"))
        self.assertEqual([cells[0] for cells in rows], ["nan", "nan", "nan, again"])
        self.assertIn("+0.00, +0.00", rows[2][-3])
        self.assertEqual(main("--report"), main("--report", "--faults", "rate"))


if __name__ == "__main__":
    unittest.main()
