//! Rows to their nearest centroids.
//!
//! # Which centroid is the nearest, exactly
//!
//! With any vector m, for a row x' = x - m and a centroid c' = c - m,
//!
//! ```text
//! |x - c|^2 = |x'|^2 + 2 S(c),        S(c) = |c'|^2 / 2 - x' . c'
//! ```
//!
//! so that the nearest centroid is that of the least score S, and scores are products of matrices, which the vector units do at
//! their full pace. What they yield is off by roundings, of which u = 2^-24 is the unit. The row is multiplied as stored, f32;
//! the centroid, of f64, is rounded to f32: |c'f - c'| <= u |c'|; a row that has to be centred is as well: |x'f - x'| <= u |x'|.
//! A chain of d + 1 steps that begins at a number s and subtracts products is off by at most g (|s| + |x'f| |c'f|), with
//! g = (d + 2) u / (1 - (d + 2) u), whatever the order of the steps, fused or not (Higham, "Accuracy and Stability of Numerical
//! Algorithms", section 3.1; by Cauchy-Schwarz for the sum of absolute products). Together the score v of a chain that begins at
//! h, |c'|^2 / 2 rounded, less E(c), is off by no more than
//!
//! ```text
//! E(c) = a (|c'|^2 / 2 + |x'f| |c'|) + t,     a = r / (1 - r) (1 + 2 r),     r = (d + 32) u <= 1/4
//! ```
//!
//! where 30 units more than the chain needs pay for the roundings of h, c'f, x'f, of the norms and of the bound itself, the factor
//! 1 + 2 r for E being in the chain as well, and t, some d 2^-148, for results that are so small that f32 has fewer digits. So
//! v <= S(c) <= v + 2 E(c).
//!
//! The definition of a label is by distances in f64, which have roundings of their own: lanes of d / 8 squares, which are off by
//! (d / 8 + 8) 2^-53 of the distance. Two scores that are further apart than the sum of their bounds and
//! (d / 4 + 16) 2^-53 |x'|^2 stand for distances that f64 tells apart in the same order; what the centroids add to that, less by
//! far than a unit of f32, is among the 30. With that much added to the upper bound of the first score, a row whose second one lies
//! above it has but one nearest centroid. The others, few, are looked at again: all centroids whose score is not above the bound, by
//! squared distances in f64.

use super::math::load_up_to;
use super::vector::{load, prefetch_far, read, store, write};
use bytemuck::cast;
#[cfg(target_feature = "avx512f")]
use wide::f32x16;
use wide::{f32x8, u32x8};

/// Centroids of a panel.
pub const PANEL: usize = 16;
/// Rows come in multiples of this, which the tiles and the vectors divide: the last row stands in for those past it.
pub const ROWS: usize = 24;
/// Panels whose unfinished sums are kept while the next slice of the dimensions is on.
pub const PANELS: usize = 8;
/// Floats that a row's search keeps.
pub const STATE: usize = 3 * 16;

/// The widest vector of the level, and how many make a panel's width.
#[cfg(target_feature = "avx512f")]
pub type Vector = f32x16;
#[cfg(not(target_feature = "avx512f"))]
pub type Vector = f32x8;
const VECTORS: usize = 4 * PANEL / size_of::<Vector>();
pub const WIDTH: usize = PANEL / VECTORS;

/// Rows of a tile of registers, whose sums and operands fit there; and of one of a single vector of centroids.
const TILE: usize = SINGLE / VECTORS;
const SINGLE: usize = if cfg!(target_feature = "fma") { 12 } else { 4 };

/// Dimensions of a slice: a panel's, 20 KiB, and those of a tile of rows stay in the nearest cache.
pub const SLICE: usize = 320;
/// Bytes of panels that stay in the nearest cache together.
const NEAR: usize = 16 << 10;

/// Rows to compare with centroids. Arrays of `rows` are as long as the next multiple of [`ROWS`].
#[repr(C)]
pub struct KMeansRows {
    /// Row r is at x + d * places[r], centred.
    pub x: *const f32,
    pub places: *const u32,
    /// At least |x'|.
    pub norms: *const f32,
    pub rows: usize,
    pub d: usize,
    /// [slots][PANELS][..][PANEL] for unfinished sums, where there is more than one slice; and [..][STATE].
    pub partial: *mut f32,
    pub state: *mut f32,
    /// What is read after these rows, and how many bytes of it.
    pub next: *const f32,
    pub ahead: usize,
}

