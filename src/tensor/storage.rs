//! Tensors: an element type, a shape and the memory behind them, owned or lent by the caller.

use super::error::{Result, ensure};
use super::memory::{Buffer, vec_zeroed};
use super::{DType, Element, Shape, View, ViewMut};
use std::borrow::Cow;
use std::fmt;

/// Where a tensor's memory lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Host,
    /// A CUDA device by its index.
    #[allow(dead_code, reason = "on some platforms nothing allocates there")]
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Host => f.write_str("the host"),
            Device::Cuda(ordinal) => write!(f, "cuda device {ordinal}"),
        }
    }
}

/// Memory of a device, as a backend hands it out: dropping it gives it back.
///
/// # Safety
/// `as_ptr` is the address, on `device`, of `bytes` bytes that nobody else uses while this lives.
pub unsafe trait DeviceMemory: Send + Sync {
    fn device(&self) -> Device;
    fn bytes(&self) -> usize;
    fn as_ptr(&self) -> *mut u8;
    /// Copies the first bytes to `to`, after everything that was asked of the device.
    fn read(&self, to: &mut [u8]) -> Result<()>;
    /// Copies `from` to the first bytes, before everything that will be asked of it.
    fn write(&mut self, from: &[u8]) -> Result<()>;
}

enum Storage {
    Owned(Buffer),
    /// Host memory that the caller of `Tensor::wrap` promised to keep alive and to lend exclusively.
    Lent(*mut u8),
    Device(Box<dyn DeviceMemory>),
}

/// A contiguous, row-major array.
pub struct Tensor {
    storage: Storage,
    dtype: DType,
    shape: Shape,
}

// SAFETY: owned memory is Send; `Tensor::wrap`'s contract extends that to lent memory.
unsafe impl Send for Tensor {}
// SAFETY: shared access is read-only.
unsafe impl Sync for Tensor {}

impl Tensor {
    /// A new tensor of zeros on the host.
    pub fn zeros(dtype: DType, dims: &[usize]) -> Result<Tensor> {
        let shape = Shape::new(dims)?;
        let storage = Storage::Owned(Buffer::zeroed(shape.count() * dtype.size())?);
        Ok(Tensor { storage, dtype, shape })
    }

    /// A new tensor holding a copy of `data`.
    pub fn from_slice<T: Element>(data: &[T], dims: &[usize]) -> Result<Tensor> {
        let mut tensor = Tensor::zeros(T::DTYPE, dims)?;
        ensure!(
            tensor.shape.count() == data.len(),
            Shape,
            "shape {} holds {} elements, got {}",
            tensor.shape,
            tensor.shape.count(),
            data.len()
        );
        tensor.host_mut::<T>()?.copy_from_slice(data);
        Ok(tensor)
    }

    /// A tensor over memory that someone else owns.
    ///
    /// # Safety
    /// `data` is aligned for `dtype`, holds the whole shape, outlives the tensor, and nobody else writes it
    /// (or reads it while the tensor is written) in the meantime.
    pub unsafe fn wrap(data: *mut u8, dtype: DType, dims: &[usize]) -> Result<Tensor> {
        Ok(Tensor { storage: Storage::Lent(data), dtype, shape: Shape::new(dims)? })
    }

    /// A tensor on a device, with whatever its memory holds.
    pub fn on_device(memory: Box<dyn DeviceMemory>, dtype: DType, dims: &[usize]) -> Result<Tensor> {
        let shape = Shape::new(dims)?;
        let (bytes, there) = (shape.count() * dtype.size(), memory.bytes());
        ensure!(bytes <= there, Shape, "a tensor of shape {shape} takes {bytes} bytes, its memory has {there}");
        Ok(Tensor { storage: Storage::Device(memory), dtype, shape })
    }

    /// Gives memory of its own another shape, which it has room for; its elements are of no use then.
    pub fn reshape_within(&mut self, dims: &[usize]) -> Result<()> {
        let there = match &self.storage {
            Storage::Owned(buffer) => buffer.bytes(),
            Storage::Lent(_) => self.bytes(),
            Storage::Device(memory) => memory.bytes(),
        };
        let shape = Shape::new(dims)?;
        let bytes = shape.count() * self.dtype.size();
        ensure!(bytes <= there, Shape, "a tensor of shape {shape} takes {bytes} bytes, its memory has {there}");
        self.shape = shape;
        Ok(())
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    pub fn count(&self) -> usize {
        self.shape.count()
    }

    pub fn bytes(&self) -> usize {
        self.count() * self.dtype.size()
    }

    pub fn device(&self) -> Device {
        match &self.storage {
            Storage::Device(memory) => memory.device(),
            _ => Device::Host,
        }
    }

    // Called in a thousand places, each of which would have a copy; a kernel takes longer.
    #[inline(never)]
    pub fn view(&self) -> View<'_> {
        let data = match &self.storage {
            Storage::Owned(buffer) => buffer.as_ptr(),
            Storage::Lent(data) => *data as *const u8,
            Storage::Device(memory) => memory.as_ptr(),
        };
        // SAFETY: the storage holds the whole shape and is borrowed for the view's lifetime.
        unsafe { View::new(data, self.dtype, self.shape, self.device()) }
    }

