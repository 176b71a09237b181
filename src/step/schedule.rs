//! The learning rate and the radius as functions of the step alone, so that a resumed run needs no state for them.

use crate::tensor::Result;
use crate::tensor::error::ensure;
use serde::Serialize;

/// How they fall after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine wave (arXiv 1608.03983) down to the minimum at the last step.
    Cosine,
    /// The peak until the end.
    Constant,
    /// A straight line down to the minimum at the last step.
    Linear,
    /// The peak, and in the last part of the run a straight line down to the minimum (warm-up, stable, decay: arXiv 2404.06395).
    Stable,
}

/// The part of a run in which `Decay::Stable` falls.
const FALL: f64 = 0.2;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Schedule {
    pub decay: Decay,
    /// The steps of the run; not used by a constant.
    pub total: u64,
    /// Steps over which it rises linearly to its peak.
    pub warmup: u64,
    /// What it ends at, as a share of the peak.
    pub minimum: f64,
}

impl Schedule {
    /// Always the peak.
    pub const CONSTANT: Schedule = Schedule { decay: Decay::Constant, total: 0, warmup: 0, minimum: 0.0 };

    pub fn validate(&self) -> Result<()> {
        let Schedule { decay, total, minimum, .. } = *self;
        ensure!((0.0..=1.0).contains(&minimum), Argument, "minimum_lr_ratio is {minimum}, expected 0 to 1");
        let needs_total = decay != Decay::Constant;
        ensure!(
            !needs_total || total > 0,
            Argument,
            "total_steps is 0: a schedule that falls has to know the last step"
        );
        Ok(())
    }

    /// The share of the peak that step `step`, from 1, takes. Past the last step it stays where it ended.
    pub fn factor(&self, step: u64) -> f64 {
        let Schedule { decay, total, warmup, minimum } = *self;
        if step <= warmup {
            return step as f64 / warmup.max(1) as f64;
        }
        let progress = ((step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64).min(1.0);
        let height = match decay {
            Decay::Constant => return 1.0,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Decay::Linear => 1.0 - progress,
            Decay::Stable => ((1.0 - progress) / FALL).min(1.0),
        };
        minimum + (1.0 - minimum) * height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(decay: Decay, step: u64, total: u64, warmup: u64, minimum: f64) -> f64 {
        Schedule { decay, total, warmup, minimum }.factor(step)
    }

    #[test]
    fn warms_up_linearly_and_ends_at_the_minimum() {
        for decay in [Decay::Cosine, Decay::Linear, Decay::Stable] {
            let at = |step| factor(decay, step, 1100, 100, 0.1);
            assert_eq!(at(1), 0.01);
            assert_eq!(at(50), 0.5);
            assert_eq!(at(100), 1.0);
            assert!((at(1100) - 0.1).abs() < 1e-15, "{}", at(1100));
            assert_eq!(at(5000), at(1100));
            assert!((100..1100).all(|step| at(step + 1) <= at(step)));
        }
        for decay in [Decay::Cosine, Decay::Linear] {
            let at = |step| factor(decay, step, 1100, 100, 0.1);
            // Half way down both pass the middle.
            assert!((at(600) - 0.55).abs() < 1e-12, "{}", at(600));
            assert!((100..1100).all(|step| at(step + 1) < at(step)));
        }
        // A quarter of the way: 0.1 + 0.9 * (1 + cos(pi / 4)) / 2 and 0.1 + 0.9 * 3 / 4.
        assert!((factor(Decay::Cosine, 350, 1100, 100, 0.1) - 0.868_198_051_533_946_4).abs() < 1e-12);
        assert!((factor(Decay::Linear, 350, 1100, 100, 0.1) - 0.775).abs() < 1e-12);
        // The last fifth of what follows the warm-up falls, and is in its middle at nine tenths.
        assert!((factor(Decay::Stable, 900, 1100, 100, 0.1) - 1.0).abs() < 1e-12);
        assert!((factor(Decay::Stable, 1000, 1100, 100, 0.1) - 0.55).abs() < 1e-12);
    }

    #[test]
    fn constant_holds_the_peak() {
        assert_eq!(factor(Decay::Constant, 3, 10, 4, 0.1), 0.75);
        assert!((4..=20).all(|step| factor(Decay::Constant, step, 10, 4, 0.1) == 1.0));
        assert_eq!(Schedule::CONSTANT.factor(1), 1.0);
    }

    #[test]
    fn short_runs_have_finite_rates() {
        for decay in [Decay::Cosine, Decay::Constant, Decay::Linear, Decay::Stable] {
            // No warm-up: the first step of a one-step run is also its last.
            let expected = if decay == Decay::Constant { 1.0 } else { 0.5 };
            assert!((factor(decay, 1, 1, 0, 0.5) - expected).abs() < 1e-15);
            // A warm-up longer than the run never leaves it.
            assert_eq!(factor(decay, 5, 5, 100, 0.1), 0.05);
        }
    }

    #[test]
    fn what_falls_has_an_end() {
        let schedule = Schedule { decay: Decay::Linear, ..Schedule::CONSTANT };
        assert_eq!(
            schedule.validate().unwrap_err().message,
            "total_steps is 0: a schedule that falls has to know the last step"
        );
        assert!(Schedule { minimum: f64::NAN, ..Schedule::CONSTANT }.validate().is_err());
        Schedule::CONSTANT.validate().unwrap();
    }
}
