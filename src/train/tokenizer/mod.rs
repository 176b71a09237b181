//! Text to token numbers and back: bytes, characters, or the pieces of a Hugging Face tokenizer.json.

mod character;
#[cfg(test)]
mod foreign_tests;
mod subword;
#[cfg(test)]
mod tests;

use crate::format::files::{check_utf8, read_file, write_atomic};
use crate::format::safetensors::File;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Cancelled, Result, reserve};
use character::Characters;
use serde::{Deserialize, Serialize};
use std::path::Path;
use subword::Subwords;
use xxhash_rust::xxh3::xxh3_64;

/// The `format` of our own tokenizer files.
const FORMAT: &str = "setun-tokenizer";

/// How many tokens are handed on at a time.
const BLOCK: usize = 1 << 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerKind {
    /// One token a byte, 256 in all.
    Byte,
    /// One token a character, those of the training text, in the order of their code points.
    Character,
    /// Byte-level byte-pair encoding, or whatever a tokenizer.json from elsewhere defines.
    Bpe,
}

pub struct Tokenizer {
    scheme: Scheme,
    fingerprint: u64,
}

enum Scheme {
    Byte,
    Character(Characters),
    Bpe(Box<Subwords>),
}

/// Our own files: `{"format":"setun-tokenizer","version":1,"kind":"character","characters":"abc"}`, where token i is character i.
#[derive(Serialize)]
struct Stored<'a> {
    format: &'a str,
    version: u32,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    characters: Option<String>,
}

/// The same, read with suspicion.
#[derive(Deserialize)]
struct Found {
    format: Option<serde_json::Value>,
    version: Option<serde_json::Value>,
    kind: Option<serde_json::Value>,
    characters: Option<String>,
}

impl Tokenizer {
    fn new(scheme: Scheme) -> Result<Tokenizer> {
        let mut tokenizer = Tokenizer { scheme, fingerprint: 0 };
        tokenizer.fingerprint = xxh3_64(tokenizer.to_json()?.as_bytes());
        Ok(tokenizer)
    }

    pub fn byte() -> Tokenizer {
        Tokenizer { scheme: Scheme::Byte, fingerprint: xxh3_64(byte_json().as_bytes()) }
    }

    /// A token for each character of `text`.
    pub fn character(text: &str) -> Result<Tokenizer> {
        ensure!(!text.is_empty(), Format, "a character tokenizer needs text with at least one character");
        Tokenizer::new(Scheme::Character(Characters::of_text(text)?))
    }

    /// Byte-level byte-pair encoding with up to `vocabulary` tokens: the 256 bytes, and the pairs that are most frequent in
    /// `text`. Fewer when the text has no more pairs to merge. The same text gives the same tokenizer. CANCELLED when
    /// `cancelled` returns true while words are counted; the merges after that, a matter of seconds, are not interrupted.
    pub fn bpe(text: &str, vocabulary: usize, cancelled: Cancelled) -> Result<Tokenizer> {
        Tokenizer::new(Scheme::Bpe(Box::new(Subwords::learn(text, vocabulary, cancelled)?)))
    }

    /// A tokenizer of the given kind for `text`; `vocabulary` is for byte-pair encoding.
    pub fn train(kind: TokenizerKind, text: &str, vocabulary: usize, cancelled: Cancelled) -> Result<Tokenizer> {
        match kind {
            TokenizerKind::Byte => Ok(Tokenizer::byte()),
            TokenizerKind::Character => Tokenizer::character(text),
            TokenizerKind::Bpe => Tokenizer::bpe(text, vocabulary, cancelled),
        }
    }

    pub fn kind(&self) -> TokenizerKind {
        match self.scheme {
            Scheme::Byte => TokenizerKind::Byte,
            Scheme::Character(_) => TokenizerKind::Character,
            Scheme::Bpe(_) => TokenizerKind::Bpe,
        }
    }

    /// Every token is below this.
    pub fn vocabulary(&self) -> usize {
        match &self.scheme {
            Scheme::Byte => 256,
            Scheme::Character(characters) => characters.count(),
            Scheme::Bpe(subwords) => subwords.vocabulary(),
        }
    }

