//! Rows to their nearest centroids, and the sums of clusters: `scalar/kmeans.rs` for the vector units.

use super::chunks::{self, ELEMENTS, Shared};
use crate::backend::Launch;
use crate::backend::scalar::kmeans::{check_assign, check_labels, check_update};
use crate::backend::workspace::with_scratch;
use crate::tensor::{Result, View, ViewMut};
use std::ops::Range;

/// So many rows at the least share each centroid that is fetched.
const ROWS: usize = 16;

pub fn kmeans_assign(
    launch: &Launch,
    x: &View,
    centroids: &View,
    labels: &mut ViewMut,
    distances: &mut ViewMut,
) -> Result<()> {
    check_assign(x.dims(), centroids.dims(), labels.count(), distances.count())?;
    let (n, k, d) = (x.dim(0), centroids.dim(0), x.dim(1));
    let (x, centroids) = (x.slice::<f32>()?, centroids.slice::<f32>()?);
    let (labels, distances) = (Shared::new(labels.slice_mut::<u32>()?), Shared::new(distances.slice_mut::<f32>()?));
    chunks::run(launch, n, (ELEMENTS / k.saturating_mul(d).max(1)).max(ROWS), |rows| {
        let x = &x[rows.start * d..rows.end * d];
        // SAFETY: chunks are disjoint.
        let (labels, distances) = unsafe { (labels.part(rows.clone()), distances.part(rows)) };
        let (n, labels, distances) = (labels.len(), labels.as_mut_ptr(), distances.as_mut_ptr());
        // SAFETY: rows of x, their labels and distances, and k rows of centroids; a chunk has a row, so there is a centroid.
        unsafe { (launch.spans.kmeans_assign)(x.as_ptr(), n, centroids.as_ptr(), k, d, labels, distances) }
    });
    Ok(())
}

/// The rows are sorted by label, in index order within each; then threads share clusters and blocks of columns.
pub fn kmeans_update(
    launch: &Launch,
    x: &View,
    labels: &View,
    weights: &View,
    sums: &mut ViewMut,
    masses: &mut ViewMut,
) -> Result<()> {
    check_update(x.dims(), labels.count(), weights.count(), sums.dims(), masses.count())?;
    let (k, d) = (masses.count(), x.dim(1));
    let labels = check_labels(labels, k)?;
    let (x, weights) = (x.slice::<f32>()?, weights.slice::<f32>()?);
    let (sums, masses) = (Shared::new(sums.slice_mut::<f64>()?), masses.slice_mut::<f64>()?);
    add_masses(labels, weights, masses);
    by_cluster(labels, k, |clusters| {
        // Small clusters together: about ELEMENTS in all, were they of one size.
        let columns = chunks::columns(launch, d);
        let each = labels.len().div_ceil(k.max(1)) * d.min(columns);
        let together = (ELEMENTS / each.max(1)).clamp(1, k.max(1));
        chunks::grid(launch, [k, together], [d, columns], |block, columns| {
            for cluster in block {
                let members = clusters.members(cluster);
                let weights = if weights.is_empty() { std::ptr::null() } else { weights.as_ptr() };
                // SAFETY: the members are rows of x; blocks of clusters and columns are disjoint.
                unsafe {
                    let x = x.as_ptr().add(columns.start);
                    let sums = sums.part(cluster * d + columns.start..cluster * d + columns.end);
                    let (members, count) = (members.as_ptr(), members.len());
                    (launch.spans.kmeans_update)(x, d, columns.len(), members, count, weights, sums.as_mut_ptr());
                }
            }
            Ok(())
        })
    })?
}

fn add_masses(labels: &[u32], weights: &[f32], masses: &mut [f64]) {
    masses.fill(0.0);
    for (i, &label) in labels.iter().enumerate() {
        masses[label as usize] += weights.get(i).map_or(1.0, |&weight| f64::from(weight));
    }
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
