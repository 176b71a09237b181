//! The learning rate as a function of the step alone, so that a resumed run needs no state for it.

use serde::Serialize;

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine wave (arXiv 1608.03983) down to the minimum at the last step.
    Cosine,
    /// The peak until the end.
    Constant,
    /// A straight line down to the minimum at the last step.
    Linear,
}

impl Schedule {
    /// The part of the peak learning rate that step `step` of 1 ..= `total` takes. It rises linearly to 1 at step `warmup`
    /// and, unless constant, falls to `minimum` at step `total`.
    pub fn factor(self, step: u64, total: u64, warmup: u64, minimum: f64) -> f64 {
        if step <= warmup {
            return step as f64 / warmup.max(1) as f64;
        }
        let progress = ((step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64).min(1.0);
        let height = match self {
            Schedule::Constant => return 1.0,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Linear => 1.0 - progress,
        };
        minimum + (1.0 - minimum) * height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_linearly_and_ends_at_the_minimum() {
        for schedule in [Schedule::Cosine, Schedule::Linear] {
            let at = |step| schedule.factor(step, 1100, 100, 0.1);
            assert_eq!(at(1), 0.01);
            assert_eq!(at(50), 0.5);
            assert_eq!(at(100), 1.0);
            // Half way down both pass the middle.
            assert!((at(600) - 0.55).abs() < 1e-12, "{}", at(600));
            assert!((at(1100) - 0.1).abs() < 1e-15, "{}", at(1100));
            assert!((100..1100).all(|step| at(step + 1) < at(step)));
        }
        // A quarter of the way: 0.1 + 0.9 * (1 + cos(pi / 4)) / 2 and 0.1 + 0.9 * 3 / 4.
        assert!((Schedule::Cosine.factor(350, 1100, 100, 0.1) - 0.868_198_051_533_946_4).abs() < 1e-12);
        assert!((Schedule::Linear.factor(350, 1100, 100, 0.1) - 0.775).abs() < 1e-12);
    }

    #[test]
    fn constant_holds_the_peak() {
        assert_eq!(Schedule::Constant.factor(3, 10, 4, 0.1), 0.75);
        assert!((4..=10).all(|step| Schedule::Constant.factor(step, 10, 4, 0.1) == 1.0));
    }

    #[test]
    fn short_runs_have_finite_rates() {
        for schedule in [Schedule::Cosine, Schedule::Constant, Schedule::Linear] {
            // No warm-up: the first step of a one-step run is also its last.
            assert!(
                (schedule.factor(1, 1, 0, 0.5) - if schedule == Schedule::Constant { 1.0 } else { 0.5 }).abs() < 1e-15
            );
            // A warm-up longer than the run never leaves it.
            assert_eq!(schedule.factor(5, 5, 100, 0.1), 0.05);
        }
    }
}
