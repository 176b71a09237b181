//! What a checkpoint holds of a run: the parameters and the optimizer's states, to bytes and back.

use super::adaptive::Adaptive;
use crate::format::files::Sink;
use crate::format::safetensors::{OpenFile, Source, Sources};
use crate::model::{Model, Parameter};
use crate::step::{Guard, Optimizer, Part, Progress};
use crate::tensor::error::error;
use crate::tensor::{DType, Result, Tensor};
use std::collections::BTreeMap;

/// STATE, naming the first parameter or state that holds a NaN or an infinity.
pub fn check_finite(model: &Model, optimizer: &Optimizer) -> Result<()> {
    let context = model.context();
    let check = |what: &str, parameter: &Parameter, tensor: &Tensor| {
        // Codes are numbers whatever they are.
        if tensor.dtype() != DType::F32 {
            return Ok(());
        }
        let found = (context.kernels().first_non_finite)(context.launch(), &tensor.view())?;
        match found {
            None => Ok(()),
            Some(element) => Err(error!(State, "element {element} of {what}{} is not finite", parameter.name)),
        }
    };
    for (parameter, stepped) in model.parameters().iter().zip(optimizer.parameters()) {
        check("", parameter, &parameter.tensor)?;
        for (what, tensor) in stepped.states.named() {
            check(&format!("{what} of "), parameter, tensor)?;
        }
    }
    Ok(())
}

/// The name of the learning rate's rule among the states of the optimizer.
const ADAPTIVE: &str = "adaptive";

/// The name of what the optimizer knows beside its states: see `numbers`.
const PROGRESS: &str = "progress";

/// Steps taken, what is left of the radius, and the guard.
fn numbers(progress: &Progress) -> Vec<f64> {
    let mut numbers = vec![progress.steps as f64, progress.factor];
    numbers.extend(progress.guard.to_numbers());
    numbers
}

/// `m.<parameter>`, `v.<parameter>` and their scales, as the states are kept; the codes of a parameter that has no floats;
/// `adaptive` when the run has that rule; `error.<parameter>` of what a gradient is still owed, in the order of the parameters.
pub fn optimizer_sources<'a>(
    parameters: &'a [Parameter],
    optimizer: &'a Optimizer,
    adaptive: Option<Adaptive>,
    errors: &'a [Option<Tensor>],
) -> Result<Sources<'a>> {
    let mut tensors = Vec::new();
    if let Some(adaptive) = adaptive {
        tensors.push(owned(ADAPTIVE.into(), adaptive.to_tensor()?));
    }
    let progress = numbers(optimizer.progress());
    tensors.push(owned(PROGRESS.into(), Tensor::from_slice(&progress, &[progress.len()])?));
    for (name, part) in optimizer.extras()? {
        tensors.push(owned(name, Tensor::from_slice(&part.values, &part.dims)?));
    }
    for parameter in optimizer.parameters() {
        let kept = parameter.states.named().into_iter().filter(|(_, tensor)| tensor.count() > 0);
        tensors.extend(kept.map(|(what, tensor)| lent(format!("{what}.{}", parameter.name), tensor)));
    }
    for parameter in parameters.iter().filter(|parameter| parameter.scales.count() > 0) {
        tensors.push(lent(format!("code.{}", parameter.name), &parameter.tensor));
        tensors.push(lent(format!("code_scale.{}", parameter.name), &parameter.scales));
    }
    for (parameter, error) in parameters.iter().zip(errors) {
        tensors.extend(error.iter().map(|error| lent(error_name(parameter), error)));
    }
    Ok(Sources { tensors, metadata: BTreeMap::new() })
}

fn lent(name: String, tensor: &Tensor) -> Source<'_> {
    let emit = Box::new(|sink: &mut Sink| sink(&tensor.read_bytes()?));
    Source { name, dtype: tensor.dtype(), dims: tensor.dims().to_vec(), emit }
}

fn owned<'a>(name: String, tensor: Tensor) -> Source<'a> {
    let (dtype, dims) = (tensor.dtype(), tensor.dims().to_vec());
    Source { name, dtype, dims, emit: Box::new(move |sink: &mut Sink| sink(&tensor.read_bytes()?)) }
}

