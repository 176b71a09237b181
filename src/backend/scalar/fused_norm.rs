//! What stands between two products of a ternary layer, as one operation: each is defined by those that it is made of. Its sums
//! are canonical, so that codes are the same on every row.

use super::activation::{self, LEAST_ABSMAX};
use super::by_float;
use super::feed_forward::{gated_squared_relu, gated_squared_relu_backward, squared_relu, squared_relu_backward};
use super::norm::{self, rms_norm_backward};
use super::reduce::canonical_sum;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, Tensor, View, ViewMut};

pub fn rms_norm_quantize(
    launch: &Launch,
    x: &View,
    gain: &View,
    epsilon: f64,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
    inverse_rms: &mut ViewMut,
) -> Result<()> {
    check_codes("rms_norm_quantize", x, gain.count(), codes.dims(), scales.count(), inverse_rms.count())?;
    let mut normed = Tensor::zeros(x.dtype(), x.dims())?;
    by_float!(x, rms_norm(x, gain, epsilon, &mut normed.view_mut(), inverse_rms))?;
    activation::quantize_activations(launch, &normed.view(), LEAST_ABSMAX, codes, scales)
}

/// As `norm::rms_norm`, of canonical sums: what decides codes has the same bits everywhere.
fn rms_norm<T: Float>(x: &View, gain: &View, epsilon: f64, y: &mut ViewMut, inverse_rms: &mut ViewMut) -> Result<()> {
    let d = x.dim(1);
    let (x, gain) = (x.slice::<T>()?, gain.slice::<T>()?);
    let (y, inverse_rms) = (y.slice_mut::<T>()?, inverse_rms.slice_mut::<T>()?);
    for (m, inverse) in inverse_rms.iter_mut().enumerate() {
        let x = &x[m * d..][..d];
        let mean = canonical_sum(x, |v| v * v) / d.max(1) as f64;
        *inverse = T::of(1.0 / (mean + epsilon).sqrt());
        for ((y, &x), &gain) in y[m * d..][..d].iter_mut().zip(x).zip(gain) {
            *y = x * *inverse * gain;
        }
    }
    Ok(())
}

pub fn squared_relu_norm_quantize(
    launch: &Launch,
    x: &View,
    gain: &View,
    epsilon: f64,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
    inverse_rms: &mut ViewMut,
) -> Result<()> {
    check_codes("squared_relu_norm_quantize", x, gain.count(), codes.dims(), scales.count(), inverse_rms.count())?;
    let mut hidden = Tensor::zeros(x.dtype(), x.dims())?;
    squared_relu(launch, x, &mut hidden.view_mut())?;
    rms_norm_quantize(launch, &hidden.view(), gain, epsilon, codes, scales, inverse_rms)
}

#[allow(clippy::too_many_arguments)]
pub fn gated_squared_relu_norm_quantize(
    launch: &Launch,
    gate: &View,
    up: &View,
    gain: &View,
    epsilon: f64,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
    inverse_rms: &mut ViewMut,
) -> Result<()> {
    let name = "gated_squared_relu_norm_quantize";
    check_codes(name, gate, gain.count(), codes.dims(), scales.count(), inverse_rms.count())?;
    check_same(name, gate, &[up.dims()])?;
    let mut hidden = Tensor::zeros(gate.dtype(), gate.dims())?;
    gated_squared_relu(launch, gate, up, &mut hidden.view_mut())?;
    rms_norm_quantize(launch, &hidden.view(), gain, epsilon, codes, scales, inverse_rms)
}

pub fn squared_relu_norm_backward(
    launch: &Launch,
    x: &View,
    gain: &View,
    inverse_rms: &View,
    dy: &View,
    dx: &mut ViewMut,
    dgain: &mut ViewMut,
) -> Result<()> {
    check_same("squared_relu_norm backward", x, &[dx.dims()])?;
    let [mut hidden, mut dhidden] = [Tensor::zeros(x.dtype(), x.dims())?, Tensor::zeros(x.dtype(), x.dims())?];
    squared_relu(launch, x, &mut hidden.view_mut())?;
    rms_norm_backward(launch, &hidden.view(), gain, inverse_rms, dy, false, &mut dhidden.view_mut(), dgain)?;
    squared_relu_backward(launch, x, &dhidden.view(), dx)
}

