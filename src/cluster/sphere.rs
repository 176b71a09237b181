//! Spherical k-means (Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", Machine Learning 42,
//! 2001): only the direction of a point counts, and each centroid is the direction of the sum of its points. With rows and centroids
//! of length 1, |x - c|^2 = 2 - 2 cos: the nearest centroid is the one of the largest cosine.

use super::points::{Copies, Points};
use crate::backend::Context;
use crate::tensor::error::ensure;
use crate::tensor::{Result, reserve};
use std::borrow::Cow;

/// Points scaled to length 1. A row of zeros has no direction: it stays as it is, and weighs nothing.
pub struct Directions<'a> {
    x: Cow<'a, [f32]>,
    weights: Cow<'a, [f32]>,
    n: usize,
    d: usize,
    copies: Copies,
}

/// Rows of so nearly length 1 are used as they are.
const NEARLY: f64 = 1e-6;

impl<'a> Directions<'a> {
    /// Copies what has to be scaled.
    pub fn new(context: &Context, points: &Points<'a>) -> Result<Directions<'a>> {
        let (n, d) = (points.count(), points.width());
        let mut squares = Vec::new();
        reserve(&mut squares, n)?;
        squares.extend((0..n).map(|i| square(points.row(i))));
        let scaled = squares.iter().all(|&square| square == 0.0 || (square - 1.0).abs() <= NEARLY);
        let mut x = Cow::Borrowed(points.values());
        if !scaled {
            let mut own = Vec::new();
            reserve(&mut own, n * d)?;
            own.extend_from_slice(points.values());
            for (row, length) in own.chunks_exact_mut(d).zip(squares.iter().map(|square| square.sqrt())) {
                // A row of zeros stays one.
                let length = if length > 0.0 { length } else { 1.0 };
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
            }
            x = Cow::Owned(own);
        }
        let mut weights = Cow::Borrowed(points.own_weights());
        if squares.contains(&0.0) {
            let mut own = Vec::new();
            reserve(&mut own, n)?;
            own.extend(
                squares.iter().enumerate().map(|(i, &square)| if square > 0.0 { points.weight(i) as f32 } else { 0.0 }),
            );
            weights = Cow::Owned(own);
        }
        let copies = Points::new(&x, n, d, &weights)?.copies(context)?;
        Ok(Directions { x, weights, n, d, copies })
    }

    /// ARGUMENT where no row that has a weight has a direction.
    pub fn check(&self) -> Result<()> {
        let weighs = self.weights.is_empty() || self.weights.iter().any(|&w| w > 0.0);
        ensure!(weighs, Argument, "all rows of x that have a weight are 0: they have no direction");
        Ok(())
    }

    pub fn points(&self) -> Result<Points<'_>> {
        Ok(Points::new(&self.x, self.n, self.d, &self.weights)?.read_from(&self.copies))
    }
}

fn square(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// How long a vector is.
pub fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Scales centroids [k, d] to length 1; ARGUMENT where one has no direction.
pub fn scale(centroids: &mut [f64], d: usize) -> Result<()> {
    for (i, centroid) in centroids.chunks_exact_mut(d).enumerate() {
        let length = length(centroid);
        ensure!(length != 0.0, Argument, "centroid {i} is 0: it has no direction, and the clusters are spherical");
        centroid.iter_mut().for_each(|c| *c /= length);
    }
    Ok(())
}
