//! A k-means that is kept: fitted to points, continued from where it stands, asked about new points.

use super::lloyd::Lloyd;
use super::options::{KMeansOptions, Report, Start};
use super::points::{Copies, Points, check_rows};
use super::projection::project;
use super::sphere::{self, Directions};
use super::start::{self, Seeding};
use crate::backend::projection::Projection;
use crate::backend::stop::stoppable;
use crate::backend::{Context, release_large};
use crate::tensor::error::ensure;
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Cancelled, ErrorKind, Result, View, ViewMut, reserve, vec_zeroed};
use std::sync::Arc;

/// Whom a fit listens to.
pub struct Hooks<'a> {
    /// Told after each iteration; false ends the fit with what it has.
    pub progress: Option<&'a mut dyn FnMut(&Report) -> bool>,
    /// Asked before each chunk of each operation, on any thread; true ends the fit with CANCELLED.
    pub cancelled: Cancelled<'a>,
}

/// Iterations that are worth a look for what would make them faster.
const LONG: u64 = 3;

pub struct KMeans {
    context: Arc<Context>,
    options: KMeansOptions,
    /// [k, d]; empty before the first fit. What the caller is given is rounded.
    centroids: Vec<f64>,
    rounded: Vec<f32>,
    d: usize,
    /// [k]: how much of what was fitted each centroid is the mean of, or, as directions, how long its sum is; empty where nothing
    /// was.
    masses: Vec<f64>,
    /// Of a stream, since the last fit or since centroids were set.
    batches: u64,
    report: Option<Report>,
}

impl KMeans {
    pub fn new(context: Arc<Context>, options: KMeansOptions) -> Result<KMeans> {
        options.validate()?;
        let (centroids, rounded, masses) = (Vec::new(), Vec::new(), Vec::new());
        Ok(KMeans { context, options, centroids, rounded, d: 0, masses, batches: 0, report: None })
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
        &self.rounded
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
        check_rows(&self.context, "centroids", centroids, &View::of(centroids, &[k, d])?, d)?;
        let mut own = Vec::new();
        reserve(&mut own, centroids.len())?;
        own.extend(centroids.iter().map(|&c| f64::from(c)));
        if self.options.spherical {
            sphere::scale(&mut own, d)?;
        }
        self.keep(own, d, Vec::new(), None)
    }

    fn keep(&mut self, centroids: Vec<f64>, d: usize, masses: Vec<f64>, report: Option<Report>) -> Result<()> {
        let mut rounded = Vec::new();
        reserve(&mut rounded, centroids.len())?;
        rounded.extend(centroids.iter().map(|&c| c as f32));
        (self.centroids, self.rounded, self.d, self.masses, self.report) = (centroids, rounded, d, masses, report);
        self.batches = 0;
        Ok(())
    }

    /// Finds centroids for the points and returns the label of each point. On failure nothing has changed.
    pub fn fit(&mut self, points: &Points, hooks: Hooks) -> Result<Vec<u32>> {
        let (d, k) = (points.width(), self.options.clusters);
        self.options.fit(points.count())?;
        let given = self.options.start == Start::Given;
        ensure!(!given || !self.centroids.is_empty(), State, "the start is given centroids, and none were set");
        ensure!(!given || d == self.d, Shape, "x has {d} columns, the centroids have {}", self.d);
        let copies = self.copies(points)?;
        let points = &points.read_from(&copies);
        points.check(&self.context)?;
        let directions = self.directions(points)?;
        directions.as_ref().map_or(Ok(()), Directions::check)?;
        let points = directions.as_ref().map_or(Ok(*points), Directions::points)?;
        let projection = stoppable(hooks.cancelled, "k-means", || self.project(&points))?;
        let best = self.best_run(&points, projection.as_ref(), hooks);
        release_large();
        let (Lloyd { centroids, labels, fitted, .. }, report) = best?;
        if report.empty > 0 && report.inertia == 0.0 {
            let there = k as u64 - report.empty;
            log(
                LogLevel::Warning,
                format_args!("k-means: the points have only {there} distinct places for {k} clusters"),
            );
        }
        self.keep(centroids, d, fitted, Some(report))?;
        Ok(labels)
    }

