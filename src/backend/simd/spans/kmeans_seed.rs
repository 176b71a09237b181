//! What candidates for seeds would make of the distances of rows.

use super::kmeans_update::add_squares;
use super::reduce::{BLOCK, fold};
use wide::f32x8;

/// Rows that follow each other, and candidates.
#[repr(C)]
pub struct KMeansSeed {
    /// [rows, d]
    pub x: *const f32,
    pub rows: usize,
    pub d: usize,
    /// [m, d]
    pub candidates: *const f32,
    pub m: usize,
    /// [rows], or null for 1.
    pub weights: *const f32,
    /// [rows]: the distances that the rows have.
    pub least: *const f32,
    /// [rows], or null; and [m, seeds]: a row whose `least` is not above that of its label is not looked at.
    pub labels: *const u32,
    pub limits: *const f32,
    pub seeds: usize,
    /// [rows, width], or null; and [rows]: a row whose bound is not below its ceiling is not looked at.
    pub bounds: *const f32,
    pub width: usize,
    pub ceilings: *const f32,
    /// [m, rows], `stride` apart: the lesser of `least` and the distance from the candidate.
    pub lower: *mut f32,
    pub stride: usize,
    /// [m]: to each is added what the candidate takes off the distances, by weight.
    pub gains: *mut f64,
}

/// Rows that are sorted out together.
const TOGETHER: usize = 1024;

pub unsafe extern "C" fn kmeans_seed(seed: *const KMeansSeed) {
    let seed = &*seed;
    let mut start = 0;
    while start < seed.rows {
        let end = if seed.rows - start < TOGETHER { seed.rows } else { start + TOGETHER };
        for c in 0..seed.m {
            compare(seed, c, start, end);
        }
        start = end;
    }
}

/// Rows from `start` to `end` and one candidate: first those that have to be looked at are told from the others, without a jump, then
/// they are.
#[inline(always)]
unsafe fn compare(seed: &KMeansSeed, c: usize, start: usize, end: usize) {
    let limits = seed.limits.wrapping_add(c * seed.seeds);
    let (candidate, lower) = (seed.candidates.add(c * seed.d), seed.lower.add(c * seed.stride));
    let mut open = [0u32; TOGETHER];
    let mut count = 0;
    for row in start..end {
        let least = *seed.least.add(row);
        *lower.add(row) = least;
        let mut near = true;
        if !seed.labels.is_null() {
            near = least > *limits.add(*seed.labels.add(row) as usize);
        }
        if !seed.bounds.is_null() {
            let bound = *seed.bounds.add(row * seed.width + c);
            near &= (bound < *seed.ceilings.add(row)) | bound.is_nan();
        }
        *open.as_mut_ptr().add(count) = row as u32;
        count += usize::from(near);
    }
    let mut gain = *seed.gains.add(c);
    for i in 0..count {
        let row = *open.as_ptr().add(i) as usize;
        let least = *seed.least.add(row);
        let distance = distance_below(seed.x.add(row * seed.d), candidate, seed.d, least);
        if distance < least {
            *lower.add(row) = distance;
            let weight = if seed.weights.is_null() { 1.0 } else { f64::from(*seed.weights.add(row)) };
            gain += weight * (f64::from(least) - f64::from(distance));
        }
    }
    *seed.gains.add(c) = gain;
}

/// As `kmeans_distances`, in parts: what has been added up so far is no more than what there is in the end, as sums of numbers that
/// are not negative grow, rounded or not. Where it has reached the limit, the rest is not looked at.
#[inline(always)]
unsafe fn distance_below(x: *const f32, c: *const f32, d: usize, limit: f32) -> f32 {
    /// Numbers between two looks at the limit: a part of a block.
    const PART: usize = 256;
    let mut total = 0f64;
    let mut start = 0;
    if d <= PART {
        let mut lanes = [f32x8::ZERO; 4];
        add_squares(x, c, 0, d, &mut lanes);
        return fold(lanes);
    }
    while start < d {
        let end = if d - start < BLOCK { d } else { start + BLOCK };
        let mut lanes = [f32x8::ZERO; 4];
        let mut at = start;
        while at < end {
            let next = if end - at < PART { end } else { at + PART };
            add_squares(x, c, at, next, &mut lanes);
            at = next;
            if at < d && (total + f64::from(fold(lanes))) as f32 >= limit {
                return limit;
            }
        }
        total += f64::from(fold(lanes));
        start = end;
    }
    total as f32
}