/// Centroids, packed: entries past the last have infinite heads.
#[repr(C)]
pub struct KMeansCentroids {
    /// [panels][d][PANEL]: c'.
    pub packed: *const f32,
    pub panels: usize,
    pub count: usize,
    /// [panels * PANEL]: |c'|^2 / 2 less the part of E that does not depend on the row, and a |c'|.
    pub heads: *const f32,
    pub errors: *const f32,
    /// [panels * PANEL]: at least twice that part.
    pub slack: *const f32,
    /// How far distances in f64 may be off, for each unit of |x'|^2.
    pub ties: f32,
}

/// What is found of each row. Arrays as in [`KMeansRows`].
#[repr(C)]
pub struct KMeansFound {
    pub labels: *mut u32,
    /// Lower bounds of the least and of the second least score, and an upper bound of the least.
    pub first: *mut f32,
    pub second: *mut f32,
    pub upper: *mut f32,
}

/// What a tile of sums becomes.
pub trait Take {
    unsafe fn take<const V: usize, const R: usize>(&mut self, row: usize, panel: usize, sums: &[[Vector; V]; R]);
}

/// Hands every tile of scores to `take`, panels in ascending order for each row.
#[inline(always)]
pub unsafe fn scores(rows: &KMeansRows, centroids: &KMeansCentroids, take: &mut impl Take) {
    let slices = if rows.d <= SLICE { 1 } else { (rows.d - 1) / SLICE + 1 };
    let size = rows.d.div_ceil(slices);
    // A last panel of few centroids is one vector wide.
    let whole = if VECTORS > 1 && centroids.panels * PANEL - centroids.count >= WIDTH {
        centroids.panels - 1
    } else {
        centroids.panels
    };
    let mut ahead = Ahead::new(rows, centroids.panels * slices);
    let mut first = 0;
    while first < centroids.panels {
        let end = if centroids.panels - first < PANELS { centroids.panels } else { first + PANELS };
        for slice in 0..slices {
            let start = slice * size;
            let depth = if rows.d - start < size { rows.d - start } else { size };
            let part = Part { start, depth, first, begins: slice == 0, ends: slice + 1 == slices };
            let near = NEAR / (4 * PANEL) / (if depth > 0 { depth } else { 1 });
            let near = if near > 0 { near } else { 1 };
            let full = if end < whole { end } else { whole };
            let mut some = first;
            while some < full {
                let next = if full - some < near { full } else { some + near };
                let mut row = 0;
                while row < rows.rows {
                    for panel in some..next {
                        tile::<VECTORS, TILE>(rows, centroids, row, panel, &part, take);
                        ahead.fetch();
                    }
                    row += TILE;
                }
                some = next;
            }
            if full < end {
                let mut row = 0;
                while row < rows.rows {
                    tile::<1, SINGLE>(rows, centroids, row, full, &part, take);
                    row += SINGLE;
                }
            }
        }
        first += PANELS;
    }
}

/// Asks for the rows that come next, a few lines with each tile: the memory works while this thread multiplies.
struct Ahead {
    next: *const u8,
    left: usize,
    each: usize,
}

impl Ahead {
    #[inline(always)]
    fn new(rows: &KMeansRows, passes: usize) -> Ahead {
        let left = rows.ahead.div_ceil(LINE);
        let tiles = rows.rows.div_ceil(TILE).saturating_mul(passes);
        Ahead { next: rows.next.cast(), left, each: left.div_ceil(if tiles > 0 { tiles } else { 1 }) }
    }

    #[inline(always)]
    fn fetch(&mut self) {
        let lines = if self.each < self.left { self.each } else { self.left };
        for _ in 0..lines {
            prefetch_far(self.next);
            self.next = self.next.wrapping_add(LINE);
        }
        self.left -= lines;
    }
}

const LINE: usize = 64;

/// A slice of the dimensions, and the first of the panels whose unfinished sums are kept.
struct Part {
    start: usize,
    depth: usize,
    first: usize,
    begins: bool,
    ends: bool,
}

/// R rows and V vectors of a panel.
#[inline(always)]
unsafe fn tile<const V: usize, const R: usize>(
    rows: &KMeansRows,
    centroids: &KMeansCentroids,
    row: usize,
    panel: usize,
    part: &Part,
    take: &mut impl Take,
) {
    let partial = rows.partial.wrapping_add(((panel - part.first) * rows.rows.next_multiple_of(ROWS) + row) * PANEL);
    let mut sums = if part.begins { begin::<V, R>(rows, centroids, row, panel) } else { read_sums(partial) };
    let packed = centroids.packed.add((panel * rows.d + part.start) * PANEL);
    subtract_products(rows, row, part.start, packed, part.depth, &mut sums);
    if part.ends {
        take.take(row, panel, &sums);
    } else {
        write_sums(partial, &sums);
    }
}

