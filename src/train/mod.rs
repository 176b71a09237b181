//! Verb 4: text in, ternary language model out.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | [`TrainOptions`]: what a run is told, checked once |
//! | `schedule.rs` | [`Schedule`]: the learning rate of a step |
//! | `optimizer.rs` | AdamW over all parameters, the gradient norm and clipping |
//! | `metrics.rs` | [`Metrics`]: what a run reports, and metrics.jsonl |
//! | `identity.rs` | what makes a checkpoint this run's and not another's |
//! | `checkpoint.rs` | folders of checkpoints: written whole, verified before use, pruned |
//! | `trainer.rs` | [`Trainer`]: the loop |

mod config;
mod schedule;

pub use config::TrainOptions;
pub use schedule::Schedule;
