//! Several nearest centroids of each row, in order.

use super::by_float;
use super::kmeans::{check_points, squared_distance};
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut, reserve};

pub fn kmeans_closest(
    _: &Launch,
    x: &View,
    centroids: &View,
    labels: &mut ViewMut,
    distances: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(x: &View, centroids: &View, labels: &mut ViewMut, distances: &mut ViewMut) -> Result<()> {
        let ([k, d], m) = ([centroids.dim(0), centroids.dim(1)], labels.dim(1));
        let (x, centroids) = (x.slice::<T>()?, centroids.slice::<f64>()?);
        let (labels, distances) = (labels.slice_mut::<u32>()?, distances.slice_mut::<T>()?);
        let mut all: Vec<(f64, u32)> = Vec::new();
        reserve(&mut all, k)?;
        for (i, (labels, distances)) in labels.chunks_exact_mut(m).zip(distances.chunks_exact_mut(m)).enumerate() {
            all.clear();
            all.extend((0..k).map(|c| (squared_distance(&x[i * d..][..d], &centroids[c * d..][..d]), c as u32)));
            all.sort_unstable_by(in_order);
            for ((label, distance), nearest) in labels.iter_mut().zip(distances).zip(&all) {
                (*distance, *label) = (T::of(nearest.0), nearest.1);
            }
        }
        Ok(())
    }
    check_closest(x.dims(), centroids.dims(), labels.dims(), distances.dims())?;
    by_float!(x, typed(x, centroids, labels, distances))
}

/// The nearest first, then the lowest.
pub fn in_order(a: &(f64, u32), b: &(f64, u32)) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// x[n, d], centroids[k, d], labels[n, m], distances[n, m], with m from 1 to k.
pub fn check_closest(x: &[usize], centroids: &[usize], labels: &[usize], distances: &[usize]) -> Result<()> {
    check_points(x, centroids)?;
    let m = labels.get(1).copied().unwrap_or(0);
    ensure!(
        *labels == [x[0], m] && labels == distances && (1..=centroids[0]).contains(&m),
        Shape,
        "k-means: labels of shape {labels:?} and distances of {distances:?} for {} rows and {} centroids",
        x[0],
        centroids[0]
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    fn closest<T: Float>(x: &[T], centroids: &[f64], d: usize, m: usize) -> Result<(Vec<u32>, Vec<T>)> {
        let (n, k) = (x.len() / d, centroids.len() / d);
        let (mut labels, mut distances) = (vec![77u32; n * m], of::<T>(&vec![9.0; n * m]));
        let (to, lengths) = (&mut view_mut(&mut labels, &[n, m]), &mut view_mut(&mut distances, &[n, m]));
        (KERNELS.kmeans_closest)(&launch(), &view(x, &[n, d]), &view(centroids, &[k, d]), to, lengths)?;
        Ok((labels, distances))
    }

    #[test]
    fn the_nearest_come_in_order_and_ties_from_the_lowest() {
        fn check<T: Float>() {
            let x = of::<T>(&[0.0, 0.0, 3.0, 4.0]);
            let centroids = [2.0, 0.0, 0.0, 0.0, 0.0, 2.0, 3.0, 5.0];
            let (labels, distances) = closest(&x, &centroids, 2, 3).unwrap();
            assert_eq!(labels, [1, 0, 2, 3, 2, 0]);
            assert_eq!(to_f64(&distances), [0.0, 4.0, 4.0, 1.0, 13.0, 17.0]);
            assert_eq!(closest(&x, &centroids, 2, 4).unwrap().0[3], 3);
        }
        check::<f32>();
        check::<f64>();
        let x = [1.0f32];
        for m in [0, 2] {
            assert_eq!(closest(&x, &[2.0], 1, m).unwrap_err().kind, ErrorKind::Shape);
        }
    }
}
