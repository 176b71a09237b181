//! One text, token by token: what attention needs of earlier tokens is kept in a cache.
//!
//! The cache holds keys and values of the last `context_length` positions, in a ring: the entry of a new position takes the
//! place of the oldest. So the query at position p sees the positions p - context_length + 1 ..= p, each as it was computed
//! when it was new. Keys keep the rotation of their absolute position; the rotary logits depend on differences of
//! positions only, so nothing is computed anew when the window moves on.
//!
//! Entries are floats, or 8-bit codes with one scale for each token and head, which take a quarter of the memory: a long window is read
//! whole for each new token.

use super::activations::{AttentionActivations, Extent, LayerActivations};
use super::transformer::{Layer, Pass, rotations};
use super::{Model, ModelOptions};
use crate::backend::{Context, LEAST_ABSMAX};
use crate::tensor::error::ensure;
use crate::tensor::{DType, Result, Tensor, View, ViewMut, vec_zeroed};

/// Weights, each met once a token, from which on threads that stay together for a run save more than they cost: some tens of
/// microseconds.
const WORTH: usize = 1 << 22;

/// Tokens of a prompt that run together: enough for the matrix products, few enough for a small workspace.
const CHUNK: usize = 128;

/// In which numbers a cache keeps keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvCache {
    #[default]
    F32,
    /// Codes as `quantize_activations` makes them of each token and head.
    Int8,
}

pub struct Decoder {
    options: ModelOptions,
    dtype: DType,
    cache: Cache,
    /// For one token; a prompt makes its own.
    one: Workspace,
    inverse_rms: Tensor,
    normed: Tensor,
    logits: Tensor,
    /// The logits as floats of 32 bits.
    next: Vec<f32>,
}

impl Decoder {
    /// An empty text. The decoder holds no weights: each call takes the model, which may have been trained on meanwhile.
    pub fn new(model: &Model, cache: KvCache) -> Result<Decoder> {
        let (context, options, dtype) = (model.context(), model.options(), model.dtype());
        Ok(Decoder {
            options: options.clone(),
            dtype,
            cache: Cache::new(model, cache)?,
            one: Workspace::new(model, 1)?,
            inverse_rms: context.zeros(dtype, &[1])?,
            normed: context.zeros(dtype, &[1, options.width])?,
            logits: context.zeros(dtype, &[1, options.vocabulary])?,
            next: vec_zeroed(options.vocabulary)?,
        })
    }

    /// Appends `tokens`. Of `context_length` tokens or more only that many are read, the last; they fill the window, and
    /// nothing of what was there before is seen again.
    pub fn prompt(&mut self, model: &Model, tokens: &[u32]) -> Result<()> {
        ensure!(!tokens.is_empty(), Argument, "decoder: the prompt is empty");
        self.check(model, tokens)?;
        let capacity = self.options.context_length;
        let dropped = tokens.len().saturating_sub(capacity);
        if tokens.len() >= capacity {
            self.cache.restart(dropped);
        }
        let tokens = &tokens[dropped..];
        // Together while the ring is not full; after that each token pushes one out, which the later ones must not see.
        let (together, single) = tokens.split_at(tokens.len().min(capacity - self.cache.filled().min(capacity)));
        let mut workspace: Option<Workspace> = None;
        for chunk in together.chunks(CHUNK) {
            let mut fitting = match workspace.take() {
                Some(workspace) if workspace.count() == chunk.len() => workspace,
                _ => Workspace::new(model, chunk.len())?,
            };
            self.cache.run(model, chunk, &mut fitting)?;
            workspace = Some(fitting);
        }
        for token in single {
            self.cache.run(model, std::slice::from_ref(token), &mut self.one)?;
        }
        match workspace {
            Some(workspace) if single.is_empty() => self.read_out(model, &workspace),
            _ => self.read_out_one(model),
        }
    }

    /// Appends one token.
    pub fn push(&mut self, model: &Model, token: u32) -> Result<()> {
        self.check(model, &[token])?;
        self.cache.run(model, &[token], &mut self.one)?;
        self.read_out_one(model)
    }

    /// The logits of the token that comes next, [vocabulary]; empty before the first token.
    pub fn next_logits(&self) -> &[f32] {
        if self.position() == 0 { &[] } else { &self.next }
    }

    /// Tokens so far, those of too long a prompt included.
    pub fn position(&self) -> usize {
        self.cache.position
    }

    /// Whether the window has moved: the first tokens are no longer seen.
    pub fn slid(&self) -> bool {
        self.position() > self.options.context_length
    }

    fn check(&self, model: &Model, tokens: &[u32]) -> Result<()> {
        let same = *model.options() == self.options && model.dtype() == self.dtype;
        ensure!(same, Argument, "decoder: it was made for a model of another geometry");
        let vocabulary = self.options.vocabulary;
        for (i, &token) in tokens.iter().enumerate() {
            ensure!(
                (token as usize) < vocabulary,
                Argument,
                "decoder: token {i} is {token}, outside the vocabulary of {vocabulary}"
            );
        }
        Ok(())
    }

