//! Text to tokens and back: bytes, the characters of a corpus, or trained byte-pair encoding.

use super::bytes_of_chars::byte_of_char;
use crate::format::files::{read_file, write_atomic};
use crate::format::safetensors::File;
use crate::tensor::error::{ensure, error};
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Result, reserve};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::utils::parallelism::set_parallelism;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerKind {
    /// 256 tokens, one a byte.
    Byte,
    /// One token a distinct character of the corpus, in the order of the code points.
    Character,
    /// Byte-level byte-pair encoding (Sennrich et al., arXiv 1508.07909), or any Hugging Face tokenizer.json.
    Bpe,
}

enum Model {
    Byte,
    Character { characters: Vec<char>, index: HashMap<char, u32> },
    Bpe(Box<Bpe>),
}

struct Bpe {
    tokenizer: tokenizers::Tokenizer,
    vocabulary: usize,
    /// Whether text may be cut between a lone line end and a letter: see `pieces`.
    separable: bool,
    /// Whether every token is a string of the byte-level alphabet, so that it stands for bytes.
    byte_level: bool,
}

pub struct Tokenizer {
    model: Model,
}

/// The file of a byte or character tokenizer.
#[derive(Serialize, Deserialize)]
struct Own {
    format: String,
    version: u32,
    kind: String,
    #[serde(default)]
    characters: String,
}

const FORMAT: &str = "setun-tokenizer";
const VERSION: u32 = 1;
/// The bytes themselves: no smaller byte-level vocabulary exists.
const BYTES: usize = 256;

impl Tokenizer {
    pub fn byte() -> Tokenizer {
        Tokenizer { model: Model::Byte }
    }

    pub fn character(text: &str) -> Result<Tokenizer> {
        ensure!(!text.is_empty(), Argument, "tokenizer: the text is empty, it has no characters to learn");
        let mut characters: Vec<char> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        seen.extend(text.chars());
        reserve(&mut characters, seen.len())?;
        characters.extend(seen);
        Ok(Tokenizer { model: character_model(characters) })
    }

    /// Trains byte-level BPE. The same text and size always give the same tokenizer. A text with too few pairs gives a
    /// smaller vocabulary, which is logged.
    pub fn bpe(text: &str, vocabulary: usize) -> Result<Tokenizer> {
        ensure!(!text.is_empty(), Argument, "tokenizer: the text is empty, it has no pairs to learn");
        ensure!(
            vocabulary >= BYTES,
            Argument,
            "tokenizer: a vocabulary of {vocabulary} is less than the {BYTES} bytes that byte-level BPE starts from"
        );
        // One thread: the crate's own pool would not survive a fork, and the result cannot depend on scheduling.
        set_parallelism(false);
        let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
        let byte_level = ByteLevel::new(false, false, true);
        tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
        let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(vocabulary)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        let failed = |e| error!(Internal, "tokenizer: training failed: {e}");
        tokenizer.train(&mut trainer, pieces(text).into_iter()).map_err(failed)?;
        let trained = Bpe::new(tokenizer)?;
        if trained.vocabulary < vocabulary {
            let found = trained.vocabulary;
            log(
                LogLevel::Warning,
                format_args!("the text has pairs for {found} tokens only, {vocabulary} were asked for"),
            );
        }
        Ok(Tokenizer { model: Model::Bpe(Box::new(trained)) })
    }

    pub fn kind(&self) -> TokenizerKind {
        match self.model {
            Model::Byte => TokenizerKind::Byte,
            Model::Character { .. } => TokenizerKind::Character,
            Model::Bpe(_) => TokenizerKind::Bpe,
        }
    }

