//! The gradients of a ternary layer in integers: see `scalar/integer_gradient.rs`.
//!
//! The gradient to a weight multiplies numbers of two signs, and the instructions multiply unsigned bytes by signed ones. So the
//! activations take an offset, which the sum of the other factor takes out again:
//!
//! ```text
//! sum of g x  =  sum of g (x + 128)  -  128 * sum of g
//! ```

use super::dots::{Dots, Native, Products, Register};
use super::elementwise::{PhiloxStream, philox};
use super::math::{load_up_to, store_up_to};
use super::matmul::{Finish, PANEL, eight, first, starts};
use super::vector::{load, narrow_signed, prefetch_all, read, to_float, write};
use bytemuck::{Zeroable, cast};
use wide::{f32x8, i32x8, u8x32, u32x8};

/// The largest code of a gradient, as a float.
const LARGEST_CODE: f32 = 32.0;
const LEAST_SCALE: f32 = f32::MIN_POSITIVE;

/// Columns that are quantized together: their random bytes come from one call of `philox`.
pub const COLUMNS: usize = 128;
/// Tokens of a block: the codes of a column lie so far from those of the next.
const TOKENS: usize = 256;
/// Tokens whose codes are transposed together.
const GROUP: usize = 32;
/// Rows that are asked for ahead of their turn: parts of them lie too far apart to be foreseen.
const AHEAD: usize = 8;
/// Byte 4 i + j of each half to place 4 j + i.
const ORDER: [i8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

pub unsafe extern "C" fn quantize_columns(
    stream: *const PhiloxStream,
    random: u64,
    random_step: u64,
    g: *const f32,
    stride: usize,
    tokens: usize,
    columns: usize,
    factors: *const f32,
    first_column: usize,
    codes: *mut i8,
    scales: *mut f32,
) {
    let mut inverses = [f32x8::ZERO; COLUMNS / 8];
    for half in 0..2 {
        let at = 64 * half;
        if at < columns {
            let count = if columns - at < 64 { columns - at } else { 64 };
            let largest = largest_of_columns(g.add(at), stride, tokens, count, factors);
            for i in 0..8 {
                let scale = cast::<i32x8, f32x8>(largest[i]) * f32x8::splat(1.0 / LARGEST_CODE);
                // Where it is NaN it stays.
                let scale = f32x8::splat(LEAST_SCALE).fast_max(scale);
                inverses[8 * half + i] = f32x8::ONE / scale;
                if 8 * i < count {
                    store_up_to(scales.add(at + 8 * i), scale, count - 8 * i);
                }
            }
        }
    }
    let stream = &*stream;
    let mut token = 0;
    while token < TOKENS / 2 {
        // The tokens of both halves of the block that share their random bytes.
        let mut rows = [[[0i8; COLUMNS]; GROUP]; 2];
        let [front, back] = &mut rows;
        for (i, (front, back)) in front.iter_mut().zip(back).enumerate() {
            let at = token + i;
            if at < tokens {
                let all = philox(stream, random + at as u64 * random_step);
                let words = core::array::from_fn(|i| all[(first_column / 32 + i) & 3]);
                let other = at + TOKENS / 2;
                // Where there is no such token, the first once more: its codes are not used.
                let other = if other < tokens { other } else { at };
                let g = [g.add(at * stride), g.add(other * stride)];
                quantize_rows(g, columns, [*factors.add(at), *factors.add(other)], &inverses, &words, [front, back]);
                if other == at {
                    *back = [0; COLUMNS];
                }
            }
        }
        for (half, rows) in rows.iter().enumerate() {
            write_columns(rows, columns, codes.add(half * (TOKENS / 2) + token));
        }
        token += GROUP;
    }
}

/// The codes of a column to stand next to each other, columns [`TOKENS`] apart.
#[inline(always)]
unsafe fn write_columns(rows: &[[i8; COLUMNS]; GROUP], columns: usize, codes: *mut i8) {
    let mut column = 0;
    while column < columns {
        let from = rows.as_ptr().cast::<i8>().add(column);
        let rest = if columns - column < 32 { columns - column } else { 32 };
        for eight in 0..GROUP / 8 {
            transpose(from.add(8 * eight * COLUMNS), rest, codes.add(column * TOKENS + 8 * eight));
        }
        column += 32;
    }
}

/// Eight rows, [`COLUMNS`] apart, of at most 32 columns to columns of eight, [`TOKENS`] apart.
#[inline(always)]
unsafe fn transpose(from: *const i8, columns: usize, to: *mut i8) {
    let rows: [u8x32; 8] = core::array::from_fn(|i| read(from.add(i * COLUMNS)));
    // Seen as floats, which are only moved: lane i of vector j is now lane j of vector i.
    let words: [u8x32; 8] = cast(f32x8::transpose(cast(rows)));
    for (j, word) in words.into_iter().enumerate() {
        // Four tokens are a half, and a word of it their codes of a column; the two halves of a column belong together.
        let ordered: [u32; 8] = cast(word.swizzle_half(cast([ORDER, ORDER])));
        let together: [u32; 8] = core::array::from_fn(|i| ordered[(i / 2 + 4 * (i % 2)) & 7]);
        let four: [u64; 4] = cast(together);
        for (i, column) in four.into_iter().enumerate() {
            if 4 * j + i < columns {
                write(to.add((4 * j + i) * TOKENS), column);
            }
        }
    }
}

/// The bits of the largest |g * factor| of each of at most 64 columns; those of NaN are above all others.
#[inline(always)]
unsafe fn largest_of_columns(
    g: *const f32,
    stride: usize,
    tokens: usize,
    columns: usize,
    factors: *const f32,
) -> [i32x8; 8] {
    let mut largest = [i32x8::ZERO; 8];
    for token in 0..tokens {
        let factor = f32x8::splat(*factors.add(token));
        let g = g.add(token * stride);
        if columns == 64 {
            prefetch_all(g.wrapping_add(AHEAD * stride), 64);
            for i in 0..8 {
                largest[i] = largest[i].max(cast((load(g.add(8 * i)) * factor).abs()));
            }
        } else {
            for i in 0..8 {
                if 8 * i < columns {
                    largest[i] = largest[i].max(cast((load_up_to(g.add(8 * i), columns - 8 * i) * factor).abs()));
                }
            }
        }
    }
    largest
}

/// round_half_even(g * factor * inverse + dither) of at most 128 columns, 0 for NaN: of a row with the dither (byte - 127.5) / 256,
/// and of another with (255 - byte - 127.5) / 256, which is the negative of it.
#[inline(always)]
unsafe fn quantize_rows(
    g: [*const f32; 2],
    columns: usize,
    factors: [f32; 2],
    inverses: &[f32x8; COLUMNS / 8],
    words: &[u32x8; 4],
    codes: [&mut [i8; COLUMNS]; 2],
) {
    let factors = factors.map(f32x8::splat);
    let to = codes.map(|codes| codes.as_mut_ptr());
    let mut at = 0;
    while at < columns {
        let group = (at / 32) & 3;
        let mut part = [[0f32; 32]; 2];
        let mut from = g.map(|g| g.wrapping_add(at));
        if columns - at < 32 {
            for (from, part) in from.iter_mut().zip(&mut part) {
                core::ptr::copy_nonoverlapping(*from, part.as_mut_ptr(), columns - at);
                *from = part.as_ptr();
            }
        }
        let mut rounded = [[i32x8::ZERO; 4]; 2];
        for i in 0..4 {
            let byte: u32x8 = (words[group] >> (8 * i as u32)) & u32x8::splat(0xFF);
            // Both steps are exact, fused or not.
            let dither = to_float(cast(byte)).mul_add(f32x8::splat(1.0 / 256.0), f32x8::splat(-127.5 / 256.0));
            let inverse = inverses[4 * group + i];
            let front = load(from[0].add(8 * i)) * factors[0] * inverse + dither;
            let back = load(from[1].add(8 * i)) * factors[1] * inverse - dither;
            rounded[0][i] = (front & front.simd_eq(front)).fast_round_int();
            rounded[1][i] = (back & back.simd_eq(back)).fast_round_int();
        }
        for (to, rounded) in to.into_iter().zip(rounded) {
            write(to.add(at), narrow_signed(rounded));
        }
        at += 32;
    }
}

/// The sum of each row of codes, modulo 2^32, times `times`.
pub unsafe extern "C" fn code_sums(codes: *const i8, stride: usize, rows: usize, n: usize, times: i32, sums: *mut i32) {
    let mut row = 0;
    while row < rows {
        let left = rows - row;
        // Past the last row, that one again. Eight sums of lanes are folded by a transposition.
        let of = |i: usize| codes.wrapping_add((row + if i < left { i } else { left - 1 }) * stride);
        let lanes: [f32x8; 8] = core::array::from_fn(|i| cast(code_sum::<Native>(of(i), n)));
        let [a, b, c, d, e, f, g, h]: [i32x8; 8] = cast(f32x8::transpose(lanes));
        let total = (((a + b) + (c + d)) + ((e + f) + (g + h))) * i32x8::splat(times);
        if left >= 8 {
            write(sums.add(row), total);
        } else {
            core::ptr::copy_nonoverlapping((&raw const total).cast(), sums.add(row), left);
        }
        row += 8;
    }
}

/// Lanes that come to the sum of a row, as the products with ones.
#[inline(always)]
unsafe fn code_sum<D: Dots>(codes: *const i8, n: usize) -> i32x8 {
    let ones = D::Bytes::repeat(0x0101_0101);
    let mut totals = D::Totals::zeroed();
    let mut i = 0;
    while i < n {
        let mut sums = D::Sums::zeroed();
        let mut step = 0;
        while step < D::STEPS && i < n {
            let bytes =
                if n - i >= D::WIDTH { read(codes.add(i)) } else { first::<D::Bytes>(codes.add(i).cast(), n - i) };
            sums = D::step(sums, ones, bytes);
            i += D::WIDTH;
            step += 1;
        }
        totals += D::totals(sums);
    }
    let mut sum = i32x8::ZERO;
    for half in 0..D::WIDTH / 32 {
        sum += eight(&totals, half);
    }
    sum
}

/// Two panels [groups][16][4] of codes[tokens][columns] plus 128, of at most 32 columns: the codes of four tokens stand next to
/// each other. What is missing of the last four is 0.
pub unsafe extern "C" fn token_panels(codes: *const i8, stride: usize, tokens: usize, columns: usize, panels: *mut u8) {
    let offset = u8x32::splat(0x80);
    let groups = tokens.div_ceil(4);
    let mut token = 0;
    while token < tokens {
        let mut block = [offset; 8];
        for (i, row) in block.iter_mut().enumerate() {
            if token + i < tokens {
                let from = codes.add((token + i) * stride).cast::<u8>();
                *row = if columns == 32 { read(from) } else { first(from, columns) };
            }
        }
        // Seen as floats, which are only moved: lane i of vector j is now lane j of vector i.
        let words: [u8x32; 8] = cast(f32x8::transpose(cast(block)));
        for (j, word) in words.into_iter().enumerate() {
            let ordered: u8x32 = cast((word ^ offset).swizzle_half(cast([ORDER, ORDER])));
            let [low, high]: [[u8; 16]; 2] = cast(ordered);
            let to = panels.add((j / 4) * groups * 4 * PANEL + (token / 4) * 4 * PANEL + (j % 4) * 16);
            write(to, low);
            if token + 4 < tokens {
                write(to.add(4 * PANEL), high);
            }
        }
        token += 8;
    }
}

/// A panel [ceil(n / 4)][16][4] of the codes of at most 16 columns of packed[n], four rows next to each other. What is missing
/// of the last four is 0.
pub unsafe extern "C" fn unpack_panel_transposed(
    packed: *const u8,
    stride: usize,
    rows: usize,
    bytes: usize,
    panel: *mut u8,
) {
    // Byte b of row r, at 4 r + b, holds the trits of columns 4 b .. 4 b + 4: it comes to 4 b + r, so that a word holds a trit of
    // four rows for each of four columns.
    let mut row = 0;
    while row < rows {
        let mut words = [0u32; 8];
        for (i, word) in words.iter_mut().enumerate() {
            if row + i < rows {
                let from = packed.add((row + i) * stride);
                *word = if bytes == 4 { read(from) } else { first(from, bytes) };
            }
        }
        let ordered: u8x32 = cast(cast::<_, u8x32>(words).swizzle_half(cast([ORDER, ORDER])));
        // Four rows are one half; their word b, shifted by 2 i, holds column 4 b + i.
        let shifted: [[u32; 8]; 4] = core::array::from_fn(|i| cast(ordered.codes(i as u32)));
        for half in 0..2 {
            if row + 4 * half < rows {
                let to = panel.add((row / 4 + half) * 4 * PANEL);
                for b in 0..4 {
                    let four: [u32; 4] = core::array::from_fn(|i| shifted[i & 3][(4 * half + b) & 7]);
                    write(to.add(16 * b), four);
                }
            }
        }
        row += 8;
    }
}

/// dw[rows][columns] += (the products of gradient codes g[rows][4 * groups] and a panel of activations - sums[rows]) *
/// scales[rows], multiplied and added apart; at most 16 columns.
pub unsafe extern "C" fn weight_product(
    g: *const i8,
    stride: usize,
    rows: usize,
    panel: *const u8,
    groups: usize,
    sums: *const i32,
    scales: *const f32,
    dw: *mut f32,
    dw_stride: usize,
    columns: usize,
) {
    const ONE: f32 = 1.0;
    let mut row = 0;
    while row < rows {
        let left = rows - row;
        let finish = Finish::Write {
            sums: sums.add(row),
            factors: scales.add(row),
            scales: &ONE,
            scale_step: 0,
            base: dw.add(row * dw_stride),
            y: dw.add(row * dw_stride),
            y_stride: dw_stride,
            columns,
        };
        let g = g.add(row * stride);
        if left >= Native::ROWS_OF_PRODUCTS {
            tile::<Native, { <Native as Products>::ROWS_OF_PRODUCTS }>(g, stride, panel, groups, &finish);
            row += Native::ROWS_OF_PRODUCTS;
        } else {
            tile::<Native, 1>(g, stride, panel, groups, &finish);
            row += 1;
        }
    }
}

/// Hands the sums of R rows of g by the panel, 16 of each, to `finish`.
#[inline(always)]
unsafe fn tile<D: Products, const R: usize>(
    g: *const i8,
    stride: usize,
    panel: *const u8,
    groups: usize,
    finish: &Finish,
) {
    finish.prefetch::<R>();
    let rows = starts::<R>(g, stride);
    let mut totals = [[D::Totals::zeroed(); 2]; R];
    let mut at = 0;
    while at + 2 <= groups {
        step::<D, R, true>(&mut totals, &rows, 4 * at, panel);
        at += 2;
    }
    if at < groups {
        step::<D, R, false>(&mut totals, &rows, 4 * at, panel);
    }
    finish.take::<D, R>(&totals, 0);
}

/// Adds the products of two groups, or of one.
#[inline(always)]
unsafe fn step<D: Products, const R: usize, const TWO: bool>(
    totals: &mut [[D::Totals; 2]; R],
    rows: &[*const i8; R],
    token: usize,
    panel: *const u8,
) {
    let registers = 4 * PANEL / D::WIDTH;
    let zero = D::Bytes::zeroed();
    let bytes: [[D::Bytes; 2]; 2] = core::array::from_fn(|i| {
        let from = panel.add(token * PANEL + i % registers * D::WIDTH);
        [read(from), if TWO { read(from.add(4 * PANEL)) } else { zero }]
    });
    for r in 0..R {
        let g = rows[r].add(token);
        let four = [D::Bytes::repeat(read(g)), if TWO { D::Bytes::repeat(read(g.add(4))) } else { zero }];
        for i in 0..registers {
            totals[r][i] = D::products(totals[r][i], bytes[i], four);
        }
    }
}
