//! Rows of a table by index, and their gradient.

use super::argument::arguments;
use super::faults::{Fault, check_here};
use super::module::Kernel;
use super::stage::{Stage, THREADS};
use crate::backend::Launch;
use crate::backend::scalar::embedding::check_rows;
use crate::tensor::{DType, Result, View, ViewMut};

/// Columns that a block of the gradient's kernel adds at a time, and blocks that share the rows and the columns at most.
const COLUMNS: usize = 512;
const MOST_ROWS: usize = 1024;
const MOST_COLUMNS: usize = 8;

pub fn embedding(launch: &Launch, tokens: &View, table: &View, y: &mut ViewMut) -> Result<()> {
    let (n, v, d) = (tokens.count(), table.dim(0), table.dim(1));
    check_rows("embedding", table.dims(), n, y.dims())?;
    check_here("token", tokens, v)?;
    let mut stage = Stage::new(launch)?;
    let (tokens, table) = (stage.input(tokens, DType::U32)?, stage.input(table, DType::F32)?);
    let y = stage.output(y, DType::F32)?;
    let fault = stage.gpu.faults().pointer(Fault::Token);
    // SAFETY: embedding(tokens, table, y, n, v, d, fault), a warp for each token.
    unsafe { stage.warps(Kernel::embedding, n, arguments![tokens, table, y, n as u64, v as u64, d as u64, fault]) }?;
    stage.finish()
}

pub fn embedding_backward(launch: &Launch, tokens: &View, dy: &View, dtable: &mut ViewMut) -> Result<()> {
    let (n, v, d) = (tokens.count(), dtable.dim(0), dtable.dim(1));
    check_rows("embedding backward", dtable.dims(), n, dy.dims())?;
    check_here("token", tokens, v)?;
    let mut stage = Stage::new(launch)?;
    let (tokens, dy) = (stage.input(tokens, DType::U32)?, stage.input(dy, DType::F32)?);
    let dtable = stage.update(dtable, DType::F32)?;
    let fault = stage.gpu.faults().pointer(Fault::Token);
    // Blocks share the rows of the table by the last bits of their numbers.
    let rows = v.clamp(1, MOST_ROWS).next_power_of_two() as u32;
    let columns = d.div_ceil(COLUMNS).clamp(1, MOST_COLUMNS) as u32;
    let arguments = arguments![tokens, dy, dtable, n as u64, v as u64, d as u64, fault];
    // SAFETY: embedding_backward(tokens, dy, dtable, n, v, d, fault).
    unsafe { stage.gpu.launch(Kernel::embedding_backward, [rows, columns, 1], [THREADS, 1, 1], 0, arguments) }?;
    stage.finish()
}
