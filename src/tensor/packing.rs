//! How trits lie in bytes, row by row:
//!
//! ```text
//! two bits       byte = sum over i in 0..4 of (t[i] + 1) << 2 i     a row takes ceil(k / 4) bytes, no code is 3
//! five a byte    byte = sum over i in 0..5 of (t[i] + 1) * 3^i      a row takes ceil(k / 5) bytes of 0 ..= 242
//! mask and sign  [offset: u32 x blocks] [mask: ceil(k / 8) bytes x rows] [signs]        see `MaskSign`
//! ```
//!
//! Positions past the last column hold t = 0: one matrix has one packed form.

use super::Result;
use super::error::ensure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Four trits a byte: the form that products run on.
    TwoBit,
    /// Five trits a byte: the form for files.
    FivePerByte,
    /// A bit for each weight, and another for each that is not zero: the smallest where zeros are many.
    MaskSign,
}

impl Packing {
    pub const ALL: [Packing; 3] = [Packing::TwoBit, Packing::FivePerByte, Packing::MaskSign];

    /// As files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Packing::TwoBit => "two-bit",
            Packing::FivePerByte => "five-per-byte",
            Packing::MaskSign => "mask-sign",
        }
    }
}

/// Trits in a block, if there are as many.
const BLOCK: usize = 2048;

/// Where the parts of a mask-sign matrix lie. Blocks are whole rows, of 2048 trits at least:
///
/// ```text
/// offset   for each block, where its signs begin among the signs, u32 little endian
/// mask     for each row, bit i (of byte i / 8, from the lowest) = trit i is not 0; bits past the last column are 0
/// signs    for each block from a byte of its own, a bit for each trit that is not 0, in order, from the lowest: 1 = -1;
///          the bits left over in its last byte are 0
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskSign {
    pub rows: usize,
    pub columns: usize,
    /// Rows of a block; the last may have fewer.
    pub block_rows: usize,
    pub blocks: usize,
    /// Bytes of a row of the mask.
    pub mask_row: usize,
}

impl MaskSign {
    /// Rows and columns whose product fits.
    pub fn new(rows: usize, columns: usize) -> MaskSign {
        let block_rows = BLOCK.div_ceil(columns.max(1));
        MaskSign { rows, columns, block_rows, blocks: rows.div_ceil(block_rows), mask_row: columns.div_ceil(8) }
    }

    /// The first byte of the mask.
    pub fn mask(&self) -> usize {
        4 * self.blocks
    }

    /// The first byte of the signs: the size of a matrix of zeros.
    pub fn signs(&self) -> usize {
        self.mask() + self.rows * self.mask_row
    }

    pub fn rows_of(&self, block: usize) -> std::ops::Range<usize> {
        block * self.block_rows..self.rows.min((block + 1) * self.block_rows)
    }

    /// The size of a matrix without zeros.
    pub fn largest(&self) -> usize {
        let whole = self.rows / self.block_rows;
        let rest = self.rows % self.block_rows;
        self.signs() + whole * (self.block_rows * self.columns).div_ceil(8) + (rest * self.columns).div_ceil(8)
    }

    /// The size of a matrix with so many bytes of signs. SHAPE where an offset could not count them.
    pub fn bytes(&self, signs: usize) -> Result<usize> {
        let (rows, columns, most) = (self.rows, self.columns, u32::MAX);
        ensure!(
            signs <= most as usize,
            Shape,
            "[{rows}, {columns}] trits have {signs} bytes of signs, the mask-sign packing counts {most} at most"
        );
        Ok(self.signs() + signs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_rows_of_2048_trits() {
        let shape = |rows, columns| {
            let form = MaskSign::new(rows, columns);
            (form.block_rows, form.blocks, form.mask_row)
        };
        assert_eq!(shape(4, 4096), (1, 4, 512));
        assert_eq!(shape(4, 2048), (1, 4, 256));
        assert_eq!(shape(4, 2047), (2, 2, 256));
        assert_eq!(shape(13, 384), (6, 3, 48));
        assert_eq!(shape(5000, 1), (2048, 3, 1));
        assert_eq!(shape(0, 7), (293, 0, 1));
        assert_eq!(shape(3, 0), (2048, 1, 0));
        let form = MaskSign::new(13, 384);
        assert_eq!((form.rows_of(0), form.rows_of(2)), (0..6, 12..13));
        assert_eq!((form.mask(), form.signs(), form.largest()), (12, 12 + 13 * 48, 12 + 2 * 13 * 48));
        assert!(form.bytes(1 << 32).is_err());
    }
}
