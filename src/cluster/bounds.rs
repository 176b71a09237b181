//! Bounds of the distances that spare points the search (Hamerly, "Making k-means even faster", SDM 2010): one of how far a point
//! is from its centroid at most, one of how far from all others at least. When centroids move, the bounds move as far; a point
//! whose bounds do not meet keeps its centroid. The rest is searched for as ever, so that no label depends on the bounds.

use crate::tensor::{Result, vec_zeroed};

pub struct Bounds {
    /// [n, 2]: to the own centroid at most, to the others at least.
    pub values: Vec<f32>,
    /// Whether `values` are those of the labels and of the centroids before the last step.
    pub hold: bool,
    /// Points that have to be searched for, ascending: the first `count`.
    open: Vec<u32>,
    count: usize,
    /// How far each centroid moved.
    moves: Vec<f32>,
    /// Below this share of points that changed their cluster, bounds are kept.
    share: f64,
}

const UP: f32 = 1.0 + f32::EPSILON;
const DOWN: f32 = 1.0 - f32::EPSILON;

/// A search for so much of all points costs as much as one for all, with what the bounds cost.
const WORTH: f64 = 0.7;

impl Bounds {
    pub fn new(n: usize, k: usize) -> Result<Bounds> {
        let (open, count) = (vec_zeroed(n)?, 0);
        Ok(Bounds { values: vec_zeroed(2 * n)?, hold: false, open, count, moves: vec_zeroed(k)?, share: 0.15 })
    }

    /// Whether they are worth finding, where so many of n points changed their cluster in the last step.
    pub fn wanted(&self, moved: u64, n: usize) -> bool {
        moved as f64 <= self.share * n as f64
    }

    /// Moves the bounds by what the centroids [k, d] moved. Where too many points would have to be searched for, they hold no
    /// more.
    pub fn step(&mut self, labels: &[u32], before: &[f64], after: &[f64], d: usize) {
        for ((to, before), after) in self.moves.iter_mut().zip(before.chunks_exact(d)).zip(after.chunks_exact(d)) {
            let square: f64 = before.iter().zip(after).map(|(b, a)| (a - b) * (a - b)).sum();
            // Half a unit in the last place each, and f32's: the next number is above all of it.
            *to = if square > 0.0 { (square.sqrt() as f32).next_up().next_up() } else { 0.0 };
        }
        let most = self.two_longest();
        let mut count = 0;
        for (i, (bounds, &label)) in self.values.chunks_exact_mut(2).zip(labels).enumerate() {
            let others = if label == most.label { most.second } else { most.first };
            // Times a little more than the rounding of the sum; a bound below 0 spares nothing.
            bounds[0] = (bounds[0] + self.moves[label as usize]) * UP;
            bounds[1] = (bounds[1] - others) * DOWN;
            // Without a jump: half of them may be open.
            self.open[count] = i as u32;
            count += usize::from(bounds[0] >= bounds[1]);
        }
        self.count = count;
        self.hold = count as f64 <= WORTH * labels.len() as f64;
        if !self.hold {
            // They are tried again when fewer points change their cluster.
            self.share /= 2.0;
        }
    }

    /// The points that have to be searched for, and where their bounds go.
    pub fn open(&mut self) -> (&[u32], &mut [f32]) {
        (&self.open[..self.count], &mut self.values)
    }

    fn two_longest(&self) -> Longest {
        let mut longest = Longest { label: 0, first: 0.0, second: 0.0 };
        for (label, &length) in self.moves.iter().enumerate() {
            if length > longest.first {
                longest = Longest { label: label as u32, first: length, second: longest.first };
            } else {
                longest.second = longest.second.max(length);
            }
        }
        longest
    }
}

struct Longest {
    label: u32,
    first: f32,
    second: f32,
}
