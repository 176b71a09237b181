//! Trits as mask and signs, 64 columns at a time, with bits deposited and extracted by a mask: by one instruction of BMI2,
//! or, where that is absent or slow, in six steps (Hacker's Delight, 2nd edition, 7-4 and 7-5).

use super::vector::{read, write};
use bytemuck::cast;
use wide::u8x32;

/// Bits to the places of a mask, and back.
trait Bits {
    /// The low bits of x, in order, at the bits of m; 0 elsewhere.
    unsafe fn deposit(x: u64, m: u64) -> u64;
    /// The bits of x at those of m, in order, from the lowest on.
    unsafe fn extract(x: u64, m: u64) -> u64;
}

#[cfg(all(target_arch = "x86_64", target_feature = "bmi2"))]
struct Instructions;

#[cfg(all(target_arch = "x86_64", target_feature = "bmi2"))]
impl Bits for Instructions {
    #[inline(always)]
    unsafe fn deposit(x: u64, m: u64) -> u64 {
        core::arch::x86_64::_pdep_u64(x, m)
    }

    #[inline(always)]
    unsafe fn extract(x: u64, m: u64) -> u64 {
        core::arch::x86_64::_pext_u64(x, m)
    }
}

struct Steps;

/// How far the bits move in each step, as masks: bit i of `moves[j]` is set when the bit that ends, or begins, at i moves by
/// 2^j.
#[inline(always)]
fn moves(mut m: u64) -> [u64; 6] {
    let mut counted = !m << 1;
    let mut moves = [0; 6];
    for j in 0..6 {
        // The parity of the zeros below each bit, of those left.
        let mut parity = counted ^ (counted << 1);
        parity ^= parity << 2;
        parity ^= parity << 4;
        parity ^= parity << 8;
        parity ^= parity << 16;
        parity ^= parity << 32;
        let moved = parity & m;
        moves[j] = moved;
        m = (m ^ moved) | (moved >> (1 << j));
        counted &= !parity;
    }
    moves
}

impl Bits for Steps {
    #[inline(always)]
    unsafe fn deposit(mut x: u64, m: u64) -> u64 {
        let moves = moves(m);
        for j in [5, 4, 3, 2, 1, 0] {
            // `moves` has bits where they come from in the way down; on the way up they land 2^j higher, where the mask's
            // bit of that step stood.
            let moved = moves[j];
            x = (x & !moved) | ((x << (1 << j)) & moved);
        }
        x & m
    }

    #[inline(always)]
    unsafe fn extract(x: u64, m: u64) -> u64 {
        let mut x = x & m;
        let moves = moves(m);
        for j in 0..6 {
            let moved = x & moves[j];
            x = (x ^ moved) | (moved >> (1 << j));
        }
        x
    }
}

/// Reads up to 64 bits from bit `at` of `bytes`, of which `end` is the first that is not there.
#[inline(always)]
unsafe fn bits(bytes: *const u8, at: usize, end: usize) -> u64 {
    let (from, shift) = (at / 8, at % 8);
    if from + 9 <= end {
        let low: u64 = read(bytes.add(from));
        let high = u64::from(*bytes.add(from + 8));
        // Twice, because a shift by 64 is none.
        return (low >> shift) | ((high << 1) << (63 - shift));
    }
    let mut rest = [0u8; 16];
    let count = if end > from { end - from } else { 0 };
    core::ptr::copy_nonoverlapping(bytes.add(from), rest.as_mut_ptr(), if count < 9 { count } else { 9 });
    let [low, high]: [u64; 2] = cast(rest);
    (low >> shift) | ((high << 1) << (63 - shift))
}

/// Up to 64 bits of a row's mask from column k on.
#[inline(always)]
unsafe fn mask_bits(mask: *const u8, k: usize, columns: usize) -> u64 {
    let from = mask.add(k / 8);
    if columns - k >= 64 {
        return read(from);
    }
    let mut rest = [0u8; 8];
    core::ptr::copy_nonoverlapping(from, rest.as_mut_ptr(), (columns - k).div_ceil(8));
    cast(rest)
}

const EVEN: u64 = 0x5555_5555_5555_5555;

