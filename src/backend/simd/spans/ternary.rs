//! Packed trits: to weights with one scale, and the two packings into each other. How they come from weights: `scheme.rs`.

use super::vector::{narrow_unsigned, read, store, to_float, write};
use bytemuck::cast;
use wide::{f32x8, i32x8, u8x16, u8x32, u16x8, u32x8};

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
    // Of 160 trits, but 184 are read.
    #[cfg(target_feature = "avx2")]
    while i + 184 <= n {
        avx2::pack_160(packed.add(i / 4), five.add(i / 5));
        i += 160;
    }
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
    #[cfg(target_feature = "avx2")]
    while i + 160 <= n {
        avx2::unpack_160(five.add(i / 5), packed.add(i / 4));
        i += 160;
    }
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

pub unsafe extern "C" fn unpack_two_bit(packed: *const u8, n: usize, trits: *mut i8) {
    let mut i = 0;
    #[cfg(target_feature = "avx2")]
    while i + 128 <= n {
        avx2::trits_128(read(packed.add(i / 4)), trits.add(i));
        i += 128;
    }
    while i + 64 <= n {
        trits_64(read(packed.add(i / 4)), trits.add(i));
        i += 64;
    }
    while i < n {
        *trits.add(i) = (*packed.add(i / 4) >> (2 * (i % 4)) & 3) as i8 - 1;
        i += 1;
    }
}

#[inline(always)]
unsafe fn trits_64(packed: u8x16, trits: *mut i8) {
    let words: u16x8 = cast(packed);
    let codes = [0u32, 2, 4, 6].map(|shift| cast::<u16x8, u8x16>(words >> shift) & u8x16::splat(3));
    let [t0, t1, t2, t3] = codes.map(|codes| codes - u8x16::splat(1));
    let (even, odd) = (in_turn(t0, t2), in_turn(t1, t3));
    write(trits, [in_turn(even[0], odd[0]), in_turn(even[1], odd[1])]);
}

/// 256 trits of codes that stand in registers.
#[inline(always)]
pub unsafe fn trits_of_words(codes: [u64; 8], trits: *mut i8) {
    #[cfg(target_feature = "avx2")]
    for j in 0..2 {
        let words = [codes[4 * j], codes[4 * j + 1], codes[4 * j + 2], codes[4 * j + 3]];
        avx2::trits_128(cast(words), trits.add(128 * j));
    }
    #[cfg(not(target_feature = "avx2"))]
    for j in 0..4 {
        trits_64(cast([codes[2 * j], codes[2 * j + 1]]), trits.add(64 * j));
    }
}

/// The bytes of both in turn.
#[inline(always)]
fn in_turn(even: u8x16, odd: u8x16) -> [u8x16; 2] {
    [u8x16::unpack_low(even, odd), u8x16::unpack_high(even, odd)]
}

/// For a byte below 243 its five trits, one a byte.
static TRITS: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let digits = [byte % 3, byte / 3 % 3, byte / 9 % 3, byte / 27 % 3, byte / 81];
        let mut i = 0;
        while i < 5 {
            table[byte] |= ((digits[i] as u8).wrapping_sub(1) as u64) << (8 * i);
            i += 1;
        }
        byte += 1;
    }
    table
};

pub unsafe extern "C" fn five_trits(five: *const u8, n: usize, trits: *mut i8) {
    let mut i = 0;
    #[cfg(target_feature = "avx2")]
    while i + 160 <= n {
        avx2::trits_160(five.add(i / 5), trits.add(i));
        i += 160;
    }
    // Eight bytes are written for five trits; the next five go over the rest.
    while i + 8 <= n {
        write(trits.add(i), TRITS[usize::from(*five.add(i / 5))]);
        i += 5;
    }
    while i < n {
        let trit = TRITS[usize::from(*five.add(i / 5))].to_le_bytes()[i % 5];
        *trits.add(i) = trit as i8;
        i += 1;
    }
}

/// Whole vectors by pshufb, which `wide` has no equal of below AVX2. What is left over goes the portable way.
#[cfg(target_feature = "avx2")]
mod avx2 {
    use super::super::vector::{narrow_unsigned, read, write};
    use bytemuck::cast;
    use core::arch::x86_64::*;

    /// For the four bits of two codes, the first trit and the second.
    const FIRST: [i8; 16] = [-1, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2];
    const SECOND: [i8; 16] = [-1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];

    /// 128 trits, one a byte.
    #[inline(always)]
    pub unsafe fn trits_128(packed: __m256i, trits: *mut i8) {
        // The unpacks work in each half of a register: with the even groups of four bytes in one and the odd ones in the other,
        // sixteen trits of each come out side by side.
        let x = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
        let four = _mm256_set1_epi8(15);
        let (low, high) = (_mm256_and_si256(x, four), _mm256_and_si256(_mm256_srli_epi16::<4>(x), four));
        let [first, second] = [FIRST, SECOND].map(|table| _mm256_broadcastsi128_si256(cast(table)));
        let (t0, t1) = (_mm256_shuffle_epi8(first, low), _mm256_shuffle_epi8(second, low));
        let (t2, t3) = (_mm256_shuffle_epi8(first, high), _mm256_shuffle_epi8(second, high));
        let even = [_mm256_unpacklo_epi8(t0, t1), _mm256_unpackhi_epi8(t0, t1)];
        let odd = [_mm256_unpacklo_epi8(t2, t3), _mm256_unpackhi_epi8(t2, t3)];
        for j in 0..2 {
            write(trits.add(64 * j), _mm256_unpacklo_epi16(even[j], odd[j]));
            write(trits.add(64 * j + 32), _mm256_unpackhi_epi16(even[j], odd[j]));
        }
    }

