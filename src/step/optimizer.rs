//! Parameters by name, and what is kept between their steps.

use super::guard::{Guard, GuardOptions};
use super::lr_net::LrNet;
use super::options::{ParameterOptions, StepOptions, check_radius, check_rate};
use super::parameter::{Parameter, Previous, Weight, Weights};
use super::report::{Counters, RefusalKind, Report};
use super::snapshot::Snapshot;
use super::update::{Step, Turn, Work, clip_scale, sum_squares, summarize};
use crate::backend::Context;
use crate::tensor::error::ensure;
use crate::tensor::{Device, Result, Tensor, View, reserve};
use std::ops::Range;
use std::sync::Arc;

/// What an update that was too large leaves of the radius, and what each good step gives back of it.
pub const SHRINK: f64 = 0.25;
pub const RECOVERY: f64 = 1.05;

pub struct Optimizer {
    context: Arc<Context>,
    options: StepOptions,
    parameters: Vec<Parameter>,
    work: Work,
    progress: Progress,
    last: Report,
    /// What multiplies the rates and radii of the parameters, if anything does.
    net: Option<LrNet>,
    snapshot: Option<Snapshot>,
    /// The step of the schedule, where it is not that of the optimizer: a run counts batches that were skipped too.
    clock: Option<u64>,
}

/// The weights from one of them on.
struct Shifted<'a> {
    weights: &'a mut (dyn Weights + Send),
    first: usize,
}

impl Weights for Shifted<'_> {
    fn weight(&mut self, index: usize) -> Weight<'_> {
        self.weights.weight(self.first + index)
    }

    fn threshold(&self, index: usize) -> Result<Option<f32>> {
        self.weights.threshold(self.first + index)
    }
}

/// What is known of a batch beside its gradients.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub loss: f64,
    /// The guard that looks at it, if one does, with the norm of its gradients.
    pub guard: Option<(&'a GuardOptions, f64)>,
}

/// What a checkpoint keeps beside the tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Steps taken.
    pub steps: u64,
    /// What refusals and checks have left of the radius.
    pub factor: f64,
    pub refused: Counters,
    pub guard: Guard,
}

impl Optimizer {
    pub fn new(context: Arc<Context>, options: StepOptions) -> Result<Optimizer> {
        options.validate()?;
        let progress = Progress { steps: 0, factor: 1.0, refused: Counters::default(), guard: Guard::default() };
        let mut optimizer = Optimizer {
            context,
            options,
            parameters: Vec::new(),
            work: Work::default(),
            progress,
            last: Report::default(),
            net: None,
            snapshot: None,
            clock: None,
        };
        optimizer.last.radius = optimizer.radius();
        Ok(optimizer)
    }

    /// One more parameter, of the shape and type of `weights`, before the first step.
    pub fn add(&mut self, name: &str, weights: &Tensor, own: &ParameterOptions) -> Result<()> {
        ensure!(!name.is_empty(), Argument, "name is empty");
        ensure!(self.parameters.iter().all(|p| p.name != name), Argument, "there is a parameter {name} already");
        let steps = self.progress.steps;
        ensure!(steps == 0, State, "parameter {name} comes after {steps} steps; add all of them before the first");
        reserve(&mut self.parameters, 1)?;
        self.parameters.push(Parameter::new(&self.context, name, weights, &self.options, own)?);
        Ok(())
    }

    /// One step along a gradient for each parameter, in the order they were added. A refused step has changed nothing but,
    /// when its update was too large, the radius.
    pub fn step(&mut self, weights: &mut (dyn Weights + Send), gradients: &[View]) -> Result<Report> {
        ensure!(!self.parameters.is_empty(), State, "there are no parameters; add them first");
        if let Some(net) = &mut self.net {
            net.grow(self.parameters.len())?;
        }
        let report = self.take(weights, 0..self.parameters.len(), gradients)?;
        self.conclude(report)
    }

    /// The part of one step that a few parameters take, without clipping by the norm of all and without a network: so that their
    /// gradients need not be there when the others take theirs. [`Self::end_parts`] must follow when all have taken theirs. A part
    /// that was refused has changed nothing, as a step.
    pub fn step_part(
        &mut self,
        weights: &mut (dyn Weights + Send),
        parameters: Range<usize>,
        gradients: &[View],
    ) -> Result<Report> {
        ensure!(self.options.clip == 0.0, State, "a step in parts cannot be clipped by the norm of all gradients");
        ensure!(self.net.is_none(), State, "a step in parts has no network");
        let report = self.take(weights, parameters, gradients)?;
        if report.refusal.is_some() { self.conclude(report) } else { Ok(report) }
    }

