//! int8 x ternary products. With codes c = t + 1 of 0, 1, 2:
//!
//! ```text
//! sum over k of x[k] t[k]  =  sum over k of x[k] c[k]  -  sum over k of x[k]
//! ```
//!
//! so that the inner loop multiplies unsigned bytes by signed ones, for which processors have instructions (see `dots`). The
//! 32-bit sums are taken modulo 2^32; the difference above is exact, because its true value is at most 127 * 2^24 < 2^31.
//!
//! The loops are written once, over the way that a CPU level multiplies: [`Dots`]. An integer sum may take its terms in any
//! order: x is rearranged, once for all rows of w, into the order in which packed bytes come apart most easily. This file does
//! that for many rows of x, `matmul_rows.rs` for few.

use super::dots::{Dots, Native, Register};
use super::math::{load_up_to, store_up_to};
use super::vector::{lanes_sum, prefetch, read, store, to_float, write};
use bytemuck::{Zeroable, cast};
use wide::{f32x8, i8x32, i16x16, i32x8, u8x32};

/// Weight rows of a panel.
pub const PANEL: usize = 16;

// --- many rows of x: panels of 16 weight rows, unpacked once and used by every row -----------------------------------------
//
// Four packed bytes of a row, [c0 c1 c2 c3 | c4 .. c7 | c8 .. c11 | c12 .. c15], come apart by shifts into four groups of
// four: c0 c4 c8 c12, c1 c5 c9 c13 and so on. A panel holds the groups of 16 rows in this order, and x is brought into it.

/// A panel is [groups][16][4] bytes: for each group, the four codes of each of the 16 weight rows.
pub unsafe extern "C" fn unpack_panel(packed: *const u8, stride: usize, rows: usize, bytes: usize, panel: *mut u8) {
    let mut j = 0;
    while j < bytes {
        let count = if bytes - j < 32 { bytes - j } else { 32 };
        for half in 0..2 {
            let mut block = [u8x32::ZERO; 8];
            for (row, to) in block.iter_mut().enumerate() {
                if 8 * half + row < rows {
                    let from = packed.add((8 * half + row) * stride + j);
                    *to = if count == 32 { read(from) } else { first(from, count) };
                }
            }
            // Seen as floats, which are only moved: lane i of vector j is now lane j of vector i.
            let words: [u8x32; 8] = cast(f32x8::transpose(cast(block)));
            for (word, &four) in words.iter().enumerate() {
                if 4 * word < count {
                    let to = panel.add((j + 4 * word) * 4 * PANEL + 32 * half);
                    for i in 0..4 {
                        write(to.add(i * 4 * PANEL), four.codes(i as u32));
                    }
                }
            }
        }
        j += 32;
    }
}

/// The first `count` bytes, at most as many as a V has, then zeros.
#[inline(always)]
pub unsafe fn first<V: bytemuck::Pod>(from: *const u8, count: usize) -> V {
    let mut bytes = V::zeroed();
    core::ptr::copy_nonoverlapping(from, (&raw mut bytes).cast::<u8>(), count);
    bytes
}

