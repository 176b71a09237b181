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
