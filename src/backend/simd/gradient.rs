//! Gradients as int8 codes, one scale a block: `scalar/gradient.rs` for the vector units.

use super::chunks::{self, ELEMENTS, Shared};
use super::spans::PhiloxStream;
use crate::backend::Launch;
use crate::backend::scalar::gradient::check;
use crate::tensor::random::Stream;
use crate::tensor::{Result, View, ViewMut};
use std::ops::Range;

/// Random bits cost more than memory: smaller chunks, of whole blocks.
const CHUNK: usize = ELEMENTS / 4;

pub fn quantize_gradients(
    launch: &Launch,
    g: &View,
    stream: Stream,
    block: usize,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    check("quantize_gradients", g.count(), block, codes.count(), scales.count())?;
    let g = g.slice::<f32>()?;
    let (codes, scales) = (Shared::new(codes.slice_mut::<i8>()?), Shared::new(scales.slice_mut::<f32>()?));
    let stream = PhiloxStream::from(stream);
    blocks(launch, g.len(), block, |i, elements| {
        let g = &g[elements.clone()];
        let random = elements.start as u64 / 4;
        // SAFETY: different blocks are disjoint.
        let (codes, scale) = unsafe { (codes.part(elements), scales.part(i..i + 1)) };
        // SAFETY: g and codes have the stated length.
        scale[0] =
            unsafe { (launch.spans.quantize_gradients)(&stream, random, g.as_ptr(), g.len(), codes.as_mut_ptr()) };
    });
    Ok(())
}

pub fn dequantize_gradients(launch: &Launch, codes: &View, scales: &View, block: usize, g: &mut ViewMut) -> Result<()> {
    check("dequantize_gradients", g.count(), block, codes.count(), scales.count())?;
    let (codes, scales) = (codes.slice::<i8>()?, scales.slice::<f32>()?);
    let g = Shared::new(g.slice_mut::<f32>()?);
    blocks(launch, codes.len(), block, |i, elements| {
        // SAFETY: different blocks are disjoint.
        let g = unsafe { g.part(elements.clone()) };
        let codes = &codes[elements];
        // SAFETY: codes and g have the stated length. A block's codes are a row of codes with one scale.
        unsafe { (launch.spans.dequantize_activations)(codes.as_ptr(), codes.len(), scales[i], g.as_mut_ptr()) }
    });
    Ok(())
}

/// Calls `each` with the number and the elements of every block.
fn blocks(launch: &Launch, count: usize, block: usize, each: impl Fn(usize, Range<usize>) + Sync) {
    chunks::run(launch, count.div_ceil(block), (CHUNK / block).max(1), |range| {
        for i in range {
            each(i, i * block..count.min((i + 1).saturating_mul(block)));
        }
    });
}
