//! Structs that grow: each begins with `size_t struct_size`, the size that the caller was compiled with.
//!
//! Fields are only ever appended. A shorter struct is an older caller's: what it lacks takes its default. A longer one is a
//! newer caller's: the bytes that this library does not know must be zero, or the call would silently ignore a request (ABI).
//!
//! `setun_*_options_init` is told the size for the same reason: a newer library must not write past an older caller's struct.

use super::arguments::check_pointer;
use crate::tensor::Result;
use crate::tensor::error::ensure;
use std::mem::{align_of, size_of};
use std::slice;

/// Beyond this a `struct_size` is an uninitialized variable, not a newer struct.
const LARGEST: usize = 4096;

/// Structs that are filled have no init function.
const FILLED: &str = "set it first";

/// A struct of the C surface that begins with `struct_size`.
///
/// # Safety
/// `repr(C)`, begins with `struct_size: usize`, every bit pattern is a value, and no padding at its end.
pub unsafe trait Versioned: Copy {
    /// The defaults, with `struct_size` set.
    fn defaults() -> Self;
}

/// The struct at `options`, completed with defaults; all defaults when NULL.
///
/// # Safety
/// `options` is NULL or points to as many readable bytes as its first field says.
pub unsafe fn read<T: Versioned>(options: *const T, argument: &str) -> Result<T> {
    let mut value = T::defaults();
    if options.is_null() {
        return Ok(value);
    }
    // SAFETY: not NULL; the caller vouches for the first field at least.
    let size = unsafe { struct_size(options, argument, "call its init function first") }?;
    let known = size.min(size_of::<T>());
    // SAFETY: both hold `known` bytes, the value is a separate local, and any bytes are a T.
    unsafe { std::ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut value).cast::<u8>(), known) };
    if size > known {
        // SAFETY: the caller vouches for `size` bytes; all of them are inside the struct that the caller filled.
        let unknown = unsafe { slice::from_raw_parts(options.cast::<u8>().add(known), size - known) };
        let offset = unknown.iter().position(|&byte| byte != 0).map(|at| known + at);
        ensure!(
            offset.is_none(),
            Abi,
            "{argument} sets a field at byte {}, this library knows {known} bytes: it is older than the header",
            offset.unwrap_or_default()
        );
    }
    Ok(value)
}

/// Writes `value` into the struct at `out`, as much of it as the caller's `struct_size` has room for.
///
/// # Safety
/// `out` points to as many writable bytes as its first field says.
pub unsafe fn write<T: Versioned>(out: *mut T, value: T, argument: &str) -> Result<()> {
    // SAFETY: passed on to the caller.
    let size = unsafe { struct_size(out, argument, FILLED) }?;
    let known = size.min(size_of::<T>());
    let first = size_of::<usize>();
    // SAFETY: `out` holds `size` bytes and `value` is a local; the first field stays what the caller set.
    unsafe {
        let bytes = out.cast::<u8>();
        std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>().add(first), bytes.add(first), known - first);
        std::ptr::write_bytes(bytes.add(known), 0, size - known);
    }
    Ok(())
}

/// Checks the size field of a struct that is written later, before anything else is done.
///
/// # Safety
/// `out` is NULL or points to a readable `usize`.
pub unsafe fn check<T: Versioned>(out: *const T, argument: &str) -> Result<()> {
    // SAFETY: passed on to the caller.
    unsafe { struct_size(out, argument, FILLED) }.map(|_| ())
}

/// Writes the defaults into a struct of `size` bytes, and that size into its first field. Nothing when NULL, misaligned, or of
/// a size that no struct has: whoever uses the struct then gets ABI.
///
/// # Safety
/// `options` is NULL or points to `size` writable bytes.
pub unsafe fn init<T: Versioned>(options: *mut T, size: usize) {
    if options.is_null() || !options.is_aligned() || !is_size::<T>(size) {
        return;
    }
    let (value, known) = (T::defaults(), size.min(size_of::<T>()));
    // SAFETY: not NULL and aligned, the caller vouches for `size` bytes, and `value` is a local.
    unsafe {
        let bytes = options.cast::<u8>();
        std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), bytes, known);
        std::ptr::write_bytes(bytes.add(known), 0, size - known);
        options.cast::<usize>().write(size);
    }
}

