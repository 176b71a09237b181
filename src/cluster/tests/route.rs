//! New points to several centroids.

use super::*;

fn fixed(centroids: &[f32], d: usize) -> KMeans {
    let mut kmeans = KMeans::new(context(), options(centroids.len() / d)).unwrap();
    kmeans.set_centroids(centroids, d).unwrap();
    kmeans
}

fn route(kmeans: &KMeans, x: &[f32], m: usize, sharpness: f64) -> (Vec<u32>, Vec<f32>) {
    let d = kmeans.width();
    let points = Points::new(x, x.len() / d, d, &[]).unwrap();
    let (mut labels, mut weights) = (vec![9; x.len() / d * m], vec![9.0; x.len() / d * m]);
    kmeans.route(&points, m, sharpness, &mut labels, &mut weights).unwrap();
    (labels, weights)
}

#[test]
fn the_nearest_come_first_and_are_those_of_assign() {
    let (n, d, k) = (200, 5, 9);
    let (x, centroids) = (normal(n * d, 1), normal(k * d, 2));
    let kmeans = fixed(&centroids, d);
    let points = Points::new(&x, n, d, &[]).unwrap();
    let (mut labels, mut distances) = (vec![0; n * k], vec![0.0; n * k]);
    kmeans.nearest(&points, k, &mut labels, &mut distances).unwrap();
    let mut own = vec![0; n];
    kmeans.assign(&points, &mut own, &mut []).unwrap();
    for (i, (labels, distances)) in labels.chunks_exact(k).zip(distances.chunks_exact(k)).enumerate() {
        assert_eq!(labels[0], own[i]);
        assert!(distances.windows(2).all(|pair| pair[0] <= pair[1]));
        let mut sorted = labels.to_vec();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(c, &label)| label as usize == c));
        for (&label, &there) in labels.iter().zip(distances) {
            let expected = distance(&x[i * d..][..d], &centroids[label as usize * d..][..d]);
            assert!((f64::from(there) - expected).abs() <= 1e-6 * expected);
        }
    }
}

#[test]
fn weights_fall_with_the_distance() {
    let kmeans = fixed(&[0.0, 4.0, 16.0], 1);
    // At distances 1, 3 and 15.
    let (labels, weights) = route(&kmeans, &[1.0], 3, 2.0);
    let total = 1.0 + 1.0 / 9.0 + 1.0 / 225.0;
    assert_eq!(labels, [0, 1, 2]);
    for (weight, expected) in weights.iter().zip([1.0, 1.0 / 9.0, 1.0 / 225.0]) {
        assert!((f64::from(*weight) - expected / total).abs() < 1e-6);
    }
    assert_eq!(route(&kmeans, &[1.0], 2, 0.0).1, [0.5, 0.5]);
    assert_eq!(route(&kmeans, &[1.0], 3, 1e300).1, [1.0, 0.0, 0.0]);
    // On a centroid, and between two that are there twice.
    assert_eq!(route(&kmeans, &[4.0], 3, 1.0), (vec![1, 0, 2], vec![1.0, 0.0, 0.0]));
    assert_eq!(route(&fixed(&[2.0, 2.0, 3.0], 1), &[2.0], 3, 5.0).1, [0.5, 0.5, 0.0]);
    // Distances whose squares are as small, or as large, as there are.
    for size in [1e-18f32, 1e16] {
        let weights = route(&fixed(&[0.0, 4.0 * size], 1), &[size], 2, 4.0).1;
        assert!((f64::from(weights[1]) * 82.0 - 1.0).abs() < 1e-3, "{weights:?}");
    }
}

#[test]
fn wrong_numbers_are_refused() {
    let kmeans = fixed(&[0.0, 4.0], 1);
    let points = Points::new(&[1.0], 1, 1, &[]).unwrap();
    let refused = |m, sharpness| kmeans.route(&points, m, sharpness, &mut [0; 3], &mut [0.0; 3]).unwrap_err().message;
    assert_eq!(refused(0, 1.0), "m is 0, expected 1 to k, which is 2");
    assert_eq!(refused(3, 1.0), "m is 3, expected 1 to k, which is 2");
    for sharpness in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(refused(1, sharpness).starts_with("sharpness is "));
    }
}
