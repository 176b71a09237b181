//! The iterations: their fixed points, and that nothing but the data decides them.

use super::*;

/// Lloyd's algorithm in f64, as a textbook has it; None when a cluster runs empty, for which textbooks have no rule.
fn brute_force(start: &[f32], x: &[f32], d: usize, weights: &[f32]) -> Option<(Vec<u32>, f64)> {
    let (n, k) = (x.len() / d, start.len() / d);
    let mut centroids: Vec<f64> = start.iter().map(|&c| f64::from(c)).collect();
    let mut labels = vec![u32::MAX; n];
    loop {
        let mut inertia = 0.0;
        let mut changed = false;
        for i in 0..n {
            let to = |c: usize| (0..d).map(|j| (f64::from(x[i * d + j]) - centroids[c * d + j]).powi(2)).sum::<f64>();
            let nearest = (0..k).min_by(|&a, &b| to(a).total_cmp(&to(b))).unwrap();
            inertia += weights.get(i).map_or(1.0, |&w| f64::from(w)) * to(nearest);
            changed |= labels[i] != nearest as u32;
            labels[i] = nearest as u32;
        }
        if !changed {
            return Some((labels, inertia));
        }
        for c in 0..k {
            let members: Vec<usize> = (0..n).filter(|&i| labels[i] as usize == c).collect();
            let weight = |i: usize| weights.get(i).map_or(1.0, |&w| f64::from(w));
            let mass: f64 = members.iter().map(|&i| weight(i)).sum();
            if mass == 0.0 {
                return None;
            }
            for j in 0..d {
                centroids[c * d + j] = members.iter().map(|&i| weight(i) * f64::from(x[i * d + j])).sum::<f64>() / mass;
            }
        }
    }
}

#[test]
fn random_sets_end_where_a_brute_force_in_f64_ends() {
    let mut compared = 0;
    for seed in 0..40u32 {
        for (n, d, k) in [(60, 2, 3), (200, 5, 7), (90, 33, 4), (64, 1, 5)] {
            let x = normal(n * d, seed);
            let weights: Vec<f32> = if seed % 2 == 0 { vec![] } else { below(n, seed, 5) };
            let start = &x[..k * d];
            let Some((labels, inertia)) = brute_force(start, &x, d, &weights) else { continue };
            let found = fit_from(start, &x, d, &weights);
            assert_eq!(found.labels, labels, "seed {seed}, [{n}, {d}], k {k}");
            assert!((found.report.inertia / inertia - 1.0).abs() < 1e-5, "{} {inertia}", found.report.inertia);
            assert!(found.report.converged && found.report.moved == 0 && found.report.repaired == 0);
            compared += 1;
        }
    }
    assert!(compared > 120, "only {compared} sets could be compared");
}

/// Long runs, in which most points stay where they are: the bounds that spare them the search never change a label.
#[test]
fn long_runs_end_where_a_brute_force_in_f64_ends() {
    for (seed, n, d, k) in [(1, 4000, 3, 24), (2, 3000, 8, 40), (3, 2500, 2, 60), (4, 1500, 64, 30)] {
        let x = normal(n * d, seed);
        let start = &x[..k * d];
        let (labels, inertia) = brute_force(start, &x, d, &[]).expect("no cluster of these runs empty");
        for backend in [Backend::Scalar, Backend::Simd] {
            let options = KMeansOptions { start: Start::Given, max_iterations: 10_000, ..options(k) };
            let mut kmeans = KMeans::new(context_of(backend, 1), options).unwrap();
            kmeans.set_centroids(start, d).unwrap();
            let found = try_fit(&mut kmeans, &x, d, &[]).unwrap();
            assert_eq!(found.labels, labels, "seed {seed}");
            assert!(found.report.converged && found.report.iterations > 10, "{:?}", found.report);
            assert!((found.report.inertia / inertia - 1.0).abs() < 1e-5, "{} {inertia}", found.report.inertia);
        }
    }
}

