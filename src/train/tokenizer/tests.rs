use super::*;
use crate::format::safetensors::encode as encode_file;
use crate::format::scratch::Scratch;
use crate::tensor::{ErrorKind, never};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Letters of several lengths in UTF-8, all kinds of white space, control characters, contractions, numbers.
const HARD: &str = "I'll say: it's 12,345 o'clock\r\n\r\n\t\tdéjà vu\u{a0}\u{2003}\u{2003}x \u{0}\u{1}\u{7f}\u{ad}€ 日本語テキスト 😀👍🏽 \
    ½ Ⅷ ٣ مرحبا हिन्दी \u{feff}\u{301}combining   \n \n  end's   ";

fn learn(text: &str, vocabulary: usize) -> Tokenizer {
    Tokenizer::bpe(text, vocabulary, &never).unwrap()
}

/// Text without much to it, the same each time: words of a small language.
fn babble(words: usize) -> String {
    let mut state = 12345u64;
    let mut next = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut text = String::new();
    for _ in 0..words {
        for _ in 0..1 + next(4) {
            text.push_str(["ka", "to", "ri", "mé", "s", "un", "'s", "7"][next(8) as usize]);
        }
        text.push_str([" ", " ", " ", ". ", "\n", "\n\n", "  ", "\t"][next(8) as usize]);
    }
    text
}

/// A file of the texts that are beside the repository on some machines.
fn corpus(name: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        println!("skipped: {} is missing", path.display());
    }
    text
}

#[test]
fn bytes_are_their_own_tokens() {
    let tokenizer = Tokenizer::byte();
    assert_eq!((tokenizer.kind(), tokenizer.vocabulary()), (TokenizerKind::Byte, 256));
    assert_eq!(tokenizer.encode("aé").unwrap(), [97, 0xc3, 0xa9]);
    let all: Vec<u8> = (0..=255).collect();
    let tokens = tokenizer.encode_bytes(&all).unwrap();
    assert_eq!(tokens, (0..256).collect::<Vec<u32>>());
    assert_eq!(tokenizer.decode(&tokens).unwrap(), all);
    assert_eq!(tokenizer.decode(&[0xc3]).unwrap(), [0xc3]);
    let long = "é".repeat(3 * BLOCK / 2 + 1);
    assert_eq!(tokenizer.encode(&long).unwrap(), tokenizer.encode_bytes(long.as_bytes()).unwrap());
}

#[test]
fn characters_are_numbered_by_code_point() {
    let tokenizer = Tokenizer::character("ba\nß😀ab").unwrap();
    assert_eq!((tokenizer.kind(), tokenizer.vocabulary()), (TokenizerKind::Character, 5));
    assert_eq!(tokenizer.encode("\nabß😀a").unwrap(), [0, 1, 2, 3, 4, 1]);
    assert_eq!(tokenizer.decode(&[4, 0, 3]).unwrap(), "😀\nß".as_bytes());
    let long = "aß😀".repeat(BLOCK);
    let tokens = tokenizer.encode(&long).unwrap();
    assert_eq!(tokens.len(), 3 * BLOCK);
    assert_eq!(tokenizer.decode(&tokens).unwrap(), long.as_bytes());
    assert_eq!(tokenizer.encode_bytes(b"ab").unwrap(), [1, 2]);
}

#[test]
fn an_unknown_character_is_named_with_its_place() {
    let tokenizer = Tokenizer::character("abé").unwrap();
    for (text, message) in [
        ("aéß", "'ß' (U+00DF) at byte 3 is none of the tokenizer's 3 characters"),
        ("\u{10ffff}", "'\\u{10ffff}' (U+10FFFF) at byte 0 is none of the tokenizer's 3 characters"),
        ("ab\n", "'\\n' (U+000A) at byte 2 is none of the tokenizer's 3 characters"),
    ] {
        let error = tokenizer.encode(text).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Format, message));
    }
    let error = tokenizer.encode_bytes(b"ab\xc3").unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Format, "the text is not UTF-8 at byte 2"));
}

#[test]
fn byte_pairs_are_the_frequent_ones() {
    let tokenizer = learn("low low low lower lower newest", 260);
    assert_eq!((tokenizer.kind(), tokenizer.vocabulary()), (TokenizerKind::Bpe, 260));
    // "lo" and "ow" both occur five times: of equal counts the pair with the smaller first token is taken. Then "low".
    let tokens = tokenizer.encode("low").unwrap();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokenizer.decode(&tokens).unwrap(), b"low");
    // 256 tokens are the bytes alone.
    assert_eq!(learn("low low", 256).encode("low €").unwrap().len(), 7);
}

