//! One token at a time, with a cache of keys and values.
//!
//! The cache is a ring of `context_length` positions. A key keeps the rotation of its absolute position, which grows for
//! ever; attention sees only differences of positions. So past the context length every new token attends to the last
//! `context_length` tokens, itself included, through the keys and values that were computed when each of them was new:
//! sliding-window attention. `slid` says when that has begun.

use super::activations::Activations;
use super::transformer::rotations;
use super::{Model, ModelOptions};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, Tensor, View};

/// Keys and values of one layer, [context_length, kv_heads * head] each.
pub struct LayerCache {
    k: Tensor,
    v: Tensor,
    /// Tokens seen so far.
    seen: usize,
}

impl LayerCache {
    fn new(options: &ModelOptions) -> Result<LayerCache> {
        let dims = [options.context_length, options.kv_width()];
        Ok(LayerCache { k: Tensor::zeros(DType::F32, &dims)?, v: Tensor::zeros(DType::F32, &dims)?, seen: 0 })
    }

    /// Stores the keys and values of new tokens, [1, n, kv_heads, head]; several at once only while they fit unwrapped.
    pub fn append(&mut self, k: &Tensor, v: &Tensor) -> Result<()> {
        let (capacity, width) = (self.k.dims()[0], self.k.dims()[1]);
        let (count, slot) = (k.dims()[1], self.seen % capacity);
        ensure!(slot + count <= capacity, Internal, "decoder: {count} tokens do not fit at slot {slot} of {capacity}");
        let place = slot * width..(slot + count) * width;
        self.k.host_mut::<f32>()?[place.clone()].copy_from_slice(k.host::<f32>()?);
        self.v.host_mut::<f32>()?[place].copy_from_slice(v.host::<f32>()?);
        self.seen += count;
        Ok(())
    }

    /// The keys and values there are, [1, n, kv_heads, head].
    pub fn views(&self, kv_heads: usize, head: usize) -> Result<(View<'_>, View<'_>)> {
        let count = self.seen.min(self.k.dims()[0]);
        let dims = [1, count, kv_heads, head];
        Ok((self.k.view().narrow(0, count)?.reshape(&dims)?, self.v.view().narrow(0, count)?.reshape(&dims)?))
    }
}

pub struct Decoder {
    activations: Activations,
    caches: Vec<LayerCache>,
    position: usize,
    slid: bool,
    logits: Vec<f32>,
}

impl Decoder {
    pub fn new(model: &Model) -> Result<Decoder> {
        let options = model.options();
        let mut caches = Vec::new();
        for _ in 0..options.layers {
            caches.push(LayerCache::new(options)?);
        }
        let activations = Activations::new(model, 1, 1, false)?;
        Ok(Decoder { activations, caches, position: 0, slid: false, logits: Vec::new() })
    }

    /// Reads a prompt; of one longer than the context, the last `context_length` tokens. After earlier tokens, it continues
    /// them.
    pub fn prompt(&mut self, model: &Model, tokens: &[u32]) -> Result<()> {
        ensure!(!tokens.is_empty(), Argument, "the prompt has no tokens");
        check_tokens(model, tokens)?;
        if self.position > 0 {
            return tokens.iter().try_for_each(|&token| self.push(model, token));
        }
        let most = model.options().context_length;
        let kept = &tokens[tokens.len().saturating_sub(most)..];
        self.slid |= kept.len() < tokens.len();
        let mut activations = Activations::new(model, 1, kept.len(), false)?;
        let (cosine, sine) = rotations(model.options(), 0, kept.len(), DType::F32)?;
        model.decode(&mut activations, kept, [cosine.view(), sine.view()], &mut self.caches)?;
        self.position = kept.len();
        self.keep_last(&activations)
    }

    /// Adds one token.
    pub fn push(&mut self, model: &Model, token: u32) -> Result<()> {
        check_tokens(model, &[token])?;
        self.slid |= self.position >= model.options().context_length;
        let (cosine, sine) = rotations(model.options(), self.position, 1, DType::F32)?;
        model.decode(&mut self.activations, &[token], [cosine.view(), sine.view()], &mut self.caches)?;
        self.position += 1;
        let logits = self.activations.logits.host::<f32>()?;
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        Ok(())
    }

    fn keep_last(&mut self, activations: &Activations) -> Result<()> {
        let logits = activations.logits.host::<f32>()?;
        let vocabulary = activations.logits.dims()[1];
        self.logits.clear();
        self.logits.extend_from_slice(&logits[logits.len() - vocabulary..]);
        Ok(())
    }

    /// The logits of the token that follows the last one; empty before the first.
    pub fn next_logits(&self) -> &[f32] {
        &self.logits
    }

    /// Tokens in the cache's past.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether tokens have left the window.
    pub fn slid(&self) -> bool {
        self.slid
    }
}

fn check_tokens(model: &Model, tokens: &[u32]) -> Result<()> {
    let vocabulary = model.options().vocabulary;
    match tokens.iter().position(|&token| token as usize >= vocabulary) {
        None => Ok(()),
        Some(i) => Err(error!(Argument, "token {i} is {}, outside the vocabulary of {vocabulary}", tokens[i])),
    }
}
