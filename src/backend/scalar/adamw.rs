//! AdamW (Loshchilov & Hutter, arXiv 1711.05101): the optimizer's update of one tensor, and its length in advance.

use super::feed_forward::check;
use super::reduce::canonical_sum;
use crate::backend::workspace::with_scratch;
use crate::backend::{AdamW, Launch};
use crate::tensor::error::ensure;
use crate::tensor::{Result, View, ViewMut};

impl AdamW {
    /// The new m and v of one element, and the direction in which its parameter goes.
    fn element(&self, gradient: f32, parameter: f32, m: f32, v: f32) -> [f32; 3] {
        let g = gradient * self.gradient_scale;
        let m = m + (1.0 - self.beta1) * (g - m);
        let v = v + (1.0 - self.beta2) * (g * g - v);
        let direction = (m / self.correction1) / ((v / self.correction2).sqrt() + self.epsilon);
        [m, v, direction + self.weight_decay * parameter]
    }
}

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
        let direction;
        [m[i], v[i], direction] = options.element(gradient[i], parameter[i], m[i], v[i]);
        parameter[i] -= options.learning_rate * direction;
    }
    Ok(())
}

pub fn adamw_squares(
    _: &Launch,
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
    with_scratch::<f32, _>(gradient.len(), |directions| {
        for i in 0..gradient.len() {
            [_, _, directions[i]] = options.element(gradient[i], parameter[i], m[i], v[i]);
        }
        sums[0] += canonical_sum(directions, |d| d * d);
        sums[1] += canonical_sum(parameter, |p| p * p);
    })
}

/// Of the direction and of the parameter.
pub fn check_sums(sums: &ViewMut) -> Result<()> {
    ensure!(sums.count() == 2, Shape, "adamw_squares: sums has {} elements, expected 2", sums.count());
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

    fn squares(options: &AdamW, [g, p, m, v]: [&[f32]; 4], sums: &mut [f64]) -> Result<()> {
        let [g, p, m, v] = [g, p, m, v].map(|x| view(x, &[x.len()]));
        let count = sums.len();
        (KERNELS.adamw_squares)(&launch(), options, &g, &p, &m, &v, &mut view_mut(sums, &[count]))
    }

    /// Against the paper's formula in f64, and against the update itself.
    #[test]
    fn squares_are_those_of_the_update_and_of_the_parameter() {
        for n in CANONICAL_SIZES {
            let [g, p, m, root] = [61, 62, 63, 64].map(|tensor| of::<f32>(&numbers(tensor, n)));
            let v: Vec<f32> = root.iter().map(|v| v * v).collect();
            // At this rate the steps are as long as the parameters: nothing is lost where the two are subtracted.
            let options = AdamW { learning_rate: 1.0, ..options(3) };
            let (mut sums, mut expected) = ([0.5, 0.25], [0.5, 0.25]);
            squares(&options, [&g, &p, &m, &v], &mut sums).unwrap();
            for i in 0..n {
                let [g, p, m, v] = [g[i], p[i], m[i], v[i]].map(f64::from);
                let m_hat = (BETAS[0] * m + (1.0 - BETAS[0]) * g * 0.5) / (1.0 - BETAS[0].powi(3));
                let v_hat = (BETAS[1] * v + (1.0 - BETAS[1]) * (g * 0.5).powi(2)) / (1.0 - BETAS[1].powi(3));
                expected[0] += (m_hat / (v_hat.sqrt() + 1e-8) + 0.1 * p).powi(2);
                expected[1] += p * p;
            }
            assert_close("sums", &sums, &expected, 2e-6);

            let (mut moved, mut m, mut v) = (p.clone(), m, v);
            update(&options, &g, [&mut moved, &mut m, &mut v]).unwrap();
            let distance: f64 = moved.iter().zip(&p).map(|(x, y)| f64::from(x - y).powi(2)).sum();
            assert_close("distance", &[distance], &[sums[0] - 0.5], 2e-6);
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_its_sum() {
        let of = |g: f32, p: f32, m: f32, v: f32| {
            let mut sums = [0.0; 2];
            squares(
                &AdamW { weight_decay: 0.0, ..options(1) },
                [&[1.0, g], &[1.0, p], &[1.0, m], &[1.0, v]],
                &mut sums,
            )
            .unwrap();
            sums.map(f64::is_finite)
        };
        assert_eq!(of(1.0, 1.0, 1.0, 1.0), [true, true]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(of(bad, 1.0, 1.0, 1.0), [false, true], "gradient {bad}");
            assert_eq!(of(1.0, bad, 1.0, 1.0), [false, false], "parameter {bad}");
            assert_eq!(of(1.0, 1.0, bad, 1.0), [false, true], "m {bad}");
        }
        assert_eq!(of(1.0, 1.0, 1.0, -1.0), [false, true]);
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
        let four = [&[0.0f32; 4][..]; 4];
        squares(&options(1), [&[]; 4], &mut [0.0; 2]).unwrap();
        for wrong in 0..4 {
            let mut inputs = four;
            inputs[wrong] = &inputs[wrong][1..];
            assert_eq!(kind(squares(&options(1), inputs, &mut [0.0; 2])), ErrorKind::Shape);
        }
        assert_eq!(kind(squares(&options(1), four, &mut [0.0; 3])), ErrorKind::Shape);
        let [g, p, m, v] = [(); 4].map(|()| zeros::<f32>(&[3]));
        refuses_other_types("adamw_squares", [g, p, m, v, zeros::<f64>(&[2])], |[g, p, m, v, sums]| {
            let (g, p, m, v) = (g.view(), p.view(), m.view(), v.view());
            (KERNELS.adamw_squares)(&launch(), &options(1), &g, &p, &m, &v, &mut sums.view_mut())
        });
        let mut all = [(); 4].map(|()| zeros::<f64>(&[3]));
        let [g, p, m, v] = &mut all;
        let (mut p, mut m, mut v) = (p.view_mut(), m.view_mut(), v.view_mut());
        let in_f64 = (KERNELS.adamw)(&launch(), &options(1), &g.view(), &mut p, &mut m, &mut v);
        assert_eq!(kind(in_f64), ErrorKind::DType);
    }
}
