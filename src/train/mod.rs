//! Verb 4: text in, ternary language model out.
//!
//! | file | what |
//! |---|---|
//! | `text.rs`, `tokenizer/`, `dataset.rs` | from a file or folder to tokens, and windows of them |
//! | `windows.rs`, `sampling.rs` | which windows a batch reads: anywhere, or balanced over clusters of the text |
//! | `config.rs` | [`TrainOptions`]: what a run is told, checked once |
//! | `adaptive.rs` | the band that the weights keep the learning rate in |
//! | `optimizer.rs` | the verb `step` over all parameters of the model |
//! | `step.rs`, `done.rs` | one step of a run and the memory it works in; what it measured |
//! | `release.rs` | the same where the gradients of a stage are given up before the next one's are there |
//! | `cluster_loss.rs` | the training loss of each cluster |
//! | `metrics.rs` | [`Metrics`]: what a run reports, and metrics.jsonl |
//! | `record.rs` | trainer.json: what a checkpoint was made by, and the checksums of its files |
//! | `checkpoint.rs` | folders of checkpoints: written whole, verified before use, pruned |
//! | `evaluation.rs` | the loss over the validation split |
//! | `state.rs` | parameters and optimizer states to bytes and back |
//! | `trainer.rs` | [`Trainer`]: the loop |
//! | `generate.rs` | [`Generation`]: text from a model |
//! | `pipeline.rs` | [`train`]: from a text to a trained model |

mod adaptive;
mod checkpoint;
mod cluster_loss;
mod config;
mod dataset;
mod done;
mod evaluation;
mod generate;
mod metrics;
mod optimizer;
mod pipeline;
mod record;
mod release;
mod sampling;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod text;
mod tokenizer;
mod trainer;
mod windows;

pub use config::{GradientQuantization, TrainOptions};
pub use dataset::{Dataset, Split};
pub use generate::Generation;
pub use metrics::Metrics;
pub use pipeline::{Plan, train};
pub use text::read_text;
pub use tokenizer::{Tokenizer, TokenizerKind};
pub use trainer::{RunEnd, Trainer};
