//! The gradient of a batch for whoever updates the parameters outside of this library: cut into slices as the trainer cuts it,
//! so that the bits are the trainer's, and in memory that is kept from call to call.

use super::teacher::{Lesson, Teacher};
use super::{Activations, Draw, GradientProducts, Gradients, Model};
use crate::backend::Backend;
use crate::tensor::{Result, Tensor, never};
use std::ops::Range;

/// A slice shares a 32-bit word of the random counter with the place in the model: see `Draw::stream`.
pub const MOST_SLICES: usize = 1 << 16;

/// Tokens that pass through the model together: enough for its products, few enough that what they leave for the backward pass
/// costs little memory.
pub const SLICE_TOKENS: usize = 4096;

/// As many of a device, whose kernels have that many more threads to fill, where the model is small enough: a token of L layers
/// of width d leaves about 100 L d bytes, and so a slice at most 4 GB more than with `SLICE_TOKENS`.
const DEVICE_SLICE_TOKENS: usize = 16_384;
const DEVICE_SLICE_NUMBERS: usize = 40 << 20;

fn slice_tokens(model: &Model) -> usize {
    if model.context().backend() != Backend::Cuda {
        return SLICE_TOKENS;
    }
    let numbers = model.options().layers.saturating_mul(model.options().width).max(1);
    (DEVICE_SLICE_NUMBERS / numbers).clamp(SLICE_TOKENS, DEVICE_SLICE_TOKENS)
}

/// In how many slices a batch of windows of `length` tokens passes through a model, `tokens` at a time; `batch` is at least 1.
pub fn slices(batch: usize, length: usize, tokens: usize) -> usize {
    batch.saturating_mul(length).div_ceil(tokens).clamp(1, batch).min(MOST_SLICES)
}

/// Windows of a slice; the last slice has what is left.
pub fn slice(batch: usize, length: usize, tokens: usize) -> usize {
    batch.div_ceil(slices(batch, length, tokens))
}

/// What decides the memory of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub batch: usize,
    pub length: usize,
    pub products: GradientProducts,
    pub checkpointing: bool,
    /// Whether the batch passes through in one slice, however long it is.
    pub whole: bool,
}

/// The memory of a batch that passes through the model slice by slice.
pub struct Slices {
    form: Form,
    activations: Activations,
    /// For the last slice, where it is a smaller one.
    rest: Option<Activations>,
}

impl Slices {
    pub fn new(model: &Model, form: Form) -> Result<Slices> {
        Slices::taught(model, form, None)
    }

    /// The same for a model that learns from another one.
    pub fn taught(model: &Model, form: Form, teacher: Option<&Teacher>) -> Result<Slices> {
        let Form { batch, length, products, checkpointing, whole } = form;
        let make = |windows| {
            let mut activations = match checkpointing {
                true => Activations::checkpointing(model, windows, length, products),
                false => Activations::training(model, windows, length, products),
            }?;
            activations.lesson =
                teacher.map(|teacher| Lesson::new(teacher, windows, length).map(Box::new)).transpose()?;
            Ok(activations)
        };
        let slice = if whole { batch } else { slice(batch, length, slice_tokens(model)) };
        let rest = batch % slice;
        Ok(Slices { form, activations: make(slice)?, rest: if rest > 0 { Some(make(rest)?) } else { None } })
    }

    /// Windows of a slice.
    pub fn size(&self) -> usize {
        self.activations.batch
    }

    pub fn count(&self) -> usize {
        self.form.batch.div_ceil(self.size())
    }

    /// The memory of a slice that is no rest.
    pub fn whole(&mut self) -> &mut Activations {
        &mut self.activations
    }

    /// Calls `pass` for each slice with its number, its windows and its memory, and returns the mean of the losses that it returns,
    /// weighted by the windows.
    pub fn mean(&mut self, mut pass: impl FnMut(usize, Range<usize>, &mut Activations) -> Result<f64>) -> Result<f64> {
        let (batch, slice, count) = (self.form.batch, self.size(), self.count());
        let mut mean = 0.0;
        for i in 0..count {
            let windows = i * slice..batch.min((i + 1) * slice);
            let share = windows.len() as f64 / batch as f64;
            let activations = match &mut self.rest {
                Some(rest) if windows.len() < slice => rest,
                _ => &mut self.activations,
            };
            mean += pass(i, windows, activations)? * share;
        }
        Ok(mean)
    }
}

pub struct Workspace {
    gradients: Gradients,
    slices: Option<Slices>,
}

impl Workspace {
    /// Room for the gradients; UNSUPPORTED for a model without float weights.
    pub fn new(model: &Model) -> Result<Workspace> {
        Ok(Workspace { gradients: Gradients::new(model)?, slices: None })
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
        self.slices = self.slices.take().filter(|slices| slices.form == form);
        let slices = match &mut self.slices {
            Some(slices) => slices,
            none => none.insert(Slices::new(model, form)?),
        };
        let gradients = &mut self.gradients;
        gradients.zero(model.context())?;
        slices.mean(|i, windows, activations| {
            let part = windows.start * form.length..windows.end * form.length;
            let share = windows.len() as f64 / form.batch as f64;
            let draw = Some(Draw { micro_batch: i as u32, ..draw });
            model.backward(activations, (&tokens[part.clone()], &targets[part]), share, draw, gradients, &never)
        })
    }
}
