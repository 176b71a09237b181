//! Clusters of a limited size: of all ways to give each point a cluster so that none has more than `capacity`, one of least cost, the
//! sum of weight times squared distance (Bradley, Bennett and Demiriz, "Constrained k-means clustering", MSR-TR-2000-65).
//!
//! It is a minimum-cost flow, found by successive shortest paths (Ahuja, Magnanti and Orlin, "Network Flows", section 9.7) over the
//! clusters: first every point goes to its nearest centroid; then, as long as a cluster has too many, points are handed on along
//! the cheapest way, over any number of clusters, to one that has room. The arc from cluster a to b costs what the point of a costs
//! that is cheapest to move, the least of c(i, b) - c(i, a). Prices of the clusters keep every arc's cost with prices at 0 or more,
//! so that Dijkstra's algorithm finds the way, and they prove at the end that nothing is cheaper.
//!
//! Of each point only the nearest centroids are looked at. At the end the prices say which others could matter: those are looked
//! up, and where one does, it is added, and the flow found again. So the result is the best of all, with memory for a few centroids a
//! point. Costs are integers, 2^-40 of the largest that is possible: sums of them are exact.

use super::points::Points;
use crate::backend::Context;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Cancelled, Result, View, ViewMut, reserve, vec_zeroed};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nearest centroids of a point that are looked at first.
const NEAR: usize = 16;

/// labels[n] = a cluster for each point, at most `capacity` to one; k times that is n at least.
pub fn assign(
    context: &Context,
    points: &Points,
    centroids: &[f64],
    capacity: usize,
    cancelled: Cancelled,
    labels: &mut [u32],
) -> Result<()> {
    let k = centroids.len() / points.width();
    let mut near = NEAR.min(k);
    let mut place = Place { context, points, centroids, k, scale: 0.0 };
    loop {
        let mut arcs = place.arcs(near)?;
        loop {
            let mut flow = Flow::new(&arcs, k, capacity)?;
            if !flow.settle(cancelled)? {
                // No way leads to a cluster with room: longer lists. Where all centroids are on them, there is one, unless the search
                // for them was given up.
                ensure!(
                    near < k,
                    Internal,
                    "k-means: {k} clusters of {capacity} have no room for {} points",
                    labels.len()
                );
                break;
            }
            let missing = if near < k { place.missing(&flow, cancelled)? } else { Vec::new() };
            if missing.is_empty() {
                labels.copy_from_slice(&flow.labels);
                return Ok(());
            }
            arcs = arcs.with(&missing)?;
        }
        near = (2 * near).min(k);
    }
}

/// What a squared distance is multiplied by, so that none costs more than 2^40, where the nearest centroid of a point is so far at
/// most. No centroid is farther from a point than the nearest one and twice the farthest centroid from their mean together.
fn scale(points: &Points, centroids: &[f64], nearest: f32) -> Result<f64> {
    const LARGEST: f64 = (1u64 << 40) as f64;
    let (n, d) = (points.count(), points.width());
    let k = (centroids.len() / d) as f64;
    let mut mean: Vec<f64> = vec_zeroed(d)?;
    for centroid in centroids.chunks_exact(d) {
        mean.iter_mut().zip(centroid).for_each(|(mean, c)| *mean += c / k);
    }
    let from_mean = |centroid: &[f64]| mean.iter().zip(centroid).map(|(m, c)| (c - m) * (c - m)).sum::<f64>();
    let far = centroids.chunks_exact(d).map(from_mean).fold(0.0, f64::max);
    let weight = (0..n).map(|i| points.weight(i)).fold(0.0, f64::max);
    let largest = (f64::from(nearest).sqrt() + 2.0 * far.sqrt()).powi(2) * weight * (1.0 + 1e-6);
    Ok(if largest > 0.0 { LARGEST / largest } else { 1.0 })
}

