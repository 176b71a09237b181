use super::{SIZES, Tolerance, check, normal};
use crate::backend::AdamW;
use crate::tensor::{DType, Tensor};

/// Five updates; each adds the roundings of one fused where the reference rounds twice, and the other way round.
const TOLERANCE: Tolerance = Tolerance { absolute: 1e-7, relative: 2e-6 };

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
