//! Squared ReLU (So et al., arXiv 2109.08668), plain and gated, and their gradients.

use super::argument::arguments;
use super::module::Kernel;
use super::stage::Stage;
use crate::backend::Launch;
use crate::backend::scalar::feed_forward::check;
use crate::tensor::{DType, Result, View, ViewMut};

pub fn squared_relu(launch: &Launch, x: &View, y: &mut ViewMut) -> Result<()> {
    let count = x.count();
    check("squared_relu", count, &[y.count()])?;
    let mut stage = Stage::new(launch)?;
    let (x, y) = (stage.input(x, DType::F32)?, stage.output(y, DType::F32)?);
    // SAFETY: squared_relu(x, y, count).
    unsafe { stage.map(Kernel::squared_relu, count, arguments![x, y, count as u64]) }?;
    stage.finish()
}

pub fn squared_relu_backward(launch: &Launch, x: &View, dy: &View, dx: &mut ViewMut) -> Result<()> {
    let count = x.count();
    check("squared_relu backward", count, &[dy.count(), dx.count()])?;
    let mut stage = Stage::new(launch)?;
    let (x, dy) = (stage.input(x, DType::F32)?, stage.input(dy, DType::F32)?);
    let dx = stage.output(dx, DType::F32)?;
    // SAFETY: squared_relu_backward(x, dy, dx, count).
    unsafe { stage.map(Kernel::squared_relu_backward, count, arguments![x, dy, dx, count as u64]) }?;
    stage.finish()
}

pub fn gated_squared_relu(launch: &Launch, gate: &View, up: &View, y: &mut ViewMut) -> Result<()> {
    let count = gate.count();
    check("gated_squared_relu", count, &[up.count(), y.count()])?;
    let mut stage = Stage::new(launch)?;
    let (gate, up) = (stage.input(gate, DType::F32)?, stage.input(up, DType::F32)?);
    let y = stage.output(y, DType::F32)?;
    // SAFETY: gated_squared_relu(gate, up, y, count).
    unsafe { stage.map(Kernel::gated_squared_relu, count, arguments![gate, up, y, count as u64]) }?;
    stage.finish()
}

pub fn gated_squared_relu_backward(
    launch: &Launch,
    gate: &View,
    up: &View,
    dy: &View,
    dgate: &mut ViewMut,
    dup: &mut ViewMut,
) -> Result<()> {
    let count = gate.count();
    check("gated_squared_relu backward", count, &[up.count(), dy.count(), dgate.count(), dup.count()])?;
    let mut stage = Stage::new(launch)?;
    let (gate, up) = (stage.input(gate, DType::F32)?, stage.input(up, DType::F32)?);
    let dy = stage.input(dy, DType::F32)?;
    let (dgate, dup) = (stage.output(dgate, DType::F32)?, stage.output(dup, DType::F32)?);
    let arguments = arguments![gate, up, dy, dgate, dup, count as u64];
    // SAFETY: gated_squared_relu_backward(gate, up, dy, dgate, dup, count).
    unsafe { stage.map(Kernel::gated_squared_relu_backward, count, arguments) }?;
    stage.finish()
}
