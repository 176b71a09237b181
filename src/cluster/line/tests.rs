//! Codebooks against the best there are, by a table of all clusters in f64; and their promises.

use super::buckets::Sums;
use super::optimal::by_table;
use super::prefix::Prefixes;
use super::*;
use crate::backend::Backend;
use crate::cluster::tests::{below, context, context_of, normal};
use crate::cluster::{labels, pack, unpack};
use crate::quantize::{Matrix, Packing, Quantization, Scheme, quantize};
use crate::tensor::{ErrorKind, never};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn options(entries: usize) -> LineOptions {
    LineOptions { entries, constraint: Constraint::None, max_iterations: 1000 }
}

fn ternary() -> LineOptions {
    LineOptions { constraint: Constraint::Ternary, ..options(3) }
}

fn fitted(x: &[f32], weights: &[f32], options: &LineOptions) -> (Line, Vec<u32>) {
    let line = fit(&context(), x, weights, options, &never).unwrap();
    let mut found = vec![9; x.len()];
    labels(&context(), x, &line.thresholds, &mut found).unwrap();
    (line, found)
}

/// Sets that are hard for one reason or another.
fn sets(n: usize) -> Vec<(&'static str, Vec<f32>)> {
    let (a, b) = (normal(n, 21), normal(n, 22));
    let both = |f: &dyn Fn(f32, f32) -> f32| a.iter().zip(&b).map(|(&a, &b)| f(a, b)).collect();
    vec![
        ("normal", a.clone()),
        ("heavy-tailed", both(&|a, b| a / b)),
        ("bimodal", both(&|a, b| if b > 0.5 { 100.0 + 1e-3 * a } else { a })),
        ("far from 0", both(&|a, _| 1000.0 + a)),
        ("with an outlier", a.iter().enumerate().map(|(i, &a)| if i == n / 2 { 1e12 } else { a }).collect()),
        ("half zeros", both(&|a, b| if b > 0.0 { a } else { -0.0 })),
        ("few different", below(n, 23, 11)),
        ("evenly spaced", (0..n).map(|i| (i * 7 % n) as f32).collect()),
        ("tiny", both(&|a, _| a * 1e-38)),
    ]
}

/// The mass, and mass times number, of each different number in order.
fn places(x: &[f32], weights: &[f32]) -> Vec<Sums> {
    let weight = |i: usize| f64::from(weights.get(i).copied().unwrap_or(1.0));
    let mut order: Vec<usize> = (0..x.len()).filter(|&i| weight(i) > 0.0).collect();
    order.sort_by(|&i, &j| x[i].total_cmp(&x[j]));
    let mut places: Vec<Sums> = Vec::new();
    for run in order.chunk_by(|&i, &j| x[i] == x[j]) {
        let mass: f64 = run.iter().map(|&i| weight(i)).sum();
        places.push([mass, mass * f64::from(x[run[0]])]);
    }
    places
}

/// The least inertia of k clusters: all last clusters are looked at, each summed about its own mean.
fn least(places: &[Sums], k: usize) -> f64 {
    let mut costs = vec![f64::INFINITY; places.len() + 1];
    costs[0] = 0.0;
    for _ in 0..k {
        let mut next = vec![f64::INFINITY; places.len() + 1];
        next[0] = 0.0;
        for from in 0..places.len() {
            let (mut mass, mut mean, mut inertia) = (0.0, 0.0, 0.0);
            // Counted from the first place: near numbers far from 0 keep their differences.
            let first = places[from][1] / places[from][0];
            for (to, [w, sum]) in places.iter().enumerate().skip(from) {
                let off = sum / w - first - mean;
                mass += w;
                mean += off * w / mass;
                inertia += w * off * (sum / w - first - mean);
                next[to + 1] = next[to + 1].min(costs[from] + inertia);
            }
        }
        costs = next;
    }
    costs[places.len()]
}

