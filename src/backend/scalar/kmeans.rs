//! The two halves of an iteration of Lloyd's k-means ("Least squares quantization in PCM", 1982): rows to their nearest
//! centroids, and the sums from which the new centroids come.

use super::by_float;
use super::reduce::canonical_sum_of;
use crate::backend::Launch;
use crate::backend::projection::Projection;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Float, Result, View, ViewMut, vec_zeroed};

pub fn kmeans_assign(
    _: &Launch,
    x: &View,
    rows: Option<&View>,
    centroids: &View,
    _: Option<&Projection>,
    labels: &mut ViewMut,
    bounds: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(
        x: &View,
        rows: Option<&[u32]>,
        centroids: &View,
        labels: &mut [u32],
        bounds: &mut [f32],
    ) -> Result<()> {
        let (k, d) = (centroids.dim(0), centroids.dim(1));
        let (x, centroids) = (x.slice::<T>()?, centroids.slice::<f64>()?);
        for i in 0..rows.map_or(labels.len(), <[u32]>::len) {
            let row = rows.map_or(i, |rows| rows[i] as usize);
            let distance = |c: usize| squared_distance(&x[row * d..][..d], &centroids[c * d..][..d]);
            let (mut label, mut least, mut second) = (0, distance(0), f64::INFINITY);
            for c in 1..k {
                let distance = distance(c);
                if distance < least {
                    (label, least, second) = (c as u32, distance, least);
                } else {
                    second = second.min(distance);
                }
            }
            labels[row] = label;
            if !bounds.is_empty() {
                bounds[2 * row] = (least.sqrt() as f32).next_up();
                bounds[2 * row + 1] = (second.sqrt() as f32).next_down().max(0.0);
            }
        }
        Ok(())
    }
    check_assign(x.dims(), centroids.dims(), labels.count(), bounds.dims())?;
    let rows = check_rows(rows, x.dim(0))?;
    let (labels, bounds) = (labels.slice_mut::<u32>()?, bounds.slice_mut::<f32>()?);
    by_float!(x, typed(x, rows, centroids, labels, bounds))
}

/// |x - c|^2 in f64: eight lanes, which fold 4, 2, 1. Other orders of the sum would round otherwise, and break other ties.
pub fn squared_distance<T: Float>(x: &[T], c: &[f64]) -> f64 {
    let mut lanes = [0f64; 8];
    for (j, (x, c)) in x.iter().zip(c).enumerate() {
        lanes[j % 8] += (x.f64() - c) * (x.f64() - c);
    }
    for width in [4, 2, 1] {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
    }
    lanes[0]
}

/// Rows whose sums add up by themselves, so that threads may share the work: a function of shape only.
pub fn stripe(n: usize) -> usize {
    n.div_ceil(32).max(2048)
}

pub fn kmeans_update(
    _: &Launch,
    x: &View,
    labels: &View,
    weights: &View,
    changed: Option<&View>,
    sums: &mut ViewMut,
    masses: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(x: &View, labels: &[u32], weights: &View, sums: &mut [f64], masses: &mut [f64]) -> Result<()> {
        let (d, stripe) = (x.dim(1), stripe(labels.len()));
        let (x, weights) = (x.slice::<T>()?, weights.slice::<T>()?);
        sums.fill(0.0);
        masses.fill(0.0);
        let (mut sums_here, mut masses_here) = (vec_zeroed(sums.len())?, vec_zeroed(masses.len())?);
        for (number, labels) in labels.chunks(stripe).enumerate() {
            sums_here.fill(0.0);
            masses_here.fill(0.0);
            for (i, &label) in (number * stripe..).zip(labels) {
                let (cluster, weight) = (label as usize, weights.get(i).map_or(1.0, |w| w.f64()));
                masses_here[cluster] += weight;
                for (sum, x) in sums_here[cluster * d..][..d].iter_mut().zip(&x[i * d..][..d]) {
                    *sum += weight * x.f64();
                }
            }
            sums.iter_mut().zip(&sums_here).for_each(|(sum, here)| *sum += here);
            masses.iter_mut().zip(&masses_here).for_each(|(mass, here)| *mass += here);
        }
        Ok(())
    }
    check_update(x.dims(), labels.count(), weights.count(), sums.dims(), masses.count())?;
    check_changed(changed, masses.count())?;
    let labels = check_labels(labels, masses.count())?;
    let (sums, masses) = (sums.slice_mut::<f64>()?, masses.slice_mut::<f64>()?);
    by_float!(x, typed(x, labels, weights, sums, masses))
}

