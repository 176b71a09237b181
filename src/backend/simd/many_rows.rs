//! Many rows of codes by packed weights: panels of weights are unpacked once, and all rows of a block pass over them
//! (`spans/matmul.rs` says how).

use super::chunks::{self, Shared};
use super::matmul_ternary::{Codes, Product};
use super::spans::PANEL;
use super::weights::Weights;
use crate::backend::Launch;
use crate::backend::workspace::with_scratch;
use crate::tensor::Result;
use std::ops::Range;

/// Columns of y in a block: four panels.
const BLOCK_COLUMNS: usize = 4 * PANEL;
/// Groups of four k unpacked at a time: a panel of 32 KiB stays in the first-level cache or near it.
const GROUPS: usize = 512;

/// Blocks of a product, at least, where they leave rows enough: a thread that is slower than another leaves it no more than a
/// small part of the whole.
const BLOCKS: usize = 32;

/// Rows of y in a block: enough to pay for unpacking, few enough that their codes (about 256 KiB) stay in the second-level
/// cache while panel after panel passes over them, and that there are several blocks for each thread; blocks of a matrix are
/// about equal. A multiple of the rows of every tile.
pub fn block_rows([m, n, k]: [usize; 3]) -> usize {
    let most = ((256 << 10) / k.max(1)).min(m.saturating_mul(n.div_ceil(BLOCK_COLUMNS)) / BLOCKS).clamp(96, 384);
    let blocks = (m as f64 / most as f64).round().max(1.0) as usize;
    m.div_ceil(blocks).next_multiple_of(12)
}

/// x in the order of panels, every group of a scale padded to whole words of panels.
struct Arranged<'a> {
    x: &'a [i8],
    stride: usize,
    /// [m][groups]: sums of codes, modulo 2^32.
    sums: &'a [i32],
    scales: &'a [f32],
}

/// Bytes of an arranged row.
fn padded_row(weights: &Weights) -> usize {
    let last = weights.groups - 1;
    last * weights.width.next_multiple_of(16) + weights.columns(last).len().next_multiple_of(16)
}

/// Whether a base can be added on the way: a row has one group, which fits a panel.
pub fn adds_base(weights: &Weights) -> bool {
    weights.groups == 1 && padded_row(weights) <= 4 * GROUPS
}

/// Of at least one product; their weights have the same columns and groups.
pub fn many_rows(launch: &Launch, codes: &Codes, products: &[Product]) -> Result<()> {
    let weights = &products[0].weights;
    let (m, k, groups) = (codes.m, weights.k, weights.groups);
    let (padded, stride) = (weights.width.next_multiple_of(16), padded_row(weights));
    with_scratch::<i32, _>(m * groups, |sums| {
        with_scratch::<i8, _>(m * stride, |x| {
            let (shared_sums, shared_x) = (Shared::new(sums), Shared::new(x));
            chunks::run(launch, m, chunks::rows(m, k), |rows| {
                for row in rows {
                    // SAFETY: different rows are disjoint.
                    let (sums, x) = unsafe {
                        (
                            shared_sums.part(row * groups..(row + 1) * groups),
                            shared_x.part(row * stride..(row + 1) * stride),
                        )
                    };
                    for (group, (sum, x)) in sums.iter_mut().zip(x.chunks_mut(padded)).enumerate() {
                        let from = &codes.codes[row * k..][weights.columns(group)];
                        // SAFETY: the columns of a group, to room for a multiple of 16.
                        *sum = unsafe { (launch.spans.arrange_codes)(from.as_ptr(), from.len(), x.as_mut_ptr()) };
                    }
                }
            });
            let x = Arranged { x, stride, sums, scales: codes.scales };
            blocks(launch, m, &x, products)
        })?
    })?
}

