//! A guarded run: bad batches are skipped, a bad step is undone, and nothing of that shows in a run that was resumed. And the states
//! that go with it, in few bits.

use super::*;
use crate::format::safetensors::File;
use crate::model::file;
use crate::step::{Method, Precision, RadiusBase, RadiusMode};
use crate::tensor::{DType, ErrorKind};
use crate::train::Metrics;
use crate::train::step::Fault;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

fn guarded() -> TrainOptions {
    TrainOptions { guard: true, guard_interval: 4, max_steps: 120, batch_size: 12, ..options() }
}

/// A run with these faults: all that it told, and its validation loss.
fn told(options: &TrainOptions, faults: &[(u64, Fault)]) -> (Vec<Metrics>, f64) {
    let mut trainer = trainer(&context(Backend::Simd, 1), options.clone());
    faults.iter().for_each(|&(step, fault)| trainer.inject(step, fault));
    let mut all = Vec::new();
    let mut listen = |metrics: &Metrics| {
        all.push(metrics.clone());
        true
    };
    assert_eq!(trainer.run(&mut listen, &|| false).unwrap(), RunEnd::Finished);
    let loss = trainer.metrics().validation_loss.unwrap();
    (all, loss)
}

#[test]
fn a_bad_batch_is_skipped_and_the_run_goes_on() {
    let (clean, loss) = told(&guarded(), &[]);
    let last = clean.last().unwrap();
    assert_eq!((last.skipped_batches, last.undone_steps, last.radius_factor), (0, 0, 1.0));
    for fault in [Fault::Tokens, Fault::Gradients(f32::NAN), Fault::Gradients(1e4)] {
        let (metrics, found) = told(&guarded(), &[(100, fault)]);
        let (before, bad, after) = (&metrics[98], &metrics[99], &metrics[100]);
        assert_eq!((before.skipped_batches, bad.skipped_batches, after.skipped_batches), (0, 1, 1), "{fault:?}");
        assert!(bad.step_ratio.is_nan() && bad.flip_rate.is_nan() && after.step_ratio > 0.0 && after.flip_rate > 0.0);
        // The schedule counts the step.
        assert_eq!((bad.step, bad.learning_rate), (100, clean[99].learning_rate));
        assert_eq!(after.learning_rate, clean[100].learning_rate);
        let is_number = !matches!(fault, Fault::Gradients(factor) if factor.is_nan());
        assert_eq!(bad.gradient_norm.is_finite(), is_number);
        assert!((found / loss - 1.0).abs() < 0.1, "{found} after {fault:?}, {loss} without");
        assert_eq!(metrics.last().unwrap().undone_steps, 0);
    }
}

/// The tensors of a checkpoint, but for what is left of the radius and what the guard remembers.
fn tensors(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for bytes in state(checkpoint) {
        let file = File::parse(bytes).unwrap();
        for name in file.names().filter(|&name| name != "progress") {
            all.insert(name.to_string(), file.tensor(name).unwrap().data.to_vec());
        }
    }
    all
}

#[test]
fn a_step_that_is_too_long_is_undone_bit_for_bit() {
    let context = context(Backend::Simd, 1);
    for (method, precision, quantize_gradients) in [
        (Method::AdamW, Precision::F32, GradientQuantization::Int8),
        (Method::AdamW, Precision::Compact, GradientQuantization::Ternary),
        (Method::Muon, Precision::Int8, GradientQuantization::Ternary),
        (Method::Momentum, Precision::Compact, GradientQuantization::None),
    ] {
        let scratch = Scratch::new();
        let learning_rate = if method == Method::Momentum { 0.1 } else { 1e-2 };
        let options = TrainOptions {
            method,
            precision,
            quantize_gradients,
            learning_rate,
            use_adaptive_lr: false,
            checkpoint_dir: Some(scratch.path()),
            keep_checkpoints: 0,
            ..guarded()
        };
        let mut trainer = trainer(&context, options);
        trainer.inject(24, Fault::Rate(1e3));
        steps(&mut trainer, 23);
        let before = tensors(&trainer.save().unwrap());
        let factor = trainer.metrics().radius_factor;
        let undone = trainer.step(&|| false).unwrap();
        assert_eq!((undone.step, undone.undone_steps), (24, 1), "{method:?}, {precision:?}");
        assert_eq!(undone.radius_factor, 0.25 * factor);
        assert!(undone.step_ratio > 1.0, "what was undone is told");
        assert!(tensors(&trainer.save().unwrap()) == before, "{method:?}, {precision:?}");
        let next = trainer.step(&|| false).unwrap();
        assert_eq!((next.undone_steps, next.radius_factor), (1, 0.25 * factor * 1.05));
        assert!(tensors(&trainer.save().unwrap()) != before);
    }
}

