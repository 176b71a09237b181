//! The small matrix products of attention: one tile of registers, C[4, 16] = A[4, k] B[k, 16], where B is packed into panels
//! of 16 columns, zeros past the last, so that a tile reads it from front to back.

use super::attention::AttentionShape;
use super::math::{by_vectors, load_up_to, store_up_to};
#[cfg(any(target_feature = "avx512f", test))]
use super::vector::read;
use super::vector::{load, prefetch_all, store};
use wide::f32x8;
#[cfg(any(target_feature = "avx512f", test))]
use wide::f32x16;

/// Rows of a tile, and columns of a panel.
pub const ROWS: usize = 4;
pub const PANEL: usize = 16;

/// C[4, 16] = A[4, depth] B[depth, 16], from rows of A that lie `stride` apart and a packed panel of B.
#[cfg(not(target_feature = "avx512f"))]
#[inline(always)]
pub unsafe fn tile(a: *const f32, stride: usize, panel: *const f32, depth: usize) -> [[f32x8; 2]; ROWS] {
    let mut c = [[f32x8::ZERO; 2]; ROWS];
    for i in 0..depth {
        let b = [load(panel.add(i * PANEL)), load(panel.add(i * PANEL + 8))];
        for (row, c) in c.iter_mut().enumerate() {
            let a = f32x8::splat(*a.add(row * stride + i));
            c[0] = a.mul_add(b[0], c[0]);
            c[1] = a.mul_add(b[1], c[1]);
        }
    }
    c
}

/// The same where 16 floats are one register: even and odd steps of the depth add up apart, or four sums in flight would wait
/// for each other.
#[cfg(any(target_feature = "avx512f", test))]
#[cfg_attr(not(target_feature = "avx512f"), allow(dead_code))]
#[inline(always)]
pub unsafe fn wide_tile(a: *const f32, stride: usize, panel: *const f32, depth: usize) -> [[f32x8; 2]; ROWS] {
    let mut c = [[f32x16::ZERO; ROWS]; 2];
    let mut step = |i: usize, half: usize| {
        let b: f32x16 = read(panel.add(i * PANEL));
        for row in 0..ROWS {
            c[half][row] = f32x16::splat(*a.add(row * stride + i)).mul_add(b, c[half][row]);
        }
    };
    let mut i = 0;
    while i + 2 <= depth {
        step(i, 0);
        step(i + 1, 1);
        i += 2;
    }
    if i < depth {
        step(i, 0);
    }
    core::array::from_fn(|row| bytemuck::cast(c[0][row] + c[1][row]))
}

#[cfg(target_feature = "avx512f")]
pub use wide_tile as tile;

/// Rows of a pass of `float_panel_product`: as many as leave their sums in registers.
const PASS: usize = if cfg!(target_feature = "fma") { 6 } else { 2 };

pub unsafe extern "C" fn float_panel_product(
    a: *const f32,
    stride: usize,
    rows: usize,
    panel: *const f32,
    depth: usize,
    accumulate: bool,
    c: *mut f32,
    c_stride: usize,
    columns: usize,
) {
    let mut row = 0;
    while row < rows {
        let (a, c) = (a.add(row * stride), c.add(row * c_stride));
        if rows - row >= PASS {
            pass::<PASS>(a, stride, panel, depth, accumulate, c, c_stride, columns);
            row += PASS;
        } else {
            pass::<1>(a, stride, panel, depth, accumulate, c, c_stride, columns);
            row += 1;
        }
    }
}

#[inline(always)]
unsafe fn pass<const R: usize>(
    a: *const f32,
    stride: usize,
    panel: *const f32,
    depth: usize,
    accumulate: bool,
    c: *mut f32,
    c_stride: usize,
    columns: usize,
) {
    let mut sums = [[f32x8::ZERO; 2]; R];
    for i in 0..depth {
        let b = [load(panel.add(i * PANEL)), load(panel.add(i * PANEL + 8))];
        for r in 0..R {
            let a = f32x8::splat(*a.add(r * stride + i));
            sums[r][0] = a.mul_add(b[0], sums[r][0]);
            sums[r][1] = a.mul_add(b[1], sums[r][1]);
        }
    }
    for r in 0..R {
        for half in 0..2 {
            if 8 * half < columns {
                let (to, rest) =
                    (c.add(r * c_stride + 8 * half), if columns < 8 * half + 8 { columns - 8 * half } else { 8 });
                let old = if accumulate { load_up_to(to, rest) } else { f32x8::ZERO };
                store_up_to(to, old + sums[r][half], rest);
            }
        }
    }
}

