//! MODEL: the transformer
//!
//! BitNet b1.58 (arXiv 2402.17764): RMSNorm before and inside every block, rotary positions, causal
//! attention with grouped key and value heads, squared-ReLU feed-forward; every linear layer ternary in its
//! product, with 32-bit masters for training; `quantize_weights` 0 gives the same network in plain floats.
//! Files are safetensors with the tensor names of Hugging Face BitNet; a packed file holds the trits and
//! scales. A model loaded from it answers as the trained one did, bit for bit when `rest` is F32, but for the
//! rounding of embeddings and norms when it is F16, the default; it cannot be trained further.
//! A `const` model may be used by several threads at once.
//!
//!     setun_model_options options;
//!     setun_model_options_init(&options, sizeof options);
//!     options.vocabulary = 65;
//!     setun_model *model = NULL;
//!     setun_model_create(NULL, &options, &model);
//!     setun_model_save(model, "model.safetensors", NULL, NULL);

use super::arguments::{self, check_apart, check_pointer, count, extent, size, slice, slice_mut, store};
use super::context::{self, setun_context};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use super::model_object::{ModelObject, copy, file_packing, file_rest, fitting, geometry, read, window_sizes};
use super::options::{self, Versioned};
use super::pack::setun_packing;
use super::tensor::{setun_dtype, setun_tensor};
use super::text::{check_tokens, setun_tokenizer};
use crate::model::{Activations, Model, file, trainable};
use crate::tensor::never;
use std::collections::BTreeMap;
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
    /// A ternary weight is 0 up to this share of the mean magnitude of its matrix, 0 to less than 1. 0.5 is that of BitNet b1.58
    /// (arXiv 2402.17764): about a third of trits are 0. At 0.75 it is 42 to 50%, which MASK_SIGN writes in 1.5 to 1.6 bits
    /// a weight. A part of the model: files keep it. Default 0.5.
    pub weight_threshold: f64,
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
            weight_threshold: 0.5,
        }
    }
}

/// How to write a model file. Fill it with `setun_save_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_save_options {
    pub struct_size: usize,
    /// A `setun_packing`, of the linear layers: FULL keeps the 32-bit masters, so that training can go on;
    /// MASK_SIGN is the smallest where more than two in five weights are zero.
    /// Default SETUN_PACKING_FIVE_PER_BYTE.
    pub packing: i32,
    /// SETUN_DTYPE_F16 or SETUN_DTYPE_F32, of everything else: embeddings and norms. Default
    /// SETUN_DTYPE_F16; FULL writes F32.
    pub rest: i32,
    /// Stored in the file, where `setun_tokenizer_load` finds it; NULL = none. Default NULL.
    pub tokenizer: *const setun_tokenizer,
    /// 1 to 256: each matrix that is not packed, so embedding and head, and in the f32 twin all, is written by a
    /// codebook of its own of so many entries (fewer where it has fewer elements), as `setun_codebook_fit` finds them: up to 16
    /// entries take 4 bits an element, more take 8. 0: as `rest` says. FULL takes only 0. Default 0.
    pub codebook: i64,
}

// SAFETY: repr(C), begins with struct_size, integers and a pointer, ends with 8 bytes: no padding at the end.
unsafe impl Versioned for setun_save_options {
    fn defaults() -> Self {
        setun_save_options {
            struct_size: size_of::<Self>(),
            packing: setun_packing::FivePerByte as i32,
            rest: setun_dtype::F16 as i32,
            tokenizer: std::ptr::null(),
            codebook: 0,
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

impl Handle for setun_model {
    type Object = ModelObject;
    const NAME: &'static str = "setun_model";
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_options_init(options: *mut setun_model_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_save_options_init(options: *mut setun_save_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
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
    guard("model_create", || {
        check_pointer(out, "out")?;
        // SAFETY: a struct as large as it says is the caller's contract.
        let options = unsafe { options::read(options, "options") }?;
        let model = Model::new(context::resolve(context)?, geometry(&options)?, options.seed)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, ModelObject::new(model)?) }
    })
}

/// Reads a model from a file that `setun_model_save` wrote. It runs on `context`; NULL = the default one.
/// Free it with `setun_model_free`. A damaged file never gives a model, by the checksum in it: FORMAT says what is wrong. Returns
/// also ARGUMENT, IO, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_load(
    context: *const setun_context,
    path: *const c_char,
    out: *mut *mut setun_model,
) -> setun_status {
    guard("model_load", || {
        check_pointer(out, "out")?;
        // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
        let model = file::load(context::resolve(context)?, unsafe { arguments::path(path, "path") }?)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, ModelObject::new(model)?) }
    })
}