/// The final state of a run with faults; with `stops`, resumed by a new trainer after each of them.
fn final_state(options: &TrainOptions, faults: &[(u64, Fault)], stops: &[usize]) -> [Vec<u8>; 2] {
    let scratch = Scratch::new();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options.clone() };
    let (context, mut done) = (context(Backend::Simd, 1), 0);
    for &stop in stops.iter().chain([&(options.max_steps as usize)]) {
        let mut trainer = trainer(&context, options.clone());
        faults.iter().for_each(|&(step, fault)| trainer.inject(step, fault));
        if done > 0 {
            trainer.resume(&scratch.path(), false).unwrap();
        }
        steps(&mut trainer, stop - done);
        trainer.save().unwrap();
        done = stop;
    }
    state(&scratch.path().join(checkpoint::folder_name(options.max_steps)))
}

#[test]
fn a_run_resumed_in_the_midst_of_it_is_the_one_that_never_stopped() {
    let base = TrainOptions { max_steps: 36, accumulation: 2, flip_budget: 0.02, n_clusters: 4, ..guarded() };
    let off = TrainOptions { use_adaptive_lr: false, ..base.clone() };
    let exact = TrainOptions {
        radius_mode: RadiusMode::Exact,
        radius_base: RadiusBase::Initial,
        radius: Some(0.03),
        vector_radius: Some(0.01),
        ..base.clone()
    };
    let cases = [
        TrainOptions { precision: Precision::Int8, ..off.clone() },
        TrainOptions { method: Method::Muon, precision: Precision::Compact, ..exact.clone() },
        TrainOptions { precision: Precision::Compact, quantize_gradients: GradientQuantization::Ternary, ..exact },
        TrainOptions { method: Method::Momentum, precision: Precision::Int8, learning_rate: 0.1, ..off },
    ];
    let faults = [(12, Fault::Rate(1e3)), (17, Fault::Gradients(f32::NAN)), (30, Fault::Gradients(f32::NAN))];
    for options in cases {
        let whole = final_state(&options, &faults, &[]);
        for stops in [&[10][..], &[13], &[16, 17, 29]] {
            let resumed = final_state(&options, &faults, stops);
            assert!(resumed == whole, "{stops:?}: {:?}, {:?}", options.method, options.precision);
        }
        assert!(final_state(&options, &[], &[]) != whole);
    }
}

/// Given up at any question, the check of a step among them, the run goes on as if it had not been.
#[test]
fn a_check_that_is_given_up_is_as_if_it_had_not_begun() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    // The final state of a run that is given up at its `at`-th question, and how many questions there were.
    let run_with = |at: usize| {
        let path = scratch.path().join(at.to_string());
        let options = TrainOptions {
            max_steps: 3,
            guard_interval: 1,
            precision: Precision::Compact,
            quantize_gradients: GradientQuantization::Ternary,
            checkpoint_dir: Some(path.clone()),
            ..guarded()
        };
        let mut trainer = trainer(&context, options);
        // A step that its check undoes.
        trainer.inject(2, Fault::Rate(1e4));
        let (asked, mut given_up) = (AtomicUsize::new(0), false);
        let give_up = || asked.fetch_add(1, Ordering::Relaxed) + 1 == at;
        while let Err(error) = trainer.run(&mut |_| true, &give_up) {
            assert!(error.kind == ErrorKind::Cancelled && !given_up, "{error}");
            given_up = true;
        }
        assert_eq!(trainer.metrics().undone_steps, 1);
        (state(&path.join("step-00000003")), asked.into_inner())
    };
    let (whole, questions) = run_with(usize::MAX);
    for at in (1..questions).step_by(5) {
        assert!(run_with(at).0 == whole, "given up at question {at} of {questions}");
    }
}

#[test]
fn a_run_that_only_skips_ends() {
    let context = context(Backend::Simd, 1);
    let model = model(&context, geometry());
    let mut trainer = Trainer::new(model.clone(), dataset(), None, guarded()).unwrap();
    (3..=60).for_each(|step| trainer.inject(step, Fault::Gradients(f32::INFINITY)));
    for _ in 0..2 {
        let error = trainer.run(&mut |_| true, &|| false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::State);
        assert!(error.message.starts_with("the guard acted in 33 of the last 64 steps"), "{error}");
        assert_eq!((trainer.metrics().step, trainer.metrics().skipped_batches), (34, 32));
    }
}

#[test]
fn without_a_guard_a_gradient_that_is_no_number_is_refused() {
    let context = context(Backend::Simd, 1);
    for quantize_gradients in [GradientQuantization::None, GradientQuantization::Int8, GradientQuantization::Ternary] {
        let model = model(&context, geometry());
        let options = TrainOptions { guard: false, quantize_gradients, ..guarded() };
        let mut trainer = Trainer::new(model.clone(), dataset(), None, options).unwrap();
        steps(&mut trainer, 2);
        trainer.inject(3, Fault::Gradients(f32::NAN));
        let bits = || -> Vec<Vec<u8>> {
            model.read().parameters().iter().map(|p| p.tensor.read_bytes().unwrap().to_vec()).collect()
        };
        let before = bits();
        let error = trainer.step(&|| false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::State);
        assert!(error.message.starts_with("step 3: element 0 of the gradient of model.embed"), "{error}");
        assert!(bits() == before && trainer.metrics().step == 2);
    }
}

