//! Rotary position embedding, half rotation.

use super::chunks::{self, Shared};
use crate::backend::Launch;
use crate::backend::scalar::rope::check;
use crate::tensor::{Result, View, ViewMut};

pub fn rope(launch: &Launch, cosine: &View, sine: &View, inverse: bool, x: &mut ViewMut) -> Result<()> {
    check(cosine.dims(), sine.dims(), x.dims())?;
    let (rows, positions, heads, half) = (x.dim(0) * x.dim(1), x.dim(1), x.dim(2), x.dim(3) / 2);
    let (cosine, sine) = (cosine.slice::<f32>()?, sine.slice::<f32>()?);
    let x = Shared::new(x.slice_mut::<f32>()?);
    let width = heads * 2 * half;
    let sign = if inverse { -1.0 } else { 1.0 };
    chunks::run(launch, rows, chunks::rows(rows, width), |rows| {
        let first = rows.start % positions;
        // SAFETY: chunks of whole rows are disjoint; the tables hold `positions` rows of `half`, as `check` has seen.
        unsafe {
            let (cosine, sine) = (cosine.as_ptr(), sine.as_ptr());
            let x = x.part(rows.start * width..rows.end * width).as_mut_ptr();
            (launch.spans.rope)(cosine, sine, sign, first, rows.len(), width, positions, heads, half, x);
        }
    });
    Ok(())
}
