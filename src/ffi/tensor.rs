//! TENSOR: arrays that handles work on
//!
//! A tensor is a contiguous, row-major array on the host: an element type, up to four sizes and the memory
//! behind. It owns that memory (`setun_tensor_create`, zeroed) or borrows yours (`setun_tensor_wrap`). The
//! calls on plain pointers do not need one.
//!
//!     int64_t dims[2] = {2, 3};
//!     float data[6] = {1, 2, 3, 4, 5, 6};
//!     setun_tensor *tensor = NULL;
//!     setun_tensor_create(SETUN_DTYPE_F32, dims, 2, &tensor);
//!     setun_tensor_write(tensor, data, sizeof data);
//!     setun_tensor_free(tensor);

use super::arguments::{check_apart, check_end, check_pointer, extent, one_of, size, slice, slice_mut, store};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, Tensor};
use std::ffi::c_void;

/// Element types.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_dtype {
    /// IEEE 754 binary32, 4 bytes.
    F32 = 0,
    /// IEEE 754 binary16, 2 bytes.
    F16 = 1,
    /// Signed, 1 byte.
    I8 = 2,
    /// Unsigned, 1 byte.
    U8 = 3,
    /// Signed, 4 bytes.
    I32 = 4,
    /// Unsigned, 4 bytes.
    U32 = 5,
}

/// The most dimensions that a tensor has.
pub const SETUN_MAX_RANK: i32 = 4;

/// An array with a type and a shape.
pub struct setun_tensor {
    _opaque: [u8; 0],
}

impl Handle for setun_tensor {
    type Object = Tensor;
    const NAME: &'static str = "setun_tensor";
}

pub fn dtype(value: i32, name: &str) -> Result<DType> {
    let dtypes = [
        (setun_dtype::F32 as i32, "f32", DType::F32),
        (setun_dtype::F16 as i32, "f16", DType::F16),
        (setun_dtype::I8 as i32, "i8", DType::I8),
        (setun_dtype::U8 as i32, "u8", DType::U8),
        (setun_dtype::I32 as i32, "i32", DType::I32),
        (setun_dtype::U32 as i32, "u32", DType::U32),
    ];
    one_of(value, name, &dtypes)
}

pub fn c_dtype(dtype: DType) -> Result<setun_dtype> {
    match dtype {
        DType::F32 => Ok(setun_dtype::F32),
        DType::F16 => Ok(setun_dtype::F16),
        DType::I8 => Ok(setun_dtype::I8),
        DType::U8 => Ok(setun_dtype::U8),
        DType::I32 => Ok(setun_dtype::I32),
        DType::U32 => Ok(setun_dtype::U32),
        DType::F64 => Err(error!(Unsupported, "a tensor of f64 has no setun_dtype")),
    }
}

/// # Safety
/// `dims` is NULL or holds `rank` sizes.
pub unsafe fn shape(dims: *const i64, rank: i32) -> Result<Vec<usize>> {
    ensure!((0..=SETUN_MAX_RANK).contains(&rank), Argument, "rank is {rank}, expected 0 to {SETUN_MAX_RANK}");
    // SAFETY: NULL is checked; the caller vouches for `rank` sizes.
    let dims = unsafe { slice(dims, rank as usize, "dims") }?;
    dims.iter().enumerate().map(|(i, &dim)| size(dim, &format!("dims[{i}]"))).collect()
}

/// Makes a tensor of zeros. `dims` holds `rank` sizes, outermost first; rank 0 is one number and takes NULL
/// `dims`; sizes may be 0. `dtype` is a `setun_dtype`. Free it with `setun_tensor_free`. Returns ARGUMENT,
/// SHAPE (more elements than the machine can address), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tensor_create(
    dtype: i32,
    dims: *const i64,
    rank: i32,
    out: *mut *mut setun_tensor,
) -> setun_status {
    guard("tensor_create", || {
        check_pointer(out, "out")?;
        // SAFETY: NULL is checked; `rank` sizes are the caller's contract.
        let dims = unsafe { shape(dims, rank) }?;
        let tensor = Tensor::zeros(self::dtype(dtype, "dtype")?, &dims)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, tensor) }
    })
}

/// Makes a tensor over memory of yours: nothing is copied, and freeing the tensor leaves the memory alone.
///
/// `data` must be aligned for its type, hold the whole shape, outlive the tensor, and be touched by nobody
/// else while a call writes the tensor. NULL only when a size is 0. Returns ARGUMENT (NULL, misaligned, `out`
/// inside of `data`), SHAPE, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tensor_wrap(
    data: *mut c_void,
    dtype: i32,
    dims: *const i64,
    rank: i32,
    out: *mut *mut setun_tensor,
) -> setun_status {
    guard("tensor_wrap", || {
        check_pointer(out, "out")?;
        // SAFETY: NULL is checked; `rank` sizes are the caller's contract.
        let dims = unsafe { shape(dims, rank) }?;
        let dtype = self::dtype(dtype, "dtype")?;
        if dims.contains(&0) {
            // SAFETY: NULL is checked; a valid pointer is the caller's contract.
            return unsafe { handle::give(out, Tensor::zeros(dtype, &dims)?) };
        }
        check_pointer(data, "data")?;
        ensure!(
            data.addr().is_multiple_of(dtype.size()),
            Argument,
            "data is at {:#x}, which is not a multiple of {}",
            data.addr(),
            dtype.size()
        );
        // SAFETY: aligned; the header asks the caller for the size, the lifetime and the exclusiveness.
        let tensor = unsafe { Tensor::wrap(data.cast(), dtype, &dims) }?;
        check_end(data, tensor.bytes(), "data")?;
        check_apart(&[extent("out", out, 1)], &[extent("data", data.cast::<u8>(), tensor.bytes())])?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, tensor) }
    })
}

