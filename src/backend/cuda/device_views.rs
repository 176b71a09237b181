//! For tests: the arguments of a call brought to the device before it, and back after it, so that the row sees tensors that live
//! there.

use super::host::{Place, extent};
use super::memory::Block;
use super::pinned::Download;
use crate::backend::Launch;
use crate::tensor::{Device, DeviceMemory, Result, View};

pub struct Abroad<'l> {
    launch: &'l Launch,
    blocks: Vec<Block>,
    home: Vec<Download>,
}

impl<'l> Abroad<'l> {
    pub fn new(launch: &'l Launch) -> Abroad<'l> {
        Abroad { launch, blocks: Vec::new(), home: Vec::new() }
    }

    /// Copies what was written back, and fails with what kernels complained of.
    pub fn end(self) -> Result<()> {
        let gpu = self.launch.gpu()?;
        let _current = gpu.enter()?;
        gpu.synchronize()?;
        // SAFETY: host memory that the call has borrowed, and blocks as large.
        unsafe { gpu.download(&self.home) }
    }
}

impl Place for Abroad<'_> {
    unsafe fn bring<'b>(&mut self, view: &View, written: bool) -> Result<View<'b>> {
        let gpu = self.launch.gpu()?;
        let device = Device::Cuda(gpu.ordinal());
        let _current = gpu.enter()?;
        let bytes = if view.count() == 0 { 0 } else { extent(view) * view.dtype().size() };
        let Some(block) = gpu.block(bytes)? else {
            // SAFETY: nothing is read of an empty view.
            return Ok(unsafe { view.on_copy(std::ptr::null(), device) });
        };
        // SAFETY: the view's memory, and a block as large.
        unsafe { gpu.upload(block.pointer(), view.as_ptr(), bytes) }?;
        // SAFETY: the copy is laid out like the view.
        let brought = unsafe { view.on_copy(block.as_ptr(), device) };
        if written {
            let (from, to) = (block.pointer(), view.as_ptr().cast_mut());
            self.home.push(Download { from, to, bytes, changes: true });
        }
        self.blocks.push(block);
        Ok(brought)
    }
}
