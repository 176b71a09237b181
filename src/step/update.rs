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

use super::flips;
use super::muon::{self, LARGEST_SINGULAR};
use super::options::{Kind, Method, RadiusBase, RadiusMode, StepOptions};
use super::parameter::{Parameter, Weight, Weights};
use super::report::{ParameterReport, Refusal, RefusalKind, Report};
use super::weights::Held;
use crate::backend::{Context, Direction, FLIP_BINS, StepRule};
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Device, Result, Tensor, View, ViewMut};

/// Norms up to here have squares, and sums of them, that f32 can hold: half the root of f32::MAX.
pub const LARGEST_NORM: f64 = 9.223e18;

/// A tensor of more elements is cut into chunks, which start sooner on threads that are awake.
const LARGE: usize = 32_768;

/// Sums of `Kernels::step_sums`.
const SUMS: usize = 5;

/// What steps of the same parameters work in.
#[derive(Default)]
pub struct Work {
    /// One a gradient, and `SUMS` a parameter: f64.
    norms: Option<Tensor>,
    sums: Option<Tensor>,
    /// `FLIP_BINS` and two counts a parameter: u32.
    bins: Option<Tensor>,
    counts: Option<Tensor>,
    none: Option<Tensor>,
    muon: muon::Work,
}

fn made(slot: &mut Option<Tensor>, context: &Context, device: Device, dtype: DType, dims: &[usize]) -> Result<()> {
    if slot.as_ref().is_none_or(|tensor| tensor.dims() != dims || tensor.device() != device) {
        let place = |tensor: Result<Tensor>| if device == Device::Host { tensor } else { context.place(tensor?) };
        *slot = Some(place(Tensor::zeros(dtype, dims))?);
    }
    Ok(())
}

const MADE: &str = "made at the beginning of the step";

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
    /// What a network multiplies the rate or radius of each parameter by; empty without one.
    pub multipliers: &'a [f64],
}

