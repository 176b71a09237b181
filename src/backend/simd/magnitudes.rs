//! The schemes that rank magnitudes, `absmedian` and `least_squares`: see `scalar/scheme.rs`.
//!
//! Small groups are sorted, eight at a time. Of a large one, a histogram of magnitudes tells the few bins in which the answer
//! can be; only their weights are looked at one by one. Counts and sums are of integers: any order gives the same bits.

use super::chunks::{self, Shared};
use super::scheme::CHUNK;
use super::spans::{Bins, COUNT_SHIFT, HISTOGRAM, SMALL, Spans, TABLES, integer_factors, mean_scale};
use crate::backend::Launch;
use crate::backend::scalar::scheme::{Groups, LEAST_SCALE, check_least_squares};
use crate::backend::workspace::with_scratch;
use crate::tensor::{Result, View, ViewMut};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

type SmallGroups = unsafe extern "C" fn(*const *const f32, *const usize, usize, *mut f32, *mut f32, *mut f32);

pub fn absmedian(
    launch: &Launch,
    w: &View,
    group: usize,
    thresholds: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    by_groups(launch, "absmedian", w, group, thresholds, scales, |spans| spans.small_medians, median)
}

pub fn least_squares(
    launch: &Launch,
    w: &View,
    group: usize,
    thresholds: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    by_groups(launch, "least_squares", w, group, thresholds, scales, |spans| spans.small_least_squares, least_error)
}

/// Small groups by eight; medium ones one by one, in chunks of several; large ones in turn, each in chunks.
#[allow(clippy::too_many_arguments)]
fn by_groups(
    launch: &Launch,
    name: &str,
    w: &View,
    group: usize,
    thresholds: &mut ViewMut,
    scales: &mut ViewMut,
    small: fn(&Spans) -> SmallGroups,
    large: fn(&Launch, &[f32]) -> Result<f32>,
) -> Result<()> {
    let groups = Groups::new(name, w.dims(), group)?;
    groups.check("thresholds", thresholds.dims()).map_err(|e| e.within(name))?;
    groups.check("scales", scales.dims()).map_err(|e| e.within(name))?;
    let (w, thresholds, scales) = (w.slice::<f32>()?, thresholds.slice_mut::<f32>()?, scales.slice_mut::<f32>()?);
    let small = small(launch.spans);
    let one_by_one = |range: Range<usize>, thresholds: &Shared<f32>, scales: &Shared<f32>| -> Result<()> {
        for i in range {
            let scale = large(launch, &w[groups.weights(i)])?;
            // SAFETY: each group is in one range.
            unsafe {
                scales.part(i..i + 1)[0] = scale;
                thresholds.part(i..i + 1)[0] = 0.5 * scale;
            }
        }
        Ok(())
    };
    let (thresholds, scales) = (Shared::new(thresholds), Shared::new(scales));
    if groups.width > CHUNK {
        return one_by_one(0..groups.count(), &thresholds, &scales);
    }
    let per_chunk = (CHUNK / 4 / groups.width).max(1);
    if groups.width > SMALL {
        return chunks::try_run(launch, groups.count(), per_chunk, |range| one_by_one(range, &thresholds, &scales));
    }
    let room = 8 * groups.width.next_power_of_two().max(8);
    chunks::try_run(launch, groups.count(), per_chunk.next_multiple_of(8), |range| {
        with_scratch::<f32, _>(room, |room| {
            for start in range.clone().step_by(8) {
                let eight = start..range.end.min(start + 8);
                let (mut pointers, mut lengths) = ([std::ptr::null(); 8], [0; 8]);
                for (lane, i) in eight.clone().enumerate() {
                    let w = &w[groups.weights(i)];
                    (pointers[lane], lengths[lane]) = (w.as_ptr(), w.len());
                }
                // SAFETY: different eights are disjoint.
                let (thresholds, scales) = unsafe { (thresholds.part(eight.clone()), scales.part(eight.clone())) };
                let (thresholds, scales) = (thresholds.as_mut_ptr(), scales.as_mut_ptr());
                // SAFETY: so many groups of these lengths, none above `width`, for which there is room.
                unsafe {
                    small(pointers.as_ptr(), lengths.as_ptr(), eight.len(), room.as_mut_ptr(), thresholds, scales);
                }
            }
        })
    })
}

