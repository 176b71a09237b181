//! The network itself: 9 inputs, 12 units, one output y, all sums in f64 in the order of the weights.
//!
//! ```text
//! h = tanh(W f + b)      W [12, 9], b [12]
//! y = v . h + a          v [12] and a: the head
//! ```

use super::features::{FEATURES, Features};
use super::math::tanh;
use crate::tensor::Result;
use crate::tensor::error::{ensure, error};

pub const UNITS: usize = 12;
/// W row by row, b, v, a.
pub const WEIGHTS: usize = UNITS * FEATURES + 2 * UNITS + 1;
pub type Weights = [f64; WEIGHTS];

const HEAD: usize = UNITS * FEATURES + UNITS;
/// No weight is larger: far above any that is of use, and sums stay far from overflow.
pub const LARGEST_WEIGHT: f64 = 16.0;
/// Where learning does not take the output further out: the factor is then within 4% of the logarithm of its bound, and a few
/// steps the other way bring it back.
const REACH: f64 = 2.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    weights: Weights,
}

impl Network {
    /// ARGUMENT for a weight that is not finite or too large.
    pub fn new(weights: &[f64]) -> Result<Network> {
        let count = weights.len();
        let weights: Weights =
            weights.try_into().map_err(|_| error!(Argument, "count is {count}, the network has {WEIGHTS} weights"))?;
        for (i, w) in weights.iter().enumerate() {
            let range = -LARGEST_WEIGHT..=LARGEST_WEIGHT;
            ensure!(range.contains(w), Argument, "weights[{i}] is {w}, expected -{LARGEST_WEIGHT} to {LARGEST_WEIGHT}");
        }
        Ok(Network { weights })
    }

    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    fn units(&self, features: &Features) -> [f64; UNITS] {
        let (w, b) = self.weights[..HEAD].split_at(UNITS * FEATURES);
        std::array::from_fn(|j| {
            let row = w[FEATURES * j..].iter().zip(features);
            tanh(row.fold(b[j], |sum, (w, f)| sum + w * f))
        })
    }

    fn head(&self, units: &[f64; UNITS]) -> f64 {
        let (v, a) = (&self.weights[HEAD..WEIGHTS - 1], self.weights[WEIGHTS - 1]);
        v.iter().zip(units).fold(a, |sum, (v, h)| sum + v * h)
    }

    /// y.
    pub fn output(&self, features: &Features) -> f64 {
        self.head(&self.units(features))
    }

    /// Moves the head by `step` along the gradient of y, which is (h, 1).
    ///
    /// The factor's own gradient is that times ln c (1 - tanh(y)^2): left out, for it only shortens the way, to nothing where
    /// the factor is at its bound, and a head there would not come back.
    pub fn learn(&mut self, features: &Features, step: f64) {
        let units = self.units(features);
        let y = self.head(&units);
        if y * step > 0.0 && y.abs() >= REACH {
            return;
        }
        for (weight, h) in self.weights[HEAD..].iter_mut().zip(units.into_iter().chain([1.0])) {
            *weight = (*weight + step * h).clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT);
        }
    }
}
