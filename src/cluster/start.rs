//! The first centroids of a run. All choices are drawn by Philox from (seed, run, number of the choice).

use super::Hooks;
use super::kmeans::{distances, nearest};
use super::lloyd::Lloyd;
use super::options::{KMeansOptions, Start};
use super::points::Points;
use crate::backend::projection::{Projection, rounding};
use crate::backend::{Context, nearest_first};
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Cancelled, Result, View, ViewMut, reserve, vec_zeroed};

/// What a start is found from.
#[derive(Clone, Copy)]
pub struct Seeding<'a> {
    pub context: &'a Context,
    pub points: Points<'a>,
    pub projection: Option<&'a Projection>,
    pub options: &'a KMeansOptions,
    pub stream: Stream,
    pub cancelled: Cancelled<'a>,
}

pub fn stream(seed: u64, run: usize) -> Stream {
    Stream::new(seed, Purpose::Cluster, run as u32, 0)
}

/// Rounds of k-means||, of which each draws about as many points as there are to be clusters.
const ROUNDS: u64 = 5;
/// Iterations that the points that were drawn are clustered by.
const RECLUSTERING: u64 = 10;

impl Seeding<'_> {
    fn continues(&self) -> Result<()> {
        ensure!(!(self.cancelled)(), Cancelled, "k-means was cancelled before its first iteration");
        Ok(())
    }

    /// The first row: i with probability w[i] / sum of w.
    fn first(&self) -> Result<u32> {
        let weight = |i: usize| self.points.weight(i);
        let first = Masses::new(self.points.count(), weight)?.draw(self.stream.uniform_f64(0), weight);
        first.map(|i| i as u32).ok_or_else(|| error!(Argument, "no point has a weight"))
    }

    /// Greedy k-means++ (Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007), weighted: the first
    /// centroid is point i with probability w[i] / sum of w; for each next one several points are drawn, with probability
    /// w[i] D[i] / sum of w D, where D[i] is the squared distance of point i from the nearest centroid so far, and that is taken
    /// which leaves the least sum of w D (the earliest of several).
    ///
    /// When every point is a centroid already, the rest repeat the first one: ties go to the lowest index, so they stay empty.
    pub fn plus_plus(&self) -> Result<Vec<f64>> {
        let (points, k, d) = (self.points, self.options.clusters, self.points.width());
        let n = points.count();
        let mut rows: Vec<u32> = Vec::new();
        reserve(&mut rows, k)?;
        rows.push(self.first()?);
        let mut least = Least::new(n, self.options.drawn())?;
        if rows.len() < k {
            least.lower(self, &rows)?;
            least.take(0, &points, rows[0])?;
        }
        while rows.len() < k {
            self.continues()?;
            let candidates = least.draw(self, rows.len() as u64)?;
            if candidates.is_empty() {
                break;
            }
            let best = if rows.len() + 1 == k && candidates.len() == 1 { 0 } else { least.lower(self, &candidates)? };
            rows.push(candidates[best]);
            if rows.len() < k {
                least.take(best, &points, candidates[best])?;
            }
        }
        let mut centroids = points.gather(&rows, k)?;
        while centroids.len() < k * d {
            centroids.extend_from_within(..d);
        }
        Ok(centroids)
    }

    /// k-means|| (Bahmani et al., "Scalable k-means++", VLDB 2012): one point, then in each of five rounds every point with
    /// probability min(1, k w[i] D[i] / sum of w D). The points that were drawn, each with the weight of those that are nearest to
    /// it, are clustered by greedy k-means++ and a few iterations.
    pub fn scalable(&self) -> Result<Vec<f64>> {
        let (points, k, d) = (self.points, self.options.clusters, self.points.width());
        let n = points.count();
        let mut rows: Vec<u32> = Vec::new();
        reserve(&mut rows, 1)?;
        rows.push(self.first()?);
        let (mut labels, mut least) = (vec_zeroed::<u32>(n)?, vec_zeroed::<f32>(n)?);
        let (mut nearest_here, mut here) = (vec_zeroed::<u32>(n)?, vec_zeroed::<f32>(n)?);
        distances(self.context, &points, &labels, &points.gather(&rows, 1)?, &mut least)?;
        for round in 1..=ROUNDS {
            self.continues()?;
            let mass = |i: usize| points.weight(i) * f64::from(least[i]);
            let each = k as f64 / (0..n).map(mass).sum::<f64>();
            let drawn = (0..n).filter(|&i| self.stream.uniform_f64(round << 32 | i as u64) < each * mass(i));
            let before = rows.len();
            for i in drawn {
                reserve(&mut rows, 1)?;
                rows.push(i as u32);
            }
            let drawn = &rows[before..];
            if drawn.is_empty() {
                continue;
            }
            let centroids = points.gather(drawn, drawn.len())?;
            nearest(self.context, &points, &centroids, self.projection, &mut nearest_here)?;
            distances(self.context, &points, &nearest_here, &centroids, &mut here)?;
            for i in 0..n {
                if here[i] < least[i] {
                    (least[i], labels[i]) = (here[i], before as u32 + nearest_here[i]);
                }
            }
        }
        if rows.len() < k {
            // Most points are where one was drawn: as many as there are to be clusters may be too few.
            return self.plus_plus();
        }
        let (mut x, mut masses) = (Vec::new(), vec_zeroed::<f64>(rows.len())?);
        labels.iter().enumerate().for_each(|(i, &label)| masses[label as usize] += points.weight(i));
        reserve(&mut x, rows.len() * d)?;
        rows.iter().for_each(|&row| x.extend_from_slice(points.row(row as usize)));
        let mut weights = Vec::new();
        reserve(&mut weights, masses.len())?;
        // Beside the largest, so that none is too large for an f32.
        let largest = masses.iter().fold(0.0, |most: f64, &mass| most.max(mass));
        weights.extend(masses.iter().map(|&mass| (mass / largest) as f32));
        let drawn = Points::new(&x, rows.len(), d, &weights)?;
        let stream = Stream { tensor: 1, ..self.stream };
        let start = Seeding { points: drawn, projection: None, stream, ..*self }.plus_plus()?;
        let max_iterations = RECLUSTERING.min(self.options.max_iterations);
        let options = KMeansOptions { max_iterations, tolerance: 0.0, capacity: 0, ..self.options.clone() };
        let mut lloyd = Lloyd::new(self.context, drawn, None, start, &options)?;
        lloyd.run(0, &mut Hooks { progress: None, cancelled: self.cancelled })?;
        Ok(lloyd.centroids)
    }

    /// k distinct rows, drawn one after the other by weight: those of the k least -ln(u) / w (Efraimidis and Spirakis, "Weighted
    /// random sampling with a reservoir", 2006). Rows of weight 0 come last.
    pub fn random(&self) -> Result<Vec<f64>> {
        let (points, k) = (self.points, self.options.clusters);
        let n = points.count();
        let mut keys: Vec<(f64, u32)> = Vec::new();
        reserve(&mut keys, n)?;
        keys.extend((0..n).map(|i| (-(1.0 - self.stream.uniform_f64(i as u64)).ln() / points.weight(i), i as u32)));
        keys.sort_unstable_by(nearest_first);
        let mut rows: Vec<u32> = Vec::new();
        reserve(&mut rows, k)?;
        rows.extend(keys[..k].iter().map(|&(_, i)| i));
        // A row without a direction is none to begin with.
        rows.retain(|&i| !self.options.spherical || points.weight(i as usize) > 0.0);
        rows.sort_unstable();
        let mut centroids = points.gather(&rows, k)?;
        while centroids.len() < k * points.width() {
            centroids.extend_from_within(..points.width());
        }
        Ok(centroids)
    }

    /// The start that the options ask for; None: the centroids that there are.
    pub fn find(&self) -> Result<Option<Vec<f64>>> {
        match self.options.start {
            Start::PlusPlus => self.plus_plus().map(Some),
            Start::Scalable => self.scalable().map(Some),
            Start::Random => self.random().map(Some),
            Start::Given => Ok(None),
        }
    }
}

