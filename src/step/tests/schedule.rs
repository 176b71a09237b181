//! The schedule of an optimizer: learning rate and radius follow it, a resumed run does, and a run may count steps of its own.

use super::*;
use crate::format::scratch::Scratch;

fn falling() -> StepOptions {
    let schedule = Schedule { decay: Decay::Linear, total: 10, warmup: 4, minimum: 0.25 };
    StepOptions { learning_rate: 0.02, schedule, ..StepOptions::default() }
}

#[test]
fn it_is_what_setting_rate_and_radius_by_hand_is() {
    for context in contexts() {
        let options = StepOptions { vector_radius: Some(0.0), ..falling() };
        let mut scheduled = Run::all(&context, &options);
        let mut by_hand = Run::all(&context, &StepOptions { schedule: Schedule::CONSTANT, ..options.clone() });
        let mut held = 0;
        for t in 1..=12u32 {
            let factor = options.schedule.factor(u64::from(t));
            by_hand.set_learning_rate(0.02 * factor).unwrap();
            by_hand.set_radius(Some(0.05 * factor)).unwrap();
            let (found, expected) = (scheduled.step(&gradients(t)), by_hand.step(&gradients(t)));
            assert_eq!(found, expected);
            assert_eq!((found.learning_rate, found.radius), (0.02 * factor, 0.05 * factor));
            held += found.held;
        }
        assert!(held > 0 && scheduled.bits() == by_hand.bits());
        // Between steps it is the radius of the options.
        assert_eq!(scheduled.radius(), 0.05);
    }
}

#[test]
fn a_resumed_run_is_where_it_was() {
    let (scratch, context) = (Scratch::new(), context(Backend::Simd, 1));
    let path = scratch.path().join("half");
    let mut whole = Run::all(&context, &falling());
    (1..=5).for_each(|t| assert!(whole.step(&gradients(t)).refusal.is_none()));
    whole.save(&path).unwrap();
    let mut resumed = Run::all(&context, &falling());
    resumed.load(&path).unwrap();
    for t in 6..=10 {
        assert_eq!(whole.step(&gradients(t)), resumed.step(&gradients(t)));
    }
    assert!(whole.bits() == resumed.bits());
    assert!((whole.last().learning_rate - 0.25 * 0.02).abs() < 1e-15);
}

/// Refused steps do not count; with a clock it is the owner's count that does.
#[test]
fn the_clock_of_a_run_goes_before_its_own() {
    let mut run = Run::all(&context(Backend::Simd, 1), &falling());
    let mut bad = gradients(1);
    bad[0].host_mut::<f32>().unwrap()[0] = f32::NAN;
    assert!(run.step(&bad).refusal.is_some());
    assert_eq!(run.step(&gradients(1)).learning_rate, 0.02 * 0.25);
    run.set_clock(4);
    let report = run.step(&gradients(2));
    assert_eq!((report.learning_rate, report.step), (0.02, 2));
}
