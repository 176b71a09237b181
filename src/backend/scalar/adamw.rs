//! AdamW (Loshchilov & Hutter, arXiv 1711.05101): the optimizer's update of one tensor.

use super::feed_forward::check;
use crate::backend::{AdamW, Launch};
use crate::tensor::{Result, View, ViewMut};

pub fn adamw(
    _: &Launch,
    options: &AdamW,
    gradient: &View,
    parameter: &mut ViewMut,
    m: &mut ViewMut,
    v: &mut ViewMut,
) -> Result<()> {
    check("adamw", gradient.count(), &[parameter.count(), m.count(), v.count()])?;
    let gradient = gradient.slice::<f32>()?;
    let (parameter, m, v) = (parameter.slice_mut::<f32>()?, m.slice_mut::<f32>()?, v.slice_mut::<f32>()?);
    for i in 0..gradient.len() {
        let g = gradient[i] * options.gradient_scale;
        m[i] += (1.0 - options.beta1) * (g - m[i]);
        v[i] += (1.0 - options.beta2) * (g * g - v[i]);
        let direction = (m[i] / options.correction1) / ((v[i] / options.correction2).sqrt() + options.epsilon);
        parameter[i] -= options.learning_rate * (direction + options.weight_decay * parameter[i]);
    }
    Ok(())
}
