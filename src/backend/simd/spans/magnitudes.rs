//! Magnitudes sorted and counted, for the schemes `absmedian` and `least_squares` (see `scalar/scheme.rs`): small groups in a
//! sorting network, eight at a time; of large ones the largest, a histogram, and what lies between two bounds.
//!
//! The bits of a float without its sign, as an integer, are in the order of the magnitudes.

use super::math::load_part;
use super::scheme::at_least;
use super::vector::{load, store, write};
use bytemuck::cast;
use wide::{f32x8, f64x4, i32x4, i32x8};

/// At most so many weights are a small group: eight of them take 32 KiB.
pub const SMALL: usize = 1024;

/// Of |w| = x: the factors of m = trunc(x * f0 * f1), which is trunc(x * 2^(31 - e)), where e is the least with x < 2^e for the
/// largest magnitude of a group. Products below 1 may round, to what truncates to 0 as well; others are exact.
#[inline(always)]
pub fn integer_factors(largest: u32) -> [f32; 2] {
    let power = 31 - exponent(largest);
    let first = if power < 100 { power } else { 100 };
    let two_to = |power: i32| f32::from_bits(((power + 127) as u32) << 23);
    [two_to(first), two_to(power - first)]
}

/// The least e with x < 2^e, from the bits of x; of 0 some e.
#[inline(always)]
pub fn exponent(x: u32) -> i32 {
    let field = (x >> 23) as i32;
    if field == 0 { 32 - x.leading_zeros() as i32 - 149 } else { field - 126 }
}

/// p / k * 2^(e - 31), rounded to f32.
#[inline(always)]
pub fn mean_scale(p: f64, k: f64, largest: u32) -> f32 {
    let power = exponent(largest) - 31;
    (p / k * f64::from_bits(((power + 1023) as u64) << 52)) as f32
}

// --- small groups ------------------------------------------------------------------------------------------------------------

/// 1 / k at [k].
static RECIPROCALS: [f64; SMALL + 1] = {
    let mut table = [0.0; SMALL + 1];
    let mut k = 1;
    while k <= SMALL {
        table[k] = 1.0 / k as f64;
        k += 1;
    }
    table
};

pub unsafe extern "C" fn small_medians(
    groups: *const *const f32,
    lengths: *const usize,
    count: usize,
    room: *mut f32,
    thresholds: *mut f32,
    scales: *mut f32,
) {
    let (largest, _) = sort_eight(groups, lengths, count, room);
    for g in 0..count {
        // In descending order the lower median of n is number floor(n / 2).
        let median = *room.add(8 * (*lengths.add(g) / 2) + g);
        let scale = if_finite(at_least(median), *largest.as_ptr().add(g));
        *scales.add(g) = scale;
        *thresholds.add(g) = 0.5 * scale;
    }
}

pub unsafe extern "C" fn small_least_squares(
    groups: *const *const f32,
    lengths: *const usize,
    count: usize,
    room: *mut f32,
    thresholds: *mut f32,
    scales: *mut f32,
) {
    let (largest, longest) = sort_eight(groups, lengths, count, room);
    let factors = largest.map(integer_factors);
    let (first, second) = (f32x8::new(factors.map(|f| f[0])), f32x8::new(factors.map(|f| f[1])));
    let integers = |k: usize| -> [f64x4; 2] {
        let m: i32x8 = (load(room.add(8 * k)) * first * second).fast_trunc_int();
        cast::<i32x8, [i32x4; 2]>(m).map(f64x4::from_i32x4)
    };
    let zero = [f64x4::splat(0.0); 2];
    let (mut sum, mut best, mut best_sum, mut best_k) = (zero, zero, zero, [f64x4::splat(1.0); 2]);
    let mut number = f64x4::splat(0.0);
    // That m_k > m_(k+1) need not be asked: in a run of equal integers f is convex, and where its slope is 0 its curvature is
    // f / (2 k^2), so that inside of the run it is below the larger of the ends by more than roundings, for such k.
    for k in 1..=longest {
        let m = integers(k - 1);
        let reciprocal = f64x4::splat(*RECIPROCALS.as_ptr().add(k));
        number += f64x4::splat(1.0);
        for half in 0..2 {
            // Sums of integers below 2^53 are exact.
            sum[half] += m[half];
            let f = sum[half] * sum[half] * reciprocal;
            let better = f.simd_gt(best[half]);
            best[half] = better.select(f, best[half]);
            best_sum[half] = better.select(sum[half], best_sum[half]);
            best_k[half] = better.select(number, best_k[half]);
        }
    }
    let (p, k): ([f64; 8], [f64; 8]) = (cast(best_sum), cast(best_k));
    for g in 0..count {
        let largest = *largest.as_ptr().add(g);
        let scale = if_finite(mean_scale(*p.as_ptr().add(g), *k.as_ptr().add(g), largest), largest);
        *scales.add(g) = scale;
        *thresholds.add(g) = 0.5 * scale;
    }
}

