//! Verb 3, step: updates of parameters that the caller owns, kept inside a trust region and a box.
//!
//! | file | what |
//! |---|---|
//! | `options.rs` | [`StepOptions`], what holds for all parameters, and [`ParameterOptions`], what one has of its own |
//! | `parameter.rs` | [`Parameter`]: one tensor with its AdamW states |
//! | `update.rs` | [`take_step`](update::take_step): measure all, then change all or nothing |
//! | `optimizer.rs` | [`Optimizer`]: parameters by name, the count of steps, the radius in force |
//! | `report.rs` | [`Report`]: what a step did, and why one was refused |
//! | `state.rs` | a checkpoint of an optimizer: to a safetensors file and back |
//! | `problem/` | the solver for functions of the caller's, in f64, with bounds, a ball and linear constraints |
//!
//! One step, for each tensor w with gradient g, where every rms is over the tensor's elements:
//!
//! ```text
//! m, v       AdamW's running means of g and g^2 (Loshchilov & Hutter, arXiv 1711.05101), g clipped by the norm of all
//! d          m_hat / (sqrt(v_hat) + epsilon) + weight_decay w
//! L          R max(rms(w), floor): the trust region, relative to the weights as in LARS (arXiv 1708.03888) and LAMB
//!            (arXiv 1904.00962)
//! a          the learning rate; as a cap min(learning rate, L / rms(d)); as an exact radius L / rms(d)
//! w          clamp(w - a d, lower, upper)
//! ```
//!
//! A step changes all tensors or none. rms(d) is measured before anything is written, and with it every new value is known
//! to be finite or the step is refused: undoing needs no copy, so the memory is AdamW's own, two floats an element.

mod optimizer;
mod options;
mod parameter;
pub mod problem;
mod report;
mod state;
#[cfg(test)]
mod tests;
mod update;

pub use optimizer::Optimizer;
pub use options::{Kind, ParameterOptions, RadiusMode, StepOptions};
pub use parameter::Parameter;
pub use report::{RefusalKind, Report};
pub use update::step_alone;
