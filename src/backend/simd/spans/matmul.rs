//! int8 x ternary products. With codes c = t + 1 of 0, 1, 2:
//!
//! ```text
//! sum over k of x[k] t[k]  =  sum over k of x[k] c[k]  -  sum over k of x[k]
//! ```
//!
//! so that the inner loop multiplies unsigned bytes by signed ones, for which processors have instructions (see `dots`). The
//! 32-bit sums are taken modulo 2^32; the difference above is exact, because its true value is at most 127 * 2^24 < 2^31.
//!
//! The loops are written once, over the way that a CPU level multiplies: [`Dots`].

use super::dots::{Dots, Native};
use super::vector::{narrow_signed, read, store, to_float, write};
use bytemuck::{Zeroable, cast, cast_slice};
use wide::{f32x8, i32x8, u8x16, u16x8};

/// Weight rows of a panel.
pub const PANEL: usize = 16;
/// The planes of `split_codes` are a multiple of so many bytes.
pub const PLANE: usize = 64;

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
    panel_product_by::<Native>(x, stride, rows, panel, groups, totals);
}

#[inline(always)]
unsafe fn panel_product_by<D: Dots>(
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
        let pass = if left >= 2 * D::TILE {
            D::TILE
        } else if left > D::TILE {
            left.div_ceil(2)
        } else {
            left
        };
        let (x, totals) = (x.add(row * stride), totals.add(row * PANEL));
        macro_rules! tiles {
            ($($rows:literal)*) => {
                match pass {
                    // Those past the tile of D are never compiled: the condition is a constant.
                    $($rows if $rows <= D::TILE => tile::<D, $rows>(x, stride, panel, groups, totals),)*
                    _ => {}
                }
            };
        }
        tiles!(1 2 3 4 5 6 7 8 9 10 11 12);
        row += pass;
    }
}

/// totals[R][16] += x[R rows] times the panel.
#[inline(always)]
unsafe fn tile<D: Dots, const R: usize>(
    x: *const i8,
    stride: usize,
    panel: *const u8,
    groups: usize,
    totals: *mut i32,
) {
    // The four bytes of 16 rows fill one register or two.
    let parts = 4 * PANEL / D::WIDTH;
    let mut g = 0;
    while g < groups {
        let end = if groups - g < D::STEPS { groups } else { g + D::STEPS };
        let mut sums = [[D::Sums::zeroed(); 2]; R];
        while g < end {
            let codes: [D::Bytes; 2] = core::array::from_fn(|part| read(panel.add(g * 64 + part % parts * D::WIDTH)));
            for r in 0..R {
                let four = D::repeat(read(x.add(r * stride + 4 * g)));
                for part in 0..parts {
                    sums[r][part] = D::step(sums[r][part], codes[part], four);
                }
            }
            g += 1;
        }
        for r in 0..R {
            for part in 0..parts {
                let at = totals.add(r * PANEL + part * D::WIDTH / 4);
                let mut total: D::Totals = read(at);
                total += D::totals(sums[r][part]);
                write(at, total);
            }
        }
    }
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
    row_products_by::<Native>(planes, plane, x_rows, packed, bytes, rows, totals);
}

#[inline(always)]
unsafe fn row_products_by<D: Dots>(
    planes: *const i8,
    plane: usize,
    x_rows: usize,
    packed: *const u8,
    bytes: usize,
    rows: usize,
    totals: *mut i32,
) {
    let mut row = 0;
    // R weight rows at a time, as long as there are so many and as the sums of D fit registers.
    macro_rules! passes {
        ($x:literal: $($r:literal)*) => {
            $(while $r <= D::ROWS[$x - 1] && rows - row >= $r {
                products::<D, $r, $x>(planes, plane, packed.add(row * bytes), bytes, totals.add(row), rows);
                row += $r;
            })*
        };
    }
    if x_rows == 1 {
        passes!(1: 8 4 1);
    } else {
        passes!(2: 4 2 1);
    }
}

/// totals[X][R], at a distance of `stride` between the X: R weight rows of `bytes` packed bytes by X rows of planes.
#[inline(always)]
unsafe fn products<D: Dots, const R: usize, const X: usize>(
    planes: *const i8,
    plane: usize,
    packed: *const u8,
    bytes: usize,
    totals: *mut i32,
    stride: usize,
) {
    let mut sums = [[D::Totals::zeroed(); X]; R];
    let mut j = 0;
    while j + D::WIDTH <= bytes {
        // Four steps for each register of packed bytes.
        let whole = bytes - (bytes - j) % D::WIDTH;
        let most = D::WIDTH * (D::STEPS / 4);
        let end = if whole - j < most { whole } else { j + most };
        let mut steps = [[D::Sums::zeroed(); X]; R];
        while j < end {
            for r in 0..R {
                step::<D, X>(&mut steps[r], read(packed.add(r * bytes + j)), planes.add(j), plane);
            }
            j += D::WIDTH;
        }
        flush::<D, R, X>(&mut sums, &steps);
    }
    if j < bytes {
        let mut steps = [[D::Sums::zeroed(); X]; R];
        for r in 0..R {
            let mut rest = D::Bytes::zeroed();
            let to = (&raw mut rest).cast::<u8>();
            core::ptr::copy_nonoverlapping(packed.add(r * bytes + j), to, bytes - j);
            step::<D, X>(&mut steps[r], rest, planes.add(j), plane);
        }
        flush::<D, R, X>(&mut sums, &steps);
    }
    for r in 0..R {
        for x in 0..X {
            let lanes: &[i32] = cast_slice(core::slice::from_ref(&sums[r][x]));
            *totals.add(x * stride + r) = lanes.iter().fold(0, |sum: i32, &lane| sum.wrapping_add(lane));
        }
    }
}

/// Adds the products of a register of packed bytes with the planes of X rows.
#[inline(always)]
unsafe fn step<D: Dots, const X: usize>(steps: &mut [D::Sums; X], packed: D::Bytes, planes: *const i8, plane: usize) {
    for i in 0..4 {
        let codes = D::codes(packed, i as u32);
        for x in 0..X {
            steps[x] = D::step(steps[x], codes, read(planes.add((4 * x + i) * plane)));
        }
    }
}

#[inline(always)]
fn flush<D: Dots, const R: usize, const X: usize>(sums: &mut [[D::Totals; X]; R], steps: &[[D::Sums; X]; R]) {
    for r in 0..R {
        for x in 0..X {
            sums[r][x] += D::totals(steps[r][x]);
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

#[cfg(test)]
#[path = "matmul_tests.rs"]
mod tests;
