//! Points to several centroids: the nearest ones, and how much each counts.

use super::kmeans::KMeans;
use super::points::Points;
use crate::tensor::error::ensure;
use crate::tensor::{Result, View, ViewMut};

impl KMeans {
    /// The m nearest centroids of each point, nearest first, and the squared distances from them: labels[n, m], distances[n, m].
    pub fn nearest(&self, points: &Points, m: usize, labels: &mut [u32], distances: &mut [f32]) -> Result<()> {
        let k = self.clusters();
        ensure!((1..=k).contains(&m), Argument, "m is {m}, expected 1 to k, which is {k}");
        self.look_up(points, |context, points, centroids| {
            let (n, d) = (points.count(), points.width());
            let centroids = View::of(centroids, &[k, d])?;
            let (mut labels, mut distances) = (ViewMut::of(labels, &[n, m])?, ViewMut::of(distances, &[n, m])?);
            let (kernels, launch, x) = (context.kernels(), context.launch(), points.view());
            (kernels.kmeans_closest)(launch, &x, &centroids, &mut labels, &mut distances)
        })
    }

    /// The same with weights[n, m] that add up to 1 in each row instead of distances: each ~ distance^-sharpness, with the distance
    /// itself, not its square. A centroid at distance 0 takes all.
    pub fn route(
        &self,
        points: &Points,
        m: usize,
        sharpness: f64,
        labels: &mut [u32],
        weights: &mut [f32],
    ) -> Result<()> {
        ensure!(
            sharpness >= 0.0 && sharpness.is_finite(),
            Argument,
            "sharpness is {sharpness}, expected 0 or a positive number"
        );
        self.nearest(points, m, labels, weights)?;
        for row in weights.chunks_exact_mut(m) {
            let nearest = f64::from(row[0]);
            // Beside the nearest one, so that nothing overflows; sharpness / 2, as distances are squared.
            let share = |square: f32| match f64::from(square) {
                square if square == nearest => 1.0,
                _ if nearest == 0.0 && sharpness > 0.0 => 0.0,
                square => (nearest / square).powf(sharpness / 2.0),
            };
            let total: f64 = row.iter().map(|&square| share(square)).sum();
            row.iter_mut().for_each(|weight| *weight = (share(*weight) / total) as f32);
        }
        Ok(())
    }
}
