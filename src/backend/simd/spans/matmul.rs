//! int8 x ternary products. With codes c = t + 1 of 0, 1, 2:
//!
//! ```text
//! sum over k of x[k] t[k]  =  sum over k of x[k] c[k]  -  sum over k of x[k]
//! ```
//!
//! so that the inner loop multiplies unsigned bytes by signed ones, which is one instruction of AVX2 (maddubs) for 32
//! products. It adds neighbours into 16 bits: at most 2 * 2 * 127 = 508 a step, so 64 steps fit before they are added into
//! 32 bits. The 32-bit sums are taken modulo 2^32; the difference above is exact, because its true value is at most
//! 127 * 2^24 < 2^31.

use super::vector::{lanes_sum, narrow_signed, read, store, to_float, write};
use bytemuck::cast;
use wide::{f32x8, i8x32, i16x16, i32x8, u8x16, u8x32, u16x8, u16x16};

/// Weight rows of a panel.
pub const PANEL: usize = 16;

/// Steps of 508 that fit into an i16.
const STEPS: usize = 64;

// --- many rows of x: panels of 16 weight rows, unpacked once and used by every row -----------------------------------------

/// A panel is [groups][16][4] bytes: for each group of four k, the four codes of each of the 16 weight rows.
pub unsafe extern "C" fn unpack_panel(packed: *const u8, stride: usize, rows: usize, groups: usize, panel: *mut u8) {
    let mut g = 0;
    while g < groups {
        let count = if groups - g < 16 { groups - g } else { 16 };
        let mut block = [u8x16::splat(0); 16];
        for (row, bytes) in block.iter_mut().enumerate() {
            if row < rows {
                let from = packed.add(row * stride + g);
                if count == 16 {
                    *bytes = read(from);
                } else {
                    let mut rest = [0u8; 16];
                    core::ptr::copy_nonoverlapping(from, rest.as_mut_ptr(), count);
                    *bytes = cast(rest);
                }
            }
        }
        for (i, &bytes) in transpose(block).iter().enumerate() {
            if i < count {
                write(panel.add((g + i) * 64), expand(bytes));
            }
        }
        g += 16;
    }
}

/// 16 x 16 bytes transposed: four perfect shuffles of the 256 bytes.
#[inline(always)]
fn transpose(mut rows: [u8x16; 16]) -> [u8x16; 16] {
    for _ in 0..4 {
        let mut shuffled = [u8x16::splat(0); 16];
        for i in 0..8 {
            shuffled[2 * i] = u8x16::unpack_low(rows[i], rows[i + 8]);
            shuffled[2 * i + 1] = u8x16::unpack_high(rows[i], rows[i + 8]);
        }
        rows = shuffled;
    }
    rows
}

/// 16 packed bytes to their 64 codes, in order.
#[inline(always)]
fn expand(bytes: u8x16) -> [u8x16; 4] {
    let codes = |i: u32| -> u8x16 {
        let shifted: u8x16 = cast(cast::<u8x16, u16x8>(bytes) >> (2 * i));
        shifted & u8x16::splat(3)
    };
    let [c0, c1, c2, c3] = [codes(0), codes(1), codes(2), codes(3)];
    let (even_low, odd_low) = (u8x16::unpack_low(c0, c2), u8x16::unpack_low(c1, c3));
    let (even_high, odd_high) = (u8x16::unpack_high(c0, c2), u8x16::unpack_high(c1, c3));
    [
        u8x16::unpack_low(even_low, odd_low),
        u8x16::unpack_high(even_low, odd_low),
        u8x16::unpack_low(even_high, odd_high),
        u8x16::unpack_high(even_high, odd_high),
    ]
}

pub unsafe extern "C" fn panel_product(
    x: *const i8,
    stride: usize,
    rows: usize,
    panel: *const u8,
    groups: usize,
    totals: *mut i32,
) {
    let mut row = 0;
    while row < rows {
        let left = rows - row;
        // The last rows in two equal passes rather than a full one and a poor one.
        let pass = if left >= 2 * TILE {
            TILE
        } else if left > TILE {
            left.div_ceil(2)
        } else {
            left
        };
        let (x, totals) = (x.add(row * stride), totals.add(row * PANEL));
        match pass {
            1 => tile::<1>(x, stride, panel, groups, totals),
            2 => tile::<2>(x, stride, panel, groups, totals),
            #[cfg(target_feature = "avx2")]
            3 => tile::<3>(x, stride, panel, groups, totals),
            #[cfg(target_feature = "avx2")]
            4 => tile::<4>(x, stride, panel, groups, totals),
            #[cfg(target_feature = "avx2")]
            5 => tile::<5>(x, stride, panel, groups, totals),
            _ => tile::<TILE>(x, stride, panel, groups, totals),
        }
        row += pass;
    }
}

