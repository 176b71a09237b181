//! TEXT: tokenizers and data sets
//!
//! A tokenizer turns text into token numbers and back; a data set holds the tokens of a text, cut once into
//! a training and a validation part. Three kinds: `byte` (256 tokens, any text), `character` (one token for
//! each character that the training text has) and `bpe` (byte-level byte-pair encoding; its file is a
//! Hugging Face tokenizer.json, and any such file loads). All calls that read a path take one UTF-8 file,
//! or a folder: then its files in the order of their paths, without hidden files, links, and files that are
//! not text. Both kinds of handle may be used by several threads at once.
//!
//!     setun_tokenizer *tokenizer = NULL;
//!     setun_dataset *dataset = NULL;
//!     setun_tokenizer_train(SETUN_TOKENIZER_CHARACTER, "corpus.txt", 0, &tokenizer);
//!     setun_dataset_open("corpus.txt", tokenizer, 0.1, &dataset);
//!     setun_tokenizer_save(tokenizer, "tokenizer.json");
//!     setun_tokenizer_encode(tokenizer, "to be", 5, tokens, 16, &count);

use super::arguments::{self, check_apart, check_pointer, count, extent, one_of, size, slice, slice_mut, store};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Result, never, vec_zeroed};
use crate::train::{Dataset, Split, Tokenizer, TokenizerKind, read_text};
use std::ffi::c_char;
use std::sync::Arc;

/// cbindgen:rename-all=ScreamingSnakeCase
/// How text becomes tokens.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_tokenizer_kind {
    /// One token a byte, 256 in all.
    SetunTokenizerByte = 0,
    /// One token a character, those of the training text, in the order of their code points.
    SetunTokenizerCharacter = 1,
    /// Byte-level byte-pair encoding.
    SetunTokenizerBpe = 2,
}

/// The parts of a data set.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_split {
    /// The first tokens of the text.
    Train = 0,
    /// The last ones, which training never sees.
    Validation = 1,
}

/// Text to tokens and back.
pub struct setun_tokenizer {
    _opaque: [u8; 0],
}

impl Handle for setun_tokenizer {
    type Object = Arc<Tokenizer>;
    const NAME: &'static str = "setun_tokenizer";
}

/// The tokens of a text.
pub struct setun_dataset {
    _opaque: [u8; 0],
}

impl Handle for setun_dataset {
    type Object = Arc<Dataset>;
    const NAME: &'static str = "setun_dataset";
}

pub fn tokenizer_kind(value: i32, name: &str) -> Result<TokenizerKind> {
    let kinds = [
        (setun_tokenizer_kind::SetunTokenizerByte as i32, "byte", TokenizerKind::Byte),
        (setun_tokenizer_kind::SetunTokenizerCharacter as i32, "character", TokenizerKind::Character),
        (setun_tokenizer_kind::SetunTokenizerBpe as i32, "bpe", TokenizerKind::Bpe),
    ];
    one_of(value, name, &kinds)
}

/// How many tokens byte-pair encoding is to learn; the other kinds ignore the number, if it is one.
pub fn tokenizer_vocabulary(kind: TokenizerKind, vocabulary: i64) -> Result<usize> {
    let vocabulary = size(vocabulary, "vocabulary")?;
    match kind {
        TokenizerKind::Byte | TokenizerKind::Character => Ok(0),
        TokenizerKind::Bpe => Ok(vocabulary),
    }
}

fn encode(tokenizer: &Tokenizer, text: &[u8]) -> Result<Vec<u32>> {
    if tokenizer.kind() == TokenizerKind::Byte {
        // Any bytes, UTF-8 or not: they are the tokens.
        let mut tokens = vec_zeroed::<u32>(text.len())?;
        tokens.iter_mut().zip(text).for_each(|(token, &byte)| *token = u32::from(byte));
        return Ok(tokens);
    }
    let text = str::from_utf8(text).map_err(|e| error!(Argument, "text is not UTF-8 at byte {}", e.valid_up_to()))?;
    tokenizer.encode(text)
}

/// ARGUMENT, naming the first token that is not below the vocabulary.
pub fn check_tokens(tokens: &[u32], vocabulary: usize, name: &str) -> Result<()> {
    match tokens.iter().position(|&token| token as usize >= vocabulary) {
        None => Ok(()),
        Some(index) => Err(error!(Argument, "{name}[{index}] is {}, the vocabulary is {vocabulary}", tokens[index])),
    }
}

fn split(value: i32) -> Result<Split> {
    let splits = [
        (setun_split::Train as i32, "train", Split::Train),
        (setun_split::Validation as i32, "validation", Split::Validation),
    ];
    one_of(value, "split", &splits)
}

