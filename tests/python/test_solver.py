"""The solver from Python: minima that are known, constraints, and callbacks that raise, stop and answer nonsense."""

import math
import os
import sys
import threading
import unittest

from header import LIBRARY
from train_program import ROOT

os.environ.setdefault("SETUN_LIBRARY", str(LIBRARY))
sys.path.insert(0, str(ROOT / "c_examples" / "python"))

import setun  # noqa: E402
import solver_cases  # noqa: E402
import solver_problems  # noqa: E402


def bowl(x):
    return (x[0] - 1) ** 2 + 10 * (x[1] - 2) ** 2


def bowl_gradient(x):
    return [2 * (x[0] - 1), 20 * (x[1] - 2)]


class Solver(unittest.TestCase):
    def test_problems_of_every_kind(self):
        names = {"rosenbrock", "wood", "meyer", "hs 24", "hs 55", "hs 62", "hs 86", "hs 112", "hs 118", "hs 119",
                 "beale in a ball and bounds"}
        cases = [case for case in solver_cases.cases() if case.name in names]
        self.assertEqual(len(cases), len(names))
        for case in cases:
            for products in True, False:
                with self.subTest(case=case.name, products=products):
                    x, report, counts = solver_problems.setun_run(setun, case, products)
                    self.assertLessEqual(case.error(report.f), 1e-8)
                    self.assertEqual(counts, [report.objectives, report.gradients, report.products])
                    self.assertAlmostEqual(case.objective(x), report.f, delta=1e-12 * abs(report.f))

    def test_constraints_and_progress(self):
        problem = setun.Problem(2, bowl, bowl_gradient)
        self.assertLess(problem.solve([9, 9]).report.f, 1e-12)
        problem.bounds(upper=[0.5, math.inf])
        problem.inequalities([1, 1], upper=[1])
        heard = []
        found = problem.solve([9.0, 9.0], progress=lambda report: heard.append(report.f), subproblem="exact")
        self.assertAlmostEqual(found.x[0], -9 / 11, delta=1e-9)
        self.assertEqual(len(heard), found.report.iterations)
        problem.ball([0, 0], 0.5)
        x = problem.solve([0, 0]).x
        self.assertAlmostEqual(math.hypot(*x), 0.5, delta=1e-9)
        problem.equalities([1, 0], [0.25])
        self.assertAlmostEqual(problem.solve([0, 0]).x[0], 0.25, delta=1e-12)
        problem.equalities([[1, 0]], [0.25])  # says nothing new
        with self.assertRaisesRegex(setun.Error, "others before it imply") as raised:
            problem.equalities([2, 0], [0.75])
        with self.assertRaisesRegex(TypeError, "lower and upper are both None"):
            problem.inequalities([1, 1])
        self.assertEqual(raised.exception.status, setun.Status.ARGUMENT)
        problem.bounds(lower=[1, 1])
        with self.assertRaisesRegex(setun.Error, "no common point"):
            problem.solve([0, 0])

    def test_an_exception_of_a_callback_goes_on(self):
        def raising(*_):
            raise KeyError("mine")

        cases = [(raising, bowl_gradient, None, {}), (bowl, raising, None, {}), (bowl, bowl_gradient, raising, {}),
                 (bowl, bowl_gradient, None, {"progress": raising})]
        for objective, gradient, product, more in cases:
            problem = setun.Problem(2, objective, gradient, product)
            with self.assertRaisesRegex(KeyError, "mine"):
                problem.solve([9, 9], **more)
        # The handle is as good as before.
        flaky = iter([raising, None])
        problem = setun.Problem(2, lambda x: bowl(x) if next(flaky, None) is None else raising(), bowl_gradient)
        self.assertRaises(KeyError, problem.solve, [9, 9])
        self.assertLess(problem.solve([9, 9]).report.f, 1e-12)

    def test_answers_that_are_none(self):
        wrong = [(lambda x: "text", bowl_gradient, ValueError), (bowl, lambda x: [1.0], ValueError),
                 (bowl, lambda x: 5, TypeError), (lambda x: None, bowl_gradient, TypeError)]
        for objective, gradient, error in wrong:
            self.assertRaises(error, setun.Problem(2, objective, gradient).solve, [9, 9])
        self.assertRaises(TypeError, setun.Problem, 2, bowl, None)
        # A forgotten `return`, and no start.
        for gradient, product, x, name in ((lambda x: None, None, [9, 9], "the gradient"), (bowl_gradient, lambda x, v: None, [9, 9], "the product"),
                                           (bowl_gradient, None, None, "x")):
            with self.assertRaisesRegex(TypeError, f"{name} is a NoneType, expected an array of float64"):
                setun.Problem(2, bowl, gradient, product).solve(x)
        self.assertRaisesRegex(ValueError, "x has 3 elements, expected 2", setun.Problem(2, bowl, bowl_gradient).solve, [1, 2, 3])
        with self.assertRaisesRegex(setun.Error, "objective is NaN"):
            setun.Problem(2, lambda x: math.nan, bowl_gradient).solve([1, 2])

    def test_stopping(self):
        problem = setun.Problem(2, bowl, bowl_gradient)
        stopped = problem.solve([9, 9], progress=lambda report: report.iterations < 2).report
        self.assertEqual((stopped.termination, stopped.iterations), (setun.Termination.STOPPED, 2))
        calls = []
        problem = setun.Problem(2, lambda x: calls.append(1) or (bowl(x) if len(calls) < 3 else False), bowl_gradient)
        self.assertEqual(problem.solve([9, 9]).report.termination, setun.Termination.STOPPED)
        token = setun.Cancel()
        problem = setun.Problem(2, lambda x: token.request() or bowl(x), bowl_gradient)
        with self.assertRaises(setun.Error) as raised:
            problem.solve([9, 9], cancel=token)
        self.assertEqual(raised.exception.status, setun.Status.CANCELLED)

    def test_a_handle_in_use_says_so(self):
        seen = []

        def objective(x):
            try:
                problem.solve([0, 0])
            except setun.Error as error:
                seen.append(error.status)
            return bowl(x)

        problem = setun.Problem(2, objective, bowl_gradient)
        self.assertLess(problem.solve([9, 9]).report.f, 1e-12)
        self.assertEqual(set(seen), {setun.Status.STATE})

    def test_two_problems_on_two_threads(self):
        found = {}

        def work(name, target):
            gradient = lambda x: [2 * (x[0] - target)]
            found[name] = setun.Problem(1, lambda x: (x[0] - target) ** 2, gradient).solve([0]).x[0]

        threads = [threading.Thread(target=work, args=(k, float(k))) for k in range(1, 5)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        for name, x in found.items():
            self.assertAlmostEqual(x, name, delta=1e-8)

    def test_the_subproblem(self):
        step, multiplier, value = setun.trust_region_subproblem([1, 1, 1], [1, 0, 0, 0, 2, 0, 0, 0, 3], 0.5)
        self.assertAlmostEqual(multiplier, 1.7348183, delta=1e-7)
        self.assertAlmostEqual(value, -0.63915578, delta=1e-7)
        self.assertAlmostEqual(math.hypot(*step), 0.5, delta=1e-12)
        _, multiplier, value = setun.trust_region_subproblem([0, 1, 1], [-2, 0, 0, 0, 1, 0, 0, 0, 3], 1)
        self.assertAlmostEqual(multiplier, 2, delta=1e-7)
        self.assertAlmostEqual(value, -19 / 15, delta=1e-7)


if __name__ == "__main__":
    unittest.main()