    /// Equal for tokenizers that do the same.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// FORMAT, with the character and its place, when a character tokenizer does not know it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        self.encode_blocks(text, &mut |block| {
            reserve(&mut tokens, block.len())?;
            tokens.extend_from_slice(block);
            Ok(())
        })?;
        Ok(tokens)
    }

    /// `encode` for bytes: any at all for a byte tokenizer, UTF-8 for the others.
    pub fn encode_bytes(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        if let Scheme::Byte = self.scheme {
            let mut tokens = Vec::new();
            reserve(&mut tokens, bytes.len())?;
            tokens.extend(bytes.iter().map(|&byte| u32::from(byte)));
            return Ok(tokens);
        }
        self.encode(check_utf8(bytes, "the text")?)
    }

    /// Hands the tokens of `text` to `sink`, in order, a block at a time.
    pub fn encode_blocks(&self, text: &str, sink: &mut dyn FnMut(&[u32]) -> Result<()>) -> Result<()> {
        match &self.scheme {
            Scheme::Byte => text.as_bytes().chunks(BLOCK).try_for_each(|chunk| sink(&self.encode_bytes(chunk)?)),
            Scheme::Character(characters) => characters.encode_blocks(text, sink),
            Scheme::Bpe(subwords) => subwords.encode_blocks(text, sink),
        }
    }

    /// The text of the tokens, as bytes: a token may end inside a UTF-8 character. ARGUMENT for a token that is not below the
    /// vocabulary.
    pub fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>> {
        let vocabulary = self.vocabulary();
        if let Some(index) = tokens.iter().position(|&token| token as usize >= vocabulary) {
            return Err(error!(Argument, "token {index} is {}, the vocabulary is {vocabulary}", tokens[index]));
        }
        match &self.scheme {
            Scheme::Byte => {
                let mut bytes = Vec::new();
                reserve(&mut bytes, tokens.len())?;
                bytes.extend(tokens.iter().map(|&token| token as u8));
                Ok(bytes)
            }
            Scheme::Character(characters) => characters.decode(tokens),
            Scheme::Bpe(subwords) => subwords.decode(tokens),
        }
    }

    pub fn to_json(&self) -> Result<String> {
        match &self.scheme {
            Scheme::Byte => Ok(byte_json()),
            Scheme::Character(characters) => {
                let characters = Some(characters.in_order());
                let stored = Stored { format: FORMAT, version: 1, kind: "character", characters };
                serde_json::to_string(&stored).map_err(|e| error!(Internal, "a tokenizer cannot be written: {e}"))
            }
            Scheme::Bpe(subwords) => subwords.to_json(),
        }
    }

    /// Our own file, or any Hugging Face tokenizer.json.
    pub fn from_json(json: &str) -> Result<Tokenizer> {
        let found: Found = serde_json::from_str(json).map_err(|e| error!(Format, "not a tokenizer: {e}"))?;
        let text = |value: &Option<serde_json::Value>| value.as_ref().map_or("null".to_string(), |v| v.to_string());
        if found.format.as_ref().and_then(serde_json::Value::as_str) != Some(FORMAT) {
            return Tokenizer::new(Scheme::Bpe(Box::new(Subwords::from_json(json)?)));
        }
        let version = found.version.as_ref().and_then(serde_json::Value::as_u64);
        ensure!(version == Some(1), Unsupported, "the tokenizer has version {}, expected 1", text(&found.version));
        match found.kind.as_ref().and_then(serde_json::Value::as_str) {
            Some("byte") => Ok(Tokenizer::byte()),
            Some("character") => {
                let characters = found.characters.unwrap_or_default();
                Tokenizer::new(Scheme::Character(Characters::of_list(&characters)?))
            }
            _ => Err(error!(Format, "the tokenizer is of kind {}, expected byte or character", text(&found.kind))),
        }
    }

    /// Reads a JSON file, or a model file that was saved with its tokenizer.
    pub fn load(path: &Path) -> Result<Tokenizer> {
        let bytes = read_file(path)?;
        load(bytes).map_err(|error| error.within(path.display()))
    }

    /// Writes the JSON file.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.to_json()?.as_bytes())
    }
}

fn byte_json() -> String {
    format!("{{\"format\":\"{FORMAT}\",\"version\":1,\"kind\":\"byte\"}}")
}

fn load(bytes: Vec<u8>) -> Result<Tokenizer> {
    // A safetensors file begins with the length of its header in 8 bytes, the last of them 0, and JSON has no byte 0.
    if bytes.get(7) != Some(&0) {
        return Tokenizer::from_json(check_utf8(&bytes, "the tokenizer")?);
    }
    let file = File::parse(bytes)?;
    file.check_sum()?;
    let json = file.metadata().get("tokenizer");
    Tokenizer::from_json(json.ok_or_else(|| error!(Format, "the model was saved without a tokenizer"))?)
}
