//! A step whose gradients are given up one after the other: there is room for those of a stage of the backward pass, a matrix or
//! those that read the same input, which take their step before the stage below it is gone through. What it costs is all that has
//! to be known of every gradient before the first update: their common norm, and with it clipping, the sum of several
//! micro-batches, and the guard.
//!
//! The numbers are those of a step that keeps all gradients. But a step that fails in the middle has changed some layers, and the
//! run can only go on from a checkpoint: then it is torn.

use super::config::{GradientQuantization, TrainOptions};
use super::done::Done;
use super::optimizer::ModelWeights;
#[cfg(test)]
use super::step::Fault;
use super::step::{Loss, Torn, Work, check_loss, quantize, views};
use crate::model::{BackwardInput, Draw, Model, Stage};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Cancelled, Error, Result, never};
use std::ops::Range;

/// ARGUMENT, naming what a step with `gradient_release` cannot have.
pub fn check(options: &TrainOptions) -> Result<()> {
    if !options.gradient_release {
        return Ok(());
    }
    let (clip, accumulation) = (options.clip, options.accumulation);
    let why = "every gradient would have to be there at once";
    ensure!(clip == 0.0, Argument, "clip is {clip}, expected 0 with gradient_release: {why}");
    ensure!(accumulation == 1, Argument, "accumulation is {accumulation}, expected 1 with gradient_release: {why}");
    ensure!(!options.guard, Argument, "guard is on, expected off with gradient_release: {why}");
    ensure!(options.lr_net.is_none(), Argument, "there is an lr_net, expected none with gradient_release: {why}");
    let ternary = options.quantize_gradients == GradientQuantization::Ternary;
    ensure!(
        !ternary,
        Argument,
        "quantize_gradients is ternary, which keeps an error for every gradient; gradient_release keeps none"
    );
    Ok(())
}

impl Work {
    /// The step after `step` steps, of a batch that passes through the model in one slice.
    pub(super) fn release(
        &mut self,
        model: &mut Model,
        options: &TrainOptions,
        step: u64,
        cancelled: Cancelled,
    ) -> Result<Done> {
        let number = step + 1;
        let loss = self.forward(model, options, step, cancelled)?;
        let factor = self.learning_rate_factor(options);
        self.optimizer.set_learning_rate(options.learning_rate * factor)?;
        self.optimizer.set_clock(number);
        self.optimizer.reserve_parts(model.parameters()[0].tensor.device())?;
        for stage in model.stages() {
            self.step_stage(model, options, step, stage).map_err(|error| self.tell_torn(error))?;
        }
        let report = self.optimizer.end_parts()?;
        let Work { optimizer, codes, cluster_loss, torn, .. } = self;
        if let Some(codes) = codes {
            codes.commit();
        }
        *torn = None;
        if let Some(loss) = cluster_loss {
            loss.commit(number);
        }
        Ok(Done {
            loss,
            learning_rate_factor: factor,
            learning_rate: report.learning_rate,
            gradient_norm: report.gradient_norm,
            step_ratio: report.ratio,
            flip_rate: report.flips as f64 / report.trits as f64,
            radius_factor: optimizer.progress().factor,
            ..Done::NOTHING
        })
    }

    /// The pass of the next batch up to the gradient of its logits and what is made of that at once; the loss, which is a number.
    fn forward(&mut self, model: &Model, options: &TrainOptions, step: u64, cancelled: Cancelled) -> Result<f64> {
        self.draw_batch(options, [step as u32, 0])?;
        self.begin_cluster_loss();
        let Work { slices, tokens, targets, gradients, cluster_loss, rows, .. } = self;
        let activations = slices.whole();
        let input = input(options, step, (tokens, targets), cancelled);
        model.forward_text(activations, input.text, input.draw, input.cancelled)?;
        gradients.begin_stage(model, Stage::Head)?;
        model.backward_stage(Stage::Head, activations, input, gradients)?;
        let mean = activations.mean_loss()?;
        check_loss(step + 1, Loss::of(mean))?;
        if let Some(loss) = cluster_loss {
            loss.add(rows, &activations.losses.read::<f32>()?);
        }
        Ok(mean)
    }

