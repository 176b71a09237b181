//! What the solver does when functions misbehave, when it is stopped, and at the edges of what it takes.

use super::super::{Functions, Problem, Report, SolveOptions, Subproblem, Termination};
use crate::tensor::ErrorKind;

/// Functions by closures, that can stop and be cancelled.
struct Closures<F, G, H> {
    f: F,
    g: G,
    h: Option<H>,
    iterations: u64,
    stop_at: u64,
    cancel_at: u64,
}

impl<F: FnMut(&[f64]) -> f64, G: FnMut(&[f64], &mut [f64]), H: FnMut(&[f64], &[f64], &mut [f64])> Functions
    for Closures<F, G, H>
{
    fn objective(&mut self, x: &[f64], f: &mut f64) -> bool {
        *f = (self.f)(x);
        true
    }
    fn gradient(&mut self, x: &[f64], gradient: &mut [f64]) -> bool {
        (self.g)(x, gradient);
        true
    }
    fn has_product(&self) -> bool {
        self.h.is_some()
    }
    fn product(&mut self, x: &[f64], v: &[f64], hv: &mut [f64]) -> bool {
        if let Some(h) = &mut self.h {
            h(x, v, hv);
        }
        true
    }
    fn progress(&mut self, report: &Report) -> bool {
        self.iterations = report.iterations;
        report.iterations < self.stop_at
    }
    fn cancelled(&self) -> bool {
        self.iterations >= self.cancel_at
    }
}

type NoProduct = fn(&[f64], &[f64], &mut [f64]);

fn plain<F: FnMut(&[f64]) -> f64, G: FnMut(&[f64], &mut [f64])>(f: F, g: G) -> Closures<F, G, NoProduct> {
    Closures { f, g, h: None, iterations: 0, stop_at: u64::MAX, cancel_at: u64::MAX }
}

/// (x0 - 1)^2 + 10 (x1 - 2)^2
fn bowl(x: &[f64]) -> f64 {
    (x[0] - 1.0).powi(2) + 10.0 * (x[1] - 2.0).powi(2)
}

fn bowl_gradient(x: &[f64], g: &mut [f64]) {
    (g[0], g[1]) = (2.0 * (x[0] - 1.0), 20.0 * (x[1] - 2.0));
}

fn rosenbrock(x: &[f64]) -> f64 {
    100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2)
}

fn rosenbrock_gradient(x: &[f64], g: &mut [f64]) {
    let t = x[1] - x[0] * x[0];
    (g[0], g[1]) = (-400.0 * x[0] * t - 2.0 * (1.0 - x[0]), 200.0 * t);
}

#[test]
fn an_infeasible_start_is_made_feasible_and_points_stay_in_bounds() {
    let mut problem = Problem::new(2).unwrap();
    problem.set_bounds(&[3.0, -1.0], &[5.0, 1.0]).unwrap();
    let inside = |x: &[f64]| assert!((3.0..=5.0).contains(&x[0]) && (-1.0..=1.0).contains(&x[1]), "{x:?}");
    let mut functions = plain(
        |x: &[f64]| {
            inside(x);
            bowl(x)
        },
        |x: &[f64], g: &mut [f64]| {
            inside(x);
            bowl_gradient(x, g);
        },
    );
    let mut x = [-7.0, 9.0];
    let report = problem.solve(&mut functions, &mut x, &SolveOptions::default()).unwrap();
    assert_eq!((x, report.f, report.termination, report.violation), ([3.0, 1.0], 14.0, Termination::Gradient, 0.0));
}

