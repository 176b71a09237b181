//! Codes and scales are the same on every row: one product, one rounding, no fused operation.

use super::{EXACT, SIZES, check, dirty, integers, normal};
use crate::tensor::{DType, Tensor};

fn shapes() -> impl Iterator<Item = [usize; 2]> {
    let odd = SIZES.into_iter().flat_map(|columns| [[1, columns], [5, columns]]);
    let wide = [511, 512, 513, 516, 1536, 2047, 2048, 2049, 2052, 8192, 8196].map(|columns| [3, columns]);
    odd.chain(wide).chain([[0, 8], [300, 384], [2, 40_001]])
}

fn quantized(name: &str, x: &Tensor) {
    quantized_from(name, 1e-5, x);
}

fn quantized_from(name: &str, least: f64, x: &Tensor) {
    check(name, EXACT, |row| {
        let (mut codes, mut scales) = (dirty(DType::I8, x.dims()), dirty(DType::F32, &x.dims()[..1]));
        (row.kernels.quantize_activations)(
            &row.launch,
            &x.view(),
            least,
            &mut codes.view_mut(),
            &mut scales.view_mut(),
        )?;
        Ok(vec![codes, scales])
    });
}

#[test]
fn quantize_activations() {
    for shape in shapes() {
        quantized(&format!("quantize_activations {shape:?}"), &normal(&shape, 6));
    }
}

#[test]
fn halves_round_to_even_and_extremes_are_clipped() {
    // With an absolute maximum of 127 the factor is 1: the codes are the rounded values.
    let mut x: Vec<f32> = (-254..=254).map(|i| i as f32 / 2.0).collect();
    let whole = Tensor::from_slice(&x, &[1, x.len()]).unwrap();
    quantized("quantize_activations of halves", &whole);
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX, 1e-38, 0.0, -0.0] {
        for at in [0, 40, 300, 508] {
            let old = std::mem::replace(&mut x[at], special);
            let tensor = Tensor::from_slice(&x, &[1, x.len()]).unwrap();
            quantized(&format!("quantize_activations with {special} at {at}"), &tensor);
            x[at] = old;
        }
    }
    for value in [0.0, 1e-6, -3e-7, f32::NAN, f32::INFINITY] {
        let tensor = Tensor::from_slice(&[value; 70], &[2, 35]).unwrap();
        quantized(&format!("quantize_activations of nothing but {value}"), &tensor);
    }
}

/// Where 127 / absmax is more than a float holds, every number that is not 0 is clipped.
#[test]
fn a_least_maximum_of_nothing() {
    for width in [35, 40, 600, 4000] {
        for size in [0.0, 1e-44, 1e-38, 3e-37, 1e-30] {
            let mut x = normal(&[3, width], 6);
            x.host_mut::<f32>().unwrap().iter_mut().for_each(|x| *x *= size);
            for least in [0.0, 1e-40, 1e-30] {
                quantized_from(&format!("quantize_activations of {width} times {size} from {least}"), least, &x);
            }
        }
    }
}

#[test]
fn dequantize_activations() {
    for shape in shapes() {
        let codes = integers(&shape, 7, 255, |i| (i as i32 - 127) as i8);
        let scales = normal(&shape[..1], 8);
        check(&format!("dequantize_activations {shape:?}"), EXACT, |row| {
            let mut x = dirty(DType::F32, &shape);
            (row.kernels.dequantize_activations)(&row.launch, &codes.view(), &scales.view(), &mut x.view_mut())?;
            Ok(vec![x])
        });
    }
}
