//! The solver: iterates, radius, and when to end.

use super::linear::{copied, difference, dot, finite, norm};
use super::model::{Curvature, SMALL};
use super::options::{Report, SolveOptions, Subproblem, Termination};
use super::polyhedron::Polyhedron;
use super::region::{Ball, Region};
use super::step::{Model, Place};
use super::{Functions, Halt};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Result as Plain, vec_zeroed};

type Result<T> = std::result::Result<T, Halt>;

/// The least share of the predicted decrease with which a step is taken.
const ACCEPTED: f64 = 1e-4;

/// No radius is longer: what has no minimum ends at a limit, and not in overflow.
const LONGEST: f64 = 1e100;

/// Constraints of x [n].
pub struct Problem {
    set: Polyhedron,
    ball: Option<Ball>,
}

impl Problem {
    pub fn new(n: usize) -> Plain<Problem> {
        ensure!(n > 0, Argument, "n is 0, expected 1 or more");
        Ok(Problem { set: Polyhedron::new(n)?, ball: None })
    }

    pub fn variables(&self) -> usize {
        self.set.n
    }

    /// Replaces the bounds; an empty slice = none on that side.
    pub fn set_bounds(&mut self, lower: &[f64], upper: &[f64]) -> Plain<()> {
        for i in 0..self.set.n {
            let low = lower.get(i).copied().unwrap_or(f64::NEG_INFINITY);
            let high = upper.get(i).copied().unwrap_or(f64::INFINITY);
            check_sides(low, high, ["lower bound", "upper bound"], i)?;
        }
        let n = self.set.n;
        let fill = |from: &[f64], to: &mut [f64], none: f64| {
            (0..n).for_each(|i| to[i] = from.get(i).copied().unwrap_or(none));
        };
        fill(lower, &mut self.set.lower, f64::NEG_INFINITY);
        fill(upper, &mut self.set.upper, f64::INFINITY);
        Ok(())
    }

    pub fn set_ball(&mut self, centre: &[f64], radius: f64) -> Plain<()> {
        let bad = centre.iter().position(|c| !c.is_finite()).unwrap_or(0);
        ensure!(centre[bad].is_finite(), Argument, "centre {bad} is {}", centre[bad]);
        ensure!(radius > 0.0 && radius.is_finite(), Argument, "radius is {radius}, expected more than 0, finite");
        self.ball = Some(Ball { centre: copied(centre)?, radius });
        Ok(())
    }

    /// Adds rows; all or none.
    pub fn add_rows(&mut self, a: &[f64], lower: &[f64], upper: &[f64], equalities: bool) -> Plain<()> {
        let before = self.set.mark();
        let added = self.try_rows(a, lower, upper, equalities);
        if added.is_err() {
            self.set.truncate(before);
        }
        added
    }

    fn try_rows(&mut self, a: &[f64], lower: &[f64], upper: &[f64], equalities: bool) -> Plain<()> {
        let n = self.set.n;
        for (i, (&low, &high)) in lower.iter().zip(upper).enumerate() {
            let row = &a[i * n..(i + 1) * n];
            let bad = row.iter().position(|a| !a.is_finite()).unwrap_or(0);
            ensure!(row[bad].is_finite(), Argument, "row {i} of a has {} in column {bad}", row[bad]);
            if equalities {
                ensure!(low.is_finite(), Argument, "b {i} is {low}");
            }
            check_sides(low, high, ["lower", "upper"], i)?;
            self.set.add_row(row, low, high, (equalities, i))?;
        }
        Ok(())
    }

    /// Minimises from x, which becomes the best point; on an error x is what it was.
    pub fn solve(&self, functions: &mut dyn Functions, x: &mut [f64], options: &SolveOptions) -> Plain<Report> {
        options.validate()?;
        let bad = x.iter().position(|x| !x.is_finite()).unwrap_or(0);
        ensure!(x[bad].is_finite(), Argument, "x {bad} is {} at the start", x[bad]);
        let start = self.feasible().nearest(x)?;
        let (violation, most) = (self.feasible().violation(&start)?, options.feasibility_tolerance);
        let outside = violation > most;
        ensure!(
            !outside,
            Argument,
            "the nearest feasible point is {violation:e} outside, feasibility_tolerance is {most:e}"
        );
        let curvature = Curvature::new(functions.has_product(), options.subproblem == Subproblem::Exact, x.len());
        let gradient = vec_zeroed(x.len())?;
        let report = Report { violation, ..Report::default() };
        let mut run = Run { problem: self, functions, options, x: start, gradient, curvature, report, radius: 0.0 };
        match run.run() {
            Ok(()) => {}
            Err(Halt::Failed(error)) => return Err(error),
            Err(Halt::Stopped) if run.functions.cancelled() => {
                return Err(error!(Cancelled, "a cancel token stopped the solve"));
            }
            Err(Halt::Stopped) => {
                ensure!(run.report.gradients > 0, Cancelled, "a callback stopped the solve at the start");
                run.report.termination = Termination::Stopped;
            }
        }
        x.copy_from_slice(&run.x);
        Ok(run.report)
    }

