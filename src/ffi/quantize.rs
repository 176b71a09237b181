//! QUANTIZE: float weights to ternary, and products on the packed form
//!
//! Weights become trits, -1, 0 or +1, and one scale: W ~ scale * t (absmean, BitNet b1.58, arXiv
//! 2402.17764: gamma = mean |W|, t = round(W / gamma) clipped to -1..1, scale = max(gamma, 1e-5)). Matrices
//! are row-major, [rows, columns] = [n, k]: one row per output, as in a linear layer. Every row is packed
//! by itself, from its first byte:
//!
//!     two bits:  byte = (t0 + 1) + (t1 + 1) * 4 + (t2 + 1) * 16 + (t3 + 1) * 64          ceil(k / 4) bytes a row
//!     five:      byte = (t0 + 1) + (t1 + 1) * 3 + ... + (t4 + 1) * 81                    ceil(k / 5) bytes a row
//!
//! and positions past the last column hold t = 0. Products quantize the activations to 8 bits, one scale
//! per row, and sum integers: exact, and the same on every backend. Gradients become 8-bit codes by blocks,
//! rounded at random so that nothing is lost on average. The calls below take plain pointers; outputs may
//! not overlap inputs, and stay untouched when a call fails. A `setun_packed` keeps a matrix ready instead
//! of checking it at every call.
//!
//!     float w[2 * 4] = {.9f, -.8f, .1f, 0, -.7f, .6f, 0, .1f}, x[4] = {1, 2, 3, 4}, y[2], scale;
//!     size_t bytes;
//!     setun_pack_size(2, 4, SETUN_PACKING_TWO_BIT, &bytes);
//!     uint8_t *packed = malloc(bytes);
//!     setun_quantize(w, 2, 4, NULL, packed, bytes, &scale);
//!     setun_matmul(x, 1, packed, bytes, 2, 4, scale, NULL, y);

use super::arguments::{check_apart, check_pointer, count, extent, one_of, size, slice, slice_mut, store};
use super::context::{self, setun_context};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use super::options::{self, Versioned};
use super::tensor::setun_tensor;
use crate::backend::Context;
use crate::quantize::{self, Matrix, PackedTensor, Packing};
use crate::tensor::Result;
use crate::tensor::random::{Purpose, Stream};
use std::sync::Arc;

/// How a threshold and a scale are found.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_scheme {
    /// The mean magnitude of the whole matrix is the scale, half of it the threshold (arXiv 2402.17764).
    Absmean = 0,
}

/// How weights are stored.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_packing {
    /// Four trits a byte, 2 bits a weight: the form that products run on.
    TwoBit = 0,
    /// Five trits a byte, 1.6 bits a weight: the form for files; products unpack it first.
    FivePerByte = 1,
    /// Not packed: 32-bit floats. Only for `setun_model_save`.
    Full = 2,
}

/// How to quantize and where. Fill it with `setun_quantize_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_quantize_options {
    pub struct_size: usize,
    /// A `setun_scheme`. Default SETUN_SCHEME_ABSMEAN.
    pub scheme: i32,
    /// SETUN_PACKING_TWO_BIT or SETUN_PACKING_FIVE_PER_BYTE. Default SETUN_PACKING_TWO_BIT.
    pub packing: i32,
    /// Where it runs; NULL = the default context. Default NULL.
    pub context: *const setun_context,
}

// SAFETY: repr(C), begins with struct_size, integers and a pointer, no padding at the end.
unsafe impl Versioned for setun_quantize_options {
    fn defaults() -> Self {
        setun_quantize_options {
            struct_size: size_of::<Self>(),
            scheme: setun_scheme::Absmean as i32,
            packing: setun_packing::TwoBit as i32,
            context: std::ptr::null(),
        }
    }
}

/// A packed weight matrix, checked once.
pub struct setun_packed {
    _opaque: [u8; 0],
}

impl Handle for setun_packed {
    type Object = PackedTensor;
    const NAME: &'static str = "setun_packed";
}

fn packing(value: i32) -> Result<Packing> {
    let packings = [
        (setun_packing::TwoBit as i32, "two bits", Packing::TwoBit),
        (setun_packing::FivePerByte as i32, "five per byte", Packing::FivePerByte),
    ];
    one_of(value, "packing", &packings)
}

/// # Safety
/// As for [`options::read`].
unsafe fn read_options(options: *const setun_quantize_options) -> Result<(Arc<Context>, Packing)> {
    // SAFETY: passed on to the caller.
    let options = unsafe { options::read(options, "options") }?;
    one_of(options.scheme, "scheme", &[(setun_scheme::Absmean as i32, "absmean", ())])?;
    Ok((context::resolve(options.context)?, packing(options.packing)?))
}