#[test]
fn any_text_survives_byte_pairs() {
    for tokenizer in [learn("some other text", 300), learn(HARD, 400), learn(&babble(2000), 700)] {
        for text in [HARD, "", " ", "\n", "a", "   a", "\u{feff}", "<|endoftext|>", "\u{10ffff}", &babble(50)] {
            let tokens = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&tokens).unwrap(), text.as_bytes());
            // Each token decodes by itself: pieces of the text that together are the text.
            let one_by_one: Vec<u8> = tokens.iter().flat_map(|token| tokenizer.decode(&[*token]).unwrap()).collect();
            assert_eq!(one_by_one, text.as_bytes());
        }
        // Every character up to U+0FFF, and a sample of the rest.
        let characters = (0..0x1000).chain((0x1000..=char::MAX as u32).step_by(97)).filter_map(char::from_u32);
        let text: String = characters.collect();
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), text.as_bytes());
    }
}

#[test]
fn the_vocabulary_is_what_was_asked_for_or_what_the_text_has() {
    let text = babble(3000);
    assert_eq!(learn(&text, 500).vocabulary(), 500);
    assert_eq!(learn("aaaa", 1_000_000).vocabulary(), 258);
    assert_eq!(learn("a", usize::MAX).vocabulary(), 256);
    let error = Tokenizer::bpe(&text, 255, &never).err().unwrap();
    let message = "a bpe vocabulary of 255 has no room for the 256 bytes";
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Argument, message));
}

#[test]
fn learning_can_be_given_up() {
    let error = Tokenizer::bpe(&babble(3000), 500, &|| true).err().unwrap();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Cancelled, "learning byte pairs: was cancelled"));
}

#[test]
fn learning_gives_the_same_each_time() {
    let text = babble(5000);
    let first = learn(&text, 900).to_json().unwrap();
    for _ in 0..3 {
        assert_eq!(learn(&text, 900).to_json().unwrap(), first);
    }
    // On several threads at once, and in pools of several sizes.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| learn(&text, 900).to_json().unwrap())).collect();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), first));
    });
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| learn(&text, 900).to_json().unwrap()), first);
    }
    // Long words with few letters, learned until nothing is left to merge: equal counts abound.
    let dense: String = babble(3000).chars().filter(|c| "kats ".contains(*c)).collect();
    let dense: String = dense.chars().enumerate().map(|(i, c)| if i % 40 == 0 { ' ' } else { c }).collect();
    let first = learn(&dense, 3000).to_json().unwrap();
    for _ in 0..3 {
        assert_eq!(learn(&dense, 3000).to_json().unwrap(), first);
    }
}

/// Long texts are encoded in pieces: of the same tokens as in one, wherever the pieces end.
#[test]
fn pieces_encode_like_the_whole() {
    let mut text = babble(40_000);
    text.push_str(&format!("{HARD}{}{HARD}", " \n".repeat(100)).repeat(200));
    let learned = learn(&babble(10_000), 600);
    let json = learned.to_json().unwrap();
    let with = |from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        Tokenizer::from_json(&json.replace(from, to)).unwrap()
    };
    let added = |fields: &str| with("\"added_tokens\":[]", &format!("\"added_tokens\":[{{\"id\":600,{fields}}}]"));
    let tokenizers = [
        learned,
        with("\"add_prefix_space\":false", "\"add_prefix_space\":true"),
        added(
            "\"content\":\"7.\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true",
        ),
        added(
            "\"content\":\"7'\",\"single_word\":true,\"lstrip\":true,\"rstrip\":true,\"normalized\":true,\"special\":false",
        ),
        with("\"use_regex\":true", "\"use_regex\":false"),
    ];
    for (index, tokenizer) in tokenizers.iter().enumerate() {
        let Scheme::Bpe(subwords) = &tokenizer.scheme else { panic!("not bpe") };
        let mut blocks = 0;
        tokenizer
            .encode_blocks(&text, &mut |_| {
                blocks += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(blocks > 5, index < 3, "tokenizer {index} was given {blocks} pieces");
        assert_eq!(tokenizer.encode(&text).unwrap(), subwords.encode_whole(&text), "tokenizer {index}");
    }
}

#[test]
fn real_text_encodes_in_pieces_like_the_whole() {
    let Some(text) = corpus("tinyshakespeare.txt") else { return };
    let tokenizer = learn(&text, 1000);
    assert_eq!(tokenizer.vocabulary(), 1000);
    let tokens = tokenizer.encode(&text).unwrap();
    let Scheme::Bpe(subwords) = &tokenizer.scheme else { panic!("not bpe") };
    assert_eq!(tokens, subwords.encode_whole(&text));
    assert_eq!(tokenizer.decode(&tokens).unwrap(), text.as_bytes());
    assert!(text.len() as f64 / tokens.len() as f64 > 2.3, "{} tokens", tokens.len());
    assert_eq!(Tokenizer::character(&text).unwrap().vocabulary(), 65);
}

#[test]
fn tokens_beyond_the_vocabulary_are_refused() {
    for tokenizer in [Tokenizer::byte(), Tokenizer::character("abc").unwrap(), learn("abab abab", 258)] {
        let beyond = tokenizer.vocabulary() as u32;
        assert!(!tokenizer.decode(&[beyond - 1]).unwrap().is_empty());
        for token in [beyond, u32::MAX] {
            let error = tokenizer.decode(&[0, token]).unwrap_err();
            let message = format!("token 1 is {token}, the vocabulary is {beyond}");
            assert_eq!((error.kind, error.message), (ErrorKind::Argument, message));
        }
        assert!(tokenizer.decode(&[]).unwrap().is_empty());
        assert!(tokenizer.encode("").unwrap().is_empty());
    }
    for error in [Tokenizer::character("").err().unwrap(), Tokenizer::bpe("", 300, &never).err().unwrap()] {
        assert_eq!(error.kind, ErrorKind::Format);
    }
}

#[test]
fn tokenizers_come_back_from_their_files() {
    let scratch = Scratch::new();
    let path = scratch.path().join("tokenizer.json");
    let mut fingerprints = Vec::new();
    let awkward: String = "\"\\\u{0}\u{1f}\u{2028}\u{feff}é😀\u{10ffff}".into();
    for tokenizer in [
        Tokenizer::byte(),
        Tokenizer::character("abc").unwrap(),
        Tokenizer::character(&awkward).unwrap(),
        learn(&babble(500), 300),
        learn(&babble(500), 301),
    ] {
        tokenizer.save(&path).unwrap();
        let json = tokenizer.to_json().unwrap();
        let metadata = BTreeMap::from([("tokenizer".to_string(), json.clone())]);
        let model = scratch.path().join("model.safetensors");
        write_atomic(&model, &encode_file(&[], &metadata).unwrap()).unwrap();
        for other in [Tokenizer::load(&path).unwrap(), Tokenizer::load(&model).unwrap()] {
            assert_eq!((other.kind(), other.vocabulary()), (tokenizer.kind(), tokenizer.vocabulary()));
            assert_eq!(other.to_json().unwrap(), json);
            assert_eq!(other.fingerprint(), tokenizer.fingerprint());
        }
        fingerprints.push(tokenizer.fingerprint());
    }
    fingerprints.sort_unstable();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 5);
}

