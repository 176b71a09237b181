//! The two halves of an iteration of Lloyd's k-means ("Least squares quantization in PCM", 1982): rows to their nearest
//! centroids, and the sums from which the new centroids come.

use super::by_float;
use super::reduce::canonical_sum_of;
use crate::backend::Launch;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Float, Result, View, ViewMut};

pub fn kmeans_assign(
    _: &Launch,
    x: &View,
    centroids: &View,
    labels: &mut ViewMut,
    distances: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(x: &View, centroids: &View, labels: &mut ViewMut, distances: &mut ViewMut) -> Result<()> {
        let (k, d) = (centroids.dim(0), centroids.dim(1));
        let (x, centroids) = (x.slice::<T>()?, centroids.slice::<T>()?);
        let (labels, distances) = (labels.slice_mut::<u32>()?, distances.slice_mut::<T>()?);
        for (i, (label, least)) in labels.iter_mut().zip(distances).enumerate() {
            let row = &x[i * d..][..d];
            let distance = |c: usize| {
                let centroid = &centroids[c * d..][..d];
                T::of(canonical_sum_of(d, |j| (row[j] - centroid[j]) * (row[j] - centroid[j])))
            };
            (*label, *least) = (0, distance(0));
            for c in 1..k {
                let distance = distance(c);
                if distance < *least {
                    (*label, *least) = (c as u32, distance);
                }
            }
        }
        Ok(())
    }
    check_assign(x.dims(), centroids.dims(), labels.count(), distances.count())?;
    by_float!(x, typed(x, centroids, labels, distances))
}

pub fn kmeans_update(
    _: &Launch,
    x: &View,
    labels: &View,
    weights: &View,
    sums: &mut ViewMut,
    masses: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(x: &View, labels: &[u32], weights: &View, sums: &mut [f64], masses: &mut [f64]) -> Result<()> {
        let d = x.dim(1);
        let (x, weights) = (x.slice::<T>()?, weights.slice::<T>()?);
        sums.fill(0.0);
        masses.fill(0.0);
        for (i, &label) in labels.iter().enumerate() {
            let (cluster, weight) = (label as usize, weights.get(i).map_or(1.0, |w| w.f64()));
            masses[cluster] += weight;
            for (sum, x) in sums[cluster * d..][..d].iter_mut().zip(&x[i * d..][..d]) {
                *sum += weight * x.f64();
            }
        }
        Ok(())
    }
    check_update(x.dims(), labels.count(), weights.count(), sums.dims(), masses.count())?;
    let labels = check_labels(labels, masses.count())?;
    let (sums, masses) = (sums.slice_mut::<f64>()?, masses.slice_mut::<f64>()?);
    by_float!(x, typed(x, labels, weights, sums, masses))
}

