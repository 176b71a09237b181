//! What a step may take back: parameters and states as they were before it.

use super::optimizer::Progress;
use super::parameter::{Parameter, Weights};
use crate::tensor::{Result, vec_zeroed};

/// Room for a copy of all that a step changes: made by the first step that is checked, and used by all.
#[derive(Default)]
pub struct Snapshot {
    /// Of each parameter its values and scales, then its states in the order of `States::named`.
    parts: Vec<Vec<u8>>,
    /// None while it holds no copy.
    progress: Option<Progress>,
}

impl Snapshot {
    pub fn take(&mut self, parameters: &[Parameter], weights: &mut dyn Weights, progress: &Progress) -> Result<()> {
        self.progress = None;
        let mut next = 0;
        for (i, parameter) in parameters.iter().enumerate() {
            let weight = weights.weight(i);
            let states = parameter.states.named().map(|(_, tensor)| tensor);
            for tensor in [&*weight.values, &*weight.scales].into_iter().chain(states) {
                let bytes = tensor.read_bytes()?;
                if next == self.parts.len() {
                    self.parts.push(Vec::new());
                }
                let part = &mut self.parts[next];
                if part.len() != bytes.len() {
                    *part = vec_zeroed(bytes.len())?;
                }
                part.copy_from_slice(&bytes);
                next += 1;
            }
        }
        self.progress = Some(progress.clone());
        Ok(())
    }

    pub fn is_taken(&self) -> bool {
        self.progress.is_some()
    }

    pub fn forget(&mut self) {
        self.progress = None;
    }

    /// Bit for bit as it was; and the progress then. None, and nothing, without a copy.
    pub fn restore(&mut self, parameters: &mut [Parameter], weights: &mut dyn Weights) -> Result<Option<Progress>> {
        if self.progress.is_none() {
            return Ok(None);
        }
        let mut parts = self.parts.iter();
        for (i, parameter) in parameters.iter_mut().enumerate() {
            let weight = weights.weight(i);
            let states = parameter.states.named_mut().map(|(_, tensor)| tensor);
            for (tensor, bytes) in [weight.values, weight.scales].into_iter().chain(states).zip(&mut parts) {
                tensor.write_bytes(bytes)?;
            }
        }
        Ok(self.progress.take())
    }
}