    /// Where the 32 bytes of 160 trits are read, sixteen at a time, for each 32 trits.
    const STARTS: [usize; 5] = [0, 0, 8, 16, 16];

    /// For each 32 trits, the even ones and the odd ones: which byte of the sixteen holds each, as a u16.
    const BYTES: [[[u8; 32]; 2]; 5] = {
        let mut bytes = [[[0x80; 32]; 2]; 5];
        let mut i = 0;
        while i < 160 {
            bytes[i / 32][i % 2][i % 32 / 2 * 2] = (i / 5 - STARTS[i / 32]) as u8;
            i += 1;
        }
        bytes
    };

    /// And 2^16 / 3^(i + 1), rounded up, for its place i in the byte: the product modulo 2^16 is the part of byte / 3^(i + 1)
    /// behind the point, whose first digit to base 3 is the trit's. The error, below 243 / 2^16, is less than the 1 / 243 to the
    /// next digit.
    const FACTORS: [[[u16; 16]; 2]; 5] = {
        let mut factors = [[[0; 16]; 2]; 5];
        let mut i = 0;
        while i < 160 {
            factors[i / 32][i % 2][i % 32 / 2] = 65_536u32.div_ceil([3, 9, 27, 81, 243][i % 5]) as u16;
            i += 1;
        }
        factors
    };

    /// Of 32 trits, number `v` of five, those parts of the even and the odd ones.
    #[inline(always)]
    unsafe fn fractions(five: *const u8, v: usize) -> [__m256i; 2] {
        let bytes = _mm256_broadcastsi128_si256(read(five.add(STARTS[v])));
        [0, 1].map(|odd| {
            let spread = _mm256_shuffle_epi8(bytes, cast(BYTES[v][odd]));
            _mm256_mullo_epi16(spread, cast(FACTORS[v][odd]))
        })
    }

    /// 160 trits, one a byte.
    #[inline(always)]
    pub unsafe fn trits_160(five: *const u8, trits: *mut i8) {
        for v in 0..5 {
            let [even, odd] = fractions(five, v);
            let even = _mm256_mulhi_epu16(even, _mm256_set1_epi16(3));
            // Three times 2^8: the digit is in the high byte, and what is behind it in the low one.
            let odd = _mm256_and_si256(_mm256_mulhi_epu16(odd, _mm256_set1_epi16(3 << 8)), _mm256_set1_epi16(3 << 8));
            let codes = _mm256_or_si256(even, odd);
            write(trits.add(32 * v), _mm256_sub_epi8(codes, _mm256_set1_epi8(1)));
        }
    }

    /// 160 trits, four a byte.
    #[inline(always)]
    pub unsafe fn unpack_160(five: *const u8, packed: *mut u8) {
        let bytes = [0, 1, 2, 3, 4].map(|v| {
            let [even, odd] = fractions(five, v);
            let even = _mm256_mulhi_epu16(even, _mm256_set1_epi16(3));
            let odd = _mm256_and_si256(_mm256_mulhi_epu16(odd, _mm256_set1_epi16(3 << 2)), _mm256_set1_epi16(3 << 2));
            // Two codes in each u16, four in each u32.
            _mm256_madd_epi16(_mm256_or_si256(even, odd), _mm256_set1_epi32(1 | 16 << 16))
        });
        write(packed, narrow_unsigned([0, 1, 2, 3].map(|v| cast(bytes[v]))));
        let halves = _mm256_packus_epi32(bytes[4], bytes[4]);
        let last = _mm256_packus_epi16(halves, halves);
        write(packed.add(32), [_mm256_extract_epi32::<0>(last), _mm256_extract_epi32::<4>(last)]);
    }

    /// For each of eight bytes of five trits, the two bytes that hold its codes, and what moves them to the top.
    const PAIRS: [u8; 16] = [0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 6, 7, 7, 8, 8, 9];
    const TO_TOP: [u16; 16] = [64, 16, 4, 1, 64, 16, 4, 1, 64, 16, 4, 1, 64, 16, 4, 1];

    /// 160 trits of 40 bytes, of which 46 are read, five a byte.
    #[inline(always)]
    pub unsafe fn pack_160(packed: *const u8, five: *mut u8) {
        let bytes = [0, 20].map(|j| {
            let halves = [read::<__m128i, u8>(packed.add(j)), read(packed.add(j + 10))];
            let pairs = _mm256_shuffle_epi8(cast(halves), _mm256_broadcastsi128_si256(cast(PAIRS)));
            let x = _mm256_srli_epi16::<6>(_mm256_mullo_epi16(pairs, cast(TO_TOP)));
            // From base 4 to base 3, Horner without the digits: with z_i = x / 4^i = c_i + 4 z_(i+1), it is
            // x - z_1 - 3 z_2 - 9 z_3 - 27 z_4 = c_0 + 3 c_1 + 9 c_2 + 27 c_3 + 81 c_4.
            let times = |z: __m256i, factor: i16| _mm256_mullo_epi16(z, _mm256_set1_epi16(factor));
            let (z1, z2) = (_mm256_srli_epi16::<2>(x), _mm256_srli_epi16::<4>(x));
            let (z3, z4) = (_mm256_srli_epi16::<6>(x), _mm256_srli_epi16::<8>(x));
            let near = _mm256_sub_epi16(_mm256_sub_epi16(x, z1), times(z2, 3));
            _mm256_sub_epi16(near, _mm256_add_epi16(times(z3, 9), times(z4, 27)))
        });
        // The pack works in each half of a register.
        write(five, _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(bytes[0], bytes[1])));
    }
}
