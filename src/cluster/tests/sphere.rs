//! Directions instead of places.

use super::*;

fn spherical(clusters: usize) -> KMeansOptions {
    KMeansOptions { spherical: true, ..options(clusters) }
}

fn unit(x: &[f32]) -> Vec<f64> {
    let length = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    x.iter().map(|&x| f64::from(x) / length).collect()
}

fn cosine(x: &[f32], c: &[f32]) -> f64 {
    unit(x).iter().zip(unit(c)).map(|(x, c)| x * c).sum()
}

#[test]
fn each_point_has_the_centroid_of_the_largest_cosine_which_is_the_direction_of_the_sum() {
    let (n, d, k) = (500, 6, 5);
    let x: Vec<f32> = normal(n * d, 3).iter().enumerate().map(|(i, x)| x * (1.0 + (i / d % 9) as f32)).collect();
    let weights: Vec<f32> = below(n, 8, 3).iter().map(|w| w + 0.5).collect();
    for weights in [&[][..], &weights[..]] {
        let found = fit(spherical(k), &x, d, weights);
        assert!(found.report.converged && found.report.iterations > 2);
        let mut inertia = 0.0;
        let mut sums = vec![0.0; k * d];
        for (i, row) in x.chunks_exact(d).enumerate() {
            let to = |c: usize| cosine(row, &found.centroids[c * d..][..d]);
            let (label, weight) = (found.labels[i] as usize, weights.get(i).map_or(1.0, |&w| f64::from(w)));
            assert!((0..k).all(|c| to(label) >= to(c) - 1e-6), "point {i}");
            inertia += weight * (2.0 - 2.0 * to(label));
            unit(row).iter().zip(&mut sums[label * d..]).for_each(|(x, sum)| *sum += weight * x);
        }
        assert!((found.report.inertia - inertia).abs() < 1e-5 * inertia);
        for (centroid, sum) in found.centroids.chunks_exact(d).zip(sums.chunks_exact(d)) {
            let length = sum.iter().map(|s| s * s).sum::<f64>().sqrt();
            assert!(centroid.iter().zip(sum).all(|(&c, s)| (f64::from(c) - s / length).abs() < 1e-6));
        }
    }
}

#[test]
fn lengths_do_not_matter_and_rows_of_length_1_are_taken_as_they_are() {
    let (n, d, k) = (300, 4, 3);
    let x = blobs(n, d, 3);
    let expected = fit(spherical(k), &x, d, &[]);
    let longer: Vec<f32> = x.iter().enumerate().map(|(i, x)| x * [1.0, 4.0, 0.125][i / d % 3]).collect();
    assert_eq!(fit(spherical(k), &longer, d, &[]), expected);
    let units: Vec<f32> = x.chunks_exact(d).flat_map(|row| unit(row).into_iter().map(|x| x as f32)).collect();
    assert_eq!(fit(spherical(k), &units, d, &[]), expected);
    let run = |backend, threads| {
        try_fit(&mut KMeans::new(context_of(backend, threads), spherical(k)).unwrap(), &x, d, &[]).unwrap()
    };
    assert_eq!(run(Backend::Scalar, 1), expected);
    assert_eq!(run(Backend::Parallel, 2), expected);
}

#[test]
fn rows_of_zeros_weigh_nothing() {
    let x = [0.0, 0.0, 1.0, 0.0, 5.0, 0.5, 0.0, 2.0, 0.0, 0.0, 0.1, 3.0];
    let found = fit(KMeansOptions { n_init: 4, ..spherical(2) }, &x, 2, &[]);
    let labels = [1, 2, 3, 5].map(|i| found.labels[i]);
    assert!(labels[0] == labels[1] && labels[2] == labels[3] && labels[0] != labels[2], "{:?}", found.labels);
    assert!(found.report.inertia < 0.02);
    // As new points and as a batch they are like others, alone too.
    let mut stream = KMeans::new(context(), spherical(2)).unwrap();
    stream.set_centroids(&[1.0, 0.0, 0.0, 1.0], 2).unwrap();
    let none = Points::new(&[0.0, 0.0], 1, 2, &[]).unwrap();
    let (mut label, mut distance) = ([7], [7.0]);
    stream.assign(&none, &mut label, &mut distance).unwrap();
    assert_eq!((label, distance), ([0], [1.0]));
    assert_eq!(stream.partial_fit(&none, &|| false).unwrap(), [0]);
    assert_eq!(stream.centroids(), [1.0, 0.0, 0.0, 1.0]);
    // More clusters than rows with a direction: the rest repeat the first one.
    for start in [Start::Random, Start::PlusPlus, Start::Scalable] {
        let found = fit(KMeansOptions { start, ..spherical(3) }, &[0.0, 0.0, 1.0, 1.0, 0.0, 3.0], 2, &[]);
        assert!(found.centroids.chunks(2).all(|c| c[0] != 0.0 || c[1] != 0.0), "{start:?}: {:?}", found.centroids);
    }
    let mut kmeans = KMeans::new(context(), spherical(2)).unwrap();
    let error = try_fit(&mut kmeans, &[0.0; 8], 2, &[]).unwrap_err().message;
    assert_eq!(error, "all rows of x that have a weight are 0: they have no direction");
    assert_eq!(
        kmeans.set_centroids(&[0.0, 1.0, 0.0, 0.0], 2).unwrap_err().message,
        "centroid 1 is 0: it has no direction, and the clusters are spherical"
    );
}

#[test]
fn given_centroids_are_scaled_and_new_points_as_well() {
    let mut kmeans = KMeans::new(context(), KMeansOptions { start: Start::Given, ..spherical(2) }).unwrap();
    kmeans.set_centroids(&[5.0, 0.0, 0.0, 0.5], 2).unwrap();
    assert_eq!(kmeans.centroids(), [1.0, 0.0, 0.0, 1.0]);
    let points = Points::new(&[0.0, 9.0, 3.0, 0.0, -2.0, 0.0], 3, 2, &[]).unwrap();
    let (mut labels, mut distances) = ([9; 3], [9.0; 3]);
    kmeans.assign(&points, &mut labels, &mut distances).unwrap();
    assert_eq!((labels, distances), ([1, 0, 1], [0.0, 0.0, 2.0]));
}

/// The directions of a stream are those of the sums of all its rows.
#[test]
fn batches_turn_the_directions() {
    let mut stream = KMeans::new(context(), KMeansOptions { start: Start::Given, ..spherical(1) }).unwrap();
    stream.set_centroids(&[0.0, -1.0], 2).unwrap();
    let batches = [vec![1.0, 0.0, 4.0, 3.0], vec![0.0, 2.0], vec![-5.0, 0.0, 6.0, 8.0]];
    let mut sum = [0.0, 0.0];
    for batch in batches {
        stream.partial_fit(&Points::new(&batch, batch.len() / 2, 2, &[]).unwrap(), &|| false).unwrap();
        for row in batch.chunks(2) {
            let row = unit(row);
            sum = [sum[0] + row[0], sum[1] + row[1]];
        }
        let length = f64::hypot(sum[0], sum[1]);
        let found = stream.centroids();
        assert!((0..2).all(|j| (f64::from(found[j]) - sum[j] / length).abs() < 1e-6), "{found:?} for {sum:?}");
    }
}
