//! STEP: updates of your parameters, inside a trust region and a box
//!
//! For networks of your own: Setun takes the parameters and the gradients, you keep both. The gradients are
//! clipped by their norm; then, for each parameter w by itself:
//!
//!     d = direction of the method + weight_decay * w
//!     L = radius * max(rms(w), floor)                 how far a step may go, as a share of the weights
//!     a = min(learning_rate, L / rms(d))              as a cap; L / rms(d) as an exact radius
//!     w = clamp(w - a * d, lower, upper)
//!
//! The direction is AdamW's (arXiv 1711.05101), m_hat / (sqrt(v_hat) + epsilon); Muon's; or momentum. The states
//! are floats or codes of 8 bits, and with compact ones so are ternary parameters themselves. With a flip
//! budget a is lower where more trits of a ternary parameter would change.
//!
//! A radius relative to the weights is that of LARS and LAMB (arXiv 1708.03888, 1904.00962). As a cap it
//! leaves a good learning rate alone, bit for bit, and bounds one that is too high. Exactly it takes the
//! learning rate's place: without one of yours it goes by method, horizon and width, and nothing is left
//! to tune; a schedule should bring it down. Nothing is written
//! before every new value is known to be finite: a step with a NaN or an infinity in a gradient, or that
//! would put one into a parameter or a state, is refused with SETUN_ERR_STATE, and has changed no byte.
//! After such an update the radius is a quarter (with the mode off: the learning rate), and grows back by
//! 5% a step; a bad gradient leaves it as it is.
//!
//! SETUN_ERR_STATE says several things to a loop. Set the outcome of the report to -1 before each step, and look at it:
//!
//!     BAD_GRADIENT, BAD_PARAMETER   refused: no step of these numbers will do
//!     BAD_UPDATE                    refused: the same gradients may do next time, with a quarter of the radius
//!     SKIPPED                       the guard stops: it has skipped or undone more than half of the last 64 steps
//!     still -1                      nothing was looked at: there are no parameters, or the handle is busy
//!
//! Busy is a handle while another thread is in a call on it, one that only reads too: a thread that watches by
//! `setun_optimizer_report` (or any other call on a const optimizer) can make the step of another return STATE. Call
//! the step again then, or let the thread that steps hand its reports on.
//!
//! `setun_step` needs no handle, and is AdamW's on floats. All else is a `setun_optimizer`'s, of the next section.
//!
//!     float w[2] = {1, 2}, gradient[2], moments[4] = {0};
//!     for (int64_t step = 1; step <= 100; step++) {
//!         for (int i = 0; i < 2; i++) gradient[i] = 2 * w[i];
//!         if (setun_step(w, gradient, 2, moments, step, NULL, NULL) != SETUN_OK) puts(setun_last_error());
//!     }

use super::arguments::{check_apart, count, extent, size, slice};
use super::context::{self, setun_context};
use super::guard::guard;
use super::library::setun_status;
use super::optimizer_object::{guard_options, lend, step_options};
use super::options::{self, Versioned};
use super::train::setun_schedule;
use crate::step::{
    GuardOptions, Held, Kind, Method, Parameter, ParameterOptions, Precision, RadiusBase, RefusalKind, Report,
    StepOptions, step_alone,
};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Result, View};

/// What the radius does.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_radius_mode {
    /// Nothing: plain AdamW.
    Off = 0,
    /// A step that is longer is shrunk to it.
    Cap = 1,
    /// Every step is scaled to it; the learning rate has no effect, its schedule has. Weights can grow by it in every
    /// step: let it fall by a schedule, or set a box. However small the direction is, it is scaled to the whole radius:
    /// of a gradient that is 0, weight decay alone, so that a head that no batch uses shrinks by the radius in every step.
    /// With a weight_decay of 0 of its own it stays as it is. (One that was used before goes on along what its states
    /// remember until that is 0.)
    Exact = 2,
}

/// Which rms of the weights the radius is a share of.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_radius_base {
    /// That before the step.
    Current = 0,
    /// That before the first step: it does not grow with weights that grow.
    Initial = 1,
}

