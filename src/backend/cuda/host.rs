//! Calls that the host does after all, to say what is wrong with their bytes: their tensors on the device are brought there, the
//! vector row does the work, and what it wrote is taken back.

use super::argument::Pointer;
use super::pinned::Download;
use crate::backend::Launch;
use crate::tensor::error::{Result, ensure};
use crate::tensor::{ALIGNMENT, Buffer, Device, View, ViewMut};

/// A call's tensors while they are on the host.
pub struct Visit<'l> {
    launch: &'l Launch,
    guests: Vec<Guest>,
}

struct Guest {
    copy: Buffer,
    home: Pointer,
    bytes: usize,
    written: bool,
}

impl<'l> Visit<'l> {
    pub fn new(launch: &'l Launch) -> Visit<'l> {
        Visit { launch, guests: Vec::new() }
    }

    /// Takes what was written back to the device.
    pub fn end(self) -> Result<()> {
        for guest in self.guests.iter().filter(|guest| guest.written) {
            let gpu = self.launch.gpu()?;
            let _current = gpu.enter()?;
            // SAFETY: the view's memory, which the call has borrowed, and a buffer as large.
            unsafe { gpu.upload(guest.home, guest.copy.as_ptr(), guest.bytes) }?;
        }
        Ok(())
    }
}

/// Where the views of a call are brought.
pub trait Place {
    /// The same window, there: of the view itself where it is there already, else of a copy that lives as long as `self`.
    ///
    /// # Safety
    /// The answer is used neither after `self` nor after the view.
    unsafe fn bring<'b>(&mut self, view: &View, written: bool) -> Result<View<'b>>;
}

/// Elements from the first to the last, with what lies between.
pub fn extent(view: &View) -> usize {
    let strides = view.dims().iter().zip(view.strides());
    1 + strides.map(|(&dim, &stride)| (dim - 1) * stride.unsigned_abs()).sum::<usize>()
}

impl Place for Visit<'_> {
    unsafe fn bring<'b>(&mut self, view: &View, written: bool) -> Result<View<'b>> {
        if view.device() == Device::Host {
            // SAFETY: the same memory.
            return Ok(unsafe { view.on_copy(view.as_ptr(), Device::Host) });
        }
        if view.count() == 0 {
            // SAFETY: an empty view has no memory, only an address that suits every type.
            return Ok(unsafe { view.on_copy(std::ptr::without_provenance(ALIGNMENT), Device::Host) });
        }
        let gpu = self.launch.gpu()?;
        let here = Device::Cuda(gpu.ordinal());
        ensure!(view.device() == here, Device, "expected a tensor on {here}, got one on {}", view.device());
        let bytes = extent(view) * view.dtype().size();
        let mut copy = Buffer::zeroed(bytes)?;
        let (home, to) = (Pointer(view.as_ptr().addr() as u64), copy.as_mut_ptr());
        let _current = gpu.enter()?;
        // SAFETY: the view's memory, and a buffer as large.
        unsafe { gpu.download(&[Download { from: home, to, bytes, changes: false }]) }?;
        self.guests.push(Guest { copy, home, bytes, written });
        // SAFETY: the copy is laid out like the view.
        Ok(unsafe { view.on_copy(to, Device::Host) })
    }
}

/// An argument of an operation, of any type, on its way.
///
/// All `bring` are unsafe for the same reason: what they return is used neither after the place nor after the argument.
pub struct Traveller<T>(pub T);

impl Traveller<&View<'_>> {
    /// # Safety
    /// See [`Traveller`].
    pub unsafe fn bring<'b>(self, place: &mut impl Place) -> Result<View<'b>> {
        // SAFETY: passed on to the caller.
        unsafe { place.bring(self.0, false) }
    }
}

impl Traveller<Option<&View<'_>>> {
    /// # Safety
    /// See [`Traveller`].
    pub unsafe fn bring<'b>(self, place: &mut impl Place) -> Result<Option<View<'b>>> {
        // SAFETY: passed on to the caller.
        self.0.map(|view| unsafe { place.bring(view, false) }).transpose()
    }
}

impl Traveller<&mut ViewMut<'_>> {
    /// # Safety
    /// See [`Traveller`].
    pub unsafe fn bring<'b>(self, place: &mut impl Place) -> Result<ViewMut<'b>> {
        // SAFETY: passed on to the caller.
        let view = unsafe { place.bring(&self.0.as_view(), true) }?;
        // SAFETY: the call has borrowed the view exclusively, and a copy is nobody else's.
        Ok(unsafe { ViewMut::new(view.as_ptr().cast_mut(), view.dtype(), view.shape(), view.device()) })
    }
}

/// For arguments of all other types: the methods above go before those of a trait.
pub trait Stays<T> {
    /// # Safety
    /// None: for the sake of the others.
    unsafe fn bring(self, place: &mut impl Place) -> Result<T>;
}

impl<T> Stays<T> for Traveller<T> {
    unsafe fn bring(self, _: &mut impl Place) -> Result<T> {
        Ok(self.0)
    }
}

/// What was brought, as the operation takes it.
pub struct Lent<'a, T>(pub &'a mut T);

impl<'a, 'v> Lent<'a, View<'v>> {
    pub fn lend(self) -> &'a View<'v> {
        self.0
    }
}

impl<'a, 'v> Lent<'a, Option<View<'v>>> {
    pub fn lend(self) -> Option<&'a View<'v>> {
        self.0.as_ref()
    }
}

impl<'a, 'v> Lent<'a, ViewMut<'v>> {
    pub fn lend(self) -> &'a mut ViewMut<'v> {
        self.0
    }
}

/// For all other types.
pub trait Plain<T> {
    fn lend(self) -> T;
}

impl<T: Copy> Plain<T> for Lent<'_, T> {
    fn lend(self) -> T {
        *self.0
    }
}