/// Copies a model into one that can be trained, on the same context: to fine-tune what was loaded packed, to make a model ternary
/// that was trained in floats (`quantize_weights` non-zero), or the other way round (0). Weights that are floats are copied; packed
/// ones become floats that are quantized to the same trits and, but for rounding, scales, or for a model in floats scale * t.
/// Free it with `setun_model_free`. Returns ARGUMENT, STATE, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_copy(
    model: *const setun_model,
    quantize_weights: i32,
    out: *mut *mut setun_model,
) -> setun_status {
    guard("model_copy", || {
        check_pointer(out, "out")?;
        let copy = read(model, |model| trainable(model, quantize_weights != 0))?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, ModelObject::new(copy)?) }
    })
}

/// Writes the model to a safetensors file; a file that is there is replaced whole or not at all. NULL
/// options = the defaults: 1.6 bits a ternary weight. `report`, unless NULL, learns the sizes. A model
/// without ternary weights has no trits to pack: its linear layers are written like the rest.
///
/// Returns ARGUMENT, IO, SHAPE (the tokenizer has more tokens than the model), STATE (a weight is not finite,
/// or another call is training the model), UNSUPPORTED (FULL of a model loaded from a packed file), FORMAT (a value too large for f16), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_save(
    model: *const setun_model,
    path: *const c_char,
    options: *const setun_save_options,
    report: *mut setun_file_report,
) -> setun_status {
    guard("model_save", || {
        // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
        let path = unsafe { arguments::path(path, "path") }?;
        // SAFETY: structs as large as they say are the caller's contract.
        let options = unsafe {
            if !report.is_null() {
                options::check(report, "report")?;
            }
            options::read(options, "options")
        }?;
        let (packing, rest) = (file_packing(options.packing)?, file_rest(options.rest)?);
        let how = file::Storage { packing, rest, codebook: size(options.codebook, "codebook")? };
        let tokenizer = match options.tokenizer.is_null() {
            true => None,
            false => {
                let tokenizer = handle::shared(options.tokenizer, "options.tokenizer")?;
                Some((tokenizer.vocabulary(), tokenizer.to_json()?))
            }
        };
        let written = read(model, |model| {
            let json = tokenizer.as_ref().map(|(tokens, json)| fitting(*tokens, model).map(|()| json.as_str()));
            file::save(model, path, how, json.transpose()?, &BTreeMap::new())
        })?;
        if report.is_null() {
            return Ok(());
        }
        let value = setun_file_report {
            parameters: written.parameters as i64,
            linear_parameters: written.linear_parameters as i64,
            linear_bytes: written.linear_bytes as i64,
            file_bytes: written.file_bytes as i64,
            ..setun_file_report::defaults()
        };
        // SAFETY: a struct as large as it says is the caller's contract.
        unsafe { options::write(report, value, "report") }
    })
}

/// Says the geometry: fills `out`, whose `struct_size` is set (by `setun_model_options_init`). kv_heads and
/// hidden are never 0; seed is, because a model does not remember it. Returns ARGUMENT, STATE, ABI.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_describe(
    model: *const setun_model,
    out: *mut setun_model_options,
) -> setun_status {
    guard("model_describe", || {
        let options = read(model, |model| Ok(model.options().clone()))?;
        let value = setun_model_options {
            struct_size: size_of::<setun_model_options>(),
            vocabulary: options.vocabulary as i64,
            context_length: options.context_length as i64,
            width: options.width as i64,
            layers: options.layers as i64,
            heads: options.heads as i64,
            kv_heads: options.kv_heads as i64,
            hidden: options.hidden as i64,
            ffn_gated: i32::from(options.ffn_gated),
            rope_theta: options.rope_theta,
            norm_epsilon: options.norm_epsilon,
            dropout: f64::from(options.dropout),
            tied_embedding: i32::from(options.tied_embedding),
            quantize_weights: i32::from(options.quantize_weights),
            seed: 0,
            weight_threshold: options.weight_threshold,
        };
        // SAFETY: a struct as large as it says is the caller's contract.
        unsafe { options::write(out, value, "out") }
    })
}