    /// Room for the largest matrix, wherever it is: memory that is not there is asked for before the first part changes anything.
    pub fn reserve_parts(&mut self, device: Device) -> Result<()> {
        self.work.reserve_muon(&self.context, device, &self.parameters)
    }

    /// The step of all parts.
    pub fn end_parts(&mut self) -> Result<Report> {
        let turn = self.turn();
        let mut report = Report { step: turn.number, ..Report::of(&self.options, &turn) };
        let squares = self.parameters.iter().map(|parameter| parameter.report.gradient_norm.powi(2));
        report.gradient_norm = squares.sum::<f64>().sqrt();
        summarize(&self.parameters, &mut report);
        self.conclude(report)
    }

    fn take(
        &mut self,
        weights: &mut (dyn Weights + Send),
        parameters: Range<usize>,
        gradients: &[View],
    ) -> Result<Report> {
        let (turn, progress, first) = (self.turn(), self.share(), parameters.start);
        let step =
            Step { context: &self.context, options: &self.options, turn, first, net: self.net.as_ref(), progress };
        step.take(&mut self.work, &mut self.parameters[parameters], &mut Shifted { weights, first }, gradients)
    }

    /// What a step, or one that was refused, leaves for the next one.
    fn conclude(&mut self, mut report: Report) -> Result<Report> {
        let progress = &mut self.progress;
        match report.refusal.as_ref().map(|refusal| refusal.kind) {
            None => {
                progress.steps += 1;
                progress.factor = (progress.factor * RECOVERY).min(1.0);
                self.accept()?;
            }
            Some(RefusalKind::Gradient) => progress.refused.gradients += 1,
            Some(RefusalKind::Parameter) => progress.refused.parameters += 1,
            Some(RefusalKind::Update) => {
                progress.refused.updates += 1;
                self.shrink();
            }
        }
        report.refused = self.progress.refused;
        self.last = report.clone();
        Ok(report)
    }

    /// Of the schedule, the step that comes.
    fn at(&self) -> u64 {
        self.clock.unwrap_or(self.progress.steps + 1)
    }

    fn turn(&self) -> Turn {
        let (at, &Progress { steps, factor, .. }) = (self.at(), &self.progress);
        Turn { number: steps + 1, schedule: self.options.schedule.factor(at), factor, draw: at }
    }

    /// The share of the run that is over then; 0 of a run without an end.
    fn share(&self) -> f64 {
        let total = self.options.schedule.total;
        if total > 0 { (self.at() as f64 / total as f64).min(1.0) } else { 0.0 }
    }

