//! The tokens of a text, cut once into a training and a validation part, and the windows that are read from them.

use super::tokenizer::Tokenizer;
use crate::tensor::error::{ensure, error};
use crate::tensor::random::Stream;
use crate::tensor::{Cancelled, Result, reserve};
use xxhash_rust::xxh3::Xxh3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The first tokens of the text.
    Train,
    /// The last ones.
    Validation,
}

impl Split {
    fn name(self) -> &'static str {
        match self {
            Split::Train => "training",
            Split::Validation => "validation",
        }
    }
}

pub struct Dataset {
    tokens: Store,
    vocabulary: usize,
    /// How many tokens are for training; the rest is for validation.
    train: usize,
    validation_fraction: f64,
}

/// Two bytes a token where they hold the vocabulary.
enum Store {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

/// The tokens of a split.
#[derive(Clone, Copy, Debug)]
pub enum Tokens<'a> {
    Narrow(&'a [u16]),
    Wide(&'a [u32]),
}

impl Dataset {
    /// The tokens of `text`; the last `validation_fraction` of them, 0 to below 1, are for validation.
    /// CANCELLED once `cancelled` returns true.
    pub fn from_text(
        text: &str,
        tokenizer: &Tokenizer,
        validation_fraction: f64,
        cancelled: Cancelled,
    ) -> Result<Dataset> {
        check_fraction(validation_fraction)?;
        let mut tokens = Store::new(tokenizer.vocabulary());
        tokenizer.encode_blocks(text, &mut |block| {
            ensure!(!cancelled(), Cancelled, "encoding the text was cancelled");
            tokens.append(block)
        })?;
        Dataset::new(tokens, tokenizer.vocabulary(), validation_fraction)
    }

    /// ARGUMENT for a token that is not below the vocabulary.
    pub fn from_tokens(tokens: Vec<u32>, vocabulary: usize, validation_fraction: f64) -> Result<Dataset> {
        check_fraction(validation_fraction)?;
        if let Some(index) = tokens.iter().position(|&token| token as usize >= vocabulary) {
            return Err(error!(Argument, "token {index} is {}, the vocabulary is {vocabulary}", tokens[index]));
        }
        let mut store = Store::new(vocabulary);
        match &mut store {
            Store::Wide(wide) => *wide = tokens,
            Store::Narrow(_) => store.append(&tokens)?,
        }
        Dataset::new(store, vocabulary, validation_fraction)
    }

    fn new(tokens: Store, vocabulary: usize, validation_fraction: f64) -> Result<Dataset> {
        let all = tokens.all().len();
        ensure!(
            all > 0,
            Argument,
            "there are no tokens; windows of n tokens need about 10 (n + 1) of them in all, 650 for the default 64"
        );
        // Rounded up, but not for the rounding of the product: a fraction of .07 of 100 tokens is 7.000000000000001.
        let validation = (all as f64 * validation_fraction * (1.0 - 1e-12)).ceil() as usize;
        Ok(Dataset { tokens, vocabulary, train: all - validation.min(all), validation_fraction })
    }

    pub fn tokens(&self, split: Split) -> Tokens<'_> {
        let all = self.tokens.all();
        match split {
            Split::Train => all.part(0, self.train),
            Split::Validation => all.part(self.train, all.len()),
        }
    }

    /// Every token is below this.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The xxh3-64 of all tokens as u32, little endian.
    pub fn fingerprint(&self) -> u64 {
        let all = self.tokens.all();
        let mut hash = Xxh3::new();
        let mut block = [0u32; 1024];
        for start in (0..all.len()).step_by(block.len()) {
            let count = block.len().min(all.len() - start);
            all.read(start, &mut block[..count]);
            for token in &mut block[..count] {
                *token = token.to_le();
            }
            hash.update(bytemuck::cast_slice(&block[..count]));
        }
        hash.digest()
    }

    /// SHAPE, with how many tokens there are and how many are needed, unless each part that the dataset has can fill a window
    /// of `context_length` tokens and their targets.
    pub fn check(&self, context_length: usize) -> Result<()> {
        self.check_split(Split::Train, context_length)?;
        if self.validation_fraction > 0.0 { self.check_split(Split::Validation, context_length) } else { Ok(()) }
    }

    fn check_split(&self, split: Split, length: usize) -> Result<()> {
        ensure!(length > 0, Argument, "windows of 0 tokens hold nothing to learn from");
        let there = self.tokens(split).len();
        if there > length {
            return Ok(());
        }
        let name = split.name();
        let needs = length.saturating_add(1);
        let shortage = format!("the {name} split has {there} tokens, windows of {length} need at least {needs}");
        let fraction = self.validation_fraction;
        if fraction == 0.0 {
            return Err(error!(Shape, "{shortage}"));
        }
        let total = (needs as f64 / fraction.min(1.0 - fraction) * (1.0 - 1e-12)).ceil();
        Err(error!(Shape, "{shortage}; the text needs about {total} tokens in all"))
    }

    /// Fills `tokens` and `targets`, [batch, length], with windows that start anywhere: number i starts at
    /// `stream.below(i, n - length)`, so that the last target may be the split's last token. Targets are the tokens one
    /// place further.
    pub fn batch(
        &self,
        split: Split,
        stream: Stream,
        batch: usize,
        length: usize,
        tokens: &mut [u32],
        targets: &mut [u32],
    ) -> Result<()> {
        self.check_split(split, length)?;
        check_room(batch, length, tokens, targets)?;
        let source = self.tokens(split);
        let starts = (source.len() - length) as u64;
        let rows = tokens.chunks_exact_mut(length).zip(targets.chunks_exact_mut(length));
        for (row, (tokens, targets)) in rows.enumerate() {
            source.window(stream.below(row as u64, starts) as usize, tokens, targets);
        }
        Ok(())
    }

    /// How many windows there are side by side. Their targets are the split's tokens but for the first, up to a remainder.
    pub fn windows(&self, split: Split, length: usize) -> usize {
        self.tokens(split).len().saturating_sub(1).checked_div(length).unwrap_or(0)
    }

    /// Fills `tokens` and `targets`, [length], with window `index` of `windows(split, length)`.
    pub fn window(
        &self,
        split: Split,
        index: usize,
        length: usize,
        tokens: &mut [u32],
        targets: &mut [u32],
    ) -> Result<()> {
        let windows = self.windows(split, length);
        ensure!(index < windows, Argument, "window {index} of {windows} in the {} split", split.name());
        check_room(1, length, tokens, targets)?;
        self.tokens(split).window(index * length, tokens, targets);
        Ok(())
    }
}

fn check_fraction(fraction: f64) -> Result<()> {
    ensure!((0.0..1.0).contains(&fraction), Argument, "validation_fraction is {fraction}, expected 0 to below 1");
    Ok(())
}

fn check_room(batch: usize, length: usize, tokens: &[u32], targets: &[u32]) -> Result<()> {
    for (name, room) in [("tokens", tokens.len()), ("targets", targets.len())] {
        ensure!(batch.checked_mul(length) == Some(room), Shape, "{name} has {room} elements for [{batch}, {length}]");
    }
    Ok(())
}

impl Store {
    fn new(vocabulary: usize) -> Store {
        if vocabulary <= 1 << 16 { Store::Narrow(Vec::new()) } else { Store::Wide(Vec::new()) }
    }

