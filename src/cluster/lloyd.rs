//! One run of Lloyd's algorithm ("Least squares quantization in PCM", 1982): points to their nearest centroids, centroids to
//! the means of their points, until nothing changes. Centroids are kept in f64.

use super::balance;
use super::bounds::Bounds;
use super::kmeans::{Hooks, distances, inertia, iterate};
use super::options::{KMeansOptions, Report};
use super::points::Points;
use super::sphere::length;
use crate::backend::Context;
use crate::backend::projection::Projection;
use crate::backend::stop::stoppable;
use crate::tensor::{Cancelled, Result, View, ViewMut, reserve, vec_zeroed};

pub struct Lloyd<'a> {
    context: &'a Context,
    points: Points<'a>,
    options: &'a KMeansOptions,
    /// Used as long as it pays.
    projection: Option<&'a Projection>,
    k: usize,
    /// [k, d]
    pub centroids: Vec<f64>,
    /// The nearest centroid of each point; with a capacity, that of the best assignment.
    pub labels: Vec<u32>,
    /// The labels that the present centroids were made from, and the centroids before those.
    earlier: Vec<u32>,
    centroids_before: Vec<f64>,
    bounds: Bounds,
    /// [k]: 1 where other points belong to a cluster than earlier.
    changed: Vec<u32>,
    distances: Vec<f32>,
    /// [k]: what the present centroids are the means of, or, as directions, how long the sum was; 0 for those that are where they
    /// began.
    pub fitted: Vec<f64>,
    /// Of the present labels.
    sums: Vec<f64>,
    masses: Vec<f64>,
}

/// Whose sums: of the earlier labels, all of them; of the present ones, where something changed.
enum Summed {
    Earlier,
    Present,
}

