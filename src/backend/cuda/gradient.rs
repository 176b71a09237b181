//! Gradients in few bits, one scale a block.

use super::argument::{Philox, Pointer, arguments};
use super::module::Kernel;
use super::rows::{BLOCK, Divisor, adding, entry_blocks};
use super::stage::{Stage, THREADS};
use crate::backend::Launch;
use crate::backend::scalar::gradient::{check, check_ternary, checked_threshold};
use crate::tensor::random::Stream;
use crate::tensor::{DType, Result, View, ViewMut};

/// Blocks up to this take a warp, longer ones a block of threads.
const WARP_BLOCK: usize = 1024;
/// Warps a multiprocessor that blocks are dealt to: more than it has at a time, but so few that each does several.
const WARPS: usize = 256;
/// From here on, and where blocks are too few for the device, several blocks of threads share one.
const LONG_BLOCK: usize = 1 << 16;
/// Elements of a tile of such a block.
const TILE: usize = 4 * THREADS as usize;

/// At most all elements, in a multiple of 32.
fn whole(block: usize, count: usize) -> usize {
    block.min(count.next_multiple_of(32)).max(32)
}

pub fn quantize_gradients(
    launch: &Launch,
    g: &View,
    stream: Stream,
    block: usize,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    check("quantize_gradients", g.count(), block, codes.count(), scales.count())?;
    let (count, block) = (g.count(), whole(block, g.count()));
    let blocks = count.div_ceil(block);
    let mut stage = Stage::new(launch)?;
    let g = stage.input(g, DType::F32)?;
    let (codes, scales) = (stage.output(codes, DType::I8)?, stage.output(scales, DType::F32)?);
    let stream = Philox::from(stream);
    let (n, size) = (count as u64, block as u64);
    let multiprocessors = stage.gpu.multiprocessors() as usize;
    let few = blocks < 2 * multiprocessors;
    if block < LONG_BLOCK || !few {
        let arguments = arguments![g, &stream, n, size, blocks as u64, codes, scales];
        // SAFETY: quantize_gradients(g, stream, count, block, blocks, codes, scales), and the other has the same.
        unsafe {
            match block <= WARP_BLOCK {
                true => stage.warps(Kernel::quantize_gradients, blocks.min(WARPS * multiprocessors), arguments),
                false => stage.launch(Kernel::quantize_gradients_wide, blocks, THREADS, arguments),
            }
        }?;
        return stage.finish();
    }
    let (tiles, bytes) = (block.div_ceil(TILE), blocks * size_of::<u32>());
    let (by_tiles, all_tiles) = (Divisor::new(tiles), blocks * tiles);
    let largest = stage.scratch(bytes)?;
    // SAFETY: the block was taken for these bytes.
    unsafe { stage.gpu.set_bytes(largest, 0, bytes) }?;
    let arguments = arguments![g, n, size, tiles as u64, &by_tiles, all_tiles as u64, largest];
    // SAFETY: largest_gradients(g, count, block, tiles, by_tiles, all_tiles, largest).
    unsafe { stage.launch(Kernel::largest_gradients, all_tiles, THREADS, arguments) }?;
    let arguments = arguments![largest, scales, blocks as u64];
    // SAFETY: gradient_scales(largest, scales, blocks).
    unsafe { stage.launch(Kernel::gradient_scales, blocks.div_ceil(THREADS as usize), THREADS, arguments) }?;
    let arguments = arguments![g, &stream, n, size, tiles as u64, &by_tiles, all_tiles as u64, scales, codes];
    // SAFETY: quantize_gradients_by(g, stream, count, block, tiles, by_tiles, all_tiles, scales, codes).
    unsafe { stage.launch(Kernel::quantize_gradients_by, all_tiles, THREADS, arguments) }?;
    stage.finish()
}

pub fn dequantize_gradients(launch: &Launch, codes: &View, scales: &View, block: usize, g: &mut ViewMut) -> Result<()> {
    check("dequantize_gradients", g.count(), block, codes.count(), scales.count())?;
    let (count, by_fours) = (g.count(), Divisor::new(whole(block, g.count()) / 4));
    let mut stage = Stage::new(launch)?;
    let (codes, scales) = (stage.input(codes, DType::I8)?, stage.input(scales, DType::F32)?);
    let g = stage.output(g, DType::F32)?;
    let arguments = arguments![codes, scales, count as u64, &by_fours, g];
    // SAFETY: dequantize_gradients(codes, scales, count, by_fours, g).
    unsafe { stage.launch(Kernel::dequantize_gradients, entry_blocks(count.div_ceil(4)), THREADS, arguments) }?;
    stage.finish()
}

