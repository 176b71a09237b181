//! Without a radius in the way a step is AdamW's.

use super::*;
use crate::backend::AdamW;
use crate::tensor::ViewMut;

/// The same trajectory by the paper's formulas (arXiv 1711.05101, algorithm 2) in f64.
fn reference(options: &StepOptions, last: u32) -> Vec<Vec<f64>> {
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let mut parameters: Vec<Vec<f64>> = (0..SHAPES.len()).map(|i| wide(&start(i))).collect();
    let mut m: Vec<Vec<f64>> = parameters.iter().map(|p| vec![0.0; p.len()]).collect();
    let mut v = m.clone();
    for t in 1..=last {
        let gradients: Vec<Vec<f64>> = gradients(t).iter().map(|g| wide(g.host().unwrap())).collect();
        let norm = gradients.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let scale = if norm > options.clip { options.clip / norm } else { 1.0 };
        for (i, p) in parameters.iter_mut().enumerate() {
            let decay = if SHAPES[i].1 == Kind::Vector { 0.0 } else { options.weight_decay };
            for e in 0..p.len() {
                let g = gradients[i][e] * scale;
                m[i][e] = options.beta1 * m[i][e] + (1.0 - options.beta1) * g;
                v[i][e] = options.beta2 * v[i][e] + (1.0 - options.beta2) * g * g;
                let m_hat = m[i][e] / (1.0 - options.beta1.powi(t as i32));
                let v_hat = v[i][e] / (1.0 - options.beta2.powi(t as i32));
                p[e] -= options.learning_rate * (m_hat / (v_hat.sqrt() + options.epsilon) + decay * p[e]);
            }
        }
    }
    parameters
}

#[test]
fn steps_are_those_of_the_paper() {
    let options = StepOptions { learning_rate: 0.01, ..off() };
    let expected = reference(&options, 20);
    for context in contexts() {
        let mut optimizer = optimizer(&context, &options);
        let norms: Vec<f64> = (1..=20).map(|t| step(&mut optimizer, &gradients(t)).gradient_norm).collect();
        assert!(norms.iter().any(|&norm| norm > 1.0) && norms.iter().any(|&norm| norm < 1.0), "clipping: {norms:?}");
        for i in 0..SHAPES.len() {
            for (e, (found, expected)) in values(&optimizer, i).iter().zip(&expected[i]).enumerate() {
                let difference = (f64::from(*found) - expected).abs();
                assert!(difference < 2e-6, "{}[{e}] is {found}, expected {expected}", SHAPES[i].0);
            }
        }
    }
}

/// The kernel itself, called with scalars that are worked out here.
fn plain(context: &Context, options: &StepOptions, last: u32) -> Vec<u32> {
    let (kernels, launch) = (context.kernels(), context.launch());
    let zeros = |i: usize| Tensor::zeros(crate::tensor::DType::F32, SHAPES[i].2).unwrap();
    let mut states: Vec<[Tensor; 3]> =
        (0..SHAPES.len()).map(|i| [Tensor::from_slice(&start(i), SHAPES[i].2).unwrap(), zeros(i), zeros(i)]).collect();
    for t in 1..=last {
        let gradients = gradients(t);
        let mut norm = 0.0f64;
        for gradient in &gradients {
            let mut squares = [0.0];
            let sum = &mut ViewMut::of(&mut squares, &[1]).unwrap();
            (kernels.sum_squares)(launch, &gradient.view(), sum).unwrap();
            norm += squares[0];
        }
        let norm = norm.sqrt();
        for (i, ([p, m, v], gradient)) in states.iter_mut().zip(&gradients).enumerate() {
            let adamw = AdamW {
                learning_rate: options.learning_rate as f32,
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-8,
                weight_decay: if SHAPES[i].1 == Kind::Vector { 0.0 } else { 0.1 },
                correction1: (1.0 - f64::from(0.9f32).powf(f64::from(t))) as f32,
                correction2: (1.0 - f64::from(0.99f32).powf(f64::from(t))) as f32,
                gradient_scale: if norm > 1.0 { (1.0 / norm) as f32 } else { 1.0 },
            };
            let (p, m, v) = (&mut p.view_mut(), &mut m.view_mut(), &mut v.view_mut());
            (kernels.adamw)(launch, &adamw, &gradient.view(), p, m, v).unwrap();
        }
    }
    let all = states.iter().flatten();
    all.flat_map(|tensor| tensor.host::<f32>().unwrap().iter().map(|x| x.to_bits())).collect()
}

