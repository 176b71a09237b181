//! `use_adaptive_lr`: a learning rate that is kept where the model's own weights say that it can work.
//!
//! What counts for a matrix is how far a step moves it, relative to its size: r = rms(step) / rms(w), at the peak of the
//! schedule.
//!
//! - rms(step) of AdamW is the learning rate times sqrt((1 - beta1) / (1 + beta1)) once the gradients are mostly noise: .229
//!   for beta1 = .9, and .23 to .25 is what is measured after some hundred steps, whatever the learning rate and the width.
//!   (It is larger before, and in large batches, while gradients agree: there a step may be longer, not shorter. So the
//!   formula is used, and not the length of the day.) That of Muon is the learning rate times `muon_rms`, of which [`MUON_SHARE`]
//!   counts; that of momentum is as long as the gradients, of which nothing is known: there is no rule for it.
//! - rms(w) is the geometric mean over the linear layers, weighted by their sizes, of the weights that the run starts from:
//!   the model decides the band and the run does not move it. With 1 / sqrt(fan in) initialisation it stands for the width.
//!
//! While r lies in [`LEAST`, `MOST`] the factor is exactly 1, and the run bit for bit that of the plain schedule. Outside, the
//! factor takes r to the nearer edge, but never by more than [`LIMIT`]. So `learning_rate` decides where in the band a run
//! trains, and the schedule, the whole course of it. A step in proportion to the weights is the idea of LARS (arXiv
//! 1708.03888) and LAMB (arXiv 1904.00962); here it only bounds, and the whole model at once, so that a learning rate that is
//! good is left alone: a fixed r was worse than the schedule.
//!
//! The edges are measured (characters, batches of 768 tokens, 300 to 600 steps, ternary and f32): from 2 layers x 64 to 2 x 256
//! and 4 x 128, the loss is least at r = 6e-3 to 15e-3, 1% to 10% higher at a fifth to a third of that, and as much at two to
//! four times. A loss-driven brake on top was tried and left out: no healthy run ever made it act, and where single batches
//! are odd it cost .3%.

use super::config::TrainOptions;
use crate::backend::codes;
use crate::model::Model;
use crate::step::Method;
use crate::tensor::{DType, Result, Tensor};

/// The band of r.
const LEAST: f64 = 4e-3;
const MOST: f64 = 15e-3;
/// Muon may go further, as all directions share its step: the loss of 4 x 128 over 2000 steps, .0455 for rms(w), is least at
/// learning rates of 1e-3 to 2e-3 (ternary) and .5e-3 to 1e-3 (f32), and that of 2 x 256 at 1e-3: r = 11e-3 to 44e-3.
const MUON_SHARE: f64 = 0.34;
/// The learning rate is multiplied or divided by at most this.
const LIMIT: f64 = 32.0;

/// The rule of one run. It is part of the run's checkpoints, for the weights that it was made from are gone by then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// r at a learning rate of 1; 0 where there are no weights to measure by, and then no rule.
    relative: f64,
}

impl Adaptive {
    /// From the weights that a run starts from.
    pub fn new(model: &Model, options: &TrainOptions) -> Result<Adaptive> {
        let step = match options.method {
            Method::AdamW => ((1.0 - options.beta1) / (1.0 + options.beta1)).sqrt(),
            Method::Muon => MUON_SHARE * options.muon_rms,
            Method::Momentum => 0.0,
        };
        Ok(Adaptive { relative: typical_size(model)?.map_or(0.0, |size| step / size) })
    }

    /// What the learning rate of a whole run, whose peak this is, is multiplied by.
    pub fn factor(&self, learning_rate: f64) -> f64 {
        let r = learning_rate * self.relative;
        if r > 0.0 && r < LEAST {
            (LEAST / r).min(LIMIT)
        } else if r > MOST {
            (MOST / r).max(1.0 / LIMIT)
        } else {
            1.0
        }
    }

    /// As a tensor of a checkpoint.
    pub fn to_tensor(self) -> Result<Tensor> {
        Tensor::from_slice(&[self.relative], &[1])
    }

    /// From the element of that tensor.
    pub fn from_number(relative: f64) -> Adaptive {
        Adaptive { relative }
    }
}

/// The geometric mean of rms(w) over the linear layers, weighted by their sizes; None where all weights are zero.
fn typical_size(model: &Model) -> Result<Option<f64>> {
    let context = model.context();
    let (mut logarithms, mut weights) = (0.0, 0.0);
    for master in model.linears().filter_map(|linear| linear.master) {
        let parameter = &model.parameters()[master];
        let floats = codes::decode(context, &parameter.tensor, &parameter.scales)?;
        let w = floats.view();
        let mut sum = context.zeros(DType::F64, &[1])?;
        (context.kernels().sum_squares)(context.launch(), &w, &mut sum.view_mut())?;
        let (count, sum) = (w.count() as f64, sum.read::<f64>()?[0]);
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

    const RULE: Adaptive = Adaptive { relative: 5.0 };

    #[test]
    fn inside_the_band_the_factor_is_exactly_one() {
        for rate in [8e-4, 1e-3, 2e-3, 3e-3] {
            assert_eq!(RULE.factor(rate), 1.0);
        }
        for relative in [0.0, f64::NAN] {
            assert_eq!(Adaptive { relative }.factor(1e-9), 1.0);
        }
    }

    #[test]
    fn outside_the_band_the_factor_leads_to_its_edge_and_has_a_limit() {
        for (rate, edge) in [(1e-4, LEAST), (7.9e-4, LEAST), (3.1e-3, MOST), (1e-2, MOST)] {
            assert!((rate * RULE.factor(rate) * 5.0 / edge - 1.0).abs() < 1e-12, "{rate}");
        }
        assert_eq!(RULE.factor(1e-7), LIMIT);
        assert_eq!(RULE.factor(10.0), 1.0 / LIMIT);
        // A larger learning rate never trains with a smaller one.
        let used: Vec<f64> = (0..400).map(|i| 1e-8 * 1.07f64.powi(i)).map(|rate| rate * RULE.factor(rate)).collect();
        assert!(used.windows(2).all(|pair| pair[0] <= pair[1] * (1.0 + 1e-12)));
    }

    #[test]
    fn the_rule_survives_as_a_tensor() {
        let tensor = RULE.to_tensor().unwrap();
        assert_eq!(Adaptive::from_number(tensor.host::<f64>().unwrap()[0]), RULE);
    }
}
