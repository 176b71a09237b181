//! What the network sees of one parameter at one step: nine numbers without a unit, each between -1 and 1.

use super::math::ln;
use super::trend::Trend;
use crate::step::Kind;

/// The numbers that the network has of a parameter. All of its own, but for the loss, which [`Trend`] adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    pub kind: Kind,
    /// rms(step) / rms(w) of the last step, or over what bounds it in place of rms(w); 0 before the first.
    pub relative_step: f64,
    /// The share of trits that the last step changed; 0 where there are none.
    pub flip_rate: f64,
    /// The cosine of the gradient and of m, the running mean of the gradients before it; 0 before the first step.
    pub cosine: f64,
    /// mean(m^2) / mean(v), both of the gradients before this one, with Adam's corrections: the share of the gradients' power that
    /// they agree in, (1 - beta1) / (1 + beta1), .05, for noise alone, 1 for gradients that stay the same; 0 where there is no v.
    pub signal: f64,
    /// The share of the run that is over, t / T.
    pub progress: f64,
}

/// The network's inputs.
pub const FEATURES: usize = 9;
pub type Features = [f64; FEATURES];

impl Observation {
    /// Each input grows with its number, or stays:
    ///
    /// ```text
    /// 0  relative step   log10(x) / 3 + 1, which is -1 from 1e-6 down, 0 at 1e-3, 1 from 1 up
    /// 1  flip rate       the same
    /// 2  cosine          itself
    /// 3  signal          log10(x) + 1: -1 from 1e-2 down, 0 at 1e-1, 1 from 1 up
    /// 4  trend           see Trend
    /// 5  height          see Trend
    /// 6  progress        2 x - 1
    /// 7  ternary         1 or 0
    /// 8  vector          1 or 0
    /// ```
    ///
    /// None where a number is a NaN, an infinity, or negative where none can be; or where the last loss was not finite.
    pub fn features(&self, trend: &Trend) -> Option<Features> {
        let [slope, height] = trend.features()?;
        let possible = |x: f64| x.is_finite() && x >= 0.0;
        let right = [self.relative_step, self.flip_rate, self.signal].into_iter().all(possible)
            && self.cosine.is_finite()
            && self.progress.is_finite();
        right.then(|| {
            [
                decades(self.relative_step) / 3.0 + 1.0,
                decades(self.flip_rate) / 3.0 + 1.0,
                self.cosine,
                decades(self.signal) + 1.0,
                slope,
                height,
                2.0 * self.progress - 1.0,
                f64::from(self.kind == Kind::Ternary),
                f64::from(self.kind == Kind::Vector),
            ]
            .map(|x| x.clamp(-1.0, 1.0))
        })
    }
}

fn decades(x: f64) -> f64 {
    ln(x) * std::f64::consts::LOG10_E
}
