//! Attention of the query heads that share one KV head of one sequence.
//!
//! The products run on one tile of registers (see `panels`): four consecutive queries by sixteen keys (scores), or by
//! sixteen columns of a head (outputs). A block of eight queries keeps its scores against all keys in scratch memory; the
//! square of all scores is never formed. Its two tiles follow each other on each part of keys and values, which come from the
//! second-level cache: for one tile they would take as long to come as to be multiplied.

use super::math::{by_vectors, exp, load_up_to, max, max_lane, store_up_to};
use super::panels::{PANEL, ROWS, pack, pack_transposed, prefetch_rows, tile, unpack, zero};
use super::vector::{load, prefetch_all, store};
use core::ops::Range;
use wide::f32x8;

/// Queries of a block.
const BLOCK: usize = 2 * ROWS;
/// Keys, or values, that a single query asks for ahead of their turn.
pub const AHEAD: usize = 16;
/// Keys whose gradients are added to by both tiles while they are in the first-level cache: 4 KiB of a panel.
const KEYS: usize = 64;

/// One KV head and its query heads. Strides are those between consecutive positions, in elements; a query head begins
/// `dim` elements after the one before it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AttentionShape {
    pub queries: usize,
    /// At least `queries`: query i sees keys 0 ..= i + keys - queries.
    pub keys: usize,
    pub heads: usize,
    pub dim: usize,
    pub query_stride: usize,
    pub key_stride: usize,
    /// What multiplies q . k: 1 / sqrt(dim).
    pub scale: f32,
}

impl AttentionShape {
    pub const fn padded_keys(&self) -> usize {
        self.keys.next_multiple_of(PANEL)
    }

    pub const fn padded_dim(&self) -> usize {
        self.dim.next_multiple_of(PANEL)
    }

    /// Few queries (generation asks for one): packing the keys and values would cost more than it saves.
    const fn few(&self) -> bool {
        self.queries < ROWS
    }

    /// Elements of scratch memory that the forward pass needs.
    pub const fn scratch(&self) -> usize {
        let (keys, dim) = (self.padded_keys(), self.padded_dim());
        if self.few() { dim + keys } else { 2 * keys * dim + BLOCK * (keys + dim) }
    }

    /// Elements of scratch memory that the backward pass needs.
    pub const fn backward_scratch(&self) -> usize {
        let (keys, dim) = (self.padded_keys(), self.padded_dim());
        5 * keys * dim + 2 * BLOCK * (keys + dim)
    }

    /// How many keys query i sees.
    const fn visible(&self, i: usize) -> usize {
        i + 1 + self.keys - self.queries
    }
}

/// Hands out the scratch memory piece by piece.
struct Scratch(*mut f32);

impl Scratch {
    #[inline(always)]
    unsafe fn take(&mut self, count: usize) -> *mut f32 {
        let start = self.0;
        self.0 = start.add(count);
        start
    }
}

pub unsafe extern "C" fn attention(
    shape: *const AttentionShape,
    q: *const f32,
    k: *const f32,
    v: *const f32,
    o: *mut f32,
    log_sum: *mut f32,
    scratch: *mut f32,
) {
    // A copy: the compiler knows that nothing that is stored changes it.
    let shape = &{ *shape };
    if shape.few() {
        return attention_few(shape, q, k, v, o, log_sum, scratch);
    }
    let (keys, dim) = (shape.padded_keys(), shape.padded_dim());
    let mut scratch = Scratch(scratch);
    let keys_across = scratch.take(keys * dim);
    let values = scratch.take(keys * dim);
    let scores = scratch.take(BLOCK * keys);
    let block = scratch.take(BLOCK * dim);
    pack_transposed(k, shape, keys_across);
    pack(v, shape, values);
    for head in 0..shape.heads {
        let mut first = 0;
        while first < shape.queries {
            let rows = if shape.queries - first < BLOCK { shape.queries - first } else { BLOCK };
            let at = head * shape.dim + first * shape.query_stride;
            copy_block(q.add(at), shape, rows, shape.scale, block);
            let seen = shape.visible(first + rows - 1);
            scores_of_block(block, rows, keys_across, shape, seen, scores);
            for row in 0..rows {
                hide(scores.add(row * keys), shape.visible(first + row), seen, f32::NEG_INFINITY);
            }
            let mut inverse = [[0.0; ROWS]; BLOCK / ROWS];
            let to = log_sum.add(head * shape.queries + first);
            for (tile, inverse) in inverse.iter_mut().enumerate() {
                let start = tile * ROWS;
                if start < rows {
                    let (logarithms, inverses) =
                        softmax::<ROWS>(scores.add(start * keys), keys, seen.next_multiple_of(PANEL));
                    *inverse = inverses;
                    for (row, logarithm) in logarithms.into_iter().enumerate().take(rows - start) {
                        *to.add(start + row) = logarithm;
                    }
                }
            }
            let inverse = bytemuck::cast(inverse);
            outputs_of_block(scores, seen, values, shape, inverse, rows, o.add(at));
            first += BLOCK;
        }
    }
}

