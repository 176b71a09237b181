//! The network inside an optimizer: what it multiplies, what it is told and learns, and what takes that back.

use super::*;
use crate::format::scratch::Scratch;
use crate::tensor::error::error;

/// In a parameter's row of states: ln of the factor, whether there are features, and the nine.
const SIGNAL: usize = 2 + 3;

/// Whose factors go to 4 whatever they are told, ln of them by .3 a step.
fn growing() -> LrNet {
    LrNet::changed(0.0, |weights| weights[132] = 16.0)
}

/// Whose factors depend on all that it is told, and that learns.
fn loud() -> LrNet {
    LrNet::changed(0.05, |weights| {
        weights[108..].iter_mut().zip(normal(25, 5, 0, 1.5)).for_each(|(w, x)| *w = f64::from(x));
    })
}

fn with_net(context: &Arc<Context>, options: &StepOptions, net: LrNet) -> Run {
    let mut run = Run::all(context, options);
    run.set_net(Some(net));
    run
}

/// A step of a batch with a loss, that no guard looks at.
fn step(run: &mut Run, t: u32) -> Report {
    let (gradients, loss) = (gradients(t), 3.0 + f64::from(normal(1, 8, t, 0.1)[0]));
    let views: Vec<View> = gradients.iter().map(Tensor::view).collect();
    let Run { optimizer, weights } = run;
    weights.find_thresholds(&optimizer.context().clone(), optimizer.parameters()).unwrap();
    optimizer.step_guarded(weights, &Batch { loss, guard: None }, |_| Ok(views)).unwrap()
}

fn rows(run: &Run) -> Vec<Vec<f64>> {
    let parts = run.net().unwrap().parts().unwrap();
    let (_, states) = parts.into_iter().find(|(name, _)| *name == "states").unwrap();
    states.values.chunks(states.dims[1]).map(<[f64]>::to_vec).collect()
}

#[test]
fn its_factor_multiplies_rate_and_radius() {
    for context in contexts() {
        for method in [Method::AdamW, Method::Muon, Method::Momentum] {
            for mode in [RadiusMode::Off, RadiusMode::Cap, RadiusMode::Exact] {
                let options = StepOptions {
                    method,
                    learning_rate: if method == Method::Momentum { 1e-2 } else { 1e-3 },
                    radius_mode: mode,
                    radius: Some(0.03),
                    clip: 0.0,
                    ..StepOptions::default()
                };
                let mut run = with_net(&context, &options, growing());
                for t in 1..=7 {
                    let report = step(&mut run, t);
                    let factor = (0.3 * f64::from(t)).min(4f64.ln()).exp();
                    let name = format!("{method:?}, {mode:?}, step {t} on {}", context.backend().name());
                    assert_eq!(report.refusal, None);
                    for (i, parameter) in run.parameters().iter().enumerate().filter(|(i, _)| count(*i) > 0) {
                        let part = &parameter.report;
                        match mode {
                            RadiusMode::Exact => {
                                assert!((part.ratio / (0.03 * factor) - 1.0).abs() < 1e-9, "{name} {part:?}")
                            }
                            _ if part.held => {
                                assert!((part.ratio / (0.03 * factor) - 1.0).abs() < 1e-9, "{name} {part:?}")
                            }
                            _ => {
                                let rate = options.learning_rate * factor;
                                assert!((part.learning_rate / rate - 1.0).abs() < 1e-12, "{name} {part:?}");
                            }
                        }
                        assert!(mode != RadiusMode::Off || !part.held);
                        assert_eq!(rows(&run)[i][1], 1.0, "{name}: all that it is told are numbers");
                    }
                }
            }
        }
    }
}

/// A head of zeros changes no bit of a run.
#[test]
fn a_zero_head_is_no_network() {
    for context in contexts() {
        for mode in [RadiusMode::Off, RadiusMode::Cap, RadiusMode::Exact] {
            let options = StepOptions { radius_mode: mode, learning_rate: 0.02, ..StepOptions::default() };
            let (mut plain, mut run) =
                (Run::all(&context, &options), with_net(&context, &options, LrNet::changed(0.0, |_| ())));
            for t in 1..=5 {
                let (expected, found) = (step(&mut plain, t), step(&mut run, t));
                assert_eq!(
                    (found.ratio, found.held, found.learning_rate),
                    (expected.ratio, expected.held, expected.learning_rate)
                );
            }
            assert!(run.bits() == plain.bits(), "{mode:?}");
        }
    }
}

/// Gradients that stay say that steps are too short, and gradients that turn, that they are too long.
#[test]
fn it_learns_from_the_gradient_after_a_step() {
    let context = context(Backend::Simd, 1);
    let after = |turns: bool, rate: f64| {
        let mut run = with_net(&context, &StepOptions::default(), LrNet::changed(rate, |_| ()));
        for t in 1..=30 {
            let mut gradients = gradients(1);
            if turns && t % 2 == 0 {
                gradients.iter_mut().for_each(|g| g.host_mut::<f32>().unwrap().iter_mut().for_each(|g| *g = -*g));
            }
            assert_eq!(run.step(&gradients).refusal, None);
        }
        rows(&run)[1][0]
    };
    let [straight, turning] = [after(false, 0.01), after(true, 0.01)];
    assert!(straight > 0.5 && turning < -0.5, "{straight} {turning}");
    assert_eq!([after(false, 0.0), after(true, 0.0)], [0.0; 2]);
}