/// What holds for every codebook: entries are the means of what has their label, labels are of the nearest entry, and the inertia is
/// theirs.
fn check_fixed_point(name: &str, x: &[f32], weights: &[f32], line: &Line, labels: &[u32]) {
    assert!(line.converged, "{name}");
    assert!(line.entries.windows(2).all(|pair| pair[0] <= pair[1]), "{name}: {:?}", line.entries);
    let (mut mass, mut sum) = (vec![0.0; line.entries.len()], vec![0.0; line.entries.len()]);
    let mut inertia = 0.0;
    for (i, &label) in labels.iter().enumerate() {
        let (value, label) = (f64::from(x[i]), label as usize);
        let weight = f64::from(weights.get(i).copied().unwrap_or(1.0));
        let off = |entry: f64| (value - entry).abs();
        let nearest = line.entries.iter().position(|&e| line.entries.iter().all(|&f| off(e) <= off(f))).unwrap();
        assert_eq!(label, nearest, "{name}: number {i}, {value}, of {:?}", line.entries);
        mass[label] += weight;
        sum[label] += weight * value;
        inertia += weight * off(line.entries[label]).powi(2);
    }
    let largest = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    for (label, entry) in line.entries.iter().enumerate().filter(|(label, _)| mass[*label] > 0.0) {
        let mean = sum[label] / mass[label];
        assert!((entry - mean).abs() <= 1e-12 * mean.abs() + 1e-15 * f64::from(largest), "{name}: entry {label}");
    }
    assert!((line.inertia - inertia).abs() <= 1e-10 * inertia, "{name}: {} {inertia}", line.inertia);
}

#[test]
fn of_few_numbers_the_codebook_is_the_best_there_is() {
    for n in [1, 2, 5, 40, 200] {
        for (name, x) in sets(n) {
            let weights: Vec<f32> = normal(n, 24).iter().map(|w| (w * w).max(0.0)).collect();
            for weights in [&[][..], &weights] {
                let places = places(&x, weights);
                for k in [1, 2, 3, 7, 16, 39, n].into_iter().filter(|&k| k <= n) {
                    let name = format!("{n} numbers, {name}, {} weights, {k} entries", weights.len());
                    let (line, labels) = fitted(&x, weights, &options(k));
                    check_fixed_point(&name, &x, weights, &line, &labels);
                    let best = least(&places, k);
                    let tiny = 1e-28 * places.iter().map(|[mass, sum]| sum * sum / mass).sum::<f64>();
                    assert!(line.inertia <= best * (1.0 + 1e-9) + tiny, "{name}: {} above {best}", line.inertia);
                }
            }
        }
    }
}

/// More different numbers than a start looks at.
#[test]
fn of_many_numbers_it_is_within_a_millionth_of_the_best() {
    let n = 300_000;
    let weights: Vec<f32> = normal(n, 24).iter().map(|w| if *w < -1.0 { 0.0 } else { w * w }).collect();
    for (name, x) in sets(n) {
        for (k, weights) in [(3, &weights[..]), (16, &[][..])] {
            let places = places(&x, weights);
            let (line, labels) = fitted(&x, weights, &options(k));
            let name = format!("{name}, {} weights, {k} entries", weights.len());
            check_fixed_point(&name, &x, weights, &line, &labels);
            let prefixes = Prefixes::new(&places).unwrap();
            let (mut best, mut from) = (0.0, 0);
            for to in by_table(&prefixes, k.min(places.len()), &never).unwrap().into_iter().chain([places.len()]) {
                let sums =
                    places[from..to].iter().fold([0.0; 2], |sums, place| [sums[0] + place[0], sums[1] + place[1]]);
                let off = |[mass, sum]: &Sums| mass * (sum / mass - sums[1] / sums[0]).powi(2);
                best += places[from..to].iter().map(off).sum::<f64>();
                from = to;
            }
            assert!(line.inertia <= best * (1.0 + 1e-6), "{name}: {} above {best}", line.inertia);
        }
    }
}

#[test]
fn many_entries_are_found_as_well() {
    let x = normal(40_000, 31);
    for k in [255, 4096, 39_000] {
        let (line, labels) = fitted(&x, &[], &options(k));
        let prefixes = Prefixes::new(&places(&x, &[])).unwrap();
        assert_eq!(labels.iter().max(), Some(&(k as u32 - 1)));
        if k == 255 {
            check_fixed_point("255 of 40000", &x, &[], &line, &labels);
            let mut ends = by_table(&prefixes, k, &never).unwrap();
            ends.push(prefixes.len());
            let mut from = 0;
            let best: f64 = ends.iter().map(|&to| prefixes.cost(std::mem::replace(&mut from, to), to)).sum();
            assert!(line.inertia <= best * (1.0 + 1e-9), "{} above {best}", line.inertia);
        }
    }
}

