//! The reference row: the definition of every operation, written to be read. Generic over f32 and f64 where the contract in
//! `table.rs` says `f`; the vector rows are tested against it, and gradient checks run the whole model on it in f64.

// The kernel contracts have as many arguments as they need.
#![allow(clippy::too_many_arguments)]

pub mod activation;
pub mod attention;
pub mod attention_cached;
pub mod codebook;
pub mod cross_entropy;
mod elementwise;
pub mod embedding;
pub mod feed_forward;
pub mod fused_norm;
pub mod gradient;
pub mod integer_gradient;
pub mod kmeans;
pub mod kmeans_closest;
pub mod kmeans_seed;
pub mod mask_sign;
pub mod matmul;
pub mod matmul_ternary_qkv;
pub mod norm;
pub mod reduce;
pub mod rope;
pub mod scheme;
pub mod step;
pub mod ternary;

use super::table::Kernels;

/// Runs `$function::<f32>` or `::<f64>` by the element type of a view; any other type is a DTYPE error.
macro_rules! by_float {
    ($view:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $view.dtype() {
            $crate::tensor::DType::F32 => $function::<f32>($($argument),*),
            $crate::tensor::DType::F64 => $function::<f64>($($argument),*),
            other => Err($crate::tensor::error::error!(DType, "expected a tensor of f32 or f64, got {other}")),
        }
    };
}
use by_float;

#[cfg(test)]
mod testing;

pub const KERNELS: Kernels = Kernels {
    fill: elementwise::fill,
    add: elementwise::add,
    dropout: elementwise::dropout,
    clamp: elementwise::clamp,
    sum_squares: reduce::sum_squares,
    first_non_finite: reduce::first_non_finite,
    absmean: scheme::absmean,
    absmedian: scheme::absmedian,
    least_squares: scheme::least_squares,
    mean_above: scheme::mean_above,
    ternarize: scheme::ternarize,
    ternarize_stochastic: scheme::ternarize_stochastic,
    deternarize: scheme::deternarize,
    check_trits: ternary::check_trits,
    pack_two_bit: ternary::pack_two_bit,
    unpack_two_bit: ternary::unpack_two_bit,
    pack_five: ternary::pack_five,
    unpack_five: ternary::unpack_five,
    five_trits: ternary::five_trits,
    mask_sign_bytes: mask_sign::mask_sign_bytes,
    pack_mask_sign: mask_sign::pack_mask_sign,
    unpack_mask_sign: mask_sign::unpack_mask_sign,
    mask_sign_trits: mask_sign::mask_sign_trits,
    quantize_activations: activation::quantize_activations,
    dequantize_activations: activation::dequantize_activations,
    quantize_gradients: gradient::quantize_gradients,
    dequantize_gradients: gradient::dequantize_gradients,
    ternarize_gradients: gradient::ternarize_gradients,
    matmul: matmul::matmul,
    matmul_ternary: matmul::matmul_ternary,
    matmul_ternary_qkv: matmul_ternary_qkv::matmul_ternary_qkv,
    matmul_ternary_backward: matmul::matmul_ternary_backward,
    quantize_columns: integer_gradient::quantize_columns,
    weight_gradient: integer_gradient::weight_gradient,
    matmul_ternary_transposed: integer_gradient::matmul_ternary_transposed,
    embedding: embedding::embedding,
    embedding_backward: embedding::embedding_backward,
    rms_norm: norm::rms_norm,
    rms_norm_backward: norm::rms_norm_backward,
    rope: rope::rope,
    attention: attention::attention,
    attention_backward: attention::attention_backward,
    attention_cached: attention_cached::attention_cached,
    squared_relu: feed_forward::squared_relu,
    squared_relu_backward: feed_forward::squared_relu_backward,
    gated_squared_relu: feed_forward::gated_squared_relu,
    gated_squared_relu_backward: feed_forward::gated_squared_relu_backward,
    rms_norm_quantize: fused_norm::rms_norm_quantize,
    squared_relu_norm_quantize: fused_norm::squared_relu_norm_quantize,
    gated_squared_relu_norm_quantize: fused_norm::gated_squared_relu_norm_quantize,
    squared_relu_norm_backward: fused_norm::squared_relu_norm_backward,
    gated_squared_relu_norm_backward: fused_norm::gated_squared_relu_norm_backward,
    cross_entropy: cross_entropy::cross_entropy,
    cross_entropy_gradient: cross_entropy::cross_entropy_gradient,
    step_momentum: step::step_momentum,
    step_factors: step::step_factors,
    step_sums: step::step_sums,
    step_flips: step::step_flips,
    step: step::step,
    scale: elementwise::scale,
    kmeans_assign: kmeans::kmeans_assign,
    kmeans_update: kmeans::kmeans_update,
    kmeans_iterate: kmeans::kmeans_iterate,
    kmeans_distances: kmeans::kmeans_distances,
    kmeans_closest: kmeans_closest::kmeans_closest,
    kmeans_seed: kmeans_seed::kmeans_seed,
    codebook_labels: codebook::codebook_labels,
    codebook_pack: codebook::codebook_pack,
    codebook_unpack: codebook::codebook_unpack,
};
