//! Rows to their nearest centroids by way of a few dimensions.
//!
//! With an orthonormal basis of a few rows, P, the product of a row and a centroid is, by Cauchy-Schwarz,
//!
//! ```text
//! x' . c'  <=  P x' . P c'  +  |x' - P^T P x'| |c' - P^T P c'|
//! ```
//!
//! the product of two short vectors [P x', rest of x'] and [P c', rest of c']. So |c'|^2 / 2 less that is a lower bound of the
//! score S(c) of `kmeans.rs`, and finding the bounds of all centroids is the same product of matrices with a fraction of the
//! dimensions. Only where a bound is not above the best score found so far are the other dimensions looked at. Where P holds the
//! first principal axes of the data, that is a handful of a thousand centroids.
//!
//! P is stored in f32 and not quite orthonormal: |P P^T - I| <= e. Then there is an orthonormal basis that differs from it by no
//! more than e (its polar factor, because |s - 1| <= |s^2 - 1| for its singular values), and what is computed of a vector z
//! differs from what that basis gives by no more than D |z|, with D = e + sqrt(p) g (1 + e), g that of a product of d terms. So the
//! bound above needs (2 D (1 + D) + D^2) |x'| |c'| more, which goes with the errors of the centroid, as what the chain of
//! roundings of the short product needs does (what is so small that f32 has fewer digits is less than what ties of f64 need); and
//! a rest is sqrt(|z|^2 - max(0, |P z| - D |z|)^2).

use super::kmeans::{KMeansCentroids, KMeansRows, PANEL, Take, Vector, WIDTH, exact_distance, scores};
use super::math::load_up_to;
use super::vector::{load, prefetch_all, write};
use wide::f32x8;

/// The rows and centroids with all of their dimensions.
#[repr(C)]
pub struct KMeansWhole {
    /// Row r is at x + d * places[r], centred as the centroids are.
    pub x: *const f32,
    pub places: *const u32,
    /// At least |x'|, in the order of r.
    pub norms: *const f32,
    pub d: usize,
    /// [count, d]: c'; for each, |c'|^2 / 2 less the part of E that does not depend on the row, a |c'|, and at least twice that
    /// part.
    pub centroids: *const f32,
    pub heads: *const f32,
    pub errors: *const f32,
    pub slack: *const f32,
    /// How far distances in f64 may be off, for each unit of |x'|^2.
    pub ties: f32,
    pub count: usize,
    /// As they are: row r is at exact_x + d * exact_places[r].
    pub exact_x: *const f32,
    pub exact_places: *const u32,
    pub exact_centroids: *const f64,
    /// [count], scratch: centroids that are looked at, and their scores.
    pub candidates: *mut u32,
    pub candidate_scores: *mut f32,
}

/// Keeps all scores: bounds[rows][panels * PANEL].
struct Keep {
    bounds: *mut f32,
    width: usize,
}

impl Take for Keep {
    #[inline(always)]
    unsafe fn take<const V: usize, const R: usize>(&mut self, row: usize, panel: usize, sums: &[[Vector; V]; R]) {
        for r in 0..R {
            for v in 0..V {
                write(self.bounds.add((row + r) * self.width + panel * PANEL + v * WIDTH), sums[r][v]);
            }
        }
    }
}

pub unsafe extern "C" fn kmeans_bounds(rows: *const KMeansRows, centroids: *const KMeansCentroids, bounds: *mut f32) {
    let centroids = &*centroids;
    scores(&*rows, centroids, &mut Keep { bounds, width: centroids.panels * PANEL });
}

pub unsafe extern "C" fn kmeans_refine(
    whole: *const KMeansWhole,
    rows: usize,
    bounds: *const f32,
    width: usize,
    found: *const super::KMeansFound,
) -> usize {
    let (whole, found) = (&*whole, &*found);
    let mut looked_at = 0;
    for row in 0..rows {
        let bounds = bounds.add(row * width);
        let best = lowest(bounds, whole.count);
        prefetch_all(whole.centroids.add(best * whole.d), whole.d);
        let x = whole.x.add(*whole.places.add(row) as usize * whole.d);
        let norm = *whole.norms.add(row);
        let (score, mut upper) = score(whole, x, norm, best);
        // Its own bound is not above the score: it is among the candidates.
        let (count, others) = candidates(whole, bounds, upper);
        let (mut first, mut second) = (f32::INFINITY, others);
        for i in 0..count {
            let centroid = *whole.candidates.add(i) as usize;
            if i + 1 < count {
                prefetch_all(whole.centroids.add(*whole.candidates.add(i + 1) as usize * whole.d), whole.d);
            }
            let here = if centroid == best {
                score
            } else if *bounds.add(centroid) > upper {
                *bounds.add(centroid)
            } else {
                looked_at += 1;
                let (here, above) = self::score(whole, x, norm, centroid);
                upper = if above < upper { above } else { upper };
                here
            };
            *whole.candidate_scores.add(i) = here;
            second = if here < first { lower(first, second) } else { lower(here, second) };
            first = lower(here, first);
        }
        let (label, certain) = decide(whole, row, count, upper);
        *found.labels.add(row) = label;
        *found.first.add(row) = first;
        // Where f64 decided, any other centroid may be as near as the first was.
        *found.second.add(row) = if certain { second } else { first };
        *found.upper.add(row) = upper;
    }
    looked_at + rows
}