/// x[n, d], centroids[k, d], labels[n], distances[n], with k at least 1 where n is.
pub fn check_assign(x: &[usize], centroids: &[usize], labels: usize, distances: usize) -> Result<()> {
    ensure!(
        x.len() == 2 && centroids.len() == 2 && x[1] == centroids[1],
        Shape,
        "k-means: x has shape {x:?}, the centroids {centroids:?}"
    );
    ensure!(
        labels == x[0] && distances == x[0],
        Shape,
        "k-means: {labels} labels and {distances} distances for {} rows",
        x[0]
    );
    ensure!(x[0] == 0 || centroids[0] > 0, Shape, "k-means: there are {} rows and no centroid", x[0]);
    check_indices(centroids[0])
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

    fn assign<T: Float>(x: &[T], centroids: &[T], d: usize) -> (Vec<u32>, Vec<T>) {
        let (n, k) = (x.len() / d, centroids.len() / d);
        let (mut labels, mut distances) = (vec![77u32; n], of::<T>(&vec![9.0; n]));
        let (labels_view, distances_view) = (&mut view_mut(&mut labels, &[n]), &mut view_mut(&mut distances, &[n]));
        let (x, centroids) = (view(x, &[n, d]), view(centroids, &[k, d]));
        (KERNELS.kmeans_assign)(&launch(), &x, &centroids, labels_view, distances_view).unwrap();
        (labels, distances)
    }

    fn update<T: Float>(x: &[T], labels: &[u32], weights: &[T], [k, d]: [usize; 2]) -> (Vec<f64>, Vec<f64>) {
        let n = labels.len();
        let (mut sums, mut masses) = (vec![9.0; k * d], vec![9.0; k]);
        let (sums_view, masses_view) = (&mut view_mut(&mut sums, &[k, d]), &mut view_mut(&mut masses, &[k]));
        let (x, labels, weights) = (view(x, &[n, d]), view(labels, &[n]), view(weights, &[weights.len()]));
        (KERNELS.kmeans_update)(&launch(), &x, &labels, &weights, sums_view, masses_view).unwrap();
        (sums, masses)
    }

    #[test]
    fn the_nearest_centroid_is_found_and_ties_go_to_the_lowest() {
        fn check<T: Float>() {
            let x = of::<T>(&[0.0, 0.0, 3.0, 4.0, 1.0, 0.0, -8.0, 6.0]);
            let centroids = of::<T>(&[2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 5.0]);
            let (labels, distances) = assign(&x, &centroids, 2);
            assert_eq!(labels, [1, 3, 0, 1]);
            assert_eq!(to_f64(&distances), [0.0, 1.0, 1.0, 100.0]);
        }
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn distances_are_canonical_sums() {
        fn check<T: Float>() {
            for d in CANONICAL_SIZES.into_iter().filter(|&d| d > 0) {
                let (x, c) = (of::<T>(&numbers(31, d)), of::<T>(&numbers(32, d)));
                let squares: Vec<T> = x.iter().zip(&c).map(|(x, c)| (*x - *c) * (*x - *c)).collect();
                assert_eq!(assign(&x, &c, d).1[0].f64().to_bits(), T::of(canonical(&squares)).f64().to_bits(), "{d}");
            }
        }
        check::<f32>();
        check::<f64>();
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
        let assign = |x: &[usize], c: &[usize], labels: usize, distances: usize| {
            let (x, c) = (zeros::<f32>(x), zeros::<f32>(c));
            let (mut labels, mut distances) = (zeros::<u32>(&[labels]), zeros::<f32>(&[distances]));
            let (labels, distances) = (&mut labels.view_mut(), &mut distances.view_mut());
            (KERNELS.kmeans_assign)(&launch(), &x.view(), &c.view(), labels, distances)
        };
        assign(&[3, 2], &[1, 2], 3, 3).unwrap();
        assign(&[0, 2], &[0, 2], 0, 0).unwrap();
        for (x, c, labels, distances) in
            [([3, 2], [1, 3], 3, 3), ([3, 2], [0, 2], 3, 3), ([3, 2], [1, 2], 2, 3), ([3, 2], [1, 2], 3, 2)]
        {
            assert_eq!(kind(assign(&x, &c, labels, distances)), ErrorKind::Shape);
        }
        let update = |labels: &[u32], weights: usize, k: usize, d: usize| {
            let (x, weights) = (zeros::<f32>(&[3, 2]), zeros::<f32>(&[weights]));
            let (mut sums, mut masses) = (zeros::<f64>(&[k, d]), zeros::<f64>(&[k]));
            let (sums, masses) = (&mut sums.view_mut(), &mut masses.view_mut());
            let labels = view(labels, &[labels.len()]);
            (KERNELS.kmeans_update)(&launch(), &x.view(), &labels, &weights.view(), sums, masses)
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
        let tensors = [zeros::<f32>(&[3, 2]), zeros::<f32>(&[2, 2]), zeros::<u32>(&[3]), zeros::<f32>(&[3])];
        refuses_other_types("kmeans_assign", tensors, |[x, centroids, labels, distances]| {
            let (labels, distances) = (&mut labels.view_mut(), &mut distances.view_mut());
            (KERNELS.kmeans_assign)(&launch(), &x.view(), &centroids.view(), labels, distances)
        });
        let tensors =
            [zeros::<f32>(&[3, 2]), zeros::<u32>(&[3]), zeros::<f32>(&[3]), zeros::<f64>(&[2, 2]), zeros::<f64>(&[2])];
        refuses_other_types("kmeans_update", tensors, |[x, labels, weights, sums, masses]| {
            let (sums, masses) = (&mut sums.view_mut(), &mut masses.view_mut());
            (KERNELS.kmeans_update)(&launch(), &x.view(), &labels.view(), &weights.view(), sums, masses)
        });
    }
}
