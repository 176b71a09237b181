//! What a checkpoint holds of a run: the parameters and the optimizer's states, to bytes and back.

use super::adaptive::Adaptive;
use super::optimizer::Optimizer;
use crate::format::safetensors::{Entry, File, encode};
use crate::model::file::{self, Packing, Rest};
use crate::model::{Model, Parameter};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, Tensor};
use std::collections::BTreeMap;

/// STATE, naming the first parameter or state that holds a NaN or an infinity.
pub fn check_finite(model: &Model, optimizer: &Optimizer) -> Result<()> {
    let context = model.context();
    let check = |what: &str, parameter: &Parameter, tensor: &Tensor| {
        let found = (context.kernels().first_non_finite)(context.launch(), &tensor.view())?;
        match found {
            None => Ok(()),
            Some(element) => Err(error!(State, "element {element} of {what}{} is not finite", parameter.name)),
        }
    };
    for ((parameter, m), v) in model.parameters().iter().zip(optimizer.m()).zip(optimizer.v()) {
        check("", parameter, &parameter.tensor)?;
        check("m of ", parameter, m)?;
        check("v of ", parameter, v)?;
    }
    Ok(())
}

/// A whole model file: it loads like any other, and trains on.
pub fn encode_model(model: &Model, tokenizer_json: Option<&str>) -> Result<Vec<u8>> {
    file::encode(model, Packing::Full, Rest::F32, tokenizer_json, &BTreeMap::new())
}

/// The name of the learning rate's rule among the states of the optimizer.
const ADAPTIVE: &str = "adaptive";

/// `m.<parameter>` and `v.<parameter>`; `adaptive` when the run has that rule; `error.<parameter>` of what a gradient is still
/// owed, in the order of the parameters.
pub fn encode_optimizer(
    parameters: &[Parameter],
    optimizer: &Optimizer,
    adaptive: Option<Adaptive>,
    errors: &[Option<Tensor>],
) -> Result<Vec<u8>> {
    let adaptive = adaptive.map(Adaptive::to_tensor).transpose()?;
    let mut named: Vec<(String, &Tensor)> = adaptive.iter().map(|numbers| (ADAPTIVE.into(), numbers)).collect();
    for (prefix, states) in [("m", optimizer.m()), ("v", optimizer.v())] {
        named.extend(
            parameters.iter().zip(states).map(|(parameter, state)| (format!("{prefix}.{}", parameter.name), state)),
        );
    }
    for (parameter, error) in parameters.iter().zip(errors) {
        named.extend(error.iter().map(|error| (error_name(parameter), error)));
    }
    let data = named.iter().map(|(_, tensor)| tensor.read_bytes()).collect::<Result<Vec<_>>>()?;
    let mut entries = Vec::new();
    for ((name, tensor), data) in named.into_iter().zip(&data) {
        entries.push(Entry { name, dtype: tensor.dtype(), dims: tensor.dims().to_vec(), data });
    }
    encode(&entries, &BTreeMap::new())
}

fn error_name(parameter: &Parameter) -> String {
    format!("error.{}", parameter.name)
}

/// Whether the file holds what gradients are still owed; FORMAT names the tensor and both shapes.
pub fn check_errors(model: &Model, states: &File, errors: &[Option<Tensor>]) -> Result<()> {
    for (parameter, error) in model.parameters().iter().zip(errors) {
        let Some(error) = error else { continue };
        let name = error_name(parameter);
        let found = states.tensor(&name)?;
        let fits = found.dtype == DType::F32 && found.dims == error.dims();
        let (dtype, dims, expected) = (found.dtype, found.dims, error.dims());
        ensure!(fits, Format, "{name} is {dtype} {dims:?}, expected f32 {expected:?}");
    }
    Ok(())
}

/// Copies what gradients are still owed from a file that `check_errors` has passed.
pub fn restore_errors(model: &Model, states: &File, errors: &mut [Option<Tensor>]) -> Result<()> {
    for (parameter, error) in model.parameters().iter().zip(errors) {
        if let Some(error) = error {
            copy(states, &error_name(parameter), error)?;
        }
    }
    Ok(())
}

/// Whether the files hold what the model and its optimizer need; FORMAT names the tensor and both shapes.
pub fn check_tensors(model: &Model, parameters: &File, states: &File) -> Result<()> {
    for parameter in model.parameters() {
        for (file, prefix) in [(parameters, ""), (states, "m."), (states, "v.")] {
            let name = format!("{prefix}{}", parameter.name);
            let found = file.tensor(&name)?;
            ensure!(
                found.dtype == DType::F32 && found.dims == parameter.tensor.dims(),
                Format,
                "{name} is {} {:?}, expected f32 {:?}",
                found.dtype,
                found.dims,
                parameter.tensor.dims()
            );
        }
    }
    Ok(())
}

/// The learning rate's rule from the file; FORMAT when it is not there.
pub fn read_adaptive(states: &File) -> Result<Adaptive> {
    let found = states.tensor(ADAPTIVE)?;
    match <[u8; 8]>::try_from(found.data) {
        Ok(bytes) if found.dtype == DType::F64 => Ok(Adaptive::from_bytes(bytes)),
        _ => Err(error!(Format, "{ADAPTIVE} is {} {:?}, expected f64 [1]", found.dtype, found.dims)),
    }
}

/// Copies the files, which `check_tensors` has passed, into the model and the optimizer.
pub fn restore(model: &mut Model, optimizer: &mut Optimizer, parameters: &File, states: &File) -> Result<()> {
    let (m, v) = optimizer.states_mut();
    for ((parameter, m), v) in model.parameters_mut().iter_mut().zip(m).zip(v) {
        copy(states, &format!("m.{}", parameter.name), m)?;
        copy(states, &format!("v.{}", parameter.name), v)?;
        copy(parameters, &parameter.name, &mut parameter.tensor)?;
    }
    model.refresh()
}

fn copy(file: &File, name: &str, tensor: &mut Tensor) -> Result<()> {
    // safetensors is little endian, as are all targets of this library.
    tensor.write_bytes(file.tensor(name)?.data)
}