pub unsafe extern "C" fn attention_backward(
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
) {
    // A copy: the compiler knows that nothing that is stored changes it.
    let shape = &{ *shape };
    let (keys, dim) = (shape.padded_keys(), shape.padded_dim());
    let mut scratch = Scratch(scratch);
    let keys_across = scratch.take(keys * dim);
    let values_across = scratch.take(keys * dim);
    let keys_along = scratch.take(keys * dim);
    let to_keys = scratch.take(keys * dim);
    let to_values = scratch.take(keys * dim);
    let p = scratch.take(BLOCK * keys);
    let ds = scratch.take(BLOCK * keys);
    let q_block = scratch.take(BLOCK * dim);
    let d_block = scratch.take(BLOCK * dim);
    let next = |at: usize, count: usize| {
        for from in [q, d_o, o] {
            prefetch_rows(from.wrapping_add(at), shape.query_stride, count, shape.dim);
        }
    };
    next(0, BLOCK);
    pack_transposed(k, shape, keys_across);
    pack_transposed(v, shape, values_across);
    pack(k, shape, keys_along);
    zero(to_keys, keys * dim);
    zero(to_values, keys * dim);
    for head in 0..shape.heads {
        let mut first = 0;
        while first < shape.queries {
            let rows = if shape.queries - first < BLOCK { shape.queries - first } else { BLOCK };
            let at = head * shape.dim + first * shape.query_stride;
            copy_block(q.add(at), shape, rows, shape.scale, q_block);
            copy_block(d_o.add(at), shape, rows, 1.0, d_block);
            if first + BLOCK < shape.queries {
                next(at + BLOCK * shape.query_stride, BLOCK);
            } else {
                next((head + 1) * shape.dim, BLOCK);
            }
            let seen = shape.visible(first + rows - 1);
            let padded = seen.next_multiple_of(PANEL);
            scores_of_block(q_block, rows, keys_across, shape, seen, p);
            scores_of_block(d_block, rows, values_across, shape, seen, ds);
            for row in 0..rows.next_multiple_of(ROWS) {
                let (p, ds) = (p.add(row * keys), ds.add(row * keys));
                if row >= rows {
                    zero(p, padded);
                    zero(ds, padded);
                    continue;
                }
                let log_sum = *log_sum.add(head * shape.queries + first + row);
                let d = dot(d_block.add(row * dim), o.add(at + row * shape.query_stride), shape.dim);
                hide(p, shape.visible(first + row), seen, f32::NEG_INFINITY);
                hide(ds, shape.visible(first + row), seen, 0.0);
                softmax_gradient(p, ds, padded, log_sum, d);
            }
            // d o / d v = p; with s the scaled logits, d s / d k = q scale, which is what the block of q holds.
            add_outer(p, rows, seen, d_block, shape, to_values);
            add_outer(ds, rows, seen, q_block, shape, to_keys);
            outputs_of_block(ds, seen, keys_along, shape, [shape.scale; BLOCK], rows, dq.add(at));
            first += BLOCK;
        }
    }
    unpack(to_keys, shape, dk);
    unpack(to_values, shape, dv);
}

/// The products of the rows, rounded up to whole tiles, with keys 0 .. seen, rounded up to whole panels.
#[inline(never)]
unsafe fn scores_of_block(
    block: *const f32,
    rows: usize,
    across: *const f32,
    shape: &AttentionShape,
    seen: usize,
    to: *mut f32,
) {
    let (keys, dim) = (shape.padded_keys(), shape.padded_dim());
    let mut key = 0;
    while key < seen {
        let mut first = 0;
        while first < rows {
            let c = tile(block.add(first * dim), dim, across.add(key * shape.dim), shape.dim);
            for (row, c) in c.into_iter().enumerate() {
                let to = to.add((first + row) * keys + key);
                store(to, c[0]);
                store(to.add(8), c[1]);
            }
            first += ROWS;
        }
        key += PANEL;
    }
}

/// Per row: to[dim] = factor * sum over keys 0 .. seen of weight[key] * packed[key, dim].
#[inline(never)]
unsafe fn outputs_of_block(
    weights: *const f32,
    seen: usize,
    packed: *const f32,
    shape: &AttentionShape,
    factors: [f32; BLOCK],
    rows: usize,
    to: *mut f32,
) {
    let keys = shape.padded_keys();
    let mut column = 0;
    while column < shape.dim {
        let rest = shape.dim - column;
        let mut first = 0;
        while first < rows {
            let c = tile(weights.add(first * keys), keys, packed.add(column * keys), seen);
            for (row, c) in c.into_iter().enumerate().take(rows - first) {
                let row = first + row;
                let factor = f32x8::splat(factors[row & (BLOCK - 1)]);
                let to = to.add(row * shape.query_stride + column);
                store_up_to(to, c[0] * factor, rest);
                if rest > 8 {
                    store_up_to(to.add(8), c[1] * factor, rest - 8);
                }
            }
            first += ROWS;
        }
        column += PANEL;
    }
}

