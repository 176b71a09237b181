//! What a step may take back: parameters and states as they were before it.

use super::lr_net::LrNet;
use super::optimizer::Progress;
use super::parameter::{Parameter, Previous, Weights};
use crate::tensor::{Result, vec_zeroed};

/// A copy of all that a step changes. It exists between a step and the check of it only.
pub struct Snapshot {
    /// Of each parameter its values and scales, then its states in the order of `States::named`.
    bytes: Vec<u8>,
    previous: Vec<Previous>,
    pub net: Option<LrNet>,
    pub progress: Progress,
}

impl Snapshot {
    pub fn take(
        parameters: &[Parameter],
        weights: &mut dyn Weights,
        progress: &Progress,
        net: Option<&LrNet>,
    ) -> Result<Snapshot> {
        let mut count = 0;
        for (i, parameter) in parameters.iter().enumerate() {
            let weight = weights.weight(i);
            let states: usize = parameter.states.named().iter().map(|(_, tensor)| tensor.bytes()).sum();
            count += weight.values.bytes() + weight.scales.bytes() + states;
        }
        let mut bytes: Vec<u8> = vec_zeroed(count)?;
        let mut rest = &mut bytes[..];
        for (i, parameter) in parameters.iter().enumerate() {
            let weight = weights.weight(i);
            let states = parameter.states.named().map(|(_, tensor)| tensor);
            for tensor in [&*weight.values, &*weight.scales].into_iter().chain(states) {
                let (part, after) = rest.split_at_mut(tensor.bytes());
                part.copy_from_slice(&tensor.read_bytes()?);
                rest = after;
            }
        }
        let previous = parameters.iter().map(|parameter| parameter.previous).collect();
        Ok(Snapshot { bytes, previous, net: net.cloned(), progress: progress.clone() })
    }

    /// Bit for bit as it was.
    pub fn restore(&self, parameters: &mut [Parameter], weights: &mut dyn Weights) -> Result<()> {
        let mut rest = &self.bytes[..];
        for ((i, parameter), previous) in parameters.iter_mut().enumerate().zip(&self.previous) {
            parameter.previous = *previous;
            let weight = weights.weight(i);
            let states = parameter.states.named_mut().map(|(_, tensor)| tensor);
            for tensor in [weight.values, weight.scales].into_iter().chain(states) {
                let (part, after) = rest.split_at(tensor.bytes());
                tensor.write_bytes(part)?;
                rest = after;
            }
        }
        Ok(())
    }
}
