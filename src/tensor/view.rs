//! Borrowed windows on a tensor: what kernels take. A view is a typed pointer, a shape, strides and a device.

use super::error::{Result, ensure, error};
use super::shape::MAX_RANK;
use super::{DType, Device, Element, Shape};
use std::marker::PhantomData;

/// A read-only window. Strides are in elements and may be anything that stays inside the tensor.
#[derive(Clone, Copy)]
pub struct View<'a> {
    data: *const u8,
    dtype: DType,
    shape: Shape,
    strides: [isize; MAX_RANK],
    device: Device,
    lifetime: PhantomData<&'a [u8]>,
}

// SAFETY: a View is a shared borrow of plain numbers.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// # Safety
    /// `data` points to the whole row-major `shape` of `dtype` on `device`, valid and unwritten during `'a`.
    pub unsafe fn new(data: *const u8, dtype: DType, shape: Shape, device: Device) -> View<'a> {
        View { data, dtype, shape, strides: shape.strides(), device, lifetime: PhantomData }
    }

    /// A view of a host slice as a tensor of the given dimensions.
    #[inline(never)] // as `Tensor::view`
    pub fn of<T: Element>(data: &'a [T], dims: &[usize]) -> Result<View<'a>> {
        let shape = Shape::new(dims)?;
        ensure!(
            shape.count() == data.len(),
            Shape,
            "shape {shape} holds {} elements, got {}",
            shape.count(),
            data.len()
        );
        // SAFETY: the slice holds the whole shape and is borrowed for 'a.
        Ok(unsafe { View::new(data.as_ptr().cast(), T::DTYPE, shape, Device::Host) })
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

    /// Size of dimension `i`; 1 past the last.
    pub fn dim(&self, i: usize) -> usize {
        self.shape.dims().get(i).copied().unwrap_or(1)
    }

    pub fn count(&self) -> usize {
        self.shape.count()
    }

    pub fn strides(&self) -> &[isize] {
        &self.strides[..self.shape.rank()]
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.data
    }

    /// The same window on a copy of its memory.
    ///
    /// # Safety
    /// `data` points, on `device`, to the view's first element, and the others lie around it as they do around this view's
    /// own, valid and unwritten during `'b`.
    pub unsafe fn on_copy<'b>(&self, data: *const u8, device: Device) -> View<'b> {
        View { data, device, dtype: self.dtype, shape: self.shape, strides: self.strides, lifetime: PhantomData }
    }

    pub fn is_contiguous(&self) -> bool {
        let expected = self.shape.strides();
        self.dims().iter().zip(self.strides()).zip(&expected).all(|((&d, &s), &e)| d == 1 || s == e)
            || self.count() == 0
    }

    /// A matrix seen with rows and columns exchanged; no data moves.
    #[inline(never)] // as `Tensor::view`
    pub fn transpose(mut self) -> View<'a> {
        debug_assert_eq!(self.shape.rank(), 2);
        self.shape = Shape::new(&[self.dim(1), self.dim(0)]).expect("a transposed shape has as many elements");
        self.strides.swap(0, 1);
        self
    }

    /// The same elements under another shape; the view must be contiguous.
    #[inline(never)] // as `Tensor::view`
    pub fn reshape(&self, dims: &[usize]) -> Result<View<'a>> {
        let shape = Shape::new(dims)?;
        ensure!(self.is_contiguous(), Shape, "only a contiguous view can be reshaped");
        ensure!(shape.count() == self.count(), Shape, "shape {} cannot be seen as {shape}", self.shape);
        Ok(View { shape, strides: shape.strides(), ..*self })
    }

    /// Entries `start .. start + count` of the first dimension.
    #[inline(never)] // as `Tensor::view`
    pub fn narrow(&self, start: usize, count: usize) -> Result<View<'a>> {
        let (data, shape) = narrowed(self.data, self.dtype, &self.shape, &self.strides, start, count)?;
        Ok(View { data, shape, ..*self })
    }

    /// The elements as a slice: the view must be contiguous, on the host and of type `T`.
    #[inline(never)] // as `Tensor::view`
    pub fn slice<T: Element>(&self) -> Result<&'a [T]> {
        check_slice::<T>(self)?;
        // SAFETY: contiguous host memory of the checked type, borrowed for 'a by the constructor's contract.
        Ok(unsafe { std::slice::from_raw_parts(self.data.cast(), self.count()) })
    }
}

