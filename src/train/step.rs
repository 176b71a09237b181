//! One optimizer step, and the memory it works in: allocated once, used by every step.

use super::adaptive::Adaptive;
use super::cluster_loss::{ClusterLoss, LossSums};
use super::config::{GradientQuantization, TrainOptions};
use super::dataset::Dataset;
use super::evaluation::Evaluation;
use super::optimizer::{self, Optimizer};
use super::sampling::{Clusters, Sampling};
use crate::model::{Activations, Draw, GradientProducts, Gradients, Model};
use crate::quantize::GradientCodes;
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Cancelled, Error, ErrorKind, Result, vec_zeroed};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub struct Work {
    dataset: Arc<Dataset>,
    pub optimizer: Optimizer,
    /// None when `use_adaptive_lr` is off.
    pub adaptive: Option<Adaptive>,
    /// None when `quantize_gradients` is off.
    pub codes: Option<GradientCodes>,
    gradients: Gradients,
    activations: Activations,
    /// For the last slice of a micro-batch, where it is a smaller one.
    rest: Option<Activations>,
    tokens: Vec<u32>,
    targets: Vec<u32>,
    sampling: Sampling,
    /// The cluster of each window of a batch.
    rows: Vec<u32>,
    cluster_loss: Option<ClusterLoss>,
    evaluation: Evaluation,
}

/// What a step measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub loss: f64,
    pub learning_rate: f64,
    pub learning_rate_factor: f64,
    pub gradient_norm: f64,
}

impl Done {
    /// Before the first step.
    pub const NOTHING: Done =
        Done { loss: f64::NAN, learning_rate: f64::NAN, learning_rate_factor: f64::NAN, gradient_norm: f64::NAN };
}

impl Work {
    /// `options` are resolved.
    pub fn new(model: &Model, dataset: Arc<Dataset>, options: &TrainOptions, cancelled: Cancelled) -> Result<Work> {
        let (batch, length) = (options.batch_size, options.context_length);
        let slice = options.slice(length);
        let products = GradientProducts { input: options.input_gradient, weight: options.weight_gradient };
        let activations = |windows| match options.activation_checkpointing {
            true => Activations::checkpointing(model, windows, length, products),
            false => Activations::training(model, windows, length, products),
        };
        let rest = batch % slice;
        let evaluation = Evaluation::new(&dataset, slice, length, options.evaluation_windows);
        let largest = model.parameters().iter().map(|parameter| parameter.tensor.view().count()).max().unwrap_or(0);
        let sampling = Sampling::new(model.context(), &dataset, options, cancelled)?;
        let interval = if options.log_interval > 0 { options.log_interval } else { options.evaluation_interval };
        let cluster_loss =
            sampling.clusters().map(|clusters| ClusterLoss::new(clusters.count(), interval)).transpose()?;
        let gradients = Gradients::new(model)?;
        let codes = match options.quantize_gradients {
            GradientQuantization::None => None,
            GradientQuantization::Int8 => Some(GradientCodes::int8(model.context(), largest)?),
            GradientQuantization::Ternary => Some(GradientCodes::ternary(model.context(), gradients.tensors().iter())?),
        };
        Ok(Work {
            dataset,
            optimizer: Optimizer::new(model.context(), model.parameters())?,
            adaptive: if options.use_adaptive_lr { Some(Adaptive::new(model, options)?) } else { None },
            codes,
            gradients,
            activations: activations(slice)?,
            rest: if rest > 0 { Some(activations(rest)?) } else { None },
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
        let mut gradient_norm = self.finite_norm(model, number)?;
        if self.codes.is_some() {
            self.quantize_gradients(model, options, step)?;
            gradient_norm = self.finite_norm(model, number)?;
        }
        let learning_rate_factor = self.adaptive.map_or(1.0, |adaptive| adaptive.factor(options.learning_rate));
        let factor = options.schedule.factor(number, options.max_steps, options.warmup_steps, options.minimum_lr_ratio);
        let learning_rate = options.learning_rate * factor * learning_rate_factor;
        let scalars = optimizer::scalars(options, number, learning_rate, gradient_norm);
        self.optimizer.update(&context, model, &self.gradients, &scalars)?;
        if let Some(codes) = &mut self.codes {
            codes.commit();
        }
        if let Some(loss) = &mut self.cluster_loss {
            loss.commit(number);
        }
        Ok(Done { loss, learning_rate, learning_rate_factor, gradient_norm })
    }

    /// Passes the gradient of every matrix through its codes.
    fn quantize_gradients(&mut self, model: &Model, options: &TrainOptions, step: u64) -> Result<()> {
        let Some(codes) = &mut self.codes else { return Ok(()) };
        for (i, gradient) in self.gradients.tensors_mut().iter_mut().enumerate() {
            // The step of a run fits: `TrainOptions::resolve` has checked it.
            let stream = Stream::new(options.seed, Purpose::Gradient, step as u32, i as u32);
            codes.pass(model.context(), i, stream, gradient).map_err(|error| {
                let name = &model.parameters()[i].name;
                error!(State, "step {}: the gradient of {name}: {error}; nothing was updated", step + 1)
            })?;
        }
        Ok(())
    }

    /// The gradients of a step's micro-batches, each weighted alike; returns their mean loss.
    fn accumulate(&mut self, model: &Model, options: &TrainOptions, step: u64, cancelled: Cancelled) -> Result<f64> {
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
            let stream = Stream::new(options.seed, Purpose::Batch, step, micro);
            let (rows, tokens, targets) = (&mut self.rows, &mut self.tokens, &mut self.targets);
            self.sampling.batch(&self.dataset, stream, length, rows, tokens, targets)?;
            let part = self.slices(model, options, [step, micro], factor, cancelled)?;
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

    /// Adds the gradients of the micro-batch that was drawn, slice by slice; returns its mean loss.
    fn slices(
        &mut self,
        model: &Model,
        options: &TrainOptions,
        [step, micro]: [u32; 2],
        factor: f64,
        cancelled: Cancelled,
    ) -> Result<f64> {
        let (batch, length, slice) =
            (options.batch_size, options.context_length, options.slice(options.context_length));
        let count = batch.div_ceil(slice);
        let mut loss = 0.0;
        for i in 0..count {
            let windows = i * slice..batch.min((i + 1) * slice);
            let (first, last) = (windows.start * length, windows.end * length);
            let share = windows.len() as f64 / batch as f64;
            let activations = match &mut self.rest {
                Some(rest) if windows.len() < slice => rest,
                _ => &mut self.activations,
            };
            let draw = Draw { seed: options.seed, step, micro_batch: micro * count as u32 + i as u32 };
            let text = (&self.tokens[first..last], &self.targets[first..last]);
            let part = model.backward(activations, text, factor * share, Some(draw), &mut self.gradients, cancelled)?;
            loss += part * share;
            if let Some(loss) = &mut self.cluster_loss {
                loss.add(&self.rows[windows], &activations.losses.read::<f32>()?);
            }
        }
        Ok(loss)
    }

    /// The norm of the gradient; STATE, naming the first element that is not finite.
    fn finite_norm(&mut self, model: &Model, number: u64) -> Result<f64> {
        let norm = self.optimizer.gradient_norm(model.context(), &self.gradients)?;
        if norm.is_finite() { Ok(norm) } else { Err(self.name_bad_gradient(model, number)) }
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
