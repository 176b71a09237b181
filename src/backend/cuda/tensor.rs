//! Tensors that live on the device.

use super::argument::Pointer;
use super::driver::done;
use super::gpu::Gpu;
#[cfg(test)]
use super::pinned::Download;
use crate::tensor::error::{Result, ensure, error};
use crate::tensor::{DType, Device, Shape, Tensor, View, ViewMut};
use cust::sys::cuMemcpyDtoDAsync_v2;
use std::sync::Arc;

impl Gpu {
    /// A tensor on the device, with whatever its memory holds.
    pub fn tensor(self: &Arc<Gpu>, dtype: DType, dims: &[usize]) -> Result<Tensor> {
        let _current = self.enter()?;
        let bytes = Shape::new(dims)?.count() * dtype.size();
        // An empty tensor has an owner too.
        let block = self.block(bytes.max(1))?.ok_or_else(|| error!(Internal, "a block of no bytes"))?;
        Tensor::on_device(Box::new(block), dtype, dims)
    }

    /// A tensor of zeros on the device.
    pub fn zeros(self: &Arc<Gpu>, dtype: DType, dims: &[usize]) -> Result<Tensor> {
        let mut tensor = self.tensor(dtype, dims)?;
        let _current = self.enter()?;
        let pointer = Pointer(tensor.view_mut().as_mut_ptr().addr() as u64);
        // SAFETY: the tensor has so many bytes.
        unsafe { self.set_bytes(pointer, 0, tensor.bytes()) }?;
        Ok(tensor)
    }

    /// A copy on the device of a contiguous view on the host.
    pub fn upload_view(self: &Arc<Gpu>, view: &View) -> Result<Tensor> {
        ensure!(view.is_contiguous(), Shape, "only a contiguous view can be copied to a device");
        ensure!(view.device() == Device::Host, Device, "expected a tensor on the host, got one on {}", view.device());
        let mut tensor = self.tensor(view.dtype(), view.dims())?;
        let _current = self.enter()?;
        let to = Pointer(tensor.view_mut().as_mut_ptr().addr() as u64);
        // SAFETY: the view and its copy have so many bytes.
        unsafe { self.upload(to, view.as_ptr(), tensor.bytes()) }?;
        Ok(tensor)
    }

    /// A copy on the host of a contiguous view on the device. Waits for the device, and fails with what kernels complained of.
    #[cfg(test)]
    pub fn download_view(&self, view: &View) -> Result<Tensor> {
        ensure!(view.is_contiguous(), Shape, "only a contiguous view can be copied from a device");
        let mut tensor = Tensor::zeros(view.dtype(), view.dims())?;
        let _current = self.enter()?;
        let from = Pointer(view.as_ptr().addr() as u64);
        let to = tensor.view_mut().as_mut_ptr();
        // SAFETY: the view and its copy have so many bytes.
        unsafe { self.download(&[Download { from, to, bytes: tensor.bytes(), changes: false }]) }?;
        Ok(tensor)
    }

    /// Copies a contiguous view on the device to another of as many bytes.
    pub fn copy_view(&self, from: &View, to: &mut ViewMut) -> Result<()> {
        let bytes = from.count() * from.dtype().size();
        let fits = from.is_contiguous() && to.as_view().is_contiguous() && to.count() * to.dtype().size() == bytes;
        let here = Device::Cuda(self.ordinal());
        ensure!(fits, Shape, "expected contiguous tensors of as many bytes, got {} and {}", from.shape(), to.shape());
        ensure!(from.device() == here && to.device() == here, Device, "expected tensors on {here}");
        let _current = self.enter()?;
        let (from, to) = (from.as_ptr().addr() as u64, to.as_mut_ptr().addr() as u64);
        // SAFETY: views on this device of so many bytes.
        done(unsafe { cuMemcpyDtoDAsync_v2(to, from, bytes, self.stream()) })
    }

    /// Waits for everything asked so far, and fails with what kernels complained of.
    pub fn finish(&self) -> Result<()> {
        let _current = self.enter()?;
        self.synchronize()
    }
}
