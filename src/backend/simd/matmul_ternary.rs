//! Products with packed ternary weights: exact in integers forward (`spans/matmul.rs` says how), `gemm` on unpacked panels
//! backward.

use super::chunks::{self, Shared};
use super::matmul::{Matrix, product};
use super::spans::{PANEL, PLANE};
use crate::backend::Launch;
use crate::backend::scalar::matmul::{check_ternary, check_ternary_backward};
use crate::backend::workspace::with_scratch;
use crate::tensor::{Result, View, ViewMut};
use std::ops::Range;

/// The operands of a forward product, checked.
struct Operands<'a> {
    m: usize,
    n: usize,
    k: usize,
    codes: &'a [i8],
    packed: &'a [u8],
    /// Per row of codes: its sum, modulo 2^32, and scale times weight scale.
    sums: &'a [i32],
    factors: &'a [f32],
}

/// Up to here the packed bytes are multiplied as they lie; for more rows, unpacking panels pays (measured on Zen 4).
const FEW: usize = 12;

pub fn matmul_ternary(
    launch: &Launch,
    codes: &View,
    scales: &View,
    packed: &View,
    weight_scale: &View,
    y: &mut ViewMut,
) -> Result<()> {
    let (m, k, n) = (codes.dim(0), codes.dim(1), packed.dim(0));
    check_ternary([m, n, k], scales.count(), packed, weight_scale, y)?;
    let (codes, scales, packed) = (codes.slice::<i8>()?, scales.slice::<f32>()?, packed.slice::<u8>()?);
    let (weight_scale, y) = (weight_scale.slice::<f32>()?[0], y.slice_mut::<f32>()?);
    with_scratch::<i32, _>(m, |sums| {
        with_scratch::<f32, _>(m, |factors| {
            let (shared_sums, shared_factors) = (Shared::new(sums), Shared::new(factors));
            chunks::run(launch, m, 4 * chunks::rows(k), |rows| {
                // SAFETY: ranges of different chunks are disjoint.
                let (sums, factors) = unsafe { (shared_sums.part(rows.clone()), shared_factors.part(rows.clone())) };
                for ((row, sum), factor) in rows.zip(sums).zip(factors) {
                    // SAFETY: a row of k codes.
                    *sum = unsafe { (launch.spans.sum_codes)(codes[row * k..][..k].as_ptr(), k) };
                    *factor = scales[row] * weight_scale;
                }
            });
            let operands = Operands { m, n, k, codes, packed, sums, factors };
            if m <= FEW { few_rows(launch, &operands, y) } else { many_rows(launch, &operands, y) }
        })?
    })?
}

// --- many rows ---------------------------------------------------------------------------------------------------------------

/// Columns of y in a block: four panels.
const BLOCK_COLUMNS: usize = 4 * PANEL;
/// Groups of four k unpacked at a time: a panel of 32 KiB stays in the first-level cache or near it.
const GROUPS: usize = 512;

/// Rows of y in a block: enough to pay for unpacking, few enough that their codes (about 256 KiB) stay in the second-level
/// cache while panel after panel passes over them. A multiple of the rows of every level's tile.
fn block_rows(k: usize) -> usize {
    ((256 << 10) / k.max(1)).clamp(96, 384) / 12 * 12
}

fn many_rows(launch: &Launch, operands: &Operands, y: &mut [f32]) -> Result<()> {
    let &Operands { m, n, k, codes, .. } = operands;
    if k.is_multiple_of(4) {
        return blocks(launch, operands, y);
    }
    // The kernel reads x in fours: rows are copied to whole fours, with zeros after the last column.
    let width = k.next_multiple_of(4);
    with_scratch::<i8, _>(m * width, |whole| {
        let shared = Shared::new(whole);
        chunks::run(launch, m, 4 * chunks::rows(k), |rows| {
            for row in rows {
                // SAFETY: different rows are disjoint.
                let to = unsafe { shared.part(row * width..(row + 1) * width) };
                to[..k].copy_from_slice(&codes[row * k..][..k]);
                to[k..].fill(0);
            }
        });
        blocks(launch, &Operands { m, n, k: width, codes: whole, ..*operands }, y)
    })?
}

fn blocks(launch: &Launch, operands: &Operands, y: &mut [f32]) -> Result<()> {
    let &Operands { m, n, k, .. } = operands;
    let rows = block_rows(k);
    let y = Shared::new(y);
    chunks::grid(launch, [m, rows], [n, BLOCK_COLUMNS], |rows, columns| {
        with_scratch::<i32, _>(rows.len() * PANEL, |totals| {
            with_scratch::<u8, _>(GROUPS.min(k / 4) * 4 * PANEL, |panel| {
                for start in columns.clone().step_by(PANEL) {
                    let columns = start..columns.end.min(start + PANEL);
                    one_panel(launch, operands, rows.clone(), columns, panel, totals, &y);
                }
            })
        })?
    })
}

