//! One token a character.

use super::BLOCK;
use crate::tensor::error::ensure;
use crate::tensor::{Result, reserve};

/// Where the table has no token.
const NONE: u32 = u32::MAX;

pub struct Characters {
    /// The character of each token.
    characters: Vec<char>,
    /// The token of each code point, up to the largest that has one.
    tokens: Vec<u32>,
}

impl Characters {
    /// The characters of a text, in the order of their code points.
    pub fn of_text(text: &str) -> Result<Characters> {
        let mut there = vec![false; char::MAX as usize + 1];
        text.chars().for_each(|character| there[character as usize] = true);
        Characters::new((0..=char::MAX as u32).filter(|&c| there[c as usize]).filter_map(char::from_u32).collect())
    }

    /// The characters of a stored tokenizer, in its order.
    pub fn of_list(list: &str) -> Result<Characters> {
        ensure!(!list.is_empty(), Format, "the character tokenizer has no characters");
        Characters::new(list.chars().collect())
    }

    fn new(characters: Vec<char>) -> Result<Characters> {
        let largest = characters.iter().max().map_or(0, |&character| character as usize);
        let mut tokens = vec![NONE; largest + 1];
        for (token, &character) in characters.iter().enumerate() {
            let place = &mut tokens[character as usize];
            ensure!(*place == NONE, Format, "the character tokenizer has {} twice", name(character));
            *place = token as u32;
        }
        Ok(Characters { characters, tokens })
    }

    pub fn count(&self) -> usize {
        self.characters.len()
    }

    pub fn in_order(&self) -> String {
        self.characters.iter().collect()
    }

    pub fn encode_blocks(&self, text: &str, sink: &mut dyn FnMut(&[u32]) -> Result<()>) -> Result<()> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        for (at, character) in text.char_indices() {
            let token = self.tokens.get(character as usize).copied().unwrap_or(NONE);
            ensure!(
                token != NONE,
                Format,
                "{} at byte {at} is none of the tokenizer's {} characters",
                name(character),
                self.count()
            );
            block[filled] = token;
            filled += 1;
            if filled == BLOCK {
                sink(&block)?;
                filled = 0;
            }
        }
        if filled > 0 { sink(&block[..filled]) } else { Ok(()) }
    }

    /// Every token is below `count()`.
    pub fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>> {
        let characters = tokens.iter().map(|&token| self.characters[token as usize]);
        let mut bytes = Vec::new();
        reserve(&mut bytes, characters.clone().map(char::len_utf8).sum())?;
        for character in characters {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(bytes)
    }
}

/// `'ß' (U+00DF)`.
fn name(character: char) -> String {
    format!("{character:?} (U+{:04X})", character as u32)
}
