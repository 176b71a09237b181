//! The best clusters of weighted places on a line, exactly, by dynamic programming: clusters are intervals, and where the last of
//! them begins rises with where it ends.
//!
//! The least inertia of k clusters falls ever more slowly with k. So a price for each cluster makes k of them the cheapest, and
//! for a price the cheapest are found in one pass over the places (Grønlund et al., "Fast exact k-means, k-medians and Bregman
//! divergence clustering in 1D", arXiv 1701.07204, section 4). Where several numbers of clusters are equally cheap, no price may
//! give k: then a table of k rows is filled by divide and conquer (Wang and Song, "Ckmeans.1d.dp", R Journal 2011), or, where that
//! would be too large, clusters of the next lower number are split where it helps most.

use super::buckets::Sums;
use super::prefix::Prefixes;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Cancelled, Result, reserve, vec_zeroed};
use std::collections::BinaryHeap;

/// Places that k clusters are looked for among: a pass takes some hundredths of a second, for many clusters up to tenths.
pub fn most_places(k: usize) -> usize {
    (16 * k).clamp(1 << 17, 1 << 20)
}

/// Costs that a table may take: some tenths of a second.
const MOST_COSTS: usize = 1 << 26;

/// Where each but the first cluster begins, of the best k among ascending places (their mass, and mass times number), with
/// 1 <= k <= how many there are. `price` is a guess of what a cluster is worth.
pub fn optimal(places: &[Sums], k: usize, price: f64, cancelled: Cancelled) -> Result<Vec<usize>> {
    let (prefixes, m) = (Prefixes::new(places)?, places.len());
    if k == 1 {
        return Ok(Vec::new());
    }
    let found = priced(&prefixes, k, price, cancelled)?;
    let rounds = (usize::BITS - m.leading_zeros()) as usize;
    if found.len() + 1 == k {
        Ok(found)
    } else if m.saturating_mul(k).saturating_mul(rounds) <= MOST_COSTS {
        by_table(&prefixes, k, cancelled)
    } else {
        split(&prefixes, found, k)
    }
}

/// Clusters split in two, always where the inertia falls most, until there are k.
fn split(prefixes: &Prefixes, mut begins: Vec<usize>, k: usize) -> Result<Vec<usize>> {
    let mut best = BinaryHeap::new();
    best.try_reserve(2 * k).map_err(|_| error!(Memory, "out of memory for {k} clusters"))?;
    reserve(&mut begins, k)?;
    // What a cluster gains, as bits, which are ordered as positive numbers are; where it is cut then.
    let split = |from: usize, to: usize| {
        let rest = |cut: &usize| prefixes.cost(from, *cut) + prefixes.cost(*cut, to);
        let cut = (from + 1..to).min_by(|a, b| rest(a).total_cmp(&rest(b)))?;
        Some((f64::max(prefixes.cost(from, to) - rest(&cut), 0.0).to_bits(), from, cut, to))
    };
    let ends = begins.iter().copied().chain([prefixes.len()]);
    best.extend([0].into_iter().chain(begins.iter().copied()).zip(ends).filter_map(|(from, to)| split(from, to)));
    while begins.len() + 1 < k
        && let Some((_, from, cut, to)) = best.pop()
    {
        begins.push(cut);
        best.extend(split(from, cut));
        best.extend(split(cut, to));
    }
    begins.sort_unstable();
    Ok(begins)
}

/// The clusters of the highest price at which there are as many as k, or of one at which there are fewer.
fn priced(prefixes: &Prefixes, k: usize, guess: f64, cancelled: Cancelled) -> Result<Vec<usize>> {
    /// Passes, at most: enough to halve the logarithms' interval to nothing.
    const PASSES: usize = 48;
    let mut pass = Pass::new(prefixes.len())?;
    // Prices at which there are more clusters than k, and fewer.
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let all = prefixes.cost(0, prefixes.len());
    let mut price = if guess > 0.0 && guess < all { guess } else { all / (k as f64).powi(3) };
    for round in 0..PASSES {
        ensure!(!cancelled(), Cancelled, "cancelled before pass {round} of the start");
        let clusters = pass.run(prefixes, price);
        if clusters == k {
            return pass.begins();
        }
        let at = if clusters > k { &mut low } else { &mut high };
        *at = price;
        // The inertia of many clusters goes as their number to the power of -2, so their price as that of -3.
        let ratio = clusters as f64 / k as f64;
        let next = price * ratio * ratio * ratio;
        let tried = round % 4 == 3 && low > 0.0 && high < f64::INFINITY;
        price = if next > low && next < high && !tried {
            next
        } else if low == 0.0 {
            high / 256.0
        } else if high == f64::INFINITY {
            low * 256.0
        } else {
            low.sqrt() * high.sqrt()
        };
    }
    if high == f64::INFINITY {
        return Ok(Vec::new());
    }
    pass.run(prefixes, high);
    pass.begins()
}

