//! Unaligned loads and stores of `wide` vectors, and the few operations that `wide` lacks.

use bytemuck::{Pod, cast};
use wide::{f32x8, i32x8};
#[cfg(target_feature = "avx512f")]
use wide::{f32x16, i32x16};

/// For what divides and takes roots: AVX-512 does that for sixteen in the time of eight.
#[cfg(target_feature = "avx512f")]
pub type Wide = f32x16;
#[cfg(target_feature = "avx512f")]
pub type WideIntegers = i32x16;
#[cfg(not(target_feature = "avx512f"))]
pub type Wide = f32x8;
#[cfg(not(target_feature = "avx512f"))]
pub type WideIntegers = i32x8;
/// Its lanes.
pub const WIDE: usize = size_of::<Wide>() / size_of::<f32>();

#[cfg(target_feature = "avx2")]
use core::arch::x86_64::{__m256i, _mm256_packs_epi16, _mm256_packs_epi32, _mm256_packus_epi16};

#[inline(always)]
pub unsafe fn load(p: *const f32) -> f32x8 {
    read(p)
}

#[inline(always)]
pub unsafe fn store(p: *mut f32, v: f32x8) {
    write(p, v);
}

#[inline(always)]
pub unsafe fn load_wide(p: *const f32) -> Wide {
    read(p)
}

/// Reads a vector of any type, at any alignment.
#[inline(always)]
pub unsafe fn read<V: Pod, T>(p: *const T) -> V {
    p.cast::<V>().read_unaligned()
}

/// Writes a vector of any type, at any alignment.
#[inline(always)]
pub unsafe fn write<V: Pod, T>(p: *mut T, v: V) {
    p.cast::<V>().write_unaligned(v);
}

/// Asks for the cache line of an address that is written soon: a store that has to wait for its line holds up those behind it. Any
/// address will do.
#[inline(always)]
pub fn prefetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which faults nowhere.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// The same for what is read after a while, and would push what is used now out of the nearest cache.
#[inline(always)]
pub fn prefetch_far<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which faults nowhere.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Eight signed bytes as floats.
#[inline(always)]
pub unsafe fn widen(p: *const i8) -> f32x8 {
    #[cfg(target_feature = "avx2")]
    // SAFETY: compiled for a target that has AVX2; eight bytes are read.
    {
        use core::arch::x86_64::{_mm_loadl_epi64, _mm256_cvtepi8_epi32};
        to_float(cast(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))))
    }
    #[cfg(not(target_feature = "avx2"))]
    {
        // Each byte to the top of a word, and down again with its sign.
        let [low, high]: [u32; 2] = read(p);
        let words = i32x8::new([low, low, low, low, high, high, high, high].map(|word| word as i32));
        let [a, b, c, d, e, f, g, h] = words.to_array();
        to_float(i32x8::new([a << 24, b << 16, c << 8, d, e << 24, f << 16, g << 8, h]) >> 24)
    }
}

/// Asks for so many elements that are read soon.
#[inline(always)]
pub fn prefetch_all<T>(p: *const T, count: usize) {
    const LINE: usize = 64;
    let mut at = 0;
    while at < count {
        prefetch(p.wrapping_add(at));
        at += LINE / size_of::<T>();
    }
}

/// 32 integers of -128 ..= 127 as bytes, in order.
#[inline(always)]
pub fn narrow_signed(v: [i32x8; 4]) -> [i8; 32] {
    #[cfg(target_feature = "avx2")]
    // SAFETY: compiled for a target that has AVX2.
    unsafe {
        let v: [__m256i; 4] = cast(v);
        in_order(_mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3])))
    }
    #[cfg(not(target_feature = "avx2"))]
    {
        use wide::{i8x16, i16x8};
        let half = |low, high| {
            let both = [i16x8::from_i32x8_saturate(low), i16x8::from_i32x8_saturate(high)];
            i8x16::from_i16x16_saturate(cast(both))
        };
        cast([half(v[0], v[1]), half(v[2], v[3])])
    }
}

/// 32 integers of 0 ..= 255 as bytes, in order.
#[inline(always)]
pub fn narrow_unsigned(v: [i32x8; 4]) -> [u8; 32] {
    #[cfg(target_feature = "avx2")]
    // SAFETY: compiled for a target that has AVX2.
    unsafe {
        let v: [__m256i; 4] = cast(v);
        in_order(_mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3])))
    }
    #[cfg(not(target_feature = "avx2"))]
    {
        use wide::{i16x8, u8x16};
        let half = |low, high| u8x16::narrow_i16x8(i16x8::from_i32x8_saturate(low), i16x8::from_i32x8_saturate(high));
        cast([half(v[0], v[1]), half(v[2], v[3])])
    }
}

/// The packs of AVX2 work in each half of a register: after two of them, the groups of four bytes stand in the order
/// 0 2 4 6 1 3 5 7.
#[cfg(target_feature = "avx2")]
#[inline(always)]
unsafe fn in_order<T: Pod>(packed: __m256i) -> T {
    use core::arch::x86_64::{_mm256_permutevar8x32_epi32, _mm256_setr_epi32};
    cast(_mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)))
}

/// Integers as floats, rounded half to even.
#[inline(always)]
pub fn to_float(v: i32x8) -> f32x8 {
    v.round_float()
}

/// The sum of the eight lanes, modulo 2^32.
#[inline(always)]
pub fn lanes_sum(v: i32x8) -> i32 {
    v.to_array().iter().fold(0, |sum: i32, &lane| sum.wrapping_add(lane))
}
