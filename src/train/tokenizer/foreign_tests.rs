//! Files as other programs write them.

use super::*;
use crate::tensor::ErrorKind;

/// GPT-2's kind, small: byte-level, with a special token after the model's tokens, and settings that a corpus must not meet.
const GPT2: &str = r#"{
  "version": "1.0",
  "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
  "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
              "pad_token": "a"},
  "added_tokens": [{"id": 6, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true}],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
  "model": {"type": "BPE", "dropout": 0.5, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "é": 5}, "merges": ["a b", "Ġ ab"]}
}"#;

/// SentencePiece's kind: spaces are U+2581, and decoding depends on what stands before.
const METASPACE: &str = r#"{
  "version": "1.0", "truncation": null, "padding": null,
  "added_tokens": [
    {"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
  "normalizer": null,
  "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
  "post_processor": null,
  "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
  "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false,
            "vocab": [["<unk>", 0.0], ["</s>", 0.0], ["▁the", -1.0], ["▁cat", -2.0], ["▁", -3.0], ["s", -2.5], ["t", -4.0]]}
}"#;

/// BERT's kind: lower case, words and their parts, and special tokens that are to stand around a text.
const WORDPIECE: &str = r###"{
  "version": "1.0", "truncation": null, "padding": null,
  "added_tokens": [
    {"id": 0, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 1, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
  "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
  "pre_tokenizer": {"type": "BertPreTokenizer"},
  "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
      {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
      "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}}},
  "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
  "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "[CLS]": 1, "cat": 2, "##s": 3, ",": 4}}
}"###;

fn load(json: &str) -> Tokenizer {
    let tokenizer = Tokenizer::from_json(json).unwrap();
    assert_eq!(tokenizer.kind(), TokenizerKind::Bpe);
    // What is written does the same.
    let again = Tokenizer::from_json(&tokenizer.to_json().unwrap()).unwrap();
    assert_eq!(again.fingerprint(), tokenizer.fingerprint());
    tokenizer
}

#[test]
fn special_tokens_are_found_and_come_back() {
    let tokenizer = load(GPT2);
    assert_eq!(tokenizer.vocabulary(), 7);
    let text = "ab ab<|endoftext|>ab ab ab ab ab ab";
    // Neither cut to 4 tokens, nor filled up, nor random from dropout.
    let expected = [3, 4, 6, 3, 4, 4, 4, 4, 4];
    for _ in 0..20 {
        assert_eq!(tokenizer.encode(text).unwrap(), expected);
    }
    assert_eq!(tokenizer.decode(&expected).unwrap(), text.as_bytes());
    assert_eq!(tokenizer.encode("ab").unwrap(), [3]);
    // A token of the alphabet is a byte, and half a character.
    assert_eq!(tokenizer.decode(&[5]).unwrap(), [0xe9]);
}

#[test]
fn other_pipelines_encode_and_decode() {
    let metaspace = load(METASPACE);
    assert_eq!(metaspace.vocabulary(), 7);
    assert_eq!(metaspace.encode("the cats").unwrap(), [2, 3, 5]);
    assert_eq!(metaspace.decode(&[2, 3, 5]).unwrap(), b"the cats");
    let wordpiece = load(WORDPIECE);
    assert_eq!(wordpiece.encode("Cats, dog").unwrap(), [2, 3, 4, 0]);
    assert_eq!(wordpiece.decode(&[2, 3, 4]).unwrap(), b"cats,");
}

#[test]
fn a_vocabulary_reaches_to_its_highest_token() {
    let gaps = GPT2.replace("\"é\": 5", "\"é\": 9").replace("\"id\": 6", "\"id\": 10");
    // The crate would number the added token 6, since the model has six.
    let error = Tokenizer::from_json(&gaps).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
    assert!(error.message.contains("\"<|endoftext|>\" 10, it can only be 6"), "{error}");
    let gaps = GPT2.replace("\"é\": 5", "\"é\": 9");
    let tokenizer = Tokenizer::from_json(&gaps).unwrap();
    assert_eq!(tokenizer.vocabulary(), 10);
    // 7 and 8 are below the vocabulary and stand for nothing.
    assert_eq!(tokenizer.decode(&[3, 7, 8, 3]).unwrap(), b"abab");
    let huge = GPT2.replace("\"é\": 5", "\"é\": 4294967295");
    let error = Tokenizer::from_json(&huge).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
}

/// Files that the crate itself would panic on.
#[test]
fn files_that_contradict_themselves_are_format_errors() {
    for (from, to) in [
        ("\"continuing_subword_prefix\": null", "\"continuing_subword_prefix\": \"####\""),
        ("\"a b\"", "\"a q\""),
        ("\"a b\"", "\"a b b\""),
        ("\"dropout\": 0.5", "\"dropout\": 7"),
    ] {
        assert!(GPT2.contains(from));
        let error = Tokenizer::from_json(&GPT2.replace(from, to)).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Format, "{error}");
    }
}
