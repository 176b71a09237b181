//! The solver on problems whose minima are known.

mod behaviour;
mod constrained;
mod jet;
mod random;
mod region;
mod subproblem;
mod unconstrained;

use super::{Functions, Problem, Report, SolveOptions, Subproblem};
use jet::Jet;

/// A problem: a formula, where to start, constraints, and the minima that count as solved.
#[derive(Clone)]
pub struct Case {
    name: &'static str,
    f: fn(&[Jet]) -> Jet,
    start: Vec<f64>,
    optima: Vec<f64>,
    lower: Vec<f64>,
    upper: Vec<f64>,
    rows: Vec<(Vec<f64>, f64, f64)>,
    ball: Option<(Vec<f64>, f64)>,
}

impl Case {
    fn new(name: &'static str, f: fn(&[Jet]) -> Jet, start: Vec<f64>, optima: &[f64]) -> Case {
        let (lower, upper) = (Vec::new(), Vec::new());
        Case { name, f, start, optima: optima.to_vec(), lower, upper, rows: Vec::new(), ball: None }
    }

    fn bounds(mut self, lower: &[f64], upper: &[f64]) -> Case {
        (self.lower, self.upper) = (lower.to_vec(), upper.to_vec());
        self
    }

    fn row(mut self, a: &[f64], lower: f64, upper: f64) -> Case {
        self.rows.push((a.to_vec(), lower, upper));
        self
    }

    fn rows(mut self, rows: &[(Vec<f64>, f64, f64)]) -> Case {
        self.rows.extend_from_slice(rows);
        self
    }

    fn ball(mut self, centre: &[f64], radius: f64) -> Case {
        self.ball = Some((centre.to_vec(), radius));
        self
    }

    fn problem(&self) -> Problem {
        let mut problem = Problem::new(self.start.len()).unwrap();
        problem.set_bounds(&self.lower, &self.upper).unwrap();
        for (a, lower, upper) in &self.rows {
            problem.add_rows(a, &[*lower], &[*upper], lower == upper).unwrap();
        }
        if let Some((centre, radius)) = &self.ball {
            problem.set_ball(centre, *radius).unwrap();
        }
        problem
    }

    fn error(&self, f: f64) -> f64 {
        self.optima.iter().map(|o| (f - o).abs() / o.abs().max(1.0)).fold(f64::INFINITY, f64::min)
    }
}

/// The functions of a case, with the derivatives that its jets give.
struct Jets<'a> {
    case: &'a Case,
    products: bool,
}

impl Jets<'_> {
    fn at(&self, x: &[f64], u: Option<usize>, v: &[f64]) -> Jet {
        let one = |k| if u == Some(k) { 1.0 } else { 0.0 };
        let jets =
            x.iter().enumerate().map(|(k, &f)| Jet { f, u: one(k), v: v.get(k).copied().unwrap_or(0.0), uv: 0.0 });
        (self.case.f)(&jets.collect::<Vec<_>>())
    }
}

impl Functions for Jets<'_> {
    fn objective(&mut self, x: &[f64], f: &mut f64) -> bool {
        let case = self.case;
        for (k, x) in x.iter().enumerate() {
            let low = case.lower.get(k).copied().unwrap_or(f64::NEG_INFINITY);
            let high = case.upper.get(k).copied().unwrap_or(f64::INFINITY);
            assert!(low <= *x && *x <= high, "{}: x {k} is {x}", case.name);
        }
        *f = self.at(x, None, &[]).f;
        true
    }

    fn gradient(&mut self, x: &[f64], gradient: &mut [f64]) -> bool {
        gradient.iter_mut().enumerate().for_each(|(k, g)| *g = self.at(x, Some(k), &[]).u);
        true
    }

    fn has_product(&self) -> bool {
        self.products
    }

    fn product(&mut self, x: &[f64], v: &[f64], hv: &mut [f64]) -> bool {
        hv.iter_mut().enumerate().for_each(|(k, h)| *h = self.at(x, Some(k), v).uv);
        true
    }

    fn progress(&mut self, _: &Report) -> bool {
        true
    }

    fn cancelled(&self) -> bool {
        false
    }
}

fn solve(case: &Case, products: bool, options: &SolveOptions) -> (Vec<f64>, Report) {
    let mut x = case.start.clone();
    let report = case.problem().solve(&mut Jets { case, products }, &mut x, options).unwrap();
    (x, report)
}

fn check(cases: &[Case], products: bool, subproblem: Subproblem) {
    let options = SolveOptions { subproblem, ..SolveOptions::default() };
    for case in cases {
        let (x, report) = solve(case, products, &options);
        assert!(case.error(report.f) <= 1e-8, "{}: {report:?} at {x:?}", case.name);
        assert!(report.violation <= 1e-9, "{}: {report:?}", case.name);
    }
}

#[test]
fn unconstrained_problems_are_solved() {
    for subproblem in [Subproblem::Auto, Subproblem::Steihaug, Subproblem::Exact] {
        check(&unconstrained::cases(), true, subproblem);
    }
}

#[test]
fn constrained_problems_are_solved() {
    for subproblem in [Subproblem::Auto, Subproblem::Steihaug, Subproblem::Exact] {
        check(&constrained::cases(), true, subproblem);
    }
}

#[test]
fn problems_are_solved_without_products() {
    check(&unconstrained::cases(), false, Subproblem::Auto);
    check(&constrained::cases(), false, Subproblem::Auto);
}

/// Evaluations are what a solve costs: with those of the tables of tests/python/solver_problems.py a change here is seen.
#[test]
fn evaluations_are_few() {
    let all = [unconstrained::cases(), constrained::cases()].concat();
    let count = |report: Report| [report.objectives, report.products];
    let counts = all.iter().map(|case| count(solve(case, true, &SolveOptions::default()).1));
    let [objectives, products] = counts.fold([0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
    assert!(objectives <= 1_800 && products <= 4_300, "{objectives} objectives, {products} products");
}

#[test]
fn the_same_bits_every_time() {
    for case in &constrained::cases()[..20] {
        let (one, other) = [0; 2].map(|_| solve(case, true, &SolveOptions::default()).0).into();
        assert_eq!(one, other, "{}", case.name);
    }
}
