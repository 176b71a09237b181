//! What stands between two products of a ternary layer: `scalar/fused_norm.rs` for the vector units.

use super::chunks::{self, Shared};
use super::norm::{rows_of, with_sums};
use crate::backend::Launch;
use crate::backend::scalar::fused_norm::{check_codes, check_same};
use crate::backend::scalar::norm;
use crate::tensor::{Result, View, ViewMut};
use std::ptr;

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
    let (d, x, gain) = (x.dim(1), x.slice::<f32>()?, gain.slice::<f32>()?);
    let span = launch.spans.rms_norm_quantize;
    by_rows(launch, d, codes, scales, inverse_rms, |first, rows, codes, scales, inverse_rms| {
        let x = x[first * d..].as_ptr();
        // SAFETY: these rows of x, gain[d]; what is written are the same rows.
        unsafe { span(x, gain.as_ptr(), epsilon, rows, d, codes, scales, inverse_rms) }
    })
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
    quantize("squared_relu_norm_quantize", launch, x, None, gain, epsilon, codes, scales, inverse_rms)
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
    check_same(name, gate, &[up.dims()])?;
    quantize(name, launch, gate, Some(up), gain, epsilon, codes, scales, inverse_rms)
}

#[allow(clippy::too_many_arguments)]
fn quantize(
    name: &str,
    launch: &Launch,
    gate: &View,
    up: Option<&View>,
    gain: &View,
    epsilon: f64,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
    inverse_rms: &mut ViewMut,
) -> Result<()> {
    check_codes(name, gate, gain.count(), codes.dims(), scales.count(), inverse_rms.count())?;
    let (d, gate, gain) = (gate.dim(1), gate.slice::<f32>()?, gain.slice::<f32>()?);
    let up = up.map(|up| up.slice::<f32>()).transpose()?;
    let span = launch.spans.squared_relu_norm_quantize;
    by_rows(launch, d, codes, scales, inverse_rms, |first, rows, codes, scales, inverse_rms| {
        let gate = gate[first * d..].as_ptr();
        let up = up.map_or(ptr::null(), |up| up[first * d..].as_ptr());
        // SAFETY: these rows of gate and up, gain[d]; what is written are the same rows.
        unsafe { span(gate, up, gain.as_ptr(), epsilon, rows, d, codes, scales, inverse_rms) }
    })
}

/// Calls `work(first, rows, codes, scales, inverse_rms)` for chunks of rows, with the parts of the outputs.
fn by_rows(
    launch: &Launch,
    d: usize,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
    inverse_rms: &mut ViewMut,
    work: impl Fn(usize, usize, *mut i8, *mut f32, *mut f32) + Sync,
) -> Result<()> {
    let m = scales.count();
    let (codes, scales) = (Shared::new(codes.slice_mut::<i8>()?), Shared::new(scales.slice_mut::<f32>()?));
    let inverse_rms = Shared::new(inverse_rms.slice_mut::<f32>()?);
    chunks::run(launch, m, rows_of(d), |rows| {
        // SAFETY: chunks of whole rows are disjoint.
        let (codes, scales, inverse_rms) = unsafe {
            (
                codes.part(rows.start * d..rows.end * d).as_mut_ptr(),
                scales.part(rows.clone()).as_mut_ptr(),
                inverse_rms.part(rows.clone()).as_mut_ptr(),
            )
        };
        work(rows.start, rows.len(), codes, scales, inverse_rms);
    });
    Ok(())
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
    let dx = Shared::new(dx.slice_mut::<f32>()?);
    backward("squared_relu_norm backward", launch, x, None, gain, inverse_rms, dy, dgain, |elements| {
        // SAFETY: chunks of whole rows are disjoint.
        [unsafe { dx.part(elements) }.as_mut_ptr(), ptr::null_mut()]
    })
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
    let name = "gated_squared_relu_norm backward";
    check_same(name, gate, &[up.dims(), dgate.dims(), dup.dims()])?;
    let (dgate, dup) = (Shared::new(dgate.slice_mut::<f32>()?), Shared::new(dup.slice_mut::<f32>()?));
    backward(name, launch, gate, Some(up), gain, inverse_rms, dy, dgain, |elements| {
        // SAFETY: chunks of whole rows are disjoint.
        unsafe { [dgate.part(elements.clone()).as_mut_ptr(), dup.part(elements).as_mut_ptr()] }
    })
}

/// `written(elements)` are the parts of dgate and of dup, if there is one.
#[allow(clippy::too_many_arguments)]
fn backward(
    name: &str,
    launch: &Launch,
    gate: &View,
    up: Option<&View>,
    gain: &View,
    inverse_rms: &View,
    dy: &View,
    dgain: &mut ViewMut,
    written: impl Fn(std::ops::Range<usize>) -> [*mut f32; 2] + Sync,
) -> Result<()> {
    norm::check(name, gate, gain.count(), dy.dims(), inverse_rms.count())?;
    norm::check(name, gate, dgain.count(), dy.dims(), inverse_rms.count())?;
    let (m, d) = (gate.dim(0), gate.dim(1));
    let (gate, gain, dy) = (gate.slice::<f32>()?, gain.slice::<f32>()?, dy.slice::<f32>()?);
    let (up, inverse_rms) = (up.map(|up| up.slice::<f32>()).transpose()?, inverse_rms.slice::<f32>()?);
    with_sums(launch, [m, d], dgain.slice_mut::<f32>()?, |rows, dgain| {
        let elements = rows.start * d..rows.end * d;
        let [dgate, dup] = written(elements.clone());
        let (gate, dy) = (gate[elements.clone()].as_ptr(), dy[elements.clone()].as_ptr());
        let up = up.map_or(ptr::null(), |up| up[elements].as_ptr());
        let (inverse_rms, gain, dgain) = (inverse_rms[rows.clone()].as_ptr(), gain.as_ptr(), dgain.as_mut_ptr());
        let span = launch.spans.squared_relu_norm_backward;
        // SAFETY: these rows of all, gain[d] and dgain[d]; dup is null exactly where up is.
        unsafe { span(gate, up, gain, inverse_rms, dy, rows.len(), d, dgate, dup, dgain) }
    })
}
