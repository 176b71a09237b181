//! Where it runs: four rows (scalar, simd, parallel, cuda), each one table of kernels with the same entries.
//!
//! | file | what |
//! |---|---|
//! | `table.rs` | [`Kernels`]: the contract of every operation |
//! | `dispatch.rs` | [`Context`]: which row, level and pool a call runs on |
//! | `launch.rs` | [`Launch`]: what a kernel is given besides its views |
//! | `pool.rs` | the thread pool, one per process id |
//! | `workspace.rs` | scratch memory for kernels, per thread |
//! | `scalar/` | the readable reference: the definition of every operation |
//! | `simd/` | the vector kernels, for one thread (`simd`) or all (`parallel`) |
//! | `benchmark/` | how fast each operation runs on each row, beside what the machine can do |
//!
//! An operation has the same file name in `scalar/`, `simd/`, `simd/spans/`, `benchmark/` and the parity tests.

pub mod benchmark;
mod dispatch;
mod launch;
#[cfg(test)]
mod parity;
mod pool;
mod scalar;
mod simd;
mod table;
mod workspace;

pub use dispatch::{Backend, Context, ContextOptions, Level};
pub use launch::Launch;
pub use table::AdamW;
