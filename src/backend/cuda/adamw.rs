//! AdamW: one pass over the gradient, the parameter and its two states; and one that only measures what it would do.

use super::argument::{Struct, arguments};
use super::module::Kernel;
use super::stage::{MOST_THREADS, Stage, THREADS};
use crate::backend::scalar::adamw::check_sums;
use crate::backend::scalar::feed_forward::check;
use crate::backend::scalar::reduce::BLOCK;
use crate::backend::{AdamW, Launch};
use crate::tensor::{DType, Result, View, ViewMut};

/// The scalars of an update, as cuda/adamw.cu has them.
#[repr(C)]
struct Scalars {
    learning_rate: f32,
    rate1: f32,
    rate2: f32,
    epsilon: f32,
    weight_decay: f32,
    correction1: f32,
    correction2: f32,
    gradient_scale: f32,
}

// SAFETY: float learning_rate, rate1, rate2, epsilon, weight_decay, correction1, correction2, gradient_scale.
unsafe impl Struct for Scalars {}

impl From<&AdamW> for Scalars {
    fn from(options: &AdamW) -> Scalars {
        Scalars {
            learning_rate: options.learning_rate,
            rate1: 1.0 - options.beta1,
            rate2: 1.0 - options.beta2,
            epsilon: options.epsilon,
            weight_decay: options.weight_decay,
            correction1: options.correction1,
            correction2: options.correction2,
            gradient_scale: options.gradient_scale,
        }
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
    let count = gradient.count();
    check("adamw", count, &[parameter.count(), m.count(), v.count()])?;
    let mut stage = Stage::new(launch)?;
    let gradient = stage.input(gradient, DType::F32)?;
    let parameter = stage.update(parameter, DType::F32)?;
    let (m, v) = (stage.update(m, DType::F32)?, stage.update(v, DType::F32)?);
    let scalars = Scalars::from(options);
    // SAFETY: adamw(options, gradient, parameter, m, v, count).
    unsafe { stage.map(Kernel::adamw, count, arguments![&scalars, gradient, parameter, m, v, count as u64]) }?;
    stage.finish()
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
    let count = gradient.count();
    check("adamw_squares", count, &[parameter.count(), m.count(), v.count()])?;
    check_sums(sums)?;
    let blocks = count.div_ceil(BLOCK);
    let mut stage = Stage::new(launch)?;
    let (gradient, parameter) = (stage.input(gradient, DType::F32)?, stage.input(parameter, DType::F32)?);
    let (m, v) = (stage.input(m, DType::F32)?, stage.input(v, DType::F32)?);
    let totals = stage.update(sums, DType::F64)?;
    let sums = stage.scratch(2 * blocks * size_of::<f32>())?;
    let scalars = Scalars::from(options);
    let arguments = arguments![&scalars, gradient, parameter, m, v, sums, count as u64];
    // SAFETY: adamw_squares_blocks(options, gradient, parameter, m, v, sums, count), a block of threads for each block.
    unsafe { stage.launch(Kernel::adamw_squares_blocks, blocks, THREADS, arguments) }?;
    // SAFETY: adamw_squares(sums, totals, blocks).
    unsafe { stage.launch(Kernel::adamw_squares, 1, MOST_THREADS, arguments![sums, totals, blocks as u64]) }?;
    stage.finish()
}
