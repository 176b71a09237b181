//! One optimizer step, and the memory it works in: allocated once, used by every step.

use super::cluster_loss::{ClusterLoss, LossSums};
use super::config::TrainOptions;
use super::dataset::Dataset;
use super::evaluation::Evaluation;
use super::optimizer::{self, Optimizer};
use super::sampling::{Clusters, Sampling};
use crate::model::{Activations, Dropout, Gradients, Model};
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Error, Result, vec_zeroed};
use std::sync::Arc;

pub struct Work {
    dataset: Arc<Dataset>,
    pub optimizer: Optimizer,
    gradients: Gradients,
    activations: Activations,
    tokens: Vec<u32>,
    targets: Vec<u32>,
    sampling: Sampling,
    /// The cluster of each window of a batch.
    rows: Vec<u32>,
    cluster_loss: Option<ClusterLoss>,
    evaluation: Evaluation,
}

/// What a step measured.
#[derive(Clone, Copy, Debug, PartialEq)]
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
        let sampling = Sampling::new(model.context(), &dataset, options)?;
        let interval = if options.log_interval > 0 { options.log_interval } else { options.evaluation_interval };
        let cluster_loss = sampling.clusters().map(|clusters| ClusterLoss::new(clusters.count(), interval)).transpose()?;
        Ok(Work {
            dataset,
            optimizer: Optimizer::new(model.parameters())?,
            gradients: Gradients::new(model)?,
            activations: Activations::new(model, batch, length, true)?,
            tokens: vec_zeroed(batch * length)?,
            targets: vec_zeroed(batch * length)?,
            sampling,
            rows: vec_zeroed(batch)?,
            cluster_loss,
            evaluation,
        })
    }

    pub fn evaluation(&self) -> &Evaluation {
        &self.evaluation
    }

    /// The clusters that windows are drawn by, if any.
    pub fn clusters(&self) -> Option<&Clusters> {
        self.sampling.clusters()
    }

    pub fn cluster_loss(&self) -> Option<&ClusterLoss> {
        self.cluster_loss.as_ref()
    }

    /// What a checkpoint kept for the next report.
    pub fn restore_cluster_loss(&mut self, kept: Option<&LossSums>) {
        if let Some(loss) = &mut self.cluster_loss {
            loss.restore(kept.unwrap_or(&LossSums::default()));
        }
    }

    pub fn evaluate(&mut self, model: &Model, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<f64> {
        let batch = (&mut self.tokens[..], &mut self.targets[..]);
        self.evaluation.run(model, &self.dataset, &mut self.activations, batch, cancelled)
    }

    /// The step after `step` steps. An error leaves the parameters and the optimizer's states as they were.
    pub fn step(
        &mut self,
        model: &mut Model,
        options: &TrainOptions,
        step: u64,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Done> {
        let number = step + 1;
        let loss = self.accumulate(model, options, step, cancelled)?;
        let context = model.context().clone();
        let gradient_norm = self.optimizer.gradient_norm(&context, &self.gradients)?;
        if !gradient_norm.is_finite() {
            return Err(self.name_bad_gradient(model, number));
        }
        let factor = options.schedule.factor(number, options.max_steps, options.warmup_steps, options.minimum_lr_ratio);
        let learning_rate = options.learning_rate * factor;
        let scalars = optimizer::scalars(options, number, learning_rate, gradient_norm);
        self.optimizer.update(&context, model, &self.gradients, &scalars)?;
        if let Some(loss) = &mut self.cluster_loss {
            loss.commit(number);
        }
        Ok(Done { loss, learning_rate, gradient_norm })
    }

    /// The gradients of a step's micro-batches, each weighted alike; returns their mean loss.
    fn accumulate(
        &mut self,
        model: &Model,
        options: &TrainOptions,
        step: u64,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<f64> {
        let length = options.context_length;
        let factor = 1.0 / options.accumulation as f64;
        self.gradients.zero(model.context())?;
        if let Some(loss) = &mut self.cluster_loss {
            loss.begin();
        }
        let mut loss = 0.0;
        // `TrainOptions::resolve` has checked that both fit.
        let step = step as u32;
        for micro in 0..options.accumulation as u32 {
            ensure!(!cancelled(), Cancelled, "step {} was cancelled", u64::from(step) + 1);
            let stream = Stream::new(options.seed, Purpose::Batch, step, micro);
            let (rows, tokens, targets) = (&mut self.rows, &mut self.tokens, &mut self.targets);
            self.sampling.batch(&self.dataset, stream, length, rows, tokens, targets)?;
            let dropout = Dropout { seed: options.seed, step, micro_batch: micro };
            let part = model.backward(
                &mut self.activations,
                &self.tokens,
                &self.targets,
                factor,
                Some(dropout),
                &mut self.gradients,
            )?;
            ensure!(
                part.is_finite(),
                State,
                "step {}: the loss of micro-batch {micro} is {part}; nothing was updated",
                u64::from(step) + 1
            );
            if let Some(loss) = &mut self.cluster_loss {
                loss.add(&self.rows, self.activations.losses.host()?);
            }
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