    /// The step of a batch, which the guard may skip: then nothing has changed but what it remembers, and `gradients` is not asked
    /// for them. Where a check is due, all is kept as it was before the step. A network sees the loss of a batch that is not
    /// skipped.
    ///
    /// After a refused step, after an error, and where the guard has to skip all the time, which `stop` of the report says, guard and
    /// network have not seen the batch: it may come again.
    pub fn step_guarded<'g>(
        &mut self,
        weights: &mut (dyn Weights + Send),
        batch: &Batch,
        gradients: impl FnOnce(&Optimizer) -> Result<Vec<View<'g>>>,
    ) -> Result<Report> {
        let (guard, trend) = (self.progress.guard, self.net.as_ref().map(LrNet::trend));
        let done = match self.look(batch) {
            Some(report) => Ok(report),
            None => gradients(self).and_then(|gradients| self.step_watched(weights, batch, &gradients)),
        };
        if done.as_ref().map_or(true, |report| report.refusal.is_some() || report.stop.is_some()) {
            self.forget();
            self.progress.guard = guard;
            if let (Some(net), Some(trend)) = (&mut self.net, trend) {
                net.set_trend(trend);
            }
        }
        done
    }

    /// The report of a batch that the guard skips.
    fn look(&mut self, batch: &Batch) -> Option<Report> {
        let (options, norm) = batch.guard?;
        let guard = &mut self.progress.guard;
        let skip = guard.look(options, batch.loss, norm)?;
        Some(Report {
            skip: Some(skip),
            stop: guard.check_health().err(),
            gradient_norm: norm,
            gradient_scale: clip_scale(&self.options, norm),
            refused: self.progress.refused,
            ..Report::of(&self.options, &self.turn())
        })
    }

    fn step_watched(
        &mut self,
        weights: &mut (dyn Weights + Send),
        batch: &Batch,
        gradients: &[View],
    ) -> Result<Report> {
        if batch.guard.is_some_and(|(options, _)| self.progress.guard.is_due(options, self.at())) {
            self.keep(weights)?;
        }
        if let Some(net) = &mut self.net {
            net.observe_loss(batch.loss);
        }
        self.step(weights, gradients)
    }

    /// Whether the step since `keep` stays, by the losses of its batch before and after it, part by part. Else it is undone.
    pub fn judge(
        &mut self,
        weights: &mut dyn Weights,
        options: &GuardOptions,
        before: &[f32],
        after: &[f32],
    ) -> Result<bool> {
        let guard = self.progress.guard;
        let stays = self.progress.guard.judge(options, before, after);
        match stays {
            true => self.forget(),
            // What could not be undone can be judged again.
            false => self.undo(weights).inspect_err(|_| self.progress.guard = guard)?,
        }
        Ok(stays)
    }

    /// The norm of all gradients together.
    pub fn norm(&mut self, gradients: &[View]) -> Result<f64> {
        Ok(sum_squares(&self.context, &mut self.work, gradients)?.sqrt())
    }

    fn shrink(&mut self) {
        // Far from where it would vanish: the smallest normal number.
        self.progress.factor = (self.progress.factor * SHRINK).max(f64::MIN_POSITIVE);
    }

    /// Copies all that the next step changes, for `undo`.
    pub fn keep(&mut self, weights: &mut dyn Weights) -> Result<()> {
        self.snapshot = Some(Snapshot::take(&self.parameters, weights, &self.progress, self.net.as_ref())?);
        Ok(())
    }

    /// Whether there is something to undo.
    pub fn has_kept(&self) -> bool {
        self.snapshot.is_some()
    }

    /// The step since `keep` stays.
    pub fn forget(&mut self) {
        self.snapshot = None;
    }

    /// Takes back the step since `keep`, bit for bit, and shrinks the radius. After an error (a device) it can be tried again.
    pub fn undo(&mut self, weights: &mut dyn Weights) -> Result<()> {
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        snapshot.restore(&mut self.parameters, weights)?;
        let Some(snapshot) = self.snapshot.take() else { return Ok(()) };
        self.net = snapshot.net;
        let Progress { guard, refused, .. } = self.progress;
        self.progress = Progress { guard, refused, ..snapshot.progress };
        self.shrink();
        Ok(())
    }

    #[cfg(test)]
    pub fn guard_mut(&mut self) -> &mut Guard {
        &mut self.progress.guard
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    pub fn options(&self) -> &StepOptions {
        &self.options
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// After the states were set.
    pub fn set_progress(&mut self, progress: Progress) {
        self.progress = progress;
        self.snapshot = None;
        for parameter in &mut self.parameters {
            parameter.check_states(&self.options, self.progress.steps);
        }
    }

    /// What the last step did.
    pub fn last(&self) -> &Report {
        &self.last
    }

    /// The radius that holds in the next step, before its schedule.
    pub fn radius(&self) -> f64 {
        self.options.common_radius() * self.progress.factor
    }

    /// The radius before refusals; None: by the rule.
    pub fn set_radius(&mut self, radius: Option<f64>) -> Result<()> {
        radius.map_or(Ok(()), check_radius)?;
        self.options.radius = radius;
        Ok(())
    }

    pub fn set_learning_rate(&mut self, rate: f64) -> Result<()> {
        check_rate(rate)?;
        self.options.learning_rate = rate;
        Ok(())
    }

    /// The next step is this one of the schedule, from 1.
    pub fn set_clock(&mut self, step: u64) {
        self.clock = Some(step);
    }

    /// The network learns from the step, and its factors hold.
    fn accept(&mut self) -> Result<()> {
        for (i, parameter) in self.parameters.iter_mut().enumerate() {
            let report = &parameter.report;
            let flip_rate = if report.trits > 0 { report.flips as f64 / report.trits as f64 } else { 0.0 };
            parameter.previous = Previous { relative_step: report.ratio, flip_rate };
            if let (Some(net), Some(proposal)) = (&mut self.net, parameter.proposal.take()) {
                // The last step went along m, as far as its direction is known: -g . s is g . m.
                net.learn(i, report.cosine);
                net.accept(i, &proposal)?;
            }
        }
        Ok(())
    }

    /// A network for the rates and radii from now on, whatever is undone; None: none.
    pub fn set_net(&mut self, net: Option<LrNet>) {
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.net.clone_from(&net);
        }
        self.net = net;
    }

    pub fn net(&self) -> Option<&LrNet> {
        self.net.as_ref()
    }

    pub fn net_mut(&mut self) -> Option<&mut LrNet> {
        self.net.as_mut()
    }

    /// Bytes of the states that it keeps: the running means of all parameters.
    pub fn state_bytes(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.states.bytes()).sum()
    }
}