/// The direction of a step.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_step_method {
    /// AdamW (arXiv 1711.05101).
    Adamw = 0,
    /// Muon (Jordan et al., 2024): of a matrix, its momentum made orthogonal by five Newton-Schulz iterations,
    /// scaled to an rms of muon_rms. What is no matrix goes as AdamW does, and so should embeddings and
    /// heads: give those the method in their own options.
    Muon = 1,
    /// Stochastic gradient descent: m = momentum * m + g, and along it, or, with nesterov, g + momentum * m.
    Momentum = 2,
}

/// In which numbers an optimizer keeps its states.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_state_precision {
    /// 32-bit floats: 8 bytes an element for AdamW, 4 for the others.
    F32 = 0,
    /// Codes of 8 bits with a scale for each 256 (arXiv 2110.02861): 2.03 bytes an element for AdamW, 1.02 for
    /// the others.
    Int8 = 1,
    /// The same codes for m; v by rows and columns (arXiv 1804.04235); and of a ternary parameter the weights
    /// themselves as such codes, rounded at random: 2.03 bytes an element in all, weights included, and for
    /// AdamW 8 a row and a column. Those are the optimizer's own: see `setun_optimizer_add_compact`.
    Compact = 2,
}

/// Whether a step was taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_step_outcome {
    Taken = 0,
    /// Refused: a gradient held a NaN or an infinity, or their norm was above 9.2e18, what f32 can square.
    BadGradient = 1,
    /// Refused: a parameter did, before the step.
    BadParameter = 2,
    /// Refused: a parameter or a state would have; the radius shrinks.
    BadUpdate = 3,
    /// Not taken: the guard found that its batch is no batch to learn from.
    Skipped = 4,
}

