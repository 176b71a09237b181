//! The whole model: embedding, layers, final norm, head and loss.

use super::ModelOptions;
use super::activations::{Activations, Backward};
use super::attention::Attention;
use super::backward::Stage;
use super::feed_forward::FeedForward;
use super::linear::{Linear, Norm};
use super::parameters::{self, Parameter, ParameterKind, find};
use crate::backend::{Context, codes};
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Cancelled, DType, Device, Float, Result, Tensor, View, ViewMut, never, reserve};
use std::borrow::Cow;
use std::sync::Arc;

pub struct Layer {
    pub attention: Attention,
    pub feed_forward: FeedForward,
}

pub struct Model {
    context: Arc<Context>,
    options: ModelOptions,
    dtype: DType,
    parameters: Vec<Parameter>,
    layers: Vec<Layer>,
    /// Indices of the embedding, the final norm's gain and the head among the parameters.
    pub(super) embedding: usize,
    pub(super) norm: usize,
    pub(super) head: usize,
    /// Room for the floats of the largest parameter of codes; empty where there are none.
    decoded: Tensor,
    /// Of each parameter, where it is a ternary layer's: |w| at or below it becomes 0. In one tensor, so that a device is asked once.
    pub(super) thresholds: Tensor,
    /// Of the rotary embedding: see [`rotations`].
    frequencies: Vec<f64>,
    /// Rotations of positions 0 .. context_length, [context_length, head / 2].
    cosine: Tensor,
    sine: Tensor,
}

/// Which random numbers a pass draws: those of one micro-batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draw {
    pub seed: u64,
    pub step: u32,
    pub micro_batch: u32,
}

impl Draw {
    /// Those of a place in the model. Micro-batch and place share the tensor word: 2^16 micro-batches, 2^16 places.
    pub fn stream(&self, purpose: Purpose, place: usize) -> Stream {
        Stream::new(self.seed, purpose, self.step, self.micro_batch << 16 | place as u32)
    }
}

impl Model {
    /// A new model with random weights; the same seed gives the same weights on every machine and backend.
    pub fn new(context: Arc<Context>, options: ModelOptions, seed: u64) -> Result<Model> {
        Model::with_dtype(context, options, seed, DType::F32)
    }

    /// The same in f64, which runs on the scalar row: for gradient checks.
    pub fn with_dtype(context: Arc<Context>, options: ModelOptions, seed: u64, dtype: DType) -> Result<Model> {
        options.validate()?;
        let (mut parameters, descriptions) = (Vec::new(), parameters::describe(&options));
        reserve(&mut parameters, descriptions.len())?;
        for (index, description) in descriptions.iter().enumerate() {
            let tensor = context.place(parameters::initialize(description, index, seed, dtype)?)?;
            parameters.push(Parameter::new(description.name.clone(), description.kind, tensor)?);
        }
        let of = context.clone();
        let mut model = Model::assemble(context, options, dtype, parameters, |parameters, name, options| {
            let index = find(parameters, name)?;
            Linear::trainable(&of, &parameters[index], index, options)
        })?;
        model.refresh()?;
        Ok(model)
    }

    /// A model over the given parameters, whose linear layers `linear` makes by name.
    pub fn assemble(
        context: Arc<Context>,
        options: ModelOptions,
        dtype: DType,
        parameters: Vec<Parameter>,
        mut linear: impl FnMut(&[Parameter], &str, &ModelOptions) -> Result<Linear>,
    ) -> Result<Model> {
        options.validate()?;
        let mut layers = Vec::new();
        for layer in 0..options.layers {
            let mut linear = |name: &str| linear(&parameters, &format!("model.layers.{layer}.{name}.weight"), &options);
            let gain = |name: &str| find(&parameters, &format!("model.layers.{layer}.{name}.weight"));
            layers.push(Layer {
                attention: Attention {
                    norm: gain("input_layernorm")?,
                    q: linear("self_attn.q_proj")?,
                    k: linear("self_attn.k_proj")?,
                    v: linear("self_attn.v_proj")?,
                    sub_norm: gain("self_attn.attn_sub_norm")?,
                    o: linear("self_attn.o_proj")?,
                },
                feed_forward: FeedForward {
                    norm: gain("post_attention_layernorm")?,
                    gate: if options.ffn_gated { Some(linear("mlp.gate_proj")?) } else { None },
                    up: linear("mlp.up_proj")?,
                    sub_norm: gain("mlp.ffn_sub_norm")?,
                    down: linear("mlp.down_proj")?,
                },
            });
        }
        let embedding = find(&parameters, "model.embed_tokens.weight")?;
        let head = if options.tied_embedding { embedding } else { find(&parameters, "lm_head.weight")? };
        let norm = find(&parameters, "model.norm.weight")?;
        let positions = [options.context_length, options.head() / 2];
        let (mut cosine, mut sine) = (context.zeros(dtype, &positions)?, context.zeros(dtype, &positions)?);
        let frequencies = frequencies(&options);
        rotations(&frequencies, 0, &mut cosine, &mut sine)?;
        Ok(Model {
            decoded: context.zeros(dtype, &[0])?,
            thresholds: context.zeros(dtype, &[parameters.len()])?,
            context,
            options,
            dtype,
            parameters,
            layers,
            embedding,
            norm,
            head,
            frequencies,
            cosine,
            sine,
        })
    }

