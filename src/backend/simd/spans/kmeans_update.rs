//! The sums of clusters, and the distances of rows from the centroids of their labels.

use super::math::load_up_to;
use super::reduce::{BLOCK, LANES, fold};
use super::vector::{load, prefetch_all, read, write};
use wide::{f32x8, f64x4};

/// Row by row, so that memory is read in sequence; the sums of a cluster stay in the nearest cache. The products of two f32
/// are exact in f64.
pub unsafe extern "C" fn kmeans_update(
    x: *const f32,
    width: usize,
    columns: usize,
    members: *const u32,
    count: usize,
    weights: *const f32,
    stripe: usize,
    partial: *mut f64,
    sums: *mut f64,
) {
    for j in 0..columns {
        *sums.add(j) = 0.0;
    }
    let mut i = 0;
    while i < count {
        for j in 0..columns {
            *partial.add(j) = 0.0;
        }
        let end = (*members.add(i) as usize / (if stripe > 0 { stripe } else { 1 }) + 1) * stripe;
        let start = i;
        while i < count && (*members.add(i) as usize) < end {
            i += 1;
        }
        add_members(x, width, columns, members.add(start), i - start, weights, partial);
        for j in 0..columns {
            *sums.add(j) += *partial.add(j);
        }
    }
}

pub unsafe extern "C" fn kmeans_add_members(
    x: *const f32,
    d: usize,
    members: *const u32,
    count: usize,
    weights: *const f32,
    sums: *mut f64,
    mass: *mut f64,
) {
    for i in 0..count {
        *mass += if weights.is_null() { 1.0 } else { f64::from(*weights.add(*members.add(i) as usize)) };
    }
    add_members(x, d, d, members, count, weights, sums);
}

/// Rows that lie anywhere: those of a part are read once for each block of columns, whose sums stay in registers meanwhile.
#[inline(always)]
unsafe fn add_members(
    x: *const f32,
    width: usize,
    columns: usize,
    members: *const u32,
    count: usize,
    weights: *const f32,
    sums: *mut f64,
) {
    /// Columns of a block, and rows of a part: so few stay in the nearest caches.
    const BLOCK: usize = 32;
    const PART: usize = 16;
    let mut start = 0;
    while start < count {
        let end = if count - start < PART { count } else { start + PART };
        for i in end..(if count - end < PART { count } else { end + PART }) {
            prefetch_all(x.wrapping_add(*members.add(i) as usize * width), columns);
        }
        let mut column = 0;
        while column + BLOCK <= columns {
            let mut block: [f64x4; BLOCK / 4] = read(sums.add(column));
            for i in start..end {
                let row = *members.add(i) as usize;
                let from = x.add(row * width + column);
                if weights.is_null() {
                    for v in 0..BLOCK / 4 {
                        block[v] += widened(from.add(4 * v));
                    }
                } else {
                    let weight = f64x4::splat(f64::from(*weights.add(row)));
                    for v in 0..BLOCK / 4 {
                        block[v] += weight * widened(from.add(4 * v));
                    }
                }
            }
            write(sums.add(column), block);
            column += BLOCK;
        }
        for i in start..end {
            let row = *members.add(i) as usize;
            let weight = if weights.is_null() { 1.0 } else { f64::from(*weights.add(row)) };
            add_row::<true>(weight, x.add(row * width + column), columns - column, sums.add(column));
        }
        start = end;
    }
}

#[inline(always)]
unsafe fn widened(from: *const f32) -> f64x4 {
    let x: [f32; 4] = read(from);
    f64x4::new([f64::from(x[0]), f64::from(x[1]), f64::from(x[2]), f64::from(x[3])])
}

pub unsafe extern "C" fn kmeans_add(
    x: *const f32,
    rows: usize,
    d: usize,
    labels: *const u32,
    weights: *const f32,
    sums: *mut f64,
    masses: *mut f64,
) {
    for row in 0..rows {
        let cluster = *labels.add(row) as usize;
        let (from, sums) = (x.add(row * d), sums.add(cluster * d));
        if weights.is_null() {
            *masses.add(cluster) += 1.0;
            add_row::<false>(1.0, from, d, sums);
        } else {
            let weight = f64::from(*weights.add(row));
            *masses.add(cluster) += weight;
            add_row::<true>(weight, from, d, sums);
        }
    }
}

#[inline(always)]
unsafe fn add_row<const WEIGHTED: bool>(weight: f64, from: *const f32, columns: usize, sums: *mut f64) {
    let weights = f64x4::splat(weight);
    let mut j = 0;
    while j + 4 <= columns {
        let x = widened(from.add(j));
        write(sums.add(j), read::<f64x4, f64>(sums.add(j)) + if WEIGHTED { weights * x } else { x });
        j += 4;
    }
    while j < columns {
        *sums.add(j) += weight * f64::from(*from.add(j));
        j += 1;
    }
}

pub unsafe extern "C" fn kmeans_distances(
    x: *const f32,
    rows: usize,
    d: usize,
    labels: *const u32,
    centroids: *const f32,
    distances: *mut f32,
) {
    for row in 0..rows {
        let (x, c) = (x.add(row * d), centroids.add(*labels.add(row) as usize * d));
        let mut total = 0f64;
        let mut start = 0;
        while start < d {
            let len = if d - start < BLOCK { d - start } else { BLOCK };
            total += f64::from(block(x.add(start), c.add(start), len));
            start += BLOCK;
        }
        *distances.add(row) = total as f32;
    }
}

/// The sum of one canonical block; square and sum are rounded apart.
#[inline(always)]
unsafe fn block(x: *const f32, c: *const f32, len: usize) -> f32 {
    let mut lanes = [f32x8::ZERO; 4];
    add_squares(x, c, 0, len, &mut lanes);
    fold(lanes)
}

/// Adds the squares of the differences of numbers `at` to `end` to the lanes of their block; `at` is a multiple of 32.
#[inline(always)]
pub unsafe fn add_squares(x: *const f32, c: *const f32, mut at: usize, end: usize, lanes: &mut [f32x8; 4]) {
    while at + LANES <= end {
        for part in 0..4 {
            let difference = load(x.add(at + 8 * part)) - load(c.add(at + 8 * part));
            lanes[part] += difference * difference;
        }
        at += LANES;
    }
    if at == end {
        return;
    }
    for part in 0..4 {
        let at = at + 8 * part;
        if at < end {
            // Padding adds +0 to a lane that holds +0 or more: no bit changes.
            let rest = if end - at < 8 { end - at } else { 8 };
            let difference = load_up_to(x.add(at), rest) - load_up_to(c.add(at), rest);
            lanes[part] += difference * difference;
        }
    }
}
