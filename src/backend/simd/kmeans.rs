//! Rows to their nearest centroids, and the sums of clusters: `scalar/kmeans.rs` for the vector units. `kmeans_packed.rs` has the
//! centroids in the form that the search wants, `kmeans_block.rs` the search among a block of rows.

use super::chunks::{self, ELEMENTS, Shared};
use super::kmeans_block::{Block, Search, Searched, block_rows};
use super::kmeans_packed::{Packed, with_packed};
use super::kmeans_projected::{Projected, ProjectedBlock, with_projected};
use crate::backend::Launch;
use crate::backend::projection::Projection;
use crate::backend::scalar::kmeans::{
    self as scalar, check_assign, check_changed, check_distances, check_iterate, check_labels, check_rows, check_update,
};
use crate::backend::workspace::with_scratch;
use crate::tensor::{Result, View, ViewMut};
use std::ops::Range;

/// So few rows are not worth packing the centroids for.
const FEW: usize = 4;

pub fn kmeans_assign(
    launch: &Launch,
    x: &View,
    rows: Option<&View>,
    centroids: &View,
    projection: Option<&Projection>,
    labels: &mut ViewMut,
    bounds: &mut ViewMut,
) -> Result<()> {
    check_assign(x.dims(), centroids.dims(), labels.count(), bounds.dims())?;
    let rows = check_rows(rows, x.dim(0))?;
    let searched = Searched::new(x, rows, centroids, labels, bounds)?;
    let count = searched.count();
    if count <= FEW || searched.d == 0 {
        let (k, size) = (centroids.dim(0), if count <= FEW { 1 } else { ELEMENTS });
        chunks::run(launch, count, size, |rows| rows.for_each(|i| searched.look_at_all(launch, i, k)));
        return Ok(());
    }
    with_centroids(launch, &searched, projection, |centroids| {
        let size = centroids.rows(count);
        chunks::try_run(launch, count, size, |range| {
            centroids.search(size, |block| {
                block.search(launch, &searched, range);
                Ok(())
            })
        })
    })
}

/// Centroids, ready for one of the two searches.
enum Centroids<'a> {
    Whole(&'a Packed<'a>),
    Projected(&'a Projected<'a>),
}

fn with_centroids<R>(
    launch: &Launch,
    searched: &Searched,
    projection: Option<&Projection>,
    work: impl FnOnce(&Centroids) -> Result<R>,
) -> Result<R> {
    match projection {
        Some(projection) => with_projected(launch, projection, searched.centroids, searched.d, |projected| {
            work(&Centroids::Projected(projected))
        }),
        None => with_packed(launch, searched.centroids, searched.d, |packed| work(&Centroids::Whole(packed))),
    }
}

impl Centroids<'_> {
    /// Rows of a block, of `count` in all.
    fn rows(&self, count: usize) -> usize {
        match self {
            Centroids::Whole(packed) => block_rows(count, 4 * packed.d),
            Centroids::Projected(projected) => block_rows(count, projected.bytes()),
        }
    }

    fn search<R>(&self, size: usize, work: impl FnOnce(&mut dyn Search) -> Result<R>) -> Result<R> {
        match self {
            Centroids::Whole(packed) => Block::with(size, packed, work),
            Centroids::Projected(projected) => ProjectedBlock::with(size, projected, work),
        }
    }
}

/// `kmeans_iterate` adds up rows while they are near. Each stripe has sums of its own, for which there has to be memory: up to
/// half of what the rows take.
fn fits(n: usize, k: usize) -> bool {
    n.div_ceil(scalar::stripe(n)).saturating_mul(4 * k) <= n
}