/// How to step. Fill it with `setun_optimizer_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_optimizer_options {
    pub struct_size: usize,
    /// 0 or more. Default 1e-3.
    pub learning_rate: f64,
    /// 0 to less than 1. Default 0.9.
    pub beta1: f64,
    /// 0 to less than 1. Default 0.99.
    pub beta2: f64,
    /// More than 0, at most 1. Default 1e-8.
    pub epsilon: f64,
    /// Of matrices; 0 or more. Default 0.1.
    pub weight_decay: f64,
    /// The largest norm of all gradients together, to which larger ones are scaled down; 0 = no limit.
    /// Default 1.
    pub clip: f64,
    /// The longest step of what is no vector: its rms, as a share of the rms of the weights. NAN = that of the mode: 0.05
    /// as a cap; where it is exact 0.0078 (T / 1000)^-0.45 (d / 128)^-0.25, of Muon 0.0125 (T / 1000)^-0.55 (d / 128)^-0.25,
    /// with T total_steps (1000 of none) and d the smaller dimension of the matrix, which was measured on small
    /// language models. Of a parameter of two dimensions, [1, n] too, d is the smaller one, 1 there. Of all others, of rank
    /// 1, 3 and 4, and in `setun_step` and `setun_optimizer_radius`, d counts as 128: its power is left out. Else 0 or
    /// more. Default NAN.
    pub radius: f64,
    /// The least rms of weights that the radius is a share of; 0 or more. Default 1e-3.
    pub radius_floor: f64,
    /// The same for vectors, which often begin at 0; 0 or more. Default 0.1.
    pub vector_floor: f64,
    /// No element becomes less (of codes: before they are rounded). At most upper, and at most 9.2e18. Default
    /// -INFINITY.
    pub lower: f64,
    /// No element becomes more. At least -9.2e18. Default INFINITY.
    pub upper: f64,
    /// A `setun_radius_mode`. Default SETUN_RADIUS_MODE_CAP.
    pub radius_mode: i32,
    /// Where it runs; NULL = the default context. Default NULL.
    pub context: *const setun_context,
    /// A `setun_step_method`. Default SETUN_STEP_METHOD_ADAMW.
    pub method: i32,
    /// A `setun_state_precision`. What is no matrix, or has less than 4096 elements, keeps floats, unless it is
    /// of codes itself. Default SETUN_STATE_PRECISION_F32.
    pub states: i32,
    /// A `setun_radius_base`. Default SETUN_RADIUS_BASE_CURRENT.
    pub radius_base: i32,
    /// A `setun_schedule` of learning rate and radius. Default SETUN_SCHEDULE_CONSTANT.
    pub schedule: i32,
    /// The last step of the schedule, where it ends at minimum_lr_ratio; needed unless it is constant.
    /// Default 0.
    pub total_steps: i64,
    /// Steps in which learning rate and radius rise from 0. Default 0.
    pub warmup_steps: i64,
    /// The lowest learning rate, as a share of the highest: 0 to 1. Default 0.1.
    pub minimum_lr_ratio: f64,
    /// Of Muon and momentum: 0 to less than 1. Default 0.95.
    pub momentum: f64,
    /// The rms of Muon's direction, which the learning rate multiplies: more than 0, at most 1000. (As much as AdamW's:
    /// 0.2, arXiv 2502.16982.) Default 1.
    pub muon_rms: f64,
    /// The largest share of the trits of a ternary parameter, by the absmean scheme with its threshold at half of the mean, that change in a step: 0 to 1;
    /// 1 = no limit. Both before and after it they are trits by the threshold from before the step. Weights that are
    /// quantized anew after it have a threshold of their own, that of their new mean, by which more of them may have
    /// changed than the budget has (up to 2.2 times as many were seen), or fewer. (Of codes, those beside the threshold change sides by their
    /// rounding too; and a step is held to a 2^17th at most.) Default 1.
    pub flip_budget: f64,
    /// The radius of vectors, 0 or more; NAN = the same. Default NAN.
    pub vector_radius: f64,
    /// Of the numbers that codes are rounded by. Default 0.
    pub seed: u64,
    /// Nesterov's form of Muon and momentum, unless 0. Default 1.
    pub nesterov: i32,
    /// Leave it 0; it is not looked at.
    pub reserved: i32,
    /// Steps between two checks of `setun_optimizer_step_guarded`; 0 = none. Default 16.
    pub guard_interval: i64,
    /// How many standard deviations above the last ones a loss or a gradient norm is a spike; more than 0. None is a
    /// spike before 20 batches were taken under the guard. Default 6.
    pub guard_spike: f64,
    /// How many standard errors worse a step may make its batch; more than 0. Default 2.
    pub guard_tolerance: f64,
}

// SAFETY: repr(C), begins with struct_size, numbers and a pointer, ends with 8-byte numbers: no padding there.
unsafe impl Versioned for setun_optimizer_options {
    fn defaults() -> Self {
        let (defaults, guard) = (StepOptions::default(), GuardOptions::default());
        setun_optimizer_options {
            struct_size: size_of::<Self>(),
            learning_rate: defaults.learning_rate,
            beta1: defaults.beta1,
            beta2: defaults.beta2,
            epsilon: defaults.epsilon,
            weight_decay: defaults.weight_decay,
            clip: defaults.clip,
            radius: f64::NAN,
            radius_floor: defaults.floor,
            vector_floor: defaults.vector_floor,
            lower: defaults.lower,
            upper: defaults.upper,
            radius_mode: setun_radius_mode::Cap as i32,
            context: std::ptr::null(),
            method: setun_step_method::Adamw as i32,
            states: setun_state_precision::F32 as i32,
            radius_base: setun_radius_base::Current as i32,
            schedule: setun_schedule::Constant as i32,
            total_steps: 0,
            warmup_steps: 0,
            minimum_lr_ratio: 0.1,
            momentum: defaults.momentum,
            muon_rms: defaults.muon_rms,
            flip_budget: defaults.flip_budget,
            vector_radius: f64::NAN,
            seed: defaults.seed,
            nesterov: i32::from(defaults.nesterov),
            reserved: 0,
            guard_interval: guard.interval as i64,
            guard_spike: guard.spike,
            guard_tolerance: guard.tolerance,
        }
    }
}

