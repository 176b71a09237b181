//! The vector kernels. Each file here is a driver: it checks what memory safety stands on, cuts the work into chunks whose
//! size is a function of shape only, and calls [`Spans`] on raw pointers. With `Executor::Serial` this is the `simd` row,
//! with a pool it is `parallel`: same chunks, same order of every sum, same bits.

mod adamw;
mod attention;
mod chunks;
mod cross_entropy;
mod elementwise;
mod embedding;
mod feed_forward;
mod level;
mod norm;
mod rope;
mod spans;

pub use level::Level;
#[cfg(test)]
pub use spans::PhiloxStream;
pub use spans::Spans;

use super::scalar;
use super::table::Kernels;

pub const KERNELS: Kernels = Kernels {
    fill: elementwise::fill,
    add: elementwise::add,
    dropout: elementwise::dropout,
    embedding: embedding::embedding,
    embedding_backward: embedding::embedding_backward,
    rms_norm: norm::rms_norm,
    rms_norm_backward: norm::rms_norm_backward,
    rope: rope::rope,
    attention: attention::attention,
    attention_backward: attention::attention_backward,
    squared_relu: feed_forward::squared_relu,
    squared_relu_backward: feed_forward::squared_relu_backward,
    gated_squared_relu: feed_forward::gated_squared_relu,
    gated_squared_relu_backward: feed_forward::gated_squared_relu_backward,
    cross_entropy: cross_entropy::cross_entropy,
    cross_entropy_gradient: cross_entropy::cross_entropy_gradient,
    adamw: adamw::adamw,
    ..scalar::KERNELS
};
