//! Gradients that are given up layer by layer.

use super::*;
use crate::step::{Method, Precision};
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
    let cases = [
        (&wide, plain.clone()),
        (&f32, TrainOptions { quantize_weights: false, ..plain.clone() }),
        (&tied, TrainOptions { precision: Precision::Compact, activation_checkpointing: true, ..plain.clone() }),
        (&tied, TrainOptions { method: Method::Muon, precision: Precision::Compact, ..plain.clone() }),
        (&one, TrainOptions { method: Method::Muon, flip_budget: 0.01, ..plain.clone() }),
        (&wide, TrainOptions { quantize_gradients: GradientQuantization::None, n_clusters: 3, ..plain.clone() }),
        (&wide, TrainOptions { precision: Precision::Int8, radius_mode: crate::step::RadiusMode::Exact, ..plain }),
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
    let (context, scratch) = (context(Backend::Simd, 1), Scratch::new());
    let options = TrainOptions {
        checkpoint_dir: Some(scratch.path()),
        quantize_gradients: GradientQuantization::None,
        checkpoint_interval: 5,
        keep_checkpoints: 0,
        log_interval: 2,
        ..released(&unclipped())
    };
    let mut torn = trainer(&context, options.clone());
    torn.inject(8, Fault::Gradients(f32::NAN));
    let error = torn.run(&mut |_| true, &|| false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::State);
    assert!(error.message.contains("the gradient of model.layers.0."), "{error}");
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
    assert!(ended == final_state(std::slice::from_ref(&context), &geometry(), &options_of(&options)));
}

fn options_of(options: &TrainOptions) -> TrainOptions {
    TrainOptions { checkpoint_dir: None, ..options.clone() }
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
    gain(before);
    let same = {
        let mut other = super::trainer(&context, released(&unclipped()));
        steps(&mut other, 3);
        other.step(&|| false).unwrap().loss
    };
    assert_eq!(trainer.step(&|| false).unwrap().loss, same);
}
