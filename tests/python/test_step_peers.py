"""step_peers.py: its AdamW is the trainer's, its methods are those of their papers, its results go on where they stopped."""

import contextlib
import io
import json
import math
import os
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

try:
    import numpy as np

    import step_methods
    import results
    import step_peers
except ImportError:
    np = None

from train_program import ROOT

TEXT = Path(os.environ.get("SETUN_GPU_TEXT") or ROOT / ".." / "shared" / "data" / "tinyshakespeare.txt")
SMALL = {"layers": 1, "width": 32, "heads": 2, "context_length": 16}


def write_corpus(path):
    lines = (f"the {'cat' if i % 3 else 'dog'} sat on the {'mat' if i % 5 else 'hat'}.\n" for i in range(300))
    path.write_text("".join(lines))


@unittest.skipIf(np is None, "NumPy is not installed")
class AgainstTheTrainer(unittest.TestCase):
    """The oracle of the whole measurement: data order, gradients, clipping, schedule and decay are the trainer's."""

    STEPS = 50

    def differences(self, text, rate, seed=2):
        """Of the losses of the first steps: those of AdamW here from those of a trainer."""
        run = step_peers.Run(text, "adamw", rate, seed, self.STEPS)
        options = {"use_adaptive_lr": 0, "quantize_gradients": 0, "n_clusters": 0, "max_steps": self.STEPS, "seed": seed}
        options["quantize_weights"] = text.geometry.get("quantize_weights", 1)
        model = text.model(seed)
        trainer = text.setun.Trainer(model, text.dataset, batch_size=step_peers.BATCH, learning_rate=rate, **options)
        found = []
        for _ in range(self.STEPS):
            self.assertTrue(run.step())
            found.append(abs(run.losses[-1] - trainer.step().loss))
        # The first loss has no update in it; the others do.
        self.assertLess(run.losses[-1], run.losses[0] - 0.1)
        self.assertLess(abs(text.validation(run.model) - trainer.evaluate()), 0.02)
        return found

    def test_adamw_is_the_trainers(self):
        """On the scalar row NumPy does the same operations in the same order; elsewhere the last bits differ."""
        with tempfile.TemporaryDirectory(prefix="setun-") as folder:
            corpus = Path(folder, "corpus.txt")
            write_corpus(corpus)
            for rate in (1e-3, 1e-2):
                found = self.differences(step_peers.Text(corpus, geometry=SMALL, backend="scalar"), rate)
                self.assertLess(max(found), 1e-3, f"at {rate}")

    def test_adamw_is_the_trainers_at_size_s(self):
        if not TEXT.exists():
            self.skipTest(f"{TEXT} is not there")
        twin = step_peers.Text(TEXT, geometry=step_peers.SIZE_S | {"quantize_weights": 0})
        for rate in (1e-3, 1e-2):
            self.assertLess(max(self.differences(twin, rate)), 1e-3, f"the twin at {rate}")
        # A last bit turns a trit over now and then, and the losses go apart.
        self.assertLess(sum(self.differences(step_peers.Text(TEXT), 1e-3)) / self.STEPS, 1e-3)


