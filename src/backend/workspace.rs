//! Scratch memory for kernels: per thread, grow-only, so that a training step allocates nothing after the first.

use crate::tensor::error::error;
use crate::tensor::{Buffer, Result};
use bytemuck::Pod;
use std::cell::RefCell;

thread_local! {
    /// The buffers that are not in use, by nesting depth; a buffer in use has left its place empty.
    static FREE: RefCell<Slots> = const { RefCell::new(Slots { depth: 0, buffers: Vec::new() }) };
}

struct Slots {
    depth: usize,
    buffers: Vec<Option<Buffer>>,
}

/// Calls `work` with `len` elements of this thread's scratch memory, 64-byte aligned and with arbitrary contents.
///
/// Calls nest: each depth has a buffer of its own. So the leader of a region takes part in a call that it makes inside `work`,
/// whose chunks ask for scratch memory too.
pub fn with_scratch<T: Pod, R>(len: usize, work: impl FnOnce(&mut [T]) -> R) -> Result<R> {
    let bytes = len
        .checked_mul(size_of::<T>())
        .ok_or_else(|| error!(Memory, "a scratch buffer of {len} elements is too large for this machine"))?;
    let mut taken = Taken::new(bytes)?;
    // SAFETY: the buffer holds `bytes` initialized bytes at an alignment above any Pod type's, is borrowed exclusively for
    // the call, and every bit pattern is a valid T.
    let slice = unsafe { std::slice::from_raw_parts_mut(taken.buffer.as_mut_ptr().cast::<T>(), len) };
    Ok(work(slice))
}

/// Frees what this thread keeps in buffers that are not in use and larger than anything that comes again and again: for the end of
/// work whose memory grows with its data.
pub fn release_large() {
    const LARGE: usize = 16 << 20;
    FREE.with_borrow_mut(|slots| {
        for buffer in slots.buffers.iter_mut().filter(|buffer| buffer.as_ref().is_some_and(|b| b.bytes() > LARGE)) {
            *buffer = None;
        }
    });
}

/// A buffer in use; dropping it, also while unwinding, puts it back.
struct Taken {
    buffer: Buffer,
    depth: usize,
}

impl Taken {
    fn new(bytes: usize) -> Result<Taken> {
        FREE.with_borrow_mut(|slots| {
            let depth = slots.depth;
            if slots.buffers.len() <= depth {
                slots.buffers.push(None);
            }
            let buffer = match slots.buffers[depth].take() {
                Some(buffer) if buffer.bytes() >= bytes => buffer,
                // The smaller one is freed before its successor is allocated.
                smaller => {
                    drop(smaller);
                    Buffer::zeroed(bytes)?
                }
            };
            slots.depth = depth + 1;
            Ok(Taken { buffer, depth })
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // The empty buffer that takes its place allocates nothing. A thread that is ending has no slots left: then the
        // buffer is simply freed.
        let Ok(empty) = Buffer::zeroed(0) else { return };
        let buffer = std::mem::replace(&mut self.buffer, empty);
        let depth = self.depth;
        let _ = FREE.try_with(|slots| {
            let mut slots = slots.borrow_mut();
            slots.depth = depth;
            slots.buffers[depth] = Some(buffer);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_scratch_does_not_overlap_and_is_reused() {
        let address = |slice: &mut [f32]| slice.as_ptr() as usize;
        let first = with_scratch::<f32, _>(1000, |outer| {
            outer.fill(1.0);
            with_scratch::<u8, _>(5000, |inner| inner.fill(7)).unwrap();
            assert!(outer.iter().all(|&x| x == 1.0));
            assert_eq!(outer.as_ptr() as usize % 64, 0);
            address(outer)
        })
        .unwrap();
        assert_eq!(with_scratch::<f32, _>(10, address).unwrap(), first, "a smaller request reuses the buffer");
        assert_eq!(with_scratch::<f32, _>(0, |slice| slice.len()).unwrap(), 0);
    }

    #[test]
    fn large_buffers_can_be_released() {
        let kept = || FREE.with_borrow(|slots| slots.buffers.iter().flatten().map(Buffer::bytes).max().unwrap_or(0));
        with_scratch::<u8, _>(20 << 20, |_| release_large()).unwrap();
        assert_eq!(kept(), 20 << 20, "what is in use stays");
        with_scratch::<u8, _>(1000, |_| with_scratch::<u8, _>(1000, |_| ()).unwrap()).unwrap();
        release_large();
        assert!((1000..16 << 20).contains(&kept()));
        with_scratch::<u8, _>(2000, |slice| slice.fill(1)).unwrap();
    }

    #[test]
    fn a_panic_returns_the_buffer() {
        let before = with_scratch::<u8, _>(64, |slice| slice.as_ptr() as usize).unwrap();
        let caught = std::panic::catch_unwind(|| with_scratch::<u8, ()>(64, |_| std::panic::panic_any(())));
        assert!(caught.is_err());
        assert_eq!(with_scratch::<u8, _>(64, |slice| slice.as_ptr() as usize).unwrap(), before);
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        use crate::tensor::ErrorKind;
        assert_eq!(with_scratch::<f32, ()>(usize::MAX, |_| ()).unwrap_err().kind, ErrorKind::Memory);
        assert_eq!(with_scratch::<u8, ()>(isize::MAX as usize / 2, |_| ()).unwrap_err().kind, ErrorKind::Memory);
        assert_eq!(with_scratch::<u8, _>(3, |slice| slice.len()).unwrap(), 3, "a failure leaves the slots usable");
    }
}
