//! Forward, sums are canonical and nothing is fused: codes, scales and inverses are the same bits on every row.

use super::norm::LONG;
use super::{EXACT, SIZES, check, dirty, normal, tolerance};
use crate::tensor::{DType, Tensor};

fn shapes() -> impl Iterator<Item = [usize; 2]> {
    let odd = SIZES.into_iter().flat_map(|d| [0, 1, 3, 4, 6].map(|m| [m, d]));
    odd.chain([[768, 128], [300, 384], [3, 8192], [2, 4099], [900, 33]]).chain(LONG.map(|(m, d)| [m, d]))
}

/// Hidden values are up to some hundreds: epsilon and the least absolute maximum matter for the rows that are made small.
fn input([m, d]: [usize; 2], seed: u32) -> Tensor {
    let mut x = normal(&[m, d], seed);
    for (i, x) in x.host_mut::<f32>().unwrap().iter_mut().enumerate() {
        *x *= [1.0, 30.0, 1e-4, 1.0, 0.0][i / d.max(1) % 5];
    }
    x
}

fn outputs([m, d]: [usize; 2]) -> [Tensor; 3] {
    [dirty(DType::I8, &[m, d]), dirty(DType::F32, &[m]), dirty(DType::F32, &[m])]
}

#[test]
fn codes_are_the_same_on_every_row() {
    for shape in shapes() {
        let (x, up, gain) = (input(shape, 41), normal(&shape, 42), normal(&shape[1..], 43));
        check(&format!("rms_norm_quantize {shape:?}"), EXACT, |row| {
            let [mut codes, mut scales, mut inverse] = outputs(shape);
            let (to, scales_to) = (&mut codes.view_mut(), &mut scales.view_mut());
            let call = row.kernels.rms_norm_quantize;
            call(&row.launch, &x.view(), &gain.view(), 1e-5, to, scales_to, &mut inverse.view_mut())?;
            Ok(vec![codes, scales, inverse])
        });
        check(&format!("squared_relu_norm_quantize {shape:?}"), EXACT, |row| {
            let [mut codes, mut scales, mut inverse] = outputs(shape);
            let (to, scales_to) = (&mut codes.view_mut(), &mut scales.view_mut());
            let call = row.kernels.squared_relu_norm_quantize;
            call(&row.launch, &x.view(), &gain.view(), 1e-5, to, scales_to, &mut inverse.view_mut())?;
            Ok(vec![codes, scales, inverse])
        });
        check(&format!("gated_squared_relu_norm_quantize {shape:?}"), EXACT, |row| {
            let [mut codes, mut scales, mut inverse] = outputs(shape);
            let (to, scales_to) = (&mut codes.view_mut(), &mut scales.view_mut());
            let call = row.kernels.gated_squared_relu_norm_quantize;
            call(&row.launch, &x.view(), &up.view(), &gain.view(), 1e-5, to, scales_to, &mut inverse.view_mut())?;
            Ok(vec![codes, scales, inverse])
        });
    }
}

/// A broken value shows in the scale of its row, and in no other.
#[test]
fn what_is_not_finite() {
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        for at in [0, 50, 109] {
            let (mut x, gain) = (normal(&[3, 37], 41), normal(&[37], 43));
            x.host_mut::<f32>().unwrap()[at] = special;
            check(&format!("squared_relu_norm_quantize with {special} at {at}"), EXACT, |row| {
                let [mut codes, mut scales, mut inverse] = outputs([3, 37]);
                let (to, scales_to) = (&mut codes.view_mut(), &mut scales.view_mut());
                let call = row.kernels.squared_relu_norm_quantize;
                call(&row.launch, &x.view(), &gain.view(), 1e-5, to, scales_to, &mut inverse.view_mut())?;
                if special.is_nan() {
                    let scales = scales.host::<f32>()?;
                    assert!((0..3).all(|row| scales[row].is_nan() == (row == at / 37)), "{scales:?}");
                }
                Ok(vec![codes, scales, inverse])
            });
        }
    }
}