impl<'a> Lloyd<'a> {
    pub fn new(
        context: &'a Context,
        points: Points<'a>,
        projection: Option<&'a Projection>,
        centroids: Vec<f64>,
        options: &'a KMeansOptions,
    ) -> Result<Lloyd<'a>> {
        let (n, d) = (points.count(), points.width());
        let k = centroids.len() / d;
        Ok(Lloyd {
            context,
            points,
            options,
            projection,
            k,
            labels: vec_zeroed(n)?,
            earlier: vec_zeroed(n)?,
            centroids_before: vec_zeroed(centroids.len())?,
            bounds: Bounds::new(n, k)?,
            changed: vec_zeroed(k)?,
            distances: vec_zeroed(n)?,
            fitted: vec_zeroed(k)?,
            sums: vec_zeroed(centroids.len())?,
            masses: vec_zeroed(k)?,
            centroids,
        })
    }

    /// Iterates; at the end, labels and inertia are those of the centroids.
    pub fn run(&mut self, run: usize, hooks: &mut Hooks) -> Result<Report> {
        let options = self.options;
        let mut report = Report { run: run as u64, moved: self.points.count() as u64, ..Report::default() };
        // The inertia of each iteration costs a look at all points: it is found where somebody wants to know.
        let told = hooks.progress.is_some() || options.tolerance > 0.0;
        let cancelled = hooks.cancelled;
        let what = |iterations: u64| format!("k-means, in run {run} after {iterations} iterations,");
        stoppable(cancelled, &what(0), || {
            self.search(report.moved, cancelled)?;
            report.empty = self.empty();
            if told {
                report.inertia = self.inertia()?;
            }
            Ok(())
        })?;
        while report.iterations < options.max_iterations && !report.converged && !report.stopped {
            stoppable(cancelled, &what(report.iterations), || self.iterate(&mut report, told, cancelled))?;
            if let Some(progress) = &mut hooks.progress {
                report.stopped = !progress(&report);
            }
        }
        if !told {
            report.inertia = stoppable(cancelled, &what(report.iterations), || self.inertia())?;
        }
        Ok(report)
    }

    fn iterate(&mut self, report: &mut Report, told: bool, cancelled: Cancelled) -> Result<()> {
        let tolerance = self.options.tolerance;
        report.repaired += self.update()?;
        self.search(report.moved, cancelled)?;
        report.iterations += 1;
        report.moved = self.labels.iter().zip(&self.earlier).filter(|(now, before)| now != before).count() as u64;
        report.empty = self.empty();
        report.converged = report.moved == 0;
        if told {
            let before = std::mem::replace(&mut report.inertia, self.inertia()?);
            let still = tolerance > 0.0 && before - report.inertia <= tolerance * before;
            report.converged |= still && report.empty == 0;
        }
        Ok(())
    }

    /// The labels of the present centroids, and the sums of the points of each.
    fn search(&mut self, moved: u64, cancelled: Cancelled) -> Result<()> {
        let (n, d) = (self.points.count(), self.points.width());
        let capacity = self.options.capacity;
        // As many as there are points limit nothing.
        if capacity > 0 && capacity < n {
            balance::assign(self.context, &self.points, &self.centroids, capacity, cancelled, &mut self.labels)?;
            self.changed.fill(1);
            return self.sum(Summed::Present);
        }
        if self.bounds.hold {
            self.bounds.step(&self.labels, &self.centroids_before, &self.centroids, d);
            if self.bounds.hold {
                return self.search_open();
            }
        }
        self.bounds.hold = self.bounds_pay() && self.bounds.wanted(moved, n);
        self.search_all()
    }

    /// Bounds move on the host. A device that is brought them has searched for all points sooner, unless centroids are many and
    /// long: at 400 TFLOP/s, of 6 operations for each number of a centroid, this many take it 16 ns a point.
    fn bounds_pay(&self) -> bool {
        const MANY: usize = 1 << 20;
        !self.context.on_device() || self.centroids.len() >= MANY
    }

    /// The same for all points, with bounds if they are to hold.
    fn search_all(&mut self) -> Result<()> {
        let bounded = if self.bounds.hold { self.bounds.values.len() } else { 0 };
        let bounds = &mut self.bounds.values[..bounded];
        let (labels, sums, masses) = (&mut self.labels, &mut self.sums, &mut self.masses);
        iterate(self.context, &self.points, &self.centroids, self.projection, labels, bounds, sums, masses)?;
        self.drop_projection();
        Ok(())
    }

    /// The same where bounds hold: most points keep their labels, and many clusters their points.
    fn search_open(&mut self) -> Result<()> {
        let (n, d, k) = (self.points.count(), self.points.width(), self.k);
        let (open, values) = self.bounds.open();
        if !open.is_empty() {
            let (open, centroids) = (View::of(open, &[open.len()])?, View::of(&self.centroids, &[k, d])?);
            let mut labels = ViewMut::of(&mut self.labels, &[n])?;
            let mut bounds = ViewMut::of(values, &[n, 2])?;
            let (kernels, launch, x) = (self.context.kernels(), self.context.launch(), self.points.view());
            let (labels, bounds) = (&mut labels, &mut bounds);
            (kernels.kmeans_assign)(launch, &x, Some(&open), &centroids, self.projection, labels, bounds)?;
            self.drop_projection();
        }
        self.changed.fill(0);
        for (&now, &before) in self.labels.iter().zip(&self.earlier).filter(|(now, before)| now != before) {
            self.changed[now as usize] = 1;
            self.changed[before as usize] = 1;
        }
        self.sum(Summed::Present)
    }

    fn drop_projection(&mut self) {
        if self.projection.is_some_and(|projection| !self.pays(projection)) {
            self.projection = None;
        }
    }

    /// Whether the last search was less work than one with all dimensions. A centroid that is looked at by itself costs a few times
    /// what it costs in a product of matrices.
    fn pays(&self, projection: &Projection) -> bool {
        const ALONE: f64 = 4.0;
        let (k, d, width) = (self.k as f64, self.points.width() as f64, projection.width() as f64);
        k * (width + 4.0) + ALONE * d * projection.looked_at() < 0.8 * k * d
    }

    /// The centroids become the means of their points, or the directions of those; returns how many empty ones were given a point
    /// first. One that stays empty stays where it is.
    fn update(&mut self) -> Result<u64> {
        self.earlier.copy_from_slice(&self.labels);
        let repaired = if self.masses.contains(&0.0) { self.repair()? } else { 0 };
        if repaired > 0 {
            self.sum(Summed::Earlier)?;
        }
        let d = self.points.width();
        self.centroids_before.copy_from_slice(&self.centroids);
        let means = self.centroids.chunks_exact_mut(d).zip(&mut self.fitted);
        for ((mean, fitted), (sums, &mass)) in means.zip(self.sums.chunks_exact(d).zip(&self.masses)) {
            *fitted = if self.options.spherical { length(sums) } else { mass };
            if *fitted > 0.0 {
                mean.iter_mut().zip(sums).for_each(|(mean, sum)| *mean = sum / *fitted);
            }
        }
        Ok(repaired)
    }

    fn sum(&mut self, summed: Summed) -> Result<()> {
        let (n, d, k) = (self.points.count(), self.points.width(), self.k);
        let (labels, changed) = match summed {
            Summed::Earlier => (View::of(&self.earlier, &[n])?, None),
            Summed::Present => (View::of(&self.labels, &[n])?, Some(View::of(&self.changed, &[k])?)),
        };
        let (mut sums, mut masses) = (ViewMut::of(&mut self.sums, &[k, d])?, ViewMut::of(&mut self.masses, &[k])?);
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        let (x, weights, sums, masses) = (self.points.view(), self.points.weights(), &mut sums, &mut masses);
        (kernels.kmeans_update)(launch, &x, &labels, &weights, changed.as_ref(), sums, masses)
    }

    /// Gives each empty cluster the point that is farthest from its centroid (ties: the lowest index) among the clusters that
    /// keep another one; returns how many found one. None is found where all points lie on centroids.
    fn repair(&mut self) -> Result<u64> {
        self.measure()?;
        let Lloyd { points, earlier: labels, distances, masses, .. } = self;
        let mut members = vec_zeroed::<u32>(self.k)?;
        let mut farthest: Vec<u32> = Vec::new();
        reserve(&mut farthest, points.count())?;
        for (i, &label) in labels.iter().enumerate().filter(|&(i, _)| points.weight(i) > 0.0) {
            members[label as usize] += 1;
            if distances[i] > 0.0 {
                farthest.push(i as u32);
            }
        }
        let distance = |i: u32| distances[i as usize];
        farthest.sort_unstable_by(|&a, &b| distance(b).total_cmp(&distance(a)).then(a.cmp(&b)));
        let mut candidates = farthest.into_iter();
        let mut repaired = 0;
        for cluster in (0..self.k).filter(|&cluster| masses[cluster] == 0.0) {
            let Some(point) = candidates.find(|&i| members[labels[i as usize] as usize] > 1) else { break };
            let label = &mut labels[point as usize];
            members[*label as usize] -= 1;
            *label = cluster as u32;
            repaired += 1;
        }
        Ok(repaired)
    }

    /// The distances of all points from the centroids of their labels.
    fn measure(&mut self) -> Result<()> {
        distances(self.context, &self.points, &self.labels, &self.centroids, &mut self.distances)
    }

    fn inertia(&mut self) -> Result<f64> {
        self.measure()?;
        Ok(inertia(&self.points, &self.distances))
    }

    /// Clusters that no point of positive weight has for its nearest.
    fn empty(&self) -> u64 {
        self.masses.iter().filter(|&&mass| mass == 0.0).count() as u64
    }
}
