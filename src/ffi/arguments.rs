//! Reading what C passes: pointers, sizes, strings and enum values become Rust ones, or an ARGUMENT error that names them.

use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use std::ffi::{CStr, c_char};
use std::path::Path;

/// NULL and misaligned pointers are errors; whether the memory behind is there, only the caller knows.
pub fn check_pointer<T>(pointer: *const T, name: &str) -> Result<()> {
    ensure!(!pointer.is_null(), Argument, "{name} is NULL");
    ensure!(
        pointer.is_aligned(),
        Argument,
        "{name} is at {:#x}, which is not a multiple of {}",
        pointer.addr(),
        align_of::<T>()
    );
    Ok(())
}

/// A size or count: `int64_t` on the C side, so that a negative one is seen.
pub fn size(value: i64, name: &str) -> Result<usize> {
    usize::try_from(value).map_err(|_| error!(Argument, "{name} is {value}, expected 0 or more"))
}

/// The value that an `int32_t` of a C enum stands for: `choices` are number, name and value. C may pass any number.
pub fn one_of<T: Copy>(value: i32, name: &str, choices: &[(i32, &str, T)]) -> Result<T> {
    if let Some((_, _, chosen)) = choices.iter().find(|(number, _, _)| *number == value) {
        return Ok(*chosen);
    }
    let expected: Vec<String> = choices.iter().map(|(number, word, _)| format!("{number} ({word})")).collect();
    Err(error!(Argument, "{name} is {value}, expected {}", expected.join(" or ")))
}

/// The product of sizes, as a count of elements of `T` that memory can hold.
pub fn count<T>(sizes: &[usize], name: &str) -> Result<usize> {
    let count = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    count
        .filter(|n| n.checked_mul(size_of::<T>()).is_some_and(|bytes| bytes <= isize::MAX as usize))
        .ok_or_else(|| error!(Argument, "{name} of sizes {sizes:?} is too large for this machine"))
}

/// A number of bytes that memory can hold; the others are a negative number that was cast, or an uninitialized variable.
pub fn bytes(value: usize, name: &str) -> Result<usize> {
    ensure!(value <= isize::MAX as usize, Argument, "{name} is {value}, more than memory can hold");
    Ok(value)
}

/// An array starts inside of memory and ends there.
pub fn check_end<T>(pointer: *const T, bytes: usize, name: &str) -> Result<()> {
    let start = pointer.addr();
    ensure!(
        start.checked_add(bytes).is_some(),
        Argument,
        "{name}, {bytes} bytes at {start:#x}, is past the end of memory"
    );
    Ok(())
}

/// An input array; NULL only when it is empty.
///
/// # Safety
/// `pointer` holds `count` readable elements that nobody writes during `'a`.
pub unsafe fn slice<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check_pointer(pointer, name)?;
    check_end(pointer, self::count::<T>(&[count], name)? * size_of::<T>(), name)?;
    // SAFETY: not NULL, aligned, a possible size; the rest is the caller's contract.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// An output array; NULL only when it is empty.
///
/// # Safety
/// `pointer` holds `count` writable elements that nobody else uses during `'a`.
pub unsafe fn slice_mut<'a, T>(pointer: *mut T, count: usize, name: &str) -> Result<&'a mut [T]> {
    if count == 0 {
        return Ok(&mut []);
    }
    check_pointer(pointer, name)?;
    check_end(pointer, self::count::<T>(&[count], name)? * size_of::<T>(), name)?;
    // SAFETY: not NULL, aligned, a possible size; the rest is the caller's contract.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, count) })
}

/// Elements of an output that may be NULL: none then.
pub fn wanted<T>(pointer: *mut T, count: usize) -> usize {
    if pointer.is_null() { 0 } else { count }
}

/// An output that may be NULL: then it is empty.
///
/// # Safety
/// As for [`slice_mut`], unless `pointer` is NULL.
pub unsafe fn optional<'a, T>(pointer: *mut T, count: usize, name: &str) -> Result<&'a mut [T]> {
    // SAFETY: passed on to the caller.
    if pointer.is_null() { Ok(&mut []) } else { unsafe { slice_mut(pointer, count, name) } }
}

/// Writes one result.
///
/// # Safety
/// `out` is NULL or holds one writable `T`.
pub unsafe fn store<T>(out: *mut T, value: T, name: &str) -> Result<()> {
    check_pointer(out, name)?;
    // SAFETY: not NULL and aligned; the rest is the caller's contract.
    unsafe { out.write(value) };
    Ok(())
}

