//! Spans: the innermost loops, on raw pointers and lengths. Infallible, without allocation, threads or panics.
//!
//! These files import only `core`, `wide`, `bytemuck` and each other, because they are compiled several times: as this
//! module for the baseline CPU level, and by build.rs as one archive per higher level (`archive.rs`).

// Every function here is unsafe for the same reason: pointers must be valid for the stated lengths.
#![allow(unsafe_op_in_unsafe_fn, clippy::missing_safety_doc, clippy::too_many_arguments)]

mod adamw;
mod attention;
mod cross_entropy;
mod elementwise;
mod embedding;
mod feed_forward;
mod math;
mod norm;
mod rope;
mod vector;

pub use adamw::AdamWFactors;
pub use attention::AttentionShape;
pub use elementwise::PhiloxStream;

/// One entry per inner loop. All entries: unsafe, because pointers must be valid for the lengths that the entry states, and
/// outputs must not overlap inputs unless it says so.
#[repr(C)]
pub struct Spans {
    // --- elementwise ---------------------------------------------------------------------------------------------
    /// y[n] = value.
    pub fill: unsafe extern "C" fn(value: f32, y: *mut f32, n: usize),
    /// y[n] += x[n].
    pub add: unsafe extern "C" fn(x: *const f32, y: *mut f32, n: usize),
    /// In place: x[i] = x[i] * scale if its 24 top random bits are at least `threshold`, else 0; element 0 is the first of
    /// `block`, a multiple of 8, of the stream.
    pub dropout: unsafe extern "C" fn(
        stream: *const PhiloxStream,
        block: u64,
        threshold: u32,
        scale: f32,
        x: *mut f32,
        n: usize,
    ),
    // --- embedding -----------------------------------------------------------------------------------------------
    /// A block of columns: dtable[tokens[i], 0..columns] += dy[i, 0..columns] for i in 0..count in order; rows of both lie
    /// `width` apart.
    pub embedding_backward: unsafe extern "C" fn(
        tokens: *const u32,
        count: usize,
        dy: *const f32,
        width: usize,
        columns: usize,
        dtable: *mut f32,
    ),
    // --- normalisation -------------------------------------------------------------------------------------------
    /// x[rows, width] to y[rows, width] and inverse_rms[rows].
    pub rms_norm: unsafe extern "C" fn(
        x: *const f32,
        gain: *const f32,
        epsilon: f32,
        rows: usize,
        width: usize,
        y: *mut f32,
        inverse_rms: *mut f32,
    ),
    /// dx[rows, width], written or added to; dgain[width] is added to, rows in order.
    pub rms_norm_backward: unsafe extern "C" fn(
        x: *const f32,
        gain: *const f32,
        inverse_rms: *const f32,
        dy: *const f32,
        accumulate: bool,
        rows: usize,
        width: usize,
        dx: *mut f32,
        dgain: *mut f32,
    ),
    // --- attention -----------------------------------------------------------------------------------------------
    /// In place, x[rows, heads, 2, half]: row r stands at position (first + r) mod positions of cosine and
    /// sine[positions, half]; sign multiplies the sine; first < positions.
    pub rope: unsafe extern "C" fn(
        cosine: *const f32,
        sine: *const f32,
        sign: f32,
        first: usize,
        rows: usize,
        positions: usize,
        heads: usize,
        half: usize,
        x: *mut f32,
    ),
    /// The query heads of one KV head; scratch[shape.scratch()].
    pub attention: unsafe extern "C" fn(
        shape: *const AttentionShape,
        q: *const f32,
        k: *const f32,
        v: *const f32,
        o: *mut f32,
        log_sum: *mut f32,
        scratch: *mut f32,
    ),
    /// The same; scratch[shape.backward_scratch()].
    pub attention_backward: unsafe extern "C" fn(
        shape: *const AttentionShape,
        q: *const f32,
        k: *const f32,
        v: *const f32,
        o: *const f32,
        log_sum: *const f32,
        d_o: *const f32,
        dq: *mut f32,
        dk: *mut f32,
        dv: *mut f32,
        scratch: *mut f32,
    ),
    // --- feed-forward --------------------------------------------------------------------------------------------
    pub squared_relu: unsafe extern "C" fn(x: *const f32, y: *mut f32, n: usize),
    pub squared_relu_backward: unsafe extern "C" fn(x: *const f32, dy: *const f32, dx: *mut f32, n: usize),
    pub gated_squared_relu: unsafe extern "C" fn(gate: *const f32, up: *const f32, y: *mut f32, n: usize),
    pub gated_squared_relu_backward: unsafe extern "C" fn(
        gate: *const f32,
        up: *const f32,
        dy: *const f32,
        dgate: *mut f32,
        dup: *mut f32,
        n: usize,
    ),
    // --- loss ----------------------------------------------------------------------------------------------------
    /// losses[rows] of logits[rows, width]; targets below width.
    pub cross_entropy:
        unsafe extern "C" fn(logits: *const f32, targets: *const u32, rows: usize, width: usize, losses: *mut f32),
    /// In place: logits become factor * (softmax - one_hot); losses are those before.
    pub cross_entropy_gradient: unsafe extern "C" fn(
        targets: *const u32,
        factor: f32,
        rows: usize,
        width: usize,
        logits: *mut f32,
        losses: *mut f32,
    ),
    // --- optimizer -----------------------------------------------------------------------------------------------
    pub adamw: unsafe extern "C" fn(
        factors: *const AdamWFactors,
        gradient: *const f32,
        parameter: *mut f32,
        m: *mut f32,
        v: *mut f32,
        n: usize,
    ),
}

pub static SPANS: Spans = Spans {
    fill: elementwise::fill,
    add: elementwise::add,
    dropout: elementwise::dropout,
    embedding_backward: embedding::embedding_backward,
    rms_norm: norm::rms_norm,
    rms_norm_backward: norm::rms_norm_backward,
    rope: rope::rope,
    attention: attention::attention,
    attention_backward: attention::attention_backward,
    squared_relu: feed_forward::squared_relu,
    squared_relu_backward: feed_forward::squared_relu_backward,
    gated_squared_relu: feed_forward::gated_squared_relu,
    gated_squared_relu_backward: feed_forward::gated_squared_relu_backward,
    cross_entropy: cross_entropy::cross_entropy,
    cross_entropy_gradient: cross_entropy::cross_entropy_gradient,
    adamw: adamw::adamw,
};
