//! QUANTIZE: float weights to ternary, and back
//!
//! Weights become trits, -1, 0 or +1, and scales: W ~ scale * t. Matrices are row-major, [rows, columns] =
//! [n, k]: one row per output, as in a linear layer. A scale belongs to the whole matrix, to a row, or to a
//! group of columns of a row: `group` in the options. Scales are [1], or [rows, ceil(columns / group)]: as
//! many as `setun_scale_count` says. How they and the thresholds above which a weight is +-1 are found is
//! the scheme; how the trits lie in bytes is the packing (next section). The calls of these four sections
//! take plain pointers; outputs may not overlap inputs, and stay untouched when a call fails.
//!
//!     float w[2 * 4] = {.9f, -.8f, .1f, 0, -.7f, .6f, 0, .1f}, back[2 * 4], scale;
//!     size_t bytes;
//!     setun_pack_size(2, 4, SETUN_PACKING_TWO_BIT, &bytes);
//!     uint8_t *packed = malloc(bytes);
//!     setun_quantize(w, 2, 4, NULL, packed, &bytes, &scale, 1);
//!     setun_dequantize(packed, bytes, 2, 4, &scale, 1, NULL, back);

use super::arguments::{Room, check_apart, extent, one_of, size, slice, slice_mut, store};
use super::context::{self, setun_context};
use super::guard::guard;
use super::library::setun_status;
use super::options::{self, Versioned};
use super::pack;
use crate::backend::Context;
use crate::quantize::{self, Group, Matrix, Packing};
use crate::tensor::Result;
use crate::tensor::error::ensure;
use std::sync::Arc;

/// How a threshold h and a scale s are found; a weight above h is +1, one below -h is -1, others are 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_scheme {
    /// s = the mean magnitude, at least 1e-5; h = s / 2 (BitNet b1.58, arXiv 2402.17764).
    Absmean = 0,
}

/// For `group`: one scale a row.
pub const SETUN_GROUP_ROW: i64 = -1;

/// How to quantize and where. Fill it with `setun_quantize_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_quantize_options {
    pub struct_size: usize,
    /// A `setun_scheme`. Default SETUN_SCHEME_ABSMEAN.
    pub scheme: i32,
    /// A `setun_packing`, but SETUN_PACKING_FULL. Default SETUN_PACKING_TWO_BIT.
    pub packing: i32,
    /// Where it runs; NULL = the default context. Default NULL.
    pub context: *const setun_context,
    /// Columns of a row that share a scale; the last group of a row may be shorter. 0 = the whole matrix;
    /// SETUN_GROUP_ROW = the row. Default 0.
    pub group: i64,
}

// SAFETY: repr(C), begins with struct_size, integers and a pointer, no padding at the end.
unsafe impl Versioned for setun_quantize_options {
    fn defaults() -> Self {
        setun_quantize_options {
            struct_size: size_of::<Self>(),
            scheme: setun_scheme::Absmean as i32,
            packing: super::pack::setun_packing::TwoBit as i32,
            context: std::ptr::null(),
            group: 0,
        }
    }
}

/// The options of a call, checked.
pub struct Choice {
    pub context: Arc<Context>,
    pub packing: Packing,
    pub group: Group,
}

impl Choice {
    /// # Safety
    /// As for [`options::read`].
    pub unsafe fn read(options: *const setun_quantize_options) -> Result<Choice> {
        // SAFETY: passed on to the caller.
        let options = unsafe { options::read(options, "options") }?;
        one_of(options.scheme, "scheme", &[(setun_scheme::Absmean as i32, "absmean", ())])?;
        let (packing, group) = (pack::packing(options.packing)?, self::group(options.group)?);
        Ok(Choice { context: context::resolve(options.context)?, packing, group })
    }

