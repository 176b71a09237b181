//! What the step section keeps behind its handle: an optimizer, and where the caller's parameters lie.

use super::arguments::{check_pointer, slice};
use crate::step::{Optimizer, ParameterOptions, Report};
use crate::tensor::error::ensure;
use crate::tensor::{Result, Tensor, View, reserve};

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
