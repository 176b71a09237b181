//! Verb 3, step: updates of parameters that the caller owns, kept inside a trust region and a box.
//!
//! | file | what |
//! |---|---|
//! | `options.rs` | [`StepOptions`], what holds for all parameters, and [`ParameterOptions`], what one has of its own |
//! | `parameter.rs` | [`Parameter`]: the states of one tensor, [`Weights`]: the tensors themselves |
//! | `weights.rs` | [`Held`]: weights over memory of a caller, or codes of the optimizer's own |
//! | `update.rs` | [`Step`](update::Step): measure all, then change all or nothing |
//! | `measure.rs`, `apply.rs` | how far it would go, and the step itself |
//! | `bound.rs` | how far AdamW can go at most: what needs no measuring |
//! | `muon.rs` | Muon's direction: a momentum made orthogonal |
//! | `flips.rs` | the flip budget: how much of a step leaves so many trits as they are |
//! | `radius.rs` | the radius where none is given |
//! | `schedule.rs` | [`Schedule`]: learning rate and radius as functions of the step |
//! | `optimizer.rs` | [`Optimizer`]: parameters by name, the count of steps, the radius in force |
//! | `guard.rs`, `snapshot.rs` | [`Guard`]: batches that are skipped, and steps that are undone |
//! | `report.rs` | [`Report`]: what a step did, and why one was refused |
//! | `state.rs` | a checkpoint of an optimizer: to a safetensors file and back |
//! | `lr_net/` | [`LrNet`]: a small network that adapts learning rates, for optimizers of any kind |
//! | `problem/` | the solver for functions of the caller's, in f64, with bounds, a ball and linear constraints |
//!
//! One step, for each tensor w with gradient g, where every rms is over the tensor's elements:
//!
//! ```text
//! m, v       running means of g and g^2, g clipped by the norm of all; in f32, or codes of 8 bits
//! d          m_hat / (sqrt(v_hat) + epsilon) + weight_decay w: AdamW's (Loshchilov & Hutter, arXiv 1711.05101); in place of its
//!            first term Muon's orthogonal momentum, or momentum
//! L          R max(rms(w), floor): the trust region, relative to the weights as in LARS (arXiv 1708.03888) and LAMB
//!            (arXiv 1904.00962)
//! a          the learning rate; as a cap min(learning rate, L / rms(d)); as an exact radius L / rms(d); of ternary w, less where
//!            more trits would change than the flip budget has
//! w          clamp(w - a d, lower, upper)
//! ```
//!
//! A step changes all tensors or none. rms(d) is measured before anything is written, or known to be short enough whatever it is,
//! and with it every new value is known to be finite or the step is refused: that needs no copy. Only the steps that the guard
//! checks do.

mod apply;
mod bound;
mod extras;
mod flips;
mod guard;
mod lr_net;
mod measure;
mod muon;
mod optimizer;
mod options;
mod parameter;
pub mod problem;
mod radius;
mod report;
mod schedule;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod update;
mod weights;

pub use guard::{Guard, GuardOptions, Skip};
pub use lr_net::{FEATURES, LrNet, LrNetOptions, MOST_PARAMETERS, Observation, Part, WEIGHTS};
pub use optimizer::{Batch, Optimizer, Progress};
pub use options::{Kind, Method, ParameterOptions, Precision, RadiusBase, RadiusMode, StepOptions};
pub use parameter::{Parameter, Weight, Weights};
pub use report::{RefusalKind, Report};
pub use schedule::{Decay, Schedule};
pub use update::step_alone;
pub use weights::Held;
