use super::super::testing::*;
use super::Groups;
use crate::backend::Launch;
use crate::tensor::random::{Purpose, Stream};

type Scheme = fn(&Launch, &View, usize, &mut ViewMut, &mut ViewMut) -> Result<()>;

fn count_scales([n, k]: [usize; 2], group: usize) -> (usize, Vec<usize>) {
    let per_row = if group == 0 { 1 } else { k.div_ceil(group) };
    if group == 0 { (1, vec![1]) } else { (n * per_row, vec![n, per_row]) }
}

/// Thresholds and scales.
fn find<T: Float>(scheme: Scheme, w: &[T], shape: [usize; 2], group: usize) -> (Vec<T>, Vec<T>) {
    let (count, dims) = count_scales(shape, group);
    let (mut thresholds, mut scales) = (of::<T>(&vec![7.0; count]), of::<T>(&vec![7.0; count]));
    scheme(
        &launch(),
        &view(w, &shape),
        group,
        &mut view_mut(&mut thresholds, &dims),
        &mut view_mut(&mut scales, &dims),
    )
    .unwrap();
    (thresholds, scales)
}

/// Threshold and scale of one group.
fn one<T: Float>(scheme: Scheme, w: &[T]) -> (T, T) {
    let (thresholds, scales) = find(scheme, w, [1, w.len()], 0);
    (thresholds[0], scales[0])
}

fn mean_above<T: Float>(w: &[T], threshold: f64) -> T {
    let (threshold, mut scale) = ([T::of(threshold)], [T::of(7.0)]);
    let (w, threshold) = (view(w, &[1, w.len()]), view(&threshold, &[1]));
    (KERNELS.mean_above)(&launch(), &w, 0, &threshold, &mut view_mut(&mut scale, &[1])).unwrap();
    scale[0]
}

fn ternarize<T: Float>(w: &[T], [n, k]: [usize; 2], group: usize, thresholds: &[T]) -> Vec<u8> {
    let mut packed = vec![0xAA; n * k.div_ceil(4)];
    let mut packed_view = view_mut(&mut packed, &[n, k.div_ceil(4)]);
    let thresholds = view(thresholds, &count_scales([n, k], group).1);
    (KERNELS.ternarize)(&launch(), &view(w, &[n, k]), group, &thresholds, &mut packed_view).unwrap();
    packed
}

fn stochastic<T: Float>(w: &[T], [n, k]: [usize; 2], group: usize, scales: &[T], seed: u64) -> Vec<i32> {
    let mut packed = vec![0xAA; n * k.div_ceil(4)];
    let mut packed_view = view_mut(&mut packed, &[n, k.div_ceil(4)]);
    let scales = view(scales, &count_scales([n, k], group).1);
    let stream = Stream::new(seed, Purpose::Test, 2, 3);
    let kernel = KERNELS.ternarize_stochastic;
    kernel(&launch(), &view(w, &[n, k]), group, &scales, stream, &mut packed_view).unwrap();
    unpack(&packed, [n, k])
}