/// Says the element type, a `setun_dtype`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tensor_dtype(tensor: *const setun_tensor, out: *mut i32) -> setun_status {
    guard("tensor_dtype", || {
        let dtype = c_dtype(handle::shared(tensor, "tensor")?.dtype())?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, dtype as i32, "out") }
    })
}

/// Says the shape: writes the sizes, outermost first, into `dims`, which has room for SETUN_MAX_RANK; those
/// past the rank become 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tensor_dims(
    tensor: *const setun_tensor,
    dims: *mut i64,
    rank: *mut i32,
) -> setun_status {
    guard("tensor_dims", || {
        let shape = handle::shared(tensor, "tensor")?.shape();
        check_pointer(rank, "rank")?;
        check_apart(&[extent("dims", dims, SETUN_MAX_RANK as usize), extent("rank", rank, 1)], &[])?;
        // SAFETY: NULL and overlap are checked; room for four sizes is the caller's contract.
        let dims = unsafe { slice_mut(dims, SETUN_MAX_RANK as usize, "dims") }?;
        dims.fill(1);
        for (out, &dim) in dims.iter_mut().zip(shape.dims()) {
            *out = dim as i64; // a shape's element count fits isize
        }
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { store(rank, shape.rank() as i32, "rank") }
    })
}

/// Says how many bytes the elements take.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tensor_nbytes(tensor: *const setun_tensor, out: *mut usize) -> setun_status {
    guard("tensor_nbytes", || {
        let bytes = handle::shared(tensor, "tensor")?.bytes();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, bytes, "out") }
    })
}

/// Copies `nbytes` bytes, which must be all of the tensor's, from `data` into the tensor. Returns SHAPE
/// when the sizes differ, ARGUMENT when `data` overlaps a wrapped tensor's memory, STATE when another call
/// uses the tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tensor_write(
    tensor: *mut setun_tensor,
    data: *const c_void,
    nbytes: usize,
) -> setun_status {
    guard("tensor_write", || {
        let mut tensor = handle::exclusive(tensor, "tensor")?;
        check_bytes(&tensor, nbytes)?;
        let mut view = tensor.view_mut();
        let inside = extent("the tensor", view.as_mut_ptr(), nbytes);
        check_apart(&[inside], &[extent("data", data.cast::<u8>(), nbytes)])?;
        // SAFETY: NULL is checked; `nbytes` readable bytes are the caller's contract.
        let data = unsafe { slice(data.cast::<u8>(), nbytes, "data") }?;
        // SAFETY: the tensor holds `nbytes` bytes, is borrowed exclusively, and `data` lies apart.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), view.as_mut_ptr(), nbytes) };
        Ok(())
    })
}

/// Copies the tensor's bytes, `nbytes`, which must be all of them, into `data`. Returns SHAPE, ARGUMENT and
/// STATE as `setun_tensor_write` does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tensor_read(
    tensor: *const setun_tensor,
    data: *mut c_void,
    nbytes: usize,
) -> setun_status {
    guard("tensor_read", || {
        let tensor = handle::shared(tensor, "tensor")?;
        check_bytes(&tensor, nbytes)?;
        let view = tensor.view();
        let outside = extent("data", data.cast::<u8>(), nbytes);
        check_apart(&[outside], &[extent("the tensor", view.as_ptr(), nbytes)])?;
        // SAFETY: NULL is checked; `nbytes` writable bytes are the caller's contract.
        let data = unsafe { slice_mut(data.cast::<u8>(), nbytes, "data") }?;
        // SAFETY: the tensor holds `nbytes` bytes, is borrowed, and `data` lies apart.
        unsafe { std::ptr::copy_nonoverlapping(view.as_ptr(), data.as_mut_ptr(), nbytes) };
        Ok(())
    })
}

fn check_bytes(tensor: &Tensor, nbytes: usize) -> Result<()> {
    let (shape, bytes) = (tensor.shape(), tensor.bytes());
    ensure!(bytes == nbytes, Shape, "nbytes is {nbytes}, the tensor of shape {shape} holds {bytes} bytes");
    Ok(())
}

/// Frees the tensor; NULL is fine. Memory that it wraps is left alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tensor_free(tensor: *mut setun_tensor) {
    guard_silent("tensor_free", || handle::free(tensor));
}
