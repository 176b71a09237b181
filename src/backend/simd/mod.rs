//! The vector kernels. Each file here is a driver: it checks what memory safety stands on, cuts the work into chunks whose
//! size is a function of shape only, and calls [`Spans`] on raw pointers. With `Executor::Serial` this is the `simd` row,
//! with a pool it is `parallel`: same chunks, same order of every sum, same bits.

mod chunks;
mod level;
mod spans;

pub use level::Level;
pub use spans::Spans;

use super::scalar;
use super::table::Kernels;

pub const KERNELS: Kernels = Kernels { ..scalar::KERNELS };
