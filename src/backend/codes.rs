//! Tensors as codes of 8 bits with a scale for each [`CODES`] elements: what `Kernels::step` keeps of compact parameters.

use super::{CODES, Context};
use crate::tensor::random::Stream;
use crate::tensor::{DType, Device, Result, Tensor, ViewMut};

fn zeros(context: &Context, like: &Tensor, dtype: DType, dims: &[usize]) -> Result<Tensor> {
    match like.device() {
        Device::Host => Tensor::zeros(dtype, dims),
        _ => context.zeros(dtype, dims),
    }
}

/// Codes of floats, rounded at random, and their scales.
pub fn encode(context: &Context, floats: &Tensor, stream: Stream) -> Result<(Tensor, Tensor)> {
    let blocks = floats.count().div_ceil(CODES);
    let mut codes = zeros(context, floats, DType::I8, floats.dims())?;
    let mut scales = zeros(context, floats, DType::F32, &[blocks])?;
    let quantize = context.kernels().quantize_gradients;
    let (codes_view, scales_view) = (&mut codes.view_mut(), &mut scales.view_mut());
    quantize(context.launch(), &floats.view(), stream, CODES, codes_view, scales_view)?;
    Ok((codes, scales))
}

/// The floats that codes stand for; a copy of floats.
pub fn decode(context: &Context, codes: &Tensor, scales: &Tensor) -> Result<Tensor> {
    let mut floats = zeros(context, codes, DType::F32, codes.dims())?;
    if codes.dtype() == DType::F32 {
        floats.write_bytes(&codes.read_bytes()?)?;
        return Ok(floats);
    }
    decode_into(context, codes, scales, &mut floats.view_mut())?;
    Ok(floats)
}

/// The floats that codes stand for, into room for as many.
pub fn decode_into(context: &Context, codes: &Tensor, scales: &Tensor, floats: &mut ViewMut) -> Result<()> {
    let dequantize = context.kernels().dequantize_gradients;
    dequantize(context.launch(), &codes.view(), &scales.view(), CODES, floats)
}