    /// The gradients of a stage, but of the head, whose are there, and the step of its parameters. From the first of them on nobody
    /// gives it up.
    fn step_stage(&mut self, model: &mut Model, options: &TrainOptions, step: u64, stage: Stage) -> Result<()> {
        let Work { slices, tokens, targets, gradients, .. } = self;
        if stage != Stage::Head {
            gradients.begin_stage(model, stage)?;
            let input = input(options, step, (tokens, targets), &never);
            model.backward_stage(stage, slices.whole(), input, gradients)?;
        }
        let parameters = model.parameters_of(stage);
        #[cfg(test)]
        if stage == Stage::AttentionOutput(0) {
            self.spoil(step + 1, parameters.clone());
        }
        self.quantize_stage(model, options, step, parameters.clone())?;
        let Work { gradients, optimizer, torn, .. } = self;
        let views = views(gradients, parameters.clone())?;
        let before = torn.replace(Torn::Step(step + 1));
        let report = optimizer.step_part(&mut ModelWeights::new(model), parameters, &views)?;
        if let Some(refusal) = report.refusal {
            // Which has changed nothing.
            *torn = before;
            return Err(refusal.error);
        }
        model.refresh_stage(stage)
    }

    /// The gradients of these parameters through their codes, which need numbers.
    fn quantize_stage(
        &mut self,
        model: &Model,
        options: &TrainOptions,
        step: u64,
        parameters: Range<usize>,
    ) -> Result<()> {
        if self.codes.is_none() {
            return Ok(());
        }
        let norm = self.optimizer.norm(&views(&self.gradients, parameters.clone())?)?;
        if !norm.is_finite() {
            return Err(self.name_bad_gradient(model, step + 1, parameters));
        }
        let Work { codes, gradients, optimizer, .. } = self;
        codes.as_mut().map_or(Ok(()), |codes| quantize(codes, gradients, parameters, optimizer, options.seed, step))
    }

    /// An error of a step that some layers have taken says so.
    fn tell_torn(&self, error: Error) -> Error {
        if self.torn.is_none() {
            return error;
        }
        let why = error.message.strip_suffix("; nothing was updated").unwrap_or(&error.message);
        Error::new(error.kind, format!("{why}; the layers above it have stepped: go on from a checkpoint"))
    }

    #[cfg(test)]
    fn spoil(&mut self, number: u64, parameters: Range<usize>) {
        for (_, fault) in self.faults.iter().filter(|(at, _)| *at == number) {
            if let Fault::Gradients(factor) = fault {
                let all = self.gradients.tensors_mut()[parameters.clone()].iter_mut();
                all.for_each(|gradient| gradient.host_mut::<f32>().unwrap().iter_mut().for_each(|x| *x *= factor));
            }
        }
    }

    /// The file of a checkpoint is cut in half.
    #[cfg(test)]
    pub(super) fn spoil_checkpoint(&self, number: u64, path: &std::path::Path) {
        if self.faults.contains(&(number, Fault::Checkpoint)) {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }
    }

    /// STATE after a step, or a resume, that failed with some of the layers changed.
    pub(super) fn check_whole(&self) -> Result<()> {
        match self.torn {
            None => Ok(()),
            Some(Torn::Step(number)) => Err(error!(
                State,
                "step {number} failed when some layers had taken it, as gradient_release has it: go on from a checkpoint"
            )),
            Some(Torn::Resume) => {
                Err(error!(State, "a checkpoint was read in part, and then not: go on from one that can be read"))
            }
        }
    }
}

/// A batch that is one slice.
fn input<'a>(
    options: &TrainOptions,
    step: u64,
    text: (&'a [u32], &'a [u32]),
    cancelled: Cancelled<'a>,
) -> BackwardInput<'a> {
    // `TrainOptions::resolve` has checked that the step fits.
    let draw = Draw { seed: options.seed, step: step as u32, micro_batch: 0 };
    BackwardInput { text, factor: 1.0, draw: Some(draw), cancelled }
}
