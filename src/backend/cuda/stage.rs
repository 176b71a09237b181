//! The arguments of a call: views on the device are used where they are, views on the host are copied to the device before the
//! kernels run, and back afterwards.
//!
//! Without a view on the host that is written, nothing waits for the device. Memory that was taken for the call goes back
//! when the stage is dropped, also after an error: what comes later in the stream may use it.

use super::Current;
use super::argument::{Argument, Pointer};
use super::gpu::Gpu;
use super::memory::Block;
use super::module::Kernel;
use super::pinned::{Download, begin_call};
use crate::backend::Launch;
use crate::tensor::error::{Result, ensure, error};
use crate::tensor::{Buffer, DType, Device, View, ViewMut};
use std::marker::PhantomData;
use std::sync::Arc;

/// Threads of a block, unless a kernel wants others (cuda/device.cuh).
pub const THREADS: u32 = 256;
/// More than a block has no device.
pub const MOST_THREADS: u32 = 1024;
/// Elements that a block of a kernel on corresponding elements takes at a time (cuda/map.cuh).
const MAPPED: usize = 4 * 2 * THREADS as usize;
/// More blocks than any device runs at a time.
pub const MOST_BLOCKS: usize = 1 << 16;

pub struct Stage<'v> {
    pub gpu: Arc<Gpu>,
    blocks: Vec<Block>,
    downloads: Vec<Download>,
    /// Put back when everything above is gone.
    _current: Current,
    /// The host views that are written at the end.
    views: PhantomData<&'v mut [u8]>,
}

/// A matrix on the device: its first element, and the strides of rows and columns in elements.
#[derive(Clone, Copy)]
pub struct Strided {
    pub data: Pointer,
    pub strides: [i64; 2],
}

impl<'v> Stage<'v> {
    pub fn new(launch: &Launch) -> Result<Stage<'v>> {
        begin_call();
        let gpu = launch.gpu()?.clone();
        let current = gpu.enter()?;
        Ok(Stage { gpu, blocks: Vec::new(), downloads: Vec::new(), _current: current, views: PhantomData })
    }

    /// Memory of the call's own, with arbitrary contents.
    pub fn scratch(&mut self, bytes: usize) -> Result<Pointer> {
        let Some(block) = self.gpu.block(bytes)? else { return Ok(Pointer(0)) };
        let pointer = block.pointer();
        self.blocks.push(block);
        Ok(pointer)
    }

    /// A contiguous view that is read.
    pub fn input(&mut self, view: &View, dtype: DType) -> Result<Pointer> {
        self.check(view, dtype)?;
        check_contiguous(view)?;
        self.place(view)
    }

    /// A view that is overwritten as a whole.
    pub fn output(&mut self, view: &'v mut ViewMut<'_>, dtype: DType) -> Result<Pointer> {
        self.written(view, dtype, false)
    }

    /// A view that is read and written.
    pub fn update(&mut self, view: &'v mut ViewMut<'_>, dtype: DType) -> Result<Pointer> {
        self.written(view, dtype, true)
    }

    /// A view that is added to, or overwritten as a whole.
    pub fn sum(&mut self, view: &'v mut ViewMut<'_>, dtype: DType, accumulate: bool) -> Result<Pointer> {
        self.written(view, dtype, accumulate)
    }

    fn written(&mut self, view: &'v mut ViewMut<'_>, dtype: DType, changes: bool) -> Result<Pointer> {
        let to = view.as_mut_ptr();
        let view = view.as_view();
        let bytes = view.count() * dtype.size();
        self.check(&view, dtype)?;
        check_contiguous(&view)?;
        let on_host = view.device() == Device::Host;
        let from = if on_host && !changes { self.scratch(bytes)? } else { self.place(&view)? };
        if on_host {
            self.downloads.push(Download { from, to, bytes, changes });
        }
        Ok(from)
    }

    /// A matrix that is read, whatever its strides.
    pub fn strided(&mut self, view: &View, dtype: DType) -> Result<Strided> {
        self.check(view, dtype)?;
        let strides = |view: &View| [view.strides()[0] as i64, view.strides()[1] as i64];
        ensure!(view.dims().len() == 2, Shape, "expected a matrix, got shape {}", view.shape());
        if view.device() != Device::Host || view.is_contiguous() {
            return Ok(Strided { data: self.place(view)?, strides: strides(view) });
        }
        let turned = view.transpose();
        if turned.is_contiguous() {
            let [columns, rows] = strides(&turned);
            return Ok(Strided { data: self.place(&turned)?, strides: [rows, columns] });
        }
        // What lies between the elements is not read here: somebody may be writing it.
        let packed = pack(view)?;
        let data = self.scratch(packed.bytes())?;
        // SAFETY: the block was taken for these bytes.
        unsafe { self.gpu.upload(data, packed.as_ptr(), packed.bytes()) }?;
        Ok(Strided { data, strides: [view.dim(1) as i64, 1] })
    }

    fn check(&self, view: &View, dtype: DType) -> Result<()> {
        ensure!(view.dtype() == dtype, DType, "expected a tensor of {dtype}, got {}", view.dtype());
        let here = Device::Cuda(self.gpu.ordinal());
        let device = view.device();
        ensure!(
            device == Device::Host || device == here,
            Device,
            "expected a tensor on {here} or the host, got one on {device}"
        );
        Ok(())
    }

    /// Where the elements of a dense view are on the device.
    fn place(&mut self, view: &View) -> Result<Pointer> {
        if view.device() != Device::Host {
            return Ok(Pointer(view.as_ptr().addr() as u64));
        }
        let bytes = view.count() * view.dtype().size();
        let pointer = self.scratch(bytes)?;
        // SAFETY: the view holds these bytes, and the block was taken for them.
        unsafe { self.gpu.upload(pointer, view.as_ptr(), bytes) }?;
        Ok(pointer)
    }

    /// A number of 64 bits with all of them set or none, for kernels to count in or to find a least in.
    pub fn number(&mut self, bits: bool) -> Result<Pointer> {
        let pointer = self.scratch(size_of::<u64>())?;
        // SAFETY: the block was taken for these bytes.
        unsafe { self.gpu.set_bytes(pointer, if bits { 0xFF } else { 0 }, size_of::<u64>()) }?;
        Ok(pointer)
    }

    /// Asks for a run of a kernel in blocks of one dimension. Kernels loop over what so many blocks do not cover.
    ///
    /// # Safety
    /// As [`Gpu::launch`].
    pub unsafe fn launch(&self, kernel: Kernel, blocks: usize, block: u32, arguments: &[Argument]) -> Result<()> {
        // SAFETY: passed on to the caller.
        unsafe { self.gpu.launch(kernel, [blocks.clamp(1, MOST_BLOCKS) as u32, 1, 1], [block, 1, 1], 0, arguments) }
    }

    /// The same for a kernel that goes over `count` corresponding elements.
    ///
    /// # Safety
    /// As [`Gpu::launch`].
    pub unsafe fn map(&self, kernel: Kernel, count: usize, arguments: &[Argument]) -> Result<()> {
        // SAFETY: passed on to the caller.
        unsafe { self.launch(kernel, count.div_ceil(MAPPED), THREADS, arguments) }
    }

    /// The same for one that gives each of `count` rows, tokens or the like a warp.
    ///
    /// # Safety
    /// As [`Gpu::launch`].
    pub unsafe fn warps(&self, kernel: Kernel, count: usize, arguments: &[Argument]) -> Result<()> {
        // SAFETY: passed on to the caller.
        unsafe { self.launch(kernel, count.div_ceil(THREADS as usize / 32), THREADS, arguments) }
    }

    /// The same for one whose warps may be so few that they should not share a multiprocessor before each has one: blocks have
    /// up to [`THREADS`] threads.
    ///
    /// # Safety
    /// As [`Gpu::launch`].
    pub unsafe fn few_warps(&self, kernel: Kernel, count: usize, arguments: &[Argument]) -> Result<()> {
        let warps = count.div_ceil(self.gpu.multiprocessors() as usize).clamp(1, THREADS as usize / 32);
        // SAFETY: passed on to the caller.
        unsafe { self.launch(kernel, count.div_ceil(warps), 32 * warps as u32, arguments) }
    }

    /// Copies what was written to the host, if any of it belongs there.
    pub fn finish(self) -> Result<()> {
        if self.downloads.is_empty() {
            return Ok(());
        }
        // SAFETY: the host views are borrowed as long as the stage lives, and hold as many bytes as the blocks.
        unsafe { self.gpu.download(&self.downloads) }
    }

    /// The same, and reads a number of 64 bits from the device.
    pub fn finish_with(mut self, number: Pointer) -> Result<u64> {
        let mut value = 0u64;
        let to = (&raw mut value).cast();
        self.downloads.push(Download { from: number, to, bytes: size_of::<u64>(), changes: false });
        self.finish()?;
        Ok(value)
    }
}

