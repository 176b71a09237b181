//! Running sums and the radix sort, of which other operations make use (cuda/sort.cu).

use super::argument::{Pointer, arguments};
use super::module::Kernel;
use super::rows::adding;
use super::stage::{Stage, THREADS};
use crate::tensor::Result;

/// Keys of a tile, and what a digit can be.
const TILE: usize = THREADS as usize * 32;
const DIGITS: usize = 256;

/// Threads of a block that adds up a row of so many numbers, of which each takes four at a time.
fn row_threads(length: usize) -> u32 {
    adding(length.div_ceil(4))
}

impl Stage<'_> {
    /// Each of values[length], u64, becomes the sum of those before it, and `total` that of all. Of the first
    /// ceil(elements / per) only, where `elements` points to a number of them.
    pub fn running_sums(&self, values: Pointer, length: usize, elements: (Pointer, u32), total: Pointer) -> Result<()> {
        let arguments = arguments![values, 1u64, length as u64, elements.0, elements.1, total];
        // SAFETY: running_sums(values, rows, length, elements, per, totals).
        unsafe { self.launch(Kernel::running_sums, 1, row_threads(length), arguments) }
    }

    /// Memory to sort up to `count` keys of up to `bits` bits in, with their own numbers if `numbered`.
    pub fn sorter(&mut self, count: usize, bits: u32, numbered: bool) -> Result<Sorter> {
        let (tiles, passes) = (count.div_ceil(TILE), bits.div_ceil(8).max(1));
        let [counts, totals] = [self.scratch(DIGITS * tiles * 8)?, self.scratch(DIGITS * 8)?];
        let mut buffers = [[Pointer(0); 2]; 2];
        for buffer in buffers.iter_mut().take(passes as usize) {
            buffer[0] = self.scratch(count * 4)?;
            buffer[1] = if numbered { self.scratch(count * 4)? } else { Pointer(0) };
        }
        Ok(Sorter { passes, counts, totals, buffers })
    }
}

pub struct Sorter {
    passes: u32,
    counts: Pointer,
    totals: Pointer,
    /// Keys and their numbers, which each pass takes from one to the other.
    buffers: [[Pointer; 2]; 2],
}

impl Sorter {
    /// keys[count], u32, sorted stably and in ascending order: the keys, and the numbers that they had. Of the first `elements`
    /// only, where that points to a number of them.
    pub fn sort(&self, stage: &Stage, keys: Pointer, count: usize, elements: Pointer) -> Result<[Pointer; 2]> {
        let (tiles, n, counts, totals) = (count.div_ceil(TILE), count as u64, self.counts, self.totals);
        let (mut keys, mut values) = (keys, Pointer(0));
        for pass in 0..self.passes {
            let [to_keys, to_values] = self.buffers[pass as usize % 2];
            let shift = 8 * pass;
            let arguments = arguments![keys, n, elements, shift, tiles as u64, counts];
            // SAFETY: sort_counts(keys, count, elements, shift, tiles, counts).
            unsafe { stage.launch(Kernel::sort_counts, tiles, THREADS, arguments) }?;
            let arguments = arguments![counts, DIGITS as u64, tiles as u64, Pointer(0), 1u32, totals];
            // SAFETY: running_sums(values, rows, length, elements, per, totals).
            unsafe { stage.launch(Kernel::running_sums, DIGITS, row_threads(tiles), arguments) }?;
            let arguments =
                arguments![keys, values, n, elements, shift, tiles as u64, counts, totals, to_keys, to_values];
            // SAFETY: sort_places(keys, values, count, elements, shift, tiles, starts, totals, to_keys, to_values).
            unsafe { stage.launch(Kernel::sort_places, tiles, THREADS, arguments) }?;
            (keys, values) = (to_keys, to_values);
        }
        Ok([keys, values])
    }
}
