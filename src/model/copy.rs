//! A model that can be trained, from one that cannot or is of the other kind: what fine-tuning begins with.

use super::linear::Linear;
use super::parameters::{Parameter, describe, find};
use super::{Model, ModelOptions};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, Tensor, reserve};

/// A copy with float weights, ternary ones or plain ones (`quantize_weights`). Float weights are copied as they are. Packed ones
/// become floats that are quantized to the same trits and, but for rounding, the same scale.
pub fn trainable(model: &Model, quantize_weights: bool) -> Result<Model> {
    ensure!(model.dtype() == DType::F32, DType, "model copy: weights are {}, expected f32", model.dtype());
    let (context, options) = (model.context().clone(), ModelOptions { quantize_weights, ..model.options().clone() });
    let (descriptions, mut copies) = (describe(&options), Vec::new());
    reserve(&mut copies, descriptions.len())?;
    for description in descriptions {
        let own = model.parameters().iter().find(|parameter| parameter.name == description.name);
        let tensor = match own {
            Some(parameter) => Tensor::from_slice(&parameter.floats()?, parameter.tensor.dims())?,
            None => floats(model, &description.name, quantize_weights)?,
        };
        copies.push(Parameter::new(description.name, description.kind, context.place(tensor)?)?);
    }
    let of = context.clone();
    let mut copy = Model::assemble(context, options, DType::F32, copies, |parameters, name, options| {
        let index = find(parameters, name)?;
        Linear::trainable(&of, &parameters[index], index, options)
    })?;
    copy.refresh()?;
    Ok(copy)
}

/// The weights of a packed layer: s t, or, to be quantized again, s t / p with p the share of trits that are not 0. Of these the
/// mean magnitude, which is the scale, is s, and a share of it, which is the threshold, below each that is not 0.
fn floats(model: &Model, name: &str, again: bool) -> Result<Tensor> {
    let linear = model.linears().find(|linear| linear.name == name);
    let effective = linear.map(|linear| linear.effective(model.context())).transpose()?.flatten();
    let mut tensor = effective.ok_or_else(|| error!(Internal, "the model has no tensor {name}"))?;
    if again {
        let values = tensor.host_mut::<f32>()?;
        let scale = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let nonzero = values.iter().filter(|&&value| value != 0.0).count().max(1);
        let larger = (f64::from(scale) * values.len() as f64 / nonzero as f64) as f32;
        values.iter_mut().filter(|value| **value != 0.0).for_each(|value| *value = larger.copysign(*value));
    }
    Ok(tensor)
}
