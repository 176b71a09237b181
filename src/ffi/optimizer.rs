//! What the step section keeps behind its handle, an optimizer and where the caller's parameters lie, and the options as read.

use super::arguments::{check_end, check_pointer, one_of, slice};
use super::step::{setun_optimizer_options, setun_parameter_kind, setun_parameter_options, setun_radius_mode};
use crate::step::{Kind, Optimizer, ParameterOptions, RadiusMode, Report, StepOptions};
use crate::tensor::error::ensure;
use crate::tensor::{DType, Result, Tensor, View, reserve};

/// What a `setun_optimizer` names.
pub struct OptimizerObject {
    optimizer: Optimizer,
    /// The addresses of the parameters that have elements, in ascending order: they do not overlap.
    places: Vec<Place>,
}

struct Place {
    start: usize,
    end: usize,
    parameter: usize,
}

impl OptimizerObject {
    pub fn new(optimizer: Optimizer) -> OptimizerObject {
        OptimizerObject { optimizer, places: Vec::new() }
    }

    pub fn get(&self) -> &Optimizer {
        &self.optimizer
    }

    pub fn get_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }

    /// `tensor` is over the caller's memory.
    pub fn add(&mut self, name: &str, tensor: Tensor, own: &ParameterOptions) -> Result<()> {
        let start = tensor.view().as_ptr().addr();
        let (end, parameter) = (start + tensor.bytes(), self.optimizer.parameters().len());
        if let Some(other) = self.overlapping(start, end) {
            ensure!(false, Argument, "data of parameter {name} overlaps parameter {other}");
        }
        reserve(&mut self.places, 1)?;
        self.optimizer.add(name, tensor, own)?;
        if start < end {
            let at = self.places.partition_point(|place| place.start < start);
            self.places.insert(at, Place { start, end, parameter });
        }
        Ok(())
    }

    /// The name of the parameter that shares an address with start .. end.
    fn overlapping(&self, start: usize, end: usize) -> Option<&str> {
        let first = self.places.partition_point(|place| place.end <= start);
        let place = self.places.get(first).filter(|place| start < end && place.start < end)?;
        Some(&self.optimizer.parameters()[place.parameter].name)
    }

    /// One step along the gradients at the pointers, one for each parameter.
    ///
    /// # Safety
    /// Each pointer is NULL or holds as many readable elements as its parameter, which nobody writes meanwhile; the
    /// parameters' memory is alive, and nobody else uses it meanwhile.
    pub unsafe fn step(&mut self, pointers: &[*const f32]) -> Result<Report> {
        let parameters = self.optimizer.parameters();
        ensure!(
            pointers.len() == parameters.len(),
            Argument,
            "count is {}, the optimizer has {} parameters",
            pointers.len(),
            parameters.len()
        );
        let mut gradients = Vec::new();
        reserve(&mut gradients, pointers.len())?;
        for (i, (&pointer, parameter)) in pointers.iter().zip(parameters).enumerate() {
            let (name, count) = (format!("gradients[{i}]"), parameter.count());
            if count > 0 {
                check_pointer(pointer, &name)?;
                let start = pointer.addr();
                if let Some(other) = self.overlapping(start, start.saturating_add(size_of::<f32>() * count)) {
                    ensure!(false, Argument, "{name} overlaps parameter {other}");
                }
            }
            // SAFETY: NULL, alignment and overlap are checked; the length is the caller's contract.
            let gradient: &[f32] = unsafe { slice(pointer, count, &name) }?;
            gradients.push(View::of(gradient, parameter.tensor.dims())?);
        }
        self.optimizer.step(&gradients)
    }
}

pub fn step_options(options: &setun_optimizer_options) -> Result<StepOptions> {
    let modes = [
        (setun_radius_mode::Off as i32, "off", RadiusMode::Off),
        (setun_radius_mode::Cap as i32, "cap", RadiusMode::Cap),
        (setun_radius_mode::Exact as i32, "exact", RadiusMode::Exact),
    ];
    Ok(StepOptions {
        learning_rate: options.learning_rate,
        beta1: options.beta1,
        beta2: options.beta2,
        epsilon: options.epsilon,
        weight_decay: options.weight_decay,
        clip: options.clip,
        radius_mode: one_of(options.radius_mode, "radius_mode", &modes)?,
        radius: options.radius,
        floor: options.radius_floor,
        vector_floor: options.vector_floor,
        lower: options.lower,
        upper: options.upper,
    })
}

pub fn parameter_options(options: &setun_parameter_options, rank: usize) -> Result<ParameterOptions> {
    let by_rank = if rank >= 2 { Kind::Matrix } else { Kind::Vector };
    let kinds = [
        (setun_parameter_kind::Auto as i32, "auto", by_rank),
        (setun_parameter_kind::Ternary as i32, "ternary", Kind::Ternary),
        (setun_parameter_kind::Matrix as i32, "matrix", Kind::Matrix),
        (setun_parameter_kind::Vector as i32, "vector", Kind::Vector),
    ];
    let own = |value: f64| (!value.is_nan()).then_some(value);
    Ok(ParameterOptions {
        kind: one_of(options.kind, "kind", &kinds)?,
        weight_decay: own(options.weight_decay),
        floor: own(options.radius_floor),
        lower: own(options.lower),
        upper: own(options.upper),
    })
}

/// A tensor over the caller's memory; of its own, and empty, where there are no elements.
///
/// # Safety
/// `data` is NULL or holds the whole shape, alive and used by nobody else as long as the tensor is used.
pub unsafe fn lend(data: *mut f32, dims: &[usize], name: &str) -> Result<Tensor> {
    if dims.contains(&0) {
        return Tensor::zeros(DType::F32, dims);
    }
    check_pointer(data, name)?;
    // SAFETY: not NULL and aligned; the rest is the caller's contract.
    let tensor = unsafe { Tensor::wrap(data.cast(), DType::F32, dims) }?;
    check_end(data, tensor.bytes(), name)?;
    Ok(tensor)
}
