//! Schemes, groups and roundings through the verb.

use super::*;

const SCHEMES: [Scheme; 4] = [Scheme::Absmean, Scheme::Absmedian, Scheme::LeastSquares, Scheme::Threshold(0.02)];

fn groups() -> impl Iterator<Item = Group> {
    [Group::Matrix, Group::Row].into_iter().chain([1, 7, 32, 63, 64, 65, 128, 257, 1000].map(Group::Columns))
}

fn hows() -> impl Iterator<Item = Quantization> {
    let roundings = [Rounding::Nearest, Rounding::Stochastic { seed: 3 }];
    let schemes = SCHEMES.into_iter().flat_map(move |scheme| roundings.map(|rounding| (scheme, rounding)));
    schemes.flat_map(|(scheme, rounding)| groups().map(move |group| Quantization { scheme, group, rounding }))
}

struct Quantized {
    trits: Vec<i8>,
    scales: Vec<f32>,
    packed: Vec<u8>,
}

fn quantized(context: &Context, matrix: &Matrix, how: &Quantization, weights: &[f32]) -> Quantized {
    let mut packed = vec![0xEE; matrix.bytes()];
    let mut scales = vec![f32::NAN; how.group.scale_count(matrix.rows(), matrix.columns())];
    let used = quantize(context, matrix, how, weights, &mut packed, &mut scales).unwrap();
    packed.truncate(used);
    let mut trits = vec![0; weights.len()];
    unpack(context, matrix, &packed, &mut trits).unwrap();
    Quantized { trits, scales, packed }
}

/// The scale of a weight.
fn scale_of(scales: &[f32], group: Group, [rows, columns]: [usize; 2], i: usize) -> f32 {
    match group {
        Group::Matrix => scales[0],
        _ => scales[i / columns * (scales.len() / rows) + i % columns / group.width(columns).min(columns)],
    }
}