/// The cheapest clusters at a price.
struct Pass {
    /// What the first places cost at least.
    costs: Vec<f64>,
    /// Where the last cluster of the first places begins then, and how many clusters they have.
    last: Vec<[u32; 2]>,
    /// Beginnings of a last cluster, and from which end on each is the best: both ascend.
    queue: Vec<[u32; 2]>,
}

impl Pass {
    fn new(m: usize) -> Result<Pass> {
        Ok(Pass { costs: vec_zeroed(m + 1)?, last: vec_zeroed(m + 1)?, queue: vec_zeroed(m + 1)? })
    }

    /// How many clusters there are.
    fn run(&mut self, prefixes: &Prefixes, price: f64) -> usize {
        let (m, queue) = (prefixes.len(), &mut self.queue);
        let (mut head, mut tail) = (0, 1);
        queue[0] = [0, 1];
        for end in 1..=m {
            while head + 1 < tail && queue[head + 1][1] as usize <= end {
                head += 1;
            }
            let from = queue[head][0] as usize;
            self.costs[end] = self.costs[from] + prefixes.cost(from, end) + price;
            self.last[end] = [from as u32, self.last[from][1] + 1];
            let costs = &self.costs;
            let better =
                |a: usize, b: usize, end: usize| costs[a] + prefixes.cost(a, end) <= costs[b] + prefixes.cost(b, end);
            // Beginning here is better than what the queue has from some end on: its last ones are never the best then.
            while tail > head
                && better(end, queue[tail - 1][0] as usize, (queue[tail - 1][1] as usize).max(end + 1).min(m))
            {
                tail -= 1;
            }
            let from = if tail == head {
                end + 1
            } else {
                let [other, since] = queue[tail - 1].map(|x| x as usize);
                let mut not = since.max(end + 1);
                let mut step = 1;
                while not + step <= m && !better(end, other, not + step) {
                    not += step;
                    step *= 2;
                }
                let mut yes = (not + step).min(m + 1);
                while yes - not > 1 {
                    let middle = not + (yes - not) / 2;
                    *(if better(end, other, middle) { &mut yes } else { &mut not }) = middle;
                }
                yes
            };
            if from <= m {
                queue[tail] = [end as u32, from as u32];
                tail += 1;
            }
        }
        self.last[m][1] as usize
    }

    fn begins(&self) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        let mut end = self.last.len() - 1;
        reserve(&mut found, self.last[end][1] as usize)?;
        while self.last[end][0] > 0 {
            end = self.last[end][0] as usize;
            found.push(end);
        }
        found.reverse();
        Ok(found)
    }
}

/// A row of the table.
struct Row<'a> {
    prefixes: &'a Prefixes,
    before: &'a [f64],
    costs: &'a mut [f64],
    /// Where the last cluster begins.
    begins: &'a mut [u32],
}

impl Row<'_> {
    /// Fills the costs of the first `ends` places, whose last clusters begin within `begins`.
    fn fill(&mut self, (low, high): (usize, usize), begins: (usize, usize)) {
        if low > high {
            return;
        }
        let end = low + (high - low) / 2;
        let (mut least, mut best) = (f64::INFINITY, begins.0);
        for from in begins.0..=begins.1.min(end - 1) {
            let cost = self.before[from] + self.prefixes.cost(from, end);
            if cost < least {
                (least, best) = (cost, from);
            }
        }
        (self.costs[end], self.begins[end]) = (least, best as u32);
        self.fill((low, end - 1), (begins.0, best));
        self.fill((end + 1, high), (best, begins.1));
    }
}

pub fn by_table(prefixes: &Prefixes, k: usize, cancelled: Cancelled) -> Result<Vec<usize>> {
    let m = prefixes.len();
    let (mut before, mut costs) = (vec_zeroed::<f64>(m + 1)?, vec_zeroed::<f64>(m + 1)?);
    let mut begins: Vec<u32> = vec_zeroed(k * (m + 1))?;
    before[1..].fill(f64::INFINITY);
    for (cluster, begins) in begins.chunks_exact_mut(m + 1).enumerate() {
        ensure!(!cancelled(), Cancelled, "cancelled before row {cluster} of the start");
        costs.fill(f64::INFINITY);
        let mut row = Row { prefixes, before: &before, costs: &mut costs, begins };
        // Each cluster has a place at least.
        row.fill((cluster + 1, m - (k - 1 - cluster)), (cluster, if cluster == 0 { 0 } else { m - 1 }));
        std::mem::swap(&mut before, &mut costs);
    }
    let mut found = Vec::new();
    reserve(&mut found, k)?;
    let mut end = m;
    for begins in begins.chunks_exact(m + 1).skip(1).rev() {
        end = begins[end] as usize;
        found.push(end);
    }
    found.reverse();
    Ok(found)
}
