//! FILE: packed matrices and tensors in files
//!
//! Reads the arrays of .npy files (NumPy) and of .safetensors files (Hugging Face), and writes packed
//! matrices and tensors into .safetensors files. A packed matrix x is stored as x, its packed bytes (u8), and
//! x_scale, its scales (f32); the metadata entry setun.packed says rows, columns, packing and group. Entries
//! have an index, in the order of their names, or, of a file that is being made, in which they were added.
//!
//!     setun_file *from, *to;
//!     setun_file_open("weights.safetensors", &from);
//!     setun_file_create(&to);
//!     setun_file_read(from, 0, &tensor);
//!     setun_packed_create(NULL, tensor, NULL, &packed);
//!     setun_file_add_packed(to, "w", packed);
//!     setun_file_save(to, "packed.safetensors", &bytes);

use super::arguments::{check_pointer, path, size, store, store_text, text};
use super::context::{self, setun_context};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use super::matmul::setun_packed;
use super::options::{self, Versioned};
use super::pack::c_packing;
use super::quantize::c_group;
use super::tensor::{SETUN_MAX_RANK, c_dtype, setun_tensor};
use crate::quantize::{Archive, EntryKind};
use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use std::ffi::c_char;

/// The entries of a file, or of one to be.
pub struct setun_file {
    _opaque: [u8; 0],
}

impl Handle for setun_file {
    type Object = Archive;
    const NAME: &'static str = "setun_file";
}

/// One entry. Set `struct_size` before it is filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_file_entry {
    pub struct_size: usize,
    /// Whether it is a packed matrix; else it is a tensor.
    pub is_packed: i32,
    /// Of a tensor: the `setun_dtype` that it is read as (floats of any width as SETUN_DTYPE_F32), or -1 for
    /// a type that Setun does not read. Of a packed matrix: SETUN_DTYPE_U8.
    pub dtype: i32,
    /// The dimensions; tensors of more than SETUN_MAX_RANK cannot be read.
    pub rank: i64,
    /// The first SETUN_MAX_RANK sizes, outermost first, those past the rank 1; of a packed matrix its rows and
    /// columns.
    pub dims: [i64; 4],
    /// Of a packed matrix: its `setun_packing`, its group (as in the quantize options) and its scales. Of a
    /// tensor 0.
    pub packing: i64,
    pub group: i64,
    pub scale_count: i64,
}

// SAFETY: repr(C), begins with struct_size, integers only, ends with 8-byte ones: no padding at the end.
unsafe impl Versioned for setun_file_entry {
    fn defaults() -> Self {
        setun_file_entry {
            struct_size: size_of::<Self>(),
            is_packed: 0,
            dtype: 0,
            rank: 0,
            dims: [1; SETUN_MAX_RANK as usize],
            packing: 0,
            group: 0,
            scale_count: 0,
        }
    }
}

/// Begins a file without entries, in memory. Free it with `setun_file_free`. Returns MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_create(out: *mut *mut setun_file) -> setun_status {
    guard("file_create", || {
        check_pointer(out, "out")?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, Archive::default()) }
    })
}

/// Opens a .npy or a .safetensors file: what it is, its first bytes tell. The array of a .npy file has the name
/// of the file without .npy. Contents are read later, one entry at a time, so the file must stay as it is.
/// Free it with `setun_file_free`. Returns IO, FORMAT (neither of the two kinds; damaged; truncated), UNSUPPORTED
/// (a .npy file of other elements than little-endian f2, f4, f8, i1, u1, i4 and u4), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_open(path: *const c_char, out: *mut *mut setun_file) -> setun_status {
    guard("file_open", || {
        check_pointer(out, "out")?;
        // SAFETY: NULL is checked; a string is the caller's contract.
        let archive = Archive::open(unsafe { self::path(path, "path") }?)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, archive) }
    })
}

/// Says how many entries there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_count(file: *const setun_file, out: *mut i64) -> setun_status {
    guard("file_count", || {
        let count = handle::shared(file, "file")?.entries().len();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, count as i64, "out") }
    })
}

/// Writes the name of an entry into `text`, as much of it as fits into `capacity` bytes with a NUL at the end.
/// `bytes`, unless NULL, becomes what the whole name takes with its NUL; NULL `text` with capacity 0 asks for
/// that alone. Returns ARGUMENT (no such entry).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_name(
    file: *const setun_file,
    index: i64,
    text: *mut c_char,
    capacity: usize,
    bytes: *mut usize,
) -> setun_status {
    guard("file_name", || {
        let file = handle::shared(file, "file")?;
        let entry = file.entry(size(index, "index")?)?;
        // SAFETY: NULL is checked; the lengths are the caller's contract.
        unsafe { store_text(&entry.name, text, capacity, bytes) }
    })
}

/// Says the index of the entry of this name. Returns ARGUMENT (there is none).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_find(file: *const setun_file, name: *const c_char, out: *mut i64) -> setun_status {
    guard("file_find", || {
        let file = handle::shared(file, "file")?;
        // SAFETY: NULL is checked; a string is the caller's contract.
        let name = unsafe { text(name, "name") }?;
        let index = file.find(name).ok_or_else(|| error!(Argument, "name is '{name}', which no entry has"))?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, index as i64, "out") }
    })
}