pub fn kmeans_iterate(
    launch: &Launch,
    x: &View,
    weights: &View,
    centroids: &View,
    _: Option<&Projection>,
    labels: &mut ViewMut,
    bounds: &mut ViewMut,
    sums: &mut ViewMut,
    masses: &mut ViewMut,
) -> Result<()> {
    check_iterate(x.dims(), centroids.dims(), sums.dims())?;
    check_update(x.dims(), labels.count(), weights.count(), sums.dims(), masses.count())?;
    kmeans_assign(launch, x, None, centroids, None, labels, bounds)?;
    kmeans_update(launch, x, &labels.as_view(), weights, None, sums, masses)
}

pub fn kmeans_distances(_: &Launch, x: &View, labels: &View, centroids: &View, distances: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(x: &View, labels: &[u32], centroids: &View, distances: &mut ViewMut) -> Result<()> {
        let d = x.dim(1);
        let (x, centroids, distances) = (x.slice::<T>()?, centroids.slice::<f64>()?, distances.slice_mut::<T>()?);
        for (i, (distance, &label)) in distances.iter_mut().zip(labels).enumerate() {
            let (x, c) = (&x[i * d..][..d], &centroids[label as usize * d..][..d]);
            let difference = |j: usize| x[j] - T::of(c[j]);
            *distance = T::of(canonical_sum_of(d, |j| difference(j) * difference(j)));
        }
        Ok(())
    }
    check_distances(x.dims(), labels.count(), centroids.dims(), distances.count())?;
    let labels = check_labels(labels, centroids.dim(0))?;
    by_float!(x, typed(x, labels, centroids, distances))
}

/// x[n, d], centroids[k, d], labels[n], bounds[n, 2] or [0, 2], with k at least 1 where n is.
pub fn check_assign(x: &[usize], centroids: &[usize], labels: usize, bounds: &[usize]) -> Result<()> {
    check_points(x, centroids)?;
    ensure!(
        labels == x[0] && (*bounds == [labels, 2] || *bounds == [0, 2]),
        Shape,
        "k-means: {labels} labels and bounds of shape {bounds:?} for {} rows",
        x[0]
    );
    ensure!(x[0] == 0 || centroids[0] > 0, Shape, "k-means: there are {} rows and no centroid", x[0]);
    check_indices(centroids[0])
}

/// As many centroids as sums.
pub fn check_iterate(x: &[usize], centroids: &[usize], sums: &[usize]) -> Result<()> {
    check_points(x, centroids)?;
    ensure!(centroids == sums, Shape, "k-means: the centroids have shape {centroids:?}, the sums {sums:?}");
    Ok(())
}

/// x[n, d], labels[n], centroids[k, d], distances[n].
pub fn check_distances(x: &[usize], labels: usize, centroids: &[usize], distances: usize) -> Result<()> {
    check_points(x, centroids)?;
    ensure!(
        labels == x[0] && distances == x[0],
        Shape,
        "k-means: {labels} labels and {distances} distances for {} rows",
        x[0]
    );
    check_indices(centroids[0])
}

pub fn check_points(x: &[usize], centroids: &[usize]) -> Result<()> {
    ensure!(
        x.len() == 2 && centroids.len() == 2 && x[1] == centroids[1],
        Shape,
        "k-means: x has shape {x:?}, the centroids {centroids:?}"
    );
    check_indices(x[0])
}

/// The numbers of rows as a slice: ascending, and all below `n`.
pub fn check_rows<'a>(rows: Option<&View<'a>>, n: usize) -> Result<Option<&'a [u32]>> {
    let Some(rows) = rows else { return Ok(None) };
    let rows = rows.slice::<u32>()?;
    let last = rows.last().copied().unwrap_or(0);
    ensure!(rows.is_empty() || (last as usize) < n, Shape, "k-means: the last row to look at is {last}, there are {n}");
    match rows.windows(2).position(|pair| pair[0] >= pair[1]) {
        None => Ok(Some(rows)),
        Some(at) => Err(error!(Shape, "k-means: after row {} comes row {}", rows[at], rows[at + 1])),
    }
}

