//! One step of many tensors: all of them change, or none.
//!
//! What is refused, and why what is left cannot make a NaN or an infinity. Squares are summed in f32, so either of them, and
//! an overflow, shows in the sum. With N = [`LARGEST_NORM`], half the root of the largest float, a step is taken when
//!
//! - the norm of the gradients is at most N: then m and v, running means of numbers up to N and N^2, stay below those, and
//!   the factors of v below N^2;
//! - the norm of w, and w plus all that a step at the rate a adds to it, are at most N: then no element gets beyond N. The
//!   direction of Muon is known by its largest singular value, before it is computed;
//! - a and what the kernels make of it are finite: their largest intermediate, a m_hat, is below N (2 N + epsilon).
//!
//! All that is measured before the first write; a direction of Muon is measured, and held by the radius, when its turn comes.

use super::bound::first_impossible;
use super::lr_net::LrNet;
use super::muon;
use super::options::{Method, StepOptions};
use super::parameter::{Parameter, Weights};
use super::report::{ParameterReport, Report};
use super::weights::Held;
use crate::backend::{Context, Direction, FLIP_BINS, STEP_SUMS, StepRule, sums_scratch, with_scratch};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Device, Element, Result, Tensor, View};
use bytemuck::Zeroable;

/// Norms up to here have squares, and sums of them, that f32 can hold: half the root of f32::MAX.
pub const LARGEST_NORM: f64 = 9.223e18;

/// A tensor of more elements is cut into chunks, which start sooner on threads that are awake.
const LARGE: usize = 32_768;

/// What steps of the same parameters work in.
#[derive(Default)]
pub struct Work {
    /// One a gradient, and `STEP_SUMS` a parameter: f64.
    pub(super) norms: Option<Tensor>,
    /// Of all gradients together, where that is asked for: one f64.
    all: Option<Tensor>,
    pub(super) sums: Option<Tensor>,
    /// The same sums, of steps that were taken.
    pub(super) done: Option<Tensor>,
    /// `FLIP_BINS` and two counts a parameter: u32.
    pub(super) bins: Option<Tensor>,
    pub(super) counts: Option<Tensor>,
    pub(super) none: Option<Tensor>,
    pub(super) muon: muon::Work,
}

impl Work {
    pub(super) fn reserve_muon(&mut self, context: &Context, device: Device, parameters: &[Parameter]) -> Result<()> {
        let matrices = parameters.iter().filter(|p| p.method == Method::Muon).map(|p| [p.dims[0], p.dims[1]]);
        self.muon.reserve(context, device, matrices)
    }
}

fn made(slot: &mut Option<Tensor>, context: &Context, device: Device, dtype: DType, dims: &[usize]) -> Result<()> {
    // A part of the parameters finds room in what all of them, or a larger part, have had.
    let fits = |tensor: &Tensor| tensor.dims()[0] >= dims[0] && tensor.device() == device;
    if !slot.as_ref().is_some_and(fits) {
        *slot = Some(context.zeros_beside(device, dtype, dims)?);
    }
    Ok(())
}

/// Zeros, in a tensor of `Work`.
pub(super) fn clear<T: Element>(slot: &mut Option<Tensor>) -> Result<()> {
    slot.as_mut().expect(MADE).fill_with(|elements: &mut [T]| elements.fill(Zeroable::zeroed()))
}

pub(super) const MADE: &str = "made at the beginning of the step";

/// What a step is told beside the options.
#[derive(Clone, Copy)]
pub struct Turn {
    /// The `number`-th step, from 1, of the bias corrections.
    pub number: u64,
    /// The schedule's share of the learning rate and of the radius.
    pub schedule: f64,
    /// What refusals and checks have left of the radius, or of the learning rate where no radius holds; at most 1.
    pub factor: f64,
    /// Says a stochastic rounding apart from all others.
    pub draw: u64,
}

pub struct Step<'a> {
    pub context: &'a Context,
    pub options: &'a StepOptions,
    pub turn: Turn,
    /// Which parameter of the optimizer the first one is.
    pub first: usize,
    /// What multiplies the rate and the radius of each parameter, if anything does, and the share of the run that is over.
    pub net: Option<&'a LrNet>,
    pub progress: f64,
}

