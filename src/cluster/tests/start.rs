//! Starts: the distribution of k-means++ and of random rows, restarts, and warm starts.

use super::*;

/// The start alone: no iteration.
fn start_of(start: Start, seed: u64, k: usize, x: &[f32], d: usize, weights: &[f32]) -> Vec<f32> {
    fit(KMeansOptions { start, seed, max_iterations: 0, ..options(k) }, x, d, weights).centroids
}

/// How often each outcome came, against its probability: within 5 standard deviations.
fn assert_frequencies(what: &str, counts: &[usize], probabilities: &[f64]) {
    let all = counts.iter().sum::<usize>() as f64;
    for (i, (&count, &p)) in counts.iter().zip(probabilities).enumerate() {
        let deviation = (all * p * (1.0 - p)).sqrt();
        let off = (count as f64 - all * p).abs();
        assert!(off <= 5.0 * deviation, "{what}: outcome {i} came {count} times of {all}, p = {p}");
    }
}

#[test]
fn k_means_plus_plus_draws_by_weight_and_squared_distance() {
    let (x, weights) = ([0.0, 1.0, 3.0, 7.0], [1.0, 2.0, 0.0, 1.0]);
    let at = |value: f32| x.iter().position(|&x| x == value).unwrap();
    let mut pairs = [[0usize; 4]; 4];
    const RUNS: u64 = 4000;
    for seed in 0..RUNS {
        let plain = KMeansOptions { candidates: 1, seed, max_iterations: 0, ..options(2) };
        let found = fit(plain, &x, 1, &weights).centroids;
        pairs[at(found[0])][at(found[1])] += 1;
    }
    let firsts = pairs.map(|row| row.iter().sum::<usize>());
    assert_frequencies("the first", &firsts, &[0.25, 0.5, 0.0, 0.25]);
    for (first, seconds) in pairs.iter().enumerate().filter(|&(first, _)| weights[first] > 0.0) {
        let shares: Vec<f64> = (0..4).map(|i| f64::from(weights[i]) * f64::from(x[i] - x[first]).powi(2)).collect();
        let total: f64 = shares.iter().sum();
        let shares: Vec<f64> = shares.iter().map(|share| share / total).collect();
        assert_frequencies("the second", seconds, &shares);
    }
}

#[test]
fn random_rows_are_distinct_and_drawn_by_weight() {
    let (x, weights) = ([0.0, 1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 0.0, 2.0, 4.0]);
    let mut counts = [0usize; 5];
    for seed in 0..4000 {
        counts[start_of(Start::Random, seed, 1, &x, 1, &weights)[0] as usize] += 1;
        let three = start_of(Start::Random, seed, 3, &x, 1, &[]);
        assert!(three.windows(2).all(|pair| pair[0] < pair[1]), "{three:?}");
    }
    assert_frequencies("rows", &counts, &[0.125, 0.125, 0.0, 0.25, 0.5]);
}

/// Of 20 groups far apart, k-means++ finds nearly all at once, random rows do not: the advantage of careful seeding.
#[test]
fn k_means_plus_plus_starts_better_than_random_rows() {
    let x = blobs(1000, 8, 20);
    let mean = |start| {
        let inertia =
            |seed| fit(KMeansOptions { start, seed, max_iterations: 0, ..options(20) }, &x, 8, &[]).report.inertia;
        (0..20).map(inertia).sum::<f64>() / 20.0
    };
    let (careful, random) = (mean(Start::PlusPlus), mean(Start::Random));
    assert!(careful < 0.7 * random, "{careful} and {random}");
}

/// Of several candidates, that one is taken which leaves the least inertia: from 0, whose chance is 1 / 7 or so, nearly always the
/// point in the middle of the others.
#[test]
fn the_best_candidate_is_taken() {
    let x = [0.0, 9.0, 10.0, 11.0];
    let second = |candidates: usize| {
        let found = |seed| {
            let options = KMeansOptions { candidates, seed, max_iterations: 0, ..options(2) };
            fit(options, &x, 1, &[]).centroids
        };
        let pairs: Vec<Vec<f32>> = (0..400).map(found).filter(|found| found[0] == 0.0).collect();
        pairs.iter().filter(|found| found[1] == 10.0).count() as f64 / pairs.len() as f64
    };
    let (one, many) = (second(1), second(12));
    assert!(one < 0.5 && many > 0.95, "{one} and {many}");
    // Greedy starts are better ones.
    let x = blobs(1000, 8, 40);
    let mean = |candidates| {
        let inertia = |seed| {
            let options = KMeansOptions { candidates, seed, max_iterations: 0, ..options(40) };
            fit(options, &x, 8, &[]).report.inertia
        };
        (0..10).map(inertia).sum::<f64>() / 10.0
    };
    let (plain, greedy) = (mean(1), mean(0));
    assert!(greedy < 0.9 * plain, "{greedy} and {plain}");
}

