//! One step of many tensors: all of them change, or none.
//!
//! What is refused, and why what is left cannot make a NaN or an infinity. Squares are summed in f32, so either of them, and
//! an overflow, shows in the sum. With N = [`LARGEST_NORM`], half the root of the largest float, a step is taken when
//!
//! - the norm of the gradients is at most N: then m and v, running means of numbers up to N and N^2, stay below those;
//! - the norm of w, and w plus all that a step at the rate a adds to it, are at most N: then no element gets beyond N;
//! - a and what the kernels make of it are finite: their largest intermediate, a m_hat, is below N (2 N + epsilon).

use super::options::{RadiusMode, StepOptions};
use super::parameter::Parameter;
use super::report::{ParameterReport, Refusal, RefusalKind, Report};
use crate::backend::{Context, Direction, StepRule};
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Result, View, ViewMut};

/// Norms up to here have squares, and sums of them, that f32 can hold: half the root of f32::MAX.
pub const LARGEST_NORM: f64 = 9.223e18;

/// A tensor of more elements is cut into chunks, which start sooner on threads that are awake.
const LARGE: usize = 32_768;

/// The `number`-th step (from 1) of the parameters along one gradient for each, in their order. `factor`, at most 1, is what
/// earlier refusals have left of the radius, or of the learning rate where no radius holds.
///
/// A refused step is a report too. An error (memory, shapes) has changed nothing either.
pub fn take_step(
    context: &Context,
    options: &StepOptions,
    number: u64,
    factor: f64,
    parameters: &mut [Parameter],
    gradients: &[View],
) -> Result<Report> {
    let step = Step { context, options, number, factor };
    if parameters.iter().any(|parameter| parameter.count() > LARGE) {
        return context.launch().executor.enter(|| step.take(parameters, gradients));
    }
    step.take(parameters, gradients)
}

/// One step of one parameter, whose states (0 before the first step) someone else keeps between the calls. ARGUMENT names what
/// `number - 1` steps cannot have left in them; the radius is the options'.
pub fn step_alone(
    context: &Context,
    options: &StepOptions,
    number: u64,
    parameter: &mut Parameter,
    gradient: &View,
) -> Result<Report> {
    options.validate()?;
    let (states, before) = ([parameter.m.host::<f32>()?, parameter.v.host::<f32>()?], number - 1);
    if let Some([which, index]) = first_impossible(options, before, states[0], states[1]) {
        let (at, value) = (which * parameter.count() + index, states[which][index]);
        return Err(error!(Argument, "moments[{at}] is {value}, which no {before} steps can leave"));
    }
    take_step(context, options, number, 1.0, std::slice::from_mut(parameter), &[*gradient])
}

struct Step<'a> {
    context: &'a Context,
    options: &'a StepOptions,
    number: u64,
    factor: f64,
}

