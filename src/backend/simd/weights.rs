//! Packed weights as the products take them: rows of two bits, in which every group of a scale begins with a byte.

use super::level::deposits_fast;
use crate::backend::Launch;
use crate::backend::scalar::mask_sign::offset;
use crate::backend::scalar::scheme::Groups;
use crate::tensor::{MaskSign, Packing};
use std::ops::Range;

/// Packed weights [n, k], checked.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub packing: Packing,
    pub packed: &'a [u8],
    pub n: usize,
    pub k: usize,
    /// Columns of a group, and groups of a row: one where the scale is the row's or the matrix's.
    pub width: usize,
    pub groups: usize,
    pub scales: &'a [f32],
    /// Whether all have one scale.
    pub whole: bool,
}

impl<'a> Weights<'a> {
    /// k is at least 1.
    pub fn new(packing: Packing, packed: &'a [u8], groups: &Groups, scales: &'a [f32]) -> Weights<'a> {
        let (n, k) = (groups.rows, groups.columns);
        let width = if groups.per_row == 1 { k } else { groups.width };
        Weights { packing, packed, n, k, width, groups: groups.per_row, scales, whole: groups.whole }
    }

    /// The columns of group `group`.
    pub fn columns(&self, group: usize) -> Range<usize> {
        group * self.width..self.k.min((group + 1) * self.width)
    }

    /// Bytes of a group, two bits a trit.
    pub fn group_bytes(&self) -> usize {
        self.width.div_ceil(4)
    }

    /// Bytes of a row, two bits a trit and a byte for the beginning of each group.
    pub fn row_bytes(&self) -> usize {
        (self.groups - 1) * self.group_bytes() + self.columns(self.groups - 1).len().div_ceil(4)
    }

    /// Whether the packed bytes are such rows.
    pub fn are_rows(&self) -> bool {
        self.packing == Packing::TwoBit && self.groups_begin_bytes()
    }

    fn groups_begin_bytes(&self) -> bool {
        self.groups == 1 || self.width.is_multiple_of(4)
    }

    /// The scratch memory that `rows` wants for so many rows.
    pub fn scratch(&self, rows: usize) -> usize {
        if self.are_rows() { 0 } else { rows * self.row_bytes() + self.k.div_ceil(4) }
    }

    /// The rows, of `row_bytes` each.
    pub fn rows<'b>(&self, launch: &Launch, rows: Range<usize>, scratch: &'b mut [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        let bytes = self.row_bytes();
        if self.are_rows() {
            return &self.packed[rows.start * bytes..rows.end * bytes];
        }
        let (all, rest) = scratch.split_at_mut(rows.len() * bytes);
        let row_of_two = &mut rest[..self.k.div_ceil(4)];
        let mut sign = 0;
        for (row, to) in rows.clone().zip(all.chunks_exact_mut(bytes)) {
            if self.packing == Packing::MaskSign && (row == rows.start || row.is_multiple_of(self.form().block_rows)) {
                sign = self.first_sign(launch, row);
            }
            if self.groups_begin_bytes() {
                sign = self.two_bits(launch, row, sign, to);
            } else {
                sign = self.two_bits(launch, row, sign, row_of_two);
                self.spread(row_of_two, to);
            }
        }
        all
    }

    /// A row as it is, two bits a trit, of mask and sign with the signs from bit `sign` on; returns the bit after them.
    fn two_bits(&self, launch: &Launch, row: usize, sign: usize, to: &mut [u8]) -> usize {
        match self.packing {
            Packing::TwoBit => {
                let bytes = self.k.div_ceil(4);
                to.copy_from_slice(&self.packed[row * bytes..(row + 1) * bytes]);
            }
            Packing::FivePerByte => {
                let bytes = self.k.div_ceil(5);
                let from = &self.packed[row * bytes..(row + 1) * bytes];
                // SAFETY: k trits are as many bytes at five a byte and at two bits each.
                unsafe { (launch.spans.unpack_five)(from.as_ptr(), self.k, to.as_mut_ptr()) }
            }
            Packing::MaskSign => {
                let (mask, signs) = (self.mask(row..row + 1), &self.packed[self.form().signs()..]);
                // SAFETY: the part has the stated length.
                let ones = unsafe { (launch.spans.count_ones)(mask.as_ptr(), mask.len()) };
                assert!(sign + ones <= 8 * signs.len(), "row {row} of the mask has more trits than there are signs");
                let span = match deposits_fast() {
                    true => launch.spans.unpack_mask_sign,
                    false => launch.spans.unpack_mask_sign_in_steps,
                };
                // SAFETY: a row of the mask, as many signs as it has bits, and a byte for four trits.
                return unsafe { span(mask.as_ptr(), self.k, signs.as_ptr(), sign, signs.len(), to.as_mut_ptr()) };
            }
        }
        0
    }

    fn form(&self) -> MaskSign {
        MaskSign::new(self.n, self.k)
    }

    fn mask(&self, rows: Range<usize>) -> &'a [u8] {
        let form = self.form();
        &self.packed[form.mask() + rows.start * form.mask_row..form.mask() + rows.end * form.mask_row]
    }

    /// The bit among the signs where those of a row begin.
    fn first_sign(&self, launch: &Launch, row: usize) -> usize {
        let form = self.form();
        let block = row / form.block_rows;
        let before = self.mask(block * form.block_rows..row);
        // SAFETY: the part has the stated length.
        8 * offset(self.packed, block) + unsafe { (launch.spans.count_ones)(before.as_ptr(), before.len()) }
    }

    /// A row in which groups begin anywhere, to one in which they begin with a byte.
    fn spread(&self, from: &[u8], to: &mut [u8]) {
        for (group, to) in to.chunks_mut(self.group_bytes()).enumerate() {
            to.fill(0);
            for (i, column) in self.columns(group).enumerate() {
                to[i / 4] |= (from[column / 4] >> (2 * (column % 4)) & 3) << (2 * (i % 4));
            }
        }
    }
}