impl Step<'_> {
    /// The step of the parameters along one gradient for each, in their order. A refused step is a report too. An error (memory,
    /// shapes) has changed nothing either; but where the products that make Muon's direction, or a device, find no memory when the
    /// turn of a matrix comes, those before it have stepped.
    pub fn take(
        &self,
        work: &mut Work,
        parameters: &mut [Parameter],
        weights: &mut (dyn Weights + Send),
        gradients: &[View],
    ) -> Result<Report> {
        if parameters.iter().any(|parameter| parameter.count() > LARGE) {
            return self.context.launch().executor.enter(|| self.run(work, parameters, weights, gradients));
        }
        self.run(work, parameters, weights, gradients)
    }

    fn run(
        &self,
        work: &mut Work,
        parameters: &mut [Parameter],
        weights: &mut dyn Weights,
        gradients: &[View],
    ) -> Result<Report> {
        check_gradients(parameters, gradients)?;
        self.reserve(work, parameters, gradients)?;
        let mut report = Report::of(self.options, &self.turn);
        report.refusal = self.measure_all(work, parameters, weights, gradients, &mut report)?;
        if report.refusal.is_some() {
            // What was measured was not done.
            for Parameter { report: part, .. } in parameters {
                *part = ParameterReport { gradient_norm: part.gradient_norm, ..ParameterReport::default() };
            }
            return Ok(report);
        }
        self.hold_flips(work, parameters, weights, gradients, &report)?;
        // So that the sums of what is written find room.
        let largest = parameters.iter().map(Parameter::count).max().unwrap_or(0);
        with_scratch::<f32, _>(sums_scratch(largest), |_| ())?;
        for i in 0..parameters.len() {
            self.apply(work, i, &mut parameters[i], weights, &gradients[i], &report)?;
        }
        self.note_bounded(work, parameters, &report)?;
        let counts = work.counts.as_ref().expect(MADE).read::<u32>()?;
        report.step = self.turn.number;
        for (parameter, counts) in parameters.iter_mut().zip(counts.as_chunks::<2>().0) {
            (parameter.report.clamped, parameter.report.flips) = (u64::from(counts[0]), u64::from(counts[1]));
        }
        summarize(parameters, &mut report);
        Ok(report)
    }

    fn reserve(&self, work: &mut Work, parameters: &[Parameter], gradients: &[View]) -> Result<()> {
        let (context, count) = (self.context, parameters.len());
        let device = gradients.first().map_or(Device::Host, View::device);
        made(&mut work.norms, context, device, DType::F64, &[count])?;
        made(&mut work.sums, context, device, DType::F64, &[count * STEP_SUMS])?;
        made(&mut work.done, context, device, DType::F64, &[count * STEP_SUMS])?;
        let bins = if self.options.flip_budget < 1.0 { count * FLIP_BINS } else { 0 };
        made(&mut work.bins, context, device, DType::U32, &[bins])?;
        made(&mut work.counts, context, device, DType::U32, &[count * 2])?;
        made(&mut work.none, context, device, DType::F32, &[0])?;
        work.reserve_muon(context, device, parameters)?;
        clear::<f64>(&mut work.norms)?;
        clear::<f64>(&mut work.sums)?;
        clear::<f64>(&mut work.done)?;
        clear::<u32>(&mut work.counts)
    }

    /// What brings the rms of an orthogonal matrix, 1 / sqrt(the larger dimension), to that of the options.
    pub(super) fn muon_scale(&self, parameter: &Parameter) -> f64 {
        self.options.muon_rms * (parameter.dims[0].max(parameter.dims[1]) as f64).sqrt()
    }

    /// The scalars of a parameter, without its rate and box.
    pub(super) fn rule(&self, parameter: &Parameter, gradient_scale: f64) -> StepRule {
        let options = self.options;
        let (beta1, beta2) = (options.beta1 as f32, options.beta2 as f32);
        // From the rounded beta, which is what the means decay by.
        let inverse = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(self.turn.number as f64))) as f32;
        StepRule {
            direction: parameter.direction,
            gradient_scale: gradient_scale as f32,
            beta: options.momentum as f32,
            nesterov: options.nesterov,
            rate1: 1.0 - beta1,
            rate2: 1.0 - beta2,
            inverse1: inverse(beta1),
            inverse2: inverse(beta2),
            epsilon: options.epsilon as f32,
            weight_decay: parameter.limits.weight_decay as f32,
            rate: 0.0,
            lower: f32::NEG_INFINITY,
            upper: f32::INFINITY,
            threshold: f32::NAN,
        }
    }

    pub(super) fn full_rule(&self, parameter: &Parameter, threshold: Option<f32>, report: &Report) -> StepRule {
        self.with_rate(&self.rule(parameter, report.gradient_scale), parameter, threshold)
    }

    pub(super) fn with_rate(&self, rule: &StepRule, parameter: &Parameter, threshold: Option<f32>) -> StepRule {
        StepRule {
            rate: parameter.report.learning_rate as f32,
            lower: parameter.limits.lower as f32,
            upper: parameter.limits.upper as f32,
            threshold: threshold.unwrap_or(f32::NAN),
            ..*rule
        }
    }
}