    pub fn options(&self) -> &ModelOptions {
        &self.options
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The float parameters; a model that was loaded packed has none for its linear layers.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The float parameters, to be changed; `refresh` must follow.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The linear layers, in the order of their parameters.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(|layer| {
            let (a, f) = (&layer.attention, &layer.feed_forward);
            [Some(&a.q), Some(&a.k), Some(&a.v), Some(&a.o), f.gate.as_ref(), Some(&f.up), Some(&f.down)]
                .into_iter()
                .flatten()
        })
    }

    /// Weights in all, packed ones included.
    pub fn parameter_count(&self) -> usize {
        parameters::describe(&self.options).iter().map(|d| d.dims.iter().product::<usize>()).sum()
    }

    /// Whether the float weights of every layer are here.
    pub fn trainable(&self) -> bool {
        self.linears().all(|linear| linear.master.is_some())
    }

    /// Keeps the floats behind ternary layers as codes of 8 bits from now on, rounded at random; or, where they are codes, as
    /// floats again. Nothing has changed on failure.
    pub fn keep_codes(&mut self, codes: bool, seed: u64) -> Result<()> {
        let Model { context, parameters, .. } = self;
        let mut made = Vec::new();
        for (i, parameter) in parameters.iter().enumerate() {
            let are_codes = parameter.tensor.dtype() == DType::I8;
            if parameter.kind != ParameterKind::Ternary || are_codes == codes {
                continue;
            }
            // Step 0 is none that an optimizer takes.
            let stream = Stream::new(seed, Purpose::Update, 0, i as u32);
            let (tensor, scales) = match codes {
                true => codes::encode(context, &parameter.tensor, stream)?,
                false => {
                    let floats = codes::decode(context, &parameter.tensor, &parameter.scales)?;
                    (floats, Tensor::zeros(DType::F32, &[0])?)
                }
            };
            made.push((i, tensor, scales));
        }
        let changes = !made.is_empty();
        let largest = made.iter().filter(|_| codes).map(|(_, tensor, _)| tensor.count()).max().unwrap_or(0);
        if changes {
            self.decoded = context.zeros(DType::F32, &[largest])?;
        }
        for (i, tensor, scales) in made {
            (self.parameters[i].tensor, self.parameters[i].scales) = (tensor, scales);
        }
        if changes { self.refresh() } else { Ok(()) }
    }

    /// Quantizes the float weights anew: after every change to them.
    pub fn refresh(&mut self) -> Result<()> {
        let Model { context, options, parameters, layers, decoded, thresholds, .. } = self;
        let share = options.weight_threshold;
        linears_mut(layers).try_for_each(|linear| linear.refresh(context, parameters, decoded, thresholds, share))
    }

    /// The same for the parameters of a stage, of which others need not know.
    pub fn refresh_stage(&mut self, stage: Stage) -> Result<()> {
        let within = self.parameters_of(stage);
        let Model { context, options, parameters, layers, decoded, thresholds, .. } = self;
        let share = options.weight_threshold;
        linears_mut(layers)
            .filter(|linear| linear.master.is_some_and(|master| within.contains(&master)))
            .try_for_each(|linear| linear.refresh(context, parameters, decoded, thresholds, share))
    }