fn error_name(parameter: &Parameter) -> String {
    format!("error.{}", parameter.name)
}

/// Whether the file holds what gradients are still owed; FORMAT names the tensor and both shapes.
pub fn check_errors(model: &Model, states: &OpenFile, errors: &[Option<Tensor>]) -> Result<()> {
    for (parameter, error) in model.parameters().iter().zip(errors) {
        if let Some(error) = error {
            states.check(&error_name(parameter), DType::F32, error.dims())?;
        }
    }
    Ok(())
}

/// Copies what gradients are still owed from a file that `check_errors` has passed.
pub fn restore_errors(model: &Model, states: &OpenFile, errors: &mut [Option<Tensor>]) -> Result<()> {
    for (parameter, error) in model.parameters().iter().zip(errors) {
        if let Some(error) = error {
            copy(states, &error_name(parameter), error)?;
        }
    }
    Ok(())
}

/// Whether the files hold what the model and its optimizer need; FORMAT names the tensor and both shapes.
pub fn check_tensors(model: &Model, optimizer: &Optimizer, parameters: &OpenFile, states: &OpenFile) -> Result<()> {
    for (parameter, stepped) in model.parameters().iter().zip(optimizer.parameters()) {
        let (name, tensor) = (&parameter.name, &parameter.tensor);
        parameters.check(name, DType::F32, tensor.dims())?;
        for (what, tensor) in stepped.states.named().into_iter().filter(|(_, tensor)| tensor.count() > 0) {
            states.check(&format!("{what}.{name}"), tensor.dtype(), tensor.dims())?;
        }
        if parameter.scales.count() > 0 {
            states.check(&format!("code.{name}"), tensor.dtype(), tensor.dims())?;
            states.check(&format!("code_scale.{name}"), DType::F32, parameter.scales.dims())?;
        }
    }
    read_progress(states).map(|_| ())
}

/// The progress of an optimizer from the file; FORMAT where it is no optimizer's.
fn read_progress(states: &OpenFile) -> Result<Progress> {
    let (dims, numbers) = states.doubles(PROGRESS)?;
    let read = || {
        let (&[steps, factor], guard) = numbers.split_first_chunk::<2>()?;
        let sound = steps >= 0.0 && steps.fract() == 0.0 && steps < 2f64.powi(53) && factor > 0.0 && factor <= 1.0;
        let guard = Guard::from_numbers(guard).filter(|_| sound)?;
        Some(Progress { steps: steps as u64, factor, refused: Default::default(), guard })
    };
    read().ok_or_else(|| error!(Format, "{PROGRESS} is {dims:?} {numbers:?}, which is no optimizer's"))
}

/// The learning rate's rule from the file; FORMAT when it is not there.
pub fn read_adaptive(states: &OpenFile) -> Result<Adaptive> {
    states.check(ADAPTIVE, DType::F64, &[1])?;
    let (_, numbers) = states.doubles(ADAPTIVE)?;
    Ok(Adaptive::from_number(numbers[0]))
}

/// Copies the files, which `check_tensors` has passed, into the model and the optimizer.
pub fn restore(model: &mut Model, optimizer: &mut Optimizer, parameters: &OpenFile, states: &OpenFile) -> Result<()> {
    let progress = read_progress(states)?;
    optimizer.restore_extras(&|name| Part::of(states.doubles(name)))?;
    for (parameter, stepped) in model.parameters_mut().iter_mut().zip(optimizer.parameters_mut()) {
        let name = &parameter.name;
        for (what, tensor) in stepped.states.named_mut().into_iter().filter(|(_, tensor)| tensor.count() > 0) {
            copy(states, &format!("{what}.{name}"), tensor)?;
        }
        if parameter.scales.count() > 0 {
            copy(states, &format!("code.{name}"), &mut parameter.tensor)?;
            copy(states, &format!("code_scale.{name}"), &mut parameter.scales)?;
        } else {
            copy(parameters, name, &mut parameter.tensor)?;
        }
    }
    optimizer.set_progress(progress);
    model.refresh()
}

fn copy(file: &OpenFile, name: &str, tensor: &mut Tensor) -> Result<()> {
    // safetensors is little endian, as are all targets of this library.
    tensor.write_bytes(&file.bytes(name)?)
}