/// The scale of `absmedian` of a large group.
fn median(launch: &Launch, w: &[f32]) -> Result<f32> {
    let largest = largest(launch, w);
    if !f32::from_bits(largest).is_finite() {
        return Ok(f32::NAN);
    }
    let histogram = Histogram::new(w.len(), largest);
    let median = histogram.fill(launch, w, |bins| {
        // In descending order the lower median of n is number floor(n / 2).
        let (mut above, rank) = (0, w.len() / 2);
        for b in (0..bins.len()).rev() {
            if above + bins[b].count as usize > rank {
                let bits = histogram.low(b)..histogram.low(b + 1);
                return gather(launch, w, bits, bins[b].count as usize, |found| {
                    let (_, median, _) = found.select_nth_unstable_by(rank - above, |a, b| b.cmp(a));
                    f32::from_bits(*median)
                });
            }
            above += bins[b].count as usize;
        }
        Ok(0.0) // of nothing
    })??;
    Ok(median.max(LEAST_SCALE as f32))
}

/// The scale of `least_squares` of a large group.
fn least_error(launch: &Launch, w: &[f32]) -> Result<f32> {
    check_least_squares(w.len())?;
    let largest = largest(launch, w);
    if !f32::from_bits(largest).is_finite() {
        return Ok(f32::NAN);
    }
    if largest == 0 {
        return Ok(0.0);
    }
    let histogram = Histogram::new(w.len(), largest);
    let best = histogram.fill(launch, w, |bins| histogram.best(launch, w, bins))??;
    Ok(mean_scale(best.sum as f64, best.k as f64, largest))
}

fn largest(launch: &Launch, w: &[f32]) -> u32 {
    let largest = AtomicU32::new(0);
    chunks::run(launch, w.len(), CHUNK, |range| {
        let w = &w[range];
        // SAFETY: w has the stated length.
        let found = unsafe { (launch.spans.largest_magnitude)(w.as_ptr(), w.len()) };
        largest.fetch_max(found, Ordering::Relaxed);
    });
    largest.into_inner()
}

/// Calls `look` with the bits of the magnitudes whose bits are in a range, `count` of them, in any order.
fn gather<R>(
    launch: &Launch,
    w: &[f32],
    bits: Range<u32>,
    count: usize,
    look: impl FnOnce(&mut [u32]) -> R,
) -> Result<R> {
    let span = launch.spans.magnitudes_between;
    with_scratch::<u32, _>(count, |found| {
        if w.len() <= CHUNK {
            // SAFETY: w has the stated length, and found has room for what the histogram has counted.
            unsafe { span(w.as_ptr(), w.len(), bits.start, bits.end, found.as_mut_ptr()) };
            return Ok(look(found));
        }
        let rest = Mutex::new(&mut found[..]);
        chunks::try_run(launch, w.len(), CHUNK, |range| {
            let w = &w[range];
            with_scratch::<u32, _>(w.len(), |here| {
                // SAFETY: w has the stated length, and so has the room.
                let count = unsafe { span(w.as_ptr(), w.len(), bits.start, bits.end, here.as_mut_ptr()) };
                let mut rest = rest.lock();
                let (part, left) = std::mem::take(&mut *rest).split_at_mut(count);
                part.copy_from_slice(&here[..count]);
                *rest = left;
            })
        })?;
        Ok(look(found))
    })?
}

/// f less more than its roundings, for comparisons that must not be wrong by them.
fn slightly_less(f: f64) -> f64 {
    f * (1.0 - 2f64.powi(-40))
}

/// How many magnitudes fall in a bin, and the sum of their integers.
#[repr(C)]
#[derive(Clone, Copy)]
struct Bin {
    count: u64,
    sum: u64,
}