#[test]
fn files_that_are_no_tokenizer_say_so() {
    let ours = |rest: &str| format!("{{\"format\":\"setun-tokenizer\",{rest}}}");
    let cases = [
        (ErrorKind::Format, "not a tokenizer", "hello".to_string()),
        (ErrorKind::Format, "not a tokenizer", String::new()),
        (ErrorKind::Format, "neither a format of ours nor a model", "{}".into()),
        (ErrorKind::Format, "neither a format of ours nor a model", "{\"format\":7}".into()),
        (ErrorKind::Unsupported, "has version 2, expected 1", ours("\"version\":2,\"kind\":\"byte\"")),
        (ErrorKind::Unsupported, "has version null", ours("\"kind\":\"byte\"")),
        (ErrorKind::Format, "of kind \"words\"", ours("\"version\":1,\"kind\":\"words\"")),
        (ErrorKind::Format, "no characters", ours("\"version\":1,\"kind\":\"character\"")),
        (ErrorKind::Format, "'a' (U+0061) twice", ours("\"version\":1,\"kind\":\"character\",\"characters\":\"aba\"")),
        (ErrorKind::Format, "reading tokenizer.json", "{\"version\":\"1.0\",\"model\":{\"type\":\"Magic\"}}".into()),
        (ErrorKind::Format, "not a tokenizer", "[".repeat(100_000)),
    ];
    for (kind, expected, json) in cases {
        let error = Tokenizer::from_json(&json).err().unwrap();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
    let scratch = Scratch::new();
    let path = scratch.path().join("model.safetensors");
    write_atomic(&path, &encode_file(&[], &BTreeMap::new()).unwrap()).unwrap();
    let error = Tokenizer::load(&path).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Format);
    assert!(error.message.ends_with("model.safetensors: the model was saved without a tokenizer"), "{error}");
    write_atomic(&path, b"{\"kind\":\"\xff\"}").unwrap();
    let error = Tokenizer::load(&path).err().unwrap();
    assert!(error.kind == ErrorKind::Format && error.message.contains("is not UTF-8 at byte 9"), "{error}");
    assert_eq!(Tokenizer::load(&scratch.path().join("absent")).err().unwrap().kind, ErrorKind::Io);
}

/// A learned tokenizer's file cut short or changed anywhere: an error or a tokenizer, never a panic.
#[test]
fn a_damaged_tokenizer_file_never_panics() {
    let json = learn("low low lower", 258).to_json().unwrap();
    for length in (0..json.len()).filter(|length| json.is_char_boundary(*length)) {
        assert_eq!(Tokenizer::from_json(&json[..length]).err().unwrap().kind, ErrorKind::Format);
    }
    let from = json.find("\"model\"").unwrap();
    for position in (0..json.len()).filter(|position| *position < from + 400 || *position + 400 > json.len()) {
        for replacement in ['0', '9', '"', 'x', ','] {
            if json.is_char_boundary(position) && json.is_char_boundary(position + 1) {
                let damaged = format!("{}{replacement}{}", &json[..position], &json[position + 1..]);
                if let Ok(tokenizer) = Tokenizer::from_json(&damaged) {
                    let tokens = tokenizer.encode("lower");
                    let _ = tokens.and_then(|tokens| tokenizer.decode(&tokens));
                }
            }
        }
    }
}