fn matrix(rows: i64, columns: i64, packing: Packing) -> Result<Matrix> {
    Matrix::new(size(rows, "rows")?, size(columns, "columns")?, packing)
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_quantize_options_init(options: *mut setun_quantize_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
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

/// Quantizes `weights` [rows, columns] into `packed`, `packed_size` bytes as `setun_pack_size` says, and
/// writes the scale. NULL options = absmean, two bits, default context.
///
/// Returns ARGUMENT (a NaN or an infinity, naming the first; overlap; misaligned), SHAPE (packed_size does
/// not fit).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_quantize(
    weights: *const f32,
    rows: i64,
    columns: i64,
    options: *const setun_quantize_options,
    packed: *mut u8,
    packed_size: usize,
    scale: *mut f32,
) -> setun_status {
    guard("quantize", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let (context, packing) = unsafe { read_options(options) }?;
        let matrix = matrix(rows, columns, packing)?;
        check_pointer(scale, "scale")?;
        check_apart(
            &[extent("packed", packed, packed_size), extent("scale", scale, 1)],
            &[extent("weights", weights, matrix.count())],
        )?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (weights, packed) =
            unsafe { (slice(weights, matrix.count(), "weights")?, slice_mut(packed, packed_size, "packed")?) };
        let found = quantize::quantize(&context, &matrix, weights, packed)?;
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { store(scale, found, "scale") }
    })
}

/// The inverse: weights [rows, columns] = scale * t. Returns FORMAT (bytes that are no trits, naming the
/// first), ARGUMENT (scale is not finite; overlap; misaligned), SHAPE (packed_size does not fit).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dequantize(
    packed: *const u8,
    packed_size: usize,
    rows: i64,
    columns: i64,
    scale: f32,
    options: *const setun_quantize_options,
    weights: *mut f32,
) -> setun_status {
    guard("dequantize", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let (context, packing) = unsafe { read_options(options) }?;
        let matrix = matrix(rows, columns, packing)?;
        check_apart(&[extent("weights", weights, matrix.count())], &[extent("packed", packed, packed_size)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (packed, weights) =
            unsafe { (slice(packed, packed_size, "packed")?, slice_mut(weights, matrix.count(), "weights")?) };
        quantize::dequantize(&context, &matrix, packed, scale, weights)
    })
}

/// Packs `trits` [rows, columns], one int8 each, -1, 0 or +1, into `packed`. Returns ARGUMENT (another
/// value, naming the first; overlap), SHAPE (packed_size does not fit).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_pack(
    trits: *const i8,
    rows: i64,
    columns: i64,
    options: *const setun_quantize_options,
    packed: *mut u8,
    packed_size: usize,
) -> setun_status {
    guard("pack", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let (_, packing) = unsafe { read_options(options) }?;
        let matrix = matrix(rows, columns, packing)?;
        check_apart(&[extent("packed", packed, packed_size)], &[extent("trits", trits, matrix.count())])?;
        // SAFETY: NULL and overlap are checked; the lengths are the caller's contract.
        let (trits, packed) =
            unsafe { (slice(trits, matrix.count(), "trits")?, slice_mut(packed, packed_size, "packed")?) };
        quantize::pack(&matrix, trits, packed)
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
        let (_, packing) = unsafe { read_options(options) }?;
        let matrix = matrix(rows, columns, packing)?;
        check_apart(&[extent("trits", trits, matrix.count())], &[extent("packed", packed, packed_size)])?;
        // SAFETY: NULL and overlap are checked; the lengths are the caller's contract.
        let (packed, trits) =
            unsafe { (slice(packed, packed_size, "packed")?, slice_mut(trits, matrix.count(), "trits")?) };
        quantize::unpack(&matrix, packed, trits)
    })
}