impl Step<'_> {
    fn take(&self, parameters: &mut [Parameter], gradients: &[View]) -> Result<Report> {
        check_gradients(parameters, gradients)?;
        let mut report = Report {
            step: self.number - 1,
            learning_rate: self.options.learning_rate,
            gradient_scale: 1.0,
            radius: match self.options.radius_mode {
                RadiusMode::Off => f64::INFINITY,
                _ => self.options.radius * self.factor,
            },
            ..Report::default()
        };
        report.refusal = self.measure_all(parameters, gradients, &mut report)?;
        if report.refusal.is_some() {
            // What was measured was not done.
            for Parameter { report: part, .. } in parameters {
                *part = ParameterReport { gradient_norm: part.gradient_norm, ..ParameterReport::default() };
            }
            return Ok(report);
        }
        let rule = self.rule(report.gradient_scale);
        for (parameter, gradient) in parameters.iter_mut().zip(gradients) {
            self.apply(&rule, parameter, gradient)?;
        }
        report.step = self.number;
        summarize(parameters, &mut report);
        Ok(report)
    }

    /// Writes nothing but the reports.
    fn measure_all(
        &self,
        parameters: &mut [Parameter],
        gradients: &[View],
        report: &mut Report,
    ) -> Result<Option<Refusal>> {
        let refusal = self.measure_gradients(parameters, gradients, report)?;
        if refusal.is_some() {
            return Ok(refusal);
        }
        let rule = self.rule(report.gradient_scale);
        for (parameter, gradient) in parameters.iter_mut().zip(gradients) {
            let refusal = self.measure(&rule, report.radius, parameter, gradient)?;
            if refusal.is_some() {
                return Ok(refusal);
            }
        }
        Ok(None)
    }

    /// The norms of the gradients, and the factor that clips them.
    fn measure_gradients(
        &self,
        parameters: &mut [Parameter],
        gradients: &[View],
        report: &mut Report,
    ) -> Result<Option<Refusal>> {
        let mut all = 0.0f64;
        for (parameter, gradient) in parameters.iter_mut().zip(gradients) {
            let mut squares = [0.0f64];
            let sum = &mut ViewMut::of(&mut squares, &[1])?;
            (self.context.kernels().sum_squares)(self.context.launch(), gradient, sum)?;
            parameter.report = ParameterReport { gradient_norm: squares[0].sqrt(), ..ParameterReport::default() };
            all += squares[0];
        }
        report.gradient_norm = all.sqrt();
        let clip = self.options.clip;
        if clip > 0.0 && report.gradient_norm > clip {
            report.gradient_scale = clip / report.gradient_norm;
        }
        if is_safe(report.gradient_norm) {
            return Ok(None);
        }
        for (parameter, gradient) in parameters.iter().zip(gradients) {
            let what = format!("the gradient of {}", parameter.name);
            if let Some(refusal) = self.refuse_non_finite(RefusalKind::Gradient, &what, gradient)? {
                return Ok(Some(refusal));
            }
        }
        Ok(Some(self.refuse(RefusalKind::Gradient, format_args!("the norm of the gradients is beyond f32"))))
    }

    /// How far the parameter would go, and the learning rate that keeps it inside the radius.
    fn measure(
        &self,
        rule: &StepRule,
        radius: f64,
        parameter: &mut Parameter,
        gradient: &View,
    ) -> Result<Option<Refusal>> {
        let Parameter { name, tensor, m, v, limits, report } = parameter;
        let rule = StepRule { weight_decay: limits.weight_decay as f32, ..*rule };
        let mut sums = [0.0; 5];
        let none = View::of::<f32>(&[], &[0])?;
        (self.context.kernels().step_sums)(
            self.context.launch(),
            &rule,
            gradient,
            &tensor.view(),
            &none,
            &m.view(),
            &none,
            &v.view(),
            &none,
            &mut ViewMut::of(&mut sums, &[5])?,
        )?;
        let [direction, weights, ..] = sums.map(f64::sqrt);
        if !is_safe(weights) {
            let refusal = self.refuse_non_finite(RefusalKind::Parameter, name, &tensor.view())?;
            return Ok(Some(refusal.unwrap_or_else(|| {
                self.refuse(RefusalKind::Parameter, format_args!("the norm of {name} is beyond f32"))
            })));
        }
        let root = (tensor.count().max(1) as f64).sqrt();
        let (direction_rms, weight_rms) = (direction / root, weights / root);
        let reference = weight_rms.max(limits.floor);
        let asked = self.options.learning_rate;
        let longest = radius * reference;
        let rate = match self.options.radius_mode {
            RadiusMode::Off => asked * self.factor,
            // No direction, no step: any rate will do.
            _ if direction == 0.0 => asked,
            RadiusMode::Cap => asked.min(longest / direction_rms),
            RadiusMode::Exact => longest / direction_rms,
        };
        // Weight decay is a part of d, and may cancel one that is larger: both parts have to be finite.
        let farthest = weights + rate * (direction + 2.0 * limits.weight_decay * weights);
        // The scalars that the kernels make of the rate.
        let factors = [rate * f64::from(rule.inverse1), rate * limits.weight_decay];
        if !is_safe(farthest) || !factors.iter().all(|&factor| (factor as f32).is_finite()) {
            return Ok(Some(self.refuse(
                RefusalKind::Update,
                format_args!(
                    "the update would take {name} beyond f32, from a norm of {weights:.3e} by {:.3e}",
                    rate * direction
                ),
            )));
        }
        report.learning_rate = rate;
        report.step_rms = rate * direction_rms;
        report.weight_rms = weight_rms;
        report.ratio = if report.step_rms > 0.0 { report.step_rms / reference } else { 0.0 };
        report.held = rate != asked;
        Ok(None)
    }

    fn apply(&self, rule: &StepRule, parameter: &mut Parameter, gradient: &View) -> Result<()> {
        let Parameter { tensor, m, v, limits, report, .. } = parameter;
        let rule = StepRule {
            rate: report.learning_rate as f32,
            weight_decay: limits.weight_decay as f32,
            lower: limits.lower as f32,
            upper: limits.upper as f32,
            ..*rule
        };
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        let mut counts = [0u32; 2];
        let [p_scales, m_scales, v_scales] = &mut [(); 3].map(|()| [0f32; 0]);
        let none = |x| ViewMut::of::<f32>(x, &[0]);
        (kernels.step)(
            launch,
            &rule,
            Stream::new(0, Purpose::Update, self.number as u32, 0),
            gradient,
            &mut tensor.view_mut(),
            &mut none(p_scales)?,
            &mut m.view_mut(),
            &mut none(m_scales)?,
            &mut v.view_mut(),
            &mut none(v_scales)?,
            &mut ViewMut::of(&mut counts, &[2])?,
        )?;
        report.clamped = u64::from(counts[0]);
        Ok(())
    }

    /// The scalars that all parameters share.
    fn rule(&self, gradient_scale: f64) -> StepRule {
        let (beta1, beta2) = (self.options.beta1 as f32, self.options.beta2 as f32);
        // From the rounded beta, which is what the means decay by.
        let correction = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(self.number as f64))) as f32;
        StepRule {
            direction: Direction::AdamW,
            gradient_scale: gradient_scale as f32,
            beta: 0.0,
            nesterov: false,
            rate1: 1.0 - beta1,
            rate2: 1.0 - beta2,
            inverse1: correction(beta1),
            inverse2: correction(beta2),
            epsilon: self.options.epsilon as f32,
            weight_decay: 0.0,
            rate: 0.0,
            lower: f32::NEG_INFINITY,
            upper: f32::INFINITY,
            threshold: f32::NAN,
        }
    }

    fn refuse(&self, kind: RefusalKind, why: std::fmt::Arguments) -> Refusal {
        Refusal { kind, error: error!(State, "step {}: {why}; nothing was updated", self.number) }
    }

    fn refuse_non_finite(&self, kind: RefusalKind, what: &str, values: &View) -> Result<Option<Refusal>> {
        let found = (self.context.kernels().first_non_finite)(self.context.launch(), values)?;
        Ok(found.map(|element| self.refuse(kind, format_args!("element {element} of {what} is not finite"))))
    }
}

