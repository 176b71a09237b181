use super::*;
use crate::tensor::random::Purpose;
use crate::tensor::{ErrorKind, never};
use xxhash_rust::xxh3::xxh3_64;

/// Token i is i, so that every window shows where it was read.
fn counting(count: u32, fraction: f64) -> Dataset {
    Dataset::from_tokens((0..count).collect(), count as usize, fraction).unwrap()
}

fn stream(step: u32, micro_batch: u32) -> Stream {
    Stream::new(42, Purpose::Batch, step, micro_batch)
}

fn batch(dataset: &Dataset, split: Split, stream: Stream, batch: usize, length: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut tokens, mut targets) = (vec![u32::MAX; batch * length], vec![u32::MAX; batch * length]);
    dataset.batch(split, stream, batch, length, &mut tokens, &mut targets).unwrap();
    (tokens, targets)
}

fn all(tokens: Tokens) -> Vec<u32> {
    let mut out = vec![0; tokens.len()];
    tokens.read(0, &mut out);
    out
}

#[test]
fn the_text_is_split_into_its_first_and_last_tokens() {
    let dataset = counting(1000, 0.2);
    assert_eq!(all(dataset.tokens(Split::Train)), (0..800).collect::<Vec<_>>());
    assert_eq!(all(dataset.tokens(Split::Validation)), (800..1000).collect::<Vec<_>>());
    // As nanoGPT cuts tinyshakespeare: 1,003,854 and 111,540.
    let parts = |count: usize, fraction: f64| {
        let dataset = Dataset::from_tokens(vec![0; count], 1, fraction).unwrap();
        (dataset.tokens(Split::Train).len(), dataset.tokens(Split::Validation).len())
    };
    assert_eq!(parts(1_115_394, 0.1), (1_003_854, 111_540));
    for (count, fraction, expected) in
        [(100, 0.07, (93, 7)), (10, 0.9, (1, 9)), (30, 0.1, (27, 3)), (7, 0.0, (7, 0)), (1, 0.01, (0, 1))]
    {
        assert_eq!(parts(count, fraction), expected, "{count} {fraction}");
    }
}

#[test]
fn text_and_tokens_give_the_same_dataset() {
    let tokenizer = Tokenizer::character("abcdé").unwrap();
    let text = "abédc".repeat(9000);
    let from_text = Dataset::from_text(&text, &tokenizer, 0.25, &never).unwrap();
    let tokens = tokenizer.encode(&text).unwrap();
    assert_eq!(from_text.vocabulary(), 5);
    assert_eq!(all(from_text.tokens(Split::Train)), tokens[..33_750]);
    assert_eq!(all(from_text.tokens(Split::Validation)), tokens[33_750..]);
    let from_tokens = Dataset::from_tokens(tokens, 5, 0.25).unwrap();
    assert_eq!(from_text.fingerprint(), from_tokens.fingerprint());
    let error = Dataset::from_text(&text, &tokenizer, 0.1, &|| true).err().unwrap();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Cancelled, "encoding the text was cancelled"));
    let error = Dataset::from_text("abcx", &tokenizer, 0.1, &never).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Format);
}

#[test]
fn narrow_and_wide_tokens_are_the_same() {
    for vocabulary in [65_536, 65_537] {
        let tokens: Vec<u32> = (0..3000).map(|i| (i * 7919) % 65_536).chain([65_535, 0]).collect();
        let dataset = Dataset::from_tokens(tokens.clone(), vocabulary, 0.0).unwrap();
        assert_eq!(matches!(dataset.tokens(Split::Train), Tokens::Narrow(_)), vocabulary == 65_536);
        assert_eq!(all(dataset.tokens(Split::Train)), tokens);
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        assert_eq!(dataset.fingerprint(), xxh3_64(&bytes));
    }
    assert_ne!(counting(100, 0.1).fingerprint(), counting(101, 0.1).fingerprint());
}

#[test]
fn targets_are_the_next_tokens_and_stay_in_their_split() {
    let dataset = counting(200, 0.25);
    for (split, range) in [(Split::Train, 0..150), (Split::Validation, 150..200)] {
        for step in 0..50 {
            let (tokens, targets) = batch(&dataset, split, stream(step, 0), 4, 16);
            for (tokens, targets) in tokens.chunks(16).zip(targets.chunks(16)) {
                let start = tokens[0];
                assert!(range.contains(&start) && range.contains(&(start + 16)), "{split:?} {start}");
                assert!(tokens.iter().copied().eq(start..start + 16));
                assert!(targets.iter().copied().eq(start + 1..start + 17));
            }
        }
    }
}

#[test]
fn every_start_is_drawn_and_the_last_token_is_reached() {
    let dataset = counting(40, 0.5);
    for split in [Split::Train, Split::Validation] {
        let first = if split == Split::Train { 0 } else { 20 };
        let mut drawn = [0u32; 12];
        for step in 0..600 {
            for row in batch(&dataset, split, stream(step, 0), 2, 8).0.chunks(8) {
                drawn[(row[0] - first) as usize] += 1;
            }
        }
        // 100 expected of each, deviation 9.6: 1200 draws of 12 starts.
        assert!(drawn.iter().all(|&count| (50..150).contains(&count)), "{split:?} {drawn:?}");
    }
    // A split of one window: it is always that one.
    assert_eq!(batch(&counting(9, 0.0), Split::Train, stream(3, 1), 1, 8), ((0..8).collect(), (1..9).collect()));
}