    fn feasible(&self) -> Region<'_> {
        Region { set: &self.set, lower: &self.set.lower, upper: &self.set.upper, ball: self.ball.as_ref() }
    }
}

fn check_sides(low: f64, high: f64, [lower, upper]: [&str; 2], i: usize) -> Plain<()> {
    ensure!(!low.is_nan() && low != f64::INFINITY, Argument, "{lower} {i} is {low}");
    ensure!(!high.is_nan() && high != f64::NEG_INFINITY, Argument, "{upper} {i} is {high}");
    let crossed = low > high;
    ensure!(!crossed, Argument, "{lower} {i} is {low}, above {upper} {i}, which is {high}");
    Ok(())
}

struct Run<'a> {
    problem: &'a Problem,
    functions: &'a mut dyn Functions,
    options: &'a SolveOptions,
    x: Vec<f64>,
    gradient: Vec<f64>,
    curvature: Curvature,
    report: Report,
    radius: f64,
}

impl Run<'_> {
    fn objective(&mut self, x: &[f64]) -> Result<f64> {
        let mut f = f64::NAN;
        self.report.objectives += 1;
        match self.functions.objective(x, &mut f) {
            true => Ok(f),
            false => Err(Halt::Stopped),
        }
    }

    fn gradient(&mut self, x: &[f64]) -> Result<Vec<f64>> {
        let mut gradient = vec_zeroed(x.len())?;
        match self.functions.gradient(x, &mut gradient) {
            true => {
                self.report.gradients += 1;
                Ok(gradient)
            }
            false => Err(Halt::Stopped),
        }
    }

    fn stationarity(&self) -> Plain<f64> {
        let region = self.problem.feasible();
        if region.is_flat() && region.ball.is_none() {
            let mut g = copied(&self.gradient)?;
            region.active(&self.x)?.project(&mut g);
            return Ok(norm(&g));
        }
        region.stationarity(&self.x, &self.gradient)
    }

    fn run(&mut self) -> Result<()> {
        let start = copied(&self.x)?;
        let f = self.objective(&start)?;
        if !f.is_finite() {
            return Err(error!(Argument, "the objective is {f} at the start").into());
        }
        self.report.f = f;
        let gradient = self.gradient(&start)?;
        if let Some(i) = gradient.iter().position(|g| !g.is_finite()) {
            return Err(error!(Argument, "gradient {i} is {} at the start", gradient[i]).into());
        }
        self.gradient = gradient;
        self.report.projected_gradient = self.stationarity()?;
        self.radius = self.first_radius();
        self.report.radius = self.radius;
        loop {
            if self.report.projected_gradient <= self.options.gradient_tolerance && self.is_minimum()? {
                self.report.termination = Termination::Gradient;
                return Ok(());
            }
            if let Some(end) = self.ended() {
                self.report.termination = end;
                return Ok(());
            }
            let end = self.iterate()?;
            self.report.iterations += 1;
            self.report.radius = self.radius;
            if !self.functions.progress(&self.report) || self.functions.cancelled() {
                return Err(Halt::Stopped);
            }
            if let Some(end) = end {
                self.report.termination = end;
                return Ok(());
            }
        }
    }

    fn first_radius(&self) -> f64 {
        let chosen = match self.options.initial_radius {
            0.0 => norm(&self.x).max(1.0),
            given => given,
        };
        chosen.min(self.options.maximum_radius).min(LONGEST)
    }

    fn ended(&self) -> Option<Termination> {
        let (report, options) = (&self.report, self.options);
        if report.iterations >= options.max_iterations {
            return Some(Termination::MaxIterations);
        }
        (report.objectives >= options.max_evaluations).then_some(Termination::MaxEvaluations)
    }

    /// The model's minimum in the radius.
    fn place(&mut self) -> Result<Place> {
        let (problem, radius, n) = (self.problem, self.radius, self.x.len());
        let near = Ball { centre: copied(&self.x)?, radius };
        let (mut lower, mut upper) = (copied(&problem.set.lower)?, copied(&problem.set.upper)?);
        let (mut ball, mut enclosing) = (Some(&near), radius);
        if let Some(own) = &problem.ball
            && norm(&difference(&self.x, &own.centre)?) + radius > own.radius
        {
            // Two balls would be one too many: the radius is that of a box then.
            for i in 0..n {
                lower[i] = lower[i].max(self.x[i] - radius);
                upper[i] = upper[i].min(self.x[i] + radius);
            }
            (ball, enclosing) = (Some(own), own.radius);
        }
        let region = Region { set: &problem.set, lower: &lower, upper: &upper, ball };
        let small = n <= SMALL;
        let auto = self.options.subproblem == Subproblem::Auto && small;
        // Superlinear convergence wants a share that falls with the gradient.
        let share = self.report.projected_gradient.sqrt();
        let mut model = Model {
            functions: self.functions,
            curvature: &mut self.curvature,
            report: &mut self.report,
            own_bounds: (&problem.set.lower, &problem.set.upper),
            x: &self.x,
            gradient: &self.gradient,
            region: &region,
            reach: radius,
            enclosing,
            exact: self.options.subproblem == Subproblem::Exact,
            small,
            forcing: share.min(if auto { 0.01 } else { 0.1 }).max(1e-12),
            rounds: if small { 50 } else { 10 },
        };
        model.minimum()
    }

    /// Where the gradient is small enough: whether all of the Hessian, if it was asked for, says that this is a minimum.
    fn is_minimum(&mut self) -> Result<bool> {
        if self.options.subproblem != Subproblem::Exact {
            return Ok(true);
        }
        let place = self.place()?;
        Ok(-place.value <= 1e-9 * self.report.f.abs().max(1.0))
    }

    /// One trial point.
    fn iterate(&mut self) -> Result<Option<Termination>> {
        let place = self.place()?;
        let (step, predicted) = (difference(&place.y, &self.x)?, -place.value);
        let (length, f) = (norm(&step), self.report.f);
        if predicted.is_nan() || predicted <= self.options.function_tolerance * f.abs() || length == 0.0 {
            return Ok(if self.curvature.improve() { None } else { Some(Termination::Function) });
        }
        let noise = 4.0 * f64::EPSILON * f.abs();
        let trial = self.objective(&place.y)?;
        let actual = f - trial;
        let ratio = (actual + noise) / (predicted + noise);
        let mut next = None;
        if trial.is_finite() && ratio > ACCEPTED {
            next = Some(self.gradient(&place.y)?).filter(|gradient| finite(gradient));
        }
        let Some(next) = next else { return Ok(self.refused(&step, actual)) };
        let before = self.report.projected_gradient;
        let change = difference(&next, &self.gradient)?;
        let missed = norm(&difference(&change, &place.image)?);
        self.resize(ratio, length);
        self.x = place.y;
        self.gradient = next;
        self.report.f = trial;
        self.report.projected_gradient = self.stationarity()?;
        self.report.violation = self.problem.feasible().violation(&self.x)?;
        let after = self.report.projected_gradient;
        // A model that said the new gradient is that of a quadratic; and where what it missed leaves less than is asked for
        // after one more step, that step needs no other.
        let same = missed <= 1e-9 * norm(&change);
        let enough = 2.0 * missed * after / before <= 0.5 * self.options.gradient_tolerance;
        self.curvature.moved(step, change, same || enough)?;
        let slow = self.report.iterations >= 20 * self.x.len() as u64 + 60;
        if slow && matches!(self.curvature, Curvature::Learned(_)) {
            self.curvature.improve();
        }
        if actual.abs() <= noise && after >= before {
            return Ok(if self.curvature.improve() { None } else { Some(Termination::Function) });
        }
        Ok(None)
    }

    /// After a step that was taken.
    fn resize(&mut self, ratio: f64, length: f64) {
        if ratio < 0.25 {
            self.radius = 0.25 * length.min(self.radius);
        } else if ratio > 0.75 && length >= 0.9 * self.radius {
            let grow = if (ratio - 1.0).abs() < 0.1 { 3.0 } else { 2.0 };
            self.radius = (grow * length).max(self.radius).min(self.options.maximum_radius).min(LONGEST);
        }
    }

    /// After a step that was not: the radius becomes a share of it, that of the minimum of the parabola through f, its slope
    /// and the trial; a quarter where there is no f.
    fn refused(&mut self, step: &[f64], actual: f64) -> Option<Termination> {
        let slope = dot(&self.gradient, step);
        let share = match actual.is_finite() {
            true => (0.5 * slope / (slope + actual)).clamp(0.0625, 0.5),
            false => 0.25,
        };
        self.radius = if share.is_nan() { 0.25 } else { share } * norm(step).min(self.radius);
        self.curvature.doubt();
        let least = self.options.step_tolerance * norm(&self.x).max(f64::MIN_POSITIVE);
        if self.radius > least || self.curvature.improve() {
            self.radius = self.radius.max(2.0 * least);
            return None;
        }
        Some(Termination::Step)
    }
}