#[inline(always)]
unsafe fn begin<const V: usize, const R: usize>(
    rows: &KMeansRows,
    centroids: &KMeansCentroids,
    row: usize,
    panel: usize,
) -> [[Vector; V]; R] {
    let vector = |from: *const f32, v: usize| -> Vector { read(from.add(panel * PANEL + v * WIDTH)) };
    let heads: [Vector; V] = core::array::from_fn(|v| vector(centroids.heads, v));
    let errors: [Vector; V] = core::array::from_fn(|v| vector(centroids.errors, v));
    core::array::from_fn(|r| {
        let norm = Vector::splat(*rows.norms.add(row + r));
        core::array::from_fn(|v| norm.mul_neg_add(errors[v], heads[v]))
    })
}

#[inline(always)]
unsafe fn read_sums<const V: usize, const R: usize>(from: *const f32) -> [[Vector; V]; R] {
    core::array::from_fn(|r| core::array::from_fn(|v| read(from.add(r * PANEL + v * WIDTH))))
}

#[inline(always)]
unsafe fn write_sums<const V: usize, const R: usize>(to: *mut f32, sums: &[[Vector; V]; R]) {
    for r in 0..R {
        for v in 0..V {
            write(to.add(r * PANEL + v * WIDTH), sums[r][v]);
        }
    }
}

#[inline(always)]
unsafe fn subtract_products<const V: usize, const R: usize>(
    rows: &KMeansRows,
    row: usize,
    start: usize,
    packed: *const f32,
    depth: usize,
    sums: &mut [[Vector; V]; R],
) {
    let x: [*const f32; R] = core::array::from_fn(|r| {
        // A compiler that knew how they follow from each other would add up the next from the one before in every step.
        core::hint::black_box(rows.x.wrapping_add(*rows.places.add(row + r) as usize * rows.d + start))
    });
    let mut step = |i: usize| {
        let c: [Vector; V] = core::array::from_fn(|v| read(packed.add(i * PANEL + v * WIDTH)));
        for r in 0..R {
            let x = Vector::splat(*x[r].add(i));
            for v in 0..V {
                sums[r][v] = x.mul_neg_add(c[v], sums[r][v]);
            }
        }
    };
    // Nor does it see that the depth stays what it is.
    let depth = core::hint::black_box(depth);
    let mut i = 0;
    while i + 4 <= depth {
        step(i);
        step(i + 1);
        step(i + 2);
        step(i + 3);
        i += 4;
    }
    while i < depth {
        step(i);
        i += 1;
    }
}

/// The two least scores of each lane of each row, and where the least is: [first, second, label] a row.
struct Least {
    state: *mut f32,
}

impl Take for Least {
    #[inline(always)]
    unsafe fn take<const V: usize, const R: usize>(&mut self, row: usize, panel: usize, sums: &[[Vector; V]; R]) {
        // Numbers of centroids, in the bits of floats, which are only moved.
        let numbers: [Vector; V] = core::array::from_fn(|v| {
            cast(core::array::from_fn::<u32, WIDTH, _>(|i| (panel * PANEL + v * WIDTH + i) as u32))
        });
        for r in 0..R {
            let state = self.state.add((row + r) * STATE);
            let [mut first, mut second, mut label]: [Vector; 3] = read(state);
            for v in 0..V {
                let score = sums[r][v];
                let closer = score.simd_lt(first);
                second = second.fast_min(score.fast_max(first));
                first = first.fast_min(score);
                label = closer.select(numbers[v], label);
            }
            write(state, [first, second, label]);
        }
    }
}

pub unsafe extern "C" fn kmeans_nearest(
    rows: *const KMeansRows,
    centroids: *const KMeansCentroids,
    found: *const KMeansFound,
    doubtful: *mut u32,
) -> usize {
    let (rows, centroids, found) = (&*rows, &*centroids, &*found);
    let infinity = Vector::splat(f32::INFINITY);
    for row in 0..rows.rows.next_multiple_of(ROWS) {
        write(rows.state.add(row * STATE), [infinity, infinity, Vector::ZERO]);
    }
    scores(rows, centroids, &mut Least { state: rows.state });
    let mut count = 0;
    let mut row = 0;
    while row < rows.rows {
        let doubt = settle_eight(rows, centroids, found, row);
        for r in 0..8 {
            if row + r < rows.rows && doubt >> r & 1 != 0 {
                *doubtful.add(count) = (row + r) as u32;
                count += 1;
            }
        }
        row += 8;
    }
    count
}

