//! Verb 4: text in, ternary language model out.

mod dataset;
mod text;
mod tokenizer;

pub use dataset::{Dataset, Split};
pub use text::read_text;
pub use tokenizer::{Tokenizer, TokenizerKind};
