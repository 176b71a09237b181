//! Verb 1, quantize: float weights to ternary and back, packings, and products on the packed form.
//!
//! | file | what |
//! |---|---|
//! | `packing.rs` | [`Matrix`]: trits and their packings into each other; count, check |
//! | `group.rs` | [`Group`]: which weights share a scale |
//! | `scheme.rs` | [`Scheme`]: float weights to trits and scales, and back |
//! | `report.rs` | [`report::Report`]: the error and the bytes of a quantized matrix |
//! | `product.rs` | activations to 8 bits; the ternary product and its gradient |
//! | `gradients.rs` | gradients to int8 codes or trits, one scale a block, and back |
//! | `archive.rs` | [`Archive`]: packed matrices and tensors in files |
//! | `packed.rs` | [`PackedTensor`]: a matrix checked once and kept ready |
//!
//! Bad input is found before anything is written, so that outputs of a failed call are untouched.

mod archive;
mod gradients;
mod group;
mod packed;
mod packing;
mod product;
mod report;
mod scheme;
#[cfg(test)]
mod tests;

pub use crate::tensor::Packing;
pub use archive::{Archive, EntryKind};
pub use gradients::{
    GradientCodes, dequantize_gradients, deternarize_gradients, gradient_blocks, quantize_gradients,
    ternarize_gradients,
};
pub use group::Group;
pub use packed::PackedTensor;
pub use packing::{Matrix, histogram, pack, repack, unpack};
pub use product::{Weights, matmul, matmul_backward, quantize_activations};
pub use report::{Report, measure};
pub use scheme::{Quantization, Rounding, Scheme, dequantize, quantize};

use crate::backend::Context;
use crate::tensor::error::error;
use crate::tensor::{Result, View};

/// ARGUMENT, naming the first NaN or infinity of `values`.
fn check_finite(context: &Context, values: &[f32], name: &str) -> Result<()> {
    let view = View::of(values, &[values.len()])?;
    match (context.kernels().first_non_finite)(context.launch(), &view)? {
        None => Ok(()),
        Some(index) => Err(error!(Argument, "{name}[{index}] is {}, expected a finite number", values[index])),
    }
}

/// SHAPE, unless `name` holds as many elements as it must.
fn check_length(name: &str, length: usize, expected: usize) -> Result<()> {
    crate::tensor::error::ensure!(length == expected, Shape, "{name} holds {length} elements, expected {expected}");
    Ok(())
}