/// A set, k, and how far from the origin its points lie, in units of their spread: that costs f32 so many digits.
fn hard_sets() -> Vec<(&'static str, Vec<f32>, usize, usize)> {
    let shifted = |by: f32| blobs(300, 3, 6).into_iter().map(|x| x + by).collect::<Vec<f32>>();
    let scaled = |by: f32| blobs(300, 3, 6).into_iter().map(|x| x * by).collect::<Vec<f32>>();
    let mut outlier = normal(200, 5);
    outlier[77] = 1e6;
    vec![
        ("large norms", shifted(1e5), 3, 6),
        ("tiny", scaled(1e-15), 3, 6),
        ("huge", scaled(1e15), 3, 6),
        ("ties on a grid", (0..400).flat_map(|i| [(i % 20) as f32, (i / 20) as f32]).collect(), 2, 9),
        ("few places, many points", below(600, 3, 3), 2, 7),
        ("one dimension, integers", below(500, 4, 40), 1, 12),
        ("an outlier", outlier, 2, 5),
        ("long rows", blobs(40, 5000, 4), 5000, 4),
    ]
}

#[test]
fn hard_sets_end_at_a_true_fixed_point() {
    for (name, x, d, k) in hard_sets() {
        for start in [Start::PlusPlus, Start::Random] {
            let found = fit(KMeansOptions { start, ..options(k) }, &x, d, &[]);
            let report = found.report;
            assert!(report.converged && report.iterations < 300, "{name}: {report:?}");
            // Each point is with its nearest centroid, but for distances that f32 cannot tell apart.
            for (i, &label) in found.labels.iter().enumerate() {
                let to = |c: usize| distance(&x[i * d..][..d], &found.centroids[c * d..][..d]);
                let own = to(label as usize);
                assert!((0..k).all(|c| own <= to(c) * (1.0 + 1e-5)), "{name}: point {i}");
            }
            // Each centroid is the mean of its points to the last digits of f32, so the inertia is that of the partition.
            let exact = inertia_of(&x, d, &[], &found.labels, k);
            let (n, size) = ((x.len() / d) as f64, x.iter().fold(0.0f32, |m, x| m.max(x.abs())));
            let rounding = n * d as f64 * (f64::from(size) * 6e-8).powi(2);
            let bound = 1e-5 * exact + rounding;
            assert!((report.inertia - exact).abs() <= bound, "{name}: {} and {exact}", report.inertia);
        }
    }
}

#[test]
fn the_inertia_never_rises() {
    for (name, x, d, k) in hard_sets() {
        for seed in 0..5 {
            let options = KMeansOptions { start: Start::Random, seed, ..options(k) };
            let found = fit(options, &x, d, &[]);
            assert!(found.inertias.windows(2).all(|pair| pair[1] <= pair[0]), "{name}: {:?}", found.inertias);
            assert_eq!(found.inertias.last(), Some(&found.report.inertia));
        }
    }
}

#[test]
fn every_backend_and_number_of_threads_gives_the_same_bits() {
    for (name, x, d, k) in hard_sets() {
        let weights: Vec<f32> = below(x.len() / d, 9, 4).iter().map(|w| w + 0.25).collect();
        for start in [Start::PlusPlus, Start::Random] {
            let run = |backend, threads| {
                let options = KMeansOptions { start, n_init: 2, seed: 5, ..options(k) };
                try_fit(&mut KMeans::new(context_of(backend, threads), options).unwrap(), &x, d, &weights).unwrap()
            };
            let expected = run(Backend::Scalar, 1);
            assert_eq!(run(Backend::Simd, 1), expected, "{name} on simd");
            for threads in [1, 2, 3, 8] {
                assert_eq!(run(Backend::Parallel, threads), expected, "{name} on {threads} threads");
            }
        }
    }
}

#[test]
fn a_weight_is_a_repetition() {
    let (n, d, k) = (150, 3, 5);
    let (x, weights) = (blobs(n, d, k), below(n, 6, 4));
    let mut repeated = Vec::new();
    let mut places = Vec::new();
    for i in 0..n {
        for _ in 0..weights[i] as usize {
            repeated.extend_from_slice(&x[i * d..][..d]);
            places.push(i);
        }
    }
    let start = &x[..k * d];
    let (weighted, all) = (fit_from(start, &x, d, &weights), fit_from(start, &repeated, d, &[]));
    assert_eq!(weighted.centroids, all.centroids);
    assert!((weighted.report.inertia / all.report.inertia - 1.0).abs() < 1e-12);
    for (&place, &label) in places.iter().zip(&all.labels) {
        assert_eq!(weighted.labels[place], label);
    }
    // Points of weight 0 get labels and decide nothing.
    assert_eq!(weighted.labels.len(), n);
}