/// Rows of x in one pass over a panel: as many as leave their accumulators in registers.
const TILE: usize = if cfg!(target_feature = "avx2") { 6 } else { 2 };

/// totals[R][16] += x[R rows] times the panel.
#[cfg(target_feature = "avx2")]
#[inline(always)]
unsafe fn tile<const R: usize>(x: *const i8, stride: usize, panel: *const u8, groups: usize, totals: *mut i32) {
    let mut g = 0;
    while g < groups {
        let end = if groups - g < STEPS { groups } else { g + STEPS };
        let mut sums = [[i16x16::ZERO; 2]; R];
        while g < end {
            let codes: [u8x32; 2] = read(panel.add(g * 64));
            for r in 0..R {
                let four = cast(i32x8::splat(read(x.add(r * stride + 4 * g))));
                sums[r][0] += pairs(codes[0], four);
                sums[r][1] += pairs(codes[1], four);
            }
            g += 1;
        }
        for r in 0..R {
            for half in 0..2 {
                let total = totals.add(r * PANEL + 8 * half);
                write(total, read::<i32x8, i32>(total) + sums[r][half].dot(i16x16::splat(1)));
            }
        }
    }
}

/// codes[2 i] * x[2 i] + codes[2 i + 1] * x[2 i + 1] in lane i: the one instruction that `wide` lacks.
#[cfg(target_feature = "avx2")]
#[inline(always)]
fn pairs(codes: u8x32, x: i8x32) -> i16x16 {
    // SAFETY: compiled for a target that has AVX2.
    cast(unsafe { core::arch::x86_64::_mm256_maddubs_epi16(cast(codes), cast(x)) })
}

/// The same without maddubs: even and odd bytes as 16-bit numbers, whose products add into 32 bits at once.
#[cfg(not(target_feature = "avx2"))]
#[inline(always)]
unsafe fn tile<const R: usize>(x: *const i8, stride: usize, panel: *const u8, groups: usize, totals: *mut i32) {
    let mut sums = [[i32x8::ZERO; 2]; R];
    for g in 0..groups {
        let codes: [u8x32; 2] = read(panel.add(g * 64));
        for r in 0..R {
            let four = cast(i32x8::splat(read(x.add(r * stride + 4 * g))));
            sums[r][0] += fours(codes[0], four);
            sums[r][1] += fours(codes[1], four);
        }
    }
    for r in 0..R {
        for half in 0..2 {
            let total = totals.add(r * PANEL + 8 * half);
            write(total, read::<i32x8, i32>(total) + sums[r][half]);
        }
    }
}

/// The sum of codes[4 i + j] * x[4 i + j] over j in 0..4 in lane i.
#[cfg(not(target_feature = "avx2"))]
#[inline(always)]
fn fours(codes: u8x32, x: i8x32) -> i32x8 {
    let (codes, x): (i16x16, i16x16) = (cast(codes), cast(x));
    let even = (codes & i16x16::splat(0xFF)).dot((x << 8u32) >> 8u32);
    // Codes are below 128, so the sign that the shift copies is 0.
    even + (codes >> 8u32).dot(x >> 8u32)
}

// --- few rows of x: straight from the packed bytes --------------------------------------------------------------------------

/// Splits x[n] into four planes of `plane` bytes: plane i holds x[i], x[i + 4], x[i + 8], ..., then zeros. So code i of packed
/// byte j belongs to element j of plane i.
pub unsafe extern "C" fn split_codes(x: *const i8, n: usize, plane: usize, planes: *mut i8) {
    let mut j = 0;
    while j < plane {
        let words: [i32x8; 4] = if 4 * (j + 32) <= n {
            read(x.add(4 * j))
        } else {
            let mut rest = [0i8; 128];
            if 4 * j < n {
                core::ptr::copy_nonoverlapping(x.add(4 * j), rest.as_mut_ptr(), n - 4 * j);
            }
            cast(rest)
        };
        for i in 0..4 {
            let bytes = words.map(|word| (word << (24 - 8 * i as u32)) >> 24);
            write(planes.add(i * plane + j), narrow_signed(bytes));
        }
        j += 32;
    }
}

pub unsafe extern "C" fn row_products(
    planes: *const i8,
    plane: usize,
    x_rows: usize,
    packed: *const u8,
    bytes: usize,
    rows: usize,
    totals: *mut i32,
) {
    let mut row = 0;
    if x_rows == 1 {
        while row + 4 <= rows {
            products::<4, 1>(planes, plane, packed.add(row * bytes), bytes, totals.add(row), rows);
            row += 4;
        }
        while row < rows {
            products::<1, 1>(planes, plane, packed.add(row * bytes), bytes, totals.add(row), rows);
            row += 1;
        }
    } else {
        while row + 2 <= rows {
            products::<2, 2>(planes, plane, packed.add(row * bytes), bytes, totals.add(row), rows);
            row += 2;
        }
        if row < rows {
            products::<1, 2>(planes, plane, packed.add(row * bytes), bytes, totals.add(row), rows);
        }
    }
}

