//! Trits as mask and signs, 256 columns at a time: a word of the mask says where the next signs belong, and the codes of two
//! bits are ~mask in their low bits and mask & ~negative in their high ones (t + 1 is 1 for zero, 0 and 2 else).
//!
//! Bits are moved by one instruction of BMI2 a word, or, where that is absent or slow, in six steps of shifts, four words at a
//! time (Hacker's Delight, 2nd edition, 7-4 and 7-5).

use super::ternary::{trits_of_words, unpack_two_bit};
use super::vector::{read, write};
use bytemuck::cast;
use wide::u64x4;

/// How the bits of four words are moved, each in its own.
trait Bits {
    /// The lowest bits of x, in order, to where the mask has ones; zeros elsewhere.
    unsafe fn deposit(x: [u64; 4], mask: [u64; 4]) -> [u64; 4];
    /// The inverse: the bits of x where the mask has ones, one after the other from bit 0 on; zeros above.
    unsafe fn extract(x: [u64; 4], mask: [u64; 4]) -> [u64; 4];
    /// The bits of low words at the even places of two words each, those of high words at the odd places.
    unsafe fn in_turn(low: [u64; 4], high: [u64; 4]) -> [u64; 8];
    /// The inverse: the low words and the high ones.
    unsafe fn apart(x: [u64; 8]) -> [[u64; 4]; 2];
}

const EVEN: u64 = 0x5555_5555_5555_5555;

struct Steps;

impl Steps {
    /// For each bit of the mask, in binary, how many zeros stand below it: bit j of number i says whether what goes to or comes
    /// from there has to be moved by 2^i places.
    #[inline(always)]
    fn moves(mask: u64x4) -> [u64x4; 6] {
        let mut moves = [u64x4::splat(0); 6];
        let (mut mask, mut zeros) = (mask, !mask << 1u32);
        for i in 0..6 {
            // The parity of the zeros below each place, as a prefix sum without carries.
            let mut parity = zeros ^ (zeros << 1u32);
            for shift in [2u32, 4, 8, 16, 32] {
                parity ^= parity << shift;
            }
            moves[i] = parity & mask;
            mask = (mask ^ moves[i]) | (moves[i] >> (1u32 << i));
            zeros &= !parity;
        }
        moves
    }

    /// Bits 0 to 31 to the even places.
    #[inline(always)]
    fn spread(mut x: u64x4) -> u64x4 {
        let steps = [
            (16u32, 0x0000_FFFF_0000_FFFF),
            (8, 0x00FF_00FF_00FF_00FF),
            (4, 0x0F0F_0F0F_0F0F_0F0F),
            (2, 0x3333_3333_3333_3333),
            (1, EVEN),
        ];
        x &= u64x4::splat(0xFFFF_FFFF);
        for (shift, kept) in steps {
            x = (x | (x << shift)) & u64x4::splat(kept);
        }
        x
    }

    /// The inverse, whatever stands at the odd places.
    #[inline(always)]
    fn gather(mut x: u64x4) -> u64x4 {
        let steps = [
            (1u32, 0x3333_3333_3333_3333),
            (2, 0x0F0F_0F0F_0F0F_0F0F),
            (4, 0x00FF_00FF_00FF_00FF),
            (8, 0x0000_FFFF_0000_FFFF),
            (16, 0xFFFF_FFFF),
        ];
        x &= u64x4::splat(EVEN);
        for (shift, kept) in steps {
            x = (x | (x >> shift)) & u64x4::splat(kept);
        }
        x
    }
}

impl Bits for Steps {
    #[inline(always)]
    unsafe fn deposit(x: [u64; 4], mask: [u64; 4]) -> [u64; 4] {
        let (mut x, mask): (u64x4, u64x4) = (cast(x), cast(mask));
        let moves = Steps::moves(mask);
        for i in [5, 4, 3, 2, 1, 0] {
            x = (x & !moves[i]) | ((x << (1u32 << i)) & moves[i]);
        }
        cast(x & mask)
    }

    #[inline(always)]
    unsafe fn extract(x: [u64; 4], mask: [u64; 4]) -> [u64; 4] {
        let (x, mask): (u64x4, u64x4) = (cast(x), cast(mask));
        let (mut x, moves) = (x & mask, Steps::moves(mask));
        for i in 0..6 {
            let moved = x & moves[i];
            x = (x ^ moved) | (moved >> (1u32 << i));
        }
        cast(x)
    }

    #[inline(always)]
    unsafe fn in_turn(low: [u64; 4], high: [u64; 4]) -> [u64; 8] {
        let (low, high): (u64x4, u64x4) = (cast(low), cast(high));
        let first: [u64; 4] = cast(Steps::spread(low) | (Steps::spread(high) << 1u32));
        let second: [u64; 4] = cast(Steps::spread(low >> 32u32) | (Steps::spread(high >> 32u32) << 1u32));
        [first[0], second[0], first[1], second[1], first[2], second[2], first[3], second[3]]
    }