#[test]
fn batches_are_a_function_of_seed_step_and_micro_batch() {
    let dataset = counting(5000, 0.1);
    let draw = |stream| batch(&dataset, Split::Train, stream, 8, 32);
    let first = draw(stream(7, 0));
    assert_eq!(draw(stream(7, 0)), first);
    assert_eq!(draw(stream(7, 0)), batch(&counting(5000, 0.1), Split::Train, stream(7, 0), 8, 32));
    for other in [stream(8, 0), stream(7, 1), Stream { seed: 43, ..stream(7, 0) }] {
        assert_ne!(draw(other), first);
    }
    // A larger batch begins with the smaller one.
    let larger = batch(&dataset, Split::Train, stream(7, 0), 12, 32);
    assert_eq!(larger.0[..8 * 32], first.0);
    // The definition, so that runs stay repeatable from one version to the next.
    let starts: Vec<u64> = (0..8).map(|row| stream(7, 0).below(row, 4500 - 32)).collect();
    assert!(first.0.chunks(32).map(|row| u64::from(row[0])).eq(starts));
}

#[test]
fn windows_stand_side_by_side() {
    let dataset = counting(100, 0.4);
    for (split, length, expected) in [
        (Split::Train, 59, 1),
        (Split::Train, 60, 0),
        (Split::Train, 8, 7),
        (Split::Validation, 13, 3),
        (Split::Validation, 12, 3),
        (Split::Validation, 1, 39),
        (Split::Train, 0, 0),
    ] {
        assert_eq!(dataset.windows(split, length), expected, "{split:?} {length}");
        let first = if split == Split::Train { 0 } else { 60 };
        for index in 0..expected {
            let (mut tokens, mut targets) = (vec![0; length], vec![0; length]);
            dataset.window(split, index, length, &mut tokens, &mut targets).unwrap();
            let start = first + (index * length) as u32;
            assert!(tokens.iter().copied().eq(start..start + length as u32));
            assert!(targets.iter().copied().eq(start + 1..start + 1 + length as u32));
        }
        let (mut tokens, mut targets) = (vec![0; length], vec![0; length]);
        let error = dataset.window(split, expected, length, &mut tokens, &mut targets).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Argument);
    }
    assert_eq!(counting(1, 0.0).windows(Split::Train, 4), 0);
}

#[test]
fn too_little_text_says_how_much_is_needed() {
    let refused = |count: u32, fraction: f64, length: usize| {
        let error = counting(count, fraction).check(length).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Shape);
        error.message
    };
    let expected =
        "the validation split has 40 tokens, windows of 64 need at least 65; the text needs about 650 tokens in all";
    assert_eq!(refused(400, 0.1, 64), expected);
    let expected =
        "the training split has 10 tokens, windows of 64 need at least 65; the text needs about 650 tokens in all";
    assert_eq!(refused(100, 0.9, 64), expected);
    assert_eq!(refused(8, 0.0, 8), "the training split has 8 tokens, windows of 8 need at least 9");
    assert!(refused(1, 0.1, 8).contains("training split has 0 tokens"));
    // What it asks for is enough, and one token less is not.
    for (fraction, length, needs) in [(0.1, 64, 650), (0.9, 64, 650), (0.5, 7, 16), (0.0, 8, 9), (0.25, 8, 36)] {
        counting(needs, fraction).check(length).unwrap();
        let short = needs - if fraction == 0.5 { 2 } else { 1 };
        assert!(counting(short, fraction).check(length).is_err() || fraction == 0.1 || fraction == 0.25, "{fraction}");
    }
    assert_eq!(counting(8, 0.0).check(0).unwrap_err().kind, ErrorKind::Argument);
    assert!(counting(8, 0.0).check(usize::MAX).is_err());
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |tokens: Vec<u32>, vocabulary: usize, fraction: f64| {
        Dataset::from_tokens(tokens, vocabulary, fraction).err().unwrap()
    };
    let error = refused(vec![0, 4, 5, 3], 5, 0.1);
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Argument, "token 2 is 5, the vocabulary is 5"));
    assert_eq!(
        refused(vec![], 5, 0.1).message,
        "there are no tokens; windows of n tokens need about 10 (n + 1) of them in all, 650 for the default 64"
    );
    for fraction in [-0.1, 1.0, 1.5, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(vec![0], 1, fraction).kind, ErrorKind::Argument);
        assert!(Dataset::from_text("a", &Tokenizer::byte(), fraction, &never).is_err());
    }
    let dataset = counting(50, 0.2);
    let draw = |split, batch, length, room| {
        dataset.batch(split, stream(0, 0), batch, length, &mut vec![0; room], &mut [0; 8]).unwrap_err()
    };
    let error = draw(Split::Train, 2, 4, 7);
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Shape, "tokens has 7 elements for [2, 4]"));
    assert_eq!(draw(Split::Train, 3, 4, 12).message, "targets has 8 elements for [3, 4]");
    assert_eq!(draw(Split::Train, usize::MAX, 4, 8).kind, ErrorKind::Shape);
    let error = draw(Split::Validation, 1, 10, 10);
    assert_eq!(error.kind, ErrorKind::Shape);
    assert!(error.message.contains("the validation split has 10 tokens, windows of 10 need at least 11"), "{error}");
}