#[test]
fn an_infeasible_problem_and_bad_input_are_errors_and_leave_x() {
    let options = SolveOptions::default();
    let mut problem = Problem::new(2).unwrap();
    problem.set_bounds(&[0.0; 2], &[]).unwrap();
    problem.add_rows(&[1.0, 1.0], &[f64::NEG_INFINITY], &[-1.0], false).unwrap();
    let mut x = [4.0, 5.0];
    let error = problem.solve(&mut plain(bowl, bowl_gradient), &mut x, &options).unwrap_err();
    assert!(error.kind == ErrorKind::Argument && error.message.contains("no common point"), "{}", error.message);
    assert_eq!(x, [4.0, 5.0]);

    let problem = Problem::new(2).unwrap();
    for (x, word) in [([f64::NAN, 0.0], "x 0 is NaN"), ([0.0, f64::INFINITY], "x 1 is inf")] {
        let mut x = x;
        let error = problem.solve(&mut plain(bowl, bowl_gradient), &mut x, &options).unwrap_err();
        assert!(error.message.starts_with(word), "{}", error.message);
    }
    let mut undefined = plain(|_: &[f64]| f64::NAN, bowl_gradient);
    assert!(problem.solve(&mut undefined, &mut [0.0; 2], &options).unwrap_err().message.contains("objective is NaN"));
    let mut steep = plain(bowl, |_: &[f64], g: &mut [f64]| g.fill(f64::INFINITY));
    assert!(problem.solve(&mut steep, &mut [0.0; 2], &options).unwrap_err().message.contains("gradient 0 is inf"));

    let mut problem = Problem::new(2).unwrap();
    assert!(Problem::new(0).is_err());
    assert!(problem.set_bounds(&[1.0, f64::NAN], &[]).is_err());
    assert!(problem.set_bounds(&[1.0, 1.0], &[2.0, 0.5]).unwrap_err().message.contains("above upper bound 1"));
    assert!(problem.set_ball(&[0.0; 2], 0.0).is_err() && problem.set_ball(&[f64::NAN, 0.0], 1.0).is_err());
    assert!(problem.add_rows(&[1.0, f64::NAN], &[0.0], &[0.0], true).is_err());
    assert!(problem.add_rows(&[1.0, 1.0], &[1.0], &[0.0], false).is_err());
    for bad in [
        SolveOptions { initial_radius: -1.0, ..SolveOptions::default() },
        SolveOptions { maximum_radius: 0.0, ..SolveOptions::default() },
        SolveOptions { initial_radius: 2.0, maximum_radius: 1.0, ..SolveOptions::default() },
        SolveOptions { gradient_tolerance: f64::NAN, ..SolveOptions::default() },
        SolveOptions { feasibility_tolerance: 0.0, ..SolveOptions::default() },
    ] {
        assert!(problem.solve(&mut plain(bowl, bowl_gradient), &mut [0.0; 2], &bad).is_err(), "{bad:?}");
    }
}

#[test]
fn where_f_is_not_a_number_the_region_shrinks() {
    // x - ln x, from a start where the first step would leave the domain.
    let f = |x: &[f64]| if x[0] > 0.0 { x[0] - x[0].ln() } else { f64::NAN };
    let g = |x: &[f64], g: &mut [f64]| g[0] = 1.0 - 1.0 / x[0];
    let mut x = [20.0];
    let report = Problem::new(1).unwrap().solve(&mut plain(f, g), &mut x, &SolveOptions::default()).unwrap();
    assert!((x[0] - 1.0).abs() < 1e-7, "{x:?} {report:?}");
    // The gradient fails where f does not, and products fail everywhere: still a minimum.
    let cliff = |x: &[f64], g: &mut [f64]| {
        bowl_gradient(x, g);
        if x[0] > 4.0 {
            g[1] = f64::NAN;
        }
    };
    let mut functions = Closures {
        f: bowl,
        g: cliff,
        h: Some(|_: &[f64], _: &[f64], hv: &mut [f64]| hv.fill(f64::NAN)),
        iterations: 0,
        stop_at: u64::MAX,
        cancel_at: u64::MAX,
    };
    let mut x = [3.9, -8.0];
    let report = Problem::new(2).unwrap().solve(&mut functions, &mut x, &SolveOptions::default()).unwrap();
    assert!(report.f < 1e-12, "{report:?}");
}

/// Without differences in their place, steepest descent would take a thousand steps here.
#[test]
fn products_that_are_not_finite_give_way_to_differences() {
    for bad in [f64::NAN, f64::INFINITY] {
        let h = Some(move |_: &[f64], _: &[f64], hv: &mut [f64]| hv.fill(bad));
        let (f, g) = (rosenbrock, rosenbrock_gradient);
        let mut functions = Closures { f, g, h, iterations: 0, stop_at: u64::MAX, cancel_at: u64::MAX };
        let mut x = [-1.2, 1.0];
        let report = Problem::new(2).unwrap().solve(&mut functions, &mut x, &SolveOptions::default()).unwrap();
        assert_eq!(report.termination, Termination::Gradient);
        assert!(report.iterations < 60 && report.products > 0 && report.f < 1e-12, "{report:?}");
    }
}

/// Nothing is left to try: the radius ends it, and the gradient tells.
#[test]
fn functions_that_fail_after_the_start_end_with_the_step() {
    for bad in [f64::NAN, f64::INFINITY] {
        for gradient_too in [false, true] {
            let (mut seen, mut asked) = (0, 0);
            let f = |x: &[f64]| {
                seen += 1;
                if seen > 1 && !gradient_too { bad } else { bowl(x) }
            };
            let g = |x: &[f64], g: &mut [f64]| {
                asked += 1;
                bowl_gradient(x, g);
                if asked > 1 && gradient_too {
                    g.fill(bad);
                }
            };
            let mut x = [-3.0, 5.0];
            let report = Problem::new(2).unwrap().solve(&mut plain(f, g), &mut x, &SolveOptions::default()).unwrap();
            assert_eq!((report.termination, x), (Termination::Step, [-3.0, 5.0]));
            assert!(report.projected_gradient > 1.0 && report.iterations < 100, "{report:?}");
        }
    }
}