/// Brings the lanes of eight rows together; a bit for each row that may have another nearest centroid.
#[inline(always)]
unsafe fn settle_eight(rows: &KMeansRows, centroids: &KMeansCentroids, found: &KMeansFound, row: usize) -> u32 {
    // Floats of the part of the state's vectors, from the one at `part` on.
    let part = |vector: usize, part: usize| -> [f32x8; 8] {
        f32x8::transpose(core::array::from_fn(|r| load(rows.state.add((row + r) * STATE + vector * WIDTH + 8 * part))))
    };
    let (mut first, mut second, mut label) = (f32x8::splat(f32::INFINITY), f32x8::splat(f32::INFINITY), f32x8::ZERO);
    for half in 0..WIDTH / 8 {
        let (firsts, seconds, labels) = (part(0, half), part(1, half), part(2, half));
        for lane in 0..8 {
            let closer = firsts[lane].simd_lt(first);
            second = second.fast_min(seconds[lane]).fast_min(firsts[lane].fast_max(first));
            first = first.fast_min(firsts[lane]);
            label = closer.select(labels[lane], label);
        }
    }
    let labels: [u32; 8] = cast(label);
    let errors = f32x8::new(labels.map(|label| *centroids.errors.add(label as usize)));
    let slack = f32x8::new(labels.map(|label| *centroids.slack.add(label as usize)));
    let norms = load(rows.norms.add(row));
    let ties = norms * norms * f32x8::splat(centroids.ties);
    let upper = first + ((norms * errors) * f32x8::splat(2.0 + 1e-5) + slack + ties);
    store(found.first.add(row), first);
    store(found.second.add(row), second);
    store(found.upper.add(row), upper);
    write::<u32x8, u32>(found.labels.add(row), cast(labels));
    !second.simd_gt(upper).to_bitmask() & 0xFF
}

/// The rows themselves, and the centroids as they are.
#[repr(C)]
pub struct KMeansExact {
    /// Row r is at x + d * places[r]; labels in the order of r.
    pub x: *const f32,
    pub places: *const u32,
    /// [k, d]
    pub centroids: *const f64,
    pub upper: *const f32,
    pub labels: *mut u32,
    /// [rows], scratch.
    pub distances: *mut f64,
}

/// Of the centroids whose score is not above the upper bound, the nearest; the lowest index of several.
struct Exact<'a> {
    exact: &'a KMeansExact,
    d: usize,
    count: usize,
}

impl Take for Exact<'_> {
    #[inline(always)]
    unsafe fn take<const V: usize, const R: usize>(&mut self, row: usize, panel: usize, sums: &[[Vector; V]; R]) {
        for r in 0..R {
            let upper = Vector::splat(*self.exact.upper.add(row + r));
            for v in 0..V {
                // Not above it: so is a score that is NaN, as all are where there are so many dimensions that nothing is bounded.
                let mut near = !sums[r][v].simd_gt(upper).to_bitmask() & ((1u32 << WIDTH) - 1);
                while near != 0 {
                    let centroid = panel * PANEL + v * WIDTH + near.trailing_zeros() as usize;
                    if centroid < self.count {
                        self.compare(row + r, centroid);
                    }
                    near &= near - 1;
                }
            }
        }
    }
}

impl Exact<'_> {
    #[inline(never)]
    unsafe fn compare(&self, row: usize, centroid: usize) {
        let x = self.exact.x.add(*self.exact.places.add(row) as usize * self.d);
        let distance = exact_distance(x, self.exact.centroids.add(centroid * self.d), self.d);
        let least = self.exact.distances.add(row);
        if distance < *least {
            *least = distance;
            *self.exact.labels.add(row) = centroid as u32;
        }
    }
}

/// As `squared_distance` in `scalar/kmeans.rs`.
pub unsafe extern "C" fn kmeans_least(
    x: *const f32,
    centroids: *const f64,
    k: usize,
    d: usize,
    distances: *mut f64,
) -> usize {
    let (mut label, mut least, mut second) = (0, f64::INFINITY, f64::INFINITY);
    for c in 0..k {
        let distance = exact_distance(x, centroids.add(c * d), d);
        if distance < least {
            (label, second, least) = (c, least, distance);
        } else if distance < second {
            second = distance;
        }
    }
    *distances = least;
    *distances.add(1) = second;
    label
}

