//! What stands between two products of a ternary layer, one kernel each.

use super::argument::Pointer;
use super::module::Kernel;
use super::norm::{Backward, Forward, Gradient, Norm, Pointers, backward, forward};
use super::stage::Stage;
use crate::backend::Launch;
use crate::backend::scalar::fused_norm::{check_codes, check_same};
use crate::backend::scalar::norm::check;
use crate::tensor::{DType, Result, View, ViewMut};

pub fn rms_norm_quantize(
    launch: &Launch,
    x: &View,
    gain: &View,
    epsilon: f64,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
    inverse_rms: &mut ViewMut,
) -> Result<()> {
    const KERNELS: Forward = [
        Kernel::rms_norm_quantize_512,
        Kernel::rms_norm_quantize_2048,
        Kernel::rms_norm_quantize_16384,
        Kernel::rms_norm_quantize_long,
    ];
    // SAFETY: rms_norm_quantize_512({x}, norm, {codes, scales}) and so on.
    unsafe { quantize("rms_norm_quantize", launch, KERNELS, [x], gain, epsilon, codes, scales, inverse_rms) }
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
    const KERNELS: Forward = [
        Kernel::squared_relu_norm_quantize_512,
        Kernel::squared_relu_norm_quantize_2048,
        Kernel::squared_relu_norm_quantize_16384,
        Kernel::squared_relu_norm_quantize_long,
    ];
    // SAFETY: squared_relu_norm_quantize_512({x}, norm, {codes, scales}) and so on.
    unsafe { quantize("squared_relu_norm_quantize", launch, KERNELS, [x], gain, epsilon, codes, scales, inverse_rms) }
}

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
    const NAME: &str = "gated_squared_relu_norm_quantize";
    const KERNELS: Forward = [
        Kernel::gated_squared_relu_norm_quantize_512,
        Kernel::gated_squared_relu_norm_quantize_2048,
        Kernel::gated_squared_relu_norm_quantize_16384,
        Kernel::gated_squared_relu_norm_quantize_long,
    ];
    check_same(NAME, gate, &[up.dims()])?;
    // SAFETY: gated_squared_relu_norm_quantize_512({gate, up}, norm, {codes, scales}) and so on.
    unsafe { quantize(NAME, launch, KERNELS, [gate, up], gain, epsilon, codes, scales, inverse_rms) }
}

/// # Safety
/// The kernels take (sources, norm, {codes, scales}). All sources have the shape of the first.
unsafe fn quantize<const S: usize>(
    name: &str,
    launch: &Launch,
    kernels: Forward,
    sources: [&View; S],
    gain: &View,
    epsilon: f64,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
    inverse_rms: &mut ViewMut,
) -> Result<()> {
    check_codes(name, sources[0], gain.count(), codes.dims(), scales.count(), inverse_rms.count())?;
    let (m, d) = (sources[0].dim(0) as u64, sources[0].dim(1) as u64);
    let mut stage = Stage::new(launch)?;
    let mut places = [Pointer(0); S];
    for (place, source) in places.iter_mut().zip(sources) {
        *place = stage.input(source, DType::F32)?;
    }
    let gain = stage.input(gain, DType::F32)?;
    let (codes, scales) = (stage.output(codes, DType::I8)?, stage.output(scales, DType::F32)?);
    let inverse_rms = stage.output(inverse_rms, DType::F32)?;
    let norm = Norm { gain, epsilon, inverse_rms, m, d };
    // SAFETY: passed on to the caller; the shapes were checked.
    unsafe { forward(&stage, kernels, Pointers(places), &norm, Pointers([codes, scales])) }?;
    stage.finish()
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
    const NAME: &str = "squared_relu_norm backward";
    const KERNELS: Backward = [
        Kernel::squared_relu_norm_backward_8192,
        Kernel::squared_relu_norm_backward_means,
        Kernel::squared_relu_norm_backward_long,
    ];
    check_same(NAME, x, &[dx.dims()])?;
    check(NAME, x, gain.count(), dy.dims(), inverse_rms.count())?;
    check(NAME, x, dgain.count(), dy.dims(), inverse_rms.count())?;
    let (m, d) = (x.dim(0), x.dim(1));
    let mut stage = Stage::new(launch)?;
    let (x, gain) = (stage.input(x, DType::F32)?, stage.input(gain, DType::F32)?);
    let (inverse_rms, dy) = (stage.input(inverse_rms, DType::F32)?, stage.input(dy, DType::F32)?);
    let (dx, dgain) = (stage.output(dx, DType::F32)?, stage.update(dgain, DType::F32)?);
    let given = Gradient { gain, inverse_rms, dy, dgain, m, d };
    // SAFETY: squared_relu_norm_backward_8192({x, dx}, norm) and so on.
    unsafe { backward(&mut stage, KERNELS, &Pointers([x, dx]), &given) }?;
    stage.finish()
}

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
    const NAME: &str = "gated_squared_relu_norm backward";
    const KERNELS: Backward = [
        Kernel::gated_squared_relu_norm_backward_8192,
        Kernel::gated_squared_relu_norm_backward_means,
        Kernel::gated_squared_relu_norm_backward_long,
    ];
    check_same(NAME, gate, &[up.dims(), dgate.dims(), dup.dims()])?;
    check(NAME, gate, gain.count(), dy.dims(), inverse_rms.count())?;
    check(NAME, gate, dgain.count(), dy.dims(), inverse_rms.count())?;
    let (m, d) = (gate.dim(0), gate.dim(1));
    let mut stage = Stage::new(launch)?;
    let (gate, up) = (stage.input(gate, DType::F32)?, stage.input(up, DType::F32)?);
    let (gain, inverse_rms) = (stage.input(gain, DType::F32)?, stage.input(inverse_rms, DType::F32)?);
    let dy = stage.input(dy, DType::F32)?;
    let (dgate, dup) = (stage.output(dgate, DType::F32)?, stage.output(dup, DType::F32)?);
    let dgain = stage.update(dgain, DType::F32)?;
    let given = Gradient { gain, inverse_rms, dy, dgain, m, d };
    // SAFETY: gated_squared_relu_norm_backward_8192({gate, up, dgate, dup}, norm) and so on.
    unsafe { backward(&mut stage, KERNELS, &Pointers([gate, up, dgate, dup]), &given) }?;
    stage.finish()
}
