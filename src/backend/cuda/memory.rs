//! The device's memory: blocks that are kept when they come back, because the driver takes long to give new ones, and
//! page-locked buffers that copies between host and device pass through.
//!
//! Two environment variables, for tests and for those who look for errors: SETUN_CUDA_MEMORY is the most that blocks may take,
//! in bytes; SETUN_CUDA_CACHE=0 gives every block exactly the size that was asked for and gives it back at once, so that a memory
//! checker sees what an operation oversteps.

use super::argument::Pointer;
use super::driver::done;
use super::gpu::Gpu;
use super::pinned::Download;
use crate::tensor::error::{Result, ensure, error};
use crate::tensor::{Device, DeviceMemory, ErrorKind};
use cust::sys::{cuMemAlloc_v2, cuMemFree_v2, cuMemGetInfo_v2};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Memory {
    blocks: Mutex<Blocks>,
    /// The most that blocks may take.
    limit: usize,
    keeps: bool,
    pub(super) pinned: super::pinned::Buffers,
}

#[derive(Default)]
struct Blocks {
    /// Those that came back, by size.
    free: BTreeMap<usize, Vec<u64>>,
    /// Bytes in them.
    kept: usize,
    /// Bytes of blocks in use.
    used: usize,
}

/// Memory of a device. What comes later in the stream may use it as soon as this is dropped.
pub struct Block {
    gpu: Arc<Gpu>,
    pointer: u64,
    bytes: usize,
}

impl Memory {
    pub fn new() -> Result<Memory> {
        let limit = match std::env::var_os("SETUN_CUDA_MEMORY").map(|text| text.to_string_lossy().into_owned()) {
            None => usize::MAX,
            Some(text) => text.trim().parse().map_err(|_| {
                error!(Argument, "SETUN_CUDA_MEMORY is '{text}', expected the most bytes of a device's memory to use")
            })?,
        };
        let keeps = std::env::var("SETUN_CUDA_CACHE").as_deref() != Ok("0");
        Ok(Memory { blocks: Mutex::default(), limit, keeps, pinned: super::pinned::Buffers::new() })
    }

    /// A block of at least so many bytes; the context is current.
    fn take(&self, gpu: &Gpu, bytes: usize) -> Result<(u64, usize)> {
        let size = if self.keeps { class(bytes)? } else { bytes };
        let mut blocks = self.blocks.lock();
        if let Some(pointer) = blocks.free.get_mut(&size).and_then(Vec::pop) {
            blocks.kept -= size;
            blocks.used += size;
            return Ok((pointer, size));
        }
        let fits = |blocks: &Blocks| size <= self.limit.saturating_sub(blocks.used + blocks.kept);
        let mut pointer = if fits(&blocks) { allocate(size)? } else { None };
        if pointer.is_none() && blocks.kept > 0 {
            blocks.empty(gpu)?;
            pointer = if fits(&blocks) { allocate(size)? } else { None };
        }
        let pointer = pointer.ok_or_else(|| self.exhausted(gpu, size, blocks.used))?;
        blocks.used += size;
        Ok((pointer, size))
    }

    /// Bytes of blocks in use.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.blocks.lock().used
    }

    fn exhausted(&self, gpu: &Gpu, wanted: usize, used: usize) -> crate::tensor::Error {
        let (mut free, mut total) = (0, 0);
        // SAFETY: locals; what they are after a failure is not worth another error.
        let _ = unsafe { cuMemGetInfo_v2(&raw mut free, &raw mut total) };
        let ordinal = gpu.ordinal();
        if self.limit < usize::MAX && wanted <= free {
            let limit = self.limit;
            return error!(
                Memory,
                "cuda device {ordinal} is out of memory: {wanted} bytes are wanted, {} of the {limit} that SETUN_CUDA_MEMORY \
                 allows are free",
                limit.saturating_sub(used)
            );
        }
        error!(
            Memory,
            "cuda device {ordinal} is out of memory: {wanted} bytes are wanted, {free} of {total} are free, {used} are in use here"
        )
    }

    fn give_back(&self, gpu: &Gpu, pointer: u64, size: usize) {
        // What cannot be given back now is kept, until there is need of it.
        if !self.keeps
            && let Ok(_current) = gpu.enter()
        {
            // Nothing that was asked for may still use it. A failure has been, or will be, the error of a call.
            let _ = gpu.wait();
            free(pointer);
            self.blocks.lock().used -= size;
            return;
        }
        let mut blocks = self.blocks.lock();
        blocks.used -= size;
        blocks.kept += size;
        blocks.free.entry(size).or_default().push(pointer);
    }
}