/// Makes a tokenizer for the text at `path`, a file or a folder. Free it with `setun_tokenizer_free`.
///
/// `kind` is a `setun_tokenizer_kind`: BYTE reads no text (`path` may be NULL), BPE learns `vocabulary`
/// tokens, at least 256 and fewer when the text has no more pairs to merge; the other kinds ignore
/// `vocabulary`. The same text gives the same tokenizer. Returns ARGUMENT, IO, FORMAT (not UTF-8, no text
/// at all), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_train(
    kind: i32,
    path: *const c_char,
    vocabulary: i64,
    out: *mut *mut setun_tokenizer,
) -> setun_status {
    guard("tokenizer_train", || {
        check_pointer(out, "out")?;
        let kind = tokenizer_kind(kind, "kind")?;
        let vocabulary = tokenizer_vocabulary(kind, vocabulary)?;
        let text = match kind {
            TokenizerKind::Byte => String::new(),
            // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
            _ => read_text(unsafe { arguments::path(path, "path") }?, &never)?,
        };
        let tokenizer = Tokenizer::train(kind, &text, vocabulary, &never)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, Arc::new(tokenizer)) }
    })
}

/// Reads a tokenizer from a file that `setun_tokenizer_save` wrote, from a Hugging Face tokenizer.json, or
/// from a model file that was saved with its tokenizer. Free it with `setun_tokenizer_free`. Returns
/// ARGUMENT, IO, FORMAT, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_load(path: *const c_char, out: *mut *mut setun_tokenizer) -> setun_status {
    guard("tokenizer_load", || {
        check_pointer(out, "out")?;
        // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
        let tokenizer = Tokenizer::load(unsafe { arguments::path(path, "path") }?)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, Arc::new(tokenizer)) }
    })
}

/// Writes the tokenizer to a JSON file; a file that is there is replaced whole or not at all. Returns
/// ARGUMENT, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_save(tokenizer: *const setun_tokenizer, path: *const c_char) -> setun_status {
    guard("tokenizer_save", || {
        let tokenizer = handle::shared(tokenizer, "tokenizer")?;
        // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
        tokenizer.save(unsafe { arguments::path(path, "path") }?)
    })
}

/// Says how many tokens there are; token numbers are below it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_vocabulary(tokenizer: *const setun_tokenizer, out: *mut i64) -> setun_status {
    guard("tokenizer_vocabulary", || {
        let vocabulary = handle::shared(tokenizer, "tokenizer")?.vocabulary();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, vocabulary as i64, "out") }
    })
}

/// Encodes `text`, `bytes` bytes of UTF-8 (any bytes with a BYTE tokenizer; a NUL is a character like
/// others), into `tokens`, which has room for `capacity`, and writes how many there are to `count`.
///
/// `tokens` NULL with capacity 0 only counts. When the room is too small: ARGUMENT, `count` says how much
/// is needed and `tokens` stays untouched. Returns also FORMAT (a character that a CHARACTER tokenizer does
/// not know, with its byte offset), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_encode(
    tokenizer: *const setun_tokenizer,
    text: *const c_char,
    bytes: usize,
    tokens: *mut u32,
    capacity: i64,
    count: *mut i64,
) -> setun_status {
    guard("tokenizer_encode", || {
        let tokenizer = handle::shared(tokenizer, "tokenizer")?;
        let room = size(capacity, "capacity")?;
        arguments::bytes(bytes, "bytes")?;
        arguments::count::<u32>(&[room], "capacity")?;
        check_pointer(count, "count")?;
        check_apart(&[extent("tokens", tokens, room), extent("count", count, 1)], &[extent("text", text, bytes)])?;
        // SAFETY: NULL and overlap are checked; `bytes` readable bytes are the caller's contract.
        let text = unsafe { slice(text.cast::<u8>(), bytes, "text") }?;
        let encoded = encode(&tokenizer, text)?;
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { store(count, encoded.len() as i64, "count") }?;
        if room == 0 && tokens.is_null() {
            return Ok(());
        }
        ensure!(encoded.len() <= room, Argument, "capacity is {room}, the text has {} tokens", encoded.len());
        // SAFETY: NULL, alignment and overlap are checked; room for `capacity` tokens is the caller's contract.
        unsafe { slice_mut(tokens, encoded.len(), "tokens") }?.copy_from_slice(&encoded);
        Ok(())
    })
}

