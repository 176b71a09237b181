//! All memory of a forward and backward pass over [batch, length] tokens, allocated once.

use super::backward::Stage;
use super::linear::{GradientProducts, Input, LinearBackward};
use super::teacher::Lesson;
use super::transformer::mean;
use super::{Model, ModelOptions};
use crate::backend::Context;
use crate::tensor::error::ensure;
use crate::tensor::{DType, Result, Shape, Tensor};

/// What the backward pass of a block needs to know of its forward pass.
pub struct AttentionActivations {
    pub inverse_rms: Tensor,
    pub input: Input,
    /// Queries and keys after rotation, and values: [batch, length, heads, head].
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    pub output: Tensor,
    pub log_sum: Tensor,
    pub sub_inverse_rms: Tensor,
    pub sub_input: Input,
}

pub struct FeedForwardActivations {
    pub inverse_rms: Tensor,
    pub input: Input,
    /// Present in gated models.
    pub gate: Option<Tensor>,
    pub up: Tensor,
    /// Of the f32 twin; the ternary model computes it anew.
    pub hidden: Option<Tensor>,
    pub sub_inverse_rms: Tensor,
    pub sub_input: Input,
}

pub struct LayerActivations {
    pub attention: AttentionActivations,
    pub feed_forward: FeedForwardActivations,
}

/// Gradients of one block's activations; every layer reuses them.
pub struct Backward {
    /// The gradient of the residual stream, [m, width].
    pub residual: Tensor,
    /// The same under the dropout mask; empty when the model has no dropout.
    pub masked: Tensor,
    pub normed: Tensor,
    pub output: Tensor,
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    pub hidden: Tensor,
    pub up: Tensor,
    pub gate: Option<Tensor>,
    pub linear: LinearBackward,
}

pub struct Activations {
    pub batch: usize,
    pub length: usize,
    pub tokens: Tensor,
    pub targets: Tensor,
    /// The residual stream before each block and after the last, [m, width]; two that alternate when not training.
    pub residual: Vec<Tensor>,
    /// One per layer; a single one when not training, or when the backward pass computes each layer's anew.
    pub layers: Vec<LayerActivations>,
    pub inverse_rms: Tensor,
    pub normed: Tensor,
    pub logits: Tensor,
    pub losses: Tensor,
    pub backward: Option<Backward>,
    /// Of a model that learns from another one.
    pub lesson: Option<Box<Lesson>>,
}

impl Activations {
    /// Memory for `batch` sequences of `length` tokens.
    pub fn new(model: &Model, batch: usize, length: usize) -> Result<Activations> {
        Activations::make(model, batch, length, 1, None)
    }

    /// The same for a backward pass too.
    pub fn training(model: &Model, batch: usize, length: usize, products: GradientProducts) -> Result<Activations> {
        Activations::make(model, batch, length, model.options().layers, Some(products))
    }

    /// The same with activation checkpointing (Chen et al., arXiv 1604.06174): only the residual stream of every layer is kept,
    /// and the backward pass computes the rest of a layer anew. The same bits.
    pub fn checkpointing(
        model: &Model,
        batch: usize,
        length: usize,
        products: GradientProducts,
    ) -> Result<Activations> {
        Activations::make(model, batch, length, 1, Some(products))
    }

    fn make(
        model: &Model,
        batch: usize,
        length: usize,
        kept: usize,
        products: Option<GradientProducts>,
    ) -> Result<Activations> {
        let training = products.is_some();
        let (options, dtype) = (model.options(), model.dtype());
        ensure!(batch > 0 && length > 0, Shape, "model: a batch of {batch} sequences of {length} tokens is empty");
        let longest = options.context_length;
        ensure!(length <= longest, Shape, "model: {length} tokens, but the context length is {longest}");
        ensure!(!training || model.trainable(), Unsupported, "model: it was loaded packed and cannot be trained");
        let shape = Extent { context: model.context(), options, dtype, batch, length };
        let streams = if training { 2 * options.layers + 1 } else { 2 };
        let mut residual = Vec::new();
        for _ in 0..streams {
            residual.push(shape.rows(options.width)?);
        }
        let mut layers = Vec::new();
        for _ in 0..kept {
            layers.push(shape.layer()?);
        }
        let m = shape.count()?;
        Ok(Activations {
            batch,
            length,
            tokens: model.context().zeros(DType::U32, &[m])?,
            targets: model.context().zeros(DType::U32, &[m])?,
            residual,
            layers,
            inverse_rms: shape.scales()?,
            normed: shape.rows(options.width)?,
            logits: shape.rows(options.vocabulary)?,
            losses: shape.scales()?,
            backward: products.map(|products| shape.backward(products)).transpose()?,
            lesson: None,
        })
    }

