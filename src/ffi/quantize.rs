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
use crate::quantize::{self, Group, Matrix, Packing, Quantization, Report, Rounding, Scheme};
use crate::tensor::Result;
use crate::tensor::error::ensure;
use std::sync::Arc;

/// How the scale s and the threshold h of a group of weights are found; a weight above h is +1, one below -h is
/// -1, others are 0. Every scheme gives the same bits on every backend and processor.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_scheme {
    /// s = the mean magnitude, at least 1e-5; h = s / 2 (BitNet b1.58, arXiv 2402.17764).
    Absmean = 0,
    /// s = the median magnitude, of an even number the lower of the two in the middle (as torch.median), at
    /// least 1e-5; h = s / 2.
    Absmedian = 1,
    /// The s and the trits with the least squared error of all, found exactly; h = s / 2. Of normal weights
    /// the error is 0.436 of their norm, by absmean 0.513.
    LeastSquares = 2,
    /// h = `threshold` of the options; s = the mean of the magnitudes above it, which is the best for these
    /// trits; 0 if there are none.
    Threshold = 3,
}

/// How a weight between two trits is decided.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_rounding {
    /// By the threshold.
    Nearest = 0,
    /// At random, +-1 with the probability |w| / s: the mean of s * t over the seeds is w, for |w| up to s.
    /// The scheme's threshold is not used.
    Stochastic = 1,
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
    /// Of SETUN_SCHEME_THRESHOLD, but always finite, and 0 or more. Default 0.
    pub threshold: f32,
    /// A `setun_rounding`. Default SETUN_ROUNDING_NEAREST.
    pub rounding: i32,
    /// Of SETUN_ROUNDING_STOCHASTIC: the same seed gives the same trits, on every backend. Default 0.
    pub seed: u64,
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
            threshold: 0.0,
            rounding: setun_rounding::Nearest as i32,
            seed: 0,
        }
    }
}

/// What quantizing cost. Set `struct_size` to sizeof(setun_quantize_report) first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_quantize_report {
    pub struct_size: usize,
    /// sqrt(sum of (w - s * t)^2 / sum of w^2), in f64: 0 = restored exactly, 1 = no better than zeros.
    pub relative_rmse: f64,
    /// The share of the trits that are 0.
    pub zero_fraction: f64,
    /// Of the trits as independent symbols, in bits a trit, at most log2(3) = 1.585: no packing that knows no more
    /// of them than how often each comes can take less on average.
    pub entropy: f64,
    pub scale_count: i64,
    /// All that a reader needs: the packed trits, and 4 for each scale.
    pub bytes: usize,
    /// 8 * bytes / weights.
    pub bits_per_weight: f64,
    /// The bytes of the weights as 32-bit floats / bytes.
    pub ratio: f64,
}

// SAFETY: repr(C), begins with struct_size, ends with 8-byte numbers: no padding at the end.
unsafe impl Versioned for setun_quantize_report {
    fn defaults() -> Self {
        setun_quantize_report {
            struct_size: size_of::<Self>(),
            relative_rmse: f64::NAN,
            zero_fraction: f64::NAN,
            entropy: f64::NAN,
            scale_count: 0,
            bytes: 0,
            bits_per_weight: f64::NAN,
            ratio: f64::NAN,
        }
    }
}

/// # Safety
/// As for [`options::write`].
pub unsafe fn write_report(out: *mut setun_quantize_report, found: &Report) -> Result<()> {
    let report = setun_quantize_report {
        struct_size: size_of::<setun_quantize_report>(),
        relative_rmse: found.relative_rmse,
        zero_fraction: found.zero_fraction,
        entropy: found.entropy,
        scale_count: found.scale_count as i64,
        bytes: found.bytes,
        bits_per_weight: found.bits_per_weight,
        ratio: found.ratio,
    };
    // SAFETY: passed on to the caller.
    unsafe { options::write(out, report, "report") }
}

/// The options of a call, checked.
pub struct Choice {
    pub context: Arc<Context>,
    pub packing: Packing,
    pub how: Quantization,
}

impl Choice {
    /// # Safety
    /// As for [`options::read`].
    pub unsafe fn read(options: *const setun_quantize_options) -> Result<Choice> {
        // SAFETY: passed on to the caller.
        unsafe { Choice::read_on(std::ptr::null(), options) }
    }

