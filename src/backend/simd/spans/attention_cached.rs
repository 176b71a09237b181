//! Attention of one query of each of the heads that share a KV head, on keys and values in 8 bits. A code becomes a float on the way
//! to the product: memory is what this waits for, and codes are a quarter of it.

use super::attention::{AHEAD, AttentionShape, copy_row, hide, softmax};
use super::panels::PANEL;
use super::vector::{load, prefetch_all, store, widen};
use wide::f32x8;

pub unsafe extern "C" fn attention_cached(
    shape: *const AttentionShape,
    q: *const f32,
    k: *const i8,
    k_scales: *const f32,
    v: *const i8,
    v_scales: *const f32,
    scale_stride: usize,
    o: *mut f32,
    scratch: *mut f32,
) {
    let shape = &{ *shape };
    let (query, scores) = (scratch, scratch.add(shape.padded_dim()));
    for head in 0..shape.heads {
        copy_row(q.add(head * shape.dim), shape.dim, shape.scale, query);
        scores_of_codes(query, k, k_scales, scale_stride, shape, scores);
        hide(scores, shape.keys, shape.keys, f32::NEG_INFINITY);
        let (_, [inverse]) = softmax::<1>(scores, 0, shape.keys.next_multiple_of(PANEL));
        for key in 0..shape.keys {
            *scores.add(key) *= inverse * *v_scales.add(key * scale_stride);
        }
        let o = o.add(head * shape.dim);
        let mut column = 0;
        while column < shape.dim {
            let rest = shape.dim - column;
            let (v, o) = (v.add(column), o.add(column));
            if rest >= 64 {
                outputs::<8>(scores, v, shape, o);
                column += 64;
            } else if rest >= 32 {
                outputs::<4>(scores, v, shape, o);
                column += 32;
            } else if rest >= 8 {
                outputs::<1>(scores, v, shape, o);
                column += 8;
            } else {
                for i in 0..rest {
                    let mut sum = 0.0;
                    for key in 0..shape.keys {
                        sum += *scores.add(key) * f32::from(*v.add(key * shape.key_stride + i));
                    }
                    *o.add(i) = sum;
                }
                column += rest;
            }
        }
    }
}

/// Eight products at a time: eight vectors of partial sums, folded by a transposition.
#[inline(always)]
unsafe fn scores_of_codes(
    query: *const f32,
    k: *const i8,
    scales: *const f32,
    scale_stride: usize,
    shape: &AttentionShape,
    to: *mut f32,
) {
    let (stride, whole) = (shape.key_stride, shape.dim - shape.dim % 8);
    let mut key = 0;
    while key < shape.keys {
        // Past the last key, that one again: `hide` overwrites the score.
        let of = |i: usize| if key + i < shape.keys { key + i } else { shape.keys - 1 };
        let rows: [*const i8; 8] = core::array::from_fn(|i| k.wrapping_add(of(i) * stride));
        let mut sums = [f32x8::ZERO; 8];
        for i in 0..8 {
            prefetch_all(k.wrapping_add((key + AHEAD + i) * stride), shape.dim);
        }
        let mut column = 0;
        while column < whole {
            let q = load(query.add(column));
            for i in 0..8 {
                sums[i] = widen(rows[i].add(column)).mul_add(q, sums[i]);
            }
            column += 8;
        }
        let [a, b, c, d, e, f, g, h] = f32x8::transpose(sums);
        let mut sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
        while column < shape.dim {
            let codes = f32x8::new(core::array::from_fn(|i| f32::from(*rows[i].add(column))));
            sum = codes.mul_add(f32x8::splat(*query.add(column)), sum);
            column += 1;
        }
        let scales = f32x8::new(core::array::from_fn(|i| *scales.add(of(i) * scale_stride)));
        store(to.add(key), sum * scales);
        key += 8;
    }
}

/// N vectors of columns of o = the sum of weights[key] * v[key].
#[inline(always)]
unsafe fn outputs<const N: usize>(weights: *const f32, v: *const i8, shape: &AttentionShape, o: *mut f32) {
    let mut sums = [f32x8::ZERO; N];
    for key in 0..shape.keys {
        let weight = f32x8::splat(*weights.add(key));
        let from = v.add(key * shape.key_stride);
        prefetch_all(v.wrapping_add((key + AHEAD) * shape.key_stride), 8 * N);
        for i in 0..N {
            sums[i] = widen(from.add(8 * i)).mul_add(weight, sums[i]);
        }
    }
    for i in 0..N {
        store(o.add(8 * i), sums[i]);
    }
}
