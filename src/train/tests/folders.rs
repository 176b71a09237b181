//! What a run writes, keeps, removes and leaves alone.

use super::*;
use crate::format::files::{FolderWriter, Sink};
use crate::format::safetensors::{Source, Sources};
use crate::tensor::error::ensure;
use crate::tensor::{DType, ErrorKind};
use std::collections::BTreeMap;

#[test]
fn the_last_checkpoints_stay() {
    let context = context(Backend::Simd, 1);
    let saves = |keep_checkpoints| {
        let scratch = Scratch::new();
        let options = TrainOptions {
            checkpoint_dir: Some(scratch.path()),
            checkpoint_interval: 6,
            keep_checkpoints,
            log_interval: 0,
            ..options()
        };
        run(&mut trainer(&context, options));
        names(&scratch.path())
    };
    assert_eq!(saves(2), ["metrics.jsonl", "step-00000018", "step-00000020"]);
    assert_eq!(saves(0), ["metrics.jsonl", "step-00000006", "step-00000012", "step-00000018", "step-00000020"]);
}

#[test]
fn a_folder_with_other_things_in_it_is_never_removed() {
    let scratch = Scratch::new();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), keep_checkpoints: 1, ..options() };
    let mut trainer = trainer(&context(Backend::Simd, 1), options);
    steps(&mut trainer, 1);
    let first = trainer.save().unwrap();
    std::fs::write(first.join("notes.txt"), "mine").unwrap();
    steps(&mut trainer, 1);
    trainer.save().unwrap();
    assert_eq!(std::fs::read_to_string(first.join("notes.txt")).unwrap(), "mine");
}

/// Memory that ends, or a device that fails, while a tensor is read for a checkpoint.
#[test]
fn a_checkpoint_that_fails_in_its_midst_leaves_what_was_there() {
    let scratch = Scratch::new();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), log_interval: 0, ..options() };
    let mut trainer = trainer(&context(Backend::Simd, 1), options);
    steps(&mut trainer, 2);
    let there = trainer.save().unwrap();
    let (record, before, kept) = (checkpoint::open(&there).unwrap().record, state(&there), names(&scratch.path()));
    let sources = |fails: bool| {
        let emit = move |sink: &mut Sink| {
            sink(&[0; 4])?;
            ensure!(!fails, Memory, "no room for the rest");
            sink(&[0; 4])
        };
        let source = Source { name: "a".into(), dtype: DType::F32, dims: vec![2], emit: Box::new(emit) };
        Sources { tensors: vec![source], metadata: BTreeMap::new() }
    };
    for step in [record.step, record.step + 1] {
        for fails in [[true, false], [false, true]] {
            let [model, optimizer] = fails.map(sources);
            let mut record = record.clone();
            record.step = step;
            let error = checkpoint::write(&scratch.path(), record, &model, &optimizer).unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Memory, "no room for the rest"));
            assert_eq!(names(&scratch.path()), kept);
            assert!(state(&there) == before);
        }
    }
    trainer.resume(&there, false).unwrap();
}

#[test]
fn left_overs_of_a_killed_run_are_removed_and_nothing_else() {
    let scratch = Scratch::new();
    // No process has a number above 2^22 on Linux.
    let dead = ["step-00000007.tmp-4194999", "step-00000007.gone.tmp-4194999"].map(|name| format!(".{name}"));
    let own = format!(".step-00000008.tmp-{}", std::process::id());
    let others = [".step-7.tmp-4194999", ".data.tmp-4194999", ".step-00000007.tmp-x", "step-00000007.tmp-4194999"];
    let files = [".metrics.jsonl.tmp-4194999", ".metrics.jsonl.tmp-4194999-7"];
    let other_files = [".metrics.jsonl.tmp-x", ".data.jsonl.tmp-4194999", ".step-00000009.tmp-4194999"];
    let make = || {
        for name in dead.iter().map(String::as_str).chain([own.as_str()]).chain(others) {
            std::fs::create_dir_all(scratch.path().join(name)).unwrap();
            std::fs::write(scratch.path().join(name).join("model.safetensors"), "half").unwrap();
        }
        for name in files.iter().chain(&other_files) {
            std::fs::write(scratch.path().join(name), "half").unwrap();
        }
    };
    let check = |when: &str| {
        let left = names(&scratch.path());
        let there = |name: &&str| left.iter().any(|there| there == name);
        assert!(others.iter().chain(&other_files).all(there), "{when}: {left:?}");
        let gone = dead.iter().chain([&own]).map(String::as_str).chain(files);
        assert!(!gone.into_iter().any(|name| there(&name)), "{when}: {left:?}");
    };
    let context = context(Backend::Simd, 1);
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    make();
    let mut first = trainer(&context, options.clone());
    first.run(&mut |metrics| metrics.step < 3, &|| false).unwrap();
    check("start");
    make();
    trainer(&context, options).resume(&scratch.path(), false).unwrap();
    check("resume");
}