    #[inline(always)]
    unsafe fn apart(x: [u64; 8]) -> [[u64; 4]; 2] {
        let (first, second) = (u64x4::new([x[0], x[2], x[4], x[6]]), u64x4::new([x[1], x[3], x[5], x[7]]));
        [0u32, 1].map(|bit| cast(Steps::gather(first >> bit) | (Steps::gather(second >> bit) << 32u32)))
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "bmi2"))]
struct Instructions;

#[cfg(all(target_arch = "x86_64", target_feature = "bmi2"))]
impl Bits for Instructions {
    #[inline(always)]
    unsafe fn deposit(x: [u64; 4], mask: [u64; 4]) -> [u64; 4] {
        use core::arch::x86_64::_pdep_u64;
        [0, 1, 2, 3].map(|j| _pdep_u64(x[j], mask[j]))
    }

    #[inline(always)]
    unsafe fn extract(x: [u64; 4], mask: [u64; 4]) -> [u64; 4] {
        use core::arch::x86_64::_pext_u64;
        [0, 1, 2, 3].map(|j| _pext_u64(x[j], mask[j]))
    }

    #[inline(always)]
    unsafe fn in_turn(low: [u64; 4], high: [u64; 4]) -> [u64; 8] {
        use core::arch::x86_64::_pdep_u64;
        let mut words = [0; 8];
        for j in 0..4 {
            words[2 * j] = _pdep_u64(low[j], EVEN) | _pdep_u64(high[j], !EVEN);
            words[2 * j + 1] = _pdep_u64(low[j] >> 32, EVEN) | _pdep_u64(high[j] >> 32, !EVEN);
        }
        words
    }

    #[inline(always)]
    unsafe fn apart(x: [u64; 8]) -> [[u64; 4]; 2] {
        use core::arch::x86_64::_pext_u64;
        [EVEN, !EVEN]
            .map(|places| [0, 1, 2, 3].map(|j| _pext_u64(x[2 * j], places) | _pext_u64(x[2 * j + 1], places) << 32))
    }
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
    each_256::<B>(mask, columns, Signs { data: signs, end }, first, |column, codes, count| {
        let packed = packed.add(column / 4);
        if count == 256 {
            write(packed, codes);
        } else {
            core::ptr::copy_nonoverlapping(codes.as_ptr().cast(), packed, count.div_ceil(4));
        }
    })
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
    each_256::<B>(mask, columns, Signs { data: signs, end }, first, |column, codes, count| {
        let trits = trits.add(column);
        if count == 256 {
            trits_of_words(codes, trits);
        } else {
            unpack_two_bit(codes.as_ptr().cast(), count, trits);
        }
    })
}

/// Calls `put(column, codes, count)` for each 256 weights of a row, and for what is left, with code 1 after them; returns the
/// bit after the row's signs, which begin at bit `next`.
#[inline(always)]
unsafe fn each_256<B: Bits>(
    mask: *const u8,
    columns: usize,
    signs: Signs,
    mut next: usize,
    mut put: impl FnMut(usize, [u64; 8], usize),
) -> usize {
    let mut column = 0;
    while column < columns {
        let from = mask.add(column / 8);
        let count = if columns - column < 256 { columns - column } else { 256 };
        if count == 256 && signs.has_four(next) {
            let mask = [0, 1, 2, 3].map(|j| read(from.add(8 * j)));
            put(column, codes::<B>(mask, signs.four(mask, &mut next)), count);
        } else {
            let (codes, ones) = last_codes::<B>(from, count, &signs, next);
            put(column, codes, count);
            next += ones;
        }
        column += count;
    }
    next
}

/// The codes of four words of a mask and their signs.
#[inline(always)]
unsafe fn codes<B: Bits>(mask: [u64; 4], signs: [u64; 4]) -> [u64; 8] {
    let negative = B::deposit(signs, mask);
    B::in_turn(mask.map(|word| !word), [0, 1, 2, 3].map(|j| mask[j] ^ negative[j]))
}

/// The codes of up to 256 weights where neither mask nor signs have to go on, and how many are not zero.
#[inline(never)]
unsafe fn last_codes<B: Bits>(mask: *const u8, count: usize, signs: &Signs, next: usize) -> ([u64; 8], usize) {
    let mask: [u64; 4] = take(mask, count.div_ceil(8), 0);
    let (mut words, mut end) = ([0; 4], next);
    for j in 0..4 {
        let left = signs.end - end / 8;
        let [first, last]: [u64; 2] = take(signs.data.add(end / 8), if left < 9 { left } else { 9 }, 0);
        words[j] = signs_at(first, first >> 8 | last << 56, end);
        end += mask[j].count_ones() as usize;
    }
    (codes::<B>(mask, words), end - next)
}

/// Signs, one after the other.
struct Signs {
    data: *const u8,
    /// The first byte that is not there.
    end: usize,
}

