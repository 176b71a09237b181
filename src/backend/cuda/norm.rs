//! RMSNorm and its gradient; and the launches that fused_norm.rs shares. Each operation has a kernel for some lengths of rows:
//! see cuda/norm.cuh.

use super::argument::{Last, Pointer, Struct, arguments};
use super::module::Kernel;
use super::stage::{MOST_BLOCKS, MOST_THREADS, Stage, THREADS};
use crate::backend::Launch;
use crate::backend::scalar::norm::check;
use crate::tensor::{DType, Result, View, ViewMut};

/// What goes together into one argument.
#[repr(C)]
pub struct Pointers<const N: usize>(pub [Pointer; N]);

// SAFETY: N pointers.
unsafe impl<const N: usize> Struct for Pointers<N> {}

/// What all forward kernels are given besides the rows.
#[repr(C)]
pub struct Norm {
    pub gain: Pointer,
    pub epsilon: f64,
    pub inverse_rms: Pointer,
    pub m: u64,
    pub d: u64,
}

// SAFETY: const float *gain; double epsilon; float *inverse_rms; u64 m, d.
unsafe impl Struct for Norm {}

/// The kernels of a forward operation: for rows of up to 512, 2048 and 16384 numbers, and for longer ones.
pub type Forward = [Kernel; 4];
/// The same of a gradient: for rows of up to 8192 numbers, and the two steps for longer ones.
pub type Backward = [Kernel; 3];

/// Rows of up to 512 numbers that a warp takes at a time.
const ROWS_OF_WARP: usize = 2;
/// Numbers of a row that a thread of a block holds.
const FORWARD_HELD: usize = 16;
/// Numbers of a row that a warp holds of a gradient.
const HELD_BY_WARP: usize = 16 * 32;
/// Chunks of rows at most, and rows of a chunk at least: where a warp has a row, where a small block has one, where a block has
/// one, and where a row is not held. Every chunk costs a sum of dgain in memory; all of them together have to be enough warps
/// to wait for what they read.
fn chunks_of(d: usize) -> (usize, usize) {
    match d {
        0..=512 => (512, 8),
        513..=1024 => (1024, 8),
        1025..=8192 => (512, 4),
        _ => (512, 16),
    }
}

/// Columns of a tile of long rows, and those that a block of `add_chunks` adds.
const COLUMNS_OF_TILE: usize = THREADS as usize;
const COLUMNS_OF_SUM: usize = 32;

/// Threads of a block that holds a row.
fn threads(d: usize) -> u32 {
    d.div_ceil(FORWARD_HELD).next_multiple_of(32) as u32
}

/// # Safety
/// The kernels take (source, norm, output), and the pointers are those of matrices [m, d], or of what the kernel has for one.
pub unsafe fn forward<const S: usize, const O: usize>(
    stage: &Stage,
    kernels: Forward,
    source: Pointers<S>,
    norm: &Norm,
    output: Pointers<O>,
) -> Result<()> {
    let (m, d) = (norm.m as usize, norm.d as usize);
    let arguments = arguments![&source, norm, &output];
    // SAFETY: passed on to the caller.
    unsafe {
        match d {
            0..=512 => stage.warps(kernels[0], m.div_ceil(ROWS_OF_WARP), arguments),
            513..=2048 => stage.warps(kernels[1], m, arguments),
            2049..=16384 => {
                let blocks = m.clamp(1, MOST_BLOCKS) as u32;
                let (threads, shared) = (threads(d), (d * size_of::<f32>()) as u32);
                stage.gpu.launch(kernels[2], [blocks, 1, 1], [threads, 1, 1], shared, arguments)
            }
            _ => stage.launch(kernels[3], m, MOST_THREADS, arguments),
        }
    }
}

/// What all gradients are given besides the rows: their inputs, and where the sums of dgain go.
pub struct Gradient {
    pub gain: Pointer,
    pub inverse_rms: Pointer,
    pub dy: Pointer,
    pub dgain: Pointer,
    pub m: usize,
    pub d: usize,
}

/// As cuda/norm.cuh has it.
#[repr(C)]
struct NormGradient {
    gain: Pointer,
    inverse_rms: Pointer,
    dy: Pointer,
    sums: Pointer,
    m: u64,
    d: u64,
    rows_of_chunk: u64,
    inverse_d: Last<f32>,
}

// SAFETY: const float *gain, *inverse_rms, *dy; float *sums; u64 m, d, rows_of_chunk; float inverse_d.
unsafe impl Struct for NormGradient {}

