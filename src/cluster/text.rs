//! Words and windows of a text that is bytes: UTF-8, with whatever else may be in it.
//!
//! A word is a maximal run of letters and digits of any script (`char::is_alphanumeric`); all other characters separate words,
//! and so do bytes that are no UTF-8. Its hash is the XXH3-64 of its UTF-8 bytes with the seed; of a word of more than 256 bytes
//! each 256 bytes give the seed for those that follow.

use super::tfidf::{Terms, mix};
use crate::tensor::error::ensure;
use crate::tensor::{Cancelled, Result};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of a word that are hashed at once.
const LONG: usize = 256;
/// Bytes between two looks at whether to go on.
const PATIENCE: usize = 1 << 20;

#[derive(Clone, Copy)]
pub struct WordOptions {
    pub seed: u64,
    pub lowercase: bool,
    /// Pairs of neighbours are terms as well.
    pub pairs: bool,
}

/// Documents that are parts of one text.
pub struct Documents<'a> {
    text: &'a [u8],
    begins: &'a [i64],
    ends: &'a [i64],
    options: WordOptions,
}

impl<'a> Documents<'a> {
    /// Document i is `text[begins[i]..ends[i]]`; ARGUMENT, naming it, for one that is not a part of the text.
    pub fn new(text: &'a [u8], begins: &'a [i64], ends: &'a [i64], options: WordOptions) -> Result<Documents<'a>> {
        for (i, (&begin, &end)) in begins.iter().zip(ends).enumerate() {
            let there = 0 <= begin && begin <= end && end as u64 <= text.len() as u64;
            ensure!(there, Argument, "document {i} is from {begin} to {end}, the text has {} bytes", text.len());
        }
        Ok(Documents { text, begins, ends, options })
    }

    fn document(&self, i: usize) -> &[u8] {
        &self.text[self.begins[i] as usize..self.ends[i] as usize]
    }
}

impl Terms for Documents<'_> {
    fn count(&self) -> usize {
        self.begins.len()
    }

    fn bytes(&self) -> usize {
        (0..self.count()).fold(0, |sum: usize, i| sum.saturating_add(self.document(i).len()))
    }

    fn each(&self, document: usize, cancelled: Cancelled, term: &mut dyn FnMut(u64)) {
        let mut before = None;
        words(self.document(document), self.options, cancelled, |word| {
            term(word);
            if let Some(before) = before.filter(|_| self.options.pairs) {
                term(mix(mix(before) ^ word));
            }
            before = Some(word);
        });
    }
}

/// Calls `word` with the hash of each word, in their order.
fn words(text: &[u8], options: WordOptions, cancelled: Cancelled, mut word: impl FnMut(u64)) {
    let mut hash =
        WordHash { first_seed: options.seed, seed: options.seed, bytes: [0; LONG], filled: 0, inside: false };
    let mut at = 0;
    while at < text.len() && !cancelled() {
        let stop = text.len().min(at + PATIENCE);
        while at < stop {
            let byte = text[at];
            if byte.is_ascii() {
                at += 1;
                match byte.is_ascii_alphanumeric() {
                    true if options.lowercase => hash.push(byte.to_ascii_lowercase()),
                    true => hash.push(byte),
                    false => hash.end(&mut word),
                }
                continue;
            }
            let (character, length) = decode(&text[at..]);
            match character.filter(|character| character.is_alphanumeric()) {
                Some(character) if options.lowercase => {
                    character
                        .to_lowercase()
                        .for_each(|c| c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| hash.push(b)));
                }
                Some(_) => text[at..][..length].iter().for_each(|&byte| hash.push(byte)),
                None => hash.end(&mut word),
            }
            at += length;
        }
    }
    hash.end(&mut word);
}

/// The hash of a word that comes byte by byte.
struct WordHash {
    first_seed: u64,
    seed: u64,
    bytes: [u8; LONG],
    filled: usize,
    inside: bool,
}

impl WordHash {
    fn push(&mut self, byte: u8) {
        if self.filled == LONG {
            (self.seed, self.filled) = (xxh3_64_with_seed(&self.bytes, self.seed), 0);
        }
        self.bytes[self.filled] = byte;
        (self.filled, self.inside) = (self.filled + 1, true);
    }

    /// Hands over the word, if there is one.
    fn end(&mut self, word: &mut impl FnMut(u64)) {
        if self.inside {
            word(xxh3_64_with_seed(&self.bytes[..self.filled], self.seed));
            (self.seed, self.filled, self.inside) = (self.first_seed, 0, false);
        }
    }
}

/// The character that the text, which is not empty, begins with, and its bytes; None and 1 for a byte that is no UTF-8.
fn decode(text: &[u8]) -> (Option<char>, usize) {
    let length = match text[0] {
        0..0x80 => 1,
        0x80..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0.. => 4,
    };
    let first = text.get(..length).and_then(|bytes| str::from_utf8(bytes).ok()).and_then(|text| text.chars().next());
    (first, if first.is_some() { length } else { 1 })
}

/// Calls `each` with begin and end of each window: those from `start` to `start + window` for starts at multiples of `stride`,
/// with both moved on to where the next word begins. Windows without a byte are left out; of those that begin at the same word
/// the last one stays, so that with strides up to the window everything is in one. The first one to reach the end is the last.
pub fn windows(text: &[u8], window: usize, stride: usize, each: &mut dyn FnMut(usize, usize)) {
    let (mut begins, mut ends) = (Cuts { text, last: 0 }, Cuts { text, last: 0 });
    let mut found: Option<(usize, usize)> = None;
    let mut start = 0;
    while start < text.len() {
        let (begin, end) = (begins.at(start), ends.at(start.saturating_add(window)));
        if begin < end {
            if let Some((earlier, end)) = found.filter(|(earlier, _)| *earlier < begin) {
                each(earlier, end);
            }
            found = Some((begin, end));
        }
        if end == text.len() {
            break;
        }
        start = start.saturating_add(stride);
    }
    if let Some((begin, end)) = found {
        each(begin, end);
    }
}

/// Where a text may be cut. Places are asked for in ascending order; words longer than the steps between them are read once.
struct Cuts<'a> {
    text: &'a [u8],
    last: usize,
}

impl Cuts<'_> {
    /// The first word that begins at `place` or after it; 0 for 0, the end of the text where there is none.
    fn at(&mut self, place: usize) -> usize {
        if place > self.last {
            self.last = self.next_word(place);
        }
        self.last
    }

    fn next_word(&self, place: usize) -> usize {
        let text = self.text;
        if place >= text.len() {
            return text.len();
        }
        // Back to where a character begins, before `place`: it has at most three bytes after its first.
        let mut at = place - 1;
        while at > 0 && at + 4 > place && text[at] & 0xC0 == 0x80 {
            at -= 1;
        }
        let mut inside = false;
        while at < text.len() {
            let (character, length) = decode(&text[at..]);
            let word = character.is_some_and(char::is_alphanumeric);
            if at >= place && word && !inside {
                return at;
            }
            (inside, at) = (word, at + length);
        }
        text.len()
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
