use super::cases::{Cases, Work, call, normal, zeros, zeros_of};
use super::elementwise::{ELEMENTS, GPU};
use crate::backend::AdamW;
use crate::tensor::DType;

const OPTIONS: AdamW = AdamW {
    learning_rate: 1e-3,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weight_decay: 0.1,
    correction1: 0.5,
    correction2: 0.5,
    gradient_scale: 1.0,
};

pub fn cases(cases: &mut Cases) {
    for n in ELEMENTS {
        cases.only_gpu(n == GPU);
        cases.add("adamw", n.to_string(), Work::elements(n, 16 * n, 12 * n), move || {
            let (gradient, mut parameter) = (normal(&[n], 1)?, normal(&[n], 2)?);
            let (mut m, mut v) = (zeros(&[n])?, zeros(&[n])?);
            call(move |kernels, launch| {
                let (parameter, m, v) = (&mut parameter.view_mut(), &mut m.view_mut(), &mut v.view_mut());
                (kernels.adamw)(launch, &OPTIONS, &gradient.view(), parameter, m, v)
            })
        });
        cases.add("adamw_squares", n.to_string(), Work::elements(n, 16 * n, 0), move || {
            let (gradient, parameter) = (normal(&[n], 1)?, normal(&[n], 2)?);
            let (m, v) = (normal(&[n], 3)?, zeros(&[n])?);
            let mut sums = zeros_of(DType::F64, &[2])?;
            call(move |kernels, launch| {
                let (gradient, parameter, m, v) = (gradient.view(), parameter.view(), m.view(), v.view());
                (kernels.adamw_squares)(launch, &OPTIONS, &gradient, &parameter, &m, &v, &mut sums.view_mut())
            })
        });
    }
}