/// Says how many parameters the model has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_parameters(model: *const setun_model, out: *mut i64) -> setun_status {
    guard("model_parameters", || {
        let count = read(model, |model| Ok(model.parameter_count()))?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, count as i64, "out") }
    })
}

/// Says how many tensors the parameters are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_tensor_count(model: *const setun_model, out: *mut i64) -> setun_status {
    guard("model_tensor_count", || {
        let count = handle::shared(model, "model")?.names.len();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, count as i64, "out") }
    })
}

/// Copies parameter tensor `index` into a new f32 tensor, for you to free with `setun_tensor_free`, and
/// says its Hugging Face name, "model.layers.0.mlp.up_proj.weight", which is valid until the model is
/// freed. Either out pointer may be NULL. The order depends on the geometry alone. The float master is
/// copied where there is one, else scale * t. Returns ARGUMENT (no such index), STATE, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_tensor(
    model: *const setun_model,
    index: i64,
    name: *mut *const c_char,
    out: *mut *mut setun_tensor,
) -> setun_status {
    guard("model_tensor", || {
        let object = handle::shared(model, "model")?;
        let index = object.place(index)?;
        // Checked before anything is made: a tensor given and an error returned would be a tensor lost.
        if !name.is_null() {
            check_pointer(name, "name")?;
        }
        let room = |given: bool| usize::from(given);
        check_apart(&[extent("out", out, room(!out.is_null())), extent("name", name, room(!name.is_null()))], &[])?;
        if !out.is_null() {
            check_pointer(out, "out")?;
            let copy = read(model, |model| copy(model, &object.names[index]))?;
            // SAFETY: not NULL; a valid pointer is the caller's contract.
            unsafe { handle::give(out, copy) }?;
        }
        if name.is_null() {
            return Ok(());
        }
        // SAFETY: not NULL; a valid pointer is the caller's contract.
        unsafe { store(name, object.names[index].as_ptr(), "name") }
    })
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
    guard("model_forward", || {
        read(model, |model| {
            let (batch, length) = window_sizes(model, batch, length)?;
            let inputs = count::<u32>(&[batch, length], "tokens")?;
            let outputs = count::<f32>(&[batch, length, model.options().vocabulary], "logits")?;
            check_apart(&[extent("logits", logits, outputs)], &[extent("tokens", tokens, inputs)])?;
            // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
            let (tokens, logits) = unsafe { (slice(tokens, inputs, "tokens")?, slice_mut(logits, outputs, "logits")?) };
            check_tokens(tokens, model.options().vocabulary, "tokens")?;
            let mut activations = Activations::new(model, batch, length)?;
            let work = || {
                let result = model.logits(&mut activations, tokens)?;
                logits.copy_from_slice(result.slice()?);
                Ok(())
            };
            model.context().launch().executor.enter(work)
        })
    })
}

/// Says the mean cross-entropy, in nats a token, of `targets` [batch, length] after `tokens`
/// [batch, length]. Returns what `setun_model_forward` does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_loss(
    model: *const setun_model,
    tokens: *const u32,
    targets: *const u32,
    batch: i64,
    length: i64,
    loss: *mut f64,
) -> setun_status {
    guard("model_loss", || {
        check_pointer(loss, "loss")?;
        let mean = read(model, |model| {
            let (batch, length) = window_sizes(model, batch, length)?;
            let inputs = count::<u32>(&[batch, length], "tokens")?;
            check_apart(
                &[extent("loss", loss, 1)],
                &[extent("tokens", tokens, inputs), extent("targets", targets, inputs)],
            )?;
            // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
            let (tokens, targets) = unsafe { (slice(tokens, inputs, "tokens")?, slice(targets, inputs, "targets")?) };
            check_tokens(tokens, model.options().vocabulary, "tokens")?;
            check_tokens(targets, model.options().vocabulary, "targets")?;
            let mut activations = Activations::new(model, batch, length)?;
            let work = || model.loss(&mut activations, (tokens, targets), None, &never);
            model.context().launch().executor.enter(work)
        })?;
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { store(loss, mean, "loss") }
    })
}

/// Frees the model; NULL is fine. A trainer or sampler that uses it keeps it alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_free(model: *mut setun_model) {
    guard_silent("model_free", || handle::free(model));
}
