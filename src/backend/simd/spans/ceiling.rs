use super::dots::{Dots, Native, Register};
use super::vector::read;
use bytemuck::{Zeroable, cast_slice};
#[cfg(not(target_feature = "avx512f"))]
use wide::f32x8;
#[cfg(target_feature = "avx512f")]
use wide::f32x16;
use wide::i32x8;

/// The widest vector of the level, and sums in flight: enough to hide the latency of the arithmetic, few enough to stay in
/// registers. They divide the 60 vectors of eight of a round.
#[cfg(target_feature = "avx512f")]
type Floats = f32x16;
#[cfg(not(target_feature = "avx512f"))]
type Floats = f32x8;
const SUMS: usize = if cfg!(target_feature = "avx512f") {
    10
} else if cfg!(target_feature = "fma") {
    12
} else {
    5
};
const FLOATS: usize = size_of::<Floats>() / 4;

/// Multiplications and additions in a round: 60 vectors of eight.
pub const FLOAT_PEAK_ROUND: usize = 2 * 8 * 60;

pub unsafe extern "C" fn float_peak(factor: f32, rounds: usize) -> f32 {
    let (factor, term) = (Floats::splat(factor), Floats::splat(1.0 - factor));
    // Sums that differ, or the compiler would keep one for all.
    let mut sums = [Floats::ZERO; SUMS];
    for i in 0..SUMS {
        sums[i] = Floats::splat(i as f32);
    }
    for _ in 0..rounds {
        for _ in 0..8 * 60 / (FLOATS * SUMS) {
            for i in 0..SUMS {
                sums[i] = sums[i].mul_add(factor, term);
            }
        }
    }
    let mut total = Floats::ZERO;
    for i in 0..SUMS {
        total += sums[i];
    }
    total.reduce_add()
}

pub const INT8_PEAK_CODES: usize = 4096;
/// Vectors of the other factor, that every code meets.
const FACTORS: usize = 4;
/// Multiplications and additions in a round: one pass over the codes.
pub const INT8_PEAK_ROUND: usize = 2 * FACTORS * INT8_PEAK_CODES;

/// Factors and vectors of codes that meet at a time: as many as leave their sums in registers and hide a step's latency.
const TILE: usize = if cfg!(target_feature = "avx2") { 4 } else { 2 };
const VECTORS: usize = if cfg!(target_feature = "avx512f") { 4 } else { 2 };

pub unsafe extern "C" fn int8_peak(codes: *const u8, rounds: usize) -> i32 {
    type Bytes = <Native as Dots>::Bytes;
    type Sums = <Native as Dots>::Sums;
    const WIDTH: usize = <Native as Dots>::WIDTH;
    let mut total = 0i32;
    for i in 0..FACTORS / TILE {
        let mut factors = [Bytes::zeroed(); TILE];
        for j in 0..TILE {
            // Taken from the codes: a constant would let the compiler work ahead.
            factors[j] = read(codes.add(WIDTH * (i * TILE + j)));
        }
        let mut sums = [[Sums::zeroed(); VECTORS]; TILE];
        for _ in 0..rounds {
            let mut at = 0;
            while at < INT8_PEAK_CODES {
                let some: [Bytes; VECTORS] = core::array::from_fn(|v| read(codes.add(at + v * WIDTH)));
                for j in 0..TILE {
                    for v in 0..VECTORS {
                        sums[j][v] = Native::step(sums[j][v], some[v], factors[j]);
                    }
                }
                at += VECTORS * WIDTH;
            }
        }
        for j in 0..TILE {
            for v in 0..VECTORS {
                // Any bits will do: the sum keeps the work from being left out.
                let words: &[i32] = cast_slice(core::slice::from_ref(&sums[j][v]));
                total = words.iter().fold(total, |sum, &word| sum.wrapping_add(word));
            }
        }
    }
    total
}

/// Multiplications and additions in a round: four trits of each byte, once.
pub const UNPACK_PEAK_ROUND: usize = 2 * 4 * INT8_PEAK_CODES;
/// Registers of packed bytes at a time: their sums hide a step's latency.
const ROWS: usize = <Native as Dots>::ROWS;

pub unsafe extern "C" fn unpack_peak(packed: *const u8, rounds: usize) -> i32 {
    type Bytes = <Native as Dots>::Bytes;
    type Sums = <Native as Dots>::Sums;
    const WIDTH: usize = <Native as Dots>::WIDTH;
    let factors: [Bytes; 4] = core::array::from_fn(|i| read(packed.add(WIDTH * i)));
    let mut sums = [Sums::zeroed(); ROWS];
    for _ in 0..rounds {
        let mut at = 0;
        while at < INT8_PEAK_CODES {
            for r in 0..ROWS {
                let some: Bytes = read(packed.add(at + r * WIDTH));
                for i in 0..4 {
                    sums[r] = Native::step(sums[r], some.codes(i as u32), factors[i]);
                }
            }
            at += ROWS * WIDTH;
        }
    }
    let words: &[i32] = cast_slice(&sums);
    words.iter().fold(0i32, |sum, &word| sum.wrapping_add(word))
}

/// Bytes that are read at a time.
pub const READ_PEAK_BYTES: usize = 256;

pub unsafe extern "C" fn read_peak(x: *const u8, n: usize) -> i32 {
    let mut words = [i32x8::ZERO; 8];
    let mut i = 0;
    while i < n {
        let next: [i32x8; 8] = read(x.add(i));
        for j in 0..8 {
            words[j] ^= next[j];
        }
        i += READ_PEAK_BYTES;
    }
    let mut total = i32x8::ZERO;
    for j in 0..8 {
        total ^= words[j];
    }
    let mut result = 0;
    for word in total.to_array() {
        result ^= word;
    }
    result
}