/// room[..][8]: the magnitudes of up to 8 groups in descending order, one group a lane, then zeros: up to a power of two of at
/// least 8. Returns the bits of the largest magnitude of each, those of NaN being above all others, and the
/// longest length.
#[inline(always)]
unsafe fn sort_eight(
    groups: *const *const f32,
    lengths: *const usize,
    count: usize,
    room: *mut f32,
) -> ([u32; 8], usize) {
    let (mut shortest, mut longest) = (if count < 8 { 0 } else { usize::MAX }, 0);
    for g in 0..count {
        let length = *lengths.add(g);
        longest = if length > longest { length } else { longest };
        shortest = if length < shortest { length } else { shortest };
    }
    let mut largest = i32x8::splat(0);
    let mut i = 0;
    while i < longest {
        let rows: [f32x8; 8] = if i + 8 <= shortest {
            [0, 1, 2, 3, 4, 5, 6, 7].map(|g| load((*groups.add(g)).add(i)))
        } else {
            [0, 1, 2, 3, 4, 5, 6, 7].map(|g| part_of(groups, lengths, g, count, i))
        };
        let mut rows = f32x8::transpose(rows).map(|row| row.abs());
        let bits = rows.map(cast::<f32x8, i32x8>);
        let four = [bits[0].max(bits[1]), bits[2].max(bits[3]), bits[4].max(bits[5]), bits[6].max(bits[7])];
        largest = largest.max(four[0].max(four[1]).max(four[2].max(four[3])));
        sort_rows(&mut rows);
        for r in 0..8 {
            store(room.add(8 * (i + r)), rows[r]);
        }
        i += 8;
    }
    let size = (if longest > 8 { longest } else { 8 }).next_power_of_two();
    while i < size {
        store(room.add(8 * i), f32x8::ZERO);
        i += 1;
    }
    let mut half = 8;
    while half < size {
        let mut start = 0;
        while start < size {
            merge(room.add(8 * start), 2 * half);
            start += 2 * half;
        }
        half *= 2;
    }
    (cast(largest), longest)
}

/// Eight weights of group g from number i on, or what there is of them, and zeros.
#[inline(never)]
unsafe fn part_of(groups: *const *const f32, lengths: *const usize, g: usize, count: usize, i: usize) -> f32x8 {
    if g >= count || i >= *lengths.add(g) {
        return f32x8::ZERO;
    }
    let (from, left) = ((*groups.add(g)).add(i), *lengths.add(g) - i);
    if left >= 8 { load(from) } else { load_part(from, left, 0.0) }
}

/// NaN for a group whose largest magnitude is not finite.
#[inline(always)]
fn if_finite(scale: f32, largest: u32) -> f32 {
    if largest < f32::INFINITY.to_bits() { scale } else { f32::NAN }
}

/// Rows a and b of each lane, the larger first.
#[inline(always)]
fn order(rows: &mut [f32x8; 8], a: usize, b: usize) {
    (rows[a], rows[b]) = (rows[a].fast_max(rows[b]), rows[a].fast_min(rows[b]));
}

/// Batcher's network of 19 comparators for 8.
#[inline(always)]
fn sort_rows(rows: &mut [f32x8; 8]) {
    const NETWORK: [(usize, usize); 19] = [
        (0, 1),
        (2, 3),
        (4, 5),
        (6, 7),
        (0, 2),
        (1, 3),
        (4, 6),
        (5, 7),
        (1, 2),
        (5, 6),
        (0, 4),
        (1, 5),
        (2, 6),
        (3, 7),
        (2, 4),
        (3, 5),
        (1, 2),
        (3, 4),
        (5, 6),
    ];
    for (a, b) in NETWORK {
        order(rows, a, b);
    }
}

/// Merges the two sorted halves of v[size][8], size a power of two of at least 16: Batcher's bitonic network, whose first stage
/// compares i with size - 1 - i, and the others i with i + distance for distances down to 1. Three stages are done on eight
/// rows at a time, in registers.
#[inline(always)]
unsafe fn merge(v: *mut f32, size: usize) {
    let step = size / 8;
    for i in 0..step {
        // Four rows of the first half and their mirror images. What the first stage leaves in either half has `size / 4` and
        // then `size / 8` as its next distances.
        let at = |r: usize| 8 * if r < 4 { i + step * r } else { size - 1 - i - step * (7 - r) };
        let mut rows = [0, 1, 2, 3, 4, 5, 6, 7].map(|r| load(v.add(at(r))));
        for (a, b) in [(0, 7), (1, 6), (2, 5), (3, 4)] {
            order(&mut rows, a, b);
        }
        three_less_one(&mut rows);
        for r in 0..8 {
            store(v.add(at(r)), rows[r]);
        }
    }
    let mut distance = size / 16;
    while distance >= 4 {
        stages::<8>(v, size, distance / 4);
        distance /= 8;
    }
    match distance {
        2 | 3 => stages::<4>(v, size, 1),
        1 => stages::<2>(v, size, 1),
        _ => {}
    }
}

