//! Sampling: its filters, its frequencies and what it refuses.

use crate::model::{SampleOptions, sample};
use crate::tensor::ErrorKind;

/// Probabilities .15, .5, .05, .3.
const LOGITS: [f32; 4] = [-1.897_12, -std::f32::consts::LN_2, -2.995_732, -1.203_973];

/// How often each token is drawn at 20,000 positions, as a part.
fn frequencies(logits: &[f32], options: &SampleOptions) -> Vec<f64> {
    let draws = 20_000;
    let mut counts = vec![0.0; logits.len()];
    for position in 0..draws {
        counts[sample(logits, options, position).unwrap() as usize] += 1.0;
    }
    counts.iter().map(|count| count / draws as f64).collect()
}

/// Within five standard deviations of 20,000 draws; exact where the probability is 0 or 1.
#[track_caller]
fn assert_frequencies(options: SampleOptions, expected: [f64; 4]) {
    for (found, expected) in frequencies(&LOGITS, &options).iter().zip(expected) {
        let deviation = (expected * (1.0 - expected) / 20_000.0f64).sqrt();
        assert!((found - expected).abs() <= 5.0 * deviation, "{options:?}: {found}, expected {expected}");
    }
}

#[test]
fn tokens_come_as_often_as_they_are_likely() {
    let all = SampleOptions { seed: 4, ..Default::default() };
    assert_frequencies(all.clone(), [0.15, 0.5, 0.05, 0.3]);
    // At temperature 1/2 the probabilities are squared, at 2 their roots: both over their sum.
    let squares = [0.0225, 0.25, 0.0025, 0.09].map(|p| p / 0.365);
    assert_frequencies(SampleOptions { temperature: 0.5, ..all.clone() }, squares);
    let roots = [0.15f64, 0.5, 0.05, 0.3].map(f64::sqrt);
    let sum: f64 = roots.iter().sum();
    assert_frequencies(SampleOptions { temperature: 2.0, ..all }, roots.map(|p| p / sum));
}

#[test]
fn top_k_keeps_the_k_most_likely() {
    let top = |top_k: usize| SampleOptions { top_k, seed: 1, ..Default::default() };
    assert_frequencies(top(1), [0.0, 1.0, 0.0, 0.0]);
    assert_frequencies(top(2), [0.0, 0.625, 0.0, 0.375]);
    assert_frequencies(top(3), [0.15, 0.5, 0.0, 0.3].map(|p| p / 0.95));
}

#[test]
fn top_p_keeps_the_fewest_that_reach_it() {
    let top = |top_p: f32| SampleOptions { top_p, seed: 2, ..Default::default() };
    assert_frequencies(top(1e-6), [0.0, 1.0, 0.0, 0.0]);
    assert_frequencies(top(0.49), [0.0, 1.0, 0.0, 0.0]);
    assert_frequencies(top(0.51), [0.0, 0.625, 0.0, 0.375]);
    assert_frequencies(top(0.79), [0.0, 0.625, 0.0, 0.375]);
    assert_frequencies(top(0.81), [0.15, 0.5, 0.0, 0.3].map(|p| p / 0.95));
    assert_frequencies(top(0.96), [0.15, 0.5, 0.05, 0.3]);
    // After top_k, of what that left: of .5 and .3, .6 of the sum is reached by the first.
    assert_frequencies(SampleOptions { top_k: 2, ..top(0.6) }, [0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn a_filter_that_removes_nothing_changes_nothing() {
    let plain = SampleOptions { seed: 9, ..Default::default() };
    for position in 0..500 {
        let expected = sample(&LOGITS, &plain, position).unwrap();
        for options in [SampleOptions { top_k: 4, ..plain.clone() }, SampleOptions { top_p: 0.9999, ..plain.clone() }] {
            assert_eq!(sample(&LOGITS, &options, position).unwrap(), expected);
        }
    }
}

#[test]
fn the_seed_and_the_position_decide() {
    let drawn = |seed: u64| -> Vec<u32> {
        (0..200)
            .map(|position| sample(&LOGITS, &SampleOptions { seed, ..Default::default() }, position).unwrap())
            .collect()
    };
    assert_eq!(drawn(5), drawn(5));
    assert_ne!(drawn(5), drawn(6));
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let greedy = SampleOptions { temperature: 0.0, ..Default::default() };
    assert_eq!(sample(&[0.5, 2.0, -1.0, 2.0], &greedy, 0).unwrap(), 1);
    assert_eq!(sample(&[-0.0, 0.0], &greedy, 0).unwrap(), 0);
    // So does any sampling that is all but greedy.
    let cold = SampleOptions { temperature: f32::MIN_POSITIVE, ..Default::default() };
    assert!((0..100).all(|position| sample(&LOGITS, &cold, position).unwrap() == 1));
    let one = SampleOptions { top_k: 1, ..Default::default() };
    assert_eq!(sample(&[3.0, 3.0, 1.0], &one, 7).unwrap(), 0);
}

#[test]
fn what_is_impossible_is_never_drawn() {
    let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    let drawn = frequencies(&logits, &SampleOptions::default());
    assert_eq!((drawn[0], drawn[2], drawn[4]), (0.0, 0.0, 0.0));
    assert!(drawn[1] > 0.45 && drawn[3] > 0.45);
}

#[test]
fn logits_that_say_nothing_are_a_state_error() {
    let refused = |logits: &[f32]| {
        for temperature in [0.0, 1.0] {
            let error = sample(logits, &SampleOptions { temperature, ..Default::default() }, 0).unwrap_err();
            assert_eq!(error.kind, ErrorKind::State, "{error}");
        }
        sample(logits, &SampleOptions::default(), 0).unwrap_err().message
    };
    assert!(refused(&[1.0, f32::NAN, 2.0]).contains("the logit of token 1 is NaN"));
    assert!(refused(&[1.0, 2.0, f32::INFINITY]).contains("the logit of token 2 is inf"));
    refused(&[f32::NEG_INFINITY; 3]);
    refused(&[]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for temperature in [-1.0, f32::NAN, f32::INFINITY] {
        let options = SampleOptions { temperature, ..Default::default() };
        assert_eq!(sample(&LOGITS, &options, 0).unwrap_err().kind, ErrorKind::Argument);
    }
    for top_p in [0.0, -0.5, 1.01, f32::NAN] {
        let options = SampleOptions { top_p, ..Default::default() };
        assert_eq!(sample(&LOGITS, &options, 0).unwrap_err().kind, ErrorKind::Argument);
    }
}
