use super::{SIZES, Tolerance, check, normal, tolerance};
use crate::backend::AdamW;
use crate::tensor::{DType, Tensor};

/// Five updates; each adds the roundings of one fused where the reference rounds twice, and the other way round.
const TOLERANCE: Tolerance = tolerance::ADAMW;

#[test]
fn adamw() {
    for n in SIZES.into_iter().chain([70_001]) {
        check(&format!("adamw {n}"), TOLERANCE, |row| {
            let mut parameter = normal(&[n], 23);
            let (mut m, mut v) = (Tensor::zeros(DType::F32, &[n])?, Tensor::zeros(DType::F32, &[n])?);
            for step in 1..=5 {
                let options = AdamW {
                    learning_rate: 1e-2,
                    beta1: 0.9,
                    beta2: 0.99,
                    epsilon: 1e-8,
                    weight_decay: 0.1,
                    correction1: (1.0 - 0.9f64.powi(step)) as f32,
                    correction2: (1.0 - 0.99f64.powi(step)) as f32,
                    gradient_scale: 0.3,
                };
                let gradient = normal(&[n], 24 + step as u32);
                let states = (&mut parameter.view_mut(), &mut m.view_mut(), &mut v.view_mut());
                (row.kernels.adamw)(&row.launch, &options, &gradient.view(), states.0, states.1, states.2)?;
            }
            Ok(vec![parameter, m, v])
        });
    }
}

/// Sums of positive terms: a sum is as good as the worst of them, each a few roundings.
#[test]
fn adamw_squares() {
    for n in SIZES.into_iter().chain([31, 4095, 4097, 70_001]) {
        check(&format!("adamw_squares {n}"), tolerance::ADAMW_SQUARES, |row| {
            let (gradient, parameter, m, mut v) =
                (normal(&[n], 31), normal(&[n], 32), normal(&[n], 33), normal(&[n], 34));
            v.host_mut::<f32>()?.iter_mut().for_each(|v| *v *= *v);
            let options = AdamW {
                learning_rate: 1e-2,
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-8,
                weight_decay: 0.1,
                correction1: 0.5,
                correction2: 0.25,
                gradient_scale: 0.3,
            };
            let mut sums = Tensor::from_slice(&[0.25f64, 0.5], &[2])?;
            let inputs = (&gradient.view(), &parameter.view(), &m.view(), &v.view());
            let launch = &row.launch;
            (row.kernels.adamw_squares)(
                launch,
                &options,
                inputs.0,
                inputs.1,
                inputs.2,
                inputs.3,
                &mut sums.view_mut(),
            )?;
            Ok(vec![sums])
        });
    }
}
