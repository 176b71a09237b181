//! What a step may take back: parameters and states as they were before it.

use super::lr_net::LrNet;
use super::optimizer::Progress;
use super::parameter::{Parameter, Previous, Weights};
use crate::tensor::{Result, Tensor, vec_zeroed};

/// A copy of all that a step changes. It exists between a step and the check of it only.
pub struct Snapshot {
    /// Of each parameter its values and scales, then its states in the order of `States::named`.
    parts: Vec<Vec<u8>>,
    previous: Vec<Previous>,
    pub net: Option<LrNet>,
    pub progress: Progress,
}

fn copy(tensor: &Tensor) -> Result<Vec<u8>> {
    let bytes = tensor.read_bytes()?;
    let mut copy = vec_zeroed(bytes.len())?;
    copy.copy_from_slice(&bytes);
    Ok(copy)
}

impl Snapshot {
    pub fn take(
        parameters: &[Parameter],
        weights: &mut dyn Weights,
        progress: &Progress,
        net: Option<&LrNet>,
    ) -> Result<Snapshot> {
        let mut parts = Vec::new();
        for (i, parameter) in parameters.iter().enumerate() {
            let weight = weights.weight(i);
            let states = parameter.states.named().map(|(_, tensor)| tensor);
            for tensor in [&*weight.values, &*weight.scales].into_iter().chain(states) {
                parts.push(copy(tensor)?);
            }
        }
        let previous = parameters.iter().map(|parameter| parameter.previous).collect();
        Ok(Snapshot { parts, previous, net: net.cloned(), progress: progress.clone() })
    }

    /// Bit for bit as it was.
    pub fn restore(&self, parameters: &mut [Parameter], weights: &mut dyn Weights) -> Result<()> {
        let mut parts = self.parts.iter();
        for (i, parameter) in parameters.iter_mut().enumerate() {
            parameter.previous = self.previous[i];
            let weight = weights.weight(i);
            let states = parameter.states.named_mut().map(|(_, tensor)| tensor);
            for (tensor, bytes) in [weight.values, weight.scales].into_iter().chain(states).zip(&mut parts) {
                tensor.write_bytes(bytes)?;
            }
        }
        Ok(())
    }
}
