"""What the solver takes to solve the problems of solver_cases.py, beside SciPy where it is installed.

    python3 tests/python/solver_problems.py [--name hs] [--without-products]

Both start at the same point with the same functions, their own default options, but the tolerance of the gradient, which is
1e-8 for both, and 3000 iterations. SciPy: trust-ncg without constraints, trust-constr with them; both are given products.
Evaluations are counted in the functions themselves. f and Hv are those of the objective and of products with the Hessian;
what comes with no more of both counts, and so does what SciPy does not solve to a hundredth. `--without-products` solves
from gradients alone, which SciPy is not asked for.
"""

import argparse
import os
import sys
import warnings

import solver_cases
from header import LIBRARY
from train_program import ROOT


def counted(case):
    """The functions of a case, and how often each was called."""
    counts = [0, 0, 0]

    def count(index, answer):
        counts[index] += 1
        return answer

    return counts, (
        lambda x: count(0, case.objective(x)),
        lambda x: count(1, case.derivatives(x)),
        lambda x, v: count(2, case.derivatives(x, v)),
    )


def setun_run(setun, case, products=True):
    counts, (objective, gradient, product) = counted(case)
    problem = setun.Problem(len(case.start), objective, gradient, product if products else None)
    problem.bounds(case.lower, case.upper)
    if case.rows:
        rows = [a for row, _, _ in case.rows for a in row]
        problem.inequalities(rows, [low for _, low, _ in case.rows], [high for _, _, high in case.rows])
    if case.ball:
        problem.ball(*case.ball)
    x, report = problem.solve(case.start, max_iterations=3000)
    return x, report, counts


def scipy_run(optimize, numpy, case):
    counts, (objective, gradient, product) = counted(case)
    functions = dict(jac=lambda x: numpy.array(gradient(x)), hessp=lambda x, v: numpy.array(product(x, v)))
    options = dict(gtol=1e-8, maxiter=3000)
    if case.is_free():
        found = optimize.minimize(objective, case.start, method="trust-ncg", options=options, **functions)
        return float(found.fun), counts
    constraints = []
    if case.rows:
        constraints.append(optimize.LinearConstraint(*map(list, zip(*case.rows))))
    if case.ball:
        centre, radius = numpy.array(case.ball[0]), case.ball[1]
        constraints.append(optimize.NonlinearConstraint(
            lambda x: sum((x - centre) ** 2), -numpy.inf, radius**2, jac=lambda x: 2 * (x - centre),
            hess=lambda x, v: 2 * v[0] * numpy.eye(len(x)),
        ))
    functions["constraints"] = constraints
    bounds = optimize.Bounds(case.lower, case.upper)
    found = optimize.minimize(objective, case.start, method="trust-constr", bounds=bounds, options=options, **functions)
    return float(found.fun), counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="", help="only problems whose names begin so")
    parser.add_argument("--without-products", action="store_true", help="from gradients alone, without SciPy")
    asked = parser.parse_args()
    os.environ.setdefault("SETUN_LIBRARY", str(LIBRARY))
    sys.path.insert(0, str(ROOT / "c_examples" / "python"))
    import setun

    try:
        import numpy
        from scipy import optimize
    except ImportError:
        optimize = None
    if asked.without_products:
        optimize = None
    warnings.filterwarnings("ignore")
    solved = fewer = 0
    cases = [case for case in solver_cases.cases() if case.name.startswith(asked.name)]
    print("| problem | n | f | error | f, gradients, Hv | SciPy: error | f, gradients, Hv |\n|---|---|---|---|---|---|---|")
    for case in cases:
        _, report, counts = setun_run(setun, case, not asked.without_products)
        solved += case.error(report.f) <= 1e-8
        line = f"| {case.name} | {len(case.start)} | {report.f:.12g} | {case.error(report.f):.1e} | {', '.join(map(str, counts))} |"
        if optimize:
            other, others = scipy_run(optimize, numpy, case)
            error = case.error(other)
            no_more = counts[0] <= others[0] and counts[2] <= others[2] or not error <= 1e-2
            fewer += no_more
            line += f" {error:.1e} | {', '.join(map(str, others))}{'' if no_more else ' (fewer)'} |"
        print(line, flush=True)
    print(f"\n{solved} of {len(cases)} solved to 1e-8", end="")
    print(f", {fewer} ({fewer / max(len(cases), 1):.0%}) with no more evaluations than SciPy" if optimize else "")


if __name__ == "__main__":
    main()
