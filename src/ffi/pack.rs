//! PACK: trits in bytes
//!
//! Rows of [n, k] begin at a byte of their own; positions past the last column hold t = 0, so that a matrix
//! has one packed form. What is not one is refused, and never decoded to nonsense.
//!
//!     two bits:  byte = (t0 + 1) + (t1 + 1) * 4 + (t2 + 1) * 16 + (t3 + 1) * 64          ceil(k / 4) bytes a row
//!     five:      byte = (t0 + 1) + (t1 + 1) * 3 + ... + (t4 + 1) * 81                    ceil(k / 5) bytes a row
//!     mask and sign: [offset: uint32 x blocks] [mask: n rows of ceil(k / 8) bytes] [signs], where a block is
//!         max(1, ceil(2048 / k)) rows (the last may have fewer), so that it can be read by itself;
//!         mask:   bit i of a row, lowest first, is 1 where t [i] is not 0
//!         signs:  for each block, from a byte of its own, a bit for each t that is not 0, in order: 1 = -1; the
//!                 bits that are left over in its last byte are 0
//!         offset: of the block's signs, from where the signs begin, little endian
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
use crate::format::gguf::{self, BlockType};
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
    /// A bit for each weight, and a sign for each that is not zero: 2 - z bits a weight where z is the share of
    /// zeros, 1.55 of Gaussian weights and least squares. For files; products unpack it first.
    MaskSign = 3,
}

pub fn packing(value: i32) -> Result<Packing> {
    let packings = [
        (setun_packing::TwoBit as i32, "two bits", Packing::TwoBit),
        (setun_packing::FivePerByte as i32, "five per byte", Packing::FivePerByte),
        (setun_packing::MaskSign as i32, "mask and sign", Packing::MaskSign),
    ];
    one_of(value, "packing", &packings)
}

pub fn c_packing(packing: Packing) -> setun_packing {
    match packing {
        Packing::TwoBit => setun_packing::TwoBit,
        Packing::FivePerByte => setun_packing::FivePerByte,
        Packing::MaskSign => setun_packing::MaskSign,
    }
}

pub fn matrix(rows: i64, columns: i64, packing: Packing) -> Result<Matrix> {
    Matrix::new(size(rows, "rows")?, size(columns, "columns")?, packing)
}

/// Says how many bytes [rows, columns] trits take; with mask and sign the most that they can, when none is
/// zero. `packing` is a `setun_packing`. Returns ARGUMENT (negative sizes, no such packing), SHAPE (more than the
/// machine can address, or columns above 2^24, past which products would not be exact).
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
        room.used(quantize::pack(&choice.context, &matrix, trits, packed)?)
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
        quantize::unpack(&choice.context, &matrix, packed, trits)
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
        counts.copy_from_slice(&quantize::histogram(&choice.context, &matrix, packed)?);
        Ok(())
    })
}

/// Packed trits [rows, columns] in `packing`, a `setun_packing`, into that of the options: `out`, of which
/// `out_size` is the room before and the bytes used after. Returns FORMAT (bytes that are no trits, naming the
/// first, or the block whose mask and signs disagree), ARGUMENT, SHAPE (packed_size does not fit; too little
/// room), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_repack(
    packed: *const u8,
    packed_size: usize,
    rows: i64,
    columns: i64,
    packing: i32,
    options: *const setun_quantize_options,
    out: *mut u8,
    out_size: *mut usize,
) -> setun_status {
    guard("repack", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let choice = unsafe { Choice::read(options) }?;
        let matrix = matrix(rows, columns, self::packing(packing)?)?;
        // SAFETY: NULL is checked; a readable and writable size is the caller's contract.
        let room = unsafe { Room::read(out_size, "out_size") }?;
        check_apart(&[extent("out", out, room.bytes()), room.extent()], &[extent("packed", packed, packed_size)])?;
        // SAFETY: NULL and overlap are checked; the lengths are the caller's contract.
        let (packed, out) = unsafe { (slice(packed, packed_size, "packed")?, slice_mut(out, room.bytes(), "out")?) };
        room.used(quantize::repack(&choice.context, &matrix, packed, choice.packing, out)?)
    })
}

