//! Gradients as int8 codes with one scale a block, rounded at random so that nothing is lost on average (block-wise
//! quantization: arXiv 2110.02861; stochastic rounding: QSGD, arXiv 1610.02132).

use super::{check_finite, check_length};
use crate::backend::Context;
use crate::tensor::error::ensure;
use crate::tensor::random::Stream;
use crate::tensor::{Result, Tensor, View, ViewMut, vec_zeroed};

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

/// How many scales `count` elements have.
pub fn gradient_blocks(count: usize, block: usize) -> Result<usize> {
    ensure!(block > 0 && block.is_multiple_of(32), Argument, "block is {block}, expected a positive multiple of 32");
    Ok(count.div_ceil(block))
}

fn check_sizes(count: usize, block: usize, codes: usize, scales: usize) -> Result<()> {
    check_length("scales", scales, gradient_blocks(count, block)?)?;
    check_length("codes", codes, count)
}

/// Room for the codes of one gradient at a time.
pub struct GradientCodes {
    codes: Vec<i8>,
    scales: Vec<f32>,
}

impl GradientCodes {
    /// For gradients of up to `largest` elements.
    pub fn new(largest: usize) -> Result<GradientCodes> {
        let scales = gradient_blocks(largest, GRADIENT_BLOCK)?;
        Ok(GradientCodes { codes: vec_zeroed(largest)?, scales: vec_zeroed(scales)? })
    }

    /// Replaces a finite gradient by what its codes say.
    pub fn pass(&mut self, context: &Context, stream: Stream, gradient: &mut Tensor) -> Result<()> {
        let count = gradient.view().count();
        let blocks = gradient_blocks(count, GRADIENT_BLOCK)?;
        let (codes, scales) = (&mut self.codes[..count], &mut self.scales[..blocks]);
        let (mut codes, mut scales) = (ViewMut::of(codes, &[count])?, ViewMut::of(scales, &[blocks])?);
        let (launch, kernels) = (context.launch(), context.kernels());
        let g = &gradient.view();
        (kernels.quantize_gradients)(launch, g, stream, GRADIENT_BLOCK, &mut codes, &mut scales)?;
        let (codes, scales) = (codes.as_view(), scales.as_view());
        (kernels.dequantize_gradients)(launch, &codes, &scales, GRADIENT_BLOCK, &mut gradient.view_mut())
    }
}
