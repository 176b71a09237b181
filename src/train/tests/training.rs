//! The loop: what a run learns, how it ends, and what it refuses to do.

use super::*;
use crate::model::{Activations, GradientProducts, Gradients, Products, SLICE_TOKENS, file, slice};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{ErrorKind, never};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize};

#[test]
fn the_loss_falls_on_a_learnable_text() {
    for (backend, quantize_weights) in [(Backend::Scalar, true), (Backend::Simd, true), (Backend::Simd, false)] {
        let options = TrainOptions { max_steps: 200, quantize_weights, ..options() };
        let geometry = ModelOptions { quantize_weights, ..geometry() };
        let mut trainer = trainer_of(&context(backend, 1), geometry, options);
        let before = trainer.evaluate(&|| false).unwrap();
        // A fresh model knows nothing: close to ln(23) = 3.14.
        assert!((before - (VOCABULARY as f64).ln()).abs() < 0.5, "{backend:?}: {before}");
        run(&mut trainer);
        let after = trainer.metrics().validation_loss.unwrap();
        assert!(after < 1.0, "{backend:?}, quantized {quantize_weights}: from {before} to {after}");
    }
}

#[test]
fn a_run_reports_every_step() {
    let context = context(Backend::Simd, 1);
    let mut trainer = trainer(&context, TrainOptions { evaluation_interval: 8, use_adaptive_lr: false, ..options() });
    assert!(trainer.metrics().loss.is_nan());
    let mut seen = Vec::new();
    let end = trainer.run(
        &mut |metrics| {
            seen.push(metrics.clone());
            true
        },
        &|| false,
    );
    assert_eq!(end.unwrap(), RunEnd::Finished);
    assert_eq!(seen.iter().map(|m| m.step).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    let evaluated: Vec<u64> = seen.iter().filter(|m| m.validation_loss.is_some()).map(|m| m.step).collect();
    assert_eq!(evaluated, [8, 16, 20]);
    for m in &seen {
        assert_eq!(m.total_steps, 20);
        // 4 windows of 8 tokens a step, of 800 training tokens.
        assert!((m.epoch - m.step as f64 * 32.0 / 800.0).abs() < 1e-12);
        assert!(m.loss > 0.0 && m.gradient_norm > 0.0 && m.tokens_per_second > 0.0 && m.elapsed_seconds > 0.0);
    }
    assert_eq!(seen[1].learning_rate, 1e-2 * 0.5);
    assert!((seen[19].learning_rate - 1e-3).abs() < 1e-12 && seen[19].remaining_seconds == 0.0);
    assert!(seen[0].remaining_seconds > 0.0);
    // All steps are done: a run has nothing to do, a step is refused.
    run(&mut trainer);
    let error = trainer.step(&|| false).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::State, "training is finished: all 20 steps are done"));
}

#[test]
fn the_callback_and_the_token_stop_a_run_and_the_rest_is_the_same() {
    let context = context(Backend::Simd, 1);
    let whole = Scratch::new();
    let mut straight = trainer(&context, TrainOptions { checkpoint_dir: Some(whole.path()), ..options() });
    run(&mut straight);

    let scratch = Scratch::new();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), accumulation: 1, ..options() };
    let mut trainer = trainer(&context, options);
    assert_eq!(trainer.run(&mut |metrics| metrics.step < 6, &|| false).unwrap(), RunEnd::Stopped);
    assert!(scratch.path().join("step-00000006").is_dir());
    // Raised after step 10, and heard inside of step 11, which is abandoned.
    let (raised, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut progress = |metrics: &crate::train::Metrics| {
        raised.store(metrics.step == 10, Ordering::Relaxed);
        true
    };
    let cancelled = || raised.load(Ordering::Relaxed) && asked.fetch_add(1, Ordering::Relaxed) == 20;
    let error = trainer.run(&mut progress, &cancelled).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled, "{error}");
    assert_eq!(trainer.metrics().step, 10);
    assert!(scratch.path().join("step-00000010").is_dir());
    run(&mut trainer);
    assert_eq!(state(&scratch.path().join("step-00000020")), state(&whole.path().join("step-00000020")));
}

