//! `use_adaptive_lr`: a learning rate that is kept where the model's own weights say that it can work.
//!
//! **The band.** What counts for a matrix is how far a step moves it, relative to its size: r = rms(step) / rms(w). Of
//! AdamW, rms(step) is the learning rate times sqrt((1 - beta1) / (1 + beta1)) once the gradients are mostly noise, which
//! they are after some hundred steps whatever the learning rate (measured: .23 to .25 for beta1 = .9, where the formula says
//! .229; larger before, while gradients agree, and in large batches, which bear a higher learning rate and not a lower one:
//! so the formula is used and not the measured length). rms(w) is the geometric mean over the linear layers, weighted by
//! size, of the weights that the run starts from: a property of the model and not of the run, so that the band stands still.
//! While r at the schedule's peak lies in [`LEAST`, `MOST`], the factor is exactly 1. Outside, it takes r to the nearer
//! edge, by [`LIMIT`] at the most. All layers follow: what `learning_rate` decides is where in the band the run trains.
//!
//! That is the idea of LARS (arXiv 1708.03888) and LAMB (arXiv 1904.00962), a step in proportion to the weights, as bounds
//! instead of a rule, and for the whole model, so that a good learning rate is left alone.
//!
//! **The brake.** A loss far above its running mean halves the factor, which then grows back by 2% a step. It needs both
//! six standard deviations and a quarter of the mean: batches of a healthy run never differ that much.

use super::config::TrainOptions;
use crate::model::Model;
use crate::tensor::{DType, Result, Tensor};

/// The band of r at the schedule's peak.
const LEAST: f64 = 4e-3;
const MOST: f64 = 15e-3;
/// The band multiplies or divides by at most this.
const LIMIT: f64 = 32.0;

/// Losses that the running mean forgets over, and that it must have seen before it judges.
const MEMORY: f64 = 50.0;
const DEVIATIONS: f64 = 6.0;
const EXCESS: f64 = 1.25;
const BRAKE: f64 = 0.5;
const LEAST_BRAKE: f64 = 1.0 / 16.0;
const RECOVERY: f64 = 1.02;

/// What the rule remembers: all of it is in the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// r for a learning rate of 1; 0 before the first step, and where no rule can be made.
    relative: f64,
    /// Losses seen, their running mean and variance.
    seen: f64,
    mean: f64,
    variance: f64,
    brake: f64,
}

impl Default for Adaptive {
    fn default() -> Self {
        Adaptive { relative: 0.0, seen: 0.0, mean: 0.0, variance: 0.0, brake: 1.0 }
    }
}

impl Adaptive {
    /// The rule after the loss of one more step, which is about to be taken.
    pub fn after(mut self, model: &Model, options: &TrainOptions, loss: f64) -> Result<Adaptive> {
        if self.seen == 0.0 {
            let noise = ((1.0 - options.beta1) / (1.0 + options.beta1)).sqrt();
            self.relative = typical_size(model)?.map_or(0.0, |size| noise / size);
        }
        self.watch(loss);
        Ok(self)
    }

    /// What the schedule's learning rate is multiplied by.
    pub fn factor(&self, learning_rate: f64) -> f64 {
        let r = learning_rate * self.relative;
        let band = match r {
            r if r <= 0.0 => 1.0,
            r if r < LEAST => (LEAST / r).min(LIMIT),
            r if r > MOST => (MOST / r).max(1.0 / LIMIT),
            _ => 1.0,
        };
        band * self.brake
    }

    fn watch(&mut self, loss: f64) {
        let limit = (self.mean + DEVIATIONS * self.variance.sqrt()).max(EXCESS * self.mean);
        let spike = self.seen >= MEMORY && loss > limit;
        self.brake = if spike { (self.brake * BRAKE).max(LEAST_BRAKE) } else { (self.brake * RECOVERY).min(1.0) };
        // A spike counts as the largest loss that is none, so that the next one is seen too. The first losses weigh alike.
        let loss = if spike { limit } else { loss };
        self.seen += 1.0;
        let rate = 1.0 / self.seen.min(MEMORY);
        let difference = loss - self.mean;
        self.mean += rate * difference;
        self.variance = (1.0 - rate) * (self.variance + rate * difference * difference);
    }

    /// The state as a tensor of a checkpoint, and back.
    pub const NUMBERS: usize = 5;

    pub fn to_tensor(self) -> Result<Tensor> {
        let Adaptive { relative, seen, mean, variance, brake } = self;
        let mut tensor = Tensor::zeros(DType::F64, &[Self::NUMBERS])?;
        tensor.host_mut::<f64>()?.copy_from_slice(&[relative, seen, mean, variance, brake]);
        Ok(tensor)
    }