/// into[key, dim] += sum over the rows, rounded up to whole tiles, of weight[row, key] * block[row, dim], for keys 0 .. seen; `into`
/// is packed.
#[inline(never)]
unsafe fn add_outer(
    weights: *const f32,
    rows: usize,
    seen: usize,
    block: *const f32,
    shape: &AttentionShape,
    into: *mut f32,
) {
    let (keys, dim) = (shape.padded_keys(), shape.padded_dim());
    let mut column = 0;
    while column < dim {
        let into = into.add(column * keys);
        let mut start = 0;
        while start < seen {
            let end = if seen - start < KEYS { seen } else { start + KEYS };
            let mut first = 0;
            while first < rows {
                add_outer_of_tile(
                    weights.add(first * keys),
                    keys,
                    start..end,
                    block.add(first * dim + column),
                    dim,
                    into,
                );
                first += ROWS;
            }
            start += KEYS;
        }
        column += PANEL;
    }
}

/// The same of four rows and one panel.
#[inline(always)]
unsafe fn add_outer_of_tile(
    weights: *const f32,
    stride: usize,
    keys: Range<usize>,
    block: *const f32,
    block_stride: usize,
    into: *mut f32,
) {
    let mut b = [[f32x8::ZERO; 2]; ROWS];
    for (row, b) in b.iter_mut().enumerate() {
        let from = block.add(row * block_stride);
        *b = [load(from), load(from.add(8))];
    }
    for key in keys {
        let to = into.add(key * PANEL);
        let (mut front, mut back) = (load(to), load(to.add(8)));
        for (row, b) in b.iter().enumerate() {
            let weight = f32x8::splat(*weights.add(row * stride + key));
            front = weight.mul_add(b[0], front);
            back = weight.mul_add(b[1], back);
        }
        store(to, front);
        store(to.add(8), back);
    }
}

/// `rows` rows times `scale`, then rows of zeros up to four.
#[inline(never)]
unsafe fn copy_block(from: *const f32, shape: &AttentionShape, rows: usize, scale: f32, to: *mut f32) {
    let dim = shape.padded_dim();
    for row in 0..rows {
        copy_row(from.add(row * shape.query_stride), shape.dim, scale, to.add(row * dim));
    }
    zero(to.add(rows * dim), (BLOCK - rows) * dim);
}

/// One row times `scale`, with zeros up to the end of its last panel.
#[inline(always)]
pub unsafe fn copy_row(from: *const f32, dim: usize, scale: f32, to: *mut f32) {
    let scale = f32x8::splat(scale);
    if !dim.is_multiple_of(PANEL) {
        zero(to.add(dim - dim % PANEL), PANEL);
    }
    by_vectors(dim, |i, rest| store(to.add(i), load_up_to(from.add(i), rest) * scale));
}

/// The scores of a row that its query does not see, up to the end of the last panel that the block uses, become `value`.
#[inline(always)]
pub unsafe fn hide(scores: *mut f32, visible: usize, seen: usize, value: f32) {
    for key in visible..seen.next_multiple_of(PANEL) {
        *scores.add(key) = value;
    }
}

/// In place, the scores of N <= 8 rows become exp(score - largest). Returns for each row the logarithm of the sum of
/// exp(score), and the inverse of the sum of what was stored. `count` is a multiple of 16.
#[inline(always)]
pub unsafe fn softmax<const N: usize>(scores: *mut f32, stride: usize, count: usize) -> ([f32; N], [f32; N]) {
    let mut most = [f32x8::splat(f32::NEG_INFINITY); N];
    let mut i = 0;
    while i < count {
        for (row, most) in most.iter_mut().enumerate() {
            *most = max(load(scores.add(row * stride + i)), *most);
        }
        i += 8;
    }
    let largest = most.map(max_lane);
    let most = largest.map(f32x8::splat);
    let mut sums = [f32x8::ZERO; N];
    let mut i = 0;
    while i < count {
        for (row, (sum, most)) in sums.iter_mut().zip(most).enumerate() {
            let at = scores.add(row * stride + i);
            let p = exp(load(at) - most);
            store(at, p);
            *sum += p;
        }
        i += 8;
    }
    // The rows of a block share one logarithm and one division.
    let mut lanes = [1.0; 8];
    for (lane, sum) in lanes.iter_mut().zip(sums) {
        *lane = sum.reduce_add();
    }
    let sums = f32x8::new(lanes);
    let (ln, inverse) = (sums.ln().to_array(), (f32x8::ONE / sums).to_array());
    let (mut logarithms, mut inverses) = ([0.0; N], [0.0; N]);
    for (((to, inverted), largest), (ln, inverse)) in
        logarithms.iter_mut().zip(&mut inverses).zip(largest).zip(ln.into_iter().zip(inverse))
    {
        (*to, *inverted) = (largest + ln, inverse);
    }
    (logarithms, inverses)
}

