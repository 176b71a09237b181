//! Every allocation whose size a user controls goes through here: a failure is an error, never an abort.

use super::error::{Error, Result, error};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Cache-line aligned, so that no two buffers share a line and vector loads never split one.
pub const ALIGNMENT: usize = 64;

/// A cache line, for its alignment: also an empty buffer's pointer must be aligned for every element type.
#[repr(align(64))]
struct Line;

/// An owned, zeroed, 64-byte aligned block of host memory.
pub struct Buffer {
    /// Inside of the allocation, at its first aligned byte.
    data: NonNull<u8>,
    bytes: usize,
    /// What was allocated; None for an empty buffer.
    allocation: Option<(NonNull<u8>, Layout)>,
}

// SAFETY: a Buffer owns its memory exclusively; access follows the borrow of the Buffer.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared access is read-only.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub fn zeroed(bytes: usize) -> Result<Buffer> {
        if bytes == 0 {
            return Ok(Buffer { data: NonNull::<Line>::dangling().cast(), bytes, allocation: None });
        }
        // Aligned here: what is asked for with an alignment, the allocator zeroes by hand, page by page; without one, large
        // memory is fresh from the system, which zeroes a page when it is first used.
        let layout = bytes
            .checked_next_multiple_of(ALIGNMENT)
            .and_then(|size| Layout::from_size_align(size.checked_add(ALIGNMENT)?, align_of::<usize>()).ok())
            .ok_or_else(|| error!(Memory, "an allocation of {bytes} bytes is too large for this machine"))?;
        // SAFETY: the layout has a non-zero size.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or_else(|| error!(Memory, "out of memory allocating {bytes} bytes"))?;
        let skip = base.addr().get().next_multiple_of(ALIGNMENT) - base.addr().get();
        // SAFETY: the allocation has ALIGNMENT more bytes than are used, and `skip` is less than that.
        let data = unsafe { base.add(skip) };
        Ok(Buffer { data, bytes, allocation: Some((base, layout)) })
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.data.as_ptr()
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.data.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some((base, layout)) = self.allocation {
            // SAFETY: `zeroed` allocated exactly this.
            unsafe { dealloc(base.as_ptr(), layout) }
        }
    }
}

/// Room for `additional` more elements, or MEMORY.
pub fn reserve<T>(vector: &mut Vec<T>, additional: usize) -> Result<()> {
    vector.try_reserve(additional).map_err(|_| out_of_memory(additional, size_of::<T>()))
}

#[cold]
fn out_of_memory(count: usize, size: usize) -> Error {
    match count.checked_mul(size) {
        Some(bytes) => error!(Memory, "out of memory allocating {bytes} bytes"),
        None => error!(Memory, "out of memory allocating {count} elements of {size} bytes"),
    }
}

/// A vector of `count` zeros (any all-zero-bytes value), or MEMORY.
pub fn vec_zeroed<T: bytemuck::Zeroable + Clone>(count: usize) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    reserve(&mut vector, count)?;
    vector.resize(count, T::zeroed());
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_memory_holds_is_named_by_its_bytes_or_its_elements() {
        let refused = |count: usize| vec_zeroed::<f64>(count).unwrap_err().message;
        assert_eq!(refused(1 << 60), "out of memory allocating 9223372036854775808 bytes");
        assert_eq!(refused(usize::MAX), format!("out of memory allocating {} elements of 8 bytes", usize::MAX));
    }

    #[test]
    fn buffers_are_aligned_and_zero_even_when_empty() {
        assert_eq!(align_of::<Line>(), ALIGNMENT);
        for bytes in [0, 1, 64, 65, 100_000] {
            let buffer = Buffer::zeroed(bytes).unwrap();
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0, "{bytes} bytes");
            // SAFETY: the buffer holds `bytes` bytes.
            assert!(unsafe { std::slice::from_raw_parts(buffer.as_ptr(), bytes) }.iter().all(|&b| b == 0));
        }
    }
}