#[test]
fn a_radius_that_is_not_reached_changes_no_bit() {
    for context in contexts() {
        let wide = StepOptions { radius: 100.0, ..StepOptions::default() };
        let expected = plain(&context, &wide, 6);
        for options in [off(), wide] {
            let mut optimizer = optimizer(&context, &options);
            for t in 1..=6 {
                let report = step(&mut optimizer, &gradients(t));
                assert_eq!((report.held, report.clamped, report.refusal), (0, 0, None));
            }
            assert!(bits(&optimizer) == expected, "{:?} on {}", options.radius_mode, context.backend().name());
        }
    }
}

/// The simple call is one matrix of an optimizer.
#[test]
fn a_step_alone_is_an_optimizers() {
    for context in contexts() {
        let options = StepOptions { learning_rate: 0.05, upper: 0.2, ..StepOptions::default() };
        let n = count(1);
        let own = ParameterOptions::of(Kind::Matrix);
        let tensor = || Tensor::from_slice(&start(1), &[n]).unwrap();
        let mut alone = Parameter::new("parameters", tensor(), &options, &own).unwrap();
        let mut twin = Optimizer::new(context.clone(), options.clone()).unwrap();
        twin.add("parameters", tensor(), &own).unwrap();
        for t in 1..=5u32 {
            let gradients = gradients(t);
            let gradient = &gradients[1].view().reshape(&[n]).unwrap();
            let found = step_alone(&context, &options, u64::from(t), &mut alone, gradient).unwrap();
            let expected = twin.step(&[*gradient]).unwrap();
            assert_eq!(found, expected);
            assert!(found.clamped > 0 && found.held == 1);
        }
        for (found, expected) in [&alone.tensor, &alone.m, &alone.v].into_iter().zip([
            &twin.parameters()[0].tensor,
            &twin.parameters()[0].m,
            &twin.parameters()[0].v,
        ]) {
            assert_eq!(found.host::<f32>().unwrap(), expected.host::<f32>().unwrap());
        }
    }
}

#[test]
fn moments_that_no_steps_leave_are_refused() {
    let context = context(Backend::Simd, 1);
    let alone = |number, m: f32, v: f32| {
        let tensor = |x: f32| Tensor::from_slice(&[0.0, x], &[2]).unwrap();
        let (options, own) = (StepOptions::default(), ParameterOptions::of(Kind::Matrix));
        let tensors = [tensor(1.0), tensor(m), tensor(v)];
        let mut parameter = Parameter::with_states("parameters", tensors, &options, &own)?;
        step_alone(&context, &options, number, &mut parameter, &tensor(0.1).view())
    };
    assert!(alone(1, 0.0, 0.0).unwrap().refusal.is_none());
    assert!(alone(2, -1.0, 1.0).unwrap().refusal.is_none());
    let cases = [
        (1, 0.5, 0.0, "moments[1] is 0.5, which no 0 steps can leave"),
        (1, 0.0, 0.5, "moments[3] is 0.5, which"),
        (2, f32::NAN, 0.0, "moments[1] is NaN, which no 1 steps can leave"),
        (2, f32::INFINITY, 0.0, "moments[1] is inf"),
        (2, 0.0, -1e-30, "moments[3] is -0.0000"),
        (9, 0.0, f32::NAN, "moments[3] is NaN"),
        (9, 0.0, f32::MAX, "moments[3] is 34028"),
    ];
    for (number, m, v, expected) in cases {
        let error = alone(number, m, v).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Argument);
        assert!(error.message.starts_with(expected), "'{error}' does not start with '{expected}'");
    }
}
