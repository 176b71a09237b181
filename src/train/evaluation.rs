//! The loss over the validation split, in windows that do not overlap.

use super::dataset::{Dataset, Split};
use crate::model::{Activations, Model};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Cancelled, ErrorKind, Result};

/// The windows of one evaluation, in batches of a fixed size; the last batch is what remains.
pub struct Evaluation {
    batch: usize,
    length: usize,
    /// Windows of the split.
    there: usize,
    /// Windows that are read.
    read: usize,
    /// For the last batch, when it is a smaller one. Made at the first evaluation, kept for the others.
    rest: Option<Activations>,
}

impl Evaluation {
    /// `limit` windows spread evenly over the split, or all for 0.
    pub fn new(dataset: &Dataset, batch: usize, length: usize, limit: usize) -> Evaluation {
        let there = dataset.windows(Split::Validation, length);
        let read = if limit == 0 { there } else { limit.min(there) };
        Evaluation { batch, length, there, read, rest: None }
    }

    /// Windows that an evaluation reads; 0 when the split holds none.
    pub fn windows(&self) -> usize {
        self.read
    }

    /// The mean loss in nats a token. `activations`, `tokens` and `targets` are those of a training batch. CANCELLED once
    /// `cancelled` returns true.
    pub fn run(
        &mut self,
        model: &Model,
        dataset: &Dataset,
        activations: &mut Activations,
        (tokens, targets): (&mut [u32], &mut [u32]),
        cancelled: Cancelled,
    ) -> Result<f64> {
        let Evaluation { batch, length, there, read, .. } = *self;
        ensure!(read > 0, State, "evaluation: the validation split holds no window of {length} tokens and a target");
        let remainder = read % batch;
        if remainder > 0 && self.rest.is_none() {
            self.rest = Some(Activations::new(model, remainder, length)?);
        }
        let mut sum = 0.0;
        let mut first = 0;
        while first < read {
            let count = batch.min(read - first);
            for (row, number) in (first..first + count).enumerate() {
                // Of all windows 0 .. there, the read ones are number * there / read: all of them when read == there.
                let window = (number as u128 * there as u128 / read as u128) as usize;
                let part = row * length..(row + 1) * length;
                dataset.window(Split::Validation, window, length, &mut tokens[part.clone()], &mut targets[part])?;
            }
            let used = match &mut self.rest {
                Some(rest) if count < batch => rest,
                _ => &mut *activations,
            };
            let windows = (&tokens[..count * length], &targets[..count * length]);
            let loss = model.loss(used, windows, None, cancelled).map_err(|error| match error.kind {
                ErrorKind::Cancelled => error!(Cancelled, "evaluation was cancelled"),
                _ => error,
            })?;
            if !loss.is_finite() {
                return Err(error!(State, "evaluation: the loss of windows {first} .. {} is {loss}", first + count));
            }
            sum += loss * count as f64;
            first += count;
        }
        Ok(sum / read as f64)
    }
}
