//! Gradients in few bits: see `scalar/gradient.rs`.

use super::elementwise::{PhiloxStream, philox};
use super::math::{load_up_to, max, min};
use super::reduce::{LANES, fold};
use super::scheme::ternarize;
use super::vector::{lanes_sum, load, narrow_signed, store, to_float, write};
use bytemuck::cast;
use wide::{f32x8, i32x8, u32x8};

const LEAST_SCALE: f32 = f32::MIN_POSITIVE;
/// One step below f32::MAX / 127, whose 127-fold overflows.
const LARGEST_SCALE: f32 = f32::from_bits((f32::MAX / 127.0).to_bits() - 1);

pub unsafe extern "C" fn quantize_gradients(
    stream: *const PhiloxStream,
    block: u64,
    g: *const f32,
    n: usize,
    codes: *mut i8,
) -> f32 {
    let stream = &*stream;
    let scale = absmax(g, n) / 127.0;
    let scale = if scale > LEAST_SCALE { scale } else { LEAST_SCALE };
    let scale = if scale < LARGEST_SCALE { scale } else { LARGEST_SCALE };
    let mut i = 0;
    while i + 32 <= n {
        let words = philox(stream, block + i as u64 / 4);
        write(codes.add(i), narrow_signed([0, 1, 2, 3].map(|j| code(load(g.add(i + 8 * j)), scale, words[j]))));
        i += 32;
    }
    if i < n {
        let mut rest = [0f32; 32];
        core::ptr::copy_nonoverlapping(g.add(i), rest.as_mut_ptr(), n - i);
        let words = philox(stream, block + i as u64 / 4);
        let last = narrow_signed([0, 1, 2, 3].map(|j| code(load(rest.as_ptr().add(8 * j)), scale, words[j])));
        core::ptr::copy_nonoverlapping(last.as_ptr(), codes.add(i), n - i);
    }
    scale
}

/// max |g|, where NaN counts as nothing.
#[inline(always)]
unsafe fn absmax(g: *const f32, n: usize) -> f32 {
    let mut lanes = [f32x8::ZERO; 4];
    let mut i = 0;
    while i + 32 <= n {
        for j in 0..4 {
            lanes[j] = max(load(g.add(i + 8 * j)).abs(), lanes[j]);
        }
        i += 32;
    }
    while i < n {
        lanes[0] = max(load_up_to(g.add(i), n - i).abs(), lanes[0]);
        i += 8;
    }
    let eight = max(max(lanes[0], lanes[1]), max(lanes[2], lanes[3])).to_array();
    eight.iter().fold(0.0, |a: f32, &b| if b > a { b } else { a })
}

/// |g / scale|, up to 127 (of NaN too), rounded up where the top 24 random bits are below its fraction; with the sign of g.
#[inline(always)]
fn code(g: f32x8, scale: f32, words: u32x8) -> i32x8 {
    let magnitude = min((g / f32x8::splat(scale)).abs(), f32x8::splat(127.0));
    let below = magnitude.fast_trunc_int();
    let part = (magnitude - to_float(below)) * 16_777_216.0;
    let up: i32x8 = cast(to_float(cast::<u32x8, i32x8>(words >> 8u32)).simd_lt(part));
    // A mask is -1 where it is set.
    let code = below - up;
    let negative: i32x8 = cast(g.simd_lt(f32x8::ZERO));
    (code ^ negative) - negative
}

/// The sum of |g + error| above `threshold` of at most 4096 elements as a canonical block, and how many there are.
pub unsafe extern "C" fn gradient_magnitudes(
    g: *const f32,
    error: *const f32,
    n: usize,
    threshold: f32,
    above: *mut usize,
) -> f32 {
    let thresholds = f32x8::splat(threshold);
    let mut lanes = [f32x8::ZERO; 4];
    let mut counts = [i32x8::ZERO; 4];
    let mut i = 0;
    while i < n {
        let count = if n - i < LANES { n - i } else { LANES };
        let (mut rest, mut from, mut owed) = ([[0f32; LANES]; 2], g.add(i), error.add(i));
        if count < LANES {
            core::ptr::copy_nonoverlapping(from, rest[0].as_mut_ptr(), count);
            core::ptr::copy_nonoverlapping(owed, rest[1].as_mut_ptr(), count);
            (from, owed) = (rest[0].as_ptr(), rest[1].as_ptr());
        }
        for j in 0..4 {
            let magnitude = (load(from.add(8 * j)) + load(owed.add(8 * j))).abs();
            let mask = magnitude.simd_gt(thresholds);
            // What is not above adds +0 to a lane that holds +0 or more: no bit changes.
            lanes[j] += magnitude & mask;
            counts[j] -= cast::<f32x8, i32x8>(mask);
        }
        i += LANES;
    }
    // The padding of the last vectors is counted where 0 is above the threshold.
    let padding = if threshold < 0.0 { n.next_multiple_of(LANES) - n } else { 0 };
    *above = lanes_sum((counts[0] + counts[1]) + (counts[2] + counts[3])) as usize - padding;
    fold(lanes)
}

/// Elements at a time: their packed bytes are a vector.
const PIECE: usize = 128;

/// error[n] = x - scale * t and the packed trits of x = g[n] + error[n].
pub unsafe extern "C" fn ternarize_gradients(
    g: *const f32,
    n: usize,
    threshold: f32,
    scale: f32,
    error: *mut f32,
    packed: *mut u8,
) {
    let (high, low) = (f32x8::splat(threshold), f32x8::splat(-threshold));
    let (plus, minus) = (f32x8::splat(scale), f32x8::splat(-scale));
    let mut x = [0f32; PIECE];
    let mut i = 0;
    while i < n {
        let count = if n - i < PIECE { n - i } else { PIECE };
        let mut j = 0;
        while j + 8 <= count {
            let sum = load(g.add(i + j)) + load(error.add(i + j));
            store(x.as_mut_ptr().add(j), sum);
            let taken = (sum.simd_gt(high) & plus) | (sum.simd_lt(low) & minus);
            store(error.add(i + j), sum - taken);
            j += 8;
        }
        while j < count {
            let sum = *g.add(i + j) + *error.add(i + j);
            *x.as_mut_ptr().add(j) = sum;
            let taken = if sum > threshold {
                scale
            } else if sum < -threshold {
                -scale
            } else {
                0.0
            };
            *error.add(i + j) = sum - taken;
            j += 1;
        }
        ternarize(x.as_ptr(), count, PIECE, &threshold, packed.add(i / 4));
        i += PIECE;
    }
}
