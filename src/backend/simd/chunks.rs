//! Cutting work into chunks. A chunk's size is a function of shape only, never of the thread count: that is why the `parallel`
//! row equals the `simd` row bit for bit.

use crate::backend::Launch;
use crate::tensor::{Error, Result};
use parking_lot::Mutex;
use std::marker::PhantomData;
use std::ops::Range;

/// Elements in a chunk of an operation that does some arithmetic on each, at most: about ten microseconds, a few times what handing a
/// chunk to a waiting thread costs. A multiple of the 4096 elements of a canonical block.
pub const ELEMENTS: usize = 32_768;

/// The fewest elements in a chunk of [`elements`].
pub const LEAST: usize = ELEMENTS / 8;

/// Elements in a chunk of an operation on `count`: down to [`LEAST`] where there would be few chunks. Where
/// threads stand by, handing one out costs little, and a thread that is slower than another leaves it no more than a small part
/// of the whole. A multiple of a canonical block as well.
pub fn elements(count: usize) -> usize {
    (count / 16).clamp(LEAST, ELEMENTS).next_multiple_of(LEAST)
}

/// Whole rows of `width` elements, of `count` rows, that come to about as many.
pub fn rows(count: usize, width: usize) -> usize {
    (elements(count.saturating_mul(width)) / width.max(1)).max(1)
}

/// Columns in a chunk of an operation that sums down the columns, each by itself in index order: as any cut gives the same
/// bits, there are as few as keep all threads busy, so that rows are read in sequence. At least two cache lines.
pub fn columns(launch: &Launch, width: usize) -> usize {
    width.div_ceil(launch.executor.threads()).next_multiple_of(16).max(32)
}

/// Calls `chunk` once for each range of `size` entries of 0 .. count (the last one may be shorter), on any thread.
pub fn run(launch: &Launch, count: usize, size: usize, chunk: impl Fn(Range<usize>) + Sync) {
    launch.executor.run(count.div_ceil(size), &|i| chunk(range(count, size, i)));
}

/// The same for chunks that can fail: all of them run, and the error of the first in index order is returned.
pub fn try_run(
    launch: &Launch,
    count: usize,
    size: usize,
    chunk: impl Fn(Range<usize>) -> Result<()> + Sync,
) -> Result<()> {
    let first: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    launch.executor.run(count.div_ceil(size), &|i| {
        if let Err(error) = chunk(range(count, size, i)) {
            let mut first = first.lock();
            if first.as_ref().is_none_or(|(earlier, _)| i < *earlier) {
                *first = Some((i, error));
            }
        }
    });
    first.into_inner().map_or(Ok(()), |(_, error)| Err(error))
}

/// Calls `block` once for each block of a matrix of [rows, columns] cut at multiples of the two sizes; blocks in the same rows
/// follow each other, so that a thread that takes a part of them has rows of its own.
pub fn grid(
    launch: &Launch,
    rows: [usize; 2],
    columns: [usize; 2],
    block: impl Fn(Range<usize>, Range<usize>) -> Result<()> + Sync,
) -> Result<()> {
    grids(launch, rows, (1, |_| columns), |_, rows, columns| block(rows, columns))
}

/// The same for several matrices with the same rows: how many, and [columns, size] of each. `block` is given the matrix's number
/// first.
pub fn grids(
    launch: &Launch,
    [rows, row_size]: [usize; 2],
    (count, columns_of): (usize, impl Fn(usize) -> [usize; 2] + Sync),
    block: impl Fn(usize, Range<usize>, Range<usize>) -> Result<()> + Sync,
) -> Result<()> {
    let blocks_of = |[columns, size]: [usize; 2]| columns.div_ceil(size);
    let across: usize = (0..count).map(|number| blocks_of(columns_of(number))).sum();
    try_run(launch, rows.div_ceil(row_size) * across, 1, |i| {
        let rows = range(rows, row_size, i.start / across);
        let mut place = i.start % across;
        for number in 0..count {
            let [columns, size] = columns_of(number);
            let blocks = blocks_of([columns, size]);
            if place < blocks {
                return block(number, rows, range(columns, size, place));
            }
            place -= blocks;
        }
        unreachable!("a row of blocks is as long as those of all matrices together")
    })
}

fn range(count: usize, size: usize, i: usize) -> Range<usize> {
    i * size..((i + 1) * size).min(count)
}

/// A slice that chunks write at the same time, each its own part.
pub struct Shared<'a, T> {
    data: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: all access is by `part` and `as_mut_ptr`, whose contracts forbid overlap.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Shared<'a, T> {
        Shared { data: slice.as_mut_ptr(), len: slice.len(), lifetime: PhantomData }
    }

    /// The elements of `range`, which must lie inside the slice (checked).
    ///
    /// # Safety
    /// No two parts that are alive at the same time overlap.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} is outside the {} elements", self.len);
        // SAFETY: inside the slice, which is borrowed exclusively for 'a; disjoint from other parts by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }

    /// The start of the whole slice, for chunks that write strided parts: a block of columns, say. The same contract.
    pub fn as_mut_ptr(&self) -> *mut T {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::launch::Executor;
    use crate::backend::pool::Pool;
    use crate::backend::simd::Level;
    use crate::tensor::error::error;
    use std::sync::Arc;

    #[test]
    fn chunks_cover_everything_once_and_the_first_error_wins() {
        let executor = Executor::Pool(Arc::new(Pool::new(3).unwrap()));
        let launch = Launch::new(executor, Level::Baseline.spans());
        for (count, size) in [(0, 4), (1, 4), (4, 4), (5, 4), (1000, 7)] {
            let mut seen = vec![0u8; count];
            let shared = Shared::new(&mut seen);
            // SAFETY: ranges of different chunks are disjoint.
            run(&launch, count, size, |range| unsafe { shared.part(range) }.iter_mut().for_each(|x| *x += 1));
            assert!(seen.iter().all(|&x| x == 1));
        }
        let result = try_run(&launch, 100, 10, |range| {
            if range.start < 30 { Ok(()) } else { Err(error!(Format, "chunk at {}", range.start)) }
        });
        assert_eq!(result.unwrap_err().message, "chunk at 30");
    }
}