#[allow(clippy::too_many_arguments)]
pub fn kmeans_iterate(
    launch: &Launch,
    x: &View,
    weights: &View,
    centroids: &View,
    projection: Option<&Projection>,
    labels: &mut ViewMut,
    bounds: &mut ViewMut,
    sums: &mut ViewMut,
    masses: &mut ViewMut,
) -> Result<()> {
    check_iterate(x.dims(), centroids.dims(), sums.dims())?;
    check_update(x.dims(), labels.count(), weights.count(), sums.dims(), masses.count())?;
    let (n, k, d) = (x.dim(0), masses.count(), x.dim(1));
    if n == 0 || d == 0 || !fits(n, k) {
        kmeans_assign(launch, x, None, centroids, projection, labels, bounds)?;
        return kmeans_update(launch, x, &labels.as_view(), weights, None, sums, masses);
    }
    check_assign(x.dims(), centroids.dims(), labels.count(), bounds.dims())?;
    let searched = Searched::new(x, None, centroids, labels, bounds)?;
    let weights = weights.slice::<f32>()?;
    let (sums, masses) = (sums.slice_mut::<f64>()?, masses.slice_mut::<f64>()?);
    let rows = Rows { x: searched.x, d, weights };
    with_centroids(launch, &searched, projection, |centroids| {
        add_stripes(launch, [n, k, d], sums, masses, |range, sums| {
            Stripe { launch, searched: &searched, centroids, rows, sums }.iterate(range)
        })
    })
}

/// The rows that are added up, and their weights, or none.
#[derive(Clone, Copy)]
struct Rows<'a> {
    x: &'a [f32],
    d: usize,
    weights: &'a [f32],
}

/// The sums of all clusters, [k, d], and their masses, [k]: those of one stripe of rows.
struct Sums<'a> {
    sums: &'a mut [f64],
    masses: &'a mut [f64],
}

/// Bytes of sums that stay in a thread's own caches beside the rows: each row is added up as it comes.
const NEAR: usize = 256 << 10;
/// Bytes of rows that stay in the outermost cache: of those, the rows of one cluster after the other.
const FAR: usize = 4 << 20;

impl Sums<'_> {
    fn are_near(&self) -> bool {
        size_of_val(self.sums) <= NEAR
    }

    /// Adds up the rows from `start` on that have these labels.
    fn add(&mut self, launch: &Launch, rows: Rows, start: usize, labels: &[u32]) -> Result<()> {
        let (d, spans, k) = (rows.d, launch.spans, self.masses.len());
        let x = rows.x[start * d..].as_ptr();
        let weights = if rows.weights.is_empty() { std::ptr::null() } else { rows.weights[start..].as_ptr() };
        let (sums, masses) = (self.sums.as_mut_ptr(), self.masses.as_mut_ptr());
        if self.are_near() {
            // SAFETY: rows of x, their labels, below k, and weights, if there are any; the sums of k clusters.
            unsafe { (spans.kmeans_add)(x, labels.len(), d, labels.as_ptr(), weights, sums, masses) };
            return Ok(());
        }
        by_cluster(labels, k, |clusters| {
            for cluster in 0..k {
                let members = clusters.members(cluster);
                let (members, count) = (members.as_ptr(), members.len());
                // SAFETY: as above; the members are among these rows.
                unsafe {
                    let (sums, mass) = (sums.add(cluster * d), masses.add(cluster));
                    (spans.kmeans_add_members)(x, d, members, count, weights, sums, mass);
                }
            }
        })
    }
}

/// sums[k, d] and masses[k] = those of all stripes of n rows, in order; `stripe` is given the rows of one, and sums that are 0.
fn add_stripes(
    launch: &Launch,
    [n, k, d]: [usize; 3],
    sums: &mut [f64],
    masses: &mut [f64],
    stripe: impl Fn(Range<usize>, Sums) -> Result<()> + Sync,
) -> Result<()> {
    let (size, each) = (scalar::stripe(n), k * (d + 1));
    with_scratch::<f64, _>(n.div_ceil(size) * each, |partial| {
        let shared = Shared::new(partial);
        chunks::try_run(launch, n, size, |rows| {
            let number = rows.start / size;
            // SAFETY: stripes are disjoint.
            let here = unsafe { shared.part(number * each..(number + 1) * each) };
            here.fill(0.0);
            let (sums, masses) = here.split_at_mut(k * d);
            stripe(rows, Sums { sums, masses })
        })?;
        let add = |to: &mut [f64], from: usize| {
            let (count, to) = (to.len(), Shared::new(to));
            chunks::run(launch, count, ELEMENTS, |range| {
                // SAFETY: chunks are disjoint.
                let to = unsafe { to.part(range.clone()) };
                to.fill(0.0);
                for here in partial.chunks_exact(each) {
                    let here = &here[from + range.start..from + range.end];
                    to.iter_mut().zip(here).for_each(|(sum, here)| *sum += here);
                }
            });
        };
        add(sums, 0);
        add(masses, k * d);
        Ok(())
    })?
}

