//! Spans: the innermost loops, on raw pointers and lengths. Infallible, without allocation, threads or panics.
//!
//! These files import only `core`, `wide`, `bytemuck` and each other, because they are compiled several times: as this
//! module for the baseline CPU level, and by build.rs as one archive per higher level (`archive.rs`).

// Every function here is unsafe for the same reason: pointers must be valid for the stated lengths.
#![allow(unsafe_op_in_unsafe_fn, clippy::missing_safety_doc, clippy::too_many_arguments)]
// Tiles of registers are arrays, and read best by index.
#![allow(clippy::needless_range_loop)]

mod activation;
mod attention;
mod attention_cached;
mod ceiling;
mod codebook;
mod cross_entropy;
mod dots;
mod elementwise;
mod embedding;
mod feed_forward;
mod fused_norm;
mod gradient;
mod integer_gradient;
mod kmeans;
mod kmeans_projected;
mod kmeans_seed;
mod kmeans_update;
mod magnitudes;
mod mask_sign;
mod math;
mod matmul;
mod matmul_rows;
mod norm;
mod panels;
mod reduce;
mod rope;
mod scheme;
mod step;
mod step_codes;
mod step_factors;
mod step_measures;
mod table;
mod ternary;
mod vector;

pub use attention::AttentionShape;
pub use ceiling::{FLOAT_PEAK_ROUND, INT8_PEAK_CODES, INT8_PEAK_ROUND, READ_PEAK_BYTES, UNPACK_PEAK_ROUND};
pub use elementwise::PhiloxStream;
pub use integer_gradient::COLUMNS;
pub use kmeans::{
    KMeansCentroids, KMeansExact, KMeansFound, KMeansRows, PANEL as KMEANS_PANEL, PANELS as KMEANS_PANELS,
};
pub use kmeans::{ROWS as KMEANS_ROWS, SLICE as KMEANS_SLICE, STATE as KMEANS_STATE};
pub use kmeans_projected::KMeansWhole;
pub use kmeans_seed::KMeansSeed;
pub use magnitudes::{Bins, COUNT_SHIFT, HISTOGRAM, SMALL, TABLES, integer_factors, mean_scale};
pub use matmul::PANEL;
pub use step::{ADAMW, FACTORED, GIVEN, MOMENTUM, NESTEROV};
pub use step::{StepNumbers, StepScalars, StepTensors};
pub use step_measures::{FLIP_BINS, SUMS as STEP_SUMS};
pub use table::{DecodeMaskSign, Spans};

/// Takes what multiplies codes by the instructions of this level.
#[cfg(target_feature = "avx512vnni")]
pub fn take_products(spans: &mut Spans) {
    spans.panel_product = matmul::panel_product;
    spans.panel_product_written = matmul::panel_product_written;
    spans.panel_product_scaled = matmul::panel_product_scaled;
    spans.code_sums = integer_gradient::code_sums;
    spans.weight_product = integer_gradient::weight_product;
    spans.plane = matmul_rows::PLANE;
    spans.row_products = matmul_rows::row_products;
    spans.int8_peak = ceiling::int8_peak;
    spans.unpack_peak = ceiling::unpack_peak;
}

