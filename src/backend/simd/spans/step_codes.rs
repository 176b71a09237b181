//! States of optimizers as codes of 8 bits: see `scalar/step.rs`, whose roundings these are. A block is [`CODES`] elements, and
//! memory for as many; where `count` is less, what is past it means nothing. None is inlined:
//! a call is little beside 256 elements.

use super::elementwise::{PhiloxStream, philox};
use super::vector::{
    WIDE, Wide, WideIntegers, load_wide, narrow_signed, narrow_unsigned, read, to_float, widen, write,
};
use bytemuck::cast;
use core::array::from_fn;
use wide::{f32x8, i16x8, i32x8, u8x16, u16x8, u32x8};

/// Elements that share a scale.
pub const CODES: usize = 256;
/// Elements that are packed at a time.
const GROUP: usize = 32;

#[inline(always)]
unsafe fn decode(codes: *const u8, to: *mut f32, count: usize, value: impl Fn(*const u8) -> f32x8) {
    let mut i = 0;
    while i < count {
        write_wide(to.add(i), [value(codes.add(i)), value(codes.add(i + 8))]);
        i += 16;
    }
}

/// As wide as it is read: what is read soon would wait for both halves to be written.
#[inline(always)]
unsafe fn write_wide(to: *mut f32, halves: [f32x8; 2]) {
    write(to, cast::<[f32x8; 2], [Wide; 16 / WIDE]>(halves));
}

#[inline(never)]
pub unsafe fn decode_parameter(codes: *const u8, scale: f32, to: *mut f32, count: usize) {
    decode(codes, to, count, |codes| widen(codes.cast()) * f32x8::splat(scale));
}

#[inline(never)]
pub unsafe fn decode_m(codes: *const u8, scale: f32, to: *mut f32, count: usize) {
    decode(codes, to, count, |codes| {
        let code = widen(codes.cast());
        // The product of two codes is exact.
        code * code.abs() * f32x8::splat(1.0 / 16_129.0) * f32x8::splat(scale)
    });
}

#[inline(never)]
pub unsafe fn decode_v(codes: *const u8, scale: f32, to: *mut f32, count: usize) {
    decode(codes, to, count, |codes| {
        let code = unsigned(codes);
        let square = code * code * f32x8::splat(1.0 / 65_025.0);
        square * square * f32x8::splat(scale)
    });
}

/// Eight unsigned bytes as floats.
#[inline(always)]
unsafe fn unsigned(p: *const u8) -> f32x8 {
    let eight: [u8; 8] = read(p);
    let words = i16x8::from_u8x16_low(u8x16::new(cast([eight, [0; 8]])));
    to_float(i32x8::from_i16x8(words))
}

/// codes[GROUP] of x[GROUP]: what `magnitude` makes of |x|, up to 127, with the sign of x.
#[inline(always)]
unsafe fn encode_signed(x: *const f32, codes: *mut u8, magnitude: impl Fn(usize, Wide) -> Wide) {
    let group: [WideIntegers; GROUP / WIDE] = from_fn(|j| {
        let x = load_wide(x.add(WIDE * j));
        let code = up_to(magnitude(WIDE * j, x.abs()), 127.0);
        let negative: WideIntegers = cast(x.simd_lt(Wide::ZERO));
        (code ^ negative) - negative
    });
    write(codes, narrow_signed(cast(group)));
}

/// min(floor(x), limit) of x >= 0, and the limit for NaN.
#[inline(always)]
fn up_to(x: Wide, limit: f32) -> WideIntegers {
    at_most(x, Wide::splat(limit)).fast_trunc_int()
}

/// x, or the limit where x is not below it.
#[inline(always)]
pub fn at_most(x: Wide, limit: Wide) -> Wide {
    // On x86 fast_min is the comparison: it answers its second operand where the first is not less.
    if cfg!(target_arch = "x86_64") { x.fast_min(limit) } else { x.simd_lt(limit).select(x, limit) }
}

/// Rounded up with the probability of what is left.
#[inline(never)]
pub unsafe fn encode_parameter(p: *const f32, scale: f32, rounding: &Rounding, codes: *mut u8, count: usize) {
    let scale = Wide::splat(scale);
    rounding.groups(count, |i, random| {
        encode_signed(p.add(i), codes.add(i), |j, magnitude| magnitude / scale + load_wide(random.add(j)));
    });
}

/// Rounded to nearest.
#[inline(never)]
pub unsafe fn encode_m(m: *const f32, scale: f32, codes: *mut u8, count: usize) {
    let scale = Wide::splat(scale);
    let mut i = 0;
    while i < count {
        encode_signed(m.add(i), codes.add(i), |_, magnitude| {
            (magnitude / scale).sqrt() * Wide::splat(127.0) + Wide::splat(0.5)
        });
        i += GROUP;
    }
}

/// Rounded up with the probability of what is left, and never 0 for a v that is not.
#[inline(never)]
pub unsafe fn encode_v(v: *const f32, scale: f32, rounding: &Rounding, codes: *mut u8, count: usize) {
    let scale = Wide::splat(scale);
    rounding.groups(count, |i, random| {
        let group: [WideIntegers; GROUP / WIDE] = from_fn(|j| {
            let (v, random) = (load_wide(v.add(i + WIDE * j)), load_wide(random.add(WIDE * j)));
            let code = up_to((v / scale).sqrt().sqrt() * Wide::splat(255.0) + random, 255.0);
            let positive: WideIntegers = cast(v.simd_gt(Wide::ZERO));
            code.max(positive & WideIntegers::splat(1))
        });
        write(codes.add(i), narrow_unsigned(cast(group)));
    });
}

/// Random numbers for the elements from one on, the first of a block.
pub struct Rounding<'a> {
    pub stream: &'a PhiloxStream,
    pub first: u64,
}

/// Elements of eight blocks of Philox, half a word each.
const ROUNDED: usize = 64;

impl Rounding<'_> {
    /// Calls `encode` for each group with its random numbers. All are made before the first is used: what was just written
    /// in other parts than it is read would be waited for.
    #[inline(always)]
    unsafe fn groups(&self, count: usize, encode: impl Fn(usize, *const f32)) {
        let mut random = [0f32; CODES];
        let to = random.as_mut_ptr();
        let mut i = 0;
        while i < count {
            self.make(i, to.add(i));
            i += ROUNDED;
        }
        i = 0;
        while i < count {
            encode(i, to.add(i));
            i += GROUP;
        }
    }

    /// random[ROUNDED] of the elements from `at` on: `Stream::rounding`.
    #[inline(never)]
    unsafe fn make(&self, at: usize, random: *mut f32) {
        // Low half of a word first: so the halves are in the order of elements.
        for (j, words) in philox(self.stream, (self.first + at as u64) / 8).into_iter().enumerate() {
            let halves = cast::<u32x8, [u16x8; 2]>(words).map(|half| {
                let bits = to_float(i32x8::from_u16x8(half));
                (bits + f32x8::splat(0.5)) * f32x8::splat(1.0 / 65_536.0)
            });
            write_wide(random.add(16 * j), halves);
        }
    }
}
