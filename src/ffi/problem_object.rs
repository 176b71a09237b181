//! What the problem section keeps behind its handle, a problem with the caller's functions, and what its calls read.

use super::arguments::{count, one_of, size, slice};
use super::floating::outside;
use super::library::{Token, UserData};
use super::problem::{
    setun_gradient_callback, setun_objective_callback, setun_problem_options, setun_problem_report,
    setun_product_callback, setun_subproblem, setun_termination,
};
use crate::step::problem::{Functions, Problem, Report, SolveOptions, Subproblem, Termination};
use crate::tensor::error::error;
use crate::tensor::{Result, reserve};
use std::ffi::c_void;

/// What a `setun_problem` names.
pub struct ProblemObject {
    pub problem: Problem,
    objective: unsafe extern "C" fn(i64, *const f64, *mut f64, *mut c_void) -> i32,
    gradient: unsafe extern "C" fn(i64, *const f64, *mut f64, *mut c_void) -> i32,
    product: setun_product_callback,
    user_data: UserData,
}

impl ProblemObject {
    pub fn new(
        n: usize,
        objective: setun_objective_callback,
        gradient: setun_gradient_callback,
        product: setun_product_callback,
        user_data: *mut c_void,
    ) -> Result<ProblemObject> {
        let objective = objective.ok_or_else(|| error!(Argument, "objective is NULL"))?;
        let gradient = gradient.ok_or_else(|| error!(Argument, "gradient is NULL"))?;
        let user_data = UserData(user_data);
        Ok(ProblemObject { problem: Problem::new(n)?, objective, gradient, product, user_data })
    }

    pub fn solve(&self, x: &mut [f64], options: &setun_problem_options) -> Result<Report> {
        let subproblems = [
            (setun_subproblem::Auto as i32, "auto", Subproblem::Auto),
            (setun_subproblem::Steihaug as i32, "Steihaug", Subproblem::Steihaug),
            (setun_subproblem::Exact as i32, "exact", Subproblem::Exact),
        ];
        let own = SolveOptions {
            initial_radius: options.initial_radius,
            maximum_radius: options.maximum_radius,
            gradient_tolerance: options.gradient_tolerance,
            step_tolerance: options.step_tolerance,
            function_tolerance: options.function_tolerance,
            feasibility_tolerance: options.feasibility_tolerance,
            max_iterations: size(options.max_iterations, "max_iterations")? as u64,
            max_evaluations: match size(options.max_evaluations, "max_evaluations")? as u64 {
                0 => u64::MAX,
                limit => limit,
            },
            subproblem: one_of(options.subproblem, "subproblem", &subproblems)?,
        };
        let mut functions = Callbacks { object: self, options, token: Token::of(options.cancel)? };
        self.problem.solve(&mut functions, x, &own)
    }
}

/// The caller's functions, called with the caller's floating-point settings.
struct Callbacks<'a> {
    object: &'a ProblemObject,
    options: &'a setun_problem_options,
    token: Token,
}

impl Functions for Callbacks<'_> {
    fn objective(&mut self, x: &[f64], f: &mut f64) -> bool {
        let (function, user_data) = (self.object.objective, self.object.user_data.pointer());
        // SAFETY: the header asks for a function that reads n numbers and writes one.
        outside(|| unsafe { function(x.len() as i64, x.as_ptr(), f, user_data) != 0 })
    }

    fn gradient(&mut self, x: &[f64], gradient: &mut [f64]) -> bool {
        let (function, user_data) = (self.object.gradient, self.object.user_data.pointer());
        // SAFETY: the header asks for a function that reads n numbers and writes n.
        outside(|| unsafe { function(x.len() as i64, x.as_ptr(), gradient.as_mut_ptr(), user_data) != 0 })
    }

    fn has_product(&self) -> bool {
        self.object.product.is_some()
    }

    fn product(&mut self, x: &[f64], v: &[f64], hv: &mut [f64]) -> bool {
        let Some(function) = self.object.product else { return false };
        let user_data = self.object.user_data.pointer();
        // SAFETY: the header asks for a function that reads two arrays of n numbers and writes n.
        outside(|| unsafe { function(x.len() as i64, x.as_ptr(), v.as_ptr(), hv.as_mut_ptr(), user_data) != 0 })
    }

    fn progress(&mut self, report: &Report) -> bool {
        let Some(progress) = self.options.progress else { return true };
        // SAFETY: the header asks for a callback that takes a report, valid during the call, and its user data.
        outside(|| unsafe { progress(&c_report(report), self.options.user_data) != 0 })
    }

    fn cancelled(&self) -> bool {
        self.token.is_raised()
    }
}

pub fn c_report(report: &Report) -> setun_problem_report {
    let termination = match report.termination {
        Termination::Gradient => setun_termination::Gradient,
        Termination::Step => setun_termination::Step,
        Termination::Function => setun_termination::Function,
        Termination::MaxIterations => setun_termination::MaxIterations,
        Termination::MaxEvaluations => setun_termination::MaxEvaluations,
        Termination::Stopped => setun_termination::Stopped,
    };
    setun_problem_report {
        struct_size: size_of::<setun_problem_report>(),
        f: report.f,
        projected_gradient: report.projected_gradient,
        violation: report.violation,
        radius: report.radius,
        iterations: report.iterations as i64,
        objectives: report.objectives as i64,
        gradients: report.gradients as i64,
        products: report.products as i64,
        termination: termination as i32,
        reserved: 0,
    }
}

/// Rows [m, n].
///
/// # Safety
/// `a` holds m rows that nobody writes during `'a`.
pub unsafe fn rows<'a>(object: &ProblemObject, a: *const f64, m: i64) -> Result<&'a [f64]> {
    let cells = count::<f64>(&[size(m, "m")?, object.problem.variables()], "a")?;
    // SAFETY: NULL and alignment are checked; the length is passed on to the caller.
    unsafe { slice(a, cells, "a") }
}

/// A side of m rows; `none` in each place where NULL may stand for that.
///
/// # Safety
/// `side` is NULL or holds m numbers that nobody writes meanwhile.
pub unsafe fn side(side: *const f64, name: &str, m: i64, none: Option<f64>) -> Result<Vec<f64>> {
    let (m, mut read) = (size(m, "m")?, Vec::new());
    reserve(&mut read, m)?;
    match none {
        Some(none) if side.is_null() => read.resize(m, none),
        // SAFETY: NULL and alignment are checked; the length is passed on to the caller.
        _ => read.extend_from_slice(unsafe { slice(side, m, name) }?),
    }
    Ok(read)
}

/// Names the first number that is a NaN or an infinity.
pub fn check_finite(numbers: &[f64], name: &str) -> Result<()> {
    let bad = numbers.iter().position(|x| !x.is_finite());
    bad.map_or(Ok(()), |i| Err(error!(Argument, "{name} {i} is {}", numbers[i])))
}
