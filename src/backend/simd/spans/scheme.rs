//! Scales by means, and weights to trits and back: see `scalar/scheme.rs`. One call does a row, or a part of it that begins
//! with a group. The two schemes that sort are in `magnitudes.rs`.

use super::elementwise::{PhiloxStream, philox};
use super::reduce::{BLOCK, block_sum, eight_block_sums};
use super::ternary::eight_trits;
use super::vector::{lanes_sum, load, read, store, write};
use bytemuck::cast;
use wide::{f32x8, i32x8, u32x8};

#[cfg(target_feature = "avx2")]
use core::arch::x86_64::*;

/// The least scale of a mean or median.
const LEAST_SCALE: f32 = 1e-5;

/// max(scale, 1e-5), where NaN stays NaN.
#[inline(always)]
pub fn at_least(scale: f32) -> f32 {
    if scale < LEAST_SCALE { LEAST_SCALE } else { scale }
}

// --- means -------------------------------------------------------------------------------------------------------------------

pub unsafe extern "C" fn absmean(w: *const f32, n: usize, width: usize, thresholds: *mut f32, scales: *mut f32) {
    let (mut start, mut group) = (0, 0);
    let set = |group: usize, gamma: f64| {
        let scale = at_least(gamma as f32);
        *scales.add(group) = scale;
        *thresholds.add(group) = 0.5 * scale;
    };
    // Short groups eight at a time: so they share the folds.
    while width <= BLOCK && start + 8 * width <= n {
        let sums = eight_block_sums(w.add(start), width, |_, v| v.abs()).to_array();
        for (g, sum) in sums.into_iter().enumerate() {
            set(group + g, f64::from(sum) / width as f64);
        }
        start += 8 * width;
        group += 8;
    }
    while start < n {
        let count = if n - start < width { n - start } else { width };
        let mut sum = 0.0;
        let mut i = 0;
        while i < count {
            let len = if count - i < BLOCK { count - i } else { BLOCK };
            sum += f64::from(block_sum(w.add(start + i), len, |v| v.abs()));
            i += len;
        }
        set(group, sum / count as f64);
        start += count;
        group += 1;
    }
}

pub unsafe extern "C" fn mean_above(w: *const f32, n: usize, width: usize, thresholds: *const f32, scales: *mut f32) {
    let (mut start, mut group) = (0, 0);
    while width <= BLOCK && start + 8 * width <= n {
        let mut counts = [i32x8::splat(0); 8];
        let (counts_of, h) = (counts.as_mut_ptr(), thresholds.add(group));
        let sums = eight_block_sums(w.add(start), width, |g, v| {
            let at_most = v.abs().simd_le(f32x8::splat(*h.add(g)));
            *counts_of.add(g) += not(at_most);
            at_most.select(f32x8::ZERO, v.abs())
        });
        for (g, (sum, counts)) in sums.to_array().into_iter().zip(counts).enumerate() {
            *scales.add(group + g) = mean(f64::from(sum), lanes_sum(counts) as u64);
        }
        start += 8 * width;
        group += 8;
    }
    while start < n {
        let count = if n - start < width { n - start } else { width };
        let h = *thresholds.add(group);
        let (mut sum, mut above) = (0.0, 0u64);
        let mut i = 0;
        while i < count {
            let len = if count - i < BLOCK { count - i } else { BLOCK };
            let (block, block_above) = block_above(w.add(start + i), len, h);
            sum += f64::from(block);
            above += u64::from(block_above);
            i += len;
        }
        *scales.add(group) = mean(sum, above);
        start += count;
        group += 1;
    }
}

/// Of `count` numbers; 0 of none.
#[inline(always)]
fn mean(sum: f64, count: u64) -> f32 {
    let divisor = if count == 0 { 1 } else { count };
    (sum / divisor as f64) as f32
}

/// 1 where a mask, which is -1 where it is set, is not.
#[inline(always)]
fn not(mask: f32x8) -> i32x8 {
    cast::<f32x8, i32x8>(mask) + i32x8::splat(1)
}

pub unsafe extern "C" fn sums_above(x: *const f32, n: usize, threshold: f32, sums: *mut f32, counts: *mut u32) {
    let mut start = 0;
    let mut block = 0;
    while start < n {
        let len = if n - start < BLOCK { n - start } else { BLOCK };
        let (sum, above) = block_above(x.add(start), len, threshold);
        *sums.add(block) = sum;
        *counts.add(block) = above;
        start += BLOCK;
        block += 1;
    }
}

/// The sum of a block of at most 4096, with +0 for what is not above h, and how many are. What pads the block is not above.
#[inline(always)]
unsafe fn block_above(x: *const f32, len: usize, h: f32) -> (f32, u32) {
    let h = f32x8::splat(h);
    let mut counts = i32x8::splat(0);
    let sum = block_sum(x, len, |v| {
        let magnitude = v.abs();
        let at_most = magnitude.simd_le(h);
        counts += not(at_most);
        at_most.select(f32x8::ZERO, magnitude)
    });
    (sum, lanes_sum(counts) as u32)
}