/// Quantizes activations x [m, k] to 8 bits, row by row: a = max(max |x|, 1e-5), codes [m, k] = round(x *
/// 127 / a), half to even, scales [m] = a / 127, so that x ~ scale * code. Returns ARGUMENT (a NaN or an
/// infinity, naming the first; overlap; misaligned).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_quantize_activations(
    x: *const f32,
    m: i64,
    k: i64,
    options: *const setun_quantize_options,
    codes: *mut i8,
    scales: *mut f32,
) -> setun_status {
    guard("quantize_activations", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let (context, _) = unsafe { read_options(options) }?;
        let (m, k) = (size(m, "m")?, size(k, "k")?);
        let all = count::<f32>(&[m, k], "x")?;
        check_apart(&[extent("codes", codes, all), extent("scales", scales, m)], &[extent("x", x, all)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (x, codes, scales) =
            unsafe { (slice(x, all, "x")?, slice_mut(codes, all, "codes")?, slice_mut(scales, m, "scales")?) };
        quantize::quantize_activations(&context, x, m, k, codes, scales)
    })
}

/// Quantizes a gradient g [n] to 8 bits by blocks: for every `block` elements, a positive multiple of 32 (the
/// trainer's is 256), scale = max |g| / 127 of the block, and code = g / scale, rounded up or down at random so
/// that the mean of scale * code is g: codes [n] int8 from -127 to 127, scales [ceil(n / block)]. (Blocks:
/// arXiv 2110.02861; stochastic rounding: QSGD, arXiv 1610.02132.)
///
/// The randomness is a function of (seed, step, tensor, index) alone, and the codes are the same on every
/// backend: give each tensor and step numbers of its own. The scale is at least 2^-126, also of zeros, and
/// such that 127 * scale is finite. NULL options = the default context. Returns ARGUMENT (a NaN or an
/// infinity, naming the first; block; n; overlap; misaligned).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_quantize_gradients(
    g: *const f32,
    n: i64,
    block: i64,
    seed: u64,
    step: u32,
    tensor: u32,
    options: *const setun_quantize_options,
    codes: *mut i8,
    scales: *mut f32,
) -> setun_status {
    guard("quantize_gradients", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let (context, _) = unsafe { read_options(options) }?;
        let (n, block) = (count::<f32>(&[size(n, "n")?], "g")?, size(block, "block")?);
        let blocks = quantize::gradient_blocks(n, block)?;
        check_apart(&[extent("codes", codes, n), extent("scales", scales, blocks)], &[extent("g", g, n)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (g, codes, scales) =
            unsafe { (slice(g, n, "g")?, slice_mut(codes, n, "codes")?, slice_mut(scales, blocks, "scales")?) };
        let stream = Stream::new(seed, Purpose::Gradient, step, tensor);
        quantize::quantize_gradients(&context, g, block, stream, codes, scales)
    })
}

/// The inverse but for the rounding: g [n] = scale * code, from scales [ceil(n / block)]. Returns ARGUMENT (a
/// scale that is NaN or infinite, naming the first; block; n; overlap; misaligned).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dequantize_gradients(
    codes: *const i8,
    scales: *const f32,
    n: i64,
    block: i64,
    options: *const setun_quantize_options,
    g: *mut f32,
) -> setun_status {
    guard("dequantize_gradients", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let (context, _) = unsafe { read_options(options) }?;
        let (n, block) = (count::<f32>(&[size(n, "n")?], "g")?, size(block, "block")?);
        let blocks = quantize::gradient_blocks(n, block)?;
        check_apart(&[extent("g", g, n)], &[extent("codes", codes, n), extent("scales", scales, blocks)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (codes, scales, g) =
            unsafe { (slice(codes, n, "codes")?, slice(scales, blocks, "scales")?, slice_mut(g, n, "g")?) };
        quantize::dequantize_gradients(&context, codes, scales, block, g)
    })
}

/// A linear layer: y [m, n] = x [m, k] * (scale * t [n, k]) transposed, from `packed`, whose n rows have k
/// columns. x is quantized to 8 bits per row as `setun_quantize_activations` does, and the products are
/// summed as integers.
///
/// Returns ARGUMENT (NaN or infinity in x or scale; overlap; misaligned), SHAPE (packed_size does not fit,
/// k above 2^24), FORMAT (bytes that are no trits), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_matmul(
    x: *const f32,
    m: i64,
    packed: *const u8,
    packed_size: usize,
    n: i64,
    k: i64,
    scale: f32,
    options: *const setun_quantize_options,
    y: *mut f32,
) -> setun_status {
    guard("matmul", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let (context, packing) = unsafe { read_options(options) }?;
        let m = size(m, "m")?;
        let matrix = Matrix::new(size(n, "n")?, size(k, "k")?, packing)?;
        let (inputs, outputs) = (count::<f32>(&[m, matrix.columns()], "x")?, count::<f32>(&[m, matrix.rows()], "y")?);
        check_apart(&[extent("y", y, outputs)], &[extent("x", x, inputs), extent("packed", packed, packed_size)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (x, packed, y) =
            unsafe { (slice(x, inputs, "x")?, slice(packed, packed_size, "packed")?, slice_mut(y, outputs, "y")?) };
        quantize::matmul(&context, &matrix, x, m, packed, scale, y)
    })
}

/// The gradient of `setun_matmul` to its input, straight through the quantization of x: dx [m, k] = dy
/// [m, n] * (scale * t [n, k]). Float arithmetic; backends agree to rounding. Returns what `setun_matmul`
/// does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_matmul_backward(
    dy: *const f32,
    m: i64,
    packed: *const u8,
    packed_size: usize,
    n: i64,
    k: i64,
    scale: f32,
    options: *const setun_quantize_options,
    dx: *mut f32,
) -> setun_status {
    guard("matmul_backward", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let (context, packing) = unsafe { read_options(options) }?;
        let m = size(m, "m")?;
        let matrix = Matrix::new(size(n, "n")?, size(k, "k")?, packing)?;
        let (inputs, outputs) = (count::<f32>(&[m, matrix.rows()], "dy")?, count::<f32>(&[m, matrix.columns()], "dx")?);
        check_apart(&[extent("dx", dx, outputs)], &[extent("dy", dy, inputs), extent("packed", packed, packed_size)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (dy, packed, dx) =
            unsafe { (slice(dy, inputs, "dy")?, slice(packed, packed_size, "packed")?, slice_mut(dx, outputs, "dx")?) };
        quantize::matmul_backward(&context, &matrix, dy, m, packed, scale, dx)
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
        let (_, packing) = unsafe { read_options(options) }?;
        let matrix = matrix(rows, columns, packing)?;
        check_apart(&[extent("counts", counts, 3)], &[extent("packed", packed, packed_size)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (packed, counts) = unsafe { (slice(packed, packed_size, "packed")?, slice_mut(counts, 3, "counts")?) };
        counts.copy_from_slice(&quantize::histogram(&matrix, packed)?);
        Ok(())
    })
}

/// Quantizes the tensor w [n, k] f32 into a matrix that products can use again and again; w itself is not
/// kept. The products run on `context`; NULL = the options' context, and then the default one. Free it with
/// `setun_packed_free`.
///
/// SETUN_PACKING_FIVE_PER_BYTE keeps 1.6 bits a weight in memory and unpacks at every product: slower.
/// Returns ARGUMENT (NaN or infinity, naming the first), DTYPE, SHAPE, STATE, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_packed_create(
    context: *const setun_context,
    w: *const setun_tensor,
    options: *const setun_quantize_options,
    out: *mut *mut setun_packed,
) -> setun_status {
    guard("packed_create", || {
        check_pointer(out, "out")?;
        // SAFETY: a struct as large as it says is the caller's contract.
        let (own, packing) = unsafe { read_options(options) }?;
        let context = if context.is_null() { own } else { context::resolve(context)? };
        let w = handle::shared(w, "w")?;
        let packed = PackedTensor::new(context, &w.view(), packing)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, packed) }
    })
}