pub fn ternarize_gradients(
    launch: &Launch,
    g: &View,
    block: usize,
    error: &mut ViewMut,
    packed: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    check_ternary(g.count(), block, error.count(), packed.count(), scales.count())?;
    let (count, block) = (g.count(), whole(block, g.count()));
    let blocks = count.div_ceil(block);
    let mut stage = Stage::new(launch)?;
    let (g, error) = (stage.input(g, DType::F32)?, stage.update(error, DType::F32)?);
    let (packed, scales) = (stage.output(packed, DType::U8)?, stage.output(scales, DType::F32)?);
    let [thresholds, found] = [stage.scratch(blocks * size_of::<f32>())?, stage.scratch(blocks * size_of::<f32>())?];
    let bad = stage.number(false)?;
    // All blocks are measured first, so that a call that fails has written nothing.
    if block <= BLOCK {
        let arguments = arguments![g, error, count as u64, block as u64, thresholds, found, bad];
        // SAFETY: measure_gradients(g, error, count, block, thresholds, scales, bad), a warp for each block.
        unsafe { stage.warps(Kernel::measure_gradients, blocks, arguments) }?;
    } else {
        measure_long(&mut stage, [g, error], [count, block], thresholds, found, bad)?;
    }
    let by_fours = Divisor::new(block / 4);
    let arguments = arguments![g, count as u64, &by_fours, thresholds, found, bad, error, packed];
    // SAFETY: ternarize_gradients(g, count, by_fours, thresholds, found_scales, bad, error, packed).
    unsafe { stage.launch(Kernel::ternarize_gradients, entry_blocks(count.div_ceil(4)), THREADS, arguments) }?;
    let arguments = arguments![found, blocks as u64, bad, scales];
    // SAFETY: copy_gradient_scales(found_scales, blocks, bad, scales).
    unsafe { stage.launch(Kernel::copy_gradient_scales, blocks.div_ceil(THREADS as usize), THREADS, arguments) }?;
    match stage.look([bad])? {
        [0] => stage.finish(),
        [complement] => checked_threshold(!complement as usize, f64::INFINITY, 1).map(|_| ()),
    }
}

/// Thresholds and scales of blocks of several canonical blocks.
fn measure_long(
    stage: &mut Stage,
    [g, error]: [Pointer; 2],
    [count, block]: [usize; 2],
    thresholds: Pointer,
    scales: Pointer,
    bad: Pointer,
) -> Result<()> {
    let (blocks, units) = (count.div_ceil(block), block.div_ceil(BLOCK));
    let (by_units, all_units) = (Divisor::new(units), blocks * units);
    let (sums, counts) = (stage.scratch(all_units * size_of::<f32>())?, stage.scratch(all_units * size_of::<u32>())?);
    let (n, size, blocks, units) = (count as u64, block as u64, blocks as u64, units as u64);
    let measure = |thresholds: Pointer| {
        let arguments = arguments![g, error, n, size, units, &by_units, all_units as u64, thresholds, sums, counts];
        // SAFETY: measure_gradient_blocks(g, error, count, block, units, by_units, all_units, thresholds, sums, counts).
        unsafe { stage.warps(Kernel::measure_gradient_blocks, all_units, arguments) }
    };
    measure(Pointer(0))?;
    let arguments = arguments![n, size, blocks, units, sums, thresholds, bad];
    // SAFETY: gradient_thresholds_of_blocks(count, block, blocks, units, sums, thresholds, bad).
    unsafe { stage.launch(Kernel::gradient_thresholds_of_blocks, blocks as usize, adding(units as usize), arguments) }?;
    measure(thresholds)?;
    let arguments = arguments![blocks, units, sums, counts, scales];
    // SAFETY: gradient_scales_of_blocks(blocks, units, sums, counts, scales).
    unsafe { stage.launch(Kernel::gradient_scales_of_blocks, blocks as usize, adding(units as usize), arguments) }
}