#[allow(clippy::too_many_arguments)]
pub fn gated_squared_relu_norm_backward(
    launch: &Launch,
    gate: &View,
    up: &View,
    gain: &View,
    inverse_rms: &View,
    dy: &View,
    dgate: &mut ViewMut,
    dup: &mut ViewMut,
    dgain: &mut ViewMut,
) -> Result<()> {
    check_same("gated_squared_relu_norm backward", gate, &[up.dims(), dgate.dims(), dup.dims()])?;
    let [mut hidden, mut dhidden] =
        [Tensor::zeros(gate.dtype(), gate.dims())?, Tensor::zeros(gate.dtype(), gate.dims())?];
    gated_squared_relu(launch, gate, up, &mut hidden.view_mut())?;
    rms_norm_backward(launch, &hidden.view(), gain, inverse_rms, dy, false, &mut dhidden.view_mut(), dgain)?;
    gated_squared_relu_backward(launch, gate, up, &dhidden.view(), dgate, dup)
}

/// x[m, d], gain[d], codes[m, d], scales[m], inverse_rms[m].
pub fn check_codes(
    name: &str,
    x: &View,
    gain: usize,
    codes: &[usize],
    scales: usize,
    inverse_rms: usize,
) -> Result<()> {
    norm::check(name, x, gain, codes, inverse_rms)?;
    activation::check(name, x.dim(0), x.dim(1), codes, scales)
}