#[test]
fn a_checkpoint_that_was_being_replaced_gets_its_name_back() {
    let scratch = Scratch::new();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    let context = context(Backend::Simd, 1);
    let mut first = trainer(&context, options.clone());
    steps(&mut first, 2);
    let saved = first.save().unwrap();
    // As a kill between the two renames leaves it.
    std::fs::rename(&saved, scratch.path().join(".step-00000002.old.tmp-4194999")).unwrap();
    std::fs::create_dir(scratch.path().join(".step-00000002.tmp-4194999")).unwrap();
    let mut second = trainer(&context, options);
    second.resume(&scratch.path(), false).unwrap();
    assert_eq!(second.metrics().step, 2);
    assert_eq!(names(&scratch.path()), ["step-00000002"]);
}

#[test]
fn a_folder_that_is_being_written_stays() {
    let scratch = Scratch::new();
    let mut writer = FolderWriter::create(&scratch.path().join("step-00000001")).unwrap();
    writer.write("model.safetensors", b"half").unwrap();
    checkpoint::remove_left_overs(&scratch.path()).unwrap();
    assert_eq!(names(&scratch.path()).len(), 1);
    writer.commit().unwrap();
    assert_eq!(names(&scratch.path()), ["step-00000001"]);
}

#[test]
fn what_a_run_without_a_checkpoint_reported_is_kept() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("metrics.jsonl"), "{\"step\":1}\n").unwrap();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    run(&mut trainer(&context(Backend::Simd, 1), options));
    let previous = std::fs::read_to_string(scratch.path().join("metrics.previous.jsonl")).unwrap();
    assert_eq!(previous, "{\"step\":1}\n");
}

#[test]
fn a_fresh_run_does_not_take_another_runs_folder() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    run(&mut trainer(&context, options.clone()));
    let metrics = std::fs::read(scratch.path().join("metrics.jsonl")).unwrap();
    let mut fresh = trainer(&context, options);
    let error = fresh.run(&mut |_| true, &|| false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::State);
    assert!(error.message.contains("step-00000020") && error.message.contains("resume from it"), "{error}");
    // Before the first step, not after the last.
    assert_eq!(fresh.step(&|| false).unwrap_err().kind, ErrorKind::State);
    assert_eq!(fresh.save().unwrap_err().kind, ErrorKind::State);
    assert_eq!(std::fs::read(scratch.path().join("metrics.jsonl")).unwrap(), metrics);
}

#[test]
fn resuming_further_back_replaces_what_comes_again() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), checkpoint_interval: 5, ..options() };
    run(&mut trainer(&context, TrainOptions { keep_checkpoints: 0, ..options.clone() }));
    let newest = scratch.path().join("step-00000020");
    let good = state(&newest);
    std::fs::write(newest.join(checkpoint::MODEL_FILE), b"damaged").unwrap();
    let mut again = trainer(&context, options);
    again.resume(&scratch.path().join("step-00000010"), false).unwrap();
    steps(&mut again, 1);
    again.save().unwrap();
    // Three are kept of those up to here; the later ones are not touched before the run comes to them.
    assert_eq!(
        names(&scratch.path()),
        ["metrics.jsonl", "step-00000005", "step-00000010", "step-00000011", "step-00000015", "step-00000020"]
    );
    run(&mut again);
    assert!(state(&newest) == good, "the damaged checkpoint was not replaced");
    assert_eq!(names(&scratch.path()), ["metrics.jsonl", "step-00000011", "step-00000015", "step-00000020"]);
}

#[test]
fn a_checkpoint_is_a_model_with_its_tokenizer() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    let json = letters('a');
    let model = model(&context, geometry());
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options() };
    let mut trainer = Trainer::new(model.clone(), dataset(), Some(json), options).unwrap();
    steps(&mut trainer, 2);
    let path = trainer.save().unwrap().join(checkpoint::MODEL_FILE);
    let loaded = crate::model::file::load(context.clone(), &path).unwrap();
    let guard = model.read();
    assert!(loaded.trainable() && loaded.options() == guard.options());
    for (a, b) in loaded.parameters().iter().zip(guard.parameters()) {
        assert_eq!((&a.name, a.tensor.host::<f32>().unwrap()), (&b.name, b.tensor.host::<f32>().unwrap()));
    }
    let tokenizer = crate::train::Tokenizer::load(&path).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode("face").unwrap()).unwrap(), b"face");
}

#[test]
fn saving_needs_a_folder() {
    let mut trainer = trainer(&context(Backend::Simd, 1), options());
    assert_eq!(trainer.save().unwrap_err().kind, ErrorKind::State);
}
