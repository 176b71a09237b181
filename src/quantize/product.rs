//! Products on the packed form: y = x W^T with W ~ scale * t [n, k] and x quantized to 8 bits a row, summed as integers.

use super::packing::Matrix;
use super::packing::with_two_bit;
use super::scheme::check_scales;
use super::{check_finite, check_length};
use crate::backend::Context;
use crate::tensor::{Packing, Result, View, ViewMut, vec_zeroed};

/// x[m, k] to codes[m, k] and scales[m], x ~ scale * code. ARGUMENT for a NaN or an infinity, naming the first.
pub fn quantize_activations(
    context: &Context,
    x: &[f32],
    m: usize,
    k: usize,
    codes: &mut [i8],
    scales: &mut [f32],
) -> Result<()> {
    check_finite(context, x, "x")?;
    (context.kernels().quantize_activations)(
        context.launch(),
        &View::of(x, &[m, k])?,
        &mut ViewMut::of(codes, &[m, k])?,
        &mut ViewMut::of(scales, &[m])?,
    )
}

/// y[m, n] = x[m, k] * (scale * t[n, k])^T.
pub fn matmul(
    context: &Context,
    matrix: &Matrix,
    x: &[f32],
    m: usize,
    packed: &[u8],
    scale: f32,
    y: &mut [f32],
) -> Result<()> {
    check_scales(&[scale])?;
    with_two_bit(context, matrix, packed, |two_bit| matmul_two_bit(context, matrix, x, m, two_bit, scale, y))
}

/// The same on bytes that are checked and in the two-bit packing, whatever that of `matrix` is.
pub fn matmul_two_bit(
    context: &Context,
    matrix: &Matrix,
    x: &[f32],
    m: usize,
    two_bit: &[u8],
    scale: f32,
    y: &mut [f32],
) -> Result<()> {
    let (n, k) = (matrix.rows(), matrix.columns());
    check_length("x", x.len(), m * k)?;
    check_length("y", y.len(), m * n)?;
    let mut codes = vec_zeroed::<i8>(m * k)?;
    let mut scales = vec_zeroed::<f32>(m)?;
    quantize_activations(context, x, m, k, &mut codes, &mut scales)?;
    (context.kernels().matmul_ternary)(
        context.launch(),
        &View::of(&codes, &[m, k])?,
        &View::of(&scales, &[m])?,
        &View::of(two_bit, &matrix.packed_as(Packing::TwoBit).shape(0))?,
        &View::of(&[scale], &[1])?,
        &mut ViewMut::of(y, &[m, n])?,
    )
}

/// dx[m, k] = dy[m, n] * (scale * t[n, k]): the gradient to the input, straight through its quantization.
pub fn matmul_backward(
    context: &Context,
    matrix: &Matrix,
    dy: &[f32],
    m: usize,
    packed: &[u8],
    scale: f32,
    dx: &mut [f32],
) -> Result<()> {
    let (n, k) = (matrix.rows(), matrix.columns());
    check_length("dy", dy.len(), m * n)?;
    check_length("dx", dx.len(), m * k)?;
    check_scales(&[scale])?;
    check_finite(context, dy, "dy")?;
    with_two_bit(context, matrix, packed, |two_bit| {
        (context.kernels().matmul_ternary_backward)(
            context.launch(),
            &View::of(dy, &[m, n])?,
            &View::of(two_bit, &matrix.packed_as(Packing::TwoBit).shape(0))?,
            &View::of(&[scale], &[1])?,
            &mut ViewMut::of(dx, &[m, k])?,
        )
    })
}