// SAFETY: two integers without padding, of which zeros are valid.
unsafe impl bytemuck::Zeroable for Bin {}
// SAFETY: as above, any bits are.
unsafe impl bytemuck::Pod for Bin {}

/// The k largest magnitudes: f of the contract, k, and their sum.
#[derive(Clone, Copy)]
struct Best {
    f: f64,
    k: u64,
    sum: u64,
}

impl Best {
    /// The larger f; of the same, the smaller k.
    fn consider(&mut self, k: u64, sum: u64) {
        let p = sum as f64;
        let f = (p * p) * (1.0 / k as f64);
        if f > self.f || (f == self.f && k < self.k) {
            *self = Best { f, k, sum };
        }
    }
}

/// Bins by the exponent and the first bits of the mantissa; number 0 takes all that is below the others.
struct Histogram {
    bins: Bins,
    largest: u32,
}

impl Histogram {
    /// For `count` weights. So many octaves below the largest magnitude have bins that the best k of `least_squares` is in one
    /// of them: with f(k) >= f(1) and f(k) >= f(k - 1), that is P_k / sqrt(k) >= m_1 and
    /// P_k - m_k <= P_k sqrt(1 - 1 / k) <= P_k (1 - 1 / (2 k)), it has m_k >= P_k / (2 k) >= m_1 / (2 sqrt(count)). Two octaves
    /// more are there for the roundings of f, which are nothing beside 1 / (2 k) for the counts below 2^33 that there are.
    ///
    /// Integers of these octaves are at least 2^10: different bins have different integers, so all ends of bins are ends of
    /// runs of equal ones, as the contract has it.
    fn new(count: usize, largest: u32) -> Histogram {
        let half_logarithm = (usize::BITS - count.leading_zeros()).div_ceil(2) as usize;
        let octaves = half_logarithm + 3;
        // Few bins for few weights: each bin costs about as much as some weights.
        let mantissa = match count {
            0..=4096 => 4,
            4097..=16_384 => 5,
            16_385..=CHUNK => 6,
            _ => 7,
        };
        let (shift, count) = (23 - mantissa, (octaves << mantissa) + 1);
        let base = (largest >> shift) as i32 - (count as i32 - 1);
        Histogram { bins: Bins { shift, base, count, factors: integer_factors(largest) }, largest }
    }

    /// The least bits of a magnitude in bin b; bin `count` begins above the largest.
    fn low(&self, b: usize) -> u32 {
        if b == 0 { 0 } else { ((self.bins.base + b as i32).max(0) as u32) << self.bins.shift }
    }

    /// The integer of a magnitude.
    fn integer(&self, bits: u32) -> u64 {
        let [first, second] = self.bins.factors;
        (f32::from_bits(bits) * first * second) as u64
    }

    /// Calls `look` with the bins of the weights.
    fn fill<R>(&self, launch: &Launch, w: &[f32], look: impl FnOnce(&[Bin]) -> R) -> Result<R> {
        const { assert!(CHUNK <= HISTOGRAM) };
        let count = self.bins.count;
        with_scratch::<Bin, _>(count, |totals| {
            totals.fill(Bin { count: 0, sum: 0 });
            let shared = Mutex::new(&mut *totals);
            chunks::try_run(launch, w.len(), CHUNK, |range| {
                let w = &w[range];
                with_scratch::<u64, _>(TABLES * count, |tables| {
                    tables.fill(0);
                    // SAFETY: w has the stated length, at most HISTOGRAM; there are so many tables.
                    unsafe {
                        (launch.spans.magnitude_histogram)(&self.bins, w.as_ptr(), w.len(), tables.as_mut_ptr());
                    }
                    let mut totals = shared.lock();
                    for table in tables.chunks_exact(count) {
                        for (bin, here) in totals.iter_mut().zip(table) {
                            bin.count += here >> COUNT_SHIFT;
                            bin.sum += here & ((1 << COUNT_SHIFT) - 1);
                        }
                    }
                })
            })?;
            Ok(look(totals))
        })?
    }