    fn read_out_one(&mut self, model: &Model) -> Result<()> {
        let Decoder { one, inverse_rms, normed, logits, next, .. } = self;
        read_out(model, one.last()?, [inverse_rms, normed, logits], next)
    }

    fn read_out(&mut self, model: &Model, workspace: &Workspace) -> Result<()> {
        let Decoder { inverse_rms, normed, logits, next, .. } = self;
        read_out(model, workspace.last()?, [inverse_rms, normed, logits], next)
    }
}

/// The logits of one row of the residual stream.
fn read_out(model: &Model, x: View, [inverse_rms, normed, logits]: [&mut Tensor; 3], next: &mut [f32]) -> Result<()> {
    model.read_out(x, inverse_rms, normed, logits)?;
    if logits.dtype() == DType::F64 {
        for (next, &logit) in next.iter_mut().zip(logits.read::<f64>()?.iter()) {
            *next = logit as f32;
        }
    } else {
        next.copy_from_slice(&logits.read::<f32>()?);
    }
    Ok(())
}

/// The keys and values of every layer.
struct Cache {
    layers: Vec<Ring>,
    /// Of the model.
    weights: usize,
    /// Tokens so far: the absolute position of the next one.
    position: usize,
    /// The absolute position of the entry that went to slot 0 first; position p is in slot (p - first) mod context_length.
    first: usize,
}

/// Of one layer.
enum Ring {
    /// [context_length, kv_heads, head].
    Floats {
        keys: Tensor,
        values: Tensor,
    },
    Codes {
        keys: Quantized,
        values: Quantized,
    },
}

/// codes[context_length, kv_heads, head] and scales[context_length, kv_heads].
struct Quantized {
    codes: Tensor,
    scales: Tensor,
}

impl Cache {
    fn new(model: &Model, cache: KvCache) -> Result<Cache> {
        let (context, options, dtype) = (model.context(), model.options(), model.dtype());
        let dims = [options.context_length, options.kv_heads, options.head()];
        let mut layers = Vec::new();
        for _ in 0..options.layers {
            layers.push(match cache {
                KvCache::F32 => {
                    Ring::Floats { keys: context.zeros(dtype, &dims)?, values: context.zeros(dtype, &dims)? }
                }
                KvCache::Int8 => Ring::Codes {
                    keys: Quantized::new(context, dtype, dims)?,
                    values: Quantized::new(context, dtype, dims)?,
                },
            });
        }
        Ok(Cache { layers, weights: model.parameter_count(), position: 0, first: 0 })
    }

    /// Positions since the ring was last empty.
    fn filled(&self) -> usize {
        self.position - self.first
    }

    /// Forgets everything, and passes over `dropped` tokens.
    fn restart(&mut self, dropped: usize) {
        self.position += dropped;
        self.first = self.position;
    }

    /// Runs tokens through all layers, one or as many as fit before the ring is full. Counted only when all went well.
    fn run(&mut self, model: &Model, tokens: &[u32], w: &mut Workspace) -> Result<()> {
        if self.weights.saturating_mul(tokens.len()) < WORTH {
            return self.run_layers(model, tokens, w);
        }
        model.context().launch().executor.enter(|| self.run_layers(model, tokens, w))
    }

    fn run_layers(&mut self, model: &Model, tokens: &[u32], w: &mut Workspace) -> Result<()> {
        w.tokens.write(tokens)?;
        rotations(model.frequencies(), self.position, &mut w.cosine, &mut w.sine)?;
        let capacity = model.options().context_length;
        let slot = self.filled() % capacity;
        let seen = (self.filled() + tokens.len()).min(capacity);
        let pass = model.pass_over((w.cosine.view(), w.sine.view()));
        let [x, y] = &mut w.residual;
        model.embed(&w.tokens, x)?;
        for (layer, ring) in model.layers().iter().zip(&mut self.layers) {
            ring.attend(&pass, layer, (slot, seen), x, &mut w.layer)?;
            layer.attention.output(&pass, x, &mut w.layer.attention, y)?;
            layer.feed_forward.forward(&pass, y, &mut w.layer.feed_forward, x)?;
        }
        self.position += tokens.len();
        Ok(())
    }
}

