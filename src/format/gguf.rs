//! The two ternary block types of GGUF, TQ1_0 and TQ2_0: 256 weights and one f16 scale in 54 and 66 bytes, bit for bit as the
//! reference writer has them (gguf-py, quants.py; the types are those of ggml-quants.c).
//!
//! A block's scale is s = max |w|, stored as the nearest f16; its trits are w * (1 / s), all in f32, rounded half away from
//! zero. So weights that are trits times a scale keep their trits, and lose of the scale what an f16 has not.
//!
//! ```text
//! TQ2_0   code of weight 128 h + 32 i + j, j < 32, at bits 2 i of byte 32 h + j                      64 bytes, then s
//! TQ1_0   a byte stands for a number v of five digits in base 3, most significant first, by ceil(256 v / 243): the next
//!         digit is then the upper byte of 3 * byte, whose lower byte has the rest
//!         weights   0 .. 160: digit i of byte j is weight 32 i + j,       j < 32
//!         weights 160 .. 240: digit i of byte 32 + j is 160 + 16 i + j,   j < 16
//!         weights 240 .. 256: digit i of byte 48 + j is 240 + 4 i + j,    j < 4, i < 4, the fifth digit is 0      then s
//! ```
//!
//! Codes and digits are t + 1.

use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use half::f16;

/// Weights of a block.
pub const BLOCK: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockType {
    Tq1_0,
    Tq2_0,
}

impl BlockType {
    pub const fn name(self) -> &'static str {
        match self {
            BlockType::Tq1_0 => "TQ1_0",
            BlockType::Tq2_0 => "TQ2_0",
        }
    }

    /// The bytes of a block before its scale.
    const fn trit_bytes(self) -> usize {
        match self {
            BlockType::Tq1_0 => 52,
            BlockType::Tq2_0 => 64,
        }
    }

    /// The bytes of a block.
    pub const fn bytes(self) -> usize {
        self.trit_bytes() + 2
    }

    /// The bytes of `count` weights, whole blocks of them.
    pub fn size(self, count: usize) -> Result<usize> {
        ensure!(count.is_multiple_of(BLOCK), Shape, "count is {count}, expected a multiple of {BLOCK}");
        (count / BLOCK)
            .checked_mul(self.bytes())
            .ok_or_else(|| error!(Shape, "count is {count}, more bytes than the machine can address"))
    }
}

/// Digits of TQ1_0: (weights that lie side by side, digits of a byte) of its three parts, which follow one another.
const PARTS: [(usize, usize); 3] = [(32, 5), (16, 5), (4, 4)];

/// Fails with ARGUMENT on a weight that is not finite or that rounds to no finite f16, naming the first; then nothing is
/// written. `blocks` has the size of `weights`.
pub fn encode(kind: BlockType, weights: &[f32], blocks: &mut [u8]) -> Result<()> {
    check_sizes(kind, weights.len(), blocks.len())?;
    let unfit = weights.iter().position(|&w| !f16::from_f32(w.abs()).is_finite());
    if let Some(i) = unfit {
        let w = weights[i];
        ensure!(w.is_finite(), Argument, "weights: element {i} is {w}, expected a finite number");
        return Err(error!(Argument, "weights: element {i} is {w}, and the scale of a block is at most {}", f16::MAX));
    }
    for (weights, block) in weights.chunks_exact(BLOCK).zip(blocks.chunks_exact_mut(kind.bytes())) {
        let scale = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
        // Below 2^-128 the reciprocal is no f32, and the f16 is 0: the weights are.
        let inverse = 1.0 / scale;
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        let codes: [u8; BLOCK] = std::array::from_fn(|i| {
            let x = weights[i] * inverse;
            1 + u8::from(x >= 0.5) - u8::from(x <= -0.5)
        });
        let (trits, tail) = block.split_at_mut(kind.trit_bytes());
        match kind {
            BlockType::Tq1_0 => write_digits(&codes, trits),
            BlockType::Tq2_0 => write_codes(&codes, trits),
        }
        tail.copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    }
    Ok(())
}