/// The ternary block types of GGUF files, by GGML's numbers. Both hold blocks of 256 weights with one 16-bit
/// float as scale.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_gguf_type {
    /// Five trits a byte, 54 bytes a block: 1.6875 bits a weight.
    Tq1_0 = 34,
    /// Four trits a byte, 66 bytes a block: 2.0625 bits a weight.
    Tq2_0 = 35,
}

fn gguf_type(value: i32) -> Result<BlockType> {
    let types = [
        (setun_gguf_type::Tq1_0 as i32, "TQ1_0", BlockType::Tq1_0),
        (setun_gguf_type::Tq2_0 as i32, "TQ2_0", BlockType::Tq2_0),
    ];
    one_of(value, "type", &types)
}

/// Says how many bytes `count` weights, a multiple of 256, take as blocks of the `setun_gguf_type` `type`.
/// Returns ARGUMENT (no such type), SHAPE (another count, or more than the machine can address).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_gguf_size(r#type: i32, count: i64, bytes: *mut usize) -> setun_status {
    guard("gguf_size", || {
        let size = gguf_type(r#type)?.size(size(count, "count")?)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(bytes, size, "bytes") }
    })
}

/// Quantizes `weights`, `count` of them, a multiple of 256, into GGUF blocks of the `setun_gguf_type` `type`,
/// `blocks_size` bytes as setun_gguf_size says: the same bytes as GGML's own writer (gguf-py, quants.py). The
/// scale of a block is its largest magnitude, stored as the nearest 16-bit float; a weight is +-1 from half of
/// that on, else 0.
///
/// That is a rough rule for weights that are not ternary yet: quantize them with setun_quantize, or take those
/// of a trained model, and hand over what setun_dequantize gives. Then every trit survives exactly, and the
/// scales but for their rounding to 16 bits; every 256 weights share a scale, so a group is a multiple of 256
/// columns, or the matrix. A row of a GGUF tensor is whole blocks: columns are a multiple of 256 too.
///
/// Returns ARGUMENT (a weight that is not finite or whose magnitude no finite 16-bit float is nearest to, 65520
/// and above, naming the first; overlap), SHAPE (count or blocks_size). Where it fails, nothing is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_gguf_encode(
    r#type: i32,
    weights: *const f32,
    count: i64,
    blocks: *mut u8,
    blocks_size: usize,
) -> setun_status {
    guard("gguf_encode", || {
        let (kind, count) = (gguf_type(r#type)?, size(count, "count")?);
        check_apart(&[extent("blocks", blocks, blocks_size)], &[extent("weights", weights, count)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (weights, blocks) =
            unsafe { (slice(weights, count, "weights")?, slice_mut(blocks, blocks_size, "blocks")?) };
        gguf::encode(kind, weights, blocks)
    })
}

/// The inverse: `weights`, `count` of them, a multiple of 256, from GGUF blocks. Returns FORMAT (bytes that no
/// writer makes: the code 3, a byte that is no five trits, a scale that is not finite; naming the first), ARGUMENT
/// (overlap), SHAPE. Where it fails, nothing is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_gguf_decode(
    r#type: i32,
    blocks: *const u8,
    blocks_size: usize,
    count: i64,
    weights: *mut f32,
) -> setun_status {
    guard("gguf_decode", || {
        let (kind, count) = (gguf_type(r#type)?, size(count, "count")?);
        check_apart(&[extent("weights", weights, count)], &[extent("blocks", blocks, blocks_size)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (blocks, weights) =
            unsafe { (slice(blocks, blocks_size, "blocks")?, slice_mut(weights, count, "weights")?) };
        gguf::decode(kind, blocks, weights)
    })
}