/// In place: p = exp(score - log_sum), and the gradient of p becomes that of the scores, p * (dp - d), where
/// d = sum(p dp) = do . o.
#[inline(always)]
unsafe fn softmax_gradient(p: *mut f32, dp: *mut f32, count: usize, log_sum: f32, d: f32) {
    let (log_sum, d) = (f32x8::splat(log_sum), f32x8::splat(d));
    let mut i = 0;
    while i < count {
        let probability = exp(load(p.add(i)) - log_sum);
        store(p.add(i), probability);
        store(dp.add(i), probability * (load(dp.add(i)) - d));
        i += 8;
    }
}

#[inline(always)]
unsafe fn dot(a: *const f32, b: *const f32, n: usize) -> f32 {
    let mut sum = f32x8::ZERO;
    by_vectors(n, |i, rest| sum = load_up_to(a.add(i), rest).mul_add(load_up_to(b.add(i), rest), sum));
    sum.reduce_add()
}

/// One query at a time, straight from the keys and values.
#[inline(always)]
unsafe fn attention_few(
    shape: &AttentionShape,
    q: *const f32,
    k: *const f32,
    v: *const f32,
    o: *mut f32,
    log_sum: *mut f32,
    scratch: *mut f32,
) {
    let query = scratch;
    let scores = scratch.add(shape.padded_dim());
    for head in 0..shape.heads {
        for i in 0..shape.queries {
            let at = head * shape.dim + i * shape.query_stride;
            let seen = shape.visible(i);
            copy_row(q.add(at), shape.dim, shape.scale, query);
            scores_of_one(query, k, shape, seen, scores);
            hide(scores, seen, seen, f32::NEG_INFINITY);
            let ([logarithm], [inverse]) = softmax::<1>(scores, 0, seen.next_multiple_of(PANEL));
            *log_sum.add(head * shape.queries + i) = logarithm;
            output_of_one(scores, seen, v, shape, inverse, o.add(at));
        }
    }
}

/// Eight products at a time: eight vectors of partial sums, folded by a transposition.
#[inline(always)]
unsafe fn scores_of_one(query: *const f32, k: *const f32, shape: &AttentionShape, seen: usize, to: *mut f32) {
    let stride = shape.key_stride;
    let mut key = 0;
    while key < seen {
        prefetch_rows(k.wrapping_add((key + AHEAD) * stride), stride, 8, shape.dim);
        // Past the last key, that one again: `hide` overwrites the score.
        let rows: [*const f32; 8] =
            core::array::from_fn(|i| k.wrapping_add(if key + i < seen { key + i } else { seen - 1 } * stride));
        let mut sums = [f32x8::ZERO; 8];
        by_vectors(shape.dim, |column, rest| {
            let q = load(query.add(column));
            for i in 0..8 {
                sums[i] = load_up_to(rows[i].add(column), rest).mul_add(q, sums[i]);
            }
        });
        let [a, b, c, d, e, f, g, h] = f32x8::transpose(sums);
        store(to.add(key), ((a + b) + (c + d)) + ((e + f) + (g + h)));
        key += 8;
    }
}

#[inline(always)]
unsafe fn output_of_one(
    weights: *const f32,
    seen: usize,
    v: *const f32,
    shape: &AttentionShape,
    factor: f32,
    to: *mut f32,
) {
    let factor = f32x8::splat(factor);
    let mut column = 0;
    while column + 32 <= shape.dim {
        let mut sums = [f32x8::ZERO; 4];
        for key in 0..seen {
            let weight = f32x8::splat(*weights.add(key));
            if column == 0 {
                prefetch_all(v.wrapping_add((key + AHEAD) * shape.key_stride), shape.dim);
            }
            let from = v.add(key * shape.key_stride + column);
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = load(from.add(8 * i)).mul_add(weight, *sum);
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            store(to.add(column + 8 * i), sum * factor);
        }
        column += 32;
    }
    while column < shape.dim {
        let rest = shape.dim - column;
        let mut sum = f32x8::ZERO;
        for key in 0..seen {
            let weight = f32x8::splat(*weights.add(key));
            sum = load_up_to(v.add(key * shape.key_stride + column), rest).mul_add(weight, sum);
        }
        store_up_to(to.add(column), sum * factor, rest);
        column += 8;
    }
}