    #[inline(never)] // as `view`
    pub fn view_mut(&mut self) -> ViewMut<'_> {
        let device = self.device();
        let data = match &mut self.storage {
            Storage::Owned(buffer) => buffer.as_mut_ptr(),
            Storage::Lent(data) => *data,
            Storage::Device(memory) => memory.as_ptr(),
        };
        // SAFETY: the storage holds the whole shape and is borrowed exclusively for the view's lifetime.
        unsafe { ViewMut::new(data, self.dtype, self.shape, device) }
    }

    /// The elements, when they are on the host and of type `T`; DTYPE or DEVICE otherwise.
    pub fn host<T: Element>(&self) -> Result<&[T]> {
        self.view().slice()
    }

    pub fn host_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        self.view_mut().into_slice()
    }

    /// The elements, wherever they are: a copy of those that are not on the host.
    pub fn read<T: Element>(&self) -> Result<Cow<'_, [T]>> {
        let Storage::Device(memory) = &self.storage else { return Ok(Cow::Borrowed(self.host()?)) };
        self.check_dtype::<T>()?;
        let mut copy = vec_zeroed::<T>(self.count())?;
        memory.read(bytemuck::cast_slice_mut(&mut copy))?;
        Ok(Cow::Owned(copy))
    }

    /// Copies the elements, wherever they are, to as many of the caller's.
    pub fn read_into<T: Element>(&self, to: &mut [T]) -> Result<()> {
        let count = self.count();
        ensure!(to.len() == count, Shape, "room for {} elements, the tensor has {count}", to.len());
        if let Storage::Device(memory) = &self.storage {
            self.check_dtype::<T>()?;
            return memory.read(bytemuck::cast_slice_mut(to));
        }
        to.copy_from_slice(self.host()?);
        Ok(())
    }

    /// Overwrites all elements, wherever they are.
    pub fn write<T: Element>(&mut self, elements: &[T]) -> Result<()> {
        let count = self.count();
        ensure!(elements.len() == count, Shape, "{} elements for a tensor of {count}", elements.len());
        self.check_dtype::<T>()?;
        self.write_bytes(bytemuck::cast_slice(elements))
    }

    /// The same by what `fill` puts into a slice of as many.
    pub fn fill_with<T: Element>(&mut self, fill: impl FnOnce(&mut [T])) -> Result<()> {
        if self.device() == Device::Host {
            fill(self.host_mut()?);
            return Ok(());
        }
        let mut elements = vec_zeroed::<T>(self.count())?;
        fill(&mut elements);
        self.write(&elements)
    }

    fn check_dtype<T: Element>(&self) -> Result<()> {
        ensure!(self.dtype == T::DTYPE, DType, "expected a tensor of {}, got {}", T::DTYPE, self.dtype);
        Ok(())
    }

    /// The bytes of the elements, as `read` has them.
    pub fn read_bytes(&self) -> Result<Cow<'_, [u8]>> {
        if let Storage::Device(memory) = &self.storage {
            let mut copy = vec_zeroed(self.bytes())?;
            memory.read(&mut copy)?;
            return Ok(Cow::Owned(copy));
        }
        // SAFETY: host memory of as many bytes, borrowed with `self`; every byte of an element is initialized.
        Ok(Cow::Borrowed(unsafe { std::slice::from_raw_parts(self.view().as_ptr(), self.bytes()) }))
    }

    /// Overwrites all elements by their bytes, which may lie at any address.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let expected = self.bytes();
        ensure!(bytes.len() == expected, Shape, "{} bytes for a tensor of {expected}", bytes.len());
        if let Storage::Device(memory) = &mut self.storage {
            return memory.write(bytes);
        }
        let to = self.view_mut().as_mut_ptr();
        // SAFETY: host memory of as many bytes, borrowed exclusively, so that it does not overlap; numbers may have any bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, expected) };
        Ok(())
    }
}