impl Signs {
    /// Whether there are four words of signs from this one on, and the byte that they may begin in.
    #[inline(always)]
    fn has_four(&self, next: usize) -> bool {
        next / 8 + 4 * 8 < self.end
    }

    /// From `next` on as many as each word of the mask has ones, and any above them; `next` goes on.
    #[inline(always)]
    unsafe fn four(&self, mask: [u64; 4], next: &mut usize) -> [u64; 4] {
        let mut words = [0; 4];
        for j in 0..4 {
            let at = self.data.add(*next / 8);
            words[j] = signs_at(read(at), read(at.add(1)), *next);
            *next += mask[j].count_ones() as usize;
        }
        words
    }
}

/// The 64 signs from number `next` on, of the eight bytes from the one that it is in and the eight from the following one,
/// which agree where they overlap.
#[inline(always)]
fn signs_at(first: u64, following: u64, next: usize) -> u64 {
    first >> (next % 8) | following << (8 - next % 8)
}

#[inline(always)]
unsafe fn pack<B: Bits>(packed: *const u8, rows: usize, columns: usize, mask: *mut u8, signs: *mut u8, bytes: usize) {
    let (from, to) = (columns.div_ceil(4), columns.div_ceil(8));
    let mut signs = SignWriter { data: signs, bytes, next: 0, carry: 0 };
    for row in 0..rows {
        let (packed, mask, mut column) = (packed.add(row * from), mask.add(row * to), 0);
        while column + 256 <= columns && signs.has_four() {
            let codes = [0, 1, 2, 3, 4, 5, 6, 7].map(|j| read(packed.add(column / 4 + 8 * j)));
            let (words, negative) = mask_and_signs::<B>(codes);
            for j in 0..4 {
                write(mask.add(column / 8 + 8 * j), words[j]);
                let [low, high] = signs.shifted(negative[j]);
                let at = signs.data.add(signs.next / 8);
                write(at, low);
                *at.add(8) = high as u8;
                signs.advance(low, high, words[j].count_ones() as usize);
            }
            column += 256;
        }
        while column < columns {
            let count = if columns - column < 256 { columns - column } else { 256 };
            signs = pack_last::<B>(packed.add(column / 4), count, mask.add(column / 8), signs);
            column += count;
        }
    }
}

/// The masks and signs of 256 codes.
#[inline(always)]
unsafe fn mask_and_signs<B: Bits>(codes: [u64; 8]) -> ([u64; 4], [u64; 4]) {
    let [low, high] = B::apart(codes);
    let mask = low.map(|word| !word);
    (mask, B::extract([0, 1, 2, 3].map(|j| mask[j] & !high[j]), mask))
}

/// Up to 256 weights where nothing may be read or written past the end.
#[inline(never)]
unsafe fn pack_last<B: Bits>(packed: *const u8, count: usize, mask: *mut u8, mut signs: SignWriter) -> SignWriter {
    let (words, negative) = mask_and_signs::<B>(take(packed, count.div_ceil(4), EVEN));
    core::ptr::copy_nonoverlapping(words.as_ptr().cast(), mask, count.div_ceil(8));
    for j in 0..4 {
        let [low, high] = signs.shifted(negative[j]);
        let left = signs.bytes - signs.next / 8;
        let both = [low, high];
        core::ptr::copy_nonoverlapping(
            both.as_ptr().cast(),
            signs.data.add(signs.next / 8),
            if left < 9 { left } else { 9 },
        );
        signs.advance(low, high, words[j].count_ones() as usize);
    }
    signs
}

/// Writes signs one after the other.
struct SignWriter {
    data: *mut u8,
    bytes: usize,
    /// The next one's bit.
    next: usize,
    /// The bits below it in its byte.
    carry: u64,
}

impl SignWriter {
    /// Whether there is room for four words, and the byte that they may begin in.
    #[inline(always)]
    fn has_four(&self) -> bool {
        self.next / 8 + 4 * 8 < self.bytes
    }

    /// Signs as the nine bytes from the next one's on.
    #[inline(always)]
    fn shifted(&self, signs: u64) -> [u64; 2] {
        let bit = self.next % 8;
        [self.carry | signs << bit, signs >> 1 >> (63 - bit)]
    }

    /// After these, of which `count` are new.
    #[inline(always)]
    fn advance(&mut self, low: u64, high: u64, count: usize) {
        let whole = (self.next + count) / 8 - self.next / 8;
        self.next += count;
        self.carry = if whole == 8 { high } else { low >> (8 * whole) & 0xFF };
    }
}

/// The first `bytes` bytes at p, at most all of the words, and `rest` after them.
#[inline(always)]
unsafe fn take<const N: usize>(p: *const u8, bytes: usize, rest: u64) -> [u64; N] {
    let mut words = [rest; N];
    core::ptr::copy_nonoverlapping(p, words.as_mut_ptr().cast(), bytes);
    words
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
