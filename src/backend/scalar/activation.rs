//! Activations as int8 with one scale a row.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut};

/// The least absolute maximum of a row of activations: a row of zeros quantizes to zeros.
pub const LEAST_ABSMAX: f64 = 1e-5;

pub fn quantize_activations(_: &Launch, x: &View, least: f64, codes: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(x: &View, least: f64, codes: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
        let (rows, columns) = (x.dim(0), x.dim(1));
        check("quantize_activations", rows, columns, codes.dims(), scales.count())?;
        let (x, codes, scales) = (x.slice::<T>()?, codes.slice_mut::<i8>()?, scales.slice_mut::<T>()?);
        for (row, scale) in scales.iter_mut().enumerate() {
            let x = &x[row * columns..][..columns];
            let a = x.iter().fold(T::of(least), |a, &v| larger(a, v.abs()));
            let factor = T::of(127.0) / a;
            for (code, &v) in codes[row * columns..][..columns].iter_mut().zip(x) {
                *code = (v * factor).round_half_even().f64().clamp(-127.0, 127.0) as i8;
            }
            *scale = a / T::of(127.0);
        }
        Ok(())
    }
    by_float!(x, typed(x, least, codes, scales))
}

/// The larger of two; NaN when either is.
fn larger<T: Float>(a: T, b: T) -> T {
    if a >= b || a.f64().is_nan() { a } else { b }
}

pub fn dequantize_activations(_: &Launch, codes: &View, scales: &View, x: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(codes: &View, scales: &View, x: &mut ViewMut) -> Result<()> {
        let (rows, columns) = (x.dim(0), x.dim(1));
        check("dequantize_activations", rows, columns, codes.dims(), scales.count())?;
        let (codes, scales, x) = (codes.slice::<i8>()?, scales.slice::<T>()?, x.slice_mut::<T>()?);
        for (i, (x, &code)) in x.iter_mut().zip(codes).enumerate() {
            *x = scales[i / columns] * T::of(f64::from(code));
        }
        Ok(())
    }
    by_float!(x, typed(codes, scales, x))
}