    /// Rows of every matrix: batch * length.
    pub fn rows(&self) -> usize {
        self.batch * self.length
    }

    /// The mean of the losses of the last pass.
    pub fn mean_loss(&self) -> Result<f64> {
        mean(&self.losses)
    }

    /// Copies tokens in, after checking how many there are.
    pub fn set_tokens(&mut self, tokens: &[u32]) -> Result<()> {
        fill("tokens", &mut self.tokens, tokens)
    }

    pub fn set_targets(&mut self, targets: &[u32]) -> Result<()> {
        fill("targets", &mut self.targets, targets)
    }
}

fn fill(name: &str, tensor: &mut Tensor, values: &[u32]) -> Result<()> {
    let expected = tensor.count();
    ensure!(values.len() == expected, Shape, "model: {} {name}, expected batch * length = {expected}", values.len());
    tensor.write(values)
}

/// The sizes that decide all shapes.
pub struct Extent<'a> {
    pub context: &'a Context,
    pub options: &'a ModelOptions,
    pub dtype: DType,
    pub batch: usize,
    pub length: usize,
}

impl Extent<'_> {
    fn count(&self) -> Result<usize> {
        Ok(Shape::new(&[self.batch, self.length])?.count())
    }

    /// [batch * length, columns].
    pub fn rows(&self, columns: usize) -> Result<Tensor> {
        self.context.zeros(self.dtype, &[self.count()?, columns])
    }

    fn heads(&self, heads: usize) -> Result<Tensor> {
        self.context.zeros(self.dtype, &[self.batch, self.length, heads, self.options.head()])
    }

    fn scales(&self) -> Result<Tensor> {
        self.context.zeros(self.dtype, &[self.count()?])
    }

    fn input(&self, columns: usize) -> Result<Input> {
        Input::new(self.context, self.options, self.dtype, [self.count()?, columns])
    }

    pub fn layer(&self) -> Result<LayerActivations> {
        Ok(LayerActivations { attention: self.attention()?, feed_forward: self.feed_forward()? })
    }

    fn attention(&self) -> Result<AttentionActivations> {
        let options = self.options;
        Ok(AttentionActivations {
            inverse_rms: self.scales()?,
            input: self.input(options.width)?,
            q: self.heads(options.heads)?,
            k: self.heads(options.kv_heads)?,
            v: self.heads(options.kv_heads)?,
            output: self.heads(options.heads)?,
            log_sum: self.context.zeros(self.dtype, &[self.batch, options.heads, self.length])?,
            sub_inverse_rms: self.scales()?,
            sub_input: self.input(options.width)?,
        })
    }

    fn feed_forward(&self) -> Result<FeedForwardActivations> {
        let options = self.options;
        Ok(FeedForwardActivations {
            inverse_rms: self.scales()?,
            input: self.input(options.width)?,
            gate: if options.ffn_gated { Some(self.rows(options.hidden)?) } else { None },
            up: self.rows(options.hidden)?,
            hidden: if options.quantize_weights { None } else { Some(self.rows(options.hidden)?) },
            sub_inverse_rms: self.scales()?,
            sub_input: self.input(options.hidden)?,
        })
    }

    fn backward(&self, products: GradientProducts) -> Result<Backward> {
        let options = self.options;
        let widest = options.width.max(options.hidden);
        Ok(Backward {
            residual: self.rows(options.width)?,
            masked: self.rows(if options.dropout > 0.0 { options.width } else { 0 })?,
            normed: self.rows(options.width)?,
            output: self.heads(options.heads)?,
            q: self.heads(options.heads)?,
            k: self.heads(options.kv_heads)?,
            v: self.heads(options.kv_heads)?,
            hidden: self.rows(options.hidden)?,
            up: self.rows(options.hidden)?,
            gate: if options.ffn_gated { Some(self.rows(options.hidden)?) } else { None },
            linear: LinearBackward::new(self.context, options, self.dtype, products, self.count()?, [widest, widest])?,
        })
    }
}

