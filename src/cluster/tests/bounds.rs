//! The bounds that spare points the search.

use super::super::bounds::Bounds;
use super::*;

/// Points on a line; centroids that move a little, then far.
#[test]
fn points_that_may_have_another_centroid_are_searched_for() {
    let x: Vec<f32> = (0..100).map(|i| i as f32).collect();
    let before = [20.0f64, 50.0, 80.0];
    let nearest = |c: &[f64], x: f32| {
        let distances: Vec<f64> = c.iter().map(|c| (f64::from(x) - c).abs()).collect();
        (0..3).min_by(|&a, &b| distances[a].total_cmp(&distances[b])).unwrap()
    };
    let labels: Vec<u32> = x.iter().map(|&x| nearest(&before, x) as u32).collect();
    let fresh = || {
        let mut bounds = Bounds::new(x.len(), 3).unwrap();
        for (i, &x) in x.iter().enumerate() {
            let to = |c: usize| (f64::from(x) - before[c]).abs() as f32;
            let others = (0..3).filter(|&c| c != labels[i] as usize).map(to).fold(f32::MAX, f32::min);
            bounds.values[2 * i..2 * i + 2].copy_from_slice(&[to(labels[i] as usize), others]);
        }
        bounds.hold = true;
        bounds
    };
    let mut bounds = fresh();
    bounds.step(&labels, &before, &before, 1);
    // Points 35 and 65 lie in the middle of two centroids.
    assert_eq!((bounds.hold, bounds.open().0), (true, &[35u32, 65][..]));
    let after = [20.5, 50.0, 79.0];
    bounds.step(&labels, &before, &after, 1);
    let open = bounds.open().0.to_vec();
    assert!(bounds.hold && open.len() < 12, "{open:?}");
    for i in 0..100 {
        assert!(open.contains(&i) || nearest(&after, x[i as usize]) as u32 == labels[i as usize], "point {i}");
    }
    // Too many to be worth it: then the bounds hold no more, and are not wanted where as many points move.
    let mut bounds = fresh();
    assert!(bounds.wanted(10, 100) && !bounds.wanted(20, 100) && !bounds.wanted(u64::MAX, 100));
    bounds.step(&labels, &before, &[60.0, 10.0, 80.0], 1);
    assert!(!bounds.hold && !bounds.wanted(10, 100) && bounds.wanted(5, 100));
}

/// A cluster that runs empty while bounds hold is given a point, whose label is not the one that was searched for.
#[test]
fn repairs_while_most_points_stay_where_they_are() {
    let (d, k) = (2, 12);
    let mut repaired = 0;
    for seed in 0..30 {
        let x = below(400 * d, 50 + seed, 6);
        let run = |backend| {
            let options = KMeansOptions { start: Start::Random, seed: u64::from(seed), ..options(k) };
            try_fit(&mut KMeans::new(context_of(backend, 1), options).unwrap(), &x, d, &[]).unwrap()
        };
        let found = run(Backend::Simd);
        assert_eq!(run(Backend::Scalar), found, "seed {seed}");
        repaired += found.report.repaired;
        for (i, &label) in found.labels.iter().enumerate() {
            let to = |c: usize| distance(&x[i * d..][..d], &found.centroids[c * d..][..d]);
            assert!((0..k).all(|c| to(label as usize) <= to(c) * (1.0 + 1e-5)), "seed {seed}, point {i}");
        }
    }
    assert!(repaired > 0, "no run had an empty cluster");
}