/// Decodes `count` tokens into `text`, which has room for `capacity` bytes, and writes the number of bytes
/// to `bytes`. No NUL is added, and the bytes may end inside a UTF-8 character: tokens may be parts of one.
///
/// `text` NULL with capacity 0 only counts. When the room is too small: ARGUMENT, `bytes` says how much is
/// needed and `text` stays untouched. Returns also ARGUMENT for a token that is not below the vocabulary,
/// naming it, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_decode(
    tokenizer: *const setun_tokenizer,
    tokens: *const u32,
    count: i64,
    text: *mut c_char,
    capacity: usize,
    bytes: *mut usize,
) -> setun_status {
    guard("tokenizer_decode", || {
        let tokenizer = handle::shared(tokenizer, "tokenizer")?;
        let count = size(count, "count")?;
        arguments::bytes(capacity, "capacity")?;
        check_pointer(bytes, "bytes")?;
        check_apart(&[extent("text", text, capacity), extent("bytes", bytes, 1)], &[extent("tokens", tokens, count)])?;
        // SAFETY: NULL, alignment and overlap are checked; `count` tokens are the caller's contract.
        let tokens = unsafe { slice(tokens, count, "tokens") }?;
        check_tokens(tokens, tokenizer.vocabulary(), "tokens")?;
        let decoded = tokenizer.decode(tokens)?;
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { store(bytes, decoded.len(), "bytes") }?;
        if capacity == 0 && text.is_null() {
            return Ok(());
        }
        ensure!(decoded.len() <= capacity, Argument, "capacity is {capacity}, the text has {} bytes", decoded.len());
        // SAFETY: NULL and overlap are checked; room for `capacity` bytes is the caller's contract.
        unsafe { slice_mut(text.cast::<u8>(), decoded.len(), "text") }?.copy_from_slice(&decoded);
        Ok(())
    })
}

/// Frees the tokenizer; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_free(tokenizer: *mut setun_tokenizer) {
    guard_silent("tokenizer_free", || handle::free(tokenizer));
}

/// Reads and encodes the text at `path`, a file or a folder; the last `validation_fraction` of the tokens
/// (0 to below 1) are the validation part. The tokenizer is not kept. Free it with `setun_dataset_free`.
/// Returns ARGUMENT, IO, FORMAT, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dataset_open(
    path: *const c_char,
    tokenizer: *const setun_tokenizer,
    validation_fraction: f64,
    out: *mut *mut setun_dataset,
) -> setun_status {
    guard("dataset_open", || {
        check_pointer(out, "out")?;
        let tokenizer = handle::shared(tokenizer, "tokenizer")?;
        // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
        let text = read_text(unsafe { arguments::path(path, "path") }?, &never)?;
        let dataset = Dataset::from_text(&text, &tokenizer, validation_fraction, &never)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, Arc::new(dataset)) }
    })
}

/// Makes a data set of `count` tokens of yours, which are copied; every one is below `vocabulary`. Free it
/// with `setun_dataset_free`. Returns ARGUMENT (a token too large, naming it), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dataset_from_tokens(
    tokens: *const u32,
    count: i64,
    vocabulary: i64,
    validation_fraction: f64,
    out: *mut *mut setun_dataset,
) -> setun_status {
    guard("dataset_from_tokens", || {
        check_pointer(out, "out")?;
        let vocabulary = size(vocabulary, "vocabulary")?;
        // SAFETY: NULL and alignment are checked; `count` tokens are the caller's contract.
        let tokens = unsafe { slice(tokens, size(count, "count")?, "tokens") }?;
        check_tokens(tokens, vocabulary, "tokens")?;
        let mut copy = vec_zeroed::<u32>(tokens.len())?;
        copy.copy_from_slice(tokens);
        let dataset = Dataset::from_tokens(copy, vocabulary, validation_fraction)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, Arc::new(dataset)) }
    })
}

/// Says how many tokens a part has. `split` is a `setun_split`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dataset_tokens(
    dataset: *const setun_dataset,
    split: i32,
    out: *mut i64,
) -> setun_status {
    guard("dataset_tokens", || {
        let tokens = handle::shared(dataset, "dataset")?.tokens(self::split(split)?).len();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, tokens as i64, "out") }
    })
}

/// Writes the windows that a training step without clusters would draw: `tokens` and `targets` [batch, length], where
/// targets are the tokens one place further. The starts are random numbers of (seed, step): the same call
/// gives the same batch. Returns ARGUMENT, SHAPE (the part has no more than `length` tokens; says how many
/// there are).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dataset_batch(
    dataset: *const setun_dataset,
    split: i32,
    seed: u64,
    step: u64,
    batch: i64,
    length: i64,
    tokens: *mut u32,
    targets: *mut u32,
) -> setun_status {
    guard("dataset_batch", || {
        let dataset = handle::shared(dataset, "dataset")?;
        let split = self::split(split)?;
        let step =
            u32::try_from(step).map_err(|_| error!(Argument, "step is {step}, expected at most {}", u32::MAX))?;
        let (batch, length) = (size(batch, "batch")?, size(length, "length")?);
        let count = count::<u32>(&[batch, length], "tokens")?;
        check_apart(&[extent("tokens", tokens, count), extent("targets", targets, count)], &[])?;
        // SAFETY: NULL, alignment and overlap are checked; the room is the caller's contract.
        let (tokens, targets) = unsafe { (slice_mut(tokens, count, "tokens")?, slice_mut(targets, count, "targets")?) };
        dataset.batch(split, Stream::new(seed, Purpose::Batch, step, 0), batch, length, tokens, targets)
    })
}

/// Frees the data set; NULL is fine. A trainer that uses it keeps it alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dataset_free(dataset: *mut setun_dataset) {
    guard_silent("dataset_free", || handle::free(dataset));
}
