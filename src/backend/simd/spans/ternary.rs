//! Packed trits: to weights with one scale, and the two packings into each other. How they come from weights: `scheme.rs`.

use super::vector::{narrow_unsigned, read, store, to_float, write};
use bytemuck::cast;
use wide::{f32x8, i8x32, i32x8, u8x32, u16x16, u32x8};

pub unsafe extern "C" fn deternarize(packed: *const u8, n: usize, scale: f32, w: *mut f32) {
    let scales = f32x8::splat(scale);
    let mut i = 0;
    while i + 16 <= n {
        let codes = i32x8::splat(read(packed.add(i / 4)));
        store(w.add(i), eight_trits(codes) * scales);
        store(w.add(i + 8), eight_trits(codes >> 16u32) * scales);
        i += 16;
    }
    while i < n {
        let code = *packed.add(i / 4) >> (2 * (i % 4)) & 3;
        *w.add(i) = scale * (f32::from(code) - 1.0);
        i += 1;
    }
}

/// Trit i of the eight in the low 16 bits of lane i. A variable shift is slow below AVX2; instead each lane keeps its code in
/// place, 4^i too large, and the exact product with 4^-i corrects it.
#[inline(always)]
pub fn eight_trits(codes: i32x8) -> f32x8 {
    let mask = i32x8::new([3, 3 << 2, 3 << 4, 3 << 6, 3 << 8, 3 << 10, 3 << 12, 3 << 14]);
    let factor =
        f32x8::new([1.0, 1.0 / 4.0, 1.0 / 16.0, 1.0 / 64.0, 1.0 / 256.0, 1.0 / 1024.0, 1.0 / 4096.0, 1.0 / 16384.0]);
    to_float(codes & mask) * factor - f32x8::splat(1.0)
}

/// Codes of 1: what stands where there are no columns.
const ONES: u64 = 0x5555_5555_5555_5555;

/// For five 2-bit codes the byte sum of c_i * 3^i. (Codes of 3 make some byte; the caller has excluded them.)
static FIVE: [u8; 1024] = {
    let mut table = [0; 1024];
    let mut codes = 0;
    while codes < 1024 {
        let c = [codes & 3, codes >> 2 & 3, codes >> 4 & 3, codes >> 6 & 3, codes >> 8 & 3];
        table[codes] = (c[0] + 3 * c[1] + 9 * c[2] + 27 * c[3] + 81 * c[4]) as u8;
        codes += 1;
    }
    table
};

/// The inverse: for a byte below 243 its five 2-bit codes.
static CODES: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 243 {
        let b = byte as u16;
        table[byte] = (b % 3) | (b / 3 % 3) << 2 | (b / 9 % 3) << 4 | (b / 27 % 3) << 6 | (b / 81) << 8;
        byte += 1;
    }
    table
};

/// Twenty trits are five bytes at two bits and four at five trits.
pub unsafe extern "C" fn pack_five(packed: *const u8, n: usize, five: *mut u8) {
    let mut i = 0;
    while i + 20 <= n {
        let codes = u64::from(read::<u32, u8>(packed.add(i / 4))) | u64::from(*packed.add(i / 4 + 4)) << 32;
        write(five.add(i / 5), four_bytes(codes));
        i += 20;
    }
    if i < n {
        let left = n - i;
        let mut codes = 0;
        for j in 0..left.div_ceil(4) {
            codes |= u64::from(*packed.add(i / 4 + j)) << (8 * j);
        }
        let bytes = four_bytes(padded(codes, left));
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), five.add(i / 5), left.div_ceil(5));
    }
}

#[inline(always)]
fn four_bytes(codes: u64) -> [u8; 4] {
    [0, 10, 20, 30].map(|shift| FIVE[(codes >> shift & 1023) as usize])
}

pub unsafe extern "C" fn unpack_five(five: *const u8, n: usize, packed: *mut u8) {
    let mut i = 0;
    while i + 20 <= n {
        let codes = twenty_codes(read(five.add(i / 5)));
        write(packed.add(i / 4), codes as u32);
        *packed.add(i / 4 + 4) = (codes >> 32) as u8;
        i += 20;
    }
    if i < n {
        let left = n - i;
        let mut bytes = [0; 4];
        core::ptr::copy_nonoverlapping(five.add(i / 5), bytes.as_mut_ptr(), left.div_ceil(5));
        let codes = padded(twenty_codes(bytes), left).to_le_bytes();
        core::ptr::copy_nonoverlapping(codes.as_ptr(), packed.add(i / 4), left.div_ceil(4));
    }
}