    /// Of each parameter, where it is a ternary layer's: |w| at or below it becomes 0.
    pub fn thresholds(&self) -> Result<Cow<'_, [f32]>> {
        self.thresholds.read()
    }

    /// Overwrites the parameter `index` with floats, or codes of them where it has codes, and quantizes it anew if it is a linear
    /// layer's.
    pub fn write_parameter(&mut self, index: usize, values: &[f32]) -> Result<()> {
        let Model { context, options, parameters, layers, decoded, thresholds, .. } = self;
        let share = options.weight_threshold;
        let Parameter { tensor, scales, .. } = &mut parameters[index];
        if tensor.dtype() == DType::I8 {
            let floats = View::of(values, tensor.dims())?;
            let stream = Stream::new(0, Purpose::Update, 0, index as u32);
            codes::encode_into(context, &floats, stream, tensor, scales)?;
        } else {
            tensor.write(values)?;
        }
        let mut linears = linears_mut(layers);
        let linear = linears.find(|linear| linear.master == Some(index));
        linear.map_or(Ok(()), |linear| linear.refresh(context, parameters, decoded, thresholds, share))
    }

    /// The mean loss in nats of predicting `targets` from `tokens`, both [batch, length].
    /// `draw` says which random numbers dropout takes; None leaves it off. CANCELLED once `cancelled` returns true, which is asked
    /// before each product.
    pub fn loss(
        &self,
        activations: &mut Activations,
        text: (&[u32], &[u32]),
        draw: Option<Draw>,
        cancelled: Cancelled,
    ) -> Result<f64> {
        self.forward_text(activations, text, draw, cancelled)?;
        let Activations { logits, targets, losses, .. } = activations;
        let cross_entropy = self.context.kernels().cross_entropy;
        cross_entropy(self.context.launch(), &logits.view(), &targets.view(), &mut losses.view_mut())?;
        mean(losses)
    }

    /// logits[batch * length, vocabulary] for `tokens`[batch, length].
    pub fn logits<'a>(&self, activations: &'a mut Activations, tokens: &[u32]) -> Result<View<'a>> {
        let pass = self.pass(activations.length, None, &never)?;
        activations.set_tokens(tokens)?;
        self.forward(&pass, activations)?;
        Ok(activations.logits.view())
    }

    /// `factor` (softmax(logits) - one_hot(target)), [m, vocabulary], in the place of the logits.
    pub fn logit_gradient<'a>(
        &self,
        activations: &'a mut Activations,
        text: (&[u32], &[u32]),
        factor: f64,
        cancelled: Cancelled,
    ) -> Result<View<'a>> {
        self.forward_text(activations, text, None, cancelled)?;
        let Activations { logits, targets, losses, .. } = activations;
        let (logits_mut, losses_mut) = (&mut logits.view_mut(), &mut losses.view_mut());
        let gradient = self.context.kernels().cross_entropy_gradient;
        gradient(self.context.launch(), &targets.view(), factor, logits_mut, losses_mut)?;
        Ok(logits.view())
    }

    /// Where the model's tensors are.
    pub fn device(&self) -> Device {
        self.cosine.device()
    }

    /// From tokens and targets, [batch, length], to logits: what comes before a loss and its gradient.
    pub fn forward_text(
        &self,
        activations: &mut Activations,
        (tokens, targets): (&[u32], &[u32]),
        draw: Option<Draw>,
        cancelled: Cancelled,
    ) -> Result<()> {
        let pass = self.pass(activations.length, draw, cancelled)?;
        activations.set_tokens(tokens)?;
        activations.set_targets(targets)?;
        self.forward(&pass, activations)
    }

    /// From tokens to logits.
    fn forward(&self, pass: &Pass, activations: &mut Activations) -> Result<()> {
        let Activations { tokens, residual, layers, inverse_rms, normed, logits, .. } = activations;
        self.embed(tokens, &mut residual[0])?;
        pass.dropout(0, &mut residual[0])?;
        let (streams, kept) = (residual.len(), layers.len());
        for (l, layer) in self.layers.iter().enumerate() {
            let a = &mut layers[l % kept];
            let (x, y) = neighbours(residual, 2 * l % streams, (2 * l + 1) % streams)?;
            layer.attention.forward(pass, x, &mut a.attention, y)?;
            pass.add_residual(2 * l + 1, x, y)?;
            let (x, y) = neighbours(residual, (2 * l + 1) % streams, (2 * l + 2) % streams)?;
            layer.feed_forward.forward(pass, x, &mut a.feed_forward, y)?;
            pass.add_residual(2 * l + 2, x, y)?;
        }
        pass.check()?;
        self.read_out(residual[2 * self.layers.len() % streams].view(), inverse_rms, normed, logits)
    }

    /// x[m, width] = the embeddings of tokens[m].
    pub fn embed(&self, tokens: &Tensor, x: &mut Tensor) -> Result<()> {
        let table = self.parameters[self.embedding].tensor.view();
        (self.context.kernels().embedding)(self.context.launch(), &tokens.view(), &table, &mut x.view_mut())
    }

    /// From the residual stream after the last layer, x[m, width], to logits[m, vocabulary].
    pub fn read_out(&self, x: View, inverse_rms: &mut Tensor, normed: &mut Tensor, logits: &mut Tensor) -> Result<()> {
        let (launch, kernels) = (self.context.launch(), self.context.kernels());
        let gain = self.parameters[self.norm].tensor.view();
        let epsilon = self.options.norm_epsilon;
        (kernels.rms_norm)(launch, &x, &gain, epsilon, &mut normed.view_mut(), &mut inverse_rms.view_mut())?;
        let head = self.parameters[self.head].tensor.view();
        (kernels.matmul)(launch, &normed.view(), &head.transpose(), false, &mut logits.view_mut())
    }

    /// A pass over the positions 0 .. length, with dropout where there is something to draw by and the model has it.
    pub(super) fn pass<'a>(&'a self, length: usize, draw: Option<Draw>, cancelled: Cancelled<'a>) -> Result<Pass<'a>> {
        let rotations = (self.cosine.view().narrow(0, length)?, self.sine.view().narrow(0, length)?);
        let dropout = draw.is_some() && self.options.dropout > 0.0;
        Ok(Pass { cancelled, dropout, draw: draw.unwrap_or_default(), ..self.pass_over(rotations) })
    }

    /// A pass, without dropout, over the positions of the given `rotations`.
    pub fn pass_over<'a>(&'a self, (cosine, sine): (View<'a>, View<'a>)) -> Pass<'a> {
        let Model { context, options, parameters, .. } = self;
        let draw = Draw::default();
        Pass { context, options, parameters, cosine, sine, dropout: false, draw, cancelled: &never }
    }
}

