//! The gradients of a ternary layer in integers. See cuda/integer_gradient.cu.

use super::argument::{Last, Philox, Pointer, Struct, arguments};
use super::matmul_ternary::{Columns, codes_of, trits_of};
use super::module::Kernel;
use super::stage::{Stage, THREADS, blocks_of};
use crate::backend::Launch;
use crate::backend::scalar::integer_gradient::{TOKENS, check_columns, check_transposed, check_weight};
use crate::tensor::error::{Result, ensure};
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
    let kernel = if tile == Tile::LARGE { Kernel::weight_gradient } else { Kernel::weight_gradient_small };
    // Three stages of both factors.
    let shared = 3 * (tile.rows * 128 + 128 * 128) as u32;
    // SAFETY: kernel(product), a block for each tile.
    unsafe { stage.gpu.launch(kernel, tile.grid([n, k])?, [tile.threads, 1, 1], shared, arguments![&product]) }?;
    stage.finish()
}

/// As cuda/integer_gradient.cu has it.
#[repr(C)]
struct TransposedProduct {
    codes: Pointer,
    scales: Pointer,
    trits: Pointer,
    weight_scale: Pointer,
    dx: Pointer,
    m: u64,
    n: u64,
    k: u64,
    codes_pitch: u64,
    trits_pitch: u64,
    accumulate: Last<i32>,
}

// SAFETY: const signed char *codes; const float *scales; const unsigned *trits; const float *weight_scale; float *dx; u64 m, n,
// k, codes_pitch, trits_pitch; int accumulate.
unsafe impl Struct for TransposedProduct {}

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
    ensure!(k <= 1 << 31, Unsupported, "matmul_ternary_transposed: {k} columns are too many for cuda");
    let mut stage = Stage::new(launch)?;
    let (codes, scales) = (stage.input(codes, DType::I8)?, stage.input(scales, DType::F32)?);
    let (packed, weight_scale) = (stage.input(packed, DType::U8)?, stage.input(weight_scale, DType::F32)?);
    let dx = stage.sum(dx, DType::F32, accumulate)?;
    if m == 0 || k == 0 {
        return stage.finish();
    }
    let (of_codes, of_trits) = (Columns::plain(n, 16), Columns::plain(k, 16));
    let product = TransposedProduct {
        codes: codes_of(&mut stage, codes, m, of_codes)?,
        scales,
        trits: trits_of(&mut stage, Packing::TwoBit, packed, n, of_trits, 4)?,
        weight_scale,
        dx,
        m: m as u64,
        n: n as u64,
        k: k as u64,
        codes_pitch: of_codes.pitch as u64,
        trits_pitch: (of_trits.pitch / 16) as u64,
        accumulate: i32::from(accumulate).into(),
    };
    let tile = Tile::of([m, k], stage.gpu.multiprocessors() as usize);
    let kernel =
        if tile == Tile::LARGE { Kernel::matmul_ternary_transposed } else { Kernel::matmul_ternary_transposed_small };
    // Three stages of codes, two of trits.
    let shared = (3 * tile.rows * 128 + 2 * 128 * 128) as u32;
    // SAFETY: kernel(product), a block for each tile.
    unsafe { stage.gpu.launch(kernel, tile.grid([m, k])?, [tile.threads, 1, 1], shared, arguments![&product]) }?;
    stage.finish()
}

/// So many rows by 128 columns.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tile {
    rows: usize,
    threads: u32,
}

impl Tile {
    const COLUMNS: usize = 128;
    const LARGE: Tile = Tile { rows: 128, threads: 256 };
    const SMALL: Tile = Tile { rows: 32, threads: 128 };

    /// That with which what is left idle is least, where a small one takes half as long again for what it does.
    fn of(sizes: [usize; 2], multiprocessors: usize) -> Tile {
        let cost = |tile: Tile, factor| tile.count(sizes).div_ceil(multiprocessors) * tile.rows * factor;
        if cost(Tile::LARGE, 2) <= cost(Tile::SMALL, 3) { Tile::LARGE } else { Tile::SMALL }
    }

    fn count(&self, [rows, columns]: [usize; 2]) -> usize {
        rows.div_ceil(self.rows) * columns.div_ceil(Tile::COLUMNS)
    }

    fn grid(&self, [rows, columns]: [usize; 2]) -> Result<[u32; 3]> {
        Ok([blocks_of(&[rows.div_ceil(self.rows), columns.div_ceil(Tile::COLUMNS)])?, 1, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::Tile;

    #[test]
    fn tiles_are_small_where_they_are_few() {
        assert!(Tile::of([384, 1536], 132) == Tile::SMALL && Tile::of([4096, 4096], 132) == Tile::LARGE);
        assert!(Tile::of([1, 1], 4) == Tile::SMALL);
    }
}
