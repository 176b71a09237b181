//! Canonical sums by blocks, and the search for NaN and infinity: `scalar/reduce.rs` for the vector units.

use super::chunks::{self, Shared};
use super::spans::Spans;
use crate::backend::Launch;
use crate::backend::scalar::reduce::BLOCK;
use crate::backend::workspace::with_scratch;
use crate::tensor::{Result, View, ViewMut};
use std::sync::atomic::{AtomicUsize, Ordering};

type BlockSums = unsafe extern "C" fn(*const f32, usize, *mut f32);

/// The canonical sum: `span` gives the sum of each block, which add here in f64 in index order.
pub fn canonical_sum(launch: &Launch, x: &[f32], span: fn(&Spans) -> BlockSums) -> Result<f64> {
    const { assert!(chunks::LEAST.is_multiple_of(BLOCK)) };
    let block_sums = span(launch.spans);
    with_scratch::<f32, _>(x.len().div_ceil(BLOCK), |sums| {
        let shared = Shared::new(sums);
        chunks::run(launch, x.len(), chunks::elements(x.len()), |range| {
            let x = &x[range.clone()];
            // SAFETY: chunks start at multiples of a block, so the blocks of different chunks are disjoint.
            let sums = unsafe { shared.part(range.start / BLOCK..range.end.div_ceil(BLOCK)) };
            // SAFETY: one sum for each block of x.
            unsafe { block_sums(x.as_ptr(), x.len(), sums.as_mut_ptr()) }
        });
        sums.iter().fold(0.0, |total, &sum| total + f64::from(sum))
    })
}

pub fn sum_squares(launch: &Launch, x: &View, sum: &mut ViewMut) -> Result<()> {
    let squares = canonical_sum(launch, x.slice()?, |spans| spans.square_sums)?;
    for sum in sum.slice_mut::<f64>()? {
        *sum += squares;
    }
    Ok(())
}

pub fn first_non_finite(launch: &Launch, x: &View) -> Result<Option<usize>> {
    let x = x.slice::<f32>()?;
    let first = AtomicUsize::new(usize::MAX);
    chunks::run(launch, x.len(), chunks::elements(x.len()), |range| {
        if range.start < first.load(Ordering::Relaxed) {
            let (start, x) = (range.start, &x[range]);
            // SAFETY: x has the stated length.
            let found = unsafe { (launch.spans.first_non_finite)(x.as_ptr(), x.len()) };
            if found < x.len() {
                first.fetch_min(start + found, Ordering::Relaxed);
            }
        }
    });
    let first = first.into_inner();
    Ok((first < x.len()).then_some(first))
}
