//! The auxiliary network: 133 weights that say, from what a parameter's last step did, whether its next one should be longer.
//!
//! | file | what |
//! |---|---|
//! | `features.rs` | [`Observation`]: what it is told of a parameter; its nine inputs |
//! | `trend.rs` | the inputs that the losses of all steps give |
//! | `network.rs` | the 133 weights, forward and learning |
//! | `weights.rs` | the weights that the library comes with |
//! | `math.rs` | exp, ln and tanh with the same bits on every machine |
//! | `state.rs` | a network as tensors, and as a file |
//!
//! ```text
//! target   ln c * tanh(y)                       y the network's output, c the largest factor
//! r        r + clamp(target - r, -0.3, 0.3)     kept for each parameter, 0 at first
//! factor   e^r, from 1 / c to c
//! ```
//!
//! The factor multiplies what is there without it, a learning rate or a radius by its schedule, and no more: bounded, slow, and
//! where the head is 0 exactly 1. Where an input is not a number the factor is 1 too, and r stays. Small networks that steer an
//! optimizer, trained by evolution strategies, are those of Metz et al., arXiv 2009.11243; see c_examples/meta_train.c.
//!
//! Online, the head can learn from each step: where the new gradient g still points down along the last step s, the step was
//! too short, where it points back, too long. That is Baydin et al.'s hypergradient, arXiv 1703.04782, here by its cosine,
//! -g . s / (|g| |s|), so that no scale comes in.

mod features;
mod math;
mod network;
mod state;
#[cfg(test)]
mod tests;
mod trend;
mod weights;

pub use features::{FEATURES, Features, Observation};
pub use network::{WEIGHTS, Weights};
pub use state::Part;

use crate::tensor::error::ensure;
use crate::tensor::{Result, reserve};
use math::{exp, ln, tanh};
use network::Network;
pub use trend::Trend;

/// Of c: a factor beyond is no correction of what it multiplies, but another thing.
pub const LARGEST_FACTOR: f64 = 4.0;
/// What ln of a factor moves by in one step at most.
pub const LONGEST_MOVE: f64 = 0.3;
/// More parameters than any network has tensors; their states are 6 MB.
pub const MOST_PARAMETERS: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrNetOptions {
    /// c: 1 to 4. With 1 every factor is 1.
    pub largest_factor: f64,
    /// How far a hypergradient of 1 moves a weight of the head; 0: the head does not learn.
    pub online_rate: f64,
}

impl Default for LrNetOptions {
    fn default() -> Self {
        LrNetOptions { largest_factor: LARGEST_FACTOR, online_rate: 0.0 }
    }
}

/// What is kept of one parameter between its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct State {
    /// ln of the factor.
    log: f64,
    /// What that was for; None before the first.
    features: Option<Features>,
}

/// The network of a run, with the states of its parameters, which are numbered from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct LrNet {
    options: LrNetOptions,
    /// ln c.
    bound: f64,
    network: Network,
    trend: Trend,
    states: Vec<State>,
}

/// A step that is not taken yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// From 1 / c to c; exactly 1 where an input is not a number.
    pub factor: f64,
    /// The state after it; None where an input is not a number.
    state: Option<State>,
}

impl LrNet {
    /// With the weights that the library comes with. ARGUMENT for an option out of its range.
    pub fn new(options: LrNetOptions) -> Result<LrNet> {
        let LrNetOptions { largest_factor, online_rate } = options;
        let range = 1.0..=LARGEST_FACTOR;
        ensure!(
            range.contains(&largest_factor),
            Argument,
            "largest_factor is {largest_factor}, expected 1 to {LARGEST_FACTOR}"
        );
        ensure!((0.0..=1.0).contains(&online_rate), Argument, "online_rate is {online_rate}, expected 0 to 1");
        let network = Network::new(&weights::DEFAULT)?;
        let bound = ln(largest_factor);
        Ok(LrNet { options, bound, network, trend: Trend::default(), states: Vec::new() })
    }

