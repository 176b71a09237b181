//! From weights to trits and scales, and back: `scalar/scheme.rs` for the vector units. The two schemes that sort are in
//! `magnitudes.rs`.

use super::chunks::{self, ELEMENTS, Shared};
use super::reduce::canonical_sum;
use super::spans::{PhiloxStream, Spans};
use crate::backend::Launch;
use crate::backend::scalar::reduce::BLOCK;
use crate::backend::scalar::scheme::{Groups, LEAST_SCALE};
use crate::backend::scalar::ternary::check_packed;
use crate::backend::workspace::with_scratch;
use crate::tensor::random::Stream;
use crate::tensor::{Result, View, ViewMut};
use std::ops::Range;

/// Weights of a chunk, and from where on a group is cut into chunks: what is done here does little more than read.
pub const CHUNK: usize = 4 * ELEMENTS;

pub fn absmean(launch: &Launch, w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
    let groups = Groups::new("absmean", w.dims(), group)?;
    groups.check("absmean: thresholds", thresholds.dims())?;
    groups.check("absmean: scales", scales.dims())?;
    let (w, thresholds, scales) = (w.slice::<f32>()?, thresholds.slice_mut::<f32>()?, scales.slice_mut::<f32>()?);
    // A single group is shared out, however short.
    if groups.width > CHUNK || groups.count() == 1 || w.is_empty() {
        for i in 0..groups.count() {
            let w = &w[groups.weights(i)];
            let sum = canonical_sum(launch, w, |spans| spans.absolute_sums)?;
            let gamma = (sum / w.len().max(1) as f64) as f32;
            // NaN stays.
            scales[i] = if gamma < LEAST_SCALE as f32 { LEAST_SCALE as f32 } else { gamma };
            thresholds[i] = 0.5 * scales[i];
        }
        return Ok(());
    }
    let (thresholds, scales) = (Shared::new(thresholds), Shared::new(scales));
    rows_of_groups(launch, &groups, |weights, groups_here, width| {
        let w = &w[weights];
        // SAFETY: different parts are disjoint.
        let (thresholds, scales) = unsafe { (thresholds.part(groups_here.clone()), scales.part(groups_here)) };
        // SAFETY: w begins with a group, and the others have one number for each.
        unsafe {
            (launch.spans.absmean)(w.as_ptr(), w.len(), width, thresholds.as_mut_ptr(), scales.as_mut_ptr());
        }
    });
    Ok(())
}

pub fn mean_above(launch: &Launch, w: &View, group: usize, thresholds: &View, scales: &mut ViewMut) -> Result<()> {
    let groups = Groups::new("mean_above", w.dims(), group)?;
    groups.check("mean_above: thresholds", thresholds.dims())?;
    groups.check("mean_above: scales", scales.dims())?;
    let (w, thresholds, scales) = (w.slice::<f32>()?, thresholds.slice::<f32>()?, scales.slice_mut::<f32>()?);
    if groups.width > CHUNK || w.is_empty() {
        for i in 0..groups.count() {
            scales[i] = long_mean_above(launch, &w[groups.weights(i)], thresholds[i])?;
        }
        return Ok(());
    }
    let scales = Shared::new(scales);
    rows_of_groups(launch, &groups, |weights, groups_here, width| {
        let (w, thresholds) = (&w[weights], &thresholds[groups_here.clone()]);
        // SAFETY: different parts are disjoint.
        let scales = unsafe { scales.part(groups_here) };
        // SAFETY: w begins with a group, and the others have one number for each.
        unsafe {
            (launch.spans.mean_above)(w.as_ptr(), w.len(), width, thresholds.as_ptr(), scales.as_mut_ptr());
        }
    });
    Ok(())
}

fn long_mean_above(launch: &Launch, w: &[f32], threshold: f32) -> Result<f32> {
    const { assert!(CHUNK.is_multiple_of(BLOCK)) };
    let blocks = w.len().div_ceil(BLOCK);
    with_scratch::<f32, _>(blocks, |sums| {
        with_scratch::<u32, _>(blocks, |counts| {
            let (shared_sums, shared_counts) = (Shared::new(sums), Shared::new(counts));
            chunks::run(launch, w.len(), CHUNK, |range| {
                let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
                let w = &w[range];
                // SAFETY: chunks start at multiples of a block, so the blocks of different chunks are disjoint.
                let (sums, counts) = unsafe { (shared_sums.part(blocks.clone()), shared_counts.part(blocks)) };
                // SAFETY: one sum and one count for each block of w.
                unsafe {
                    (launch.spans.sums_above)(w.as_ptr(), w.len(), threshold, sums.as_mut_ptr(), counts.as_mut_ptr());
                }
            });
            let sum = sums.iter().fold(0.0, |sum, &block| sum + f64::from(block));
            let count: u64 = counts.iter().map(|&count| u64::from(count)).sum();
            (sum / count.max(1) as f64) as f32
        })
    })?
}

pub fn ternarize(launch: &Launch, w: &View, group: usize, thresholds: &View, packed: &mut ViewMut) -> Result<()> {
    let groups = Groups::new("ternarize", w.dims(), group)?;
    groups.check("ternarize: thresholds", thresholds.dims())?;
    check_packed("ternarize", packed.dims(), groups.rows, groups.columns, 4)?;
    let (w, thresholds, packed) = (w.slice::<f32>()?, thresholds.slice::<f32>()?, packed.slice_mut::<u8>()?);
    let (packed, span) = (Shared::new(packed), launch.spans.ternarize);
    parts(launch, &groups, chunks::elements(w.len()), |part| {
        let w = &w[part.weights.clone()];
        let thresholds = &thresholds[part.groups.clone()];
        // SAFETY: different parts are disjoint.
        let packed = unsafe { packed.part(part.bytes.clone()) };
        // SAFETY: w begins with a group or is in one, each has a threshold, and there is a byte for four weights.
        unsafe { span(w.as_ptr(), w.len(), part.width, thresholds.as_ptr(), packed.as_mut_ptr()) }
    });
    Ok(())
}