/// 1025 windows of 8 tokens are three slices, the last one smaller; together they are the batch.
#[test]
fn a_batch_in_slices_is_the_batch() {
    let (batch, length) = (1025, geometry().context_length);
    let options = TrainOptions {
        batch_size: batch,
        clip: 0.0,
        use_adaptive_lr: false,
        quantize_gradients: GradientQuantization::None,
        input_gradient: Products::F32,
        weight_gradient: Products::F32,
        ..options()
    };
    assert_eq!(slice(options.batch_size, length, SLICE_TOKENS), 342);
    let (context, dataset) = (context(Backend::Simd, 1), dataset());
    let model = model(&context, geometry());
    let (mut tokens, mut targets) = (vec![0; batch * length], vec![0; batch * length]);
    let stream = Stream::new(options.seed, Purpose::Batch, 0, 0);
    dataset.batch(Split::Train, stream, batch, length, &mut tokens, &mut targets).unwrap();
    let (loss, norm) = {
        let model = model.read();
        let mut activations = Activations::training(&model, batch, length, GradientProducts::F32).unwrap();
        let mut gradients = Gradients::new(&model).unwrap();
        let text = (&tokens[..], &targets[..]);
        let loss = model.backward(&mut activations, text, 1.0, None, &mut gradients, &never).unwrap();
        let all = gradients.tensors().iter().flat_map(|tensor| tensor.host::<f32>().unwrap());
        (loss, all.map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt())
    };
    let mut trainer = Trainer::new(model, dataset, None, options).unwrap();
    let metrics = trainer.step(&|| false).unwrap();
    assert!((metrics.loss - loss).abs() < 1e-6, "{} and {loss}", metrics.loss);
    assert!((metrics.gradient_norm - norm).abs() < 1e-4 * norm, "{} and {norm}", metrics.gradient_norm);
}

#[test]
fn accumulation_equals_a_larger_batch_of_the_same_windows() {
    // Find a seed whose first step draws the same four of five possible windows either way.
    let length = geometry().context_length;
    let dataset = Arc::new(Dataset::from_tokens(tokens(length + 5), VOCABULARY, 0.0).unwrap());
    let windows = |seed: u64, micro_batches: u32, batch: usize| {
        let mut drawn = Vec::new();
        for micro in 0..micro_batches {
            let (mut tokens, mut targets) = (vec![0; batch * length], vec![0; batch * length]);
            let stream = Stream::new(seed, Purpose::Batch, 0, micro);
            dataset.batch(Split::Train, stream, batch, length, &mut tokens, &mut targets).unwrap();
            drawn.extend(tokens.chunks(length).map(<[u32]>::to_vec));
        }
        drawn.sort();
        drawn
    };
    let seed = (0..10_000)
        .find(|&seed| {
            let once = windows(seed, 1, 4);
            let mut distinct = once.clone();
            distinct.dedup();
            distinct.len() >= 3 && once == windows(seed, 2, 2)
        })
        .unwrap();
    // A large epsilon makes the update linear in the gradient; with a small one the first update is its sign.
    let options = TrainOptions {
        seed,
        epsilon: 1.0,
        learning_rate: 1.0,
        warmup_steps: 0,
        clip: 0.0,
        use_adaptive_lr: false,
        quantize_gradients: GradientQuantization::None,
        // In integers they are rounded at random, token by token of a micro-batch.
        weight_gradient: Products::F32,
        ..options()
    };
    let context = context(Backend::Scalar, 1);
    let one_step = |batch_size, accumulation| {
        let model = model(&context, geometry());
        let options = TrainOptions { batch_size, accumulation, ..options.clone() };
        let mut trainer = Trainer::new(model.clone(), dataset.clone(), None, options).unwrap();
        let metrics = trainer.step(&|| false).unwrap();
        let guard = model.read();
        let values: Vec<f32> =
            guard.parameters().iter().flat_map(|p| p.tensor.host::<f32>().unwrap().to_vec()).collect();
        (metrics, values)
    };
    let (whole, a) = one_step(4, 1);
    let (halves, b) = one_step(2, 2);
    assert!((whole.loss - halves.loss).abs() < 1e-6, "{} and {}", whole.loss, halves.loss);
    assert!((whole.gradient_norm - halves.gradient_norm).abs() < 1e-5 * whole.gradient_norm);
    let start = model(&context, geometry());
    let moved = start.read().parameters()[0].tensor.host::<f32>().unwrap()[0] - a[0];
    assert!(moved.abs() > 1e-5, "the step moved nothing");
    assert!(a.iter().zip(&b).all(|(x, y)| (x - y).abs() < 1e-6));
}

