//! What the model section keeps behind its handles: the model, the lock that keeps readers out of a running step, and the
//! conversions between C's options and the model's own.

use super::arguments::{one_of, size};
use super::handle;
use super::model::{setun_model, setun_model_options};
use super::pack::setun_packing;
use super::tensor::setun_dtype;
use crate::model::{Description, Model, ModelOptions, Workspace, describe, file};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Result, Tensor};
use parking_lot::RwLock;
use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a `setun_model` names. Trainers and samplers share the model itself; the lock keeps a reader out of
/// a running step.
pub struct ModelObject {
    pub model: Arc<RwLock<Model>>,
    /// Set when a panic interrupted a step: the parameters may be half changed.
    pub poisoned: Arc<AtomicBool>,
    /// The parameters, and their names as C sees them.
    pub parameters: Vec<Description>,
    pub names: Vec<CString>,
    /// What `setun_model_backward` works in, from its first call on.
    pub workspace: Option<Workspace>,
}

impl ModelObject {
    pub fn new(model: Model) -> Result<ModelObject> {
        let name = |name: &str| CString::new(name).map_err(|e| error!(Internal, "a parameter's name has a NUL: {e}"));
        let parameters = describe(model.options());
        let names = parameters.iter().map(|tensor| name(&tensor.name)).collect::<Result<_>>()?;
        let model = Arc::new(RwLock::new(model));
        Ok(ModelObject { model, poisoned: Arc::default(), parameters, names, workspace: None })
    }

    /// The place of parameter tensor `index`; ARGUMENT if there is none.
    pub fn place(&self, index: i64) -> Result<usize> {
        let (index, count) = (size(index, "index")?, self.names.len());
        ensure!(index < count, Argument, "index is {index}, the model has {count} tensors");
        Ok(index)
    }

    /// Changes the model; STATE while another call uses it. If that panics, the model is marked.
    pub fn change<R>(&self, work: impl FnOnce(&mut Model) -> Result<R>) -> Result<R> {
        check_poison(&self.poisoned)?;
        let mut model = self.model.try_write().ok_or_else(|| error!(State, "model: another call uses it"))?;
        let _mark = MarkInPanic(&self.poisoned);
        work(&mut model)
    }
}

/// Uses the model of a `const` handle; STATE while a step is changing it.
pub fn read<R>(model: *const setun_model, work: impl FnOnce(&Model) -> Result<R>) -> Result<R> {
    let object = handle::shared(model, "model")?;
    read_shared(&object.model, &object.poisoned, work)
}

/// The same for the holder of a shared model.
pub fn read_shared<R>(
    model: &RwLock<Model>,
    poisoned: &AtomicBool,
    work: impl FnOnce(&Model) -> Result<R>,
) -> Result<R> {
    check_poison(poisoned)?;
    let model = model.try_read().ok_or_else(|| error!(State, "model: another call is training it"))?;
    work(&model)
}

/// STATE once a panic has interrupted a step of the model.
pub fn check_poison(poisoned: &AtomicBool) -> Result<()> {
    let poisoned = poisoned.load(Ordering::Acquire);
    ensure!(!poisoned, State, "model: an internal error interrupted its training; free it");
    Ok(())
}

/// Marks a model when a panic passes.
pub struct MarkInPanic<'a>(pub &'a AtomicBool);

impl Drop for MarkInPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Release);
        }
    }
}

/// The model's own options from those of the C surface.
pub fn geometry(options: &setun_model_options) -> Result<ModelOptions> {
    let (width, heads) = (size(options.width, "width")?, size(options.heads, "heads")?);
    let hidden = match size(options.hidden, "hidden")? {
        0 => width.checked_mul(4).ok_or_else(|| error!(Argument, "width is {width}, too large for this machine"))?,
        hidden => hidden,
    };
    let kv_heads = match size(options.kv_heads, "kv_heads")? {
        0 => heads,
        kv_heads => kv_heads,
    };
    Ok(ModelOptions {
        vocabulary: size(options.vocabulary, "vocabulary")?,
        context_length: size(options.context_length, "context_length")?,
        width,
        layers: size(options.layers, "layers")?,
        heads,
        kv_heads,
        hidden,
        ffn_gated: options.ffn_gated != 0,
        rope_theta: options.rope_theta,
        norm_epsilon: options.norm_epsilon,
        dropout: options.dropout as f32,
        tied_embedding: options.tied_embedding != 0,
        quantize_weights: options.quantize_weights != 0,
        weight_threshold: options.weight_threshold,
    })
}

pub fn file_packing(value: i32) -> Result<file::Packing> {
    let packings = [
        (setun_packing::TwoBit as i32, "two bits", file::Packing::TwoBit),
        (setun_packing::FivePerByte as i32, "five per byte", file::Packing::FivePerByte),
        (setun_packing::MaskSign as i32, "mask and sign", file::Packing::MaskSign),
        (setun_packing::Full as i32, "full", file::Packing::Full),
    ];
    one_of(value, "packing", &packings)
}

pub fn file_rest(value: i32) -> Result<file::Rest> {
    let rests = [(setun_dtype::F32 as i32, "f32", file::Rest::F32), (setun_dtype::F16 as i32, "f16", file::Rest::F16)];
    one_of(value, "rest", &rests)
}

/// A copy of a parameter tensor as f32, for the caller to own: the float weights, or scale * t where there
/// are only trits.
pub fn copy(model: &Model, name: &CStr) -> Result<Tensor> {
    let name = name.to_str().map_err(|e| error!(Internal, "a parameter's name: {e}"))?;
    if let Some(parameter) = model.parameters().iter().find(|parameter| parameter.name == name) {
        return Tensor::from_slice(&parameter.floats()?, parameter.tensor.dims());
    }
    let linear = model.linears().find(|linear| linear.name == name);
    let effective = linear.map(|linear| linear.effective(model.context())).transpose()?.flatten();
    effective.ok_or_else(|| error!(Internal, "the model has no tensor {name}"))
}

/// The sizes of a batch of windows: at least one token, and no longer than the model's context.
pub fn window_sizes(model: &Model, batch: i64, length: i64) -> Result<(usize, usize)> {
    let (batch, length) = (size(batch, "batch")?, size(length, "length")?);
    ensure!(batch > 0, Argument, "batch is 0, expected at least 1");
    ensure!(length > 0, Argument, "length is 0, expected at least 1");
    let longest = model.options().context_length;
    ensure!(length <= longest, Shape, "length is {length}, the model has a context of {longest} tokens");
    Ok((batch, length))
}

/// SHAPE, unless the model has a logit for every token of the tokenizer.
pub fn fitting(tokens: usize, model: &Model) -> Result<()> {
    let vocabulary = model.options().vocabulary;
    ensure!(tokens <= vocabulary, Shape, "the tokenizer has a vocabulary of {tokens}, the model of {vocabulary}");
    Ok(())
}
