//! Points in a few dimensions that hold most of them: what the vector rows prune the search for the nearest centroid with (see
//! `simd/spans/kmeans_projected.rs`). The other rows of the table take no notice of it. It never changes a result.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What `d + 32` roundings of f32 come to: m u of `simd/spans/kmeans.rs`.
pub fn rounding(d: usize) -> f64 {
    (d + 32) as f64 * f64::from(f32::EPSILON) / 2.0
}

pub struct Projection {
    /// [p, d], about orthonormal rows.
    pub basis: Vec<f32>,
    /// [d]: the point from which all is seen; empty for the origin.
    pub centre: Vec<f32>,
    /// [n, p + 1]: each point, less the centre, in the basis, and how long the rest of it is, rounded up.
    pub points: Vec<f32>,
    /// [n]: |x'|^2 as f32 has it, and no less than |x'|.
    pub squares: Vec<f32>,
    pub norms: Vec<f32>,
    /// How far a projection may be off, for each unit of what is projected: D.
    pub error: f64,
    searched: AtomicU64,
    looked_at: AtomicU64,
}

/// How long the rest is, at most, of what is `norm` long at most, and `projected` in a basis whose projections are off by no more
/// than `error` for each unit: sqrt(norm^2 - max(0, projected - error norm)^2), rounded up to f32.
pub fn rest(norm: f64, projected: f64, error: f64) -> f64 {
    let norm = norm * (1.0 + 1e-12);
    let projected = (projected * (1.0 - 1e-12) - error * norm).max(0.0);
    f64::from(((norm * norm - projected * projected).max(0.0).sqrt() as f32).next_up())
}

impl Projection {
    pub fn new(
        basis: Vec<f32>,
        centre: Vec<f32>,
        points: Vec<f32>,
        squares: Vec<f32>,
        norms: Vec<f32>,
        error: f64,
    ) -> Projection {
        let (searched, looked_at) = Default::default();
        Projection { basis, centre, points, squares, norms, error, searched, looked_at }
    }

    /// Columns of `points`.
    pub fn width(&self) -> usize {
        self.points.len() / self.norms.len().max(1)
    }

    /// See [`rest`].
    pub fn rest(&self, norm: f64, projected: f64) -> f64 {
        rest(norm, projected, self.error)
    }

    /// Counts that of so many points so many centroids were looked at with all of their dimensions.
    pub fn count(&self, points: usize, centroids: usize) {
        self.searched.fetch_add(points as u64, Relaxed);
        self.looked_at.fetch_add(centroids as u64, Relaxed);
    }

    /// Centroids of a point that were looked at since the last call, on average.
    pub fn looked_at(&self) -> f64 {
        let (searched, looked_at) = (self.searched.swap(0, Relaxed), self.looked_at.swap(0, Relaxed));
        looked_at as f64 / searched.max(1) as f64
    }
}
