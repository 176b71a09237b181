//! Products with packed ternary weights: exact in integers forward (`spans/matmul.rs` says how), of floats on unpacked panels
//! backward.

use super::chunks::{self, Shared};
use super::spans::PANEL;
use super::weights::Weights;
use crate::backend::Launch;
use crate::backend::scalar::matmul::{check_base, check_ternary, check_ternary_backward};
use crate::backend::workspace::with_scratch;
use crate::tensor::{Packing, Result, View, ViewMut};
use std::ops::Range;

/// The activations of a forward product.
struct Codes<'a> {
    m: usize,
    codes: &'a [i8],
    scales: &'a [f32],
}

/// Up to here the packed bytes are multiplied as they lie; for more rows, unpacking panels pays.
const FEW: usize = 12;

#[allow(clippy::too_many_arguments)]
pub fn matmul_ternary(
    launch: &Launch,
    codes: &View,
    scales: &View,
    packing: Packing,
    packed: &View,
    group: usize,
    weight_scales: &View,
    base: Option<&View>,
    y: &mut ViewMut,
) -> Result<()> {
    let groups = check_ternary(codes, scales, packing, packed, group, weight_scales, y)?;
    let m = codes.dim(0);
    let (codes, scales, packed) = (codes.slice::<i8>()?, scales.slice::<f32>()?, packed.slice::<u8>()?);
    let base = check_base(base, y)?.map(|base| base.slice::<f32>()).transpose()?;
    let (weight_scales, y) = (weight_scales.slice::<f32>()?, y.slice_mut::<f32>()?);
    if y.is_empty() || codes.is_empty() {
        match base {
            Some(base) => y.copy_from_slice(base),
            None => y.fill(0.0),
        }
        return Ok(());
    }
    let weights = Weights::new(packing, packed, &groups, weight_scales);
    let codes = Codes { m, codes, scales };
    if m > FEW && weights.groups == 1 && padded_row(&weights) <= 4 * GROUPS {
        return many_rows(launch, &codes, &weights, base, y);
    }
    if m <= FEW {
        few_rows(launch, &codes, &weights, y)?
    } else {
        many_rows(launch, &codes, &weights, None, y)?
    }
    if let Some(base) = base {
        let y = Shared::new(y);
        chunks::run(launch, base.len(), chunks::elements(base.len()), |range| {
            // SAFETY: ranges of different chunks are disjoint, and both have the length of the range.
            unsafe { (launch.spans.add)(base[range.clone()].as_ptr(), y.part(range.clone()).as_mut_ptr(), range.len()) }
        });
    }
    Ok(())
}

// --- many rows ---------------------------------------------------------------------------------------------------------------

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

/// A base is there only where a row has one group, which fits a panel.
fn many_rows(launch: &Launch, codes: &Codes, weights: &Weights, base: Option<&[f32]>, y: &mut [f32]) -> Result<()> {
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
            blocks(launch, m, &x, weights, base, y)
        })?
    })?
}

fn blocks(
    launch: &Launch,
    m: usize,
    x: &Arranged,
    weights: &Weights,
    base: Option<&[f32]>,
    y: &mut [f32],
) -> Result<()> {
    let y = Shared::new(y);
    chunks::grid(launch, [m, block_rows([m, weights.n, weights.k])], [weights.n, BLOCK_COLUMNS], |rows, columns| {
        with_scratch::<u8, _>(weights.scratch(PANEL), |scratch| {
            // Integers, then floats.
            with_scratch::<i32, _>(2 * rows.len() * PANEL + weights.groups * PANEL, |room| {
                with_scratch::<u8, _>(GROUPS.min(x.stride / 4) * 4 * PANEL, |panel| {
                    for start in columns.clone().step_by(PANEL) {
                        let columns = start..columns.end.min(start + PANEL);
                        let packed = weights.rows(launch, columns.clone(), scratch);
                        let job = Panel { launch, x, weights, rows: rows.clone(), columns, packed, base };
                        if weights.groups == 1 { job.one_group(panel, room, &y) } else { job.groups(panel, room, &y) }
                    }
                })
            })?
        })?
    })
}

/// y at `rows` and at most 16 `columns`, whose weights are `packed`.
struct Panel<'a> {
    launch: &'a Launch,
    x: &'a Arranged<'a>,
    weights: &'a Weights<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    packed: &'a [u8],
    base: Option<&'a [f32]>,
}