/// The room for a text: see [`store_text`], which a call that does much before it has a text does not wait for.
pub fn check_text(text: *const c_char, capacity: usize, bytes: *const usize) -> Result<()> {
    let capacity = self::bytes(capacity, "capacity")?;
    if !bytes.is_null() {
        check_pointer(bytes, "bytes")?;
        check_apart(&[extent("text", text, capacity), extent("bytes", bytes, 1)], &[])?;
    }
    if capacity > 0 { check_pointer(text, "text") } else { Ok(()) }
}

/// Writes a text for people: what fits into `capacity` bytes with a NUL at the end, cut between characters. `bytes`, unless
/// NULL, becomes the size of the whole text with its NUL.
///
/// # Safety
/// `text` is NULL or holds `capacity` writable bytes; `bytes` is NULL or holds one writable `usize`.
pub unsafe fn store_text(value: &str, text: *mut c_char, capacity: usize, bytes: *mut usize) -> Result<()> {
    let needed = value.len() + 1;
    check_text(text, capacity, bytes)?;
    if !bytes.is_null() {
        // SAFETY: checked by the callee; a writable usize is the caller's contract.
        unsafe { store(bytes, needed, "bytes") }?;
    }
    if capacity == 0 && text.is_null() {
        return Ok(());
    }
    check_pointer(text, "text")?;
    ensure!(capacity > 0, Argument, "capacity is 0, the text has {needed} bytes with its NUL");
    let room = (capacity - 1).min(value.len());
    let end = (0..=room).rev().find(|&end| value.is_char_boundary(end)).unwrap_or(0);
    // SAFETY: not NULL; end + 1 is at most `capacity`, which is the caller's contract.
    let text = unsafe { std::slice::from_raw_parts_mut(text.cast::<u8>(), end + 1) };
    text[..end].copy_from_slice(&value.as_bytes()[..end]);
    text[end] = 0;
    // A NUL inside would end the text early.
    text[..end].iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'?');
    Ok(())
}

/// A NUL-terminated UTF-8 string.
///
/// # Safety
/// `text` is NULL or ends with a NUL, and nobody writes it during `'a`.
pub unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    check_pointer(text, name)?;
    // SAFETY: not NULL; the rest is the caller's contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|e| error!(Argument, "{name} is not UTF-8 at byte {}", e.valid_up_to()))
}

/// A NUL-terminated path: UTF-8, not empty.
///
/// # Safety
/// As for [`text`].
pub unsafe fn path<'a>(path: *const c_char, name: &str) -> Result<&'a Path> {
    // SAFETY: passed on to the caller.
    let path = unsafe { text(path, name) }?;
    ensure!(!path.is_empty(), Argument, "{name} is empty");
    Ok(Path::new(path))
}

/// One of the arrays of a call: its name and the addresses that it covers.
pub struct Extent {
    name: &'static str,
    start: usize,
    end: usize,
}

/// The extent of `count` elements at `pointer`.
pub fn extent<T>(name: &'static str, pointer: *const T, count: usize) -> Extent {
    let bytes = count.saturating_mul(size_of::<T>());
    Extent { name, start: pointer.addr(), end: pointer.addr().saturating_add(bytes) }
}

/// An output may overlap neither an input nor another output: Rust's borrows, and every kernel, stand on that.
pub fn check_apart(outputs: &[Extent], inputs: &[Extent]) -> Result<()> {
    for (i, output) in outputs.iter().enumerate() {
        for other in inputs.iter().chain(&outputs[..i]) {
            let (start, end) = (output.start.max(other.start), output.end.min(other.end));
            let overlap = start < end;
            ensure!(!overlap, Argument, "{} overlaps {}", output.name, other.name);
        }
    }
    Ok(())
}

/// The size argument of an output whose length is known only afterwards: the room before, the bytes used after (as zlib's
/// `compress` has it).
pub struct Room {
    size: *mut usize,
    bytes: usize,
    name: &'static str,
}

