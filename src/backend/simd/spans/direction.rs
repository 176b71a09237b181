//! The canonical sum of squares (see `reduce.rs`) of AdamW's direction, made on the way.

use super::reduce::{BLOCK, LANES, fold_lanes};
use super::vector::load;
use wide::f32x8;

/// The scalars of a direction: m * inverse1 / (sqrt(v * inverse2) + epsilon).
#[repr(C)]
pub struct DirectionFactors {
    /// 1 / correction1 and 1 / correction2.
    pub inverse1: f32,
    pub inverse2: f32,
    pub epsilon: f32,
}

pub unsafe extern "C" fn direction_squares(
    factors: *const DirectionFactors,
    m: *const f32,
    v: *const f32,
    n: usize,
    sums: *mut f32,
) {
    let DirectionFactors { inverse1, inverse2, epsilon } = &*factors;
    let (inverse1, inverse2) = (f32x8::splat(*inverse1), f32x8::splat(*inverse2));
    let epsilon = f32x8::splat(*epsilon);
    let square = |m: f32x8, v: f32x8| {
        let d = m * inverse1 / ((v * inverse2).sqrt() + epsilon);
        d * d
    };
    let mut start = 0;
    let mut block = 0;
    while start < n {
        let len = if n - start < BLOCK { n - start } else { BLOCK };
        *sums.add(block) = block_sum(m.add(start), v.add(start), len, square);
        start += BLOCK;
        block += 1;
    }
}

#[inline(always)]
unsafe fn block_sum(m: *const f32, v: *const f32, len: usize, square: impl Fn(f32x8, f32x8) -> f32x8) -> f32 {
    let mut lanes = [f32x8::ZERO; 4];
    let mut i = 0;
    while i + LANES <= len {
        for j in 0..4 {
            lanes[j] += square(load(m.add(i + 8 * j)), load(v.add(i + 8 * j)));
        }
        i += LANES;
    }
    if i < len {
        // A direction of zeros is zero: padding adds +0, which changes no bit.
        let (mut rest_m, mut rest_v) = ([0f32; LANES], [0f32; LANES]);
        core::ptr::copy_nonoverlapping(m.add(i), rest_m.as_mut_ptr(), len - i);
        core::ptr::copy_nonoverlapping(v.add(i), rest_v.as_mut_ptr(), len - i);
        for j in 0..4 {
            lanes[j] += square(load(rest_m.as_ptr().add(8 * j)), load(rest_v.as_ptr().add(8 * j)));
        }
    }
    fold_lanes(lanes)
}
