//! The flip budget: trits are counted here, before and after each step, by the threshold of the weights before it.

use super::*;

/// Half of the mean magnitude: of the absmean scheme.
fn threshold(w: &[f32]) -> f32 {
    (0.5 * w.iter().map(|&x| f64::from(x.abs())).sum::<f64>() / w.len() as f64) as f32
}

fn trits(w: &[f32], threshold: f32) -> Vec<i32> {
    w.iter().map(|&x| i32::from(x > threshold) - i32::from(x < -threshold)).collect()
}

const DIMS: [usize; 2] = [90, 70];
const COUNT: usize = DIMS[0] * DIMS[1];

fn ternary(context: &Arc<Context>, options: &StepOptions) -> Run {
    let mut run = Run::new(context, options);
    match options.precision {
        Precision::Compact => run.add_codes("w", &normal(COUNT, 2, 0, 0.1), &DIMS),
        _ => run.add("w", &normal(COUNT, 2, 0, 0.1), &DIMS, &ParameterOptions::of(Kind::Ternary)),
    }
    run
}

fn gradient(t: u32) -> [Tensor; 1] {
    [Tensor::from_slice(&normal(COUNT, 61, t, 0.1), &DIMS).unwrap()]
}

/// Steps at a high rate: for each how many trits changed, and what the report says.
fn flips(context: &Arc<Context>, options: &StepOptions) -> Vec<(u64, Report, f64)> {
    let mut run = ternary(context, options);
    let mut all = Vec::new();
    for t in 1..=8 {
        let before = run.values(0);
        let h = threshold(&before);
        let report = run.step(&gradient(t));
        let changed = trits(&before, h).into_iter().zip(trits(&run.values(0), h)).filter(|(x, y)| x != y).count();
        let part = &run.parameters()[0].report;
        assert_eq!((part.flips, part.trits), (report.flips, COUNT as u64));
        all.push((changed as u64, report, part.flip_share));
    }
    all
}

fn options(method: Method, precision: Precision, flip_budget: f64) -> StepOptions {
    StepOptions { method, precision, flip_budget, learning_rate: 0.05, radius_mode: RadiusMode::Off, ..off() }
}

#[test]
fn no_more_trits_change_than_the_budget_has() {
    let mut held = 0;
    for context in contexts() {
        for method in [Method::AdamW, Method::Muon, Method::Momentum] {
            for precision in [Precision::F32, Precision::Int8] {
                for budget in [0.001, 0.01, 0.05] {
                    let allowed = (budget * COUNT as f64) as u64;
                    for (changed, report, share) in flips(&context, &options(method, precision, budget)) {
                        assert!(changed <= allowed, "{changed} of {allowed}: {method:?}, {precision:?}");
                        // The threshold of the kernel is rounded otherwise: a weight may lie between the two.
                        assert!(report.flips.abs_diff(changed) <= 1, "{} and {changed}", report.flips);
                        assert!(share > 0.0 && share <= 1.0 && report.step_rms > 0.0);
                        // Of a budget that holds most is used: bins are an eighth of an octave wide.
                        let used = changed as f64 > 0.7 * allowed as f64 - 3.0;
                        assert!(used || share == 1.0, "{changed} of {allowed}: {method:?}, {precision:?}");
                        held += u32::from(share < 1.0);
                    }
                }
            }
        }
    }
    assert!(held > 200, "the budget held {held} of 432 steps");
}

/// A step is never nothing: of no budget at all a 2^17th is left, in which a weight that lies on a threshold may pass it.
#[test]
fn without_a_budget_hardly_any_trit_changes() {
    for context in contexts() {
        for (changed, report, share) in flips(&context, &options(Method::AdamW, Precision::F32, 0.0)) {
            assert!(changed <= 3, "{changed} of {COUNT}");
            assert!((0.5 / 65_536.0..0.01).contains(&share) && report.step_rms > 0.0, "{share}");
        }
    }
}

/// A budget that is not reached changes no bit.
#[test]
fn a_large_budget_holds_nothing() {
    for context in contexts() {
        for method in [Method::AdamW, Method::Muon] {
            let after = |budget| {
                let mut run = ternary(&context, &options(method, Precision::F32, budget));
                (1..=4).for_each(|t| assert_eq!(run.step(&gradient(t)).refusal, None));
                (run.bits(), run.parameters()[0].report.flip_share)
            };
            let free = after(1.0);
            assert_eq!(free.1, 1.0);
            assert!(after(0.9) == free && after(0.01) != free);
        }
    }
}

/// Codes are rounded at random, and those beside the threshold change sides by that alone: beyond the budget by no more than such.
#[test]
fn codes_are_held_up_to_their_rounding() {
    for context in contexts() {
        let budget = 0.01;
        let (mut held, mut free) = (0, 0);
        for (changed, report, share) in flips(&context, &options(Method::AdamW, Precision::Compact, budget)) {
            assert!(report.flips.abs_diff(changed) <= COUNT as u64 / 100);
            assert!(share < 1.0);
            held += changed;
        }
        for (changed, ..) in flips(&context, &options(Method::AdamW, Precision::Compact, 1.0)) {
            free += changed;
        }
        // One code in sixty or so lies beside a threshold.
        let allowed = 8 * (budget * COUNT as f64) as u64;
        assert!(held < 3 * allowed && 4 * held < free, "{held} with a budget of {allowed}, {free} without");
    }
}