#[test]
fn every_scheme_is_the_same_on_every_row_and_in_every_packing() {
    let (rows, columns) = (5, 258);
    let weights = normal(rows * columns, 21, 0.03);
    let contexts = contexts();
    for how in hows() {
        let mut first: Option<(Vec<i8>, Vec<u32>)> = None;
        for context in &contexts {
            for packing in BOTH {
                let matrix = Matrix::new(rows, columns, packing).unwrap();
                let Quantized { trits, scales, packed } = quantized(context, &matrix, &how, &weights);
                let mut restored = vec![f32::NAN; weights.len()];
                dequantize(context, &matrix, how.group, &packed, &scales, &mut restored).unwrap();
                for (i, (&w, &t)) in restored.iter().zip(&trits).enumerate() {
                    let scale = scale_of(&scales, how.group, [rows, columns], i);
                    assert_eq!(w, scale * f32::from(t), "{how:?}, weight {i}");
                    if how.rounding == Rounding::Nearest {
                        let h = if let Scheme::Threshold(h) = how.scheme { h } else { scale / 2.0 };
                        let expected = i8::from(weights[i] > h) - i8::from(weights[i] < -h);
                        assert_eq!(t, expected, "{how:?}, weight {i}");
                    }
                }
                let bits = scales.iter().map(|scale| scale.to_bits()).collect();
                let found = (trits, bits);
                assert!(*first.get_or_insert_with(|| found.clone()) == found, "{how:?}, {packing:?}");
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_named_under_every_scheme_and_nothing_is_written() {
    let (rows, columns) = (4, 300);
    for context in contexts() {
        for how in hows() {
            for (index, bad) in [(0, f32::NAN), (777, f32::INFINITY), (1199, f32::NEG_INFINITY)] {
                let matrix = Matrix::new(rows, columns, Packing::TwoBit).unwrap();
                let mut weights = normal(rows * columns, 22, 1.0);
                weights[index] = bad;
                weights[1199] = bad;
                let mut packed = vec![0xEE; matrix.bytes()];
                let mut scales = vec![-7.0; how.group.scale_count(rows, columns)];
                let error = quantize(&context, &matrix, &how, &weights, &mut packed, &mut scales).unwrap_err();
                let expected = format!("weights[{index}] is {bad}, expected a finite number");
                assert_eq!((error.kind, error.message), (ErrorKind::Argument, expected), "{how:?}");
                assert!(packed.iter().all(|&byte| byte == 0xEE) && scales.iter().all(|&scale| scale == -7.0));
            }
        }
    }
}

#[test]
fn a_mean_beyond_f32_names_its_group_and_ranks_have_none() {
    let matrix = Matrix::new(3, 256, Packing::TwoBit).unwrap();
    let mut weights = vec![1.0; matrix.count()];
    weights[256..512].fill(f32::MAX);
    for context in contexts() {
        let mut how = Quantization { group: Group::Row, ..Quantization::default() };
        let (mut packed, mut scales) = (vec![0xEE; matrix.bytes()], vec![-7.0; 3]);
        let error = quantize(&context, &matrix, &how, &weights, &mut packed, &mut scales).unwrap_err();
        assert_eq!(error.message, "the mean magnitude of weights in group 1 is inf, too large for f32");
        assert!(packed.iter().all(|&byte| byte == 0xEE) && scales == [-7.0; 3]);
        for scheme in [Scheme::Absmedian, Scheme::LeastSquares] {
            how.scheme = scheme;
            assert_eq!(quantized(&context, &matrix, &how, &weights).scales, [1.0, f32::MAX, 1.0]);
        }
    }
}

#[test]
fn thresholds_and_counts_that_cannot_be_are_refused() {
    for context in contexts() {
        let matrix = Matrix::new(2, 8, Packing::TwoBit).unwrap();
        let mut packed = vec![0xEE; matrix.bytes()];
        for (threshold, said) in [(-0.5, "-0.5"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
            let how = Quantization { scheme: Scheme::Threshold(threshold), ..Quantization::default() };
            let error = quantize(&context, &matrix, &how, &[1.0; 16], &mut packed, &mut [0.0]).unwrap_err();
            assert_eq!(error.message, format!("threshold is {said}, expected a finite number of 0 or more"));
        }
        let how = Quantization { group: Group::Columns(5), ..Quantization::default() };
        let error = quantize(&context, &matrix, &how, &[1.0; 16], &mut packed, &mut [0.0; 2]).unwrap_err();
        assert_eq!((error.kind, error.message.contains("[2, 8] weights have 4 scales")), (ErrorKind::Shape, true));
        let error = dequantize(&context, &matrix, Group::Row, &packed, &[0.0], &mut [0.0; 16]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Shape);
        let packed = [0x55; 4];
        let scales = [1.0, 1.0, f32::NAN, f32::INFINITY];
        let error = dequantize(&context, &matrix, how.group, &packed, &scales, &mut [0.0; 16]).unwrap_err();
        assert_eq!(error.message, "scales[2] is NaN, expected a finite number");
    }
}

#[test]
fn a_matrix_without_weights_has_the_scales_of_empty_groups() {
    for context in contexts() {
        for (rows, columns) in [(0, 0), (0, 9), (3, 0)] {
            for how in hows() {
                let matrix = Matrix::new(rows, columns, Packing::TwoBit).unwrap();
                let expected = match how.scheme {
                    Scheme::Absmean | Scheme::Absmedian => 1e-5,
                    Scheme::LeastSquares | Scheme::Threshold(_) => 0.0,
                };
                let found = quantized(&context, &matrix, &how, &[]).scales;
                assert_eq!(found.len(), how.group.scale_count(rows, columns));
                assert!(found.iter().all(|&scale| scale == expected), "{how:?}: {found:?}");
                dequantize(&context, &matrix, how.group, &[], &found, &mut []).unwrap();
            }
        }
    }
}

#[test]
fn random_rounding_is_a_function_of_the_seed_and_right_on_average() {
    const SEEDS: u64 = 600;
    let context = &contexts()[1];
    let matrix = Matrix::new(2, 100, Packing::TwoBit).unwrap();
    let weights = normal(200, 23, 1.0);
    let how = |seed| Quantization {
        scheme: Scheme::Absmean,
        group: Group::Columns(50),
        rounding: Rounding::Stochastic { seed },
    };
    let mut sums = [0.0; 200];
    for seed in 0..SEEDS {
        let Quantized { trits, scales, .. } = quantized(context, &matrix, &how(seed), &weights);
        for (i, &t) in trits.iter().enumerate() {
            sums[i] += f64::from(t) * f64::from(scales[i / 50]);
        }
    }
    let Quantized { trits, scales, .. } = quantized(context, &matrix, &how(1), &weights);
    assert_eq!(trits, quantized(context, &matrix, &how(1), &weights).trits);
    assert_ne!(trits, quantized(context, &matrix, &how(2), &weights).trits);
    for (i, sum) in sums.into_iter().enumerate() {
        let (w, s) = (f64::from(weights[i]), f64::from(scales[i / 50]));
        let expected = w.clamp(-s, s);
        let deviation = (expected.abs() * (s - expected.abs()).max(0.0) / SEEDS as f64).sqrt();
        let mean = sum / SEEDS as f64;
        assert!((mean - expected).abs() <= 5.0 * deviation + 1e-9, "weight {i}: {mean}, expected {expected}");
    }
}

#[test]
fn a_report_is_what_its_fields_say() {
    let (rows, columns) = (7, 130);
    let weights = normal(rows * columns, 24, 0.3);
    let contexts = contexts();
    for packing in BOTH {
        for group in groups() {
            let how = Quantization { scheme: Scheme::LeastSquares, group, ..Quantization::default() };
            let matrix = Matrix::new(rows, columns, packing).unwrap();
            let Quantized { trits, scales, packed } = quantized(&contexts[0], &matrix, &how, &weights);
            let restored = |i: usize| scale_of(&scales, group, [rows, columns], i) * f32::from(trits[i]);
            let pairs = weights.iter().enumerate().map(|(i, &w)| (f64::from(w), f64::from(restored(i))));
            let (error, norm) = pairs.fold((0.0, 0.0), |(e, n), (w, r)| (e + (w - r).powi(2), n + w * w));
            let zeros = trits.iter().filter(|&&t| t == 0).count() as f64 / trits.len() as f64;
            let bytes = packed.len() + 4 * scales.len();
            for context in &contexts {
                let report = measure(context, &matrix, group, &weights, &packed, &scales).unwrap();
                assert!((report.relative_rmse - (error / norm).sqrt()).abs() < 1e-12, "{report:?}");
                assert_eq!((report.zero_fraction, report.scale_count, report.bytes), (zeros, scales.len(), bytes));
                assert_eq!(report.bits_per_weight, 8.0 * bytes as f64 / 910.0);
                assert_eq!(report.ratio, 3640.0 / bytes as f64);
                // Nothing takes less than the entropy of its symbols; no three symbols have more than log2(3).
                let single = group == Group::Columns(1);
                assert!(report.entropy < 3f64.log2() && report.entropy > if single { 0.9 } else { 1.2 }, "{report:?}");
                assert!(packing != Packing::FivePerByte || 8.0 * packed.len() as f64 / 910.0 > report.entropy);
            }
        }
    }
}

#[test]
fn reports_of_known_trits() {
    for context in contexts() {
        let of = |weights: &[f32], trits: &[i8], scale: f32| {
            let matrix = Matrix::new(1, weights.len(), Packing::TwoBit).unwrap();
            let mut packed = vec![0; matrix.bytes()];
            pack(&context, &matrix, trits, &mut packed).unwrap();
            measure(&context, &matrix, Group::Matrix, weights, &packed, &[scale])
        };
        let even = of(&[0.5, -0.5, 0.5, -0.5], &[1, -1, 1, -1], 0.5).unwrap();
        assert_eq!((even.relative_rmse, even.entropy, even.zero_fraction), (0.0, 1.0, 0.0));
        assert_eq!((even.bytes, even.bits_per_weight, even.ratio), (5, 10.0, 3.2));
        let nothing = of(&[3.0, -4.0], &[0, 0], 1.0).unwrap();
        assert_eq!((nothing.relative_rmse, nothing.entropy, nothing.zero_fraction), (1.0, 0.0, 1.0));
        let zeros = of(&[0.0, 0.0], &[0, 0], 1.0).unwrap();
        assert_eq!((zeros.relative_rmse, zeros.entropy), (0.0, 0.0));
        assert_eq!(of(&[0.0, 0.0], &[1, 0], 1.0).unwrap().relative_rmse, f64::INFINITY);
        let empty = of(&[], &[], 1.0).unwrap();
        assert_eq!(
            (empty.relative_rmse, empty.zero_fraction, empty.bits_per_weight, empty.ratio),
            (0.0, 0.0, 0.0, 0.0)
        );
        assert_eq!(
            of(&[1.0, f32::NAN], &[1, 0], 1.0).unwrap_err().message,
            "weights[1] is NaN, expected a finite number"
        );
        assert_eq!(of(&[1.0], &[1], f32::NAN).unwrap_err().message, "scales[0] is NaN, expected a finite number");
    }
}

/// Of normal weights in a matrix of a real size.
#[test]
fn relative_errors_of_a_large_normal_matrix() {
    let context = &contexts()[2];
    let matrix = Matrix::new(4096, 4096, Packing::TwoBit).unwrap();
    let weights = normal(matrix.count(), 25, 0.02);
    let error = |scheme, group| {
        let how = Quantization { scheme, group, ..Quantization::default() };
        let Quantized { scales, packed, .. } = quantized(context, &matrix, &how, &weights);
        measure(context, &matrix, group, &weights, &packed, &scales).unwrap()
    };
    let absmean = error(Scheme::Absmean, Group::Matrix);
    assert!(
        (absmean.relative_rmse - 0.513).abs() < 1e-3 && (absmean.zero_fraction - 0.310).abs() < 1e-3,
        "{absmean:?}"
    );
    let least = error(Scheme::LeastSquares, Group::Matrix);
    assert!((least.relative_rmse - 0.436).abs() < 1e-3 && (least.zero_fraction - 0.459).abs() < 2e-3, "{least:?}");
    // More scales fit better, though not by much where all groups are alike.
    let groups = error(Scheme::LeastSquares, Group::Columns(128));
    assert!(groups.relative_rmse < least.relative_rmse && groups.relative_rmse > 0.42, "{groups:?}");
}
