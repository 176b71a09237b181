//! Sums of products of codes, unsigned bytes of at most 2, with signed ones of at most 127: the arithmetic of the int8 x
//! ternary products. One way for each CPU level, [`Native`] the one of the level that is compiled.
//!
//! | level | a step | lanes |
//! |---|---|---|
//! | baseline | even and odd bytes as 16-bit numbers, multiplied and added into 32 bits | 8 of 32 bits |
//! | x86-64-v3 | maddubs adds two products into 16 bits | 16 of 16 bits |
//! | x86-64-v4 | the same, twice as wide | 32 of 16 bits |
//! | x86-64-v4+vnni | dpbusd adds four products into 32 bits | 16 of 32 bits |
//!
//! What an instruction does that `wide` lacks stands beside it in portable form, so that every way compiles, and its algorithm
//! runs in the tests, at every level.

// A level uses one of them.
#![cfg_attr(not(test), allow(dead_code))]

use bytemuck::{Pod, cast};
#[cfg(target_feature = "avx512bw")]
use core::mem::transmute;
use wide::{i8x32, i16x16, i16x32, i32x8, i32x16, u8x32, u16x16, u16x32};

#[cfg(target_feature = "avx512vnni")]
pub type Native = Dpbusd;
#[cfg(all(target_feature = "avx512bw", not(target_feature = "avx512vnni")))]
pub type Native = WideMaddubs;
#[cfg(all(target_feature = "avx2", not(target_feature = "avx512bw")))]
pub type Native = Maddubs;
#[cfg(not(target_feature = "avx2"))]
pub type Native = Halves;

pub trait Dots {
    /// A register of codes, or of the bytes that they are multiplied with.
    type Bytes: Register;
    /// Sums of products of neighbours, as the steps add them up.
    type Sums: Pod;
    /// Sums of four neighbours each, in 32 bits, modulo 2^32.
    type Totals: Pod + core::ops::AddAssign;
    /// Bytes in a register.
    const WIDTH: usize = size_of::<Self::Bytes>();
    /// Steps that fit into `Sums` before they are added to totals.
    const STEPS: usize;
    /// Rows of x in one pass over a panel: as many as leave their sums in registers, and enough to hide a step's latency.
    const TILE: usize;
    /// Weight rows that are multiplied by one row of x at a time. (By two rows, four.)
    const ROWS: usize;

    /// sums + the products of codes and bytes.
    fn step(sums: Self::Sums, codes: Self::Bytes, bytes: Self::Bytes) -> Self::Sums;
    fn totals(sums: Self::Sums) -> Self::Totals;
}

/// Sums of products of any unsigned bytes with signed ones of at most 32: of two registers of each, four neighbours at a time.
/// maddubs makes sums of two of at most 2 * 255 * 32 = 16,320; two of these fit into 16 bits.
pub trait Products: Dots {
    /// Rows in one pass over a panel.
    const ROWS_OF_PRODUCTS: usize;

    /// totals + the products, in 32 bits.
    fn products(totals: Self::Totals, bytes: [Self::Bytes; 2], numbers: [Self::Bytes; 2]) -> Self::Totals;
}

/// maddubs adds at most 2 * 2 * 127 = 508 to an i16 in a step.
const MADDUBS_STEPS: usize = 64;
/// 32-bit sums are modulo 2^32: they may go on for as long as there are bytes.
const NO_LIMIT: usize = usize::MAX >> 8;

/// Without instructions of its own.
pub struct Halves;

impl Dots for Halves {
    type Bytes = u8x32;
    type Sums = i32x8;
    type Totals = i32x8;
    const STEPS: usize = NO_LIMIT;
    const TILE: usize = 2;
    const ROWS: usize = 4;

    #[inline(always)]
    fn step(sums: i32x8, codes: u8x32, bytes: u8x32) -> i32x8 {
        let (codes, bytes): (i16x16, i16x16) = (cast(codes), cast(bytes));
        let even = (codes & i16x16::splat(0xFF)).dot((bytes << 8u32) >> 8u32);
        // Codes are below 128, so the sign that the shift copies is 0.
        sums + (even + (codes >> 8u32).dot(bytes >> 8u32))
    }

    #[inline(always)]
    fn totals(sums: i32x8) -> i32x8 {
        sums
    }
}

impl Products for Halves {
    const ROWS_OF_PRODUCTS: usize = 2;

