//! One optimizer step, and the memory it works in: allocated once, used by every step.

use super::adaptive::Adaptive;
use super::cluster_loss::{ClusterLoss, LossSums};
use super::config::{GradientQuantization, TrainOptions};
use super::dataset::Dataset;
use super::done::Done;
use super::evaluation::Evaluation;
use super::optimizer::{ModelWeights, optimizer};
use super::sampling::{Clusters, Sampling};
use crate::model::{Draw, Form, GradientProducts, Gradients, Model, Slices};
use crate::quantize::GradientCodes;
use crate::step::{Batch, GuardOptions, Optimizer, Skip};
use crate::tensor::error::error;
use crate::tensor::log::{LogLevel, log};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Cancelled, Error, ErrorKind, Result, Tensor, View, reserve, vec_zeroed};
use std::ops::Range;
use std::sync::Arc;

pub struct Work {
    dataset: Arc<Dataset>,
    pub optimizer: Optimizer,
    /// None when `use_adaptive_lr` is off.
    pub adaptive: Option<Adaptive>,
    /// None when `quantize_gradients` is off.
    pub codes: Option<GradientCodes>,
    pub(super) gradients: Gradients,
    pub(super) slices: Slices,
    pub(super) tokens: Vec<u32>,
    pub(super) targets: Vec<u32>,
    sampling: Sampling,
    /// The cluster of each window of a batch.
    pub(super) rows: Vec<u32>,
    pub(super) cluster_loss: Option<ClusterLoss>,
    evaluation: Evaluation,
    /// The mean loss of each window of a step that is checked, before it and after it.
    before: Vec<f32>,
    after: Vec<f32>,
    /// What failed when it had changed a part of the model, if anything did.
    pub(super) torn: Option<Torn>,
    #[cfg(test)]
    pub faults: Vec<(u64, Fault)>,
}

/// What leaves a model that is neither of one step nor of the next.
#[derive(Clone, Copy)]
pub(super) enum Torn {
    /// This step, when some layers had taken it: see `release.rs`.
    Step(u64),
    /// The reading of a checkpoint that was whole when it was verified.
    Resume,
}

/// What goes wrong in one step of a test.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The batch is no text: token k is 7 k + 1, and 5 k + 2 follows it.
    Tokens,
    /// Every gradient is multiplied by it.
    Gradients(f32),
    /// The learning rate is.
    Rate(f64),
    /// The checkpoint of the step loses its end when it has been verified.
    Checkpoint,
}