/// A stripe of rows whose nearest centroids are searched for, and added up while they are near.
struct Stripe<'a> {
    launch: &'a Launch,
    searched: &'a Searched<'a>,
    centroids: &'a Centroids<'a>,
    rows: Rows<'a>,
    sums: Sums<'a>,
}

impl Stripe<'_> {
    fn iterate(&mut self, range: Range<usize>) -> Result<()> {
        let d = self.rows.d;
        let size = self.centroids.rows(range.len().saturating_mul(16));
        let together = if self.sums.are_near() { size } else { (FAR / (4 * d)).max(1).div_ceil(size) * size };
        self.centroids.search(size, |block| {
            for start in range.clone().step_by(together) {
                let end = range.end.min(start + together);
                for first in (start..end).step_by(size) {
                    block.search(self.launch, self.searched, first..end.min(first + size));
                }
                // SAFETY: rows of this stripe, which were just looked at here.
                let labels = unsafe { self.searched.labels(start..end) };
                self.sums.add(self.launch, self.rows, start, labels)?;
            }
            Ok(())
        })
    }
}

/// Where the sums of all clusters are near, each stripe of rows is added up as it comes. Else the rows are sorted by label, in
/// index order within each; then threads share clusters and blocks of columns.
pub fn kmeans_update(
    launch: &Launch,
    x: &View,
    labels: &View,
    weights: &View,
    changed: Option<&View>,
    sums: &mut ViewMut,
    masses: &mut ViewMut,
) -> Result<()> {
    check_update(x.dims(), labels.count(), weights.count(), sums.dims(), masses.count())?;
    let (k, d) = (masses.count(), x.dim(1));
    let changed = check_changed(changed, k)?;
    let stays = |cluster: usize| changed.is_some_and(|changed| changed[cluster] == 0);
    let labels = check_labels(labels, k)?;
    let (x, weights) = (x.slice::<f32>()?, weights.slice::<f32>()?);
    let (n, sums, masses) = (labels.len(), sums.slice_mut::<f64>()?, masses.slice_mut::<f64>()?);
    if fits(n, k) && size_of_val(sums) <= NEAR {
        let rows = Rows { x, d, weights };
        return add_stripes(launch, [n, k, d], sums, masses, |range, mut sums| {
            sums.add(launch, rows, range.start, &labels[range])
        });
    }
    let (sums, masses, stripe) = (Shared::new(sums), Shared::new(masses), scalar::stripe(n));
    by_cluster(labels, k, |clusters| {
        // Small clusters together: about ELEMENTS in all, were they of one size.
        let columns = chunks::columns(launch, d);
        let each = labels.len().div_ceil(k.max(1)) * d.min(columns);
        let together = (ELEMENTS / each.max(1)).clamp(1, k.max(1));
        chunks::run(launch, k, together, |block| {
            for cluster in block.filter(|&cluster| !stays(cluster)) {
                // SAFETY: chunks are disjoint.
                let to = unsafe { masses.part(cluster..cluster + 1) };
                to[0] = mass(clusters.members(cluster), weights, stripe);
            }
        });
        chunks::grid(launch, [k, together], [d, columns], |block, columns| {
            with_scratch::<f64, _>(columns.len(), |partial| {
                for cluster in block.filter(|&cluster| !stays(cluster)) {
                    let members = clusters.members(cluster);
                    let weights = if weights.is_empty() { std::ptr::null() } else { weights.as_ptr() };
                    // SAFETY: the members are rows of x; blocks of clusters and columns are disjoint.
                    unsafe {
                        let x = x.as_ptr().add(columns.start);
                        let sums = sums.part(cluster * d + columns.start..cluster * d + columns.end).as_mut_ptr();
                        let (rows, count, partial) = (members.as_ptr(), members.len(), partial.as_mut_ptr());
                        let width = columns.len();
                        (launch.spans.kmeans_update)(x, d, width, rows, count, weights, stripe, partial, sums);
                    }
                }
            })
        })
    })?
}

