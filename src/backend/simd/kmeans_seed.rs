//! What rows would do as seeds: `scalar/kmeans_seed.rs` for the vector units.
//!
//! Every row is compared with a handful of candidates, so that reading the rows is most of the work. Where there is a projection,
//! the bounds of `spans/kmeans_projected.rs` say of most rows, from the few numbers that it has of them, that no candidate is
//! nearer than what they have.

use super::chunks::{self, Shared};
use super::kmeans_projected::{Projected, with_projected};
use super::spans::KMEANS_ROWS as ROWS;
use crate::backend::Launch;
use crate::backend::projection::{Projection, rounding};
use crate::backend::scalar::kmeans::stripe;
use crate::backend::scalar::kmeans_seed::{check_candidates, check_seed};
use crate::backend::workspace::with_scratch;
use crate::tensor::{Result, View, ViewMut};
use std::ops::Range;

#[allow(clippy::too_many_arguments)]
pub fn kmeans_seed(
    launch: &Launch,
    x: &View,
    weights: &View,
    candidates: &View,
    projection: Option<&Projection>,
    least: &View,
    lower: &mut ViewMut,
    gains: &mut ViewMut,
) -> Result<()> {
    check_seed(x.dims(), weights.count(), candidates.count(), least.count(), lower.dims(), gains.count())?;
    let ([n, d], m) = ([x.dim(0), x.dim(1)], gains.count());
    let (x, weights, least) = (x.slice::<f32>()?, weights.slice::<f32>()?, least.slice::<f32>()?);
    let candidates = check_candidates(candidates, n)?;
    let (lower, gains) = (lower.slice_mut::<f32>()?, gains.slice_mut::<f64>()?);
    with_scratch::<f32, _>(m * d, |own| {
        for (own, &candidate) in own.chunks_exact_mut(d.max(1)).zip(candidates) {
            own.copy_from_slice(&x[candidate as usize * d..][..d]);
        }
        let seeds = Seeds { launch, x, d, weights, candidates: own, m, least, lower: Shared::new(lower) };
        match projection.filter(|_| m > 0) {
            None => seeds.run(None, gains),
            Some(projection) => with_scratch::<f64, _>(m * d, |wide| {
                wide.iter_mut().zip(&*own).for_each(|(wide, &x)| *wide = f64::from(x));
                with_projected(launch, projection, wide, d, |projected| seeds.run(Some((projection, projected)), gains))
            })?,
        }
    })?
}

struct Seeds<'a> {
    launch: &'a Launch,
    /// [n, d]
    x: &'a [f32],
    d: usize,
    weights: &'a [f32],
    /// [m, d]
    candidates: &'a [f32],
    m: usize,
    /// [n]
    least: &'a [f32],
    /// [m, n]
    lower: Shared<'a, f32>,
}

impl Seeds<'_> {
    fn run(&self, projected: Option<(&Projection, &Projected)>, gains: &mut [f64]) -> Result<()> {
        let (n, m, size) = (self.least.len(), self.m, stripe(self.least.len()));
        with_scratch::<f64, _>(n.div_ceil(size) * m, |partial| {
            let shared = Shared::new(partial);
            chunks::try_run(self.launch, n, size, |rows| {
                match projected {
                    None => self.compare(rows.clone(), 0..m),
                    Some((projection, projected)) => self.compare_some(projection, projected, rows.clone())?,
                }
                let number = rows.start / size;
                // SAFETY: stripes are disjoint.
                self.add_up(rows, unsafe { shared.part(number * m..(number + 1) * m) });
                Ok(())
            })?;
            gains.fill(0.0);
            for here in partial.chunks_exact(m.max(1)) {
                gains.iter_mut().zip(here).for_each(|(gain, here)| *gain += here);
            }
            Ok(())
        })?
    }

    /// Looks at rows with all of their dimensions.
    fn compare(&self, rows: Range<usize>, candidates: Range<usize>) {
        let (n, d) = (self.least.len(), self.d);
        let (x, from) = (self.x[rows.start * d..].as_ptr(), self.candidates[candidates.start * d..].as_ptr());
        let (least, to) = (self.least[rows.start..].as_ptr(), self.lower.as_mut_ptr());
        // SAFETY: these rows of x and their distances, which chunks share out; `lower` has n numbers for each candidate.
        unsafe {
            let to = to.add(candidates.start * n + rows.start);
            (self.launch.spans.kmeans_seed)(x, rows.len(), d, from, candidates.len(), least, to, n);
        }
    }

    /// The same where bounds do not say that a candidate is no nearer.
    fn compare_some(&self, projection: &Projection, projected: &Projected, rows: Range<usize>) -> Result<()> {
        const TOGETHER: usize = 10 * ROWS;
        let (n, padded) = (self.least.len(), projected.padded());
        let off = rounding(self.d);
        // What vanishes of squares that are so small, there and here.
        let smallest = 4.0 * self.d as f64 * f64::from(f32::from_bits(1));
        with_scratch::<f32, _>(TOGETHER * (padded + 2), |all| {
            let (bounds, rest) = all.split_at_mut(TOGETHER * padded);
            let (norms, places) = rest.split_at_mut(TOGETHER);
            let places: &mut [u32] = bytemuck::cast_slice_mut(places);
            for start in rows.clone().step_by(TOGETHER) {
                let count = TOGETHER.min(rows.end - start);
                for (i, (place, norm)) in places.iter_mut().zip(&mut *norms).enumerate() {
                    let row = start + i.min(count - 1);
                    (*place, *norm) = (row as u32, projection.norms[row]);
                }
                projected.bound(self.launch, places, norms, count, bounds);
                for (row, bounds) in (start..start + count).zip(bounds.chunks_exact(padded)) {
                    let least = self.least[row];
                    // What is computed of a distance is (1 - off) of 2 S + |x'|^2 at least, see `spans/kmeans.rs`.
                    let square = f64::from(projection.squares[row]) * (1.0 - 2.0 * off) - smallest;
                    let limit = (((f64::from(least) / (1.0 - off) - square) / 2.0) as f32).next_up();
                    for (candidate, &bound) in bounds[..self.m].iter().enumerate() {
                        if bound >= limit {
                            // SAFETY: n numbers for each candidate; each row belongs to one chunk.
                            unsafe { *self.lower.as_mut_ptr().add(candidate * n + row) = least };
                        } else {
                            self.compare(row..row + 1, candidate..candidate + 1);
                        }
                    }
                }
            }
        })
    }

    /// gains[m] of the rows of one stripe, in index order.
    fn add_up(&self, rows: Range<usize>, gains: &mut [f64]) {
        let n = self.least.len();
        gains.fill(0.0);
        for row in rows {
            let (weight, least) = (self.weights.get(row).map_or(1.0, |&w| f64::from(w)), f64::from(self.least[row]));
            for (candidate, gain) in gains.iter_mut().enumerate() {
                // SAFETY: these were written by this chunk.
                let lower = unsafe { *self.lower.as_mut_ptr().add(candidate * n + row) };
                *gain += weight * (least - f64::from(lower));
            }
        }
    }
}