#[test]
fn fewer_different_numbers_than_entries_have_one_each() {
    let x = [3.0f32, -0.0, 3.0, 0.0, -7.5, 3.0];
    let (line, labels) = fitted(&x, &[], &options(5));
    assert_eq!((&line.entries[..], line.inertia), (&[-7.5, 0.0, 3.0, 3.0, 3.0][..], 0.0));
    assert_eq!(labels, [2, 1, 2, 1, 0, 2]);
    // What has no weight is as if it were not there, but for its label.
    let (line, labels) = fitted(&x, &[1.0, 0.0, 1.0, 0.0, 1.0, 1.0], &options(2));
    assert_eq!((&line.entries[..], line.inertia), (&[-7.5, 3.0][..], 0.0));
    assert_eq!(labels, [1, 1, 1, 1, 0, 1]);
}

#[test]
fn the_result_is_the_same_bits_wherever_it_is_found() {
    let x = &sets(300_000)[1].1;
    let weights: Vec<f32> = normal(x.len(), 24).iter().map(|w| w * w).collect();
    for weights in [&[][..], &weights] {
        for k in [16, 300] {
            let found = |backend, threads| {
                let context = context_of(backend, threads);
                let line = fit(&context, x, weights, &options(k), &never).unwrap();
                let mut found = vec![0; x.len()];
                labels(&context, x, &line.thresholds, &mut found).unwrap();
                (line.entries, line.inertia, found)
            };
            let expected = found(Backend::Scalar, 1);
            for (backend, threads) in [(Backend::Simd, 1), (Backend::Parallel, 2), (Backend::Parallel, 5)] {
                assert!(found(backend, threads) == expected, "{backend:?} with {threads} threads");
            }
        }
    }
}

#[test]
fn the_ternary_codebook_is_the_least_squares_scheme() {
    for n in [1, 2, 3, 17, 1000, 70_001] {
        for (name, x) in sets(n).into_iter().filter(|_| n >= 3) {
            let (line, found) = fitted(&x, &[], &ternary());
            let matrix = Matrix::new(1, n, Packing::TwoBit).unwrap();
            let (mut packed, mut scale, mut trits) = (vec![0; matrix.bytes()], [0f32], vec![0i8; n]);
            let how = Quantization { scheme: Scheme::LeastSquares, ..Quantization::default() };
            quantize(&context(), &matrix, &how, &x, &mut packed, &mut scale).unwrap();
            crate::quantize::unpack(&context(), &matrix, &packed, &mut trits).unwrap();
            let own: Vec<i8> = found.iter().map(|&label| label as i8 - 1).collect();
            let a = line.entries[2];
            assert_eq!([line.entries[0], line.entries[1]], [-a, 0.0]);
            // The scheme cuts magnitudes off at 31 bits below the largest.
            let largest = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let close = (a - f64::from(scale[0])).abs() <= 1.2e-7 * a + 1e-9 * f64::from(largest);
            assert!(close, "{n} numbers, {name}: {a} and {}", scale[0]);
            assert!(own == trits, "{n} numbers, {name}: a is {a}");
            let error: f64 = x.iter().zip(&own).map(|(&x, &t)| (f64::from(x) - f64::from(t) * a).powi(2)).sum();
            assert!((line.inertia - error).abs() <= 1e-10 * error, "{name}");
        }
    }
}

