//! Rows of a table by index, and their gradient.

use super::chunks::{self, Shared};
use crate::backend::Launch;
use crate::backend::scalar::embedding::{check_indices, check_rows};
use crate::tensor::{Result, View, ViewMut};

pub fn embedding(launch: &Launch, tokens: &View, table: &View, y: &mut ViewMut) -> Result<()> {
    check_rows("embedding", table.dims(), tokens.count(), y.dims())?;
    let tokens = check_indices("token", tokens, table.dim(0))?;
    let d = table.dim(1);
    let (table, y) = (table.slice::<f32>()?, Shared::new(y.slice_mut::<f32>()?));
    chunks::run(launch, tokens.len(), chunks::rows(tokens.len(), d), |rows| {
        // SAFETY: chunks are disjoint.
        let y = unsafe { y.part(rows.start * d..rows.end * d) };
        for (y, &token) in y.chunks_exact_mut(d.max(1)).zip(&tokens[rows]) {
            y.copy_from_slice(&table[token as usize * d..][..d]);
        }
    });
    Ok(())
}

/// Threads share the columns, not the tokens: so every row of the table sums in token order.
pub fn embedding_backward(launch: &Launch, tokens: &View, dy: &View, dtable: &mut ViewMut) -> Result<()> {
    check_rows("embedding backward", dtable.dims(), tokens.count(), dy.dims())?;
    let tokens = check_indices("token", tokens, dtable.dim(0))?;
    let d = dy.dim(1);
    let (dy, dtable) = (dy.slice::<f32>()?, Shared::new(dtable.slice_mut::<f32>()?));
    if tokens.is_empty() {
        return Ok(());
    }
    chunks::run(launch, d, chunks::columns(launch, d), |columns| {
        // SAFETY: every token is a row of the table; blocks of columns are disjoint and end inside the row.
        unsafe {
            let dy = dy.as_ptr().add(columns.start);
            let dtable = dtable.as_mut_ptr().add(columns.start);
            (launch.spans.embedding_backward)(tokens.as_ptr(), tokens.len(), dy, d, columns.len(), dtable);
        }
    });
    Ok(())
}