    pub fn weights(&self) -> &Weights {
        self.network.weights()
    }

    /// Other weights, as [`WEIGHTS`] says; states stay. ARGUMENT for another count, or one that is not from -16 to 16.
    pub fn set_weights(&mut self, weights: &[f64]) -> Result<()> {
        self.network = Network::new(weights)?;
        Ok(())
    }

    /// The loss of the step that the next observations belong to. One that is not finite makes factors 1 until the next.
    pub fn observe_loss(&mut self, loss: f64) {
        self.trend.observe(loss);
    }

    /// What is known of the losses so far; and again what was known before one of them.
    pub fn trend(&self) -> Trend {
        self.trend
    }

    pub fn set_trend(&mut self, trend: Trend) {
        self.trend = trend;
    }

    /// What the network sees of an observation; None where a number is not one.
    pub fn features(&self, observation: &Observation) -> Option<Features> {
        observation.features(&self.trend)
    }

    /// States for the parameters 0 to `count` - 1, so that accepting theirs cannot fail.
    pub fn grow(&mut self, count: usize) -> Result<()> {
        ensure!(count <= MOST_PARAMETERS, Argument, "parameters are {count}, expected at most {MOST_PARAMETERS}");
        let missing = count.saturating_sub(self.states.len());
        reserve(&mut self.states, missing)?;
        self.states.extend(std::iter::repeat_n(State::default(), missing));
        Ok(())
    }

    /// The factor for the next step of the parameter `index`. Nothing changes until it is accepted: a step may be refused.
    pub fn propose(&self, index: usize, observation: &Observation) -> Proposal {
        let log = self.states.get(index).map_or(0.0, |state| state.log);
        let Some(features) = self.features(observation) else {
            return Proposal { factor: 1.0, state: None };
        };
        let target = self.bound * tanh(self.network.output(&features));
        let way = target - log;
        // Not r + (target - r): rounding could take it past the target, and past the bound.
        let log = if way.abs() <= LONGEST_MOVE { target } else { log + LONGEST_MOVE.copysign(way) };
        let c = self.options.largest_factor;
        Proposal { factor: exp(log).clamp(1.0 / c, c), state: Some(State { log, features: Some(features) }) }
    }

    /// The step with the proposed factor is taken. Fails only where there is no state for the parameter yet, see [`Self::grow`].
    pub fn accept(&mut self, index: usize, proposal: &Proposal) -> Result<()> {
        if let Some(state) = proposal.state {
            self.grow(self.states.len().max(index.saturating_add(1)))?;
            self.states[index] = state;
        }
        Ok(())
    }

    /// The factor for the next step of the parameter `index`, which is taken.
    pub fn factor(&mut self, index: usize, observation: &Observation) -> Result<f64> {
        ensure!(index < MOST_PARAMETERS, Argument, "index is {index}, expected 0 to {}", MOST_PARAMETERS - 1);
        let proposal = self.propose(index, observation);
        self.accept(index, &proposal)?;
        Ok(proposal.factor)
    }

    /// Moves the head by what became of the last step s of the parameter `index`: `hypergradient` is -g . s / (|g| |s|), g the
    /// gradient after it. Above 0, longer steps would have been better: factors like that one's grow.
    ///
    /// Nothing happens with a rate of 0, before the parameter's first factor, or for what is not finite.
    pub fn learn(&mut self, index: usize, hypergradient: f64) {
        let rate = self.options.online_rate;
        let features = self.states.get(index).and_then(|state| state.features);
        if let Some(features) = features.filter(|_| rate > 0.0 && hypergradient.is_finite()) {
            self.network.learn(&features, rate * hypergradient.clamp(-1.0, 1.0));
        }
    }

    /// As before the first step: forgets losses and states. The weights stay, with what the head has learned.
    pub fn reset(&mut self) {
        self.trend = Trend::default();
        self.states.clear();
    }
}
