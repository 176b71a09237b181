//! Activations as int8 with one scale a row.

use super::argument::arguments;
use super::module::Kernel;
use super::stage::{Stage, THREADS};
use crate::backend::Launch;
use crate::backend::scalar::activation::check;
use crate::tensor::{DType, Result, View, ViewMut};

pub fn quantize_activations(
    launch: &Launch,
    x: &View,
    least: f64,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    let (m, k) = (x.dim(0), x.dim(1));
    check("quantize_activations", m, k, codes.dims(), scales.count())?;
    let mut stage = Stage::new(launch)?;
    let x = stage.input(x, DType::F32)?;
    let (codes, scales) = (stage.output(codes, DType::I8)?, stage.output(scales, DType::F32)?);
    let arguments = arguments![x, least as f32, codes, scales, m as u64, k as u64];
    // SAFETY: quantize_activations_512(x, least, codes, scales, m, k), and the others have the same: a warp for each row, or a
    // block.
    unsafe {
        match k {
            0..=512 => stage.warps(Kernel::quantize_activations_512, m, arguments),
            513..=2048 => stage.warps(Kernel::quantize_activations_2048, m, arguments),
            _ => stage.launch(Kernel::quantize_activations_wide, m, THREADS, arguments),
        }
    }?;
    stage.finish()
}

pub fn dequantize_activations(launch: &Launch, codes: &View, scales: &View, x: &mut ViewMut) -> Result<()> {
    let (m, k) = (x.dim(0), x.dim(1));
    check("dequantize_activations", m, k, codes.dims(), scales.count())?;
    let mut stage = Stage::new(launch)?;
    let (codes, scales) = (stage.input(codes, DType::I8)?, stage.input(scales, DType::F32)?);
    let x = stage.output(x, DType::F32)?;
    // SAFETY: dequantize_activations(codes, scales, x, m, k), a warp for each row.
    unsafe { stage.warps(Kernel::dequantize_activations, m, arguments![codes, scales, x, m as u64, k as u64]) }?;
    stage.finish()
}
