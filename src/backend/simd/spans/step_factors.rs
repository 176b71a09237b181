//! Mean squares of rows and columns: see `step_factors` in `scalar/step.rs`.

use super::math::{load_up_to, store_up_to};
use super::reduce::{BLOCK, LANES, fold};
use super::vector::load;
use wide::f32x8;

/// The canonical sum of (g[n] * scale)^2 of a row, each added to lanes[n] too.
pub unsafe extern "C" fn step_factor_row(g: *const f32, n: usize, scale: f32, lanes: *mut f32) -> f64 {
    let scale = f32x8::splat(scale);
    let mut sum = 0.0;
    let mut start = 0;
    while start < n {
        let count = if n - start < BLOCK { n - start } else { BLOCK };
        let mut totals = [f32x8::ZERO; 4];
        let mut add = |j: usize, at: usize, rest: usize| {
            let g = load_up_to(g.add(at), rest) * scale;
            totals[j] += g * g;
            store_up_to(lanes.add(at), load_up_to(lanes.add(at), rest) + g * g, rest);
        };
        let mut i = 0;
        while i + LANES <= count {
            for j in 0..LANES / 8 {
                add(j, start + i + 8 * j, 8);
            }
            i += LANES;
        }
        // What is missing of a vector adds +0.
        for j in 0..LANES / 8 {
            let at = i + 8 * j;
            if at < count {
                add(j, start + at, count - at);
            }
        }
        sum += f64::from(fold(totals));
        start += count;
    }
    sum
}

/// totals[n] += the fold of lanes[LANES][stride] of each column. n is a multiple of 8.
pub unsafe extern "C" fn step_factor_columns(lanes: *const f32, stride: usize, n: usize, totals: *mut f64) {
    let mut i = 0;
    while i < n {
        let mut sums = [f32x8::ZERO; LANES / 2];
        for j in 0..LANES / 2 {
            sums[j] = load(lanes.add(j * stride + i)) + load(lanes.add((j + LANES / 2) * stride + i));
        }
        let mut width = LANES / 4;
        while width > 0 {
            for j in 0..width {
                sums[j] += sums[j + width];
            }
            width /= 2;
        }
        for (j, sum) in sums[0].to_array().into_iter().enumerate() {
            *totals.add(i + j) += f64::from(sum);
        }
        i += 8;
    }
}
