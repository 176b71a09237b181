//! The canonical sum of squares, and the search for what is not finite.

use super::argument::arguments;
use super::module::Kernel;
use super::stage::{MOST_THREADS, Stage};
use crate::backend::Launch;
use crate::backend::scalar::reduce::{BLOCK, check_single};
use crate::tensor::{DType, Result, View, ViewMut};

pub fn sum_squares(launch: &Launch, x: &View, sum: &mut ViewMut) -> Result<()> {
    check_single("sum_squares: sum", sum.count())?;
    let count = x.count();
    let blocks = count.div_ceil(BLOCK);
    let mut stage = Stage::new(launch)?;
    let (x, sum) = (stage.input(x, DType::F32)?, stage.update(sum, DType::F64)?);
    let sums = stage.scratch(blocks * size_of::<f32>())?;
    // SAFETY: sum_squares_blocks(x, sums, count), a warp for each block.
    unsafe { stage.few_warps(Kernel::sum_squares_blocks, blocks, arguments![x, sums, count as u64]) }?;
    // SAFETY: add_block_sums(sums, total, count).
    unsafe { stage.launch(Kernel::add_block_sums, 1, MOST_THREADS, arguments![sums, sum, blocks as u64]) }?;
    stage.finish()
}

pub fn first_non_finite(launch: &Launch, x: &View) -> Result<Option<usize>> {
    let count = x.count();
    let mut stage = Stage::new(launch)?;
    let x = stage.input(x, DType::F32)?;
    let first = stage.number(true)?;
    // SAFETY: first_non_finite(x, first, count).
    unsafe { stage.map(Kernel::first_non_finite, count, arguments![x, first, count as u64]) }?;
    let first = stage.finish_with(first)? as usize;
    Ok((first < count).then_some(first))
}
