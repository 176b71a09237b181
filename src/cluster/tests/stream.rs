//! Batches of a stream.

use super::*;

fn kmeans(options: KMeansOptions) -> KMeans {
    KMeans::new(context(), options).unwrap()
}

fn batch(kmeans: &mut KMeans, x: &[f32], d: usize, weights: &[f32]) -> Vec<u32> {
    kmeans.partial_fit(&Points::new(x, x.len() / d, d, weights).unwrap(), &|| false).unwrap()
}

#[test]
fn centroids_are_the_means_of_all_that_they_were_given() {
    let (d, k) = (3, 4);
    let (x, weights) = (blobs(1200, d, k), below(1200, 6, 4));
    let mut stream = kmeans(options(k));
    let (mut sums, mut masses) = (vec![0.0; k * d], vec![0.0; k]);
    for (number, (x, weights)) in x.chunks(300 * d).zip(weights.chunks(300)).enumerate() {
        let before = stream.centroids().to_vec();
        let labels = batch(&mut stream, x, d, weights);
        for (i, &label) in labels.iter().enumerate() {
            if number > 0 {
                let to = |c: usize| distance(&x[i * d..][..d], &before[c * d..][..d]);
                assert!((0..k).all(|c| to(label as usize) <= to(c) * (1.0 + 1e-5)), "point {i}");
            }
            masses[label as usize] += f64::from(weights[i]);
            for j in 0..d {
                sums[label as usize * d + j] += f64::from(weights[i]) * f64::from(x[i * d + j]);
            }
        }
        for (i, &c) in stream.centroids().iter().enumerate() {
            assert!((f64::from(c) - sums[i] / masses[i / d]).abs() < 1e-5, "batch {number}, number {i}");
        }
        let report = stream.report().unwrap();
        assert_eq!((report.iterations, report.empty, report.converged), (number as u64 + 1, 0, false));
    }
}

#[test]
fn a_stream_goes_on_from_a_fit_and_from_given_centroids() {
    let (d, k) = (2, 3);
    let x = blobs(600, d, k);
    let mut stream = kmeans(options(k));
    try_fit(&mut stream, &x, d, &[]).unwrap();
    // The same points again: the means stay what they are.
    let before = stream.centroids().to_vec();
    batch(&mut stream, &x, d, &[]);
    let moved = stream.centroids().iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(moved < 1e-5, "{moved}");
    // The starts of a fit that made nothing of them count as nothing.
    let mut stream = kmeans(KMeansOptions { start: Start::Given, max_iterations: 0, ..options(1) });
    stream.set_centroids(&[3.0], 1).unwrap();
    try_fit(&mut stream, &[0.0, 10.0], 1, &[]).unwrap();
    batch(&mut stream, &[9.0, 9.0], 1, &[]);
    assert_eq!((stream.centroids(), stream.report().unwrap().iterations), (&[9.0][..], 1));
    // Given centroids count as nothing, and one that gets no point stays.
    let mut stream = kmeans(KMeansOptions { start: Start::Given, ..options(2) });
    stream.set_centroids(&[0.0, 0.0, 900.0, 900.0], d).unwrap();
    batch(&mut stream, &[1.0, 2.0, 3.0, 4.0], d, &[]);
    assert_eq!(stream.centroids(), [2.0, 3.0, 900.0, 900.0]);
    assert_eq!(stream.report().unwrap().empty, 1);
    batch(&mut stream, &[5.0, 6.0, 901.0, 899.0], d, &[]);
    assert_eq!(stream.centroids(), [3.0, 4.0, 901.0, 899.0]);
}

#[test]
fn batches_that_cannot_be_taken_change_nothing() {
    let x = normal(40, 1);
    let mut stream = kmeans(options(8));
    let refused = |stream: &mut KMeans, x: &[f32], d: usize, cancelled: bool| {
        stream.partial_fit(&Points::new(x, x.len() / d, d, &[]).unwrap(), &|| cancelled).unwrap_err().message
    };
    assert_eq!(refused(&mut stream, &x[..12], 2, false), "k is 8, more clusters than the 6 points of the first batch");
    batch(&mut stream, &x, 2, &[]);
    let (before, report) = (stream.centroids().to_vec(), *stream.report().unwrap());
    assert_eq!(refused(&mut stream, &x, 4, false), "x has 4 columns, the centroids have 2");
    assert_eq!(refused(&mut stream, &[1.0, f32::NAN], 2, false), "x is NaN at row 0, column 1");
    assert!(refused(&mut stream, &x, 2, true).contains("cancelled"));
    assert_eq!((stream.centroids(), stream.report()), (&before[..], Some(&report)));
    // Fewer points than clusters are a batch like any other, later.
    batch(&mut stream, &x[..4], 2, &[]);
    assert_eq!(stream.report().unwrap().iterations, 2);
    let mut given = kmeans(KMeansOptions { start: Start::Given, ..options(2) });
    assert!(refused(&mut given, &x, 2, false).contains("none were set"));
}
