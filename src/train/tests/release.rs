//! Gradients that are given up layer by layer.

use super::*;
use crate::model::Teacher;
use crate::step::{Method, Precision, RadiusBase, RadiusMode};
use crate::tensor::ErrorKind;
use crate::train::step::Fault;

fn released(options: &TrainOptions) -> TrainOptions {
    TrainOptions { gradient_release: true, ..options.clone() }
}

fn unclipped() -> TrainOptions {
    TrainOptions { clip: 0.0, ..options() }
}

#[test]
fn the_numbers_are_those_of_a_run_that_keeps_all_gradients() {
    let context = context(Backend::Simd, 1);
    let wide = ModelOptions { width: 64, hidden: 96, layers: 3, ..geometry() };
    let f32 = ModelOptions { quantize_weights: false, ..wide.clone() };
    let tied = ModelOptions { tied_embedding: true, ffn_gated: true, dropout: 0.1, ..wide.clone() };
    let one = ModelOptions { layers: 1, ffn_gated: false, tied_embedding: false, ..wide.clone() };
    let plain = unclipped();
    let taught = Teacher::new(model(&context, f32.clone()), 0.5).unwrap();
    let cases = [
        (&wide, plain.clone()),
        (&f32, TrainOptions { quantize_weights: false, ..plain.clone() }),
        (&tied, TrainOptions { precision: Precision::Compact, activation_checkpointing: true, ..plain.clone() }),
        (&tied, TrainOptions { method: Method::Muon, precision: Precision::Compact, ..plain.clone() }),
        (&one, TrainOptions { method: Method::Muon, flip_budget: 0.01, ..plain.clone() }),
        (&wide, TrainOptions { quantize_gradients: GradientQuantization::None, n_clusters: 3, ..plain.clone() }),
        (&wide, TrainOptions { precision: Precision::Int8, radius_mode: RadiusMode::Exact, ..plain.clone() }),
        (&wide, TrainOptions { flip_budget: 0.01, precision: Precision::Compact, ..plain.clone() }),
        (&tied, TrainOptions { method: Method::Momentum, radius_base: RadiusBase::Initial, ..plain.clone() }),
        (&wide, TrainOptions { radius_mode: RadiusMode::Cap, radius: Some(1e-3), teacher: Some(taught), ..plain }),
    ];
    for (i, (geometry, options)) in cases.into_iter().enumerate() {
        let run = |options: &TrainOptions, parts| final_state(&vec![context.clone(); parts], geometry, options);
        let kept = run(&options, 1);
        assert!(kept == run(&released(&options), 1), "case {i}");
        assert!(kept == run(&released(&options), 2), "case {i}, resumed");
    }
}

#[test]
fn the_reports_are_the_same() {
    let context = context(Backend::Simd, 1);
    let run = |options: &TrainOptions| -> Vec<[f64; 6]> {
        let mut trainer = trainer(&context, options.clone());
        let mut step = || {
            let m = trainer.step(&|| false).unwrap();
            [m.loss, m.learning_rate, m.learning_rate_factor, m.step_ratio, m.flip_rate, m.gradient_norm]
        };
        (0..20).map(|_| step()).collect()
    };
    for (kept, released) in run(&unclipped()).iter().zip(run(&released(&unclipped()))) {
        assert_eq!(kept[..5], released[..5]);
        // Squares summed in another order.
        assert!((kept[5] / released[5] - 1.0).abs() < 1e-12, "{kept:?} {released:?}");
    }
}

#[test]
fn what_needs_all_gradients_is_refused() {
    let net = crate::step::LrNet::new(crate::step::LrNetOptions::default()).unwrap();
    let cases = [
        ("clip is 1,", TrainOptions { clip: 1.0, ..unclipped() }),
        ("accumulation is 2,", TrainOptions { accumulation: 2, ..unclipped() }),
        ("guard is on,", TrainOptions { guard: true, ..unclipped() }),
        ("there is an lr_net,", TrainOptions { lr_net: Some(net), ..unclipped() }),
        (
            "quantize_gradients is ternary,",
            TrainOptions { quantize_gradients: GradientQuantization::Ternary, ..unclipped() },
        ),
    ];
    for (expected, options) in cases {
        options.validate().unwrap();
        let error = released(&options).validate().expect_err(expected);
        assert_eq!(error.kind, ErrorKind::Argument, "{error}");
        assert!(error.message.starts_with(expected), "'{error}' does not start with '{expected}'");
    }
}

/// A gradient that is no number is found when layers above it have stepped: nothing goes on from there but a checkpoint.
#[test]
fn a_torn_step_leads_back_to_a_checkpoint() {
    for quantize_gradients in [GradientQuantization::None, GradientQuantization::Int8] {
        torn_step(quantize_gradients);
    }
}

