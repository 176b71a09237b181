//! The squared length of AdamW's direction: `scalar/direction.rs` for the vector units.

use super::chunks::{self, ELEMENTS, Shared};
use super::spans::DirectionFactors;
use crate::backend::scalar::feed_forward::check;
use crate::backend::scalar::reduce::{BLOCK, check_single};
use crate::backend::workspace::with_scratch;
use crate::backend::{AdamW, Launch};
use crate::tensor::{Result, View, ViewMut};

pub fn direction_squares(launch: &Launch, options: &AdamW, m: &View, v: &View, sum: &mut ViewMut) -> Result<()> {
    const { assert!(ELEMENTS.is_multiple_of(BLOCK)) };
    check("direction_squares", m.count(), &[v.count()])?;
    check_single("direction_squares: sum", sum.count())?;
    let (m, v, sum) = (m.slice::<f32>()?, v.slice::<f32>()?, sum.slice_mut::<f64>()?);
    let factors = DirectionFactors {
        inverse1: 1.0 / options.correction1,
        inverse2: 1.0 / options.correction2,
        epsilon: options.epsilon,
    };
    sum[0] += with_scratch::<f32, _>(m.len().div_ceil(BLOCK), |sums| {
        let shared = Shared::new(sums);
        chunks::run(launch, m.len(), ELEMENTS, |range| {
            let (m, v) = (&m[range.clone()], &v[range.clone()]);
            // SAFETY: chunks start at multiples of a block, so the blocks of different chunks are disjoint.
            let sums = unsafe { shared.part(range.start / BLOCK..range.end.div_ceil(BLOCK)) };
            // SAFETY: m and v have the stated length, and there is one sum for each block of it.
            unsafe {
                (launch.spans.direction_squares)(&factors, m.as_ptr(), v.as_ptr(), m.len(), sums.as_mut_ptr());
            }
        });
        sums.iter().fold(0.0, |total, &sum| total + f64::from(sum))
    })?;
    Ok(())
}
