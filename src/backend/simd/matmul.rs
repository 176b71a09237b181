//! Float products by the `gemm` crate, one call per block, each on one thread. The blocks are a function of shape only; gemm's
//! own threads would cut the work by their number, and change the bits.

use super::chunks::{self, ELEMENTS, Shared};
use crate::backend::Launch;
use crate::backend::scalar::matmul::check_matmul;
use crate::backend::workspace::with_scratch;
use crate::tensor::error::ensure;
use crate::tensor::{DType, Device, Result, View, ViewMut};

/// A strided f32 matrix.
#[derive(Clone, Copy)]
pub struct Matrix {
    pub data: *const f32,
    pub row_stride: isize,
    pub column_stride: isize,
}

// SAFETY: a Matrix is read only, and used only while the view it came from is borrowed.
unsafe impl Sync for Matrix {}

impl Matrix {
    fn of(view: &View) -> Result<Matrix> {
        ensure!(view.dtype() == DType::F32, DType, "expected a tensor of f32, got {}", view.dtype());
        ensure!(view.device() == Device::Host, Device, "expected a tensor on the host, got one on {}", view.device());
        let strides = view.strides();
        Ok(Matrix { data: view.as_ptr().cast(), row_stride: strides[0], column_stride: strides[1] })
    }

    /// The same matrix from element (row, column) on.
    pub fn at(self, row: usize, column: usize) -> Matrix {
        let offset = row as isize * self.row_stride + column as isize * self.column_stride;
        Matrix { data: self.data.wrapping_offset(offset), ..self }
    }
}

/// Terms of a sum that one call of gemm gets, at most. gemm would fit their number to the first cache of the processor, but takes
/// no less than 512: cut here, a sum has the same bits on processors with other caches.
const DEPTH: usize = 512;