pub unsafe extern "C" fn arrange_codes(x: *const i8, n: usize, arranged: *mut i8) -> i32 {
    // Byte 4 b + i of each half to place 4 i + b.
    const ORDER: [i8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    let mut sum = i32x8::ZERO;
    let mut i = 0;
    while i < n {
        let count = if n - i < 32 { n - i } else { 32 };
        let bytes: u8x32 = if count == 32 { read(x.add(i)) } else { first(x.add(i).cast(), count) };
        let ordered = bytes.swizzle_half(cast([ORDER, ORDER]));
        sum += sums_of_four(ordered);
        if count > 16 {
            write(arranged.add(i), ordered);
        } else {
            let [half, _]: [[i8; 16]; 2] = cast(ordered);
            write(arranged.add(i), half);
        }
        i += 32;
    }
    lanes_sum(sum)
}

/// The sum of bytes 4 i .. 4 i + 4 in lane i.
#[inline(always)]
pub fn sums_of_four(bytes: i8x32) -> i32x8 {
    let bytes: i16x16 = cast(bytes);
    (((bytes << 8u32) >> 8u32) + (bytes >> 8u32)).dot(i16x16::splat(1))
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
    tiles::<D>(x, stride, rows, panel, groups, 1, |row| Finish::Add(totals.add(row * PANEL)));
}

pub unsafe extern "C" fn panel_product_scaled(
    x: *const i8,
    stride: usize,
    rows: usize,
    panel: *const u8,
    groups: usize,
    parts: usize,
    sums: *const i32,
    sums_stride: usize,
    scales: *const f32,
    totals: *mut f32,
) {
    tiles::<Native>(x, stride, rows, panel, groups, parts, |row| {
        let (sums, totals) = (sums.add(row * sums_stride), totals.add(row * PANEL));
        Finish::Scale { sums, sums_stride, scales, totals }
    });
}

/// The same, finished at once: y[rows][columns] = base + (the products - sums[rows], modulo 2^32) * (factors[rows] *
/// scales[columns * step]); at most 16 columns.
pub unsafe extern "C" fn panel_product_written(
    x: *const i8,
    stride: usize,
    rows: usize,
    panel: *const u8,
    groups: usize,
    sums: *const i32,
    factors: *const f32,
    scales: *const f32,
    scale_step: usize,
    base: *const f32,
    y: *mut f32,
    y_stride: usize,
    columns: usize,
) {
    tiles::<Native>(x, stride, rows, panel, groups, 1, |row| Finish::Write {
        sums: sums.add(row),
        factors: factors.add(row),
        scales,
        scale_step,
        base: if base.is_null() { base } else { base.add(row * y_stride) },
        y: y.add(row * y_stride),
        y_stride,
        columns,
    });
}

/// What becomes of the sums of a tile.
pub enum Finish {
    Add(*mut i32),
    Write {
        sums: *const i32,
        factors: *const f32,
        scales: *const f32,
        scale_step: usize,
        /// What is added, where y lies or elsewhere; or null.
        base: *const f32,
        y: *mut f32,
        y_stride: usize,
        columns: usize,
    },
    Scale {
        sums: *const i32,
        sums_stride: usize,
        scales: *const f32,
        totals: *mut f32,
    },
}

impl Finish {
    /// Brings near what `take` writes of R rows.
    #[inline(always)]
    pub fn prefetch<const R: usize>(&self) {
        if let Finish::Write { base, y, y_stride, .. } = *self {
            for r in 0..R {
                prefetch(y.wrapping_add(r * y_stride));
                if !base.is_null() {
                    prefetch(base.wrapping_add(r * y_stride));
                }
            }
        }
    }

    /// Takes the sums of R rows, 16 of each.
    #[inline(always)]
    pub unsafe fn take<D: Dots, const R: usize>(&self, totals: &[[D::Totals; 2]; R], part: usize) {
        match *self {
            Finish::Write { sums, factors, scales, scale_step, base, y, y_stride, columns } => {
                if columns < PANEL {
                    return self.take_part::<D, R>(totals);
                }
                let scales = if scale_step == 0 {
                    [f32x8::splat(*scales); 2]
                } else {
                    [read(scales), read::<f32x8, f32>(scales.add(8))]
                };
                for (r, totals) in totals.iter().enumerate() {
                    let (sum, factor) = (i32x8::splat(*sums.add(r)), f32x8::splat(*factors.add(r)));
                    for half in 0..2 {
                        let value = to_float(half_of::<D>(totals, half) - sum) * (factor * scales[half]);
                        let at = r * y_stride + 8 * half;
                        store(y.add(at), if base.is_null() { value } else { read::<f32x8, f32>(base.add(at)) + value });
                    }
                }
            }
            Finish::Add(to) => {
                for (r, totals) in totals.iter().enumerate() {
                    for half in 0..2 {
                        let to = to.add(r * PANEL + 8 * half);
                        write(to, read::<i32x8, i32>(to) + half_of::<D>(totals, half));
                    }
                }
            }
            Finish::Scale { sums, sums_stride, scales, totals: to } => {
                let scales: [f32x8; 2] = read(scales.add(part * PANEL));
                for (r, totals) in totals.iter().enumerate() {
                    let sum = i32x8::splat(*sums.add(r * sums_stride + part));
                    for half in 0..2 {
                        let to = to.add(r * PANEL + 8 * half);
                        let exact = half_of::<D>(totals, half) - sum;
                        store(to, read::<f32x8, f32>(to) + to_float(exact) * scales[half]);
                    }
                }
            }
        }
    }

    /// `Write` of fewer than 16 columns.
    #[inline(never)]
    unsafe fn take_part<D: Dots, const R: usize>(&self, totals: &[[D::Totals; 2]; R]) {
        let Finish::Write { sums, factors, scales, scale_step, base, y, y_stride, columns } = *self else { return };
        for (r, totals) in totals.iter().enumerate() {
            for half in 0..2 {
                let column = 8 * half;
                if column < columns {
                    let rest = columns - column;
                    let scales =
                        if scale_step == 0 { f32x8::splat(*scales) } else { load_up_to(scales.add(column), rest) };
                    let exact = to_float(half_of::<D>(totals, half) - i32x8::splat(*sums.add(r)));
                    let value = exact * (f32x8::splat(*factors.add(r)) * scales);
                    let at = r * y_stride + column;
                    let value = if base.is_null() { value } else { load_up_to(base.add(at), rest) + value };
                    store_up_to(y.add(at), value, rest);
                }
            }
        }
    }
}

/// Columns 8 half .. 8 half + 8 of the totals of a row, which fill one register or two.
#[inline(always)]
pub fn half_of<D: Dots>(totals: &[D::Totals; 2], half: usize) -> i32x8 {
    let per_register = D::WIDTH / 32;
    eight(&totals[(half / per_register) & 1], half % per_register)
}

#[inline(always)]
unsafe fn tiles<D: Dots>(
    x: *const i8,
    stride: usize,
    rows: usize,
    panel: *const u8,
    groups: usize,
    parts: usize,
    finish: impl Fn(usize) -> Finish,
) {
    let mut row = 0;
    while row < rows {
        let left = rows - row;
        // The last rows in two about equal passes rather than a full one and a poor one; each size of a pass is code, so there are
        // few.
        let pass = if left > D::TILE && left < 2 * D::TILE {
            match left.div_ceil(2) {
                rows @ 0..=4 => rows,
                5 | 6 => 6,
                7..=9 => 9,
                _ => 12,
            }
        } else {
            match if left < D::TILE { left } else { D::TILE } {
                rows @ 0..=4 => rows,
                5 => 3,
                6..=8 => 6,
                9..=11 => 9,
                _ => 12,
            }
        };
        let (x, finish) = (x.add(row * stride), finish(row));
        for part in 0..parts {
            let (x, panel) = (x.add(part * 4 * groups), panel.add(part * 4 * PANEL * groups));
            macro_rules! tiles {
                ($($rows:literal)*) => {
                    match pass {
                        // Those past the tile of D are never compiled: the condition is a constant.
                        $($rows if $rows <= D::TILE => tile::<D, $rows>(x, stride, panel, groups, part, &finish),)*
                        _ => {}
                    }
                };
            }
            tiles!(1 2 3 4 6 9 12);
        }
        row += pass;
    }
}

/// Hands the sums of R rows of x by the panel, 16 of each, to `finish`.
#[inline(always)]
unsafe fn tile<D: Dots, const R: usize>(
    x: *const i8,
    stride: usize,
    panel: *const u8,
    groups: usize,
    part: usize,
    finish: &Finish,
) {
    // The four bytes of 16 rows fill one register or two.
    let registers = 4 * PANEL / D::WIDTH;
    finish.prefetch::<R>();
    let rows = starts::<R>(x, stride);
    let mut totals = [[D::Totals::zeroed(); 2]; R];
    let mut g = 0;
    while g < groups {
        let end = if groups - g < D::STEPS { groups } else { g + D::STEPS };
        let mut sums = [[D::Sums::zeroed(); 2]; R];
        while g < end {
            let codes: [D::Bytes; 2] =
                core::array::from_fn(|i| read(panel.add(g * 4 * PANEL + i % registers * D::WIDTH)));
            for r in 0..R {
                let four = D::Bytes::repeat(read(rows[r].add(4 * g)));
                for i in 0..registers {
                    sums[r][i] = D::step(sums[r][i], codes[i], four);
                }
            }
            g += 1;
        }
        for r in 0..R {
            for i in 0..registers {
                totals[r][i] += D::totals(sums[r][i]);
            }
        }
    }
    finish.take::<D, R>(&totals, part);
}

/// Where R rows begin. A compiler that knew how they follow from each other would add up the next from the one before in every
/// step of the loop over them, rather than keep them in registers.
#[inline(always)]
pub fn starts<const R: usize>(x: *const i8, stride: usize) -> [*const i8; R] {
    core::array::from_fn(|r| core::hint::black_box(x.wrapping_add(r * stride)))
}

/// Lanes 8 half .. 8 half + 8.
#[inline(always)]
pub fn eight<T: bytemuck::Pod>(totals: &T, half: usize) -> i32x8 {
    // SAFETY: totals are one or two times eight lanes, and there are so many halves.
    unsafe { read((&raw const *totals).cast::<i32>().add(8 * half)) }
}

// --- the end of both --------------------------------------------------------------------------------------------------------

pub unsafe extern "C" fn scale_totals(
    totals: *const i32,
    stride: usize,
    rows: usize,
    columns: usize,
    sums: *const i32,
    factors: *const f32,
    scales: *const f32,
    scale_step: usize,
    y: *mut f32,
    y_stride: usize,
) {
    for row in 0..rows {
        let (totals, y) = (totals.add(row * stride), y.add(row * y_stride));
        let (sum, factor) = (*sums.add(row), *factors.add(row));
        let mut i = 0;
        while i + 8 <= columns {
            let exact = read::<i32x8, i32>(totals.add(i)) - i32x8::splat(sum);
            let scales = if scale_step == 0 { f32x8::splat(*scales) } else { read(scales.add(i)) };
            store(y.add(i), to_float(exact) * (f32x8::splat(factor) * scales));
            i += 8;
        }
        while i < columns {
            let exact = (*totals.add(i)).wrapping_sub(sum) as f32;
            *y.add(i) = exact * (factor * *scales.add(i * scale_step));
            i += 1;
        }
    }
}

#[cfg(test)]
#[path = "matmul_tests.rs"]
mod tests;