fn poison(model: &RwLock<Model>, name: &str, value: f32) {
    let mut model = model.write();
    let parameter = model.parameters_mut().iter_mut().find(|p| p.name == name).unwrap();
    parameter.tensor.host_mut::<f32>().unwrap().fill(value);
    model.refresh().unwrap();
}

fn bits(model: &RwLock<Model>) -> Vec<u32> {
    let model = model.read();
    model.parameters().iter().flat_map(|p| p.tensor.host::<f32>().unwrap().to_vec()).map(f32::to_bits).collect()
}

#[test]
fn a_loss_that_is_not_a_number_changes_nothing() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    let model = model(&context, geometry());
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    let mut trainer = Trainer::new(model.clone(), dataset(), None, options).unwrap();
    steps(&mut trainer, 3);
    let good = trainer.save().unwrap();
    let saved = state(&good);
    poison(&model, "model.norm.weight", f32::NAN);
    let before = bits(&model);
    for _ in 0..2 {
        let error = trainer.run(&mut |_| true, &|| false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::State);
        assert!(error.message.starts_with("step 4: the loss of micro-batch 0 is NaN"), "{error}");
    }
    assert!(before == bits(&model) && trainer.metrics().step == 3);
    let error = trainer.save().unwrap_err();
    assert_eq!(error.kind, ErrorKind::State);
    assert!(error.message.contains("element 0 of model.norm.weight is not finite"), "{error}");
    assert_eq!(state(&good), saved);
    // The good checkpoint brings the run back.
    trainer.resume(&good, false).unwrap();
    trainer.step(&|| false).unwrap();
}

#[test]
fn a_gradient_that_overflows_changes_nothing() {
    let context = context(Backend::Simd, 1);
    let model = model(&context, geometry());
    let mut trainer = Trainer::new(model.clone(), dataset(), None, options()).unwrap();
    steps(&mut trainer, 1);
    // The loss of logits of 1e25 is finite; the squares of the embedding's gradient are not.
    poison(&model, "model.norm.weight", 1e25);
    let before = bits(&model);
    let error = trainer.step(&|| false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::State);
    assert!(error.message.starts_with("step 2: ") && error.message.contains("gradient"), "{error}");
    assert!(before == bits(&model) && trainer.metrics().step == 1);
}

#[test]
fn a_run_that_fails_saves_the_state_before_the_step_that_failed() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    let model = model(&context, geometry());
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    let mut trainer = Trainer::new(model.clone(), dataset(), None, options).unwrap();
    // After step 3 the gains are finite, but the gradient that they lead to is not.
    let mut poisoned = |metrics: &crate::train::Metrics| {
        if metrics.step == 3 {
            poison(&model, "model.norm.weight", 1e25);
        }
        true
    };
    let error = trainer.run(&mut poisoned, &|| false).unwrap_err();
    assert!(error.kind == ErrorKind::State && error.message.starts_with("step 4: "), "{error}");
    assert!(scratch.path().join("step-00000003").is_dir());
}

#[test]
fn a_bad_value_that_no_loss_shows_is_never_saved() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    let geometry = ModelOptions { vocabulary: VOCABULARY + 1, tied_embedding: false, ..geometry() };
    let model = model(&context, geometry);
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), weight_decay: 0.0, ..options() };
    let mut trainer = Trainer::new(model.clone(), dataset(), None, options).unwrap();
    {
        // The embedding of the one token that the text does not hold.
        let mut guard = model.write();
        let table = guard.parameters_mut().iter_mut().find(|p| p.name == "model.embed_tokens.weight").unwrap();
        *table.tensor.host_mut::<f32>().unwrap().last_mut().unwrap() = f32::INFINITY;
        guard.refresh().unwrap();
    }
    for error in [trainer.step(&|| false).unwrap_err(), trainer.save().unwrap_err()] {
        assert_eq!(error.kind, ErrorKind::State);
        assert!(error.message.contains("model.embed_tokens.weight is not finite"), "{error}");
    }
    assert!(names(&scratch.path()).is_empty());
}

