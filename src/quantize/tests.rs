//! The verb on every row that a context can have: exact answers, agreement between packings and rows, refusals.

mod scheme;

use super::*;
use crate::backend::{Backend, ContextOptions};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{ErrorKind, ViewMut};
use std::sync::Arc;

const BOTH: [Packing; 2] = [Packing::TwoBit, Packing::FivePerByte];

fn contexts() -> Vec<Arc<Context>> {
    [Backend::Scalar, Backend::Simd, Backend::Parallel]
        .into_iter()
        .map(|backend| {
            let options = ContextOptions { backend: Some(backend), threads: 2, ..ContextOptions::default() };
            Arc::new(Context::new(&options).unwrap())
        })
        .collect()
}

fn normal(count: usize, seed: u64, deviation: f32) -> Vec<f32> {
    let stream = Stream::new(seed, Purpose::Test, 0, 0);
    (0..count as u64).map(|i| stream.normal(i) * deviation).collect()
}

/// By the default options; returns the scale.
fn absmean(context: &Context, matrix: &Matrix, weights: &[f32], packed: &mut [u8]) -> Result<f32> {
    let mut scale = [-7.0];
    let used = quantize(context, matrix, &Quantization::default(), weights, packed, &mut scale);
    assert!(used.is_ok() || scale == [-7.0]);
    assert_eq!(used?, matrix.bytes());
    Ok(scale[0])
}

/// Trits and scale by their definition: gamma = mean |w| in f64, t = (w > gamma / 2) - (w < -gamma / 2).
fn defined(weights: &[f32]) -> (Vec<i8>, f64) {
    let gamma = weights.iter().map(|w| f64::from(w.abs())).sum::<f64>() / weights.len() as f64;
    let trit = |&w: &f32| i8::from(f64::from(w) > gamma / 2.0) - i8::from(f64::from(w) < -gamma / 2.0);
    (weights.iter().map(trit).collect(), gamma)
}

#[test]
fn quantizing_follows_the_definition() {
    for context in contexts() {
        for packing in BOTH {
            let matrix = Matrix::new(33, 130, packing).unwrap();
            let weights = normal(matrix.count(), 1, 0.05);
            let mut packed = vec![0; matrix.bytes()];
            let scale = absmean(&context, &matrix, &weights, &mut packed).unwrap();
            let (trits, gamma) = defined(&weights);
            assert!((f64::from(scale) - gamma).abs() < 1e-6 * gamma, "scale {scale}, defined {gamma}");
            let mut found = vec![0; trits.len()];
            unpack(&context, &matrix, &packed, &mut found).unwrap();
            assert_eq!(found, trits);
            let mut restored = vec![0.0; trits.len()];
            dequantize(&context, &matrix, Group::Matrix, &packed, &[scale], &mut restored).unwrap();
            assert!(restored.iter().zip(&trits).all(|(&w, &t)| w == scale * f32::from(t)));
        }
    }
}

/// With one scale.
fn weights_of<'a>(matrix: &Matrix, packed: &'a [u8], scales: &'a [f32]) -> Weights<'a> {
    Weights { matrix: *matrix, group: Group::Matrix, packed, scales }
}