/// Where the squares are nothing, nor epsilon, numbers become infinite, and those that are past the end of a row stay out of it.
#[test]
fn rows_of_nothing() {
    for d in [1, 7, 9, 37, 40, 61, 392, 600, 1101, 1104, 1544, 2104] {
        let (mut x, gain) = (normal(&[3, d], 41), normal(&[d], 43));
        x.host_mut::<f32>().unwrap().iter_mut().enumerate().for_each(|(i, x)| *x = [1e-30, -1e-35, 0.0][i / d]);
        check(&format!("rms_norm_quantize of {d} without squares"), EXACT, |row| {
            let [mut codes, mut scales, mut inverse] = outputs([3, d]);
            let (to, scales_to) = (&mut codes.view_mut(), &mut scales.view_mut());
            let call = row.kernels.rms_norm_quantize;
            call(&row.launch, &x.view(), &gain.view(), 0.0, to, scales_to, &mut inverse.view_mut())?;
            assert_eq!(scales.host::<f32>()?[..2], [f32::INFINITY; 2]);
            Ok(vec![codes, scales, inverse])
        });
        let one = Tensor::from_slice(&vec![1.0; 3 * d], &[3, d]).unwrap();
        // Its square is 1e-40, that of which is nothing.
        x.host_mut::<f32>().unwrap().iter_mut().for_each(|x| *x = x.abs() * 1e10);
        check(&format!("gated_squared_relu_norm_quantize of {d} without squares"), EXACT, |row| {
            let [mut codes, mut scales, mut inverse] = outputs([3, d]);
            let (to, scales_to) = (&mut codes.view_mut(), &mut scales.view_mut());
            let call = row.kernels.gated_squared_relu_norm_quantize;
            call(&row.launch, &x.view(), &one.view(), &gain.view(), 0.0, to, scales_to, &mut inverse.view_mut())?;
            assert_eq!(scales.host::<f32>()?[0], f32::INFINITY);
            Ok(vec![codes, scales, inverse])
        });
    }
}

/// The inverse root mean squares of rows.
fn inverses(hidden: &[f32], [m, d]: [usize; 2]) -> Tensor {
    let mean = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / d as f64;
    let of_row = |row: usize| (1.0 / (mean(&hidden[row * d..(row + 1) * d]) + 1e-5).sqrt()) as f32;
    let inverses: Vec<f32> = (0..m).map(|row| if d == 0 { 1.0 } else { of_row(row) }).collect();
    Tensor::from_slice(&inverses, &[m]).unwrap()
}

#[test]
fn gradients() {
    for shape in shapes() {
        let (gate, up, gain, dy) =
            (normal(&shape, 44), normal(&shape, 45), normal(&shape[1..], 46), normal(&shape, 47));
        let pairs = gate.host::<f32>().unwrap().iter().zip(up.host::<f32>().unwrap());
        let both: Vec<(f32, f32)> = pairs.map(|(gate, up)| (gate.max(0.0).powi(2), *up)).collect();
        let plain = inverses(&both.iter().map(|(hidden, _)| *hidden).collect::<Vec<_>>(), shape);
        let gated = inverses(&both.iter().map(|(hidden, up)| hidden * up).collect::<Vec<_>>(), shape);
        let tolerance = tolerance::fused_norm_backward(shape[0]);
        check(&format!("squared_relu_norm backward {shape:?}"), tolerance, |row| {
            let (mut dx, mut dgain) = (dirty(DType::F32, &shape), normal(&shape[1..], 48));
            let (x, gain, inverse, dy) = (&gate.view(), &gain.view(), &plain.view(), &dy.view());
            let (to, dgain_to) = (&mut dx.view_mut(), &mut dgain.view_mut());
            (row.kernels.squared_relu_norm_backward)(&row.launch, x, gain, inverse, dy, to, dgain_to)?;
            Ok(vec![dx, dgain])
        });
        check(&format!("gated_squared_relu_norm backward {shape:?}"), tolerance, |row| {
            let [mut dgate, mut dup] = [dirty(DType::F32, &shape), dirty(DType::F32, &shape)];
            let mut dgain = normal(&shape[1..], 48);
            let (gate, up, gain, inverse) = (&gate.view(), &up.view(), &gain.view(), &gated.view());
            let (to_gate, to_up, to_gain) = (&mut dgate.view_mut(), &mut dup.view_mut(), &mut dgain.view_mut());
            let call = row.kernels.gated_squared_relu_norm_backward;
            call(&row.launch, gate, up, gain, inverse, &dy.view(), to_gate, to_up, to_gain)?;
            Ok(vec![dgate, dup, dgain])
        });
    }
}
