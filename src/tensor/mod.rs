//! The common ground: element types, shapes, owned tensors, borrowed views, errors and random numbers.

mod cancel;
mod dtype;
pub mod error;
pub mod log;
mod memory;
mod order;
mod packing;
pub mod random;
mod shape;
mod storage;
mod stores;
mod view;

pub use cancel::{Cancelled, never};
pub use dtype::{DType, Element, Float};
pub use error::{Error, ErrorKind, Result};
pub use memory::{ALIGNMENT, Buffer, reserve, vec_zeroed};
pub use order::sort_few;
pub use packing::{MaskSign, Packing};
pub use shape::Shape;
pub use storage::{Device, DeviceMemory, Tensor};
pub use stores::Stores;
pub use view::{View, ViewMut};