/// totals[X][R], at a distance of `stride` between the X: R weight rows of `bytes` packed bytes by X rows of planes.
#[inline(always)]
unsafe fn products<const R: usize, const X: usize>(
    planes: *const i8,
    plane: usize,
    packed: *const u8,
    bytes: usize,
    totals: *mut i32,
    stride: usize,
) {
    let mut sums = [[i32x8::ZERO; X]; R];
    let mut j = 0;
    while j + 32 <= bytes {
        // Four steps of 508 for each 32 bytes.
        let whole = bytes - (bytes - j) % 32;
        let end = if whole - j < 32 * (STEPS / 4) { whole } else { j + 32 * (STEPS / 4) };
        let mut steps = [[Steps::ZERO; X]; R];
        while j < end {
            for r in 0..R {
                step(&mut steps[r], read(packed.add(r * bytes + j)), planes.add(j), plane);
            }
            j += 32;
        }
        flush(&mut sums, &steps);
    }
    if j < bytes {
        let mut steps = [[Steps::ZERO; X]; R];
        for r in 0..R {
            let mut rest = [0u8; 32];
            core::ptr::copy_nonoverlapping(packed.add(r * bytes + j), rest.as_mut_ptr(), bytes - j);
            step(&mut steps[r], cast(rest), planes.add(j), plane);
        }
        flush(&mut sums, &steps);
    }
    for r in 0..R {
        for x in 0..X {
            *totals.add(x * stride + r) = lanes_sum(sums[r][x]);
        }
    }
}

/// The accumulator of `products`: 16 bits a lane where maddubs makes them, else 32.
#[cfg(target_feature = "avx2")]
pub type Steps = i16x16;
#[cfg(not(target_feature = "avx2"))]
pub type Steps = i32x8;

/// The products of 32 codes and 32 bytes, neighbours added.
#[inline(always)]
pub fn step_products(codes: u8x32, bytes: i8x32) -> Steps {
    #[cfg(target_feature = "avx2")]
    return pairs(codes, bytes);
    #[cfg(not(target_feature = "avx2"))]
    return fours(codes, bytes);
}

/// Adds the products of 32 packed bytes with the planes of X rows.
#[inline(always)]
unsafe fn step<const X: usize>(steps: &mut [Steps; X], packed: u8x32, planes: *const i8, plane: usize) {
    for i in 0..4 {
        let shifted: u8x32 = cast(cast::<u8x32, u16x16>(packed) >> (2 * i as u32));
        let codes = shifted & u8x32::splat(3);
        for x in 0..X {
            steps[x] += step_products(codes, read(planes.add((4 * x + i) * plane)));
        }
    }
}

#[inline(always)]
fn flush<const R: usize, const X: usize>(sums: &mut [[i32x8; X]; R], steps: &[[Steps; X]; R]) {
    for r in 0..R {
        for x in 0..X {
            #[cfg(target_feature = "avx2")]
            let wide = steps[r][x].dot(i16x16::splat(1));
            #[cfg(not(target_feature = "avx2"))]
            let wide = steps[r][x];
            sums[r][x] += wide;
        }
    }
}

// --- around both ------------------------------------------------------------------------------------------------------------

pub unsafe extern "C" fn sum_codes(x: *const i8, n: usize) -> i32 {
    let mut total = 0i32;
    let mut i = 0;
    while i < n {
        total = total.wrapping_add(i32::from(*x.add(i)));
        i += 1;
    }
    total
}

pub unsafe extern "C" fn scale_totals(
    totals: *const i32,
    stride: usize,
    rows: usize,
    columns: usize,
    sums: *const i32,
    factors: *const f32,
    y: *mut f32,
    y_stride: usize,
) {
    for row in 0..rows {
        let (totals, y) = (totals.add(row * stride), y.add(row * y_stride));
        let (sum, factor) = (*sums.add(row), *factors.add(row));
        let mut i = 0;
        while i + 8 <= columns {
            let exact = read::<i32x8, i32>(totals.add(i)) - i32x8::splat(sum);
            store(y.add(i), to_float(exact) * f32x8::splat(factor));
            i += 8;
        }
        while i < columns {
            *y.add(i) = (*totals.add(i)).wrapping_sub(sum) as f32 * factor;
            i += 1;
        }
    }
}
