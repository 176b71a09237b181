//! Training with the auxiliary network: what it multiplies, and that a run goes on with what it has learned.

use super::*;
use crate::step::{LrNet, Precision, RadiusMode};
use crate::train::step::Fault;

/// Whose factors depend on all that it is told, and that learns.
fn loud() -> LrNet {
    LrNet::changed(0.05, |weights| weights[108..].iter_mut().enumerate().for_each(|(i, w)| *w = (i as f64).sin()))
}

#[test]
fn its_factor_multiplies_the_radius_of_a_run() {
    let options = TrainOptions {
        radius_mode: RadiusMode::Exact,
        radius: Some(0.01),
        schedule: Decay::Constant,
        warmup_steps: 0,
        lr_net: Some(LrNet::changed(0.0, |weights| weights[132] = 16.0)),
        ..options()
    };
    let mut trainer = trainer(&context(Backend::Simd, 1), options);
    for t in 1..=6 {
        let metrics = trainer.step(&|| false).unwrap();
        let factor = (0.3 * f64::from(t)).min(4f64.ln()).exp();
        assert!((metrics.step_ratio / (0.01 * factor) - 1.0).abs() < 1e-9, "step {t}: {}", metrics.step_ratio);
        assert_eq!(metrics.learning_rate, 1e-2);
    }
}

/// Checkpoints hold what it has learned, also where batches were skipped and steps undone in between.
#[test]
fn a_resumed_run_is_the_one_that_never_stopped() {
    let context = context(Backend::Simd, 1);
    let faults = [(12, Fault::Rate(1e3)), (17, Fault::Gradients(f32::NAN))];
    for precision in [Precision::F32, Precision::Compact] {
        let options = TrainOptions {
            precision,
            lr_net: Some(loud()),
            guard: true,
            guard_interval: 4,
            max_steps: 24,
            batch_size: 12,
            use_adaptive_lr: false,
            ..options()
        };
        let ended = |lr_net: Option<LrNet>, stops: &[usize]| {
            let scratch = Scratch::new();
            let options = TrainOptions { checkpoint_dir: Some(scratch.path()), lr_net, ..options.clone() };
            let mut done = 0;
            for &stop in stops {
                let mut trainer = trainer(&context, options.clone());
                faults.iter().for_each(|&(step, fault)| trainer.inject(step, fault));
                if done > 0 {
                    trainer.resume(&scratch.path(), false).unwrap();
                }
                steps(&mut trainer, stop - done);
                let metrics = trainer.metrics();
                assert_eq!(
                    (metrics.undone_steps, metrics.skipped_batches),
                    (u64::from(stop >= 12), u64::from(stop >= 17))
                );
                trainer.save().unwrap();
                done = stop;
            }
            state(&scratch.path().join(checkpoint::folder_name(24)))
        };
        let whole = ended(Some(loud()), &[24]);
        assert!(ended(Some(loud()), &[11, 13, 17, 24]) == whole, "{precision:?}");
        assert!(ended(None, &[24])[0] != whole[0] && ended(Some(LrNet::changed(0.05, |_| ())), &[24])[0] != whole[0]);
    }
}

/// A step that is given up, in its check or before it, is one that the network has not seen.
#[test]
fn a_step_that_is_given_up_leaves_no_trace() {
    let scratch = Scratch::new();
    let context = context(Backend::Simd, 1);
    let run_with = |at: u32| {
        let path = scratch.path().join(at.to_string());
        let options = TrainOptions {
            lr_net: Some(loud()),
            guard: true,
            guard_interval: 1,
            max_steps: 3,
            checkpoint_dir: Some(path.clone()),
            ..options()
        };
        let mut trainer = trainer(&context, options);
        let asked = AtomicU32::new(0);
        let give_up = || asked.fetch_add(1, Ordering::Relaxed) + 1 == at;
        while trainer.run(&mut |_| true, &give_up).is_err() {}
        (state(&path.join("step-00000003")), asked.into_inner())
    };
    let (whole, questions) = run_with(u32::MAX);
    for at in (1..questions).step_by(11) {
        assert!(run_with(at).0 == whole, "given up at question {at} of {questions}");
    }
}
