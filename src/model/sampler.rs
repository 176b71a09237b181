//! A text that grows token by token.

use super::{Decoder, Model, SampleOptions, sample};
use crate::tensor::Result;
use crate::tensor::error::ensure;

/// What was said so far, and how it goes on. It holds no weights: each call takes the model, which may have been trained on
/// meanwhile.
pub struct Sampler {
    decoder: Decoder,
    options: SampleOptions,
    /// How many tokens there are, prompt and answers.
    tokens: u64,
}

impl Sampler {
    pub fn new(model: &Model, options: SampleOptions) -> Result<Sampler> {
        options.validate()?;
        Ok(Sampler { decoder: Decoder::new(model, options.kv_cache)?, options, tokens: 0 })
    }

    /// Appends `tokens`, at least one. ARGUMENT for one that is not below the vocabulary.
    pub fn prompt(&mut self, model: &Model, tokens: &[u32]) -> Result<()> {
        ensure!(!tokens.is_empty(), Argument, "there are no tokens, expected at least 1");
        self.decoder.prompt(model, tokens)?;
        self.tokens += tokens.len() as u64;
        Ok(())
    }

    /// Chooses the next token, of those below `vocabulary`, and appends it. STATE before the first prompt.
    pub fn next(&mut self, model: &Model, vocabulary: usize) -> Result<u32> {
        ensure!(self.tokens > 0, State, "there is no prompt yet: call setun_sampler_prompt first");
        let logits = self.decoder.next_logits();
        let token = sample(&logits[..vocabulary.min(logits.len())], &self.options, self.tokens)?;
        self.decoder.push(model, token)?;
        self.tokens += 1;
        Ok(token)
    }

    /// Whether the first tokens are no longer seen.
    pub fn slid(&self) -> bool {
        self.decoder.slid()
    }
}
