//! The step itself, once it is known to be one: the flip budget, the direction of Muon, and what is written.

use super::flips;
use super::measure::note_moments;
use super::muon::LEAST_RMS;
use super::options::{Kind, Method};
use super::parameter::{Parameter, Weight, Weights};
use super::report::Report;
use super::update::{MADE, Step, Work, clear, read_states};
use crate::backend::{Direction, FLIP_BINS, STEP_SUMS, StepRule};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Result, View, ViewMut};

impl Step<'_> {
    /// Lowers the rates of parameters that more trits would change in than the budget has.
    pub(super) fn hold_flips(
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
        clear::<u32>(&mut work.bins)?;
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

    pub(super) fn apply(
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
        if norm <= LEAST_RMS * (count as f64).sqrt() {
            // Without a direction only weight decay is left, which takes part in a step of another.
            self.note(parameter, 0.0, 0.0, parameter.report.weight_rms, report);
            // Not by the radius.
            parameter.report.held = false;
            return Ok(());
        }
        let mut muon = std::mem::take(&mut work.muon);
        let along = muon.orthogonalize(context, dims, norm)?;
        self.go_along(work, i, parameter, weights, &along, report)?;
        work.muon = muon;
        Ok(())
    }

    /// The Euclidean norm of the direction of parameter i.
    fn norm(&self, work: &mut Work, i: usize, count: usize) -> Result<f64> {
        let (kernels, launch) = (self.context.kernels(), self.context.launch());
        // Those of the gradients are in the reports.
        clear::<f64>(&mut work.norms)?;
        let norms = work.norms.as_mut().expect(MADE);
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
        report: &Report,
    ) -> Result<()> {
        let threshold = weights.threshold(i)?;
        let scale = self.muon_scale(parameter);
        let rule = StepRule { gradient_scale: scale as f32, ..self.rule(parameter, 1.0) };
        clear::<f64>(&mut work.sums)?;
        self.sums(work, i, &rule, parameter, weights.weight(i), along)?;
        let direction = work.sums.as_ref().expect(MADE).read::<f64>()?[i * STEP_SUMS].sqrt();
        let direction_rms = direction / parameter.root();
        let weight_rms = parameter.report.weight_rms;
        let rate = self.rate(parameter, report, direction_rms, weight_rms);
        self.note(parameter, rate, direction_rms, weight_rms, report);
        if self.options.flip_budget < 1.0 && parameter.kind == Kind::Ternary {
            clear::<u32>(&mut work.bins)?;
            let full = self.with_rate(&rule, parameter, threshold);
            self.count_flips(work, i, &full, parameter, weights.weight(i), along)?;
            let bins = work.bins.as_ref().expect(MADE).read::<u32>()?;
            self.hold(parameter, &bins.as_chunks::<FLIP_BINS>().0[i]);
        }
        let full = self.with_rate(&rule, parameter, threshold);
        self.write(work, i, &full, parameter, weights.weight(i), along)
    }

    /// What the steps that were not measured in advance have come to.
    pub(super) fn note_bounded(&self, work: &Work, parameters: &mut [Parameter], report: &Report) -> Result<()> {
        let sums = work.done.as_ref().expect(MADE).read::<f64>()?;
        for (parameter, sums) in parameters.iter_mut().zip(sums.as_chunks::<STEP_SUMS>().0) {
            if parameter.is_bounded {
                let (rate, weight_rms) = (parameter.report.learning_rate, parameter.report.weight_rms);
                self.note(parameter, rate, sums[0].sqrt() / parameter.root(), weight_rms, report);
                note_moments(parameter, sums, report);
            }
        }
        Ok(())
    }

    /// The kernel's step of parameter i, with its sums if they are not known yet.
    fn write(
        &self,
        work: &mut Work,
        i: usize,
        rule: &StepRule,
        parameter: &mut Parameter,
        weight: Weight,
        gradient: &View,
    ) -> Result<()> {
        let sums = if parameter.is_bounded { STEP_SUMS } else { 0 };
        let sums = &mut work.done.as_mut().expect(MADE).view_mut().narrow(i * STEP_SUMS, sums)?;
        let counts = &mut work.counts.as_mut().expect(MADE).view_mut().narrow(2 * i, 2)?;
        let Parameter { dims, direction, states, .. } = parameter;
        let stream = Stream::new(self.options.seed, Purpose::Update, self.turn.draw as u32, (self.first + i) as u32);
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
            sums,
        )
    }
}