/// One gradient per parameter, in the model's order.
pub struct Gradients {
    tensors: Vec<Tensor>,
    /// Of released ones: memory for the first, second and third matrix of a stage of a layer, empty while they have it, and which
    /// they are.
    room: Vec<Tensor>,
    taken: Vec<usize>,
}

impl Gradients {
    pub fn new(model: &Model) -> Result<Gradients> {
        Gradients::make(model, |_| true)
    }

    /// Room for the matrices of any stage of a layer, which [`Self::begin_stage`] gives to each in turn.
    pub fn released(model: &Model) -> Result<Gradients> {
        let mut gradients = Gradients::make(model, |i| !is_layer_matrix(model, i))?;
        let mut counts: Vec<usize> = Vec::new();
        for stage in model.stages() {
            for (j, i) in layer_matrices(model, stage).enumerate() {
                counts.resize(counts.len().max(j + 1), 0);
                counts[j] = counts[j].max(model.parameters()[i].tensor.count());
            }
        }
        for count in counts {
            gradients.room.push(model.context().zeros(model.dtype(), &[count])?);
        }
        Ok(gradients)
    }

    fn make(model: &Model, has_its_own: impl Fn(usize) -> bool) -> Result<Gradients> {
        ensure!(model.trainable(), Unsupported, "model: it was loaded packed and cannot be trained");
        let mut tensors = Vec::new();
        for (i, parameter) in model.parameters().iter().enumerate() {
            let dims = if has_its_own(i) { parameter.tensor.dims() } else { &[0] };
            tensors.push(model.context().zeros(model.dtype(), dims)?);
        }
        Ok(Gradients { tensors, room: Vec::new(), taken: Vec::new() })
    }

    pub fn zero(&mut self, context: &Context) -> Result<()> {
        self.tensors.iter_mut().try_for_each(|tensor| zero(context, tensor))
    }

    /// Of released ones: zeros for the parameters of `stage`, whose room those of the stage before give up.
    pub fn begin_stage(&mut self, model: &Model, stage: Stage) -> Result<()> {
        let Gradients { tensors, room, taken } = self;
        for (room, i) in room.iter_mut().zip(taken.drain(..)) {
            std::mem::swap(room, &mut tensors[i]);
        }
        for (room, i) in room.iter_mut().zip(layer_matrices(model, stage)) {
            std::mem::swap(room, &mut tensors[i]);
            taken.push(i);
            tensors[i].reshape_within(model.parameters()[i].tensor.dims())?;
        }
        match stage {
            // The head's share is in the embedding's then, where the two are one.
            Stage::Head => self.zero(model.context()),
            Stage::Embedding => Ok(()),
            _ => model.parameters_of(stage).try_for_each(|i| zero(model.context(), &mut self.tensors[i])),
        }
    }

    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    pub fn tensors_mut(&mut self) -> &mut [Tensor] {
        &mut self.tensors
    }
}

/// The matrices of a stage of a layer.
fn layer_matrices(model: &Model, stage: Stage) -> impl Iterator<Item = usize> {
    model.parameters_of(stage).filter(|&i| is_layer_matrix(model, i))
}

fn is_layer_matrix(model: &Model, index: usize) -> bool {
    model.linears().any(|linear| linear.master == Some(index))
}

fn zero(context: &Context, tensor: &mut Tensor) -> Result<()> {
    (context.kernels().fill)(context.launch(), 0.0, &mut tensor.view_mut())
}
