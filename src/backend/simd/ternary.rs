//! Packed trits: `scalar/ternary.rs` for the vector units.

use super::chunks::{self, ELEMENTS, Shared};
use super::mask_sign;
use crate::backend::Launch;
use crate::backend::scalar;
use crate::backend::scalar::ternary::{check_packed, check_size};
use crate::tensor::{MaskSign, Packing, Result, View, ViewMut};
use std::sync::atomic::{AtomicBool, Ordering};

pub fn check_trits(launch: &Launch, packing: Packing, packed: &View, [rows, columns]: [usize; 2]) -> Result<()> {
    check_size("check_trits", packing, packed, [rows, columns])?;
    let bytes = packed.slice::<u8>()?;
    let sound = match packing {
        Packing::TwoBit => !holds_code_three(launch, bytes) && two_bit_ends_in_ones(bytes, columns),
        Packing::FivePerByte => five_is_sound(launch, bytes, columns),
        Packing::MaskSign => return mask_sign::check(launch, &MaskSign::new(rows, columns), bytes),
    };
    if sound { Ok(()) } else { scalar::ternary::check_trits(launch, packing, packed, [rows, columns]) } // names the byte
}

pub fn pack_two_bit(launch: &Launch, trits: &View, packed: &mut ViewMut) -> Result<()> {
    let (rows, columns) = (trits.dim(0), trits.dim(1));
    check_packed("pack_two_bit", packed.dims(), rows, columns, 4)?;
    let span = launch.spans.pack_two_bit;
    rows_between(launch, [rows, columns], 1, trits.slice::<i8>()?, 4, packed.slice_mut()?, |trits, n, packed| {
        // SAFETY: trits[n] and packed[ceil(n / 4)].
        unsafe { span(trits.as_ptr(), n, packed.as_mut_ptr()) }
    });
    Ok(())
}

pub fn unpack_two_bit(launch: &Launch, packed: &View, trits: &mut ViewMut) -> Result<()> {
    let (rows, columns) = (trits.dim(0), trits.dim(1));
    check_packed("unpack_two_bit", packed.dims(), rows, columns, 4)?;
    let span = launch.spans.unpack_two_bit;
    rows_between(launch, [rows, columns], 4, packed.slice::<u8>()?, 1, trits.slice_mut()?, |packed, n, trits| {
        // SAFETY: packed[ceil(n / 4)] and trits[n].
        unsafe { span(packed.as_ptr(), n, trits.as_mut_ptr()) }
    });
    Ok(())
}

pub fn pack_five(launch: &Launch, packed: &View, columns: usize, five: &mut ViewMut) -> Result<()> {
    let rows = packed.dim(0);
    check_packed("pack_five", packed.dims(), rows, columns, 4)?;
    check_packed("pack_five", five.dims(), rows, columns, 5)?;
    let bytes = packed.slice::<u8>()?;
    if holds_code_three(launch, bytes) {
        return scalar::ternary::pack_five(launch, packed, columns, five); // names the byte
    }
    let span = launch.spans.pack_five;
    rows_between(launch, [rows, columns], 4, bytes, 5, five.slice_mut()?, |packed, n, five| {
        // SAFETY: packed[ceil(n / 4)] and five[ceil(n / 5)].
        unsafe { span(packed.as_ptr(), n, five.as_mut_ptr()) }
    });
    Ok(())
}

pub fn unpack_five(launch: &Launch, five: &View, columns: usize, packed: &mut ViewMut) -> Result<()> {
    let rows = five.dim(0);
    check_packed("unpack_five", five.dims(), rows, columns, 5)?;
    check_packed("unpack_five", packed.dims(), rows, columns, 4)?;
    let bytes = five.slice::<u8>()?;
    if !five_is_sound(launch, bytes, columns) {
        return scalar::ternary::unpack_five(launch, five, columns, packed); // names the byte
    }
    let span = launch.spans.unpack_five;
    rows_between(launch, [rows, columns], 5, bytes, 4, packed.slice_mut()?, |five, n, packed| {
        // SAFETY: five[ceil(n / 5)], all below 243, and packed[ceil(n / 4)].
        unsafe { span(five.as_ptr(), n, packed.as_mut_ptr()) }
    });
    Ok(())
}

