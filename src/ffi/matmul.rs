//! MATMUL: products with ternary weights
//!
//! A linear layer: y = x W^T with W ~ scale * t, in every packing, with a scale for the matrix, each row or
//! each group of columns. The activations x are quantized to 8 bits, one scale a row, and the products summed
//! as integers: exact for every k up to 2^24. y is the same bits on every backend, for any number of threads,
//! and of a row whatever the other rows are; the gradient is float arithmetic. A `setun_packed` keeps a matrix ready instead of checking
//! it at every call.
//!
//!     float x[4] = {1, 2, 3, 4}, y[2];
//!     setun_matmul(x, 1, packed, bytes, 2, 4, &scale, 1, NULL, y);
//!     setun_packed *weight;
//!     setun_packed_create(NULL, w, NULL, &weight);
//!     setun_packed_matmul(weight, x_tensor, y_tensor);
//!     setun_packed_free(weight);

use super::arguments::{check_apart, check_pointer, count, extent, size, slice, slice_mut, store};
use super::context::setun_context;
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use super::options;
use super::quantize::{Choice, setun_quantize_options, setun_quantize_report, write_report};
use super::tensor::setun_tensor;
use crate::backend::Context;
use crate::quantize::{self, Matrix, PackedTensor, Weights};
use crate::tensor::Result;

/// A packed weight matrix, checked once.
pub struct setun_packed {
    _opaque: [u8; 0],
}

impl Handle for setun_packed {
    type Object = PackedTensor;
    const NAME: &'static str = "setun_packed";
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
        let context = unsafe { Choice::read(options) }?.context;
        let (m, k) = (size(m, "m")?, size(k, "k")?);
        let all = count::<f32>(&[m, k], "x")?;
        check_apart(&[extent("codes", codes, all), extent("scales", scales, m)], &[extent("x", x, all)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (x, codes, scales) =
            unsafe { (slice(x, all, "x")?, slice_mut(codes, all, "codes")?, slice_mut(scales, m, "scales")?) };
        quantize::quantize_activations(&context, x, m, k, codes, scales)
    })
}

/// A linear layer: y [m, n] = x [m, k] * (scale * t [n, k]) transposed, from `packed`, whose n rows have k
/// columns, and `scales`, whose count is that of setun_scale_count. The packing and the group are those of
/// `options`. x is quantized to 8 bits per row as `setun_quantize_activations` does, and the products are
/// summed as integers; where a row has several groups, their sums, each times its scale, add up in order as
/// 32-bit floats. No memory is allocated once a thread has made a call as large.
///
/// Returns ARGUMENT (NaN or infinity in x or scales; overlap; misaligned), SHAPE (packed_size or scale_count
/// does not fit, k above 2^24), FORMAT (bytes that are no trits), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_matmul(
    x: *const f32,
    m: i64,
    packed: *const u8,
    packed_size: usize,
    n: i64,
    k: i64,
    scales: *const f32,
    scale_count: i64,
    options: *const setun_quantize_options,
    y: *mut f32,
) -> setun_status {
    guard("matmul", || {
        let call = Product { m, packed, packed_size, n, k, scales, scale_count, options };
        // SAFETY: passed on to the caller.
        unsafe { call.run(("x", x), ("y", y), |w| [w.columns(), w.rows()], quantize::matmul) }
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
    scales: *const f32,
    scale_count: i64,
    options: *const setun_quantize_options,
    dx: *mut f32,
) -> setun_status {
    guard("matmul_backward", || {
        let call = Product { m, packed, packed_size, n, k, scales, scale_count, options };
        // SAFETY: passed on to the caller.
        unsafe { call.run(("dy", dy), ("dx", dx), |w| [w.rows(), w.columns()], quantize::matmul_backward) }
    })
}

/// The arguments that a product and its gradient share, as they came.
struct Product {
    m: i64,
    packed: *const u8,
    packed_size: usize,
    n: i64,
    k: i64,
    scales: *const f32,
    scale_count: i64,
    options: *const setun_quantize_options,
}

impl Product {
    /// Runs `product` from `from` to `to`, m rows that are as wide as `widths` says of the matrix.
    ///
    /// # Safety
    /// The pointers are NULL or valid for what the sizes say.
    unsafe fn run(
        &self,
        (from_name, from): (&'static str, *const f32),
        (to_name, to): (&'static str, *mut f32),
        widths: impl FnOnce(&Matrix) -> [usize; 2],
        product: impl FnOnce(&Context, &Weights, &[f32], usize, &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let &Product { packed, packed_size, scales, .. } = self;
        // SAFETY: a struct as large as it says is the caller's contract.
        let choice = unsafe { Choice::read(self.options) }?;
        let m = size(self.m, "m")?;
        let matrix = Matrix::new(size(self.n, "n")?, size(self.k, "k")?, choice.packing)?;
        let scale_count = choice.scales(&matrix, self.scale_count)?;
        let [inputs, outputs] = widths(&matrix);
        let (inputs, outputs) = (count::<f32>(&[m, inputs], from_name)?, count::<f32>(&[m, outputs], to_name)?);
        check_apart(
            &[extent(to_name, to, outputs)],
            &[
                extent(from_name, from, inputs),
                extent("packed", packed, packed_size),
                extent("scales", scales, scale_count),
            ],
        )?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (from, packed, scales, to) = unsafe {
            (
                slice(from, inputs, from_name)?,
                slice(packed, packed_size, "packed")?,
                slice(scales, scale_count, "scales")?,
                slice_mut(to, outputs, to_name)?,
            )
        };
        let weights = Weights { matrix, group: choice.how.group, packed, scales };
        product(&choice.context, &weights, from, m, to)
    }
}

/// Quantizes the tensor w [n, k] f32 into a matrix that products can use again and again; w itself is not
/// kept. The products run on `context`; NULL = the options' context, and then the default one. Free it with
/// `setun_packed_free`.
///
/// Products run on the packed bytes as they are: SETUN_PACKING_FIVE_PER_BYTE keeps 1.6 bits a weight in memory
/// and SETUN_PACKING_MASK_SIGN what it takes, for products that are somewhat slower than those of two bits.
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
        let choice = unsafe { Choice::read_on(context, options) }?;
        let w = handle::shared(w, "w")?;
        let packed = PackedTensor::new(choice.context, &w.view(), choice.packing, &choice.how)?;
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

/// Writes the scales [count], as many as `setun_scale_count` says. Returns SHAPE (another count).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_packed_scales(
    packed: *const setun_packed,
    scales: *mut f32,
    count: i64,
) -> setun_status {
    guard("packed_scales", || {
        let packed = handle::shared(packed, "packed")?;
        let count = size(count, "count")?;
        // SAFETY: NULL and alignment are checked; the length is the caller's contract.
        packed.scales(unsafe { slice_mut(scales, count, "scales") }?)
    })
}

/// Measures what packing w [n, k] f32 cost, as `setun_quantize_measure` does, into `report`, whose struct_size is
/// set. Returns ARGUMENT (NaN or infinity in w), DTYPE, SHAPE, STATE, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_packed_measure(
    packed: *const setun_packed,
    w: *const setun_tensor,
    report: *mut setun_quantize_report,
) -> setun_status {
    guard("packed_measure", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        unsafe { options::check(report, "report") }?;
        let packed = handle::shared(packed, "packed")?;
        let found = packed.measure(&handle::shared(w, "w")?.view())?;
        // SAFETY: its size field is checked; room for as much is the caller's contract.
        unsafe { write_report(report, &found) }
    })
}

/// Says how many bytes the packed trits take, without the scales.
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
