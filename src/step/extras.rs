//! What an optimizer knows of its parameters beside their states, as tensors of f64 for the checkpoints of callers and of runs:
//!
//! ```text
//! initial_rms   [n]     rms of the weights before the first step
//! previous      [n, 2]  of the last step, its ratio (as `ParameterReport` has it) and the share of trits that changed
//! lr_net.<part>         of the network, where there is one: see lr_net/state.rs
//! ```

use super::lr_net::Part;
use super::optimizer::Optimizer;
use super::parameter::Previous;
use crate::tensor::Result;
use crate::tensor::error::ensure;

pub const INITIAL: &str = "initial_rms";
const PREVIOUS: &str = "previous";
const NET: &str = "lr_net.";
/// Of the network's parts the one that has a row for each parameter.
pub const STATES: &str = "lr_net.states";

impl Optimizer {
    pub fn extras(&self) -> Result<Vec<(String, Part)>> {
        let n = self.parameters().len();
        let initial = self.parameters().iter().map(|parameter| parameter.initial_rms).collect();
        let previous = self.parameters().iter().map(|parameter| parameter.previous);
        let previous = previous.flat_map(|previous| [previous.relative_step, previous.flip_rate]).collect();
        let mut all = vec![
            (INITIAL.to_string(), Part { dims: vec![n], values: initial }),
            (PREVIOUS.to_string(), Part { dims: vec![n, 2], values: previous }),
        ];
        if let Some(net) = self.net() {
            all.extend(net.parts()?.into_iter().map(|(name, part)| (format!("{NET}{name}"), part)));
        }
        Ok(all)
    }

    /// Continues from what `part` finds by these names. FORMAT says what no steps leave; then nothing has changed.
    pub fn restore_extras(&mut self, part: &dyn Fn(&str) -> Result<Part>) -> Result<()> {
        let n = self.parameters().len();
        let (initial, previous) = (part(INITIAL)?, part(PREVIOUS)?);
        for (name, dims, part) in [(INITIAL, vec![n], &initial), (PREVIOUS, vec![n, 2], &previous)] {
            ensure!(part.dims == dims, Format, "{name} has the shape {:?}, expected {dims:?}", part.dims);
            // A NaN stands for what there is not yet.
            let bad = part.values.iter().find(|&&x| x < 0.0 || x.is_infinite());
            ensure!(bad.is_none(), Format, "{name} holds {}, which no steps leave", bad.unwrap_or(&0.0));
        }
        if let Some(net) = self.net_mut() {
            net.restore(&|name| part(&format!("{NET}{name}")))?;
        }
        let pairs = previous.values.as_chunks::<2>().0;
        for ((parameter, initial), previous) in self.parameters_mut().iter_mut().zip(initial.values).zip(pairs) {
            parameter.initial_rms = initial;
            parameter.previous = Previous { relative_step: previous[0], flip_rate: previous[1] };
        }
        Ok(())
    }
}
