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

use super::arguments::{check_pointer, one_of, size, slice, store, text};
use super::floating::outside;
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use super::model::setun_model;
use super::model_object::{ModelObject, read_shared};
use super::options::{self, Versioned};
use super::text::{check_tokens, setun_tokenizer};
use crate::model::{KvCache, Model, SampleOptions, Sampler};
use crate::tensor::Result;
use crate::tensor::error::error;
use crate::train::Generation;
use parking_lot::RwLock;
use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// In which numbers the keys and values of the tokens so far are kept, 2 * layers * kv_heads * head size of them a
/// token, all of which each new token reads.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum setun_kv_cache {
    /// As they are computed.
    F32 = 0,
    /// 8-bit codes, and a scale for each token and head: about a quarter of the memory, and of the time to read
    /// it. The logits differ by what rounding each number to 1/254 of the largest of its head makes of them.
    Int8 = 1,
}

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
    /// A `setun_kv_cache`. Default F32.
    pub kv_cache: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: repr(C), begins with struct_size, numbers only, 8 + 2 * 4 + 3 * 8 + 2 * 4 bytes: no padding.
unsafe impl Versioned for setun_sample_options {
    fn defaults() -> Self {
        setun_sample_options {
            struct_size: size_of::<Self>(),
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
            max_tokens: 256,
            kv_cache: setun_kv_cache::F32 as i32,
            reserved: 0,
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
    type Object = SamplerObject;
    const NAME: &'static str = "setun_sampler";
}

fn sampling(options: &setun_sample_options) -> Result<SampleOptions> {
    let kv_caches =
        [(setun_kv_cache::F32 as i32, "f32", KvCache::F32), (setun_kv_cache::Int8 as i32, "int8", KvCache::Int8)];
    let options = SampleOptions {
        temperature: options.temperature,
        top_k: size(options.top_k, "top_k")?,
        top_p: options.top_p,
        seed: options.seed,
        kv_cache: one_of(options.kv_cache, "kv_cache", &kv_caches)?,
    };
    options.validate()?;
    Ok(options)
}

/// What a `setun_sampler` names: a text so far, and the model that it goes on with.
pub struct SamplerObject {
    model: Arc<RwLock<Model>>,
    poisoned: Arc<AtomicBool>,
    sampler: Sampler,
}

impl SamplerObject {
    fn new(object: &ModelObject, options: SampleOptions) -> Result<SamplerObject> {
        let sampler = read_shared(&object.model, &object.poisoned, |model| Sampler::new(model, options))?;
        Ok(SamplerObject { model: object.model.clone(), poisoned: object.poisoned.clone(), sampler })
    }

    fn prompt(&mut self, tokens: &[u32]) -> Result<()> {
        read_shared(&self.model, &self.poisoned, |model| {
            check_tokens(tokens, model.options().vocabulary, "tokens")?;
            self.sampler.prompt(model, tokens)
        })
    }

    fn next(&mut self) -> Result<u32> {
        read_shared(&self.model, &self.poisoned, |model| self.sampler.next(model, usize::MAX))
    }
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sample_options_init(options: *mut setun_sample_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Makes a sampler on `model`, which it keeps alive. NULL options = the defaults. Free it with
/// `setun_sampler_free`. Returns ARGUMENT (an option out of its range, naming it), STATE (the model is being
/// trained), ABI, MEMORY.
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
        let sampler = SamplerObject::new(&object, options)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, sampler) }
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
        let next = handle::exclusive(sampler, "sampler")?.next()?;
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { store(token, next, "token") }
    })
}

/// Says whether tokens were forgotten because the text is longer than the context: 1 or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_sampler_slid(sampler: *const setun_sampler, out: *mut i32) -> setun_status {
    guard("sampler_slid", || {
        let slid = handle::shared(sampler, "sampler")?.sampler.slid();
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
        let options = sampling(&options)?;
        let (model, poisoned) = {
            let object = handle::shared(model, "model")?;
            (object.model.clone(), object.poisoned.clone())
        };
        let begin = |model: &Model| Generation::new(model, &tokenizer, prompt, options, most);
        let mut text = read_shared(&model, &poisoned, begin)?;
        // The model is not locked while the piece is heard.
        while let Some(piece) = read_shared(&model, &poisoned, |model| text.next(model))? {
            // SAFETY: the header asks for a callback that takes text, valid during the call, and its user data.
            let hear = || unsafe { callback(piece.as_ptr().cast(), piece.len(), user_data) };
            if !piece.is_empty() && outside(hear) == 0 {
                break;
            }
        }
        if slid.is_null() {
            return Ok(());
        }
        // SAFETY: not NULL; a valid pointer is the caller's contract.
        unsafe { store(slid, i32::from(text.slid()), "slid") }
    })
}
