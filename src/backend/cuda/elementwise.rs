//! Fill, add, scale, dropout, clamp.

use super::argument::{Philox, arguments};
use super::module::Kernel;
use super::stage::Stage;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::random::Stream;
use crate::tensor::{DType, Result, View, ViewMut};

pub fn fill(launch: &Launch, value: f64, y: &mut ViewMut) -> Result<()> {
    let count = y.count();
    let mut stage = Stage::new(launch)?;
    let y = stage.output(y, DType::F32)?;
    // SAFETY: fill(value, y, count).
    unsafe { stage.map(Kernel::fill, count, arguments![value as f32, y, count as u64]) }?;
    stage.finish()
}

pub fn add(launch: &Launch, x: &View, y: &mut ViewMut) -> Result<()> {
    let count = y.count();
    ensure!(x.count() == count, Shape, "add: x has {} elements, y has {count}", x.count());
    let mut stage = Stage::new(launch)?;
    let (x, y) = (stage.input(x, DType::F32)?, stage.update(y, DType::F32)?);
    // SAFETY: add(x, y, count).
    unsafe { stage.map(Kernel::add, count, arguments![x, y, count as u64]) }?;
    stage.finish()
}

pub fn scale(launch: &Launch, factor: f32, x: &View, y: &mut ViewMut) -> Result<()> {
    let count = y.count();
    ensure!(x.count() == count, Shape, "scale: x has {} elements, y has {count}", x.count());
    let mut stage = Stage::new(launch)?;
    let (x, y) = (stage.input(x, DType::F32)?, stage.output(y, DType::F32)?);
    // SAFETY: scale(factor, x, y, count).
    unsafe { stage.map(Kernel::scale, count, arguments![factor, x, y, count as u64]) }?;
    stage.finish()
}

pub fn dropout(launch: &Launch, rate: f32, stream: Stream, x: &mut ViewMut) -> Result<()> {
    let count = x.count();
    let (kept, stream) = (1.0 / (1.0 - rate), Philox::from(stream));
    let mut stage = Stage::new(launch)?;
    let x = stage.update(x, DType::F32)?;
    // SAFETY: dropout(rate, kept, &stream, x, count).
    unsafe { stage.map(Kernel::dropout, count, arguments![rate, kept, &stream, x, count as u64]) }?;
    stage.finish()
}

pub fn clamp(launch: &Launch, low: f64, high: f64, x: &mut ViewMut) -> Result<usize> {
    let count = x.count();
    let (low, high) = (low as f32, high as f32);
    let mut stage = Stage::new(launch)?;
    let x = stage.update(x, DType::F32)?;
    let outside = stage.number(false)?;
    // SAFETY: clamp(low, high, x, outside, count).
    unsafe { stage.map(Kernel::clamp, count, arguments![low, high, x, outside, count as u64]) }?;
    Ok(stage.finish_with(outside)? as usize)
}
