//! Where it runs: four rows (scalar, simd, parallel, cuda), each one table of kernels with the same entries.
//!
//! | file | what |
//! |---|---|
//! | `table.rs` | [`Kernels`]: the contract of every operation |
//! | `operations.rs` | what is made from the table's lines: names, and the way through the dispatcher |
//! | `dispatch.rs` | [`Context`]: which row, level and pool a call runs on, and why |
//! | `launch.rs` | [`Launch`]: what a kernel is given besides its views |
//! | `stop.rs` | giving up in the middle of an operation |
//! | `pool.rs`, `team.rs`, `crew.rs` | the thread pool, one per process id; a region of many calls; the threads that help in them |
//! | `projection.rs` | points in a few dimensions, which spare the search for the nearest centroid most of its work |
//! | `tolerance.rs` | how far the rows may differ |
//! | `workspace.rs` | scratch memory for kernels, per thread |
//! | `scalar/` | the readable reference: the definition of every operation |
//! | `simd/` | the vector kernels, for one thread (`simd`) or all (`parallel`) |
//! | `cuda/` | an NVIDIA GPU: driver, memory, and the launches of the kernels |
//! | `benchmark/` | how fast each operation runs on each row, beside what the machine can do |
//!
//! An operation has the same file name in `scalar/`, `simd/`, `simd/spans/`, `benchmark/` and the parity tests.

pub mod benchmark;
pub mod codes;
mod crew;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod cuda;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "cuda/elsewhere.rs"]
pub mod cuda;
mod dispatch;
mod launch;
mod operations;
#[cfg(test)]
mod parity;
mod pool;
pub mod projection;
mod scalar;
mod simd;
pub mod stop;
mod table;
mod team;
mod tolerance;
mod workspace;

pub use dispatch::{Backend, Context, ContextOptions, Level, Multiplies};
pub use launch::Launch;
pub use scalar::activation::LEAST_ABSMAX;
pub use scalar::integer_gradient::TOKENS;
pub use scalar::kmeans_closest::in_order as nearest_first;
pub use scalar::step::{CODES, FLIP_BINS, SUMS as STEP_SUMS, sums_scratch};
pub use table::{Direction, Operation, StepRule};
pub use workspace::{release_large, with_scratch};
