//! The model against an independent one, and its gradients against central differences, in f64 on the scalar row.

mod codebooks;
mod copy;
mod decoder;
mod file;
mod sample;
mod teacher;
mod threshold;

use super::parameters::ParameterKind;
use super::reference::Plain;
use super::*;
use crate::backend::{Backend, Context, ContextOptions};
use crate::tensor::{DType, never};
use std::sync::Arc;

fn context(backend: Backend) -> Arc<Context> {
    Arc::new(Context::new(&ContextOptions { backend: Some(backend), threads: 2, ..Default::default() }).unwrap())
}

fn small(quantize_weights: bool, ffn_gated: bool, tied_embedding: bool) -> ModelOptions {
    ModelOptions {
        vocabulary: 11,
        context_length: 7,
        width: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        hidden: 19,
        ffn_gated,
        tied_embedding,
        quantize_weights,
        ..Default::default()
    }
}

fn text(options: &ModelOptions, batch: usize, length: usize) -> (Vec<u32>, Vec<u32>) {
    let token = |i: usize| (i * i * 7 + i * 3 + 1) as u32 % options.vocabulary as u32;
    ((0..batch * length).map(token).collect(), (1..=batch * length).map(token).collect())
}

/// Makes gains other than 1 and embeddings of order 1, so that every term of the gradient counts.
fn stir(model: &mut Model) {
    for (p, parameter) in model.parameters_mut().iter_mut().enumerate() {
        let kind = parameter.kind;
        for (i, x) in parameter.tensor.host_mut::<f64>().unwrap().iter_mut().enumerate() {
            match kind {
                ParameterKind::Vector => *x += 0.3 * ((i + p) as f64).sin(),
                _ if p == 0 => *x *= 30.0,
                _ => *x *= 1.5,
            }
        }
    }
    model.refresh().unwrap();
}

fn plain(model: &Model) -> Plain {
    let values = model.parameters().iter().map(|p| p.tensor.host::<f64>().unwrap().to_vec()).collect();
    Plain::new(model.options().clone(), values)
}

#[test]
fn gradients_match_differences_of_an_independent_model() {
    for (quantize, gated, tied) in
        [(false, false, true), (false, true, false), (true, false, true), (true, true, false)]
    {
        let options = small(quantize, gated, tied);
        let (batch, length) = (2, 7);
        let (tokens, targets) = text(&options, batch, length);
        let mut model = Model::with_dtype(context(Backend::Scalar), options, 3, DType::F64).unwrap();
        stir(&mut model);
        let mut activations = Activations::training(&model, batch, length, GradientProducts::F32).unwrap();
        let mut gradients = Gradients::new(&model).unwrap();
        let loss = model.backward(&mut activations, (&tokens, &targets), 1.0, None, &mut gradients, &never).unwrap();
        let mut plain = plain(&model);
        let expected = plain.record(&tokens, &targets, length);
        assert!((loss - expected).abs() < 1e-9, "loss {loss}, expected {expected}");
        assert!((loss - plain.replay(&tokens, &targets, length)).abs() < 1e-9);
        for (p, parameter) in model.parameters().iter().enumerate() {
            let gradient = gradients.tensors()[p].host::<f64>().unwrap();
            let largest = gradient.iter().fold(0.0, |a: f64, g| a.max(g.abs()));
            assert!(largest > 0.0, "{}: no gradient at all", parameter.name);
            let stride = (gradient.len() / 12).max(1);
            for i in (0..gradient.len()).step_by(stride) {
                let step = 1e-5;
                let at = |plain: &mut Plain, offset: f64| {
                    let kept = plain.parameters[p][i];
                    plain.parameters[p][i] = kept + offset;
                    let loss = plain.replay(&tokens, &targets, length);
                    plain.parameters[p][i] = kept;
                    loss
                };
                let difference = (at(&mut plain, step) - at(&mut plain, -step)) / (2.0 * step);
                let error = (gradient[i] - difference).abs();
                assert!(
                    error <= 1e-8 + 1e-5 * difference.abs(),
                    "{}[{i}] (quantized {quantize}, gated {gated}): gradient {}, difference {difference}",
                    parameter.name,
                    gradient[i]
                );
            }
        }
    }
}