/// Rows of trits as bytes, by the sum in the contract.
fn pack(trits: &[i32], [n, k]: [usize; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in 0..n {
        for j in 0..k.div_ceil(4) {
            let code = |i: usize| if 4 * j + i < k { trits[row * k + 4 * j + i] + 1 } else { 1 };
            bytes.push((0..4).map(|i| code(i) * 4i32.pow(i as u32)).sum::<i32>() as u8);
        }
    }
    bytes
}

fn unpack(packed: &[u8], [n, k]: [usize; 2]) -> Vec<i32> {
    let byte = |row: usize, i: usize| packed[row * k.div_ceil(4) + i / 4];
    (0..n * k).map(|i| i32::from(byte(i / k, i % k) / 4u8.pow((i % k % 4) as u32) % 4) - 1).collect()
}

/// Weights that a scheme may meet, `count` of each.
fn kinds(count: usize) -> Vec<(&'static str, Vec<f32>)> {
    let normal = of::<f32>(&numbers(31, count));
    let map = |f: &dyn Fn(f32) -> f32| normal.iter().map(|&w| f(w)).collect::<Vec<f32>>();
    let mut outlier = map(&|w| 1e-3 * w);
    if let Some(last) = outlier.last_mut() {
        *last = -1e30;
    }
    let mut zeros_and_one = vec![0.0; count];
    if let Some(first) = zeros_and_one.first_mut() {
        *first = 0.25;
    }
    vec![
        ("normal", normal.clone()),
        ("heavy tails", map(&|w| w * w * w * w * w * w * w)),
        ("tied", map(&|w| (4.0 * w).round() / 4.0)),
        ("two values", map(&|w| if w > 0.3 { 1.0 } else { -0.4 })),
        ("constant", map(&|w| if w > 0.0 { 0.7 } else { -0.7 })),
        ("denormal", map(&|w| w * 1e-40)),
        ("near the largest", map(&|w| w.clamp(-1.0, 1.0) * f32::MAX)),
        ("outlier", outlier),
        ("one that is not zero", zeros_and_one),
        ("zeros", vec![-0.0; count]),
        ("equal errors", (0..count).map(|i| ((i + 1) as f32).sqrt() - (i as f32).sqrt()).collect()),
    ]
}

#[test]
fn groups_cover_every_weight_once() {
    for (n, k) in [(0, 5), (3, 0), (1, 1), (3, 7), (2, 64), (4, 65)] {
        for group in [0, 1, 2, 7, 63, 64, 65, 1000] {
            let groups = Groups::new("test", &[n, k], group).unwrap();
            let (count, dims) = count_scales([n, k], group);
            assert_eq!(groups.count(), count, "[{n}, {k}] by {group}");
            groups.check("test", &dims).unwrap();
            let mut next = 0;
            for i in 0..groups.count() {
                let weights = groups.weights(i);
                assert_eq!(weights.start, next, "group {i} of [{n}, {k}] by {group}");
                next = weights.end;
                for at in weights {
                    assert_eq!(groups.of(at / k, at % k), i);
                    assert!(group == 0 || at / k * k.div_ceil(group) + at % k / group == i);
                }
            }
            assert_eq!(next, n * k);
        }
    }
}

#[test]
fn absmean_of_known_weights() {
    let absmean = KERNELS.absmean;
    assert_eq!(one(absmean, &[1.0f32, -2.0, 3.0, 0.0]), (0.75, 1.5));
    assert_eq!(one(absmean, &[1.0f64, -2.0, 3.0, 0.0]), (0.75, 1.5));
    assert_eq!(one(absmean, &[0.0f32; 7]), (0.5e-5, 1e-5));
    assert_eq!(one(absmean, &[1e-6f32; 7]), (0.5e-5, 1e-5));
    assert_eq!(one::<f32>(absmean, &[]), (0.5e-5, 1e-5));
}

#[test]
fn absmean_rests_on_the_canonical_sum() {
    for n in CANONICAL_SIZES.into_iter().filter(|&n| n > 0) {
        let w = of::<f32>(&numbers(7, n));
        let absolute: Vec<f32> = w.iter().map(|w| w.abs()).collect();
        let gamma = (canonical(&absolute) / n as f64) as f32;
        assert_eq!(one(KERNELS.absmean, &w), (gamma / 2.0, gamma), "{n} weights");
    }
}

/// `torch.median` returns the lower of the two in the middle.
#[test]
fn absmedian_of_known_weights() {
    let absmedian = KERNELS.absmedian;
    assert_eq!(one(absmedian, &[4.0f32, -1.0, 3.0, -2.0]), (1.0, 2.0));
    assert_eq!(one(absmedian, &[4.0f64, -1.0, 3.0, -2.0, 5.0]), (1.5, 3.0));
    assert_eq!(one(absmedian, &[-9.0f32]), (4.5, 9.0));
    assert_eq!(one(absmedian, &[0.0f32, 0.0, 9.0, 0.0]), (0.5e-5, 1e-5));
    assert_eq!(one::<f32>(absmedian, &[]), (0.5e-5, 1e-5));
    for n in 1..=70 {
        let w = of::<f32>(&numbers(32, n));
        let (_, median) = one(absmedian, &w);
        let (below, at_most) = w.iter().fold((0, 0), |(below, at_most), w| {
            (below + usize::from(w.abs() < median), at_most + usize::from(w.abs() <= median))
        });
        assert!(below <= (n - 1) / 2 && (n - 1) / 2 < at_most, "{n} weights");
    }
}

#[test]
fn mean_above_of_known_weights() {
    assert_eq!(mean_above(&[1.0f32, -2.0, 3.0, 0.5], 1.0), 2.5);
    assert_eq!(mean_above(&[1.0f64, -2.0, 3.0, 0.5], 0.0), 1.625);
    assert_eq!(mean_above(&[1.0f32, -2.0, 3.0], 3.0), 0.0);
    assert_eq!(mean_above::<f32>(&[], 3.0), 0.0);
    let w = of::<f32>(&numbers(33, 3 * 4096 + 17));
    let kept: Vec<f32> = w.iter().map(|w| if w.abs() > 0.7 { w.abs() } else { 0.0 }).collect();
    let count = kept.iter().filter(|&&w| w > 0.0).count();
    assert_eq!(mean_above(&w, f64::from(0.7f32)), (canonical(&kept) / count as f64) as f32);
}

/// Scale and threshold by the letter of the contract, with the integers taken from the bits of the weights.
fn least_squares_of_bits(w: &[f32]) -> f32 {
    let largest = w.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    // |w| = significand * 2^power, both integers.
    let parts = |w: f32| match w.abs().to_bits() >> 23 {
        0 => (w.abs().to_bits(), -149),
        field => (w.to_bits() & 0x7F_FFFF | 0x80_0000, field as i32 - 150),
    };
    let e = parts(largest).1 + 32 - parts(largest).0.leading_zeros() as i32;
    let integer = |w: &f32| {
        let ((significand, power), wide) = (parts(*w), 31 - e);
        let shift = power + wide;
        if shift >= 0 { u64::from(significand) << shift } else { u64::from(significand) >> (-shift).min(63) }
    };
    let mut m: Vec<u64> = w.iter().map(integer).collect();
    assert!((1 << 30..1 << 31).contains(m.iter().max().unwrap()));
    m.sort_by_key(|&m| std::cmp::Reverse(m));
    let (mut best, mut at) = (0.0, None);
    for k in 1..=m.len() {
        if k < m.len() && m[k - 1] == m[k] {
            continue;
        }
        let p = m[..k].iter().map(|&m| u128::from(m)).sum::<u128>() as f64;
        if p * p * (1.0 / k as f64) > best {
            (best, at) = (p * p * (1.0 / k as f64), Some((p, k)));
        }
    }
    let (p, k) = at.unwrap();
    (p / k as f64 * 2f64.powi(e - 31)) as f32
}

fn squared_error(w: &[f32], scale: f64, threshold: f64) -> f64 {
    let trit = |w: f64| f64::from(i32::from(w > threshold) - i32::from(w < -threshold));
    w.iter().map(|&w| (f64::from(w) - scale * trit(f64::from(w))).powi(2)).sum()
}

#[test]
fn least_squares_has_the_least_error_of_all() {
    for count in [1, 2, 3, 7, 64, 200] {
        for (kind, w) in kinds(count) {
            let (threshold, scale) = one(KERNELS.least_squares, &w);
            assert_eq!(scale, least_squares_of_bits(&w), "{count} {kind}");
            assert_eq!(threshold, scale / 2.0, "{count} {kind}");
            let mut sorted: Vec<f64> = w.iter().map(|w| f64::from(w.abs())).collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            // Any k weights as +-1, with the scale that is best for them.
            let least = (0..=count).map(|k| {
                let mean = sorted[..k].iter().sum::<f64>() / (k.max(1) as f64);
                let of = |(i, w): (usize, &f64)| if i < k { w - mean } else { *w };
                sorted.iter().enumerate().map(|pair| of(pair).powi(2)).sum::<f64>()
            });
            let least = least.fold(f64::INFINITY, f64::min);
            let norm: f64 = sorted.iter().map(|w| w * w).sum();
            let error = squared_error(&w, f64::from(scale), f64::from(threshold));
            // The scale is rounded to f32.
            assert!(error <= least * (1.0 + 1e-6) + norm * 1e-13 + 1e-89, "{count} {kind}: {error:e}, least {least:e}");
        }
    }
}

#[test]
fn least_squares_of_known_weights() {
    let least_squares = KERNELS.least_squares;
    assert_eq!(one(least_squares, &[1.0f32, -1.0, 0.1, 0.0]), (0.5, 1.0));
    assert_eq!(one(least_squares, &[1.0f64, -1.0, 0.1, 0.0]), (0.5, 1.0));
    assert_eq!(one(least_squares, &[0.0f32, -0.0]), (0.0, 0.0));
    assert_eq!(one::<f32>(least_squares, &[]), (0.0, 0.0));
    assert_eq!(one(least_squares, &[f32::MAX; 3]), (f32::MAX / 2.0, f32::MAX));
    assert_eq!(one(least_squares, &[1e-45f32]).1, 1e-45);
    // f is 9 for k = 1 and for k = 4 (6 * 6 / 4): the smaller k.
    assert_eq!(one(least_squares, &[3.0f32, -1.0, 1.0, -1.0]).1, 3.0);
    // f64 weights beyond the range of f32, of few bits: others are cut to 31.
    let large = 2f64.powi(700);
    assert_eq!(one(least_squares, &[3.0 * large, -large]).1, 3.0 * large);
    assert_eq!(one(least_squares, &[5e-324f64, 0.0]).1, 5e-324);
}

/// Normal weights: known relative errors of the optimum and of absmean.
#[test]
fn relative_errors_of_normal_weights() {
    let w = of::<f32>(&numbers(34, 200_000));
    let norm: f64 = w.iter().map(|&w| f64::from(w).powi(2)).sum();
    for (scheme, expected) in [(KERNELS.absmean, 0.513), (KERNELS.least_squares, 0.436)] {
        let (threshold, scale) = one(scheme, &w);
        let error = (squared_error(&w, f64::from(scale), f64::from(threshold)) / norm).sqrt();
        assert!((error - expected).abs() < 0.003, "{error}, expected {expected}");
    }
}

#[test]
fn what_is_not_finite_shows_in_the_scale_of_its_group() {
    fn check<T: Float>() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut w = of::<T>(&numbers(35, 3 * 40));
            w[40 + 33] = T::of(bad);
            for scheme in [KERNELS.absmean, KERNELS.absmedian, KERNELS.least_squares] {
                let (thresholds, scales) = find(scheme, &w, [3, 40], 32);
                let finite = scales.iter().map(|s| s.is_finite()).collect::<Vec<_>>();
                assert_eq!(finite, [true, true, true, false, true, true]);
                assert!(!thresholds[3].is_finite());
            }
            let (thresholds, mut scales) = (of::<T>(&[0.5; 6]), of::<T>(&[7.0; 6]));
            let (w, thresholds) = (view(&w, &[3, 40]), view(&thresholds, &[3, 2]));
            (KERNELS.mean_above)(&launch(), &w, 32, &thresholds, &mut view_mut(&mut scales, &[3, 2])).unwrap();
            assert!(!scales[3].is_finite() && scales[2].is_finite() && scales[4].is_finite());
        }
    }
    check::<f32>();
    check::<f64>();
}

