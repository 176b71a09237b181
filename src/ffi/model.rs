//! MODEL: the transformer
//!
//! BitNet b1.58 (arXiv 2402.17764): RMSNorm before and inside every block, rotary positions, causal
//! attention with grouped key and value heads, squared-ReLU feed-forward; every linear layer ternary in its
//! product, with 32-bit masters for training; `quantize_weights` 0 gives the same network in plain floats.
//! Files are safetensors with the tensor names of Hugging Face BitNet; a packed file holds the trits and
//! scales, so a model loaded from it answers exactly as the trained one did, but cannot be trained further.
//! A `const` model may be used by several threads at once.
//!
//!     setun_model_options options;
//!     setun_model_options_init(&options);
//!     options.vocabulary = 65;
//!     setun_model *model = NULL;
//!     setun_model_create(NULL, &options, &model);
//!     setun_model_save(model, "model.safetensors", NULL, NULL);

use super::context::setun_context;
use super::guard::absent;
use super::guard::{guard, guard_silent};
use super::library::setun_status;
use super::options::{self, Versioned};
use super::quantize::setun_packing;
use super::tensor::{setun_dtype, setun_tensor};
use super::text::setun_tokenizer;
use std::ffi::c_char;

/// The geometry of a model. Fill it with `setun_model_options_init`: 4 layers of width 128, about 0.8
/// million parameters.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_model_options {
    pub struct_size: usize,
    /// Token numbers are below it. Default 256, the bytes; `setun_train` takes the tokenizer's.
    pub vocabulary: i64,
    /// The longest text, in tokens, that attention sees. Default 64.
    pub context_length: i64,
    /// The size of a token's vector; a multiple of 2 * heads. Default 128.
    pub width: i64,
    /// Default 4.
    pub layers: i64,
    /// Attention heads. Default 4.
    pub heads: i64,
    /// Key and value heads, of which `heads` is a multiple; 0 = heads. Default 0.
    pub kv_heads: i64,
    /// The inner size of the feed-forward; 0 = 4 * width. Default 0.
    pub hidden: i64,
    /// Non-zero: the feed-forward is relu(gate)^2 * up, as in BitNet 2B; 0: relu(up)^2. Default 0.
    pub ffn_gated: i32,
    /// The base of the rotary frequencies. Default 10000.
    pub rope_theta: f64,
    /// Added to the mean square inside RMSNorm. Default 1e-5.
    pub norm_epsilon: f64,
    /// The share of block outputs that training drops, 0 to below 1. Default 0.
    pub dropout: f64,
    /// Non-zero: the output layer is the embedding. Default 1.
    pub tied_embedding: i32,
    /// Non-zero: linear layers run on ternary weights and 8-bit activations; 0: on 32-bit floats. Default
    /// 1.
    pub quantize_weights: i32,
    /// Of the initial weights. Default 0.
    pub seed: u64,
}

// SAFETY: repr(C), begins with struct_size, numbers only, ends with 8 bytes at a multiple of 8: no padding at the end.
unsafe impl Versioned for setun_model_options {
    fn defaults() -> Self {
        setun_model_options {
            struct_size: size_of::<Self>(),
            vocabulary: 256,
            context_length: 64,
            width: 128,
            layers: 4,
            heads: 4,
            kv_heads: 0,
            hidden: 0,
            ffn_gated: 0,
            rope_theta: 10_000.0,
            norm_epsilon: 1e-5,
            dropout: 0.0,
            tied_embedding: 1,
            quantize_weights: 1,
            seed: 0,
        }
    }
}

/// How to write a model file. Fill it with `setun_save_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_save_options {
    pub struct_size: usize,
    /// A `setun_packing`, of the linear layers: FULL keeps the 32-bit masters, so that training can go on.
    /// Default SETUN_PACKING_FIVE_PER_BYTE.
    pub packing: i32,
    /// SETUN_DTYPE_F16 or SETUN_DTYPE_F32, of everything else: embeddings and norms. Default
    /// SETUN_DTYPE_F16; FULL writes F32.
    pub rest: i32,
    /// Stored in the file, where `setun_tokenizer_load` finds it; NULL = none. Default NULL.
    pub tokenizer: *const setun_tokenizer,
}

// SAFETY: repr(C), begins with struct_size, integers and a pointer, no padding at the end.
unsafe impl Versioned for setun_save_options {
    fn defaults() -> Self {
        setun_save_options {
            struct_size: size_of::<Self>(),
            packing: setun_packing::FivePerByte as i32,
            rest: setun_dtype::F16 as i32,
            tokenizer: std::ptr::null(),
        }
    }
}

