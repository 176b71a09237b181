//! Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019), and any other tokenizer.json, over the
//! `tokenizers` crate. The crate is only ever called in ways that leave rayon's global pool alone.

use crate::tensor::error::{ensure, error};
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Cancelled, Result, reserve};
use serde::Deserialize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::utils::parallelism::set_parallelism;
use tokenizers::{
    DecoderWrapper, Model, ModelWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    PreTokenizerWrapper, Tokenizer, Trainer,
};

/// Text is handed to the crate in pieces of about this many bytes: it needs some hundred bytes of memory for each.
const PIECE: usize = 1 << 16;

/// Above any tokenizer there is. The crate writes a file by counting up to the highest token.
const LARGEST: u32 = 1 << 24;

pub struct Subwords {
    inner: Tokenizer,
    vocabulary: usize,
    cut: Cut,
    /// Tokens are bytes in GPT-2's alphabet, so that each decodes by itself.
    byte_level: bool,
}

/// Where text may be cut so that its pieces encode to the same tokens as the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Before white space that follows something else.
    WhiteSpace,
    /// Before a space that follows something that is no white space.
    Space,
    /// Nowhere that is known.
    Nowhere,
}

/// What is looked at in a tokenizer.json before the crate reads it.
#[derive(Deserialize)]
struct Outline {
    model: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

impl Subwords {
    /// Learns up to `vocabulary` tokens from a text.
    ///
    /// The result does not depend on the order in which the crate's hash maps list words and pairs: counts are sums; merges
    /// are taken from a heap in the total order (count, pair); and a pair enters that heap once only, when the younger of
    /// its two tokens is made, as no two merges make the same token. Two merges that made the same string would have to
    /// divide it differently, but until it is whole, what happens inside it is the same wherever it stands.
    pub fn learn(text: &str, vocabulary: usize, cancelled: Cancelled) -> Result<Subwords> {
        ensure!(vocabulary >= 256, Argument, "a bpe vocabulary of {vocabulary} has no room for the 256 bytes");
        ensure!(!text.is_empty(), Format, "a bpe tokenizer needs text to learn from");
        // The crate counts pairs in 32 bits.
        let text = &text[..boundary(text, i32::MAX as usize)];
        set_parallelism(false);
        let pre_tokenizer = ByteLevel::new(false, true, true);
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            // Each token beyond the bytes is a pair in the text; the crate makes room for all at once.
            .vocab_size(vocabulary.min(256 + text.len()))
            .build();
        let inner = guarded("learning byte pairs", || {
            trainer.feed(pieces(text, Cut::WhiteSpace), |piece| {
                if cancelled() {
                    return Err("was cancelled".into());
                }
                let mut split = PreTokenizedString::from(piece);
                pre_tokenizer.pre_tokenize(&mut split)?;
                let words = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
                Ok(words.into_iter().map(|(word, _, _)| word.to_owned()).collect())
            })?;
            let mut model = BPE::default();
            trainer.train(&mut model)?;
            let mut tokenizer = Tokenizer::new(model);
            tokenizer.with_pre_tokenizer(Some(pre_tokenizer)).with_decoder(Some(ByteLevel::default()));
            Ok(tokenizer)
        })
        .map_err(|error| if cancelled() { error!(Cancelled, "{error}") } else { error })?;
        let subwords = Subwords::new(inner)?;
        if subwords.vocabulary < vocabulary {
            let reached = subwords.vocabulary;
            let message = format!("bpe: the text has pairs for {reached} tokens, {vocabulary} were asked for");
            log(LogLevel::Warning, message);
        }
        Ok(subwords)
    }

    pub fn from_json(json: &str) -> Result<Subwords> {
        let outline: Outline = serde_json::from_str(json).map_err(|e| error!(Format, "not a tokenizer.json: {e}"))?;
        ensure!(outline.model.is_some(), Format, "not a tokenizer: it has neither a format of ours nor a model");
        let inner: Tokenizer = guarded("reading tokenizer.json", || json.parse())?;
        // The crate numbers added tokens anew when there are gaps before them; a model made for the file would be misread.
        for Added { id, content } in &outline.added_tokens {
            let given = inner.token_to_id(content);
            let given_text = given.map_or("none".to_string(), |id| id.to_string());
            ensure!(
                given == Some(*id),
                Unsupported,
                "tokenizer.json numbers the added token {content:?} {id}, it can only be {given_text}"
            );
        }
        Subwords::new(inner)
    }

    fn new(mut inner: Tokenizer) -> Result<Subwords> {
        // A corpus is neither cut to a maximal length nor filled up to one.
        guarded("preparing a tokenizer", || inner.with_truncation(None).map(|_| ()))?;
        inner.with_padding(None);
        let mut model = inner.get_model().clone();
        // The crate's caches belong to the thread and outlive the tokenizer; they make nothing faster here.
        model.resize_cache(0);
        if let ModelWrapper::BPE(bpe) = &mut model {
            // BPE dropout (Provilkov et al. 2020) makes encoding random.
            bpe.dropout = None;
        }
        inner.with_model(model);
        let highest = inner.get_vocab(true).into_values().max();
        let highest = highest.ok_or_else(|| error!(Format, "the tokenizer has no tokens"))?;
        ensure!(highest < LARGEST, Unsupported, "the tokenizer's highest token is {highest}, the limit is {LARGEST}");
        let cut = Cut::of(&inner);
        let byte_level = matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        Ok(Subwords { inner, vocabulary: highest as usize + 1, cut, byte_level })
    }

    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    pub fn to_json(&self) -> Result<String> {
        guarded("writing tokenizer.json", || self.inner.to_string(false))
    }