/// Every group by itself has the scale that it has in the matrix.
#[test]
fn groups_do_not_touch_each_other() {
    let (n, k) = (3, 70);
    let w = of::<f32>(&numbers(36, n * k));
    for scheme in [KERNELS.absmean, KERNELS.absmedian, KERNELS.least_squares] {
        for group in [1, 7, 63, 64, 65, 70, 71, 1000] {
            let (thresholds, scales) = find(scheme, &w, [n, k], group);
            let parts = w.chunks(k).flat_map(|row| row.chunks(group));
            for (i, part) in parts.enumerate() {
                assert_eq!((thresholds[i], scales[i]), one(scheme, part), "group {i} of {group}");
            }
        }
    }
}

#[test]
fn trits_are_the_rounded_quotient_of_the_paper() {
    let w = of::<f32>(&numbers(8, 3 * 1001));
    let (threshold, scale) = one(KERNELS.absmean, &w);
    let quotient = |w: f32| (f64::from(w) / f64::from(scale)).round_ties_even();
    let expected: Vec<i32> = w.iter().map(|&w| quotient(w).clamp(-1.0, 1.0) as i32).collect();
    for t in [-1, 0, 1] {
        assert!(expected.iter().filter(|&&e| e == t).count() > 500);
    }
    assert_eq!(ternarize(&w, [3, 1001], 0, &[threshold]), pack(&expected, [3, 1001]));
}