#[inline(always)]
fn lower(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The place of the least of the bounds.
#[inline(always)]
unsafe fn lowest(bounds: *const f32, count: usize) -> usize {
    let mut least = f32x8::splat(f32::INFINITY);
    let mut i = 0;
    // Past the last centroid, bounds are infinite.
    while i < count {
        least = least.fast_min(load(bounds.add(i)));
        i += 8;
    }
    let least = f32x8::splat(least.to_array().iter().fold(f32::INFINITY, |a, &b| lower(b, a)));
    i = 0;
    while i < count {
        let here = load(bounds.add(i)).simd_le(least).to_bitmask();
        if here != 0 {
            let found = i + here.trailing_zeros() as usize;
            return if found < count { found } else { 0 };
        }
        i += 8;
    }
    0
}

/// Lists the centroids whose bound is not above `upper`, in ascending order; how many, and the least bound of the others.
#[inline(always)]
unsafe fn candidates(whole: &KMeansWhole, bounds: *const f32, upper: f32) -> (usize, f32) {
    let (limit, infinity) = (f32x8::splat(upper), f32x8::splat(f32::INFINITY));
    let (mut count, mut others) = (0, infinity);
    let mut i = 0;
    while i < whole.count {
        let here = load(bounds.add(i));
        let above = here.simd_gt(limit);
        others = others.fast_min(above.select(here, infinity));
        let mut near = !above.to_bitmask() & 0xFF;
        while near != 0 {
            let centroid = i + near.trailing_zeros() as usize;
            if centroid < whole.count {
                *whole.candidates.add(count) = centroid as u32;
                count += 1;
            }
            near &= near - 1;
        }
        i += 8;
    }
    (count, others.to_array().iter().fold(f32::INFINITY, |a, &b| lower(b, a)))
}

/// A lower and an upper bound of the score of a centroid.
#[inline(always)]
unsafe fn score(whole: &KMeansWhole, x: *const f32, norm: f32, centroid: usize) -> (f32, f32) {
    let c = whole.centroids.add(centroid * whole.d);
    let mut sums = [f32x8::ZERO; 4];
    let mut j = 0;
    while j + 32 <= whole.d {
        for part in 0..4 {
            sums[part] = load(x.add(j + 8 * part)).mul_add(load(c.add(j + 8 * part)), sums[part]);
        }
        j += 32;
    }
    while j < whole.d {
        let rest = if whole.d - j < 8 { whole.d - j } else { 8 };
        sums[0] = load_up_to(x.add(j), rest).mul_add(load_up_to(c.add(j), rest), sums[0]);
        j += 8;
    }
    let product = ((sums[0] + sums[1]) + (sums[2] + sums[3])).reduce_add();
    let error = norm * *whole.errors.add(centroid);
    let score = (*whole.heads.add(centroid) - error) - product;
    let ties = norm * norm * whole.ties;
    (score, score + (error * (2.0 + 1e-5) + *whole.slack.add(centroid) + ties))
}

/// So is a score that is NaN.
#[inline(always)]
fn not_above(score: f32, upper: f32) -> bool {
    score.partial_cmp(&upper) != Some(core::cmp::Ordering::Greater)
}

/// The label of a row, and whether it was certain without f64.
#[inline(always)]
unsafe fn decide(whole: &KMeansWhole, row: usize, count: usize, upper: f32) -> (u32, bool) {
    let (mut label, mut left) = (0, 0);
    for i in 0..count {
        if not_above(*whole.candidate_scores.add(i), upper) {
            left += 1;
            label = *whole.candidates.add(i);
        }
    }
    if left == 1 { (label, true) } else { (decide_exactly(whole, row, count, upper), false) }
}

#[inline(never)]
unsafe fn decide_exactly(whole: &KMeansWhole, row: usize, count: usize, upper: f32) -> u32 {
    let x = whole.exact_x.add(*whole.exact_places.add(row) as usize * whole.d);
    let (mut label, mut least) = (0, f64::INFINITY);
    for i in 0..count {
        if not_above(*whole.candidate_scores.add(i), upper) {
            let centroid = *whole.candidates.add(i);
            let distance = exact_distance(x, whole.exact_centroids.add(centroid as usize * whole.d), whole.d);
            if distance < least {
                (label, least) = (centroid, distance);
            }
        }
    }
    label
}