fn torn_step(quantize_gradients: GradientQuantization) {
    let (context, scratch) = (context(Backend::Simd, 1), Scratch::new());
    let options = TrainOptions {
        checkpoint_dir: Some(scratch.path()),
        quantize_gradients,
        checkpoint_interval: 5,
        keep_checkpoints: 0,
        log_interval: 2,
        ..released(&unclipped())
    };
    let mut torn = trainer(&context, options.clone());
    torn.inject(8, Fault::Gradients(f32::NAN));
    let error = torn.run(&mut |_| true, &|| false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::State);
    assert_eq!(
        error.message,
        "step 8: element 0 of the gradient of model.layers.0.self_attn.attn_sub_norm.weight is not finite; the layers above it have \
         stepped: go on from a checkpoint"
    );
    let kept = ["metrics.jsonl", "step-00000005"];
    assert_eq!(names(&scratch.path()), kept);
    let tells = |error: crate::tensor::Error| {
        assert_eq!(error.kind, ErrorKind::State);
        assert!(error.message.contains("step 8 failed when some layers had taken it"), "{error}");
    };
    tells(torn.step(&|| false).unwrap_err());
    tells(torn.evaluate(&|| false).unwrap_err());
    tells(torn.save().unwrap_err());
    assert_eq!(names(&scratch.path()), kept);
    // The fault is that of a batch read wrongly: it does not come again.
    torn.mend_faults();
    torn.resume(&scratch.path(), false).unwrap();
    assert_eq!(torn.run(&mut |_| true, &|| false).unwrap(), RunEnd::Finished);
    let ended = state(&scratch.path().join("step-00000020"));
    let whole = TrainOptions { checkpoint_dir: None, ..options };
    assert!(ended == final_state(std::slice::from_ref(&context), &geometry(), &whole));
}

/// What is known before the first layer steps leaves nothing behind.
#[test]
fn a_step_that_fails_before_its_first_update_may_come_again() {
    let context = context(Backend::Simd, 1);
    let model = model(&context, geometry());
    let mut trainer = Trainer::new(model.clone(), dataset(), None, released(&unclipped())).unwrap();
    steps(&mut trainer, 3);
    assert_eq!(trainer.step(&|| true).unwrap_err().kind, ErrorKind::Cancelled);
    let gain = |value: f32| {
        let mut model = model.write();
        let index = model.parameters().iter().position(|p| p.name == "model.norm.weight").unwrap();
        let mut gains = model.parameters()[index].floats().unwrap().into_owned();
        let before = gains[0];
        gains[0] = value;
        model.write_parameter(index, &gains).unwrap();
        before
    };
    let before = gain(f32::NAN);
    let error = trainer.step(&|| false).unwrap_err();
    assert!(error.message.contains("the loss of micro-batch 0 is NaN; nothing was updated"), "{error}");
    // Where the head and the last norm are refused, as no norm of that is a float, nobody has stepped yet.
    gain(3e38);
    let error = trainer.step(&|| false).unwrap_err();
    assert!(error.message.ends_with("nothing was updated"), "{error}");
    gain(before);
    let scratch = Scratch::new();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..released(&unclipped()) };
    let mut same = super::trainer(&context, options);
    for _ in 3..20 {
        trainer.step(&|| false).unwrap();
    }
    steps(&mut same, 20);
    same.save().unwrap();
    let parameters = |path: &Path| crate::format::safetensors::File::parse(std::fs::read(path).unwrap()).unwrap();
    let saved = parameters(&scratch.path().join("step-00000020").join(checkpoint::MODEL_FILE));
    for parameter in model.read().parameters() {
        let bytes = bytemuck::cast_slice::<f32, u8>(parameter.tensor.host().unwrap()).to_vec();
        assert!(saved.tensor(&parameter.name).unwrap().data == bytes, "{}", parameter.name);
    }
}

/// A batch of several slices is summed in another order.
#[test]
fn a_run_keeps_to_it() {
    let (context, scratch) = (context(Backend::Simd, 1), Scratch::new());
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..unclipped() };
    let mut kept = trainer(&context, options.clone());
    steps(&mut kept, 3);
    kept.save().unwrap();
    let error = trainer(&context, released(&options)).resume(&scratch.path(), false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Argument);
    assert!(error.message.contains("gradient_release"), "{error}");
}

/// However many tokens a batch has.
#[test]
fn a_batch_is_one_slice() {
    let context = context(Backend::Parallel, 2);
    let long = ModelOptions { context_length: 100, ..geometry() };
    let losses = |options: &TrainOptions| -> Vec<f64> {
        let options =
            TrainOptions { batch_size: 60, quantize_gradients: GradientQuantization::None, ..options.clone() };
        let mut trainer = trainer_of(&context, long.clone(), options);
        (0..5).map(|_| trainer.step(&|| false).unwrap().loss).collect()
    };
    let (kept, released) = (losses(&unclipped()), losses(&released(&unclipped())));
    assert!(
        kept[0] != kept[4] && kept.iter().zip(&released).all(|(x, y)| (x - y).abs() < 1e-3),
        "{kept:?} {released:?}"
    );
}
