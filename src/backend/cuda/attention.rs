//! Causal attention with grouped KV heads: by tiles of queries and keys, and where there are few queries by chunks of keys. See
//! cuda/attention.cu.

use super::argument::{Pointer, Struct, arguments};
use super::module::Kernel;
use super::stage::{Stage, blocks_of};
use crate::backend::Launch;
use crate::backend::scalar::attention::Sizes;
use crate::tensor::error::{Result, ensure, error};
use crate::tensor::{DType, View, ViewMut};

/// As cuda/attention_few.cuh has it.
#[repr(C)]
pub struct AttentionSizes {
    queries: u32,
    keys: u32,
    heads: u32,
    kv_heads: u32,
    dim: u32,
    scale: f32,
}

// SAFETY: unsigned queries, keys, heads, kv_heads, dim; float scale.
unsafe impl Struct for AttentionSizes {}

impl AttentionSizes {
    pub fn new(sizes: &Sizes) -> Result<AttentionSizes> {
        // With room for what is added to them.
        let narrow = |size: usize| match i32::try_from(size) {
            Ok(size) => Ok(size.cast_unsigned()),
            Err(_) => Err(error!(Unsupported, "attention: a dimension is {size}, above the {} of cuda", i32::MAX)),
        };
        Ok(AttentionSizes {
            queries: narrow(sizes.queries)?,
            keys: narrow(sizes.keys)?,
            heads: narrow(sizes.heads)?,
            kv_heads: narrow(sizes.kv_heads)?,
            dim: narrow(sizes.head)?,
            scale: sizes.scale() as f32,
        })
    }
}

// --- by chunks of keys --------------------------------------------------------------------------------------------------

/// Fewer queries than this are attended to by chunks of keys: of a tile of queries most would be idle.
const FEW: usize = 8;
/// Threads of a block, and rows that share a pass over the keys.
const FEW_THREADS: u32 = 128;
const TOGETHER: usize = 4;
/// Keys of a chunk: few while there are few, so that all multiprocessors have some, and enough that the sums of the chunks do
/// not become many.
const LEAST_KEYS: usize = 128;
const MOST_KEYS: usize = 1024;
const CHUNKS: usize = 64;

/// As cuda/attention_few.cuh has it.
#[repr(C)]
pub struct Chunks {
    keys: u32,
    count: u32,
    sums: Pointer,
    most: Pointer,
    totals: Pointer,
}

// SAFETY: unsigned keys, count; float *sums, *most, *totals.
unsafe impl Struct for Chunks {}

impl Chunks {
    /// How the keys are cut depends on their number alone.
    pub fn new(stage: &mut Stage, sizes: &Sizes) -> Result<Chunks> {
        let keys = sizes.keys.div_ceil(CHUNKS).next_power_of_two().clamp(LEAST_KEYS, MOST_KEYS);
        let count = sizes.keys.div_ceil(keys);
        let parts = [sizes.batch, sizes.heads, sizes.queries, count];
        let mut floats = |each: usize| {
            let bytes = parts.iter().try_fold(each * size_of::<f32>(), |product, &factor| product.checked_mul(factor));
            let bytes = bytes.ok_or_else(|| error!(Memory, "attention: sums of {parts:?} chunks are too large"))?;
            stage.scratch(bytes)
        };
        let (sums, most, totals) = (floats(sizes.head)?, floats(1)?, floats(1)?);
        Ok(Chunks { keys: keys as u32, count: count as u32, sums, most, totals })
    }

    /// Blocks of the kernel that attends to the chunks: one for each, of each KV head.
    pub fn blocks(&self, sizes: &Sizes) -> Result<u32> {
        blocks_of(&[sizes.batch, sizes.kv_heads, self.count as usize])
    }

    pub fn threads(&self) -> [u32; 3] {
        [FEW_THREADS, 1, 1]
    }

    /// Bytes of its shared memory.
    pub fn shared(&self) -> u32 {
        let (partial, weights) = (TOGETHER * FEW_THREADS as usize * 4, TOGETHER * self.keys as usize);
        ((partial + weights) * size_of::<f32>()) as u32
    }
}