#[test]
fn the_threshold_itself_is_zero() {
    let h = 0.3f32;
    let w = [h, -h, h.next_up(), -h.next_up(), h.next_down(), f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
    assert_eq!(ternarize(&w, [1, 9], 0, &[h]), pack(&[0, 0, 1, -1, 0, 0, 1, -1, 0], [1, 9]));
    // 0 + (1 << 2) + (2 << 4) + (2 << 6), then one trit and three positions past the end.
    assert_eq!(ternarize(&[-9.0f32, 0.0, 9.0, 9.0, -9.0], [1, 5], 0, &[1.0]), [164, 0b0101_0100]);
}

#[test]
fn a_group_has_its_own_threshold_and_scale() {
    let w = [1.0f32, 1.0, 1.0, -1.0, -1.0, 3.0, 3.0, 3.0, -3.0, -3.0];
    let packed = ternarize(&w, [2, 5], 2, &[0.5, 2.0, 0.5, 5.0, 1.0, 2.0]);
    assert_eq!(unpack(&packed, [2, 5]), [1, 1, 0, 0, -1, 0, 0, 1, -1, -1]);
    let (mut back, scales) = ([7.0f32; 10], [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let packed = view(&packed, &[2, 2]);
    (KERNELS.deternarize)(&launch(), &packed, 2, &view(&scales, &[2, 3]), &mut view_mut(&mut back, &[2, 5])).unwrap();
    assert_eq!(back, [1.0, 1.0, 0.0, 0.0, -3.0, 0.0, 0.0, 5.0, -5.0, -6.0]);
}

#[test]
fn deternarized_weights_are_scale_times_trit() {
    fn check<T: Float>() {
        for k in 0..=9 {
            let t: Vec<i32> = integers(9, 3 * k, 3).into_iter().map(|digit| digit as i32 - 1).collect();
            let mut w = of::<T>(&vec![7.0; 3 * k]);
            let packed = pack(&t, [3, k]);
            let (packed, scale) = (view(&packed, &[3, k.div_ceil(4)]), [T::of(0.3)]);
            let scale_view = view(&scale, &[1]);
            (KERNELS.deternarize)(&launch(), &packed, 0, &scale_view, &mut view_mut(&mut w, &[3, k])).unwrap();
            let expected: Vec<f64> = t.iter().map(|&t| f64::from(t) * scale[0].f64()).collect();
            assert_eq!(to_f64(&w), expected, "{k} columns");
            assert_eq!(ternarize(&w, [3, k], 0, &[T::of(0.15)]), pack(&t, [3, k]), "{k} columns");
        }
    }
    check::<f32>();
    check::<f64>();
}

/// The mean over seeds is w / s, within five standard deviations of a proportion; beyond the scale it is +-1.
#[test]
fn stochastic_rounding_is_right_on_average() {
    const SEEDS: u64 = 4000;
    let (w, scales) = ([0.0f32, 0.1, -0.25, 0.5, -0.9, 1.0, -7.0, 0.3, -0.3], [1.0f32, 1.0, 0.6]);
    let mut sums = [0; 9];
    for seed in 0..SEEDS {
        let trits = stochastic(&w, [1, 9], 3, &scales, seed);
        assert_eq!(trits, stochastic(&w, [1, 9], 3, &scales, seed), "the same seed, the same trits");
        sums.iter_mut().zip(trits).for_each(|(sum, t)| *sum += t);
    }
    for (i, sum) in sums.into_iter().enumerate() {
        let expected = f64::from(w[i] / scales[i / 3]).clamp(-1.0, 1.0);
        let deviation = (expected.abs() * (1.0 - expected.abs()) / SEEDS as f64).sqrt();
        let mean = f64::from(sum) / SEEDS as f64;
        assert!((mean - expected).abs() <= 5.0 * deviation, "weight {i}: {mean}, expected {expected}");
    }
}

#[test]
fn stochastic_rounding_uses_the_number_of_the_weight_in_the_matrix() {
    let (n, k, seed) = (3, 37, 11);
    let w = of::<f32>(&numbers(38, n * k));
    let stream = Stream::new(seed, Purpose::Test, 2, 3);
    let expected: Vec<i32> = w
        .iter()
        .enumerate()
        .map(|(i, &w)| if stream.uniform(i as u64) * 1.5 < w.abs() { w.signum() as i32 } else { 0 })
        .collect();
    assert!(expected.contains(&-1) && expected.contains(&0) && expected.contains(&1));
    assert_eq!(stochastic(&w, [n, k], 0, &[1.5], seed), expected);
}

#[test]
fn wrong_shapes_are_refused() {
    let call = |w: &[usize], group: usize, scales: &[usize], packed: &[usize]| {
        let (w, s, mut packed) = (zeros::<f32>(w), zeros::<f32>(scales), zeros::<u8>(packed));
        let mut w = w;
        let stream = Stream::new(0, Purpose::Test, 0, 0);
        let (weights, values) = (w.view(), s.view());
        let packed_view = &mut packed.view_mut();
        let results = [
            kind((KERNELS.ternarize)(&launch(), &weights, group, &values, packed_view)),
            kind((KERNELS.ternarize_stochastic)(&launch(), &weights, group, &values, stream, packed_view)),
            kind((KERNELS.deternarize)(&launch(), &packed.view(), group, &s.view(), &mut w.view_mut())),
        ];
        assert_eq!(results, [ErrorKind::Shape; 3]);
    };
    call(&[2, 5], 0, &[1], &[2, 1]);
    call(&[2, 5], 0, &[1], &[1, 2]);
    call(&[2, 5], 0, &[2], &[2, 2]);
    call(&[2, 5], 0, &[2, 1], &[2, 2]);
    call(&[2, 5], 5, &[1], &[2, 2]);
    call(&[2, 5], 2, &[2, 2], &[2, 2]);
    call(&[2, 5, 3], 0, &[1], &[2, 2]);
    let (w, mut right, mut wrong) = (zeros::<f32>(&[3, 4]), zeros::<f32>(&[3, 2]), zeros::<f32>(&[3, 1]));
    for scheme in [KERNELS.absmean, KERNELS.absmedian, KERNELS.least_squares] {
        let (right, wrong) = (&mut right.view_mut(), &mut wrong.view_mut());
        assert_eq!(kind(scheme(&launch(), &w.view(), 2, right, wrong)), ErrorKind::Shape);
        assert_eq!(kind(scheme(&launch(), &w.view(), 2, wrong, right)), ErrorKind::Shape);
    }
    let (h, mut s) = (zeros::<f32>(&[3, 2]), zeros::<f32>(&[3, 1]));
    let mean = kind((KERNELS.mean_above)(&launch(), &w.view(), 2, &h.view(), &mut s.view_mut()));
    assert_eq!(mean, ErrorKind::Shape);
}

#[test]
fn other_types_are_refused() {
    let tensors = || [zeros::<f32>(&[1, 4]), zeros::<f32>(&[1]), zeros::<f32>(&[1])];
    for scheme in [KERNELS.absmean, KERNELS.absmedian, KERNELS.least_squares] {
        refuses_other_types("a scheme", tensors(), |[w, h, s]| {
            scheme(&launch(), &w.view(), 0, &mut h.view_mut(), &mut s.view_mut())
        });
    }
    refuses_other_types("mean_above", tensors(), |[w, h, s]| {
        (KERNELS.mean_above)(&launch(), &w.view(), 0, &h.view(), &mut s.view_mut())
    });
    let tensors = || [zeros::<f32>(&[2, 5]), zeros::<f32>(&[1]), zeros::<u8>(&[2, 2])];
    refuses_other_types("ternarize", tensors(), |[w, h, packed]| {
        (KERNELS.ternarize)(&launch(), &w.view(), 0, &h.view(), &mut packed.view_mut())
    });
    let stream = Stream::new(0, Purpose::Test, 0, 0);
    refuses_other_types("ternarize_stochastic", tensors(), |[w, s, packed]| {
        (KERNELS.ternarize_stochastic)(&launch(), &w.view(), 0, &s.view(), stream, &mut packed.view_mut())
    });
    refuses_other_types("deternarize", tensors(), |[w, scale, packed]| {
        (KERNELS.deternarize)(&launch(), &packed.view(), 0, &scale.view(), &mut w.view_mut())
    });
}
