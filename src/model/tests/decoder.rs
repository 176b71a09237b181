//! The decoder against the independent model and against the model's own forward pass, within the window and beyond it.

use super::*;
use crate::tensor::ErrorKind;

fn model(options: ModelOptions) -> Model {
    let mut model = Model::with_dtype(context(Backend::Scalar), options, 3, DType::F64).unwrap();
    stir(&mut model);
    model
}

fn tokens(count: usize) -> Vec<u32> {
    text(&small(true, false, true), 1, count).0
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "logit {i}: {found}, expected {expected}");
    }
}

fn wide(logits: &[f32]) -> Vec<f64> {
    logits.iter().map(|&logit| f64::from(logit)).collect()
}

fn pushed(model: &Model, tokens: &[u32]) -> Decoder {
    pushed_to(KvCache::F32, model, tokens)
}

fn pushed_to(cache: KvCache, model: &Model, tokens: &[u32]) -> Decoder {
    let mut decoder = Decoder::new(model, cache).unwrap();
    tokens.iter().for_each(|&token| decoder.push(model, token).unwrap());
    decoder
}

#[test]
fn every_position_sees_the_last_context_length_positions() {
    for (quantize, gated, tied) in [(false, false, true), (true, true, false)] {
        let model = model(small(quantize, gated, tied));
        // The ring of 7 goes round three times.
        let tokens = tokens(24);
        let expected = plain(&model).logits(&tokens, tokens.len());
        let mut decoder = Decoder::new(&model, KvCache::F32).unwrap();
        assert!(decoder.next_logits().is_empty());
        for (i, (&token, expected)) in tokens.iter().zip(&expected).enumerate() {
            decoder.push(&model, token).unwrap();
            assert_close(decoder.next_logits(), expected, 1e-6);
            assert_eq!((decoder.position(), decoder.slid()), (i + 1, i + 1 > 7));
        }
        // The window matters: with all of the text in sight the logits are others.
        let unlimited = ModelOptions { context_length: 24, ..small(quantize, gated, tied) };
        let all = Plain::new(unlimited, plain(&model).parameters).logits(&tokens, tokens.len());
        let difference = |i: usize| all[i].iter().zip(&expected[i]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(difference(6) < 1e-9 && difference(7) > 1e-3, "{} {}", difference(6), difference(7));
    }
}

#[test]
fn within_the_window_the_decoder_is_the_forward_pass() {
    for backend in [Backend::Scalar, Backend::Simd, Backend::Parallel] {
        let options = ModelOptions { context_length: 40, width: 64, hidden: 96, ..small(false, true, true) };
        let tokens = tokens(40);
        let model = Model::new(context(backend), options, 3).unwrap();
        let mut activations = Activations::new(&model, 1, 40).unwrap();
        let logits = model.logits(&mut activations, &tokens).unwrap();
        let rows: Vec<&[f32]> = logits.slice::<f32>().unwrap().chunks(11).collect();
        let mut decoder = Decoder::new(&model, KvCache::F32).unwrap();
        for (&token, row) in tokens.iter().zip(rows) {
            decoder.push(&model, token).unwrap();
            assert_close(decoder.next_logits(), &wide(row), 1e-5);
        }
    }
}

#[test]
fn a_ternary_decoder_in_f32_stays_near_the_forward_pass() {
    for backend in [Backend::Scalar, Backend::Simd] {
        let options = ModelOptions { context_length: 40, width: 64, hidden: 96, ..small(true, true, true) };
        let tokens = tokens(40);
        let model = Model::new(context(backend), options, 3).unwrap();
        let mut activations = Activations::new(&model, 1, 40).unwrap();
        let logits = model.logits(&mut activations, &tokens).unwrap().slice::<f32>().unwrap().to_vec();
        let largest = logits.iter().fold(0.0, |a: f32, l| a.max(l.abs()));
        let mut decoder = Decoder::new(&model, KvCache::F32).unwrap();
        for (&token, row) in tokens.iter().zip(logits.chunks(11)) {
            decoder.push(&model, token).unwrap();
            // Sums in another order may round an activation to the next int8 code: 1 / 127 of a row's largest.
            for (a, b) in decoder.next_logits().iter().zip(row) {
                assert!((a - b).abs() <= 0.02 * largest, "{a} {b}");
            }
        }
    }
}

#[test]
fn a_prompt_is_its_tokens_one_by_one() {
    let model = model(small(true, false, true));
    let tokens = tokens(16);
    // In one piece, in several, and over the end of the ring of 7.
    for parts in [&[5][..], &[1, 1, 3], &[7], &[4, 3], &[4, 6], &[4, 3, 2], &[6, 6, 1, 3]] {
        for cache in [KvCache::F32, KvCache::Int8] {
            let mut decoder = Decoder::new(&model, cache).unwrap();
            let mut done = 0;
            for &part in parts {
                decoder.prompt(&model, &tokens[done..done + part]).unwrap();
                done += part;
                let expected = pushed_to(cache, &model, &tokens[..done]);
                assert_close(decoder.next_logits(), &wide(expected.next_logits()), 1e-6);
                assert_eq!((decoder.position(), decoder.slid()), (done, done > 7));
            }
        }
    }
}

#[test]
fn a_prompt_that_fills_the_window_leaves_nothing_else_in_it() {
    let model = model(small(true, true, true));
    let tokens = tokens(30);
    let mut fresh = Decoder::new(&model, KvCache::F32).unwrap();
    fresh.prompt(&model, &tokens[20..27]).unwrap();
    assert!(!fresh.slid());
    let mut long = Decoder::new(&model, KvCache::F32).unwrap();
    long.prompt(&model, &tokens[..27]).unwrap();
    let mut later = Decoder::new(&model, KvCache::F32).unwrap();
    later.prompt(&model, &tokens[..3]).unwrap();
    later.prompt(&model, &tokens[20..27]).unwrap();
    for &next in &tokens[27..] {
        // Other absolute positions, the same differences.
        assert_close(long.next_logits(), &wide(fresh.next_logits()), 1e-5);
        assert_close(later.next_logits(), &wide(fresh.next_logits()), 1e-5);
        assert!(long.slid() && later.slid());
        for decoder in [&mut fresh, &mut long, &mut later] {
            decoder.push(&model, next).unwrap();
        }
    }
    assert_eq!((fresh.position(), long.position(), later.position()), (10, 30, 13));
}

#[test]
fn a_prompt_of_several_chunks_is_the_forward_pass() {
    let options = ModelOptions { context_length: 300, ..small(true, false, true) };
    let model = model(options);
    for count in [128, 129, 300] {
        let tokens = tokens(count);
        let mut activations = Activations::new(&model, 1, count).unwrap();
        let logits = model.logits(&mut activations, &tokens).unwrap();
        let mut decoder = Decoder::new(&model, KvCache::F32).unwrap();
        decoder.prompt(&model, &tokens).unwrap();
        assert_close(decoder.next_logits(), &logits.slice::<f64>().unwrap()[(count - 1) * 11..], 1e-6);
    }
}

#[test]
fn bad_calls_change_nothing() {
    let model = model(small(true, false, true));
    let mut decoder = pushed(&model, &[1, 2, 3]);
    let before = decoder.next_logits().to_vec();
    let error = decoder.prompt(&model, &[4, 11, 5]).unwrap_err();
    assert_eq!(error.message, "decoder: token 1 is 11, outside the vocabulary of 11");
    assert_eq!(decoder.push(&model, 99).unwrap_err().kind, ErrorKind::Argument);
    assert_eq!(decoder.prompt(&model, &[]).unwrap_err().message, "decoder: the prompt is empty");
    let other = self::model(small(true, true, true));
    assert_eq!(decoder.push(&other, 1).unwrap_err().message, "decoder: it was made for a model of another geometry");
    assert_eq!((decoder.next_logits(), decoder.position()), (&before[..], 3));
    decoder.push(&model, 4).unwrap();
    assert_eq!(decoder.next_logits(), pushed(&model, &[1, 2, 3, 4]).next_logits());
}

/// Codes make nearly the same logits, also where the ring goes round.
#[test]
fn a_cache_of_codes_is_near_one_of_floats() {
    for (quantize, gated, tied) in [(false, false, true), (true, true, false)] {
        let model = model(small(quantize, gated, tied));
        let mut floats = Decoder::new(&model, KvCache::F32).unwrap();
        let mut codes = Decoder::new(&model, KvCache::Int8).unwrap();
        let (mut largest, mut differs) = (0f32, false);
        for &token in &tokens(24) {
            floats.push(&model, token).unwrap();
            codes.push(&model, token).unwrap();
            for (a, b) in floats.next_logits().iter().zip(codes.next_logits()) {
                largest = largest.max((a - b).abs() / a.abs().max(1.0));
                differs |= a != b;
            }
        }
        assert!(differs && largest < 0.2, "{largest}");
    }
}

/// In a model of one layer an entry depends on its token and position only: a ring that has gone round holds what a ring holds that
/// was filled with the last tokens alone, in another order.
#[test]
fn a_ring_of_codes_holds_the_last_tokens() {
    for quantize in [false, true] {
        let model = model(ModelOptions { layers: 1, ..small(quantize, false, true) });
        let tokens = tokens(24);
        for count in [8, 13, 14, 15, 24] {
            let mut filled = Decoder::new(&model, KvCache::Int8).unwrap();
            filled.prompt(&model, &tokens[..count]).unwrap();
            let round = pushed_to(KvCache::Int8, &model, &tokens[..count]);
            assert_close(round.next_logits(), &wide(filled.next_logits()), 1e-6);
        }
    }
}
