//! Gradients in few bits, one scale a block. As int8 codes, rounded at random so that nothing is lost on average (block-wise
//! quantization: arXiv 2110.02861; stochastic rounding: QSGD, arXiv 1610.02132); as trits, whose error is added to the next
//! gradient (arXiv 1705.07878, 1901.09847).

use super::packing::check_two_bit;
use super::{check_finite, check_length};
use crate::backend::Context;
use crate::tensor::error::ensure;
use crate::tensor::random::Stream;
use crate::tensor::{DType, Result, Tensor, View, ViewMut};

/// Elements that share a scale in the trainer.
const GRADIENT_BLOCK: usize = 256;

/// g[n] to codes[n] and scales[ceil(n / block)], g ~ scale * code. ARGUMENT for a NaN or an infinity, naming the first, and
/// for a block that is no positive multiple of 32.
pub fn quantize_gradients(
    context: &Context,
    g: &[f32],
    block: usize,
    stream: Stream,
    codes: &mut [i8],
    scales: &mut [f32],
) -> Result<()> {
    check_sizes(g.len(), block, codes.len(), scales.len())?;
    check_finite(context, g, "g")?;
    (context.kernels().quantize_gradients)(
        context.launch(),
        &View::of(g, &[g.len()])?,
        stream,
        block,
        &mut ViewMut::of(codes, &[g.len()])?,
        &mut ViewMut::of(scales, &[scales.len()])?,
    )
}

/// The inverse but for the rounding: g[n] = scales[ceil(n / block)] * codes[n]. ARGUMENT for scales that are not finite.
pub fn dequantize_gradients(
    context: &Context,
    codes: &[i8],
    scales: &[f32],
    block: usize,
    g: &mut [f32],
) -> Result<()> {
    check_sizes(g.len(), block, codes.len(), scales.len())?;
    check_finite(context, scales, "scales")?;
    (context.kernels().dequantize_gradients)(
        context.launch(),
        &View::of(codes, &[codes.len()])?,
        &View::of(scales, &[scales.len()])?,
        block,
        &mut ViewMut::of(g, &[codes.len()])?,
    )
}

/// x = g[n] + error[n] to trits and scales, packed[ceil(n / 4)] two bits each and scales[ceil(n / block)]; what the trits lose,
/// x - scale * t, becomes the error, to be given with the next gradient. Returns the bytes of the trits. ARGUMENT for a NaN or
/// an infinity, naming the first, and for sums that overflow; then nothing is written.
pub fn ternarize_gradients(
    context: &Context,
    g: &[f32],
    block: usize,
    error: &mut [f32],
    packed: &mut [u8],
    scales: &mut [f32],
) -> Result<usize> {
    let (n, bytes) = (g.len(), g.len().div_ceil(4));
    check_sizes(n, block, error.len(), scales.len())?;
    ensure!(packed.len() >= bytes, Shape, "packed has {} bytes, {n} trits take {bytes}", packed.len());
    check_finite(context, g, "g")?;
    check_finite(context, error, "error")?;
    (context.kernels().ternarize_gradients)(
        context.launch(),
        &View::of(g, &[n])?,
        block,
        &mut ViewMut::of(error, &[n])?,
        &mut ViewMut::of(&mut packed[..bytes], &[bytes])?,
        &mut ViewMut::of(scales, &[scales.len()])?,
    )?;
    Ok(bytes)
}

/// The inverse but for the error: g[n] = scales[ceil(n / block)] * t. ARGUMENT for scales that are not finite; FORMAT, naming
/// the byte, for packed[ceil(n / 4)] that holds no trits, or trits past the last.
pub fn deternarize_gradients(
    context: &Context,
    packed: &[u8],
    scales: &[f32],
    block: usize,
    g: &mut [f32],
) -> Result<()> {
    let n = g.len();
    check_sizes(n, block, n, scales.len())?;
    check_length("packed", packed.len(), n.div_ceil(4))?;
    check_finite(context, scales, "scales")?;
    check_two_bit(context, packed, n)?;
    let (packed, scales) = (View::of(packed, &[packed.len()])?, View::of(scales, &[scales.len()])?);
    deternarize(context, &packed, &scales, block, &mut ViewMut::of(g, &[1, n])?)
}

/// g[1, n] from bytes that hold trits.
fn deternarize(context: &Context, packed: &View, scales: &View, block: usize, g: &mut ViewMut) -> Result<()> {
    if packed.count() == 0 {
        return Ok(());
    }
    let (packed, scales) = (packed.reshape(&[1, packed.count()])?, scales.reshape(&[1, scales.count()])?);
    (context.kernels().deternarize)(context.launch(), &packed, block, &scales, g)
}

/// How many scales `count` elements have.
pub fn gradient_blocks(count: usize, block: usize) -> Result<usize> {
    ensure!(block > 0 && block.is_multiple_of(32), Argument, "block is {block}, expected a positive multiple of 32");
    Ok(count.div_ceil(block))
}

