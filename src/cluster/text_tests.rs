use super::*;
use crate::tensor::{ErrorKind, never};

const OPTIONS: WordOptions = WordOptions { seed: 3, lowercase: true, pairs: false };

fn hashes(text: &[u8], options: WordOptions) -> Vec<u64> {
    let mut found = Vec::new();
    words(text, options, &never, |word| found.push(word));
    found
}

/// The words of a text are those of a list.
fn check(text: &[u8], expected: &[&str]) {
    let expected: Vec<u64> = expected.iter().map(|word| xxh3_64_with_seed(word.as_bytes(), 3)).collect();
    assert_eq!(hashes(text, OPTIONS), expected, "{}", String::from_utf8_lossy(text));
}

#[test]
fn words_are_runs_of_letters_and_digits() {
    check(b"", &[]);
    check(b" ,.\n", &[]);
    check(b"To be, or NOT2be?", &["to", "be", "or", "not2be"]);
    check("Größe ÉTÉ Жук 東京 ２٣".as_bytes(), &["größe", "été", "жук", "東京", "２٣"]);
    check("don\u{2019}t snake_case a\u{a0}b".as_bytes(), &["don", "t", "snake", "case", "a", "b"]);
    // Bytes that are no UTF-8 separate: a lone continuation, a cut character, an overlong one, a surrogate, 0xff.
    check(b"ab\x80cd\xe6\x9dx\xc0\xafy\xed\xa0\x80z\xffw\xf0\x9f", &["ab", "cd", "x", "y", "z", "w"]);
    // A capital whose small letter has more bytes and characters.
    check("İx".as_bytes(), &["i\u{307}x"]);
    let upper = WordOptions { lowercase: false, ..OPTIONS };
    assert_eq!(hashes("Eßé".as_bytes(), upper), [xxh3_64_with_seed("Eßé".as_bytes(), 3)]);
    assert_ne!(hashes(b"a", OPTIONS), hashes(b"a", WordOptions { seed: 4, ..OPTIONS }));
}

#[test]
fn long_words_are_hashed_block_by_block() {
    for length in [255, 256, 257, 512, 600] {
        let word: Vec<u8> = (0..length).map(|i| b'a' + (i % 7) as u8).collect();
        let blocks: Vec<&[u8]> = word.chunks(LONG).collect();
        let expected = blocks.iter().fold(3, |seed, block| xxh3_64_with_seed(block, seed));
        let mut text = word.clone();
        text.extend(b" b");
        assert_eq!(hashes(&text, OPTIONS), [expected, xxh3_64_with_seed(b"b", 3)], "{length}");
    }
}

#[test]
fn reading_a_long_text_can_be_given_up() {
    let text = b"word ".repeat(PATIENCE);
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let cancelled = || looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 2;
    let mut found = 0;
    words(&text, OPTIONS, &cancelled, |_| found += 1);
    assert!(found > 0 && found < PATIENCE / 2, "{found}");
}

#[test]
fn pairs_have_an_order() {
    let terms = |text: &[u8], pairs| {
        let mut found = Vec::new();
        let ends = [text.len() as i64];
        let documents = Documents::new(text, &[0], &ends, WordOptions { pairs, ..OPTIONS }).unwrap();
        documents.each(0, &never, &mut |term| found.push(term));
        found.sort_unstable();
        found
    };
    assert_eq!(terms(b"a b", false), terms(b"b a", false));
    assert_eq!((terms(b"a b c", true).len(), terms(b"a b c", false).len()), (5, 3));
    assert_ne!(terms(b"a b", true), terms(b"b a", true));
}

#[test]
fn documents_lie_in_the_text() {
    for (begin, end) in [(-1, 2), (2, 1), (0, 6), (6, 6), (i64::MIN, i64::MAX)] {
        let error = Documents::new(b"12345", &[0, begin], &[5, end], OPTIONS).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Argument);
        assert!(error.message.contains("document 1 is from") && error.message.contains("5 bytes"), "{error}");
    }
    assert_eq!(Documents::new(b"12345", &[0, 5], &[5, 5], OPTIONS).unwrap().bytes(), 5);
}

fn cut(text: &[u8], window: usize, stride: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    windows(text, window, stride, &mut |begin, end| found.push((begin, end)));
    found
}

#[test]
fn windows_begin_at_words() {
    let text = b"one two three four";
    assert_eq!(cut(text, 6, 6), [(0, 8), (8, 14), (14, 18)]);
    assert_eq!(cut(text, 8, 4), [(0, 8), (4, 14), (8, 18)]);
    assert_eq!(cut(text, 1000, 1), [(0, 18)]);
    assert_eq!(cut(text, usize::MAX, usize::MAX), [(0, 18)]);
    assert_eq!(cut(b"", 5, 5), []);
    // What stands before the first word belongs to the first window, what stands after a word to its window.
    assert_eq!(cut(b"  .. a  ", 2, 2), [(0, 5), (5, 8)]);
    assert_eq!(cut(b"....", 1, 1), [(0, 4)]);
}

/// Where words of a text begin.
fn word_begins(text: &str) -> Vec<usize> {
    let mut before = ' ';
    let begins = text
        .char_indices()
        .filter(|&(_, c)| !std::mem::replace(&mut before, c).is_alphanumeric() && c.is_alphanumeric());
    begins.map(|(at, _)| at).collect()
}

/// Texts of characters of all lengths, of words that are longer than windows, and of bytes that are no UTF-8.
#[test]
fn windows_cut_no_word_and_leave_nothing_out() {
    let alphabet = ["a", "b", "é", "東", "𝒳", " ", ", ", "—", "\u{1f600}"].map(str::as_bytes);
    let mut state = 1;
    for round in 0..400usize {
        let mut text = Vec::new();
        for _ in 0..round {
            state = mix(state);
            let odd = [0x80 | (state >> 8) as u8];
            let piece = alphabet[(state >> 32) as usize % (5 + round % 5)];
            text.extend_from_slice(if round % 4 == 0 && state % 11 == 0 { &odd } else { piece });
        }
        for (window, stride) in [(1, 1), (7, 3), (16, 16), (40, 11), (5, 1000)] {
            let found = cut(&text, window, stride);
            let mut reached = 0;
            for &(begin, end) in &found {
                assert!(begin < end && (stride > window || begin <= reached), "a gap from {reached} to {begin}");
                reached = end;
            }
            assert!(stride > window || reached == text.len());
            assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
            if let Ok(text) = str::from_utf8(&text) {
                let begins = word_begins(text);
                let fine = |at: usize| at == 0 || at == text.len() || begins.binary_search(&at).is_ok();
                assert!(found.iter().all(|&(begin, end)| fine(begin) && fine(end)));
            }
            // The words of windows side by side are those of the text.
            if window == stride {
                let parts = found.iter().flat_map(|&(begin, end)| hashes(&text[begin..end], OPTIONS));
                assert_eq!(parts.collect::<Vec<_>>(), hashes(&text, OPTIONS));
            }
        }
    }
}
