//! k-means on a GPU: run on an emulated one by `backend/cuda/emulated.rs`, and with a real one by
//! `cargo test --lib -- --ignored cluster::tests::cuda`.

use super::*;

fn kmeans_on(backend: Backend, options: KMeansOptions) -> KMeans {
    KMeans::new(context_of(backend, 1), options).unwrap()
}

#[test]
#[ignore = "needs a CUDA device"]
fn fits_batches_and_assignments_are_the_cpus() {
    let (n, d, k) = (1500, 37, 9);
    let (x, weights) = (blobs(n, d, 2 * k), below(n, 6, 4));
    let all = |backend: Backend, spherical: bool| {
        let options = KMeansOptions { n_init: 2, max_iterations: 20, spherical, ..options(k) };
        let mut kmeans = kmeans_on(backend, options);
        let fitted = try_fit(&mut kmeans, &x, d, &weights).unwrap();
        let points = Points::new(&x[..200 * d], 200, d, &[]).unwrap();
        let batch = kmeans.partial_fit(&points, &|| false).unwrap();
        let (mut labels, mut distances) = (vec![0; 200], vec![0.0; 200]);
        kmeans.assign(&points, &mut labels, &mut distances).unwrap();
        (fitted, batch, kmeans.centroids().to_vec(), labels, distances)
    };
    for spherical in [false, true] {
        assert_eq!(all(Backend::Cuda, spherical), all(Backend::Simd, spherical));
    }
    let limited = |backend| {
        let options = KMeansOptions { capacity: 40, max_iterations: 3, ..options(k) };
        try_fit(&mut kmeans_on(backend, options), &x[..300 * d], d, &weights[..300]).unwrap()
    };
    assert_eq!(limited(Backend::Cuda), limited(Backend::Simd));
}

#[test]
#[ignore = "needs a CUDA device"]
fn points_that_are_no_numbers_are_found_there() {
    let mut x = blobs(300, 5, 2);
    x[123 * 5 + 4] = f32::NAN;
    let error = try_fit(&mut kmeans_on(Backend::Cuda, options(2)), &x, 5, &[]).unwrap_err();
    assert_eq!(error.message, "x is NaN at row 123, column 4");
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_nearest_and_what_they_weigh_are_the_cpus() {
    // So wide that the limits of k-means++ are told to the GPU.
    let (n, d, k) = (400, 260, 24);
    let x = blobs(n, d, k);
    let all = |backend: Backend| {
        let mut kmeans = kmeans_on(backend, KMeansOptions { max_iterations: 5, ..options(k) });
        try_fit(&mut kmeans, &x, d, &[]).unwrap();
        let points = Points::new(&x, n, d, &[]).unwrap();
        [1, 7, k].map(|m| {
            let (mut labels, mut weights) = (vec![0; n * m], vec![0.0; n * m]);
            kmeans.route(&points, m, 2.0, &mut labels, &mut weights).unwrap();
            (labels, weights)
        })
    };
    assert_eq!(all(Backend::Cuda), all(Backend::Simd));
}

/// From k-means++; `emulated.rs` looks at what was copied.
#[test]
#[ignore = "needs a CUDA device"]
fn a_fit_of_some_iterations() {
    let (n, d, k) = (2000, 128, 8);
    let (x, weights) = (normal(n * d, 5), below(n, 6, 4));
    let options = KMeansOptions { max_iterations: 10, ..options(k) };
    let fitted = |backend| try_fit(&mut kmeans_on(backend, options.clone()), &x, d, &weights).unwrap();
    let found = fitted(Backend::Cuda);
    assert_eq!(found, fitted(Backend::Simd));
    println!("{} iterations, {} bytes of points", found.report.iterations, size_of_val(&x[..]));
}
