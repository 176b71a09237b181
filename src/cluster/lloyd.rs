//! One run of Lloyd's algorithm ("Least squares quantization in PCM", 1982): points to their nearest centroids, centroids to
//! the means of their points, until nothing changes.

use super::kmeans::{Hooks, nearest};
use super::options::{KMeansOptions, Report};
use super::points::Points;
use crate::backend::Context;
use crate::tensor::error::ensure;
use crate::tensor::{Result, View, ViewMut, reserve, vec_zeroed};

pub struct Lloyd<'a> {
    context: &'a Context,
    points: Points<'a>,
    k: usize,
    /// [k, d]
    pub centroids: Vec<f32>,
    /// The nearest centroid of each point, and its squared distance.
    pub labels: Vec<u32>,
    distances: Vec<f32>,
    /// The centroids before the last update, and the labels that it made the present ones from.
    earlier_centroids: Vec<f32>,
    earlier_labels: Vec<u32>,
    sums: Vec<f64>,
    masses: Vec<f64>,
}

impl<'a> Lloyd<'a> {
    pub fn new(context: &'a Context, points: Points<'a>, centroids: Vec<f32>) -> Result<Lloyd<'a>> {
        let (n, d) = (points.count(), points.width());
        let k = centroids.len() / d;
        Ok(Lloyd {
            context,
            points,
            k,
            labels: vec_zeroed(n)?,
            distances: vec_zeroed(n)?,
            earlier_centroids: vec_zeroed(centroids.len())?,
            earlier_labels: vec_zeroed(n)?,
            sums: vec_zeroed(centroids.len())?,
            masses: vec_zeroed(k)?,
            centroids,
        })
    }

    /// Iterates; at the end, labels and inertia are those of the centroids.
    pub fn run(&mut self, options: &KMeansOptions, run: usize, hooks: &mut Hooks) -> Result<Report> {
        self.assign()?;
        let n = self.points.count() as u64;
        let mut report = Report { run: run as u64, inertia: self.inertia(), moved: n, ..Report::default() };
        report.empty = self.count_empty();
        while report.iterations < options.max_iterations && !report.converged && !report.stopped {
            ensure!(
                !(hooks.cancelled)(),
                Cancelled,
                "k-means was cancelled in run {run} after {} iterations",
                report.iterations
            );
            report.repaired += self.update()?;
            self.assign()?;
            report.iterations += 1;
            let before = std::mem::replace(&mut report.inertia, self.inertia());
            if report.inertia > before {
                // Means and distances are rounded to f32: this close to a fixed point, that is all that still moves.
                std::mem::swap(&mut self.centroids, &mut self.earlier_centroids);
                self.assign()?;
                (report.inertia, report.converged) = (before, true);
            }
            report.moved =
                self.labels.iter().zip(&self.earlier_labels).filter(|(now, before)| now != before).count() as u64;
            report.empty = self.count_empty();
            let still = options.tolerance > 0.0 && before - report.inertia <= options.tolerance * before;
            report.converged |= report.moved == 0 || (still && report.empty == 0);
            report.stopped = !(hooks.progress)(&report);
        }
        Ok(report)
    }

    fn assign(&mut self) -> Result<()> {
        nearest(self.context, &self.points, &self.centroids, &mut self.labels, &mut self.distances)
    }

    /// The centroids become the means of their points; returns how many empty ones were given a point first. One that stays
    /// empty stays where it is.
    fn update(&mut self) -> Result<u64> {
        std::mem::swap(&mut self.centroids, &mut self.earlier_centroids);
        std::mem::swap(&mut self.labels, &mut self.earlier_labels);
        self.sum()?;
        let mut repaired = 0;
        if self.masses.contains(&0.0) {
            repaired = self.repair()?;
            self.sum()?;
        }
        let d = self.points.width();
        let means = self.centroids.chunks_exact_mut(d).zip(self.earlier_centroids.chunks_exact(d));
        for ((mean, earlier), (sums, &mass)) in means.zip(self.sums.chunks_exact(d).zip(&self.masses)) {
            for ((mean, &earlier), &sum) in mean.iter_mut().zip(earlier).zip(sums) {
                *mean = if mass > 0.0 { (sum / mass) as f32 } else { earlier };
            }
        }
        Ok(repaired)
    }

    fn sum(&mut self) -> Result<()> {
        let (n, d, k) = (self.points.count(), self.points.width(), self.k);
        let labels = View::of(&self.earlier_labels, &[n])?;
        let (mut sums, mut masses) = (ViewMut::of(&mut self.sums, &[k, d])?, ViewMut::of(&mut self.masses, &[k])?);
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        (kernels.kmeans_update)(launch, &self.points.view()?, &labels, &self.points.weights()?, &mut sums, &mut masses)
    }

    /// Gives each empty cluster the point that is farthest from its centroid (ties: the lowest index) among the clusters that
    /// keep another one; returns how many found one. None is found where all points lie on centroids.
    fn repair(&mut self) -> Result<u64> {
        let Lloyd { points, earlier_labels: labels, distances, masses, .. } = self;
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

    fn inertia(&self) -> f64 {
        self.distances.iter().enumerate().map(|(i, &distance)| self.points.weight(i) * f64::from(distance)).sum()
    }

    /// Clusters that no point of positive weight has for its nearest.
    fn count_empty(&mut self) -> u64 {
        self.masses.fill(0.0);
        for (i, &label) in self.labels.iter().enumerate() {
            self.masses[label as usize] += self.points.weight(i);
        }
        self.masses.iter().filter(|&&mass| mass == 0.0).count() as u64
    }
}