    /// Every token is below the vocabulary that the store was made for.
    fn append(&mut self, block: &[u32]) -> Result<()> {
        match self {
            Store::Narrow(tokens) => {
                reserve(tokens, block.len())?;
                tokens.extend(block.iter().map(|&token| token as u16));
            }
            Store::Wide(tokens) => {
                reserve(tokens, block.len())?;
                tokens.extend_from_slice(block);
            }
        }
        Ok(())
    }

    fn all(&self) -> Tokens<'_> {
        match self {
            Store::Narrow(tokens) => Tokens::Narrow(tokens),
            Store::Wide(tokens) => Tokens::Wide(tokens),
        }
    }
}

impl<'a> Tokens<'a> {
    pub fn len(self) -> usize {
        match self {
            Tokens::Narrow(tokens) => tokens.len(),
            Tokens::Wide(tokens) => tokens.len(),
        }
    }

    /// Copies the tokens from `start` on into `out`, which they must fill.
    pub fn read(self, start: usize, out: &mut [u32]) {
        let end = start + out.len();
        match self {
            Tokens::Narrow(tokens) => {
                for (out, &token) in out.iter_mut().zip(&tokens[start..end]) {
                    *out = u32::from(token);
                }
            }
            Tokens::Wide(tokens) => out.copy_from_slice(&tokens[start..end]),
        }
    }

    fn part(self, start: usize, end: usize) -> Tokens<'a> {
        match self {
            Tokens::Narrow(tokens) => Tokens::Narrow(&tokens[start..end]),
            Tokens::Wide(tokens) => Tokens::Wide(&tokens[start..end]),
        }
    }

    /// The tokens from `start` on, and those one place further.
    pub fn window(self, start: usize, tokens: &mut [u32], targets: &mut [u32]) {
        self.read(start, tokens);
        self.read(start + 1, targets);
    }
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
