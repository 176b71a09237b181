//! Random problems of every kind of constraint at once: what the solver ends at is feasible and stationary.

use super::super::linear::{dot, norm};
use super::super::{Functions, Problem, Report, SolveOptions, Subproblem, Termination};
use super::subproblem::uniform;

/// sum of quartics + x'Hx/2 + g'x, H indefinite: bounded below, with many local minima.
struct Quartic {
    n: usize,
    h: Vec<f64>,
    g: Vec<f64>,
    products: bool,
}

impl Quartic {
    fn times(&self, v: &[f64]) -> Vec<f64> {
        self.h.chunks(self.n).map(|row| dot(row, v)).collect()
    }
}

impl Functions for Quartic {
    fn objective(&mut self, x: &[f64], f: &mut f64) -> bool {
        let quartics: f64 = x.iter().map(|x| x.powi(4)).sum();
        *f = quartics + 0.5 * dot(x, &self.times(x)) + dot(&self.g, x);
        true
    }
    fn gradient(&mut self, x: &[f64], gradient: &mut [f64]) -> bool {
        let hx = self.times(x);
        gradient.iter_mut().enumerate().for_each(|(i, out)| *out = 4.0 * x[i].powi(3) + hx[i] + self.g[i]);
        true
    }
    fn has_product(&self) -> bool {
        self.products
    }
    fn product(&mut self, x: &[f64], v: &[f64], hv: &mut [f64]) -> bool {
        let product = self.times(v);
        hv.iter_mut().enumerate().for_each(|(i, out)| *out = 12.0 * x[i] * x[i] * v[i] + product[i]);
        true
    }
    fn progress(&mut self, _: &Report) -> bool {
        true
    }
    fn cancelled(&self) -> bool {
        false
    }
}

fn random(turn: u64) -> (Problem, Quartic, Vec<f64>) {
    let mut seed = turn * 977 + 5;
    let n = 1 + (turn % 9) as usize;
    let mut draw = |count: usize, scale: f64| (0..count).map(|_| scale * uniform(&mut seed)).collect::<Vec<f64>>();
    let half = draw(n * n, 10.0);
    let h = (0..n * n).map(|k| half[k] + half[k % n * n + k / n]).collect();
    let (g, inner, start) = (draw(n, 5.0), draw(n, 1.0), draw(n, 5.0));
    let mut problem = Problem::new(n).unwrap();
    if turn.is_multiple_of(2) {
        // Now and then a variable that is fixed, or that begins on its bound.
        let room = draw(2 * n, 1.0);
        let lower: Vec<f64> = (0..n).map(|i| inner[i] - room[i].max(0.0)).collect();
        let upper: Vec<f64> = (0..n).map(|i| inner[i] + room[n + i].max(0.0)).collect();
        problem.set_bounds(&lower, &upper).unwrap();
    }
    if turn.is_multiple_of(3) {
        problem.set_ball(&inner, 0.6).unwrap();
    }
    for k in 0..(turn % 5) as usize {
        let row = draw(n, 1.0);
        let value = dot(&row, &inner);
        match k {
            0 if n > 1 => problem.add_rows(&row, &[value], &[value], true).unwrap(),
            // Twice the same: a degenerate vertex.
            1 => {
                let twice = [row.clone(), row.iter().map(|a| 2.0 * a).collect()].concat();
                problem.add_rows(&twice, &[value; 2].map(|v| v.min(2.0 * v)), &[f64::INFINITY; 2], false).unwrap();
            }
            _ => problem.add_rows(&row, &[f64::NEG_INFINITY], &[value + 0.1], false).unwrap(),
        }
    }
    (problem, Quartic { n, h, g, products: true }, start)
}

#[test]
fn what_it_ends_at_is_feasible_and_stationary() {
    for turn in 0..400 {
        let (problem, mut functions, start) = random(turn);
        for (products, subproblem) in [
            (true, Subproblem::Auto),
            (true, Subproblem::Steihaug),
            (true, Subproblem::Exact),
            (false, Subproblem::Auto),
        ] {
            functions.products = products;
            let options = SolveOptions { subproblem, ..SolveOptions::default() };
            let mut x = start.clone();
            let report = problem.solve(&mut functions, &mut x, &options).unwrap();
            let mut gradient = vec![0.0; x.len()];
            functions.gradient(&x, &mut gradient);
            let near = report.projected_gradient <= 1e-6 * (1.0 + norm(&gradient) + report.f.abs());
            let ended = report.termination != Termination::MaxIterations;
            assert!(
                near && ended && report.violation <= 1e-9,
                "turn {turn} {products} {subproblem:?}: {report:?} at {x:?}"
            );
            assert!(report.iterations < 300, "turn {turn} {products} {subproblem:?}: {report:?}");
        }
    }
}
