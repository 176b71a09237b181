//! Tokens to train and validate on, split by position, drawn in windows.

use super::Tokenizer;
use crate::tensor::error::{ensure, error};
use crate::tensor::random::Stream;
use crate::tensor::{Result, reserve};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    /// The last part of the text.
    Validation,
}

/// Two bytes a token while the vocabulary allows.
enum Storage {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

pub struct Dataset {
    storage: Storage,
    vocabulary: usize,
    validation_fraction: f64,
    /// Where validation begins.
    cut: usize,
    fingerprint: u64,
}

/// The tokens of one split.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    dataset: &'a Dataset,
    start: usize,
    end: usize,
}

impl Tokens<'_> {
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Copies the tokens from `at` on; the caller keeps `at + out.len()` within `len`.
    pub fn copy(&self, at: usize, out: &mut [u32]) {
        let range = self.start + at..self.start + at + out.len();
        match &self.dataset.storage {
            Storage::Narrow(tokens) => out.iter_mut().zip(&tokens[range]).for_each(|(o, &t)| *o = u32::from(t)),
            Storage::Wide(tokens) => out.copy_from_slice(&tokens[range]),
        }
    }
}

impl Dataset {
    /// The last `validation_fraction` of the tokens, rounded down, are for validation.
    pub fn from_text(text: &str, tokenizer: &Tokenizer, validation_fraction: f64) -> Result<Dataset> {
        Dataset::from_tokens(tokenizer.encode(text)?, tokenizer.vocabulary(), validation_fraction)
    }

