//! What is refused, and that a refusal leaves every bit as it was.

use super::*;

const BAD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

fn refusal(report: Report) -> Refusal {
    report.refusal.expect("the step is refused")
}

#[test]
fn a_bad_gradient_of_any_parameter_leaves_no_trace() {
    for context in contexts() {
        let options = StepOptions { learning_rate: 0.05, lower: -0.2, ..StepOptions::default() };
        let (mut run, mut twin) = (Run::all(&context, &options), Run::all(&context, &options));
        let mut refused = 0;
        for t in 1..=3 {
            for i in (0..SHAPES.len()).filter(|&i| count(i) > 0) {
                for (at, bad) in [0, count(i) / 2, count(i) - 1].into_iter().zip(BAD) {
                    let mut gradients = gradients(t);
                    gradients[i].host_mut::<f32>().unwrap()[at] = bad;
                    let before = run.bits();
                    let report = run.step(&gradients);
                    refused += 1;
                    assert_eq!((report.step, report.refused.gradients), (u64::from(t) - 1, refused));
                    let Refusal { kind, error } = refusal(report);
                    assert_eq!((kind, error.kind), (RefusalKind::Gradient, ErrorKind::State));
                    let name = SHAPES[i].0;
                    let expected =
                        format!("step {t}: element {at} of the gradient of {name} is not finite; nothing was updated");
                    assert_eq!(error.message, expected);
                    assert!(run.bits() == before);
                }
            }
            let (found, expected) = (run.step(&gradients(t)), twin.step(&gradients(t)));
            assert_eq!(Report { refused: expected.refused, ..found }, expected);
            assert!(run.bits() == twin.bits(), "step {t} on {}", context.backend().name());
        }
        assert_eq!(run.radius(), 0.05);
    }
}

#[test]
fn gradients_whose_norm_is_beyond_f32_are_refused() {
    for context in contexts() {
        let mut run = Run::all(&context, &StepOptions::default());
        let before = run.bits();
        let mut gradients = gradients(1);
        gradients[0].host_mut::<f32>().unwrap()[3] = 1e19;
        let refused = refusal(run.step(&gradients));
        assert_eq!(refused.kind, RefusalKind::Gradient);
        assert!(refused.error.message.contains("the norm of the gradients is beyond f32"), "{}", refused.error);
        assert!(run.bits() == before);
    }
}

#[test]
fn a_parameter_that_the_caller_broke_is_named() {
    for context in contexts() {
        for (bad, expected) in [(f32::NAN, "element 4 of masters is not"), (1e30, "the norm of masters is beyond f32")]
        {
            let mut run = Run::all(&context, &StepOptions { weight_decay: 0.0, ..StepOptions::default() });
            run.step(&gradients(1));
            let good = run.values(1)[4];
            run.values_mut(1)[4] = bad;
            let before = run.bits();
            let report = run.step(&gradients(2));
            assert_eq!((report.refused.parameters, report.step), (1, 1));
            let refused = refusal(report);
            assert_eq!(refused.kind, RefusalKind::Parameter);
            assert!(refused.error.message.contains(expected), "{}", refused.error);
            assert!(run.bits() == before);
            run.values_mut(1)[4] = good;
            assert_eq!(run.step(&gradients(2)).step, 2);
        }
    }
}

/// The last parameter overflows: those before it, which could have stepped, have not.
#[test]
fn an_update_that_overflows_is_refused_as_a_whole_and_the_radius_recovers() {
    for context in contexts() {
        for mode in [RadiusMode::Off, RadiusMode::Cap, RadiusMode::Exact] {
            let options = StepOptions {
                learning_rate: 1e20,
                radius_mode: mode,
                radius: Some(1e2),
                floor: 1e-30,
                ..StepOptions::default()
            };
            let mut run = Run::new(&context, &options);
            let small = ParameterOptions { weight_decay: Some(0.0), ..ParameterOptions::of(Kind::Matrix) };
            run.add("small", &[1e-3; 40], &[40], &small);
            run.add("large", &[3e17; 4], &[4], &small);
            let gradients = [40, 4].map(|n| Tensor::from_slice(&vec![-0.1f32; n], &[n]).unwrap());
            let before = run.bits();
            let mut refused = 0;
            let taken = loop {
                let report = run.step(&gradients);
                if report.refusal.is_none() {
                    break report;
                }
                refused += 1;
                let factor = 0.25f64.powi(refused);
                assert_eq!((report.step, report.refused.updates), (0, refused as u64));
                assert_eq!(run.radius(), 1e2 * factor);
                assert!(run.bits() == before, "{mode:?}");
                let Refusal { kind, error } = refusal(report);
                assert_eq!((kind, error.kind), (RefusalKind::Update, ErrorKind::State));
                let name = if mode == RadiusMode::Off { "small" } else { "large" };
                assert!(error.message.contains(&format!("would take {name} beyond f32")), "{error}");
            };
            // Off: from 1e20 to below 9.2e18 / sqrt(40). Else from 1e2 * 6e17 to below 9.2e18 - 6e17.
            assert_eq!(refused, if mode == RadiusMode::Off { 4 } else { 2 }, "{mode:?}");
            assert_eq!(taken.step, 1);
            let factor = 0.25f64.powi(refused);
            match mode {
                RadiusMode::Off => assert_eq!(run.parameters()[0].report.learning_rate, 1e20 * factor),
                _ => assert!((taken.ratio / (1e2 * factor) - 1.0).abs() < 1e-12),
            }
            assert!(run.is_finite());
            // It grows back by 5% a step, and no further than where it was. Smaller steps, for room.
            run.set_learning_rate(1e-3).unwrap();
            run.set_radius(Some(1e-2)).unwrap();
            let steps_back = ((1.0 / factor).ln() / 1.05f64.ln()).ceil() as i32;
            for back in 1..steps_back {
                let expected = 1e-2 * factor * 1.05f64.powi(back);
                assert!((run.radius() / expected - 1.0).abs() < 1e-9, "{back} steps after");
                assert_eq!(run.step(&gradients).refusal, None);
            }
            assert_eq!(run.radius(), 1e-2);
            run.step(&gradients);
            assert_eq!(run.radius(), 1e-2);
        }
    }
}

