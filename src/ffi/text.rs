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

use super::guard::absent;
use super::guard::{guard, guard_silent};

use super::library::setun_status;
use std::ffi::c_char;

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

/// The tokens of a text.
pub struct setun_dataset {
    _opaque: [u8; 0],
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
    guard("tokenizer_train", absent)
}

/// Reads a tokenizer from a file that `setun_tokenizer_save` wrote, from a Hugging Face tokenizer.json, or
/// from a model file that was saved with its tokenizer. Free it with `setun_tokenizer_free`. Returns
/// ARGUMENT, IO, FORMAT, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_load(path: *const c_char, out: *mut *mut setun_tokenizer) -> setun_status {
    guard("tokenizer_load", absent)
}

/// Writes the tokenizer to a JSON file; a file that is there is replaced whole or not at all. Returns
/// ARGUMENT, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_save(tokenizer: *const setun_tokenizer, path: *const c_char) -> setun_status {
    guard("tokenizer_save", absent)
}

/// Says how many tokens there are; token numbers are below it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_vocabulary(tokenizer: *const setun_tokenizer, out: *mut i64) -> setun_status {
    guard("tokenizer_vocabulary", absent)
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
    guard("tokenizer_encode", absent)
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
    guard("tokenizer_decode", absent)
}

/// Frees the tokenizer; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tokenizer_free(tokenizer: *mut setun_tokenizer) {
    guard_silent("tokenizer_free", absent)
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
    guard("dataset_open", absent)
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
    guard("dataset_from_tokens", absent)
}

/// Says how many tokens a part has. `split` is a `setun_split`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dataset_tokens(
    dataset: *const setun_dataset,
    split: i32,
    out: *mut i64,
) -> setun_status {
    guard("dataset_tokens", absent)
}

/// Writes the windows that a training step would draw: `tokens` and `targets` [batch, length], where
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
    guard("dataset_batch", absent)
}

/// Frees the data set; NULL is fine. A trainer that uses it keeps it alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dataset_free(dataset: *mut setun_dataset) {
    guard_silent("dataset_free", absent)
}