/// In every packing, by the formula, and through a packed tensor; a row of x that is not finite is named.
#[test]
fn products_with_groups_add_the_sums_of_groups_in_order() {
    let (m, n, k) = (3, 21, 300);
    let (w, mut x) = (normal(n * k, 8, 0.1), normal(m * k, 9, 2.0));
    for context in contexts() {
        let (mut codes, mut of_rows) = (vec![0i8; m * k], vec![0f32; m]);
        quantize_activations(&context, &x, m, k, &mut codes, &mut of_rows).unwrap();
        for packing in Packing::ALL {
            for group in [Group::Row, Group::Columns(32), Group::Columns(50), Group::Columns(128)] {
                let (matrix, how) = (Matrix::new(n, k, packing).unwrap(), Quantization { group, ..Default::default() });
                let (mut packed, mut scales) = (vec![0; matrix.bytes()], vec![0.0; group.scale_count(n, k)]);
                let used = quantize(&context, &matrix, &how, &w, &mut packed, &mut scales).unwrap();
                packed.truncate(used);
                let mut trits = vec![0; n * k];
                unpack(&context, &matrix, &packed, &mut trits).unwrap();
                let weights = Weights { matrix, group, packed: &packed, scales: &scales };
                let mut y = vec![-7.0; m * n];
                matmul(&context, &weights, &x, m, &mut y).unwrap();
                let (width, per_row) = (group.width(k), scales.len() / n);
                for (i, &y) in y.iter().enumerate() {
                    let (row, column) = (i / n, i % n);
                    let sum = |columns: std::ops::Range<usize>| {
                        let product = |j: usize| i32::from(codes[row * k + j]) * i32::from(trits[column * k + j]);
                        columns.map(product).sum::<i32>() as f32
                    };
                    let parts = (0..per_row).map(|g| (scales[column * per_row + g], g * width..k.min((g + 1) * width)));
                    let expected = match group {
                        Group::Row => sum(0..k) * (of_rows[row] * scales[column]),
                        _ => parts.fold(0.0, |total, (scale, columns)| total + sum(columns) * scale) * of_rows[row],
                    };
                    assert_eq!(y, expected, "{packing:?}, {group:?}, row {row}, column {column}");
                }
                let tensor =
                    PackedTensor::new(context.clone(), &View::of(&w, &[n, k]).unwrap(), packing, &how).unwrap();
                let (mut held, mut again) = (vec![0.0; scales.len()], vec![0.0; m * n]);
                tensor.scales(&mut held).unwrap();
                assert_eq!((&held, tensor.bytes()), (&scales, used));
                let (x_view, mut to) = (View::of(&x, &[m, k]).unwrap(), ViewMut::of(&mut again, &[m, n]).unwrap());
                tensor.matmul(&x_view, &mut to).unwrap();
                assert_eq!(again, y);
            }
        }
    }
    x[k + 5] = f32::NAN;
    let matrix = Matrix::new(n, k, Packing::TwoBit).unwrap();
    let (packed, mut y) = (vec![0x55; matrix.bytes()], vec![-7.0; m * n]);
    for context in contexts() {
        let error = matmul(&context, &weights_of(&matrix, &packed, &[1.0]), &x, m, &mut y).unwrap_err();
        assert!(error.message.starts_with(&format!("x[{}]", k + 5)), "{}", error.message);
        assert!(y.iter().all(|&y| y == -7.0));
    }
}

#[test]
fn products_sum_integers_exactly() {
    let (m, n, k) = (5, 19, 300);
    let (weights, x) = (normal(n * k, 2, 0.1), normal(m * k, 3, 2.0));
    let mut first: Option<Vec<f32>> = None;
    for context in contexts() {
        let (mut codes, mut scales) = (vec![0i8; m * k], vec![0f32; m]);
        quantize_activations(&context, &x, m, k, &mut codes, &mut scales).unwrap();
        for packing in BOTH {
            let matrix = Matrix::new(n, k, packing).unwrap();
            let mut packed = vec![0; matrix.bytes()];
            let scale = absmean(&context, &matrix, &weights, &mut packed).unwrap();
            let mut trits = vec![0; n * k];
            unpack(&context, &matrix, &packed, &mut trits).unwrap();
            let mut y = vec![0.0; m * n];
            matmul(&context, &weights_of(&matrix, &packed, &[scale]), &x, m, &mut y).unwrap();
            for (i, &y) in y.iter().enumerate() {
                let (row, column) = (i / n, i % n);
                let products = (0..k).map(|j| i32::from(codes[row * k + j]) * i32::from(trits[column * k + j]));
                let expected = products.sum::<i32>() as f32 * (scales[row] * scale);
                assert_eq!(y, expected, "row {row}, column {column}");
            }
            assert_eq!(first.get_or_insert_with(|| y.clone()), &y, "{packing:?} on {}", context.backend().name());
        }
    }
}

#[test]
fn the_gradient_to_the_input_is_the_product_with_the_weights() {
    let (m, n, k) = (3, 70, 33);
    let (weights, dy) = (normal(n * k, 4, 1.0), normal(m * n, 5, 1.0));
    for context in contexts() {
        for packing in BOTH {
            let matrix = Matrix::new(n, k, packing).unwrap();
            let mut packed = vec![0; matrix.bytes()];
            let scale = absmean(&context, &matrix, &weights, &mut packed).unwrap();
            let mut restored = vec![0.0; n * k];
            dequantize(&context, &matrix, Group::Matrix, &packed, &[scale], &mut restored).unwrap();
            let mut dx = vec![0.0; m * k];
            matmul_backward(&context, &weights_of(&matrix, &packed, &[scale]), &dy, m, &mut dx).unwrap();
            for (i, &dx) in dx.iter().enumerate() {
                let (row, column) = (i / k, i % k);
                let terms = (0..n).map(|j| f64::from(dy[row * n + j]) * f64::from(restored[j * k + column]));
                let expected: f64 = terms.sum();
                // n terms of magnitude about 1, each rounded to f32.
                assert!((f64::from(dx) - expected).abs() < 70.0 * 1e-6, "dx {dx}, expected {expected}");
            }
        }
    }
}