/// The sum of the weights of a cluster, stripe by stripe.
fn mass(members: &[u32], weights: &[f32], stripe: usize) -> f64 {
    if weights.is_empty() {
        return members.len() as f64;
    }
    let same_stripe = |a: &u32, b: &u32| *a as usize / stripe == *b as usize / stripe;
    members
        .chunk_by(same_stripe)
        .map(|members| members.iter().fold(0.0, |sum, &row| sum + f64::from(weights[row as usize])))
        .fold(0.0, |sum, here| sum + here)
}

/// The rows of all clusters, one cluster after the other.
struct Clusters<'a> {
    rows: &'a [u32],
    /// Where each cluster ends in `rows`.
    ends: &'a [u32],
}

impl Clusters<'_> {
    fn members(&self, cluster: usize) -> &[u32] {
        let start = if cluster == 0 { 0 } else { self.ends[cluster - 1] };
        let range: Range<usize> = start as usize..self.ends[cluster] as usize;
        &self.rows[range]
    }
}

/// Calls `work` with the rows sorted by label; a counting sort, which keeps rows of one label in index order.
fn by_cluster<R>(labels: &[u32], k: usize, work: impl FnOnce(&Clusters) -> R) -> Result<R> {
    with_scratch::<u32, _>(labels.len(), |rows| {
        with_scratch::<u32, _>(k, |places| {
            places.fill(0);
            labels.iter().for_each(|&label| places[label as usize] += 1);
            let mut start = 0;
            for place in places.iter_mut() {
                (*place, start) = (start, start + *place);
            }
            for (row, &label) in labels.iter().enumerate() {
                let place = &mut places[label as usize];
                rows[*place as usize] = row as u32;
                *place += 1;
            }
            // Each cluster's next free place has become its end.
            work(&Clusters { rows, ends: places })
        })
    })?
}

pub fn kmeans_distances(
    launch: &Launch,
    x: &View,
    labels: &View,
    centroids: &View,
    distances: &mut ViewMut,
) -> Result<()> {
    check_distances(x.dims(), labels.count(), centroids.dims(), distances.count())?;
    let (k, d) = (centroids.dim(0), x.dim(1));
    let labels = check_labels(labels, k)?;
    let (x, centroids) = (x.slice::<f32>()?, centroids.slice::<f64>()?);
    let distances = Shared::new(distances.slice_mut::<f32>()?);
    with_scratch::<f32, _>(centroids.len(), |rounded| {
        rounded.iter_mut().zip(centroids).for_each(|(rounded, &c)| *rounded = c as f32);
        let rounded = &rounded[..];
        chunks::run(launch, labels.len(), chunks::rows(labels.len(), d), |rows| {
            let (labels, x) = (&labels[rows.clone()], &x[rows.start * d..rows.end * d]);
            // SAFETY: chunks are disjoint.
            let distances = unsafe { distances.part(rows) };
            let (x, count, labels, to) = (x.as_ptr(), labels.len(), labels.as_ptr(), distances.as_mut_ptr());
            // SAFETY: rows of x, their labels, below k, and distances; k centroids.
            unsafe { (launch.spans.kmeans_distances)(x, count, d, labels, rounded.as_ptr(), to) }
        });
    })
}