impl Panel<'_> {
    fn one_group(&self, panel: &mut [u8], room: &mut [i32], y: &Shared<f32>) {
        let (weights, spans, n) = (self.weights, self.launch.spans, self.weights.n);
        let (sums, factors) = (&self.x.sums[self.rows.clone()], &self.x.scales[self.rows.clone()]);
        let (scales, step) =
            if weights.whole { (weights.scales, 0) } else { (&weights.scales[self.columns.clone()], 1) };
        let at = self.rows.start * n + self.columns.start;
        let to = y.as_mut_ptr().wrapping_add(at);
        let (rows, columns) = (self.rows.len(), self.columns.len());
        let (sums, factors, scales) = (sums.as_ptr(), factors.as_ptr(), scales.as_ptr());
        if self.x.stride <= 4 * GROUPS {
            self.unpack(0, weights.row_bytes(), panel);
            let (x, panel) = (self.x.x[self.rows.start * self.x.stride..].as_ptr(), panel.as_ptr());
            let (stride, groups) = (self.x.stride, self.x.stride / 4);
            let base = self.base.map_or(std::ptr::null(), |base| base[at..].as_ptr());
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
        let (bytes, columns) = (self.weights.row_bytes(), self.weights.columns(group));
        let (start, count) = (group * self.weights.group_bytes(), columns.len().div_ceil(4));
        let x_start = group * self.weights.width.next_multiple_of(16);
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
        let bytes = self.weights.row_bytes();
        let (packed, panel) = (&self.packed[at..], &mut panel[..count.next_multiple_of(4) * 4 * PANEL]);
        // SAFETY: `columns` rows of `bytes` bytes, which hold count bytes from `at` on; the panel has room for them.
        unsafe {
            let (packed, panel) = (packed.as_ptr(), panel.as_mut_ptr());
            (self.launch.spans.unpack_panel)(packed, bytes, self.columns.len(), count, panel);
        }
    }

    fn groups(&self, panel: &mut [u8], room: &mut [i32], y: &Shared<f32>) {
        let (weights, rows, n) = (self.weights, self.rows.len(), self.weights.n);
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
            let y = unsafe { y.part(row * n + self.columns.start..row * n + self.columns.end) };
            y.iter_mut().zip(totals).for_each(|(y, total)| *y = total * self.x.scales[row]);
        }
    }

    /// Adds `count` groups of one length, which fit a panel.
    fn several(&self, group: usize, count: usize, panel: &mut [u8], scales: &[f32], totals: &mut [f32]) {
        let weights = self.weights;
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
            let sum = self.x.sums[row * self.weights.groups + group];
            for i in 0..PANEL {
                totals[i] += integers[i].wrapping_sub(sum) as f32 * scales[i];
            }
        }
    }
}

// --- few rows ----------------------------------------------------------------------------------------------------------------

/// Weights in a chunk, at most: about two microseconds, which is enough where the threads stand by.
const CHUNK_WEIGHTS: usize = 1 << 17;
/// Bytes of rows that are brought to two bits at a time.
const DECODED: usize = 16 << 10;

/// How x and the packed rows come apart.
struct Parts {
    /// Trits of a packed byte.
    digits: usize,
    row_bytes: usize,
    /// Bytes, and columns, of a part: a group, or a plane of several groups.
    bytes: usize,
    columns: usize,
    /// Groups of a part.
    split: usize,
    /// Of the planes of a row of x.
    stride: usize,
}

impl Parts {
    fn new(weights: &Weights, plane: usize) -> Parts {
        let (k, width) = (weights.k, weights.width);
        // Fives are multiplied as they lie where no group ends inside of a byte.
        let fused = weights.packing == Packing::FivePerByte && weights.groups == 1;
        let digits = if fused { 5 } else { 4 };
        let row_bytes = if fused { k.div_ceil(5) } else { weights.row_bytes() };
        let plane_columns = 4 * plane;
        let several = weights.groups > 1 && [2, 4, plane / 8].contains(&(plane_columns / width));
        let (bytes, columns, split) = if weights.groups == 1 {
            (row_bytes, k, 1)
        } else if several && plane_columns.is_multiple_of(width) {
            (plane, plane_columns, plane_columns / width)
        } else {
            (weights.group_bytes(), width, 1)
        };
        let padded = |columns: usize| columns.div_ceil(digits).next_multiple_of(plane) * digits;
        let parts = k.div_ceil(columns);
        let stride = (parts - 1) * padded(columns) + padded(k - (parts - 1) * columns);
        Parts { digits, row_bytes, bytes, columns, split, stride }
    }
}

