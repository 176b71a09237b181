//! BACKWARD: gradients of a model, for training loops of your own
//!
//! A `setun_trainer` steps a model with AdamW, Muon or momentum. For any other rule, or any other loop, Setun computes the
//! gradients and you keep the weights: read them once, and write them back after each step. All arrays are
//! in the order of `setun_model_tensor`; the pointers to the gradients are what `setun_optimizer_step` takes.
//!
//!     for (i = 0; i < count; i++) setun_model_tensor_read(model, i, weights[i], sizes[i]);
//!     for (step = 0; step < steps; step++) {
//!         setun_dataset_batch(dataset, SETUN_SPLIT_TRAIN, seed, step, batch, length, tokens, targets);
//!         setun_model_backward(model, tokens, targets, batch, length, NULL, &loss, gradients, count);
//!         your_step(weights, gradients);
//!         for (i = 0; i < count; i++) setun_model_tensor_write(model, i, weights[i], sizes[i]);
//!     }

use super::arguments::{
    check_apart, check_end, check_pointer, count, extent, optional, size, slice, slice_mut, store, wanted,
};
use super::guard::guard;
use super::handle;
use super::library::setun_status;
use super::model::setun_model;
use super::model_object::{ModelObject, check_poison, copy, read, window_sizes};
use super::optimizer::setun_parameter_kind;
use super::options::{self, Versioned};
use super::tensor::SETUN_MAX_RANK;
use super::text::check_tokens;
use super::train::setun_gradient_products;
use super::trainer::products;
use crate::model::{Draw, Form, GradientProducts, Model, ParameterKind, Workspace};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Result, reserve, sort_few};
use std::ffi::c_char;

/// How gradients are computed. Fill it with `setun_backward_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_backward_options {
    pub struct_size: usize,
    /// Of dropout and of gradients that are rounded at random. Default 0.
    pub seed: u64,
    /// Their random numbers are a function of (seed, step): give each batch of a run another step, below 2^32,
    /// as you do to `setun_dataset_batch`. A trainer's first is 0. Default 0.
    pub step: u64,
    /// A `setun_gradient_products`: how a ternary layer computes the gradient to its input, as in
    /// `setun_train_options`. Default SETUN_GRADIENT_PRODUCTS_INT8.
    pub input_gradient: i32,
    /// A `setun_gradient_products`: how a ternary layer computes the gradient to its weights. Default
    /// SETUN_GRADIENT_PRODUCTS_INT8.
    pub weight_gradient: i32,
    /// 0 or 1: less memory for more work, and the same numbers to the bit, as in `setun_train_options`.
    /// Default 0.
    pub activation_checkpointing: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: repr(C), begins with struct_size, integers only, ends with four of 4 bytes: no padding.
