//! Gradients as int8 codes: see `scalar/gradient.rs`.

use super::activation::absmax;
use super::elementwise::{PhiloxStream, philox};
use super::vector::{load, narrow_signed, to_float, write};
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
    let scale = absmax(g, n, 0.0) / 127.0;
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

/// |g / scale|, up to 127, rounded up where the top 24 random bits are below its fraction; with the sign of g.
#[inline(always)]
fn code(g: f32x8, scale: f32, words: u32x8) -> i32x8 {
    let magnitude = (g / f32x8::splat(scale)).abs().fast_min(f32x8::splat(127.0));
    let below = magnitude.fast_trunc_int();
    let part = (magnitude - to_float(below)) * 16_777_216.0;
    let up: i32x8 = cast(to_float(cast::<u32x8, i32x8>(words >> 8u32)).simd_lt(part));
    // A mask is -1 where it is set.
    let code = below - up;
    let negative: i32x8 = cast(g.simd_lt(f32x8::ZERO));
    (code ^ negative) - negative
}
