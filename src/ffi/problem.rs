//! PROBLEM: the least value of a function of yours, inside of constraints
//!
//! You give f of n doubles and its gradient, and products of its Hessian with a vector if you have them; the
//! constraints are bounds, a ball and linear equalities and inequalities. The method is a trust region: each step
//! goes to where a quadratic model of f is least within a radius and within the constraints, found by projected
//! gradients and, on the face of the constraints that hold, in Krylov spaces, in which the subproblem is solved
//! exactly (Moré and Sorensen, SIAM J. Sci. Stat. Comput. 4, 1983; Lin and Moré, SIAM J. Optim. 9, 1999; Gould and
//! others, SIAM J. Optim. 9, 1999). Nearest feasible points are Goldfarb and Idnani's (Mathematical Programming 27,
//! 1983). Up to 100 products are kept until a step is taken, and not asked for again: a step that is refused costs
//! none. Without products the Hessian is learned from the gradients by symmetric rank-one updates (limited memory),
//! which asks for no more evaluations; where that is slow or stops short, it goes on with differences of gradients.
//!
//! The first point evaluated is the feasible one that is nearest to the start. From there on f and its gradient are
//! only asked for within the bounds, to the last bit, and where products are given, and finite, within the other
//! constraints too, to rounding. f and its gradient may be NaN or infinite after the start: that step is then
//! refused, and the radius shrinks; where that goes on, the solve ends with OK and the termination STEP, so look at
//! that and at projected_gradient. In place of a product that is not finite goes a difference of gradients. f never
//! rises, but for rounding. The result is a local minimum, and the same bits on every machine of a kind. One thread.
//! Memory: 16 n bytes for each of up to 100 products (all n with SETUN_SUBPROBLEM_EXACT) or, learned, of up to 90, as
//! much again while a step is made, and 8 n for each row.
//!
//!     double x[2] = {-1.2, 1}, lower[2] = {-2, -2}, upper[2] = {0.5, 2};
//!     setun_problem *problem = NULL;
//!     setun_status status = setun_problem_create(2, rosenbrock, its_gradient, NULL, NULL, &problem);
//!     if (status == SETUN_OK) status = setun_problem_bounds(problem, lower, upper);
//!     if (status == SETUN_OK) status = setun_problem_solve(problem, x, NULL, NULL);
//!     printf("%s%g %g\n", status == SETUN_OK ? "" : setun_last_error(), x[0], x[1]);

use super::arguments::{check_apart, check_pointer, count, extent, optional, size, slice, slice_mut, wanted};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::{setun_cancel, setun_status};
use super::options::{self, Versioned};
use super::problem_object::{ProblemObject, c_report, check_finite, rows, side};
use crate::step::problem::{Report, SolveOptions, minimize};
use crate::tensor::error::ensure;
use std::ffi::c_void;

/// Writes f at x [n] to `f`. Returns 0 to stop the solve, anything else to go on. The arrays are valid during the
/// call.
pub type setun_objective_callback =
    Option<unsafe extern "C" fn(n: i64, x: *const f64, f: *mut f64, user_data: *mut c_void) -> i32>;

/// Writes the gradient of f at x [n] to `gradient` [n]. Returns as the objective does.
pub type setun_gradient_callback =
    Option<unsafe extern "C" fn(n: i64, x: *const f64, gradient: *mut f64, user_data: *mut c_void) -> i32>;

/// Writes the Hessian of f at x [n] times v [n] to `product` [n]. x is the best point so far, at which the gradient was
/// asked for before (not always last). Returns as the objective does.
pub type setun_product_callback = Option<
    unsafe extern "C" fn(n: i64, x: *const f64, v: *const f64, product: *mut f64, user_data: *mut c_void) -> i32,
>;

/// How a step is found.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_subproblem {
    /// As STEIHAUG, but for up to 64 variables the model's gradient is reduced to a hundredth at least: the fewest
    /// evaluations as a rule.
    Auto = 0,
    /// In Krylov spaces, with as many products as it takes to reduce the model's gradient to a tenth or, as it
    /// becomes small, to its square root (Steihaug, SIAM J. Numer. Anal. 20, 1983). For many variables.
    Steihaug = 1,
    /// With all of the Hessian, n products for each step that is taken; the hard case included. It also leaves
    /// points where the gradient is 0 and the Hessian shows a way down, with n more products to see that.
    Exact = 2,
}

