//! RMSNorm (Zhang & Sennrich, arXiv 1910.07467) and its gradient.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut};

pub fn rms_norm(
    _: &Launch,
    x: &View,
    gain: &View,
    epsilon: f64,
    y: &mut ViewMut,
    inverse_rms: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(x: &View, gain: &View, epsilon: f64, y: &mut ViewMut, inverse_rms: &mut ViewMut) -> Result<()> {
        let d = x.dim(1);
        let (x, gain) = (x.slice::<T>()?, gain.slice::<T>()?);
        let (y, inverse_rms) = (y.slice_mut::<T>()?, inverse_rms.slice_mut::<T>()?);
        for (m, inverse) in inverse_rms.iter_mut().enumerate() {
            let x = &x[m * d..][..d];
            let mean = x.iter().map(|v| v.f64() * v.f64()).sum::<f64>() / d.max(1) as f64;
            *inverse = T::of(1.0 / (mean + epsilon).sqrt());
            for ((y, &x), &gain) in y[m * d..][..d].iter_mut().zip(x).zip(gain) {
                *y = x * *inverse * gain;
            }
        }
        Ok(())
    }
    check("rms_norm", x, gain.count(), y.dims(), inverse_rms.count())?;
    by_float!(x, typed(x, gain, epsilon, y, inverse_rms))
}

/// With r = inverse_rms and n = x r: dgain = sum over rows of dy n, and
/// dx = r (g dy - n mean(g dy n)), where g dy is the gradient to n.
#[allow(clippy::too_many_arguments)]
pub fn rms_norm_backward(
    _: &Launch,
    x: &View,
    gain: &View,
    inverse_rms: &View,
    dy: &View,
    accumulate: bool,
    dx: &mut ViewMut,
    dgain: &mut ViewMut,
) -> Result<()> {
    #[allow(clippy::too_many_arguments)]
    fn typed<T: Float>(
        x: &View,
        gain: &View,
        inverse_rms: &View,
        dy: &View,
        accumulate: bool,
        dx: &mut ViewMut,
        dgain: &mut ViewMut,
    ) -> Result<()> {
        let d = x.dim(1);
        let (x, gain, inverse_rms, dy) =
            (x.slice::<T>()?, gain.slice::<T>()?, inverse_rms.slice::<T>()?, dy.slice::<T>()?);
        let (dx, dgain) = (dx.slice_mut::<T>()?, dgain.slice_mut::<T>()?);
        for (m, &r) in inverse_rms.iter().enumerate() {
            let row = m * d..(m + 1) * d;
            let (x, dy) = (&x[row.clone()], &dy[row.clone()]);
            let projection =
                (0..d).map(|i| gain[i].f64() * dy[i].f64() * (x[i] * r).f64()).sum::<f64>() / d.max(1) as f64;
            for (i, dx) in dx[row].iter_mut().enumerate() {
                let n = x[i] * r;
                dgain[i] += dy[i] * n;
                let gradient = r * (gain[i] * dy[i] - n * T::of(projection));
                *dx = if accumulate { *dx + gradient } else { gradient };
            }
        }
        Ok(())
    }
    check("rms_norm backward", x, gain.count(), dy.dims(), inverse_rms.count())?;
    check("rms_norm backward", x, dgain.count(), dx.dims(), inverse_rms.count())?;
    by_float!(x, typed(x, gain, inverse_rms, dy, accumulate, dx, dgain))
}

