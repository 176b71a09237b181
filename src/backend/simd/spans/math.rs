//! Partial vectors, folds and the exponential: what the float spans share.

use super::vector::{load, store};
use wide::{f32x8, u32x8};

/// The first n < 8 elements, then `fill`.
#[inline(always)]
pub unsafe fn load_part(p: *const f32, n: usize, fill: f32) -> f32x8 {
    let mut lanes = [fill; 8];
    let to = lanes.as_mut_ptr();
    for i in 0..n {
        *to.add(i) = *p.add(i);
    }
    f32x8::new(lanes)
}

/// Stores the first n < 8 lanes.
#[inline(always)]
pub unsafe fn store_part(p: *mut f32, v: f32x8, n: usize) {
    let lanes = v.to_array();
    let from = lanes.as_ptr();
    for i in 0..n {
        *p.add(i) = *from.add(i);
    }
}

/// Up to 8 elements: whole where there are so many, otherwise with zeros after them.
#[inline(always)]
pub unsafe fn load_up_to(p: *const f32, n: usize) -> f32x8 {
    if n >= 8 { load(p) } else { load_part(p, n, 0.0) }
}

#[inline(always)]
pub unsafe fn store_up_to(p: *mut f32, v: f32x8, n: usize) {
    if n >= 8 { store(p, v) } else { store_part(p, v, n) }
}

/// The larger of each lane; NaN lanes of `x` are passed over.
#[inline(always)]
pub fn max(x: f32x8, others: f32x8) -> f32x8 {
    // fast_max answers its second operand when either is NaN.
    x.fast_max(others)
}

/// max(x, 0), where NaN stays NaN: a broken value must reach the loss, where it is noticed.
#[inline(always)]
pub fn relu(x: f32x8) -> f32x8 {
    f32x8::ZERO.fast_max(x)
}

/// The largest lane.
#[inline(always)]
pub fn max_lane(v: f32x8) -> f32 {
    let lanes = v.to_array();
    lanes.iter().fold(f32::NEG_INFINITY, |most, &lane| if lane > most { lane } else { most })
}

/// Rounds to the nearest integer when added and leaves it in the low mantissa bits: 1.5 * 2^23.
const ROUNDER: f32 = 12_582_912.0;
/// Below it the exponential is 0: 2^-126, the least normal number, is exp(-87.34).
const LEAST: f32 = -87.0;
/// Above it the exponential stays what it is there, 2.2e38.
const MOST: f32 = 88.3;

/// exp(x) within 2 units in the last place, 0 for x below -87, NaN for NaN. Meant for x <= 0: it saturates above 88.3.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, exp(r) by the minimax polynomial of Cephes' expf, times 2^n made from bits.
#[inline(always)]
pub fn exp(x: f32x8) -> f32x8 {
    let vanishes = x.simd_lt(f32x8::splat(LEAST));
    // The second operand, x, is the answer where it is NaN.
    let x = f32x8::splat(MOST).fast_min(x);
    let rounder = f32x8::splat(ROUNDER);
    let shifted = x.mul_add(f32x8::splat(core::f32::consts::LOG2_E), rounder);
    let n = shifted - rounder;
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    let r = n.mul_neg_add(f32x8::splat(0.693_359_4), x);
    let r = n.mul_neg_add(f32x8::splat(-2.121_944_4e-4), r);
    let p = f32x8::splat(1.987_569_1e-4);
    let p = p.mul_add(r, f32x8::splat(1.398_199_9e-3));
    let p = p.mul_add(r, f32x8::splat(8.333_452e-3));
    let p = p.mul_add(r, f32x8::splat(4.166_579_6e-2));
    let p = p.mul_add(r, f32x8::splat(1.666_666_6e-1));
    let p = p.mul_add(r, f32x8::splat(0.5));
    let p = p.mul_add(r * r, r + f32x8::ONE);
    // The integer n stands in the low bits of `shifted`; everything above bit 8 is shifted out.
    let exponent: u32x8 = bytemuck::cast::<f32x8, u32x8>(shifted) << 23u32;
    let power: f32x8 = bytemuck::cast(exponent + u32x8::splat(127 << 23));
    vanishes.select(f32x8::ZERO, p * power)
}

/// y[i] = f(x[i]).
#[inline(always)]
pub unsafe fn map(x: *const f32, y: *mut f32, n: usize, f: impl Fn(f32x8) -> f32x8) {
    let mut i = 0;
    while i + 8 <= n {
        store(y.add(i), f(load(x.add(i))));
        i += 8;
    }
    if i < n {
        store_part(y.add(i), f(load_part(x.add(i), n - i, 0.0)), n - i);
    }
}

/// y[i] = f(a[i], b[i]).
#[inline(always)]
pub unsafe fn map_two(a: *const f32, b: *const f32, y: *mut f32, n: usize, f: impl Fn(f32x8, f32x8) -> f32x8) {
    let mut i = 0;
    while i + 8 <= n {
        store(y.add(i), f(load(a.add(i)), load(b.add(i))));
        i += 8;
    }
    if i < n {
        let rest = n - i;
        store_part(y.add(i), f(load_part(a.add(i), rest, 0.0), load_part(b.add(i), rest, 0.0)), rest);
    }
}