/// Why a solve ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_termination {
    /// The projected gradient is within `gradient_tolerance`.
    Gradient = 0,
    /// The radius is within `step_tolerance` of x: no step lowered f enough, however short. Where f or its gradient is a
    /// NaN or an infinity wherever the solve wants to go, it ends so too, at the last point where both were finite;
    /// `projected_gradient` is large then.
    Step = 1,
    /// The decrease that the model predicts is within `function_tolerance` of f, or below what f can tell apart.
    Function = 2,
    MaxIterations = 3,
    MaxEvaluations = 4,
    /// A callback returned 0.
    Stopped = 5,
}

/// Where a solve stands or ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_problem_report {
    pub struct_size: usize,
    /// f at x.
    pub f: f64,
    /// |P(x - gradient) - x|, where P is the nearest feasible point; without constraints the norm of the gradient.
    pub projected_gradient: f64,
    /// How far x is outside of the constraint that it violates most, of rows scaled to length 1.
    pub violation: f64,
    pub radius: f64,
    /// Trial points.
    pub iterations: i64,
    /// Evaluations of f.
    pub objectives: i64,
    /// Of the gradient.
    pub gradients: i64,
    /// Of the Hessian times a vector.
    pub products: i64,
    /// A `setun_termination`; says nothing before the end.
    pub termination: i32,
    pub reserved: i32,
}

// SAFETY: repr(C), begins with struct_size, 8-byte numbers and two of 4 bytes: no padding.
unsafe impl Versioned for setun_problem_report {
    fn defaults() -> Self {
        c_report(&Report::default())
    }
}

/// Called after every iteration, on the calling thread. Return 0 to stop with what there is, anything else to go
/// on. `report` is valid during the call.
pub type setun_problem_callback =
    Option<unsafe extern "C" fn(report: *const setun_problem_report, user_data: *mut c_void) -> i32>;

/// How to solve. Fill it with `setun_problem_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_problem_options {
    pub struct_size: usize,
    /// Of the first step; 0 = max(1, |x|) of the start. Default 0.
    pub initial_radius: f64,
    /// Default INFINITY.
    pub maximum_radius: f64,
    /// 0 or more. Default 1e-8.
    pub gradient_tolerance: f64,
    /// Of the radius, as a share of |x|. Default 1e-15.
    pub step_tolerance: f64,
    /// Of the predicted decrease, as a share of |f|. Default 1e-15.
    pub function_tolerance: f64,
    /// How far the nearest feasible point may be outside, by rounding. Default 1e-8.
    pub feasibility_tolerance: f64,
    /// 0 = f and its gradient at the feasible point nearest to x, and no step. Default 1000.
    pub max_iterations: i64,
    /// Of f, looked at before each iteration; 0 = no limit. Default 0.
    pub max_evaluations: i64,
    /// Hears of the progress; NULL = nobody. Default NULL.
    pub progress: setun_problem_callback,
    /// Handed to `progress`. Default NULL.
    pub user_data: *mut c_void,
    /// Stops it from another thread; NULL = no token. Default NULL.
    pub cancel: *const setun_cancel,
    /// A `setun_subproblem`. Default SETUN_SUBPROBLEM_AUTO.
    pub subproblem: i32,
    /// Leave it 0; it is not looked at.
    pub reserved: i32,
}

// SAFETY: repr(C), begins with struct_size, numbers, pointers and a nullable function pointer, ends with two numbers of 4
// bytes: no padding at the end.
unsafe impl Versioned for setun_problem_options {
    fn defaults() -> Self {
        let defaults = SolveOptions::default();
        setun_problem_options {
            struct_size: size_of::<Self>(),
            initial_radius: defaults.initial_radius,
            maximum_radius: defaults.maximum_radius,
            gradient_tolerance: defaults.gradient_tolerance,
            step_tolerance: defaults.step_tolerance,
            function_tolerance: defaults.function_tolerance,
            feasibility_tolerance: defaults.feasibility_tolerance,
            max_iterations: defaults.max_iterations as i64,
            max_evaluations: 0,
            progress: None,
            user_data: std::ptr::null_mut(),
            cancel: std::ptr::null(),
            subproblem: setun_subproblem::Auto as i32,
            reserved: 0,
        }
    }
}

