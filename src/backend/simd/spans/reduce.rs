//! Canonical sums (see `sum_squares` in `table.rs`) and the search for NaN and infinity.

use super::math::load_up_to;
use super::vector::load;
use wide::f32x8;

/// Elements of a canonical block.
pub const BLOCK: usize = 4096;
/// f32 accumulators of a block, as four vectors.
pub const LANES: usize = 32;

pub unsafe extern "C" fn absolute_sums(x: *const f32, n: usize, sums: *mut f32) {
    block_sums(x, n, sums, |v| v.abs());
}

pub unsafe extern "C" fn square_sums(x: *const f32, n: usize, sums: *mut f32) {
    block_sums(x, n, sums, |v| v * v);
}

#[inline(always)]
unsafe fn block_sums(x: *const f32, n: usize, sums: *mut f32, term: impl Fn(f32x8) -> f32x8) {
    let mut start = 0;
    let mut block = 0;
    while start < n {
        let len = if n - start < BLOCK { n - start } else { BLOCK };
        *sums.add(block) = block_sum(x.add(start), len, &term);
        start += BLOCK;
        block += 1;
    }
}

/// The sum of one block, of at most 4096; zeros pad it.
#[inline(always)]
pub unsafe fn block_sum(x: *const f32, len: usize, term: impl FnMut(f32x8) -> f32x8) -> f32 {
    let [a, b, c, d, e, f, g, h] = block_lanes(x, len, term).to_array();
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The sums of eight blocks of `len` each, at most 4096, that follow each other.
#[inline(always)]
pub unsafe fn eight_block_sums(x: *const f32, len: usize, mut term: impl FnMut(usize, f32x8) -> f32x8) -> f32x8 {
    let lanes = [0, 1, 2, 3, 4, 5, 6, 7].map(|block| block_lanes(x.add(block * len), len, |v| term(block, v)));
    let [a, b, c, d, e, f, g, h] = f32x8::transpose(lanes);
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The lanes of a block, folded down to eight.
#[inline(always)]
unsafe fn block_lanes(x: *const f32, len: usize, mut term: impl FnMut(f32x8) -> f32x8) -> f32x8 {
    let mut lanes = [f32x8::ZERO; 4];
    let mut i = 0;
    while i + LANES <= len {
        for j in 0..4 {
            lanes[j] += term(load(x.add(i + 8 * j)));
        }
        i += LANES;
    }
    if i < len {
        // Padding adds +0 to a lane that holds +0 or more: no bit changes.
        for j in 0..4 {
            let at = i + 8 * j;
            if at < len {
                lanes[j] += term(load_up_to(x.add(at), len - at));
            }
        }
    }
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}

/// The sum of a block: its lanes fold 16, 8, 4, 2, 1.
#[inline(always)]
pub fn fold(lanes: [f32x8; 4]) -> f32 {
    let eight = ((lanes[0] + lanes[2]) + (lanes[1] + lanes[3])).to_array();
    let four = [eight[0] + eight[4], eight[1] + eight[5], eight[2] + eight[6], eight[3] + eight[7]];
    (four[0] + four[2]) + (four[1] + four[3])
}

pub unsafe extern "C" fn first_non_finite(x: *const f32, n: usize) -> usize {
    let infinity = f32x8::splat(f32::INFINITY);
    let mut i = 0;
    while i + LANES <= n {
        let finite = |j: usize| load(x.add(i + 8 * j)).abs().simd_lt(infinity);
        if !((finite(0) & finite(1)) & (finite(2) & finite(3))).all() {
            break;
        }
        i += LANES;
    }
    while i < n && (*x.add(i)).is_finite() {
        i += 1;
    }
    i
}
