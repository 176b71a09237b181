//! Trits as mask and signs: `scalar/mask_sign.rs` for the vector units, block by block.

use super::chunks::{self, ELEMENTS, Shared};
use super::level::deposits_fast;
use super::spans::DecodeMaskSign;
use super::ternary::holds_code_three;
use crate::backend::Launch;
use crate::backend::scalar;
use crate::backend::scalar::mask_sign::{check_form, check_mask_sign, check_offsets, check_size, offset};
use crate::backend::scalar::ternary::check_packed;
use crate::backend::workspace::with_scratch;
use crate::tensor::{MaskSign, Result, View, ViewMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// Blocks in a chunk.
fn chunk(form: &MaskSign) -> usize {
    (2 * ELEMENTS / (form.block_rows * form.columns).max(1)).max(1)
}

pub fn mask_sign_bytes(launch: &Launch, packed: &View, columns: usize) -> Result<usize> {
    let form = check_form("mask_sign_bytes", packed, columns)?;
    let bytes = packed.slice::<u8>()?;
    if holds_code_three(launch, bytes) {
        return scalar::mask_sign::mask_sign_bytes(launch, packed, columns); // names the byte
    }
    with_offsets(launch, &form, bytes, |offsets| form.bytes(offsets[form.blocks] as usize))
}

/// Calls `use_them` with the place of the signs of each block among all, and the bytes of all of them.
fn with_offsets<R>(
    launch: &Launch,
    form: &MaskSign,
    packed: &[u8],
    use_them: impl FnOnce(&[u64]) -> Result<R>,
) -> Result<R> {
    with_scratch::<u64, _>(form.blocks + 1, |offsets| {
        offsets[0] = 0;
        count_signs(launch, form, packed, &mut offsets[1..]);
        for block in 0..form.blocks {
            offsets[block + 1] += offsets[block];
        }
        use_them(offsets)
    })?
}

/// The bytes of signs of each block.
fn count_signs(launch: &Launch, form: &MaskSign, packed: &[u8], signs: &mut [u64]) {
    let (width, signs) = (form.columns.div_ceil(4), Shared::new(signs));
    // Positions past the last column hold code 1 and count as zeros.
    chunks::run(launch, form.blocks, chunk(form), |range| {
        // SAFETY: ranges of different chunks are disjoint.
        for (block, signs) in range.clone().zip(unsafe { signs.part(range) }) {
            let rows = form.rows_of(block);
            let packed = &packed[rows.start * width..rows.end * width];
            // SAFETY: the part has the stated length.
            let count = unsafe { (launch.spans.count_nonzeros)(packed.as_ptr(), packed.len()) };
            *signs = count.div_ceil(8) as u64;
        }
    });
}

pub fn pack_mask_sign(launch: &Launch, packed: &View, columns: usize, mask_sign: &mut ViewMut) -> Result<()> {
    let form = check_form("pack_mask_sign", packed, columns)?;
    let (from, to) = (packed.slice::<u8>()?, mask_sign.slice_mut::<u8>()?);
    with_offsets(launch, &form, from, |offsets| {
        check_size("pack_mask_sign", form.bytes(offsets[form.blocks] as usize)?, to.len())?;
        for (offset, to) in offsets.iter().zip(to[..form.mask()].as_chunks_mut().0) {
            *to = (*offset as u32).to_le_bytes();
        }
        let (to, width) = (Shared::new(to), columns.div_ceil(4));
        let span = match deposits_fast() {
            true => launch.spans.pack_mask_sign,
            false => launch.spans.pack_mask_sign_in_steps,
        };
        chunks::run(launch, form.blocks, chunk(&form), |range| {
            for block in range {
                let rows = form.rows_of(block);
                let signs = form.signs() + offsets[block] as usize..form.signs() + offsets[block + 1] as usize;
                // SAFETY: the masks and the signs of different blocks are disjoint.
                let (mask, signs) = unsafe {
                    let mask = form.mask() + rows.start * form.mask_row..form.mask() + rows.end * form.mask_row;
                    (to.part(mask), to.part(signs))
                };
                let packed = &from[rows.start * width..rows.end * width];
                // SAFETY: whole rows of packed bytes, and the masks and signs that they have.
                unsafe {
                    let (mask, bytes) = (mask.as_mut_ptr(), signs.len());
                    span(packed.as_ptr(), rows.len(), columns, mask, signs.as_mut_ptr(), bytes);
                }
            }
        });
        Ok(())
    })
}

pub fn unpack_mask_sign(launch: &Launch, mask_sign: &View, columns: usize, packed: &mut ViewMut) -> Result<()> {
    let form = MaskSign::new(packed.dim(0), columns);
    check_packed("unpack_mask_sign", packed.dims(), form.rows, columns, 4)?;
    let span = match deposits_fast() {
        true => launch.spans.unpack_mask_sign,
        false => launch.spans.unpack_mask_sign_in_steps,
    };
    decode(launch, &form, mask_sign.slice()?, columns.div_ceil(4), packed.slice_mut::<u8>()?, span)
}

pub fn mask_sign_trits(launch: &Launch, mask_sign: &View, trits: &mut ViewMut) -> Result<()> {
    let form = MaskSign::new(trits.dim(0), trits.dim(1));
    let span = match deposits_fast() {
        true => launch.spans.mask_sign_trits,
        false => launch.spans.mask_sign_trits_in_steps,
    };
    decode(launch, &form, mask_sign.slice()?, form.columns, trits.slice_mut::<i8>()?, span)
}

/// Rows of `width` elements from bytes, which are checked first.
fn decode<T: Send>(
    launch: &Launch,
    form: &MaskSign,
    bytes: &[u8],
    width: usize,
    to: &mut [T],
    span: DecodeMaskSign<T>,
) -> Result<()> {
    check(launch, form, bytes)?;
    let to = Shared::new(to);
    let (masks, signs) = (&bytes[form.mask()..form.signs()], &bytes[form.signs()..]);
    chunks::run(launch, form.blocks, chunk(form), |range| {
        for block in range {
            let mut next = 8 * offset(bytes, block);
            for row in form.rows_of(block) {
                // SAFETY: different rows are disjoint.
                let to = unsafe { to.part(row * width..(row + 1) * width) };
                let mask = &masks[row * form.mask_row..(row + 1) * form.mask_row];
                // SAFETY: a row of the mask, the signs, which hold as many bits as the mask has (checked), and a row of `to`.
                next = unsafe { span(mask.as_ptr(), form.columns, signs.as_ptr(), next, signs.len(), to.as_mut_ptr()) };
            }
        }
    });
    Ok(())
}

/// FORMAT, in the words of the reference, for bytes that are no matrix of this form.
pub fn check(launch: &Launch, form: &MaskSign, bytes: &[u8]) -> Result<()> {
    check_offsets(form, bytes)?;
    let bad = AtomicBool::new(false);
    chunks::run(launch, form.blocks, chunk(form), |mut range| {
        if !range.all(|block| is_sound(launch, form, bytes, block)) {
            bad.store(true, Ordering::Relaxed);
        }
    });
    if bad.into_inner() { check_mask_sign(form, bytes) } else { Ok(()) }
}

fn is_sound(launch: &Launch, form: &MaskSign, bytes: &[u8], block: usize) -> bool {
    let rows = form.rows_of(block);
    let mask = &bytes[form.mask() + rows.start * form.mask_row..form.mask() + rows.end * form.mask_row];
    // SAFETY: the part has the stated length.
    let count = unsafe { (launch.spans.count_ones)(mask.as_ptr(), mask.len()) };
    let end = if block + 1 < form.blocks { offset(bytes, block + 1) } else { bytes.len() - form.signs() };
    let past = form.columns % 8;
    let past_column = past != 0 && mask.chunks_exact(form.mask_row).any(|row| row[form.mask_row - 1] >> past != 0);
    let past_sign = || count % 8 != 0 && bytes[form.signs() + end - 1] >> (count % 8) != 0;
    count.div_ceil(8) == end - offset(bytes, block) && !past_column && !past_sign()
}
