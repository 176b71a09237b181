//! The vector kernels. Each file here is a driver: it checks what memory safety stands on, cuts the work into chunks whose
//! size is a function of shape only, and calls [`Spans`] on raw pointers. With `Executor::Serial` this is the `simd` row,
//! with a pool it is `parallel`: same chunks, same order of every sum, same bits.

mod activation;
#[cfg(test)]
mod archive_check;
mod attention;
mod attention_cached;
pub mod chunks;
mod codebook;
mod cross_entropy;
mod elementwise;
mod embedding;
mod feed_forward;
mod few_rows;
mod fused_norm;
mod gradient;
mod integer_gradient;
mod kmeans;
mod kmeans_block;
mod kmeans_closest;
mod kmeans_packed;
mod kmeans_projected;
mod kmeans_seed;
mod level;
mod magnitudes;
mod many_rows;
mod mask_sign;
mod matmul;
mod matmul_ternary;
mod matmul_ternary_qkv;
mod norm;
mod reduce;
mod rope;
mod scheme;
mod spans;
mod step;
mod ternary;
mod weights;

pub use level::Level;
#[cfg(test)]
pub use spans::PhiloxStream;
pub use spans::{FLOAT_PEAK_ROUND, INT8_PEAK_CODES, INT8_PEAK_ROUND, READ_PEAK_BYTES, Spans, UNPACK_PEAK_ROUND};

use super::table::Kernels;

pub const KERNELS: Kernels = Kernels {
    fill: elementwise::fill,
    add: elementwise::add,
    dropout: elementwise::dropout,
    clamp: elementwise::clamp,
    sum_squares: reduce::sum_squares,
    first_non_finite: reduce::first_non_finite,
    absmean: scheme::absmean,
    absmedian: magnitudes::absmedian,
    least_squares: magnitudes::least_squares,
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
    matmul_ternary: matmul_ternary::matmul_ternary,
    matmul_ternary_qkv: matmul_ternary_qkv::matmul_ternary_qkv,
    matmul_ternary_backward: matmul_ternary::matmul_ternary_backward,
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
    scale: step::scale,
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