/// The product of `setun_matmul` on tensors: y [.., n] f32 = x [.., k] f32 * packed [n, k] transposed; the
/// sizes before the last are the same in x and y. Returns ARGUMENT (NaN or infinity in x; y overlaps x),
/// DTYPE, SHAPE, STATE (y in use, or y is x), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_packed_matmul(
    packed: *const setun_packed,
    x: *const setun_tensor,
    y: *mut setun_tensor,
) -> setun_status {
    guard("packed_matmul", || {
        let packed = handle::shared(packed, "packed")?;
        let x = handle::shared(x, "x")?;
        let mut y = handle::exclusive(y, "y")?;
        let (inputs, outputs) = (x.bytes(), y.bytes());
        let (x, mut y) = (x.view(), y.view_mut());
        check_apart(&[extent("y", y.as_mut_ptr(), outputs)], &[extent("x", x.as_ptr(), inputs)])?;
        packed.matmul(&x, &mut y)
    })
}

/// Writes w [n, k] f32 = scale * t. Returns DTYPE, SHAPE, STATE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_packed_dequantize(packed: *const setun_packed, w: *mut setun_tensor) -> setun_status {
    guard("packed_dequantize", || {
        let packed = handle::shared(packed, "packed")?;
        packed.dequantize(&mut handle::exclusive(w, "w")?.view_mut())
    })
}

/// Says the scale.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_packed_scale(packed: *const setun_packed, out: *mut f32) -> setun_status {
    guard("packed_scale", || {
        let scale = handle::shared(packed, "packed")?.scale();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, scale, "out") }
    })
}

/// Says how many bytes the packed trits take, without the scale.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_packed_nbytes(packed: *const setun_packed, out: *mut usize) -> setun_status {
    guard("packed_nbytes", || {
        let bytes = handle::shared(packed, "packed")?.bytes();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, bytes, "out") }
    })
}

/// Frees the matrix; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_packed_free(packed: *mut setun_packed) {
    guard_silent("packed_free", || handle::free(packed));
}