#[test]
fn a_packed_tensor_is_its_matrix() {
    let (m, n, k) = (4, 9, 21);
    let (weights, x) = (normal(n * k, 6, 0.3), normal(m * k, 7, 1.0));
    for context in contexts() {
        for packing in BOTH {
            let matrix = Matrix::new(n, k, packing).unwrap();
            let mut packed = vec![0; matrix.bytes()];
            let scale = absmean(&context, &matrix, &weights, &mut packed).unwrap();
            let mut expected = vec![0.0; m * n];
            matmul(&context, &weights_of(&matrix, &packed, &[scale]), &x, m, &mut expected).unwrap();
            let w = View::of(&weights, &[n, k]).unwrap();
            let tensor = PackedTensor::new(context.clone(), &w, packing, &Quantization::default()).unwrap();
            let mut held = [0.0];
            tensor.scales(&mut held).unwrap();
            assert_eq!((held[0], tensor.bytes()), (scale, matrix.bytes()));
            let mut y = vec![0.0; m * n];
            tensor.matmul(&View::of(&x, &[2, 2, k]).unwrap(), &mut ViewMut::of(&mut y, &[2, 2, n]).unwrap()).unwrap();
            assert_eq!(y, expected);
        }
    }
}

#[test]
fn what_is_not_finite_is_named_and_nothing_is_written() {
    for context in contexts() {
        let matrix = Matrix::new(50, 40, Packing::TwoBit).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for index in [0, 1234, 1999] {
                let mut weights = normal(2000, 8, 1.0);
                weights[index] = bad;
                *weights.last_mut().unwrap() = bad;
                let mut packed = vec![0xEE; matrix.bytes()];
                let error = absmean(&context, &matrix, &weights, &mut packed).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Argument);
                assert!(error.message.starts_with(&format!("weights[{index}] is ")), "{}", error.message);
                assert!(packed.iter().all(|&byte| byte == 0xEE));
            }
        }
    }
}

#[test]
fn a_mean_beyond_f32_is_refused() {
    for context in contexts() {
        let matrix = Matrix::new(1, 4096, Packing::TwoBit).unwrap();
        let mut packed = vec![0xEE; matrix.bytes()];
        let error = absmean(&context, &matrix, &[f32::MAX; 4096], &mut packed).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Argument);
        assert!(error.message.contains("too large for f32"), "{}", error.message);
        assert!(packed.iter().all(|&byte| byte == 0xEE));
    }
}

#[test]
fn gradients_have_the_same_codes_on_every_row_and_come_back_within_a_step() {
    let g = normal(1000, 9, 0.01);
    let stream = Stream::new(3, Purpose::Gradient, 4, 5);
    let mut first: Option<(Vec<i8>, Vec<f32>)> = None;
    for context in contexts() {
        let (mut codes, mut scales, mut restored) = (vec![0i8; 1000], vec![0f32; 4], vec![0f32; 1000]);
        quantize_gradients(&context, &g, 256, stream, &mut codes, &mut scales).unwrap();
        dequantize_gradients(&context, &codes, &scales, 256, &mut restored).unwrap();
        for (i, (&g, &r)) in g.iter().zip(&restored).enumerate() {
            assert!((g - r).abs() <= scales[i / 256] * 1.000_01, "element {i}: {g} came back as {r}");
        }
        // What the trainer does to a gradient is this and nothing else.
        let mut tensor = crate::tensor::Tensor::from_slice(&g, &[10, 100]).unwrap();
        GradientCodes::int8(&context, 2000).unwrap().pass(&context, 0, stream, &mut tensor).unwrap();
        assert_eq!(tensor.host::<f32>().unwrap(), restored);
        assert_eq!(first.get_or_insert_with(|| (codes.clone(), scales.clone())), &(codes, scales));
    }
}

#[test]
fn gradients_that_are_not_finite_are_named_and_nothing_is_written() {
    let stream = Stream::new(3, Purpose::Gradient, 4, 5);
    for context in contexts() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut g = normal(300, 9, 1.0);
            g[271] = bad;
            let (mut codes, mut scales) = (vec![7i8; 300], vec![7f32; 2]);
            let error = quantize_gradients(&context, &g, 256, stream, &mut codes, &mut scales).unwrap_err();
            assert_eq!(error.message, format!("g[271] is {bad}, expected a finite number"));
            assert!(codes.iter().all(|&code| code == 7) && scales == [7.0; 2]);
            scales[1] = bad;
            let error = dequantize_gradients(&context, &codes, &scales, 256, &mut g).unwrap_err();
            assert_eq!(error.message, format!("scales[1] is {bad}, expected a finite number"));
        }
        let sizes = quantize_gradients(&context, &[0.0; 300], 256, stream, &mut [0; 300], &mut [0.0; 3]);
        assert_eq!(sizes.unwrap_err().kind, ErrorKind::Shape);
        for block in [0, 16, 33] {
            let error = quantize_gradients(&context, &[0.0; 3], block, stream, &mut [0; 3], &mut [0.0]).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Argument, "{error}");
        }
    }
}
