//! The nearest centroids are those of distances in f64: every row gives the same bits.

use super::kmeans::wide;
use super::{EXACT, SIZES, check, dirty, integers, normal};
use crate::tensor::{DType, Result, Tensor};

fn closest(row: &super::Row, x: &Tensor, centroids: &Tensor, m: usize) -> Result<Vec<Tensor>> {
    let n = x.dims()[0];
    let (mut labels, mut distances) = (dirty(DType::U32, &[n, m]), dirty(DType::F32, &[n, m]));
    let (to, lengths) = (&mut labels.view_mut(), &mut distances.view_mut());
    (row.kernels.kmeans_closest)(&row.launch, &x.view(), &centroids.view(), to, lengths)?;
    Ok(vec![labels, distances])
}

#[test]
fn kmeans_closest() {
    for n in SIZES {
        for (k, d) in [(1, 1), (2, 7), (3, 32), (5, 63), (64, 64), (65, 257), (17, 321), (150, 20), (3, 4097), (7, 0)] {
            let (x, centroids) = (normal(&[n, d], 1), wide(&normal(&[k, d], 2)));
            for m in [1, 2, k / 2, k].into_iter().filter(|&m| 0 < m && m <= k) {
                let what = format!("kmeans_closest of [{n}, {d}], {m} of {k}");
                check(&what, EXACT, |row| closest(row, &x, &centroids, m));
            }
        }
    }
}

/// More than a warp sorts, and more than are near on a GPU.
#[test]
fn many_centroids() {
    for (n, k, d, m) in [(5, 700, 3, 1), (3, 1025, 9, 1025), (2, 20_000, 1, 20_000), (2, 20_000, 2, 9)] {
        let (x, centroids) = (normal(&[n, d], 1), wide(&integers(&[k, d], 2, 4096, |i| i as f32 / 1000.0)));
        check(&format!("kmeans_closest of [{n}, {d}], {m} of {k}"), EXACT, |row| closest(row, &x, &centroids, m));
    }
}

/// Far from the origin, and centroids that are there several times, or nearly.
#[test]
fn ties_and_rows_far_out() {
    for (n, k, d) in [(257, 12, 2), (64, 31, 40), (50, 40, 330)] {
        let few = |count: usize, seed: u32| integers(&[count, d], seed, 3, |i| i as f32);
        check(&format!("kmeans_closest with ties, [{n}, {d}] to {k}"), EXACT, |row| {
            closest(row, &few(n, 5), &wide(&few(k, 6)), 5)
        });
        for offset in [1e4f32, 3e6] {
            let far = |dims: &[usize], seed| {
                let far: Vec<f32> = normal(dims, seed).host::<f32>().unwrap().iter().map(|x| offset + x).collect();
                Tensor::from_slice(&far, dims).unwrap()
            };
            let (x, centroids) = (far(&[n, d], 1), wide(&far(&[k, d], 2)));
            check(&format!("kmeans_closest at {offset}, [{n}, {d}] to {k}"), EXACT, |row| {
                closest(row, &x, &centroids, 4)
            });
        }
    }
    let extremes = [0.0f32, -0.0, 1e-45, -1e-40, 1e-23, 1e17, -1e17, 3e17];
    let some = |dims: &[usize], seed: u32| integers(dims, seed, 8, |i| extremes[i as usize]);
    check("kmeans_closest of extremes", EXACT, |row| closest(row, &some(&[65, 33], 7), &wide(&some(&[40, 33], 8)), 6));
}

#[test]
fn wrong_shapes_are_refused() {
    let (x, centroids) = (normal(&[9, 2], 1), wide(&normal(&[4, 2], 2)));
    check("none of the nearest", EXACT, |row| closest(row, &x, &centroids, 0));
    check("more than there are", EXACT, |row| closest(row, &x, &centroids, 5));
    check("centroids of another width", EXACT, |row| closest(row, &x, &wide(&normal(&[4, 3], 2)), 1));
}
