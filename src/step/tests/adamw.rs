//! Without a radius in the way a step is AdamW's.

use super::*;
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
        let mut run = Run::all(&context, &options);
        let norms: Vec<f64> = (1..=20).map(|t| run.step(&gradients(t)).gradient_norm).collect();
        assert!(norms.iter().any(|&norm| norm > 1.0) && norms.iter().any(|&norm| norm < 1.0), "clipping: {norms:?}");
        for i in 0..SHAPES.len() {
            for (e, (found, expected)) in run.values(i).iter().zip(&expected[i]).enumerate() {
                let difference = (f64::from(*found) - expected).abs();
                assert!(difference < 2e-6, "{}[{e}] is {found}, expected {expected}", SHAPES[i].0);
            }
        }
    }
}

/// The same in f32, rounded as the reference kernel says it: the bits of the parameters, of m and of v.
fn plain(context: &Context, options: &StepOptions, last: u32) -> Vec<u8> {
    let mut states: Vec<[Vec<f32>; 3]> =
        (0..SHAPES.len()).map(|i| [start(i), vec![0.0; count(i)], vec![0.0; count(i)]]).collect();
    for t in 1..=last {
        let gradients = gradients(t);
        let mut norm = 0.0f64;
        for gradient in &gradients {
            let mut squares = [0.0];
            let sum = &mut ViewMut::of(&mut squares, &[1]).unwrap();
            (context.kernels().sum_squares)(context.launch(), &gradient.view(), sum).unwrap();
            norm += squares[0];
        }
        let norm = norm.sqrt();
        let scale = if norm > 1.0 { (1.0 / norm) as f32 } else { 1.0 };
        let rates = [0.9f32, 0.99].map(|beta| 1.0 - beta);
        let inverses = [0.9f32, 0.99].map(|beta| (1.0 / (1.0 - f64::from(beta).powf(f64::from(t)))) as f32);
        for (i, ([p, m, v], gradient)) in states.iter_mut().zip(&gradients).enumerate() {
            let decay = if SHAPES[i].1 == Kind::Vector { 0.0 } else { 0.1 };
            let all = p.iter_mut().zip(m).zip(v).zip(gradient.host::<f32>().unwrap());
            for (((p, m), v), &g) in all {
                let g = g * scale;
                *m += rates[0] * (g - *m);
                *v += rates[1] * (g * g - *v);
                let direction = (*m * inverses[0]) / ((*v * inverses[1]).sqrt() + 1e-8) + decay * *p;
                *p -= options.learning_rate as f32 * direction;
            }
        }
    }
    states.iter().flatten().flatten().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn a_radius_that_is_not_reached_changes_no_bit() {
    for context in contexts() {
        let wide = StepOptions { radius: Some(100.0), ..StepOptions::default() };
        let expected = plain(&context, &wide, 6);
        for options in [off(), wide] {
            let mut run = Run::all(&context, &options);
            for t in 1..=6 {
                let report = run.step(&gradients(t));
                assert_eq!((report.held, report.clamped, report.refusal), (0, 0, None));
            }
            assert!(run.bits() == expected, "{:?} on {}", options.radius_mode, context.backend().name());
        }
    }
}

/// The simple call is one matrix of an run.
#[test]
fn a_step_alone_is_an_optimizers() {
    for context in contexts() {
        let options = StepOptions { learning_rate: 0.05, upper: 0.2, ..StepOptions::default() };
        let n = count(1);
        let own = ParameterOptions::of(Kind::Matrix);
        let tensor = |values: &[f32]| Tensor::from_slice(values, &[n]).unwrap();
        let zeros = || tensor(&vec![0.0; n]);
        let mut alone = Parameter::with_states("parameters", [zeros(), zeros()], &options, &own).unwrap();
        let mut held = Held::default();
        held.push(tensor(&start(1))).unwrap();
        let mut twin = Run::new(&context, &options);
        twin.add("parameters", &start(1), &[n], &own);
        for t in 1..=5u32 {
            let gradient = tensor(gradients(t)[1].host().unwrap());
            let found = step_alone(&context, &options, u64::from(t), &mut alone, &mut held, &gradient.view()).unwrap();
            let expected = twin.step(&[gradient]);
            assert_eq!(found, expected);
            assert!(found.clamped > 0 && found.held == 1);
        }
        let found = [held.values(0), &alone.states.m, &alone.states.v];
        assert!(found.iter().flat_map(|tensor| tensor.read_bytes().unwrap().to_vec()).eq(twin.bits()));
    }
}

#[test]
fn moments_that_no_steps_leave_are_refused() {
    let context = context(Backend::Simd, 1);
    let alone = |number, m: f32, v: f32| {
        let tensor = |x: f32| Tensor::from_slice(&[0.0, x], &[2]).unwrap();
        let (options, own) = (StepOptions::default(), ParameterOptions::of(Kind::Matrix));
        let mut parameter = Parameter::with_states("parameters", [tensor(m), tensor(v)], &options, &own)?;
        let mut held = Held::default();
        held.push(tensor(1.0))?;
        step_alone(&context, &options, number, &mut parameter, &mut held, &tensor(0.1).view())
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
