//! What rows would do as seeds: `scalar/kmeans_seed.rs` for the vector units.
//!
//! Every row is compared with a handful of candidates, so that reading the rows is most of the work. Two things spare it. A candidate
//! that is twice as far from a row's nearest seed as the row is cannot be nearer to the row (Raff, "Exact acceleration of k-means++
//! and k-means||", IJCAI 2021): `labels` and `limits` say so. And where there is a projection, the bounds of
//! `spans/kmeans_projected.rs` say it of most of the others, from the few numbers that it has of a row.

use super::chunks::{self, Shared};
use super::kmeans_projected::{Projected, with_projected};
use super::spans::{KMEANS_ROWS as ROWS, KMeansSeed};
use crate::backend::Launch;
use crate::backend::projection::{Projection, rounding};
use crate::backend::scalar::kmeans::stripe;
use crate::backend::scalar::kmeans_seed::{check_candidates, check_known, check_seed};
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
    labels: &View,
    limits: &View,
    least: &View,
    lower: &mut ViewMut,
    gains: &mut ViewMut,
) -> Result<()> {
    check_seed(x.dims(), weights.count(), candidates.count(), least.count(), lower.dims(), gains.count())?;
    let ([n, d], m) = ([x.dim(0), x.dim(1)], gains.count());
    let (x, weights, least) = (x.slice::<f32>()?, weights.slice::<f32>()?, least.slice::<f32>()?);
    let candidates = check_candidates(candidates, n)?;
    let known = check_known(labels, limits, n, m)?;
    let (lower, gains) = (lower.slice_mut::<f32>()?, gains.slice_mut::<f64>()?);
    with_scratch::<f32, _>(m * d, |own| {
        for (own, &candidate) in own.chunks_exact_mut(d.max(1)).zip(candidates) {
            own.copy_from_slice(&x[candidate as usize * d..][..d]);
        }
        let seeds = Seeds { launch, x, d, weights, candidates: own, m, known, least, lower: Shared::new(lower) };
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
    /// Labels and limits.
    known: Option<(&'a [u32], &'a [f32])>,
    /// [n]
    least: &'a [f32],
    /// [m, n]
    lower: Shared<'a, f32>,
}

/// Bytes of rows that stay in the nearest caches while one candidate after the other is compared with them.
const NEAR: usize = 64 << 10;

impl Seeds<'_> {
    fn run(&self, projected: Option<(&Projection, &Projected)>, gains: &mut [f64]) -> Result<()> {
        let (n, m, size) = (self.least.len(), self.m, stripe(self.least.len()));
        with_scratch::<f64, _>(n.div_ceil(size) * m, |partial| {
            let shared = Shared::new(partial);
            chunks::try_run(self.launch, n, size, |rows| {
                let number = rows.start / size;
                // SAFETY: stripes are disjoint.
                let gains = unsafe { shared.part(number * m..(number + 1) * m) };
                gains.fill(0.0);
                match projected {
                    None => self.compare(rows, gains),
                    Some((projection, projected)) => self.compare_some(projection, projected, rows, gains)?,
                }
                Ok(())
            })?;
            gains.fill(0.0);
            for here in partial.chunks_exact(m.max(1)) {
                gains.iter_mut().zip(here).for_each(|(gain, here)| *gain += here);
            }
            Ok(())
        })?
    }

    /// Compares the rows of a stripe with all candidates.
    fn compare(&self, rows: Range<usize>, gains: &mut [f64]) {
        let together = (NEAR / (4 * self.d).max(1)).clamp(8, 1024);
        for start in rows.clone().step_by(together) {
            let seed = self.part(start..rows.end.min(start + together), gains);
            // SAFETY: these rows of x and what is known of them, which chunks share out.
            unsafe { (self.launch.spans.kmeans_seed)(&seed) };
        }
    }

    /// The same where bounds may say that a candidate is no nearer.
    fn compare_some(
        &self,
        projection: &Projection,
        projected: &Projected,
        rows: Range<usize>,
        gains: &mut [f64],
    ) -> Result<()> {
        const TOGETHER: usize = 5 * ROWS;
        let padded = projected.padded();
        let off = rounding(self.d);
        // What vanishes of squares that are so small, there and here.
        let smallest = 4.0 * self.d as f64 * f64::from(f32::from_bits(1));
        with_scratch::<f32, _>(TOGETHER * (padded + 3), |all| {
            let (bounds, rest) = all.split_at_mut(TOGETHER * padded);
            let (norms, rest) = rest.split_at_mut(TOGETHER);
            let (ceilings, places) = rest.split_at_mut(TOGETHER);
            let places: &mut [u32] = bytemuck::cast_slice_mut(places);
            for start in rows.clone().step_by(TOGETHER) {
                let count = TOGETHER.min(rows.end - start);
                for i in 0..TOGETHER {
                    let row = start + i.min(count - 1);
                    (places[i], norms[i]) = (row as u32, projection.norms[row]);
                    // What is computed of a distance is (1 - off) of 2 S + |x'|^2 at least, see `spans/kmeans.rs`.
                    let square = f64::from(projection.squares[row]) * (1.0 - 2.0 * off) - smallest;
                    ceilings[i] = (((f64::from(self.least[row]) / (1.0 - off) - square) / 2.0) as f32).next_up();
                }
                projected.bound(self.launch, places, norms, count, bounds);
                let seed = KMeansSeed {
                    bounds: bounds.as_ptr(),
                    width: padded,
                    ceilings: ceilings.as_ptr(),
                    ..self.part(start..start + count, gains)
                };
                // SAFETY: these rows of x and what is known of them, which chunks share out; a bound for each candidate.
                unsafe { (self.launch.spans.kmeans_seed)(&seed) };
            }
        })
    }

    fn part(&self, rows: Range<usize>, gains: &mut [f64]) -> KMeansSeed {
        let start = rows.start;
        let weights = if self.weights.is_empty() { std::ptr::null() } else { self.weights[start..].as_ptr() };
        let (labels, limits, seeds) = match self.known {
            None => (std::ptr::null(), std::ptr::null(), 0),
            Some((labels, limits)) => (labels[start..].as_ptr(), limits.as_ptr(), limits.len() / self.m.max(1)),
        };
        KMeansSeed {
            x: self.x[start * self.d..].as_ptr(),
            rows: rows.len(),
            d: self.d,
            candidates: self.candidates.as_ptr(),
            m: self.m,
            weights,
            least: self.least[start..].as_ptr(),
            labels,
            limits,
            seeds,
            bounds: std::ptr::null(),
            width: 0,
            ceilings: std::ptr::null(),
            lower: self.lower.as_mut_ptr().wrapping_add(start),
            stride: self.least.len(),
            gains: gains.as_mut_ptr(),
        }
    }
}
