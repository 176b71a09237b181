//! What is kept and undone, and the guard through a run.

use super::*;
use crate::tensor::error::error;

/// Weights w [16, 16] that bring x [64, 16] w near to y; the loss is the mean square of what is left, by rows of x.
struct Problem {
    x: Vec<f32>,
    y: Vec<f32>,
}

const N: usize = 16;
const ROWS: usize = 64;

impl Problem {
    fn new() -> Problem {
        let (x, w) = (normal(ROWS * N, 21, 0, 1.0), normal(N * N, 22, 0, 0.5));
        let noise = normal(ROWS * N, 23, 0, 0.3);
        let y = (0..ROWS * N).map(|i| (0..N).map(|k| x[i / N * N + k] * w[k * N + i % N]).sum::<f32>() + noise[i]);
        Problem { y: y.collect(), x }
    }

    fn residues(&self, w: &[f32]) -> Vec<f32> {
        let product = |i: usize| (0..N).map(|k| self.x[i / N * N + k] * w[k * N + i % N]).sum::<f32>();
        (0..ROWS * N).map(|i| product(i) - self.y[i]).collect()
    }

    /// Of each row.
    fn losses(&self, w: &[f32]) -> Vec<f32> {
        let residues = self.residues(w);
        residues.chunks(N).map(|row| row.iter().map(|r| r * r).sum::<f32>() / N as f32).collect()
    }

    fn loss(&self, w: &[f32]) -> f64 {
        self.losses(w).iter().map(|&loss| f64::from(loss)).sum::<f64>() / ROWS as f64
    }

    fn gradient(&self, w: &[f32]) -> Tensor {
        let residues = self.residues(w);
        let of = |i: usize| (0..ROWS).map(|r| self.x[r * N + i / N] * residues[r * N + i % N]).sum::<f32>();
        let gradient: Vec<f32> = (0..N * N).map(|i| of(i) * 2.0 / (ROWS * N) as f32).collect();
        Tensor::from_slice(&gradient, &[N, N]).unwrap()
    }
}

/// Everything that a step changes, in all forms of states.
#[test]
fn an_undone_step_leaves_no_bit() {
    for context in contexts() {
        for method in [Method::AdamW, Method::Muon, Method::Momentum] {
            for precision in [Precision::F32, Precision::Int8, Precision::Compact] {
                let options = StepOptions { method, precision, learning_rate: 0.05, ..StepOptions::default() };
                let mut run = Run::all(&context, &options);
                run.add_codes("codes", &start(1), SHAPES[1].2);
                let gradients = |t| {
                    let mut all = gradients(t);
                    all.push(Tensor::from_slice(&normal(count(1), 300, t, 0.1), SHAPES[1].2).unwrap());
                    all
                };
                (1..=2).for_each(|t| assert!(run.step(&gradients(t)).refusal.is_none()));
                let (bits, progress) = (run.bits(), run.progress().clone());
                run.undo();
                assert!(run.bits() == bits && *run.progress() == progress, "nothing was kept");

                run.keep();
                assert!(run.has_kept());
                run.step(&gradients(3));
                assert!(run.bits() != bits);
                run.undo();
                assert!(run.bits() == bits, "{method:?}, {precision:?} on {}", context.backend().name());
                assert_eq!(*run.progress(), Progress { factor: 0.25, ..progress.clone() });
                assert!(!run.has_kept() && run.radius() == 0.25 * 0.05);

                // What is forgotten stays as it is.
                run.keep();
                assert_eq!(run.step(&gradients(3)).step, 3);
                let (bits, factor) = (run.bits(), run.progress().factor);
                assert_eq!(factor, 0.25 * 1.05);
                run.forget();
                run.undo();
                assert!(run.bits() == bits && run.progress().factor == factor);
            }
        }
    }
}