pub fn ternarize_stochastic(
    launch: &Launch,
    w: &View,
    group: usize,
    scales: &View,
    stream: Stream,
    packed: &mut ViewMut,
) -> Result<()> {
    let groups = Groups::new("ternarize_stochastic", w.dims(), group)?;
    groups.check("ternarize_stochastic: scales", scales.dims())?;
    check_packed("ternarize_stochastic", packed.dims(), groups.rows, groups.columns, 4)?;
    let (w, scales, packed) = (w.slice::<f32>()?, scales.slice::<f32>()?, packed.slice_mut::<u8>()?);
    let (packed, span) = (Shared::new(packed), launch.spans.ternarize_stochastic);
    let stream = PhiloxStream::from(stream);
    // Random bits cost more than memory: smaller chunks.
    parts(launch, &groups, ELEMENTS / 4, |part| {
        let (first, w) = (part.weights.start as u64, &w[part.weights.clone()]);
        let scales = &scales[part.groups.clone()];
        // SAFETY: different parts are disjoint.
        let packed = unsafe { packed.part(part.bytes.clone()) };
        // SAFETY: w begins with a group or is in one, each has a scale, and there is a byte for four weights.
        unsafe { span(&stream, first, w.as_ptr(), w.len(), part.width, scales.as_ptr(), packed.as_mut_ptr()) }
    });
    Ok(())
}

pub fn deternarize(launch: &Launch, packed: &View, group: usize, scales: &View, w: &mut ViewMut) -> Result<()> {
    let groups = Groups::new("deternarize", w.dims(), group)?;
    groups.check("deternarize: scales", scales.dims())?;
    check_packed("deternarize", packed.dims(), groups.rows, groups.columns, 4)?;
    let (packed, scales, w) = (packed.slice::<u8>()?, scales.slice::<f32>()?, w.slice_mut::<f32>()?);
    let (size, w, spans): (_, _, &Spans) = (chunks::elements(w.len()), Shared::new(w), launch.spans);
    parts(launch, &groups, size, |part| {
        let (packed, scales) = (&packed[part.bytes.clone()], &scales[part.groups.clone()]);
        // SAFETY: different parts are disjoint.
        let w = unsafe { w.part(part.weights.clone()) };
        // SAFETY: there is a byte for four weights; w begins with a group or is in one, and each has a scale.
        unsafe {
            (spans.deternarize_groups)(packed.as_ptr(), w.len(), part.width, scales.as_ptr(), w.as_mut_ptr());
        }
    });
    Ok(())
}

/// The groups as those of one long row, where every row ends with a whole one.
fn in_one_row(groups: &Groups) -> Groups {
    if groups.whole || !groups.columns.is_multiple_of(groups.width) {
        return *groups;
    }
    Groups { rows: 1, columns: groups.rows * groups.columns, per_row: groups.count(), ..*groups }
}

/// Calls `row(weights, groups, width)` for parts that cover all weights: each begins with a group, is inside of a row (or the
/// whole matrix), and has about [`CHUNK`] weights in whole groups, or what is left of its row.
fn rows_of_groups(launch: &Launch, groups: &Groups, row: impl Fn(Range<usize>, Range<usize>, usize) + Sync) {
    let (groups, per_chunk) = (in_one_row(groups), (CHUNK / groups.width).max(1));
    chunks::run(launch, groups.count(), per_chunk, |range| {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min((start / groups.per_row + 1) * groups.per_row);
            row(groups.weights(start).start..groups.weights(end - 1).end, start..end, groups.width);
            start = end;
        }
    });
}

/// A part of a matrix of trits, inside of a row, unless rows end between bytes and with whole groups.
struct Part {
    weights: Range<usize>,
    /// The packed bytes, four weights each.
    bytes: Range<usize>,
    /// The first group begins where the part does, or goes on past its end; each but the last has `width` weights.
    groups: Range<usize>,
    width: usize,
}

/// Calls `part` for parts that cover all weights, about `size` at a time.
fn parts(launch: &Launch, groups: &Groups, size: usize, part: impl Fn(Part) + Sync) {
    let whole_bytes = groups.columns.is_multiple_of(4);
    let groups = if whole_bytes && groups.width <= size { in_one_row(groups) } else { *groups };
    let (rows, columns) = match groups.whole && whole_bytes {
        true => (1, groups.rows * groups.columns),
        false => (groups.rows, groups.columns),
    };
    if rows == 0 || columns == 0 {
        return;
    }
    // Whole groups where there are several in a row, and whole bytes; a multiple of 32 for the random words.
    let unit = if groups.per_row == 1 { 32 } else { multiple_of_32(groups.width) };
    let length = size.div_ceil(unit) * unit;
    let per_row = columns.div_ceil(length);
    let several = if per_row == 1 { (size / columns).max(1) } else { 1 };
    chunks::run(launch, rows * per_row, several, |range| {
        for i in range {
            let (row, start) = (i / per_row, i % per_row * length);
            let end = columns.min(start + length);
            let first = row * columns.div_ceil(4);
            part(Part {
                weights: row * columns + start..row * columns + end,
                bytes: first + start / 4..first + end.div_ceil(4),
                groups: groups.of(row, start)..groups.of(row, end - 1) + 1,
                width: groups.width,
            });
        }
    });
}

/// The least common multiple of `width` and 32.
fn multiple_of_32(width: usize) -> usize {
    width << (5 - width.trailing_zeros().min(5))
}
