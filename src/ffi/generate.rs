//! GENERATE: text from a model
//!
//! `setun_generate` continues a prompt and hands out the text piece by piece; a `setun_sampler` gives the
//! tokens one by one and keeps the keys and values of the tokens so far. Past the context length the oldest
//! tokens are forgotten, and `slid` says so. The same seed, prompt and options give the same text.
//!
//!     static int32_t print(const char *piece, size_t bytes, void *user_data) {
//!         return fwrite(piece, 1, bytes, stdout) == bytes;
//!     }
//!
//!     setun_model_load(NULL, "model.safetensors", &model);
//!     setun_tokenizer_load("model.safetensors", &tokenizer);
//!     setun_generate(model, tokenizer, "Once", NULL, print, NULL, NULL);

use super::arguments::{check_pointer, size, slice, store, text};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use super::model::setun_model;
use super::model_object::{ModelObject, read_shared};
use super::options::{self, Versioned};
use super::text::{check_tokens, setun_tokenizer};
use crate::model::{Decoder, Model, SampleOptions, sample};
use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use crate::train::Tokenizer;
use parking_lot::RwLock;
use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How the next token is chosen. Fill it with `setun_sample_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_sample_options {
    pub struct_size: usize,
    /// Divides the logits; 0 = always the most probable token. Default 1.
    pub temperature: f32,
    /// Only the most probable tokens that together reach this probability, 0 < top_p <= 1; 1 = all. Default
    /// 1.
    pub top_p: f32,
    /// Only this many of the most probable tokens; 0 = all. Default 0.
    pub top_k: i64,
    /// Default 0.
    pub seed: u64,
    /// For `setun_generate`: how many tokens to make. Default 256.
    pub max_tokens: i64,
}

// SAFETY: repr(C), begins with struct_size, numbers only, 8 + 2 * 4 + 3 * 8 bytes: no padding.
unsafe impl Versioned for setun_sample_options {
    fn defaults() -> Self {
        setun_sample_options {
            struct_size: size_of::<Self>(),
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
            max_tokens: 256,
        }
    }
}

/// Hears each piece of text as it comes: `bytes` bytes at `piece`, whole UTF-8 characters, no NUL at the
/// end, valid during the call. Return 0 to stop, anything else to go on.
pub type setun_text_callback =
    Option<unsafe extern "C" fn(piece: *const c_char, bytes: usize, user_data: *mut c_void) -> i32>;

/// A text being generated.
pub struct setun_sampler {
    _opaque: [u8; 0],
}

impl Handle for setun_sampler {
    type Object = Continuation;
    const NAME: &'static str = "setun_sampler";
}

fn sampling(options: &setun_sample_options) -> Result<SampleOptions> {
    let options = SampleOptions {
        temperature: options.temperature,
        top_k: size(options.top_k, "top_k")?,
        top_p: options.top_p,
        seed: options.seed,
    };
    options.validate()?;
    Ok(options)
}

/// What a `setun_sampler` names: a text so far, and how it goes on.
pub struct Continuation {
    model: Arc<RwLock<Model>>,
    poisoned: Arc<AtomicBool>,
    decoder: Decoder,
    options: SampleOptions,
    /// How many tokens there are, prompt and answers.
    tokens: u64,
}

impl Continuation {
    fn new(object: &ModelObject, options: SampleOptions) -> Result<Continuation> {
        let decoder = read_shared(&object.model, &object.poisoned, Decoder::new)?;
        let (model, poisoned) = (object.model.clone(), object.poisoned.clone());
        Ok(Continuation { model, poisoned, decoder, options, tokens: 0 })
    }

    fn prompt(&mut self, tokens: &[u32]) -> Result<()> {
        ensure!(!tokens.is_empty(), Argument, "there are no tokens, expected at least 1");
        read_shared(&self.model, &self.poisoned, |model| {
            check_tokens(tokens, model.options().vocabulary, "tokens")?;
            self.decoder.prompt(model, tokens)
        })?;
        self.tokens += tokens.len() as u64;
        Ok(())
    }

    /// Chooses the next token, of those below `vocabulary`, and feeds it.
    fn next(&mut self, vocabulary: usize) -> Result<u32> {
        ensure!(self.tokens > 0, State, "there is no prompt yet: call setun_sampler_prompt first");
        let logits = self.decoder.next_logits();
        let token = sample(&logits[..vocabulary.min(logits.len())], &self.options, self.tokens)?;
        read_shared(&self.model, &self.poisoned, |model| self.decoder.push(model, token))?;
        self.tokens += 1;
        Ok(token)
    }

    fn slid(&self) -> bool {
        self.decoder.slid()
    }

    /// Continues `prompt` by up to `most` tokens; `hear` gets the text and returns false to stop. The model
    /// is not locked while it is heard.
    fn tell(
        &mut self,
        tokenizer: &Tokenizer,
        prompt: &str,
        most: usize,
        hear: &mut dyn FnMut(&str) -> bool,
    ) -> Result<()> {
        ensure!(!prompt.is_empty(), Argument, "prompt is empty");
        let vocabulary = read_shared(&self.model, &self.poisoned, |model| Ok(model.options().vocabulary))?;
        ensure!(
            vocabulary >= tokenizer.vocabulary(),
            Shape,
            "the model has a vocabulary of {vocabulary}, the tokenizer of {}",
            tokenizer.vocabulary()
        );
        self.prompt(&tokenizer.encode(prompt)?)?;
        let mut pieces = Pieces::default();
        for _ in 0..most {
            let token = self.next(tokenizer.vocabulary())?;
            if !hear(&pieces.push(tokenizer, token)?) {
                return Ok(());
            }
        }
        hear(&pieces.rest());
        Ok(())
    }
}

/// Turns tokens into text as they come. A token may end inside a UTF-8 character, so bytes wait until
/// theirs is whole; bytes that can be part of no character become U+FFFD.
#[derive(Default)]
struct Pieces {
    /// The last tokens: some tokenizers decode a token by what stands before it.
    recent: Vec<u32>,
    waiting: Vec<u8>,
}

impl Pieces {
    /// Tokens kept as what stands before.
    const BEFORE: usize = 4;

    fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String> {
        let before = tokenizer.decode(&self.recent)?.len();
        self.recent.push(token);
        let decoded = tokenizer.decode(&self.recent)?;
        self.waiting.extend_from_slice(decoded.get(before..).unwrap_or_default());
        if self.recent.len() > Pieces::BEFORE {
            self.recent.remove(0);
        }
        Ok(self.whole_characters())
    }

    /// What is left at the end: the beginning of a character that never came.
    fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.waiting)).into_owned()
    }

    fn whole_characters(&mut self) -> String {
        let mut text = String::new();
        loop {
            match str::from_utf8(&self.waiting) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.waiting.clear();
                    return text;
                }
                Err(error) => {
                    let (whole, rest) = self.waiting.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let Some(broken) = error.error_len() else {
                        self.waiting = rest.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.waiting = rest[broken..].to_vec();
                }
            }
        }
    }
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sample_options_init(options: *mut setun_sample_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Makes a sampler on `model`, which it keeps alive. NULL options = the defaults. Free it with
/// `setun_sampler_free`. Returns ARGUMENT, STATE (the model is being trained), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_create(
    model: *const setun_model,
    options: *const setun_sample_options,
    out: *mut *mut setun_sampler,
) -> setun_status {
    guard("sampler_create", || {
        check_pointer(out, "out")?;
        // SAFETY: a struct as large as it says is the caller's contract.
        let options = sampling(&unsafe { options::read(options, "options") }?)?;
        let object = handle::shared(model, "model")?;
        let text = Continuation::new(&object, options)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, text) }
    })
}

/// Feeds `count` tokens, at least one, after those so far. Returns ARGUMENT (a token not below the
/// vocabulary, naming it), STATE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_prompt(
    sampler: *mut setun_sampler,
    tokens: *const u32,
    count: i64,
) -> setun_status {
    guard("sampler_prompt", || {
        let mut sampler = handle::exclusive(sampler, "sampler")?;
        // SAFETY: NULL and alignment are checked; `count` tokens are the caller's contract.
        let tokens = unsafe { slice(tokens, size(count, "count")?, "tokens") }?;
        sampler.prompt(tokens)
    })
}

/// Chooses the next token, writes it to `token` and feeds it. Returns STATE (there is no prompt yet, or the
/// model is being trained).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_next(sampler: *mut setun_sampler, token: *mut u32) -> setun_status {
    guard("sampler_next", || {
        check_pointer(token, "token")?;
        let next = handle::exclusive(sampler, "sampler")?.next(usize::MAX)?;
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { store(token, next, "token") }
    })
}

/// Says whether tokens were forgotten because the text is longer than the context: 1 or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_slid(sampler: *const setun_sampler, out: *mut i32) -> setun_status {
    guard("sampler_slid", || {
        let slid = handle::shared(sampler, "sampler")?.slid();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, i32::from(slid), "out") }
    })
}

/// Frees the sampler; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_free(sampler: *mut setun_sampler) {
    guard_silent("sampler_free", || handle::free(sampler));
}

/// Continues `prompt`, which is not empty, by up to `max_tokens` tokens and hands the text, without the
/// prompt, to `callback`. NULL options = the defaults. `slid`, unless NULL, becomes 1 when the text outgrew
/// the context, else 0. The callback may end it early: OK.
///
/// Returns ARGUMENT (an empty prompt; a NULL callback), SHAPE (model and tokenizer of different
/// vocabularies), FORMAT (a character that the tokenizer does not know), STATE (the model is being
/// trained), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_generate(
    model: *const setun_model,
    tokenizer: *const setun_tokenizer,
    prompt: *const c_char,
    options: *const setun_sample_options,
    callback: setun_text_callback,
    user_data: *mut c_void,
    slid: *mut i32,
) -> setun_status {
    guard("generate", || {
        let callback = callback.ok_or_else(|| error!(Argument, "callback is NULL"))?;
        // SAFETY: strings that end and structs as large as they say are the caller's contract.
        let (prompt, options) = unsafe { (text(prompt, "prompt")?, options::read(options, "options")?) };
        let most = size(options.max_tokens, "max_tokens")?;
        let tokenizer = Arc::clone(&*handle::shared(tokenizer, "tokenizer")?);
        let mut continuation = Continuation::new(&*handle::shared(model, "model")?, sampling(&options)?)?;
        let mut hear = |piece: &str| {
            // SAFETY: the header asks for a callback that takes text, valid during the call, and its user data.
            piece.is_empty() || unsafe { callback(piece.as_ptr().cast(), piece.len(), user_data) } != 0
        };
        continuation.tell(&tokenizer, prompt, most, &mut hear)?;
        if slid.is_null() {
            return Ok(());
        }
        // SAFETY: not NULL; a valid pointer is the caller's contract.
        unsafe { store(slid, i32::from(continuation.slid()), "slid") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8]) -> Vec<String> {
        let tokenizer = Tokenizer::byte();
        let mut pieces = Pieces::default();
        let mut all: Vec<String> =
            bytes.iter().map(|&byte| pieces.push(&tokenizer, u32::from(byte)).expect("a byte is a token")).collect();
        all.push(pieces.rest());
        all
    }

    #[test]
    fn characters_come_whole() {
        assert_eq!(pieces("aé€😀".as_bytes()), ["a", "", "é", "", "", "€", "", "", "", "😀", ""]);
    }

    #[test]
    fn bytes_of_no_character_are_replaced() {
        assert_eq!(pieces(b"\xffa\xc3b\xe2\x82"), ["\u{fffd}", "a", "", "\u{fffd}b", "", "", "\u{fffd}"]);
    }
}
