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

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::backend::AdamW;

    const BETAS: [f64; 2] = [0.9, 0.99];

    fn options(step: i32) -> AdamW {
        AdamW {
            learning_rate: 0.01,
            beta1: BETAS[0] as f32,
            beta2: BETAS[1] as f32,
            epsilon: 1e-8,
            weight_decay: 0.1,
            correction1: (1.0 - BETAS[0].powi(step)) as f32,
            correction2: (1.0 - BETAS[1].powi(step)) as f32,
            gradient_scale: 0.5,
        }
    }

    fn update(options: &AdamW, gradient: &[f32], [p, m, v]: [&mut [f32]; 3]) -> Result<()> {
        let [p, m, v] = [p, m, v].map(|x| {
            let n = x.len();
            view_mut(x, &[n])
        });
        let (mut p, mut m, mut v) = (p, m, v);
        (KERNELS.adamw)(&launch(), options, &view(gradient, &[gradient.len()]), &mut p, &mut m, &mut v)
    }

    /// Twenty steps against the algorithm as the paper prints it, in f64.
    #[test]
    fn steps_are_those_of_the_paper() {
        const N: usize = 50;
        let start = numbers(55, N);
        let (mut p, mut m, mut v) = (of::<f32>(&start), vec![0.0f32; N], vec![0.0f32; N]);
        let (mut p64, mut m64, mut v64) = (start.clone(), vec![0.0; N], vec![0.0; N]);
        for step in 1..=20 {
            let gradient = numbers(55 + step as u32, N);
            update(&options(step), &of::<f32>(&gradient), [&mut p, &mut m, &mut v]).unwrap();
            for i in 0..N {
                let g = gradient[i] * 0.5;
                m64[i] = BETAS[0] * m64[i] + (1.0 - BETAS[0]) * g;
                v64[i] = BETAS[1] * v64[i] + (1.0 - BETAS[1]) * g * g;
                let m_hat = m64[i] / (1.0 - BETAS[0].powi(step));
                let v_hat = v64[i] / (1.0 - BETAS[1].powi(step));
                p64[i] -= 0.01 * (m_hat / (v_hat.sqrt() + 1e-8) + 0.1 * p64[i]);
            }
        }
        assert_close("m", &m, &m64, 1e-6);
        assert_close("v", &v, &v64, 1e-6);
        assert_close("parameter", &p, &p64, 1e-6);
        assert!(p64.iter().zip(&start).all(|(new, old)| new != old));
    }

    /// The first step moves by the learning rate against the sign, whatever the size of the gradient.
    #[test]
    fn the_first_step_is_the_sign() {
        let options = AdamW { weight_decay: 0.0, ..options(1) };
        let (mut p, mut m, mut v) = ([1.0f32; 3], [0.0f32; 3], [0.0f32; 3]);
        update(&options, &[1e-3, -1e3, 0.0], [&mut p, &mut m, &mut v]).unwrap();
        assert_close("parameter", &p, &[0.99, 1.01, 1.0], 1e-6);
        assert_eq!(p[2], 1.0);
    }

    #[test]
    fn empty_tensors_and_other_shapes_and_types() {
        update(&options(1), &[], [&mut [], &mut [], &mut []]).unwrap();
        for wrong in 0..3 {
            let mut states = [vec![0.0f32; 4], vec![0.0; 4], vec![0.0; 4]];
            states[wrong].pop();
            assert_eq!(kind(update(&options(1), &[0.0; 4], states.each_mut().map(|x| &mut x[..]))), ErrorKind::Shape);
        }
        refuses_other_types("adamw", [(); 4].map(|()| zeros::<f32>(&[3])), |[g, p, m, v]| {
            let (mut p, mut m, mut v) = (p.view_mut(), m.view_mut(), v.view_mut());
            (KERNELS.adamw)(&launch(), &options(1), &g.view(), &mut p, &mut m, &mut v)
        });
        let mut all = [(); 4].map(|()| zeros::<f64>(&[3]));
        let [g, p, m, v] = &mut all;
        let (mut p, mut m, mut v) = (p.view_mut(), m.view_mut(), v.view_mut());
        let in_f64 = (KERNELS.adamw)(&launch(), &options(1), &g.view(), &mut p, &mut m, &mut v);
        assert_eq!(kind(in_f64), ErrorKind::DType);
    }
}