    #[inline(always)]
    fn products(totals: i32x8, bytes: [u8x32; 2], numbers: [u8x32; 2]) -> i32x8 {
        let both = |bytes: u8x32, numbers: u8x32| {
            let (words, numbers): (u16x16, i16x16) = (cast(bytes), cast(numbers));
            let (even, odd): (i16x16, i16x16) = (cast(words & u16x16::splat(0xFF)), cast(words >> 8u32));
            even.dot((numbers << 8u32) >> 8u32) + odd.dot(numbers >> 8u32)
        };
        totals + (both(bytes[0], numbers[0]) + both(bytes[1], numbers[1]))
    }
}

/// 32 bytes by maddubs.
pub struct Maddubs;

impl Dots for Maddubs {
    type Bytes = u8x32;
    type Sums = i16x16;
    type Totals = i32x8;
    const STEPS: usize = MADDUBS_STEPS;
    const TILE: usize = 6;
    const ROWS: usize = 4;

    #[inline(always)]
    fn step(sums: i16x16, codes: u8x32, bytes: u8x32) -> i16x16 {
        sums + maddubs(codes, cast(bytes))
    }

    #[inline(always)]
    fn totals(sums: i16x16) -> i32x8 {
        sums.dot(i16x16::splat(1))
    }
}

impl Products for Maddubs {
    const ROWS_OF_PRODUCTS: usize = 4;

    #[inline(always)]
    fn products(totals: i32x8, bytes: [u8x32; 2], numbers: [u8x32; 2]) -> i32x8 {
        let pairs = maddubs(bytes[0], cast(numbers[0])) + maddubs(bytes[1], cast(numbers[1]));
        totals + pairs.dot(i16x16::splat(1))
    }
}

/// 64 bytes by maddubs.
pub struct WideMaddubs;

impl Dots for WideMaddubs {
    type Bytes = [u8; 64];
    type Sums = i16x32;
    type Totals = i32x16;
    const STEPS: usize = MADDUBS_STEPS;
    const TILE: usize = 12;
    const ROWS: usize = 8;

    #[inline(always)]
    fn step(sums: i16x32, codes: [u8; 64], bytes: [u8; 64]) -> i16x32 {
        sums + wide_maddubs(codes, cast(bytes))
    }

    #[inline(always)]
    fn totals(sums: i16x32) -> i32x16 {
        sums.dot(i16x32::splat(1))
    }
}

impl Products for WideMaddubs {
    const ROWS_OF_PRODUCTS: usize = 8;

    #[inline(always)]
    fn products(totals: i32x16, bytes: [[u8; 64]; 2], numbers: [[u8; 64]; 2]) -> i32x16 {
        let pairs = wide_maddubs(bytes[0], cast(numbers[0])) + wide_maddubs(bytes[1], cast(numbers[1]));
        totals + pairs.dot(i16x32::splat(1))
    }
}

/// 64 bytes by dpbusd.
pub struct Dpbusd;

impl Dots for Dpbusd {
    type Bytes = [u8; 64];
    type Sums = i32x16;
    type Totals = i32x16;
    const STEPS: usize = NO_LIMIT;
    const TILE: usize = 12;
    const ROWS: usize = 8;

    #[inline(always)]
    fn step(sums: i32x16, codes: [u8; 64], bytes: [u8; 64]) -> i32x16 {
        dpbusd(sums, codes, cast(bytes))
    }

    #[inline(always)]
    fn totals(sums: i32x16) -> i32x16 {
        sums
    }
}

impl Products for Dpbusd {
    const ROWS_OF_PRODUCTS: usize = 8;

    #[inline(always)]
    fn products(totals: i32x16, bytes: [[u8; 64]; 2], numbers: [[u8; 64]; 2]) -> i32x16 {
        dpbusd(dpbusd(totals, bytes[0], cast(numbers[0])), bytes[1], cast(numbers[1]))
    }
}

/// Bytes in registers.
pub trait Register: Pod {
    /// The four bytes of a word, again and again.
    fn repeat(word: i32) -> Self;
    /// The codes at bits 2 i of packed bytes.
    fn codes(self, i: u32) -> Self;
    /// The five digits to base 3 of bytes below 243, lowest first.
    fn digits(self) -> [Self; 5];
}

impl Register for u8x32 {
    #[inline(always)]
    fn repeat(word: i32) -> u8x32 {
        cast(i32x8::splat(word))
    }

    #[inline(always)]
    fn codes(self, i: u32) -> u8x32 {
        let shifted: u8x32 = cast(cast::<u8x32, u16x16>(self) >> (2 * i));
        shifted & u8x32::splat(3)
    }

