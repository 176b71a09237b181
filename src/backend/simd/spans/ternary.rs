//! Packed trits: to weights with one scale, and the two packings into each other. How they come from weights: `scheme.rs`.

use super::vector::{SHUFFLES, narrow_unsigned, narrow_words, read, store, to_float, write};
use bytemuck::cast;
use wide::{f32x8, i8x32, i32x8, u8x16, u8x32, u16x8, u16x16, u32x8};

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

/// 160 trits are 32 bytes of five and 40 of four, twenty are four and five.
pub unsafe extern "C" fn unpack_five(five: *const u8, n: usize, packed: *mut u8) {
    let mut i = 0;
    while SHUFFLES && i + 160 <= n {
        write(packed.add(i / 4), forty_bytes(five.add(i / 5)));
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

/// 32 bytes are 160 trits: five vectors of 32, each from the eight bytes that hold them.
pub unsafe extern "C" fn five_trits(five: *const u8, n: usize, trits: *mut i8) {
    let mut i = 0;
    while SHUFFLES && i + 160 <= n {
        for (v, digits) in all_digits(five.add(i / 5)).into_iter().enumerate() {
            write(trits.add(i + 32 * v), digits - u8x32::splat(1));
        }
        i += 160;
    }
    // Eight bytes are written for five trits; the next five go over the rest.
    while i + 8 <= n {
        write(trits.add(i), TRITS[usize::from(*five.add(i / 5))]);
        i += 5;
    }
    while i < n {
        let five_of_it = TRITS[usize::from(*five.add(i / 5))].to_le_bytes();
        *trits.add(i) = five_of_it[i % 5] as i8;
        i += 1;
    }
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

/// Whole vectors by pshufb, which `wide` has no equal of below AVX2. What is left over goes the portable way.
#[cfg(target_feature = "avx2")]
mod avx2 {
    use super::super::vector::{read, write};
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
