//! Gradients in few bits, one scale a block: `scalar/gradient.rs` for the vector units.

use super::chunks::{self, ELEMENTS, Shared};
use super::spans::PhiloxStream;
use crate::backend::Launch;
use crate::backend::scalar::gradient::{check, check_ternary, checked_threshold, scale};
use crate::backend::scalar::reduce::BLOCK;
use crate::backend::workspace::with_scratch;
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

pub fn ternarize_gradients(
    launch: &Launch,
    g: &View,
    block: usize,
    error: &mut ViewMut,
    packed: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    check_ternary(g.count(), block, error.count(), packed.count(), scales.count())?;
    let (g, error, packed) = (g.slice::<f32>()?, error.slice_mut::<f32>()?, packed.slice_mut::<u8>()?);
    with_scratch::<[f32; 2], _>(scales.count(), |found| {
        // All blocks are measured first, so that a call that fails has written nothing.
        let shared = Shared::new(found);
        chunks::try_run(launch, g.len().div_ceil(block), (CHUNK / block).max(1), |range| {
            for i in range {
                let elements = i * block..g.len().min((i + 1).saturating_mul(block));
                let (g, error) = (&g[elements.clone()], &error[elements]);
                let threshold = checked_threshold(i, magnitudes(launch, g, error, -1.0).0, g.len())?;
                let (sum, count) = magnitudes(launch, g, error, threshold);
                // SAFETY: different blocks are disjoint.
                let out = unsafe { shared.part(i..i + 1) };
                out[0] = [threshold, scale(sum, count)];
            }
            Ok(())
        })?;
        let (error, packed) = (Shared::new(error), Shared::new(packed));
        blocks(launch, g.len(), block, |i, elements| {
            let (g, [threshold, scale]) = (&g[elements.clone()], found[i]);
            // SAFETY: different blocks are disjoint, and begin at a byte of their own: a block is a multiple of 32.
            let (error, packed) =
                unsafe { (error.part(elements.clone()), packed.part(elements.start / 4..elements.end.div_ceil(4))) };
            let (g, error, packed, n) = (g.as_ptr(), error.as_mut_ptr(), packed.as_mut_ptr(), g.len());
            // SAFETY: g and error have the stated length, and packed a quarter of it.
            unsafe { (launch.spans.ternarize_gradients)(g, n, threshold, scale, error, packed) }
        });
        for (scale, &[_, found]) in scales.slice_mut::<f32>()?.iter_mut().zip(found.iter()) {
            *scale = found;
        }
        Ok(())
    })?
}

/// The canonical sum of the magnitudes of g + error above a threshold, and how many there are.
fn magnitudes(launch: &Launch, g: &[f32], error: &[f32], threshold: f32) -> (f64, usize) {
    let parts = g.chunks(BLOCK).zip(error.chunks(BLOCK));
    parts.fold((0.0, 0), |(total, count), (g, error)| {
        let mut above = 0;
        // SAFETY: both have the stated length, which is that of a canonical block at most.
        let sum = unsafe {
            (launch.spans.gradient_magnitudes)(g.as_ptr(), error.as_ptr(), g.len(), threshold, &raw mut above)
        };
        (total + f64::from(sum), count + above)
    })
}

/// Calls `each` with the number and the elements of every block.
fn blocks(launch: &Launch, count: usize, block: usize, each: impl Fn(usize, Range<usize>) + Sync) {
    chunks::run(launch, count.div_ceil(block), (CHUNK / block).max(1), |range| {
        for i in range {
            each(i, i * block..count.min((i + 1).saturating_mul(block)));
        }
    });
}
