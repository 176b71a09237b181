//! The two gradients of a ternary layer in integers: `scalar/integer_gradient.rs` for the vector units.

use super::chunks::{self, Shared};
use super::many_rows::block_rows;
use super::spans::{COLUMNS, PANEL, PhiloxStream};
use crate::backend::Launch;
use crate::backend::scalar::integer_gradient::{TOKENS, check_columns, check_transposed, check_weight};
use crate::backend::workspace::with_scratch;
use crate::tensor::random::Stream;
use crate::tensor::{Result, View, ViewMut};

pub fn quantize_columns(
    launch: &Launch,
    g: &View,
    factors: &View,
    stream: Stream,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    check_columns(g, factors.count(), codes.dims(), scales.dims())?;
    let (m, n) = (g.dim(0), g.dim(1));
    let (g, factors) = (g.slice::<f32>()?, factors.slice::<f32>()?);
    let (codes, scales) = (Shared::new(codes.slice_mut::<i8>()?), Shared::new(scales.slice_mut::<f32>()?));
    let stream = PhiloxStream::from(stream);
    // A call of the generator makes the bytes of a token and so many columns: 8 blocks.
    let step = 8 * n.div_ceil(COLUMNS) as u64;
    // Half as many columns make their random bytes twice: where else threads would have nothing to do.
    let width = if m.div_ceil(TOKENS) * n.div_ceil(COLUMNS) < 8 { COLUMNS / 2 } else { COLUMNS };
    chunks::grid(launch, [m, TOKENS], [n, width], |tokens, columns| {
        let random = (tokens.start / 2) as u64 * step + 8 * (columns.start / COLUMNS) as u64;
        let at = tokens.start / TOKENS * n + columns.start;
        let (to, scales) = (codes.as_mut_ptr().wrapping_add(at * TOKENS), scales.as_mut_ptr().wrapping_add(at));
        let g = g[tokens.start * n + columns.start..].as_ptr();
        let factors = factors[tokens.clone()].as_ptr();
        let (count, width, first) = (tokens.len(), columns.len(), columns.start % COLUMNS);
        // SAFETY: g holds this block; the codes and scales of different blocks are disjoint and inside of theirs.
        unsafe {
            (launch.spans.quantize_columns)(&stream, random, step, g, n, count, width, factors, first, to, scales);
        }
        Ok(())
    })
}

/// Rows and columns of a block of the gradient to [n, k] weights from m tokens: enough of one that making its panels costs little,
/// and enough blocks, all about equal, for the threads there are likely to be.
fn cut([n, k, m]: [usize; 3]) -> [usize; 2] {
    let wanted = (n.saturating_mul(k).saturating_mul(m) >> 20).clamp(1, 16);
    let (mut down, mut across) = (n.div_ceil(192).max(1), k.div_ceil(256).max(1));
    loop {
        let (rows, columns) = (n.div_ceil(down), k.div_ceil(across));
        if down * across < wanted && columns > 64 {
            across *= 2;
        } else if down * across < wanted && rows > 64 {
            down *= 2;
        } else {
            return [rows.max(1).next_multiple_of(8), columns.max(1).next_multiple_of(TWO_PANELS)];
        }
    }
}

/// Columns whose panels are made together.
const TWO_PANELS: usize = 2 * PANEL;

pub fn weight_gradient(launch: &Launch, g: &View, scales: &View, codes: &View, dw: &mut ViewMut) -> Result<()> {
    check_weight(g.dims(), scales.dims(), codes, dw.dims())?;
    let (n, k, m) = (dw.dim(0), dw.dim(1), codes.dim(0));
    let (g, scales, codes) = (g.slice::<i8>()?, scales.slice::<f32>()?, codes.slice::<i8>()?);
    let dw = Shared::new(dw.slice_mut::<f32>()?);
    let [row_size, column_size] = cut([n, k, m]);
    chunks::grid(launch, [n, row_size], [k, column_size], |rows, columns| {
        with_scratch::<i32, _>(rows.len(), |sums| {
            with_scratch::<u8, _>(TOKENS * TWO_PANELS, |panels| {
                for (block, start) in (0..m).step_by(TOKENS).enumerate() {
                    let tokens = TOKENS.min(m - start);
                    let (g, groups) = (g[(block * n + rows.start) * TOKENS..].as_ptr(), tokens.div_ceil(4));
                    let factors = scales[block * n + rows.start..].as_ptr();
                    let (sums, count, length) = (sums.as_mut_ptr(), rows.len(), 4 * groups);
                    // SAFETY: rows of g that hold these codes, and room for their sums.
                    unsafe { (launch.spans.code_sums)(g, TOKENS, count, length, 128, sums) }
                    for at in columns.clone().step_by(TWO_PANELS) {
                        let width = TWO_PANELS.min(columns.end - at);
                        let (from, to) = (codes[start * k + at..].as_ptr(), panels.as_mut_ptr());
                        // SAFETY: `tokens` rows of codes that have these columns; room for two panels.
                        unsafe { (launch.spans.token_panels)(from, k, tokens, width, to) }
                        for half in (0..width).step_by(PANEL) {
                            let panel = panels[half * length..].as_ptr();
                            let to = dw.as_mut_ptr().wrapping_add(rows.start * k + at + half);
                            let width = PANEL.min(width - half);
                            // SAFETY: as above; blocks of dw are disjoint and inside of it.
                            unsafe {
                                (launch.spans.weight_product)(
                                    g, TOKENS, count, panel, groups, sums, factors, to, k, width,
                                );
                            }
                        }
                    }
                }
            })
        })?
    })
}

