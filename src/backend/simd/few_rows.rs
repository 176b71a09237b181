//! Few rows of codes by packed weights: the packed bytes are multiplied as they lie (`spans/matmul_rows.rs` says how).

use super::chunks;
use super::matmul_ternary::{Codes, Product};
use super::weights::Weights;
use crate::backend::Launch;
use crate::backend::workspace::with_scratch;
use crate::tensor::{Packing, Result};
use std::ops::Range;

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

/// Of at least one product; their weights have the same columns, groups and packing.
pub fn few_rows(launch: &Launch, codes: &Codes, products: &[Product]) -> Result<()> {
    let weights = &products[0].weights;
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
            // Chunks of about equal size.
            let size = |number: usize| {
                let (product, n): (&Product, _) = (&products[number], products[number].weights.n);
                let chunks = n.saturating_mul(k).div_ceil(CHUNK_WEIGHTS).max(1);
                [n, product.whole_heads(n.div_ceil(chunks).next_multiple_of(8).max(8))]
            };
            chunks::grids(launch, [1, 1], (products.len(), size), |number, _, rows| {
                let product = &products[number];
                let job = Few { launch, codes, product, parts: &parts, planes, sums };
                job.chunk(rows.clone())?;
                product.turn(launch, 0..m, rows);
                Ok(())
            })
        })?
    })?
}

struct Few<'a> {
    launch: &'a Launch,
    codes: &'a Codes<'a>,
    product: &'a Product<'a>,
    parts: &'a Parts,
    planes: &'a [i8],
    sums: &'a [i32],
}

impl Few<'_> {
    fn chunk(&self, rows: Range<usize>) -> Result<()> {
        let (weights, direct) = (&self.product.weights, self.parts.digits == 5 || self.product.weights.are_rows());
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
        let (weights, spans, groups, n) =
            (&self.product.weights, self.launch.spans, self.product.weights.groups, self.product.weights.n);
        let (count, number) = ((self.codes.m - x).min(2), rows.len());
        let (planes, packed) = (self.planes[x * stride..].as_ptr(), packed.as_ptr());
        let to = totals.as_mut_ptr();
        // SAFETY: the planes of `count` rows and `number` weight rows make count x groups x number totals.
        unsafe {
            (spans.row_products)(planes, stride, count, packed, digits, row_bytes, number, bytes, split, groups, to);
        }
        let (sums, factors) = (&self.sums[x * groups..], &self.codes.scales[x..]);
        let y = |x: usize| self.product.y.as_mut_ptr().wrapping_add(x * n + rows.start);
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