    /// Tokens are 0 .. vocabulary.
    pub fn vocabulary(&self) -> usize {
        match &self.model {
            Model::Byte => BYTES,
            Model::Character { characters, .. } => characters.len(),
            Model::Bpe(bpe) => bpe.vocabulary,
        }
    }

    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        match &self.model {
            Model::Byte => return self.encode_bytes(text.as_bytes()),
            Model::Character { index, .. } => {
                reserve(&mut tokens, text.len())?;
                for (offset, character) in text.char_indices() {
                    let token = index.get(&character).ok_or_else(|| {
                        error!(Format, "tokenizer: {character:?} at byte {offset} is not in the vocabulary")
                    })?;
                    tokens.push(*token);
                }
            }
            Model::Bpe(bpe) => {
                set_parallelism(false);
                let pieces = if bpe.separable { pieces(text) } else { vec![text] };
                for piece in pieces {
                    let encoding =
                        bpe.tokenizer.encode_fast(piece, false).map_err(|e| error!(Format, "tokenizer: {e}"))?;
                    reserve(&mut tokens, encoding.get_ids().len())?;
                    tokens.extend_from_slice(encoding.get_ids());
                }
            }
        }
        Ok(tokens)
    }

    /// Any bytes at all, for the byte tokenizer alone.
    pub fn encode_bytes(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        ensure!(self.kind() == TokenizerKind::Byte, Unsupported, "tokenizer: only the byte tokenizer takes any bytes");
        let mut tokens = Vec::new();
        reserve(&mut tokens, bytes.len())?;
        tokens.extend(bytes.iter().map(|&byte| u32::from(byte)));
        Ok(tokens)
    }

    /// The bytes that the tokens stand for; a token may end inside a character.
    pub fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>> {
        let vocabulary = self.vocabulary();
        if let Some(i) = tokens.iter().position(|&token| token as usize >= vocabulary) {
            return Err(error!(
                Argument,
                "tokenizer: token {i} is {}, outside the vocabulary of {vocabulary}", tokens[i]
            ));
        }
        match &self.model {
            Model::Byte => Ok(tokens.iter().map(|&token| token as u8).collect()),
            Model::Character { characters, .. } => {
                Ok(tokens.iter().map(|&token| characters[token as usize]).collect::<String>().into_bytes())
            }
            Model::Bpe(bpe) => bpe.decode(tokens),
        }
    }

    pub fn to_json(&self) -> Result<String> {
        let own = |kind: &str, characters: &[char]| {
            let characters = characters.iter().collect();
            let own = Own { format: FORMAT.into(), version: VERSION, kind: kind.into(), characters };
            serde_json::to_string(&own).map_err(|e| error!(Internal, "tokenizer: {e}"))
        };
        match &self.model {
            Model::Byte => own("byte", &[]),
            Model::Character { characters, .. } => own("character", characters),
            Model::Bpe(bpe) => bpe.tokenizer.to_string(false).map_err(|e| error!(Internal, "tokenizer: {e}")),
        }
    }

    /// Our own file, or any Hugging Face tokenizer.json.
    pub fn from_json(json: &str) -> Result<Tokenizer> {
        let value: serde_json::Value =
            serde_json::from_str(json).map_err(|e| error!(Format, "tokenizer: not a tokenizer file: {e}"))?;
        if value.get("format").is_none() {
            let parsed = json.parse::<tokenizers::Tokenizer>();
            let tokenizer = parsed.map_err(|e| error!(Format, "tokenizer: not a tokenizer file: {e}"))?;
            return Ok(Tokenizer { model: Model::Bpe(Box::new(Bpe::new(tokenizer)?)) });
        }
        let own: Own = serde_json::from_value(value).map_err(|e| error!(Format, "tokenizer: damaged: {e}"))?;
        ensure!(own.format == FORMAT, Format, "tokenizer: the file is of format '{}', expected '{FORMAT}'", own.format);
        let version = own.version;
        ensure!(version == VERSION, Format, "tokenizer: version {version}, this library reads version {VERSION}");
        match own.kind.as_str() {
            "byte" => Ok(Tokenizer::byte()),
            "character" => {
                let characters: Vec<char> = own.characters.chars().collect();
                let ordered = !characters.is_empty() && characters.is_sorted_by(|a, b| a < b);
                ensure!(ordered, Format, "tokenizer: the file's characters are not distinct and in order");
                Ok(Tokenizer { model: character_model(characters) })
            }
            other => Err(error!(Format, "tokenizer: kind '{other}', expected 'byte' or 'character'")),
        }
    }

    /// From a tokenizer file, or from a Setun model file that holds one.
    pub fn load(path: &Path) -> Result<Tokenizer> {
        let within = |e: crate::tensor::Error| e.within(path.display());
        let bytes = read_file(path)?;
        if bytes.trim_ascii_start().starts_with(b"{") {
            let text = std::str::from_utf8(&bytes);
            return Tokenizer::from_json(text.map_err(|e| within(error!(Format, "not UTF-8: {e}")))?).map_err(within);
        }
        let file = File::parse(bytes).map_err(within)?;
        let json = file.metadata().get("tokenizer");
        let json = json.ok_or_else(|| within(error!(Format, "this model was saved without a tokenizer")))?;
        Tokenizer::from_json(json).map_err(within)
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.to_json()?.as_bytes())
    }

    /// Equal for equal tokenizers.
    pub fn fingerprint(&self) -> u64 {
        // A tokenizer that came from JSON writes JSON again, so failure is excluded; and 0 would still compare equal.
        self.to_json().map_or(0, |json| xxhash_rust::xxh3::xxh3_64(json.as_bytes()))
    }
}