unsafe impl Versioned for setun_backward_options {
    fn defaults() -> Self {
        setun_backward_options {
            struct_size: size_of::<Self>(),
            seed: 0,
            step: 0,
            input_gradient: setun_gradient_products::Int8 as i32,
            weight_gradient: setun_gradient_products::Int8 as i32,
            activation_checkpointing: 0,
            reserved: 0,
        }
    }
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_backward_options_init(options: *mut setun_backward_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Says what parameter tensor `index` is without copying it: its Hugging Face name, valid until the model is
/// freed; its `setun_parameter_kind`, TERNARY for a linear layer that is used as trits, MATRIX for one of
/// floats, an embedding and a head, VECTOR for a norm's gain; and its sizes, outermost first, into `dims`,
/// which has room for SETUN_MAX_RANK; those past the rank become 1. Each output may be NULL. Returns ARGUMENT
/// (no such index).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_tensor_describe(
    model: *const setun_model,
    index: i64,
    name: *mut *const c_char,
    kind: *mut i32,
    dims: *mut i64,
    rank: *mut i32,
) -> setun_status {
    guard("model_tensor_describe", || {
        let object = handle::shared(model, "model")?;
        let index = object.place(index)?;
        let most = SETUN_MAX_RANK as usize;
        let outputs = [
            extent("name", name, wanted(name, 1)),
            extent("kind", kind, wanted(kind, 1)),
            extent("dims", dims, wanted(dims, most)),
            extent("rank", rank, wanted(rank, 1)),
        ];
        check_apart(&outputs, &[])?;
        // SAFETY: NULL is allowed, alignment and overlap are checked; the room is the caller's contract.
        let (name, kind, dims, rank) = unsafe {
            (
                optional(name, 1, "name")?,
                optional(kind, 1, "kind")?,
                optional(dims, most, "dims")?,
                optional(rank, 1, "rank")?,
            )
        };
        let parameter = &object.parameters[index];
        name.fill(object.names[index].as_ptr());
        kind.fill(c_kind(parameter.kind) as i32);
        dims.fill(1);
        dims.iter_mut().zip(&parameter.dims).for_each(|(out, &dim)| *out = dim as i64);
        rank.fill(parameter.dims.len() as i32);
        Ok(())
    })
}

fn c_kind(kind: ParameterKind) -> setun_parameter_kind {
    match kind {
        ParameterKind::Ternary => setun_parameter_kind::Ternary,
        ParameterKind::Matrix => setun_parameter_kind::Matrix,
        ParameterKind::Vector => setun_parameter_kind::Vector,
    }
}

/// Copies parameter tensor `index` into `values`, which has room for `count` floats: the float master where
/// there is one, else scale * t. Returns ARGUMENT (no such index), SHAPE (count is another than the
/// tensor's), STATE, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_tensor_read(
    model: *const setun_model,
    index: i64,
    values: *mut f32,
    count: i64,
) -> setun_status {
    guard("model_tensor_read", || {
        let object = handle::shared(model, "model")?;
        let index = object.place(index)?;
        read(model, |model| {
            let count = tensor_size(&object, index, count)?;
            // SAFETY: NULL and alignment are checked; room for `count` floats is the caller's contract.
            let values = unsafe { slice_mut(values, count, "values") }?;
            copy(model, &object.names[index])?.read_into(values)
        })
    })
}

/// Overwrites parameter tensor `index`, and makes the trits anew that its values stand for. `values` holds
/// `count` finite floats, which are copied. On failure nothing has changed. A sampler that is in the middle
/// of a text keeps what it has computed of it.
///
/// Returns ARGUMENT (no such index; a NaN or an infinity, naming its place), SHAPE (count is another than
/// the tensor's), UNSUPPORTED (a model loaded from a packed file has no float masters), STATE (another call
/// uses the model).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_tensor_write(
    model: *mut setun_model,
    index: i64,
    values: *const f32,
    count: i64,
) -> setun_status {
    guard("model_tensor_write", || {
        let object = handle::exclusive(model, "model")?;
        let index = object.place(index)?;
        object.change(|model| {
            check_trainable(model)?;
            let count = tensor_size(&object, index, count)?;
            // SAFETY: NULL and alignment are checked; `count` floats are the caller's contract.
            let values = unsafe { slice(values, count, "values") }?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(error!(Argument, "values[{at}] is {}, expected a finite number", values[at]));
            }
            let context = model.context().clone();
            context.launch().executor.enter(|| model.write_parameter(index, values))
        })
    })
}

/// The number of elements of a parameter tensor, which `given` has to be.
fn tensor_size(object: &ModelObject, index: usize, given: i64) -> Result<usize> {
    let (given, parameter) = (size(given, "count")?, &object.parameters[index]);
    let elements = parameter.dims.iter().product();
    ensure!(given == elements, Shape, "count is {given}, {} has {elements} elements", parameter.name);
    Ok(elements)
}

fn check_trainable(model: &Model) -> Result<()> {
    ensure!(model.trainable(), Unsupported, "model: it was loaded from a packed file and has no float masters");
    Ok(())
}

