//! How build.rs packs the kernels' text; `unpack.rs` is the other side.
//!
//! Most of PTX is numbers of registers. They are taken out of the text, where a `%` and letters are followed by `NUMBER`, and kept
//! as ranks: how many registers of the kind were used since this one, and 0 for one that was not used before, whose number is
//! the next. (Registers used lately are used again.) Text and ranks are compressed by themselves: a third of what the text
//! alone takes.
//!
//! u32 little endian: bytes of the PTX, of the text and of the ranks, bytes of the text compressed; text and ranks by DEFLATE
//! (RFC 1951). A rank is 7 bits a byte, the lowest first, the eighth says that more follow.

use miniz_oxide::deflate::compress_to_vec;

/// Stands for a register's number.
const NUMBER: u8 = 1;

/// None if a register's number is not the next of its kind.
pub fn pack(ptx: &str) -> Option<Vec<u8>> {
    let (mut text, mut ranks) = (Vec::new(), Vec::new());
    // The kinds of registers of the kernel at hand, with their numbers, the one used last at the end.
    let mut kinds: Vec<(&str, Vec<u32>)> = Vec::new();
    let mut rest = ptx;
    while let Some(at) = rest.find('%') {
        let after = &rest[at + 1..];
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (kind, number) = after.split_at(letters);
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        text.extend(&rest.as_bytes()[..at + 1 + letters]);
        rest = &number[digits..];
        if digits == 0 && rest.starts_with('<') {
            kinds.retain(|(known, _)| *known != kind);
            kinds.push((kind, Vec::new()));
        }
        let (number, Some((_, used))) = (&number[..digits], kinds.iter_mut().find(|(known, _)| *known == kind)) else {
            text.extend(&number.as_bytes()[..digits]);
            continue;
        };
        if digits == 0 {
            continue;
        }
        text.push(NUMBER);
        let number: u32 = number.parse().ok()?;
        let mut rank = match used.iter().rev().position(|&other| other == number) {
            Some(since) => {
                used.remove(used.len() - 1 - since);
                since + 1
            }
            None if number as usize == used.len() + 1 => 0,
            None => return None,
        };
        used.push(number);
        while rank >= 128 {
            ranks.push(rank as u8 | 128);
            rank >>= 7;
        }
        ranks.push(rank as u8);
    }
    text.extend(rest.as_bytes());
    let (short, short_ranks) = (compress_to_vec(&text, 10), compress_to_vec(&ranks, 10));
    let sizes = [ptx.len(), text.len(), ranks.len(), short.len()];
    let mut packed: Vec<u8> = sizes.iter().flat_map(|&size| (size as u32).to_le_bytes()).collect();
    packed.extend(short);
    packed.extend(short_ranks);
    Some(packed)
}