fn few_rows(launch: &Launch, codes: &Codes, weights: &Weights, y: &mut [f32]) -> Result<()> {
    let (m, k, groups) = (codes.m, weights.k, weights.groups);
    let parts = Parts::new(weights, launch.spans.plane);
    with_scratch::<i32, _>(m * groups, |sums| {
        with_scratch::<i8, _>(m * parts.stride, |planes| {
            let padded = parts.columns.div_ceil(parts.digits).next_multiple_of(launch.spans.plane) * parts.digits;
            for (row, planes) in planes.chunks_exact_mut(parts.stride).enumerate() {
                let codes = &codes.codes[row * k..][..k];
                let sums = &mut sums[row * groups..][..groups];
                for (i, (codes, planes)) in codes.chunks(parts.columns).zip(planes.chunks_mut(padded)).enumerate() {
                    let (from, to) = (codes.as_ptr(), planes.as_mut_ptr());
                    // SAFETY: the codes of a part, to room for whole planes.
                    let sum = unsafe { (launch.spans.split_codes)(from, codes.len(), parts.digits, to) };
                    if parts.split == 1 {
                        sums[i] = sum;
                    }
                }
                if parts.split > 1 {
                    for (codes, sum) in codes.chunks(weights.width).zip(sums) {
                        *sum = codes.iter().map(|&code| i32::from(code)).sum();
                    }
                }
            }
            let job = Few { launch, codes, weights, parts: &parts, planes, sums, y: Shared::new(y) };
            // Chunks of about equal size.
            let chunks = weights.n.saturating_mul(k).div_ceil(CHUNK_WEIGHTS).max(1);
            let size = weights.n.div_ceil(chunks).next_multiple_of(8);
            chunks::try_run(launch, weights.n, size, |rows| job.chunk(rows))
        })?
    })?
}

struct Few<'a> {
    launch: &'a Launch,
    codes: &'a Codes<'a>,
    weights: &'a Weights<'a>,
    parts: &'a Parts,
    planes: &'a [i8],
    sums: &'a [i32],
    y: Shared<'a, f32>,
}

impl Few<'_> {
    fn chunk(&self, rows: Range<usize>) -> Result<()> {
        let (weights, direct) = (self.weights, self.parts.digits == 5 || self.weights.are_rows());
        let most = if direct { 256 } else { (DECODED / self.parts.row_bytes).clamp(8, 256) / 8 * 8 };
        let most = most.min(rows.len());
        with_scratch::<u8, _>(if direct { 0 } else { weights.scratch(most) }, |scratch| {
            with_scratch::<i32, _>(2 * weights.groups * most, |totals| {
                for start in rows.clone().step_by(most) {
                    let rows = start..rows.end.min(start + most);
                    let packed = if self.parts.digits == 5 {
                        &weights.packed[start * self.parts.row_bytes..]
                    } else {
                        weights.rows(self.launch, rows.clone(), scratch)
                    };
                    for x in (0..self.codes.m).step_by(2) {
                        self.products(x, rows.clone(), packed, totals);
                    }
                }
            })
        })?
    }

    /// y of the rows x and x + 1, if there is one, by weight rows.
    fn products(&self, x: usize, rows: Range<usize>, packed: &[u8], totals: &mut [i32]) {
        let &Parts { digits, row_bytes, bytes, split, stride, .. } = self.parts;
        let (weights, spans, groups, n) = (self.weights, self.launch.spans, self.weights.groups, self.weights.n);
        let (count, number) = ((self.codes.m - x).min(2), rows.len());
        let (planes, packed) = (self.planes[x * stride..].as_ptr(), packed.as_ptr());
        let to = totals.as_mut_ptr();
        // SAFETY: the planes of `count` rows and `number` weight rows make count x groups x number totals.
        unsafe {
            (spans.row_products)(planes, stride, count, packed, digits, row_bytes, number, bytes, split, groups, to);
        }
        let (sums, factors) = (&self.sums[x * groups..], &self.codes.scales[x..]);
        let y = |x: usize| self.y.as_mut_ptr().wrapping_add(x * n + rows.start);
        if groups == 1 {
            let (scales, step) = if weights.whole { (weights.scales, 0) } else { (&weights.scales[rows.start..], 1) };
            let (sums, factors, scales) = (sums.as_ptr(), factors.as_ptr(), scales.as_ptr());
            // SAFETY: totals as above; parts of y are disjoint and inside it.
            unsafe { (spans.scale_totals)(to, number, count, number, sums, factors, scales, step, y(x), n) }
            return;
        }
        for i in 0..count {
            let (totals, sums) = (totals[i * groups * number..].as_ptr(), sums[i * groups..].as_ptr());
            let scales = weights.scales[rows.start * groups..].as_ptr();
            // SAFETY: as above, with the scales of the rows.
            unsafe { (spans.scale_groups)(totals, number, groups, sums, scales, factors[i], y(x + i)) }
        }
    }
}

