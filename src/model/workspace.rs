//! The gradient of a batch for whoever updates the parameters outside of this library: cut into slices as the trainer cuts it,
//! so that the bits are the trainer's, and in memory that is kept from call to call.

use super::{Activations, Draw, GradientProducts, Gradients, Model};
use crate::tensor::{Result, Tensor, never};

/// A slice shares a 32-bit word of the random counter with the place in the model: see `Draw::stream`.
pub const MOST_SLICES: usize = 1 << 16;

/// Tokens that pass through the model together: enough for its products, few enough that what they leave for the backward pass
/// costs little memory.
const SLICE_TOKENS: usize = 4096;

/// In how many slices a batch of windows of `length` tokens passes through the model; `batch` is at least 1.
pub fn slices(batch: usize, length: usize) -> usize {
    batch.saturating_mul(length).div_ceil(SLICE_TOKENS).clamp(1, batch).min(MOST_SLICES)
}

/// What decides the memory of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub batch: usize,
    pub length: usize,
    pub products: GradientProducts,
    pub checkpointing: bool,
}

pub struct Workspace {
    gradients: Gradients,
    room: Option<Room>,
}

struct Room {
    form: Form,
    activations: Activations,
    /// For the last slice, where it is a smaller one.
    rest: Option<Activations>,
}

impl Room {
    fn new(model: &Model, form: Form) -> Result<Room> {
        let Form { batch, length, products, checkpointing } = form;
        let make = |windows| match checkpointing {
            true => Activations::checkpointing(model, windows, length, products),
            false => Activations::training(model, windows, length, products),
        };
        let slice = batch.div_ceil(slices(batch, length));
        let rest = batch % slice;
        Ok(Room { form, activations: make(slice)?, rest: if rest > 0 { Some(make(rest)?) } else { None } })
    }
}

impl Workspace {
    /// Room for the gradients; UNSUPPORTED for a model without float weights.
    pub fn new(model: &Model) -> Result<Workspace> {
        Ok(Workspace { gradients: Gradients::new(model)?, room: None })
    }

    /// What the last call computed, in the order of the parameters.
    pub fn gradients(&self) -> &[Tensor] {
        self.gradients.tensors()
    }

    /// The mean loss of `targets` after `tokens`, both [batch, length], in nats; its gradient is in `gradients` then. `draw` says
    /// which random numbers dropout and rounding take; its micro-batch is the slice.
    pub fn backward(
        &mut self,
        model: &Model,
        form: Form,
        (tokens, targets): (&[u32], &[u32]),
        draw: Draw,
    ) -> Result<f64> {
        // What there was is given back first: the two would not always fit beside each other.
        self.room = self.room.take().filter(|room| room.form == form);
        let Room { activations, rest, .. } = match &mut self.room {
            Some(room) => room,
            none => none.insert(Room::new(model, form)?),
        };
        self.gradients.zero(model.context())?;
        let slice = activations.batch;
        let per_slice = slice * form.length;
        let mut loss = 0.0;
        for (i, text) in tokens.chunks(per_slice).zip(targets.chunks(per_slice)).enumerate() {
            let activations = match rest {
                Some(rest) if text.0.len() < per_slice => rest,
                _ => &mut *activations,
            };
            let share = activations.batch as f64 / form.batch as f64;
            let draw = Some(Draw { micro_batch: i as u32, ..draw });
            loss += model.backward(activations, text, share, draw, &mut self.gradients, &never)? * share;
        }
        Ok(loss)
    }
}