    /// The highest digit by comparison, the other four in pairs: 57 / 512 is a little more than 1 / 9, and floor(57 n / 512) =
    /// floor(n / 9) for all n below 81.
    #[inline(always)]
    fn digits(self) -> [u8x32; 5] {
        let signed: i8x32 = cast(self ^ u8x32::splat(0x80));
        let (one, two) = (signed.simd_gt(i8x32::splat(-48)), signed.simd_gt(i8x32::splat(33)));
        let highest: u8x32 = cast((one + two).abs());
        let rest = self - entries([0, 81, 162, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], highest);
        let even: u16x16 = cast(maddubs(rest, cast(i16x16::splat(57))));
        let odd: u16x16 = cast(maddubs(rest, cast(i16x16::splat(57 << 8))));
        let ninths: u8x32 = cast((even >> 9u32) | ((odd >> 1u32) & u16x16::splat(0x0F00)));
        let low = rest - entries([0, 9, 18, 27, 36, 45, 54, 63, 72, 0, 0, 0, 0, 0, 0, 0], ninths);
        const MODULO: [u8; 16] = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0];
        const THIRDS: [u8; 16] = [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0];
        [entries(MODULO, low), entries(THIRDS, low), entries(MODULO, ninths), entries(THIRDS, ninths), highest]
    }
}

impl Register for [u8; 64] {
    #[inline(always)]
    fn repeat(word: i32) -> [u8; 64] {
        cast(i32x16::splat(word))
    }

    #[inline(always)]
    fn codes(self, i: u32) -> [u8; 64] {
        cast((cast::<[u8; 64], u16x32>(self) >> (2 * i)) & u16x32::splat(0x0303))
    }

    #[inline(always)]
    fn digits(self) -> [[u8; 64]; 5] {
        let [low, high]: [u8x32; 2] = cast(self);
        let (low, high) = (low.digits(), high.digits());
        core::array::from_fn(|i| cast([low[i], high[i]]))
    }
}

/// table[index] of indices below 16.
#[inline(always)]
fn entries(table: [u8; 16], index: u8x32) -> u8x32 {
    let both: u8x32 = cast([table, table]);
    cast(both.swizzle_half(cast(index)))
}

// --- the instructions that `wide` lacks --------------------------------------------------------------------------------------

/// codes[2 i] * x[2 i] + codes[2 i + 1] * x[2 i + 1] in lane i.
#[inline(always)]
fn maddubs(codes: u8x32, x: i8x32) -> i16x16 {
    #[cfg(target_feature = "avx2")]
    // SAFETY: compiled for a target that has AVX2.
    return cast(unsafe { core::arch::x86_64::_mm256_maddubs_epi16(cast(codes), cast(x)) });
    #[cfg(not(target_feature = "avx2"))]
    {
        let (codes, x) = (codes.to_array(), x.to_array());
        let product = |i: usize| i16::from(codes[i]) * i16::from(x[i]);
        cast(core::array::from_fn::<i16, 16, _>(|i| product(2 * i).saturating_add(product(2 * i + 1))))
    }
}

/// The same of 64 bytes.
#[inline(always)]
fn wide_maddubs(codes: [u8; 64], x: [i8; 64]) -> i16x32 {
    #[cfg(target_feature = "avx512bw")]
    // SAFETY: compiled for a target that has AVX512-BW; all are 64 bytes of integers.
    return unsafe { transmute(core::arch::x86_64::_mm512_maddubs_epi16(transmute(codes), transmute(x))) };
    #[cfg(not(target_feature = "avx512bw"))]
    {
        let product = |i: usize| i16::from(codes[i]) * i16::from(x[i]);
        cast(core::array::from_fn::<i16, 32, _>(|i| product(2 * i).saturating_add(product(2 * i + 1))))
    }
}

/// sums[i] + the sum of codes[4 i + j] * x[4 i + j] over j in 0..4 in lane i.
#[inline(always)]
fn dpbusd(sums: i32x16, codes: [u8; 64], x: [i8; 64]) -> i32x16 {
    #[cfg(target_feature = "avx512vnni")]
    // SAFETY: compiled for a target that has AVX512-VNNI; all are 64 bytes of integers.
    return unsafe {
        transmute(core::arch::x86_64::_mm512_dpbusd_epi32(transmute(sums), transmute(codes), transmute(x)))
    };
    #[cfg(not(target_feature = "avx512vnni"))]
    {
        let product = |i: usize| i32::from(codes[i]) * i32::from(x[i]);
        let four = |i: usize| product(4 * i) + product(4 * i + 1) + product(4 * i + 2) + product(4 * i + 3);
        cast(core::array::from_fn::<i32, 16, _>(|i| sums.to_array()[i].wrapping_add(four(i))))
    }
}
