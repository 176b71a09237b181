//! Rows of a table by index, and their gradient.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Float, Result, View, ViewMut};

pub fn embedding(_: &Launch, tokens: &View, table: &View, y: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(tokens: &[u32], table: &View, y: &mut ViewMut) -> Result<()> {
        let d = table.dim(1);
        let (table, y) = (table.slice::<T>()?, y.slice_mut::<T>()?);
        for (y, &token) in y.chunks_exact_mut(d.max(1)).zip(tokens) {
            y.copy_from_slice(&table[token as usize * d..][..d]);
        }
        Ok(())
    }
    check_rows("embedding", table.dims(), tokens.count(), y.dims())?;
    let tokens = check_indices("token", tokens, table.dim(0))?;
    by_float!(table, typed(tokens, table, y))
}

pub fn embedding_backward(_: &Launch, tokens: &View, dy: &View, dtable: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(tokens: &[u32], dy: &View, dtable: &mut ViewMut) -> Result<()> {
        let d = dy.dim(1);
        let (dy, dtable) = (dy.slice::<T>()?, dtable.slice_mut::<T>()?);
        for (dy, &token) in dy.chunks_exact(d.max(1)).zip(tokens) {
            for (sum, dy) in dtable[token as usize * d..][..d].iter_mut().zip(dy) {
                *sum += *dy;
            }
        }
        Ok(())
    }
    check_rows("embedding backward", dtable.dims(), tokens.count(), dy.dims())?;
    let tokens = check_indices("token", tokens, dtable.dim(0))?;
    by_float!(dy, typed(tokens, dy, dtable))
}

/// table[v, d] and rows[n, d].
pub fn check_rows(name: &str, table: &[usize], n: usize, rows: &[usize]) -> Result<()> {
    let expected = [n, table.get(1).copied().unwrap_or(1)];
    ensure!(rows == expected, Shape, "{name}: rows have shape {rows:?}, expected {expected:?}");
    Ok(())
}

/// The indices as a slice, all below `bound`.
pub fn check_indices<'a>(what: &str, indices: &View<'a>, bound: usize) -> Result<&'a [u32]> {
    let indices = indices.slice::<u32>()?;
    match indices.iter().position(|&i| i as usize >= bound) {
        None => Ok(indices),
        Some(at) => Err(error!(Shape, "{what} {at} is {}, outside the vocabulary of {bound}", indices[at])),
    }
}