#[inline(always)]
fn twenty_codes(bytes: [u8; 4]) -> u64 {
    let [a, b, c, d] = bytes.map(|byte| u64::from(CODES[usize::from(byte)]));
    a | b << 10 | c << 20 | d << 30
}

/// The first `left` codes (below 20), with ones after them.
#[inline(always)]
fn padded(codes: u64, left: usize) -> u64 {
    let kept = (1 << (2 * left)) - 1;
    codes & kept | ONES & !kept
}

pub unsafe extern "C" fn holds_code_three(packed: *const u8, n: usize) -> bool {
    let mut i = 0;
    let mut found = u32x8::splat(0);
    while i + 32 <= n {
        let x: u32x8 = read(packed.add(i));
        // The code 3 leaves its low bit, at an even place; bits that the shift carries over from the next byte land on odd
        // places.
        found |= x & (x >> 1);
        i += 32;
    }
    let mut found = found.to_array().iter().fold(0, |all, &x| all | x);
    while i < n {
        let byte = u32::from(*packed.add(i));
        found |= byte & (byte >> 1);
        i += 1;
    }
    found & 0x5555_5555 != 0
}

pub unsafe extern "C" fn largest_byte(x: *const u8, n: usize) -> u8 {
    let mut i = 0;
    let mut largest = u8x32::splat(0);
    while i + 32 <= n {
        largest = largest.max(read(x.add(i)));
        i += 32;
    }
    let mut largest = largest.to_array().iter().fold(0, |a: u8, &b| if b > a { b } else { a });
    while i < n {
        let byte = *x.add(i);
        largest = if byte > largest { byte } else { largest };
        i += 1;
    }
    largest
}

/// 128 trits are 32 bytes.
pub unsafe extern "C" fn pack_two_bit(trits: *const i8, n: usize, packed: *mut u8) {
    let mut i = 0;
    while i + 128 <= n {
        let four = [0, 32, 64, 96].map(|j| four_in_lanes(read(trits.add(i + j))));
        write(packed.add(i / 4), narrow_unsigned(four));
        i += 128;
    }
    if i < n {
        let (mut rest, mut bytes) = ([0i8; 128], [0u8; 32]);
        core::ptr::copy_nonoverlapping(trits.add(i), rest.as_mut_ptr(), n - i);
        let four = [0, 32, 64, 96].map(|j| four_in_lanes(read(rest.as_ptr().add(j))));
        bytes.copy_from_slice(&narrow_unsigned(four));
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), packed.add(i / 4), (n - i).div_ceil(4));
    }
}

/// The packed byte of each four trits, one in each lane.
#[inline(always)]
fn four_in_lanes(trits: u8x32) -> i32x8 {
    // Each lane holds c0 | c1 << 8 | c2 << 16 | c3 << 24 and becomes c0 | c1 << 2 | c2 << 4 | c3 << 6.
    let x: u32x8 = cast(trits + u8x32::splat(1));
    let pairs = x | (x >> 6u32);
    cast((pairs | (pairs >> 12u32)) & u32x8::splat(0xFF))
}

/// Eight bytes are 32 trits: each byte four times, of which one pair of bits each counts.
pub unsafe extern "C" fn unpack_two_bit(packed: *const u8, n: usize, trits: *mut i8) {
    let mut i = 0;
    while i + 32 <= n {
        write(trits.add(i), trits_of_pairs(read(packed.add(i / 4))));
        i += 32;
    }
    if i < n {
        let mut rest = [0x55u8; 8];
        core::ptr::copy_nonoverlapping(packed.add(i / 4), rest.as_mut_ptr(), (n - i).div_ceil(4));
        let last: [i8; 32] = cast(trits_of_pairs(cast(rest)));
        core::ptr::copy_nonoverlapping(last.as_ptr(), trits.add(i), n - i);
    }
}

const FOUR_TIMES: [u8; 32] = {
    let mut indices = [0; 32];
    let mut i = 0;
    while i < 32 {
        indices[i] = (i / 4) as u8;
        i += 1;
    }
    indices
};