#[test]
fn a_weighted_ternary_codebook_is_the_best_of_all_thresholds() {
    let x = normal(500, 41);
    let weights: Vec<f32> = normal(500, 42).iter().map(|w| if *w > 1.0 { 0.0 } else { w * w }).collect();
    let (line, found) = fitted(&x, &weights, &ternary());
    let inertia = |a: f64, h: f64| -> f64 {
        let one = |(&x, &w): (&f32, &f32)| {
            let x = f64::from(x.abs());
            f64::from(w) * (if x >= h { x - a } else { x }).powi(2)
        };
        x.iter().zip(&weights).map(one).sum()
    };
    for &h in &x {
        let h = f64::from(h.abs());
        let (mut mass, mut sum) = (0.0, 0.0);
        for (&x, &w) in x.iter().zip(&weights).filter(|(x, _)| f64::from(x.abs()) >= h) {
            (mass, sum) = (mass + f64::from(w), sum + f64::from(w) * f64::from(x.abs()));
        }
        if mass > 0.0 {
            assert!(line.inertia <= inertia(sum / mass, h) * (1.0 + 1e-12), "{h}");
        }
    }
    let trits = found.iter().map(|&label| f64::from(label) - 1.0);
    let own = x
        .iter()
        .zip(&weights)
        .zip(trits)
        .map(|((&x, &w), t)| f64::from(w) * (f64::from(x) - t * line.entries[2]).powi(2));
    assert!((own.sum::<f64>() - line.inertia).abs() <= 1e-10 * line.inertia);
    let (line, labels) = fitted(&[0.0, -0.0, 0.0, 0.0], &[], &ternary());
    assert_eq!((line.entries, line.inertia, labels), (vec![0.0; 3], 0.0, vec![1; 4]));
}