    /// The number of scales of a matrix, which must be what the caller has.
    pub fn scales(&self, matrix: &Matrix, count: i64) -> Result<usize> {
        let count = size(count, "scale_count")?;
        self.group.check_count(matrix.rows(), matrix.columns(), count)?;
        ensure!(self.group == Group::Matrix, Unsupported, "group is {:?}, expected that of the matrix", self.group);
        Ok(count)
    }
}

fn group(value: i64) -> Result<Group> {
    match value {
        0 => Ok(Group::Matrix),
        SETUN_GROUP_ROW => Ok(Group::Row),
        _ => size(value, "group").map(Group::Columns),
    }
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_quantize_options_init(options: *mut setun_quantize_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Says how many scales [rows, columns] weights have in groups of `group` columns (see the options): 1, rows,
/// or rows * ceil(columns / group). Returns ARGUMENT (negative sizes, a group below -1), SHAPE (too large).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_scale_count(rows: i64, columns: i64, group: i64, out: *mut i64) -> setun_status {
    guard("scale_count", || {
        let matrix = pack::matrix(rows, columns, Packing::TwoBit)?;
        let count = self::group(group)?.scale_count(matrix.rows(), matrix.columns());
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, count as i64, "out") }
    })
}

/// Quantizes `weights` [rows, columns]: the trits into `packed`, of which `packed_size` says the room before
/// and the bytes used after (`setun_pack_size` says how many are enough), and their scales [scale_count].
/// NULL options = absmean, two bits, one scale, default context.
///
/// Returns ARGUMENT (a NaN or an infinity, naming the first; overlap; misaligned), SHAPE (packed_size or
/// scale_count does not fit), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_quantize(
    weights: *const f32,
    rows: i64,
    columns: i64,
    options: *const setun_quantize_options,
    packed: *mut u8,
    packed_size: *mut usize,
    scales: *mut f32,
    scale_count: i64,
) -> setun_status {
    guard("quantize", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let choice = unsafe { Choice::read(options) }?;
        let matrix = pack::matrix(rows, columns, choice.packing)?;
        let scale_count = choice.scales(&matrix, scale_count)?;
        // SAFETY: NULL is checked; a readable and writable size is the caller's contract.
        let room = unsafe { Room::read(packed_size, "packed_size") }?;
        check_apart(
            &[extent("packed", packed, room.bytes()), room.extent(), extent("scales", scales, scale_count)],
            &[extent("weights", weights, matrix.count())],
        )?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (weights, packed, scales) = unsafe {
            (
                slice(weights, matrix.count(), "weights")?,
                slice_mut(packed, room.bytes(), "packed")?,
                slice_mut(scales, scale_count, "scales")?,
            )
        };
        let used = room.at_least(matrix.bytes(), "packed")?;
        scales[0] = quantize::quantize(&choice.context, &matrix, weights, &mut packed[..used])?;
        room.used(used)
    })
}

/// The inverse: weights [rows, columns] = scale * t. Of the options, packing, group and context count.
/// Returns FORMAT (bytes that are no trits, naming the first), ARGUMENT (a scale that is not finite; overlap;
/// misaligned), SHAPE (packed_size or scale_count does not fit), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dequantize(
    packed: *const u8,
    packed_size: usize,
    rows: i64,
    columns: i64,
    scales: *const f32,
    scale_count: i64,
    options: *const setun_quantize_options,
    weights: *mut f32,
) -> setun_status {
    guard("dequantize", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let choice = unsafe { Choice::read(options) }?;
        let matrix = pack::matrix(rows, columns, choice.packing)?;
        let scale_count = choice.scales(&matrix, scale_count)?;
        check_apart(
            &[extent("weights", weights, matrix.count())],
            &[extent("packed", packed, packed_size), extent("scales", scales, scale_count)],
        )?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (packed, scales, weights) = unsafe {
            (
                slice(packed, packed_size, "packed")?,
                slice(scales, scale_count, "scales")?,
                slice_mut(weights, matrix.count(), "weights")?,
            )
        };
        quantize::dequantize(&choice.context, &matrix, packed, scales[0], weights)
    })
}