#[test]
fn it_stops_at_limits_and_when_it_is_told_to() {
    let problem = Problem::new(2).unwrap();
    let solve = |stop_at, cancel_at, options: &SolveOptions| {
        let mut functions = Closures { stop_at, cancel_at, ..plain(rosenbrock, rosenbrock_gradient) };
        let mut x = [-1.2, 1.0];
        (problem.solve(&mut functions, &mut x, options), x)
    };
    let all = SolveOptions::default();
    let (report, x) = solve(5, u64::MAX, &all);
    let report = report.unwrap();
    assert_eq!((report.termination, report.iterations), (Termination::Stopped, 5));
    assert!(report.f == rosenbrock(&x) && report.f < 24.2);
    let (error, x) = solve(u64::MAX, 4, &all);
    assert_eq!((error.unwrap_err().kind, x), (ErrorKind::Cancelled, [-1.2, 1.0]));
    let (report, _) = solve(u64::MAX, u64::MAX, &SolveOptions { max_iterations: 3, ..all.clone() });
    assert_eq!(report.unwrap().termination, Termination::MaxIterations);
    let (report, x) = solve(u64::MAX, u64::MAX, &SolveOptions { max_evaluations: 1, ..all.clone() });
    assert_eq!((report.unwrap().termination, x), (Termination::MaxEvaluations, [-1.2, 1.0]));
    let (report, x) = solve(u64::MAX, u64::MAX, &SolveOptions { maximum_radius: 0.1, ..all });
    assert!(report.unwrap().radius <= 0.1 && (x[0] - 1.0).abs() < 1e-6);
}

#[test]
fn exact_leaves_a_saddle() {
    let mut functions = Closures {
        f: |x: &[f64]| x[0].powi(4) / 4.0 - x[0] * x[0] / 2.0 + x[1] * x[1],
        g: |x: &[f64], g: &mut [f64]| (g[0], g[1]) = (x[0].powi(3) - x[0], 2.0 * x[1]),
        h: Some(|x: &[f64], v: &[f64], hv: &mut [f64]| (hv[0], hv[1]) = ((3.0 * x[0] * x[0] - 1.0) * v[0], 2.0 * v[1])),
        iterations: 0,
        stop_at: u64::MAX,
        cancel_at: u64::MAX,
    };
    let options = SolveOptions { subproblem: Subproblem::Exact, ..SolveOptions::default() };
    let mut x = [0.0, 0.0];
    let report = Problem::new(2).unwrap().solve(&mut functions, &mut x, &options).unwrap();
    assert!((report.f + 0.25).abs() < 1e-12 && (x[0].abs() - 1.0).abs() < 1e-7, "{report:?}");
}

#[test]
fn what_has_no_minimum_ends_at_a_limit() {
    let mut x = [1.0, 1.0];
    let falls = |x: &[f64]| -x[0] - x[1];
    let mut functions = plain(falls, |_: &[f64], g: &mut [f64]| g.fill(-1.0));
    let mut problem = Problem::new(2).unwrap();
    let report = problem.solve(&mut functions, &mut x, &SolveOptions::default()).unwrap();
    assert!(report.f < -1e50 && report.termination == Termination::MaxIterations, "{report:?}");
    // Until -f overflows.
    let mut functions =
        plain(|x: &[f64]| -x[0].powi(9), |x: &[f64], g: &mut [f64]| (g[0], g[1]) = (-9.0 * x[0].powi(8), 0.0));
    x = [1.0, 1.0];
    let report = problem.solve(&mut functions, &mut x, &SolveOptions::default()).unwrap();
    assert!(report.f < -1e100, "{report:?}");
    // A slope that is steep beyond measure, against an edge.
    problem.set_bounds(&[0.0, 0.0], &[2.0, 2.0]).unwrap();
    problem.add_rows(&[1.0, 1.0], &[f64::NEG_INFINITY], &[3.0], false).unwrap();
    let mut steep =
        plain(|x: &[f64]| -1e200 * (x[0] + 2.0 * x[1]), |_: &[f64], g: &mut [f64]| (g[0], g[1]) = (-1e200, -2e200));
    x = [0.5, 0.5];
    let report = problem.solve(&mut steep, &mut x, &SolveOptions::default()).unwrap();
    assert!((x[0] - 1.0).abs() < 1e-9 && x[1] == 2.0, "{x:?} {report:?}");
}