/// All have the shape of the first.
pub fn check_same(name: &str, x: &View, others: &[&[usize]]) -> Result<()> {
    for other in others {
        ensure!(*other == x.dims(), Shape, "{name}: operands have the shapes {:?} and {other:?}", x.dims());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    const EPSILON: f64 = 1e-5;

    /// Of the formulas, row by row in f64: codes, scales and inverse_rms of relu(x)^2 times `up`.
    #[test]
    fn codes_are_those_of_the_normalised_hidden_values() {
        let (m, d) = (3, 37);
        let (x, up, gain) = (numbers(60, m * d), numbers(61, m * d), numbers(62, d));
        for gated in [false, true] {
            let hidden = |i: usize| x[i].max(0.0).powi(2) * if gated { up[i] } else { 1.0 };
            let (mut codes, mut scales, mut inverse) = (vec![0i8; m * d], vec![0.0f64; m], vec![0.0f64; m]);
            let (codes_view, scales_view) = (&mut view_mut(&mut codes, &[m, d]), &mut view_mut(&mut scales, &[m]));
            let inverse_view = &mut view_mut(&mut inverse, &[m]);
            let (x_view, up_view, gain_view) = (view(&x, &[m, d]), view(&up, &[m, d]), view(&gain, &[d]));
            if gated {
                let call = KERNELS.gated_squared_relu_norm_quantize;
                call(&launch(), &x_view, &up_view, &gain_view, EPSILON, codes_view, scales_view, inverse_view).unwrap();
            } else {
                let call = KERNELS.squared_relu_norm_quantize;
                call(&launch(), &x_view, &gain_view, EPSILON, codes_view, scales_view, inverse_view).unwrap();
            }
            for row in 0..m {
                let mean = (0..d).map(|i| hidden(row * d + i).powi(2)).sum::<f64>() / d as f64;
                let expected = 1.0 / (mean + EPSILON).sqrt();
                assert!((inverse[row] - expected).abs() < 1e-12);
                let normed: Vec<f64> = (0..d).map(|i| hidden(row * d + i) * expected * gain[i]).collect();
                let a = normed.iter().fold(1e-5, |a: f64, y| a.max(y.abs()));
                assert!((scales[row] - a / 127.0).abs() < 1e-12);
                for (y, &code) in normed.iter().zip(&codes[row * d..]) {
                    assert!((f64::from(code) - y * 127.0 / a).abs() < 0.5 + 1e-9, "{code} for {y}");
                }
            }
        }
    }

    /// Differences of sum(dy * norm(relu(x)^2 * up)).
    #[test]
    fn the_backward_pass_is_the_gradient() {
        let (m, d) = (3, 5);
        let (gate, up, gain) = (numbers(63, m * d), numbers(64, m * d), numbers(65, d));
        let dy = numbers(66, m * d);
        let loss = |gate: &[f64], up: Option<&[f64]>, gain: &[f64]| {
            let hidden = |i: usize| gate[i].max(0.0).powi(2) * up.map_or(1.0, |up| up[i]);
            let row = |row: usize| {
                let mean = (0..d).map(|i| hidden(row * d + i).powi(2)).sum::<f64>() / d as f64;
                let inverse = 1.0 / (mean + EPSILON).sqrt();
                (0..d).map(|i| dy[row * d + i] * hidden(row * d + i) * inverse * gain[i]).sum::<f64>()
            };
            (0..m).map(row).sum::<f64>()
        };
        let inverse = |up: Option<&[f64]>| -> Vec<f64> {
            let hidden = |i: usize| gate[i].max(0.0).powi(2) * up.map_or(1.0, |up| up[i]);
            let mean = |row: usize| (0..d).map(|i| hidden(row * d + i).powi(2)).sum::<f64>() / d as f64;
            (0..m).map(|row| 1.0 / (mean(row) + EPSILON).sqrt()).collect()
        };
        let (gate_view, up_view, gain_view) = (view(&gate, &[m, d]), view(&up, &[m, d]), view(&gain, &[d]));
        let dy_view = view(&dy, &[m, d]);
        let (mut dgate, mut dup, mut dgain) = (vec![9.0; m * d], vec![9.0; m * d], vec![0.0; d]);
        let of_rows = inverse(None);
        (KERNELS.squared_relu_norm_backward)(
            &launch(),
            &gate_view,
            &gain_view,
            &view(&of_rows, &[m]),
            &dy_view,
            &mut view_mut(&mut dgate, &[m, d]),
            &mut view_mut(&mut dgain, &[d]),
        )
        .unwrap();
        assert_close("dx", &dgate, &differences(&gate, |x| loss(x, None, &gain)), DIFFERENCES);
        assert_close("dgain", &dgain, &differences(&gain, |gain| loss(&gate, None, gain)), DIFFERENCES);
        dgain.fill(0.0);
        let of_rows = inverse(Some(&up));
        (KERNELS.gated_squared_relu_norm_backward)(
            &launch(),
            &gate_view,
            &up_view,
            &gain_view,
            &view(&of_rows, &[m]),
            &dy_view,
            &mut view_mut(&mut dgate, &[m, d]),
            &mut view_mut(&mut dup, &[m, d]),
            &mut view_mut(&mut dgain, &[d]),
        )
        .unwrap();
        assert_close("dgate", &dgate, &differences(&gate, |x| loss(x, Some(&up), &gain)), DIFFERENCES);
        assert_close("dup", &dup, &differences(&up, |up| loss(&gate, Some(up), &gain)), DIFFERENCES);
        assert_close("gated dgain", &dgain, &differences(&gain, |gain| loss(&gate, Some(&up), gain)), DIFFERENCES);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let x = [1.0f32; 6];
        let (x, gain) = (view(&x, &[2, 3]), view(&x[..3], &[3]));
        let (mut codes, mut scales, mut inverse) = ([0i8; 6], [0.0f32; 3], [0.0f32; 2]);
        let inverse = &mut view_mut(&mut inverse, &[2]);
        let (codes, scales) = (&mut view_mut(&mut codes, &[2, 3]), &mut view_mut(&mut scales, &[3]));
        let wrong = (KERNELS.rms_norm_quantize)(&launch(), &x, &gain, EPSILON, codes, scales, inverse);
        assert_eq!(kind(wrong), ErrorKind::Shape);
        let (mut dx, mut dgain) = ([0.0f32; 4], [0.0f32; 3]);
        let (dx, dgain) = (&mut view_mut(&mut dx, &[2, 2]), &mut view_mut(&mut dgain, &[3]));
        let of_rows = [1.0f32; 2];
        let wrong = (KERNELS.squared_relu_norm_backward)(&launch(), &x, &gain, &view(&of_rows, &[2]), &x, dx, dgain);
        assert_eq!(kind(wrong), ErrorKind::Shape);
    }
}