/// The states as `step_sums` reads them: empty where the direction has none, and the next factors of v.
pub(super) fn read_states<'a>(parameter: &'a Parameter, none: View<'a>) -> [View<'a>; 4] {
    let states = &parameter.states;
    match parameter.direction {
        Direction::Given => [none; 4],
        Direction::Factored => [states.m.view(), states.m_scales.view(), states.next_v.view(), none],
        _ => [states.m.view(), states.m_scales.view(), states.v.view(), states.v_scales.view()],
    }
}

/// One step of one parameter, whose states (0 before the first step) someone else keeps between the calls. ARGUMENT names what
/// `number - 1` steps cannot have left in them; the radius is the options'.
pub fn step_alone(
    context: &Context,
    options: &StepOptions,
    number: u64,
    parameter: &mut Parameter,
    weights: &mut Held,
    gradient: &View,
) -> Result<Report> {
    options.validate()?;
    let before = number - 1;
    parameter.check_states(options, before);
    let (m, v) = (parameter.states.m.host::<f32>()?, parameter.states.v.host::<f32>()?);
    if !parameter.is_of_steps
        && let Some([which, index]) = first_impossible(options, before, m, v)
    {
        let (at, value) = (which * parameter.count() + index, [m, v][which][index]);
        return Err(error!(Argument, "moments[{at}] is {value}, which no {before} steps can leave"));
    }
    let turn = Turn { number, schedule: options.schedule.factor(number), factor: 1.0, draw: number };
    let step = Step { context, options, turn, first: 0, net: None, progress: 0.0 };
    step.take(&mut Work::default(), std::slice::from_mut(parameter), weights, &[*gradient])
}

/// The sum of the squares of all gradients.
pub(super) fn sum_squares(context: &Context, work: &mut Work, gradients: &[View]) -> Result<f64> {
    let device = gradients.first().map_or(Device::Host, View::device);
    made(&mut work.all, context, device, DType::F64, &[1])?;
    clear::<f64>(&mut work.all)?;
    let all = work.all.as_mut().expect(MADE);
    for gradient in gradients {
        (context.kernels().sum_squares)(context.launch(), gradient, &mut all.view_mut())?;
    }
    Ok(all.read::<f64>()?[0])
}

/// What clipping multiplies gradients of this norm by.
pub(super) fn clip_scale(options: &StepOptions, norm: f64) -> f64 {
    if options.clip > 0.0 && norm > options.clip { options.clip / norm } else { 1.0 }
}

fn check_gradients(parameters: &[Parameter], gradients: &[View]) -> Result<()> {
    let (expected, found) = (parameters.len(), gradients.len());
    ensure!(expected == found, Argument, "there are {found} gradients, expected one for each of {expected} parameters");
    for (parameter, gradient) in parameters.iter().zip(gradients) {
        let (name, expected, found) = (&parameter.name, parameter.count(), gradient.count());
        ensure!(expected == found, Shape, "the gradient of {name} has {found} elements, expected {expected}");
    }
    Ok(())
}

/// The parameters' reports as one.
pub(super) fn summarize(parameters: &[Parameter], report: &mut Report) {
    let (mut count, mut step, mut weights) = (0.0, 0.0, 0.0);
    for parameter in parameters {
        let (n, part) = (parameter.count() as f64, &parameter.report);
        count += n;
        step += n * part.step_rms.powi(2);
        weights += n * part.weight_rms.powi(2);
        report.ratio = report.ratio.max(part.ratio);
        report.held += u64::from(part.held);
        report.clamped += part.clamped;
        report.flips += part.flips;
        report.trits += part.trits;
    }
    report.step_rms = (step / f64::max(count, 1.0)).sqrt();
    report.weight_rms = (weights / f64::max(count, 1.0)).sqrt();
}
