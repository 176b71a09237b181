//! Text from a model and its tokenizer.

use super::tokenizer::Tokenizer;
use crate::model::{Model, SampleOptions, Sampler};
use crate::tensor::Result;
use crate::tensor::error::ensure;

/// The continuation of a prompt. The calls take the model, so that nobody holds it between two pieces.
pub struct Generation<'a> {
    tokenizer: &'a Tokenizer,
    sampler: Sampler,
    pieces: Pieces,
    /// Tokens to come.
    left: usize,
}

impl<'a> Generation<'a> {
    /// Of up to `most` tokens. ARGUMENT for an empty prompt, SHAPE when the tokenizer has more tokens than the model.
    pub fn new(
        model: &Model,
        tokenizer: &'a Tokenizer,
        prompt: &str,
        options: SampleOptions,
        most: usize,
    ) -> Result<Generation<'a>> {
        ensure!(!prompt.is_empty(), Argument, "prompt is empty");
        let (vocabulary, known) = (model.options().vocabulary, tokenizer.vocabulary());
        ensure!(vocabulary >= known, Shape, "the model has a vocabulary of {vocabulary}, the tokenizer of {known}");
        let mut sampler = Sampler::new(model, options)?;
        sampler.prompt(model, &tokenizer.encode(prompt)?)?;
        Ok(Generation { tokenizer, sampler, pieces: Pieces::default(), left: most })
    }

    /// The text of the next token, whole characters; it may be empty. None at the end.
    pub fn next(&mut self, model: &Model) -> Result<Option<String>> {
        if self.left == 0 {
            return Ok(self.pieces.rest());
        }
        self.left -= 1;
        let token = self.sampler.next(model, self.tokenizer.vocabulary())?;
        self.pieces.push(self.tokenizer, token).map(Some)
    }

    /// Whether the text outgrew the context.
    pub fn slid(&self) -> bool {
        self.sampler.slid()
    }
}

/// Turns tokens into text as they come. A token may end inside a UTF-8 character, so bytes wait until
/// theirs is whole; bytes that can be part of no character become U+FFFD.
#[derive(Default)]
struct Pieces {
    /// The last tokens: some tokenizers decode a token by what stands before it.
    recent: Vec<u32>,
    waiting: Vec<u8>,
}

impl Pieces {
    /// Tokens kept as what stands before.
    const BEFORE: usize = 4;

    fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String> {
        let before = tokenizer.decode(&self.recent)?.len();
        self.recent.push(token);
        let decoded = tokenizer.decode(&self.recent)?;
        self.waiting.extend_from_slice(decoded.get(before..).unwrap_or_default());
        if self.recent.len() > Pieces::BEFORE {
            self.recent.remove(0);
        }
        Ok(self.whole_characters())
    }

    /// What is left at the end: the beginning of a character that never came.
    fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.waiting);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    fn whole_characters(&mut self) -> String {
        let mut text = String::new();
        loop {
            match str::from_utf8(&self.waiting) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.waiting.clear();
                    return text;
                }
                Err(error) => {
                    let (whole, rest) = self.waiting.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let Some(broken) = error.error_len() else {
                        self.waiting = rest.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.waiting = rest[broken..].to_vec();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8]) -> Vec<String> {
        let tokenizer = Tokenizer::byte();
        let mut pieces = Pieces::default();
        let mut all: Vec<String> =
            bytes.iter().map(|&byte| pieces.push(&tokenizer, u32::from(byte)).expect("a byte is a token")).collect();
        all.extend(pieces.rest());
        all
    }

    #[test]
    fn characters_come_whole() {
        assert_eq!(pieces("aé€😀".as_bytes()), ["a", "", "é", "", "", "€", "", "", "", "😀"]);
    }

    #[test]
    fn bytes_of_no_character_are_replaced() {
        assert_eq!(pieces(b"\xffa\xc3b\xe2\x82"), ["\u{fffd}", "a", "", "\u{fffd}b", "", "", "\u{fffd}"]);
    }
}