#[inline(always)]
pub unsafe fn exact_distance(x: *const f32, c: *const f64, d: usize) -> f64 {
    let mut lanes = [0f64; 8];
    let mut j = 0;
    while j + 8 <= d {
        let mut squares = [0f64; 8];
        for l in 0..8 {
            let difference = f64::from(*x.add(j + l)) - *c.add(j + l);
            squares[l] = difference * difference;
        }
        for l in 0..8 {
            lanes[l] += squares[l];
        }
        j += 8;
    }
    for l in 0..8 {
        if j + l < d {
            let difference = f64::from(*x.add(j + l)) - *c.add(j + l);
            lanes[l] += difference * difference;
        }
    }
    let four = [lanes[0] + lanes[4], lanes[1] + lanes[5], lanes[2] + lanes[6], lanes[3] + lanes[7]];
    (four[0] + four[2]) + (four[1] + four[3])
}

pub unsafe extern "C" fn kmeans_exact(
    rows: *const KMeansRows,
    centroids: *const KMeansCentroids,
    exact: *const KMeansExact,
) {
    let (rows, centroids, exact) = (&*rows, &*centroids, &*exact);
    for row in 0..rows.rows.next_multiple_of(ROWS) {
        *exact.distances.add(row) = f64::INFINITY;
    }
    let mut take = Exact { exact, d: rows.d, count: centroids.count };
    if rows.rows > TILE {
        return scores(rows, centroids, &mut take);
    }
    // So few rows would not fill a tile: one at a time, with all dimensions at once.
    let part = Part { start: 0, depth: rows.d, first: 0, begins: true, ends: true };
    for row in 0..rows.rows {
        for panel in 0..centroids.panels {
            tile::<VECTORS, 1>(rows, centroids, row, panel, &part, &mut take);
        }
    }
}

pub unsafe extern "C" fn kmeans_centre(
    x: *const f32,
    places: *const u32,
    count: usize,
    d: usize,
    centre: *const f32,
    centred: *mut f32,
    squares: *mut f32,
    rounding: f32,
    norms: *mut f32,
) {
    for row in 0..count {
        let from = x.add(*places.add(row) as usize * d);
        let mut sums = [f32x8::ZERO; 4];
        let mut j = 0;
        while j + 32 <= d {
            for part in 0..4 {
                let at = j + 8 * part;
                let v = centred_part(from, centre, centred.wrapping_add(row * d), at, 8);
                sums[part] = v.mul_add(v, sums[part]);
            }
            j += 32;
        }
        while j < d {
            let v = centred_part(from, centre, centred.wrapping_add(row * d), j, if d - j < 8 { d - j } else { 8 });
            sums[0] = v.mul_add(v, sums[0]);
            j += 8;
        }
        *squares.add(row) = ((sums[0] + sums[1]) + (sums[2] + sums[3])).reduce_add();
    }
    // Squares of numbers that are so small that they vanish add up to less than this.
    let smallest = f32x8::splat(2.0 * d as f32 * f32::from_bits(1));
    let mut row = 0;
    while row < count {
        let norm = (load(squares.add(row)) + smallest).sqrt() * f32x8::splat(rounding);
        store(norms.add(row), norm);
        row += 8;
    }
}

/// Up to eight numbers of a row, less those of the centre, if there is one; then they are kept.
#[inline(always)]
unsafe fn centred_part(from: *const f32, centre: *const f32, to: *mut f32, at: usize, rest: usize) -> f32x8 {
    let v = load_up_to(from.add(at), rest);
    if centre.is_null() {
        return v;
    }
    let v = v - load_up_to(centre.add(at), rest);
    super::math::store_up_to(to.add(at), v, rest);
    v
}

pub unsafe extern "C" fn kmeans_pack(
    centroids: *const f64,
    count: usize,
    d: usize,
    centre: *const f32,
    packed: *mut f32,
    squares: *mut f64,
) {
    for j in 0..d * PANEL {
        *packed.add(j) = 0.0;
    }
    for c in 0..count {
        let from = centroids.add(c * d);
        let mut lanes = [0f64; 4];
        for j in 0..d {
            let value = *from.add(j) - if centre.is_null() { 0.0 } else { f64::from(*centre.add(j)) };
            lanes[j % 4] += value * value;
            *packed.add(j * PANEL + c) = value as f32;
        }
        *squares.add(c) = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    }
}