pub fn check(name: &str, rows: usize, columns: usize, codes: &[usize], scales: usize) -> Result<()> {
    ensure!(codes == [rows, columns], Shape, "{name}: x has shape [{rows}, {columns}], codes have {codes:?}");
    ensure!(scales == rows, Shape, "{name}: x has {rows} rows, scales has {scales} elements");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::LEAST_ABSMAX;

    fn quantize<T: Float>(x: &[f64], [m, k]: [usize; 2]) -> (Vec<i8>, Vec<T>) {
        let (mut codes, mut scales) = (vec![99i8; m * k], of::<T>(&vec![9.0; m]));
        let (mut codes_view, mut scales_view) = (view_mut(&mut codes, &[m, k]), view_mut(&mut scales, &[m]));
        (KERNELS.quantize_activations)(
            &launch(),
            &view(&of::<T>(x), &[m, k]),
            LEAST_ABSMAX,
            &mut codes_view,
            &mut scales_view,
        )
        .unwrap();
        (codes, scales)
    }

    #[test]
    fn halves_round_to_even() {
        let x = [127.0, 0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 126.5, -126.5, 0.49, -127.0];
        let codes = vec![127, 0, 2, 2, 4, 0, -2, -2, 126, -126, 0, -127];
        assert_eq!(quantize::<f32>(&x, [1, 12]), (codes.clone(), vec![1.0]));
        assert_eq!(quantize::<f64>(&x, [1, 12]), (codes, vec![1.0]));
    }

    #[test]
    fn what_is_not_finite_shows_in_the_scale() {
        let nan = f64::NAN;
        let (codes, scales) = quantize::<f32>(&[1.0, nan, -2.0, nan, 1.0, 2.0, 1.0, 2.0, nan, 1.0, 2.0, 4.0], [4, 3]);
        assert_eq!(codes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 64, 127]);
        assert!(scales[..3].iter().all(|scale| scale.is_nan()) && scales[3] == 4.0 / 127.0, "{scales:?}");
        let (codes, scales) = quantize::<f64>(&[1.0, f64::NEG_INFINITY, nan, f64::INFINITY, 1.0, -1.0], [2, 3]);
        assert_eq!(codes, [0; 6]);
        assert!(scales[0].is_nan() && scales[1] == f64::INFINITY, "{scales:?}");
    }

    #[test]
    fn the_absolute_maximum_is_at_least_1e_5() {
        // 1e-6 * 127 / 1e-5 = 12.7.
        let (codes, scales) = quantize::<f32>(&[1e-6, -1e-6, 0.0, 0.0, 0.0, 0.0], [2, 3]);
        assert_eq!(codes, [13, -13, 0, 0, 0, 0]);
        assert_eq!(scales, [1e-5f32 / 127.0; 2]);
        // Just above the floor the row's own maximum counts.
        let (codes, scales) = quantize::<f32>(&[2e-5, -1e-5], [1, 2]);
        assert_eq!((codes, scales), (vec![127, -64], vec![2e-5f32 / 127.0]));
    }

    #[test]
    fn codes_are_the_formula_of_each_row() {
        for (m, k) in [(1, 1), (3, 7), (5, 64), (2, 257)] {
            let x = numbers(5, m * k);
            let (codes, scales) = quantize::<f32>(&x, [m, k]);
            let (codes_64, scales_64) = quantize::<f64>(&x, [m, k]);
            for i in 0..m {
                let row = &x[i * k..][..k];
                let a = row.iter().map(|x| x.abs()).max_by(f64::total_cmp).unwrap();
                assert_eq!(scales[i], a as f32 / 127.0);
                assert_eq!(scales_64[i], a / 127.0);
                for (j, &x) in row.iter().enumerate() {
                    let factor = 127.0 / a as f32;
                    assert_eq!(f32::from(codes[i * k + j]), (x as f32 * factor).round_ties_even());
                    assert_eq!(f64::from(codes_64[i * k + j]), (x * (127.0 / a)).round_ties_even());
                }
                // The largest element of a row always takes the largest code.
                assert!(codes[i * k..][..k].iter().any(|q| q.abs() == 127));
            }
        }
    }

    #[test]
    fn dequantized_activations_are_half_a_step_away() {
        fn check<T: Float>() {
            let (m, k) = (4, 33);
            let x = numbers(6, m * k);
            let (codes, scales) = quantize::<T>(&x, [m, k]);
            let mut y = of::<T>(&vec![9.0; m * k]);
            let mut y_view = view_mut(&mut y, &[m, k]);
            (KERNELS.dequantize_activations)(&launch(), &view(&codes, &[m, k]), &view(&scales, &[m]), &mut y_view)
                .unwrap();
            for i in 0..m * k {
                let step = scales[i / k].f64();
                assert_eq!(y[i].f64(), (scales[i / k] * T::of(f64::from(codes[i]))).f64());
                assert!((y[i].f64() - x[i]).abs() <= step * 0.5001, "element {i}");
            }
        }
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn empty_matrices_and_wrong_shapes() {
        assert_eq!(quantize::<f32>(&[], [0, 5]), (vec![], vec![]));
        assert_eq!(quantize::<f32>(&[], [2, 0]), (vec![], vec![1e-5f32 / 127.0; 2]));
        let dequantize = |codes: &[i8], dims: &[usize], scales: &[f32], x: &mut [f32], x_dims: &[usize]| {
            let (codes, scales) = (view(codes, dims), view(scales, &[scales.len()]));
            (KERNELS.dequantize_activations)(&launch(), &codes, &scales, &mut view_mut(x, x_dims))
        };
        dequantize(&[], &[2, 0], &[1.0; 2], &mut [], &[2, 0]).unwrap();
        assert_eq!(kind(dequantize(&[1; 6], &[2, 3], &[1.0; 3], &mut [0.0; 6], &[2, 3])), ErrorKind::Shape);
        assert_eq!(kind(dequantize(&[1; 6], &[3, 2], &[1.0; 2], &mut [0.0; 6], &[2, 3])), ErrorKind::Shape);
        let (mut codes, mut scales) = ([0i8; 4], [0.0f32; 2]);
        let (mut codes, mut scales) = (view_mut(&mut codes, &[2, 2]), view_mut(&mut scales, &[2]));
        let wrong =
            (KERNELS.quantize_activations)(&launch(), &view(&[1.0f32; 6], &[2, 3]), 1e-5, &mut codes, &mut scales);
        assert_eq!(kind(wrong), ErrorKind::Shape);
    }

    #[test]
    fn other_types_are_refused() {
        let tensors = || [zeros::<f32>(&[2, 3]), zeros::<i8>(&[2, 3]), zeros::<f32>(&[2])];
        refuses_other_types("quantize_activations", tensors(), |[x, codes, scales]| {
            (KERNELS.quantize_activations)(&launch(), &x.view(), 1e-5, &mut codes.view_mut(), &mut scales.view_mut())
        });
        refuses_other_types("dequantize_activations", tensors(), |[x, codes, scales]| {
            (KERNELS.dequantize_activations)(&launch(), &codes.view(), &scales.view(), &mut x.view_mut())
        });
    }
}