/// 200 steps; in step `bad` the gradient is of no use: `factor` times what it was, plus noise. With a guard such a batch is skipped.
fn descend(problem: &Problem, guard: Option<&GuardOptions>, bad: Option<(u32, f32)>) -> (f64, Progress) {
    let options = StepOptions { learning_rate: 0.02, weight_decay: 0.0, clip: 0.0, ..off() };
    let mut run = Run::new(&context(Backend::Simd, 1), &options);
    run.add("w", &[0.0; N * N], &[N, N], &ParameterOptions::of(Kind::Matrix));
    for t in 1..=200 {
        let mut gradient = problem.gradient(&run.values(0));
        let mut loss = problem.loss(&run.values(0));
        if let Some((_, factor)) = bad.filter(|(at, _)| *at == t) {
            let noise = normal(N * N, 99, t, factor);
            gradient.host_mut::<f32>().unwrap().iter_mut().zip(noise).for_each(|(g, noise)| *g += noise);
            loss += f64::from(factor);
        }
        if let Some(guard) = guard {
            let before = problem.losses(&run.values(0));
            let report = run.step_guarded(guard, loss, &[gradient]).unwrap();
            assert_eq!(report.skip.is_some(), bad.is_some_and(|(at, _)| at == t), "step {t}");
            if run.has_kept() {
                let after = problem.losses(&run.values(0));
                let Run { optimizer, weights } = &mut run;
                assert!(optimizer.judge(weights, guard, &before, &after).unwrap(), "step {t} is a good one");
            }
            continue;
        }
        run.step(&[gradient]);
    }
    (problem.loss(&run.values(0)), run.progress().clone())
}

#[test]
fn a_guarded_run_skips_what_a_run_without_it_suffers_from() {
    let (problem, guard) = (Problem::new(), GuardOptions::default());
    let (clean, _) = descend(&problem, None, None);
    let (watched, progress) = descend(&problem, Some(&guard), None);
    // A guard that does not act changes nothing.
    assert_eq!(watched, clean);
    assert_eq!((progress.guard.seen, progress.guard.checked), (200, 12));
    for factor in [f32::NAN, f32::INFINITY, 1e3] {
        let (found, progress) = descend(&problem, Some(&guard), Some((170, factor)));
        assert_eq!((progress.guard.skipped, progress.guard.undone, progress.steps), (1, 0, 199));
        assert!(found < 1.02 * clean, "{found} after {factor}, {clean} without");
    }
    let (spoiled, _) = descend(&problem, None, Some((170, 1e3)));
    assert!(spoiled > 1.05 * clean, "{spoiled} with the bad batch, {clean} without");
}

/// A step that is far too long, undone: its batch says so, and the radius that is left grows back.
#[test]
fn a_step_that_made_its_batch_worse_is_undone() {
    let (problem, guard) = (Problem::new(), GuardOptions::default());
    for method in [Method::AdamW, Method::Muon] {
        let options = StepOptions { method, learning_rate: 0.02, weight_decay: 0.0, ..off() };
        let mut run = Run::new(&context(Backend::Simd, 1), &options);
        run.add("w", &[0.0; N * N], &[N, N], &ParameterOptions::of(Kind::Matrix));
        for _ in 0..30 {
            run.step(&[problem.gradient(&run.values(0))]);
        }
        let (bits, progress, before) = (run.bits(), run.progress().clone(), problem.losses(&run.values(0)));
        run.set_learning_rate(20.0).unwrap();
        run.keep();
        run.step(&[problem.gradient(&run.values(0))]);
        let after = problem.losses(&run.values(0));
        let Run { optimizer, weights } = &mut run;
        assert!(!optimizer.judge(weights, &guard, &before, &after).unwrap() && !optimizer.has_kept());
        assert!(run.bits() == bits);
        let kept = run.progress();
        assert_eq!((kept.steps, kept.factor, kept.guard.undone), (progress.steps, 0.25, 1));
        run.set_learning_rate(0.02).unwrap();
        for back in 1..=29 {
            run.step(&[problem.gradient(&run.values(0))]);
            assert!((run.progress().factor - (0.25 * 1.05f64.powi(back)).min(1.0)).abs() < 1e-12);
        }
        assert_eq!(run.progress().factor, 1.0);
    }
}