fn linears_mut(layers: &mut [Layer]) -> impl Iterator<Item = &mut Linear> {
    layers.iter_mut().flat_map(|layer| {
        let (a, f) = (&mut layer.attention, &mut layer.feed_forward);
        let blocks = [Some(&mut a.q), Some(&mut a.k), Some(&mut a.v), Some(&mut a.o), f.gate.as_mut()];
        blocks.into_iter().flatten().chain([&mut f.up, &mut f.down])
    })
}

/// What every block of one forward or backward pass shares.
pub struct Pass<'a> {
    pub context: &'a Context,
    pub options: &'a ModelOptions,
    pub parameters: &'a [Parameter],
    /// Rotations of the positions of this pass, [length, head / 2].
    pub cosine: View<'a>,
    pub sine: View<'a>,
    /// Whether dropout is on.
    pub dropout: bool,
    pub draw: Draw,
    pub cancelled: Cancelled<'a>,
}

impl<'a> Pass<'a> {
    /// CANCELLED when the pass is given up: asked before whatever takes long.
    pub fn check(&self) -> Result<()> {
        ensure!(!(self.cancelled)(), Cancelled, "the pass through the model was cancelled");
        Ok(())
    }

    pub fn norm<'x>(&self, x: View<'x>, gain: usize) -> Norm<'x>
    where
        'a: 'x,
    {
        Norm { x, gain: self.parameters[gain].tensor.view(), epsilon: self.options.norm_epsilon }
    }

    pub fn rope(&self, inverse: bool, x: &mut ViewMut) -> Result<()> {
        (self.context.kernels().rope)(self.context.launch(), &self.cosine, &self.sine, inverse, x)
    }

    /// Adds the gradient through a pre-norm to `residual`.
    pub fn norm_backward(
        &self,
        x: View,
        gain: usize,
        inverse_rms: &Tensor,
        dy: &Tensor,
        residual: &mut Tensor,
        gradients: &mut [Tensor],
    ) -> Result<()> {
        (self.context.kernels().rms_norm_backward)(
            self.context.launch(),
            &x,
            &self.parameters[gain].tensor.view(),
            &inverse_rms.view(),
            &dy.view(),
            true,
            &mut residual.view_mut(),
            &mut gradients[gain].view_mut(),
        )
    }

    /// What a block adds to its output: the residual stream before it, unless dropout comes in between.
    pub fn base<'x>(&self, x: &'x Tensor) -> Option<View<'x>> {
        if self.dropout { None } else { Some(x.view()) }
    }

    /// y = x + dropout(y), at one of the model's 2 * layers + 1 places of dropout, unless the block has added x.
    fn add_residual(&self, place: usize, x: &Tensor, y: &mut Tensor) -> Result<()> {
        if !self.dropout {
            return Ok(());
        }
        self.dropout(place, y)?;
        (self.context.kernels().add)(self.context.launch(), &x.view(), &mut y.view_mut())
    }

    /// The gradient of a block's output: the residual gradient under the mask of its place.
    pub(super) fn mask(&self, b: &mut Backward, place: usize) -> Result<()> {
        if !self.dropout {
            return Ok(());
        }
        let (launch, kernels) = (self.context.launch(), self.context.kernels());
        (kernels.fill)(launch, 0.0, &mut b.masked.view_mut())?;
        (kernels.add)(launch, &b.residual.view(), &mut b.masked.view_mut())?;
        self.dropout(place, &mut b.masked)
    }

    pub(super) fn dropout(&self, place: usize, x: &mut Tensor) -> Result<()> {
        if !self.dropout {
            return Ok(());
        }
        let stream = self.draw.stream(Purpose::Dropout, place);
        (self.context.kernels().dropout)(self.context.launch(), self.options.dropout, stream, &mut x.view_mut())
    }
}

