//! The verb `step` on the parameters of a model.

use super::config::TrainOptions;
use crate::model::{Model, ParameterKind};
use crate::step::{Kind, Method, Optimizer, ParameterOptions, Schedule, StepOptions, Weight, Weights};
use crate::tensor::error::ensure;
use crate::tensor::{DType, Result};
use std::cell::OnceCell;

/// The float masters of a model, or the codes in their place; `Model::refresh` must follow a step.
pub struct ModelWeights<'a> {
    model: &'a mut Model,
    /// Read from a device when the first is asked for: they are those of the last `Model::refresh`.
    thresholds: OnceCell<Vec<f32>>,
}

impl<'a> ModelWeights<'a> {
    pub fn new(model: &'a mut Model) -> ModelWeights<'a> {
        ModelWeights { model, thresholds: OnceCell::new() }
    }
}

impl Weights for ModelWeights<'_> {
    fn weight(&mut self, index: usize) -> Weight<'_> {
        let parameter = &mut self.model.parameters_mut()[index];
        Weight { values: &mut parameter.tensor, scales: &mut parameter.scales }
    }

    fn threshold(&self, index: usize) -> Result<Option<f32>> {
        if self.model.parameters()[index].kind != ParameterKind::Ternary {
            return Ok(None);
        }
        let all = match self.thresholds.get() {
            Some(all) => all,
            None => {
                let read = self.model.thresholds()?.into_owned();
                self.thresholds.get_or_init(|| read)
            }
        };
        Ok(Some(all[index]))
    }
}

/// An optimizer over all parameters, in their order.
pub fn optimizer(model: &Model, options: &TrainOptions) -> Result<Optimizer> {
    let mut optimizer = Optimizer::new(model.context().clone(), step_options(options))?;
    for (i, parameter) in model.parameters().iter().enumerate() {
        let (name, dtype) = (&parameter.name, parameter.tensor.dtype());
        let floats = dtype == DType::F32 || parameter.scales.count() > 0;
        ensure!(floats, DType, "training: parameter {name} is {dtype}, expected f32");
        let kind = match parameter.kind {
            ParameterKind::Ternary => Kind::Ternary,
            ParameterKind::Matrix => Kind::Matrix,
            ParameterKind::Vector => Kind::Vector,
        };
        // An embedding has a row for each token, and most of them no gradient: nothing to make orthogonal. So has the head.
        let is_linear = model.linears().any(|linear| linear.master == Some(i));
        let method = if is_linear { None } else { Some(Method::AdamW).filter(|_| options.method == Method::Muon) };
        optimizer.add(name, &parameter.tensor, &ParameterOptions { method, ..ParameterOptions::of(kind) })?;
    }
    optimizer.set_net(options.lr_net.clone());
    Ok(optimizer)
}

pub fn step_options(options: &TrainOptions) -> StepOptions {
    StepOptions {
        method: options.method,
        learning_rate: options.learning_rate,
        beta1: options.beta1,
        beta2: options.beta2,
        epsilon: options.epsilon,
        momentum: options.momentum,
        muon_rms: options.muon_rms,
        weight_decay: options.weight_decay,
        clip: options.clip,
        precision: options.precision,
        radius_mode: options.radius_mode,
        radius_base: options.radius_base,
        radius: options.radius,
        vector_radius: options.vector_radius,
        flip_budget: options.flip_budget,
        schedule: Schedule {
            decay: options.schedule,
            total: options.max_steps,
            warmup: options.warmup_steps,
            minimum: options.minimum_lr_ratio,
        },
        seed: options.seed,
        ..StepOptions::default()
    }
}