/// What a step did. Set `struct_size` before it is filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_step_report {
    pub struct_size: usize,
    /// A `setun_step_outcome`. Where it is not TAKEN, step_rms, weight_rms, ratio, held and clamped are 0.
    pub outcome: i32,
    /// Steps taken so far; refused ones do not count.
    pub step: i64,
    /// What was asked for; of one parameter: what it took, which the radius may have lowered, and a network changed.
    pub learning_rate: f64,
    /// The Euclidean norm of the gradients, before clipping.
    pub gradient_norm: f64,
    /// What clipping multiplied the gradients by.
    pub gradient_scale: f64,
    /// Root mean square of the step over all elements, before the box.
    pub step_rms: f64,
    /// Root mean square of the weights before the step.
    pub weight_rms: f64,
    /// The largest step_rms / max(weight_rms, floor) of a parameter: what the radius bounds.
    pub ratio: f64,
    /// The common radius of this step, after what refusals have left of it; INFINITY with the mode off. Also in the report
    /// of one parameter, whatever that has of its own: a radius, that of vectors, or by NAN that of its dimensions.
    pub radius: f64,
    /// Parameters whose step the radius made another than the learning rate asked for.
    pub held: i64,
    /// Elements that the box held.
    pub clamped: i64,
    /// Steps refused so far for a bad gradient.
    pub refused_gradients: i64,
    /// For a bad parameter.
    pub refused_parameters: i64,
    /// For a bad update.
    pub refused_updates: i64,
    /// Trits that changed in this step, by the threshold from before it (see flip_budget), and how many there are where that
    /// is known: of ternary parameters, while flip_budget is below 1, or with a network.
    pub flips: i64,
    pub trits: i64,
    /// Of one parameter, what the flip budget left of its step; 1 where it did not hold it. NAN in a report of all.
    pub flip_share: f64,
    /// Of one parameter, the cosine of its gradient and its first moment before the step, and the mean of m^2 over
    /// that of v; NAN where there is none, and in a report of all.
    pub cosine: f64,
    pub signal: f64,
    /// What refusals and undone steps have left of the radius: 1 where none is missing.
    pub radius_factor: f64,
    /// Batches that the guard has skipped so far, and steps that it has undone.
    pub skipped: i64,
    pub undone: i64,
    /// 1: the step can be undone. Evaluate its batch again, and tell `setun_optimizer_judge`.
    pub check_due: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: repr(C), begins with struct_size, numbers only, ends with 8 bytes at a multiple of that: no padding at the end.
unsafe impl Versioned for setun_step_report {
    fn defaults() -> Self {
        c_report(&Report::default())
    }
}

pub fn c_report(report: &Report) -> setun_step_report {
    let outcome = match report.refusal.as_ref().map(|refusal| refusal.kind) {
        None if report.skip.is_some() => setun_step_outcome::Skipped,
        None => setun_step_outcome::Taken,
        Some(RefusalKind::Gradient) => setun_step_outcome::BadGradient,
        Some(RefusalKind::Parameter) => setun_step_outcome::BadParameter,
        Some(RefusalKind::Update) => setun_step_outcome::BadUpdate,
    };
    setun_step_report {
        struct_size: size_of::<setun_step_report>(),
        outcome: outcome as i32,
        step: report.step as i64,
        learning_rate: report.learning_rate,
        gradient_norm: report.gradient_norm,
        gradient_scale: report.gradient_scale,
        step_rms: report.step_rms,
        weight_rms: report.weight_rms,
        ratio: report.ratio,
        radius: report.radius,
        held: report.held as i64,
        clamped: report.clamped as i64,
        refused_gradients: report.refused.gradients as i64,
        refused_parameters: report.refused.parameters as i64,
        refused_updates: report.refused.updates as i64,
        flips: report.flips as i64,
        trits: report.trits as i64,
        flip_share: f64::NAN,
        cosine: f64::NAN,
        signal: f64::NAN,
        radius_factor: report.factor,
        skipped: report.skipped as i64,
        undone: report.undone as i64,
        check_due: i32::from(report.check_due),
        reserved: 0,
    }
}

