//! Labels decide integers, so distances are canonical: every row gives the same bits. So do the sums, in index order.

use super::{EXACT, SIZES, check, dirty, integers, normal};
use crate::tensor::{DType, Result, Tensor};

fn assign(row: &super::Row, x: &Tensor, centroids: &Tensor) -> Result<Vec<Tensor>> {
    let n = x.dims()[0];
    let (mut labels, mut distances) = (dirty(DType::U32, &[n]), dirty(DType::F32, &[n]));
    let (labels_view, distances_view) = (&mut labels.view_mut(), &mut distances.view_mut());
    (row.kernels.kmeans_assign)(&row.launch, &x.view(), &centroids.view(), labels_view, distances_view)?;
    Ok(vec![labels, distances])
}

fn update(row: &super::Row, x: &Tensor, labels: &Tensor, weights: &Tensor, k: usize) -> Result<Vec<Tensor>> {
    let (mut sums, mut masses) = (dirty(DType::F64, &[k, x.dims()[1]]), dirty(DType::F64, &[k]));
    let (sums_view, masses_view) = (&mut sums.view_mut(), &mut masses.view_mut());
    (row.kernels.kmeans_update)(&row.launch, &x.view(), &labels.view(), &weights.view(), sums_view, masses_view)?;
    Ok(vec![sums, masses])
}

fn labels(n: usize, k: usize) -> Tensor {
    integers(&[n], 3, k as u64, |i| i as u32)
}

#[test]
fn kmeans_assign() {
    for n in SIZES {
        for (k, d) in [(1, 1), (2, 7), (3, 32), (4, 33), (5, 63), (64, 64), (65, 257), (3, 4097), (7, 0)] {
            check(&format!("kmeans_assign of [{n}, {d}] to {k}"), EXACT, |row| {
                assign(row, &normal(&[n, d], 1), &normal(&[k, d], 2))
            });
        }
    }
}

/// Integers of few values and centroids that are there twice: most distances tie, and the order of comparison shows.
#[test]
fn ties_go_to_the_lowest_index_on_every_row() {
    for (n, k, d) in [(257, 12, 2), (400, 9, 5), (64, 31, 40)] {
        let few = |count: usize, seed: u32| integers(&[count, d], seed, 3, |i| i as f32);
        check(&format!("kmeans_assign with ties, [{n}, {d}] to {k}"), EXACT, |row| assign(row, &few(n, 5), &few(k, 6)));
    }
}

#[test]
fn numbers_at_the_ends_of_the_range() {
    let extremes = [0.0f32, -0.0, 1e-45, -1e-40, 1e-23, 1e19, -1e19, 3e38, -3e38, 1.0];
    let some = |dims: &[usize], seed: u32| integers(dims, seed, 10, |i| extremes[i as usize]);
    check("kmeans_assign of extremes", EXACT, |row| assign(row, &some(&[65, 33], 7), &some(&[9, 33], 8)));
    let labels = labels(65, 9);
    check("kmeans_update of extremes", EXACT, |row| update(row, &some(&[65, 33], 7), &labels, &some(&[65], 9), 9));
}

#[test]
fn kmeans_update() {
    for n in SIZES.into_iter().chain([3000]) {
        for (k, d) in [(1, 1), (2, 7), (5, 63), (64, 64), (65, 257), (300, 16), (3, 0)] {
            for weighted in [false, true] {
                check(&format!("kmeans_update of [{n}, {d}], {k} clusters, weighted: {weighted}"), EXACT, |row| {
                    let weights = normal(&[if weighted { n } else { 0 }], 4);
                    update(row, &normal(&[n, d], 1), &labels(n, k), &weights, k)
                });
            }
        }
    }
}

#[test]
fn wrong_arguments_are_refused_by_every_row() {
    let none = Tensor::zeros(DType::F32, &[0]).unwrap();
    check("rows and no centroid", EXACT, |row| assign(row, &normal(&[3, 2], 1), &normal(&[0, 2], 2)));
    check("centroids of another width", EXACT, |row| assign(row, &normal(&[3, 2], 1), &normal(&[2, 3], 2)));
    check("a label past the clusters", EXACT, |row| update(row, &normal(&[9, 2], 1), &labels(9, 8), &none, 2));
    check("too few weights", EXACT, |row| update(row, &normal(&[9, 2], 1), &labels(9, 2), &normal(&[8], 2), 2));
}
