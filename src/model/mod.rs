//! The transformer (BitNet b1.58, arXiv 2402.17764), written once over the kernel table: every backend runs this code.
//!
//! | file | what |
//! |---|---|
//! | `options.rs` | the geometry and its rules |
//! | `parameters.rs` | names, kinds, sizes and initial values of the parameters |
//! | `linear.rs` | one linear layer: ternary, or the f32 twin's |
//! | `activations.rs` | all memory of a forward and backward pass, allocated once |
//! | `attention.rs`, `feed_forward.rs` | the two blocks of a layer, forward and backward |
//! | `transformer.rs` | embedding, layers, head and loss |
//! | `backward.rs` | the same backward, part by part |
//! | `decoder.rs` | one token at a time, with a KV cache |
//! | `sample.rs` | from logits to a token |
//! | `sampler.rs` | a text that grows token by token |
//! | `teacher.rs` | learning from another model's probabilities |
//! | `workspace.rs` | gradients of a batch, slice by slice, in memory that is kept |
//! | `copy.rs` | a model to go on training from, of a packed one or of the other kind |
//! | `file.rs` | the model as a .safetensors file |

mod activations;
mod attention;
mod backward;
mod copy;
mod decoder;
mod feed_forward;
pub mod file;
mod linear;
mod options;
mod parameters;
#[cfg(test)]
mod reference;
mod sample;
mod sampler;
mod teacher;
#[cfg(test)]
mod tests;
mod transformer;
mod workspace;

pub use activations::{Activations, Gradients};
pub use backward::{BackwardInput, Stage};
pub use copy::trainable;
pub use decoder::{Decoder, KvCache};
pub use linear::{GradientProducts, Products};
pub use options::ModelOptions;
pub use parameters::{Description, Parameter, ParameterKind, describe};
pub use sample::{SampleOptions, sample};
pub use sampler::Sampler;
pub use teacher::{Teacher, check_weight};
pub use transformer::{Draw, Model};
#[cfg(test)]
pub use workspace::slice;
pub use workspace::{Form, MOST_SLICES, SLICE_TOKENS, Slices, Workspace, slices};