impl Work {
    /// `options` are resolved.
    pub fn new(model: &Model, dataset: Arc<Dataset>, options: &TrainOptions, sampling: Sampling) -> Result<Work> {
        let (batch, length) = (options.batch_size, options.context_length);
        let products = GradientProducts { input: options.input_gradient, weight: options.weight_gradient };
        let (checkpointing, whole) = (options.activation_checkpointing, options.gradient_release);
        let form = Form { batch, length, products, checkpointing, whole };
        let slices = Slices::taught(model, form, options.teacher.as_ref())?;
        let evaluation = Evaluation::new(&dataset, slices.size(), length, options.evaluation_windows);
        let largest = model.parameters().iter().map(|parameter| parameter.tensor.view().count()).max().unwrap_or(0);
        let interval = if options.log_interval > 0 { options.log_interval } else { options.evaluation_interval };
        let cluster_loss =
            sampling.clusters().map(|clusters| ClusterLoss::new(clusters.count(), interval)).transpose()?;
        let gradients = if whole { Gradients::released(model) } else { Gradients::new(model) }?;
        let codes = match options.quantize_gradients {
            GradientQuantization::None => None,
            GradientQuantization::Int8 => Some(GradientCodes::int8(model.context(), largest)?),
            GradientQuantization::Ternary => Some(GradientCodes::ternary(model.context(), gradients.tensors().iter())?),
        };
        Ok(Work {
            dataset,
            optimizer: optimizer(model, options)?,
            adaptive: if options.use_adaptive_lr { Some(Adaptive::new(model, options)?) } else { None },
            codes,
            gradients,
            slices,
            tokens: vec_zeroed(batch * length)?,
            targets: vec_zeroed(batch * length)?,
            sampling,
            rows: vec_zeroed(batch)?,
            cluster_loss,
            evaluation,
            before: Vec::new(),
            after: Vec::new(),
            torn: None,
            #[cfg(test)]
            faults: Vec::new(),
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
        self.evaluation.run(model, &self.dataset, self.slices.whole(), batch, cancelled)
    }

    /// The step after `step` steps. An error, CANCELLED among them, leaves the parameters, the optimizer's states and the guard as
    /// they were; only what a refused update takes of the radius stays taken. With `gradient_release` that holds until the first
    /// layers have stepped.
    pub fn step(&mut self, model: &mut Model, options: &TrainOptions, step: u64, cancelled: Cancelled) -> Result<Done> {
        self.check_whole()?;
        let before = self.optimizer.progress().clone();
        let done = match options.gradient_release {
            true => self.release(model, options, step, cancelled).map_err(|error| named(step + 1, error)),
            false => self.try_step(model, options, step, cancelled),
        };
        if done.is_err() && self.optimizer.progress().refused == before.refused {
            self.optimizer.set_progress(before);
        }
        done
    }

    fn try_step(&mut self, model: &mut Model, options: &TrainOptions, step: u64, cancelled: Cancelled) -> Result<Done> {
        let number = step + 1;
        let guard = options.guard_options();
        let due = guard.as_ref().is_some_and(|guard| self.optimizer.progress().guard.is_due(guard, number));
        let named = |error: Error| named(number, error);
        self.before.clear();
        let loss = self.accumulate(model, options, step, due, cancelled).map_err(named)?;
        if guard.is_none() {
            check_loss(number, loss)?;
        }
        let factor = self.learning_rate_factor(options);
        #[cfg(test)]
        let factor = self.apply_fault(number, factor);
        self.optimizer.set_learning_rate(options.learning_rate * factor)?;
        self.optimizer.set_clock(number);
        let mut done = Done { loss: loss.mean, learning_rate_factor: factor, ..Done::NOTHING };
        let skipped = self.update(model, options, step, guard.as_ref(), &mut done, cancelled).map_err(named)?;
        if let Some(loss) = &mut self.cluster_loss {
            if skipped {
                // No text of any cluster.
                loss.begin();
            }
            loss.commit(number);
        }
        let progress = self.optimizer.progress();
        (done.radius_factor, done.skipped, done.undone) =
            (progress.factor, progress.guard.skipped, progress.guard.undone);
        Ok(done)
    }

    /// The optimizer's step, and where it is due a check of it; true where the guard skips the batch.
    fn update(
        &mut self,
        model: &mut Model,
        options: &TrainOptions,
        step: u64,
        guard: Option<&GuardOptions>,
        done: &mut Done,
        cancelled: Cancelled,
    ) -> Result<bool> {
        let number = step + 1;
        let norm = if guard.is_some() || self.codes.is_some() { self.norm()? } else { f64::NAN };
        if guard.is_none() && self.codes.is_some() && !norm.is_finite() {
            // The codes of a gradient need numbers.
            return Err(self.name_bad_gradient(model, number, 0..model.parameters().len()));
        }
        let batch = Batch { loss: done.loss, guard: guard.map(|guard| (guard, norm)) };
        let Work { optimizer, gradients, codes, .. } = self;
        let report = optimizer.step_guarded(&mut ModelWeights::new(model), &batch, |optimizer| {
            if let Some(codes) = codes {
                quantize(codes, gradients, 0..gradients.tensors().len(), optimizer, options.seed, step)?;
            }
            views(gradients, 0..gradients.tensors().len())
        })?;
        if let Some(error) = report.stop {
            return Err(error);
        }
        (done.learning_rate, done.gradient_norm) = (report.learning_rate, report.gradient_norm);
        if let Some(skip) = report.skip {
            let (loss, why) = (done.loss, describe(skip));
            log(
                LogLevel::Warning,
                format_args!("step {number} is skipped, its batch {why}: loss {loss:.4}, gradient norm {norm:.3e}"),
            );
            return Ok(true);
        }
        if let Some(refusal) = report.refusal {
            return Err(refusal.error);
        }
        (done.step_ratio, done.flip_rate) = (report.ratio, report.flips as f64 / report.trits as f64);
        model.refresh()?;
        let stays = match guard.filter(|_| self.optimizer.has_kept()) {
            None => true,
            // Given up in the middle of the check: as if the step had not been.
            Some(guard) => match self.check(model, options, step, guard, cancelled) {
                Err(error) => return self.take_back(model).and(Err(error)),
                Ok(stays) => stays,
            },
        };
        if let Some(codes) = &mut self.codes
            && stays
        {
            codes.commit();
        }
        Ok(false)
    }

    /// Evaluates the batch of the step that was just taken again, and undoes the step where it made it worse; whether it stays.
    fn check(
        &mut self,
        model: &mut Model,
        options: &TrainOptions,
        step: u64,
        guard: &GuardOptions,
        cancelled: Cancelled,
    ) -> Result<bool> {
        self.after.clear();
        self.evaluate_again(model, options, step, cancelled)?;
        let Work { optimizer, before, after, .. } = self;
        let stays = optimizer.judge(&mut ModelWeights::new(model), guard, before, after)?;
        if !stays {
            model.refresh()?;
            let mean = |losses: &[f32]| losses.iter().map(|&x| f64::from(x)).sum::<f64>() / losses.len() as f64;
            let (from, to, number) = (mean(before), mean(after), step + 1);
            let factor = self.optimizer.progress().factor;
            log(
                LogLevel::Warning,
                format_args!(
                    "step {number} is undone: its own batch went from {from:.4} to {to:.4}; the radius is {factor:.3} of what it was to be"
                ),
            );
            self.optimizer.progress().guard.check_health()?;
        }
        Ok(stays)
    }

    fn take_back(&mut self, model: &mut Model) -> Result<()> {
        self.optimizer.undo(&mut ModelWeights::new(model))?;
        model.refresh()
    }

    /// The gradients of a step's micro-batches, each weighted alike; returns their mean loss. `before` gets the losses of the
    /// windows, where they are wanted.
    fn accumulate(
        &mut self,
        model: &Model,
        options: &TrainOptions,
        step: u64,
        by_window: bool,
        cancelled: Cancelled,
    ) -> Result<Loss> {
        let factor = 1.0 / options.accumulation as f64;
        self.gradients.zero(model.context())?;
        self.begin_cluster_loss();
        let mut loss = Loss { mean: 0.0, bad: None };
        // `TrainOptions::resolve` has checked that both fit.
        let step = step as u32;
        for micro in 0..options.accumulation as u32 {
            self.draw_batch(options, [step, micro])?;
            let part = self.slices(model, options, [step, micro], Some(factor), by_window, cancelled)?;
            if !part.is_finite() && loss.bad.is_none() {
                loss.bad = Some((micro, part));
            }
            loss.mean += part * factor;
        }
        Ok(loss)
    }

    /// What `use_adaptive_lr` multiplies the learning rate by.
    pub(super) fn learning_rate_factor(&self, options: &TrainOptions) -> f64 {
        self.adaptive.map_or(1.0, |adaptive| adaptive.factor(options.learning_rate))
    }

    pub(super) fn begin_cluster_loss(&mut self) {
        if let Some(loss) = &mut self.cluster_loss {
            loss.begin();
        }
    }

    pub(super) fn draw_batch(&mut self, options: &TrainOptions, [step, micro]: [u32; 2]) -> Result<()> {
        let stream = Stream::new(options.seed, Purpose::Batch, step, micro);
        let (rows, tokens, targets) = (&mut self.rows, &mut self.tokens, &mut self.targets);
        self.sampling.batch(&self.dataset, stream, options.context_length, rows, tokens, targets)?;
        #[cfg(test)]
        if self.faults.contains(&(u64::from(step) + 1, Fault::Tokens)) {
            let vocabulary = self.dataset.vocabulary();
            for (k, (token, target)) in self.tokens.iter_mut().zip(&mut self.targets).enumerate() {
                (*token, *target) = (((7 * k + 1) % vocabulary) as u32, ((5 * k + 2) % vocabulary) as u32);
            }
        }
        Ok(())
    }

    #[cfg(test)]
    fn apply_fault(&mut self, number: u64, rate: f64) -> f64 {
        let mut rate = rate;
        for (_, fault) in self.faults.iter().filter(|(at, _)| *at == number) {
            match fault {
                Fault::Tokens | Fault::Checkpoint => {}
                Fault::Rate(factor) => rate *= factor,
                Fault::Gradients(factor) => {
                    for gradient in self.gradients.tensors_mut() {
                        gradient.host_mut::<f32>().unwrap().iter_mut().for_each(|x| *x *= factor);
                    }
                }
            }
        }
        rate
    }

    /// The losses of the windows of a step's micro-batches, into `after`.
    fn evaluate_again(&mut self, model: &Model, options: &TrainOptions, step: u64, cancelled: Cancelled) -> Result<()> {
        for micro in 0..options.accumulation as u32 {
            // Of one micro-batch the tokens are still there.
            if options.accumulation > 1 {
                self.draw_batch(options, [step as u32, micro])?;
            }
            self.slices(model, options, [step as u32, micro], None, true, cancelled)?;
        }
        Ok(())
    }

    /// The mean loss of the micro-batch that was drawn, slice by slice, whose gradients are added `factor` times; without a factor
    /// there are none. The losses of its windows go to `before`, or, without gradients, to `after`.
    fn slices(
        &mut self,
        model: &Model,
        options: &TrainOptions,
        [step, micro]: [u32; 2],
        factor: Option<f64>,
        by_window: bool,
        cancelled: Cancelled,
    ) -> Result<f64> {
        let (batch, length) = (options.batch_size, options.context_length);
        let count = self.slices.count();
        let Work { slices, tokens, targets, gradients, before, after, cluster_loss, rows, .. } = self;
        slices.mean(|i, windows, activations| {
            let part = windows.start * length..windows.end * length;
            let draw = Some(Draw { seed: options.seed, step, micro_batch: micro * count as u32 + i as u32 });
            let text = (&tokens[part.clone()], &targets[part]);
            let loss = match factor {
                Some(factor) => {
                    let share = windows.len() as f64 / batch as f64;
                    model.backward(activations, text, factor * share, draw, gradients, cancelled)?
                }
                None => model.loss(activations, text, draw, cancelled)?,
            };
            if by_window {
                let losses = activations.losses.read::<f32>()?;
                let means = losses.chunks_exact(length).map(|window| window.iter().sum::<f32>() / length as f32);
                let kept = if factor.is_some() { &mut *before } else { &mut *after };
                reserve(kept, windows.len())?;
                kept.extend(means);
            }
            if let Some(loss) = cluster_loss
                && factor.is_some()
            {
                loss.add(&rows[windows], &activations.losses.read::<f32>()?);
            }
            Ok(loss)
        })
    }

    /// The norm of all gradients.
    fn norm(&mut self) -> Result<f64> {
        self.optimizer.norm(&views(&self.gradients, 0..self.gradients.tensors().len())?)
    }

    pub(super) fn name_bad_gradient(&self, model: &Model, number: u64, parameters: Range<usize>) -> Error {
        let (context, gradients) = (model.context(), &self.gradients.tensors()[parameters.clone()]);
        for (parameter, gradient) in model.parameters()[parameters].iter().zip(gradients) {
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

pub(super) fn views(gradients: &Gradients, parameters: Range<usize>) -> Result<Vec<View<'_>>> {
    let mut all = Vec::new();
    reserve(&mut all, parameters.len())?;
    all.extend(gradients.tensors()[parameters].iter().map(Tensor::view));
    Ok(all)
}

/// Passes the gradients of these parameters, where they are matrices, through their codes.
pub(super) fn quantize(
    codes: &mut GradientCodes,
    gradients: &mut Gradients,
    parameters: Range<usize>,
    optimizer: &Optimizer,
    seed: u64,
    step: u64,
) -> Result<()> {
    for i in parameters {
        let gradient = &mut gradients.tensors_mut()[i];
        // The step of a run fits: `TrainOptions::resolve` has checked it.
        let stream = Stream::new(seed, Purpose::Gradient, step as u32, i as u32);
        codes.pass(optimizer.context(), i, stream, gradient).map_err(|error| {
            let name = &optimizer.parameters()[i].name;
            error!(State, "step {}: the gradient of {name}: {error}; nothing was updated", step + 1)
        })?;
    }
    Ok(())
}

/// The loss of a step, and the first micro-batch whose loss is no number.
#[derive(Clone, Copy)]
pub(super) struct Loss {
    mean: f64,
    bad: Option<(u32, f64)>,
}

impl Loss {
    /// Of a step of one micro-batch.
    pub(super) fn of(mean: f64) -> Loss {
        Loss { mean, bad: if mean.is_finite() { None } else { Some((0, mean)) } }
    }
}

fn named(number: u64, error: Error) -> Error {
    match error.kind {
        ErrorKind::Cancelled => error!(Cancelled, "step {number} was cancelled"),
        _ => error,
    }
}

pub(super) fn check_loss(number: u64, loss: Loss) -> Result<()> {
    let Some((micro, part)) = loss.bad else { return Ok(()) };
    Err(error!(State, "step {number}: the loss of micro-batch {micro} is {part}; nothing was updated"))
}

fn describe(skip: Skip) -> String {
    match skip {
        Skip::NotFinite => "has a loss or a gradient that is no number".to_string(),
        Skip::Loss { z } => format!("has a loss {z:.1} standard deviations above the last ones"),
        Skip::Norm { z } => format!("has a gradient norm {z:.1} standard deviations above the last ones"),
    }
}