#[test]
fn a_trainer_must_fit_its_model_and_text() {
    let context = context(Backend::Simd, 1);
    let make = |geometry: ModelOptions, dataset: Arc<Dataset>, options: TrainOptions| {
        Trainer::new(model(&context, geometry), dataset, None, options).err().unwrap()
    };
    let error = make(geometry(), dataset(), TrainOptions { quantize_weights: false, ..options() });
    assert_eq!(error.kind, ErrorKind::Argument);
    assert_eq!(error.message, "quantize_weights is false for the trainer and true for the model");
    let error = make(ModelOptions { vocabulary: 22, ..geometry() }, dataset(), options());
    assert_eq!(error.message, "the dataset has a vocabulary of 23, the model of 22");
    let short = Arc::new(Dataset::from_tokens(tokens(8), VOCABULARY, 0.0).unwrap());
    let error = make(geometry(), short, options());
    assert!(error.message.contains('8') && error.message.contains('9'), "{error}");
    let error = make(geometry(), dataset(), TrainOptions { context_length: 9, ..options() });
    assert_eq!(error.message, "context_length is 9, the model has 8 positions");
    let scratch = Scratch::new();
    let path = scratch.path().join("packed.safetensors");
    let whole = model(&context, geometry());
    file::save(
        &whole.read(),
        &path,
        file::Storage::new(file::Packing::TwoBit, file::Rest::F32),
        None,
        &BTreeMap::new(),
    )
    .unwrap();
    let packed = Arc::new(RwLock::new(file::load(context.clone(), &path).unwrap()));
    let error = Trainer::new(packed, dataset(), None, options()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert_eq!(
        error.message,
        "the model was loaded from a packed file: it has no masters to train, setun_model_copy makes a model that has"
    );
    // Shorter sequences than the model's are fine.
    steps(&mut trainer(&context, TrainOptions { context_length: 5, ..options() }), 2);
}

#[test]
fn the_loss_of_each_cluster_is_reported() {
    let context = context(Backend::Simd, 1);
    let scratch = Scratch::new();
    let options = TrainOptions { n_clusters: 4, log_interval: 5, checkpoint_dir: Some(scratch.path()), ..options() };
    let mut trainer = trainer(&context, options);
    let sizes = trainer.cluster_sizes();
    assert!(sizes.len() > 1 && sizes.iter().sum::<usize>() == 99, "{sizes:?}");
    let mut losses = Vec::new();
    let mut keep = |metrics: &crate::train::Metrics| {
        losses.push((metrics.loss, metrics.cluster_loss.clone().unwrap()));
        true
    };
    trainer.run(&mut keep, &|| false).unwrap();
    for (step, (loss, by_cluster)) in losses.iter().enumerate() {
        assert_eq!(by_cluster.len(), sizes.len());
        // After the first step of a report, the step's loss is the mean over its four windows.
        if step % 5 == 0 {
            let known: Vec<f64> = by_cluster.iter().flatten().copied().collect();
            let (least, most) =
                (known.iter().copied().fold(f64::MAX, f64::min), known.iter().copied().fold(0.0, f64::max));
            assert!(least <= loss + 1e-6 && *loss <= most + 1e-6, "step {step}: {loss}, {by_cluster:?}");
        }
    }
    let text = std::fs::read_to_string(scratch.path().join("metrics.jsonl")).unwrap();
    for (line, step) in text.lines().zip([4, 9, 14, 19]) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let written: Vec<Option<f64>> =
            line.get("cluster_loss").unwrap().as_array().unwrap().iter().map(|loss| loss.as_f64()).collect();
        for (written, known) in written.iter().zip(&losses[step].1) {
            assert_eq!(written.is_some(), known.is_some());
            assert!((written.unwrap_or(0.0) - known.unwrap_or(0.0)).abs() < 1e-12);
        }
    }
    assert_eq!(text.lines().count(), 4);
}

/// Whatever the number of clusters, a run that draws evenly is one and the same.
#[test]
fn too_few_windows_for_clusters_train_plainly() {
    let context = context(Backend::Simd, 1);
    let losses = |n_clusters| {
        let mut trainer = trainer(&context, TrainOptions { n_clusters, ..options() });
        assert!(trainer.cluster_sizes().is_empty() == (n_clusters != 4));
        steps(&mut trainer, 5);
        assert_eq!(trainer.metrics().cluster_loss.is_some(), n_clusters == 4);
        trainer.metrics().loss
    };
    let plain = losses(0);
    assert_eq!([losses(1), losses(13), losses(1000)], [plain; 3]);
    assert_ne!(losses(4), plain);
}
