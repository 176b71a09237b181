//! Packed trits: to weights with one scale, and the two packings into each other. How they come from weights: `scheme.rs`.

use super::vector::{read, store, to_float, write};
use wide::{f32x8, i32x8, u8x32, u32x8};

pub unsafe extern "C" fn deternarize(packed: *const u8, n: usize, scale: f32, w: *mut f32) {
    let scales = f32x8::splat(scale);
    let mut i = 0;
    while i + 16 <= n {
        let codes = i32x8::splat(read(packed.add(i / 4)));
        store(w.add(i), eight_trits(codes) * scales);
        store(w.add(i + 8), eight_trits(codes >> 16u32) * scales);
        i += 16;
    }
    while i < n {
        let code = *packed.add(i / 4) >> (2 * (i % 4)) & 3;
        *w.add(i) = scale * (f32::from(code) - 1.0);
        i += 1;
    }
}

/// Trit i of the eight in the low 16 bits of lane i. A variable shift is slow below AVX2; instead each lane keeps its code in
/// place, 4^i too large, and the exact product with 4^-i corrects it.
#[inline(always)]
pub fn eight_trits(codes: i32x8) -> f32x8 {
    let mask = i32x8::new([3, 3 << 2, 3 << 4, 3 << 6, 3 << 8, 3 << 10, 3 << 12, 3 << 14]);
    let factor =
        f32x8::new([1.0, 1.0 / 4.0, 1.0 / 16.0, 1.0 / 64.0, 1.0 / 256.0, 1.0 / 1024.0, 1.0 / 4096.0, 1.0 / 16384.0]);
    to_float(codes & mask) * factor - f32x8::splat(1.0)
}

/// Codes of 1: what stands where there are no columns.
const ONES: u64 = 0x5555_5555_5555_5555;

/// For five 2-bit codes the byte sum of c_i * 3^i. (Codes of 3 make some byte; the caller has excluded them.)
static FIVE: [u8; 1024] = {
    let mut table = [0; 1024];
    let mut codes = 0;
    while codes < 1024 {
        let c = [codes & 3, codes >> 2 & 3, codes >> 4 & 3, codes >> 6 & 3, codes >> 8 & 3];
        table[codes] = (c[0] + 3 * c[1] + 9 * c[2] + 27 * c[3] + 81 * c[4]) as u8;
        codes += 1;
    }
    table
};

/// The inverse: for a byte below 243 its five 2-bit codes.
static CODES: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 243 {
        let b = byte as u16;
        table[byte] = (b % 3) | (b / 3 % 3) << 2 | (b / 9 % 3) << 4 | (b / 27 % 3) << 6 | (b / 81) << 8;
        byte += 1;
    }
    table
};

/// Twenty trits are five bytes at two bits and four at five trits.
pub unsafe extern "C" fn pack_five(packed: *const u8, n: usize, five: *mut u8) {
    let mut i = 0;
    while i + 20 <= n {
        let codes = u64::from(read::<u32, u8>(packed.add(i / 4))) | u64::from(*packed.add(i / 4 + 4)) << 32;
        write(five.add(i / 5), four_bytes(codes));
        i += 20;
    }
    if i < n {
        let left = n - i;
        let mut codes = 0;
        for j in 0..left.div_ceil(4) {
            codes |= u64::from(*packed.add(i / 4 + j)) << (8 * j);
        }
        let bytes = four_bytes(padded(codes, left));
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), five.add(i / 5), left.div_ceil(5));
    }
}

#[inline(always)]
fn four_bytes(codes: u64) -> [u8; 4] {
    [0, 10, 20, 30].map(|shift| FIVE[(codes >> shift & 1023) as usize])
}

pub unsafe extern "C" fn unpack_five(five: *const u8, n: usize, packed: *mut u8) {
    let mut i = 0;
    while i + 20 <= n {
        let codes = twenty_codes(read(five.add(i / 5)));
        write(packed.add(i / 4), codes as u32);
        *packed.add(i / 4 + 4) = (codes >> 32) as u8;
        i += 20;
    }
    if i < n {
        let left = n - i;
        let mut bytes = [0; 4];
        core::ptr::copy_nonoverlapping(five.add(i / 5), bytes.as_mut_ptr(), left.div_ceil(5));
        let codes = padded(twenty_codes(bytes), left).to_le_bytes();
        core::ptr::copy_nonoverlapping(codes.as_ptr(), packed.add(i / 4), left.div_ceil(4));
    }
}

#[inline(always)]
fn twenty_codes(bytes: [u8; 4]) -> u64 {
    let [a, b, c, d] = bytes.map(|byte| u64::from(CODES[usize::from(byte)]));
    a | b << 10 | c << 20 | d << 30
}

/// The first `left` codes (below 20), with ones after them.
#[inline(always)]
fn padded(codes: u64, left: usize) -> u64 {
    let kept = (1 << (2 * left)) - 1;
    codes & kept | ONES & !kept
}

pub unsafe extern "C" fn holds_code_three(packed: *const u8, n: usize) -> bool {
    let mut i = 0;
    let mut found = u32x8::splat(0);
    while i + 32 <= n {
        let x: u32x8 = read(packed.add(i));
        // The code 3 leaves its low bit, at an even place; bits that the shift carries over from the next byte land on odd
        // places.
        found |= x & (x >> 1);
        i += 32;
    }
    let mut found = found.to_array().iter().fold(0, |all, &x| all | x);
    while i < n {
        let byte = u32::from(*packed.add(i));
        found |= byte & (byte >> 1);
        i += 1;
    }
    found & 0x5555_5555 != 0
}

pub unsafe extern "C" fn largest_byte(x: *const u8, n: usize) -> u8 {
    let mut i = 0;
    let mut largest = u8x32::splat(0);
    while i + 32 <= n {
        largest = largest.max(read(x.add(i)));
        i += 32;
    }
    let mut largest = largest.to_array().iter().fold(0, |a: u8, &b| if b > a { b } else { a });
    while i < n {
        let byte = *x.add(i);
        largest = if byte > largest { byte } else { largest };
        i += 1;
    }
    largest
}