/// A batch whose step fails has not been seen: it may come again.
#[test]
fn a_step_that_fails_leaves_the_guard_as_it_was() {
    let guard = GuardOptions { interval: 1, ..GuardOptions::default() };
    let mut run = Run::all(&context(Backend::Simd, 1), &StepOptions { learning_rate: 0.05, ..StepOptions::default() });
    for t in 1..=3 {
        assert!(run.step_guarded(&guard, 2.0, &gradients(t)).unwrap().skip.is_none() && run.has_kept());
    }
    let (bits, before) = (run.bits(), run.progress().clone());
    run.set_learning_rate(3e38).unwrap();
    run.set_radius(Some(3e38)).unwrap();
    let refused = run.step_guarded(&guard, 1.9, &gradients(4)).unwrap();
    assert_eq!(refused.refusal.unwrap().kind, RefusalKind::Update);
    let Run { optimizer, weights } = &mut run;
    let batch = Batch { loss: 1.9, guard: Some((&guard, 1.0)) };
    let error = optimizer.step_guarded(weights, &batch, |_| Err(error!(Memory, "no gradients"))).unwrap_err();
    assert_eq!((error.kind, &error.message[..]), (ErrorKind::Memory, "no gradients"));
    assert!(run.bits() == bits && !run.has_kept());
    assert_eq!((run.progress().guard, run.progress().steps), (before.guard, 3));
    run.set_learning_rate(0.05).unwrap();
    run.set_radius(None).unwrap();
    assert!(run.step_guarded(&guard, 1.9, &gradients(4)).unwrap().refusal.is_none());
    assert_eq!((run.progress().guard.seen, run.progress().steps), (4, 4));
}

/// What is said of a skipped batch is what the step would have been.
#[test]
fn the_report_of_a_skipped_batch_has_its_numbers() {
    let guard = GuardOptions::default();
    let schedule = Schedule { decay: Decay::Linear, total: 100, ..Schedule::CONSTANT };
    let mut run = Run::all(&context(Backend::Simd, 1), &StepOptions { schedule, ..StepOptions::default() });
    let mut bad = gradients(1);
    bad[2].host_mut::<f32>().unwrap()[1] = f32::NAN;
    assert!(run.step(&bad).refusal.is_some());
    for _ in 0..25 {
        assert!(run.step_guarded(&guard, 2.0, &gradients(1)).unwrap().skip.is_none());
    }
    let skipped = run.step_guarded(&guard, 50.0, &gradients(1)).unwrap();
    assert!(matches!(skipped.skip, Some(Skip::Loss { z }) if z > 6.0));
    assert_eq!((skipped.step, skipped.step_rms, skipped.refused.gradients), (25, 0.0, 1));
    let taken = run.step_guarded(&guard, 2.0, &gradients(1)).unwrap();
    let numbers = |r: &Report| [r.learning_rate, r.radius, r.gradient_norm, r.gradient_scale];
    assert_eq!((numbers(&skipped), skipped.refused), (numbers(&taken), taken.refused));
    assert!(taken.gradient_scale < 1.0 && taken.learning_rate < 1e-3 && taken.radius < 0.05);
}

/// A run that is skipped all the time ends; a good batch after many bad ones is taken.
#[test]
fn health_is_asked_for_where_a_batch_is_skipped() {
    let guard = GuardOptions::default();
    let mut run = Run::all(&context(Backend::Simd, 1), &StepOptions::default());
    run.guard_mut().history = (1 << 33) - 1;
    let before = run.progress().clone();
    for _ in 0..2 {
        let report = run.step_guarded(&guard, f64::NAN, &gradients(1)).unwrap();
        assert_eq!((report.skip, report.step), (Some(Skip::NotFinite), 0));
        let error = report.stop.unwrap();
        assert!(error.kind == ErrorKind::State && error.message.starts_with("the guard acted in 34"), "{error}");
        assert_eq!(*run.progress(), before);
    }
    assert!(run.step_guarded(&guard, 2.0, &gradients(1)).unwrap().skip.is_none());
}