    /// The same for a call with a context of its own, which goes before that of the options unless it is NULL.
    ///
    /// # Safety
    /// As for [`options::read`].
    pub unsafe fn read_on(context: *const setun_context, options: *const setun_quantize_options) -> Result<Choice> {
        // SAFETY: passed on to the caller.
        let options = unsafe { options::read(options, "options") }?;
        let threshold = options.threshold;
        ensure!(
            threshold.is_finite() && threshold >= 0.0,
            Argument,
            "threshold is {threshold}, expected a finite number of 0 or more"
        );
        let schemes = [
            (setun_scheme::Absmean as i32, "absmean", Scheme::Absmean),
            (setun_scheme::Absmedian as i32, "absmedian", Scheme::Absmedian),
            (setun_scheme::LeastSquares as i32, "least squares", Scheme::LeastSquares),
            (setun_scheme::Threshold as i32, "threshold", Scheme::Threshold(threshold)),
        ];
        let roundings = [
            (setun_rounding::Nearest as i32, "nearest", Rounding::Nearest),
            (setun_rounding::Stochastic as i32, "stochastic", Rounding::Stochastic { seed: options.seed }),
        ];
        let how = Quantization {
            scheme: one_of(options.scheme, "scheme", &schemes)?,
            group: self::group(options.group)?,
            rounding: one_of(options.rounding, "rounding", &roundings)?,
        };
        // A wrong one is an error also where it is not used.
        if !context.is_null() && !options.context.is_null() {
            context::resolve(options.context)?;
        }
        let context = context::resolve(if context.is_null() { options.context } else { context })?;
        Ok(Choice { context, packing: pack::packing(options.packing)?, how })
    }

    /// The number of scales of a matrix, which must be what the caller has.
    pub fn scales(&self, matrix: &Matrix, count: i64) -> Result<usize> {
        let count = size(count, "scale_count")?;
        self.how.group.check_count(matrix.rows(), matrix.columns(), count)?;
        Ok(count)
    }
}

pub fn c_group(group: Group) -> i64 {
    match group {
        Group::Matrix => 0,
        Group::Row => SETUN_GROUP_ROW,
        Group::Columns(width) => width as i64,
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
/// NULL options = absmean, two bits, one scale, to the nearest, default context. The bits of the trits and of
/// the scales are the same on every backend.
///
/// Returns ARGUMENT (a NaN or an infinity, naming the first; a threshold that is negative or not finite; a mean
/// magnitude beyond float; overlap; misaligned), SHAPE (packed_size or scale_count does not fit), MEMORY.
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
        let used = quantize::quantize(&choice.context, &matrix, &choice.how, weights, packed, scales)?;
        room.used(used)
    })
}

/// Measures what `setun_quantize` made of `weights` [rows, columns]: the error, the entropy and all bytes, into
/// `report`, whose struct_size is set. Of the options, packing, group and context count. Returns FORMAT (bytes
/// that are no trits, naming the first), ARGUMENT (a weight or a scale that is not finite, naming the first;
/// overlap; misaligned), SHAPE (packed_size or scale_count does not fit), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_quantize_measure(
    weights: *const f32,
    rows: i64,
    columns: i64,
    packed: *const u8,
    packed_size: usize,
    scales: *const f32,
    scale_count: i64,
    options: *const setun_quantize_options,
    report: *mut setun_quantize_report,
) -> setun_status {
    guard("quantize_measure", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let choice = unsafe { Choice::read(options) }?;
        // SAFETY: as above.
        unsafe { options::check(report, "report") }?;
        let matrix = pack::matrix(rows, columns, choice.packing)?;
        let scale_count = choice.scales(&matrix, scale_count)?;
        check_apart(
            &[extent("report", report, 1)],
            &[
                extent("weights", weights, matrix.count()),
                extent("packed", packed, packed_size),
                extent("scales", scales, scale_count),
            ],
        )?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (weights, packed, scales) = unsafe {
            (
                slice(weights, matrix.count(), "weights")?,
                slice(packed, packed_size, "packed")?,
                slice(scales, scale_count, "scales")?,
            )
        };
        let found = quantize::measure(&choice.context, &matrix, choice.how.group, weights, packed, scales)?;
        // SAFETY: its size field is checked; room for as much is the caller's contract.
        unsafe { write_report(report, &found) }
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
        quantize::dequantize(&choice.context, &matrix, choice.how.group, packed, scales, weights)
    })
}
