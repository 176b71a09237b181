//! A step whose gradients are given up one after the other: there is room for those of a part of a layer, a matrix or those that
//! read the same input, which takes its step before the one below it is gone through. What it costs is all that has to be known of every gradient before the first update: their
//! common norm, and with it clipping, the sum of several micro-batches, and the guard.
//!
//! The numbers are those of a step that keeps all gradients. But a step that fails in the middle has changed some layers, and the
//! run can only go on from a checkpoint: then it is torn.

use super::config::{GradientQuantization, TrainOptions};
use super::done::Done;
use super::optimizer::ModelWeights;
#[cfg(test)]
use super::step::Fault;
use super::step::{Loss, Work, check_loss, quantize};
#[cfg(test)]
use crate::model::Gradients;
use crate::model::{Draw, Model, Over, Part};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Cancelled, Result, Tensor, View, reserve};
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
        // `TrainOptions::resolve` has checked that it fits.
        let small = step as u32;
        self.draw_batch(options, [small, 0])?;
        self.begin_cluster_loss();
        let factor = self.learning_rate_factor(options);
        let Work { slices, tokens, targets, gradients, optimizer, codes, cluster_loss, rows, torn, .. } = self;
        #[cfg(test)]
        let faults = &self.faults;
        let activations = slices.whole();
        let draw = Some(Draw { seed: options.seed, step: small, micro_batch: 0 });
        let over = Over { text: (tokens, targets), factor: 1.0, draw, cancelled };
        model.forward_text(activations, over)?;
        gradients.begin(model, Part::Head)?;
        model.backward_part(Part::Head, activations, over, gradients)?;
        let mean = activations.mean_loss()?;
        check_loss(number, Loss::of(mean))?;
        if let Some(loss) = cluster_loss {
            loss.add(rows, &activations.losses.read::<f32>()?);
        }
        optimizer.set_learning_rate(options.learning_rate * factor)?;
        optimizer.set_clock(number);
        // From here on nobody gives it up.
        let over = over.to_the_end();
        for part in model.parts() {
            if part != Part::Head {
                gradients.begin(model, part)?;
                model.backward_part(part, activations, over, gradients)?;
            }
            let parameters = model.parameters_of(part);
            if let Some(codes) = codes {
                quantize(codes, gradients, parameters.clone(), optimizer, options.seed, step)?;
            }
            #[cfg(test)]
            if part == Part::Output(0) {
                spoil(faults, number, gradients, parameters.clone());
            }
            let views = views(gradients.tensors(), parameters.clone())?;
            let report = optimizer.step_part(&mut ModelWeights::new(model), parameters, &views)?;
            if let Some(refusal) = report.refusal {
                return Err(refusal.error);
            }
            *torn = Some(number);
            model.refresh_part(part)?;
        }
        let report = optimizer.end_parts()?;
        if let Some(codes) = codes {
            codes.commit();
        }
        *torn = None;
        if let Some(loss) = cluster_loss {
            loss.commit(number);
        }
        Ok(Done {
            loss: mean,
            learning_rate_factor: factor,
            learning_rate: report.learning_rate,
            gradient_norm: report.gradient_norm,
            step_ratio: report.ratio,
            flip_rate: report.flips as f64 / report.trits as f64,
            radius_factor: optimizer.progress().factor,
            ..Done::NOTHING
        })
    }

    /// STATE after a step that failed with some of the layers changed.
    pub(super) fn check_whole(&self) -> Result<()> {
        match self.torn {
            None => Ok(()),
            Some(number) => Err(error!(
                State,
                "step {number} failed when some layers had taken it, as gradient_release has it: go on from a checkpoint"
            )),
        }
    }

    /// All parameters and states were set.
    pub(super) fn mend(&mut self) {
        self.torn = None;
    }
}

fn views(gradients: &[Tensor], parameters: Range<usize>) -> Result<Vec<View<'_>>> {
    let mut all = Vec::new();
    reserve(&mut all, parameters.len())?;
    all.extend(gradients[parameters].iter().map(Tensor::view));
    Ok(all)
}

#[cfg(test)]
fn spoil(faults: &[(u64, Fault)], number: u64, gradients: &mut Gradients, parameters: Range<usize>) {
    for (_, fault) in faults.iter().filter(|(at, _)| *at == number) {
        if let Fault::Gradients(factor) = fault {
            let all = gradients.tensors_mut()[parameters.clone()].iter_mut();
            all.for_each(|gradient| gradient.host_mut::<f32>().unwrap().iter_mut().for_each(|x| *x *= factor));
        }
    }
}