fn blocks(launch: &Launch, m: usize, x: &Arranged, products: &[Product]) -> Result<()> {
    let (k, n) = (products[0].weights.k, products.iter().map(|product| product.weights.n).sum());
    let columns = |number: usize| [products[number].weights.n, products[number].whole_heads(BLOCK_COLUMNS)];
    chunks::grids(launch, [m, block_rows([m, n, k])], (products.len(), columns), |number, rows, columns| {
        let product = &products[number];
        let weights = &product.weights;
        with_scratch::<u8, _>(weights.scratch(PANEL), |scratch| {
            // Integers, then floats.
            with_scratch::<i32, _>(2 * rows.len() * PANEL + weights.groups * PANEL, |room| {
                with_scratch::<u8, _>(GROUPS.min(x.stride / 4) * 4 * PANEL, |panel| {
                    for start in columns.clone().step_by(PANEL) {
                        let columns = start..columns.end.min(start + PANEL);
                        let packed = weights.rows(launch, columns.clone(), scratch);
                        let job = Panel { launch, x, product, rows: rows.clone(), columns, packed };
                        if weights.groups == 1 { job.one_group(panel, room) } else { job.groups(panel, room) }
                    }
                })
            })?
        })??;
        product.turn(launch, rows, columns);
        Ok(())
    })
}

/// y at `rows` and at most 16 `columns`, whose weights are `packed`.
struct Panel<'a> {
    launch: &'a Launch,
    x: &'a Arranged<'a>,
    product: &'a Product<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    packed: &'a [u8],
}

