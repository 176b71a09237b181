//! What kernels on rows of packed trits and on groups of weights are given (cuda/rows.cuh), and the answer of those that look for
//! something.

use super::argument::{Last, Pointer, Struct};
use super::pinned::Download;
use super::stage::{Stage, THREADS};
use crate::backend::scalar;
use crate::tensor::Result;

/// Elements of a canonical block (cuda/canonical.cuh).
pub use crate::backend::scalar::reduce::BLOCK;

/// Threads of a block that adds up so many canonical blocks.
pub fn adding(blocks: usize) -> u32 {
    blocks.next_multiple_of(32).clamp(32, 1024) as u32
}

/// Entries that a block of threads takes at a time.
const ENTRIES: usize = 4 * THREADS as usize;

/// Divides numbers below 2^63, by multiplication.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Divisor {
    magic: u64,
    shift: Last<u32>,
}

// SAFETY: u64 magic; unsigned shift.
unsafe impl Struct for Divisor {}

impl Divisor {
    /// By a number of 1 to 2^63.
    pub fn new(divisor: usize) -> Divisor {
        let shift = usize::BITS - (divisor - 1).leading_zeros();
        Divisor { magic: (1u128 << (63 + shift)).div_ceil(divisor as u128) as u64, shift: shift.into() }
    }
}

/// Rows of `length` entries each.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    rows: u64,
    length: u64,
    by_length: Divisor,
}

// SAFETY: u64 rows, length; Divisor by_length.
unsafe impl Struct for Rows {}

impl Rows {
    pub fn new(rows: usize, length: usize) -> Rows {
        Rows { rows: rows as u64, length: length as u64, by_length: Divisor::new(length.max(1)) }
    }

    /// Rows of bytes; those that fill their bytes with `trits` each, as one row: nothing lies between them.
    pub fn of_bytes(rows: usize, columns: usize, trits: usize) -> (Rows, u64) {
        let (rows, columns) = if columns.is_multiple_of(trits) { (1, rows * columns) } else { (rows, columns) };
        (Rows::new(rows, columns.div_ceil(trits)), columns as u64)
    }

    /// Parts of 16 bytes of rows of `length`, which are shorter at both ends of a row (cuda/parts.cuh).
    pub fn parts(rows: usize, length: usize) -> Rows {
        Rows::new(rows, length / 16 + 2)
    }

    /// Blocks of threads for all entries, where a thread takes four of them together if there is one row.
    pub fn wide_blocks(&self) -> usize {
        if self.rows == 1 { entry_blocks((self.length as usize).div_ceil(4)) } else { self.blocks() }
    }

    /// Blocks of threads of which each has a row.
    pub fn thread_blocks(&self) -> usize {
        (self.rows as usize).div_ceil(THREADS as usize)
    }

    /// Blocks of threads for all entries.
    pub fn blocks(&self) -> usize {
        entry_blocks((self.rows * self.length) as usize)
    }
}

pub fn entry_blocks(entries: usize) -> usize {
    entries.div_ceil(ENTRIES)
}

/// Which weights share a scale; the whole matrix is one row.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    rows: u64,
    columns: u64,
    width: u64,
    per_row: u64,
    by_per_row: Divisor,
}

// SAFETY: u64 rows, columns, width, per_row; Divisor by_per_row.
unsafe impl Struct for Groups {}

impl From<&scalar::scheme::Groups> for Groups {
    fn from(groups: &scalar::scheme::Groups) -> Groups {
        let (rows, columns) = match groups.whole {
            true => (1, groups.rows * groups.columns),
            false => (groups.rows, groups.columns),
        };
        Groups {
            rows: rows as u64,
            columns: columns as u64,
            width: groups.width as u64,
            per_row: groups.per_row as u64,
            by_per_row: Divisor::new(groups.per_row.max(1)),
        }
    }
}

impl Stage<'_> {
    /// Waits for numbers of 64 bits that kernels have found. What the call writes on the host is still as it was.
    pub fn look<const N: usize>(&self, numbers: [Pointer; N]) -> Result<[u64; N]> {
        let mut found = [0; N];
        let to = found.each_mut().map(|number| std::ptr::from_mut(number).cast());
        let bytes = size_of::<u64>();
        let downloads: [Download; N] =
            std::array::from_fn(|i| Download { from: numbers[i], to: to[i], bytes, changes: false });
        // SAFETY: numbers on the device, and locals.
        unsafe { self.gpu.download(&downloads) }?;
        Ok(found)
    }

    /// Finishes if kernels have left the number `bad` at 0; else false, and what the call writes on the host is still as it was.
    pub fn finish_if_sound(self, bad: Pointer) -> Result<bool> {
        let sound = self.look([bad])? == [0];
        if sound {
            self.finish()?;
        }
        Ok(sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_divide() {
        let quotient =
            |n: usize, by: Divisor| (((2 * n as u128 * u128::from(by.magic)) >> 64) >> by.shift.value) as usize;
        let most = (1usize << 63) - 1;
        for divisor in (1..70).chain([255, 256, 257, 4096, 11008, (1 << 31) - 1, 1 << 32, (1 << 62) + 1, most, 1 << 63])
        {
            let by = Divisor::new(divisor);
            for near in [0, divisor, 2 * (divisor % (1 << 61)), divisor.saturating_mul(12345), most] {
                for n in [near.saturating_sub(1), near, near.saturating_add(1)].into_iter().filter(|&n| n <= most) {
                    assert_eq!(quotient(n, by), n / divisor, "{n} / {divisor}");
                }
            }
        }
    }
}