/// A convex quadratic of 2000 variables in bounds: half of them end on one.
#[test]
fn many_variables_in_bounds() {
    let n = 2000;
    let weight = |i: usize| 1.0 + (i % 7) as f64;
    let aim = |i: usize| if i.is_multiple_of(2) { 3.0 } else { 0.5 };
    let mut problem = Problem::new(n).unwrap();
    problem.set_bounds(&vec![0.0; n], &vec![1.0; n]).unwrap();
    let mut functions = Closures {
        f: |x: &[f64]| (0..n).map(|i| 0.5 * weight(i) * (x[i] - aim(i)).powi(2)).sum(),
        g: |x: &[f64], g: &mut [f64]| (0..n).for_each(|i| g[i] = weight(i) * (x[i] - aim(i))),
        h: Some(|_: &[f64], v: &[f64], hv: &mut [f64]| (0..n).for_each(|i| hv[i] = weight(i) * v[i])),
        iterations: 0,
        stop_at: u64::MAX,
        cancel_at: u64::MAX,
    };
    let mut x = vec![0.0; n];
    let report = problem.solve(&mut functions, &mut x, &SolveOptions::default()).unwrap();
    let far = (0..n).map(|i| (x[i] - aim(i).min(1.0)).abs()).fold(0.0, f64::max);
    assert!(far < 1e-8, "{far:e} {report:?}");
}

/// Where a gradient is no number the solve stays, and goes on asking for products at the point before.
#[test]
fn products_are_asked_for_at_the_best_point() {
    use std::cell::RefCell;
    let (known, elsewhere) = (RefCell::new(Vec::new()), RefCell::new(0));
    let g = |x: &[f64], g: &mut [f64]| {
        rosenbrock_gradient(x, g);
        // Stripes on the way.
        let bad = (40.0 * (x[0] + x[1])).sin() > 0.5;
        *elsewhere.borrow_mut() += i32::from(bad);
        match bad {
            true => g.fill(f64::NAN),
            false => *known.borrow_mut() = x.to_vec(),
        }
    };
    let h = |x: &[f64], v: &[f64], hv: &mut [f64]| {
        assert_eq!(x, *known.borrow());
        let [a, b, c] = [1200.0 * x[0] * x[0] - 400.0 * x[1] + 2.0, -400.0 * x[0], 200.0];
        (hv[0], hv[1]) = (a * v[0] + b * v[1], b * v[0] + c * v[1]);
    };
    let mut functions =
        Closures { f: rosenbrock, g, h: Some(h), iterations: 0, stop_at: u64::MAX, cancel_at: u64::MAX };
    let mut x = [-1.2, 1.0];
    let report = Problem::new(2).unwrap().solve(&mut functions, &mut x, &SolveOptions::default()).unwrap();
    assert!(*elsewhere.borrow() > 3 && report.products > 3 && report.f < 4.0, "{report:?} at {x:?}");
}

/// A difference of gradients is that of the Hessian in a corner of the bounds too, which x + h v and x - h v both leave.
#[test]
fn differences_in_a_corner_are_those_of_the_hessian() {
    use super::super::model::{At, Curvature, SMALL};
    let n = SMALL + 6;
    let hessian = |i: usize, j: usize| 1.0 / (1.0 + i.abs_diff(j) as f64) + if i == j { 1.0 + i as f64 } else { 0.0 };
    let times = |x: &[f64], out: &mut [f64]| {
        out.iter_mut().enumerate().for_each(|(i, y)| *y = (0..n).map(|j| hessian(i, j) * x[j]).sum());
    };
    // Each third variable is fixed, and moves in no direction; the others are at a lower or an upper bound.
    let x: Vec<f64> = (0..n).map(|i| (i as f64).cos()).collect();
    let lower: Vec<f64> = (0..n).map(|i| if i % 2 == 0 || i % 3 == 0 { x[i] } else { -3.0 }).collect();
    let upper: Vec<f64> = (0..n).map(|i| if i % 2 == 1 || i % 3 == 0 { x[i] } else { 3.0 }).collect();
    let d: Vec<f64> = (0..n).map(|i| if i % 3 == 0 { 0.0 } else { (7.0 * i as f64).sin() }).collect();
    let mut gradient = vec![0.0; n];
    times(&x, &mut gradient);
    let mut functions = plain(
        |_: &[f64]| 0.0,
        |point: &[f64], g: &mut [f64]| {
            assert!((0..n).all(|i| lower[i] <= point[i] && point[i] <= upper[i]));
            times(point, g);
        },
    );
    let (at, mut report) = (At { x: &x, gradient: &gradient, bounds: (&lower, &upper) }, Report::default());
    let mut curvature = Curvature::new(true, false, n);
    let Ok(found) = curvature.times(&mut functions, &at, &d, &mut report) else { panic!("nobody stops it") };
    let mut expected = vec![0.0; n];
    times(&d, &mut expected);
    assert_eq!(report.gradients, 2);
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 1e-5, "{i}: {found}, {expected}");
    }
}