impl Ring {
    /// Writes keys and values of the residual stream x from `slot` on, and lets its queries read the first `seen` entries.
    /// A single query sees every entry, so the order of a ring that has wrapped does not matter.
    fn attend(
        &mut self,
        pass: &Pass,
        layer: &Layer,
        (slot, seen): (usize, usize),
        x: &Tensor,
        a: &mut LayerActivations,
    ) -> Result<()> {
        let AttentionActivations { input, inverse_rms, q, k, v, output, log_sum, .. } = &mut a.attention;
        let (count, context) = (q.dims()[1], pass.context);
        let (launch, attention) = (context.launch(), context.kernels().attention);
        let (layer, normed) = (&layer.attention, (input, inverse_rms));
        let (output, log_sum) = (&mut output.view_mut(), &mut log_sum.view_mut());
        match self {
            Ring::Floats { keys, values } => {
                let (k, v) = (&mut entries(keys, slot, count)?, &mut entries(values, slot, count)?);
                layer.project(pass, x, normed, [&mut q.view_mut(), k, v])?;
                let dims = [1, seen, keys.dims()[1], keys.dims()[2]];
                let k = keys.view().narrow(0, seen)?.reshape(&dims)?;
                let v = values.view().narrow(0, seen)?.reshape(&dims)?;
                attention(launch, &q.view(), &k, &v, output, log_sum)
            }
            Ring::Codes { keys, values } => {
                layer.project(pass, x, normed, [&mut q.view_mut(), &mut k.view_mut(), &mut v.view_mut()])?;
                keys.store(context, slot, k)?;
                values.store(context, slot, v)?;
                let dims = [1, seen, k.dims()[2], k.dims()[3]];
                if count == 1 {
                    let heads = [q.dims()[2], q.dims()[3]];
                    let (keys, values) = (keys.seen(seen)?, values.seen(seen)?);
                    let output = &mut output.reborrow().reshape(&heads)?;
                    let q = q.view().reshape(&heads)?;
                    let attention = context.kernels().attention_cached;
                    return attention(launch, &q, &keys.0, &keys.1, &values.0, &values.1, output);
                }
                // A prompt reads what later tokens will read.
                let (k, v) = (keys.floats(context, seen)?, values.floats(context, seen)?);
                let (k, v) = (k.view().reshape(&dims)?, v.view().reshape(&dims)?);
                attention(launch, &q.view(), &k, &v, output, log_sum)
            }
        }
    }
}

impl Quantized {
    fn new(context: &Context, dtype: DType, [length, heads, head]: [usize; 3]) -> Result<Quantized> {
        let codes = context.zeros(DType::I8, &[length, heads, head])?;
        Ok(Quantized { codes, scales: context.zeros(dtype, &[length, heads])? })
    }

    /// Entries from `slot` on of x[1, count, kv_heads, head].
    fn store(&mut self, context: &Context, slot: usize, x: &Tensor) -> Result<()> {
        let rows = x.dims()[1] * x.dims()[2];
        let (count, head) = (x.dims()[1], x.dims()[3]);
        let codes = &mut self.codes.view_mut().narrow(slot, count)?.reshape(&[rows, head])?;
        let scales = &mut self.scales.view_mut().narrow(slot, count)?.reshape(&[rows])?;
        let quantize = context.kernels().quantize_activations;
        quantize(context.launch(), &x.view().reshape(&[rows, head])?, LEAST_ABSMAX, codes, scales)
    }

    /// The first `count` entries.
    fn seen(&self, count: usize) -> Result<(View<'_>, View<'_>)> {
        Ok((self.codes.view().narrow(0, count)?, self.scales.view().narrow(0, count)?))
    }

    /// The same as floats, [count kv_heads, head].
    fn floats(&self, context: &Context, count: usize) -> Result<Tensor> {
        let (codes, scales) = self.seen(count)?;
        let (rows, head) = (count * codes.dim(1), codes.dim(2));
        let mut floats = context.zeros(scales.dtype(), &[rows, head])?;
        let (codes, scales) = (codes.reshape(&[rows, head])?, scales.reshape(&[rows])?);
        let dequantize = context.kernels().dequantize_activations;
        dequantize(context.launch(), &codes, &scales, &mut floats.view_mut())?;
        Ok(floats)
    }
}

/// Entries `slot .. slot + count` of a ring, as [1, count, kv_heads, head].
fn entries(ring: &mut Tensor, slot: usize, count: usize) -> Result<ViewMut<'_>> {
    let dims = [1, count, ring.dims()[1], ring.dims()[2]];
    ring.view_mut().narrow(slot, count)?.reshape(&dims)
}

/// The memory of a run of a fixed number of tokens. (The keys and values in `layer` are used on the way to codes only: floats go
/// straight to the ring.)
struct Workspace {
    tokens: Tensor,
    cosine: Tensor,
    sine: Tensor,
    /// The residual stream, before and after each block in turn.
    residual: [Tensor; 2],
    layer: LayerActivations,
}

impl Workspace {
    fn new(model: &Model, count: usize) -> Result<Workspace> {
        let (context, options, dtype) = (&**model.context(), model.options(), model.dtype());
        let extent = Extent { context, options, dtype, batch: 1, length: count };
        let half = options.head() / 2;
        Ok(Workspace {
            tokens: context.zeros(DType::U32, &[count])?,
            cosine: context.zeros(dtype, &[count, half])?,
            sine: context.zeros(dtype, &[count, half])?,
            residual: [extent.rows(options.width)?, extent.rows(options.width)?],
            layer: extent.layer()?,
        })
    }

    fn count(&self) -> usize {
        self.tokens.count()
    }

    /// The residual stream of the last token, [1, width].
    fn last(&self) -> Result<View<'_>> {
        self.residual[0].view().narrow(self.count() - 1, 1)
    }
}
