//! Where the clusters of a line end at first.

use super::buckets::{Buckets, Sums, fill};
use super::optimal::{most_places, optimal};
use super::plan::share;
use crate::backend::Launch;
use crate::tensor::{Cancelled, Result, reserve, vec_zeroed};
use std::collections::BinaryHeap;

/// The different numbers of a line, where they are few.
pub struct Distinct {
    /// Where each begins.
    pub starts: Vec<usize>,
    pub places: Vec<Sums>,
}

/// The different numbers, or None where there are more than k and more than the best clusters can be found among.
pub fn distinct(launch: &Launch, buckets: &mut dyn Buckets, k: usize) -> Result<Option<Distinct>> {
    let mut found = Distinct { starts: Vec::new(), places: Vec::new() };
    for i in 0..buckets.count() {
        buckets.sort(launch, &[i]);
        let mut at = buckets.start(i);
        while at < buckets.end(i) {
            let (begin, end) = buckets.run(at).unwrap_or((at, at + 1));
            reserve(&mut found.starts, 1)?;
            reserve(&mut found.places, 1)?;
            let [mass, _] = buckets.sums(begin, end);
            found.starts.push(begin);
            found.places.push([mass, mass * buckets.value(begin)]);
            at = end;
            if found.starts.len() > most_places(k) {
                return Ok(None);
            }
        }
    }
    Ok(Some(found))
}

/// What a cluster is worth where there are many: with a density of clusters as the cube root of that of the numbers, k of them leave
/// an inertia of (sum of shares)^3 / (12 k^2).
pub fn price(shares: f64, k: usize) -> f64 {
    (shares / k as f64).powi(3) / 6.0
}

/// Ends of k clusters, the last left out: the best that end between buckets, or, where a cluster has few of those, between parts of
/// them. `highest` is the highest key.
pub fn start(
    launch: &Launch,
    buckets: &mut dyn Buckets,
    k: usize,
    highest: u32,
    cancelled: Cancelled,
) -> Result<Vec<usize>> {
    /// Buckets of a cluster that do without being cut.
    const ENOUGH: usize = 128;
    let count = buckets.count();
    let top = |i: usize| if i + 1 < count { buckets.bucket(i + 1).lowest } else { highest };
    let share = |i: usize| share((buckets.end(i) - buckets.start(i)) as f64, buckets.bucket(i).lowest, top(i));
    let price = price((0..count).map(share).sum(), k);
    let pieces = if count / k < ENOUGH { (most_places(k) / count).max(1) } else { 1 };
    let (mut starts, places) = cut(launch, buckets, pieces)?;
    if places.len() < k {
        starts.remove(0);
        return Ok(starts);
    }
    let mut ends = optimal(&places, k, price, cancelled)?;
    ends.iter_mut().for_each(|end| *end = starts[*end]);
    Ok(ends)
}

/// The places of all buckets, each cut into up to so many, and where they begin.
fn cut(launch: &Launch, buckets: &mut dyn Buckets, pieces: usize) -> Result<(Vec<usize>, Vec<Sums>)> {
    let mut starts = Vec::new();
    if pieces > 1 {
        let all: Vec<usize> = (0..buckets.count()).collect();
        buckets.sort(launch, &all);
    }
    reserve(&mut starts, buckets.count() * pieces)?;
    for i in 0..buckets.count() {
        let (start, end) = (buckets.start(i), buckets.end(i));
        starts.push(start);
        for piece in 1..pieces {
            let at = start + (end - start) * piece / pieces;
            let at = buckets.run(at).map_or(start, |run| run.0);
            if at > starts[starts.len() - 1] {
                starts.push(at);
            }
        }
    }
    let mut places: Vec<Sums> = vec_zeroed(starts.len())?;
    let end = |i: usize| starts.get(i + 1).map_or(buckets.len(), |&end| end);
    fill(launch, &mut places, 256, |i| buckets.sums(starts[i], end(i)));
    Ok((starts, places))
}

/// Makes `ends` those of k clusters that all have items, between different numbers: moves them to where a number begins, and cuts
/// the largest clusters in two while there are too few. There are at least k different numbers.
pub fn complete(launch: &Launch, buckets: &mut dyn Buckets, k: usize, ends: &mut Vec<usize>) -> Result<()> {
    let run = |buckets: &mut dyn Buckets, at: usize| {
        buckets.sort(launch, &[buckets.at(at)]);
        buckets.run(at).unwrap_or((at, at))
    };
    let all = buckets.len();
    ends.retain(|&end| end < all);
    ends.iter_mut().for_each(|end| *end = run(buckets, *end).0);
    ends.retain(|&end| end > 0);
    ends.sort_unstable();
    ends.dedup();
    if ends.len() + 1 == k {
        return Ok(());
    }
    let mut clusters = BinaryHeap::new();
    clusters.try_reserve(2 * k).map_err(|_| crate::tensor::error::error!(Memory, "out of memory for {k} clusters"))?;
    let edge = |i: usize| if i == 0 { 0 } else { ends.get(i - 1).map_or(all, |&end| end) };
    clusters.extend((0..=ends.len()).map(|i| (edge(i + 1) - edge(i), edge(i))));
    reserve(ends, k)?;
    while ends.len() + 1 < k {
        let Some((size, from)) = clusters.pop() else { break };
        let (begin, end) = run(buckets, from + size / 2);
        let cut = if begin > from { begin } else { end };
        if cut < from + size {
            ends.push(cut);
            clusters.extend([(cut - from, from), (from + size - cut, cut)]);
        }
    }
    ends.sort_unstable();
    Ok(())
}

/// The highest number of f32 that is at least as near to a as to b, where a <= b: 2 t <= a + b, exactly.
pub fn threshold(a: f64, b: f64) -> f32 {
    let sum = a + b;
    let kept = sum - a;
    let lost = (a - (sum - kept)) + (b - kept);
    let mut t = (sum / 2.0) as f32;
    let above = |t: f32| {
        let twice = 2.0 * f64::from(t);
        twice > sum || (twice == sum && lost < 0.0)
    };
    if above(t) {
        t = t.next_down();
    }
    t
}
