//! `use_adaptive_lr` and `quantize_gradients`, seen from outside: what they change, and what they leave alone.

use super::*;
use crate::step::Method;
use crate::train::Metrics;

/// The learning rate whose relative step is 8e-3, the middle of the band, for the tiny model of these tests.
fn middle(context: &Arc<Context>) -> f64 {
    // Every linear layer by itself, in f64: rms(w), weighted by size on the logarithm.
    let model = model(context, geometry());
    let model = model.read();
    let (mut logarithms, mut count) = (0.0, 0.0);
    for parameter in model.parameters().iter().filter(|p| p.name.contains("_proj")) {
        let w = parameter.tensor.host::<f32>().unwrap();
        let mean = w.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / w.len() as f64;
        logarithms += w.len() as f64 * mean.sqrt().ln();
        count += w.len() as f64;
    }
    8e-3 * (logarithms / count).exp() / (0.1f64 / 1.9).sqrt()
}

/// A run's metrics and the bytes of its model.
fn outcome(context: &Arc<Context>, options: TrainOptions) -> (Vec<Metrics>, Vec<u8>) {
    let scratch = Scratch::new();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options };
    let last = options.max_steps;
    let mut seen = Vec::new();
    let mut trainer = trainer(context, options);
    let mut watch = |metrics: &Metrics| {
        seen.push(metrics.clone());
        true
    };
    trainer.run(&mut watch, &|| false).unwrap();
    let [model, _] = state(&scratch.path().join(checkpoint::folder_name(last)));
    (seen, model)
}

#[test]
fn inside_the_band_a_run_is_that_of_the_plain_schedule() {
    for (backend, threads) in [(Backend::Scalar, 1), (Backend::Simd, 1), (Backend::Parallel, 2)] {
        let context = context(backend, threads);
        for learning_rate in [0.6 * middle(&context), middle(&context), 1.7 * middle(&context)] {
            let options = TrainOptions { learning_rate, ..options() };
            let (metrics, adaptive) = outcome(&context, options.clone());
            let (plain_metrics, plain) = outcome(&context, TrainOptions { use_adaptive_lr: false, ..options });
            assert!(metrics.iter().chain(&plain_metrics).all(|m| m.learning_rate_factor == 1.0));
            assert!(adaptive == plain, "{backend:?} at {learning_rate}");
        }
    }
}

/// The middle of AdamW's band is one of r = 8e-3, of which its step has .2294 of the learning rate; Muon's band is that of r / .34.
#[test]
fn the_band_is_that_of_the_method() {
    let context = context(Backend::Simd, 1);
    let of_muon = middle(&context) * (0.1f64 / 1.9).sqrt() / 0.34;
    let factor = |method: Method, learning_rate: f64, muon_rms: f64| {
        let options = TrainOptions { method, learning_rate, muon_rms, max_steps: 1, ..options() };
        trainer(&context, options).step(&|| false).unwrap().learning_rate_factor
    };
    for (muon_rms, shift) in [(1.0, 1.0), (0.5, 2.0)] {
        for inside in [0.55, 1.0, 1.8] {
            assert_eq!(factor(Method::Muon, inside * shift * of_muon, muon_rms), 1.0);
        }
        assert!((factor(Method::Muon, shift * of_muon / 10.0, muon_rms) - 5.0).abs() < 1e-4);
        assert!((factor(Method::Muon, shift * of_muon * 10.0, muon_rms) - 15.0 / 80.0).abs() < 1e-5);
    }
    for rate in [1e-9, 1e-3, 10.0] {
        assert_eq!(factor(Method::Momentum, rate, 1.0), 1.0);
    }
}

#[test]
fn outside_the_band_a_run_is_that_of_its_edge() {
    let context = context(Backend::Simd, 1);
    let middle = middle(&context);
    for (asked, edge) in [(middle / 10.0, middle / 2.0), (middle * 10.0, middle * 15.0 / 8.0)] {
        let (metrics, _) = outcome(&context, TrainOptions { learning_rate: asked, ..options() });
        let plain = TrainOptions { learning_rate: edge, use_adaptive_lr: false, ..options() };
        let (plain, _) = outcome(&context, plain);
        for (a, b) in metrics.iter().zip(&plain) {
            assert!((a.learning_rate_factor - edge / asked).abs() < 1e-5 * edge / asked, "{}", a.learning_rate_factor);
            assert!((a.learning_rate - b.learning_rate).abs() < 1e-5 * b.learning_rate);
            assert!((a.loss - b.loss).abs() < 1e-2, "step {}: {} and {}", a.step, a.loss, b.loss);
        }
    }
}