    pub fn from_numbers([relative, seen, mean, variance, brake]: [f64; Self::NUMBERS]) -> Adaptive {
        Adaptive { relative, seen, mean, variance, brake }
    }
}

/// The geometric mean of rms(w) over the linear layers, weighted by their sizes; None where all are zero.
fn typical_size(model: &Model) -> Result<Option<f64>> {
    let context = model.context();
    let (mut logarithms, mut weights) = (0.0, 0.0);
    for master in model.linears().filter_map(|linear| linear.master) {
        let w = model.parameters()[master].tensor.view();
        let mut sum = Tensor::zeros(DType::F64, &[1])?;
        (context.kernels().sum_squares)(context.launch(), &w, &mut sum.view_mut())?;
        let (count, sum) = (w.count() as f64, sum.host::<f64>()?[0]);
        if sum > 0.0 {
            logarithms += count * 0.5 * (sum / count).ln();
            weights += count;
        }
    }
    Ok((weights > 0.0).then(|| (logarithms / weights).exp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(relative: f64) -> Adaptive {
        Adaptive { relative, ..Adaptive::default() }
    }

    #[test]
    fn inside_the_band_the_factor_is_exactly_one() {
        let rule = rule(5.0);
        for rate in [8e-4, 1e-3, 2e-3, 3e-3] {
            assert_eq!(rule.factor(rate), 1.0);
        }
        // Without weights to measure by there is no rule.
        assert_eq!(Adaptive::default().factor(1e-9), 1.0);
    }

    #[test]
    fn outside_the_band_the_factor_leads_to_its_edge_and_has_a_limit() {
        let rule = rule(5.0);
        for (rate, edge) in [(1e-4, LEAST), (7.9e-4, LEAST), (3.1e-3, MOST), (1e-2, MOST)] {
            assert!((rate * rule.factor(rate) * 5.0 / edge - 1.0).abs() < 1e-12, "{rate}");
        }
        assert_eq!(rule.factor(1e-7), LIMIT);
        assert_eq!(rule.factor(10.0), 1.0 / LIMIT);
        // A larger learning rate never trains with a smaller one.
        let rates: Vec<f64> = (0..400).map(|i| 1e-8 * 1.07f64.powi(i)).collect();
        assert!(
            rates.windows(2).all(|pair| pair[0] * rule.factor(pair[0]) <= pair[1] * rule.factor(pair[1]) * 1.000_001)
        );
    }

    /// A loss that falls with the noise of batches, and what the brake says at each step.
    fn brakes(steps: usize, spike: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut rule = rule(5.0);
        (0..steps)
            .map(|step| {
                let noise = 0.08 * (step as f64 * 1.7).sin() + 0.05 * (step as f64 * 0.31).cos();
                rule.watch(1.5 + 2.7 * (-(step as f64) / 150.0).exp() + noise + spike(step));
                rule.brake
            })
            .collect()
    }

    #[test]
    fn the_brake_leaves_a_healthy_run_alone() {
        assert!(brakes(2000, |_| 0.0).iter().all(|&brake| brake == 1.0));
        // Before the mean is known, anything goes.
        assert!(brakes(60, |step| if step == 20 { 5.0 } else { 0.0 }).iter().all(|&brake| brake == 1.0));
    }

    #[test]
    fn a_spike_brakes_and_the_brake_is_let_go_to_exactly_one() {
        let brakes = brakes(1000, |step| if (500..503).contains(&step) { 3.0 } else { 0.0 });
        assert_eq!(brakes[499..503], [1.0, 0.5, 0.25, 0.125]);
        assert_eq!(brakes[503], 0.125 * RECOVERY);
        let free = brakes.iter().skip(503).position(|&brake| brake == 1.0).unwrap();
        assert_eq!(free, (8f64.ln() / RECOVERY.ln()).ceil() as usize - 1);
        assert!(brakes[503 + free..].iter().all(|&brake| brake == 1.0));
        // However long the trouble lasts, the brake has a limit, and the mean gets used to it.
        let long = self::brakes(2000, |step| if step >= 500 { 3.0 } else { 0.0 });
        assert_eq!(long.iter().copied().fold(1.0, f64::min), LEAST_BRAKE);
        assert_eq!(long[1999], 1.0);
    }

    #[test]
    fn the_state_survives_as_numbers() {
        let mut state = rule(5.0);
        (0..70).for_each(|i| state.watch(2.0 + f64::from(i % 3)));
        state.brake = 0.3;
        let tensor = state.to_tensor().unwrap();
        let numbers: [f64; Adaptive::NUMBERS] = tensor.host::<f64>().unwrap().try_into().unwrap();
        assert_eq!(Adaptive::from_numbers(numbers), state);
    }
}