fn character_model(characters: Vec<char>) -> Model {
    let index = characters.iter().enumerate().map(|(token, &character)| (character, token as u32)).collect();
    Model::Character { characters, index }
}

impl Bpe {
    fn new(tokenizer: tokenizers::Tokenizer) -> Result<Bpe> {
        let ids = tokenizer.get_vocab(true);
        let vocabulary = ids.values().max().map_or(0, |&most| most as usize + 1);
        ensure!(vocabulary > 0, Format, "tokenizer: the vocabulary is empty");
        let json = tokenizer.to_string(false).map_err(|e| error!(Internal, "tokenizer: {e}"))?;
        let value: serde_json::Value = serde_json::from_str(&json).map_err(|e| error!(Internal, "tokenizer: {e}"))?;
        let pre = &value["pre_tokenizer"];
        let separable = pre["type"] == "ByteLevel"
            && pre["use_regex"] == true
            && pre["add_prefix_space"] == false
            && value["normalizer"].is_null()
            && value["post_processor"].is_null()
            && value["added_tokens"].as_array().is_none_or(Vec::is_empty);
        let byte_level = value["decoder"]["type"] == "ByteLevel";
        Ok(Bpe { tokenizer, vocabulary, separable, byte_level })
    }

    fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>> {
        if !self.byte_level {
            let text = self.tokenizer.decode(tokens, false).map_err(|e| error!(Format, "tokenizer: {e}"))?;
            return Ok(text.into_bytes());
        }
        let mut bytes = Vec::new();
        for &token in tokens {
            // A vocabulary may have gaps; nothing stands there.
            let Some(piece) = self.tokenizer.id_to_token(token) else { continue };
            reserve(&mut bytes, piece.len())?;
            match piece.chars().map(byte_of_char).collect::<Option<Vec<u8>>>() {
                Some(piece) => bytes.extend(piece),
                // A special token is written as it is.
                None => bytes.extend(piece.bytes()),
            }
        }
        Ok(bytes)
    }
}

