//! How far a step would go, in advance: norms of gradients, weights and directions, and the rate that the radius leaves.

use super::bound::largest_direction;
use super::lr_net::{Observation, Proposal};
use super::muon::LARGEST_SINGULAR;
use super::options::{Kind, Method, RadiusBase, RadiusMode};
use super::parameter::{Parameter, Weight, Weights};
use super::radius::rule;
use super::report::{ParameterReport, Refusal, RefusalKind, Report};
use super::update::{LARGEST_NORM, MADE, Step, Work, clear, clip_scale, read_states};
use crate::backend::{Direction, STEP_SUMS, StepRule};
use crate::tensor::error::error;
use crate::tensor::{DType, Device, Result, View};

impl Step<'_> {
    /// Writes nothing but reports and the next factors of v.
    pub(super) fn measure_all(
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
        self.find_bounded(work, parameters, weights, report)?;
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        for (i, (parameter, gradient)) in parameters.iter_mut().zip(gradients).enumerate() {
            if parameter.is_bounded {
                continue;
            }
            let rule = self.rule(parameter, report.gradient_scale);
            let Parameter { direction, dims, states, .. } = parameter;
            if *direction == Direction::Factored {
                let gradient = gradient.reshape(dims)?;
                (kernels.step_factors)(launch, &rule, &gradient, &states.v.view(), &mut states.next_v.view_mut())?;
            }
            // Of Muon the weights are measured, and its gradient as if it were the direction.
            self.sums(work, i, &rule, parameter, weights.weight(i), gradient)?;
        }
        let sums = work.sums.as_ref().expect(MADE).read::<f64>()?;
        for (i, (parameter, sums)) in parameters.iter_mut().zip(sums.as_chunks::<STEP_SUMS>().0).enumerate() {
            let norms = if parameter.is_bounded {
                let weight_rms = parameter.report.weight_rms;
                [self.longest_direction(parameter, weight_rms), weight_rms].map(|rms| rms * parameter.root())
            } else {
                note_moments(parameter, sums, report);
                [sums[0].sqrt(), sums[1].sqrt()]
            };
            let refusal = self.measure(i, parameter, weights.weight(i), norms, report)?;
            if refusal.is_some() {
                return Ok(refusal);
            }
        }
        Ok(None)
    }

    /// Finds the parameters whose directions need not be known in advance, as the longest that there can be is within the radius:
    /// they take one pass over their states instead of two, which tells what they have done.
    fn find_bounded(
        &self,
        work: &mut Work,
        parameters: &mut [Parameter],
        weights: &mut dyn Weights,
        report: &Report,
    ) -> Result<()> {
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        for (i, parameter) in parameters.iter_mut().enumerate() {
            parameter.is_bounded = self.has_bound(parameter, &weights.weight(i).values.view());
        }
        if parameters.iter().all(|parameter| !parameter.is_bounded) {
            return Ok(());
        }
        clear::<f64>(&mut work.norms)?;
        let norms = work.norms.as_mut().expect(MADE);
        for (i, _) in parameters.iter().enumerate().filter(|(_, parameter)| parameter.is_bounded) {
            let values = weights.weight(i).values.view();
            (kernels.sum_squares)(launch, &values, &mut norms.view_mut().narrow(i, 1)?)?;
        }
        let squares = norms.read::<f64>()?;
        for (parameter, &square) in parameters.iter_mut().zip(squares.iter()).filter(|(p, _)| p.is_bounded) {
            let weight_rms = square.sqrt() / parameter.root();
            parameter.report.weight_rms = weight_rms;
            parameter.is_bounded = self.is_short(parameter, weight_rms, report);
        }
        Ok(())
    }

    /// Whether [`Self::longest_direction`] is one, and nothing has to be known of the step before it is taken.
    fn has_bound(&self, parameter: &Parameter, weights: &View) -> bool {
        let floats = weights.dtype() == DType::F32 && parameter.states.m.dtype() == DType::F32;
        let holds_flips = self.options.flip_budget < 1.0 && parameter.kind == Kind::Ternary;
        // A device finds the sums in a pass of their own whenever it is.
        let host = weights.device() == Device::Host;
        parameter.is_of_steps
            && parameter.direction == Direction::AdamW
            && floats
            && host
            && !holds_flips
            && self.net.is_none()
            && self.options.radius_mode != RadiusMode::Exact
    }

    /// The largest rms of the direction, weight decay in it.
    fn longest_direction(&self, parameter: &Parameter, weight_rms: f64) -> f64 {
        largest_direction(self.options, self.turn.number) + parameter.limits.weight_decay * weight_rms
    }

    /// Whether the rate that is asked for stays in the radius along the longest direction. A NaN is not short.
    fn is_short(&self, parameter: &Parameter, weight_rms: f64, all: &Report) -> bool {
        let longest = self.longest_direction(parameter, weight_rms);
        match self.options.radius_mode {
            RadiusMode::Off => longest.is_finite() && weight_rms.is_finite(),
            RadiusMode::Cap => {
                all.learning_rate * longest <= self.radius_of(parameter) * self.reference(parameter, weight_rms)
            }
            RadiusMode::Exact => false,
        }
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
        report.gradient_scale = clip_scale(self.options, report.gradient_norm);
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
    pub(super) fn sums(
        &self,
        work: &mut Work,
        i: usize,
        rule: &StepRule,
        parameter: &Parameter,
        weight: Weight,
        gradient: &View,
    ) -> Result<()> {
        let none = work.none.as_ref().expect(MADE).view();
        let sums = &mut work.sums.as_mut().expect(MADE).view_mut().narrow(i * STEP_SUMS, STEP_SUMS)?;
        let [m, m_scales, v, v_scales] = read_states(parameter, none);
        let (p, p_scales) = (weight.values.view(), weight.scales.view());
        let gradient = &gradient.reshape(&parameter.dims)?;
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        (kernels.step_sums)(launch, rule, gradient, &p, &p_scales, &m, &m_scales, &v, &v_scales, sums)
    }

    /// How far the parameter would go, of the norms of its direction and weights, and the learning rate that keeps it inside the
    /// radius.
    fn measure(
        &self,
        i: usize,
        parameter: &mut Parameter,
        weight: Weight,
        [mut direction, weights]: [f64; 2],
        all: &Report,
    ) -> Result<Option<Refusal>> {
        if !is_safe(weights) {
            let refusal = self.refuse_non_finite(RefusalKind::Parameter, &parameter.name, &weight.values.view())?;
            return Ok(Some(refusal.unwrap_or_else(|| {
                let name = &parameter.name;
                self.refuse(RefusalKind::Parameter, format_args!("the norm of {name} is beyond f32"))
            })));
        }
        let root = parameter.root();
        if parameter.initial_rms.is_nan() {
            parameter.initial_rms = weights / root;
        }
        let decay = parameter.limits.weight_decay;
        if parameter.method == Method::Muon {
            let smaller = parameter.dims[0].min(parameter.dims[1]) as f64;
            direction = self.muon_scale(parameter) * LARGEST_SINGULAR * smaller.sqrt() + decay * weights;
        }
        parameter.proposal = self.net.map(|net| net.propose(self.first + i, &self.observation(parameter)));
        let rate = self.rate(parameter, all, direction / root, weights / root);
        // Weight decay is a part of d, and may cancel one that is larger: both parts have to be finite.
        let farthest = weights + rate * (direction + 2.0 * decay * weights);
        // The scalars that the kernels make of the rate.
        let factors = [rate * f64::from(self.rule(parameter, 1.0).inverse1), rate * decay];
        // Of other methods an overflow in the direction shows in its sum.
        let knows_direction = parameter.method != Method::Muon || is_safe(direction);
        if !knows_direction || !is_safe(farthest) || !factors.iter().all(|&factor| (factor as f32).is_finite()) {
            let name = &parameter.name;
            return Ok(Some(self.refuse(
                RefusalKind::Update,
                format_args!(
                    "the update would take {name} beyond f32, from a norm of {weights:.3e} by {:.3e}",
                    rate * direction
                ),
            )));
        }
        self.note(parameter, rate, direction / root, weights / root, all);
        Ok(None)
    }

    /// The rate that a direction of this rms takes.
    pub(super) fn rate(&self, parameter: &Parameter, all: &Report, direction_rms: f64, weight_rms: f64) -> f64 {
        let multiplier = multiplier(parameter.proposal);
        let asked = all.learning_rate * multiplier;
        let longest = self.radius_of(parameter) * multiplier * self.reference(parameter, weight_rms);
        match self.options.radius_mode {
            RadiusMode::Off => asked * self.turn.factor,
            // No direction, no step: any rate will do.
            _ if direction_rms == 0.0 => asked,
            RadiusMode::Cap => asked.min(longest / direction_rms),
            RadiusMode::Exact => longest / direction_rms,
        }
    }

    /// What the network is told of the parameter.
    fn observation(&self, parameter: &Parameter) -> Observation {
        let (options, number) = (self.options, self.turn.number as f64);
        let Parameter { kind, report, previous, direction, .. } = parameter;
        // Means as they were before this step, each with Adam's correction; but for factors of v, which are the next ones.
        let part = |beta: f64, gradients: f64| 1.0 - beta.powf(gradients);
        let in_v = if *direction == Direction::Factored { number } else { number - 1.0 };
        let signal = report.signal * part(options.beta2, in_v) / part(options.beta1, number - 1.0).powi(2);
        Observation {
            kind: *kind,
            relative_step: previous.relative_step,
            flip_rate: previous.flip_rate,
            // Before the first step there are no means, and nothing to say of them.
            cosine: if report.cosine.is_nan() { 0.0 } else { report.cosine },
            signal: if signal.is_nan() { 0.0 } else { signal },
            progress: self.progress,
        }
    }

    fn radius_of(&self, parameter: &Parameter) -> f64 {
        let of_vectors = self.options.vector_radius.filter(|_| parameter.limits.is_vector);
        let own = parameter.limits.radius.or(of_vectors).or(self.options.radius);
        own.unwrap_or_else(|| rule(self.options, parameter.method, &parameter.dims))
            * self.turn.schedule
            * self.turn.factor
    }

    fn reference(&self, parameter: &Parameter, weight_rms: f64) -> f64 {
        let rms = match self.options.radius_base {
            RadiusBase::Current => weight_rms,
            RadiusBase::Initial => parameter.initial_rms,
        };
        rms.max(parameter.limits.floor)
    }

    /// What the step does to the parameter, into its report.
    pub(super) fn note(&self, parameter: &mut Parameter, rate: f64, direction_rms: f64, weight_rms: f64, all: &Report) {
        let reference = self.reference(parameter, weight_rms);
        let asked = all.learning_rate * multiplier(parameter.proposal);
        let report = &mut parameter.report;
        report.learning_rate = rate;
        report.step_rms = rate * direction_rms;
        report.weight_rms = weight_rms;
        report.ratio = if report.step_rms > 0.0 { report.step_rms / reference } else { 0.0 };
        report.held = self.options.radius_mode != RadiusMode::Off && rate != asked;
        report.flip_share = 1.0;
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

/// What the sums of `step_sums` say of the means.
pub(super) fn note_moments(parameter: &mut Parameter, sums: &[f64; STEP_SUMS], all: &Report) {
    let [_, _, gm, mm, v] = *sums;
    let gradient = parameter.report.gradient_norm * all.gradient_scale;
    parameter.report.cosine = gm / (gradient * mm.sqrt());
    // Of momentum there is an m, and no v.
    parameter.report.signal = if v > 0.0 { mm / v } else { f64::NAN };
}

/// What the network multiplies rate and radius by.
fn multiplier(proposal: Option<Proposal>) -> f64 {
    proposal.map_or(1.0, |proposal| proposal.factor)
}

/// Whether a norm is one that f32 can go on with; NaN is not.
fn is_safe(norm: f64) -> bool {
    norm <= LARGEST_NORM
}