/// The squared distances of all points from the nearest centroid so far, and what candidates would make of them.
struct Least {
    /// [n]
    least: Vec<f32>,
    /// [most candidates, n]
    lower: Vec<f32>,
    gains: Vec<f64>,
    /// [n]: the nearest seed of each point.
    labels: Vec<u32>,
    /// [seeds, d]
    seeds: Vec<f32>,
}

impl Least {
    fn new(n: usize, most: usize) -> Result<Least> {
        let mut least = vec_zeroed(n)?;
        least.fill(f32::MAX);
        let (lower, gains) = (vec_zeroed(n * most)?, vec_zeroed(most)?);
        Ok(Least { least, lower, gains, labels: vec_zeroed(n)?, seeds: Vec::new() })
    }

    /// Finds what these rows would make of the distances; returns which makes least of them.
    fn lower(&mut self, seeding: &Seeding, candidates: &[u32]) -> Result<usize> {
        let (n, m) = (self.least.len(), candidates.len());
        let (kernels, launch) = (seeding.context.kernels(), seeding.context.launch());
        let (x, weights) = (seeding.points.view(), seeding.points.weights());
        let limits = self.limits(seeding, candidates)?;
        let known = if limits.is_empty() { 0 } else { n };
        let (labels, limits) = (View::of(&self.labels[..known], &[known])?, View::of(&limits, &[m, limits.len() / m])?);
        let (candidates, least) = (View::of(candidates, &[m])?, View::of(&self.least, &[n])?);
        let gains = &mut self.gains[..m];
        let (mut lower, mut sums) = (ViewMut::of(&mut self.lower[..m * n], &[m, n])?, ViewMut::of(gains, &[m])?);
        let (projection, lower, sums) = (seeding.projection, &mut lower, &mut sums);
        (kernels.kmeans_seed)(launch, &x, &weights, &candidates, projection, &labels, &limits, &least, lower, sums)?;
        let gains = &self.gains[..m];
        Ok((0..m).fold(0, |best, i| if gains[i] > gains[best] { i } else { best }))
    }