impl Step<'_> {
    /// The step of the parameters along one gradient for each, in their order. A refused step is a report too. An error (memory,
    /// shapes) has changed nothing either.
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
        let options = self.options;
        let mut report = Report {
            step: self.turn.number - 1,
            learning_rate: options.learning_rate * self.turn.schedule,
            gradient_scale: 1.0,
            radius: match options.radius_mode {
                RadiusMode::Off => f64::INFINITY,
                _ => options.radius * self.turn.schedule * self.turn.factor,
            },
            ..Report::default()
        };
        report.refusal = self.measure_all(work, parameters, weights, gradients, &mut report)?;
        if report.refusal.is_some() {
            // What was measured was not done.
            for Parameter { report: part, .. } in parameters {
                *part = ParameterReport { gradient_norm: part.gradient_norm, ..ParameterReport::default() };
            }
            return Ok(report);
        }
        self.hold_flips(work, parameters, weights, gradients, &report)?;
        for i in 0..parameters.len() {
            self.apply(work, i, &mut parameters[i], weights, &gradients[i], &report)?;
        }
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
        made(&mut work.sums, context, device, DType::F64, &[count * SUMS])?;
        made(&mut work.bins, context, device, DType::U32, &[count * FLIP_BINS])?;
        made(&mut work.counts, context, device, DType::U32, &[count * 2])?;
        made(&mut work.none, context, device, DType::F32, &[0])?;
        let matrices = parameters.iter().filter(|p| p.method == Method::Muon).map(|p| [p.dims[0], p.dims[1]]);
        let shapes: Vec<_> = matrices.collect();
        if !shapes.is_empty() {
            work.muon.reserve(context, device, &shapes)?;
        }
        work.norms.as_mut().expect(MADE).write(&vec![0f64; count])?;
        work.sums.as_mut().expect(MADE).write(&vec![0f64; count * SUMS])?;
        work.counts.as_mut().expect(MADE).write(&vec![0u32; count * 2])
    }

    /// Writes nothing but reports and the next factors of v.
    fn measure_all(
        &self,
        work: &mut Work,
        parameters: &mut [Parameter],
        weights: &mut dyn Weights,
        gradients: &[View],
        report: &mut Report,
    ) -> Result<Option<Refusal>> {
        let refusal = self.measure_gradients(work, parameters, gradients, report)?;
        if refusal.is_some() {
            return Ok(refusal);
        }
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        for (i, (parameter, gradient)) in parameters.iter_mut().zip(gradients).enumerate() {
            let rule = self.rule(parameter, report.gradient_scale);
            let Parameter { direction, dims, states, .. } = parameter;
            if *direction == Direction::Factored {
                let gradient = gradient.reshape(dims)?;
                (kernels.step_factors)(launch, &rule, &gradient, &states.v.view(), &mut states.next_v.view_mut())?;
            }
            // Of Muon the weights are measured, and its gradient as if it were the direction.
            self.sums(work, i, &rule, parameter, weights.weight(i), gradient)?;
        }
        let sums = work.sums.as_ref().expect(MADE).read::<f64>()?.into_owned();
        for (i, (parameter, sums)) in parameters.iter_mut().zip(sums.as_chunks::<SUMS>().0).enumerate() {
            let refusal = self.measure(i, parameter, weights.weight(i), sums, report)?;
            if refusal.is_some() {
                return Ok(refusal);
            }
        }
        Ok(None)
    }

    /// The norms of the gradients, and the factor that clips them.
    fn measure_gradients(
        &self,
        work: &mut Work,
        parameters: &mut [Parameter],
        gradients: &[View],
        report: &mut Report,
    ) -> Result<Option<Refusal>> {
        let norms = work.norms.as_mut().expect(MADE);
        for (i, gradient) in gradients.iter().enumerate() {
            let sum = &mut norms.view_mut().narrow(i, 1)?;
            (self.context.kernels().sum_squares)(self.context.launch(), gradient, sum)?;
        }
        let squares = norms.read::<f64>()?;
        let mut all = 0.0f64;
        for (parameter, &square) in parameters.iter_mut().zip(squares.iter()) {
            parameter.report = ParameterReport { gradient_norm: square.sqrt(), ..ParameterReport::default() };
            all += square;
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

    /// Adds the sums of parameter i along a gradient, or along a direction where the rule is of one.
    fn sums(
        &self,
        work: &mut Work,
        i: usize,
        rule: &StepRule,
        parameter: &Parameter,
        weight: Weight,
        gradient: &View,
    ) -> Result<()> {
        let none = work.none.as_ref().expect(MADE).view();
        let sums = &mut work.sums.as_mut().expect(MADE).view_mut().narrow(i * SUMS, SUMS)?;
        let [m, m_scales, v, v_scales] = read_states(parameter, none);
        let (p, p_scales) = (weight.values.view(), weight.scales.view());
        let gradient = &gradient.reshape(&parameter.dims)?;
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        (kernels.step_sums)(launch, rule, gradient, &p, &p_scales, &m, &m_scales, &v, &v_scales, sums)
    }

    /// How far the parameter would go, and the learning rate that keeps it inside the radius.
    fn measure(
        &self,
        i: usize,
        parameter: &mut Parameter,
        weight: Weight,
        sums: &[f64; SUMS],
        all: &Report,
    ) -> Result<Option<Refusal>> {
        let [direction, weights, gm, mm, v] = *sums;
        let (mut direction, weights) = (direction.sqrt(), weights.sqrt());
        if !is_safe(weights) {
            let refusal = self.refuse_non_finite(RefusalKind::Parameter, &parameter.name, &weight.values.view())?;
            return Ok(Some(refusal.unwrap_or_else(|| {
                let name = &parameter.name;
                self.refuse(RefusalKind::Parameter, format_args!("the norm of {name} is beyond f32"))
            })));
        }
        let root = (parameter.count().max(1) as f64).sqrt();
        if parameter.initial_rms.is_nan() {
            parameter.initial_rms = weights / root;
        }
        let decay = parameter.limits.weight_decay;
        if parameter.method == Method::Muon {
            let smaller = parameter.dims[0].min(parameter.dims[1]) as f64;
            direction = self.muon_scale(parameter) * LARGEST_SINGULAR * smaller.sqrt() + decay * weights;
        }
        let rate = self.rate(i, parameter, all, direction / root, weights / root);
        // Weight decay is a part of d, and may cancel one that is larger: both parts have to be finite.
        let farthest = weights + rate * (direction + 2.0 * decay * weights);
        // The scalars that the kernels make of the rate.
        let factors = [rate * f64::from(self.rule(parameter, 1.0).inverse1), rate * decay];
        if !is_safe(farthest) || !factors.iter().all(|&factor| (factor as f32).is_finite()) {
            let name = &parameter.name;
            return Ok(Some(self.refuse(
                RefusalKind::Update,
                format_args!(
                    "the update would take {name} beyond f32, from a norm of {weights:.3e} by {:.3e}",
                    rate * direction
                ),
            )));
        }
        let gradient = parameter.report.gradient_norm * all.gradient_scale;
        self.note(parameter, rate, direction / root, weights / root, all);
        parameter.report.cosine = gm / (gradient * mm.sqrt());
        parameter.report.signal = mm / v;
        Ok(None)
    }

    /// The rate that a direction of this rms takes.
    fn rate(&self, i: usize, parameter: &Parameter, all: &Report, direction_rms: f64, weight_rms: f64) -> f64 {
        let multiplier = self.multipliers.get(i).copied().unwrap_or(1.0);
        let asked = all.learning_rate * multiplier;
        let longest = self.radius_of(parameter, all) * multiplier * self.reference(parameter, weight_rms);
        match self.options.radius_mode {
            RadiusMode::Off => asked * self.turn.factor,
            // No direction, no step: any rate will do.
            _ if direction_rms == 0.0 => asked,
            RadiusMode::Cap => asked.min(longest / direction_rms),
            RadiusMode::Exact => longest / direction_rms,
        }
    }

    fn radius_of(&self, parameter: &Parameter, all: &Report) -> f64 {
        let held = self.turn.schedule * self.turn.factor;
        match parameter.limits.radius {
            Some(own) => own * held,
            None if parameter.limits.is_vector => self.options.vector_radius * held,
            None => all.radius,
        }
    }

    fn reference(&self, parameter: &Parameter, weight_rms: f64) -> f64 {
        let rms = match self.options.radius_base {
            RadiusBase::Current => weight_rms,
            RadiusBase::Initial => parameter.initial_rms,
        };
        rms.max(parameter.limits.floor)
    }

    /// What the step does to the parameter, into its report.
    fn note(&self, parameter: &mut Parameter, rate: f64, direction_rms: f64, weight_rms: f64, all: &Report) {
        let reference = self.reference(parameter, weight_rms);
        let report = &mut parameter.report;
        report.learning_rate = rate;
        report.step_rms = rate * direction_rms;
        report.weight_rms = weight_rms;
        report.ratio = if report.step_rms > 0.0 { report.step_rms / reference } else { 0.0 };
        report.held = self.options.radius_mode != RadiusMode::Off && rate != all.learning_rate;
        report.flip_share = 1.0;
    }

    /// Lowers the rates of parameters that more trits would change in than the budget has.
    fn hold_flips(
        &self,
        work: &mut Work,
        parameters: &mut [Parameter],
        weights: &mut dyn Weights,
        gradients: &[View],
        report: &Report,
    ) -> Result<()> {
        let holds = |parameter: &Parameter| parameter.kind == Kind::Ternary && parameter.method != Method::Muon;
        if self.options.flip_budget >= 1.0 || !parameters.iter().any(holds) {
            return Ok(());
        }
        work.bins.as_mut().expect(MADE).write(&vec![0u32; parameters.len() * FLIP_BINS])?;
        for (i, parameter) in parameters.iter().enumerate().filter(|(_, parameter)| holds(parameter)) {
            let rule = self.full_rule(parameter, weights.threshold(i)?, report);
            self.count_flips(work, i, &rule, parameter, weights.weight(i), &gradients[i])?;
        }
        let bins = work.bins.as_ref().expect(MADE).read::<u32>()?;
        let all = parameters.iter_mut().zip(bins.as_chunks::<FLIP_BINS>().0);
        for (parameter, bins) in all.filter(|(parameter, _)| holds(parameter)) {
            self.hold(parameter, bins);
        }
        Ok(())
    }

    fn count_flips(
        &self,
        work: &mut Work,
        i: usize,
        rule: &StepRule,
        parameter: &Parameter,
        weight: Weight,
        gradient: &View,
    ) -> Result<()> {
        let none = work.none.as_ref().expect(MADE).view();
        let bins = &mut work.bins.as_mut().expect(MADE).view_mut().narrow(i * FLIP_BINS, FLIP_BINS)?;
        let [m, m_scales, v, v_scales] = read_states(parameter, none);
        let (p, p_scales) = (weight.values.view(), weight.scales.view());
        let gradient = &gradient.reshape(&parameter.dims)?;
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        (kernels.step_flips)(launch, rule, gradient, &p, &p_scales, &m, &m_scales, &v, &v_scales, bins)
    }

    fn hold(&self, parameter: &mut Parameter, bins: &[u32; FLIP_BINS]) {
        let allowed = (self.options.flip_budget * parameter.count() as f64) as u64;
        let share = flips::share(bins, allowed);
        let report = &mut parameter.report;
        report.flip_share = share;
        report.learning_rate *= share;
        report.step_rms *= share;
        report.ratio *= share;
    }

    fn apply(
        &self,
        work: &mut Work,
        i: usize,
        parameter: &mut Parameter,
        weights: &mut dyn Weights,
        gradient: &View,
        report: &Report,
    ) -> Result<()> {
        let threshold = weights.threshold(i)?;
        parameter.report.trits = if threshold.is_some() { parameter.count() as u64 } else { 0 };
        if parameter.method == Method::Muon {
            return self.apply_muon(work, i, parameter, weights, gradient, report);
        }
        let rule = self.full_rule(parameter, threshold, report);
        self.write(work, i, &rule, parameter, weights.weight(i), gradient)?;
        if parameter.direction == Direction::Factored {
            let states = &mut parameter.states;
            std::mem::swap(&mut states.v, &mut states.next_v);
        }
        Ok(())
    }

    /// Momentum, its direction, the radius and the budget, and the step along it.
    fn apply_muon(
        &self,
        work: &mut Work,
        i: usize,
        parameter: &mut Parameter,
        weights: &mut dyn Weights,
        gradient: &View,
        report: &Report,
    ) -> Result<()> {
        let (context, count) = (self.context, parameter.count());
        let (kernels, launch) = (context.kernels(), context.launch());
        let dims = [parameter.dims[0], parameter.dims[1]];
        let options = self.options;
        let beta = options.momentum as f32;
        let momentum = StepRule {
            direction: Direction::Momentum,
            // A running mean: it stays in the range of the gradients.
            gradient_scale: (report.gradient_scale * (1.0 - f64::from(beta))) as f32,
            beta,
            nesterov: options.nesterov,
            weight_decay: 0.0,
            ..self.rule(parameter, 1.0)
        };
        let states = &mut parameter.states;
        let (m, scales) = (&mut states.m.view_mut(), &mut states.m_scales.view_mut());
        (kernels.step_momentum)(launch, &momentum, gradient, m, scales, &mut work.muon.direction(count)?)?;
        let norm = self.norm(work, i, count)?;
        if !(norm > 0.0) {
            // Without a direction only weight decay is left, which takes part in a step of another.
            self.note(parameter, 0.0, 0.0, parameter.report.weight_rms, report);
            return Ok(());
        }
        let mut muon = std::mem::take(&mut work.muon);
        let along = muon.orthogonalize(context, dims, norm)?;
        let threshold = weights.threshold(i)?;
        self.go_along(work, i, parameter, weights, &along, threshold, report)?;
        work.muon = muon;
        Ok(())
    }

    /// The Euclidean norm of the direction of parameter i.
    fn norm(&self, work: &mut Work, i: usize, count: usize) -> Result<f64> {
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        let norms = work.norms.as_mut().expect(MADE);
        let mut all = norms.read::<f64>()?.into_owned();
        all[i] = 0.0;
        norms.write(&all)?;
        let direction = work.muon.direction(count)?;
        (kernels.sum_squares)(launch, &direction.as_view(), &mut norms.view_mut().narrow(i, 1)?)?;
        Ok(norms.read::<f64>()?[i].sqrt())
    }

    /// The step along a direction that was computed for it.
    fn go_along(
        &self,
        work: &mut Work,
        i: usize,
        parameter: &mut Parameter,
        weights: &mut dyn Weights,
        along: &View,
        threshold: Option<f32>,
        report: &Report,
    ) -> Result<()> {
        let scale = self.muon_scale(parameter);
        let rule = StepRule { gradient_scale: scale as f32, ..self.rule(parameter, 1.0) };
        let sums = work.sums.as_mut().expect(MADE);
        let mut all = sums.read::<f64>()?.into_owned();
        all[i * SUMS..(i + 1) * SUMS].fill(0.0);
        sums.write(&all)?;
        self.sums(work, i, &rule, parameter, weights.weight(i), along)?;
        let direction = work.sums.as_ref().expect(MADE).read::<f64>()?[i * SUMS].sqrt();
        let direction_rms = direction / (parameter.count().max(1) as f64).sqrt();
        let weight_rms = parameter.report.weight_rms;
        let rate = self.rate(i, parameter, report, direction_rms, weight_rms);
        self.note(parameter, rate, direction_rms, weight_rms, report);
        if self.options.flip_budget < 1.0 && parameter.kind == Kind::Ternary {
            let bins = work.bins.as_mut().expect(MADE);
            bins.write(&vec![0u32; bins.count()])?;
            let full = self.with_rate(&rule, parameter, threshold);
            self.count_flips(work, i, &full, parameter, weights.weight(i), along)?;
            let bins = work.bins.as_ref().expect(MADE).read::<u32>()?.into_owned();
            self.hold(parameter, &bins.as_chunks::<FLIP_BINS>().0[i]);
        }
        let full = self.with_rate(&rule, parameter, threshold);
        self.write(work, i, &full, parameter, weights.weight(i), along)
    }

    /// The kernel's step of parameter i.
    fn write(
        &self,
        work: &mut Work,
        i: usize,
        rule: &StepRule,
        parameter: &mut Parameter,
        weight: Weight,
        gradient: &View,
    ) -> Result<()> {
        let counts = &mut work.counts.as_mut().expect(MADE).view_mut().narrow(2 * i, 2)?;
        let Parameter { dims, direction, states, .. } = parameter;
        let stream = Stream::new(self.options.seed, Purpose::Update, self.turn.draw as u32, i as u32);
        let none = || ViewMut::of::<f32>(&mut [], &[0]);
        let [mut m, mut m_scales, mut v, mut v_scales] = if *direction == Direction::Given {
            [none()?, none()?, none()?, none()?]
        } else {
            let v = if *direction == Direction::Factored { &mut states.next_v } else { &mut states.v };
            [states.m.view_mut(), states.m_scales.view_mut(), v.view_mut(), states.v_scales.view_mut()]
        };
        let (p, p_scales) = (&mut weight.values.view_mut(), &mut weight.scales.view_mut());
        let gradient = &gradient.reshape(dims)?;
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        (kernels.step)(
            launch,
            rule,
            stream,
            gradient,
            p,
            p_scales,
            &mut m,
            &mut m_scales,
            &mut v,
            &mut v_scales,
            counts,
        )
    }

    /// What brings the rms of an orthogonal matrix, 1 / sqrt(the larger dimension), to that of the options.
    fn muon_scale(&self, parameter: &Parameter) -> f64 {
        self.options.muon_rms * (parameter.dims[0].max(parameter.dims[1]) as f64).sqrt()
    }

    /// The scalars of a parameter, without its rate and box.
    fn rule(&self, parameter: &Parameter, gradient_scale: f64) -> StepRule {
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

    fn full_rule(&self, parameter: &Parameter, threshold: Option<f32>, report: &Report) -> StepRule {
        self.with_rate(&self.rule(parameter, report.gradient_scale), parameter, threshold)
    }

    fn with_rate(&self, rule: &StepRule, parameter: &Parameter, threshold: Option<f32>) -> StepRule {
        StepRule {
            rate: parameter.report.learning_rate as f32,
            lower: parameter.limits.lower as f32,
            upper: parameter.limits.upper as f32,
            threshold: threshold.unwrap_or(f32::NAN),
            ..*rule
        }
    }

    fn refuse(&self, kind: RefusalKind, why: std::fmt::Arguments) -> Refusal {
        Refusal { kind, error: error!(State, "step {}: {why}; nothing was updated", self.turn.number) }
    }

    fn refuse_non_finite(&self, kind: RefusalKind, what: &str, values: &View) -> Result<Option<Refusal>> {
        if values.dtype() != DType::F32 {
            return Ok(None);
        }
        let found = (self.context.kernels().first_non_finite)(self.context.launch(), values)?;
        Ok(found.map(|element| self.refuse(kind, format_args!("element {element} of {what} is not finite"))))
    }
}

/// The states as `step_sums` reads them: empty where the direction has none, and the next factors of v.
fn read_states<'a>(parameter: &'a Parameter, none: View<'a>) -> [View<'a>; 4] {
    let states = &parameter.states;
    match parameter.direction {
        Direction::Given => [none; 4],
        Direction::Factored => [states.m.view(), states.m_scales.view(), states.next_v.view(), none],
        _ => [states.m.view(), states.m_scales.view(), states.v.view(), states.v_scales.view()],
    }
}

/// Whether a norm is one that f32 can go on with; NaN is not.
fn is_safe(norm: f64) -> bool {
    norm <= LARGEST_NORM
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
    let (states, before) = (&parameter.states, number - 1);
    let (m, v) = (states.m.host::<f32>()?, states.v.host::<f32>()?);
    if let Some([which, index]) = first_impossible(options, before, m, v) {
        let (at, value) = (which * parameter.count() + index, [m, v][which][index]);
        return Err(error!(Argument, "moments[{at}] is {value}, which no {before} steps can leave"));
    }
    let turn = Turn { number, schedule: options.schedule.factor(number), factor: 1.0, draw: number };
    let step = Step { context, options, turn, multipliers: &[] };
    step.take(&mut Work::default(), std::slice::from_mut(parameter), weights, &[*gradient])
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
    for (parameter, gradient) in parameters.iter().zip(gradients) {
        let (name, expected, found) = (&parameter.name, parameter.count(), gradient.count());
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
        report.flips += part.flips;
        report.trits += part.trits;
    }
    report.step_rms = (step / f64::max(count, 1.0)).sqrt();
    report.weight_rms = (weights / f64::max(count, 1.0)).sqrt();
}