/// The product of these counts, as the first dimension of a grid.
pub fn blocks_of(counts: &[usize]) -> Result<u32> {
    let product = counts.iter().try_fold(1usize, |product, &count| product.checked_mul(count));
    let blocks = product.and_then(|blocks| i32::try_from(blocks).ok());
    blocks
        .map(i32::cast_unsigned)
        .ok_or_else(|| error!(Unsupported, "a grid of {counts:?} blocks is larger than cuda's"))
}

/// A size as kernels take it.
pub fn narrow(size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| error!(Unsupported, "a size of {size} is above the {} of cuda's kernels", u32::MAX))
}

fn check_contiguous(view: &View) -> Result<()> {
    let (strides, shape) = (view.strides(), view.shape());
    ensure!(view.is_contiguous(), Shape, "expected a contiguous tensor, got strides {strides:?} for shape {shape}");
    Ok(())
}

/// The elements of a host matrix, row by row.
fn pack(view: &View) -> Result<Buffer> {
    let (rows, columns, size) = (view.dim(0), view.dim(1), view.dtype().size());
    let mut packed = Buffer::zeroed(rows * columns * size)?;
    let offset = |i: usize, stride: isize| i as isize * stride * size as isize;
    let [row_stride, column_stride] = [view.strides()[0], view.strides()[1]];
    for row in 0..rows {
        let from = view.as_ptr().wrapping_offset(offset(row, row_stride));
        let to = packed.as_mut_ptr().wrapping_add(row * columns * size);
        let (run, runs) = if column_stride == 1 { (columns * size, 1) } else { (size, columns) };
        for i in 0..runs {
            let from = from.wrapping_offset(offset(i, column_stride));
            // SAFETY: the elements of the view, each to its own place in the buffer.
            unsafe { std::ptr::copy_nonoverlapping(from, to.wrapping_add(i * run), run) };
        }
    }
    Ok(packed)
}