/// Whether a norm is one that f32 can go on with; NaN is not.
fn is_safe(norm: f64) -> bool {
    norm <= LARGEST_NORM
}

/// The first element that no `steps` steps can have left in m or v: `[which, index]`. Running means of numbers up to N that
/// began at 0 are at most N (1 - beta^steps); a hundredth is for rounding.
pub fn first_impossible(options: &StepOptions, steps: u64, m: &[f32], v: &[f32]) -> Option<[usize; 2]> {
    let most = |beta: f64, largest: f64| (1.01 * largest * (1.0 - f64::from(beta as f32).powf(steps as f64))) as f32;
    let (most_m, most_v) = (most(options.beta1, LARGEST_NORM), most(options.beta2, LARGEST_NORM.powi(2)));
    let in_m = first_outside(m, |m| m.abs() <= most_m).map(|index| [0, index]);
    in_m.or_else(|| first_outside(v, |v| (v >= 0.0) & (v <= most_v)).map(|index| [1, index]))
}

/// The first value that is not inside. By blocks without a branch, so that the compiler can use vectors.
fn first_outside(values: &[f32], inside: impl Fn(f32) -> bool) -> Option<usize> {
    const BLOCK: usize = 1024;
    let bad = values.chunks(BLOCK).position(|block| !block.iter().fold(true, |all, &x| all & inside(x)))?;
    values[bad * BLOCK..].iter().position(|&x| !inside(x)).map(|index| bad * BLOCK + index)
}

fn check_gradients(parameters: &[Parameter], gradients: &[View]) -> Result<()> {
    let (expected, found) = (parameters.len(), gradients.len());
    ensure!(expected == found, Argument, "there are {found} gradients, expected one for each of {expected} parameters");
    for (Parameter { name, tensor, .. }, gradient) in parameters.iter().zip(gradients) {
        let (expected, found) = (tensor.count(), gradient.count());
        ensure!(expected == found, Shape, "the gradient of {name} has {found} elements, expected {expected}");
    }
    Ok(())
}

/// The parameters' reports as one.
fn summarize(parameters: &[Parameter], report: &mut Report) {
    let (mut count, mut step, mut weights) = (0.0, 0.0, 0.0);
    for parameter in parameters {
        let (n, part) = (parameter.count() as f64, &parameter.report);
        count += n;
        step += n * part.step_rms.powi(2);
        weights += n * part.weight_rms.powi(2);
        report.ratio = report.ratio.max(part.ratio);
        report.held += u64::from(part.held);
        report.clamped += part.clamped;
    }
    report.step_rms = (step / f64::max(count, 1.0)).sqrt();
    report.weight_rms = (weights / f64::max(count, 1.0)).sqrt();
}