/// Gradients that stay the same agree in all of their power, in whatever form the states are kept.
#[test]
fn the_signal_is_that_of_the_gradients_before() {
    for context in contexts() {
        for (precision, within) in [(Precision::F32, 1e-4), (Precision::Int8, 0.02), (Precision::Compact, 0.02)] {
            let options = StepOptions { precision, radius_mode: RadiusMode::Off, ..StepOptions::default() };
            let mut run = with_net(&context, &options, growing());
            for t in 1..=4 {
                // Of one size, so that no clamp hides what is above 1.
                let masters: Vec<f32> = normal(count(1), 9, 0, 1.0).iter().map(|x| 0.01 * x.signum()).collect();
                let mut gradients = gradients(1);
                gradients[1] = Tensor::from_slice(&masters, SHAPES[1].2).unwrap();
                assert_eq!(run.step(&gradients).refusal, None);
                let found = rows(&run)[1][SIGNAL];
                let expected = if t == 1 { -1.0 } else { 1.0 };
                assert!((found - expected).abs() < within, "{precision:?}, step {t}: {found}");
            }
        }
    }
}

#[test]
fn an_undone_step_is_one_it_has_not_seen() {
    for context in contexts() {
        for precision in [Precision::F32, Precision::Compact] {
            let options = StepOptions { precision, learning_rate: 0.01, ..StepOptions::default() };
            let mut run = with_net(&context, &options, loud());
            (1..=4).for_each(|t| assert_eq!(step(&mut run, t).refusal, None));
            let (net, bits, previous) = (run.net().unwrap().clone(), run.bits(), run.parameters()[1].previous);
            run.keep();
            step(&mut run, 5);
            assert!(*run.net().unwrap() != net && run.parameters()[1].previous != previous);
            run.undo();
            assert!(run.bits() == bits && run.parameters()[1].previous == previous);
            assert_eq!(*run.net().unwrap(), net);
        }
    }
}

/// What was set since a step stays when the step is undone.
#[test]
fn a_network_that_is_set_stays() {
    let context = context(Backend::Simd, 1);
    for next in [None, Some(growing())] {
        let mut run = with_net(&context, &StepOptions::default(), loud());
        step(&mut run, 1);
        let bits = run.bits();
        run.keep();
        step(&mut run, 2);
        run.set_net(next.clone());
        run.undo();
        assert!(run.bits() == bits && run.net() == next.as_ref());
    }
}

#[test]
fn what_is_refused_leaves_no_trace() {
    for context in contexts() {
        let options = StepOptions { learning_rate: 0.01, ..StepOptions::default() };
        let (mut run, mut twin) = (with_net(&context, &options, loud()), with_net(&context, &options, loud()));
        // Room for states is no trace.
        run.net_mut().unwrap().grow(SHAPES.len()).unwrap();
        for t in 1..=6 {
            let before = run.net().unwrap().clone();
            // No gradients, a bad one, and an update that is too long.
            let (Run { optimizer, weights }, batch) = (&mut run, Batch { loss: 1.0, guard: None });
            optimizer.step_guarded(weights, &batch, |_| Err(error!(Memory, "none"))).unwrap_err();
            let mut bad = gradients(t);
            bad[1].host_mut::<f32>().unwrap()[9] = f32::INFINITY;
            let views: Vec<View> = bad.iter().map(Tensor::view).collect();
            assert!(optimizer.step_guarded(weights, &batch, |_| Ok(views)).unwrap().refusal.is_some());
            assert_eq!(*run.net().unwrap(), before);
            if t == 6 {
                run.set_learning_rate(3e38).unwrap();
                run.set_radius(Some(3e38)).unwrap();
                assert_eq!(step(&mut run, t).refusal.unwrap().kind, RefusalKind::Update);
                assert_eq!(*run.net().unwrap(), before);
                break;
            }
            let (found, expected) = (step(&mut run, t), step(&mut twin, t));
            assert_eq!(Report { refused: expected.refused, ..found }, expected);
            assert!(run.bits() == twin.bits() && run.net() == twin.net());
        }
    }
}

#[test]
fn a_checkpoint_continues_it() {
    let scratch = Scratch::new();
    let [path, without] = ["net", "without"].map(|name| scratch.path().join(name));
    for context in contexts() {
        for precision in [Precision::F32, Precision::Int8, Precision::Compact] {
            let options = StepOptions { precision, learning_rate: 0.01, ..StepOptions::default() };
            let mut first = with_net(&context, &options, loud());
            (1..=5).for_each(|t| assert_eq!(step(&mut first, t).refusal, None));
            first.save(&path).unwrap();
            // The online rate is an option; all else is in the file.
            let mut second = with_net(&context, &options, LrNet::changed(0.05, |_| ()));
            second.load(&path).unwrap();
            assert_eq!(first.net(), second.net());
            for t in 6..=10 {
                assert_eq!(step(&mut first, t), step(&mut second, t));
            }
            assert!(first.bits() == second.bits() && first.net() == second.net(), "{precision:?}");
            // A file with a network and an optimizer without one, and the other way round.
            let mut plain = Run::all(&context, &options);
            let (bits, error) = (plain.bits(), plain.load(&path).unwrap_err());
            assert!(error.kind == ErrorKind::Format && plain.bits() == bits && plain.net().is_none(), "{error}");
            plain.save(&without).unwrap();
            let (bits, before) = (second.bits(), second.net().unwrap().clone());
            let error = second.load(&without).unwrap_err();
            assert!(error.kind == ErrorKind::Format && second.bits() == bits && *second.net().unwrap() == before);
        }
    }
}
