//! The gradients of a ternary layer in integers. See cuda/integer_gradient.cu.

use super::argument::{Philox, Pointer, Struct, arguments};
use super::matmul_ternary::{Columns, TernaryProduct, UNIT, WORD, codes_of, trits_of};
use super::module::Kernel;
use super::stage::{Stage, THREADS, blocks_of, narrow};
use crate::backend::Launch;
use crate::backend::scalar::integer_gradient::{TOKENS, check_columns, check_transposed, check_weight};
use crate::tensor::error::{Result, error};
use crate::tensor::random::Stream;
use crate::tensor::{DType, Packing, View, ViewMut};

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
    let mut stage = Stage::new(launch)?;
    let (g, factors) = (stage.input(g, DType::F32)?, stage.input(factors, DType::F32)?);
    let (codes, scales) = (stage.output(codes, DType::I8)?, stage.output(scales, DType::F32)?);
    if m > 0 && n > 0 {
        let stream = Philox::from(stream);
        let grid = [blocks_of(&[m.div_ceil(TOKENS), n.div_ceil(32)])?, 1, 1];
        let arguments = arguments![g, factors, &stream, codes, scales, m as u64, n as u64];
        // SAFETY: quantize_columns(g, factors, stream, codes, scales, m, n), a block for 256 tokens of 32 columns.
        unsafe { stage.gpu.launch(Kernel::quantize_columns, grid, [THREADS, 1, 1], 0, arguments) }?;
    }
    stage.finish()
}

/// As cuda/integer_gradient.cu has it.
#[repr(C)]
struct WeightGradient {
    g: Pointer,
    scales: Pointer,
    codes: Pointer,
    dw: Pointer,
    m: u64,
    n: u64,
    k: u64,
    pitch: u64,
}

// SAFETY: const signed char *g; const float *scales; const signed char *codes; float *dw; u64 m, n, k, pitch.
unsafe impl Struct for WeightGradient {}

pub fn weight_gradient(launch: &Launch, g: &View, scales: &View, codes: &View, dw: &mut ViewMut) -> Result<()> {
    check_weight(g.dims(), scales.dims(), codes, dw.dims())?;
    let (m, n, k) = (codes.dim(0), dw.dim(0), dw.dim(1));
    let mut stage = Stage::new(launch)?;
    let (g, scales) = (stage.input(g, DType::I8)?, stage.input(scales, DType::F32)?);
    let codes = stage.input(codes, DType::I8)?;
    let dw = stage.update(dw, DType::F32)?;
    if m == 0 || n == 0 || k == 0 {
        return stage.finish();
    }
    let (of_block, of_token) = (Columns::plain(TOKENS, 16), Columns::plain(k, 16));
    let product = WeightGradient {
        g: codes_of(&mut stage, g, m.div_ceil(TOKENS) * n, of_block)?,
        scales,
        codes: codes_of(&mut stage, codes, m, of_token)?,
        dw,
        m: m as u64,
        n: n as u64,
        k: k as u64,
        pitch: of_token.pitch as u64,
    };
    let tile = Tile::of([n, k], stage.gpu.multiprocessors() as usize);
    // SAFETY: kernel(product), a block for each tile.
    unsafe {
        stage.gpu.launch(tile.kernel, tile.grid([n, k])?, [tile.threads, 1, 1], tile.shared, arguments![&product])
    }?;
    stage.finish()
}

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
    let (m, n, k) = (codes.dim(0), codes.dim(1), dx.dim(1));
    let mut stage = Stage::new(launch)?;
    let (codes, scales) = (stage.input(codes, DType::I8)?, stage.input(scales, DType::F32)?);
    let (packed, weight_scale) = (stage.input(packed, DType::U8)?, stage.input(weight_scale, DType::F32)?);
    let dx = stage.sum(dx, DType::F32, accumulate)?;
    if m == 0 || k == 0 {
        return stage.finish();
    }
    let (of_codes, of_trits) = (Columns::plain(n, UNIT), Columns::plain(k, WORD));
    let trits = trits_of(&mut stage, Packing::TwoBit, packed, n, of_trits, 4)?;
    let product = TernaryProduct {
        codes: codes_of(&mut stage, codes, m, of_codes)?,
        scales,
        trits: turned(&mut stage, trits, [n, k], [of_trits.pitch, of_codes.pitch])?,
        weight_scales: weight_scale,
        base: if accumulate { dx } else { Pointer(0) },
        y: dx,
        m: m as u64,
        n: k as u64,
        k: narrow(of_codes.pitch)?,
        width: narrow(of_codes.pitch)?,
        groups: 0.into(),
    };
    product.launch(&stage, false)?;
    stage.finish()
}