#[test]
fn an_empty_cluster_is_given_the_farthest_point() {
    // Nothing is near 1000 or 2000; 50 is farthest from its centroid, then 40.
    let x = [0.0, 1.0, 2.0, 40.0, 50.0];
    let found = fit_from(&[0.0, 1000.0, 2000.0], &x, 1, &[]);
    assert_eq!(found.labels, [0, 0, 0, 2, 1]);
    assert_eq!(found.centroids, [1.0, 50.0, 40.0]);
    assert_eq!((found.report.repaired, found.report.empty, found.report.inertia), (2, 0, 2.0));
    // A cluster of points of weight 0 alone is an empty one, and such points repair nothing.
    let found = fit_from(&[0.0, 45.0], &x, 1, &[1.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(found.report.empty, 0);
    assert!(found.centroids.iter().all(|&c| c <= 2.0), "{:?}", found.centroids);
}

#[test]
fn fewer_places_than_clusters_end_with_inertia_0_and_say_so() {
    let x: Vec<f32> = (0..90).flat_map(|i| [[1.0, 2.0], [3.0, 4.0], [-5.0, 0.1]][i % 3]).collect();
    for start in [Start::PlusPlus, Start::Random] {
        for k in [3, 4, 10, 90] {
            let found = fit(KMeansOptions { start, ..options(k) }, &x, 2, &[]);
            assert_eq!((found.report.inertia, found.report.empty), (0.0, k as u64 - 3), "{start:?}, k = {k}");
            assert!(found.report.converged);
        }
    }
    // Distances in f32 vanish, those in f64, which decide, do not.
    let denormal = [1e-45, 2e-45, 1e-40, -1e-39, 0.0, -0.0];
    let found = fit_from(&[0.0, -1e-39], &denormal, 1, &[]);
    assert_eq!((found.labels, found.report.inertia), (vec![0, 0, 0, 1, 0, 0], 0.0));
    let found = fit(options(2), &[1e-40, 1e-39, 1.0, 1.0], 1, &[]);
    assert_eq!((found.labels[0], found.report.empty), (found.labels[1], 0));
    assert_ne!(found.labels[0], found.labels[2]);
}

#[test]
fn as_many_clusters_as_points_and_one_cluster() {
    let x = normal(30 * 4, 8);
    let all = fit(options(30), &x, 4, &[]);
    let mut labels = all.labels.clone();
    labels.sort_unstable();
    assert_eq!((labels, all.report.inertia), ((0..30).collect(), 0.0));
    let one = fit(options(1), &x, 4, &[]);
    assert!((one.report.inertia / inertia_of(&x, 4, &[], &one.labels, 1) - 1.0).abs() < 1e-6);
}

#[test]
fn limits_end_a_run_where_they_say() {
    let x = normal(400 * 2, 9);
    let whole = fit(options(20), &x, 2, &[]);
    assert!(whole.report.iterations > 4);
    let short = fit(KMeansOptions { max_iterations: 2, ..options(20) }, &x, 2, &[]);
    assert_eq!((short.report.iterations, short.report.converged), (2, false));
    assert_eq!(short.inertias, whole.inertias[..2]);
    let none = fit(KMeansOptions { max_iterations: 0, ..options(20) }, &x, 2, &[]);
    assert_eq!((none.report.iterations, none.report.converged), (0, false));
    // Labels and inertia are those of the centroids, wherever a run ends.
    for found in [&short, &none] {
        let nearest = |i: usize, c: usize| distance(&x[i * 2..][..2], &found.centroids[c * 2..][..2]);
        let sum: f64 = found.labels.iter().enumerate().map(|(i, &c)| nearest(i, c as usize)).sum();
        assert!((found.report.inertia / sum - 1.0).abs() < 1e-6);
    }
    let tolerant = fit(KMeansOptions { tolerance: 0.05, ..options(20) }, &x, 2, &[]);
    let steps = tolerant.report.iterations as usize;
    assert!(tolerant.report.converged && steps < whole.report.iterations as usize);
    let last = &whole.inertias[steps - 2..steps];
    assert!(last[0] - last[1] <= 0.05 * last[0], "{last:?}");
}
