//! Products with packed ternary weights: exact in integers forward (`few_rows.rs` and `many_rows.rs`), of floats on unpacked
//! panels backward.

use super::chunks::{self, Shared};
use super::few_rows::few_rows;
use super::many_rows::{adds_base, many_rows};
use super::spans::PANEL;
use super::weights::Weights;
use crate::backend::Launch;
use crate::backend::scalar::matmul::{check_base, check_ternary, check_ternary_backward};
use crate::backend::workspace::with_scratch;
use crate::tensor::{Packing, Result, View, ViewMut};
use std::ops::Range;

/// The activations of a forward product.
pub struct Codes<'a> {
    pub m: usize,
    pub codes: &'a [i8],
    pub scales: &'a [f32],
}

/// One of the products that some codes go into together.
pub struct Product<'a> {
    pub weights: Weights<'a>,
    /// Added at last: see [`adds_base`].
    pub base: Option<&'a [f32]>,
    pub rotation: Option<Rotation<'a>>,
    /// [m, n].
    pub y: Shared<'a, f32>,
}

/// What turns the heads of a product, as `rope` does.
#[derive(Clone, Copy)]
pub struct Rotation<'a> {
    /// [positions, half], both.
    pub cosine: &'a [f32],
    pub sine: &'a [f32],
    pub positions: usize,
    pub half: usize,
}

impl Product<'_> {
    /// About `columns`, and no part of a head.
    pub fn whole_heads(&self, columns: usize) -> usize {
        self.rotation.map_or(columns, |rotation| {
            let head = 2 * rotation.half;
            (columns / head).max(1) * head
        })
    }

    /// Turns what was just written: these columns, whole heads, of these rows.
    pub fn turn(&self, launch: &Launch, rows: Range<usize>, columns: Range<usize>) {
        let Some(Rotation { cosine, sine, positions, half }) = self.rotation else { return };
        let (first, heads, n) = (rows.start % positions, columns.len() / (2 * half), self.weights.n);
        let x = self.y.as_mut_ptr().wrapping_add(rows.start * n + columns.start);
        // SAFETY: the rows and columns are inside of y, and this block's alone; the tables hold `positions` rows of `half`.
        unsafe {
            let (cosine, sine) = (cosine.as_ptr(), sine.as_ptr());
            (launch.spans.rope)(cosine, sine, 1.0, first, rows.len(), n, positions, heads, half, x);
        }
    }
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
    let groups = check_ternary(codes, scales, packing, packed, group, weight_scales, y.dims())?;
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
    let codes = Codes { m, codes, scales };
    let weights = Weights::new(packing, packed, &groups, weight_scales);
    let within = base.filter(|_| m > FEW && adds_base(&weights));
    products(launch, &codes, &[Product { weights, base: within, rotation: None, y: Shared::new(y) }])?;
    if let Some(base) = base
        && within.is_none()
    {
        let y = Shared::new(y);
        chunks::run(launch, base.len(), chunks::elements(base.len()), |range| {
            // SAFETY: ranges of different chunks are disjoint, and both have the length of the range.
            unsafe { (launch.spans.add)(base[range.clone()].as_ptr(), y.part(range.clone()).as_mut_ptr(), range.len()) }
        });
    }
    Ok(())
}

/// At least one product; their weights have the same columns, groups and packing.
pub fn products(launch: &Launch, codes: &Codes, products: &[Product]) -> Result<()> {
    if codes.m <= FEW { few_rows(launch, codes, products) } else { many_rows(launch, codes, products) }
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
