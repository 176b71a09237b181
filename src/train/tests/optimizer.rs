//! AdamW against an f64 reference that shares no code with it.

use super::*;
use crate::model::Gradients;
use crate::tensor::Tensor;
use crate::train::optimizer::{ModelWeights, optimizer};

/// A gradient that changes with the step, of a size that clipping acts on in some steps and not in others.
fn gradient(step: u64, tensor: usize, element: usize) -> f64 {
    let size = if step.is_multiple_of(3) { 1.0 } else { 1e-3 };
    (size * ((step as f64) * 0.7 + (tensor as f64) * 1.3 + (element as f64) * 0.11).sin()) as f32 as f64
}

/// The same trajectory by the paper's formulas (arXiv 1711.05101, algorithm 2) in f64.
fn reference(start: &[(bool, Vec<f64>)], options: &TrainOptions, last: u64) -> (Vec<Vec<f64>>, Vec<f64>) {
    let mut parameters: Vec<Vec<f64>> = start.iter().map(|(_, values)| values.clone()).collect();
    let mut m: Vec<Vec<f64>> = start.iter().map(|(_, values)| vec![0.0; values.len()]).collect();
    let mut v = m.clone();
    let mut norms = Vec::new();
    for t in 1..=last {
        let mut squares = 0.0;
        for (i, p) in parameters.iter().enumerate() {
            squares += (0..p.len()).map(|e| gradient(t, i, e).powi(2)).sum::<f64>();
        }
        let norm = squares.sqrt();
        norms.push(norm);
        let scale = if norm > options.clip { options.clip / norm } else { 1.0 };
        for (i, p) in parameters.iter_mut().enumerate() {
            let decay = if start[i].0 { options.weight_decay } else { 0.0 };
            for e in 0..p.len() {
                let g = gradient(t, i, e) * scale;
                m[i][e] = options.beta1 * m[i][e] + (1.0 - options.beta1) * g;
                v[i][e] = options.beta2 * v[i][e] + (1.0 - options.beta2) * g * g;
                let m_hat = m[i][e] / (1.0 - options.beta1.powi(t as i32));
                let v_hat = v[i][e] / (1.0 - options.beta2.powi(t as i32));
                p[e] -= options.learning_rate * (m_hat / (v_hat.sqrt() + options.epsilon) + decay * p[e]);
            }
        }
    }
    (parameters, norms)
}

#[test]
fn fifty_steps_follow_the_reference_on_every_row() {
    let schedule = Decay::Constant;
    let options = TrainOptions {
        learning_rate: 3e-3,
        weight_decay: 0.2,
        clip: 0.5,
        schedule,
        warmup_steps: 0,
        ..TrainOptions::default()
    };
    for (backend, threads) in [(Backend::Scalar, 1), (Backend::Simd, 1), (Backend::Parallel, 2)] {
        let context = context(backend, threads);
        let mut model = Model::new(context.clone(), geometry(), 5).unwrap();
        let start: Vec<(bool, Vec<f64>)> = model
            .parameters()
            .iter()
            .map(|p| {
                let values = p.tensor.host::<f32>().unwrap().iter().map(|&x| f64::from(x)).collect();
                (p.tensor.dims().len() == 2, values)
            })
            .collect();
        assert!(start.iter().any(|(matrix, _)| *matrix) && start.iter().any(|(matrix, _)| !*matrix));
        let (expected, norms) = reference(&start, &options, 50);
        assert!(norms.iter().any(|norm| *norm > options.clip) && norms.iter().any(|norm| *norm < options.clip));

        let mut gradients = Gradients::new(&model).unwrap();
        let mut optimizer = optimizer(&model, &options).unwrap();
        for step in 1..=50 {
            for (i, tensor) in gradients.tensors_mut().iter_mut().enumerate() {
                for (e, g) in tensor.host_mut::<f32>().unwrap().iter_mut().enumerate() {
                    *g = gradient(step, i, e) as f32;
                }
            }
            let views: Vec<_> = gradients.tensors().iter().map(Tensor::view).collect();
            let report = optimizer.step(&mut ModelWeights::new(&mut model), &views).unwrap();
            let (norm, exact) = (report.gradient_norm, norms[step as usize - 1]);
            assert!((norm - exact).abs() < 1e-5 * exact, "{backend:?}, step {step}: norm {norm}, expected {exact}");
            model.refresh().unwrap();
        }
        for (parameter, expected) in model.parameters().iter().zip(&expected) {
            for (e, (&got, &exact)) in parameter.tensor.host::<f32>().unwrap().iter().zip(expected).enumerate() {
                let error = (f64::from(got) - exact).abs();
                let name = &parameter.name;
                assert!(error < 2e-5, "{backend:?}: {name}[{e}] is {got}, the reference {exact}");
            }
        }
    }
}