#[inline(always)]
fn trits_of_pairs(bytes: u64) -> u8x32 {
    let pairs = repeat(bytes, FOUR_TIMES) & u8x32::new(cast([0xC0_30_0C_03u32; 8]));
    // A byte that is all ones is -1. The code 0 leaves nothing of its pair, the code 2 its high bit alone.
    let (minus, plus) = (pairs.simd_eq(u8x32::ZERO), pairs.simd_eq(u8x32::new(cast([0x80_20_08_02u32; 8]))));
    minus - plus
}

/// The bytes of a word at these indices, all below 8.
#[inline(always)]
fn repeat(bytes: u64, indices: [u8; 32]) -> u8x32 {
    cast(i8x32::new(cast([bytes; 4])).swizzle_half_relaxed(cast(indices)))
}

/// 32 bytes are 160 trits: five vectors of 32, each from the eight bytes that hold them.
///
/// Digit p of a byte b is the top one of (b' * 3^(4 - p)) mod 256, where b' = ceil(256 b / 243) is the byte as a fraction of
/// 256: that product, over 256, is the digits from p down as a fraction of 1, so that it is 0, 1 or 2 by thirds. (The
/// division by 243 rounds up, which keeps the fraction above what it stands for by less than the least digit: the form of
/// ggml's TQ1_0.)
pub unsafe extern "C" fn five_trits(five: *const u8, n: usize, trits: *mut i8) {
    let mut i = 0;
    while i + 160 <= n {
        let fractions = fractions(read(five.add(i / 5)));
        for v in 0..5 {
            write(trits.add(i + 32 * v), trits_of_fractions(&fractions, v));
        }
        i += 160;
    }
    if i < n {
        // Bytes of 121 are five zeros.
        let (mut rest, mut last) = ([121u8; 32], [0i8; 160]);
        core::ptr::copy_nonoverlapping(five.add(i / 5), rest.as_mut_ptr(), (n - i).div_ceil(5));
        let fractions = fractions(cast(rest));
        for v in 0..5 {
            write(last.as_mut_ptr().add(32 * v), trits_of_fractions(&fractions, v));
        }
        core::ptr::copy_nonoverlapping(last.as_ptr(), trits.add(i), n - i);
    }
}

/// ceil(256 b / 243) of bytes below 243, and eight bytes that are read with them.
#[inline(always)]
fn fractions(bytes: u8x32) -> [u8; 40] {
    // floor((256 b + 242) / 243), by a product: 34522 is just above 2^23 / 243, exact for all 243 bytes (tested).
    let part = |wide: u16x16| ((wide << 8u32) + u16x16::splat(242)).mul_keep_high(u16x16::splat(34522)) >> 7u32;
    let words: u16x16 = cast(bytes);
    let (even, odd) = (part(words & u16x16::splat(0xFF)), part(words >> 8u32));
    let all: [u8; 32] = cast(even | (odd << 8u32));
    let mut padded = [0; 40];
    padded[..32].copy_from_slice(&all);
    padded
}

/// Where the eight bytes of each vector of 32 trits begin.
const STARTS: [usize; 5] = [0, 6, 12, 19, 25];

/// For each vector the byte of each trit, counted from the start, and the power of three that brings its digit to the top.
const PLACES: [([u8; 32], [u8; 32]); 5] = {
    let mut places = [([0; 32], [0; 32]); 5];
    let mut v = 0;
    while v < 5 {
        let mut o = 0;
        while o < 32 {
            let trit = 32 * v + o;
            places[v].0[o] = (trit / 5 - STARTS[v]) as u8;
            places[v].1[o] = [81, 27, 9, 3, 1][trit % 5];
            o += 1;
        }
        v += 1;
    }
    places
};

#[inline(always)]
unsafe fn trits_of_fractions(fractions: &[u8; 40], v: usize) -> u8x32 {
    let (indices, powers) = PLACES[v];
    let bytes: u16x16 = cast(repeat(read(fractions.as_ptr().add(STARTS[v])), indices));
    let powers: u16x16 = cast(powers);
    // The low bytes of products, of even and of odd bytes.
    let even = (bytes * powers) & u16x16::splat(0xFF);
    let odd = (bytes & u16x16::splat(0xFF00)) * (powers >> 8u32);
    let top: u8x32 = cast(even | odd);
    // Below a third of 256, or from two thirds on.
    let (minus, plus) = (top.min(u8x32::splat(85)).simd_eq(top), top.max(u8x32::splat(171)).simd_eq(top));
    minus - plus
}