    /// The points as directions, if that is what is clustered.
    fn directions<'a>(&self, points: &Points<'a>) -> Result<Option<Directions<'a>>> {
        self.options.spherical.then(|| Directions::new(&self.context, points)).transpose()
    }

    /// What kernels read of the points themselves, if those are clustered.
    fn copies(&self, points: &Points) -> Result<Copies> {
        if self.options.spherical { Ok(Copies::default()) } else { points.copies(&self.context) }
    }

    /// What makes a long run faster, if anything does: a fit does without where there is no memory for it.
    fn project(&self, points: &Points) -> Result<Option<Projection>> {
        if self.options.max_iterations < LONG {
            return Ok(None);
        }
        match project(&self.context, points, self.options.clusters) {
            Err(error) if error.kind == ErrorKind::Memory => Ok(None),
            made => made,
        }
    }

    fn best_run<'a>(
        &'a self,
        points: &Points<'a>,
        projection: Option<&'a Projection>,
        mut hooks: Hooks,
    ) -> Result<(Lloyd<'a>, Report)> {
        let given = self.options.start == Start::Given;
        let mut best: Option<(Lloyd, Report)> = None;
        for run in 0..if given { 1 } else { self.options.n_init } {
            ensure!(!(hooks.cancelled)(), Cancelled, "k-means was cancelled before run {run}");
            let start = || self.start(points, projection, run, hooks.cancelled);
            let start = stoppable(hooks.cancelled, "the start of k-means", start)?;
            let mut lloyd = Lloyd::new(&self.context, *points, projection, start, &self.options)?;
            let report = lloyd.run(run, &mut hooks)?;
            if best.as_ref().is_none_or(|(_, least)| report.inertia < least.inertia) {
                best = Some((lloyd, report));
            }
            if let Some((_, kept)) = best.as_mut().filter(|_| report.stopped) {
                kept.stopped = true;
                break;
            }
        }
        Ok(best.expect("there is at least one run"))
    }

    /// Takes a batch of a stream: its points go to their nearest centroids, and each centroid becomes the mean of all points that
    /// it was ever given, by batches or by the fit before them (MacQueen, "Some methods for classification and analysis of
    /// multivariate observations", 1967; Sculley, "Web-scale k-means clustering", WWW 2010). The first batch of all starts the
    /// centroids, unless they were set. Returns the labels, by the centroids before; on failure nothing has changed.
    pub fn partial_fit(&mut self, points: &Points, cancelled: Cancelled) -> Result<Vec<u32>> {
        let (n, d, k) = (points.count(), points.width(), self.options.clusters);
        ensure!(self.centroids.is_empty() || d == self.d, Shape, "x has {d} columns, the centroids have {}", self.d);
        ensure!(
            self.options.capacity == 0,
            Argument,
            "capacity is {}: a batch of a stream cannot be balanced",
            self.options.capacity
        );
        let copies = self.copies(points)?;
        let points = &points.read_from(&copies);
        points.check(&self.context)?;
        let directions = self.directions(points)?;
        let points = &directions.as_ref().map_or(Ok(*points), Directions::points)?;
        let mut centroids = if self.centroids.is_empty() {
            ensure!(self.options.start != Start::Given, State, "the start is given centroids, and none were set");
            ensure!(k <= n, Argument, "k is {k}, more clusters than the {n} points of the first batch");
            directions.as_ref().map_or(Ok(()), Directions::check)?;
            stoppable(cancelled, "the start of k-means", || self.start(points, None, 0, cancelled))?
        } else {
            copied(&self.centroids)?
        };
        ensure!(!cancelled(), Cancelled, "k-means was cancelled before a batch");
        let mut masses = if self.masses.is_empty() { vec_zeroed(k)? } else { copied(&self.masses)? };
        let (mut labels, mut here) = (vec_zeroed(n)?, vec_zeroed(n)?);
        let (mut sums, mut more) = (vec_zeroed(k * d)?, vec_zeroed(k)?);
        let found = stoppable(cancelled, "k-means", || {
            iterate(&self.context, points, &centroids, None, &mut labels, &mut [], &mut sums, &mut more)?;
            distances(&self.context, points, &labels, &centroids, &mut here)
        });
        release_large();
        found?;
        let means = centroids.chunks_exact_mut(d).zip(&mut masses);
        for ((centroid, mass), (sums, &more)) in means.zip(sums.chunks_exact(d).zip(&more)) {
            if self.options.spherical {
                turn(centroid, mass, sums);
            } else if more > 0.0 {
                *mass += more;
                for (c, &sum) in centroid.iter_mut().zip(sums) {
                    *c += (sum - more * *c) / *mass;
                }
            }
        }
        let batches = self.batches + 1;
        let empty = masses.iter().filter(|&&mass| mass == 0.0).count() as u64;
        let inertia = inertia(points, &here);
        let report = Report { iterations: batches, inertia, moved: n as u64, empty, ..Report::default() };
        self.keep(centroids, d, masses, Some(report))?;
        self.batches = batches;
        Ok(labels)
    }

    fn start(
        &self,
        points: &Points,
        projection: Option<&Projection>,
        run: usize,
        cancelled: Cancelled,
    ) -> Result<Vec<f64>> {
        let (context, options, stream) = (&*self.context, &self.options, start::stream(self.options.seed, run));
        let seeding = Seeding { context, points: *points, projection, options, stream, cancelled };
        seeding.find()?.map_or_else(|| copied(&self.centroids), Ok)
    }

    /// The nearest centroid of each point, and the squared distance from it, where `to` has room for it.
    pub fn assign(&self, points: &Points, labels: &mut [u32], to: &mut [f32]) -> Result<()> {
        self.look_up(points, |context, points, centroids| {
            nearest(context, points, centroids, None, labels)?;
            if to.is_empty() { Ok(()) } else { distances(context, points, labels, centroids, to) }
        })
    }

    /// Calls `work` with the points, as they are clustered, and the centroids.
    pub fn look_up(&self, points: &Points, work: impl FnOnce(&Context, &Points, &[f64]) -> Result<()>) -> Result<()> {
        ensure!(!self.centroids.is_empty(), State, "there are no centroids yet: fit or set them first");
        let (there, here) = (points.width(), self.d);
        ensure!(there == here, Shape, "x has {there} columns, the centroids have {here}");
        let copies = self.copies(points)?;
        let points = &points.read_from(&copies);
        points.check(&self.context)?;
        let directions = self.directions(points)?;
        let points = directions.as_ref().map_or(Ok(*points), Directions::points)?;
        work(&self.context, &points, &self.centroids)
    }
}

