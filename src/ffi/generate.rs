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

use super::guard::absent;
use super::guard::{guard, guard_silent};
use super::library::setun_status;
use super::model::setun_model;
use super::options::{self, Versioned};
use super::text::setun_tokenizer;
use std::ffi::{c_char, c_void};

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

/// Fills in the defaults and the size of the struct; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sample_options_init(options: *mut setun_sample_options) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options) }
}

/// Makes a sampler on `model`, which it keeps alive. NULL options = the defaults. Free it with
/// `setun_sampler_free`. Returns ARGUMENT, STATE (the model is being trained), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_create(
    model: *const setun_model,
    options: *const setun_sample_options,
    out: *mut *mut setun_sampler,
) -> setun_status {
    guard("sampler_create", absent)
}

/// Feeds `count` tokens, at least one, after those so far. Returns ARGUMENT (a token not below the
/// vocabulary, naming it), STATE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_prompt(
    sampler: *mut setun_sampler,
    tokens: *const u32,
    count: i64,
) -> setun_status {
    guard("sampler_prompt", absent)
}

/// Chooses the next token, writes it to `token` and feeds it. Returns STATE (there is no prompt yet, or the
/// model is being trained).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_next(sampler: *mut setun_sampler, token: *mut u32) -> setun_status {
    guard("sampler_next", absent)
}

/// Says whether tokens were forgotten because the text is longer than the context: 1 or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_slid(sampler: *const setun_sampler, out: *mut i32) -> setun_status {
    guard("sampler_slid", absent)
}

/// Frees the sampler; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_free(sampler: *mut setun_sampler) {
    guard_silent("sampler_free", absent)
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
    guard("generate", absent)
}
