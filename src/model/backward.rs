//! The backward pass of the whole model, in stages from the loss to the embedding: what a stage gives the gradients of is done with
//! its parameters, so that they may change, and the room of the gradients be used again, before the next one begins.

use super::activations::{Activations, Gradients};
use super::transformer::{Draw, Model, Pass};
use crate::tensor::error::error;
use crate::tensor::{Cancelled, Result};
use std::ops::Range;

/// What is gone through at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Loss, head and final norm. A head that is the embedding too has no more than a share of its gradient then.
    Head,
    /// Of a layer's feed-forward block: down and its norm, then up, gate and theirs.
    Down(usize),
    Up(usize),
    /// Of its attention: output and its norm, with the attention itself, then queries, keys, values and theirs.
    AttentionOutput(usize),
    AttentionInput(usize),
    Embedding,
}

/// What a pass is over.
#[derive(Clone, Copy)]
pub struct BackwardInput<'a> {
    /// Tokens and targets, [batch, length].
    pub text: (&'a [u32], &'a [u32]),
    /// What multiplies the gradient of the mean loss.
    pub factor: f64,
    /// Which random numbers dropout and the rounding of gradients take; None leaves dropout off even when the model has it.
    pub draw: Option<Draw>,
    /// Asked before each product.
    pub cancelled: Cancelled<'a>,
}

impl Model {
    /// Forward and backward: adds `factor` times the gradient of the mean loss to `gradients`, returns the mean loss. CANCELLED
    /// once `cancelled` returns true; `gradients` is then of no use.
    pub fn backward(
        &self,
        activations: &mut Activations,
        text: (&[u32], &[u32]),
        factor: f64,
        draw: Option<Draw>,
        gradients: &mut Gradients,
        cancelled: Cancelled,
    ) -> Result<f64> {
        let over = BackwardInput { text, factor, draw, cancelled };
        self.forward_text(activations, text, draw, cancelled)?;
        for stage in self.stages() {
            self.backward_stage(stage, activations, over, gradients)?;
        }
        activations.mean_loss()
    }

    /// The stages, in their order.
    pub fn stages(&self) -> impl Iterator<Item = Stage> + use<> {
        let layer = |l| [Stage::Down(l), Stage::Up(l), Stage::AttentionOutput(l), Stage::AttentionInput(l)];
        let layers = (0..self.layers().len()).rev().flat_map(layer);
        std::iter::once(Stage::Head).chain(layers).chain([Stage::Embedding])
    }

    /// The parameters whose gradients are whole after a stage.
    pub fn parameters_of(&self, stage: Stage) -> Range<usize> {
        let layers = self.layers();
        match stage {
            Stage::Head if self.head == self.embedding => self.norm..self.norm + 1,
            Stage::Head => self.norm..self.head + 1,
            Stage::Down(l) => {
                layers[l].feed_forward.sub_norm..layers.get(l + 1).map_or(self.norm, |next| next.attention.norm)
            }
            Stage::Up(l) => layers[l].feed_forward.norm..layers[l].feed_forward.sub_norm,
            Stage::AttentionOutput(l) => layers[l].attention.sub_norm..layers[l].feed_forward.norm,
            Stage::AttentionInput(l) => layers[l].attention.norm..layers[l].attention.sub_norm,
            Stage::Embedding => self.embedding..self.embedding + 1,
        }
    }

    /// Adds the gradients of a stage's parameters; those before it have been gone through. After `Stage::Head` the losses of the
    /// tokens are in `activations`.
    pub fn backward_stage(
        &self,
        stage: Stage,
        activations: &mut Activations,
        over: BackwardInput,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let pass = &self.pass(activations.length, over.draw, over.cancelled)?;
        match stage {
            Stage::Head => self.backward_head(pass, activations, over, gradients),
            Stage::Down(l) | Stage::Up(l) | Stage::AttentionOutput(l) | Stage::AttentionInput(l) => {
                let Activations { residual, layers, backward, .. } = activations;
                let b = backward.as_mut().ok_or_else(not_for_training)?;
                let (layer, kept) = (&self.layers()[l], layers.len());
                // Whether the activations have to be computed anew; those of the last layer are there in any case.
                let anew = kept < self.layers().len() && l + 1 < self.layers().len();
                let a = &mut layers[l % kept];
                let (attended, x) = (&residual[2 * l + 1], &residual[2 * l]);
                let gradients = gradients.tensors_mut();
                match stage {
                    Stage::Down(_) => {
                        if anew {
                            layer.feed_forward.recompute(pass, attended, &mut a.feed_forward)?;
                        }
                        pass.mask(b, 2 * l + 2)?;
                        layer.feed_forward.backward_down(pass, &a.feed_forward, b, gradients)
                    }
                    Stage::Up(_) => layer.feed_forward.backward_up(pass, attended, &a.feed_forward, b, gradients),
                    Stage::AttentionOutput(_) => {
                        if anew {
                            layer.attention.recompute(pass, x, &mut a.attention)?;
                        }
                        pass.mask(b, 2 * l + 1)?;
                        layer.attention.backward_output(pass, &a.attention, b, gradients)
                    }
                    _ => layer.attention.backward_input(pass, x, &a.attention, b, gradients),
                }
            }
            Stage::Embedding => {
                let Activations { tokens, backward, .. } = activations;
                let b = backward.as_mut().ok_or_else(not_for_training)?;
                pass.dropout(0, &mut b.residual)?;
                let table = &mut gradients.tensors_mut()[self.embedding].view_mut();
                (pass.context.kernels().embedding_backward)(
                    pass.context.launch(),
                    &tokens.view(),
                    &b.residual.view(),
                    table,
                )
            }
        }
    }

    fn backward_head(
        &self,
        pass: &Pass,
        activations: &mut Activations,
        over: BackwardInput,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let factor = over.factor / activations.rows() as f64;
        let Activations { residual, inverse_rms, normed, logits, losses, backward, lesson, targets, .. } = activations;
        let b = backward.as_mut().ok_or_else(not_for_training)?;
        let (launch, kernels) = (pass.context.launch(), pass.context.kernels());
        let gradients = gradients.tensors_mut();

        let (logits_mut, losses_mut) = (&mut logits.view_mut(), &mut losses.view_mut());
        (kernels.cross_entropy_gradient)(launch, &targets.view(), factor, logits_mut, losses_mut)?;
        if let Some(lesson) = lesson {
            (kernels.add)(launch, &lesson.pull(over.text, factor, over.cancelled)?, logits_mut)?;
        }
        let dlogits = logits.view();
        pass.check()?;
        let head = &mut gradients[self.head].view_mut();
        (kernels.matmul)(launch, &dlogits.transpose(), &normed.view(), true, head)?;
        let weight = self.parameters()[self.head].tensor.view();
        pass.check()?;
        (kernels.matmul)(launch, &dlogits, &weight, false, &mut b.normed.view_mut())?;
        (kernels.fill)(launch, 0.0, &mut b.residual.view_mut())?;
        let last = &residual[2 * self.layers().len()];
        pass.norm_backward(last.view(), self.norm, inverse_rms, &b.normed, &mut b.residual, gradients)
    }
}

fn not_for_training() -> crate::tensor::Error {
    error!(State, "model: these activations were not made for training")
}
