//! The absmean scheme of BitNet b1.58 (arXiv 2402.17764): gamma = mean |W|; scale = max(gamma, 1e-5); a weight beyond half the
//! scale is +-1, which is round(W / gamma) clipped; W ~ scale * t.

use super::packing::{Matrix, Packing};
use super::{check_finite, check_length};
use crate::backend::Context;
use crate::tensor::error::ensure;
use crate::tensor::{Result, View, ViewMut, vec_zeroed};
use std::borrow::Cow;

/// Quantizes `weights` into `packed`, and returns the scale. ARGUMENT for a NaN or an infinity, naming the first.
pub fn quantize(context: &Context, matrix: &Matrix, weights: &[f32], packed: &mut [u8]) -> Result<f32> {
    check_length("weights", weights.len(), matrix.count())?;
    matrix.check_size(packed)?;
    check_finite(context, weights, "weights")?;
    let (kernels, launch) = (context.kernels(), context.launch());
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let weights = View::of(weights, &[rows, columns])?;
    let (mut threshold, mut scale) = ([0f32], [0f32]);
    (kernels.absmean)(launch, &weights, &mut ViewMut::of(&mut threshold, &[1])?, &mut ViewMut::of(&mut scale, &[1])?)?;
    // Finite weights can still have a sum of magnitudes beyond f32.
    ensure!(scale[0].is_finite(), Argument, "the mean magnitude of weights is {}, too large for f32", scale[0]);
    let threshold = View::of(&threshold, &[1])?;
    match matrix.packing() {
        Packing::TwoBit => {
            let mut packed = ViewMut::of(packed, &[rows, matrix.row_bytes()])?;
            (kernels.ternarize)(launch, &weights, &threshold, &mut packed)?;
        }
        Packing::FivePerByte => {
            let run = run_form(matrix)?;
            let mut two_bit = vec_zeroed::<u8>(run.bytes())?;
            let dims = [rows, run.row_bytes()];
            (kernels.ternarize)(launch, &weights, &threshold, &mut ViewMut::of(&mut two_bit, &dims)?)?;
            let mut packed = ViewMut::of(packed, &[rows, matrix.row_bytes()])?;
            (kernels.pack_five)(launch, &View::of(&two_bit, &dims)?, columns, &mut packed)?;
        }
    }
    Ok(scale[0])
}

/// weights = scale * t.
pub fn dequantize(context: &Context, matrix: &Matrix, packed: &[u8], scale: f32, weights: &mut [f32]) -> Result<()> {
    check_length("weights", weights.len(), matrix.count())?;
    check_scale(scale)?;
    let two_bit = two_bit(context, matrix, packed)?;
    let run = run_form(matrix)?;
    (context.kernels().deternarize)(
        context.launch(),
        &View::of(&two_bit, &[run.rows(), run.row_bytes()])?,
        &View::of(&[scale], &[1])?,
        &mut ViewMut::of(weights, &[run.rows(), run.columns()])?,
    )
}

pub fn check_scale(scale: f32) -> Result<()> {
    ensure!(scale.is_finite(), Argument, "scales[0] is {scale}, expected a finite number");
    Ok(())
}

/// The same matrix in the packing that kernels run on.
pub fn run_form(matrix: &Matrix) -> Result<Matrix> {
    Matrix::new(matrix.rows(), matrix.columns(), Packing::TwoBit)
}

/// The packed bytes, checked, in the packing that kernels run on.
pub fn two_bit<'a>(context: &Context, matrix: &Matrix, packed: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    matrix.check_packed(packed)?;
    two_bit_of_checked(context, matrix, packed)
}

/// The same for bytes that were checked before.
pub fn two_bit_of_checked<'a>(context: &Context, matrix: &Matrix, packed: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    match matrix.packing() {
        Packing::TwoBit => Ok(Cow::Borrowed(packed)),
        Packing::FivePerByte => {
            let run = run_form(matrix)?;
            let mut two_bit = vec_zeroed::<u8>(run.bytes())?;
            (context.kernels().unpack_five)(
                context.launch(),
                &View::of(packed, &[matrix.rows(), matrix.row_bytes()])?,
                matrix.columns(),
                &mut ViewMut::of(&mut two_bit, &[run.rows(), run.row_bytes()])?,
            )?;
            Ok(Cow::Owned(two_bit))
        }
    }
}
