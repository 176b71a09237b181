use super::math::{load_part, map_two, store_part};
use super::vector::{load, store};
use bytemuck::cast;
#[cfg(target_feature = "avx512f")]
use wide::u64x8;
use wide::{f32x8, i32x8, u32x8, u64x4};

pub unsafe extern "C" fn fill(value: f32, y: *mut f32, n: usize) {
    let v = f32x8::splat(value);
    let mut i = 0;
    while i + 8 <= n {
        store(y.add(i), v);
        i += 8;
    }
    while i < n {
        *y.add(i) = value;
        i += 1;
    }
}

pub unsafe extern "C" fn add(x: *const f32, y: *mut f32, n: usize) {
    map_two(x, y, y, n, |x, y| y + x);
}

/// What selects one stream of random words: see `tensor::random`.
#[repr(C)]
pub struct PhiloxStream {
    pub key: [u32; 2],
    pub purpose: u32,
    pub step: u32,
    pub tensor: u32,
}

pub unsafe extern "C" fn dropout(
    stream: *const PhiloxStream,
    block: u64,
    threshold: u32,
    scale: f32,
    x: *mut f32,
    n: usize,
) {
    let stream = &*stream;
    let threshold = i32x8::splat(threshold as i32);
    let scale = f32x8::splat(scale);
    // Both sides are below 2^24, so the signed comparison is right.
    let kept = |x: f32x8, words: u32x8| -> f32x8 {
        let dropped: f32x8 = bytemuck::cast(bytemuck::cast::<u32x8, i32x8>(words >> 8u32).simd_lt(threshold));
        dropped.select(f32x8::ZERO, x * scale)
    };
    let mut i = 0;
    while i < n {
        let words = philox(stream, block + i as u64 / 4);
        for (j, words) in words.into_iter().enumerate() {
            let at = i + 8 * j;
            let rest = n.saturating_sub(at);
            if rest >= 8 {
                store(x.add(at), kept(load(x.add(at)), words));
            } else if rest > 0 {
                store_part(x.add(at), kept(load_part(x.add(at), rest, 0.0), words), rest);
            }
        }
        i += 32;
    }
}

pub unsafe extern "C" fn clamp(low: f32, high: f32, x: *mut f32, n: usize) -> usize {
    let (lows, highs) = (f32x8::splat(low), f32x8::splat(high));
    let mut outside = 0;
    let mut i = 0;
    while i + 8 <= n {
        let v = load(x.add(i));
        let (below, above) = (v.simd_lt(lows), v.simd_gt(highs));
        store(x.add(i), below.select(lows, above.select(highs, v)));
        outside += (below | above).to_bitmask().count_ones() as usize;
        i += 8;
    }
    while i < n {
        let v = *x.add(i);
        if v < low || v > high {
            *x.add(i) = if v < low { low } else { high };
            outside += 1;
        }
        i += 1;
    }
    outside
}

const LOW: u64 = 0xFFFF_FFFF;
const MULTIPLIER: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Counter words of the widest vector of the level: those of eight blocks are one of AVX-512.
#[cfg(target_feature = "avx512f")]
type Words = u64x8;
#[cfg(not(target_feature = "avx512f"))]
type Words = u64x4;
const VECTORS: usize = size_of::<[u64; 8]>() / size_of::<Words>();

/// The 32 words of 8 blocks from `block` on, in element order. The first block is a multiple of 8.
///
/// A counter word stands in the low half of a 64-bit lane; what is in the high half is ignored, so that the product's low
/// word needs no masking: one multiplication gives both halves of 32 x 32 bits.
#[inline(always)]
pub unsafe fn philox(stream: &PhiloxStream, block: u64) -> [u32x8; 4] {
    let low = Words::splat(LOW);
    let multiplier = MULTIPLIER.map(Words::splat);
    // The 8 blocks share the bits above the lowest 32: 2^32 is a multiple of 8.
    let first = Words::splat(block & LOW);
    let high = Words::splat(u64::from(stream.purpose << 24) | (block >> 32 & 0x00FF_FFFF));
    let offsets: [Words; VECTORS] = cast([0u64, 1, 2, 3, 4, 5, 6, 7]);
    let mut state = offsets.map(|offset| {
        [first + offset, high, Words::splat(u64::from(stream.step)), Words::splat(u64::from(stream.tensor))]
    });
    let [mut key0, mut key1] = stream.key;
    for _ in 0..10 {
        let (k0, k1) = (Words::splat(u64::from(key0)), Words::splat(u64::from(key1)));
        for c in &mut state {
            let p0 = (c[0] & low) * multiplier[0];
            let p1 = (c[2] & low) * multiplier[1];
            *c = [(p1 >> 32u64) ^ c[1] ^ k0, p1, (p0 >> 32u64) ^ c[3] ^ k1, p0];
        }
        key0 = key0.wrapping_add(WEYL[0]);
        key1 = key1.wrapping_add(WEYL[1]);
    }
    let front: [u64x4; 2] = cast(state.map(|c| (c[0] & low) | (c[1] << 32u64)));
    let back: [u64x4; 2] = cast(state.map(|c| (c[2] & low) | (c[3] << 32u64)));
    let part = |i: usize| [cast(front[i].unpack_lo(back[i])), cast(front[i].unpack_hi(back[i]))];
    let ([a, b], [c, d]) = (part(0), part(1));
    [a, b, c, d]
}