/// x[m, d], gain[d], y[m, d], inverse_rms[m].
pub fn check(name: &str, x: &View, gain: usize, y: &[usize], inverse_rms: usize) -> Result<()> {
    ensure!(x.dims().len() == 2, Shape, "{name}: x has shape {}, expected two dimensions", x.shape());
    ensure!(gain == x.dim(1), Shape, "{name}: x has {} columns, gain has {gain} elements", x.dim(1));
    ensure!(y == x.dims(), Shape, "{name}: x has shape {:?}, y has {y:?}", x.dims());
    ensure!(inverse_rms == x.dim(0), Shape, "{name}: x has {} rows, inverse_rms has {inverse_rms}", x.dim(0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    const EPSILON: f64 = 1e-3;

    /// y and inverse_rms.
    fn norm<T: Float>(x: &[T], gain: &[T], [m, d]: [usize; 2]) -> (Vec<T>, Vec<T>) {
        let (mut y, mut inverse) = (of::<T>(&vec![9.0; m * d]), of::<T>(&vec![9.0; m]));
        let (mut y_view, mut inverse_view) = (view_mut(&mut y, &[m, d]), view_mut(&mut inverse, &[m]));
        (KERNELS.rms_norm)(&launch(), &view(x, &[m, d]), &view(gain, &[d]), EPSILON, &mut y_view, &mut inverse_view)
            .unwrap();
        (y, inverse)
    }

    #[test]
    fn rows_are_divided_by_their_root_mean_square() {
        fn check<T: Float>([m, d]: [usize; 2]) {
            let (x, gain) = (numbers(26, m * d), numbers(27, d));
            let (y, inverse) = norm::<T>(&of(&x), &of(&gain), [m, d]);
            let rms = |row: usize| {
                let mean = x[row * d..][..d].iter().map(|x| x * x).sum::<f64>() / d as f64;
                (mean + EPSILON).sqrt()
            };
            let expected: Vec<f64> = (0..m * d).map(|i| x[i] / rms(i / d) * gain[i % d]).collect();
            let inverses: Vec<f64> = (0..m).map(|row| 1.0 / rms(row)).collect();
            assert_close("y", &y, &expected, tolerance::<T>());
            assert_close("inverse_rms", &inverse, &inverses, tolerance::<T>());
        }
        for sizes in [[1, 1], [3, 7], [5, 64], [2, 257], [0, 4]] {
            check::<f32>(sizes);
            check::<f64>(sizes);
        }
        let (y, inverse) = norm::<f64>(&[0.0; 3], &[1.0; 3], [1, 3]);
        assert_eq!((y, inverse), (vec![0.0; 3], vec![1.0 / EPSILON.sqrt()]));
        assert!(norm::<f64>(&[], &[], [2, 0]).0.is_empty());
    }

    /// The sum of squares of a long row is good to the last bits in f32 too.
    #[test]
    fn long_rows_lose_nothing() {
        let d = 1 << 20;
        let (_, inverse) = norm::<f32>(&vec![0.1; d], &vec![1.0; d], [1, d]);
        let expected = 1.0 / (f64::from(0.1f32).powi(2) + EPSILON).sqrt();
        assert!((f64::from(inverse[0]) / expected - 1.0).abs() < 1e-7, "{} {expected}", inverse[0]);
    }

    #[test]
    fn the_backward_pass_is_the_gradient() {
        fn check<T: Float>(accumulate: bool, tolerance: f64) {
            let (m, d) = (3, 5);
            let (x, gain, dy) = (numbers(28, m * d), numbers(29, d), numbers(30, m * d));
            let (old_dx, old_dgain) = (numbers(31, m * d), numbers(32, d));
            let (x_typed, gain_typed, dy_typed) = (of::<T>(&x), of::<T>(&gain), of::<T>(&dy));
            let inverse = norm(&x_typed, &gain_typed, [m, d]).1;
            let (mut dx, mut dgain) = (of::<T>(&old_dx), of::<T>(&old_dgain));
            (KERNELS.rms_norm_backward)(
                &launch(),
                &view(&x_typed, &[m, d]),
                &view(&gain_typed, &[d]),
                &view(&inverse, &[m]),
                &view(&dy_typed, &[m, d]),
                accumulate,
                &mut view_mut(&mut dx, &[m, d]),
                &mut view_mut(&mut dgain, &[d]),
            )
            .unwrap();
            let loss = |x: &[f64], gain: &[f64]| dot(&norm(x, gain, [m, d]).0, &dy);
            let mut expected_dx = differences(&x, |x| loss(x, &gain));
            if accumulate {
                expected_dx.iter_mut().zip(&old_dx).for_each(|(dx, old)| *dx += old);
            }
            let mut expected_dgain = differences(&gain, |gain| loss(&x, gain));
            expected_dgain.iter_mut().zip(&old_dgain).for_each(|(dgain, old)| *dgain += old);
            assert_close("dx", &dx, &expected_dx, tolerance);
            assert_close("dgain", &dgain, &expected_dgain, tolerance);
        }
        for accumulate in [false, true] {
            check::<f32>(accumulate, 4e-6);
            check::<f64>(accumulate, DIFFERENCES);
        }
    }

    #[test]
    fn empty_rows_and_other_shapes_and_types() {
        let tensors = |m: usize, d: usize| [[m, d].as_slice(), &[d], &[m], &[m, d], &[m, d], &[d]].map(zeros::<f32>);
        let forward = |[x, gain, inverse, _, y, _]: &mut [Tensor; 6]| {
            (KERNELS.rms_norm)(&launch(), &x.view(), &gain.view(), EPSILON, &mut y.view_mut(), &mut inverse.view_mut())
        };
        let backward = |[x, gain, inverse, dy, dx, dgain]: &mut [Tensor; 6]| {
            let (x, gain, inverse, dy) = (x.view(), gain.view(), inverse.view(), dy.view());
            let (mut dx, mut dgain) = (dx.view_mut(), dgain.view_mut());
            (KERNELS.rms_norm_backward)(&launch(), &x, &gain, &inverse, &dy, false, &mut dx, &mut dgain)
        };
        let [x, gain, inverse, dy, dx, dgain] = tensors(2, 3);
        refuses_other_types("rms_norm_backward", [x, gain, inverse, dy, dx, dgain], backward);
        let [x, gain, inverse, y, ..] = tensors(2, 3);
        refuses_other_types("rms_norm", [x, gain, y, inverse], |[x, gain, y, inverse]| {
            (KERNELS.rms_norm)(&launch(), &x.view(), &gain.view(), EPSILON, &mut y.view_mut(), &mut inverse.view_mut())
        });
        for i in 0..6 {
            let mut wrong = tensors(2, 3);
            wrong[i] = zeros::<f32>(&[4, 4]);
            assert_eq!(kind(backward(&mut wrong)), ErrorKind::Shape, "argument {i}");
            if i != 3 && i != 5 {
                assert_eq!(kind(forward(&mut wrong)), ErrorKind::Shape, "argument {i}");
            }
        }
        let (none, mut dx, mut dgain) = ([0.0f64; 0], [0.0f64; 0], [7.0f64; 3]);
        let (rows, inverse) = (view(&none, &[0, 3]), view(&none, &[0]));
        let (mut dx, gain) = (view_mut(&mut dx, &[0, 3]), [1.0; 3]);
        let gain = view(&gain, &[3]);
        (KERNELS.rms_norm_backward)(
            &launch(),
            &rows,
            &gain,
            &inverse,
            &rows,
            false,
            &mut dx,
            &mut view_mut(&mut dgain, &[3]),
        )
        .unwrap();
        assert_eq!(dgain, [7.0; 3]);
    }
}