fn closest(
    context: &Context,
    x: &View,
    centroids: &[f64],
    m: usize,
    labels: &mut [u32],
    distances: &mut [f32],
) -> Result<()> {
    let (n, d) = (x.dim(0), x.dim(1));
    let centroids = View::of(centroids, &[centroids.len() / d, d])?;
    let (mut labels, mut distances) = (ViewMut::of(labels, &[n, m])?, ViewMut::of(distances, &[n, m])?);
    (context.kernels().kmeans_closest)(context.launch(), x, &centroids, &mut labels, &mut distances)
}

/// Where costs come from.
struct Place<'a> {
    context: &'a Context,
    points: &'a Points<'a>,
    centroids: &'a [f64],
    k: usize,
    scale: f64,
}

/// A cluster that a point may go to, and what that costs.
#[derive(Clone, Copy)]
struct Arc {
    cluster: u32,
    cost: i64,
}

/// Those of all points.
struct Arcs {
    /// [n + 1]: where those of each point begin.
    starts: Vec<usize>,
    all: Vec<Arc>,
    /// [n]: no arc that is not among them costs less.
    others: Vec<i64>,
}

impl Place<'_> {
    fn cost(&self, point: usize, distance: f32) -> i64 {
        (self.points.weight(point) * f64::from(distance) * self.scale).round() as i64
    }

    /// To the `near` nearest centroids of each point.
    fn arcs(&mut self, near: usize) -> Result<Arcs> {
        let n = self.points.count();
        let (mut labels, mut distances) = (vec_zeroed(n * near)?, vec_zeroed(n * near)?);
        closest(self.context, &self.points.view(), self.centroids, near, &mut labels, &mut distances)?;
        if self.scale == 0.0 {
            let nearest = distances.iter().step_by(near).fold(0f32, |most, &x| most.max(x));
            self.scale = scale(self.points, self.centroids, nearest)?;
        }
        let (mut starts, mut all, mut others) = (Vec::new(), Vec::new(), Vec::new());
        reserve(&mut starts, n + 1)?;
        reserve(&mut all, n * near)?;
        reserve(&mut others, n)?;
        starts.extend((0..=n).map(|i| i * near));
        let arc = |(at, (&cluster, &distance))| Arc { cluster, cost: self.cost(at / near, distance) };
        all.extend(labels.iter().zip(&distances).enumerate().map(arc));
        others.extend(all.chunks_exact(near).map(|arcs| arcs[near - 1].cost));
        Ok(Arcs { starts, all, others })
    }

    /// The arcs that are not there, and that the prices say could lower the cost: by point.
    fn missing(&self, flow: &Flow, cancelled: Cancelled) -> Result<Vec<(u32, Arc)>> {
        let (n, k, d) = (self.points.count(), self.k, self.points.width());
        let highest = flow.prices.iter().copied().max().unwrap_or(0);
        let mut doubtful: Vec<u32> = Vec::new();
        for i in 0..n {
            let label = flow.labels[i] as usize;
            if flow.arcs.others[i] - flow.costs[i] + flow.prices[label] < highest {
                reserve(&mut doubtful, 1)?;
                doubtful.push(i as u32);
            }
        }
        let together = ((1 << 18) / k).clamp(1, n.max(1));
        let (mut labels, mut distances) = (vec_zeroed(together * k)?, vec_zeroed(together * k)?);
        let (mut rows, mut missing) = (Vec::new(), Vec::new());
        reserve(&mut rows, together * d)?;
        for some in doubtful.chunks(together) {
            ensure!(!cancelled(), Cancelled, "k-means was cancelled while it balanced clusters");
            rows.clear();
            some.iter().for_each(|&i| rows.extend_from_slice(self.points.row(i as usize)));
            let x = View::of(&rows, &[some.len(), d])?;
            let (labels, distances) = (&mut labels[..some.len() * k], &mut distances[..some.len() * k]);
            closest(self.context, &x, self.centroids, k, labels, distances)?;
            for ((&point, labels), distances) in some.iter().zip(labels.chunks(k)).zip(distances.chunks(k)) {
                let i = point as usize;
                let there = flow.arcs.of(i);
                for (&cluster, &distance) in labels.iter().zip(distances) {
                    let cost = self.cost(i, distance);
                    if cost - flow.costs[i] + flow.prices[flow.labels[i] as usize] < flow.prices[cluster as usize]
                        && there.iter().all(|arc| arc.cluster != cluster)
                    {
                        reserve(&mut missing, 1)?;
                        missing.push((point, Arc { cluster, cost }));
                    }
                }
            }
        }
        Ok(missing)
    }
}

