//! Packed trits: to weights with one scale, and the two packings into each other. How they come from weights: `scheme.rs`.

use super::vector::{narrow_unsigned, narrow_words, read, store, to_float, write};
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

/// 160 trits are 32 bytes of five and 40 of four.
pub unsafe extern "C" fn unpack_five(five: *const u8, n: usize, packed: *mut u8) {
    let mut i = 0;
    while i + 160 <= n {
        write(packed.add(i / 4), forty_bytes(five.add(i / 5)));
        i += 160;
    }
    if i < n {
        let bytes = forty_bytes(rest_of_five(five.add(i / 5), n - i).as_ptr());
        // The digits of the last byte after the last column are 1, and so are those of the bytes that were added.
        core::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), packed.add(i / 4), (n - i).div_ceil(4));
    }
}

/// 40 bytes of two bits a trit.
#[inline(always)]
unsafe fn forty_bytes(five: *const u8) -> [u64; 5] {
    let lanes = all_digits(five).map(codes_in_lanes);
    let [a, b, c, d]: [u64; 4] = cast(narrow_unsigned([lanes[0], lanes[1], lanes[2], lanes[3]]));
    let [e, ..]: [u64; 4] = cast(narrow_unsigned([lanes[4], i32x8::ZERO, i32x8::ZERO, i32x8::ZERO]));
    [a, b, c, d, e]
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
        let four = [0, 32, 64, 96].map(|j| codes_in_lanes(read::<u8x32, i8>(trits.add(i + j)) + u8x32::splat(1)));
        write(packed.add(i / 4), narrow_unsigned(four));
        i += 128;
    }
    if i < n {
        let (mut rest, mut bytes) = ([0i8; 128], [0u8; 32]);
        core::ptr::copy_nonoverlapping(trits.add(i), rest.as_mut_ptr(), n - i);
        let four = [0, 32, 64, 96].map(|j| codes_in_lanes(read::<u8x32, i8>(rest.as_ptr().add(j)) + u8x32::splat(1)));
        bytes.copy_from_slice(&narrow_unsigned(four));
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), packed.add(i / 4), (n - i).div_ceil(4));
    }
}

/// The packed byte of each four codes, one in each lane.
#[inline(always)]
fn codes_in_lanes(codes: u8x32) -> i32x8 {
    // Each lane holds c0 | c1 << 8 | c2 << 16 | c3 << 24 and becomes c0 | c1 << 2 | c2 << 4 | c3 << 6.
    let x: u32x8 = cast(codes);
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
pub unsafe extern "C" fn five_trits(five: *const u8, n: usize, trits: *mut i8) {
    let mut i = 0;
    while i + 160 <= n {
        for (v, digits) in all_digits(five.add(i / 5)).into_iter().enumerate() {
            write(trits.add(i + 32 * v), digits - u8x32::splat(1));
        }
        i += 160;
    }
    if i < n {
        let rest = rest_of_five(five.add(i / 5), n - i);
        for (v, digits) in all_digits(rest.as_ptr()).into_iter().enumerate() {
            let (from, last) = (i + 32 * v, digits - u8x32::splat(1));
            if from + 32 <= n {
                write(trits.add(from), last);
            } else if from < n {
                let last: [i8; 32] = cast(last);
                core::ptr::copy_nonoverlapping(last.as_ptr(), trits.add(from), n - from);
            }
        }
    }
}

/// Up to 32 bytes of five trits; bytes of 121, five zeros, after them.
#[inline(always)]
unsafe fn rest_of_five(five: *const u8, n: usize) -> [u8; 32] {
    let mut rest = [121u8; 32];
    core::ptr::copy_nonoverlapping(five, rest.as_mut_ptr(), n.div_ceil(5));
    rest
}

/// Where the eight bytes of each vector of 32 trits begin.
const STARTS: [usize; 5] = [0, 6, 12, 19, 24];

/// For each vector of 32 trits, as two of 16 words whose halves lie as packing puts them: the byte of each trit, counted from
/// the start, with a zero above it; and ceil(2^16 / 3^(p + 1)) for its digit p.
const PLACES: [[([u8; 32], [u16; 16]); 2]; 5] = {
    let mut places = [[([0x80; 32], [0; 16]); 2]; 5];
    let mut v = 0;
    while v < 5 {
        let mut o = 0;
        while o < 32 {
            let (trit, half, word) = (32 * v + o, o / 8 % 2, o % 8 + o / 16 * 8);
            places[v][half].0[2 * word] = (trit / 5 - STARTS[v]) as u8;
            places[v][half].1[word] = [21846, 7282, 2428, 810, 270][trit % 5];
            o += 1;
        }
        v += 1;
    }
    places
};

/// The digits t + 1 of the 160 trits that 32 bytes hold.
#[inline(always)]
unsafe fn all_digits(five: *const u8) -> [u8x32; 5] {
    [digits::<0>(five), digits::<1>(five), digits::<2>(five), digits::<3>(five), digits::<4>(five)]
}

/// Those of vector V.
///
/// For digit p of a byte b, b / 3^(p + 1) has after its point the digits from p down, so that floor(3 * (that part)) is the
/// digit. In 16 bits: b * ceil(2^16 / 3^(p + 1)) modulo 2^16 is the part over 2^16, too large by at most 242 * 0.7, which is
/// less than the 2^16 / 243 up to the next digit; the high half of its product with 3 is the digit.
#[inline(always)]
unsafe fn digits<const V: usize>(five: *const u8) -> u8x32 {
    let bytes = i8x32::new(cast([read::<u64, u8>(five.add(const { STARTS[V] })); 4]));
    let [low, high] = const { PLACES[V] }.map(|(indices, factors)| {
        let words: u16x16 = cast(bytes.swizzle_half(cast(indices)));
        (words * u16x16::new(factors)).mul_keep_high(u16x16::splat(3))
    });
    narrow_words(low, high)
}