/// y at `rows` and at most 16 `columns`.
fn one_panel(
    launch: &Launch,
    operands: &Operands,
    rows: Range<usize>,
    columns: Range<usize>,
    panel: &mut [u8],
    totals: &mut [i32],
    y: &Shared<f32>,
) {
    let &Operands { n, k, codes, packed, sums, factors, .. } = operands;
    let bytes = k / 4;
    totals.fill(0);
    for group in (0..bytes).step_by(GROUPS) {
        let groups = GROUPS.min(bytes - group);
        let weights = &packed[columns.start * bytes + group..];
        let x = &codes[rows.start * k + 4 * group..];
        // SAFETY: `columns` rows of `bytes` packed bytes and `rows` rows of k codes, from the group on; the panel and the
        // totals were made for GROUPS groups and for these rows.
        unsafe {
            let panel = panel.as_mut_ptr();
            (launch.spans.unpack_panel)(weights.as_ptr(), bytes, columns.len(), groups, panel);
            (launch.spans.panel_product)(x.as_ptr(), k, rows.len(), panel, groups, totals.as_mut_ptr());
        }
    }
    let (sums, factors) = (&sums[rows.clone()], &factors[rows.clone()]);
    let to = y.as_mut_ptr().wrapping_add(rows.start * n + columns.start);
    // SAFETY: totals of these rows; the blocks of y are disjoint and inside it.
    unsafe {
        let (sums, factors) = (sums.as_ptr(), factors.as_ptr());
        (launch.spans.scale_totals)(totals.as_ptr(), PANEL, rows.len(), columns.len(), sums, factors, to, n);
    }
}

// --- few rows ----------------------------------------------------------------------------------------------------------------

/// Weights in a chunk: about ten microseconds.
const CHUNK_WEIGHTS: usize = 1 << 19;

fn few_rows(launch: &Launch, operands: &Operands, y: &mut [f32]) -> Result<()> {
    let &Operands { m, n, k, codes, packed, sums, factors } = operands;
    let bytes = k.div_ceil(4);
    let plane = bytes.next_multiple_of(PLANE);
    let y = Shared::new(y);
    with_scratch::<i8, _>(m * 4 * plane, |planes| {
        for (codes, planes) in codes.chunks_exact(k.max(1)).zip(planes.chunks_exact_mut((4 * plane).max(1))) {
            // SAFETY: k codes, four planes.
            unsafe { (launch.spans.split_codes)(codes.as_ptr(), k, plane, planes.as_mut_ptr()) };
        }
        let planes = &*planes;
        let size = (CHUNK_WEIGHTS / k.max(1)).next_multiple_of(4).max(4);
        chunks::try_run(launch, n, size, |rows| {
            with_scratch::<i32, _>(2 * rows.len(), |totals| {
                for x in (0..m).step_by(2) {
                    let count = (m - x).min(2);
                    let (planes, weights) = (&planes[x * 4 * plane..], &packed[rows.start * bytes..]);
                    let (planes, weights, totals) = (planes.as_ptr(), weights.as_ptr(), totals.as_mut_ptr());
                    let (sums, factors) = (sums[x..].as_ptr(), factors[x..].as_ptr());
                    let to = y.as_mut_ptr().wrapping_add(x * n + rows.start);
                    // SAFETY: the planes of `count` rows and `rows` weight rows make count x rows totals; parts of y are
                    // disjoint and inside it.
                    unsafe {
                        (launch.spans.row_products)(planes, plane, count, weights, bytes, rows.len(), totals);
                        (launch.spans.scale_totals)(totals, rows.len(), count, rows.len(), sums, factors, to, n);
                    }
                }
            })
        })
    })?
}

// --- backward ----------------------------------------------------------------------------------------------------------------

/// Weight rows, and columns of dx, that are unpacked at a time: 512 KiB of floats.
const UNPACKED_ROWS: usize = 256;
const UNPACKED_COLUMNS: usize = 512;

pub fn matmul_ternary_backward(
    launch: &Launch,
    dy: &View,
    packed: &View,
    weight_scale: &View,
    dx: &mut ViewMut,
) -> Result<()> {
    let (m, n, k) = (dy.dim(0), dy.dim(1), dx.dim(1));
    check_ternary_backward(dy, packed, weight_scale, dx)?;
    let (dy, packed, scale) = (dy.slice::<f32>()?, packed.slice::<u8>()?, weight_scale.slice::<f32>()?[0]);
    let bytes = k.div_ceil(4);
    let dx = Shared::new(dx.slice_mut::<f32>()?);
    chunks::grid(launch, [m, 256], [k, UNPACKED_COLUMNS], |rows, columns| {
        let width = columns.len();
        let a = Matrix { data: dy[rows.start * n..].as_ptr(), row_stride: n as isize, column_stride: 1 };
        let to = dx.as_mut_ptr().wrapping_add(rows.start * k + columns.start);
        with_scratch::<f32, _>(UNPACKED_ROWS.min(n) * width, |weights| {
            for start in (0..n.max(1)).step_by(UNPACKED_ROWS) {
                let count = UNPACKED_ROWS.min(n - start);
                for (row, weights) in weights.chunks_exact_mut(width).take(count).enumerate() {
                    let packed = &packed[(start + row) * bytes + columns.start / 4..];
                    // SAFETY: `width` columns from a multiple of four on, of one packed row, to as many floats.
                    unsafe { (launch.spans.deternarize)(packed.as_ptr(), width, scale, weights.as_mut_ptr()) };
                }
                let b = Matrix { data: weights.as_ptr(), row_stride: width as isize, column_stride: 1 };
                // SAFETY: dy and the unpacked weights hold these elements; blocks of dx are disjoint.
                unsafe { product([rows.len(), width, count], a.at(0, start), b, start > 0, to, k) };
            }
        })
    })
}