/// The codes t + 1 of 32 columns, two bits each: the low bit of the code is "zero", the high one "positive".
#[inline(always)]
unsafe fn codes<B: Bits>(mask: u32, negative: u32) -> u64 {
    let (zero, positive) = (!mask, mask & !negative);
    B::deposit(u64::from(zero), EVEN) | B::deposit(u64::from(positive), !EVEN)
}

#[inline(always)]
unsafe fn unpack<B: Bits>(
    mask: *const u8,
    columns: usize,
    signs: *const u8,
    first: usize,
    end: usize,
    packed: *mut u8,
) -> usize {
    let (mut k, mut at) = (0, first);
    while k < columns {
        let mask = mask_bits(mask, k, columns);
        let negative = B::deposit(bits(signs, at, end), mask);
        at += mask.count_ones() as usize;
        let pair = [codes::<B>(mask as u32, negative as u32), codes::<B>((mask >> 32) as u32, (negative >> 32) as u32)];
        if columns - k >= 64 {
            write(packed.add(k / 4), pair);
        } else {
            let bytes: [u8; 16] = cast(pair);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), packed.add(k / 4), (columns - k).div_ceil(4));
        }
        k += 64;
    }
    at
}

#[inline(always)]
unsafe fn trits<B: Bits>(
    mask: *const u8,
    columns: usize,
    signs: *const u8,
    first: usize,
    end: usize,
    trits: *mut i8,
) -> usize {
    let (mut k, mut at) = (0, first);
    while k < columns {
        let mask = mask_bits(mask, k, columns);
        let negative = B::deposit(bits(signs, at, end), mask);
        at += mask.count_ones() as usize;
        let positive = mask & !negative;
        let pair = [signed(positive as u32, negative as u32), signed((positive >> 32) as u32, (negative >> 32) as u32)];
        if columns - k >= 64 {
            write(trits.add(k), pair);
        } else {
            let bytes: [i8; 64] = cast(pair);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), trits.add(k), columns - k);
        }
        k += 64;
    }
    at
}

/// 32 trits of the bits of those that are +1 and of those that are -1.
#[inline(always)]
fn signed(positive: u32, negative: u32) -> u8x32 {
    // A byte that is all ones is -1.
    spread(negative) - spread(positive)
}

/// Bit i as byte i: all ones where it is set.
#[cfg(target_feature = "avx2")]
#[inline(always)]
fn spread(bits: u32) -> u8x32 {
    use core::arch::x86_64::*;
    // SAFETY: compiled for a target that has AVX2.
    unsafe {
        let groups = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
        let places = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), groups);
        cast(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, places), places))
    }
}

#[cfg(not(target_feature = "avx2"))]
#[inline(always)]
fn spread(bits: u32) -> u8x32 {
    let eight = |i: u32| {
        // Each byte holds its bit in its place; +0x7f carries it into the highest bit, but for the highest place, which is
        // there already.
        let placed = u64::from(bits >> (8 * i) & 0xFF) * 0x0101_0101_0101_0101 & 0x8040_2010_0804_0201;
        let high = ((placed & 0x7F7F_7F7F_7F7F_7F7F) + 0x7F7F_7F7F_7F7F_7F7F | placed) & 0x8080_8080_8080_8080;
        (high >> 7) * 0xFF
    };
    cast([eight(0), eight(1), eight(2), eight(3)])
}

/// Appends bits to the signs of a block, which end at `end`.
struct Writer {
    to: *mut u8,
    end: *mut u8,
    held: u64,
    count: u32,
}

impl Writer {
    #[inline(always)]
    unsafe fn push(&mut self, bits: u64, count: u32) {
        // `held` has fewer than 8 bits; up to 64 more come in two parts.
        let low = if count < 32 { count } else { 32 };
        self.push_part(bits & 0xFFFF_FFFF, low);
        if count > 32 {
            self.push_part(bits >> 32, count - 32);
        }
    }

    #[inline(always)]
    unsafe fn push_part(&mut self, bits: u64, count: u32) {
        self.held |= bits << self.count;
        self.count += count;
        let whole = (self.count / 8) as usize;
        let bytes = self.held.to_le_bytes();
        if self.end.offset_from(self.to) >= 8 {
            // What is past the whole bytes is written again by the next part.
            write(self.to, bytes);
        } else {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.to, whole);
        }
        self.to = self.to.add(whole);
        self.held >>= 8 * whole as u32;
        self.count %= 8;
    }
}