#[test]
fn gradients_under_dropout_match_differences_with_the_same_mask() {
    let options = ModelOptions { dropout: 0.25, ..small(false, false, true) };
    let (batch, length) = (2, 5);
    let (tokens, targets) = text(&options, batch, length);
    let mut model = Model::with_dtype(context(Backend::Scalar), options, 5, DType::F64).unwrap();
    stir(&mut model);
    let dropout = Some(Draw { seed: 9, step: 4, micro_batch: 1 });
    let mut activations = Activations::training(&model, batch, length, GradientProducts::F32).unwrap();
    let mut gradients = Gradients::new(&model).unwrap();
    let mut loss = |model: &Model, gradients: &mut Gradients| {
        model.backward(&mut activations, (&tokens, &targets), 1.0, dropout, gradients, &never).unwrap()
    };
    let with = loss(&model, &mut gradients);
    let mut ignored = Gradients::new(&model).unwrap();
    for p in 0..model.parameters().len() {
        let i = model.parameters()[p].tensor.count() / 2;
        let mut at = |model: &mut Model, offset: f64| {
            model.parameters_mut()[p].tensor.host_mut::<f64>().unwrap()[i] += offset;
            loss(model, &mut ignored)
        };
        let difference = at(&mut model, 1e-5) - at(&mut model, -2e-5);
        at(&mut model, 1e-5);
        let (difference, gradient) = (difference / 2e-5, gradients.tensors()[p].host::<f64>().unwrap()[i]);
        let error = (gradient - difference).abs();
        assert!(error <= 1e-7 + 1e-4 * difference.abs(), "{}: {gradient} {difference}", model.parameters()[p].name);
    }
    let mut plain_activations = Activations::new(&model, batch, length).unwrap();
    let without = model.loss(&mut plain_activations, (&tokens, &targets), None, &never).unwrap();
    assert!((with - without).abs() > 1e-6, "dropout changed nothing");
}

#[test]
fn accumulated_gradients_add_and_scale() {
    let options = small(true, false, true);
    let (tokens, targets) = text(&options, 2, 6);
    let model = Model::new(context(Backend::Scalar), options, 1).unwrap();
    let mut activations = Activations::training(&model, 2, 6, GradientProducts::F32).unwrap();
    let mut once = Gradients::new(&model).unwrap();
    model.backward(&mut activations, (&tokens, &targets), 1.0, None, &mut once, &never).unwrap();
    let mut twice = Gradients::new(&model).unwrap();
    for _ in 0..2 {
        model.backward(&mut activations, (&tokens, &targets), 0.5, None, &mut twice, &never).unwrap();
    }
    for (a, b) in once.tensors().iter().zip(twice.tensors()) {
        for (a, b) in a.host::<f32>().unwrap().iter().zip(b.host::<f32>().unwrap()) {
            assert!((a - b).abs() <= 1e-6 + 1e-4 * a.abs(), "{a} {b}");
        }
    }
}

#[test]
fn every_backend_computes_the_same_model() {
    let cases = [(false, GradientProducts::F32), (true, GradientProducts::F32), (true, GradientProducts::INT8)];
    for (quantize, products) in cases {
        let options = ModelOptions { width: 64, hidden: 96, vocabulary: 65, ..small(quantize, true, true) };
        let (tokens, targets) = text(&options, 3, 7);
        let results: Vec<(f64, Vec<f32>)> = [Backend::Scalar, Backend::Simd, Backend::Parallel]
            .into_iter()
            .map(|backend| {
                let model = Model::new(context(backend), options.clone(), 11).unwrap();
                let mut activations = Activations::training(&model, 3, 7, products).unwrap();
                let mut gradients = Gradients::new(&model).unwrap();
                let loss =
                    model.backward(&mut activations, (&tokens, &targets), 1.0, None, &mut gradients, &never).unwrap();
                let all = gradients.tensors().iter().flat_map(|t| t.host::<f32>().unwrap().to_vec()).collect();
                (loss, all)
            })
            .collect();
        assert!((results[0].0 - results[1].0).abs() < 1e-4, "{} {}", results[0].0, results[1].0);
        assert_eq!(results[1].0.to_bits(), results[2].0.to_bits());
        assert!(results[1].1.iter().zip(&results[2].1).all(|(a, b)| a.to_bits() == b.to_bits()));
        if !quantize {
            let largest = results[0].1.iter().fold(0.0, |a: f32, g| a.max(g.abs()));
            for (a, b) in results[0].1.iter().zip(&results[1].1) {
                assert!((a - b).abs() <= 1e-4 * largest, "{a} {b}");
            }
        }
    }
}