/// Whatever the numbers: a step that is taken leaves finite ones, a step that is refused leaves the same bits.
#[test]
fn no_input_makes_a_parameter_or_a_state_that_is_not_finite() {
    let sizes = [0.0, 1e-45, 1e-38, 1e-30, 1e-20, 1e-8, 1e-3, 1.0, 1e4, 1e9, 1e15, 5e18, 1e19, 3e38];
    let (mut taken, mut refused) = (0, 0);
    for context in contexts() {
        for case in 0..800 {
            let stream = Stream::new(case, Purpose::Test, 0, 0);
            let mut draws = 0;
            let mut choose = |choices: &[f64]| {
                draws += 1;
                choices[stream.below(draws, choices.len() as u64) as usize]
            };
            let options = StepOptions {
                learning_rate: choose(&[0.0, 1e-10, 1e-3, 1.0, 1e10, 1e19, 3e38]),
                beta1: choose(&[0.0, 0.9, 0.999_999]),
                beta2: choose(&[0.0, 0.99, 0.999_999]),
                epsilon: choose(&[1e-38, 1e-8, 1.0]),
                method: [Method::AdamW, Method::Muon, Method::Momentum][choose(&[0.0, 1.0, 2.0]) as usize],
                momentum: choose(&[0.0, 0.95, 0.999_999]),
                muon_rms: choose(&[1e-30, 0.2, 1e3]),
                nesterov: choose(&[0.0, 1.0]) > 0.0,
                precision: Precision::Compact,
                flip_budget: choose(&[0.01, 1.0]),
                weight_decay: choose(&[0.0, 0.1, 1e10, 3e38]),
                clip: choose(&[0.0, 1e-30, 1.0, 1e18]),
                radius_mode: [RadiusMode::Off, RadiusMode::Cap, RadiusMode::Exact][choose(&[0.0, 1.0, 2.0]) as usize],
                radius: Some(choose(&[0.0, 1e-30, 0.05, 1.0, 1e20, 3e38])),
                floor: choose(&[0.0, 1e-3, 1e10, 3e38]),
                ..StepOptions::default()
            };
            const N: usize = 9;
            let largest = choose(&[7.0, 11.0, 14.0]) as usize;
            let mut numbers =
                || -> Vec<f32> { (0..N).map(|_| (choose(&sizes[..largest]) * choose(&[-1.0, 1.0])) as f32).collect() };
            let mut run = Run::new(&context, &options);
            // Two of the same numbers: the caller's, and codes.
            let first = numbers();
            run.add("p", &first, &[3, 3], &ParameterOptions::of(Kind::Matrix));
            run.add_codes("codes", &first, &[3, 3]);
            for _ in 0..12 {
                let before = run.bits();
                let gradients = [(); 2].map(|()| Tensor::from_slice(&numbers(), &[3, 3]).unwrap());
                let report = run.step(&gradients);
                let after = run.bits();
                match report.refusal {
                    Some(_) => assert!(after == before, "case {case}: {options:?}"),
                    None => {
                        assert!(run.is_finite(), "case {case} on {}: {options:?}, {report:?}", context.backend().name())
                    }
                }
                *if report.refusal.is_some() { &mut refused } else { &mut taken } += 1;
            }
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} taken, {refused} refused");
}

#[test]
fn the_largest_norm_has_a_square_that_f32_holds() {
    assert!(LARGEST_NORM.powi(2) * 3.9 < f64::from(f32::MAX));
}

/// What there is nothing of is said to be none: before the first step, after a refused one, and of states without it.
#[test]
fn a_step_that_was_not_taken_has_no_cosine() {
    for context in contexts() {
        for method in [Method::AdamW, Method::Momentum, Method::Muon] {
            let mut run = Run::all(&context, &StepOptions { method, ..StepOptions::default() });
            let of = |run: &Run| {
                let report = run.parameters()[1].report;
                assert_eq!(report.flip_share, 1.0);
                [report.cosine.is_nan(), report.signal.is_nan()]
            };
            assert_eq!(of(&run), [true; 2]);
            (1..=2).for_each(|t| assert!(run.step(&gradients(t)).refusal.is_none()));
            // Of Muon's momentum nothing is known in advance; of momentum there is no v.
            assert_eq!(of(&run), [method == Method::Muon, method != Method::AdamW], "{method:?}");
            let mut bad = gradients(3);
            bad[1].host_mut::<f32>().unwrap()[7] = f32::NAN;
            assert!(run.step(&bad).refusal.is_some());
            assert_eq!(of(&run), [true; 2]);
        }
    }
}