impl Room {
    /// # Safety
    /// `size` is NULL or holds a readable and writable `usize` that nobody else uses while this lives.
    pub unsafe fn read(size: *mut usize, name: &'static str) -> Result<Room> {
        check_pointer(size, name)?;
        // SAFETY: not NULL and aligned; the rest is the caller's contract.
        let bytes = self::bytes(unsafe { size.read() }, name)?;
        Ok(Room { size, bytes, name })
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn extent(&self) -> Extent {
        extent(self.name, self.size, 1)
    }

    /// `needed`, or SHAPE when there is less room.
    pub fn at_least(&self, needed: usize, output: &str) -> Result<usize> {
        let (name, bytes) = (self.name, self.bytes);
        ensure!(bytes >= needed, Shape, "{output} needs {needed} bytes, {name} says that it has {bytes}");
        Ok(needed)
    }

    /// Tells the caller what was used.
    pub fn used(&self, bytes: usize) -> Result<()> {
        // SAFETY: checked when it was read; still the caller's contract.
        unsafe { store(self.size, bytes, self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ErrorKind;

    #[test]
    fn overlap_is_found_and_touching_is_fine() {
        let data = [0u8; 16];
        let part = |name, from: usize, to: usize| extent(name, data[from..].as_ptr(), to - from);
        assert!(check_apart(&[part("y", 4, 8)], &[part("x", 0, 4), part("w", 8, 16)]).is_ok());
        assert!(check_apart(&[part("y", 4, 4)], &[part("x", 0, 16)]).is_ok());
        let error = check_apart(&[part("y", 4, 9)], &[part("x", 0, 4), part("w", 8, 16)]).unwrap_err();
        assert_eq!(error.message, "y overlaps w");
        let error = check_apart(&[part("y", 0, 5), part("z", 4, 8)], &[]).unwrap_err();
        assert_eq!(error.message, "z overlaps y");
    }

    #[test]
    fn a_text_is_cut_between_characters_and_ends_with_a_nul() {
        let write = |value: &str, capacity: usize| {
            let (mut room, mut bytes) = ([b'#'; 8], 0usize);
            // SAFETY: the array holds more bytes than any capacity here.
            let result = unsafe { store_text(value, room.as_mut_ptr().cast(), capacity, &raw mut bytes) };
            (result.map(|()| room), bytes)
        };
        assert_eq!(write("abc", 4), (Ok(*b"abc\0####"), 4));
        assert_eq!(write("abc", 3), (Ok(*b"ab\0#####"), 4));
        assert_eq!(write("a\u{e9}", 3), (Ok(*b"a\0######"), 4));
        assert_eq!(write("", 1), (Ok(*b"\0#######"), 1));
        let (refused, needed) = write("abc", 0);
        assert_eq!((refused.unwrap_err().kind, needed), (ErrorKind::Argument, 4));
        // SAFETY: NULL is allowed for both.
        assert!(unsafe { store_text("abc", std::ptr::null_mut(), 0, std::ptr::null_mut()) }.is_ok());
    }

    #[test]
    fn sizes_and_products_are_checked() {
        assert_eq!(size(-1, "rows").unwrap_err().message, "rows is -1, expected 0 or more");
        assert_eq!(count::<f32>(&[3, 4], "x").unwrap(), 12);
        assert!(count::<f32>(&[usize::MAX / 4, 2], "x").is_err());
        assert!(count::<u8>(&[1 << 40, 1 << 40], "x").is_err());
    }

    #[test]
    fn an_enum_value_that_does_not_exist_names_those_that_do() {
        let choices = [(0, "cold", 'c'), (2, "hot", 'h')];
        assert_eq!(one_of(2, "water", &choices).unwrap(), 'h');
        assert_eq!(one_of(1, "water", &choices).unwrap_err().message, "water is 1, expected 0 (cold) or 2 (hot)");
    }

    #[test]
    fn misaligned_and_null_arrays_are_refused() {
        let data = [0f32; 4];
        let odd = data.as_ptr().cast::<u8>().wrapping_add(1).cast::<f32>();
        // SAFETY: neither call reads: one pointer is NULL, the other misaligned, which is what is tested.
        let (null, misaligned) = unsafe { (slice::<f32>(std::ptr::null(), 3, "x"), slice(odd, 3, "x")) };
        assert_eq!(null.unwrap_err().message, "x is NULL");
        assert_eq!(misaligned.unwrap_err().kind, ErrorKind::Argument);
        let last = std::ptr::without_provenance::<f32>(usize::MAX - 3);
        // SAFETY: the call does not read: the array would go past the end of memory, which is what is tested.
        let past = unsafe { slice(last, 3, "x") }.unwrap_err();
        assert_eq!(past.message, "x, 12 bytes at 0xfffffffffffffffc, is past the end of memory");
        // SAFETY: an empty array may be NULL.
        assert!(unsafe { slice::<f32>(std::ptr::null(), 0, "x") }.unwrap().is_empty());
    }
}