/// The stages of distances 2 and 1 on the halves of eight rows.
#[inline(always)]
fn three_less_one(rows: &mut [f32x8; 8]) {
    for (a, b) in [(0, 2), (1, 3), (4, 6), (5, 7), (0, 1), (2, 3), (4, 5), (6, 7)] {
        order(rows, a, b);
    }
}

/// The stages of distances step * ROWS / 2, ..., step: ROWS rows at a time that lie `step` apart.
#[inline(always)]
unsafe fn stages<const ROWS: usize>(v: *mut f32, size: usize, step: usize) {
    let mut start = 0;
    while start < size {
        for i in start..start + step {
            let at = |r: usize| 8 * (i + step * r);
            let mut rows = [f32x8::ZERO; 8];
            for r in 0..ROWS {
                rows[r] = load(v.add(at(r)));
            }
            if ROWS == 8 {
                for (a, b) in [(0, 4), (1, 5), (2, 6), (3, 7)] {
                    order(&mut rows, a, b);
                }
                three_less_one(&mut rows);
            } else if ROWS == 4 {
                for (a, b) in [(0, 2), (1, 3), (0, 1), (2, 3)] {
                    order(&mut rows, a, b);
                }
            } else {
                order(&mut rows, 0, 1);
            }
            for r in 0..ROWS {
                store(v.add(at(r)), rows[r]);
            }
        }
        start += step * ROWS;
    }
}

// --- large groups ------------------------------------------------------------------------------------------------------------

pub unsafe extern "C" fn largest_magnitude(w: *const f32, n: usize) -> u32 {
    super::activation::absmax(w, n, 0.0).to_bits()
}

/// A histogram of magnitudes: number ((bits of |w|) >> shift) - base has those of |w|, from 0 to count - 1; what is below or
/// above falls in the first or the last.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bins {
    pub shift: u32,
    pub base: i32,
    pub count: usize,
    /// See [`integer_factors`].
    pub factors: [f32; 2],
}

/// Tables of a histogram, for neighbours that fall into one bin: a sum waits for the one before it to be stored.
pub const TABLES: usize = 4;
/// A bin holds count << 47 | sum: so many weights that neither overflows, in tables that take turns.
pub const HISTOGRAM: usize = TABLES << 16;
pub const COUNT_SHIFT: u32 = 47;

pub unsafe extern "C" fn magnitude_histogram(bins: *const Bins, w: *const f32, n: usize, tables: *mut u64) {
    let Bins { shift, base, count, factors } = *bins;
    let (first, second) = (f32x8::splat(factors[0]), f32x8::splat(factors[1]));
    let (bases, zero, last) = (i32x8::splat(base), i32x8::splat(0), i32x8::splat(count as i32 - 1));
    // Indices and integers of some vectors at a time, through memory: loads are cheaper than taking vectors apart.
    const PART: usize = 64;
    let (mut indices, mut integers) = ([0u32; PART], [0u32; PART]);
    let (indices, integers) = (indices.as_mut_ptr(), integers.as_mut_ptr());
    let mut start = 0;
    while start < n {
        let here = if n - start < PART { n - start } else { PART };
        let mut i = 0;
        while i < here {
            let left = here - i;
            let from = w.add(start + i);
            let magnitude = if left >= 8 { load(from) } else { load_part(from, left, 0.0) }.abs();
            let index = ((cast::<f32x8, i32x8>(magnitude) >> shift) - bases).max(zero).min(last);
            write(indices.add(i), index);
            write(integers.add(i), (magnitude * first * second).fast_trunc_int());
            i += 8;
        }
        let add = |j: usize, table: usize| {
            let (index, m) = (*indices.add(j) as usize, u64::from(*integers.add(j)));
            *tables.add(table * count + index) += 1 << COUNT_SHIFT | m;
        };
        let mut j = 0;
        while j + TABLES <= here {
            for table in 0..TABLES {
                add(j + table, table);
            }
            j += TABLES;
        }
        for table in 0..here - j {
            add(j + table, table);
        }
        start += here;
    }
}

pub unsafe extern "C" fn magnitudes_between(w: *const f32, n: usize, low: u32, high: u32, out: *mut u32) -> usize {
    let (lows, highs) = (i32x8::splat(low as i32), i32x8::splat(high as i32));
    let mut found = 0;
    let mut i = 0;
    while i + 8 <= n {
        let bits: i32x8 = cast(load(w.add(i)).abs());
        let inside = !bits.simd_lt(lows) & bits.simd_lt(highs);
        let mut mask = cast::<i32x8, f32x8>(inside).to_bitmask();
        let bits = bits.to_array();
        let bits = bits.as_ptr();
        while mask != 0 {
            *out.add(found) = *bits.add(mask.trailing_zeros() as usize) as u32;
            found += 1;
            mask &= mask - 1;
        }
        i += 8;
    }
    while i < n {
        let bits = (*w.add(i)).to_bits() & 0x7FFF_FFFF;
        if low <= bits && bits < high {
            *out.add(found) = bits;
            found += 1;
        }
        i += 1;
    }
    found
}
