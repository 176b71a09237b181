//! The parameters of a model: names (Hugging Face's for `BitNetForCausalLM`), kinds, sizes and initial values.

use super::ModelOptions;
use crate::backend::CODES;
use crate::tensor::error::error;
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Result, Tensor, vec_zeroed};
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A linear layer whose weights the model uses as trits.
    Ternary,
    /// An embedding, a head, or a linear layer of the f32 twin.
    Matrix,
    /// The gain of a norm.
    Vector,
}

pub struct Parameter {
    pub name: String,
    pub kind: ParameterKind,
    /// The float values that training updates; or codes of them, where that is how they are trained.
    pub tensor: Tensor,
    /// Of codes: one for each 256. Empty for floats.
    pub scales: Tensor,
}

impl Parameter {
    /// A parameter of floats.
    pub fn new(name: String, kind: ParameterKind, tensor: Tensor) -> Result<Parameter> {
        Ok(Parameter { name, kind, tensor, scales: Tensor::zeros(DType::F32, &[0])? })
    }

    /// Its floats, on the host.
    pub fn floats(&self) -> Result<Cow<'_, [f32]>> {
        if self.tensor.dtype() == DType::F32 {
            return self.tensor.read();
        }
        let (codes, scales) = (self.tensor.read::<i8>()?, self.scales.read::<f32>()?);
        let mut floats: Vec<f32> = vec_zeroed(codes.len())?;
        for (i, (x, &code)) in floats.iter_mut().zip(codes.iter()).enumerate() {
            *x = scales[i / CODES] * f32::from(code);
        }
        Ok(Cow::Owned(floats))
    }
}

/// What a parameter is before it has memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub name: String,
    pub kind: ParameterKind,
    pub dims: Vec<usize>,
    /// Standard deviation of the initial values; gains start at 1.
    pub deviation: f64,
}

/// Standard deviation of the initial embedding and head.
const EMBEDDING_DEVIATION: f64 = 0.02;

/// Every parameter, in the order that files, gradients and optimizer states share.
pub fn describe(options: &ModelOptions) -> Vec<Description> {
    let (width, hidden, kv) = (options.width, options.hidden, options.kv_width());
    let mut all = vec![matrix("model.embed_tokens.weight", [options.vocabulary, width], EMBEDDING_DEVIATION)];
    for layer in 0..options.layers {
        let linear = |name: &str, rows: usize, columns: usize, output: bool| {
            // 1 / sqrt(fan_in); what is added to the residual stream shrinks with its 2 x layers terms.
            let terms = if output { 2.0 * options.layers as f64 } else { 1.0 };
            let deviation = 1.0 / (columns as f64 * terms).sqrt();
            let mut description = matrix(&format!("model.layers.{layer}.{name}.weight"), [rows, columns], deviation);
            if options.quantize_weights {
                description.kind = ParameterKind::Ternary;
            }
            description
        };
        let gain = |name: &str, n: usize| vector(&format!("model.layers.{layer}.{name}.weight"), n);
        all.push(gain("input_layernorm", width));
        all.push(linear("self_attn.q_proj", width, width, false));
        all.push(linear("self_attn.k_proj", kv, width, false));
        all.push(linear("self_attn.v_proj", kv, width, false));
        all.push(gain("self_attn.attn_sub_norm", width));
        all.push(linear("self_attn.o_proj", width, width, true));
        all.push(gain("post_attention_layernorm", width));
        if options.ffn_gated {
            all.push(linear("mlp.gate_proj", hidden, width, false));
        }
        all.push(linear("mlp.up_proj", hidden, width, false));
        all.push(gain("mlp.ffn_sub_norm", hidden));
        all.push(linear("mlp.down_proj", width, hidden, true));
    }
    all.push(vector("model.norm.weight", width));
    if !options.tied_embedding {
        all.push(matrix("lm_head.weight", [options.vocabulary, width], EMBEDDING_DEVIATION));
    }
    all
}

fn matrix(name: &str, dims: [usize; 2], deviation: f64) -> Description {
    Description { name: name.into(), kind: ParameterKind::Matrix, dims: dims.into(), deviation }
}

fn vector(name: &str, n: usize) -> Description {
    Description { name: name.into(), kind: ParameterKind::Vector, dims: vec![n], deviation: 0.0 }
}

/// The initial value of parameter `index`: gains 1, all else normal.
pub fn initialize(description: &Description, index: usize, seed: u64, dtype: DType) -> Result<Tensor> {
    let mut tensor = Tensor::zeros(dtype, &description.dims)?;
    let stream = Stream::new(seed, Purpose::Initialize, 0, index as u32);
    let value = |i: usize| match description.kind {
        ParameterKind::Vector => 1.0,
        _ => (f64::from(stream.normal(i as u64)) * description.deviation) as f32,
    };
    if dtype == DType::F64 {
        for (i, x) in tensor.host_mut::<f64>()?.iter_mut().enumerate() {
            *x = f64::from(value(i));
        }
    } else {
        for (i, x) in tensor.host_mut::<f32>()?.iter_mut().enumerate() {
            *x = value(i);
        }
    }
    Ok(tensor)
}

/// The index of a parameter by name; FORMAT if there is none.
pub fn find(parameters: &[Parameter], name: &str) -> Result<usize> {
    let index = parameters.iter().position(|parameter| parameter.name == name);
    index.ok_or_else(|| error!(Format, "model: the parameter {name} is missing"))
}
