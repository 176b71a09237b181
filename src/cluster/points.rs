//! The points of a clustering. Whatever is wrong with them is found before work starts.

use crate::backend::Context;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Result, Tensor, View, reserve};

/// n rows of d numbers, and a weight for each or none (all 1).
#[derive(Clone, Copy)]
pub struct Points<'a> {
    x: &'a [f32],
    n: usize,
    d: usize,
    weights: &'a [f32],
    /// x [n, d] and weights [n] or [0], where kernels read them.
    views: [View<'a>; 2],
}

/// Points where the kernels of a context work, as far as that is elsewhere.
#[derive(Default)]
pub struct Copies([Option<Tensor>; 2]);

/// Squared distances have to stay finite in f32, and what they are compared by as well: d products of differences up to twice
/// this, with room for some sums of such.
pub fn largest(d: usize) -> f32 {
    (f64::from(f32::MAX) / (64.0 * d as f64)).sqrt() as f32 * 0.999
}

impl<'a> Points<'a> {
    /// SHAPE unless x holds n rows of d and `weights` is empty or holds n.
    pub fn new(x: &'a [f32], n: usize, d: usize, weights: &'a [f32]) -> Result<Points<'a>> {
        ensure!(d > 0, Argument, "d is 0, expected at least 1");
        ensure!(n.checked_mul(d) == Some(x.len()), Shape, "x has {} elements for [{n}, {d}]", x.len());
        ensure!(weights.is_empty() || weights.len() == n, Shape, "there are {} weights for {n} points", weights.len());
        ensure!(u32::try_from(n).is_ok(), Shape, "n is {n}, expected at most {}", u32::MAX);
        let views = [View::of(x, &[n, d])?, View::of(weights, &[weights.len()])?];
        Ok(Points { x, n, d, weights, views })
    }

    /// What many calls of kernels read is brought to them once.
    pub fn copies(&self, context: &Context) -> Result<Copies> {
        let x = context.copy(&self.views[0])?;
        let weights = if self.weights.is_empty() { None } else { context.copy(&self.views[1])? };
        Ok(Copies([x, weights]))
    }

    /// The same points, of which kernels read the copies.
    pub fn read_from<'b>(&self, copies: &'b Copies) -> Points<'b>
    where
        'a: 'b,
    {
        let [x, weights] = [0, 1].map(|i| copies.0[i].as_ref().map_or(self.views[i], Tensor::view));
        Points { views: [x, weights], ..*self }
    }

    /// ARGUMENT, with row and column, for a number that is not finite or whose squared distances would not be; ARGUMENT for
    /// weights that are negative, not finite, or all 0.
    pub fn check(&self, context: &Context) -> Result<()> {
        check_rows(context, "x", self.x, &self.views[0], self.d)?;
        check_weights(self.weights)
    }

    pub fn count(&self) -> usize {
        self.n
    }

    pub fn width(&self) -> usize {
        self.d
    }

    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.x[i * self.d..][..self.d]
    }

    /// [n, d]
    pub fn values(&self) -> &'a [f32] {
        self.x
    }

    /// [n], or nothing where all are 1.
    pub fn own_weights(&self) -> &'a [f32] {
        self.weights
    }

    /// Some rows as centroids, with room for as many as `room`.
    pub fn gather(&self, rows: &[u32], room: usize) -> Result<Vec<f64>> {
        let mut centroids = Vec::new();
        reserve(&mut centroids, room.max(rows.len()) * self.d)?;
        rows.iter().for_each(|&i| centroids.extend(self.row(i as usize).iter().map(|&x| f64::from(x))));
        Ok(centroids)
    }

    pub fn weight(&self, i: usize) -> f64 {
        self.weights.get(i).map_or(1.0, |&w| f64::from(w))
    }

    /// [n, d]
    pub fn view(&self) -> View<'a> {
        self.views[0]
    }

    /// [n], or [0] where all are 1.
    pub fn weights(&self) -> View<'a> {
        self.views[1]
    }
}

/// ARGUMENT for weights that are negative, not finite, or all 0.
pub fn check_weights(weights: &[f32]) -> Result<()> {
    if let Some(at) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
        return Err(error!(Argument, "weights[{at}] is {}, expected 0 or a positive number", weights[at]));
    }
    let some = weights.is_empty() || weights.iter().any(|&w| w > 0.0);
    ensure!(some, Argument, "all {} weights are 0", weights.len());
    Ok(())
}

/// `name` holds finite numbers, small enough for squared distances; rows of `d`, which kernels see as `view`.
pub fn check_rows(context: &Context, name: &str, x: &[f32], view: &View, d: usize) -> Result<()> {
    let bad = (context.kernels().first_non_finite)(context.launch(), view)?;
    if let Some(at) = bad {
        return Err(error!(Argument, "{name} is {} at row {}, column {}", x[at], at / d, at % d));
    }
    // A part at a time, each without a jump.
    let limit = largest(d);
    let beyond = x.chunks(1024).position(|part| part.iter().fold(false, |beyond, x| beyond | (x.abs() > limit)));
    if let Some(part) = beyond {
        let at = 1024 * part + x[1024 * part..].iter().position(|x| x.abs() > limit).unwrap_or_default();
        return Err(error!(
            Argument,
            "{name} is {:e} at row {}, column {}: squared distances would overflow; scale the data to below {limit:e}",
            x[at],
            at / d,
            at % d
        ));
    }
    Ok(())
}