/// Cuts a text into pieces of some 64 KiB whose tokens, put together, are the tokens of the whole.
///
/// The byte-level pattern (GPT-2's) matches `\s+(?!\S)|\s+` for white space: a single line end between two characters that
/// are not white space is always a match of its own, whether or not the text goes on. So it is safe to cut right after one.
fn pieces(text: &str) -> Vec<&str> {
    const LEAST: usize = 1 << 16;
    let (mut pieces, mut start) = (Vec::new(), 0);
    let mut before = [None, None];
    for (offset, character) in text.char_indices() {
        let lone = before[1] == Some('\n') && before[0].is_some_and(|c: char| !c.is_whitespace());
        if offset - start >= LEAST && lone && !character.is_whitespace() {
            pieces.push(&text[start..offset]);
            start = offset;
        }
        before = [before[1], Some(character)];
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ErrorKind;

    const TEXT: &str = "the cat sat on the mat, the cat ate the rat; déjà vu — naïve 猫\n\n  the end\n";

    fn round_trip(tokenizer: &Tokenizer) {
        let tokens = tokenizer.encode(TEXT).unwrap();
        assert_eq!(tokenizer.decode(&tokens).unwrap(), TEXT.as_bytes());
        let copy = Tokenizer::from_json(&tokenizer.to_json().unwrap()).unwrap();
        assert_eq!(copy.encode(TEXT).unwrap(), tokens);
        assert_eq!(copy.fingerprint(), tokenizer.fingerprint());
        assert_eq!((copy.kind(), copy.vocabulary()), (tokenizer.kind(), tokenizer.vocabulary()));
        let error = tokenizer.decode(&[0, tokenizer.vocabulary() as u32]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Argument);
    }

    #[test]
    fn every_kind_round_trips() {
        round_trip(&Tokenizer::byte());
        round_trip(&Tokenizer::character(TEXT).unwrap());
        round_trip(&Tokenizer::bpe(TEXT, 300).unwrap());
    }

    #[test]
    fn characters_are_numbered_by_code_point_and_strangers_named() {
        let tokenizer = Tokenizer::character("banana é").unwrap();
        assert_eq!(tokenizer.vocabulary(), 5);
        assert_eq!(
            tokenizer.encode("ban é").unwrap(),
            [2, 1, 3][..1].iter().copied().chain([1, 3, 0, 4]).collect::<Vec<_>>()
        );
        let error = tokenizer.encode("naé!").unwrap_err();
        assert_eq!(error.message, "tokenizer: '!' at byte 4 is not in the vocabulary");
    }

    #[test]
    fn bpe_learns_the_vocabulary_it_is_asked_for_and_always_the_same() {
        let text = TEXT.repeat(20);
        let first = Tokenizer::bpe(&text, 290).unwrap();
        assert_eq!(first.vocabulary(), 290);
        assert!(first.encode(TEXT).unwrap().len() < TEXT.len() * 2 / 3);
        for _ in 0..3 {
            assert_eq!(Tokenizer::bpe(&text, 290).unwrap().fingerprint(), first.fingerprint());
        }
        assert!(Tokenizer::bpe("aaaa", 1000).unwrap().vocabulary() < 1000);
        assert!(Tokenizer::bpe(&text, 255).is_err());
        // Bytes that training never saw are still tokens.
        let strange = "\u{1}\u{7f}ÿ😀";
        assert_eq!(first.decode(&first.encode(strange).unwrap()).unwrap(), strange.as_bytes());
    }

    #[test]
    fn a_text_encoded_in_pieces_has_the_tokens_of_the_whole() {
        let lines = ["one two", "", "  three\t", "four ", "\u{a0}five", "six\r", "seven 8 9's", "\u{3000}", "x"];
        let text: String = (0..60_000).map(|i| format!("{}\n", lines[(i * i + i / 7) % lines.len()])).collect();
        assert!(pieces(&text).len() > 3);
        assert_eq!(pieces(&text).concat(), text);
        let tokenizer = Tokenizer::bpe(&text, 280).unwrap();
        let Model::Bpe(bpe) = &tokenizer.model else { panic!("not BPE") };
        assert!(bpe.separable && bpe.byte_level);
        let whole = bpe.tokenizer.encode_fast(text.as_str(), false).unwrap().get_ids().to_vec();
        assert_eq!(tokenizer.encode(&text).unwrap(), whole);
    }

    #[test]
    fn damaged_files_are_refused() {
        for json in [
            "",
            "{}",
            "[1]",
            r#"{"format":"other","version":1,"kind":"byte"}"#,
            r#"{"format":"setun-tokenizer","version":2,"kind":"byte"}"#,
            r#"{"format":"setun-tokenizer","version":1,"kind":"word"}"#,
            r#"{"format":"setun-tokenizer","version":1,"kind":"character","characters":"ba"}"#,
            r#"{"format":"setun-tokenizer","version":1,"kind":"character"}"#,
        ] {
            assert_eq!(Tokenizer::from_json(json).err().unwrap().kind, ErrorKind::Format, "{json}");
        }
    }
}