/// A function of n variables and its constraints.
pub struct setun_problem {
    _opaque: [u8; 0],
}

impl Handle for setun_problem {
    type Object = ProblemObject;
    const NAME: &'static str = "setun_problem";
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_problem_options_init(options: *mut setun_problem_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Makes a problem of n variables without constraints. `product` may be NULL. `user_data` is handed to the three
/// and must stay valid until the problem is freed. Free it with `setun_problem_free`. Returns ARGUMENT (n is 0; no
/// objective or gradient), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_problem_create(
    n: i64,
    objective: setun_objective_callback,
    gradient: setun_gradient_callback,
    product: setun_product_callback,
    user_data: *mut c_void,
    out: *mut *mut setun_problem,
) -> setun_status {
    guard("problem_create", || {
        check_pointer(out, "out")?;
        ensure!(n > 0, Argument, "n is {n}, expected 1 or more");
        let object = ProblemObject::new(size(n, "n")?, objective, gradient, product, user_data)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, object) }
    })
}

/// Sets lower <= x <= upper, [n] each, in place of earlier bounds; -INFINITY and INFINITY = none, NULL = none on
/// that side. Equal ones fix a variable. Returns ARGUMENT (a NaN; a lower one above its upper one, naming which),
/// MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_problem_bounds(
    problem: *mut setun_problem,
    lower: *const f64,
    upper: *const f64,
) -> setun_status {
    guard("problem_bounds", || {
        let mut object = handle::exclusive(problem, "problem")?;
        let n = object.problem.variables();
        let length = |pointer: *const f64| if pointer.is_null() { 0 } else { n };
        // SAFETY: alignment is checked; n numbers are the caller's contract.
        let (lower, upper) = unsafe { (slice(lower, length(lower), "lower")?, slice(upper, length(upper), "upper")?) };
        object.problem.set_bounds(lower, upper)
    })
}

/// Sets |x - centre| <= radius, centre [n], in place of an earlier ball. Returns ARGUMENT (a radius that is not
/// above 0; not finite), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_problem_ball(
    problem: *mut setun_problem,
    centre: *const f64,
    radius: f64,
) -> setun_status {
    guard("problem_ball", || {
        let mut object = handle::exclusive(problem, "problem")?;
        // SAFETY: NULL and alignment are checked; n numbers are the caller's contract.
        let centre = unsafe { slice(centre, object.problem.variables(), "centre") }?;
        object.problem.set_ball(centre, radius)
    })
}

/// Adds a x = b, a [m, n] and b [m]. A row that follows from those before it is left out. On failure none is added.
/// Returns ARGUMENT (a row that contradicts those before it, naming it; not finite), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_problem_equalities(
    problem: *mut setun_problem,
    a: *const f64,
    b: *const f64,
    m: i64,
) -> setun_status {
    guard("problem_equalities", || {
        let mut object = handle::exclusive(problem, "problem")?;
        // SAFETY: m rows and m numbers are the caller's contract.
        let (a, b) = unsafe { (rows(&object, a, m)?, side(b, "b", m, None)?) };
        object.problem.add_rows(a, &b, &b, true)
    })
}

/// Adds lower <= a x <= upper, a [m, n], lower and upper [m]; -INFINITY and INFINITY = none, NULL = none on that
/// side. Equal ones make an equality. On failure none is added. Returns ARGUMENT (a NaN; a lower one above its upper
/// one), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_problem_inequalities(
    problem: *mut setun_problem,
    a: *const f64,
    lower: *const f64,
    upper: *const f64,
    m: i64,
) -> setun_status {
    guard("problem_inequalities", || {
        let mut object = handle::exclusive(problem, "problem")?;
        // SAFETY: m rows and, unless NULL, m numbers are the caller's contract.
        let (a, lower, upper) = unsafe {
            let none = f64::INFINITY;
            (rows(&object, a, m)?, side(lower, "lower", m, Some(-none))?, side(upper, "upper", m, Some(none))?)
        };
        object.problem.add_rows(a, &lower, &upper, false)
    })
}