@unittest.skipIf(np is None, "NumPy is not installed")
class Methods(unittest.TestCase):
    SHAPES, LINEAR = [(3, 4), (4,), (6, 2), (5, 4)], [True, False, True, False]

    def setUp(self):
        self.random = np.random.default_rng(1)
        self.space = step_methods.Space(self.SHAPES, self.LINEAR, 0.1)
        self.w = self.random.standard_normal(self.space.size).astype(np.float32)
        self.gradients = self.random.standard_normal((7, self.space.size)).astype(np.float32)
        self.decay = self.space.decay.astype(np.float64)

    def stepped(self, name, rate=0.01):
        method, w = step_methods.METHODS[name](self.space), self.w.copy()
        for t, g in enumerate(self.gradients, 1):
            method.step(w, g.copy(), rate, t)
        return method.weights(w)

    def check(self, name, formula, rate=0.01):
        """`formula(w, g, t, state)` is a step in f64, as the paper has it."""
        w, state = self.w.astype(np.float64), {}
        for t, g in enumerate(self.gradients.astype(np.float64), 1):
            w = formula(w, g, t, state)
        np.testing.assert_allclose(self.stepped(name, rate), state.get("x", w), rtol=2e-4, atol=2e-6)

    def moments(self, g, t, state, beta1, beta2):
        m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
        v = state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g * g
        return m, v / (1 - beta2**t)

    def test_adamw_and_with_nesterov(self):
        def adamw(w, g, t, state):
            m, v = self.moments(g, t, state, 0.9, 0.99)
            return w - 0.01 * (m / (1 - 0.9**t) / (np.sqrt(v) + 1e-8) + self.decay * w)

        def nadamw(w, g, t, state):
            m, v = self.moments(g, t, state, 0.9, 0.999)
            ahead = 0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
            return w - 0.01 * (ahead / (np.sqrt(v) + 1e-8) + self.decay * w)

        self.check("adamw", adamw)
        self.check("nadamw", nadamw)

    def test_lamb(self):
        def lamb(w, g, t, state):
            m, v = self.moments(g, t, state, 0.9, 0.999)
            u, out = m / (1 - 0.9**t) / (np.sqrt(v) + 1e-6) + self.decay * w, w.copy()
            for where, shape in zip(self.space.slices, self.SHAPES):
                trust = np.linalg.norm(w[where]) / np.linalg.norm(u[where]) if len(shape) > 1 else 1
                out[where] -= 0.01 * trust * u[where]
            return out

        self.check("lamb", lamb)

    def test_schedule_free(self):
        def schedule_free(y, g, t, state):
            z, x = state.get("z", y), state.get("x", y)
            v = state["v"] = 0.999 * state.get("v", 0) + 0.001 * g * g
            rate = 0.01 * math.sqrt(1 - 0.999**t) * min(1, t / 100)
            z = state["z"] = z - rate * (g / (np.sqrt(v) + 1e-8) + self.decay * y)
            state["sum"] = state.get("sum", 0) + rate**2
            x = state["x"] = x + rate**2 / state["sum"] * (z - x)
            return 0.1 * z + 0.9 * x

        self.check("schedule_free", schedule_free)

    def test_prodigy(self):
        def prodigy(w, g, t, state):
            beta3, d, start = math.sqrt(0.999), state.get("d", 1e-6), state.setdefault("start", w)
            state["r"] = beta3 * state.get("r", 0) + d / 1e-6 * d * g @ (start - w)
            m = state["m"] = 0.9 * state.get("m", 0) + 0.1 * d * g
            v = state["v"] = 0.999 * state.get("v", 0) + 0.001 * d * d * g * g
            s = state["s"] = beta3 * state.get("s", 0) + d / 1e-6 * d * g
            state["d"] = max(d, state["r"] / np.abs(s).sum())
            return w - d * (m / (np.sqrt(v) + state["d"] * 1e-8) + self.decay * w)

        self.check("prodigy", prodigy, rate=1.0)

    def test_lion(self):
        def lion(w, g, t, state):
            m = state.get("m", np.zeros_like(g))
            state["m"] = 0.99 * m + 0.01 * g
            return w - 0.01 * (np.sign(0.9 * m + 0.1 * g) + self.decay * w)

        self.check("lion", lion)

    def test_muon(self):
        """Newton and Schulz leave the singular vectors as they are, and bring the values near 1."""

        def muon(scale):
            def step(w, g, t, state):
                buffer = state["b"] = 0.95 * state.get("b", 0) + g
                m, v = self.moments(g, t, state, 0.9, 0.95)
                out = w - 0.01 * (m / (1 - 0.9**t) / (np.sqrt(v) + 1e-8) + self.decay * w)
                for where, shape, linear in zip(self.space.slices, self.SHAPES, self.LINEAR):
                    if linear:
                        u, s, vt = np.linalg.svd((g + 0.95 * buffer)[where].reshape(shape), full_matrices=False)
                        s = s / np.linalg.norm(s)
                        for _ in range(5):
                            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
                        self.assertTrue(np.all(np.abs(s - 1) < 0.5), s)
                        o = (u * s @ vt).ravel()
                        out[where] = w[where] - 0.01 * (scale(o, shape) * o + self.decay[where] * w[where])
                return out

            return step

        self.check("muon", muon(lambda o, shape: 0.2 * math.sqrt(max(shape))))
        self.check("muon_rms", muon(lambda o, shape: 1 / math.sqrt(np.mean(o * o))))

    def test_schedules(self):
        cosine = [step_methods.factor("cosine", t, 1100) for t in (1, 50, 100, 600, 1100)]
        np.testing.assert_allclose(cosine, [0.01, 0.5, 1, 0.55, 0.1])
        self.assertEqual(step_methods.factor(step_methods.ScheduleFree.schedule, 7, 10), 1)
        prodigy = [step_methods.factor(step_methods.Prodigy.schedule, t, 10) for t in (1, 6)]
        np.testing.assert_allclose(prodigy, [1, 0.5])