// --- by tiles -----------------------------------------------------------------------------------------------------------

/// Rows of a tile, and threads of a block (cuda/attention.cuh).
const TILE: usize = 64;
const THREADS: u32 = 128;
/// Widths that there are kernels for.
const WIDTHS: [usize; 2] = [32, 64];

/// As cuda/attention.cu has it.
#[repr(C)]
struct TileGrid {
    tiles: u32,
    chunks: u32,
    units: u64,
}

// SAFETY: unsigned tiles, chunks; u64 units.
unsafe impl Struct for TileGrid {}

/// The kernels of an operation by width, and what they need of shared memory: so many tiles of high and low halves of f16, and
/// beside them so many bytes.
struct Tiled {
    kernels: [Kernel; 2],
    tiles: usize,
    beside: usize,
    /// Products of tiles with tiles, f32, which wait there for the other chunks of a head.
    products: usize,
}

/// The largest magnitudes of two tiles, by warp.
const LARGEST: usize = 2 * (THREADS as usize / 32) * size_of::<u32>();

const FORWARD: Tiled =
    Tiled { kernels: [Kernel::attention_32, Kernel::attention_64], tiles: 3, beside: LARGEST, products: 1 };
/// With two numbers for each query.
const KEYS: Tiled = Tiled {
    kernels: [Kernel::attention_backward_keys_32, Kernel::attention_backward_keys_64],
    tiles: 4,
    beside: LARGEST + 2 * TILE * size_of::<f32>(),
    products: 2,
};
const QUERIES: Tiled = Tiled {
    kernels: [Kernel::attention_backward_queries_32, Kernel::attention_backward_queries_64],
    tiles: 4,
    beside: LARGEST,
    products: 2,
};

/// How a kernel runs: a block for each tile of `rows` queries or keys of each of `heads` heads, times the chunks of a head.
struct Run {
    kernel: Kernel,
    grid: TileGrid,
    blocks: u32,
    shared: u32,
}

impl Tiled {
    /// The width that holds a head, or the widest; but no wider than the device has shared memory for.
    fn run(&self, stage: &Stage, sizes: &Sizes, rows: usize, heads: usize) -> Result<Run> {
        let chunks = |width: usize| sizes.head.div_ceil(width).max(1);
        let bytes = |width: usize| {
            let waiting = if chunks(width) > 1 { self.products * TILE * TILE * size_of::<f32>() } else { 0 };
            self.tiles * TILE * width * 2 * size_of::<u16>() + self.beside + waiting
        };
        let room = stage.gpu.shared_memory();
        let mut i = WIDTHS.iter().position(|&width| sizes.head <= width).unwrap_or(WIDTHS.len() - 1);
        while i > 0 && bytes(WIDTHS[i]) > room {
            i -= 1;
        }
        let (tiles, chunks) = (rows.div_ceil(TILE), chunks(WIDTHS[i]));
        let units = sizes.batch * heads * chunks;
        Ok(Run {
            kernel: self.kernels[i],
            grid: TileGrid { tiles: tiles as u32, chunks: chunks as u32, units: units as u64 },
            blocks: blocks_of(&[sizes.batch, heads, chunks, tiles])?,
            shared: bytes(WIDTHS[i]) as u32,
        })
    }
}

