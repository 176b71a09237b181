//! AdamW: one pass over the gradient, the parameter and its two states.

use super::chunks::{self, ELEMENTS, Shared};
use super::spans::AdamWFactors;
use crate::backend::scalar::feed_forward::check;
use crate::backend::{AdamW, Launch};
use crate::tensor::{Result, View, ViewMut};

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
    let factors = AdamWFactors {
        gradient_scale: options.gradient_scale,
        rate1: 1.0 - options.beta1,
        rate2: 1.0 - options.beta2,
        step: options.learning_rate / options.correction1,
        inverse2: 1.0 / options.correction2,
        epsilon: options.epsilon,
        decay: options.learning_rate * options.weight_decay,
    };
    chunks::run(launch, gradient.len(), ELEMENTS, |range| {
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
