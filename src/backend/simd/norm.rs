//! RMSNorm and its gradient.

use super::chunks::{self, ELEMENTS, Shared};
use crate::backend::Launch;
use crate::backend::scalar::norm::check;
use crate::backend::workspace::with_scratch;
use crate::tensor::{Result, View, ViewMut};
use std::ops::Range;

/// Rows of a chunk: about this many elements.
const CHUNK: usize = ELEMENTS / 4;
/// Every chunk of the backward pass has its own sum of dgain: no more than this many.
const MOST_SUMS: usize = 64;

pub fn rms_norm(
    launch: &Launch,
    x: &View,
    gain: &View,
    epsilon: f64,
    y: &mut ViewMut,
    inverse_rms: &mut ViewMut,
) -> Result<()> {
    check("rms_norm", x, gain.count(), y.dims(), inverse_rms.count())?;
    let (m, d) = (x.dim(0), x.dim(1));
    let (x, gain) = (x.slice::<f32>()?, gain.slice::<f32>()?);
    let (y, inverse_rms) = (Shared::new(y.slice_mut::<f32>()?), Shared::new(inverse_rms.slice_mut::<f32>()?));
    chunks::run(launch, m, rows_of(d), |rows| {
        let elements = rows.start * d..rows.end * d;
        let x = &x[elements.clone()];
        // SAFETY: chunks of whole rows are disjoint, and `check` has compared the shapes.
        unsafe {
            let (y, inverse_rms) = (y.part(elements), inverse_rms.part(rows.clone()));
            let (y, inverse_rms) = (y.as_mut_ptr(), inverse_rms.as_mut_ptr());
            (launch.spans.rms_norm)(x.as_ptr(), gain.as_ptr(), epsilon as f32, rows.len(), d, y, inverse_rms);
        }
    });
    Ok(())
}

#[allow(clippy::too_many_arguments)]
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
    check("rms_norm backward", x, gain.count(), dy.dims(), inverse_rms.count())?;
    check("rms_norm backward", x, dgain.count(), dx.dims(), inverse_rms.count())?;
    let (m, d) = (x.dim(0), x.dim(1));
    let (x, gain, dy) = (x.slice::<f32>()?, gain.slice::<f32>()?, dy.slice::<f32>()?);
    let inverse_rms = inverse_rms.slice::<f32>()?;
    let (dx, dgain) = (Shared::new(dx.slice_mut::<f32>()?), dgain.slice_mut::<f32>()?);
    with_sums(launch, [m, d], dgain, |rows, sum| {
        let elements = rows.start * d..rows.end * d;
        let (x, dy, inverse_rms) = (&x[elements.clone()], &dy[elements.clone()], &inverse_rms[rows.clone()]);
        // SAFETY: chunks of whole rows are disjoint, and `check` has compared the shapes.
        unsafe {
            (launch.spans.rms_norm_backward)(
                x.as_ptr(),
                gain.as_ptr(),
                inverse_rms.as_ptr(),
                dy.as_ptr(),
                accumulate,
                rows.len(),
                d,
                dx.part(elements).as_mut_ptr(),
                sum.as_mut_ptr(),
            );
        }
    })
}

/// Rows of a chunk of rows of d elements.
pub fn rows_of(d: usize) -> usize {
    (CHUNK / d.max(1)).max(1)
}

/// Calls `work(rows, sum)` for chunks of the m rows, each with a sum[d] of its own that begins at 0, and adds the sums to
/// `total`[d] in the order of the rows.
pub fn with_sums(
    launch: &Launch,
    [m, d]: [usize; 2],
    total: &mut [f32],
    work: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Result<()> {
    let size = rows_of(d).max(m.div_ceil(MOST_SUMS));
    with_scratch::<f32, _>(m.div_ceil(size) * d, |sums| {
        sums.fill(0.0);
        let shared = Shared::new(sums);
        chunks::run(launch, m, size, |rows| {
            let chunk = rows.start / size;
            // SAFETY: each chunk has its own sum.
            work(rows, unsafe { shared.part(chunk * d..(chunk + 1) * d) });
        });
        for sum in sums.chunks_exact(d.max(1)) {
            // SAFETY: both have d elements.
            unsafe { (launch.spans.add)(sum.as_ptr(), total.as_mut_ptr(), d) }
        }
    })
}