/// # Safety
/// `report` is NULL or points to a writable struct as large as it says.
pub unsafe fn write_report(out: *mut setun_step_report, report: &Report) -> Result<()> {
    if out.is_null() {
        return Ok(());
    }
    // SAFETY: passed on to the caller.
    unsafe { options::write(out, c_report(report), "report") }
}

/// # Safety
/// `report` is NULL or points to a struct as large as it says.
pub unsafe fn check_report(report: *const setun_step_report) -> Result<()> {
    if report.is_null() {
        return Ok(());
    }
    // SAFETY: passed on to the caller.
    unsafe { options::check(report, "report") }
}

/// A refused step, and that the guard stops, are told to the caller twice: in the report, and as the status.
pub fn outcome(report: Report) -> Result<()> {
    report.refusal.map(|refusal| refusal.error).or(report.stop).map_or(Ok(()), Err)
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_options_init(options: *mut setun_optimizer_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// One step of `parameters` [n] along `gradient` [n], as a matrix's: with weight_decay and radius_floor.
///
/// `moments` [2, n] is what AdamW remembers, yours to keep: 0 before the first step, then what the last call left.
/// `step` counts from 1, by one for each step taken. The radius is the options' (of NAN in the exact mode, that of d
/// = 128, whatever n is); it does not shrink. NULL options = the defaults. `report`, unless NULL, is filled also when
/// the step is refused.
///
/// Returns ARGUMENT (overlap; misaligned; moments that no such number of steps can leave, naming the element; another
/// method, states, radius_base or flip_budget than the defaults, naming it), STATE (refused, naming the element where
/// there is one: nothing was written but the report), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_step(
    parameters: *mut f32,
    gradient: *const f32,
    n: i64,
    moments: *mut f32,
    step: i64,
    options: *const setun_optimizer_options,
    report: *mut setun_step_report,
) -> setun_status {
    guard("step", || {
        // SAFETY: structs as large as they say are the caller's contract.
        let options = unsafe {
            check_report(report)?;
            options::read(options, "options")?
        };
        let context = context::resolve(options.context)?;
        guard_options(&options)?;
        let options = step_options(&options)?;
        options.validate()?;
        let others = [
            ("method", options.method != Method::AdamW),
            ("states", options.precision != Precision::F32),
            ("radius_base", options.radius_base != RadiusBase::Current),
            ("flip_budget", options.flip_budget != 1.0),
        ];
        if let Some((name, _)) = others.into_iter().find(|(_, is_other)| *is_other) {
            return Err(error!(Argument, "{name} is not the default, which takes a setun_optimizer"));
        }
        let n = size(n, "n")?;
        let pair = count::<f32>(&[2, n], "moments")?;
        ensure!(step >= 1, Argument, "step is {step}, expected 1 for the first, 2 for the next");
        check_apart(
            &[extent("parameters", parameters, n), extent("moments", moments, pair)],
            &[extent("gradient", gradient, n)],
        )?;
        // SAFETY: NULL and alignment are checked, what is written lies apart; the lengths are the caller's contract.
        let (gradient, weights, moments) = unsafe {
            let halves = [moments, moments.wrapping_add(n)];
            let moments = [lend(halves[0], &[n], "moments")?, lend(halves[1], &[n], "moments")?];
            (slice(gradient, n, "gradient")?, lend(parameters, &[n], "parameters")?, moments)
        };
        let own = ParameterOptions::of(Kind::Matrix);
        let mut parameter = Parameter::with_states("parameters", moments, &options, &own)?;
        let mut held = Held::default();
        held.push(weights)?;
        let gradient = View::of(gradient, &[n])?;
        let done = step_alone(&context, &options, step as u64, &mut parameter, &mut held, &gradient)?;
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { write_report(report, &done) }?;
        outcome(done)
    })
}