#[test]
fn k_means_parallel_starts_as_well() {
    let x = blobs(3000, 8, 40);
    let weights = below(3000, 9, 3);
    for weights in [&[][..], &weights[..]] {
        let inertia = |start, seed| {
            fit(KMeansOptions { start, seed, max_iterations: 0, ..options(40) }, &x, 8, weights).report.inertia
        };
        let mean = |start| (0..6).map(|seed| inertia(start, seed)).sum::<f64>() / 6.0;
        let (scalable, plus_plus) = (mean(Start::Scalable), mean(Start::PlusPlus));
        assert!(scalable < 1.1 * plus_plus, "{scalable} and {plus_plus}");
        assert_ne!(inertia(Start::Scalable, 1), inertia(Start::Scalable, 2), "the seed decides nothing");
    }
}

/// Every start is the same on every backend, with a projection of the points too; and where most points are the same.
#[test]
fn starts_are_the_same_everywhere() {
    let (n, d, k) = (2500, 70, 30);
    let flat: Vec<f32> = normal(n * d, 5).iter().enumerate().map(|(i, x)| x / (1 + i % d) as f32).collect();
    let twins: Vec<f32> = below(n * 2, 6, 4);
    for (x, d) in [(&flat, d), (&twins, 2)] {
        for start in [Start::PlusPlus, Start::Scalable, Start::Random] {
            for spherical in [false, true] {
                let run = |backend, threads| {
                    let options = KMeansOptions { start, spherical, max_iterations: 3, seed: 4, ..options(k) };
                    try_fit(&mut KMeans::new(context_of(backend, threads), options).unwrap(), x, d, &[]).unwrap()
                };
                let n = x.len() / d;
                assert_eq!(n * d, x.len());
                let expected = run(Backend::Scalar, 1);
                assert_eq!(run(Backend::Simd, 1), expected, "{start:?}");
                assert_eq!(run(Backend::Parallel, 2), expected, "{start:?}");
            }
        }
    }
}

#[test]
fn restarts_keep_the_best_run() {
    let x = blobs(300, 2, 12);
    let runs: Vec<Fitted> =
        (1..=6).map(|n_init| fit(KMeansOptions { start: Start::Random, n_init, ..options(12) }, &x, 2, &[])).collect();
    assert!(runs.windows(2).all(|pair| pair[1].report.inertia <= pair[0].report.inertia));
    assert!(runs[5].report.inertia < runs[0].report.inertia && runs[5].report.run > 0, "{:?}", runs[5].report);
    let seeds: Vec<f64> = (0..6)
        .map(|seed| fit(KMeansOptions { start: Start::Random, seed, ..options(12) }, &x, 2, &[]).report.inertia)
        .collect();
    assert!(seeds.iter().any(|&inertia| inertia != seeds[0]), "the seed decides nothing");
}

#[test]
fn a_warm_start_goes_on_where_it_was() {
    let (x, d) = (normal(500 * 3, 10), 3);
    let straight = fit(options(15), &x, d, &[]);
    let short = fit(KMeansOptions { max_iterations: 3, ..options(15) }, &x, d, &[]);
    let rest = fit_from(&short.centroids, &x, d, &[]);
    assert_eq!((rest.labels, rest.centroids), (straight.labels.clone(), straight.centroids.clone()));
    // A k-means from a GIVEN start is fitted again from its own centroids: at a fixed point it stays there.
    let mut kmeans = KMeans::new(context(), KMeansOptions { start: Start::Given, ..options(15) }).unwrap();
    kmeans.set_centroids(&straight.centroids, d).unwrap();
    for _ in 0..2 {
        let again = try_fit(&mut kmeans, &x, d, &[]).unwrap();
        assert_eq!((again.report.iterations, &again.centroids), (1, &straight.centroids));
    }
}

#[test]
fn new_points_go_to_the_nearest_centroid() {
    let (x, d, k) = (blobs(300, 4, 5), 4, 5);
    let mut kmeans = KMeans::new(context(), options(k)).unwrap();
    let fitted = try_fit(&mut kmeans, &x, d, &[]).unwrap();
    let (mut labels, mut distances) = (vec![9u32; 300], vec![0f32; 300]);
    kmeans.assign(&Points::new(&x, 300, d, &[]).unwrap(), &mut labels, &mut distances).unwrap();
    assert_eq!(labels, fitted.labels);
    let sum: f64 = distances.iter().map(|&x| f64::from(x)).sum();
    assert_eq!(sum, fitted.report.inertia);
    kmeans.assign(&Points::new(&[], 0, d, &[]).unwrap(), &mut [], &mut []).unwrap();
}