fn check_sizes(count: usize, block: usize, codes: usize, scales: usize) -> Result<()> {
    check_length("scales", scales, gradient_blocks(count, block)?)?;
    check_length("codes", codes, count)
}

/// What gradients pass through on their way to the update.
pub enum GradientCodes {
    /// Room for the codes of one gradient at a time.
    Int8 { codes: Tensor, scales: Tensor },
    /// Room for the trits of one gradient at a time; what each gradient is still owed, and what it will be owed once the
    /// gradients that passed are used. None: it stays as it is.
    Ternary { packed: Tensor, scales: Tensor, errors: Vec<Option<Tensor>>, next: Vec<Option<Tensor>> },
}

impl GradientCodes {
    /// Int8 codes for gradients of up to `largest` elements.
    pub fn int8(context: &Context, largest: usize) -> Result<GradientCodes> {
        let scales = context.zeros(DType::F32, &[gradient_blocks(largest, GRADIENT_BLOCK)?])?;
        Ok(GradientCodes::Int8 { codes: context.zeros(DType::I8, &[largest])?, scales })
    }

    /// Trits for those of these gradients that are matrices.
    pub fn ternary<'a>(context: &Context, gradients: impl Iterator<Item = &'a Tensor>) -> Result<GradientCodes> {
        let (mut largest, mut errors, mut next) = (0, Vec::new(), Vec::new());
        for gradient in gradients {
            for owed in [&mut errors, &mut next] {
                owed.push(if is_matrix(gradient) { Some(context.zeros(DType::F32, gradient.dims())?) } else { None });
            }
            largest = largest.max(gradient.count());
        }
        let scales = context.zeros(DType::F32, &[gradient_blocks(largest, GRADIENT_BLOCK)?])?;
        Ok(GradientCodes::Ternary { packed: context.zeros(DType::U8, &[largest.div_ceil(4)])?, scales, errors, next })
    }

    /// What the gradients are still owed, by their index.
    pub fn errors(&self) -> &[Option<Tensor>] {
        match self {
            GradientCodes::Int8 { .. } => &[],
            GradientCodes::Ternary { errors, .. } => errors,
        }
    }

    pub fn errors_mut(&mut self) -> &mut [Option<Tensor>] {
        match self {
            GradientCodes::Int8 { .. } => &mut [],
            GradientCodes::Ternary { errors, .. } => errors,
        }
    }

    /// The gradients that passed were used: what is owed now counts. Without it the next pass is as if they had not.
    pub fn commit(&mut self) {
        if let GradientCodes::Ternary { errors, next, .. } = self {
            std::mem::swap(errors, next);
        }
    }

    /// Replaces a finite gradient, the one of this index, by what its codes say. Vectors are few, and stay floats.
    pub fn pass(&mut self, context: &Context, index: usize, stream: Stream, gradient: &mut Tensor) -> Result<()> {
        if !is_matrix(gradient) {
            return Ok(());
        }
        let count = gradient.count();
        let blocks = gradient_blocks(count, GRADIENT_BLOCK)?;
        let (launch, kernels) = (context.launch(), context.kernels());
        match self {
            GradientCodes::Int8 { codes, scales } => {
                let mut codes = codes.view_mut().narrow(0, count)?;
                let mut scales = scales.view_mut().narrow(0, blocks)?;
                let g = &gradient.view();
                (kernels.quantize_gradients)(launch, g, stream, GRADIENT_BLOCK, &mut codes, &mut scales)?;
                let (codes, scales) = (codes.as_view(), scales.as_view());
                (kernels.dequantize_gradients)(launch, &codes, &scales, GRADIENT_BLOCK, &mut gradient.view_mut())
            }
            GradientCodes::Ternary { packed, scales, errors, next } => {
                let (Some(Some(owed)), Some(Some(error))) = (errors.get(index), next.get_mut(index)) else {
                    return Ok(());
                };
                (kernels.fill)(launch, 0.0, &mut error.view_mut())?;
                (kernels.add)(launch, &owed.view(), &mut error.view_mut())?;
                let mut packed = packed.view_mut().narrow(0, count.div_ceil(4))?;
                let mut scales = scales.view_mut().narrow(0, blocks)?;
                (kernels.ternarize_gradients)(
                    launch,
                    &gradient.view().reshape(&[count])?,
                    GRADIENT_BLOCK,
                    &mut error.view_mut().reshape(&[count])?,
                    &mut packed,
                    &mut scales,
                )?;
                let (packed, scales) = (packed.as_view(), scales.as_view());
                deternarize(context, &packed, &scales, GRADIENT_BLOCK, &mut gradient.view_mut().reshape(&[1, count])?)
            }
        }
    }
}

fn is_matrix(gradient: &Tensor) -> bool {
    gradient.dims().len() == 2
}