    /// limits[m, seeds + m], or nothing: a point that is no farther from its seed than half as far as that is from the candidate is
    /// no nearer to the candidate. A few roundings less, so that what is computed of the distances is in this order as well: 8 r
    /// are more than the square of the half loses by the two distances' errors of r each, and by that of the third.
    fn limits(&mut self, seeding: &Seeding, candidates: &[u32]) -> Result<Vec<f32>> {
        /// Where some digits of squares are lost.
        const SMALL: f32 = 1e-30;
        let (points, d) = (seeding.points, seeding.points.width());
        let (count, m) = (self.seeds.len() / d, candidates.len());
        let factor = (0.25 * (1.0 - 8.0 * rounding(d)) - 1e-6) as f32;
        // Labels take longer to a GPU than rows that are as narrow as these are read there.
        let narrow = seeding.context.on_device() && d < 256;
        if factor <= 0.0 || count == 0 || narrow {
            return Ok(Vec::new());
        }
        // The candidates as more seeds, so that one call finds all.
        reserve(&mut self.seeds, m * d)?;
        candidates.iter().for_each(|&i| self.seeds.extend_from_slice(points.row(i as usize)));
        let limits = between(seeding.context, &self.seeds, d, count);
        self.seeds.truncate(count * d);
        let mut limits = limits?;
        limits.iter_mut().for_each(|limit| *limit = if *limit > SMALL { *limit * factor } else { -1.0 });
        Ok(limits)
    }

    /// Takes the distances that a candidate would make: it is the next seed.
    fn take(&mut self, candidate: usize, points: &Points, row: u32) -> Result<()> {
        let (n, d) = (self.least.len(), points.width());
        let seed = (self.seeds.len() / d) as u32;
        for ((least, label), &lower) in self.least.iter_mut().zip(&mut self.labels).zip(&self.lower[candidate * n..]) {
            if lower < *least {
                (*least, *label) = (lower, seed);
            }
        }
        reserve(&mut self.seeds, d)?;
        self.seeds.extend_from_slice(points.row(row as usize));
        Ok(())
    }

