//! A model as one .safetensors file, with its geometry and its tokenizer in the metadata.
//!
//! | tensor | packed file | full file |
//! |---|---|---|
//! | linear layers of a ternary model | U8 [rows, ceil(columns / 5)] five trits a byte, or [rows, ceil(columns / 4)] two bits a trit, and `<name>_scale`, F32 [1] | F32 |
//! | all others | F16 or F32 | F16 or F32 |
//!
//! Metadata: "format" = "setun-model", "version", "options" (JSON), "packing", and "tokenizer" when there is one.

use super::linear::Linear;
use super::{Model, ModelOptions, Parameter, ParameterKind, parameters};
use crate::backend::Context;
use crate::format::files::{read_file, write_atomic};
use crate::format::safetensors::{Entry, File, encode as encode_file, f16_bytes_to_f32, f32_to_f16_bytes};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, Tensor};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// How the linear layers of a ternary model are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    TwoBit,
    FivePerByte,
    /// The float weights that training updates.
    Full,
}

/// How everything else is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    F32,
    F16,
}

/// What a file costs.
#[derive(Clone, Copy, Debug)]
pub struct FileReport {
    pub parameters: usize,
    /// Weights of the linear layers, and the bytes that store them, scales included.
    pub linear_parameters: usize,
    pub linear_bytes: usize,
    /// All bytes of the file: header, metadata and tokenizer included.
    pub file_bytes: usize,
}

const FORMAT: &str = "setun-model";
const VERSION: &str = "1";

impl Packing {
    fn name(self) -> &'static str {
        match self {
            Packing::TwoBit => "two-bit",
            Packing::FivePerByte => "five-per-byte",
            Packing::Full => "full",
        }
    }

    fn of_name(name: &str) -> Result<Packing> {
        let all = [Packing::TwoBit, Packing::FivePerByte, Packing::Full];
        let found = all.into_iter().find(|packing| packing.name() == name);
        found.ok_or_else(|| error!(Format, "the file's packing is '{name}', which this version does not know"))
    }
}

