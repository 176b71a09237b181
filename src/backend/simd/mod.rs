//! The vector kernels. Each file here is a driver: it checks what memory safety stands on, cuts the work into chunks whose
//! size is a function of shape only, and calls [`Spans`] on raw pointers. With `Executor::Serial` this is the `simd` row,
//! with a pool it is `parallel`: same chunks, same order of every sum, same bits.

mod activation;
mod chunks;
mod level;
mod matmul;
mod matmul_ternary;
mod reduce;
mod spans;
mod ternary;

pub use level::Level;
pub use spans::Spans;

use super::scalar;
use super::table::Kernels;

pub const KERNELS: Kernels = Kernels {
    sum_squares: reduce::sum_squares,
    first_non_finite: reduce::first_non_finite,
    absmean: ternary::absmean,
    ternarize: ternary::ternarize,
    deternarize: ternary::deternarize,
    pack_five: ternary::pack_five,
    unpack_five: ternary::unpack_five,
    quantize_activations: activation::quantize_activations,
    dequantize_activations: activation::dequantize_activations,
    matmul: matmul::matmul,
    matmul_ternary: matmul_ternary::matmul_ternary,
    matmul_ternary_backward: matmul_ternary::matmul_ternary_backward,
    ..scalar::KERNELS
};