pub fn five_trits(launch: &Launch, five: &View, trits: &mut ViewMut) -> Result<()> {
    let (rows, columns) = (trits.dim(0), trits.dim(1));
    check_packed("five_trits", five.dims(), rows, columns, 5)?;
    let bytes = five.slice::<u8>()?;
    if !five_is_sound(launch, bytes, columns) {
        return scalar::ternary::five_trits(launch, five, trits); // names the byte
    }
    let span = launch.spans.five_trits;
    rows_between(launch, [rows, columns], 5, bytes, 1, trits.slice_mut()?, |five, n, trits| {
        // SAFETY: five[ceil(n / 5)], all below 243, and trits[n].
        unsafe { span(five.as_ptr(), n, trits.as_mut_ptr()) }
    });
    Ok(())
}

/// Whether a code of two bits is 3.
pub fn holds_code_three(launch: &Launch, bytes: &[u8]) -> bool {
    // SAFETY: the part has the stated length.
    any(launch, bytes, |part| unsafe { (launch.spans.holds_code_three)(part.as_ptr(), part.len()) })
}

/// Whether the codes of rows past the last column are 1.
fn two_bit_ends_in_ones(bytes: &[u8], columns: usize) -> bool {
    let used = columns % 4;
    used == 0 || ends(bytes, columns.div_ceil(4)).all(|byte| byte >> (2 * used) == 0x55 >> (2 * used))
}

/// The last byte of each row.
fn ends(bytes: &[u8], width: usize) -> impl Iterator<Item = u8> {
    bytes.iter().skip(width - 1).step_by(width).copied()
}

/// Whether rows of five trits a byte hold no others, and none past the last column.
fn five_is_sound(launch: &Launch, bytes: &[u8], columns: usize) -> bool {
    // SAFETY: the part has the stated length.
    if any(launch, bytes, |part| unsafe { (launch.spans.largest_byte)(part.as_ptr(), part.len()) } > 242) {
        return false;
    }
    let used = columns % 5;
    used == 0 || ends(bytes, columns.div_ceil(5)).all(|byte| digits_end_in_one(byte, used))
}

/// Whether the digits of a byte from number `used` on are 1: 121 is 1 + 3 + 9 + 27 + 81.
fn digits_end_in_one(byte: u8, used: usize) -> bool {
    let power = [1, 3, 9, 27, 81][used];
    byte / power == 121 / power
}

/// Whether `test` holds for any chunk of `bytes`.
fn any(launch: &Launch, bytes: &[u8], test: impl Fn(&[u8]) -> bool + Sync) -> bool {
    let found = AtomicBool::new(false);
    chunks::run(launch, bytes.len(), 4 * ELEMENTS, |range| {
        if !found.load(Ordering::Relaxed) && test(&bytes[range]) {
            found.store(true, Ordering::Relaxed);
        }
    });
    found.into_inner()
}

/// Calls `row(from, n, to)` for parts that cover a matrix of [rows, columns] trits, of which `from` holds `per_from` in an
/// entry and `to` holds `per_to`: row by row, or, where no row ends inside an entry, in long parts that ignore rows.
fn rows_between<A: Sync, B: Send>(
    launch: &Launch,
    [rows, columns]: [usize; 2],
    per_from: usize,
    from: &[A],
    per_to: usize,
    to: &mut [B],
    row: impl Fn(&[A], usize, &mut [B]) + Sync,
) {
    let to = Shared::new(to);
    let part = |from_start: usize, to_start: usize, n: usize| {
        // SAFETY: different rows, and different parts of a matrix that is one long row, are disjoint.
        let to = unsafe { to.part(to_start..to_start + n.div_ceil(per_to)) };
        row(&from[from_start..from_start + n.div_ceil(per_from)], n, to);
    };
    if columns.is_multiple_of(per_from) && columns.is_multiple_of(per_to) {
        // Twenty trits are a whole number of entries in every packing.
        const PART: usize = 2 * ELEMENTS - 2 * ELEMENTS % 20;
        chunks::run(launch, rows * columns, PART, |range| {
            part(range.start / per_from, range.start / per_to, range.len());
        });
    } else {
        let (from_width, to_width) = (columns.div_ceil(per_from), columns.div_ceil(per_to));
        chunks::run(launch, rows, chunks::rows(rows, columns), |range| {
            range.for_each(|row| part(row * from_width, row * to_width, columns));
        });
    }
}
