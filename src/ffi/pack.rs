//! PACK: trits in bytes
//!
//! Every row is packed by itself, from its first byte; positions past the last column hold t = 0, so that a
//! matrix has one packed form. What is not one is refused, and never decoded to nonsense.
//!
//!     two bits:  byte = (t0 + 1) + (t1 + 1) * 4 + (t2 + 1) * 16 + (t3 + 1) * 64          ceil(k / 4) bytes a row
//!     five:      byte = (t0 + 1) + (t1 + 1) * 3 + ... + (t4 + 1) * 81                    ceil(k / 5) bytes a row
//!
//! Where a call writes packed bytes, its size argument says the room before and the bytes used after.
//!
//!     int8_t t[2 * 4] = {1, -1, 0, 0, -1, 1, 0, 0};
//!     uint8_t packed[2];
//!     size_t bytes = sizeof packed;
//!     setun_pack(t, 2, 4, NULL, packed, &bytes);
//!     setun_unpack(packed, bytes, 2, 4, NULL, t);

use super::arguments::{Room, check_apart, extent, one_of, size, slice, slice_mut, store};
use super::guard::guard;
use super::library::setun_status;
use super::quantize::{Choice, setun_quantize_options};
use crate::quantize::{self, Matrix, Packing};
use crate::tensor::Result;

/// How weights are stored.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_packing {
    /// Four trits a byte, 2 bits a weight: the form that products run on.
    TwoBit = 0,
    /// Five trits a byte, 1.6 bits a weight: the form for files.
    FivePerByte = 1,
    /// Not packed: 32-bit floats. Only for `setun_model_save`.
    Full = 2,
}

pub fn packing(value: i32) -> Result<Packing> {
    let packings = [
        (setun_packing::TwoBit as i32, "two bits", Packing::TwoBit),
        (setun_packing::FivePerByte as i32, "five per byte", Packing::FivePerByte),
    ];
    one_of(value, "packing", &packings)
}

pub fn matrix(rows: i64, columns: i64, packing: Packing) -> Result<Matrix> {
    Matrix::new(size(rows, "rows")?, size(columns, "columns")?, packing)
}

/// Says how many bytes [rows, columns] trits take: rows * ceil(columns / 4), or / 5. `packing` is a
/// `setun_packing`. Returns ARGUMENT (negative sizes, no such packing), SHAPE (more than the machine can
/// address, or columns above 2^24, past which products would not be exact).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_pack_size(rows: i64, columns: i64, packing: i32, out: *mut usize) -> setun_status {
    guard("pack_size", || {
        let bytes = matrix(rows, columns, self::packing(packing)?)?.bytes();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, bytes, "out") }
    })
}

/// Packs `trits` [rows, columns], one int8 each, -1, 0 or +1, into `packed`; `packed_size` is the room before
/// and the bytes used after. Returns ARGUMENT (another value, naming the first; overlap), SHAPE (too little
/// room), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_pack(
    trits: *const i8,
    rows: i64,
    columns: i64,
    options: *const setun_quantize_options,
    packed: *mut u8,
    packed_size: *mut usize,
) -> setun_status {
    guard("pack", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let choice = unsafe { Choice::read(options) }?;
        let matrix = matrix(rows, columns, choice.packing)?;
        // SAFETY: NULL is checked; a readable and writable size is the caller's contract.
        let room = unsafe { Room::read(packed_size, "packed_size") }?;
        check_apart(
            &[extent("packed", packed, room.bytes()), room.extent()],
            &[extent("trits", trits, matrix.count())],
        )?;
        // SAFETY: NULL and overlap are checked; the lengths are the caller's contract.
        let (trits, packed) =
            unsafe { (slice(trits, matrix.count(), "trits")?, slice_mut(packed, room.bytes(), "packed")?) };
        let used = room.at_least(matrix.bytes(), "packed")?;
        quantize::pack(&matrix, trits, &mut packed[..used])?;
        room.used(used)
    })
}

/// The inverse: `trits` [rows, columns], one int8 each. Returns FORMAT (bytes that are no trits, naming the
/// first), ARGUMENT, SHAPE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_unpack(
    packed: *const u8,
    packed_size: usize,
    rows: i64,
    columns: i64,
    options: *const setun_quantize_options,
    trits: *mut i8,
) -> setun_status {
    guard("unpack", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let choice = unsafe { Choice::read(options) }?;
        let matrix = matrix(rows, columns, choice.packing)?;
        check_apart(&[extent("trits", trits, matrix.count())], &[extent("packed", packed, packed_size)])?;
        // SAFETY: NULL and overlap are checked; the lengths are the caller's contract.
        let (packed, trits) =
            unsafe { (slice(packed, packed_size, "packed")?, slice_mut(trits, matrix.count(), "trits")?) };
        quantize::unpack(&matrix, packed, trits)
    })
}

/// Counts the trits of [rows, columns]: `counts` has room for three, of -1, 0 and +1. Returns FORMAT,
/// ARGUMENT, SHAPE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trit_histogram(
    packed: *const u8,
    packed_size: usize,
    rows: i64,
    columns: i64,
    options: *const setun_quantize_options,
    counts: *mut i64,
) -> setun_status {
    guard("trit_histogram", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let choice = unsafe { Choice::read(options) }?;
        let matrix = matrix(rows, columns, choice.packing)?;
        check_apart(&[extent("counts", counts, 3)], &[extent("packed", packed, packed_size)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (packed, counts) = unsafe { (slice(packed, packed_size, "packed")?, slice_mut(counts, 3, "counts")?) };
        counts.copy_from_slice(&quantize::histogram(&matrix, packed)?);
        Ok(())
    })
}