/// Columns of dx in a block: four panels.
const BLOCK_COLUMNS: usize = 4 * PANEL;

pub fn matmul_ternary_transposed(
    launch: &Launch,
    codes: &View,
    scales: &View,
    packed: &View,
    weight_scale: &View,
    accumulate: bool,
    dx: &mut ViewMut,
) -> Result<()> {
    check_transposed(codes, scales.count(), packed.dims(), weight_scale.count(), dx.dims())?;
    let (m, n) = (codes.dim(0), codes.dim(1));
    let (codes, scales, packed) = (codes.slice::<i8>()?, scales.slice::<f32>()?, packed.slice::<u8>()?);
    let (weight_scale, k) = (weight_scale.slice::<f32>()?, dx.dim(1));
    let dx = dx.slice_mut::<f32>()?;
    let weights = Transposed { n, k, packed, scale: weight_scale, accumulate };
    if n.is_multiple_of(4) {
        return weights.product(launch, m, codes, n, scales, dx);
    }
    // A panel has whole groups of four rows: so do the codes that it is multiplied by.
    let stride = n.next_multiple_of(4);
    with_scratch::<i8, _>(m * stride, |padded| {
        for (to, from) in padded.chunks_exact_mut(stride).zip(codes.chunks_exact(n)) {
            to[..n].copy_from_slice(from);
            to[n..].fill(0);
        }
        weights.product(launch, m, padded, stride, scales, dx)
    })?
}

/// Weights [n, k] that multiply from the left.
struct Transposed<'a> {
    n: usize,
    k: usize,
    packed: &'a [u8],
    scale: &'a [f32],
    accumulate: bool,
}

impl Transposed<'_> {
    fn product(
        &self,
        launch: &Launch,
        m: usize,
        codes: &[i8],
        stride: usize,
        scales: &[f32],
        dx: &mut [f32],
    ) -> Result<()> {
        with_scratch::<i32, _>(m, |sums| {
            let shared = Shared::new(sums);
            chunks::run(launch, m, chunks::rows(m, stride), |rows| {
                let (x, count) = (codes[rows.start * stride..].as_ptr(), rows.len());
                // SAFETY: rows of codes, and their sums, which are disjoint from those of others.
                unsafe { (launch.spans.code_sums)(x, stride, count, stride, 1, shared.part(rows).as_mut_ptr()) }
            });
            self.blocks(launch, m, codes, stride, sums, scales, dx)
        })?
    }

    #[allow(clippy::too_many_arguments)]
    fn blocks(
        &self,
        launch: &Launch,
        m: usize,
        codes: &[i8],
        stride: usize,
        sums: &[i32],
        scales: &[f32],
        dx: &mut [f32],
    ) -> Result<()> {
        let (k, bytes, groups) = (self.k, self.k.div_ceil(4), stride / 4);
        let dx = Shared::new(dx);
        chunks::grid(launch, [m, block_rows([m, k, stride]).max(12)], [k, BLOCK_COLUMNS], |rows, columns| {
            with_scratch::<u8, _>(groups * 4 * PANEL, |panel| {
                let (x, sums) = (codes[rows.start * stride..].as_ptr(), sums[rows.clone()].as_ptr());
                for at in columns.clone().step_by(PANEL) {
                    let width = PANEL.min(columns.end - at);
                    let (from, panel) = (self.packed.as_ptr().wrapping_add(at / 4), panel.as_mut_ptr());
                    let to = dx.as_mut_ptr().wrapping_add(rows.start * k + at);
                    let (factors, scale) = (scales[rows.start..].as_ptr(), self.scale.as_ptr());
                    let base = if self.accumulate { to.cast_const() } else { std::ptr::null() };
                    // SAFETY: n rows of packed, which lie `bytes` apart and have these columns, and room for their
                    // panel; blocks of dx are disjoint and inside of it.
                    unsafe {
                        (launch.spans.unpack_panel_transposed)(from, bytes, self.n, width.div_ceil(4), panel);
                        (launch.spans.panel_product_written)(
                            x,
                            stride,
                            rows.len(),
                            panel,
                            groups,
                            sums,
                            factors,
                            scale,
                            0,
                            base,
                            to,
                            k,
                            width,
                        );
                    }
                }
            })
        })
    }
}