/// # Safety
/// The kernels take (to, norm), the last two also (means) and (means, tiles), and the pointers in `to` are those of matrices
/// [m, d].
pub unsafe fn backward(stage: &mut Stage, kernels: Backward, to: &impl Struct, given: &Gradient) -> Result<()> {
    let &Gradient { gain, inverse_rms, dy, dgain, m, d } = given;
    if m == 0 || d == 0 {
        return Ok(());
    }
    let (most, least) = chunks_of(d);
    let rows = m.div_ceil(most).max(least);
    let chunks = m.div_ceil(rows);
    let sums = stage.scratch(chunks * d * size_of::<f32>())?;
    let inverse_d = ((1.0 / d as f64) as f32).into();
    let (m, d_wide, rows_of_chunk) = (m as u64, d as u64, rows as u64);
    let norm = NormGradient { gain, inverse_rms, dy, sums, m, d: d_wide, rows_of_chunk, inverse_d };
    let arguments = arguments![to, &norm];
    // SAFETY: passed on to the caller.
    unsafe {
        match d {
            0..=512 => {
                let shared = (THREADS as usize / 32 * d * size_of::<f32>()) as u32;
                stage.gpu.launch(kernels[0], [chunks as u32, 1, 1], [THREADS, 1, 1], shared, arguments)
            }
            513..=8192 => stage.launch(kernels[0], chunks, d.div_ceil(HELD_BY_WARP) as u32 * 32, arguments),
            _ => {
                let means = stage.scratch(m as usize * size_of::<f32>())?;
                stage.launch(kernels[1], m as usize, MOST_THREADS, arguments![to, &norm, means])?;
                let tiles = d.div_ceil(COLUMNS_OF_TILE);
                let (grid, arguments) = ([(chunks * tiles) as u32, 1, 1], arguments![to, &norm, means, tiles as u64]);
                stage.gpu.launch(kernels[2], grid, [THREADS, 1, 1], 0, arguments)
            }
        }
    }?;
    let (grid, arguments) = ([d.div_ceil(COLUMNS_OF_SUM) as u32, 1, 1], arguments![sums, dgain, d_wide, chunks as u64]);
    // SAFETY: add_chunks(sums, dgain, d, chunks).
    unsafe { stage.gpu.launch(Kernel::add_chunks, grid, [MOST_THREADS, 1, 1], 0, arguments) }
}

pub fn rms_norm(
    launch: &Launch,
    x: &View,
    gain: &View,
    epsilon: f64,
    y: &mut ViewMut,
    inverse_rms: &mut ViewMut,
) -> Result<()> {
    const KERNELS: Forward =
        [Kernel::rms_norm_512, Kernel::rms_norm_2048, Kernel::rms_norm_16384, Kernel::rms_norm_long];
    check("rms_norm", x, gain.count(), y.dims(), inverse_rms.count())?;
    let (m, d) = (x.dim(0) as u64, x.dim(1) as u64);
    let mut stage = Stage::new(launch)?;
    let (x, gain) = (stage.input(x, DType::F32)?, stage.input(gain, DType::F32)?);
    let (y, inverse_rms) = (stage.output(y, DType::F32)?, stage.output(inverse_rms, DType::F32)?);
    let norm = Norm { gain, epsilon, inverse_rms, m, d };
    // SAFETY: rms_norm_512({x}, norm, {y}) and so on.
    unsafe { forward(&stage, KERNELS, Pointers([x]), &norm, Pointers([y])) }?;
    stage.finish()
}

/// Where the gradient of `rms_norm` goes, as cuda/norm.cuh has it.
#[repr(C)]
struct PlainGradient {
    x: Pointer,
    dx: Pointer,
    accumulate: Last<u32>,
}

// SAFETY: struct of const float *x; float *dx; unsigned accumulate.
unsafe impl Struct for PlainGradient {}

pub fn rms_norm_backward(
    launch: &Launch,
    x: &View,
    gain: &View,
    inverse_rms: &View,
    dy: &View,
    accumulate: bool,
    dx: &mut ViewMut,
    dgain: &mut ViewMut,
) -> Result<()> {
    const KERNELS: Backward =
        [Kernel::rms_norm_backward_8192, Kernel::rms_norm_backward_means, Kernel::rms_norm_backward_long];
    check("rms_norm backward", x, gain.count(), dy.dims(), inverse_rms.count())?;
    check("rms_norm backward", x, dgain.count(), dx.dims(), inverse_rms.count())?;
    let (m, d) = (x.dim(0), x.dim(1));
    let mut stage = Stage::new(launch)?;
    let (x, gain) = (stage.input(x, DType::F32)?, stage.input(gain, DType::F32)?);
    let (inverse_rms, dy) = (stage.input(inverse_rms, DType::F32)?, stage.input(dy, DType::F32)?);
    let dx = stage.sum(dx, DType::F32, accumulate)?;
    let dgain = stage.update(dgain, DType::F32)?;
    let to = PlainGradient { x, dx, accumulate: u32::from(accumulate).into() };
    // SAFETY: rms_norm_backward_8192({x, dx, accumulate}, norm) and so on.
    unsafe { backward(&mut stage, KERNELS, &to, &Gradient { gain, inverse_rms, dy, dgain, m, d }) }?;
    stage.finish()
}