impl Arcs {
    fn of(&self, point: usize) -> &[Arc] {
        &self.all[self.starts[point]..self.starts[point + 1]]
    }

    /// These and more, which are sorted by point.
    fn with(self, more: &[(u32, Arc)]) -> Result<Arcs> {
        let (mut starts, mut all) = (Vec::new(), Vec::new());
        reserve(&mut starts, self.starts.len())?;
        reserve(&mut all, self.all.len() + more.len())?;
        starts.push(0);
        let mut more = more.iter().peekable();
        for point in 0..self.others.len() {
            all.extend_from_slice(self.of(point));
            while let Some((_, arc)) = more.next_if(|&&(of, _)| of as usize == point) {
                all.push(*arc);
            }
            starts.push(all.len());
        }
        Ok(Arcs { starts, all, others: self.others })
    }
}

/// The points of a cluster by what they would cost more in another one, cheapest first; some may have left.
struct Queue {
    to: u32,
    points: BinaryHeap<Reverse<(i64, u32)>>,
}

fn put<T: Ord>(heap: &mut BinaryHeap<T>, what: T) -> Result<()> {
    let room = heap.try_reserve(1);
    room.map_err(|_| error!(Memory, "out of memory for the {} points of a queue", heap.len() + 1))?;
    heap.push(what);
    Ok(())
}

/// A way from a cluster that has too many: its cost so far, and the last step of it.
#[derive(Clone, Copy)]
struct Reached {
    cost: i64,
    from: u32,
    point: u32,
}

const NOWHERE: Reached = Reached { cost: i64::MAX, from: u32::MAX, point: 0 };

struct Flow<'a> {
    arcs: &'a Arcs,
    capacity: usize,
    labels: Vec<u32>,
    /// [n]: of the arc that each point has taken.
    costs: Vec<i64>,
    /// [k]: who came to each cluster; some may have left.
    members: Vec<Vec<u32>>,
    sizes: Vec<usize>,
    /// [k]: c + prices of where it begins - prices of where it ends is 0 or more for every arc.
    prices: Vec<i64>,
    /// [k]: made when a way first leads through a cluster.
    queues: Vec<Option<Vec<Queue>>>,
    reached: Vec<Reached>,
}