/// Of one draw the integer gradients are near the float ones, and the mean of many is nearer: only the rounding of what goes to
/// inputs has no mean.
#[test]
fn integer_gradients_are_those_of_floats_on_average() {
    const DRAWS: u32 = 64;
    let options = ModelOptions { width: 64, hidden: 96, vocabulary: 65, ..small(true, true, false) };
    let (tokens, targets) = text(&options, 40, 7);
    let model = Model::new(context(Backend::Simd), options, 11).unwrap();
    let gradients = |products: GradientProducts, draw: Option<Draw>, gradients: &mut Gradients| {
        let mut activations = Activations::training(&model, 40, 7, products).unwrap();
        model.backward(&mut activations, (&tokens, &targets), 1.0, draw, gradients, &never).unwrap();
    };
    let [mut floats, mut once, mut again, mut sum] = [(); 4].map(|()| Gradients::new(&model).unwrap());
    gradients(GradientProducts::F32, None, &mut floats);
    let draw = |step: u32| Some(Draw { seed: 5, step, micro_batch: 0 });
    gradients(GradientProducts::INT8, draw(1), &mut once);
    gradients(GradientProducts::INT8, draw(1), &mut again);
    for step in 0..DRAWS {
        gradients(GradientProducts::INT8, draw(step), &mut sum);
    }
    for (p, parameter) in model.parameters().iter().enumerate() {
        let [floats, once, again, sum] =
            [&floats, &once, &again, &sum].map(|all| all.tensors()[p].host::<f32>().unwrap());
        assert_eq!(once, again, "{}: the same draw gives the same bits", parameter.name);
        let norm = floats.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let distance = |other: &[f32], count: f64| {
            let squares = floats.iter().zip(other).map(|(a, b)| (f64::from(*a) - f64::from(*b) / count).powi(2));
            squares.sum::<f64>().sqrt() / norm
        };
        let (one, mean) = (distance(once, 1.0), distance(sum, f64::from(DRAWS)));
        assert!(one < 0.1, "{}: {one} of one draw", parameter.name);
        assert!(mean < 0.02, "{}: {mean} of the mean", parameter.name);
    }
}

/// Keeping less and computing it anew changes no bit, dropout included, and takes less memory.
#[test]
fn activation_checkpointing_gives_the_same_bits() {
    for (quantize, gated, dropout) in [(true, true, 0.0), (true, false, 0.3), (false, true, 0.3), (false, false, 0.0)] {
        let options = ModelOptions { layers: 3, dropout, ..small(quantize, gated, true) };
        let (tokens, targets) = text(&options, 3, 7);
        let model = Model::new(context(Backend::Simd), options, 11).unwrap();
        let (layers, draw) = (model.options().layers, Some(Draw { seed: 5, step: 2, micro_batch: 0 }));
        let run = |mut activations: Activations| {
            let mut gradients = Gradients::new(&model).unwrap();
            let loss =
                model.backward(&mut activations, (&tokens, &targets), 1.0, draw, &mut gradients, &never).unwrap();
            let all = gradients.tensors().iter().flat_map(|t| t.host::<f32>().unwrap().to_vec()).map(f32::to_bits);
            (activations.layers.len(), loss.to_bits(), all.collect::<Vec<u32>>())
        };
        let all = run(Activations::training(&model, 3, 7, GradientProducts::INT8).unwrap());
        let less = run(Activations::checkpointing(&model, 3, 7, GradientProducts::INT8).unwrap());
        assert_eq!((all.0, less.0), (layers, 1));
        assert_eq!(all.1, less.1, "the loss, {quantize} {gated} {dropout}");
        assert!(all.2 == less.2, "the gradients, {quantize} {gated} {dropout}");
    }
}

#[test]
fn initial_values_have_the_stated_deviations() {
    let options = ModelOptions { width: 256, hidden: 1024, layers: 2, ..Default::default() };
    let model = Model::new(context(Backend::Simd), options, 1).unwrap();
    for parameter in model.parameters() {
        let x = parameter.tensor.host::<f32>().unwrap();
        let deviation = (x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / x.len() as f64).sqrt();
        let expected = match parameter.name.as_str() {
            name if name.contains("norm") => 1.0,
            name if name.contains("embed") => 0.02,
            name if name.contains("o_proj") => 1.0 / 16.0 / 2.0,
            name if name.contains("down_proj") => 1.0 / 32.0 / 2.0,
            _ => 1.0 / 16.0,
        };
        assert!((deviation / expected - 1.0).abs() < 0.02, "{}: {deviation}, expected {expected}", parameter.name);
    }
}

#[test]
fn wrong_geometry_is_refused_with_both_values() {
    let refused = |change: fn(&mut ModelOptions), message: &str| {
        let mut options = ModelOptions::default();
        change(&mut options);
        let error = options.validate().unwrap_err();
        assert_eq!(error.message, message);
    };
    refused(|o| o.heads = 3, "model: width 128 is not a multiple of heads 3");
    refused(|o| o.kv_heads = 3, "model: heads 4 is not a multiple of kv_heads 3");
    refused(|o| o.layers = 0, "model: layers is 0");
    refused(|o| o.dropout = 1.0, "model: dropout is 1, expected at least 0 and below 1");
    refused(|o| o.weight_threshold = 1.0, "model: weight_threshold is 1, expected 0 to less than 1");
    refused(|o| o.weight_threshold = -0.1, "model: weight_threshold is -0.1, expected 0 to less than 1");
    refused(|o| o.weight_threshold = f64::NAN, "model: weight_threshold is NaN, expected 0 to less than 1");
    let model = Model::new(context(Backend::Scalar), small(true, false, true), 1).unwrap();
    let error = Activations::new(&model, 1, 8).err().unwrap();
    assert_eq!(error.message, "model: 8 tokens, but the context length is 7");
}
