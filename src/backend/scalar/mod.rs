//! The reference row: the definition of every operation, written to be read.

use super::table::Kernels;
use crate::tensor::error::error;

pub const KERNELS: Kernels = Kernels {
    fill: |_, _, _| Err(error!(Internal, "fill is not written")),
    add: |_, _, _| Err(error!(Internal, "add is not written")),
    dropout: |_, _, _, _| Err(error!(Internal, "dropout is not written")),
    sum_squares: |_, _, _| Err(error!(Internal, "sum_squares is not written")),
    first_non_finite: |_, _| Err(error!(Internal, "first_non_finite is not written")),
    absmean: |_, _, _, _| Err(error!(Internal, "absmean is not written")),
    ternarize: |_, _, _, _| Err(error!(Internal, "ternarize is not written")),
    deternarize: |_, _, _, _| Err(error!(Internal, "deternarize is not written")),
    pack_five: |_, _, _, _| Err(error!(Internal, "pack_five is not written")),
    unpack_five: |_, _, _, _| Err(error!(Internal, "unpack_five is not written")),
    quantize_activations: |_, _, _, _| Err(error!(Internal, "quantize_activations is not written")),
    dequantize_activations: |_, _, _, _| Err(error!(Internal, "dequantize_activations is not written")),
    matmul: |_, _, _, _, _| Err(error!(Internal, "matmul is not written")),
    matmul_ternary: |_, _, _, _, _, _| Err(error!(Internal, "matmul_ternary is not written")),
    matmul_ternary_backward: |_, _, _, _, _| Err(error!(Internal, "matmul_ternary_backward is not written")),
    embedding: |_, _, _, _| Err(error!(Internal, "embedding is not written")),
    embedding_backward: |_, _, _, _| Err(error!(Internal, "embedding_backward is not written")),
    rms_norm: |_, _, _, _, _, _| Err(error!(Internal, "rms_norm is not written")),
    rms_norm_backward: |_, _, _, _, _, _, _, _| Err(error!(Internal, "rms_norm_backward is not written")),
    rope: |_, _, _, _, _| Err(error!(Internal, "rope is not written")),
    attention: |_, _, _, _, _, _| Err(error!(Internal, "attention is not written")),
    attention_backward: |_, _, _, _, _, _, _, _, _, _| Err(error!(Internal, "attention_backward is not written")),
    squared_relu: |_, _, _| Err(error!(Internal, "squared_relu is not written")),
    squared_relu_backward: |_, _, _, _| Err(error!(Internal, "squared_relu_backward is not written")),
    gated_squared_relu: |_, _, _, _| Err(error!(Internal, "gated_squared_relu is not written")),
    gated_squared_relu_backward: |_, _, _, _, _, _| Err(error!(Internal, "gated_squared_relu_backward is not written")),
    cross_entropy: |_, _, _, _| Err(error!(Internal, "cross_entropy is not written")),
    cross_entropy_gradient: |_, _, _, _, _| Err(error!(Internal, "cross_entropy_gradient is not written")),
    adamw: |_, _, _, _, _, _| Err(error!(Internal, "adamw is not written")),
};