/// The context is current, and nothing uses the memory any more.
impl Drop for Memory {
    fn drop(&mut self) {
        self.blocks.get_mut().free_all();
    }
}

impl Blocks {
    /// Gives back to the driver what is not in use; the context is current.
    fn empty(&mut self, gpu: &Gpu) -> Result<()> {
        gpu.wait()?;
        self.free_all();
        Ok(())
    }

    fn free_all(&mut self) {
        self.kept = 0;
        std::mem::take(&mut self.free).into_values().flatten().for_each(free);
    }
}

fn free(pointer: u64) {
    // SAFETY: allocated by `allocate`, and in no hands any more.
    let _ = unsafe { cuMemFree_v2(pointer) };
}

/// None when the device is out of memory.
fn allocate(bytes: usize) -> Result<Option<u64>> {
    let mut pointer = 0;
    // SAFETY: `pointer` is a local; the size is above 0.
    match done(unsafe { cuMemAlloc_v2(&raw mut pointer, bytes) }) {
        Ok(()) => Ok(Some(pointer)),
        Err(error) if error.kind == ErrorKind::Memory => Ok(None),
        Err(error) => Err(error),
    }
}

/// The sizes that blocks come in: four to each power of two, so that less than a fifth is wasted, and a block fits many requests.
fn class(bytes: usize) -> Result<usize> {
    let least = bytes.max(512);
    let step = least.checked_next_power_of_two().map(|power| power / 8);
    step.and_then(|step| least.checked_next_multiple_of(step))
        .ok_or_else(|| error!(Memory, "an allocation of {bytes} bytes is too large for this machine"))
}

impl Gpu {
    /// Memory with arbitrary contents; none, with the address 0, for no bytes. The caller has [entered](Gpu::enter).
    pub fn block(self: &Arc<Gpu>, bytes: usize) -> Result<Option<Block>> {
        if bytes == 0 {
            return Ok(None);
        }
        let (pointer, bytes) = self.memory().take(self, bytes)?;
        Ok(Some(Block { gpu: self.clone(), pointer, bytes }))
    }
}

impl Block {
    pub fn pointer(&self) -> Pointer {
        Pointer(self.pointer)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // In a forked child the lock may be held by a thread that the child does not have.
        if self.gpu.is_ours() {
            self.gpu.memory().give_back(&self.gpu, self.pointer, self.bytes);
        }
    }
}

// SAFETY: the block's memory is its own until it is dropped.
unsafe impl DeviceMemory for Block {
    fn device(&self) -> Device {
        Device::Cuda(self.gpu.ordinal())
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn as_ptr(&self) -> *mut u8 {
        std::ptr::without_provenance_mut(self.pointer as usize)
    }

    fn read(&self, to: &mut [u8]) -> Result<()> {
        check_fits(to.len(), self.bytes)?;
        let _current = self.gpu.enter()?;
        let download = Download { from: Pointer(self.pointer), to: to.as_mut_ptr(), bytes: to.len(), changes: false };
        // SAFETY: the block has so many bytes, and `to` is borrowed exclusively.
        unsafe { self.gpu.download(&[download]) }
    }

    fn write(&mut self, from: &[u8]) -> Result<()> {
        check_fits(from.len(), self.bytes)?;
        let _current = self.gpu.enter()?;
        // SAFETY: the block has so many bytes.
        unsafe { self.gpu.upload(Pointer(self.pointer), from.as_ptr(), from.len()) }
    }
}

fn check_fits(bytes: usize, there: usize) -> Result<()> {
    ensure!(bytes <= there, Internal, "a copy of {bytes} bytes, where the device's block has {there}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_hold_what_is_asked_and_waste_less_than_a_quarter() {
        for (bytes, expected) in
            [(1, 512), (512, 512), (513, 640), (641, 768), (1024, 1024), (1025, 1280), (5 << 20, 5 << 20)]
        {
            assert_eq!(class(bytes).unwrap(), expected, "{bytes}");
        }
        for bytes in (512..100_000).step_by(37) {
            let size = class(bytes).unwrap();
            assert!(size >= bytes && (size - bytes) * 4 <= bytes, "{bytes} in {size}");
            assert_eq!(class(size).unwrap(), size, "a class is its own");
        }
        assert_eq!(class(usize::MAX - 5).unwrap_err().kind, ErrorKind::Memory);
    }
}
