//! Parameters by name, and what is kept between their steps.

use super::options::{ParameterOptions, StepOptions, check_radius, check_rate};
use super::parameter::Parameter;
use super::report::{Counters, RefusalKind, Report};
use super::update::take_step;
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
    progress: Progress,
    last: Report,
}

/// What a checkpoint keeps beside the tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Steps taken.
    pub steps: u64,
    /// What refusals have left of the radius.
    pub factor: f64,
    pub refused: Counters,
}

impl Optimizer {
    pub fn new(context: Arc<Context>, options: StepOptions) -> Result<Optimizer> {
        options.validate()?;
        let progress = Progress { steps: 0, factor: 1.0, refused: Counters::default() };
        let mut optimizer = Optimizer { context, options, parameters: Vec::new(), progress, last: Report::default() };
        optimizer.last.radius = optimizer.radius();
        Ok(optimizer)
    }

    /// One more parameter, before the first step.
    pub fn add(&mut self, name: &str, tensor: Tensor, own: &ParameterOptions) -> Result<()> {
        ensure!(!name.is_empty(), Argument, "name is empty");
        ensure!(self.parameters.iter().all(|p| p.name != name), Argument, "there is a parameter {name} already");
        let steps = self.progress.steps;
        ensure!(steps == 0, State, "parameter {name} comes after {steps} steps; add all of them before the first");
        reserve(&mut self.parameters, 1)?;
        self.parameters.push(Parameter::new(name, tensor, &self.options, own)?);
        Ok(())
    }

    /// One step along a gradient for each parameter, in the order they were added. A refused step has changed nothing but,
    /// when its update was too large, the radius.
    pub fn step(&mut self, gradients: &[View]) -> Result<Report> {
        ensure!(!self.parameters.is_empty(), State, "there are no parameters; add them first");
        let Progress { steps, factor, .. } = self.progress;
        let mut report = take_step(&self.context, &self.options, steps + 1, factor, &mut self.parameters, gradients)?;
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
                // Far from where it would vanish: the smallest normal number.
                progress.factor = (factor * SHRINK).max(f64::MIN_POSITIVE);
            }
        }
        report.refused = progress.refused;
        self.last = report.clone();
        Ok(report)
    }

    pub fn context(&self) -> &Context {
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
    }

    /// What the last step did.
    pub fn last(&self) -> &Report {
        &self.last
    }

    /// The radius that holds in the next step.
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

    /// Bytes of the states that it keeps: the running means of all parameters.
    pub fn state_bytes(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.m.bytes() + parameter.v.bytes()).sum()
    }
}