/// packed[dim / 16][padded keys][16] from keys rows of dim columns.
#[inline(never)]
pub unsafe fn pack(from: *const f32, shape: &AttentionShape, packed: *mut f32) {
    for_half_panels(shape, |column, at, rest| {
        for key in 0..shape.keys {
            let from = from.add(key * shape.key_stride + column);
            store(packed.add(at + key * PANEL), load_up_to(from, rest));
        }
    });
    // The second half of the last panel, where no column reaches it.
    let used = shape.dim.next_multiple_of(8);
    if !used.is_multiple_of(PANEL) {
        let to = packed.add((used - 8) * shape.padded_keys() + 8);
        for key in 0..shape.keys {
            store(to.add(key * PANEL), f32x8::ZERO);
        }
    }
}

/// The inverse of `pack`.
#[inline(never)]
pub unsafe fn unpack(packed: *const f32, shape: &AttentionShape, to: *mut f32) {
    for_half_panels(shape, |column, at, rest| {
        for key in 0..shape.keys {
            store_up_to(to.add(key * shape.key_stride + column), load(packed.add(at + key * PANEL)), rest);
        }
    });
}

/// Calls `half(column, at, rest)` for every eight columns, which begin at element `at` of the packed panels.
#[inline(always)]
unsafe fn for_half_panels(shape: &AttentionShape, half: impl Fn(usize, usize, usize)) {
    by_vectors(shape.dim, |column, rest| {
        half(column, column / PANEL * PANEL * shape.padded_keys() + column % PANEL, rest);
    });
}

/// Asks for so many rows, which are read soon: they lie too far apart to be foreseen.
#[inline(always)]
pub fn prefetch_rows(from: *const f32, stride: usize, rows: usize, dim: usize) {
    for row in 0..rows {
        prefetch_all(from.wrapping_add(row * stride), dim);
    }
}

/// packed[keys / 16][dim][16] from keys rows of dim columns: eight by eight, transposed in registers.
#[inline(never)]
pub unsafe fn pack_transposed(from: *const f32, shape: &AttentionShape, packed: *mut f32) {
    let mut key = 0;
    while key < shape.padded_keys() {
        let to = packed.add((key / PANEL) * PANEL * shape.dim + key % PANEL);
        let from = from.wrapping_add(key * shape.key_stride);
        prefetch_rows(from.wrapping_add(2 * 8 * shape.key_stride), shape.key_stride, 8, shape.dim);
        let count = shape.keys.saturating_sub(key);
        by_vectors(shape.dim, |column, rest| {
            let from = from.wrapping_add(column);
            let rows = if count >= 8 {
                core::array::from_fn(|i| load_up_to(from.add(i * shape.key_stride), rest))
            } else {
                let row = |i| if i < count { load_up_to(from.add(i * shape.key_stride), rest) } else { f32x8::ZERO };
                core::array::from_fn(row)
            };
            for (i, column_of_keys) in f32x8::transpose(rows).into_iter().enumerate().take(rest) {
                store(to.add((column + i) * PANEL), column_of_keys);
            }
        });
        key += 8;
    }
}

/// n zeros, n a multiple of 8.
#[inline(always)]
pub unsafe fn zero(p: *mut f32, n: usize) {
    let mut i = 0;
    while i < n {
        store(p.add(i), f32x8::ZERO);
        i += 8;
    }
}

#[cfg(test)]
#[test]
fn the_wide_tile_is_the_tile() {
    for depth in [0, 1, 2, 3, 8, 17, 64] {
        // Small integers: every sum is exact, in any order.
        let number = |i: usize| ((i * 37 + 11) % 17) as f32 - 8.0;
        let (a, panel): (Vec<f32>, Vec<f32>) =
            ((0..ROWS * 70).map(number).collect(), (0..depth * PANEL).map(number).collect());
        // SAFETY: ROWS rows, 70 apart, and `depth` rows of a panel.
        let (expected, found) =
            unsafe { (tile(a.as_ptr(), 70, panel.as_ptr(), depth), wide_tile(a.as_ptr(), 70, panel.as_ptr(), depth)) };
        assert_eq!(found, expected, "depth {depth}");
        let sum: f32 = (0..depth).map(|i| a[70 + i] * panel[i * PANEL + 9]).sum();
        assert_eq!(found[1][1].to_array()[1], sum, "depth {depth}");
    }
}
