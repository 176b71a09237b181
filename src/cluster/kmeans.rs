//! A k-means that is kept: fitted to points, continued from where it stands, asked about new points.

use super::lloyd::Lloyd;
use super::options::{KMeansOptions, Report, Start};
use super::points::{Points, check_rows};
use super::start;
use crate::backend::Context;
use crate::tensor::error::ensure;
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Result, View, ViewMut, reserve, vec_zeroed};
use std::sync::Arc;

/// Whom a fit listens to.
pub struct Hooks<'a> {
    /// Told after each iteration; false ends the fit with what it has.
    pub progress: &'a mut dyn FnMut(&Report) -> bool,
    /// Asked before each iteration; true ends the fit with CANCELLED.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

pub struct KMeans {
    context: Arc<Context>,
    options: KMeansOptions,
    /// [k, d]; empty before the first fit.
    centroids: Vec<f32>,
    d: usize,
    report: Option<Report>,
}

impl KMeans {
    pub fn new(context: Arc<Context>, options: KMeansOptions) -> Result<KMeans> {
        options.validate()?;
        Ok(KMeans { context, options, centroids: Vec::new(), d: 0, report: None })
    }

    pub fn clusters(&self) -> usize {
        self.options.clusters
    }

    /// Columns of the centroids; 0 before there are any.
    pub fn width(&self) -> usize {
        self.d
    }

    /// [k, d], or nothing before there are any.
    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// Of the last fit.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Takes centroids [k, d] for a warm start, or to assign points to.
    pub fn set_centroids(&mut self, centroids: &[f32], d: usize) -> Result<()> {
        let k = self.options.clusters;
        ensure!(d > 0, Argument, "d is 0, expected at least 1");
        ensure!(
            k.checked_mul(d) == Some(centroids.len()),
            Shape,
            "the centroids have {} elements for [{k}, {d}]",
            centroids.len()
        );
        check_rows(&self.context, "centroids", centroids, d)?;
        let mut own = Vec::new();
        reserve(&mut own, centroids.len())?;
        own.extend_from_slice(centroids);
        (self.centroids, self.d, self.report) = (own, d, None);
        Ok(())
    }

    /// Finds centroids for the points and returns the label of each point. On failure nothing has changed.
    pub fn fit(&mut self, points: &Points, mut hooks: Hooks) -> Result<Vec<u32>> {
        let (n, d, k) = (points.count(), points.width(), self.options.clusters);
        ensure!(k <= n, Argument, "k is {k}, more clusters than the {n} points");
        let given = self.options.start == Start::Given;
        ensure!(!given || !self.centroids.is_empty(), State, "the start is given centroids, and none were set");
        ensure!(!given || d == self.d, Shape, "x has {d} columns, the centroids have {}", self.d);
        points.check(&self.context)?;
        let mut best: Option<(Lloyd, Report)> = None;
        for run in 0..if given { 1 } else { self.options.n_init } {
            ensure!(!(hooks.cancelled)(), Cancelled, "k-means was cancelled before run {run}");
            let start = self.start(points, run, hooks.cancelled)?;
            let mut lloyd = Lloyd::new(&self.context, *points, start)?;
            let report = lloyd.run(&self.options, run, &mut hooks)?;
            if best.as_ref().is_none_or(|(_, least)| report.inertia < least.inertia) {
                best = Some((lloyd, report));
            }
            if let Some((_, kept)) = best.as_mut().filter(|_| report.stopped) {
                kept.stopped = true;
                break;
            }
        }
        let (Lloyd { centroids, labels, .. }, report) = best.expect("there is at least one run");
        if report.empty > 0 && report.inertia == 0.0 {
            let there = k as u64 - report.empty;
            log(
                LogLevel::Warning,
                format_args!("k-means: the points have only {there} distinct places for {k} clusters"),
            );
        }
        (self.centroids, self.d, self.report) = (centroids, d, Some(report));
        Ok(labels)
    }

    fn start(&self, points: &Points, run: usize, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<Vec<f32>> {
        let (k, stream) = (self.options.clusters, start::stream(self.options.seed, run));
        match self.options.start {
            Start::PlusPlus => start::plus_plus(&self.context, points, k, &stream, cancelled),
            Start::Random => start::random(points, k, &stream),
            Start::Given => {
                let mut centroids = Vec::new();
                reserve(&mut centroids, self.centroids.len())?;
                centroids.extend_from_slice(&self.centroids);
                Ok(centroids)
            }
        }
    }

    /// The nearest centroid of each point and its squared distance.
    pub fn assign(&self, points: &Points, labels: &mut [u32], distances: &mut [f32]) -> Result<()> {
        ensure!(!self.centroids.is_empty(), State, "there are no centroids yet: fit or set them first");
        let (there, here) = (points.width(), self.d);
        ensure!(there == here, Shape, "x has {there} columns, the centroids have {here}");
        points.check(&self.context)?;
        nearest(&self.context, points, &self.centroids, labels, distances)
    }

    /// The same where the distances are of no interest.
    pub fn labels(&self, points: &Points, labels: &mut [u32]) -> Result<()> {
        self.assign(points, labels, &mut vec_zeroed(points.count())?)
    }
}

/// The nearest of `centroids` [any, d] to each point, and its squared distance.
pub fn nearest(
    context: &Context,
    points: &Points,
    centroids: &[f32],
    labels: &mut [u32],
    distances: &mut [f32],
) -> Result<()> {
    let (n, d) = (points.count(), points.width());
    let centroids = View::of(centroids, &[centroids.len() / d, d])?;
    let (mut labels, mut distances) = (ViewMut::of(labels, &[n])?, ViewMut::of(distances, &[n])?);
    (context.kernels().kmeans_assign)(context.launch(), &points.view()?, &centroids, &mut labels, &mut distances)
}
