//! What a k-means is told, and what it tells.

use crate::tensor::Result;
use crate::tensor::error::ensure;

/// Where the first centroids come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// k-means++ (Arthur and Vassilvitskii, SODA 2007): each next one a point, drawn by its squared distance from those there
    /// are.
    PlusPlus,
    /// Distinct rows, drawn by weight.
    Random,
    /// Those that are there: set by the caller, or left by the last fit.
    Given,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KMeansOptions {
    pub clusters: usize,
    pub start: Start,
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
        KMeansOptions { clusters: 8, start: Start::PlusPlus, n_init: 1, max_iterations: 300, tolerance: 0.0, seed: 0 }
    }
}

/// Labels go out as int32.
const MOST_CLUSTERS: usize = i32::MAX as usize;

impl KMeansOptions {
    /// ARGUMENT, naming the option, its value and what is expected.
    pub fn validate(&self) -> Result<()> {
        let k = self.clusters;
        ensure!(k > 0, Argument, "k is 0, expected at least 1");
        ensure!(k <= MOST_CLUSTERS, Argument, "k is {k}, expected at most {MOST_CLUSTERS}");
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
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Which of the `n_init` runs, from 0.
    pub run: u64,
    /// Updates of the centroids.
    pub iterations: u64,
    /// The sum of weight times squared distance from the nearest centroid, in f64 in index order.
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
