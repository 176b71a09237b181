//! Softmax cross-entropy, in nats, and its gradient in place of the logits.

use super::chunks::{self, ELEMENTS, Shared};
use crate::backend::Launch;
use crate::backend::scalar::cross_entropy::check;
use crate::backend::scalar::embedding::check_indices;
use crate::tensor::{Result, View, ViewMut};

/// Rows of a chunk: exponentials cost more than memory, so fewer elements than elsewhere.
fn rows_of_chunk(width: usize) -> usize {
    (ELEMENTS / 4 / width.max(1)).max(1)
}

pub fn cross_entropy(launch: &Launch, logits: &View, targets: &View, losses: &mut ViewMut) -> Result<()> {
    check(logits.dims(), targets.count(), losses.count())?;
    let width = logits.dim(1);
    let targets = check_indices("target", targets, width)?;
    let (logits, losses) = (logits.slice::<f32>()?, Shared::new(losses.slice_mut::<f32>()?));
    chunks::run(launch, targets.len(), rows_of_chunk(width), |rows| {
        let logits = &logits[rows.start * width..rows.end * width];
        let targets = &targets[rows.clone()];
        // SAFETY: chunks of rows are disjoint, and every target is a column.
        unsafe {
            let losses = losses.part(rows.clone()).as_mut_ptr();
            (launch.spans.cross_entropy)(logits.as_ptr(), targets.as_ptr(), rows.len(), width, losses);
        }
    });
    Ok(())
}

pub fn cross_entropy_gradient(
    launch: &Launch,
    targets: &View,
    factor: f64,
    logits: &mut ViewMut,
    losses: &mut ViewMut,
) -> Result<()> {
    check(logits.dims(), targets.count(), losses.count())?;
    let width = logits.dim(1);
    let targets = check_indices("target", targets, width)?;
    let (logits, losses) = (Shared::new(logits.slice_mut::<f32>()?), Shared::new(losses.slice_mut::<f32>()?));
    chunks::run(launch, targets.len(), rows_of_chunk(width), |rows| {
        let targets = &targets[rows.clone()];
        // SAFETY: chunks of rows are disjoint, and every target is a column.
        unsafe {
            let logits = logits.part(rows.start * width..rows.end * width).as_mut_ptr();
            let losses = losses.part(rows.clone()).as_mut_ptr();
            (launch.spans.cross_entropy_gradient)(targets.as_ptr(), factor as f32, rows.len(), width, logits, losses);
        }
    });
    Ok(())
}