impl<'a> Flow<'a> {
    /// Every point where it costs least.
    fn new(arcs: &'a Arcs, k: usize, capacity: usize) -> Result<Flow<'a>> {
        let n = arcs.others.len();
        let (mut labels, mut costs) = (vec_zeroed::<u32>(n)?, vec_zeroed::<i64>(n)?);
        let (mut sizes, mut members) = (vec_zeroed::<usize>(k)?, Vec::new());
        let (mut queues, mut reached) = (Vec::new(), Vec::new());
        for i in 0..n {
            let first = arcs.of(i)[0];
            (labels[i], costs[i]) = (first.cluster, first.cost);
            sizes[first.cluster as usize] += 1;
        }
        reserve(&mut members, k)?;
        reserve(&mut queues, k)?;
        reserve(&mut reached, k)?;
        queues.resize_with(k, || None);
        reached.resize(k, NOWHERE);
        for &size in &sizes {
            let mut own = Vec::new();
            reserve(&mut own, size)?;
            members.push(own);
        }
        for (i, &label) in labels.iter().enumerate() {
            members[label as usize].push(i as u32);
        }
        Ok(Flow { arcs, capacity, labels, costs, members, sizes, prices: vec_zeroed(k)?, queues, reached })
    }

    /// Hands points on until no cluster has too many; false where no way leads to one with room.
    fn settle(&mut self, cancelled: Cancelled) -> Result<bool> {
        while self.sizes.iter().any(|&size| size > self.capacity) {
            ensure!(!cancelled(), Cancelled, "k-means was cancelled while it balanced clusters");
            let Some(end) = self.cheapest_way()? else { return Ok(false) };
            self.hand_on(end)?;
        }
        Ok(true)
    }

    /// Dijkstra's algorithm from all clusters that have too many to the nearest that has room; moves the prices.
    fn cheapest_way(&mut self) -> Result<Option<usize>> {
        self.reached.fill(NOWHERE);
        let (mut open, mut closed) = (BinaryHeap::new(), Vec::new());
        for cluster in (0..self.sizes.len()).filter(|&cluster| self.sizes[cluster] > self.capacity) {
            self.reached[cluster].cost = 0;
            put(&mut open, Reverse((0i64, cluster as u32)))?;
        }
        while let Some(Reverse((cost, cluster))) = open.pop() {
            let from = cluster as usize;
            if cost > self.reached[from].cost {
                continue;
            }
            if self.sizes[from] < self.capacity {
                for cluster in closed {
                    let cluster: usize = cluster;
                    self.prices[cluster] += self.reached[cluster].cost - cost;
                }
                return Ok(Some(from));
            }
            reserve(&mut closed, 1)?;
            closed.push(from);
            self.make_queues(from)?;
            let Flow { queues, labels, prices, reached, .. } = self;
            for queue in queues[from].iter_mut().flatten() {
                while queue.points.peek().is_some_and(|Reverse((_, point))| labels[*point as usize] != cluster) {
                    queue.points.pop();
                }
                let Some(&Reverse((more, point))) = queue.points.peek() else { continue };
                let to = queue.to as usize;
                let cost = cost + more + prices[from] - prices[to];
                if cost < reached[to].cost {
                    reached[to] = Reached { cost, from: cluster, point };
                    put(&mut open, Reverse((cost, queue.to)))?;
                }
            }
        }
        Ok(None)
    }

    fn make_queues(&mut self, cluster: usize) -> Result<()> {
        if self.queues[cluster].is_some() {
            return Ok(());
        }
        let members = std::mem::take(&mut self.members[cluster]);
        self.queues[cluster] = Some(Vec::new());
        for point in members {
            if self.labels[point as usize] as usize == cluster {
                self.enqueue(cluster, point)?;
            }
        }
        Ok(())
    }

    /// A point that belongs to a cluster may leave it.
    fn enqueue(&mut self, cluster: usize, point: u32) -> Result<()> {
        let Some(queues) = &mut self.queues[cluster] else {
            reserve(&mut self.members[cluster], 1)?;
            self.members[cluster].push(point);
            return Ok(());
        };
        let own = self.costs[point as usize];
        for arc in self.arcs.of(point as usize).iter().filter(|arc| arc.cluster as usize != cluster) {
            let at = match queues.binary_search_by_key(&arc.cluster, |queue| queue.to) {
                Ok(at) => at,
                Err(at) => {
                    reserve(queues, 1)?;
                    queues.insert(at, Queue { to: arc.cluster, points: BinaryHeap::new() });
                    at
                }
            };
            put(&mut queues[at].points, Reverse((arc.cost - own, point)))?;
        }
        Ok(())
    }

    /// Every cluster on the way to `end` hands a point on to the next.
    fn hand_on(&mut self, end: usize) -> Result<()> {
        let mut to = end;
        self.sizes[end] += 1;
        loop {
            let Reached { from, point, .. } = self.reached[to];
            if from == u32::MAX {
                self.sizes[to] -= 1;
                return Ok(());
            }
            let arc = self.arcs.of(point as usize).iter().find(|arc| arc.cluster as usize == to);
            self.costs[point as usize] = arc.map_or(0, |arc| arc.cost);
            self.labels[point as usize] = to as u32;
            self.enqueue(to, point)?;
            to = from as usize;
        }
    }
}