    pub fn from_tokens(tokens: Vec<u32>, vocabulary: usize, validation_fraction: f64) -> Result<Dataset> {
        ensure!(
            (0.0..1.0).contains(&validation_fraction),
            Argument,
            "dataset: validation_fraction is {validation_fraction}, expected at least 0 and below 1"
        );
        ensure!(!tokens.is_empty(), Argument, "dataset: there are no tokens");
        if let Some(i) = tokens.iter().position(|&token| token as usize >= vocabulary) {
            return Err(error!(
                Argument,
                "dataset: token {i} is {}, outside the vocabulary of {vocabulary}", tokens[i]
            ));
        }
        let cut = tokens.len() - (tokens.len() as f64 * validation_fraction) as usize;
        let fingerprint = xxhash_rust::xxh3::xxh3_64(bytemuck::cast_slice(&tokens));
        let storage = if vocabulary <= 1 << 16 {
            let mut narrow = Vec::new();
            reserve(&mut narrow, tokens.len())?;
            narrow.extend(tokens.iter().map(|&token| token as u16));
            Storage::Narrow(narrow)
        } else {
            Storage::Wide(tokens)
        };
        Ok(Dataset { storage, vocabulary, validation_fraction, cut, fingerprint })
    }

    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// xxh3-64 of the tokens as 32-bit little endian: two datasets with equal tokens have it in common.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub fn tokens(&self, split: Split) -> Tokens<'_> {
        let all = match &self.storage {
            Storage::Narrow(tokens) => tokens.len(),
            Storage::Wide(tokens) => tokens.len(),
        };
        match split {
            Split::Train => Tokens { dataset: self, start: 0, end: self.cut },
            Split::Validation => Tokens { dataset: self, start: self.cut, end: all },
        }
    }

    /// SHAPE, saying how many tokens are needed, unless both splits have a window of `length` tokens and a target after it.
    /// Without validation (fraction 0) only the training split counts.
    pub fn check(&self, length: usize) -> Result<()> {
        let fraction = self.validation_fraction;
        for (split, name, share) in
            [(Split::Train, "training", 1.0 - fraction), (Split::Validation, "validation", fraction)]
        {
            let there = self.tokens(split).len();
            if share > 0.0 && there <= length {
                let needed = length + 1;
                let all = (needed as f64 / share).ceil();
                return Err(error!(
                    Shape,
                    "the {name} split has {there} tokens, windows of {length} need at least {needed}; \
                     the text needs about {all} tokens in all"
                ));
            }
        }
        Ok(())
    }

    /// `batch` windows at random places: tokens[batch, length] and the token after each, targets[batch, length].
    /// Window i starts at `stream.below(i, n - length)`: the same stream draws the same windows.
    pub fn batch(
        &self,
        split: Split,
        stream: Stream,
        batch: usize,
        length: usize,
        tokens: &mut [u32],
        targets: &mut [u32],
    ) -> Result<()> {
        let there = self.tokens(split).len();
        ensure!(length > 0, Shape, "dataset: windows of 0 tokens");
        ensure!(
            there > length,
            Shape,
            "dataset: the split has {there} tokens, a window of {length} needs {}",
            length + 1
        );
        let sizes = [tokens.len(), targets.len()];
        let expected = batch.checked_mul(length);
        ensure!(
            sizes.iter().all(|&size| Some(size) == expected),
            Shape,
            "dataset: room for {} tokens and {} targets, expected {batch} x {length}",
            sizes[0],
            sizes[1]
        );
        let rows = tokens.chunks_exact_mut(length).zip(targets.chunks_exact_mut(length));
        for (i, (tokens, targets)) in rows.enumerate() {
            let start = stream.below(i as u64, (there - length) as u64) as usize;
            self.tokens(split).copy(start, tokens);
            self.tokens(split).copy(start + 1, targets);
        }
        Ok(())
    }

    /// How many windows of `length` tokens lie side by side in the split, each with a target after its last token.
    pub fn windows(&self, split: Split, length: usize) -> usize {
        self.tokens(split).len().saturating_sub(1).checked_div(length).unwrap_or(0)
    }

    /// Window `index` of those.
    pub fn window(
        &self,
        split: Split,
        index: usize,
        length: usize,
        tokens: &mut [u32],
        targets: &mut [u32],
    ) -> Result<()> {
        let there = self.windows(split, length);
        ensure!(index < there, Argument, "dataset: window {index} of {there}");
        ensure!(tokens.len() == length && targets.len() == length, Shape, "dataset: a window has {length} tokens");
        self.tokens(split).copy(index * length, tokens);
        self.tokens(split).copy(index * length + 1, targets);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::random::Purpose;

    fn counting(n: usize, vocabulary: usize, fraction: f64) -> Dataset {
        Dataset::from_tokens((0..n as u32).collect(), vocabulary, fraction).unwrap()
    }

    #[test]
    fn the_last_tenth_is_for_validation() {
        for vocabulary in [105, 1 << 17] {
            let dataset = counting(105, vocabulary, 0.1);
            assert_eq!((dataset.tokens(Split::Train).len(), dataset.tokens(Split::Validation).len()), (95, 10));
            let mut last = [0; 10];
            dataset.tokens(Split::Validation).copy(0, &mut last);
            assert_eq!(last, [95, 96, 97, 98, 99, 100, 101, 102, 103, 104]);
        }
        assert_eq!(counting(105, 105, 0.1).fingerprint(), counting(105, 1 << 17, 0.5).fingerprint());
    }

    #[test]
    fn batches_are_seeded_and_reach_every_start_and_no_further() {
        let dataset = counting(20, 20, 0.0);
        let (mut tokens, mut targets) = (vec![0; 1000 * 4], vec![0; 1000 * 4]);
        let stream = Stream::new(1, Purpose::Batch, 5, 0);
        dataset.batch(Split::Train, stream, 1000, 4, &mut tokens, &mut targets).unwrap();
        let mut starts: Vec<u32> = tokens.chunks(4).map(|window| window[0]).collect();
        assert!(tokens.iter().zip(&targets).all(|(token, target)| token + 1 == *target));
        assert_eq!(targets.iter().max(), Some(&19));
        let first = tokens.clone();
        dataset.batch(Split::Train, stream, 1000, 4, &mut tokens, &mut targets).unwrap();
        assert_eq!(first, tokens);
        let other = Stream::new(1, Purpose::Batch, 6, 0);
        dataset.batch(Split::Train, other, 1000, 4, &mut tokens, &mut targets).unwrap();
        assert_ne!(first, tokens);
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts, (0..16).collect::<Vec<u32>>());
    }

    #[test]
    fn windows_lie_side_by_side() {
        let dataset = counting(30, 30, 0.5);
        assert_eq!(dataset.windows(Split::Validation, 4), 3);
        let (mut tokens, mut targets) = ([0; 4], [0; 4]);
        dataset.window(Split::Validation, 2, 4, &mut tokens, &mut targets).unwrap();
        assert_eq!((tokens, targets), ([23, 24, 25, 26], [24, 25, 26, 27]));
        assert!(dataset.window(Split::Validation, 3, 4, &mut tokens, &mut targets).is_err());
        assert_eq!(counting(15, 15, 0.0).windows(Split::Validation, 4), 0);
    }

    #[test]
    fn too_little_text_says_how_much_is_needed() {
        let error = counting(400, 400, 0.1).check(64).unwrap_err();
        assert_eq!(
            error.message,
            "the validation split has 40 tokens, windows of 64 need at least 65; the text needs about 650 tokens in all"
        );
        counting(650, 650, 0.1).check(64).unwrap();
        counting(65, 65, 0.0).check(64).unwrap();
        assert!(counting(64, 64, 0.0).check(64).is_err());
        assert!(Dataset::from_tokens(vec![], 5, 0.1).is_err());
        let error = Dataset::from_tokens(vec![1, 5], 5, 0.1).err().unwrap();
        assert_eq!(error.message, "dataset: token 1 is 5, outside the vocabulary of 5");
        assert!(Dataset::from_tokens(vec![1], 5, f64::NAN).is_err());
    }
}