#[inline(always)]
unsafe fn pack<B: Bits>(
    packed: *const u8,
    rows: usize,
    columns: usize,
    mask: *mut u8,
    signs: *mut u8,
    sign_bytes: usize,
) {
    let mut writer = Writer { to: signs, end: signs.add(sign_bytes), held: 0, count: 0 };
    let (width, mask_width) = (columns.div_ceil(4), columns.div_ceil(8));
    for row in 0..rows {
        let (packed, mask) = (packed.add(row * width), mask.add(row * mask_width));
        let mut k = 0;
        while k < columns {
            let left = columns - k;
            let pair: [u64; 2] = if left >= 64 {
                read(packed.add(k / 4))
            } else {
                let mut rest = [0x55u8; 16];
                core::ptr::copy_nonoverlapping(packed.add(k / 4), rest.as_mut_ptr(), left.div_ceil(4));
                cast(rest)
            };
            let half = |x: u64| (B::extract(x, EVEN) as u32, B::extract(x, !EVEN) as u32);
            let ((zero_low, positive_low), (zero_high, positive_high)) = (half(pair[0]), half(pair[1]));
            let zero = u64::from(zero_low) | u64::from(zero_high) << 32;
            let positive = u64::from(positive_low) | u64::from(positive_high) << 32;
            let bits = !zero;
            let bytes = bits.to_le_bytes();
            let count = if left >= 64 { 8 } else { left.div_ceil(8) };
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), mask.add(k / 8), count);
            writer.push(B::extract(!positive, bits), bits.count_ones());
            k += 64;
        }
    }
    if writer.count > 0 {
        *writer.to = writer.held as u8;
    }
}

/// How many of the trits of packed[n] are not zero; n bytes, all of whose codes are trits.
pub unsafe extern "C" fn count_nonzeros(packed: *const u8, n: usize) -> usize {
    let (mut i, mut zeros) = (0, 0);
    while i + 8 <= n {
        zeros += (read::<u64, u8>(packed.add(i)) & EVEN).count_ones() as usize;
        i += 8;
    }
    while i < n {
        zeros += (*packed.add(i) & 0x55).count_ones() as usize;
        i += 1;
    }
    4 * n - zeros
}

/// How many bits of x[n] are set.
pub unsafe extern "C" fn count_ones(x: *const u8, n: usize) -> usize {
    let (mut i, mut count) = (0, 0);
    while i + 8 <= n {
        count += read::<u64, u8>(x.add(i)).count_ones() as usize;
        i += 8;
    }
    while i < n {
        count += (*x.add(i)).count_ones() as usize;
        i += 1;
    }
    count
}

macro_rules! entries {
    ($bits:ty: $unpack:ident, $trits:ident, $pack:ident) => {
        pub unsafe extern "C" fn $unpack(
            mask: *const u8,
            columns: usize,
            signs: *const u8,
            first: usize,
            end: usize,
            packed: *mut u8,
        ) -> usize {
            unpack::<$bits>(mask, columns, signs, first, end, packed)
        }

        pub unsafe extern "C" fn $trits(
            mask: *const u8,
            columns: usize,
            signs: *const u8,
            first: usize,
            end: usize,
            to: *mut i8,
        ) -> usize {
            trits::<$bits>(mask, columns, signs, first, end, to)
        }

        pub unsafe extern "C" fn $pack(
            packed: *const u8,
            rows: usize,
            columns: usize,
            mask: *mut u8,
            signs: *mut u8,
            sign_bytes: usize,
        ) {
            pack::<$bits>(packed, rows, columns, mask, signs, sign_bytes)
        }
    };
}

entries!(Steps: unpack_mask_sign_in_steps, mask_sign_trits_in_steps, pack_mask_sign_in_steps);

#[cfg(all(target_arch = "x86_64", target_feature = "bmi2"))]
entries!(Instructions: unpack_mask_sign, mask_sign_trits, pack_mask_sign);
#[cfg(not(all(target_arch = "x86_64", target_feature = "bmi2")))]
pub use {
    mask_sign_trits_in_steps as mask_sign_trits, pack_mask_sign_in_steps as pack_mask_sign,
    unpack_mask_sign_in_steps as unpack_mask_sign,
};
