//! Tensors as codes of 8 bits with a scale for each [`CODES`] elements: what `Kernels::step` keeps of compact parameters.

use super::{CODES, Context};
use crate::tensor::random::Stream;
use crate::tensor::{DType, Result, Tensor, View, ViewMut};

/// Codes of floats, rounded at random, and their scales.
pub fn encode(context: &Context, floats: &Tensor, stream: Stream) -> Result<(Tensor, Tensor)> {
    let blocks = floats.count().div_ceil(CODES);
    let mut codes = context.zeros_beside(floats.device(), DType::I8, floats.dims())?;
    let mut scales = context.zeros_beside(floats.device(), DType::F32, &[blocks])?;
    encode_into(context, &floats.view(), stream, &mut codes, &mut scales)?;
    Ok((codes, scales))
}

/// The same, into codes and scales that are there.
pub fn encode_into(
    context: &Context,
    floats: &View,
    stream: Stream,
    codes: &mut Tensor,
    scales: &mut Tensor,
) -> Result<()> {
    let quantize = context.kernels().quantize_gradients;
    quantize(context.launch(), floats, stream, CODES, &mut codes.view_mut(), &mut scales.view_mut())
}

/// The floats that codes stand for; a copy of floats.
pub fn decode(context: &Context, codes: &Tensor, scales: &Tensor) -> Result<Tensor> {
    let mut floats = context.zeros_beside(codes.device(), DType::F32, codes.dims())?;
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