/// The direction of the sum of all directions so far, and how long that sum is, after more of them.
fn turn(direction: &mut [f64], length: &mut f64, more: &[f64]) {
    let sum = |(c, more): (&f64, &f64)| *length * c + more;
    let now = direction.iter().zip(more).map(|pair| sum(pair).powi(2)).sum::<f64>().sqrt();
    if now > 0.0 {
        direction.iter_mut().zip(more).for_each(|(c, more)| *c = sum((c, more)) / now);
    }
    *length = now;
}

fn copied(from: &[f64]) -> Result<Vec<f64>> {
    let mut to = Vec::new();
    reserve(&mut to, from.len())?;
    to.extend_from_slice(from);
    Ok(to)
}

/// The nearest of `centroids` [k, d] to each point, with bounds where there is room for them, and the sums and masses of the points of
/// each.
#[allow(clippy::too_many_arguments)]
pub fn iterate(
    context: &Context,
    points: &Points,
    centroids: &[f64],
    projection: Option<&Projection>,
    labels: &mut [u32],
    bounds: &mut [f32],
    sums: &mut [f64],
    masses: &mut [f64],
) -> Result<()> {
    let (n, d, k, bounded) = (points.count(), points.width(), masses.len(), bounds.len() / 2);
    let (x, weights, centroids) = (points.view(), points.weights(), View::of(centroids, &[k, d])?);
    let (mut labels, mut bounds) = (ViewMut::of(labels, &[n])?, ViewMut::of(bounds, &[bounded, 2])?);
    let (mut sums, mut masses) = (ViewMut::of(sums, &[k, d])?, ViewMut::of(masses, &[k])?);
    let (labels, bounds, sums, masses) = (&mut labels, &mut bounds, &mut sums, &mut masses);
    let (kernels, launch) = (context.kernels(), context.launch());
    (kernels.kmeans_iterate)(launch, &x, &weights, &centroids, projection, labels, bounds, sums, masses)
}

/// The sum of weight times squared distance, in index order.
pub fn inertia(points: &Points, distances: &[f32]) -> f64 {
    distances.iter().enumerate().map(|(i, &distance)| points.weight(i) * f64::from(distance)).sum()
}

/// The nearest of `centroids` [any, d] to each point.
pub fn nearest(
    context: &Context,
    points: &Points,
    centroids: &[f64],
    projection: Option<&Projection>,
    labels: &mut [u32],
) -> Result<()> {
    let (n, d) = (points.count(), points.width());
    let centroids = View::of(centroids, &[centroids.len() / d, d])?;
    let (mut labels, mut bounds) = (ViewMut::of(labels, &[n])?, ViewMut::of::<f32>(&mut [], &[0, 2])?);
    let (kernels, launch) = (context.kernels(), context.launch());
    (kernels.kmeans_assign)(launch, &points.view(), None, &centroids, projection, &mut labels, &mut bounds)
}

/// The squared distance of each point from the one of `centroids` [any, d] that its label names.
pub fn distances(
    context: &Context,
    points: &Points,
    labels: &[u32],
    centroids: &[f64],
    distances: &mut [f32],
) -> Result<()> {
    let (n, d) = (points.count(), points.width());
    let (labels, centroids) = (View::of(labels, &[n])?, View::of(centroids, &[centroids.len() / d, d])?);
    let mut distances = ViewMut::of(distances, &[n])?;
    (context.kernels().kmeans_distances)(context.launch(), &points.view(), &labels, &centroids, &mut distances)
}