/// theta^(-2 i / head) for i in 0 .. head / 2: by what a position is multiplied for its angles.
fn frequencies(options: &ModelOptions) -> Vec<f64> {
    let half = options.head() / 2;
    (0..half).map(|i| options.rope_theta.powf(-(i as f64) / half as f64)).collect()
}

/// cos and sin of position * frequency, [count, head / 2], for as many positions from `start` as the tensors have rows;
/// computed in f64.
pub fn rotations(frequencies: &[f64], start: usize, cosine: &mut Tensor, sine: &mut Tensor) -> Result<()> {
    fn typed<T: Float>(frequencies: &[f64], start: usize, to: &mut Tensor, of: fn(f64) -> f64) -> Result<()> {
        to.fill_with(|to: &mut [T]| {
            for (position, row) in (start..).zip(to.chunks_exact_mut(frequencies.len().max(1))) {
                for (to, frequency) in row.iter_mut().zip(frequencies) {
                    *to = T::of(of(position as f64 * frequency));
                }
            }
        })
    }
    for (to, of) in [(cosine, f64::cos as fn(f64) -> f64), (sine, f64::sin)] {
        match to.dtype() {
            DType::F64 => typed::<f64>(frequencies, start, to, of)?,
            _ => typed::<f32>(frequencies, start, to, of)?,
        }
    }
    Ok(())
}

/// Two different tensors of a list, the second to be written.
fn neighbours(list: &mut [Tensor], read: usize, write: usize) -> Result<(&Tensor, &mut Tensor)> {
    match list.get_disjoint_mut([read, write]) {
        Ok([x, y]) => Ok((x, y)),
        Err(_) => Err(error!(Internal, "model: the residual streams {read} and {write} are not two")),
    }
}

pub(super) fn mean(losses: &Tensor) -> Result<f64> {
    let n = losses.count() as f64;
    if losses.dtype() == DType::F64 {
        return Ok(losses.read::<f64>()?.iter().sum::<f64>() / n);
    }
    Ok(losses.read::<f32>()?.iter().map(|&loss| f64::from(loss)).sum::<f64>() / n)
}
