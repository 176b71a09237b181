//! How long the steps of AdamW are, before the learning rate: what a rule for the learning rate measures.

use super::feed_forward::check;
use super::reduce::{BLOCK, canonical_sum, check_single};
use crate::backend::{AdamW, Launch};
use crate::tensor::{Result, View, ViewMut};

pub fn direction_squares(_: &Launch, options: &AdamW, m: &View, v: &View, sum: &mut ViewMut) -> Result<()> {
    check("direction_squares", m.count(), &[v.count()])?;
    check_single("direction_squares: sum", sum.count())?;
    let (m, v) = (m.slice::<f32>()?, v.slice::<f32>()?);
    let (inverse1, inverse2) = (1.0 / options.correction1, 1.0 / options.correction2);
    let mut total = 0.0;
    for (m, v) in m.chunks(BLOCK).zip(v.chunks(BLOCK)) {
        let mut direction = [0f32; BLOCK];
        for ((d, m), v) in direction.iter_mut().zip(m).zip(v) {
            *d = m * inverse1 / ((v * inverse2).sqrt() + options.epsilon);
        }
        total += canonical_sum(&direction[..m.len()], |d| d * d);
    }
    sum.slice_mut::<f64>()?[0] += total;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::backend::AdamW;

    fn options(step: i32) -> AdamW {
        AdamW {
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.0,
            correction1: (1.0 - 0.9f64.powi(step)) as f32,
            correction2: (1.0 - 0.99f64.powi(step)) as f32,
            gradient_scale: 1.0,
        }
    }

    fn squares(options: &AdamW, m: &[f32], v: &[f32], start: f64) -> f64 {
        let (mut sum, dims) = ([start], [m.len()]);
        let (m, v) = (view(m, &dims), view(v, &[v.len()]));
        (KERNELS.direction_squares)(&launch(), options, &m, &v, &mut view_mut(&mut sum, &[1])).unwrap();
        sum[0]
    }

    #[test]
    fn the_sum_is_that_of_the_steps_that_adamw_takes() {
        for n in CANONICAL_SIZES {
            let (mut p, mut m, mut v) = (vec![0.0f32; n], vec![0.0f32; n], vec![0.0f32; n]);
            for step in 1..=3 {
                let gradient = of::<f32>(&numbers(60 + step as u32, n));
                let before = p.clone();
                let states = [&mut p, &mut m, &mut v].map(|x| view_mut(x, &[n]));
                let [mut p_view, mut m_view, mut v_view] = states;
                let gradient = view(&gradient, &[n]);
                (KERNELS.adamw)(&launch(), &options(step), &gradient, &mut p_view, &mut m_view, &mut v_view).unwrap();
                let taken: f64 = p.iter().zip(&before).map(|(p, b)| (f64::from(p - b) / 0.01).powi(2)).sum();
                let found = squares(&options(step), &m, &v, 0.5) - 0.5;
                assert!((found - taken).abs() <= 1e-5 * taken, "{n} elements, step {step}: {found}, taken {taken}");
            }
        }
    }

    #[test]
    fn the_sum_is_canonical() {
        let (m, v) = (of::<f32>(&numbers(70, 9000)), of::<f32>(&numbers(71, 9000)));
        let v: Vec<f32> = v.iter().map(|v| v * v).collect();
        let AdamW { correction1, correction2, epsilon, .. } = options(5);
        let direction = |(m, v): (&f32, &f32)| m * (1.0 / correction1) / ((v * (1.0 / correction2)).sqrt() + epsilon);
        let terms: Vec<f32> = m.iter().zip(&v).map(direction).map(|d| d * d).collect();
        assert_eq!(squares(&options(5), &m, &v, 0.0).to_bits(), canonical(&terms).to_bits());
    }

    #[test]
    fn wrong_shapes_and_types_are_refused() {
        let call = |m: &[f32], v: &[f32], sum: &mut [f64]| {
            let (m, v, n) = (view(m, &[m.len()]), view(v, &[v.len()]), sum.len());
            (KERNELS.direction_squares)(&launch(), &options(1), &m, &v, &mut view_mut(sum, &[n]))
        };
        assert_eq!(kind(call(&[0.0; 3], &[0.0; 4], &mut [0.0])), ErrorKind::Shape);
        assert_eq!(kind(call(&[0.0; 3], &[0.0; 3], &mut [0.0; 2])), ErrorKind::Shape);
        let tensors = [zeros::<f32>(&[1]), zeros::<f32>(&[1]), zeros::<f64>(&[1])];
        refuses_other_types("direction_squares", tensors, |[m, v, sum]| {
            (KERNELS.direction_squares)(&launch(), &options(1), &m.view(), &v.view(), &mut sum.view_mut())
        });
    }
}
