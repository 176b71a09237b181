//! What is wrong is said before work starts, and loses nothing.

use super::*;
use crate::tensor::{Error, ErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};

fn refused<T>(result: Result<T>) -> Error {
    result.map(|_| ()).expect_err("it is wrong")
}

fn fit_error(options: KMeansOptions, x: &[f32], d: usize, weights: &[f32]) -> String {
    let error = KMeans::new(context(), options).and_then(|mut kmeans| try_fit(&mut kmeans, x, d, weights));
    let error = refused(error);
    assert_eq!(error.kind, ErrorKind::Argument, "{error}");
    error.message
}

#[test]
fn numbers_that_are_none_are_named_by_row_and_column() {
    for (bad, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let mut x = normal(60, 1);
        x[47] = bad;
        assert_eq!(fit_error(options(3), &x, 5, &[]), format!("x is {name} at row 9, column 2"));
    }
    let mut x = normal(60, 1);
    x[47] = -1e19;
    assert!(fit_error(options(3), &x, 5, &[]).starts_with("x is -1e19 at row 9, column 2: squared distances would"));
    // As large as it may be: all distances are finite.
    let edge = super::super::points::largest(5);
    let far: Vec<f32> = (0..60).map(|i| if i / 5 % 2 == 0 { edge } else { -edge }).collect();
    let found = fit(options(1), &far, 5, &[]);
    assert!(found.report.inertia.is_finite() && found.report.inertia > 1e37);
}

#[test]
fn nonsense_is_refused() {
    let x = normal(20, 1);
    assert_eq!(fit_error(options(0), &x, 2, &[]), "k is 0, expected at least 1");
    assert_eq!(fit_error(options(11), &x, 2, &[]), "k is 11, more clusters than the 10 points");
    assert!(fit_error(options(1 << 40), &x, 2, &[]).starts_with("k is 1099511627776, expected at most"));
    assert_eq!(
        fit_error(KMeansOptions { n_init: 0, ..options(2) }, &x, 2, &[]),
        "n_init is 0, expected 1 to 4294967295"
    );
    for tolerance in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(fit_error(KMeansOptions { tolerance, ..options(2) }, &x, 2, &[]).starts_with("tolerance is "));
    }
    for (weight, name) in [(-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut weights = [1.0; 10];
        weights[3] = weight;
        assert_eq!(
            fit_error(options(2), &x, 2, &weights),
            format!("weights[3] is {name}, expected 0 or a positive number")
        );
    }
    assert_eq!(fit_error(options(2), &x, 2, &[0.0; 10]), "all 10 weights are 0");
    assert_eq!(fit_error(options(2), &[], 2, &[]), "k is 2, more clusters than the 0 points");
    assert_eq!(refused(Points::new(&x, 20, 0, &[])).message, "d is 0, expected at least 1");
    assert_eq!(refused(Points::new(&x, 10, 3, &[])).kind, ErrorKind::Shape);
    assert_eq!(refused(Points::new(&x, 10, 2, &[1.0; 9])).message, "there are 9 weights for 10 points");
}

#[test]
fn centroids_have_to_be_there_and_to_fit() {
    let x = normal(20, 1);
    let mut kmeans = KMeans::new(context(), KMeansOptions { start: Start::Given, ..options(2) }).unwrap();
    assert_eq!(refused(try_fit(&mut kmeans, &x, 2, &[])).kind, ErrorKind::State);
    let points = Points::new(&x, 10, 2, &[]).unwrap();
    assert_eq!(refused(kmeans.assign(&points, &mut [0; 10], &mut [0.0; 10])).kind, ErrorKind::State);
    assert_eq!(refused(kmeans.set_centroids(&[0.0; 5], 2)).kind, ErrorKind::Shape);
    let error = refused(kmeans.set_centroids(&[0.0, 1.0, f32::NAN, 2.0], 2));
    assert_eq!(error.message, "centroids is NaN at row 1, column 0");
    kmeans.set_centroids(&[0.0; 6], 3).unwrap();
    assert_eq!(refused(try_fit(&mut kmeans, &x, 2, &[])).message, "x has 2 columns, the centroids have 3");
    assert_eq!(refused(kmeans.assign(&points, &mut [0; 10], &mut [0.0; 10])).kind, ErrorKind::Shape);
}

#[test]
fn a_cancelled_fit_changes_nothing_and_a_stopped_one_keeps_what_it_has() {
    let x = normal(600, 2);
    let points = Points::new(&x, 300, 2, &[]).unwrap();
    let mut kmeans = KMeans::new(context(), KMeansOptions { n_init: 3, ..options(9) }).unwrap();
    let before = try_fit(&mut kmeans, &x, 2, &[]).unwrap();
    for patience in [0, 5, 9, 11] {
        let asked = AtomicUsize::new(0);
        let cancelled = || asked.fetch_add(1, Ordering::Relaxed) >= patience;
        let error = refused(kmeans.fit(&points, Hooks { progress: None, cancelled: &cancelled }));
        assert_eq!(error.kind, ErrorKind::Cancelled);
        assert_eq!((kmeans.centroids(), kmeans.report()), (&before.centroids[..], Some(&before.report)));
    }
    // In the middle of a pass over the points, which asks before every part of them.
    let x = normal(40_000, 3);
    let points = Points::new(&x, 20_000, 2, &[]).unwrap();
    let asked = AtomicUsize::new(0);
    let options = KMeansOptions { start: Start::Given, max_iterations: 1, ..options(9) };
    let mut pass = KMeans::new(context(), options).unwrap();
    pass.set_centroids(&x[..18], 2).unwrap();
    let count = || {
        asked.fetch_add(1, Ordering::Relaxed);
        false
    };
    pass.fit(&points, Hooks { progress: None, cancelled: &count }).unwrap();
    let all = asked.swap(0, Ordering::Relaxed);
    assert!(all > 15, "{all}");
    for patience in 0..all {
        let cancelled = || asked.fetch_add(1, Ordering::Relaxed) == patience;
        let error = refused(pass.fit(&points, Hooks { progress: None, cancelled: &cancelled }));
        assert_eq!(error.kind, ErrorKind::Cancelled, "{patience} of {all}: {error}");
        asked.store(0, Ordering::Relaxed);
    }
    let mut calls = 0;
    let mut progress = |_: &Report| {
        calls += 1;
        calls < 3
    };
    kmeans.fit(&points, Hooks { progress: Some(&mut progress), cancelled: &|| false }).unwrap();
    let report = kmeans.report().unwrap();
    assert_eq!((report.iterations, report.run, report.stopped, report.converged), (3, 0, true, false));
}
