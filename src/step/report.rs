//! What a step did.

use super::guard::Skip;
use super::options::{RadiusMode, StepOptions};
use super::update::Turn;
use crate::tensor::Error;

/// Why a step was refused. Nothing has changed then, but for the radius after an update that was too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// A gradient holds a NaN or an infinity, or their norm is beyond f32.
    Gradient,
    /// A parameter held a NaN or an infinity, or was beyond f32, before the step.
    Parameter,
    /// A parameter or a state would have become a NaN or an infinity.
    Update,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// STATE, naming the parameter and, where there is one, the element.
    pub error: Error,
}

/// How many steps were refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub gradients: u64,
    pub parameters: u64,
    pub updates: u64,
}

/// One parameter's part of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterReport {
    /// The norm of its gradient, before clipping.
    pub gradient_norm: f64,
    /// The learning rate that it took: lower than asked for where the radius or the flip budget held it.
    pub learning_rate: f64,
    /// rms of the step, before the box, and of the weights, before the step.
    pub step_rms: f64,
    pub weight_rms: f64,
    /// step_rms / max(weight_rms, floor), with the rms before the first step where the radius is a share of that: what the radius
    /// bounds; 0 where both are 0.
    pub ratio: f64,
    /// Whether the radius made the step another than the learning rate asked for.
    pub held: bool,
    /// Elements that the box held.
    pub clamped: u64,
    /// Trits that changed, by the threshold from before the step, and how many there are, of a ternary parameter whose threshold is
    /// known.
    pub flips: u64,
    pub trits: u64,
    /// What the flip budget left of the step: 1 where it did not hold it.
    pub flip_share: f64,
    /// The cosine of gradient and first moment, and the mean of m^2 over that of v; NaN where there is none of them.
    pub cosine: f64,
    pub signal: f64,
}

/// Of a step that was not taken.
impl Default for ParameterReport {
    fn default() -> Self {
        ParameterReport {
            gradient_norm: 0.0,
            learning_rate: 0.0,
            step_rms: 0.0,
            weight_rms: 0.0,
            ratio: 0.0,
            held: false,
            clamped: 0,
            flips: 0,
            trits: 0,
            flip_share: 1.0,
            cosine: f64::NAN,
            signal: f64::NAN,
        }
    }
}

/// A step of all parameters together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Steps taken so far; refused ones do not count.
    pub step: u64,
    pub refusal: Option<Refusal>,
    /// The schedule's.
    pub learning_rate: f64,
    /// The norm over all gradients, before clipping, and what clipping multiplied them by.
    pub gradient_norm: f64,
    pub gradient_scale: f64,
    /// rms over the elements of all parameters.
    pub step_rms: f64,
    pub weight_rms: f64,
    /// The largest of the parameters' ratios.
    pub ratio: f64,
    /// The radius that held in this step; infinite where the mode is off.
    pub radius: f64,
    /// Parameters that the radius held.
    pub held: u64,
    /// Elements that the box held.
    pub clamped: u64,
    /// Trits that changed, and how many there are in the parameters where that is known.
    pub flips: u64,
    pub trits: u64,
    pub refused: Counters,
    /// What refusals and undone steps have left of the radius.
    pub factor: f64,
    /// Batches skipped and steps undone so far; why this batch was skipped, if it was, and whether this step can be undone.
    pub skipped: u64,
    pub undone: u64,
    pub skip: Option<Skip>,
    /// STATE where the guard has to skip all the time.
    pub stop: Option<Error>,
    pub check_due: bool,
}

impl Report {
    /// Before anything was done.
    pub(super) fn of(options: &StepOptions, turn: &Turn) -> Report {
        Report {
            step: turn.number - 1,
            learning_rate: options.learning_rate * turn.schedule,
            gradient_scale: 1.0,
            radius: match options.radius_mode {
                RadiusMode::Off => f64::INFINITY,
                _ => options.common_radius() * turn.schedule * turn.factor,
            },
            ..Report::default()
        }
    }
}