    /// Draws candidates for centroid `number`; none where all distances are 0.
    fn draw(&self, seeding: &Seeding, number: u64) -> Result<Vec<u32>> {
        let mass = |i: usize| seeding.points.weight(i) * f64::from(self.least[i]);
        let masses = Masses::new(self.least.len(), mass)?;
        let uniform = |candidate: usize| seeding.stream.uniform_f64((candidate as u64) << 32 | number);
        // As many as there are candidates, 1024 at most.
        Ok((0..self.gains.len()).filter_map(|i| masses.draw(uniform(i), mass).map(|i| i as u32)).collect())
    }
}

/// The squared distances of the rows from `first` on from all rows.
fn between(context: &Context, rows: &[f32], d: usize, first: usize) -> Result<Vec<f32>> {
    let n = rows.len() / d;
    let (mut last, mut least, m) = (Vec::new(), vec_zeroed::<f32>(n)?, n - first);
    reserve(&mut last, m)?;
    last.extend(first as u32..n as u32);
    least.fill(f32::MAX);
    let (mut found, mut gains) = (vec_zeroed::<f32>(m * n)?, vec_zeroed::<f64>(m)?);
    let (x, last, least) = (View::of(rows, &[n, d])?, View::of(&last, &[m])?, View::of(&least, &[n])?);
    let (weights, labels, limits) =
        (View::of::<f32>(&[], &[0])?, View::of::<u32>(&[], &[0])?, View::of::<f32>(&[], &[0, 0])?);
    let (lower, sums) = (&mut ViewMut::of(&mut found, &[m, n])?, &mut ViewMut::of(&mut gains, &[m])?);
    let call = context.kernels().kmeans_seed;
    call(context.launch(), &x, &weights, &last, None, &labels, &limits, &least, lower, sums)?;
    Ok(found)
}

/// Masses of indices, added up in index order.
struct Masses {
    n: usize,
    /// The sum before each of some indices, [`Masses::STEP`] apart.
    before: Vec<f64>,
    total: f64,
}

impl Masses {
    const STEP: usize = 1024;

    fn new(n: usize, mass: impl Fn(usize) -> f64) -> Result<Masses> {
        let (mut before, mut total) = (Vec::new(), 0.0);
        reserve(&mut before, n.div_ceil(Self::STEP))?;
        for start in (0..n).step_by(Self::STEP) {
            before.push(total);
            for i in start..n.min(start + Self::STEP) {
                total += mass(i);
            }
        }
        Ok(Masses { n, before, total })
    }

    /// Index i with probability mass(i) / total, for a uniform number in [0, 1); None when all masses are 0.
    fn draw(&self, uniform: f64, mass: impl Fn(usize) -> f64) -> Option<usize> {
        let target = uniform * self.total;
        // The first of these steps ends above the target, unless rounding has put that at the very total.
        let step = self.before.partition_point(|&before| before <= target).saturating_sub(1);
        let mut sum = self.before.get(step).copied()?;
        for i in step * Self::STEP..self.n {
            sum += mass(i);
            if mass(i) > 0.0 && sum > target {
                return Some(i);
            }
        }
        (0..self.n).rev().find(|&i| mass(i) > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_drawn_by_their_mass() {
        let masses = [0.0, 1.0, 0.0, 3.0, 0.0];
        let drawn = |u: f64| Masses::new(5, |i| masses[i]).unwrap().draw(u, |i| masses[i]);
        assert_eq!([0.0, 0.2499, 0.25, 0.9999].map(drawn), [Some(1), Some(1), Some(3), Some(3)]);
        // Rounding may put the target at the very total.
        assert_eq!(drawn(1.0), Some(3));
        assert_eq!(Masses::new(3, |_| 0.0).unwrap().draw(0.5, |_| 0.0), None);
        assert_eq!(Masses::new(0, |_| 1.0).unwrap().draw(0.5, |_| 1.0), None);
        // Over several steps of the sums, which are those of a single loop.
        let mass = |i: usize| [0.1, 0.7, 0.0, 1e-3][i % 4];
        let masses = Masses::new(5000, mass).unwrap();
        for u in (0..997).map(|i| f64::from(i) / 997.0) {
            let mut sum = 0.0;
            let expected = (0..5000).find(|&i| {
                sum += mass(i);
                sum > u * masses.total && mass(i) > 0.0
            });
            assert_eq!(masses.draw(u, mass), expected);
        }
    }
}
