//! Several nearest centroids of each row: `scalar/kmeans_closest.rs` for the vector units.
//!
//! Scores are lower bounds that are off by no more than twice E (see `spans/kmeans.rs`). So of all centroids whose score is not
//! above the m-th least one and the largest 2 E, m are as near as that at least, and none of the others is as near: f64 decides
//! among them.

use super::chunks::{self, Shared};
use super::kmeans_block::block_rows;
use super::kmeans_packed::{Packed, ties, with_packed};
use super::spans::{
    KMEANS_PANEL as PANEL, KMEANS_PANELS as PANELS, KMEANS_ROWS as ROWS, KMEANS_SLICE as SLICE, KMeansRows,
};
use crate::backend::Launch;
use crate::backend::projection::rounding;
use crate::backend::scalar::kmeans_closest::{self as scalar, check_closest, in_order};
use crate::backend::workspace::with_scratch;
use crate::tensor::{Result, View, ViewMut, reserve};
use std::ops::Range;

pub fn kmeans_closest(
    launch: &Launch,
    x: &View,
    centroids: &View,
    labels: &mut ViewMut,
    distances: &mut ViewMut,
) -> Result<()> {
    check_closest(x.dims(), centroids.dims(), labels.dims(), distances.dims())?;
    let ([n, d], m) = ([x.dim(0), x.dim(1)], labels.dim(1));
    if d == 0 {
        return scalar::kmeans_closest(launch, x, centroids, labels, distances);
    }
    let (x, centroids) = (x.slice::<f32>()?, centroids.slice::<f64>()?);
    let (labels, distances) = (Shared::new(labels.slice_mut::<u32>()?), Shared::new(distances.slice_mut::<f32>()?));
    with_packed(launch, centroids, d, |packed| {
        let most = |of: &[f32]| f64::from(of.iter().fold(0f32, |most, &x| most.max(x)));
        let (error, slack) = (most(packed.bounds.errors), most(packed.bounds.slack));
        let search = Search { launch, x, d, centroids, packed, error, slack, m, labels, distances };
        let size = block_rows(n, 4 * (d + packed.padded()));
        chunks::try_run(launch, n, 8 * size, |rows| search.run(rows, size))
    })
}

/// The m-th least of the scores, bit by bit of what they are as integers in the same order.
fn at_place(m: usize, scores: &[f32], keys: &mut [u32]) -> f32 {
    const SIGN: u32 = 1 << 31;
    for (key, score) in keys.iter_mut().zip(scores) {
        let bits = score.to_bits();
        *key = if bits & SIGN == 0 { bits | SIGN } else { !bits };
    }
    let mut least = 0u32;
    for bit in (0..32).rev() {
        // Fewer than m are below the number with this bit: it is at least that.
        let raised = least | 1 << bit;
        let below: u32 = keys.iter().map(|&key| u32::from(key < raised)).sum();
        if (below as usize) < m {
            least = raised;
        }
    }
    f32::from_bits(if least & SIGN != 0 { least ^ SIGN } else { !least })
}

struct Search<'a> {
    launch: &'a Launch,
    /// [n, d]
    x: &'a [f32],
    d: usize,
    /// [k, d]
    centroids: &'a [f64],
    packed: &'a Packed<'a>,
    /// The largest of the packed centroids' bounds.
    error: f64,
    slack: f64,
    m: usize,
    /// [n, m]
    labels: Shared<'a, u32>,
    distances: Shared<'a, f32>,
}

/// The memory of a block of rows.
struct Block<'a> {
    /// [rows][padded]
    bounds: &'a mut [f32],
    partial: &'a mut [f32],
    centred: &'a mut [f32],
    places: &'a mut [u32],
    squares: &'a mut [f32],
    norms: &'a mut [f32],
    /// [padded]
    some: &'a mut [u32],
}