@unittest.skipIf(np is None, "NumPy is not installed")
class Results(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        self.text, self.results = self.folder / "corpus.txt", self.folder / "results" / "peers.jsonl"
        write_corpus(self.text)
        kept = step_peers.Text.__init__.__defaults__
        step_peers.Text.__init__.__defaults__ = (kept[0], SMALL, *kept[2:])
        self.addCleanup(setattr, step_peers.Text.__init__, "__defaults__", kept)

    def run_peers(self, *more):
        printed = io.StringIO()
        arguments = [str(self.text), "--results", str(self.results), "--steps", "60", "--seeds", "1", "2", "--threads", "1"]
        with contextlib.redirect_stdout(printed):
            step_peers.main([*arguments, *map(str, more)])
        return printed.getvalue()

    def lines(self):
        return [json.loads(line) for line in self.results.read_text().splitlines()]

    def test_files_of_results_are_json(self):
        path = self.results.with_name("plain.jsonl")
        results.append(path, {"a": math.nan, "b": [math.inf, 1.5], "c": {"d": -math.inf}, "e": None, "f": 3})
        self.assertEqual(results.load(path), [{"a": None, "b": [None, 1.5], "c": {"d": None}, "e": None, "f": 3}])
        refuse = lambda constant: self.fail(f"{constant} is no JSON")
        for path in sorted((ROOT / "tests" / "results").glob("*.jsonl")):
            for line in path.read_text().splitlines():
                json.loads(line, parse_constant=refuse)

    def test_a_sweep_goes_on_where_it_stopped(self):
        printed = self.run_peers("--methods", "adamw", "--rates", "1e-3", "3e-2")
        self.assertEqual([(r["seed"], r["lr"]) for r in self.lines()], [(1, 1e-3), (1, 3e-2), (2, 1e-3), (2, 3e-2)])
        for result in self.lines():
            self.assertFalse(result["diverged"])
            self.assertLess(result["validation_loss"], result["untrained_loss"])
            self.assertTrue(result["commit"])
            self.assertEqual((result["steps_done"], result["threads"]), (60, 1))
        self.assertRegex(printed, "adamw +0.03 ")
        # A run was killed while it wrote its line: what is whole stays, the rest is done again.
        kept = self.results.read_bytes()
        self.results.write_bytes(kept[:-20])
        self.run_peers("--methods", "adamw", "--rates", "1e-3", "3e-2")
        whole = [line for line in self.results.read_text().splitlines() if line.endswith("}")]
        self.assertEqual(len(whole), 4)
        again, before = json.loads(whole[-1]), json.loads(kept.splitlines()[-1])
        self.assertEqual(again["validation_loss"], before["validation_loss"], "the same run gives the same loss")
        # Another method, and nothing of the first is repeated.
        printed = self.run_peers("--methods", "adamw", "lion", "--rates", "1e-3")
        self.assertEqual(printed.count("seed 1"), 1)

    def test_runs_of_the_trainer_stand_beside_them(self):
        self.run_peers("--methods", "adamw", "--rates", "1e-3")
        digest, trainer = step_peers.Text(self.text).digest, self.folder / "runs.jsonl"
        run = {"text": digest, "size": "S", "f32": False, "steps": 60, "failure": None}
        exact = {"radius_mode": "exact"}
        for options, loss in [({"learning_rate": 1e-3}, 1.5), ({"radius": 1e-3}, 1.25), ({}, 1), ({"learning_rate": 1e-3, "method": "muon"}, 1.125)]:
            for seed in (1, 2):
                results.append(trainer, run | {"seed": seed, "options": exact | options, "validation_loss": loss})
        results.append(trainer, run | {"seed": 1, "options": {"learning_rate": 1e-3}, "validation_loss": 1})
        results.append(trainer, run | {"seed": 1, "steps": 70, "options": exact | {"learning_rate": 1e-3}, "validation_loss": 1})
        printed = self.run_peers("--methods", "adamw", "--rates", "1e-3", "--trainer", trainer, "--report")
        rows = [line for line in printed.splitlines() if line.startswith("Setun")]
        for row, loss in zip(rows, ["1.5000", "1.1250", "1.2500"], strict=True):
            self.assertIn(f"0.001  {loss}  {loss}, {loss} ", row)
        self.assertEqual(printed.count("adamw"), 1)

    def test_every_method_trains(self):
        rates = {"schedule_free": 3e-2, "prodigy": 1, "lion": 1e-3}
        text = step_peers.Text(self.text)
        for name in step_methods.METHODS:
            run = step_peers.Run(text, name, rates.get(name, 1e-2), 1, 120)
            loss = run.to_end()
            self.assertIsNotNone(loss, name)
            self.assertLess(loss, 0.8 * text.untrained_loss(1), name)

    def test_a_run_that_diverges_counts_as_untrained(self):
        printed = self.run_peers("--methods", "adamw", "--rates", "1e-3", "1e39")
        diverged = [result for result in self.lines() if result["lr"] == 1e39]
        self.assertTrue(all(r["diverged"] and r["validation_loss"] is None and r["steps_done"] < 60 for r in diverged))
        good = [r["validation_loss"] for r in self.lines() if r["lr"] == 1e-3]
        untrained = [r["untrained_loss"] for r in self.lines() if r["lr"] == 1e-3]
        best, worst = sum(good) / 2, sum(untrained) / 2
        row = next(line.split() for line in printed.splitlines() if line.startswith("adamw"))
        self.assertEqual(row[:3], ["adamw", "0.001", f"{best:.4f}"])
        self.assertEqual(row[5:7], [f"{worst:.4f}", f"{(best + worst) / 2 - best:.4f}"])
        picture = xml.etree.ElementTree.fromstring(self.results.with_suffix(".svg").read_text())
        self.assertIn("adamw", "".join(picture.itertext()))


if __name__ == "__main__":
    unittest.main()