/// c[m, n] = a[m, k] * b[k, n], or += when `accumulate`; rows of c lie `c_stride` apart.
///
/// # Safety
/// The matrices hold these elements, and c is not accessed from elsewhere meanwhile.
pub unsafe fn product([m, n, k]: [usize; 3], a: Matrix, b: Matrix, accumulate: bool, c: *mut f32, c_stride: usize) {
    // For few rows gemm would first copy all of b. Up to 256 elements of c it reads rows of a and columns of b as they lie, and so it
    // does for one row or column; how it cuts these sums does not depend on the processor.
    let dots = a.column_stride == 1 && b.row_stride == 1;
    let few = dots && (2..=8).contains(&m);
    let width = if few { 256 / m } else { n.max(1) };
    let parts = if few || dots && (m == 1 || n == 1) { 1 } else { k.div_ceil(DEPTH).max(1) };
    let depth = k.div_ceil(parts).max(1);
    for column in (0..n).step_by(width) {
        for from in (0..k.max(1)).step_by(depth) {
            let (a, b, c) = (a.at(0, from), b.at(from, column), c.wrapping_add(column));
            // SAFETY: as promised by the caller; gemm reads and writes exactly these elements (c only if `accumulate`).
            unsafe {
                gemm::gemm(
                    m,
                    width.min(n - column),
                    depth.min(k - from),
                    c,
                    1,
                    c_stride as isize,
                    accumulate || from > 0,
                    a.data,
                    a.column_stride,
                    a.row_stride,
                    b.data,
                    b.column_stride,
                    b.row_stride,
                    1.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
        }
    }
}

/// How a product is cut: block sizes of c, and the length of a slice of k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    rows: usize,
    columns: usize,
    depth: usize,
}

/// Measured on one core with gemm 0.19 (Zen 4), against one call for the whole: blocks of 256 x 512 lose nothing, 128 x 128
/// a tenth, 64 x 64 a fifth, because each block packs its operands again. So blocks are as large as leaves one for each of
/// about four threads, or, for more work, of sixteen. A tall product (the gradient of a weight: k is the number of tokens)
/// is cut along k instead, which loses nothing but a sum over the slices.
fn cut([m, n, k]: [usize; 3]) -> Cut {
    const TALL: usize = 4096;
    const SLICE: usize = 1024;
    let parts =
        |down: usize, across: usize| (m.div_ceil(down).next_multiple_of(8), n.div_ceil(across).next_multiple_of(8));
    let work = m.saturating_mul(n).saturating_mul(k);
    // 2^21 multiplications are about 40 microseconds: less is not worth handing to a thread.
    let wanted = (work >> 24).clamp(4, 16).min(work >> 21).max(1);
    let (mut down, mut across) = (m.div_ceil(if k < TALL { 256 } else { 512 }), n.div_ceil(512));
    if k >= TALL {
        let (rows, columns) = parts(down, across);
        let slices = wanted.div_ceil(down * across).min(k / SLICE);
        return Cut { rows, columns, depth: k.div_ceil(slices) };
    }
    while down * across < wanted {
        let (rows, columns) = parts(down, across);
        if rows <= 64 && columns <= 64 {
            break;
        }
        if rows >= columns {
            down += 1;
        } else {
            across += 1;
        }
    }
    let (rows, columns) = parts(down, across);
    Cut { rows, columns, depth: k.max(1) }
}

pub fn matmul(launch: &Launch, a: &View, b: &View, accumulate: bool, c: &mut ViewMut) -> Result<()> {
    check_matmul(a, b, c)?;
    let (m, n, k) = (a.dim(0), b.dim(1), a.dim(1));
    let (a, b) = (Matrix::of(a)?, Matrix::of(b)?);
    let c = c.slice_mut::<f32>()?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    let cut = cut([m, n, k]);
    let slices = k.div_ceil(cut.depth);
    if slices <= 1 {
        let c = Shared::new(c);
        return chunks::grid(launch, [m, cut.rows], [n, cut.columns], |rows, columns| {
            let to = c.as_mut_ptr().wrapping_add(rows.start * n + columns.start);
            let sizes = [rows.len(), columns.len(), k];
            // SAFETY: the views hold these elements; blocks of c are disjoint.
            unsafe { product(sizes, a.at(rows.start, 0), b.at(0, columns.start), accumulate, to, n) };
            Ok(())
        });
    }
    with_scratch::<f32, _>(slices * m * n, |partial| sliced(launch, [m, n, k], cut, a, b, accumulate, partial, c))?
}

/// The product of each slice of k in `partial`[slices, m, n], then their sum in index order.
#[allow(clippy::too_many_arguments)]
fn sliced(
    launch: &Launch,
    [m, n, k]: [usize; 3],
    cut: Cut,
    a: Matrix,
    b: Matrix,
    accumulate: bool,
    partial: &mut [f32],
    c: &mut [f32],
) -> Result<()> {
    let (down, across) = (m.div_ceil(cut.rows), n.div_ceil(cut.columns));
    let parts = Shared::new(partial);
    chunks::run(launch, k.div_ceil(cut.depth) * down * across, 1, |i| {
        let (slice, block) = (i.start / (down * across), i.start % (down * across));
        let (row, column, depth) = (block % down * cut.rows, block / down * cut.columns, slice * cut.depth);
        let sizes = [cut.rows.min(m - row), cut.columns.min(n - column), cut.depth.min(k - depth)];
        let to = parts.as_mut_ptr().wrapping_add((slice * m + row) * n + column);
        // SAFETY: the views hold these elements; blocks of different slices or places are disjoint.
        unsafe { product(sizes, a.at(row, depth), b.at(depth, column), false, to, n) };
    });
    let c = Shared::new(c);
    chunks::run(launch, m * n, ELEMENTS, |range| {
        // SAFETY: ranges of different chunks are disjoint.
        let c = unsafe { c.part(range.clone()) };
        if !accumulate {
            c.fill(0.0);
        }
        for slice in partial.chunks_exact(m * n) {
            // SAFETY: both have the length of the range.
            unsafe { (launch.spans.add)(slice[range.clone()].as_ptr(), c.as_mut_ptr(), c.len()) };
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So runs have the same bits on processors with other caches.
    #[test]
    fn sums_are_chains_of_at_most_512_terms() {
        #[cfg(target_arch = "x86_64")]
        if !is_x86_feature_detected!("fma") {
            return;
        }
        let number = |i: usize| ((i * 7919) % 1013) as f32 / 506.0 - 1.0;
        for ([m, n, k], accumulate) in [
            ([65, 3, 1030], false),
            ([9, 70, 1024], true),
            ([40, 40, 768], false),
            ([3, 66, 513], true),
            ([65, 2, 512], false),
        ] {
            let (a, b): (Vec<_>, Vec<_>) =
                ((0..m * k).map(number).collect(), (0..k * n).map(|i| number(i + 3)).collect());
            let old: Vec<_> = (0..m * n).map(|i| number(i + 5)).collect();
            let mut c = old.clone();
            let matrix = |data: &[f32], stride| Matrix { data: data.as_ptr(), row_stride: stride, column_stride: 1 };
            // SAFETY: dense matrices of these sizes.
            unsafe {
                product([m, n, k], matrix(&a, k as isize), matrix(&b, n as isize), accumulate, c.as_mut_ptr(), n)
            };
            let parts = k.div_ceil(512);
            for (i, found) in c.iter().enumerate() {
                let chain = |sum: f32, part: usize| {
                    let terms = part * k.div_ceil(parts)..((part + 1) * k.div_ceil(parts)).min(k);
                    sum + terms.fold(0.0f32, |sum, t| a[i / n * k + t].mul_add(b[t * n + i % n], sum))
                };
                let expected = (0..parts).fold(if accumulate { old[i] } else { 0.0 }, chain);
                assert_eq!(*found, expected, "element {i} of {m} x {n} x {k}");
            }
        }
    }

    /// The products of a step of the smallest reference model, forward and backward, and tall gradients of larger ones.
    #[test]
    fn four_threads_have_work_and_small_products_stay_whole() {
        let chunks = |sizes: [usize; 3]| {
            let Cut { rows, columns, depth } = cut(sizes);
            sizes[0].div_ceil(rows) * sizes[1].div_ceil(columns) * sizes[2].div_ceil(depth)
        };
        let steps =
            [[768, 128, 128], [768, 512, 128], [768, 128, 512], [128, 128, 768], [512, 128, 768], [128, 512, 768]];
        for sizes in steps.into_iter().chain([[384, 384, 16_384], [1536, 384, 16_384], [128, 128, 49_152]]) {
            assert!((4..=64).contains(&chunks(sizes)), "{sizes:?}: {} chunks, {:?}", chunks(sizes), cut(sizes));
        }
        for sizes in [[1, 1, 1], [8, 8, 0], [64, 128, 64], [1, 256, 128]] {
            assert_eq!(chunks(sizes).max(1), 1, "{sizes:?}: {:?}", cut(sizes));
        }
    }
}