    pub fn encode_blocks(&self, text: &str, sink: &mut dyn FnMut(&[u32]) -> Result<()>) -> Result<()> {
        for piece in pieces(text, self.cut) {
            let encoding = guarded("encoding", || self.inner.encode_fast(piece, false))?;
            sink(encoding.get_ids())?;
        }
        Ok(())
    }

    /// The definition that `encode_blocks` must agree with.
    #[cfg(test)]
    pub fn encode_whole(&self, text: &str) -> Vec<u32> {
        self.inner.encode_fast(text, false).unwrap().get_ids().to_vec()
    }

    /// Every token is below `vocabulary()`. A number that the file left out stands for nothing.
    pub fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>> {
        if !self.byte_level {
            return guarded("decoding", || self.inner.decode(tokens, false)).map(String::into_bytes);
        }
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let mut bytes = Vec::new();
        for token in tokens {
            let piece = match added.get(token) {
                Some(added) => added.content.clone().into_bytes(),
                None => self.inner.get_model().id_to_token(*token).map(of_byte_level).unwrap_or_default(),
            };
            reserve(&mut bytes, piece.len())?;
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

impl Cut {
    /// Known for one pipeline: no normalizer, GPT-2's pattern, added tokens that neither hold white space nor take any from
    /// beside them. The pattern is
    ///
    /// ```text
    /// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    /// ```
    ///
    /// White space after another character always begins a match, and no match before it looks beyond it.
    fn of(tokenizer: &Tokenizer) -> Cut {
        let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        let apart = added.values().all(|t| !t.lstrip && !t.rstrip && !t.content.contains(char::is_whitespace));
        match tokenizer.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::ByteLevel(split))
                if apart && split.use_regex && tokenizer.get_normalizer().is_none() =>
            {
                // A piece that does not begin with a space would be given one.
                if split.add_prefix_space { Cut::Space } else { Cut::WhiteSpace }
            }
            _ => Cut::Nowhere,
        }
    }

    /// The first place to cut from about byte `from` on, else the end.
    fn after(self, text: &str, from: usize) -> usize {
        let from = boundary(text, from);
        let here = |c: char| match self {
            Cut::WhiteSpace => c.is_whitespace(),
            Cut::Space => c == ' ',
            Cut::Nowhere => false,
        };
        let mut before = text[..from].chars().next_back();
        for (at, character) in text[from..].char_indices() {
            if here(character) && before.is_some_and(|c| !c.is_whitespace()) {
                return from + at;
            }
            before = Some(character);
        }
        text.len()
    }
}

/// `text` in pieces of `PIECE` bytes or somewhat more.
fn pieces(text: &str, cut: Cut) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = if cut == Cut::Nowhere { rest.len() } else { cut.after(rest, PIECE) };
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The last place at or before byte `at` that is between two characters.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// The bytes that a token stands for. A token with a character outside GPT-2's alphabet stands for itself.
fn of_byte_level(token: String) -> Vec<u8> {
    token.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.into_bytes())
}

/// GPT-2's alphabet: visible Latin-1 characters are their own bytes; U+0100 and on are the other bytes in turn.
fn byte_of(character: char) -> Option<u8> {
    match character as u32 {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Calls the crate. Some files that it reads make it fail, and some of those make it panic: both are FORMAT.
fn guarded<T>(what: &str, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| error!(Format, "{what}: {e}")),
        Err(_) => Err(error!(Format, "{what}: the tokenizer or the text is more than the tokenizers crate can take")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the crate's own mapping: every byte that UTF-8 can hold, through its pre-tokenizer and back.
    #[test]
    fn the_alphabet_is_the_crates() {
        let split = ByteLevel::new(false, true, false);
        let mut seen = [false; 256];
        for character in (0..=char::MAX as u32).step_by(7).chain(0..0x800).filter_map(char::from_u32) {
            let text = character.to_string();
            let mut mapped = PreTokenizedString::from(text.as_str());
            split.pre_tokenize(&mut mapped).unwrap();
            let words = mapped.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let bytes: Vec<u8> = words.iter().flat_map(|(word, _, _)| of_byte_level(word.to_string())).collect();
            assert_eq!(bytes, text.as_bytes());
            bytes.iter().for_each(|byte| seen[*byte as usize] = true);
        }
        assert_eq!(seen.iter().filter(|seen| **seen).count(), 243, "all but 13 bytes occur in UTF-8");
        let mut all: Vec<u8> = ByteLevel::alphabet().into_iter().map(|c| byte_of(c).unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn pieces_are_the_text_and_cut_where_they_may_be() {
        let mut text = String::new();
        while text.len() < 5 * PIECE {
            text.push_str("word \n\n  été\u{2003}\u{2003}x'll 12\t, ");
        }
        for (cut, least) in [(Cut::WhiteSpace, 5), (Cut::Space, 5), (Cut::Nowhere, 1)] {
            let all: Vec<&str> = pieces(&text, cut).collect();
            assert_eq!(all.concat(), text);
            assert!(all.len() >= least, "{cut:?}");
            for pair in all.windows(2) {
                assert!(!pair[0].ends_with(char::is_whitespace), "{cut:?}");
                let first = pair[1].chars().next().unwrap();
                assert!(if cut == Cut::Space { first == ' ' } else { first.is_whitespace() }, "{cut:?}");
            }
        }
        assert_eq!(pieces("", Cut::WhiteSpace).count(), 0);
        let wide = "é".repeat(PIECE);
        assert_eq!(pieces(&wide, Cut::WhiteSpace).collect::<Vec<_>>(), [wide.as_str()]);
    }
}