#[cfg_attr(target_feature = "avx512vnni", allow(dead_code))]
pub static SPANS: Spans = Spans {
    fill: elementwise::fill,
    add: elementwise::add,
    dropout: elementwise::dropout,
    clamp: elementwise::clamp,
    absolute_sums: reduce::absolute_sums,
    square_sums: reduce::square_sums,
    first_non_finite: reduce::first_non_finite,
    absmean: scheme::absmean,
    mean_above: scheme::mean_above,
    sums_above: scheme::sums_above,
    small_medians: magnitudes::small_medians,
    small_least_squares: magnitudes::small_least_squares,
    largest_magnitude: magnitudes::largest_magnitude,
    magnitude_histogram: magnitudes::magnitude_histogram,
    magnitudes_between: magnitudes::magnitudes_between,
    ternarize: scheme::ternarize,
    ternarize_stochastic: scheme::ternarize_stochastic,
    deternarize_groups: scheme::deternarize_groups,
    deternarize: ternary::deternarize,
    pack_two_bit: ternary::pack_two_bit,
    unpack_two_bit: ternary::unpack_two_bit,
    five_trits: ternary::five_trits,
    count_nonzeros: mask_sign::count_nonzeros,
    count_ones: mask_sign::count_ones,
    unpack_mask_sign: mask_sign::unpack_mask_sign,
    mask_sign_trits: mask_sign::mask_sign_trits,
    pack_mask_sign: mask_sign::pack_mask_sign,
    unpack_mask_sign_in_steps: mask_sign::unpack_mask_sign_in_steps,
    mask_sign_trits_in_steps: mask_sign::mask_sign_trits_in_steps,
    pack_mask_sign_in_steps: mask_sign::pack_mask_sign_in_steps,
    pack_five: ternary::pack_five,
    unpack_five: ternary::unpack_five,
    holds_code_three: ternary::holds_code_three,
    largest_byte: ternary::largest_byte,
    quantize_activations: activation::quantize_activations,
    dequantize_activations: activation::dequantize_activations,
    quantize_gradients: gradient::quantize_gradients,
    gradient_magnitudes: gradient::gradient_magnitudes,
    ternarize_gradients: gradient::ternarize_gradients,
    unpack_panel: matmul::unpack_panel,
    arrange_codes: matmul::arrange_codes,
    panel_product: matmul::panel_product,
    panel_product_written: matmul::panel_product_written,
    unpack_panel_transposed: integer_gradient::unpack_panel_transposed,
    code_sums: integer_gradient::code_sums,
    quantize_columns: integer_gradient::quantize_columns,
    token_panels: integer_gradient::token_panels,
    weight_product: integer_gradient::weight_product,
    panel_product_scaled: matmul::panel_product_scaled,
    plane: matmul_rows::PLANE,
    split_codes: matmul_rows::split_codes,
    row_products: matmul_rows::row_products,
    scale_totals: matmul::scale_totals,
    float_panel_product: panels::float_panel_product,
    scale_groups: matmul_rows::scale_groups,
    embedding_backward: embedding::embedding_backward,
    rms_norm: norm::rms_norm,
    rms_norm_backward: norm::rms_norm_backward,
    rms_norm_quantize: fused_norm::rms_norm_quantize,
    squared_relu_norm_quantize: fused_norm::squared_relu_norm_quantize,
    squared_relu_norm_backward: fused_norm::squared_relu_norm_backward,
    rope: rope::rope,
    attention: attention::attention,
    attention_backward: attention::attention_backward,
    attention_cached: attention_cached::attention_cached,
    squared_relu: feed_forward::squared_relu,
    squared_relu_backward: feed_forward::squared_relu_backward,
    gated_squared_relu: feed_forward::gated_squared_relu,
    gated_squared_relu_backward: feed_forward::gated_squared_relu_backward,
    cross_entropy: cross_entropy::cross_entropy,
    cross_entropy_gradient: cross_entropy::cross_entropy_gradient,
    step: step::step,
    step_sums: step_measures::step_sums,
    step_flips: step_measures::step_flips,
    step_momentum: step::step_momentum,
    step_factor_row: step_factors::step_factor_row,
    step_factor_columns: step_factors::step_factor_columns,
    scale: step::scale,
    kmeans_pack: kmeans::kmeans_pack,
    kmeans_centre: kmeans::kmeans_centre,
    kmeans_nearest: kmeans::kmeans_nearest,
    kmeans_exact: kmeans::kmeans_exact,
    kmeans_least: kmeans::kmeans_least,
    kmeans_bounds: kmeans_projected::kmeans_bounds,
    kmeans_refine: kmeans_projected::kmeans_refine,
    kmeans_distances: kmeans_update::kmeans_distances,
    kmeans_seed: kmeans_seed::kmeans_seed,
    kmeans_update: kmeans_update::kmeans_update,
    kmeans_add_members: kmeans_update::kmeans_add_members,
    kmeans_add: kmeans_update::kmeans_add,
    codebook_labels: codebook::codebook_labels,
    codebook_pack: codebook::codebook_pack,
    codebook_unpack: codebook::codebook_unpack,
    float_peak: ceiling::float_peak,
    int8_peak: ceiling::int8_peak,
    unpack_peak: ceiling::unpack_peak,
    read_peak: ceiling::read_peak,
};