impl Panel<'_> {
    fn one_group(&self, panel: &mut [u8], room: &mut [i32]) {
        let (weights, spans, n) = (&self.product.weights, self.launch.spans, self.product.weights.n);
        let (sums, factors) = (&self.x.sums[self.rows.clone()], &self.x.scales[self.rows.clone()]);
        let (scales, step) =
            if weights.whole { (weights.scales, 0) } else { (&weights.scales[self.columns.clone()], 1) };
        let at = self.rows.start * n + self.columns.start;
        let to = self.product.y.as_mut_ptr().wrapping_add(at);
        let (rows, columns) = (self.rows.len(), self.columns.len());
        let (sums, factors, scales) = (sums.as_ptr(), factors.as_ptr(), scales.as_ptr());
        if self.x.stride <= 4 * GROUPS {
            self.unpack(0, weights.row_bytes(), panel);
            let (x, panel) = (self.x.x[self.rows.start * self.x.stride..].as_ptr(), panel.as_ptr());
            let (stride, groups) = (self.x.stride, self.x.stride / 4);
            let base = self.product.base.map_or(std::ptr::null(), |base| base[at..].as_ptr());
            // SAFETY: `rows` rows of x, a panel that was unpacked; the blocks of y are disjoint and inside it.
            unsafe {
                (spans.panel_product_written)(
                    x, stride, rows, panel, groups, sums, factors, scales, step, base, to, n, columns,
                );
            }
            return;
        }
        let totals = &mut room[..rows * PANEL];
        self.integers(0, panel, totals);
        // SAFETY: totals of these rows; the blocks of y are disjoint and inside it.
        unsafe { (spans.scale_totals)(totals.as_ptr(), PANEL, rows, columns, sums, factors, scales, step, to, n) }
    }

    /// totals[rows][16] = the products of codes of one group, however long.
    fn integers(&self, group: usize, panel: &mut [u8], totals: &mut [i32]) {
        let (bytes, columns) = (self.product.weights.row_bytes(), self.product.weights.columns(group));
        let (start, count) = (group * self.product.weights.group_bytes(), columns.len().div_ceil(4));
        let x_start = group * self.product.weights.width.next_multiple_of(16);
        totals.fill(0);
        for at in (0..count).step_by(GROUPS) {
            let count = GROUPS.min(count - at);
            let x = &self.x.x[self.rows.start * self.x.stride + x_start + 4 * at..];
            self.unpack(start + at, count, panel);
            let (stride, rows, groups) = (self.x.stride, self.rows.len(), count.next_multiple_of(4));
            // SAFETY: `rows` rows of x from here on, a panel that was unpacked, totals of these rows.
            unsafe {
                let (x, panel, totals) = (x.as_ptr(), panel.as_ptr(), totals.as_mut_ptr());
                (self.launch.spans.panel_product)(x, stride, rows, panel, groups, totals);
            }
        }
        debug_assert!(start + count <= bytes);
    }

    /// The panel of `count` bytes of each row, from byte `at` on.
    fn unpack(&self, at: usize, count: usize, panel: &mut [u8]) {
        let bytes = self.product.weights.row_bytes();
        let (packed, panel) = (&self.packed[at..], &mut panel[..count.next_multiple_of(4) * 4 * PANEL]);
        // SAFETY: `columns` rows of `bytes` bytes, which hold count bytes from `at` on; the panel has room for them.
        unsafe {
            let (packed, panel) = (packed.as_ptr(), panel.as_mut_ptr());
            (self.launch.spans.unpack_panel)(packed, bytes, self.columns.len(), count, panel);
        }
    }

    fn groups(&self, panel: &mut [u8], room: &mut [i32]) {
        let (weights, rows, n) = (&self.product.weights, self.rows.len(), self.product.weights.n);
        let (integers, room) = room.split_at_mut(rows * PANEL);
        let (totals, scales) = room.split_at_mut(rows * PANEL);
        let (totals, scales): (&mut [f32], &mut [f32]) =
            (bytemuck::cast_slice_mut(totals), bytemuck::cast_slice_mut(scales));
        totals.fill(0.0);
        scales.fill(0.0);
        for (i, column) in self.columns.clone().enumerate() {
            let from = &weights.scales[column * weights.groups..][..weights.groups];
            for (group, scale) in from.iter().enumerate() {
                scales[group * PANEL + i] = *scale;
            }
        }
        // Groups of a panel at a time, all of one length.
        let per_panel = GROUPS / (weights.width.next_multiple_of(16) / 4);
        let equal = weights.k / weights.width;
        let mut group = 0;
        while group < weights.groups {
            if per_panel == 0 {
                self.integers(group, panel, integers);
                self.add_scaled(group, integers, scales, totals);
                group += 1;
                continue;
            }
            let count = if group < equal { per_panel.min(equal - group) } else { 1 };
            self.several(group, count, panel, scales, totals);
            group += count;
        }
        for (row, totals) in self.rows.clone().zip(totals.chunks_exact(PANEL)) {
            // SAFETY: the blocks of y are disjoint.
            let y = unsafe { self.product.y.part(row * n + self.columns.start..row * n + self.columns.end) };
            y.iter_mut().zip(totals).for_each(|(y, total)| *y = total * self.x.scales[row]);
        }
    }

    /// Adds `count` groups of one length, which fit a panel.
    fn several(&self, group: usize, count: usize, panel: &mut [u8], scales: &[f32], totals: &mut [f32]) {
        let weights = &self.product.weights;
        let (width, padded) = (weights.columns(group).len(), weights.width.next_multiple_of(16));
        let (bytes, groups) = (width.div_ceil(4), width.next_multiple_of(16) / 4);
        let at = group * weights.group_bytes();
        if width.is_multiple_of(16) {
            self.unpack(at, count * bytes, panel);
        } else {
            for i in 0..count {
                self.unpack(at + i * bytes, bytes, &mut panel[i * groups * 4 * PANEL..]);
            }
        }
        let x = &self.x.x[self.rows.start * self.x.stride + group * padded..];
        let sums = &self.x.sums[self.rows.start * weights.groups + group..];
        let (x, sums, scales) = (x.as_ptr(), sums.as_ptr(), scales[group * PANEL..].as_ptr());
        let (stride, rows, step) = (self.x.stride, self.rows.len(), weights.groups);
        // SAFETY: `rows` rows of x and of sums from here on, `count` parts of a panel that were unpacked, and their scales.
        unsafe {
            let (panel, totals) = (panel.as_ptr(), totals.as_mut_ptr());
            let span = self.launch.spans.panel_product_scaled;
            span(x, stride, rows, panel, groups, count, sums, step, scales, totals);
        }
    }

    /// Adds one group from its products: for groups beyond a panel.
    fn add_scaled(&self, group: usize, integers: &[i32], scales: &[f32], totals: &mut [f32]) {
        let scales = &scales[group * PANEL..][..PANEL];
        let rows = integers.chunks_exact(PANEL).zip(totals.chunks_exact_mut(PANEL));
        for (row, (integers, totals)) in self.rows.clone().zip(rows) {
            let sum = self.x.sums[row * self.product.weights.groups + group];
            for i in 0..PANEL {
                totals[i] += integers[i].wrapping_sub(sum) as f32 * scales[i];
            }
        }
    }
}