/// Out of the band, with codes for gradients: every state that these two have must be in the checkpoint.
#[test]
fn ten_and_ten_steps_are_twenty_outside_the_band() {
    let context = context(Backend::Simd, 1);
    for learning_rate in [middle(&context) / 20.0, middle(&context) * 20.0] {
        let options = TrainOptions { learning_rate, ..options() };
        assert!(options.use_adaptive_lr && options.quantize_gradients == GradientQuantization::Int8);
        let whole = {
            let scratch = Scratch::new();
            let mut straight =
                trainer(&context, TrainOptions { checkpoint_dir: Some(scratch.path()), ..options.clone() });
            run(&mut straight);
            state(&scratch.path().join("step-00000020"))
        };
        let scratch = Scratch::new();
        let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options };
        let mut first = trainer(&context, options.clone());
        steps(&mut first, 10);
        first.save().unwrap();
        let mut second = trainer(&context, options);
        second.resume(&scratch.path(), false).unwrap();
        run(&mut second);
        assert_ne!(second.metrics().learning_rate_factor, 1.0);
        assert!(state(&scratch.path().join("step-00000020")) == whole);
    }
}

#[test]
fn a_checkpoint_without_the_rules_state_is_refused() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    let mut first = trainer(&context, TrainOptions { use_adaptive_lr: false, ..options.clone() });
    steps(&mut first, 5);
    let path = first.save().unwrap();
    let states = checkpoint::open(&path).unwrap().optimizer;
    let error = crate::train::state::read_adaptive(&states).unwrap_err();
    assert!(error.message.contains("adaptive"), "{error}");
}

/// The codes are part of the run's numbers: the same on every row that has the same gradients, other than floats, and new
/// at every step.
#[test]
fn gradients_pass_through_codes() {
    let serial = context(Backend::Simd, 1);
    let (metrics, quantized) = outcome(&serial, options());
    let (plain_metrics, plain) =
        outcome(&serial, TrainOptions { quantize_gradients: GradientQuantization::None, ..options() });
    assert!(quantized != plain);
    // Rounding to one part in 127 of the largest of a block hardly shows in the norm, or in what is learned.
    let ratio = metrics[0].gradient_norm / plain_metrics[0].gradient_norm;
    assert!(ratio != 1.0 && (ratio - 1.0).abs() < 1e-2, "{ratio}");
    let (last, plain_last) = (metrics[19].validation_loss.unwrap(), plain_metrics[19].validation_loss.unwrap());
    assert!((last - plain_last).abs() < 0.1, "{last} and {plain_last}");
    let (_, threads) = outcome(&context(Backend::Parallel, 3), options());
    assert!(quantized == threads);
}

/// Trits and what they leave over: the same on every row, learning nearly what floats learn, and whole after a resume.
#[test]
fn gradients_pass_through_trits_whose_error_is_kept() {
    let ternary = TrainOptions { quantize_gradients: GradientQuantization::Ternary, ..options() };
    let serial = context(Backend::Simd, 1);
    let (metrics, quantized) = outcome(&serial, ternary.clone());
    let (_, threads) = outcome(&context(Backend::Parallel, 3), ternary.clone());
    assert!(quantized == threads);
    let plain_options = TrainOptions { quantize_gradients: GradientQuantization::None, ..options() };
    let (plain_metrics, plain) = outcome(&serial, plain_options);
    assert!(quantized != plain);
    let (last, plain_last) = (metrics[19].validation_loss.unwrap(), plain_metrics[19].validation_loss.unwrap());
    assert!((last - plain_last).abs() < 0.2, "{last} and {plain_last}");

    let scratch = Scratch::new();
    let with_folder = TrainOptions { checkpoint_dir: Some(scratch.path()), ..ternary };
    let mut first = trainer(&serial, with_folder.clone());
    steps(&mut first, 10);
    let path = first.save().unwrap();
    let states = std::fs::read(path.join(checkpoint::OPTIMIZER_FILE)).unwrap();
    let file = crate::format::safetensors::File::parse(states).unwrap();
    let owed = file.names().filter(|name| name.starts_with("error.")).count();
    let zero = |name: &str| file.tensor(name).unwrap().data.iter().all(|&byte| byte == 0);
    assert!(owed > 0 && !file.names().filter(|name| name.starts_with("error.")).all(zero));
    let mut second = trainer(&serial, with_folder);
    second.resume(&scratch.path(), false).unwrap();
    run(&mut second);
    let [model, _] = state(&scratch.path().join("step-00000020"));
    assert!(model == quantized);
}
