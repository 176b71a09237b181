//! What a k-means is told, and what it tells.

use crate::tensor::Result;
use crate::tensor::error::ensure;

/// Where the first centroids come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Greedy k-means++ (Arthur and Vassilvitskii, SODA 2007): each next one the best of several points, drawn by their squared
    /// distances from those there are.
    PlusPlus,
    /// k-means|| (Bahmani et al., "Scalable k-means++", VLDB 2012): some times as many points as there are to be clusters, drawn in
    /// a few rounds, and clustered themselves.
    Scalable,
    /// Distinct rows, drawn by weight.
    Random,
    /// Those that are there: set by the caller, or left by the last fit.
    Given,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KMeansOptions {
    pub clusters: usize,
    pub start: Start,
    /// Points that k-means++ draws for each centroid, of which it takes the best; 0: 2 + ln k, rounded down.
    pub candidates: usize,
    /// Directions instead of places: rows and centroids have length 1.
    pub spherical: bool,
    /// Points that a cluster has at most; 0: any number.
    pub capacity: usize,
    /// Runs from different starts, of which the one of least inertia counts; given centroids are run once.
    pub n_init: usize,
    /// Of one run.
    pub max_iterations: u64,
    /// A run ends when an iteration lowers the inertia by no more than this part of it; 0: only at a fixed point.
    pub tolerance: f64,
    pub seed: u64,
}

impl Default for KMeansOptions {
    fn default() -> Self {
        KMeansOptions {
            clusters: 8,
            start: Start::PlusPlus,
            candidates: 0,
            spherical: false,
            capacity: 0,
            n_init: 1,
            max_iterations: 300,
            tolerance: 0.0,
            seed: 0,
        }
    }
}

/// Labels go out as int32.
const MOST_CLUSTERS: usize = i32::MAX as usize;
/// Distances from so many are kept for each point while one is chosen.
const MOST_CANDIDATES: usize = 1024;

impl KMeansOptions {
    /// ARGUMENT, naming the option, its value and what is expected.
    pub fn validate(&self) -> Result<()> {
        let k = self.clusters;
        ensure!(k > 0, Argument, "k is 0, expected at least 1");
        ensure!(k <= MOST_CLUSTERS, Argument, "k is {k}, expected at most {MOST_CLUSTERS}");
        let candidates = self.candidates;
        ensure!(candidates <= MOST_CANDIDATES, Argument, "candidates is {candidates}, expected 0 to {MOST_CANDIDATES}");
        // The number of the run is a 32-bit word of the random counter.
        ensure!(
            (1..=u32::MAX as usize).contains(&self.n_init),
            Argument,
            "n_init is {}, expected 1 to {}",
            self.n_init,
            u32::MAX
        );
        ensure!(
            self.tolerance >= 0.0 && self.tolerance.is_finite(),
            Argument,
            "tolerance is {}, expected 0 or a positive number",
            self.tolerance
        );
        Ok(())
    }

    /// ARGUMENT, where n points are not enough, or too many.
    pub fn fit(&self, n: usize) -> Result<()> {
        let (k, capacity) = (self.clusters, self.capacity);
        ensure!(k <= n, Argument, "k is {k}, more clusters than the {n} points");
        ensure!(
            capacity == 0 || k.saturating_mul(capacity) >= n,
            Argument,
            "capacity is {capacity}: {k} clusters hold {} points, there are {n}",
            k.saturating_mul(capacity)
        );
        Ok(())
    }

    /// Points that are drawn for each centroid.
    pub fn drawn(&self) -> usize {
        match self.candidates {
            0 => 2 + (self.clusters as f64).ln() as usize,
            given => given,
        }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Which of the `n_init` runs, from 0.
    pub run: u64,
    /// Updates of the centroids.
    pub iterations: u64,
    /// The sum of weight times squared distance from the centroid of the point's cluster, in f64 in index order.
    pub inertia: f64,
    /// Points whose cluster changed in the last iteration.
    pub moved: u64,
    /// Clusters without a point, or with points of weight 0 alone.
    pub empty: u64,
    /// Empty clusters that were given the farthest point, in all iterations.
    pub repaired: u64,
    /// The labels did not change any more, or the tolerance was reached.
    pub converged: bool,
    /// The progress callback ended it.
    pub stopped: bool,
}
