//! Boundaries moved together to where the inertia is least near by: each may go to a few places on either side, all combinations
//! are looked at by dynamic programming (Viterbi's), and the steps get finer until they are single numbers. Lloyd's iteration
//! needs thousands of steps for what this does in some tens, and stops where no single one helps; a result of this has nothing to
//! gain from any combination of small moves, so it is a fixed point of Lloyd's as well (Telgarsky and Vattani, AISTATS 2010).

use super::buckets::{Buckets, Sums};
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Cancelled, Result, reserve, vec_zeroed};

/// Places that a boundary may go to, on each side.
const REACH: usize = 8;
const PLACES: usize = 2 * REACH + 1;

/// Steps of one size, at most.
const ROUNDS: usize = 30;

/// What goes from the cluster above a boundary to the one below when it moves: mass, sum and sum of squares about a number near by,
/// negative when it moves down.
#[derive(Clone, Copy, Default)]
struct Move {
    to: usize,
    mass: f64,
    sum: f64,
    square: f64,
}

impl Move {
    /// The same about another number.
    fn about(&self, from: f64, to: f64) -> Move {
        let by = from - to;
        let square = self.square + by * (2.0 * self.sum + self.mass * by);
        Move { sum: self.sum + self.mass * by, square, ..*self }
    }
}

/// The moves of one boundary, by rising place.
#[derive(Clone, Copy)]
struct Moves {
    about: f64,
    count: usize,
    moves: [Move; PLACES],
}

/// Moves `ends`, where clusters end, and keeps `sums` those of the clusters.
pub fn refine(
    launch: &Launch,
    buckets: &mut dyn Buckets,
    ends: &mut [usize],
    sums: &mut [Sums],
    cancelled: Cancelled,
) -> Result<()> {
    let mut steps: Vec<usize> = vec_zeroed(ends.len())?;
    let mut wanted = Vec::new();
    // Steps begin at what the buckets, between which the start has chosen, leave open.
    let largest = |buckets: &dyn Buckets, ends: &[usize], j: usize| {
        let low = if j == 0 { 0 } else { ends[j - 1] };
        let high = ends.get(j + 1).map_or(buckets.len(), |&end| end);
        let bucket = buckets.at(ends[j]);
        let open = (buckets.end(bucket) - buckets.start(bucket)) / 2;
        open.min((ends[j] - low).min(high - ends[j]) / (2 * REACH)).max(1)
    };
    for (j, step) in steps.iter_mut().enumerate() {
        *step = largest(buckets, ends, j);
    }
    loop {
        for _ in 0..ROUNDS {
            ensure!(!cancelled(), Cancelled, "cancelled while boundaries were moved");
            wanted.clear();
            for (&end, &step) in ends.iter().zip(&steps) {
                let (low, high) = (end.saturating_sub(REACH * step), (end + REACH * step).min(buckets.len() - 1));
                wanted.extend(buckets.at(low.saturating_sub(1))..=buckets.at(high));
            }
            wanted.sort_unstable();
            wanted.dedup();
            buckets.sort(launch, &wanted);
            if !step(buckets, ends, sums, &steps)? {
                break;
            }
        }
        if steps.iter().all(|&step| step == 1) {
            return Ok(());
        }
        steps.iter_mut().for_each(|step| *step = (*step / REACH).max(1));
    }
}

/// One step of all boundaries; whether it was worth it.
fn step(buckets: &dyn Buckets, ends: &mut [usize], sums: &mut [Sums], steps: &[usize]) -> Result<bool> {
    let mut all: Vec<Moves> = Vec::new();
    reserve(&mut all, ends.len())?;
    all.extend(ends.iter().zip(steps).map(|(&end, &step)| moves(buckets, end, step)));
    // The least change of inertia up to each boundary, by where it goes, and where the one before it goes then.
    let mut chosen: Vec<[u8; PLACES]> = vec_zeroed(ends.len() + 1)?;
    let (mut before, mut spread) = ([f64::INFINITY; PLACES], 0.0);
    before[0] = 0.0;
    let fixed = |to: usize| Moves { about: 0.0, count: 1, moves: [Move { to, ..Move::default() }; PLACES] };
    let (first, last) = (fixed(0), fixed(buckets.len()));
    for (cluster, &[mass, sum]) in sums.iter().enumerate() {
        let center = sum / mass;
        let (below, above) = (if cluster == 0 { &first } else { &all[cluster - 1] }, all.get(cluster).unwrap_or(&last));
        let mut here = [f64::INFINITY; PLACES];
        let enter = |of: &Moves| of.moves.map(|m| m.about(of.about, center));
        let (lost, won) = (enter(below), enter(above));
        for (i, won) in won[..above.count].iter().enumerate() {
            for (j, lost) in lost[..below.count].iter().enumerate() {
                let (rest, moved) = (mass + won.mass - lost.mass, won.sum - lost.sum);
                let cost = before[j] + (won.square - lost.square) - moved * moved / rest;
                if won.to > lost.to && rest > 0.0 && cost < here[i] {
                    (here[i], chosen[cluster][i]) = (cost, j as u8);
                }
            }
        }
        if cluster > 0 && cluster < ends.len() {
            // About what a cluster's inertia is: that of numbers spread evenly.
            spread += mass * (above.about - below.about).powi(2) / 12.0;
        }
        before = here;
    }
    if before[0] >= -1e-11 * spread {
        return Ok(false);
    }
    let mut place = 0;
    for cluster in (1..sums.len()).rev() {
        place = chosen[cluster][place] as usize;
        ends[cluster - 1] = all[cluster - 1].moves[place].to;
    }
    update(buckets, ends, sums);
    Ok(true)
}

/// The sums of all clusters.
pub fn update(buckets: &dyn Buckets, ends: &[usize], sums: &mut [Sums]) {
    let mut from = 0;
    for (cluster, sums) in sums.iter_mut().enumerate() {
        let to = ends.get(cluster).map_or(buckets.len(), |&end| end);
        *sums = buckets.sums(from, to);
        from = to;
    }
}

/// Where the boundary at `end` may go: places `step` numbers apart or more, between different numbers.
fn moves(buckets: &dyn Buckets, end: usize, step: usize) -> Moves {
    let about = buckets.value(end);
    let add = |to: &mut Move, sign: f64, from: usize, end: usize| {
        let [mass, sum, square] = buckets.moments(from, end, about);
        (to.mass, to.sum, to.square) = (to.mass + sign * mass, to.sum + sign * sum, to.square + sign * square);
    };
    let (mut down, mut low) = ([Move { to: end, ..Move::default() }; REACH + 1], 0);
    while low < REACH && down[low].to > step {
        let mut next = down[low];
        match buckets.run(next.to - step) {
            Some((begin, _)) if begin > 0 => next.to = begin,
            _ => break,
        }
        let from = next.to;
        add(&mut next, -1.0, from, down[low].to);
        low += 1;
        down[low] = next;
    }
    let mut found = Moves { about, count: low, moves: [Move::default(); PLACES] };
    found.moves[..low].copy_from_slice(&down[1..=low]);
    found.moves[..low].reverse();
    let mut next = down[0];
    loop {
        found.moves[found.count] = next;
        found.count += 1;
        if found.count > low + REACH || next.to + step >= buckets.len() {
            return found;
        }
        let from = next.to;
        match buckets.run(from + step - 1) {
            Some((_, end)) if end < buckets.len() => next.to = end,
            _ => return found,
        }
        let end = next.to;
        add(&mut next, 1.0, from, end);
    }
}