/// Trits t[n, k] as [k, n], with rows of so many trits: so the product is that of a layer's output, and takes its kernels.
fn turned(stage: &mut Stage, trits: Pointer, [n, k]: [usize; 2], [from, to]: [usize; 2]) -> Result<Pointer> {
    if n == 0 {
        return Ok(trits);
    }
    let bytes = k.checked_mul(to / 4);
    let by_columns =
        stage.scratch(bytes.ok_or_else(|| error!(Memory, "matmul: {k} rows of {to} trits do not fit in memory"))?)?;
    let (from_row, to_row) = (from / WORD, to / WORD);
    let threads = k.div_ceil(WORD).saturating_mul(to_row);
    let arguments = arguments![trits, from_row as u64, by_columns, to_row as u64, n as u64, k as u64];
    // SAFETY: matmul_ternary_turn(from, from_row, to, to_row, rows, columns).
    unsafe { stage.launch(Kernel::matmul_ternary_turn, threads.div_ceil(THREADS as usize), THREADS, arguments) }?;
    Ok(by_columns)
}

/// What a block has of the gradient to the weights. All of the depth is its own: the sums of blocks of tokens are added as floats,
/// one after the other.
#[derive(Clone, Copy)]
struct Tile {
    kernel: Kernel,
    rows: usize,
    columns: usize,
    threads: u32,
    /// Bytes of its stages.
    shared: u32,
    /// How long a tile takes, in cycles for 32 tokens: the shared memory sets the pace.
    cost: usize,
}

impl Tile {
    const ALL: [Tile; 3] = [
        Tile::new(Kernel::weight_gradient, [128, 128], 256, 3 * 128, 300),
        Tile::new(Kernel::weight_gradient_medium, [64, 128], 128, 4 * 128, 185),
        Tile::new(Kernel::weight_gradient_small, [32, 64], 128, 4 * 256, 95),
    ];

    /// `depth`: tokens in all stages.
    const fn new(kernel: Kernel, [rows, columns]: [usize; 2], threads: u32, depth: usize, cost: usize) -> Tile {
        Tile { kernel, rows, columns, threads, shared: ((rows + columns) * depth) as u32, cost }
    }

    /// That with which the busiest multiprocessor is done first.
    fn of(sizes: [usize; 2], multiprocessors: usize) -> Tile {
        let cost = |tile: &Tile| tile.count(sizes).div_ceil(multiprocessors).saturating_mul(tile.cost);
        Tile::ALL.into_iter().min_by_key(cost).expect("there are tiles")
    }

    fn count(&self, [rows, columns]: [usize; 2]) -> usize {
        rows.div_ceil(self.rows).saturating_mul(columns.div_ceil(self.columns))
    }

    fn grid(&self, [rows, columns]: [usize; 2]) -> Result<[u32; 3]> {
        Ok([blocks_of(&[rows.div_ceil(self.rows), columns.div_ceil(self.columns)])?, 1, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::{Kernel, Tile};

    #[test]
    fn tiles_are_small_where_they_are_few() {
        let kernel = |n, k| Tile::of([n, k], 132).kernel;
        assert_eq!(kernel(4096, 4096), Kernel::weight_gradient);
        assert_eq!(kernel(384, 1536), Kernel::weight_gradient_medium);
        assert_eq!(kernel(384, 384), Kernel::weight_gradient_small);
        assert_eq!(kernel(1, 1), Kernel::weight_gradient_small);
        // What every device of compute capability 8 has.
        assert!(Tile::ALL.iter().all(|tile| tile.shared <= 99 << 10));
    }
}