/// Fails with FORMAT on bytes that no writer makes, naming the first: the code 3, a byte of TQ1_0 that stands for no number, a
/// fifth digit that is no weight's, a scale that is not finite. Then nothing is written.
pub fn decode(kind: BlockType, blocks: &[u8], weights: &mut [f32]) -> Result<()> {
    check_sizes(kind, weights.len(), blocks.len())?;
    for (i, block) in blocks.chunks_exact(kind.bytes()).enumerate() {
        check(kind, block).map_err(|e| e.within(format_args!("blocks: block {i}")))?;
    }
    for (block, weights) in blocks.chunks_exact(kind.bytes()).zip(weights.chunks_exact_mut(BLOCK)) {
        let mut codes = [0; BLOCK];
        match kind {
            BlockType::Tq1_0 => read_digits(block, &mut codes),
            BlockType::Tq2_0 => read_codes(block, &mut codes),
        }
        let scale = scale(kind, block);
        weights.iter_mut().zip(codes).for_each(|(w, code)| *w = scale * (f32::from(code) - 1.0));
    }
    Ok(())
}

fn check_sizes(kind: BlockType, count: usize, bytes: usize) -> Result<()> {
    let expected = kind.size(count)?;
    ensure!(bytes == expected, Shape, "blocks has {bytes} bytes, {count} weights in {} take {expected}", kind.name());
    Ok(())
}

fn check(kind: BlockType, block: &[u8]) -> Result<()> {
    let trits = &block[..kind.trit_bytes()];
    let broken = trits.iter().enumerate().position(|(i, &byte)| match kind {
        BlockType::Tq2_0 => byte & byte >> 1 & 0x55 != 0,
        // 256 v / 243 rounded up, and v back by rounding down; the last four bytes have no fifth digit.
        BlockType::Tq1_0 => {
            let v = number_of(byte);
            byte_of(v) != byte || i >= 48 && !v.is_multiple_of(3)
        }
    });
    if let Some(i) = broken {
        return Err(error!(Format, "byte {i} is {}, which no trits have in {}", trits[i], kind.name()));
    }
    let scale = scale(kind, block);
    ensure!(scale.is_finite(), Format, "the scale is {scale}");
    Ok(())
}

fn scale(kind: BlockType, block: &[u8]) -> f32 {
    let at = kind.trit_bytes();
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Of a number below 243.
fn byte_of(v: u16) -> u8 {
    (v * 256).div_ceil(243) as u8
}

/// The inverse: 243 byte / 256 rounded down.
fn number_of(byte: u8) -> u16 {
    u16::from(byte) * 243 / 256
}

fn write_digits(codes: &[u8; BLOCK], trits: &mut [u8]) {
    let (mut codes, mut trits) = (&codes[..], trits);
    for (width, digits) in PARTS {
        let (mine, rest) = codes.split_at(width * digits);
        let (bytes, other) = trits.split_at_mut(width);
        for (j, byte) in bytes.iter_mut().enumerate() {
            let v = (0..5).fold(0, |v, i| 3 * v + if i < digits { u16::from(mine[i * width + j]) } else { 0 });
            *byte = byte_of(v);
        }
        (codes, trits) = (rest, other);
    }
}

fn read_digits(block: &[u8], codes: &mut [u8; BLOCK]) {
    let (mut codes, mut trits) = (&mut codes[..], block);
    for (width, digits) in PARTS {
        let (mine, rest) = codes.split_at_mut(width * digits);
        let (bytes, other) = trits.split_at(width);
        for (j, &byte) in bytes.iter().enumerate() {
            let mut rest = byte;
            for i in 0..digits {
                let next = 3 * u16::from(rest);
                mine[i * width + j] = (next >> 8) as u8;
                rest = next as u8;
            }
        }
        (codes, trits) = (rest, other);
    }
}

fn write_codes(codes: &[u8; BLOCK], trits: &mut [u8]) {
    for (codes, trits) in codes.chunks_exact(128).zip(trits.chunks_exact_mut(32)) {
        for (j, byte) in trits.iter_mut().enumerate() {
            *byte = (0..4).fold(0, |byte, i| byte | codes[32 * i + j] << (2 * i));
        }
    }
}

fn read_codes(block: &[u8], codes: &mut [u8; BLOCK]) {
    for (codes, trits) in codes.chunks_exact_mut(128).zip(block.chunks_exact(32)) {
        for (j, byte) in trits.iter().enumerate() {
            (0..4).for_each(|i| codes[32 * i + j] = byte >> (2 * i) & 3);
        }
    }
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
mod tests;
