//! What a kernel is given: numbers, addresses, and structs that are laid out as its own.

use crate::tensor::random::Stream;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;

/// Arguments that a kernel takes at most.
pub const MOST_ARGUMENTS: usize = 16;

/// An address on the device; 0 of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Pointer(pub u64);

impl Pointer {
    /// So many bytes on.
    pub fn at(self, bytes: usize) -> Pointer {
        Pointer(self.0 + bytes as u64)
    }
}

/// A number or an address in the bytes of `word`, from the first; or a struct.
pub struct Argument<'a> {
    word: u64,
    place: *const c_void,
    lifetime: PhantomData<&'a [u8]>,
}

impl Argument<'_> {
    /// Where the driver finds it.
    pub fn place(&self) -> *mut c_void {
        let place = if self.place.is_null() { ptr::from_ref(&self.word).cast() } else { self.place };
        place.cast_mut()
    }
}

/// A number of at most 64 bits: the device, like the hosts that have it, begins with the lowest byte.
macro_rules! number {
    ($($type:ty: $bits:expr),* $(,)?) => {
        $(
            impl From<$type> for Argument<'_> {
                fn from(value: $type) -> Self {
                    Argument { word: $bits(value), place: ptr::null(), lifetime: PhantomData }
                }
            }
        )*
    };
}
number! {
    Pointer: |value: Pointer| value.0,
    u64: |value| value,
    u32: u64::from,
    i32: |value: i32| u64::from(value.cast_unsigned()),
    f64: f64::to_bits,
    f32: |value: f32| u64::from(value.to_bits()),
}

/// A struct that a kernel takes by value.
///
/// # Safety
/// `repr(C)`, with the fields of the kernel's, and none of its bytes arbitrary ([`Last`]).
pub unsafe trait Struct {}

/// The last field of a struct, where it takes half of a word of 64 bits: the rest is zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Last<T> {
    pub value: T,
    zeros: u32,
}

impl<T> From<T> for Last<T> {
    fn from(value: T) -> Last<T> {
        Last { value, zeros: 0 }
    }
}

impl<'a, T: Struct> From<&'a T> for Argument<'a> {
    fn from(value: &'a T) -> Self {
        Argument { word: 0, place: ptr::from_ref(value).cast(), lifetime: PhantomData }
    }
}

/// The arguments of a kernel.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => { &[$($crate::backend::cuda::argument::Argument::from($value)),*] };
}
pub(super) use arguments;

/// A stream of random numbers, as cuda/philox.cuh has it.
#[repr(C)]
pub struct Philox {
    seed: u64,
    purpose: u32,
    step: u32,
    tensor: Last<u32>,
}

// SAFETY: u64 seed; unsigned purpose, step, tensor.
unsafe impl Struct for Philox {}

impl From<Stream> for Philox {
    fn from(stream: Stream) -> Philox {
        let Stream { seed, purpose, step, tensor } = stream;
        Philox { seed, purpose: purpose as u32, step, tensor: tensor.into() }
    }
}
