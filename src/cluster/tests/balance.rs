//! Clusters of a limited size.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The least cost of giving each point one of the places, as many as there are points: the Hungarian algorithm (Kuhn 1955, as of
/// Jonker and Volgenant, 1987).
fn least_cost(costs: &[Vec<f64>]) -> f64 {
    let n = costs.len();
    let (mut u, mut v) = (vec![0.0; n + 1], vec![0.0; n + 1]);
    let (mut of, mut way) = (vec![0usize; n + 1], vec![0usize; n + 1]);
    for row in 1..=n {
        of[0] = row;
        let (mut column, mut least, mut used) = (0, vec![f64::INFINITY; n + 1], vec![false; n + 1]);
        while of[column] != 0 {
            used[column] = true;
            let (i, mut delta, mut next) = (of[column], f64::INFINITY, 0);
            for j in (1..=n).filter(|&j| !used[j]) {
                let reduced = costs[i - 1][j - 1] - u[i] - v[j];
                if reduced < least[j] {
                    (least[j], way[j]) = (reduced, column);
                }
                if least[j] < delta {
                    (delta, next) = (least[j], j);
                }
            }
            for j in 0..=n {
                if used[j] {
                    u[of[j]] += delta;
                    v[j] -= delta;
                } else {
                    least[j] -= delta;
                }
            }
            column = next;
        }
        while column != 0 {
            of[column] = of[way[column]];
            column = way[column];
        }
    }
    (1..=n).map(|j| costs[of[j] - 1][j - 1]).sum()
}

/// Assigned to given centroids, without an iteration.
fn assigned(x: &[f32], d: usize, centroids: &[f32], weights: &[f32], capacity: usize) -> Fitted {
    let k = centroids.len() / d;
    let options = KMeansOptions { start: Start::Given, max_iterations: 0, capacity, ..options(k) };
    let mut kmeans = KMeans::new(context(), options).unwrap();
    kmeans.set_centroids(centroids, d).unwrap();
    try_fit(&mut kmeans, x, d, weights).unwrap()
}

fn sizes(labels: &[u32], k: usize) -> Vec<usize> {
    (0..k).map(|cluster| labels.iter().filter(|&&label| label as usize == cluster).count()).collect()
}

#[test]
fn no_assignment_within_the_limit_costs_less() {
    for (n, k, d, capacity) in
        [(7, 3, 2, 3), (40, 4, 3, 10), (60, 20, 2, 3), (90, 40, 5, 3), (50, 50, 1, 1), (33, 8, 2, 20)]
    {
        for seed in 0..4 {
            // All points lie on one side of most centroids, so that many have to go far.
            let x: Vec<f32> = normal(n * d, 20 + seed).iter().map(|x| 0.3 * x + 1.0).collect();
            let centroids = normal(k * d, 40 + seed);
            let weights = if seed % 2 == 1 { below(n, 60 + seed, 4) } else { Vec::new() };
            if seed % 2 == 1 && weights.iter().all(|&w| w == 0.0) {
                continue;
            }
            let found = assigned(&x, d, &centroids, &weights, capacity);
            assert!(sizes(&found.labels, k).iter().all(|&size| size <= capacity), "{:?}", sizes(&found.labels, k));
            let weight = |i: usize| weights.get(i).map_or(1.0, |&w| f64::from(w));
            let cost = |i: usize, c: usize| weight(i) * distance(&x[i * d..][..d], &centroids[c * d..][..d]);
            let places = k * capacity;
            // Places that stay empty are taken by points that cost nothing.
            let costs: Vec<Vec<f64>> = (0..places)
                .map(|i| (0..places).map(|place| if i < n { cost(i, place / capacity) } else { 0.0 }).collect())
                .collect();
            let (least, here) = (least_cost(&costs), found.report.inertia);
            assert!(
                (here - least).abs() <= 1e-6 * least,
                "[{n}, {d}], {k} of {capacity}: {here}, and {least} is possible"
            );
        }
    }
}

#[test]
fn a_balanced_fit_is_the_same_everywhere_and_never_gets_worse() {
    let (n, d, k) = (600, 3, 7);
    let x = blobs(n, d, 3);
    let weights = below(n, 5, 3);
    for (weights, capacity) in [(&[][..], 86), (&weights[..], 100)] {
        let run = |backend, threads| {
            let options = KMeansOptions { capacity, seed: 2, ..options(k) };
            try_fit(&mut KMeans::new(context_of(backend, threads), options).unwrap(), &x, d, weights).unwrap()
        };
        let expected = run(Backend::Scalar, 1);
        assert!(sizes(&expected.labels, k).iter().all(|&size| size <= capacity), "{:?}", sizes(&expected.labels, k));
        assert!(expected.inertias.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 1e-6)), "{:?}", expected.inertias);
        assert!(expected.report.converged);
        assert_eq!(run(Backend::Simd, 1), expected);
        assert_eq!(run(Backend::Parallel, 2), expected);
        let free = fit(KMeansOptions { seed: 2, ..options(k) }, &x, d, weights);
        assert!(sizes(&free.labels, k).iter().any(|&size| size > capacity), "nothing was limited");
    }
}

#[test]
fn points_of_one_place_are_shared_out() {
    let found = assigned(&[5.0; 12], 1, &[1.0, 5.0, 6.0], &[], 4);
    assert_eq!((sizes(&found.labels, 3), found.report.inertia), (vec![4, 4, 4], 4.0 * 16.0 + 4.0));
    // As many as there are points limit nothing.
    assert_eq!(sizes(&assigned(&[5.0; 12], 1, &[1.0, 5.0, 6.0], &[], 12).labels, 3), [0, 12, 0]);
}

#[test]
fn limits_that_cannot_be_kept_are_refused() {
    let x = normal(20, 1);
    let refused = |capacity, stream: bool| {
        let mut kmeans = KMeans::new(context(), KMeansOptions { capacity, ..options(4) }).unwrap();
        let points = Points::new(&x, 20, 1, &[]).unwrap();
        let result = if stream {
            kmeans.partial_fit(&points, &|| false)
        } else {
            kmeans.fit(&points, Hooks { progress: None, cancelled: &|| false })
        };
        result.unwrap_err().message
    };
    assert_eq!(refused(4, false), "capacity is 4: 4 clusters hold 16 points, there are 20");
    assert_eq!(refused(5, true), "capacity is 5: a batch of a stream cannot be balanced");
    let mut kmeans = KMeans::new(context(), KMeansOptions { capacity: 5, ..options(4) }).unwrap();
    // Whenever it is, and if it is taken back at once.
    let asked = AtomicUsize::new(0);
    let points = Points::new(&x, 20, 1, &[]).unwrap();
    for patience in 0.. {
        asked.store(0, Relaxed);
        let cancelled = || asked.fetch_add(1, Relaxed) == patience;
        match kmeans.fit(&points, Hooks { progress: None, cancelled: &cancelled }) {
            Err(error) => assert_eq!(error.kind, crate::tensor::ErrorKind::Cancelled, "{patience}: {error}"),
            Ok(_) => {
                assert!(patience > 20 && asked.load(Relaxed) <= patience);
                break;
            }
        }
    }
}