/// A writable window.
pub struct ViewMut<'a> {
    view: View<'a>,
    lifetime: PhantomData<&'a mut [u8]>,
}

impl<'a> ViewMut<'a> {
    /// # Safety
    /// `data` points to the whole row-major `shape` of `dtype` on `device`, valid and exclusive during `'a`.
    pub unsafe fn new(data: *mut u8, dtype: DType, shape: Shape, device: Device) -> ViewMut<'a> {
        // SAFETY: passed on to the caller.
        ViewMut { view: unsafe { View::new(data, dtype, shape, device) }, lifetime: PhantomData }
    }

    /// A writable view of a host slice as a tensor of the given dimensions.
    #[inline(never)] // as `Tensor::view`
    pub fn of<T: Element>(data: &'a mut [T], dims: &[usize]) -> Result<ViewMut<'a>> {
        let shape = Shape::new(dims)?;
        ensure!(
            shape.count() == data.len(),
            Shape,
            "shape {shape} holds {} elements, got {}",
            shape.count(),
            data.len()
        );
        // SAFETY: the slice holds the whole shape and is borrowed exclusively for 'a.
        Ok(unsafe { ViewMut::new(data.as_mut_ptr().cast(), T::DTYPE, shape, Device::Host) })
    }

    /// The same window, read-only, while `self` is not used.
    pub fn as_view(&self) -> View<'_> {
        self.view
    }

    /// The same window, handed on for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut { view: self.view, lifetime: PhantomData }
    }

    pub fn dtype(&self) -> DType {
        self.view.dtype
    }

    pub fn shape(&self) -> Shape {
        self.view.shape
    }

    pub fn dims(&self) -> &[usize] {
        self.view.dims()
    }

    pub fn dim(&self, i: usize) -> usize {
        self.view.dim(i)
    }

    pub fn count(&self) -> usize {
        self.view.count()
    }

    pub fn device(&self) -> Device {
        self.view.device
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.view.data as *mut u8
    }

    #[inline(never)] // as `Tensor::view`
    pub fn reshape(self, dims: &[usize]) -> Result<ViewMut<'a>> {
        Ok(ViewMut { view: self.view.reshape(dims)?, lifetime: PhantomData })
    }

    #[inline(never)] // as `Tensor::view`
    pub fn narrow(self, start: usize, count: usize) -> Result<ViewMut<'a>> {
        Ok(ViewMut { view: self.view.narrow(start, count)?, lifetime: PhantomData })
    }

    /// The elements, exclusively, while `self` is borrowed.
    #[inline(never)] // as `Tensor::view`
    pub fn slice_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        self.reborrow().into_slice()
    }

    /// The elements, exclusively, for the view's whole lifetime.
    #[inline(never)] // as `Tensor::view`
    pub fn into_slice<T: Element>(self) -> Result<&'a mut [T]> {
        check_slice::<T>(&self.view)?;
        // SAFETY: contiguous host memory of the checked type, exclusive for 'a by the constructor's contract.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.view.data as *mut T, self.view.count()) })
    }
}

fn check_slice<T: Element>(view: &View) -> Result<()> {
    ensure!(view.dtype == T::DTYPE, DType, "expected a tensor of {}, got {}", T::DTYPE, view.dtype);
    ensure!(view.device == Device::Host, Device, "expected a tensor on the host, got one on {}", view.device);
    ensure!(
        view.is_contiguous(),
        Shape,
        "expected a contiguous tensor, got strides {:?} for shape {}",
        view.strides(),
        view.shape
    );
    Ok(())
}

#[inline(never)] // as `Tensor::view`
fn narrowed(
    data: *const u8,
    dtype: DType,
    shape: &Shape,
    strides: &[isize],
    start: usize,
    count: usize,
) -> Result<(*const u8, Shape)> {
    let total = shape.dims().first().copied().ok_or_else(|| error!(Shape, "a scalar cannot be narrowed"))?;
    let end = start.checked_add(count);
    ensure!(
        end.is_some_and(|end| end <= total),
        Shape,
        "entries {start} .. {start} + {count} are outside the {total} there are"
    );
    let mut dims = [1; MAX_RANK];
    dims[..shape.rank()].copy_from_slice(shape.dims());
    dims[0] = count;
    let offset = start as isize * strides[0] * dtype.size() as isize;
    // wrapping: for count 0 the pointer may stand one past the end.
    Ok((data.wrapping_offset(offset), Shape::new(&dims[..shape.rank()])?))
}
