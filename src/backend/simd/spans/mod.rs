//! Spans: the innermost loops, on raw pointers and lengths. Infallible, without allocation, threads or panics.
//!
//! These files import only `core`, `wide`, `bytemuck` and each other, because they are compiled several times: as this
//! module for the baseline CPU level, and by build.rs as one archive per higher level (`archive.rs`).

// Every function here is unsafe for the same reason: pointers must be valid for the stated lengths.
#![allow(unsafe_op_in_unsafe_fn, clippy::missing_safety_doc, clippy::too_many_arguments)]

mod elementwise;
mod vector;

/// One entry per inner loop. All entries: unsafe, because pointers must be valid for the lengths that the entry states, and
/// outputs must not overlap inputs unless it says so.
#[repr(C)]
pub struct Spans {
    /// y[n] += x[n].
    pub add: unsafe extern "C" fn(x: *const f32, y: *mut f32, n: usize),
}

pub static SPANS: Spans = Spans { add: elementwise::add };
