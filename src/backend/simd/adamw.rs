//! AdamW: one pass over the gradient, the parameter and its two states; and one that only measures what it would do.

use super::chunks::{self, Shared};
use super::spans::AdamWFactors;
use crate::backend::scalar::adamw::check_sums;
use crate::backend::scalar::feed_forward::check;
use crate::backend::scalar::reduce::BLOCK;
use crate::backend::workspace::with_scratch;
use crate::backend::{AdamW, Launch};
use crate::tensor::{Result, View, ViewMut};

fn factors(options: &AdamW, learning_rate: f32) -> AdamWFactors {
    AdamWFactors {
        gradient_scale: options.gradient_scale,
        rate1: 1.0 - options.beta1,
        rate2: 1.0 - options.beta2,
        step: learning_rate / options.correction1,
        inverse2: 1.0 / options.correction2,
        epsilon: options.epsilon,
        decay: learning_rate * options.weight_decay,
    }
}

pub fn adamw(
    launch: &Launch,
    options: &AdamW,
    gradient: &View,
    parameter: &mut ViewMut,
    m: &mut ViewMut,
    v: &mut ViewMut,
) -> Result<()> {
    check("adamw", gradient.count(), &[parameter.count(), m.count(), v.count()])?;
    let gradient = gradient.slice::<f32>()?;
    let parameter = Shared::new(parameter.slice_mut::<f32>()?);
    let (m, v) = (Shared::new(m.slice_mut::<f32>()?), Shared::new(v.slice_mut::<f32>()?));
    let factors = factors(options, options.learning_rate);
    chunks::run(launch, gradient.len(), chunks::elements(gradient.len()), |range| {
        let gradient = &gradient[range.clone()];
        // SAFETY: chunks are disjoint, and all have the length of the range.
        unsafe {
            let parameter = parameter.part(range.clone()).as_mut_ptr();
            let (m, v) = (m.part(range.clone()).as_mut_ptr(), v.part(range).as_mut_ptr());
            (launch.spans.adamw)(&factors, gradient.as_ptr(), parameter, m, v, gradient.len());
        }
    });
    Ok(())
}

pub fn adamw_squares(
    launch: &Launch,
    options: &AdamW,
    gradient: &View,
    parameter: &View,
    m: &View,
    v: &View,
    sums: &mut ViewMut,
) -> Result<()> {
    check("adamw_squares", gradient.count(), &[parameter.count(), m.count(), v.count()])?;
    check_sums(sums)?;
    let (gradient, parameter) = (gradient.slice::<f32>()?, parameter.slice::<f32>()?);
    let (m, v, sums) = (m.slice::<f32>()?, v.slice::<f32>()?, sums.slice_mut::<f64>()?);
    let factors = factors(options, 1.0);
    const { assert!(chunks::LEAST.is_multiple_of(BLOCK)) };
    with_scratch::<f32, _>(2 * gradient.len().div_ceil(BLOCK), |block_sums| {
        let shared = Shared::new(block_sums);
        chunks::run(launch, gradient.len(), chunks::elements(gradient.len()), |range| {
            let [gradient, parameter, m, v] = [gradient, parameter, m, v].map(|x| x[range.clone()].as_ptr());
            // SAFETY: chunks start at multiples of a block, so the blocks of different chunks are disjoint.
            let sums = unsafe { shared.part(2 * (range.start / BLOCK)..2 * range.end.div_ceil(BLOCK)) };
            // SAFETY: all four have the length of the range, and there are two sums for each block of it.
            unsafe { (launch.spans.adamw_squares)(&factors, gradient, parameter, m, v, range.len(), sums.as_mut_ptr()) }
        });
        for block in block_sums.as_chunks::<2>().0 {
            sums[0] += f64::from(block[0]);
            sums[1] += f64::from(block[1]);
        }
    })
}
