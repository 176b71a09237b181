//! Squared Euclidean distances in direct form, as canonical sums (see `kmeans_assign` in `table.rs`), and the sums of clusters.

use super::math::load_up_to;
use super::reduce::{BLOCK, LANES, fold};
use super::vector::read;
use wide::f32x8;
#[cfg(target_feature = "avx512f")]
use wide::f32x16;

/// Rows and centroids of a tile: their 8 accumulators, the 6 vectors they come from and a difference fit 16 registers.
const ROWS: usize = 2;
const CENTROIDS: usize = 4;

pub unsafe extern "C" fn kmeans_assign(
    x: *const f32,
    n: usize,
    centroids: *const f32,
    k: usize,
    d: usize,
    labels: *mut u32,
    distances: *mut f32,
) {
    let mut first = 0;
    while first < k {
        // Past the last row or centroid, it stands in for the missing ones, whose results are left.
        let candidates = if k - first < CENTROIDS { k - first } else { CENTROIDS };
        let mut c = [centroids; CENTROIDS];
        for j in 0..CENTROIDS {
            c[j] = centroids.add((first + if j < candidates { j } else { 0 }) * d);
        }
        let mut row = 0;
        while row < n {
            let rows = if n - row < ROWS { n - row } else { ROWS };
            let both = [x.add(row * d), x.add((row + rows - 1) * d)];
            let found = tile(both, c, d);
            for i in 0..rows {
                let mut label = *labels.add(row + i);
                let mut least = *distances.add(row + i);
                for j in 0..candidates {
                    let distance = found[i][j] as f32;
                    if (first == 0 && j == 0) || distance < least {
                        label = (first + j) as u32;
                        least = distance;
                    }
                }
                *labels.add(row + i) = label;
                *distances.add(row + i) = least;
            }
            row += ROWS;
        }
        first += CENTROIDS;
    }
}

/// The distances of each row to each centroid.
#[inline(always)]
unsafe fn tile(x: [*const f32; ROWS], c: [*const f32; CENTROIDS], d: usize) -> [[f64; CENTROIDS]; ROWS] {
    let mut totals = [[0f64; CENTROIDS]; ROWS];
    let mut start = 0;
    while start < d {
        let len = if d - start < BLOCK { d - start } else { BLOCK };
        let sums = block(x.map(|x| x.add(start)), c.map(|c| c.add(start)), len);
        for i in 0..ROWS {
            for j in 0..CENTROIDS {
                totals[i][j] += f64::from(sums[i][j]);
            }
        }
        start += BLOCK;
    }
    totals
}

/// The sums of one canonical block. The vectors of lanes come one after the other: so all of a tile's accumulators stay
/// in registers.
#[inline(always)]
unsafe fn block(x: [*const f32; ROWS], c: [*const f32; CENTROIDS], len: usize) -> [[f32; CENTROIDS]; ROWS] {
    let mut lanes = [[[Vector::ZERO; VECTORS]; CENTROIDS]; ROWS];
    let whole = len / LANES * LANES;
    for vector in 0..VECTORS {
        let mut sums = [[Vector::ZERO; CENTROIDS]; ROWS];
        let mut at = LANES / VECTORS * vector;
        while at < whole {
            add_squares(&mut sums, x.map(|x| read(x.add(at))), c.map(|c| read(c.add(at))));
            at += LANES;
        }
        if at < len {
            // Padding adds +0 to a lane that holds +0 or more: no bit changes.
            let rest = len - at;
            add_squares(&mut sums, x.map(|x| read_up_to(x.add(at), rest)), c.map(|c| read_up_to(c.add(at), rest)));
        }
        for i in 0..ROWS {
            for j in 0..CENTROIDS {
                lanes[i][j][vector] = sums[i][j];
            }
        }
    }
    lanes.map(|row| row.map(|lanes| fold(bytemuck::cast(lanes))))
}

/// The widest vector of the level: the lanes of a canonical block are four of eight floats, or two of sixteen.
#[cfg(target_feature = "avx512f")]
type Vector = f32x16;
#[cfg(not(target_feature = "avx512f"))]
type Vector = f32x8;
const VECTORS: usize = 4 * LANES / size_of::<Vector>();

/// The first n floats, then +0.
#[inline(always)]
unsafe fn read_up_to(p: *const f32, n: usize) -> Vector {
    let part = |half: usize| if n > 8 * half { load_up_to(p.add(8 * half), n - 8 * half) } else { f32x8::ZERO };
    let parts: [f32x8; size_of::<Vector>() / 32] = core::array::from_fn(part);
    bytemuck::cast(parts)
}

/// Square and sum are rounded apart.
#[inline(always)]
fn add_squares(sums: &mut [[Vector; CENTROIDS]; ROWS], x: [Vector; ROWS], c: [Vector; CENTROIDS]) {
    for i in 0..ROWS {
        for j in 0..CENTROIDS {
            let difference = x[i] - c[j];
            sums[i][j] += difference * difference;
        }
    }
}

/// Row by row, so that memory is read in sequence; the sums of a cluster stay in the nearest cache. The products of two f32
/// are exact in f64.
pub unsafe extern "C" fn kmeans_update(
    x: *const f32,
    width: usize,
    columns: usize,
    members: *const u32,
    count: usize,
    weights: *const f32,
    sums: *mut f64,
) {
    for j in 0..columns {
        *sums.add(j) = 0.0;
    }
    for i in 0..count {
        let row = *members.add(i) as usize;
        let weight = if weights.is_null() { 1.0 } else { f64::from(*weights.add(row)) };
        let from = x.add(row * width);
        let mut j = 0;
        while j + 8 <= columns {
            add_weighted::<8>(weight, from.add(j), sums.add(j));
            j += 8;
        }
        while j < columns {
            add_weighted::<1>(weight, from.add(j), sums.add(j));
            j += 1;
        }
    }
}

/// Reads all before it writes, so that the compiler may use vectors.
#[inline(always)]
unsafe fn add_weighted<const N: usize>(weight: f64, from: *const f32, sums: *mut f64) {
    let mut total = [0f64; N];
    for j in 0..N {
        total[j] = *sums.add(j) + weight * f64::from(*from.add(j));
    }
    for j in 0..N {
        *sums.add(j) = total[j];
    }
}
