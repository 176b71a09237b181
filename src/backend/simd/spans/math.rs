//! Partial vectors, folds and the exponential: what the float spans share.

use super::vector::{load, store};
use wide::{f32x8, u32x8};

/// The first n < 8 elements, then `fill`. Not inlined: it stands at the end of every loop, and runs once.
#[inline(never)]
pub unsafe fn load_part(p: *const f32, n: usize, fill: f32) -> f32x8 {
    let mut lanes = [fill; 8];
    let to = lanes.as_mut_ptr();
    for i in 0..n {
        *to.add(i) = *p.add(i);
    }
    f32x8::new(lanes)
}

/// Stores the first n < 8 lanes.
#[inline(never)]
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

/// Calls `step(i, 8)` for each whole vector of 0 .. n, then `step(i, rest)` for what is left: two copies of the step, so
/// that the first has no test of the length in it.
#[inline(always)]
pub unsafe fn by_vectors(n: usize, mut step: impl FnMut(usize, usize)) {
    let mut i = 0;
    while i + 8 <= n {
        step(i, 8);
        i += 8;
    }
    if i < n {
        step(i, n - i);
    }
}

/// The larger of each lane; NaN lanes of `x` are passed over.
#[inline(always)]
pub fn max(x: f32x8, others: f32x8) -> f32x8 {
    // fast_max of x86 answers its second operand when either is NaN; that of others answers NaN, and their max the number.
    if cfg!(target_arch = "x86_64") { x.fast_max(others) } else { x.max(others) }
}

/// The smaller of each lane; NaN lanes of `x` are passed over.
#[inline(always)]
pub fn min(x: f32x8, others: f32x8) -> f32x8 {
    if cfg!(target_arch = "x86_64") { x.fast_min(others) } else { x.min(others) }
}

/// max(x, 0), where NaN stays NaN: a broken value must reach the loss, where it is noticed.
#[inline(always)]
pub fn relu(x: f32x8) -> f32x8 {
    f32x8::ZERO.fast_max(x)
}

/// The largest lane.
#[inline(always)]
pub fn max_lane(v: f32x8) -> f32 {
    // A tree, since a chain of eight would wait for each in turn.
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let [a, b, c, d, e, f, g, h] = v.to_array();
    larger(larger(larger(a, b), larger(c, d)), larger(larger(e, f), larger(g, h)))
}

/// Rounds to the nearest integer when added and leaves it in the low mantissa bits: 1.5 * 2^23.
const ROUNDER: f32 = 12_582_912.0;
/// 127 ln 2 is 88.03: from here on the power of two is made of the bits of zero.
const LEAST: f32 = -88.0;

/// exp(x) for x up to 88, within 2 units in the last place while the result is a normal number (x above -87.3), 0 below
/// -87.7, NaN for NaN. Larger x give nonsense: a softmax takes the largest out first.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, exp(r) by the minimax polynomial of Cephes' expf, times 2^n made from bits.
#[inline(always)]
pub fn exp(x: f32x8) -> f32x8 {
    // The second operand, x, is the answer where it is NaN.
    let x = f32x8::splat(LEAST).fast_max(x);
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
    p * power
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for step in 0..1_750_000 {
            let x = -87.3 + step as f32 * 1e-4;
            if x > 88.0 {
                continue;
            }
            let [found, ..] = exp(f32x8::splat(x)).to_array();
            let expected = f64::from(x).exp();
            let unit = 2f64.powi(expected.log2().floor() as i32 - 23);
            assert!((f64::from(found) - expected).abs() <= 2.0 * unit, "exp({x}): {found:e}, expected {expected:e}");
        }
    }

    #[test]
    fn exp_of_what_is_no_number_of_that_range() {
        let x = f32x8::new([0.0, f32::NEG_INFINITY, -88.0, -1e30, -87.5, f32::NAN, -f32::NAN, -0.0]);
        let [one, least, below, far, subnormal, nan, other_nan, negative_zero] = exp(x).to_array();
        assert_eq!([one, negative_zero], [1.0; 2]);
        assert_eq!([least, below, far].map(f32::to_bits), [0; 3]);
        assert!(subnormal < f32::MIN_POSITIVE);
        assert!(nan.is_nan() && other_nan.is_nan());
    }

    #[test]
    fn the_largest_lane_passes_over_nan() {
        for lane in 0..8 {
            let mut lanes = [-3.0; 8];
            lanes[lane] = -1.5;
            assert_eq!(max_lane(f32x8::new(lanes)), -1.5);
        }
        let [largest, ..] = max(f32x8::splat(f32::NAN), f32x8::splat(2.0)).to_array();
        assert_eq!(largest, 2.0);
        assert!(relu(f32x8::splat(f32::NAN)).to_array()[0].is_nan());
    }
}