/// Says what an entry is. Returns ARGUMENT (no such entry).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_describe(
    file: *const setun_file,
    index: i64,
    out: *mut setun_file_entry,
) -> setun_status {
    guard("file_describe", || {
        let file = handle::shared(file, "file")?;
        let kind = &file.entry(size(index, "index")?)?.kind;
        let mut entry = setun_file_entry::defaults();
        let sizes = match kind {
            EntryKind::Tensor { dtype, dims } => {
                entry.dtype = dtype.map_or(Ok(-1), |dtype| c_dtype(dtype).map(|dtype| dtype as i32))?;
                dims.clone()
            }
            EntryKind::Packed { matrix, group } => {
                entry.is_packed = 1;
                entry.dtype = super::tensor::setun_dtype::U8 as i32;
                entry.packing = c_packing(matrix.packing()) as i64;
                entry.group = c_group(*group);
                entry.scale_count = group.scale_count(matrix.rows(), matrix.columns()) as i64;
                vec![matrix.rows(), matrix.columns()]
            }
        };
        entry.rank = sizes.len() as i64;
        for (to, &from) in entry.dims.iter_mut().zip(&sizes) {
            *to = from as i64;
        }
        // SAFETY: a struct as large as it says is the caller's contract.
        unsafe { options::write(out, entry, "out") }
    })
}

/// Reads an entry that is a tensor: floats of any width as f32, integers as they are. Free it with
/// `setun_tensor_free`. Returns ARGUMENT (no such entry; it is packed), UNSUPPORTED (a type that Setun does not
/// read), FORMAT (an f64 that is beyond f32), SHAPE (more than SETUN_MAX_RANK dimensions), IO, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_read(
    file: *const setun_file,
    index: i64,
    out: *mut *mut setun_tensor,
) -> setun_status {
    guard("file_read", || {
        check_pointer(out, "out")?;
        let tensor = handle::shared(file, "file")?.read(size(index, "index")?)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, tensor) }
    })
}

/// Reads an entry that is a packed matrix, whose products run on `context`; NULL = the default one. Free it with
/// `setun_packed_free`. Returns ARGUMENT (no such entry; it is a tensor), FORMAT (bytes that are no trits,
/// scales that are not finite), IO, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_read_packed(
    file: *const setun_file,
    index: i64,
    context: *const setun_context,
    out: *mut *mut setun_packed,
) -> setun_status {
    guard("file_read_packed", || {
        check_pointer(out, "out")?;
        let context = context::resolve(context)?;
        let packed = handle::shared(file, "file")?.read_packed(size(index, "index")?, context)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, packed) }
    })
}

/// Adds a copy of a tensor under a name. Returns ARGUMENT (the name is empty or taken), DTYPE (f16), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_add(
    file: *mut setun_file,
    name: *const c_char,
    tensor: *const setun_tensor,
) -> setun_status {
    guard("file_add", || {
        let mut file = handle::exclusive(file, "file")?;
        let tensor = handle::shared(tensor, "tensor")?;
        // SAFETY: NULL is checked; a string is the caller's contract.
        file.add(unsafe { entry_name(name) }?, &tensor)
    })
}

/// Adds a copy of a packed matrix under a name; its scales take the name with _scale after it. Returns ARGUMENT
/// (the name is empty or taken), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_add_packed(
    file: *mut setun_file,
    name: *const c_char,
    packed: *const setun_packed,
) -> setun_status {
    guard("file_add_packed", || {
        let mut file = handle::exclusive(file, "file")?;
        let packed = handle::shared(packed, "packed")?;
        // SAFETY: NULL is checked; a string is the caller's contract.
        file.add_packed(unsafe { entry_name(name) }?, &packed)
    })
}

/// # Safety
/// As for [`text`].
unsafe fn entry_name<'a>(name: *const c_char) -> Result<&'a str> {
    // SAFETY: passed on to the caller.
    let name = unsafe { text(name, "name") }?;
    ensure!(!name.is_empty(), Argument, "name is empty");
    Ok(name)
}

/// Writes all entries into a .safetensors file, whatever its name ends with; a file that is there is replaced
/// whole or not at all. `bytes`, unless NULL, becomes its size. Tensors of a file that was opened are written as
/// `setun_file_read` gives them: floats of any width as f32. Returns IO, and of such tensors UNSUPPORTED (a type
/// that Setun does not read), FORMAT (an f64 that is beyond f32), SHAPE (more than SETUN_MAX_RANK dimensions),
/// ARGUMENT (the name "__metadata__"), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_save(
    file: *const setun_file,
    path: *const c_char,
    bytes: *mut usize,
) -> setun_status {
    guard("file_save", || {
        let file = handle::shared(file, "file")?;
        if !bytes.is_null() {
            check_pointer(bytes, "bytes")?;
        }
        // SAFETY: NULL is checked; a string is the caller's contract.
        let size = file.save(unsafe { self::path(path, "path") }?)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        if bytes.is_null() { Ok(()) } else { unsafe { store(bytes, size, "bytes") } }
    })
}

/// Frees what is in memory; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_file_free(file: *mut setun_file) {
    guard_silent("file_free", || handle::free(file));
}