/// Minimises f from x [n], which becomes the best point found. NULL options = the defaults; `report`, unless NULL,
/// says how it ended. Ending at a limit is no failure; nor is a callback that returns 0: the solve ends with the
/// best point so far, and the termination STOPPED. A callback may use other handles; this one answers STATE.
///
/// On failure x is what it was. Returns ARGUMENT (x or an option is not finite or out of its range; f or its
/// gradient is not finite at the start; the constraints have no common point, naming one that cannot be met),
/// CANCELLED (the token; or a callback stopped it before f and its gradient were known at one point), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_problem_solve(
    problem: *mut setun_problem,
    x: *mut f64,
    options: *const setun_problem_options,
    report: *mut setun_problem_report,
) -> setun_status {
    guard("problem_solve", || {
        if !report.is_null() {
            // SAFETY: a struct as large as it says is the caller's contract.
            unsafe { options::check(report, "report") }?;
        }
        // SAFETY: a struct as large as it says is the caller's contract.
        let options = unsafe { options::read(options, "options") }?;
        let object = handle::exclusive(problem, "problem")?;
        let n = object.problem.variables();
        check_apart(&[extent("x", x, n), extent("report", report, wanted(report, 1))], &[])?;
        // SAFETY: NULL and alignment are checked; n numbers are the caller's contract.
        let x = unsafe { slice_mut(x, n, "x") }?;
        let found = object.solve(x, &options)?;
        if report.is_null() {
            return Ok(());
        }
        // SAFETY: checked above; a struct as large as it says is the caller's contract.
        unsafe { options::write(report, c_report(&found), "report") }
    })
}

/// Frees the problem; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_problem_free(problem: *mut setun_problem) {
    guard_silent("problem_free", || handle::free(problem));
}

/// The trust-region subproblem, exactly: the step s [n] with the least gradient's + s'(hessian)s/2 in |s| <= radius,
/// for `gradient` [n] and `hessian` [n, n], of which the symmetric part counts. `multiplier` is the lambda of
/// (hessian + lambda I) s = -gradient, 0 inside of the region; `value` is the least value. Each output may be NULL.
///
/// By Moré and Sorensen's method (SIAM J. Sci. Stat. Comput. 4, 1983), the hard case included, where s and -s, or
/// more, may be equally good. Returns ARGUMENT (n is 0; not finite; radius not above 0; overlap), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trust_region_subproblem(
    gradient: *const f64,
    hessian: *const f64,
    n: i64,
    radius: f64,
    step: *mut f64,
    multiplier: *mut f64,
    value: *mut f64,
) -> setun_status {
    guard("trust_region_subproblem", || {
        let n = size(n, "n")?;
        ensure!(n > 0, Argument, "n is 0, expected 1 or more");
        ensure!(radius > 0.0 && radius.is_finite(), Argument, "radius is {radius}, expected more than 0, finite");
        let cells = count::<f64>(&[n, n], "hessian")?;
        let outputs = [
            extent("step", step, wanted(step, n)),
            extent("multiplier", multiplier, wanted(multiplier, 1)),
            extent("value", value, wanted(value, 1)),
        ];
        check_apart(&outputs, &[extent("gradient", gradient, n), extent("hessian", hessian, cells)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (gradient, hessian, step, multiplier, value) = unsafe {
            (
                slice(gradient, n, "gradient")?,
                slice(hessian, cells, "hessian")?,
                optional(step, n, "step")?,
                optional(multiplier, 1, "multiplier")?,
                optional(value, 1, "value")?,
            )
        };
        check_finite(gradient, "gradient")?;
        check_finite(hessian, "hessian")?;
        let minimum = minimize(hessian, gradient, radius)?;
        step.iter_mut().zip(&minimum.step).for_each(|(out, s)| *out = *s);
        multiplier.fill(minimum.multiplier);
        value.fill(minimum.value);
        Ok(())
    })
}
