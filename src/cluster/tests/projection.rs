//! What spares the search most of its work never changes what it finds.

use super::super::kmeans::nearest;
use super::super::projection::project;
use super::*;
use crate::tensor::{View, ViewMut};

/// `n` points of a few latent dimensions, with some noise in all.
fn flat(n: usize, d: usize, latent: usize, noise: f32) -> Vec<f32> {
    let (axes, parts, mut x) = (normal(latent * d, 21), normal(n * latent, 22), normal(n * d, 23));
    for (i, x) in x.iter_mut().enumerate() {
        let along = (0..latent).map(|l| parts[i / d * latent + l] * axes[l * d + i % d]).sum::<f32>();
        *x = *x * noise + along;
    }
    x
}

/// The labels and bounds of an assignment by way of a projection, which must exist.
fn assign(context: &Context, x: &[f32], d: usize, centroids: &[f64]) -> (Vec<u32>, Vec<f32>, f64) {
    let (n, k) = (x.len() / d, centroids.len() / d);
    let points = Points::new(x, n, d, &[]).unwrap();
    let projection = project(context, &points, k).unwrap().expect("the points lie in a few dimensions");
    let (mut labels, mut bounds) = (vec![0u32; n], vec![0.0f32; 2 * n]);
    let (labels_view, bounds_view) =
        (&mut ViewMut::of(&mut labels, &[n]).unwrap(), &mut ViewMut::of(&mut bounds, &[n, 2]).unwrap());
    let (x, c) = (points.view(), View::of(centroids, &[k, d]).unwrap());
    let call = context.kernels().kmeans_assign;
    call(context.launch(), &x, None, &c, Some(&projection), labels_view, bounds_view).unwrap();
    (labels, bounds, projection.looked_at())
}

#[test]
fn labels_are_those_of_f64() {
    let base = |n: usize, d: usize| flat(n, d, 5, 0.1);
    let shifted = |by: f32| base(1500, 70).into_iter().map(|x| x + by).collect::<Vec<f32>>();
    let sets = [
        ("flat", base(1500, 70), 70),
        ("of many dimensions", base(1100, 800), 800),
        ("far out", shifted(300.0), 70),
        ("very far out", shifted(1e6), 70),
        ("tiny", base(1500, 48).into_iter().map(|x| x * 1e-18).collect(), 48),
        ("small integers", base(1500, 48).into_iter().map(|x| (x * 0.5).round()).collect(), 48),
    ];
    for (name, x, d) in sets {
        let n = x.len() / d;
        for (k, nudge) in [(24, 0.0), (40, 0.0), (130, 0.0), (64, 1e-9)] {
            // Points, the same one again now and then, or almost.
            let row = |c: usize| if c % 5 == 4 { c - 1 } else { c };
            let nudged = |c: usize, j: usize| f64::from(x[row(c) * d + j]) * (1.0 + nudge * (c * 7 % 5) as f64);
            let centroids: Vec<f64> = (0..k * d).map(|i| nudged(i / d, i % d)).collect();
            let mut expected = vec![0u32; n];
            nearest(
                &context_of(Backend::Scalar, 1),
                &Points::new(&x, n, d, &[]).unwrap(),
                &centroids,
                None,
                &mut expected,
            )
            .unwrap();
            for (backend, threads) in [(Backend::Simd, 1), (Backend::Parallel, 3)] {
                let (labels, bounds, looked_at) = assign(&context_of(backend, threads), &x, d, &centroids);
                assert_eq!(labels, expected, "{name}, k = {k}");
                assert!(looked_at >= 1.0, "{name}, k = {k}: {looked_at}");
                for i in 0..n {
                    for (c, centroid) in centroids.chunks_exact(d).enumerate() {
                        let square = |(x, c): (&f32, &f64)| (f64::from(*x) - c).powi(2);
                        let distance = x[i * d..][..d].iter().zip(centroid).map(square).sum::<f64>().sqrt();
                        let (upper, lower) = (f64::from(bounds[2 * i]), f64::from(bounds[2 * i + 1]));
                        let own = c == labels[i] as usize;
                        assert!(
                            if own { distance <= upper } else { distance >= lower },
                            "{name}, k = {k}, row {i}, {c}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn few_centroids_are_looked_at_with_all_dimensions() {
    let x = flat(3000, 200, 8, 0.05);
    let centroids: Vec<f64> = x[..300 * 200].iter().map(|&x| f64::from(x)).collect();
    let looked_at = assign(&context(), &x, 200, &centroids).2;
    assert!(looked_at < 15.0, "{looked_at} of 300 centroids");
}

#[test]
fn points_that_fill_all_dimensions_have_none() {
    let (uniform, flat) = (normal(2000 * 128, 3), flat(2000, 128, 6, 0.1));
    let found = |x: &[f32], k: usize, backend| {
        project(&context_of(backend, 1), &Points::new(x, x.len() / 128, 128, &[]).unwrap(), k).unwrap().is_some()
    };
    assert!(!found(&uniform, 100, Backend::Simd));
    // Nor do such that lie all on one side of the origin: the way there holds much of them, and tells nothing apart.
    let aside: Vec<f32> = uniform.iter().map(|x| x + 1.8).collect();
    assert!(!found(&aside, 100, Backend::Simd));
    assert!(found(&flat, 100, Backend::Simd));
    // There would be nothing to spare, or it would not be used.
    assert!(!found(&flat, 8, Backend::Simd));
    assert!(!found(&flat[..500 * 128], 100, Backend::Simd));
    assert!(!found(&flat, 100, Backend::Scalar));
    // Points that are all the same: no direction holds anything.
    assert!(!found(&[0.0; 2000 * 128], 100, Backend::Simd));
    // Points of fewer dimensions than there are axes.
    let mut low = vec![0.0; 2000 * 128];
    low.chunks_exact_mut(128).zip(uniform.chunks_exact(128)).for_each(|(to, from)| to[..5].copy_from_slice(&from[..5]));
    assert!(found(&low, 100, Backend::Simd));
    let centroids: Vec<f64> = low[..100 * 128].iter().map(|&x| f64::from(x)).collect();
    assert!(assign(&context(), &low, 128, &centroids).2 < 3.0);
}

#[test]
fn a_fit_is_the_same_with_and_without() {
    let (d, k) = (96, 40);
    let x = flat(2500, d, 6, 0.2);
    let weights: Vec<f32> = below(2500, 9, 4);
    assert!(project(&context(), &Points::new(&x, 2500, d, &weights).unwrap(), k).unwrap().is_some());
    let run = |backend, threads| {
        let options = KMeansOptions { seed: 3, ..options(k) };
        try_fit(&mut KMeans::new(context_of(backend, threads), options).unwrap(), &x, d, &weights).unwrap()
    };
    // The scalar row takes no notice of projections.
    let expected = run(Backend::Scalar, 1);
    assert!(expected.report.iterations > 5);
    assert_eq!(run(Backend::Simd, 1), expected);
    assert_eq!(run(Backend::Parallel, 2), expected);
}