// --- what a group shares, for each of its weights ----------------------------------------------------------------------------

/// Walks a row of weights with the values (thresholds or scales) of their groups.
struct Shared {
    values: *const f32,
    width: usize,
    /// Where the group ends whose value is the first of `values`.
    end: usize,
}

impl Shared {
    #[inline(always)]
    fn new(values: *const f32, width: usize) -> Shared {
        Shared { values, width, end: width }
    }

    /// The value of weights i .. i + count, where one group has them all. i does not go back, and has a group.
    #[inline(always)]
    unsafe fn one(&mut self, i: usize, count: usize) -> Option<f32> {
        while i >= self.end {
            self.values = self.values.add(1);
            self.end = self.end.saturating_add(self.width);
        }
        if i + count <= self.end { Some(*self.values) } else { None }
    }

    /// The values of weights i .. i + count in the first lanes.
    #[inline(always)]
    unsafe fn each<const LANES: usize>(&mut self, i: usize, count: usize) -> [f32; LANES] {
        let mut values = [0.0; LANES];
        let mut done = 0;
        while done < count {
            while i + done >= self.end {
                self.values = self.values.add(1);
                self.end = self.end.saturating_add(self.width);
            }
            let left = self.end - i;
            let until = if left < count { left } else { count };
            let value = *self.values;
            let to = values.as_mut_ptr();
            while done < until {
                *to.add(done) = value;
                done += 1;
            }
        }
        values
    }

    /// The values of 32 weights, or of the last `count` of a row.
    #[inline(always)]
    unsafe fn vectors(&mut self, i: usize, count: usize) -> [f32x8; 4] {
        match self.one(i, count) {
            Some(value) => [f32x8::splat(value); 4],
            None => cast(self.each::<32>(i, count)),
        }
    }
}

// --- weights to trits --------------------------------------------------------------------------------------------------------

pub unsafe extern "C" fn ternarize(w: *const f32, n: usize, width: usize, thresholds: *const f32, packed: *mut u8) {
    let mut thresholds = Shared::new(thresholds, width);
    let above = |w: f32x8, h: f32x8| w & w.abs().simd_gt(h);
    let mut i = 0;
    while i + 128 <= n {
        if let Some(h) = thresholds.one(i, 128) {
            let h = f32x8::splat(h);
            let bytes = [0, 32, 64, 96].map(|j| eight_bytes([0, 8, 16, 24].map(|l| above(load(w.add(i + j + l)), h))));
            write(packed.add(i / 4), in_order(bytes));
        } else {
            let mut j = i;
            while j < i + 128 {
                let h = thresholds.vectors(j, 32);
                let kept = [0, 1, 2, 3].map(|l| above(load(w.add(j + 8 * l)), h[l]));
                write(packed.add(j / 4), eight_in_order(eight_bytes(kept)));
                j += 32;
            }
        }
        i += 128;
    }
    while i < n {
        let count = if n - i < 32 { n - i } else { 32 };
        let (w, h) = (up_to_32(w.add(i), count), thresholds.vectors(i, count));
        let bytes = eight_in_order(eight_bytes([0, 1, 2, 3].map(|l| above(w[l], h[l]))));
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), packed.add(i / 4), count.div_ceil(4));
        i += count;
    }
}

pub unsafe extern "C" fn ternarize_stochastic(
    stream: *const PhiloxStream,
    first: u64,
    w: *const f32,
    n: usize,
    width: usize,
    scales: *const f32,
    packed: *mut u8,
) {
    let mut scales = Shared::new(scales, width);
    let mut words = Words::new(&*stream, first);
    let mut i = 0;
    while i < n {
        let count = if n - i < 32 { n - i } else { 32 };
        let (w, s, words) = (up_to_32(w.add(i), count), scales.vectors(i, count), words.next());
        let kept = [0, 1, 2, 3].map(|l| {
            // The top 24 bits are exact as a float, and so is the division by 2^24.
            let u = cast::<u32x8, i32x8>(words[l] >> 8u32).round_float() * f32x8::splat(1.0 / 16_777_216.0);
            w[l] & (u * s[l]).simd_lt(w[l].abs())
        });
        let bytes = eight_in_order(eight_bytes(kept));
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), packed.add(i / 4), count.div_ceil(4));
        i += count;
    }
}

/// The random words of weights from `first` on, 32 at a time; a stream gives those of 32 from a multiple of 32 on.
struct Words<'a> {
    stream: &'a PhiloxStream,
    block: u64,
    /// What `first` is above such a multiple.
    offset: usize,
    /// The words from the last such multiple on, and the next 32.
    two: [u32; 64],
}

