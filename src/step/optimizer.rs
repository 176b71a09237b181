//! Parameters by name, and what is kept between their steps.

use super::guard::{Guard, GuardOptions};
use super::options::{ParameterOptions, StepOptions, check_radius, check_rate};
use super::parameter::{Parameter, Weights};
use super::report::{Counters, RefusalKind, Report};
use super::snapshot::Snapshot;
use super::update::{Step, Turn, Work};
use crate::backend::Context;
use crate::tensor::error::ensure;
use crate::tensor::{Result, Tensor, View, reserve};
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
    /// What the network multiplies rates by, a number for each parameter; empty without one.
    multipliers: Vec<f64>,
    snapshot: Snapshot,
    /// The step of the schedule, where it is not that of the optimizer: a run counts batches that were skipped too.
    clock: Option<u64>,
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
            multipliers: Vec::new(),
            snapshot: Snapshot::default(),
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
        let Progress { steps, factor, .. } = self.progress;
        let at = self.clock.unwrap_or(steps + 1);
        let turn = Turn { number: steps + 1, schedule: self.options.schedule.factor(at), factor, draw: at };
        let step = Step { context: &self.context, options: &self.options, turn, multipliers: &self.multipliers };
        let mut report = step.take(&mut self.work, &mut self.parameters, weights, gradients)?;
        let progress = &mut self.progress;
        match report.refusal.as_ref().map(|refusal| refusal.kind) {
            None => {
                progress.steps += 1;
                progress.factor = (factor * RECOVERY).min(1.0);
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

    fn shrink(&mut self) {
        // Far from where it would vanish: the smallest normal number.
        self.progress.factor = (self.progress.factor * SHRINK).max(f64::MIN_POSITIVE);
    }

    /// Copies all that the next step changes, for `undo`.
    pub fn keep(&mut self, weights: &mut dyn Weights) -> Result<()> {
        self.snapshot.take(&self.parameters, weights, &self.progress)
    }

    /// Whether there is something to undo.
    pub fn has_kept(&self) -> bool {
        self.snapshot.is_taken()
    }

    /// The step since `keep` stays.
    pub fn forget(&mut self) {
        self.snapshot.forget();
    }

    /// Takes back the step since `keep`, bit for bit, and shrinks the radius.
    pub fn undo(&mut self, weights: &mut dyn Weights) -> Result<()> {
        if let Some(before) = self.snapshot.restore(&mut self.parameters, weights)? {
            let Progress { guard, refused, .. } = self.progress;
            self.progress = Progress { guard, refused, ..before };
            self.shrink();
        }
        Ok(())
    }

    pub fn guard_mut(&mut self) -> &mut Guard {
        &mut self.progress.guard
    }

    /// What the guard says about a batch before its step.
    pub fn look(&mut self, options: &GuardOptions, loss: f64, norm: f64) -> Option<super::guard::Skip> {
        self.progress.guard.look(options, loss, norm)
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

    pub fn set_progress(&mut self, progress: Progress) {
        self.progress = progress;
        self.snapshot.forget();
    }

    /// What the last step did.
    pub fn last(&self) -> &Report {
        &self.last
    }

    /// The radius that holds in the next step, before its schedule.
    pub fn radius(&self) -> f64 {
        self.options.radius * self.progress.factor
    }

    /// The radius before refusals.
    pub fn set_radius(&mut self, radius: f64) -> Result<()> {
        check_radius(radius)?;
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

    /// Multipliers of the rates and radii of the next steps, one for each parameter, or none.
    #[allow(dead_code)] // For a network of rates.
    pub fn set_multipliers(&mut self, multipliers: Vec<f64>) {
        self.multipliers = multipliers;
    }

    /// Bytes of the states that it keeps: the running means of all parameters.
    pub fn state_bytes(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.states.bytes()).sum()
    }
}
