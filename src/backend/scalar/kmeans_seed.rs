//! What rows would do as seeds: the step of greedy k-means++ (Arthur and Vassilvitskii, "k-means++: the advantages of careful
//! seeding", SODA 2007, section 8).

use super::by_float;
use super::kmeans::{check_labels, stripe};
use super::reduce::canonical_sum_of;
use crate::backend::Launch;
use crate::backend::projection::Projection;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Float, Result, View, ViewMut};

pub fn kmeans_seed(
    _: &Launch,
    x: &View,
    weights: &View,
    candidates: &View,
    _: Option<&Projection>,
    labels: &View,
    limits: &View,
    least: &View,
    lower: &mut ViewMut,
    gains: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(
        x: &View,
        weights: &View,
        candidates: &[u32],
        least: &View,
        lower: &mut ViewMut,
        gains: &mut [f64],
    ) -> Result<()> {
        let (n, d) = (x.dim(0), x.dim(1));
        let (x, weights, least) = (x.slice::<T>()?, weights.slice::<T>()?, least.slice::<T>()?);
        let row = |i: usize| &x[i * d..][..d];
        let lower = lower.slice_mut::<T>()?;
        for ((&candidate, lower), gain) in candidates.iter().zip(lower.chunks_exact_mut(n.max(1))).zip(gains) {
            let candidate = row(candidate as usize);
            for (i, lower) in lower.iter_mut().enumerate() {
                let difference = |j: usize| row(i)[j] - candidate[j];
                let distance = T::of(canonical_sum_of(d, |j| difference(j) * difference(j)));
                *lower = if distance < least[i] { distance } else { least[i] };
            }
            let difference = |i: usize| weights.get(i).map_or(1.0, |w| w.f64()) * (least[i].f64() - lower[i].f64());
            let rows = |number: usize| number * stripe(n)..n.min((number + 1) * stripe(n));
            let stripes = (0..n.div_ceil(stripe(n))).map(|number| rows(number).map(difference).fold(0.0, add));
            *gain = stripes.fold(0.0, add);
        }
        Ok(())
    }
    check_seed(x.dims(), weights.count(), candidates.count(), least.count(), lower.dims(), gains.count())?;
    let candidates = check_candidates(candidates, x.dim(0))?;
    check_known(labels, limits, x.dim(0), candidates.len())?;
    let gains = gains.slice_mut::<f64>()?;
    by_float!(x, typed(x, weights, candidates, least, lower, gains))
}

fn add(a: f64, b: f64) -> f64 {
    a + b
}

/// x[n, d], weights[n] or none, candidates[m], least[n], lower[m, n], gains[m].
pub fn check_seed(
    x: &[usize],
    weights: usize,
    candidates: usize,
    least: usize,
    lower: &[usize],
    gains: usize,
) -> Result<()> {
    ensure!(x.len() == 2, Shape, "k-means: x has shape {x:?}, expected [rows, columns]");
    let n = x[0];
    ensure!(
        (weights == n || weights == 0) && least == n,
        Shape,
        "k-means: {weights} weights and {least} distances for {n} rows"
    );
    ensure!(
        *lower == [candidates, n] && gains == candidates,
        Shape,
        "k-means: lower distances of shape {lower:?} and {gains} gains for {candidates} candidates among {n} rows"
    );
    Ok(())
}

/// labels[n] and limits[m, seeds], or nothing: how many seeds something is known of.
pub fn check_limits(labels: usize, limits: &[usize], n: usize, m: usize) -> Result<usize> {
    if labels == 0 {
        return Ok(0);
    }
    ensure!(
        labels == n && limits.len() == 2 && limits[0] == m,
        Shape,
        "k-means: {labels} labels and limits of shape {limits:?} for {n} rows and {m} candidates"
    );
    Ok(limits[1])
}

/// The same, with labels below `seeds`; nothing: None.
pub fn check_known<'a>(
    labels: &View<'a>,
    limits: &View<'a>,
    n: usize,
    m: usize,
) -> Result<Option<(&'a [u32], &'a [f32])>> {
    let seeds = check_limits(labels.count(), limits.dims(), n, m)?;
    let labels = check_labels(labels, seeds)?;
    Ok(if labels.is_empty() { None } else { Some((labels, limits.slice::<f32>()?)) })
}

/// The candidates as a slice, all below `n`.
pub fn check_candidates<'a>(candidates: &View<'a>, n: usize) -> Result<&'a [u32]> {
    let candidates = candidates.slice::<u32>()?;
    match candidates.iter().position(|&candidate| candidate as usize >= n) {
        None => Ok(candidates),
        Some(at) => Err(error!(Shape, "k-means: candidate {at} is row {}, there are {n}", candidates[at])),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    fn seed<T: Float>(x: &[T], weights: &[T], candidates: &[u32], least: &[T], d: usize) -> Result<(Vec<T>, Vec<f64>)> {
        let (n, m) = (least.len(), candidates.len());
        let (mut lower, mut gains) = (of::<T>(&vec![9.0; n * m]), vec![9.0; m]);
        let (to, sums) = (&mut view_mut(&mut lower, &[m, n]), &mut view_mut(&mut gains, &[m]));
        let (x, weights) = (view(x, &[x.len() / d, d]), view(weights, &[weights.len()]));
        let (candidates, least) = (view(candidates, &[m]), view(least, &[n]));
        let (labels, limits) = (view::<u32>(&[], &[0]), view::<f32>(&[], &[0, 0]));
        (KERNELS.kmeans_seed)(&launch(), &x, &weights, &candidates, None, &labels, &limits, &least, to, sums)?;
        Ok((lower, gains))
    }

    #[test]
    fn a_candidate_lowers_the_distances_of_rows_near_it() {
        fn check<T: Float>() {
            let x = of::<T>(&[0.0, 0.0, 3.0, 4.0, 0.0, 1.0]);
            let least = of::<T>(&[9.0, 1.0, 5.0]);
            let (lower, gains) = seed(&x, &[], &[2, 1], &least, 2).unwrap();
            assert_eq!(to_f64(&lower), [1.0, 1.0, 0.0, 9.0, 0.0, 5.0]);
            assert_eq!(gains, [13.0, 1.0]);
            let weights = of::<T>(&[2.0, 8.0, 0.5]);
            assert_eq!(seed(&x, &weights, &[2, 1], &least, 2).unwrap().1, [18.5, 8.0]);
        }
        check::<f32>();
        check::<f64>();
        let refused = |weights: &[f32], candidates: &[u32], least: &[f32]| {
            assert_eq!(seed(&[1.0, 2.0], weights, candidates, least, 1).unwrap_err().kind, ErrorKind::Shape);
        };
        refused(&[], &[2], &[1.0, 1.0]);
        refused(&[1.0], &[1], &[1.0, 1.0]);
        refused(&[], &[1], &[1.0, 1.0, 1.0]);
    }
}