    /// The best of all k, at the end of a bin or inside of one.
    fn best(&self, launch: &Launch, w: &[f32], bins: &[Bin]) -> Result<Best> {
        // See `new`: the best k is in none of the bin of what is left.
        let total: u64 = bins[1..].iter().map(|bin| bin.sum).sum();
        let mut best = Best { f: -1.0, k: 0, sum: 0 };
        let (mut k, mut sum, mut end) = (0, 0, bins.len());
        while end > 1 && (k == 0 || self.can_follow(slightly_less(best.f), end - 1, k, sum, total)) {
            end -= 1;
            if bins[end].count > 0 {
                (k, sum) = (k + bins[end].count, sum + bins[end].sum);
                best.consider(k, sum);
            }
        }
        let least = slightly_less(best.f);
        // Runs of bins that can hold a better one, with k and the sum before them. Each costs a pass over the weights: after
        // some, one takes all that is left.
        const RUNS: usize = 4;
        let (mut k, mut sum, mut runs) = (0, 0, 0);
        let mut run: Option<(usize, u64, u64)> = None;
        for b in (end - 1..bins.len()).rev() {
            let goes_on = run.is_some() && (bins[b].count == 0 || runs == RUNS);
            let candidate = b >= end && (goes_on || self.can_reach(least, b, &bins[b], k, sum));
            match run {
                None if candidate => {
                    run = Some((b, k, sum));
                    runs += 1;
                }
                Some((top, run_k, run_sum)) if !candidate => {
                    let range = self.low(b + 1)..self.low(top + 1);
                    gather(launch, w, range, (k - run_k) as usize, |found| {
                        self.search(found, run_k, run_sum, &mut best);
                    })?;
                    run = None;
                }
                _ => {}
            }
            (k, sum) = (k + bins[b].count, sum + bins[b].sum);
        }
        Ok(best)
    }

    /// Whether f can be `least` in bin b or below, after K integers with the sum P of a `total`. With hi the largest integer and
    /// R = total - P, j more have a sum of at most j hi and of at most R: as in `can_reach`, f is at most P^2 / K, which the end
    /// of a bin has reached, or (P + R)^2 / (K + R / hi).
    fn can_follow(&self, least: f64, b: usize, k: u64, sum: u64, total: u64) -> bool {
        let hi = self.integer(self.low(b + 1).max(1) - 1) as f64;
        let (all, rest) = (total as f64, (total - sum) as f64);
        all * all * hi > least * (k as f64 * hi + rest)
    }

    /// Whether f can be `least` inside of a bin of c integers with the sum S, all from lo to hi, after K with the sum P. Of the
    /// bin, the j largest have a sum of at most j hi, and of at most S - (c - j) lo, which is what the others leave. The lesser
    /// of the two changes at j* = (S - c lo) / (hi - lo). As (P + a j)^2 / (K + j) is convex in j, it is largest at an end: so f
    /// is at most what it is at j = 0 or j = c, where the bins meet, or (P + hi j*)^2 / (K + j*). Here both sides of the
    /// comparison with that are multiplied by (hi - lo)^2 (K + j*).
    fn can_reach(&self, least: f64, b: usize, bin: &Bin, k: u64, sum: u64) -> bool {
        if bin.count < 2 {
            return false;
        }
        let (lo, hi) = (self.integer(self.low(b)), self.integer((self.low(b + 1) - 1).min(self.largest)));
        let (above, between) = ((bin.sum - bin.count * lo) as f64, (hi - lo) as f64);
        let apex = sum as f64 * between + hi as f64 * above;
        apex * apex > least * (k as f64 * between + above) * between
    }

    /// Considers every k among the magnitudes `found`, which follow `k` larger ones with the sum `sum`.
    fn search(&self, found: &mut [u32], mut k: u64, mut sum: u64, best: &mut Best) {
        found.sort_unstable_by(|a, b| b.cmp(a));
        let mut integers = found.iter().map(|&bits| self.integer(bits)).peekable();
        while let Some(m) = integers.next() {
            (k, sum) = (k + 1, sum + m);
            if integers.peek().is_none_or(|&next| m > next) {
                best.consider(k, sum);
            }
        }
    }
}
