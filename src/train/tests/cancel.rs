//! A run may be given up at any moment, and goes on as if it had not been.

use super::*;
use crate::tensor::{ErrorKind, never};
use std::sync::atomic::AtomicUsize;

/// What a run tells, in its progress calls and in metrics.jsonl, but for what depends on the clock.
#[derive(Debug, PartialEq)]
struct Told {
    calls: Vec<[String; 4]>,
    lines: Vec<[String; 4]>,
}

fn watched(folder: PathBuf) -> TrainOptions {
    TrainOptions {
        checkpoint_dir: Some(folder),
        max_steps: 6,
        accumulation: 2,
        log_interval: 4,
        evaluation_interval: 3,
        evaluation_windows: 10,
        checkpoint_interval: 2,
        keep_checkpoints: 0,
        ..options()
    }
}

fn reports(metrics: &crate::train::Metrics) -> [String; 4] {
    let validation = metrics.validation_loss.map_or("null".to_string(), |loss| format!("{loss:?}"));
    [
        metrics.step.to_string(),
        format!("{:?}", metrics.loss),
        format!("{:?} {:?}", metrics.learning_rate, metrics.gradient_norm),
        validation,
    ]
}

fn lines(folder: &Path) -> Vec<[String; 4]> {
    let path = folder.join("metrics.jsonl");
    let text = if path.exists() { std::fs::read_to_string(path).unwrap() } else { String::new() };
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        ["step", "loss", "gradient_norm", "validation_loss"].map(|name| line[name].to_string())
    };
    text.lines().map(line).collect()
}

/// A run that is given up at every `every`-th question whether to go on, and resumed each time by a new trainer.
/// Returns what it told, its last checkpoint and how often it was given up.
fn broken(context: &Arc<Context>, every: usize, same_trainer: bool) -> (Told, [Vec<u8>; 2], usize) {
    let scratch = Scratch::new();
    let mut calls = Vec::new();
    let mut trainer = trainer(context, watched(scratch.path()));
    let mut stops = 0;
    loop {
        let asked = AtomicUsize::new(0);
        let give_up = || asked.fetch_add(1, Ordering::Relaxed) + 1 == every;
        let mut progress = |metrics: &crate::train::Metrics| {
            calls.push(reports(metrics));
            true
        };
        match trainer.run(&mut progress, &give_up) {
            Ok(end) => break assert_eq!(end, RunEnd::Finished),
            Err(error) => assert_eq!(error.kind, ErrorKind::Cancelled, "{error}"),
        }
        stops += 1;
        let step = trainer.metrics().step;
        if !same_trainer && step > 0 {
            trainer = super::trainer(context, watched(scratch.path()));
            trainer.resume(&scratch.path(), false).unwrap();
            assert_eq!(trainer.metrics().step, step);
        }
        assert!(stops < 1000, "the run does not get on");
    }
    let told = Told { calls, lines: lines(&scratch.path()) };
    (told, state(&scratch.path().join("step-00000006")), stops)
}

#[test]
fn a_run_that_is_given_up_anywhere_goes_on_as_if_it_had_not_been() {
    let context = context(Backend::Simd, 1);
    let (told, last, stops) = broken(&context, usize::MAX, false);
    assert_eq!(stops, 0);
    let steps: Vec<&str> = told.lines.iter().map(|line| line[0].as_str()).collect();
    assert_eq!(steps, ["3", "4", "6"]);
    let measured: Vec<bool> = told.calls.iter().map(|call| call[3] != "null").collect();
    assert_eq!(measured, [false, false, true, false, false, true]);
    // Fewer questions than a step and an evaluation ask would never get on.
    let questions = AtomicUsize::new(0);
    let mut one = trainer(&context, options());
    one.step(&|| questions.fetch_add(1, Ordering::Relaxed) == usize::MAX).unwrap();
    let least = questions.into_inner() * 2 + 1;
    for every in (least..8 * least).step_by(3) {
        for same_trainer in [false, true] {
            let (told_too, last_too, stops) = broken(&context, every, same_trainer);
            assert!(stops > 0 || every > 3 * least, "given up every {every}: {stops} times");
            assert_eq!(told_too, told, "given up at every {every}. question");
            assert!(last_too == last, "given up at every {every}. question: the last state differs");
        }
    }
}

/// The evaluation after step 3 is given up: the checkpoint says that it is owed, and a resumed run does it first.
#[test]
fn an_evaluation_that_was_given_up_is_done_first() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    let mut first = trainer(&context, watched(scratch.path()));
    first.run(&mut |metrics| metrics.step < 2, &never).unwrap();
    let evaluating = std::sync::atomic::AtomicBool::new(false);
    first.step(&never).unwrap();
    drop(first);
    let mut second = trainer(&context, watched(scratch.path()));
    second.resume(&scratch.path(), false).unwrap();
    // Step 3 asks as often as step 1; the question after that is the evaluation's.
    let questions = AtomicUsize::new(0);
    let count = || {
        questions.fetch_add(1, Ordering::Relaxed);
        false
    };
    trainer(&context, TrainOptions { checkpoint_dir: None, ..watched(scratch.path()) }).step(&count).unwrap();
    let (in_a_step, asked) = (questions.into_inner(), AtomicUsize::new(0));
    let give_up = || {
        let at_evaluation = asked.fetch_add(1, Ordering::Relaxed) >= in_a_step;
        evaluating.store(at_evaluation, Ordering::Relaxed);
        at_evaluation
    };
    let mut calls = Vec::new();
    let error = second
        .run(
            &mut |metrics| {
                calls.push(metrics.step);
                true
            },
            &give_up,
        )
        .unwrap_err();
    assert_eq!(error.message, "training was cancelled after step 3");
    assert!(evaluating.into_inner() && calls.is_empty());
    assert_eq!(lines(&scratch.path()).len(), 0);
    let record = |step: u64| {
        let path = scratch.path().join(checkpoint::folder_name(step)).join(checkpoint::RECORD_FILE);
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap()
    };
    assert_eq!(record(3)["owed"]["loss"].as_f64(), Some(second.metrics().loss));
    assert!(record(2).get("owed").is_none());

    let mut third = trainer(&context, watched(scratch.path()));
    third.resume(&scratch.path(), false).unwrap();
    assert_eq!(third.metrics().loss, second.metrics().loss);
    assert_eq!(third.metrics().validation_loss, None);
    third
        .run(
            &mut |metrics| {
                calls.push(metrics.step);
                metrics.step < 3
            },
            &never,
        )
        .unwrap();
    assert_eq!(calls, [3]);
    assert_eq!(lines(&scratch.path()).len(), 1);
    assert!(third.metrics().validation_loss.is_some());
    // Stopped after the report: the checkpoint of step 3 owes nothing any more.
    assert!(record(3).get("owed").is_none());

    // By hand, a step leaves the report behind.
    let mut fourth = trainer(&context, watched(scratch.path()));
    fourth.resume(&scratch.path(), false).unwrap();
    fourth.step(&never).unwrap();
    fourth.save().unwrap();
    assert!(record(4).get("owed").is_none());
}
