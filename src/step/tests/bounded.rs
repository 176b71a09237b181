//! Steps whose direction is not measured in advance, because it cannot be too long: the same as if it were.

use super::*;

/// All that a report says, and every bit.
fn told(run: &Run, report: &Report) -> (Vec<u8>, String) {
    let of_each: Vec<_> = run.optimizer.parameters().iter().map(|parameter| parameter.report).collect();
    (run.bits(), format!("{report:?} {of_each:?}"))
}

fn bounded(run: &Run) -> Vec<bool> {
    run.optimizer.parameters().iter().map(|parameter| parameter.is_bounded).collect()
}

#[test]
fn a_step_is_the_same_whether_it_is_measured_before_or_not() {
    let options = StepOptions { learning_rate: 1e-3, ..StepOptions::default() };
    let cases = [
        options.clone(),
        StepOptions { clip: 0.0, radius_mode: RadiusMode::Off, weight_decay: 0.0, ..options.clone() },
        StepOptions { lower: -0.101, upper: 1.0, beta2: 0.999, ..options.clone() },
        StepOptions { radius_base: RadiusBase::Initial, ..options },
    ];
    for (context, options) in contexts().iter().flat_map(|context| cases.iter().map(move |options| (context, options)))
    {
        let [mut one, mut two] = [(); 2].map(|()| Run::all(context, options));
        for step in 1..=4 {
            let gradients = gradients(step);
            // Whose means might be of anything.
            two.optimizer.parameters_mut().iter_mut().for_each(|parameter| parameter.is_of_steps = false);
            let [in_one, in_two] = [one.step(&gradients), two.step(&gradients)];
            assert_eq!(bounded(&two), [false; 5]);
            // What is measured from the rms before the first step is not known in it.
            let first = step == 1 && options.radius_base == RadiusBase::Initial;
            assert!(first || bounded(&one).iter().filter(|&&is| is).count() >= 4, "step {step}: {:?}", bounded(&one));
            assert_eq!(told(&one, &in_one), told(&two, &in_two), "{:?} step {step}", context.backend());
        }
    }
}

#[test]
fn what_may_be_too_long_is_measured() {
    let context = context(Backend::Simd, 1);
    let at = |options: StepOptions| {
        let mut run = Run::all(&context, &options);
        run.step(&gradients(1));
        run.step(&gradients(2));
        bounded(&run)
    };
    // 2.35 times .01 is more than .05 of rms .1, and less than that of gains, 1.
    let options = StepOptions { learning_rate: 0.01, ..StepOptions::default() };
    assert_eq!(at(options.clone())[..4], [false, false, false, true]);
    assert_eq!(at(StepOptions { radius_mode: RadiusMode::Exact, ..options.clone() }), [false; 5]);
    assert_eq!(at(StepOptions { method: Method::Momentum, ..options.clone() }), [false; 5]);
    let off = StepOptions { radius_mode: RadiusMode::Off, ..options };
    assert_eq!(at(off.clone())[..4], [true; 4]);
    assert!(!at(StepOptions { flip_budget: 0.01, ..off.clone() })[1], "flips are counted before");
    assert!(!at(StepOptions { precision: Precision::Int8, ..off })[1], "codes are not the means");
}

/// Means that no gradients leave, from a file or from anybody, are no reason to leave the radius.
#[test]
fn strange_states_are_measured_too() {
    let mut run = Run::all(&context(Backend::Simd, 1), &StepOptions { learning_rate: 1e-3, ..StepOptions::default() });
    run.step(&gradients(1));
    run.step(&gradients(2));
    assert!(bounded(&run)[0]);
    let [_, _, (_, v), _] = run.optimizer.parameters_mut()[0].states.named_mut();
    v.host_mut::<f32>().unwrap().fill(0.0);
    let progress = run.optimizer.progress().clone();
    run.optimizer.set_progress(progress);
    let report = run.step(&gradients(3));
    let of = run.optimizer.parameters()[0].report;
    assert!(report.refusal.is_none() && !bounded(&run)[0] && of.held && of.ratio <= 0.0501, "{of:?}");
}

#[test]
fn a_parameter_that_is_not_finite_is_refused_before_anything_is_written() {
    let mut run = Run::all(&context(Backend::Simd, 1), &StepOptions { learning_rate: 1e-3, ..StepOptions::default() });
    run.step(&gradients(1));
    for value in [f32::NAN, f32::INFINITY, 1e30] {
        let good = run.values(3);
        run.values_mut(3)[64] = value;
        let before = run.bits();
        let refusal = run.step(&gradients(2)).refusal.unwrap();
        assert!(refusal.kind == RefusalKind::Parameter && run.bits() == before, "{refusal:?}");
        run.values_mut(3).copy_from_slice(&good);
    }
    assert!(run.step(&gradients(2)).refusal.is_none());
}
