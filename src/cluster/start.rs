//! The first centroids of a run. All choices are drawn by Philox from (seed, run, number of the choice).

use super::kmeans::distances;
use super::points::Points;
use crate::backend::Context;
use crate::tensor::error::ensure;
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Result, reserve, vec_zeroed};

/// Uniform in [0, 1): 53 bits.
fn uniform(stream: &Stream, element: u64) -> f64 {
    const STEPS: u64 = 1 << 53;
    stream.below(element, STEPS) as f64 / STEPS as f64
}

pub fn stream(seed: u64, run: usize) -> Stream {
    Stream::new(seed, Purpose::Cluster, run as u32, 0)
}

/// k-means++ (Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007), weighted: the first
/// centroid is point i with probability w[i] / sum of w, each next one with probability w[i] D[i] / sum of w D, where D[i] is
/// the squared distance of point i from the nearest centroid so far.
///
/// When every point is a centroid already, the rest repeat the first one: ties go to the lowest index, so they stay empty.
pub fn plus_plus(
    context: &Context,
    points: &Points,
    k: usize,
    stream: &Stream,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f64>> {
    let (n, d) = (points.count(), points.width());
    let mut centroids: Vec<f64> = Vec::new();
    reserve(&mut centroids, k * d)?;
    let (mut least, mut here) = (vec_zeroed::<f32>(n)?, vec_zeroed::<f32>(n)?);
    let labels = vec_zeroed::<u32>(n)?;
    let mut chosen = draw(n, uniform(stream, 0), |i| points.weight(i));
    for number in 1..=k {
        let Some(point) = chosen else {
            centroids.extend_from_within(..d);
            continue;
        };
        centroids.extend(points.row(point).iter().map(|&x| f64::from(x)));
        if number == k {
            break;
        }
        ensure!(!cancelled(), Cancelled, "k-means was cancelled before its first iteration");
        distances(context, points, &labels, &centroids[centroids.len() - d..], &mut here)?;
        for (least, &distance) in least.iter_mut().zip(&here) {
            *least = if number == 1 { distance } else { least.min(distance) };
        }
        chosen = draw(n, uniform(stream, number as u64), |i| points.weight(i) * f64::from(least[i]));
    }
    Ok(centroids)
}

/// Index i with probability mass(i) / total, for a uniform number in [0, 1); None when all masses are 0.
fn draw(n: usize, uniform: f64, mass: impl Fn(usize) -> f64) -> Option<usize> {
    let target = uniform * (0..n).map(&mass).sum::<f64>();
    let (mut sum, mut last) = (0.0, None);
    for i in 0..n {
        let mass = mass(i);
        if mass > 0.0 {
            sum += mass;
            last = Some(i);
            if sum > target {
                break;
            }
        }
    }
    last
}

/// k distinct rows, drawn one after the other by weight: those of the k least -ln(u) / w (Efraimidis and Spirakis, "Weighted
/// random sampling with a reservoir", 2006). Rows of weight 0 come last.
pub fn random(points: &Points, k: usize, stream: &Stream) -> Result<Vec<f64>> {
    let (n, d) = (points.count(), points.width());
    let mut keys: Vec<(f64, u32)> = Vec::new();
    reserve(&mut keys, n)?;
    keys.extend((0..n).map(|i| (-(1.0 - uniform(stream, i as u64)).ln() / points.weight(i), i as u32)));
    keys.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let chosen = &mut keys[..k];
    chosen.sort_unstable_by_key(|&(_, i)| i);
    let mut centroids: Vec<f64> = Vec::new();
    reserve(&mut centroids, k * d)?;
    chosen.iter().for_each(|&(_, i)| centroids.extend(points.row(i as usize).iter().map(|&x| f64::from(x))));
    Ok(centroids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_drawn_by_their_mass() {
        let masses = [0.0, 1.0, 0.0, 3.0, 0.0];
        let drawn = |u: f64| draw(5, u, |i| masses[i]);
        assert_eq!([0.0, 0.2499, 0.25, 0.9999].map(drawn), [Some(1), Some(1), Some(3), Some(3)]);
        // Rounding may put the target at the very total.
        assert_eq!(drawn(1.0), Some(3));
        assert_eq!(draw(3, 0.5, |_| 0.0), None);
    }
}