pub fn attention(launch: &Launch, q: &View, k: &View, v: &View, o: &mut ViewMut, log_sum: &mut ViewMut) -> Result<()> {
    let sizes = Sizes::check(q, k, v, log_sum.dims())?;
    ensure!(o.dims() == q.dims(), Shape, "attention: q has shape {}, o has {}", q.shape(), o.shape());
    let rows = log_sum.count();
    let mut stage = Stage::new(launch)?;
    let (q, k, v) = (stage.input(q, DType::F32)?, stage.input(k, DType::F32)?, stage.input(v, DType::F32)?);
    let (o, log_sum) = (stage.output(o, DType::F32)?, stage.output(log_sum, DType::F32)?);
    if rows == 0 {
        return stage.finish();
    }
    let given = AttentionSizes::new(&sizes)?;
    if sizes.queries < FEW {
        let chunks = Chunks::new(&mut stage, &sizes)?;
        let (grid, arguments) = ([chunks.blocks(&sizes)?, 1, 1], arguments![&given, &chunks, q, k, v]);
        // SAFETY: attention_few(sizes, chunks, q, k, v).
        unsafe { stage.gpu.launch(Kernel::attention_few, grid, chunks.threads(), chunks.shared(), arguments) }?;
        let (grid, arguments) = ([blocks_of(&[rows])?, 1, 1], arguments![&given, &chunks, o, log_sum]);
        // SAFETY: attention_few_join(sizes, chunks, o, log_sum).
        unsafe { stage.gpu.launch(Kernel::attention_few_join, grid, chunks.threads(), 0, arguments) }?;
    } else {
        let run = FORWARD.run(&stage, &sizes, sizes.queries, sizes.heads)?;
        let arguments = arguments![&given, &run.grid, q, k, v, o, log_sum];
        // SAFETY: attention_32(sizes, grid, q, k, v, o, log_sum), and the others have the same.
        unsafe { stage.gpu.launch(run.kernel, [run.blocks, 1, 1], [THREADS, 1, 1], run.shared, arguments) }?;
    }
    stage.finish()
}

pub fn attention_backward(
    launch: &Launch,
    q: &View,
    k: &View,
    v: &View,
    o: &View,
    log_sum: &View,
    d_o: &View,
    dq: &mut ViewMut,
    dk: &mut ViewMut,
    dv: &mut ViewMut,
) -> Result<()> {
    let sizes = Sizes::check(q, k, v, log_sum.dims())?;
    sizes.check_gradients(q, k, &[o.dims(), d_o.dims(), dq.dims()], &[dk.dims(), dv.dims()])?;
    let rows = log_sum.count();
    let has_keys = k.count() > 0;
    let mut stage = Stage::new(launch)?;
    let (q, k, v) = (stage.input(q, DType::F32)?, stage.input(k, DType::F32)?, stage.input(v, DType::F32)?);
    let (o, log_sum, d_o) =
        (stage.input(o, DType::F32)?, stage.input(log_sum, DType::F32)?, stage.input(d_o, DType::F32)?);
    let dq = stage.output(dq, DType::F32)?;
    let (dk, dv) = (stage.output(dk, DType::F32)?, stage.output(dv, DType::F32)?);
    if !has_keys {
        return stage.finish();
    }
    let given = AttentionSizes::new(&sizes)?;
    let products = stage.scratch(rows * size_of::<f32>())?;
    // SAFETY: attention_backward_products(sizes, rows, o, d_o, products), a warp for each two rows.
    unsafe {
        let arguments = arguments![&given, rows as u64, o, d_o, products];
        stage.warps(Kernel::attention_backward_products, rows.div_ceil(2), arguments)
    }?;
    // Also where there are no queries: then these are zeros.
    let run = KEYS.run(&stage, &sizes, sizes.keys, sizes.kv_heads)?;
    let arguments = arguments![&given, &run.grid, q, k, v, log_sum, products, d_o, dk, dv];
    // SAFETY: attention_backward_keys_32(sizes, grid, q, k, v, log_sum, products, d_o, dk, dv), and the others have the same.
    unsafe { stage.gpu.launch(run.kernel, [run.blocks, 1, 1], [THREADS, 1, 1], run.shared, arguments) }?;
    if rows > 0 {
        let run = QUERIES.run(&stage, &sizes, sizes.queries, sizes.heads)?;
        let arguments = arguments![&given, &run.grid, q, k, v, log_sum, products, d_o, dq];
        // SAFETY: attention_backward_queries_32(sizes, grid, q, k, v, log_sum, products, d_o, dq), and the others have the same.
        unsafe { stage.gpu.launch(run.kernel, [run.blocks, 1, 1], [THREADS, 1, 1], run.shared, arguments) }?;
    }
    stage.finish()
}
