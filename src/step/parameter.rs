//! One tensor that steps, with the states that AdamW keeps for it.

use super::options::{Limits, ParameterOptions, StepOptions};
use super::report::ParameterReport;
use crate::tensor::error::ensure;
use crate::tensor::{DType, Result, Tensor};

pub struct Parameter {
    pub name: String,
    pub tensor: Tensor,
    /// The running means of the gradient and of its square.
    pub m: Tensor,
    pub v: Tensor,
    pub limits: Limits,
    /// What the last step did to it.
    pub report: ParameterReport,
}

impl Parameter {
    /// A parameter that has not stepped yet.
    pub fn new(name: &str, tensor: Tensor, options: &StepOptions, own: &ParameterOptions) -> Result<Parameter> {
        let zeros = || Tensor::zeros(DType::F32, tensor.dims());
        let (m, v) = (zeros()?, zeros()?);
        Parameter::with_states(name, [tensor, m, v], options, own)
    }

    /// A parameter over states that are kept elsewhere: tensor, m and v of the same shape.
    pub fn with_states(
        name: &str,
        [tensor, m, v]: [Tensor; 3],
        options: &StepOptions,
        own: &ParameterOptions,
    ) -> Result<Parameter> {
        ensure!(tensor.dtype() == DType::F32, DType, "parameter {name} is {}, expected f32", tensor.dtype());
        let limits = Limits::of(options, own).map_err(|error| error.within(format_args!("parameter {name}")))?;
        Ok(Parameter { name: name.to_string(), tensor, m, v, limits, report: ParameterReport::default() })
    }

    pub fn count(&self) -> usize {
        self.tensor.count()
    }
}
