//! Products of floats with any strides: on the tensor cores, in parts that together are as exact as f32, or, where a has few
//! rows, at the pace of the memory. See cuda/matmul.cu.

use super::argument::{Last, Pointer, Struct, arguments};
use super::module::Kernel;
use super::stage::{Stage, Strided, THREADS, blocks_of};
use crate::backend::Launch;
use crate::backend::scalar::matmul::check_matmul;
use crate::tensor::error::{Result, error};
use crate::tensor::{DType, View, ViewMut};

/// As cuda/float_tiles.cuh has it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FloatProduct {
    pub a: Pointer,
    pub b: Pointer,
    pub c: Pointer,
    pub m: u64,
    pub n: u64,
    pub k: u64,
    pub a_row: i64,
    pub a_depth: i64,
    pub b_depth: i64,
    pub b_column: i64,
    pub slice: u64,
    pub accumulate: Last<i32>,
}

// SAFETY: float *a, *b, *c; u64 m, n, k; long long a_row, a_depth, b_depth, b_column; u64 slice; int accumulate.
unsafe impl Struct for FloatProduct {}

impl FloatProduct {
    pub fn new([m, n, k]: [usize; 3], a: Strided, b: Strided, accumulate: bool, c: Pointer) -> FloatProduct {
        let ([a_row, a_depth], [b_depth, b_column]) = (a.strides, b.strides);
        let [m, n, k] = [m, n, k].map(|size| size as u64);
        let (a, b, accumulate) = (a.data, b.data, i32::from(accumulate).into());
        FloatProduct { a, b, c, m, n, k, a_row, a_depth, b_depth, b_column, slice: k, accumulate }
    }
}

/// Rows of a up to which it is read as it lies.
const FEW: usize = 16;

pub fn matmul(launch: &Launch, a: &View, b: &View, accumulate: bool, c: &mut ViewMut) -> Result<()> {
    check_matmul(a, b, c)?;
    let sizes = [a.dim(0), b.dim(1), a.dim(1)];
    let mut stage = Stage::new(launch)?;
    let (a, b) = (stage.strided(a, DType::F32)?, stage.strided(b, DType::F32)?);
    let c = stage.sum(c, DType::F32, accumulate)?;
    product(&mut stage, sizes, a, b, accumulate, c)?;
    stage.finish()
}

/// c[m, n] = a[m, k] b[k, n], or +=, for what the stage has.
pub fn product(
    stage: &mut Stage,
    [m, n, k]: [usize; 3],
    a: Strided,
    b: Strided,
    accumulate: bool,
    c: Pointer,
) -> Result<()> {
    if m == 0 || n == 0 {
        return Ok(());
    }
    let product = FloatProduct::new([m, n, k], a, b, accumulate, c);
    let FloatProduct { a_row, a_depth, b_depth, b_column, .. } = product;
    // Which of the strides is 1; where none is, what is loaded is not side by side, and that is all.
    let (a_columns, b_rows) = (a_row == 1 && a_depth != 1, b_column == 1 && b_depth != 1);
    if m <= FEW {
        return few_rows(stage, product, b_rows);
    }
    let (large, small) = match (a_columns, b_rows) {
        (_, false) => (Kernel::matmul_rows_rows, Kernel::matmul_rows_rows_small),
        (false, true) => (Kernel::matmul_rows_columns, Kernel::matmul_rows_columns_small),
        (true, true) => (Kernel::matmul_columns_columns, Kernel::matmul_columns_columns_small),
    };
    let cut = Cut::of([m, n, k]);
    let shared = cut.shared(6);
    let kernel = if cut.large { large } else { small };
    cut.run(stage, product, |stage, product, grid, block| {
        // SAFETY: kernel(product), a block for each tile and slice, with two stages of three planes of each side.
        unsafe { stage.gpu.launch(kernel, grid, block, shared, arguments![&product]) }
    })
}

fn few_rows(stage: &Stage, product: FloatProduct, b_rows: bool) -> Result<()> {
    let n = product.n as usize;
    // The columns of a block.
    let (kernel, columns) = match (b_rows, product.m) {
        (false, ..=1) => (Kernel::matmul_1_by_rows, 32),
        (false, ..=4) => (Kernel::matmul_4_by_rows, 32),
        (false, _) => (Kernel::matmul_16_by_rows, 16),
        (true, ..=1) => (Kernel::matmul_1_by_columns, 32),
        (true, ..=4) => (Kernel::matmul_4_by_columns, 32),
        (true, _) => (Kernel::matmul_16_by_columns, 32),
    };
    let grid = [blocks_of(&[n.div_ceil(columns)])?, 1, 1];
    // SAFETY: kernel(product), a block for so many columns.
    unsafe { stage.gpu.launch(kernel, grid, [THREADS, 1, 1], 0, arguments![&product]) }
}