/// x[n, d], labels[n], weights[n] or none, sums[k, d], masses[k].
pub fn check_update(x: &[usize], labels: usize, weights: usize, sums: &[usize], masses: usize) -> Result<()> {
    ensure!(x.len() == 2 && sums.len() == 2 && x[1] == sums[1], Shape, "k-means: x has shape {x:?}, the sums {sums:?}");
    ensure!(masses == sums[0], Shape, "k-means: {masses} masses for {} clusters", sums[0]);
    ensure!(
        labels == x[0] && (weights == x[0] || weights == 0),
        Shape,
        "k-means: {labels} labels and {weights} weights for {} rows",
        x[0]
    );
    check_indices(x[0])?;
    check_indices(sums[0])
}

/// changed[k], or none.
pub fn check_changed<'a>(changed: Option<&View<'a>>, k: usize) -> Result<Option<&'a [u32]>> {
    let changed = changed.map(View::slice::<u32>).transpose()?;
    let count = changed.map_or(k, <[u32]>::len);
    ensure!(count == k, Shape, "k-means: {count} marks of change for {k} clusters");
    Ok(changed)
}

/// Labels, and the row numbers that a sort moves about, are u32.
fn check_indices(count: usize) -> Result<()> {
    ensure!(u32::try_from(count).is_ok(), Shape, "k-means: {count} rows or clusters, more than {}", u32::MAX);
    Ok(())
}