fn is_size<T>(size: usize) -> bool {
    (size_of::<usize>()..=LARGEST).contains(&size) && size.is_multiple_of(align_of::<T>())
}

/// # Safety
/// `options` is NULL or points to a readable `usize`.
unsafe fn struct_size<T>(options: *const T, argument: &str, how: &str) -> Result<usize> {
    check_pointer(options, argument)?;
    // SAFETY: not NULL and aligned.
    let size = unsafe { options.cast::<usize>().read() };
    ensure!(
        is_size::<T>(size),
        Abi,
        "{argument}: struct_size is {size}, expected {}, the size of the struct: {how}",
        size_of::<T>()
    );
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ErrorKind;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Known {
        struct_size: usize,
        first: i64,
        second: i64,
    }
    // SAFETY: repr(C), begins with struct_size, integers only, no padding.
    unsafe impl Versioned for Known {
        fn defaults() -> Known {
            Known { struct_size: size_of::<Known>(), first: 10, second: 20 }
        }
    }

    fn read_words(words: &[usize]) -> Result<Known> {
        // SAFETY: each test passes at least as many words as the first one says.
        unsafe { read(words.as_ptr().cast::<Known>(), "options") }
    }

    #[test]
    fn null_and_a_bare_size_are_the_defaults() {
        // SAFETY: NULL is allowed.
        let null = unsafe { read::<Known>(std::ptr::null(), "options") }.unwrap();
        assert_eq!((null.first, null.second), (10, 20));
        let bare = read_words(&[8]).unwrap();
        assert_eq!((bare.first, bare.second), (10, 20));
    }

    #[test]
    fn an_older_struct_takes_defaults_for_what_it_lacks() {
        let old = read_words(&[16, 1]).unwrap();
        assert_eq!((old.first, old.second), (1, 20));
    }

    #[test]
    fn a_newer_struct_is_read_unless_it_asks_for_the_unknown() {
        assert_eq!(read_words(&[40, 1, 2, 0, 0]).unwrap().second, 2);
        let error = read_words(&[40, 1, 2, 0, 1 << 8]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Abi);
        assert!(error.message.contains("byte 33"), "{}", error.message);
    }

    #[test]
    fn a_size_that_no_struct_has_is_refused() {
        for size in [0, 1, 7, 12, LARGEST + 8, usize::MAX] {
            assert_eq!(read_words(&[size, 1, 2]).unwrap_err().kind, ErrorKind::Abi, "size {size}");
        }
    }

    #[test]
    fn initializing_stays_inside_the_callers_struct() {
        let init = |words: &mut [usize], size| {
            // SAFETY: each case passes a size that the array holds, or one that is refused.
            unsafe { init(words.as_mut_ptr().cast::<Known>(), size) }
        };
        let mut older = [7usize; 3];
        init(&mut older, 16);
        assert_eq!(older, [16, 10, 7]);
        let mut newer = [7usize; 5];
        init(&mut newer, 40);
        assert_eq!(newer, [40, 10, 20, 0, 0]);
        for size in [0, 7, 12, LARGEST + 8] {
            let mut untouched = [7usize; 5];
            init(&mut untouched, size);
            assert_eq!(untouched, [7; 5]);
        }
    }

    #[test]
    fn writing_stays_inside_the_callers_struct() {
        let value = Known { struct_size: 24, first: 1, second: 2 };
        let mut older = [16usize, 9, 9];
        // SAFETY: the array holds the 16 bytes that it says.
        unsafe { write(older.as_mut_ptr().cast(), value, "report") }.unwrap();
        assert_eq!(older, [16, 1, 9]);
        let mut newer = [40usize, 9, 9, 9, 9];
        // SAFETY: as above, 40 bytes.
        unsafe { write(newer.as_mut_ptr().cast(), value, "report") }.unwrap();
        assert_eq!(newer, [40, 1, 2, 0, 0]);
    }
}