#[test]
fn nonsense_is_refused_and_named() {
    let refused = |x: &[f32], weights: &[f32], options: &LineOptions| {
        let error = fit(&context(), x, weights, options, &never).expect_err("it is wrong");
        assert_eq!(error.kind, ErrorKind::Argument, "{error}");
        error.message
    };
    let x = normal(10, 1);
    assert_eq!(refused(&x, &[], &options(0)), "k is 0, expected 1 to 65536");
    assert_eq!(refused(&x, &[], &options(65537)), "k is 65537, expected 1 to 65536");
    assert_eq!(refused(&x, &[], &options(11)), "k is 11, more entries than the 10 numbers");
    assert_eq!(refused(&[], &[], &options(1)), "k is 1, more entries than the 0 numbers");
    assert_eq!(refused(&x, &[], &LineOptions { entries: 4, ..ternary() }), "k is 4, the entries -a, 0 and a are 3");
    for (bad, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let mut x = x.clone();
        x[7] = bad;
        assert_eq!(refused(&x, &[], &options(2)), format!("x[7] is {name}, expected a finite number"));
    }
    let mut large = x.clone();
    large[4] = -3e18;
    assert_eq!(refused(&large, &[], &options(2)), "x[4] is -3e18: scale the numbers to at most 2e18");
    for (bad, name) in [(-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut weights = [1.0; 10];
        weights[3] = bad;
        assert_eq!(
            refused(&x, &weights, &options(2)),
            format!("weights[3] is {name}, expected 0 or a positive number")
        );
    }
    assert_eq!(refused(&x, &[0.0; 10], &options(2)), "all 10 weights are 0");
}

/// The token is asked all along: whenever it says so, the fit ends.
#[test]
fn a_fit_can_be_cancelled_at_any_time() {
    let x = normal(300_000, 1);
    let asked = AtomicUsize::new(0);
    let count = || asked.fetch_add(1, SeqCst) == usize::MAX;
    fit(&context(), &x, &[], &options(16), &count).unwrap();
    let all = asked.into_inner();
    assert!(all > 20, "asked {all} times");
    for stop in 0..all {
        let asked = AtomicUsize::new(0);
        // Once only: whoever has left something out gives up.
        let once = || asked.fetch_add(1, SeqCst) == stop;
        let error = fit(&context(), &x, &[], &options(16), &once).expect_err("it is cancelled");
        assert_eq!(error.kind, ErrorKind::Cancelled, "{error}");
    }
}

#[test]
fn codes_of_a_codebook_come_back_as_the_nearest_entries() {
    let x = normal(1001, 51);
    for k in [1, 2, 16, 17, 256] {
        let (line, found) = fitted(&x, &[], &options(k));
        let entries: Vec<f32> = line.entries.iter().map(|&entry| entry as f32).collect();
        let mut packed = vec![0xFF; crate::cluster::codebook_size(x.len(), k).unwrap()];
        assert_eq!(packed.len(), if k <= 16 { 501 } else { 1001 });
        pack(&context(), &x, &entries, &mut packed).unwrap();
        let mut y = vec![0.0; x.len()];
        unpack(&context(), &packed, &entries, &mut y).unwrap();
        for (i, (&x, &y)) in x.iter().zip(&y).enumerate() {
            let off = |entry: f32| (f64::from(x) - f64::from(entry)).abs();
            let nearest = *entries.iter().min_by(|&&a, &&b| off(a).total_cmp(&off(b))).unwrap();
            assert_eq!(y, nearest, "number {i} of {k}");
        }
        assert!(found.iter().zip(&y).all(|(&label, &y)| entries[label as usize] == y));
    }
}

/// Half way between two entries, exactly and beside it, and between entries that are equal.
#[test]
fn equally_near_entries_are_the_lower_one() {
    let codes = |x: &[f32], entries: &[f32]| {
        let mut packed = vec![0; x.len().div_ceil(2)];
        pack(&context(), x, entries, &mut packed).unwrap();
        (0..x.len()).map(|i| packed[i / 2] >> (4 * (i % 2)) & 15).collect::<Vec<u8>>()
    };
    let half = 0.5f32;
    assert_eq!(codes(&[half, half.next_up(), half.next_down(), -0.0], &[0.0, 1.0]), [0, 1, 0, 0]);
    // The middle of 1 and the next number is no f32: both ends keep theirs.
    let next = 1f32.next_up();
    assert_eq!(codes(&[1.0, next], &[1.0, next]), [0, 1]);
    // 2^24 + 1 is the middle of entries whose sum no f32 holds; the numbers beside it go apart.
    assert_eq!(codes(&[16_777_216.0, 16_777_218.0], &[0.0, 33_554_434.0]), [0, 1]);
    assert_eq!(codes(&[-9.0, 1.0, 1.5, 2.9, 3.0, 3.1, 9.0], &[1.0, 1.0, 5.0, 5.0, 5.0]), [0, 0, 0, 0, 0, 2, 2]);
    // An entry so small that a sum in f64 loses it decides what is just half way.
    assert_eq!(codes(&[0.5, -0.5], &[-1.0, 1e-30, 1.0]), [1, 0]);
    assert_eq!(codes(&[0.5, -0.5], &[-1.0, -1e-30, 1.0]), [2, 1]);
}

#[test]
fn codes_and_entries_that_cannot_be_are_refused() {
    let refused =
        |x: &[f32], entries: &[f32], bytes: usize| pack(&context(), x, entries, &mut vec![0; bytes]).unwrap_err();
    let x = [1.0f32, 2.0, 3.0];
    assert_eq!(refused(&x, &[], 2).message, "k is 0, expected 1 to 256");
    assert_eq!(refused(&x, &[0.0; 257], 3).message, "k is 257, expected 1 to 256");
    assert_eq!(refused(&x, &[0.0, f32::NAN], 2).message, "entries[1] is NaN, expected a finite number");
    let message = "entries[2] is 1, below entries[1], which is 2: they have to ascend";
    assert_eq!(refused(&x, &[0.0, 2.0, 1.0], 2).message, message);
    assert_eq!(refused(&x, &[0.0, 1.0], 1).message, "packed has 1 bytes, 3 codes of 2 entries take 2");
    assert_eq!(refused(&x, &[0.0, 1.0], 1).kind, ErrorKind::Shape);
    assert_eq!(refused(&[1.0, f32::NAN], &[0.0], 1).message, "x[1] is NaN, expected a finite number");
    let mut y = [7.0f32; 3];
    let error = unpack(&context(), &[0x10, 0x02], &[0.0, 1.0], &mut y).unwrap_err();
    assert_eq!(
        (error.kind, &error.message[..]),
        (ErrorKind::Format, "code 2 of packed is 2, the codebook has 2 entries")
    );
    assert_eq!(unpack(&context(), &[0x10], &[0.0, 1.0], &mut y).unwrap_err().kind, ErrorKind::Shape);
    assert_eq!(y, [7.0; 3]);
}