impl Words<'_> {
    #[inline(always)]
    unsafe fn new(stream: &PhiloxStream, first: u64) -> Words<'_> {
        let offset = (first % 32) as usize;
        let mut words = Words { stream, block: (first - offset as u64) / 4, offset, two: [0; 64] };
        if offset > 0 {
            write(words.two.as_mut_ptr().add(32), words.fresh());
        }
        words
    }

    #[inline(always)]
    unsafe fn fresh(&mut self) -> [u32x8; 4] {
        let words = philox(self.stream, self.block);
        self.block += 8;
        words
    }

    #[inline(always)]
    unsafe fn next(&mut self) -> [u32x8; 4] {
        let fresh = self.fresh();
        if self.offset == 0 {
            return fresh;
        }
        let two = self.two.as_mut_ptr();
        write(two, read::<[u32x8; 4], u32>(two.add(32)));
        write(two.add(32), fresh);
        read(two.add(self.offset))
    }
}

/// 32 weights, or the last `count` with zeros after them: t = 0 past the last column.
#[inline(always)]
unsafe fn up_to_32(w: *const f32, count: usize) -> [f32x8; 4] {
    if count == 32 {
        return read(w);
    }
    let mut rest = [0f32; 32];
    let to = rest.as_mut_ptr();
    for i in 0..count {
        *to.add(i) = *w.add(i);
    }
    cast(rest)
}

/// The eight packed bytes of 32 weights, one in each lane, from the weights that are not 0 by their sign: those that become
/// 0 have been cleared. The bytes are in the order that `in_order` expects.
#[inline(always)]
fn eight_bytes(kept: [f32x8; 4]) -> i32x8 {
    #[cfg(target_feature = "avx2")]
    // SAFETY: compiled for a target that has AVX2.
    unsafe {
        // As integers, saturated twice: the sign stays, and so does not being 0.
        let kept: [__m256i; 4] = cast(kept);
        let bytes = _mm256_packs_epi16(_mm256_packs_epi32(kept[0], kept[1]), _mm256_packs_epi32(kept[2], kept[3]));
        let one = _mm256_set1_epi8(1);
        let codes = _mm256_add_epi8(_mm256_sign_epi8(one, bytes), one);
        // c0 + 4 c1 and c2 + 4 c3 in 16 bits each, then the first plus 16 times the second in 32.
        let pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x0401));
        cast(_mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0010_0001)))
    }
    #[cfg(not(target_feature = "avx2"))]
    {
        use super::vector::narrow_signed;
        use wide::u8x32;
        // A comparison is -1 where it holds: t = (w > 0) - (w < 0) is the difference of the two masks.
        let trits =
            kept.map(|w| cast::<f32x8, i32x8>(w.simd_lt(f32x8::ZERO)) - cast::<f32x8, i32x8>(w.simd_gt(f32x8::ZERO)));
        let codes: u8x32 = cast::<[i8; 32], u8x32>(narrow_signed(trits)) + u8x32::splat(1);
        // Each lane holds c0 | c1 << 8 | c2 << 16 | c3 << 24 and becomes c0 | c1 << 2 | c2 << 4 | c3 << 6.
        let x: u32x8 = cast(codes);
        let pairs = x | (x >> 6u32);
        cast((pairs | (pairs >> 12u32)) & u32x8::splat(0xFF))
    }
}

/// The bytes of four calls of `eight_bytes`. With AVX2 the packs there have left a vector's bytes in the order 0 2 4 6, 1 3 5
/// 7, and the packs here keep each half: interleaved, the halves are in order.
#[inline(always)]
fn in_order(lanes: [i32x8; 4]) -> [u8; 32] {
    #[cfg(target_feature = "avx2")]
    // SAFETY: compiled for a target that has AVX2.
    unsafe {
        let v: [__m256i; 4] = cast(lanes);
        let bytes = _mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
        let (even, odd) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
        cast([_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd)])
    }
    #[cfg(not(target_feature = "avx2"))]
    super::vector::narrow_unsigned(lanes)
}

/// The bytes of one call of `eight_bytes`.
#[inline(always)]
fn eight_in_order(lanes: i32x8) -> [u8; 8] {
    let [first, ..]: [[u8; 8]; 4] = cast(in_order([lanes; 4]));
    first
}

// --- and back ----------------------------------------------------------------------------------------------------------------

pub unsafe extern "C" fn deternarize_groups(
    packed: *const u8,
    n: usize,
    width: usize,
    scales: *const f32,
    w: *mut f32,
) {
    let mut scales = Shared::new(scales, width);
    let mut i = 0;
    while i + 16 <= n {
        let codes = i32x8::splat(read(packed.add(i / 4)));
        let [low, high] = match scales.one(i, 16) {
            Some(scale) => [f32x8::splat(scale); 2],
            None => cast(scales.each::<16>(i, 16)),
        };
        store(w.add(i), eight_trits(codes) * low);
        store(w.add(i + 8), eight_trits(codes >> 16u32) * high);
        i += 16;
    }
    if i < n {
        let scales = scales.each::<16>(i, n - i);
        let scales = scales.as_ptr();
        let start = i;
        while i < n {
            let code = *packed.add(i / 4) >> (2 * (i % 4)) & 3;
            *w.add(i) = *scales.add(i - start) * (f32::from(code) - 1.0);
            i += 1;
        }
    }
}