/// How a product is cut into tiles, and its depth into slices, whose sums are added at last. A function of the shape alone: the
/// sums, and so the bits, are the same on every device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Of 128 x 128, else of 64 x 64.
    pub large: bool,
    pub slices: usize,
    /// Of a slice, a multiple of 32.
    pub depth: usize,
}

impl Cut {
    const MOST_SLICES: usize = 16;
    /// What a large device has.
    const MULTIPROCESSORS: usize = 132;

    pub fn of([m, n, k]: [usize; 3]) -> Cut {
        let mut best = (f64::INFINITY, Cut { large: false, slices: 1, depth: 0 });
        for large in [true, false] {
            for slices in 1..=Cut::MOST_SLICES {
                let depth = k.div_ceil(slices).next_multiple_of(32);
                let cut = Cut { large, slices: k.div_ceil(depth.max(1)).max(1), depth };
                let cost = cut.cost([m, n]);
                // Of slices so short that there are fewer of them, the first was tried already.
                if cost < best.0 {
                    best = (cost, cut);
                }
            }
        }
        let mut cut = best.1;
        // Kernels count the depth of a slice in 31 bits.
        while cut.depth > 1 << 30 {
            cut.depth = cut.depth.div_ceil(2).next_multiple_of(32);
            cut.slices = k.div_ceil(cut.depth);
        }
        cut
    }

    /// In products of a multiprocessor: rounds of tiles, of which small ones take twice as long for what they do, and the way of
    /// the slices' sums through memory, which is one launch more.
    fn cost(&self, [m, n]: [usize; 2]) -> f64 {
        let side = self.side();
        let rounds = (m.div_ceil(side) * n.div_ceil(side) * self.slices).div_ceil(Cut::MULTIPROCESSORS);
        // A tile begins and ends: as long as 64 of the depth.
        let tile = (side * side * (self.depth + 64)) as f64 * if self.large { 1.0 } else { 2.0 };
        let launch = (1 << 20) as f64;
        let sums = if self.slices > 1 { launch + m as f64 * n as f64 * (self.slices + 1) as f64 } else { 0.0 };
        rounds as f64 * tile + sums
    }

    pub fn side(&self) -> usize {
        if self.large { 128 } else { 64 }
    }

    /// Bytes of two stages of so many planes, of 32 of the depth of a side in bf16.
    pub fn shared(&self, planes: usize) -> u32 {
        (2 * planes * self.side() * 64) as u32
    }

    /// Runs what `launch` asks for, given a product, a grid and the size of a block, and adds the slices.
    pub fn run(
        &self,
        stage: &mut Stage,
        product: FloatProduct,
        launch: impl Fn(&Stage, FloatProduct, [u32; 3], [u32; 3]) -> Result<()>,
    ) -> Result<()> {
        let [m, n] = [product.m as usize, product.n as usize];
        let grid = [blocks_of(&[m.div_ceil(self.side()), n.div_ceil(self.side())])?, self.slices as u32, 1];
        let block = [if self.large { 256 } else { 128 }, 1, 1];
        let product = FloatProduct { slice: self.depth as u64, ..product };
        if self.slices <= 1 {
            return launch(stage, product, grid, block);
        }
        let (count, slices) = (m * n, self.slices);
        let bytes = count.checked_mul(slices * size_of::<f32>());
        let sums =
            stage.scratch(bytes.ok_or_else(|| error!(Memory, "matmul: {slices} sums of [{m}, {n}] do not fit"))?)?;
        launch(stage, FloatProduct { c: sums, accumulate: 0.into(), ..product }, grid, block)?;
        let arguments = arguments![sums, slices as u64, product.accumulate.value, product.c, count as u64];
        // SAFETY: matmul_add_slices(sums, slices, accumulate, c, count).
        unsafe { stage.launch(Kernel::matmul_add_slices, count.div_ceil(THREADS as usize), THREADS, arguments) }
    }
}

#[cfg(test)]
mod tests {
    use super::Cut;

    #[test]
    fn products_are_cut_so_that_all_multiprocessors_have_something() {
        let cut = |sizes| {
            let Cut { large, slices, depth } = Cut::of(sizes);
            (large, slices, depth)
        };
        assert_eq!(cut([4096, 4096, 4096]), (true, 1, 4096));
        // The gradient of a weight: few tiles, and many tokens.
        let (large, slices, depth) = cut([384, 1536, 16_384]);
        assert!(large && slices > 3 && slices * depth >= 16_384 && (slices - 1) * depth < 16_384);
        let (large, slices, _) = cut([128, 512, 768]);
        assert!(!large && slices > 1);
        assert_eq!(cut([768, 128, 128]).1, 1);
        assert_eq!(cut([17, 1, 0]).1, 1);
        assert!(cut([64, 64, 1 << 36]).2 <= 1 << 30);
    }
}
