//! One optimizer step, and the memory it works in: allocated once, used by every step.

use super::config::TrainOptions;
use super::dataset::{Dataset, Split};
use super::evaluation::Evaluation;
use super::optimizer::{self, Optimizer};
use crate::model::{Activations, Dropout, Gradients, Model};
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Cancelled, Error, ErrorKind, Result, vec_zeroed};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub struct Work {
    dataset: Arc<Dataset>,
    pub optimizer: Optimizer,
    gradients: Gradients,
    activations: Activations,
    tokens: Vec<u32>,
    targets: Vec<u32>,
    evaluation: Evaluation,
}

/// What a step measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub loss: f64,
    pub learning_rate: f64,
    pub gradient_norm: f64,
}

impl Work {
    /// `options` are resolved.
    pub fn new(model: &Model, dataset: Arc<Dataset>, options: &TrainOptions) -> Result<Work> {
        let (batch, length) = (options.batch_size, options.context_length);
        let evaluation = Evaluation::new(&dataset, batch, length, options.evaluation_windows);
        Ok(Work {
            dataset,
            optimizer: Optimizer::new(model.parameters())?,
            gradients: Gradients::new(model)?,
            activations: Activations::new(model, batch, length, true)?,
            tokens: vec_zeroed(batch * length)?,
            targets: vec_zeroed(batch * length)?,
            evaluation,
        })
    }

    pub fn evaluation(&self) -> &Evaluation {
        &self.evaluation
    }

    pub fn evaluate(&mut self, model: &Model, cancelled: Cancelled) -> Result<f64> {
        let batch = (&mut self.tokens[..], &mut self.targets[..]);
        self.evaluation.run(model, &self.dataset, &mut self.activations, batch, cancelled)
    }

    /// The step after `step` steps. An error, CANCELLED among them, leaves the parameters and the optimizer's states as they were.
    pub fn step(&mut self, model: &mut Model, options: &TrainOptions, step: u64, cancelled: Cancelled) -> Result<Done> {
        let number = step + 1;
        let loss = self.accumulate(model, options, step, cancelled).map_err(|error| match error.kind {
            ErrorKind::Cancelled => error!(Cancelled, "step {number} was cancelled"),
            _ => error,
        })?;
        let context = model.context().clone();
        let gradient_norm = self.optimizer.gradient_norm(&context, &self.gradients)?;
        if !gradient_norm.is_finite() {
            return Err(self.name_bad_gradient(model, number));
        }
        let factor = options.schedule.factor(number, options.max_steps, options.warmup_steps, options.minimum_lr_ratio);
        let learning_rate = options.learning_rate * factor;
        let scalars = optimizer::scalars(options, number, learning_rate, gradient_norm);
        self.optimizer.update(&context, model, &self.gradients, &scalars)?;
        Ok(Done { loss, learning_rate, gradient_norm })
    }

    /// The gradients of a step's micro-batches, each weighted alike; returns their mean loss.
    fn accumulate(&mut self, model: &Model, options: &TrainOptions, step: u64, cancelled: Cancelled) -> Result<f64> {
        let (batch, length) = (options.batch_size, options.context_length);
        let factor = 1.0 / options.accumulation as f64;
        self.gradients.zero(model.context())?;
        let mut loss = 0.0;
        // `TrainOptions::resolve` has checked that both fit.
        let step = step as u32;
        for micro in 0..options.accumulation as u32 {
            let stream = Stream::new(options.seed, Purpose::Batch, step, micro);
            self.dataset.batch(Split::Train, stream, batch, length, &mut self.tokens, &mut self.targets)?;
            let dropout = Dropout { seed: options.seed, step, micro_batch: micro };
            let part = model.backward(
                &mut self.activations,
                (&self.tokens, &self.targets),
                factor,
                Some(dropout),
                &mut self.gradients,
                cancelled,
            )?;
            ensure!(
                part.is_finite(),
                State,
                "step {}: the loss of micro-batch {micro} is {part}; nothing was updated",
                u64::from(step) + 1
            );
            loss += part * factor;
        }
        Ok(loss)
    }

    fn name_bad_gradient(&self, model: &Model, number: u64) -> Error {
        let context = model.context();
        for (parameter, gradient) in model.parameters().iter().zip(self.gradients.tensors()) {
            match (context.kernels().first_non_finite)(context.launch(), &gradient.view()) {
                Err(error) => return error,
                Ok(None) => {}
                Ok(Some(element)) => {
                    let name = &parameter.name;
                    return error!(
                        State,
                        "step {number}: element {element} of the gradient of {name} is not finite; nothing was updated"
                    );
                }
            }
        }
        error!(State, "step {number}: the norm of the gradient overflows; nothing was updated")
    }
}