/// The labels as a slice, all below `k`.
pub fn check_labels<'a>(labels: &View<'a>, k: usize) -> Result<&'a [u32]> {
    let labels = labels.slice::<u32>()?;
    match labels.iter().position(|&label| label as usize >= k) {
        None => Ok(labels),
        Some(at) => Err(error!(Shape, "k-means: label {at} is {}, there are {k} clusters", labels[at])),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    /// Labels and bounds.
    fn assign<T: Float>(x: &[T], rows: Option<&[u32]>, centroids: &[f64], d: usize) -> (Vec<u32>, Vec<f32>) {
        let (n, k) = (x.len() / d, centroids.len() / d);
        let (mut labels, mut bounds) = (vec![77u32; n], vec![9.0f32; 2 * n]);
        let (labels_view, bounds_view) = (&mut view_mut(&mut labels, &[n]), &mut view_mut(&mut bounds, &[n, 2]));
        let (x, centroids) = (view(x, &[n, d]), view(centroids, &[k, d]));
        let rows = rows.map(|rows| view(rows, &[rows.len()]));
        (KERNELS.kmeans_assign)(&launch(), &x, rows.as_ref(), &centroids, None, labels_view, bounds_view).unwrap();
        (labels, bounds)
    }

    fn distances<T: Float>(x: &[T], labels: &[u32], centroids: &[f64], d: usize) -> Vec<T> {
        let (n, k) = (labels.len(), centroids.len() / d);
        let mut distances = of::<T>(&vec![9.0; n]);
        let (x, labels, centroids) = (view(x, &[n, d]), view(labels, &[n]), view(centroids, &[k, d]));
        let to = &mut view_mut(&mut distances, &[n]);
        (KERNELS.kmeans_distances)(&launch(), &x, &labels, &centroids, to).unwrap();
        distances
    }

    fn update<T: Float>(x: &[T], labels: &[u32], weights: &[T], [k, d]: [usize; 2]) -> (Vec<f64>, Vec<f64>) {
        let n = labels.len();
        let (mut sums, mut masses) = (vec![9.0; k * d], vec![9.0; k]);
        let (sums_view, masses_view) = (&mut view_mut(&mut sums, &[k, d]), &mut view_mut(&mut masses, &[k]));
        let (x, labels, weights) = (view(x, &[n, d]), view(labels, &[n]), view(weights, &[weights.len()]));
        (KERNELS.kmeans_update)(&launch(), &x, &labels, &weights, None, sums_view, masses_view).unwrap();
        (sums, masses)
    }

    #[test]
    fn the_nearest_centroid_is_found_and_ties_go_to_the_lowest() {
        fn check<T: Float>() {
            let x = of::<T>(&[0.0, 0.0, 3.0, 4.0, 1.0, 0.0, -8.0, 6.0]);
            let centroids = [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 5.0];
            let (labels, bounds) = assign(&x, None, &centroids, 2);
            assert_eq!(labels, [1, 3, 0, 1]);
            for (i, (nearest, next)) in
                [(0.0, 0.0), (1.0, 17f32.sqrt()), (1.0, 1.0), (10.0, 10.0)].into_iter().enumerate()
            {
                assert!(bounds[2 * i] >= nearest && bounds[2 * i] <= nearest * (1.0 + 1e-6) + 1e-40, "{i}: {bounds:?}");
                assert!(bounds[2 * i + 1] <= next && bounds[2 * i + 1] >= next * (1.0 - 1e-6), "{i}: {bounds:?}");
            }
            // Other rows stay as they are.
            let (labels, bounds) = assign(&x, Some(&[1, 3]), &centroids, 2);
            assert_eq!((labels, bounds[0], bounds[4]), (vec![77, 3, 77, 1], 9.0, 9.0));
            // There is no other centroid.
            assert_eq!(assign(&x, None, &[1.0, 1.0], 2).1[1], f32::MAX);
        }
        check::<f32>();
        check::<f64>();
        // In f32, both are at the same distance.
        assert_eq!(assign(&[1.0f32], None, &[-1e-9, 2.0 + 0.5e-9, 0.0], 1).0, [2]);
        assert_eq!(assign(&[1.0f32], None, &[-1e-9, 2.0 + 0.5e-9], 1).0, [1]);
    }

    #[test]
    fn distances_are_canonical_sums() {
        fn check<T: Float>() {
            for d in CANONICAL_SIZES.into_iter().filter(|&d| d > 0) {
                let (x, c) = (of::<T>(&numbers(31, d)), of::<T>(&numbers(32, d)));
                let squares: Vec<T> = x.iter().zip(&c).map(|(x, c)| (*x - *c) * (*x - *c)).collect();
                let centroids: Vec<f64> = [vec![7.0; d], to_f64(&c)].concat();
                let found = distances(&x, &[1], &centroids, d)[0];
                assert_eq!(found.f64().to_bits(), T::of(canonical(&squares)).f64().to_bits(), "{d}");
            }
        }
        check::<f32>();
        check::<f64>();
    }

    /// Numbers whose sum depends on the order: that of the rows of a stripe, then that of the stripes.
    #[test]
    fn stripes_add_up_by_themselves() {
        let n = 4200;
        let x: Vec<f32> = (0..n).map(|i| [1e8, 1.0, -1e8][i % 3]).collect();
        let weights: Vec<f32> = (0..n).map(|i| 1.0 + (i % 7) as f32 / 8.0).collect();
        let (sums, masses) = update(&x, &vec![0; n], &weights, [1, 1]);
        let mut expected = [0.0, 0.0];
        for stripe in [0..2048, 2048..4096, 4096..n] {
            let mut here = [0.0, 0.0];
            for i in stripe {
                here[0] += f64::from(weights[i]) * f64::from(x[i]);
                here[1] += f64::from(weights[i]);
            }
            expected = [expected[0] + here[0], expected[1] + here[1]];
        }
        assert_eq!([sums[0], masses[0]], expected);
        assert_eq!([0, 1024, 65_536, 65_537, 1_000_000].map(super::stripe), [2048, 2048, 2048, 2049, 31_250]);
    }

    #[test]
    fn the_sums_are_those_of_each_cluster() {
        fn check<T: Float>() {
            let x = of::<T>(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            let (sums, masses) = update(&x, &[2, 0, 2], &[], [3, 2]);
            assert_eq!((sums, masses), (vec![3.0, 4.0, 0.0, 0.0, 6.0, 8.0], vec![1.0, 0.0, 2.0]));
            let (sums, masses) = update(&x, &[2, 0, 2], &of::<T>(&[0.5, 0.0, 2.0]), [3, 2]);
            assert_eq!((sums, masses), (vec![0.0, 0.0, 0.0, 0.0, 10.5, 13.0], vec![0.0, 0.0, 2.5]));
        }
        check::<f32>();
        check::<f64>();
        assert_eq!(update::<f32>(&[], &[], &[], [2, 0]), (vec![], vec![0.0, 0.0]));
    }

    #[test]
    fn wrong_shapes_and_labels_are_refused() {
        let assign = |x: &[usize], c: &[usize], labels: usize, bounds: usize, rows: Option<&[u32]>| {
            let (x, c) = (zeros::<f32>(x), zeros::<f64>(c));
            let (mut labels, mut bounds) = (zeros::<u32>(&[labels]), zeros::<f32>(&[bounds, 2]));
            let (labels, bounds) = (&mut labels.view_mut(), &mut bounds.view_mut());
            let rows = rows.map(|rows| view(rows, &[rows.len()]));
            (KERNELS.kmeans_assign)(&launch(), &x.view(), rows.as_ref(), &c.view(), None, labels, bounds)
        };
        assign(&[3, 2], &[1, 2], 3, 3, None).unwrap();
        assign(&[3, 2], &[1, 2], 3, 0, Some(&[0, 2])).unwrap();
        assign(&[0, 2], &[0, 2], 0, 0, None).unwrap();
        for (x, c, labels, bounds) in
            [([3, 2], [1, 3], 3, 3), ([3, 2], [0, 2], 3, 3), ([3, 2], [1, 2], 2, 3), ([3, 2], [1, 2], 3, 2)]
        {
            assert_eq!(kind(assign(&x, &c, labels, bounds, None)), ErrorKind::Shape);
        }
        for rows in [[0, 3], [1, 1], [2, 0]] {
            assert_eq!(kind(assign(&[3, 2], &[1, 2], 3, 0, Some(&rows))), ErrorKind::Shape);
        }
        let distances = |labels: &[u32], c: &[usize], distances: usize| {
            let (x, c, mut distances) = (zeros::<f32>(&[3, 2]), zeros::<f64>(c), zeros::<f32>(&[distances]));
            let (labels, distances) = (view(labels, &[labels.len()]), &mut distances.view_mut());
            (KERNELS.kmeans_distances)(&launch(), &x.view(), &labels, &c.view(), distances)
        };
        distances(&[0, 1, 0], &[2, 2], 3).unwrap();
        for (labels, c, count) in
            [(&[0, 2, 0][..], [2, 2], 3), (&[0, 1], [2, 2], 3), (&[0, 1, 0], [2, 3], 3), (&[0, 1, 0], [2, 2], 2)]
        {
            assert_eq!(kind(distances(labels, &c, count)), ErrorKind::Shape);
        }
        let update = |labels: &[u32], weights: usize, k: usize, d: usize| {
            let (x, weights) = (zeros::<f32>(&[3, 2]), zeros::<f32>(&[weights]));
            let (mut sums, mut masses) = (zeros::<f64>(&[k, d]), zeros::<f64>(&[k]));
            let (sums, masses) = (&mut sums.view_mut(), &mut masses.view_mut());
            let labels = view(labels, &[labels.len()]);
            (KERNELS.kmeans_update)(&launch(), &x.view(), &labels, &weights.view(), None, sums, masses)
        };
        update(&[0, 1, 0], 3, 2, 2).unwrap();
        for (labels, weights, k, d) in
            [(&[0, 2, 0][..], 0, 2, 2), (&[0, 1][..], 0, 2, 2), (&[0, 1, 0], 2, 2, 2), (&[0, 1, 0], 0, 2, 3)]
        {
            assert_eq!(kind(update(labels, weights, k, d)), ErrorKind::Shape);
        }
    }

    #[test]
    fn other_types_are_refused() {
        // x may be of f64 by itself.
        let x = zeros::<f32>(&[3, 2]);
        let tensors = [zeros::<f64>(&[2, 2]), zeros::<u32>(&[3]), zeros::<f32>(&[3, 2])];
        refuses_other_types("kmeans_assign", tensors, |[centroids, labels, bounds]| {
            let (labels, bounds) = (&mut labels.view_mut(), &mut bounds.view_mut());
            (KERNELS.kmeans_assign)(&launch(), &x.view(), None, &centroids.view(), None, labels, bounds)
        });
        let tensors = [zeros::<f32>(&[3, 2]), zeros::<u32>(&[3]), zeros::<f64>(&[2, 2]), zeros::<f32>(&[3])];
        refuses_other_types("kmeans_distances", tensors, |[x, labels, centroids, distances]| {
            let distances = &mut distances.view_mut();
            (KERNELS.kmeans_distances)(&launch(), &x.view(), &labels.view(), &centroids.view(), distances)
        });
        let tensors =
            [zeros::<f32>(&[3, 2]), zeros::<u32>(&[3]), zeros::<f32>(&[3]), zeros::<f64>(&[2, 2]), zeros::<f64>(&[2])];
        refuses_other_types("kmeans_update", tensors, |[x, labels, weights, sums, masses]| {
            let (sums, masses) = (&mut sums.view_mut(), &mut masses.view_mut());
            (KERNELS.kmeans_update)(&launch(), &x.view(), &labels.view(), &weights.view(), None, sums, masses)
        });
    }
}
