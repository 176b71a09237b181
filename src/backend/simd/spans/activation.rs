//! Activations as int8 codes with one scale a row.

use super::vector::{load, narrow_signed, read, store, to_float, write};
use bytemuck::cast;
use wide::{f32x8, i8x16, i16x8, i16x16, i32x8};

pub unsafe extern "C" fn quantize_activations(x: *const f32, n: usize, least: f32, codes: *mut i8) -> f32 {
    let absmax = absmax(x, n, least);
    let factor = 127.0 / absmax;
    let factors = f32x8::splat(factor);
    let mut i = 0;
    while i + 32 <= n {
        let rounded = [0, 8, 16, 24].map(|j| code(load(x.add(i + j)) * factors));
        write(codes.add(i), narrow_signed(rounded));
        i += 32;
    }
    if i < n {
        let mut rest = [0f32; 32];
        core::ptr::copy_nonoverlapping(x.add(i), rest.as_mut_ptr(), n - i);
        let rounded = [0, 8, 16, 24].map(|j| code(load(rest.as_ptr().add(j)) * factors));
        core::ptr::copy_nonoverlapping(narrow_signed(rounded).as_ptr(), codes.add(i), n - i);
    }
    absmax
}

/// max(max |x|, least); NaN when an x is. As integers, the bits of floats without sign are in the same order, and those of
/// NaN are above all others.
#[inline(always)]
pub unsafe fn absmax(x: *const f32, n: usize, least: f32) -> f32 {
    let least = least.to_bits() as i32;
    let mut lanes = [i32x8::splat(least); 4];
    let mut i = 0;
    while i + 32 <= n {
        for j in 0..4 {
            lanes[j] = lanes[j].max(cast(load(x.add(i + 8 * j)).abs()));
        }
        i += 32;
    }
    let eight = lanes[0].max(lanes[1]).max(lanes[2].max(lanes[3])).to_array();
    let mut largest = eight.iter().fold(least, |a: i32, &b| if b > a { b } else { a });
    while i < n {
        let v = (*x.add(i)).abs().to_bits() as i32;
        largest = if v > largest { v } else { largest };
        i += 1;
    }
    f32::from_bits(largest as u32)
}

/// clip(round_half_even(v), -127, 127), and 0 for NaN. Clipped before the conversion, which overflows; it rounds half to even.
#[inline(always)]
pub fn code(v: f32x8) -> i32x8 {
    let number = v & v.simd_eq(v);
    number.fast_max(f32x8::splat(-127.0)).fast_min(f32x8::splat(127.0)).fast_round_int()
}

pub unsafe extern "C" fn dequantize_activations(codes: *const i8, n: usize, scale: f32, x: *mut f32) {
    let scales = f32x8::splat(scale);
    let mut i = 0;
    while i + 16 <= n {
        let wide = i16x16::from_i8x16(read::<i8x16, i8>(codes.add(i)));
        let [low, high]: [i16x8; 2] = cast(wide);
        store(x.add(i), to_float(i32x8::from_i16x8(low)) * scales);
        store(x.add(i + 8), to_float(i32x8::from_i16x8(high)) * scales);
        i += 16;
    }
    while i < n {
        *x.add(i) = scale * f32::from(*codes.add(i));
        i += 1;
    }
}