// --- backward ----------------------------------------------------------------------------------------------------------------

/// Weight rows, and columns of dx, that are unpacked at a time: 256 KiB of floats.
const UNPACKED_ROWS: usize = 128;
const UNPACKED_COLUMNS: usize = 512;

#[allow(clippy::too_many_arguments)]
pub fn matmul_ternary_backward(
    launch: &Launch,
    dy: &View,
    packing: Packing,
    packed: &View,
    group: usize,
    weight_scales: &View,
    accumulate: bool,
    dx: &mut ViewMut,
) -> Result<()> {
    let groups = check_ternary_backward(dy, packing, packed, group, weight_scales, dx)?;
    let (m, n, k) = (dy.dim(0), dy.dim(1), dx.dim(1));
    let (dy, dx) = (dy.slice::<f32>()?, dx.slice_mut::<f32>()?);
    if dx.is_empty() || n == 0 {
        if !accumulate {
            dx.fill(0.0);
        }
        return Ok(());
    }
    let weights = Weights::new(packing, packed.slice::<u8>()?, &groups, weight_scales.slice::<f32>()?);
    let dx = Shared::new(dx);
    // Whole groups, or parts of one.
    let unit = weights.width * (UNPACKED_COLUMNS / weights.width).max(1);
    let per_unit = unit.div_ceil(UNPACKED_COLUMNS);
    chunks::grid(launch, [m, 256], [k.div_ceil(unit) * per_unit, 1], |rows, block| {
        let start = block.start / per_unit * unit + block.start % per_unit * UNPACKED_COLUMNS;
        let columns = start..k.min(start + UNPACKED_COLUMNS).min((block.start / per_unit + 1) * unit);
        if columns.is_empty() {
            return Ok(());
        }
        let (most, width) = (UNPACKED_ROWS.min(n), columns.len().next_multiple_of(PANEL));
        with_scratch::<u8, _>(weights.scratch(most), |scratch| {
            with_scratch::<f32, _>((most + 1) * width, |floats| {
                let (row, panels) = floats.split_at_mut(width);
                row.fill(0.0);
                for start in (0..n).step_by(UNPACKED_ROWS) {
                    let depth = start..n.min(start + UNPACKED_ROWS);
                    unpack(launch, &weights, depth.clone(), columns.clone(), scratch, row, panels);
                    let (a, stride) = (dy[rows.start * n + start..].as_ptr(), depth.len() * PANEL);
                    for (column, panel) in columns.clone().step_by(PANEL).zip(panels.chunks_exact(stride)) {
                        let to = dx.as_mut_ptr().wrapping_add(rows.start * k + column);
                        let (panel, count) = (panel.as_ptr(), (columns.end - column).min(PANEL));
                        let (rows, depth, accumulate) = (rows.len(), depth.len(), accumulate || start > 0);
                        // SAFETY: dy and the panel hold these elements; blocks of dx are disjoint and inside it.
                        unsafe {
                            (launch.spans.float_panel_product)(a, n, rows, panel, depth, accumulate, to, k, count);
                        }
                    }
                }
            })
        })?
    })
}

/// panels[columns / 16][rows][16]: columns of one group from a multiple of four on, or of whole groups. `floats` is a row of
/// them, zeros after the last.
fn unpack(
    launch: &Launch,
    weights: &Weights,
    rows: Range<usize>,
    columns: Range<usize>,
    scratch: &mut [u8],
    floats: &mut [f32],
    panels: &mut [f32],
) {
    let (packed, depth) = (weights.rows(launch, rows.clone(), scratch), rows.len());
    let (first, last) = (columns.start / weights.width, (columns.end - 1) / weights.width);
    for (i, (row, packed)) in rows.zip(packed.chunks_exact(weights.row_bytes())).enumerate() {
        for group in first..=last {
            let of_group = weights.columns(group);
            let (start, end) = (of_group.start.max(columns.start), of_group.end.min(columns.end));
            let packed = &packed[group * weights.group_bytes() + (start - of_group.start) / 4..];
            let to = &mut floats[start - columns.start..end - columns.start];
            let scale = weights.scales[if weights.whole { 0 } else { row * weights.groups + group }];
            // SAFETY: the columns are inside of the group, whose first stands at the beginning of a byte.
            unsafe { (launch.spans.deternarize)(packed.as_ptr(), to.len(), scale, to.as_mut_ptr()) };
        }
        for (panel, from) in floats.chunks_exact(PANEL).enumerate() {
            panels[(panel * depth + i) * PANEL..][..PANEL].copy_from_slice(from);
        }
    }
}