/// Writes the model to `path`, which is replaced whole or not at all.
pub fn save(
    model: &Model,
    path: &Path,
    packing: Packing,
    rest: Rest,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<FileReport> {
    let (bytes, linear_bytes) = encode_counted(model, packing, rest, tokenizer_json, extra)?;
    write_atomic(path, &bytes)?;
    let linear_parameters = model.linears().map(|linear| linear.rows * linear.columns).sum();
    Ok(FileReport { parameters: model.parameter_count(), linear_parameters, linear_bytes, file_bytes: bytes.len() })
}

/// The bytes of the file.
pub fn encode(
    model: &Model,
    packing: Packing,
    rest: Rest,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    Ok(encode_counted(model, packing, rest, tokenizer_json, extra)?.0)
}

/// A tensor on its way into a file.
struct Stored {
    name: String,
    dtype: DType,
    dims: Vec<usize>,
    data: Vec<u8>,
}

fn encode_counted(
    model: &Model,
    packing: Packing,
    rest: Rest,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<(Vec<u8>, usize)> {
    ensure!(
        packing != Packing::Full || model.trainable(),
        Unsupported,
        "model: it was loaded packed: its float weights are gone, save it packed"
    );
    // The twin has no trits to pack: its linear layers are floats like the rest.
    let packs = packing != Packing::Full && model.options().quantize_weights;
    let mut stored = Vec::new();
    let mut linear_bytes = 0;
    for parameter in model.parameters() {
        let linear = model.linears().any(|linear| linear.name == parameter.name);
        if !(packs && parameter.kind == ParameterKind::Ternary) {
            let precision = if packing == Packing::Full { Rest::F32 } else { rest };
            let tensor = floats(parameter, precision)?;
            linear_bytes += if linear { tensor.data.len() } else { 0 };
            stored.push(tensor);
        }
    }
    for linear in model.linears().filter(|_| packs) {
        let tensors = trits(model.context(), linear, packing)?;
        linear_bytes += tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>();
        stored.extend(tensors);
    }
    let mut metadata = extra.clone();
    let options = serde_json::to_string(model.options()).map_err(|e| error!(Internal, "model options: {e}"))?;
    let packing = if packs { packing } else { Packing::Full };
    for (key, value) in [("format", FORMAT), ("version", VERSION), ("options", &options), ("packing", packing.name())] {
        metadata.insert(key.into(), value.into());
    }
    if let Some(tokenizer) = tokenizer_json {
        metadata.insert("tokenizer".into(), tokenizer.into());
    }
    let entries: Vec<Entry> = stored
        .iter()
        .map(|s| Entry { name: s.name.clone(), dtype: s.dtype, dims: s.dims.clone(), data: &s.data })
        .collect();
    Ok((encode_file(&entries, &metadata)?, linear_bytes))
}

fn floats(parameter: &Parameter, rest: Rest) -> Result<Stored> {
    let values = parameter.tensor.host::<f32>()?;
    let (dtype, data) = match rest {
        Rest::F32 => (DType::F32, bytemuck::cast_slice(values).to_vec()),
        Rest::F16 => (DType::F16, f32_to_f16_bytes(values).map_err(|e| e.within(&parameter.name))?),
    };
    Ok(Stored { name: parameter.name.clone(), dtype, dims: parameter.tensor.dims().to_vec(), data })
}

/// The packed weights of a linear layer, and their scale.
fn trits(context: &Context, linear: &Linear, packing: Packing) -> Result<[Stored; 2]> {
    let Some(ternary) = &linear.ternary else { return Err(error!(Internal, "{}: no trits to pack", linear.name)) };
    let (dims, data) = if packing == Packing::FivePerByte {
        let mut five = Tensor::zeros(DType::U8, &[linear.rows, linear.columns.div_ceil(5)])?;
        let pack = context.kernels().pack_five;
        pack(context.launch(), &ternary.packed.view(), linear.columns, &mut five.view_mut())?;
        (five.dims().to_vec(), five.host::<u8>()?.to_vec())
    } else {
        (ternary.packed.dims().to_vec(), ternary.packed.host::<u8>()?.to_vec())
    };
    let scale = bytemuck::cast_slice(ternary.scale.host::<f32>()?).to_vec();
    Ok([
        Stored { name: linear.name.clone(), dtype: DType::U8, dims, data },
        Stored { name: scale_name(&linear.name), dtype: DType::F32, dims: vec![1], data: scale },
    ])
}

fn scale_name(name: &str) -> String {
    format!("{name}_scale")
}

/// Reads a model. One that was saved packed runs but does not train.
pub fn load(context: Arc<Context>, path: &Path) -> Result<Model> {
    let place = path.display();
    let file = File::parse(read_file(path)?).map_err(|e| e.within(place))?;
    decode(context, &file).map_err(|e| e.within(path.display()))
}

/// A model from a file that was read.
pub fn decode(context: Arc<Context>, file: &File) -> Result<Model> {
    let value = |key: &str| file.metadata().get(key).map(String::as_str);
    ensure!(value("format") == Some(FORMAT), Format, "this safetensors file holds no Setun model");
    let version = value("version").unwrap_or("");
    ensure!(version == VERSION, Format, "the file is of version '{version}', this library reads version {VERSION}");
    let options: ModelOptions = serde_json::from_str(value("options").unwrap_or(""))
        .map_err(|e| error!(Format, "the file's model options are damaged: {e}"))?;
    options.validate().map_err(|e| error!(Format, "the file's model options are damaged: {e}"))?;
    let packing = Packing::of_name(value("packing").unwrap_or(""))?;
    let packed = packing != Packing::Full;
    let mut parameters = Vec::new();
    for description in parameters::describe(&options) {
        if packed && description.kind == ParameterKind::Ternary {
            continue;
        }
        let tensor = read_floats(file, &description.name, &description.dims)?;
        parameters.push(Parameter { name: description.name, kind: description.kind, tensor });
    }
    let dims: BTreeMap<String, Vec<usize>> =
        parameters::describe(&options).into_iter().map(|d| (d.name, d.dims)).collect();
    let kernels_context = context.clone();
    let mut model = Model::assemble(context, options, DType::F32, parameters, &mut |parameters, name, options| {
        if packed && options.quantize_weights {
            return read_trits(&kernels_context, file, name, &dims[name], packing);
        }
        let index = parameters.iter().position(|parameter| parameter.name == name);
        let index = index.ok_or_else(|| error!(Format, "the tensor {name} is missing"))?;
        Linear::trainable(&parameters[index], index, options)
    })?;
    model.refresh()?;
    Ok(model)
}

fn read_floats(file: &File, name: &str, dims: &[usize]) -> Result<Tensor> {
    let entry = file.tensor(name)?;
    ensure!(entry.dims == dims, Format, "the tensor {name} has shape {:?}, expected {dims:?}", entry.dims);
    let mut tensor = Tensor::zeros(DType::F32, dims)?;
    let values = tensor.host_mut::<f32>()?;
    match entry.dtype {
        // The file's bytes may be unaligned; little endian is the order of every target of this library.
        DType::F32 => bytemuck::cast_slice_mut(values).copy_from_slice(entry.data),
        DType::F16 => f16_bytes_to_f32(entry.data, values),
        other => return Err(error!(Format, "the tensor {name} is of {other}, expected f32 or f16")),
    }
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(tensor),
        Some(i) => Err(error!(Format, "element {i} of the tensor {name} is {}", values[i])),
    }
}

fn read_trits(context: &Context, file: &File, name: &str, dims: &[usize], packing: Packing) -> Result<Linear> {
    let (rows, columns) = (dims[0], dims[1]);
    let entry = file.tensor(name)?;
    let per_byte = if packing == Packing::FivePerByte { 5 } else { 4 };
    let expected = [rows, columns.div_ceil(per_byte)];
    ensure!(
        entry.dtype == DType::U8 && entry.dims == expected,
        Format,
        "the tensor {name} is {} {:?}, expected u8 {expected:?}",
        entry.dtype,
        entry.dims
    );
    let stored = Tensor::from_slice(entry.data, &expected)?;
    let mut packed = Tensor::zeros(DType::U8, &[rows, columns.div_ceil(4)])?;
    let (launch, kernels) = (context.launch(), context.kernels());
    if packing == Packing::FivePerByte {
        let unpacked = (kernels.unpack_five)(launch, &stored.view(), columns, &mut packed.view_mut());
        unpacked.map_err(|e| e.within(name))?;
    } else {
        // Packing checks every code; what it makes is thrown away.
        let mut five = Tensor::zeros(DType::U8, &[rows, columns.div_ceil(5)])?;
        let checked = (kernels.pack_five)(launch, &stored.view(), columns, &mut five.view_mut());
        checked.map_err(|e| e.within(name))?;
        packed = stored;
    }
    let scale = read_floats(file, &scale_name(name), &[1])?;
    Linear::packed(name.into(), columns, packed, scale)
}