#[test]
fn compact_training_keeps_codes_and_writes_floats() {
    let (scratch, context) = (Scratch::new(), context(Backend::Simd, 1));
    let model = model(&context, geometry());
    let compact = TrainOptions { precision: Precision::Compact, max_steps: 200, ..options() };
    let mut trainer = Trainer::new(model.clone(), dataset(), None, compact.clone()).unwrap();
    let first = trainer.step(&|| false).unwrap().loss;
    run(&mut trainer);
    let loss = trainer.metrics().validation_loss.unwrap();
    assert!(loss < 0.8 * first, "it learned: {loss} after {first}");
    let path = scratch.path().join("whole.safetensors");
    {
        let guard = model.read();
        for parameter in guard.parameters() {
            let ternary = parameter.kind == crate::model::ParameterKind::Ternary;
            assert_eq!(parameter.tensor.dtype() == DType::I8, ternary, "{}", parameter.name);
        }
        file::save(&guard, &path, file::Storage::new(file::Packing::Full, file::Rest::F32), None, &BTreeMap::new())
            .unwrap();
    }
    let loaded = Arc::new(RwLock::new(file::load(context.clone(), &path).unwrap()));
    {
        let (here, there) = (model.read(), loaded.read());
        for (parameter, loaded) in here.parameters().iter().zip(there.parameters()) {
            assert_eq!((loaded.tensor.dtype(), loaded.scales.count()), (DType::F32, 0));
            assert_eq!(parameter.floats().unwrap(), loaded.floats().unwrap(), "{}", parameter.name);
        }
    }
    let evaluated = |model: &Arc<RwLock<Model>>, precision| {
        let options = TrainOptions { precision, ..options() };
        Trainer::new(model.clone(), dataset(), None, options).unwrap().evaluate(&|| false).unwrap()
    };
    // The same trits of the same numbers; it trains on in floats, or in codes again.
    assert_eq!(evaluated(&loaded, Precision::F32), loss);
    for precision in [Precision::F32, Precision::Compact] {
        let options = TrainOptions { precision, learning_rate: 1e-3, ..options() };
        let mut trainer = Trainer::new(loaded.clone(), dataset(), None, options).unwrap();
        run(&mut trainer);
        assert!(trainer.metrics().validation_loss.unwrap() < 1.2 * loss);
    }
}

/// What was not measured is null, in metrics.jsonl and in a checkpoint that owes its report.
#[test]
fn a_report_has_what_the_step_did() {
    let scratch = Scratch::new();
    let options = TrainOptions { log_interval: 1, max_steps: 6, checkpoint_dir: Some(scratch.path()), ..guarded() };
    let mut trainer = trainer(&context(Backend::Simd, 1), options);
    trainer.inject(5, Fault::Gradients(f32::NAN));
    run(&mut trainer);
    let text = std::fs::read_to_string(scratch.path().join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let number = |at: usize, name: &str| lines[at][name].as_f64();
    for at in [0, 3, 5] {
        assert!(number(at, "flip_rate").unwrap() > 0.0 && number(at, "step_ratio").unwrap() > 0.0);
    }
    for name in ["flip_rate", "step_ratio", "gradient_norm"] {
        assert!(lines[4][name].is_null(), "{name}: {}", lines[4]);
    }
    for (at, skipped) in [(3, 0), (4, 1), (5, 1)] {
        assert_eq!((&lines[at]["skipped_batches"], &lines[at]["undone_steps"]), (&skipped.into(), &0.into()));
        assert_eq!(number(at, "radius_factor"), Some(1.0));
    }
}

#[test]
fn a_report_with_nothing_to_say_of_trits_can_be_owed() {
    let (scratch, context) = (Scratch::new(), context(Backend::Simd, 1));
    let options = TrainOptions {
        quantize_weights: false,
        max_steps: 4,
        evaluation_interval: 2,
        checkpoint_dir: Some(scratch.path()),
        ..options()
    };
    let geometry = ModelOptions { quantize_weights: false, ..geometry() };
    for every in 1..400 {
        let folder = scratch.path().join(every.to_string());
        let options = TrainOptions { checkpoint_dir: Some(folder.clone()), ..options.clone() };
        let mut trainer = trainer_of(&context, geometry.clone(), options.clone());
        let asked = AtomicUsize::new(0);
        let give_up = || asked.fetch_add(1, Ordering::Relaxed) + 1 == every;
        let ended = trainer.run(&mut |_| true, &give_up);
        if ended.is_err() && trainer.metrics().step == 2 && folder.join("step-00000002").exists() {
            let record = std::fs::read_to_string(folder.join("step-00000002").join("trainer.json")).unwrap();
            if record.contains("\"owed\"") {
                assert!(record.contains("\"flip_rate\": null"), "{record}");
                let mut resumed = trainer_of(&context, geometry, options);
                resumed.resume(&folder, false).unwrap();
                assert!(resumed.metrics().flip_rate.is_nan() && resumed.metrics().loss.is_finite());
                return run(&mut resumed);
            }
        }
    }
    panic!("no run was given up in its evaluation");
}