/// What `setun_model_save` wrote. Set `struct_size` to sizeof(setun_file_report) first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_file_report {
    pub struct_size: usize,
    /// All parameters of the model.
    pub parameters: i64,
    /// Those in linear layers.
    pub linear_parameters: i64,
    /// The bytes that the linear layers take in the file, with their scales.
    pub linear_bytes: i64,
    /// The bytes of the whole file.
    pub file_bytes: i64,
}

// SAFETY: repr(C), begins with struct_size, 8-byte integers only: no padding.
unsafe impl Versioned for setun_file_report {
    fn defaults() -> Self {
        setun_file_report {
            struct_size: size_of::<Self>(),
            parameters: 0,
            linear_parameters: 0,
            linear_bytes: 0,
            file_bytes: 0,
        }
    }
}

/// A transformer and its parameters.
pub struct setun_model {
    _opaque: [u8; 0],
}

/// Fills in the defaults and the size of the struct; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_options_init(options: *mut setun_model_options) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options) }
}

/// Fills in the defaults and the size of the struct; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_save_options_init(options: *mut setun_save_options) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options) }
}

/// Makes a model with random weights, which depend on the options alone. It runs on `context`; NULL = the
/// default one. NULL options = the defaults. Free it with `setun_model_free`. Returns ARGUMENT (sizes that
/// do not fit each other, naming them), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_create(
    context: *const setun_context,
    options: *const setun_model_options,
    out: *mut *mut setun_model,
) -> setun_status {
    guard("model_create", absent)
}

/// Reads a model from a file that `setun_model_save` wrote. It runs on `context`; NULL = the default one.
/// Free it with `setun_model_free`. A damaged file never gives a model: FORMAT says what is wrong. Returns
/// also ARGUMENT, IO, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_load(
    context: *const setun_context,
    path: *const c_char,
    out: *mut *mut setun_model,
) -> setun_status {
    guard("model_load", absent)
}

/// Writes the model to a safetensors file; a file that is there is replaced whole or not at all. NULL
/// options = the defaults: 1.6 bits a ternary weight. `report`, unless NULL, learns the sizes.
///
/// Returns ARGUMENT, IO, STATE (the model is being trained), UNSUPPORTED (packing a model without ternary
/// weights, or FULL of a model loaded from a packed file), FORMAT (a value too large for f16), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_save(
    model: *const setun_model,
    path: *const c_char,
    options: *const setun_save_options,
    report: *mut setun_file_report,
) -> setun_status {
    guard("model_save", absent)
}

/// Says the geometry: fills `out`, whose `struct_size` is set (by `setun_model_options_init`). kv_heads and
/// hidden are never 0. Returns ARGUMENT, STATE, ABI.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_describe(
    model: *const setun_model,
    out: *mut setun_model_options,
) -> setun_status {
    guard("model_describe", absent)
}

/// Says how many parameters the model has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_parameters(model: *const setun_model, out: *mut i64) -> setun_status {
    guard("model_parameters", absent)
}

/// Says how many tensors the parameters are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_tensor_count(model: *const setun_model, out: *mut i64) -> setun_status {
    guard("model_tensor_count", absent)
}

/// Copies parameter tensor `index` into a new f32 tensor, for you to free with `setun_tensor_free`, and
/// says its Hugging Face name, "model.layers.0.mlp.up_proj.weight", which is valid until the model is
/// freed. Either out pointer may be NULL. Returns ARGUMENT (no such index), STATE, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_tensor(
    model: *const setun_model,
    index: i64,
    name: *mut *const c_char,
    out: *mut *mut setun_tensor,
) -> setun_status {
    guard("model_tensor", absent)
}

/// Writes the logits [batch, length, vocabulary] f32 that follow each of `tokens` [batch, length]; length
/// is at most the context length. Returns ARGUMENT (a token not below the vocabulary, naming it; overlap),
/// SHAPE (length too large), STATE, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_forward(
    model: *const setun_model,
    tokens: *const u32,
    batch: i64,
    length: i64,
    logits: *mut f32,
) -> setun_status {
    guard("model_forward", absent)
}

/// Says the mean cross-entropy, in nats a token, of `targets` [batch, length] after `tokens` [batch,
/// length]. Returns what `setun_model_forward` does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_loss(
    model: *const setun_model,
    tokens: *const u32,
    targets: *const u32,
    batch: i64,
    length: i64,
    loss: *mut f64,
) -> setun_status {
    guard("model_loss", absent)
}

/// Frees the model; NULL is fine. A trainer or sampler that uses it keeps it alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_free(model: *mut setun_model) {
    guard_silent("model_free", absent)
}
