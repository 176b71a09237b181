//! Checkpoints that must not be resumed: damaged ones and other runs'.

use super::*;
use crate::model::Products;
use crate::tensor::ErrorKind;
use crate::train::step::Fault;

/// A checkpoint_dir with steps 5 and 10, and a trainer that may resume from it.
fn saved(context: &Arc<Context>) -> (Scratch, Trainer) {
    let scratch = Scratch::new();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    let mut first = trainer(context, options.clone());
    for _ in 0..2 {
        steps(&mut first, 5);
        first.save().unwrap();
    }
    let second = trainer(context, options);
    (scratch, second)
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_one_before_is_named() {
    let context = context(Backend::Simd, 1);
    let files = [checkpoint::MODEL_FILE, checkpoint::OPTIMIZER_FILE, checkpoint::RECORD_FILE];
    type Damage = (&'static str, fn(&mut Vec<u8>));
    let damages: [Damage; 5] = [
        ("first byte flipped", |bytes| bytes[0] ^= 1),
        ("middle byte flipped", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1
        }),
        ("last byte flipped", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("truncated", |bytes| bytes.truncate(bytes.len() * 2 / 3)),
        ("emptied", |bytes| bytes.clear()),
    ];
    let (scratch, mut trainer) = saved(&context);
    let (older, newest) = (scratch.path().join("step-00000005"), scratch.path().join("step-00000010"));
    for file in files {
        let path = newest.join(file);
        let good = std::fs::read(&path).unwrap();
        for (what, damage) in damages {
            let mut bytes = good.clone();
            damage(&mut bytes);
            assert_ne!(bytes, good);
            std::fs::write(&path, bytes).unwrap();
            refuse(&mut trainer, &scratch.path(), &newest, &older, file, what);
            refuse(&mut trainer, &newest, &newest, &older, file, what);
        }
        std::fs::remove_file(&path).unwrap();
        refuse(&mut trainer, &scratch.path(), &newest, &older, file, "deleted");
        std::fs::write(&path, good).unwrap();
    }
    trainer.resume(&scratch.path(), false).unwrap();
    assert_eq!(trainer.metrics().step, 10);
    // The one that the message named works, and the one before it has none before.
    trainer.resume(&older, false).unwrap();
    assert_eq!(trainer.metrics().step, 5);
    std::fs::write(older.join(checkpoint::MODEL_FILE), b"").unwrap();
    std::fs::write(newest.join(checkpoint::MODEL_FILE), b"").unwrap();
    let error = trainer.resume(&scratch.path(), false).unwrap_err();
    assert!(error.message.contains("there is no good one before it"), "{error}");
}

fn refuse(trainer: &mut Trainer, path: &Path, newest: &Path, older: &Path, file: &str, what: &str) {
    let step = trainer.metrics().step;
    let error = trainer.resume(path, false).expect_err(what);
    let place = format!("{file} {what}: {error}");
    assert_eq!(error.kind, ErrorKind::Format, "{place}");
    let starts = format!("checkpoint {} is damaged: ", newest.display());
    assert!(error.message.starts_with(&starts) && error.message.contains(file), "{place}");
    assert!(error.message.contains(&format!("the newest good one before it is {}", older.display())), "{place}");
    assert_eq!(trainer.metrics().step, step, "{place}");
}

/// A disk that fails between the check and the reading leaves a model that nothing is done with, until a resume succeeds.
#[test]
fn a_checkpoint_that_ends_while_it_is_read_leads_back_to_another() {
    let context = context(Backend::Simd, 1);
    let (scratch, mut trainer) = saved(&context);
    trainer.resume(&scratch.path().join("step-00000005"), false).unwrap();
    trainer.inject(10, Fault::Checkpoint);
    let error = trainer.resume(&scratch.path(), false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Io, "{error}");
    assert!(error.message.contains("model.safetensors had") && error.message.contains("while it was read"), "{error}");
    let tells = |error: crate::tensor::Error| {
        assert_eq!(error.kind, ErrorKind::State);
        assert!(error.message.contains("a checkpoint was read in part"), "{error}");
    };
    tells(trainer.step(&|| false).unwrap_err());
    tells(trainer.evaluate(&|| false).unwrap_err());
    tells(trainer.save().unwrap_err());
    // Now it is damaged for everybody, and the one before it is not.
    assert_eq!(trainer.resume(&scratch.path(), false).unwrap_err().kind, ErrorKind::Format);
    trainer.resume(&scratch.path().join("step-00000005"), false).unwrap();
    trainer.run(&mut |_| true, &|| false).unwrap();
    let whole = TrainOptions { checkpoint_dir: None, ..options() };
    let ended = state(&scratch.path().join(checkpoint::folder_name(whole.max_steps)));
    assert!(ended == final_state(std::slice::from_ref(&context), &geometry(), &whole));
}

#[test]
fn a_record_of_a_later_version_is_refused_by_its_version() {
    let (scratch, mut trainer) = saved(&context(Backend::Simd, 1));
    let path = scratch.path().join("step-00000010").join(checkpoint::RECORD_FILE);
    let text = std::fs::read_to_string(&path).unwrap().replace("\"version\": 1", "\"version\": 2");
    std::fs::write(&path, text).unwrap();
    let error = trainer.resume(&scratch.path(), false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Format);
    assert!(error.message.contains("its version is 2, this build reads 1"), "{error}");
}

#[test]
fn nothing_to_resume_is_an_error() {
    let scratch = Scratch::new();
    let mut trainer = trainer(&context(Backend::Simd, 1), options());
    for path in [scratch.path(), scratch.path().join("absent"), scratch.path().join("step-00000001")] {
        let error = trainer.resume(&path, false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Io, "{error}");
        assert!(error.message.contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn another_runs_checkpoint_is_refused_with_both_values() {
    let context = context(Backend::Simd, 1);
    let (scratch, _) = saved(&context);
    let cases: Vec<(&str, TrainOptions)> = vec![
        ("options.batch_size was 4 and is 5", TrainOptions { batch_size: 5, ..options() }),
        ("options.learning_rate was 0.01 and is 0.02", TrainOptions { learning_rate: 0.02, ..options() }),
        ("options.max_steps was 20 and is 30", TrainOptions { max_steps: 30, ..options() }),
        ("options.schedule was \"cosine\" and is \"linear\"", TrainOptions { schedule: Decay::Linear, ..options() }),
        ("options.seed was 3 and is 4", TrainOptions { seed: 4, ..options() }),
        ("options.use_adaptive_lr was true and is false", TrainOptions { use_adaptive_lr: false, ..options() }),
        (
            "options.quantize_gradients was \"int8\" and is \"none\"",
            TrainOptions { quantize_gradients: GradientQuantization::None, ..options() },
        ),
        (
            "options.weight_gradient was \"int8\" and is \"f32\"",
            TrainOptions { weight_gradient: Products::F32, ..options() },
        ),
        (
            "options.input_gradient was \"int8\" and is \"f32\"",
            TrainOptions { input_gradient: Products::F32, ..options() },
        ),
        ("options.accumulation was 1 and is 2", TrainOptions { accumulation: 2, ..options() }),
        ("options.context_length was 8 and is 4", TrainOptions { context_length: 4, ..options() }),
    ];
    for (expected, options) in cases {
        refuse_other(&mut trainer(&context, options), &scratch.path(), expected);
    }
    let mut other = trainer_of(&context, ModelOptions { hidden: 32, ..geometry() }, options());
    refuse_other(&mut other, &scratch.path(), "model.hidden was 24 and is 32");
    // The records of models at the default do not have it.
    let mut other = trainer_of(&context, ModelOptions { weight_threshold: 0.75, ..geometry() }, options());
    refuse_other(&mut other, &scratch.path(), "model.weight_threshold was not given and is 0.75");
    for (count, fraction, expected) in
        [(999, 0.2, "text.fingerprint was"), (1000, 0.3, "text.train_tokens was 800 and is 700")]
    {
        let text = Arc::new(Dataset::from_tokens(tokens(count), VOCABULARY, fraction).unwrap());
        let mut other = Trainer::new(model(&context, geometry()), text, None, options()).unwrap();
        refuse_other(&mut other, &scratch.path(), expected);
    }
}

fn refuse_other(trainer: &mut Trainer, path: &Path, expected: &str) {
    let error = trainer.resume(path, true).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Argument, "{error}");
    assert!(error.message.contains(expected), "{error}");
    assert_eq!(trainer.metrics().step, 0);
}

#[test]
fn another_tokenizer_is_refused() {
    let context = context(Backend::Simd, 1);
    let scratch = Scratch::new();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    let with = |first: char| {
        Trainer::new(model(&context, geometry()), dataset(), Some(letters(first)), options.clone()).unwrap()
    };
    let mut first = with('a');
    steps(&mut first, 1);
    first.save().unwrap();
    let error = with('b').resume(&scratch.path(), false).unwrap_err();
    assert!(error.kind == ErrorKind::Argument && error.message.contains("tokenizer was"), "{error}");
    let error = trainer(&context, options.clone()).resume(&scratch.path(), false).unwrap_err();
    assert!(error.message.contains("and is not given"), "{error}");
    with('a').resume(&scratch.path(), false).unwrap();
}

#[test]
fn another_backend_needs_permission() {
    let (scratch, _) = saved(&context(Backend::Simd, 1));
    let mut scalar = trainer(&context(Backend::Scalar, 1), options());
    let error = scalar.resume(&scratch.path(), false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Argument);
    assert!(error.message.contains("backend was \"simd\" and is \"scalar\""), "{error}");
    scalar.resume(&scratch.path(), true).unwrap();
    run(&mut scalar);
    assert_eq!(scalar.metrics().step, 20);
}

#[test]
fn what_changes_no_step_may_change() {
    let context = context(Backend::Simd, 1);
    let (scratch, _) = saved(&context);
    let mut watching = trainer(
        &context,
        TrainOptions {
            log_interval: 1,
            evaluation_interval: 2,
            evaluation_windows: 3,
            checkpoint_interval: 4,
            keep_checkpoints: 5,
            max_epochs: 6,
            ..options()
        },
    );
    watching.resume(&scratch.path(), false).unwrap();
    // A constant schedule does not know how long the run is: it can be made longer.
    let scratch = Scratch::new();
    let constant = TrainOptions { schedule: Decay::Constant, checkpoint_dir: Some(scratch.path()), ..options() };
    run(&mut trainer(&context, constant.clone()));
    let mut longer = trainer(&context, TrainOptions { max_steps: 25, ..constant.clone() });
    longer.resume(&scratch.path(), false).unwrap();
    run(&mut longer);
    assert_eq!(longer.metrics().step, 25);
    // But not shorter than where it stands.
    let error = trainer(&context, constant).resume(&scratch.path(), false).unwrap_err();
    assert!(error.message.contains("stands at step 25, the run has 20"), "{error}");
}
