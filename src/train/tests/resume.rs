//! Stopping and resuming leaves no trace in the numbers.

use super::*;

#[test]
fn ten_and_ten_steps_are_twenty() {
    let options = TrainOptions { accumulation: 2, n_clusters: 5, cluster_balance: 0.5, ..options() };
    let with_dropout = ModelOptions { dropout: 0.1, ..geometry() };
    for backend in [Backend::Scalar, Backend::Simd] {
        let context = context(backend, 1);
        let whole = final_state(std::slice::from_ref(&context), &with_dropout, &options);
        let halves = final_state(&[context.clone(), context.clone()], &with_dropout, &options);
        assert!(whole == halves, "{backend:?}: the resumed run differs");
        let other =
            final_state(std::slice::from_ref(&context), &with_dropout, &TrainOptions { seed: 4, ..options.clone() });
        assert!(whole != other, "{backend:?}: the seed decides nothing");
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (geometry, options) = (ModelOptions { width: 48, hidden: 192, ..geometry() }, options());
    let simd = final_state(&[context(Backend::Simd, 1)], &geometry, &options);
    let parallel = |threads| context(Backend::Parallel, threads);
    for threads in 1..=3 {
        let whole = final_state(&[parallel(threads)], &geometry, &options);
        assert!(simd == whole, "parallel with {threads} threads differs from simd");
    }
    let mixed = final_state(&[parallel(3), parallel(1)], &geometry, &options);
    assert!(simd == mixed, "a run resumed with another number of threads differs");
    let serial = || context(Backend::Simd, 1);
    let mixed = final_state(&[serial(), parallel(2), serial(), parallel(1)], &geometry, &options);
    assert!(simd == mixed, "a run resumed by parallel, and by simd again, differs");
}

/// What is kept for the backward pass is no part of a run: it may change in the midst of it.
#[test]
fn activation_checkpointing_changes_no_bit() {
    let context = context(Backend::Simd, 1);
    let (geometry, options) = (ModelOptions { dropout: 0.1, layers: 3, ..geometry() }, options());
    let whole = final_state(std::slice::from_ref(&context), &geometry, &options);
    let scratch = Scratch::new();
    for (part, activation_checkpointing) in [true, false, true].into_iter().enumerate() {
        let options =
            TrainOptions { checkpoint_dir: Some(scratch.path()), activation_checkpointing, ..options.clone() };
        let mut trainer = trainer_of(&context, geometry.clone(), options);
        if part > 0 {
            trainer.resume(&scratch.path(), false).unwrap();
        }
        steps(&mut trainer, [5, 5, 10][part]);
        trainer.save().unwrap();
    }
    assert!(whole == state(&scratch.path().join("step-00000020")));
}

#[test]
fn a_resumed_run_ends_with_the_same_reports() {
    for n_clusters in [0, 4] {
        same_reports(n_clusters);
    }
}

fn same_reports(n_clusters: usize) {
    let context = context(Backend::Simd, 1);
    let lines = |stop: Option<u64>| {
        let scratch = Scratch::new();
        let options = TrainOptions {
            checkpoint_dir: Some(scratch.path()),
            log_interval: 3,
            evaluation_interval: 7,
            checkpoint_interval: 5,
            n_clusters,
            ..options()
        };
        if let Some(stop) = stop {
            let mut killed = trainer(&context, options.clone());
            // As a kill leaves it: steps and lines after the last checkpoint, and half a line.
            killed.run(&mut |metrics| metrics.step < stop, &|| false).unwrap();
            std::fs::remove_dir_all(scratch.path().join(format!("step-{stop:08}"))).unwrap();
            let path = scratch.path().join("metrics.jsonl");
            let mut text = std::fs::read_to_string(&path).unwrap();
            text.push_str("{\"step\":15,\"total_st");
            std::fs::write(&path, text).unwrap();
        }
        let mut last = trainer(&context, options);
        if stop.is_some() {
            last.resume(&scratch.path(), false).unwrap();
        }
        run(&mut last);
        let text = std::fs::read_to_string(scratch.path().join("metrics.jsonl")).unwrap();
        assert!(text.ends_with('\n'));
        text.lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                // What does not depend on the clock.
                assert_eq!(line.get("cluster_loss").is_some(), n_clusters > 0);
                [
                    "step",
                    "loss",
                    "learning_rate",
                    "learning_rate_factor",
                    "gradient_norm",
                    "validation_loss",
                    "epoch",
                    "cluster_loss",
                ]
                .map(|name| line.get(name).map_or(String::new(), |value| value.to_string()))
            })
            .collect::<Vec<_>>()
    };
    let straight = lines(None);
    let numbers: Vec<&str> = straight.iter().map(|line| line[0].as_str()).collect();
    assert_eq!(numbers, ["3", "6", "7", "9", "12", "14", "15", "18", "20"]);
    assert_eq!(lines(Some(13)), straight);
}

#[test]
fn elapsed_time_goes_on() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    let mut first = trainer(&context, options.clone());
    steps(&mut first, 5);
    let path = first.save().unwrap();
    let mut second = trainer(&context, options);
    second.resume(&path, false).unwrap();
    assert!(second.metrics().elapsed_seconds >= first.metrics().elapsed_seconds);
    assert_eq!(second.step(&|| false).unwrap().step, 6);
}