impl Search<'_> {
    /// Whether so many of the centroids are wanted that f64 looks at all of them at once.
    fn all(&self) -> bool {
        self.packed.count <= 4 * self.m
    }

    fn run(&self, rows: Range<usize>, size: usize) -> Result<()> {
        let (d, padded) = (self.d, self.packed.padded());
        let centred = if self.packed.centre.is_some() { size * d } else { 0 };
        let partial = if d > SLICE { size * PANELS * PANEL } else { 0 };
        let mut near: Vec<(f64, u32)> = Vec::new();
        reserve(&mut near, self.packed.count)?;
        with_scratch::<f32, _>(size * (padded + 3) + partial + centred + padded, |all| {
            let (bounds, rest) = all.split_at_mut(size * padded);
            let (partial, rest) = rest.split_at_mut(partial);
            let (centred, rest) = rest.split_at_mut(centred);
            let (some, rest) = rest.split_at_mut(padded);
            let (places, rest) = rest.split_at_mut(size);
            let (squares, norms) = rest.split_at_mut(size);
            let (places, some) = (bytemuck::cast_slice_mut(places), bytemuck::cast_slice_mut(some));
            let mut block = Block { bounds, partial, centred, places, squares, norms, some };
            for start in rows.clone().step_by(size) {
                let count = size.min(rows.end - start);
                if !self.all() {
                    self.score(&mut block, start, count);
                }
                for i in 0..count {
                    self.settle(&mut block, i, start + i, &mut near);
                }
            }
        })
    }

    /// The scores of `count` rows from `start` on.
    fn score(&self, block: &mut Block, start: usize, count: usize) {
        let (d, all) = (self.d, count.next_multiple_of(ROWS));
        for (i, place) in block.places[..all].iter_mut().enumerate() {
            *place = (start + i.min(count - 1)) as u32;
        }
        let centre = self.packed.centre.map_or(std::ptr::null(), <[f32]>::as_ptr);
        let rounding = 1.0 + 2.0 * rounding(d) as f32;
        let (x, places, centred) = (self.x.as_ptr(), block.places.as_mut_ptr(), block.centred.as_mut_ptr());
        let (squares, norms) = (block.squares.as_mut_ptr(), block.norms.as_mut_ptr());
        // SAFETY: rows of x, of d numbers, as the centre; arrays of the block's size, which `all` does not exceed.
        unsafe { (self.launch.spans.kmeans_centre)(x, places, all, d, centre, centred, squares, rounding, norms) };
        if self.packed.centre.is_some() {
            block.places[..all].iter_mut().enumerate().for_each(|(i, place)| *place = i as u32);
        }
        let rows = KMeansRows {
            x: if self.packed.centre.is_some() { centred } else { x },
            places,
            norms,
            rows: count,
            d,
            partial: block.partial.as_mut_ptr(),
            // Nothing is searched for.
            state: std::ptr::null_mut(),
            next: std::ptr::null(),
            ahead: 0,
        };
        // SAFETY: all arrays are of the block's size; places are those of rows.
        unsafe { (self.launch.spans.kmeans_bounds)(&rows, &self.packed.span(), block.bounds.as_mut_ptr()) };
    }

    /// The m nearest of one row, the i-th of the block.
    fn settle(&self, block: &mut Block, i: usize, row: usize, near: &mut Vec<(f64, u32)>) {
        let (m, d, padded, count) = (self.m, self.d, self.packed.padded(), self.packed.count);
        let scores = &block.bounds[i * padded..][..count];
        let limit = self.limit(scores, block.norms[i], block.some);
        near.clear();
        for (c, &score) in scores.iter().enumerate() {
            // Not above it: so is a score that is NaN, as all are where there are so many dimensions that nothing is bounded.
            if score.partial_cmp(&limit) != Some(std::cmp::Ordering::Greater) {
                let mut distances = [0f64; 2];
                let (x, centroid) = (self.x[row * d..].as_ptr(), self.centroids[c * d..].as_ptr());
                // SAFETY: a row and a centroid of d numbers, and two distances.
                unsafe { (self.launch.spans.kmeans_least)(x, centroid, 1, d, distances.as_mut_ptr()) };
                near.push((distances[0], c as u32));
            }
        }
        near.sort_unstable_by(in_order);
        // SAFETY: each row belongs to one chunk.
        let (labels, distances) =
            unsafe { (self.labels.part(row * m..(row + 1) * m), self.distances.part(row * m..(row + 1) * m)) };
        for ((label, distance), nearest) in labels.iter_mut().zip(distances).zip(&*near) {
            (*distance, *label) = (nearest.0 as f32, nearest.1);
        }
    }

    /// No centroid of a higher score is among the m nearest.
    fn limit(&self, scores: &[f32], norm: f32, some: &mut [u32]) -> f32 {
        if self.all() {
            return f32::INFINITY;
        }
        let last = at_place(self.m, scores, &mut some[..scores.len()]);
        let (norm, last) = (f64::from(norm), f64::from(last));
        let off = norm * self.error * (2.0 + 1e-5) + self.slack + norm * norm * f64::from(ties(self.d));
        ((last + off) as f32).next_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_at_each_place_is_found() {
        let scores = [3.5, -0.0, f32::INFINITY, -7.25, 0.0, 1e-45, -1e30, 3.5, f32::NAN, f32::MAX];
        let mut sorted = scores;
        sorted.sort_unstable_by(f32::total_cmp);
        for m in 1..=scores.len() {
            let found = at_place(m, &scores, &mut [0; 10]);
            assert_eq!(found.to_bits(), sorted[m - 1].to_bits(), "place {m}");
        }
    }
}