/// Says the mean cross-entropy, in nats a token, of `targets` [batch, length] after `tokens` [batch, length],
/// and its gradient: what a trainer with the same products, seed and step would compute for this batch, bit
/// for bit, before it clips. The gradient goes straight through the quantization (arXiv 1308.3432).
///
/// `gradients` holds `count` pointers, one for each parameter tensor and in their order, to as many floats as
/// it has. Dropout is on where the model has it. NULL options = the defaults. A loss or gradient that is not
/// finite is no error here; `setun_optimizer_step` refuses it. The memory of a call stays with the model for
/// the next one of the same batch, length and options, which allocates none; a batch of more than 4096
/// tokens passes through the model in slices.
///
/// Returns ARGUMENT (a token not below the vocabulary, naming it; count is another than the model's; overlap),
/// SHAPE (length too large), UNSUPPORTED (a model loaded from a packed file has no float masters), STATE
/// (another call uses the model), ABI, MEMORY. Nothing is written then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_model_backward(
    model: *mut setun_model,
    tokens: *const u32,
    targets: *const u32,
    batch: i64,
    length: i64,
    options: *const setun_backward_options,
    loss: *mut f64,
    gradients: *const *mut f32,
    count: i64,
) -> setun_status {
    guard("model_backward", || {
        check_pointer(loss, "loss")?;
        // SAFETY: a struct as large as it says is the caller's contract.
        let (products, checkpointing, draw) = read_options(&unsafe { options::read(options, "options") }?)?;
        let mut object = handle::exclusive(model, "model")?;
        let object = &mut *object;
        check_poison(&object.poisoned)?;
        let model = object.model.try_read().ok_or_else(|| error!(State, "model: another call is training it"))?;
        check_trainable(&model)?;
        let (batch, length) = window_sizes(&model, batch, length)?;
        let inputs = self::count::<u32>(&[batch, length], "tokens")?;
        let (given, there) = (size(count, "count")?, model.parameters().len());
        ensure!(given == there, Argument, "count is {given}, the model has {there} tensors");
        let around = [
            extent("loss", loss, 1),
            extent("tokens", tokens, inputs),
            extent("targets", targets, inputs),
            extent("gradients", gradients, there),
        ];
        check_apart(&around[..1], &around[1..])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (tokens, targets, gradients) = unsafe {
            (
                slice(tokens, inputs, "tokens")?,
                slice(targets, inputs, "targets")?,
                slice(gradients, there, "gradients")?,
            )
        };
        check_tokens(tokens, model.options().vocabulary, "tokens")?;
        check_tokens(targets, model.options().vocabulary, "targets")?;
        for (i, (&gradient, parameter)) in gradients.iter().zip(model.parameters()).enumerate() {
            let check = |name: &str| {
                check_pointer(gradient, name)?;
                check_end(gradient, parameter.tensor.bytes(), name)
            };
            // The name is made for the error alone: a step allocates nothing.
            check("").or_else(|_| check(&format!("gradients[{i}]")))?;
            check_apart(&[extent("an array of gradients", gradient, parameter.tensor.count())], &around)?;
        }
        check_disjoint(gradients, &model)?;
        let workspace = match &mut object.workspace {
            Some(workspace) => workspace,
            none => none.insert(Workspace::new(&model)?),
        };
        let form = Form { batch, length, products, checkpointing, whole: false };
        let work = || workspace.backward(&model, form, (tokens, targets), draw);
        let mean = model.context().launch().executor.enter(work)?;
        for (&to, gradient) in gradients.iter().zip(workspace.gradients()) {
            // SAFETY: NULL, alignment and overlap are checked; the room is the caller's contract.
            gradient.read_into(unsafe { slice_mut(to, gradient.count(), "gradients") }?)?;
        }
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { store(loss, mean, "loss") }
    })
}

fn read_options(options: &setun_backward_options) -> Result<(GradientProducts, bool, Draw)> {
    let step = options.step;
    let step = u32::try_from(step).map_err(|_| error!(Argument, "step is {step}, expected at most {}", u32::MAX))?;
    let products = GradientProducts {
        input: products(options.input_gradient, "input_gradient")?,
        weight: products(options.weight_gradient, "weight_gradient")?,
    };
    Ok((products, options.activation_checkpointing != 0, Draw { seed: options.seed, step, micro_batch: 0 }))
}

/// ARGUMENT when two of the arrays for gradients share memory.
fn check_disjoint(gradients: &[*mut f32], model: &Model) -> Result<()> {
    let mut places: Vec<(usize, usize, usize)> = Vec::new();
    reserve(&mut places, gradients.len())?;
    for (i, (gradient, parameter)) in gradients.iter().zip(model.parameters()).enumerate() {
        let start = gradient.addr();
        places.push((start, start.saturating_add(parameter.tensor.bytes()), i));
    }
    sort_few(&mut places, |a, b| a < b);
    match places.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        None => Ok(()),
        Some(pair) => {
            let (first, second) = (pair[0].2.min(pair[1].2), pair[0].2.max(pair[1].2));
            Err(error!(Argument, "gradients[{second}] overlaps gradients[{first}]"))
        }
    }
}
