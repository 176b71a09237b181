//! A model as one .safetensors file.
//!
//! Tensors have the names of `parameters.rs`. A packed linear layer `x.weight` is stored as `x.weight` u8, a row of which is
//! ceil(columns / 4) bytes of four trits or ceil(columns / 5) of five, or which is flat, of mask and signs, and
//! `x.weight_scale` f32 [1]; `tensor/packing.rs` defines the bytes. Everything else is f32 or f16. The metadata:
//!
//! ```text
//! format     "setun-model"
//! version    "1"
//! options    the ModelOptions as JSON
//! packing    "full", "two-bit", "five-per-byte" or "mask-sign"
//! tokenizer  the tokenizer as JSON, if there is one
//! ```

use super::linear::Linear;
use super::parameters::{Description, Parameter, ParameterKind, describe};
use super::{Model, ModelOptions};
use crate::backend::Context;
use crate::format::files::{read_file, write_atomic};
use crate::format::safetensors::{self, Entry, File};
use crate::quantize::{Matrix, repack};
use crate::tensor::error::{ensure, error};
use crate::tensor::{self, DType, Result, Tensor, vec_zeroed};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// How ternary linear layers are stored. Those of the f32 twin have no trits to pack: with either packing they are stored as
/// `Rest` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// The float weights that training updates, and with them everything in f32.
    Full,
    /// Four trits a byte.
    TwoBit,
    /// Five trits a byte.
    FivePerByte,
    /// A mask of what is not zero, and signs.
    MaskSign,
}

/// How everything but packed linear layers is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    F32,
    F16,
}

/// The sizes of a written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// All weights of the model.
    pub parameters: usize,
    /// Those of linear layers.
    pub linear_parameters: usize,
    /// What the linear layers take, with their scales.
    pub linear_bytes: usize,
    pub file_bytes: usize,
}

const FORMAT: &str = "setun-model";
const VERSION: &str = "1";

impl Packing {
    const ALL: [Packing; 4] = [Packing::Full, Packing::TwoBit, Packing::FivePerByte, Packing::MaskSign];

    fn name(self) -> &'static str {
        self.of_trits().map_or("full", tensor::Packing::name)
    }

    /// That of the trits, if they are packed.
    fn of_trits(self) -> Option<tensor::Packing> {
        match self {
            Packing::Full => None,
            Packing::TwoBit => Some(tensor::Packing::TwoBit),
            Packing::FivePerByte => Some(tensor::Packing::FivePerByte),
            Packing::MaskSign => Some(tensor::Packing::MaskSign),
        }
    }
}

/// Writes the model; a file that is there is replaced whole or not at all. `extra` goes into the metadata.
///
/// UNSUPPORTED when a model that was loaded packed shall be stored in full; STATE when a weight is not finite; FORMAT when
/// one is beyond f16.
pub fn save(
    model: &Model,
    path: &Path,
    packing: Packing,
    rest: Rest,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<FileReport> {
    let stored = store_all(model, packing, rest)?;
    let bytes = encode_stored(&stored, model.options(), packing, tokenizer_json, extra)?;
    write_atomic(path, &bytes)?;
    Ok(FileReport {
        parameters: model.parameter_count(),
        linear_parameters: model.linears().map(|linear| linear.rows * linear.columns).sum(),
        linear_bytes: stored.iter().filter(|stored| stored.linear).map(|stored| stored.data.len()).sum(),
        file_bytes: bytes.len(),
    })
}

/// The bytes that `save` writes.
pub fn encode(
    model: &Model,
    packing: Packing,
    rest: Rest,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    encode_stored(&store_all(model, packing, rest)?, model.options(), packing, tokenizer_json, extra)
}

fn encode_stored(
    stored: &[Stored],
    options: &ModelOptions,
    packing: Packing,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let entries: Vec<Entry> = stored.iter().map(Stored::entry).collect();
    safetensors::encode(&entries, &metadata(options, packing, tokenizer_json, extra)?)
}

/// All tensors as they are stored.
fn store_all(model: &Model, packing: Packing, rest: Rest) -> Result<Vec<Stored<'_>>> {
    ensure!(model.dtype() == DType::F32, DType, "model file: weights are {}, expected f32", model.dtype());
    ensure!(
        packing != Packing::Full || model.trainable(),
        Unsupported,
        "model file: the model was loaded packed; the weights that training needs are not there to be saved"
    );
    // Of packed layers too: a NaN among the float weights leaves trits that look sound.
    // (Codes of numbers are numbers.)
    for Parameter { name, tensor, .. } in model.parameters().iter().filter(|p| p.tensor.dtype() == DType::F32) {
        if let Some(element) = (model.context().kernels().first_non_finite)(model.context().launch(), &tensor.view())? {
            return Err(error!(State, "model file: element {element} of {name} is not finite; nothing was written"));
        }
    }
    let trits = packing.of_trits().filter(|_| packed(model.options(), packing));
    let mut stored: Vec<Stored> = Vec::new();
    for parameter in model.parameters().iter().filter(|p| !(trits.is_some() && p.kind == ParameterKind::Ternary)) {
        let linear = model.linears().any(|linear| linear.name == parameter.name);
        stored.push(Stored { linear, ..store(parameter, half(packing, rest))? });
    }
    for (linear, packing) in model.linears().filter_map(|linear| Some((linear, trits?))) {
        stored.extend(store_packed(model.context(), linear, packing)?);
    }
    Ok(stored)
}

/// Whether linear layers are stored as trits.
fn packed(options: &ModelOptions, packing: Packing) -> bool {
    options.quantize_weights && packing != Packing::Full
}

/// Whether floats are stored as f16.
fn half(packing: Packing, rest: Rest) -> bool {
    packing != Packing::Full && rest == Rest::F16
}

fn metadata(
    options: &ModelOptions,
    packing: Packing,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let json = serde_json::to_string(options).map_err(|e| error!(Internal, "the model options have no JSON: {e}"))?;
    let stored = if packed(options, packing) { packing } else { Packing::Full };
    let mut metadata = extra.clone();
    let own = [("format", FORMAT), ("version", VERSION), ("options", &json), ("packing", stored.name())];
    for (key, value) in own.into_iter().chain(tokenizer_json.map(|json| ("tokenizer", json))) {
        let taken = metadata.insert(key.into(), value.into());
        ensure!(taken.is_none(), Argument, "model file: the metadata key {key} is the file format's own");
    }
    Ok(metadata)
}

/// One tensor on its way to the file.
struct Stored<'a> {
    name: String,
    /// Whether it is of a linear layer.
    linear: bool,
    dtype: DType,
    dims: Vec<usize>,
    data: Cow<'a, [u8]>,
}

impl Stored<'_> {
    fn entry(&self) -> Entry<'_> {
        Entry { name: self.name.clone(), dtype: self.dtype, dims: self.dims.clone(), data: &self.data }
    }
}

fn store(parameter: &Parameter, half: bool) -> Result<Stored<'_>> {
    let Parameter { name, tensor, .. } = parameter;
    // Little endian is the byte order of the format and of every target of this library.
    let (dtype, data) = if half {
        let bytes = safetensors::f32_to_f16_bytes(&parameter.floats()?);
        (DType::F16, Cow::Owned(bytes.map_err(|error| error.within(name).within("model file"))?))
    } else {
        let bytes = match parameter.floats()? {
            Cow::Borrowed(floats) => Cow::Borrowed(bytemuck::cast_slice(floats)),
            Cow::Owned(floats) => Cow::Owned(bytemuck::cast_slice(&floats).to_vec()),
        };
        (DType::F32, bytes)
    };
    Ok(Stored { name: name.clone(), linear: false, dtype, dims: tensor.dims().to_vec(), data })
}

/// The trits and the scale of a linear layer.
fn store_packed<'a>(context: &Context, linear: &'a Linear, packing: tensor::Packing) -> Result<[Stored<'a>; 2]> {
    let name = &linear.name;
    let ternary = linear.ternary.as_ref().ok_or_else(|| error!(Internal, "{name} has no trits"))?;
    let (two_bit, matrix) = (ternary.packed.read::<u8>()?, matrix(linear.rows, linear.columns, packing)?);
    let data = if packing == tensor::Packing::TwoBit {
        two_bit
    } else {
        let mut packed = vec_zeroed(matrix.bytes())?;
        let from = matrix.packed_as(tensor::Packing::TwoBit);
        let used = repack(context, &from, &two_bit, packing, &mut packed)?;
        packed.truncate(used);
        Cow::Owned(packed)
    };
    let dims = stored_dims(&matrix, data.len());
    let scale = ternary.scale.read_bytes()?;
    Ok([
        Stored { name: name.clone(), linear: true, dtype: DType::U8, dims, data },
        Stored { name: scale_name(name), linear: true, dtype: DType::F32, dims: vec![1], data: scale },
    ])
}

fn matrix(rows: usize, columns: usize, packing: tensor::Packing) -> Result<Matrix> {
    Matrix::new(rows, columns, packing).map_err(|error| error.within("model file"))
}

/// The dimensions of packed bytes in the file: mask and signs are flat.
fn stored_dims(matrix: &Matrix, bytes: usize) -> Vec<usize> {
    match matrix.packing() {
        tensor::Packing::MaskSign => vec![bytes],
        _ => matrix.shape(bytes).to_vec(),
    }
}

fn scale_name(linear: &str) -> String {
    format!("{linear}_scale")
}

/// Reads a model that `save` wrote. One that is packed runs and cannot be trained. Whatever is wrong with the file's
/// contents is FORMAT.
pub fn load(context: Arc<Context>, path: &Path) -> Result<Model> {
    let bytes = read_file(path)?;
    File::parse(bytes).and_then(|file| decode(context, &file)).map_err(|error| error.within(path.display()))
}

/// The model in a parsed file.
pub fn decode(context: Arc<Context>, file: &File) -> Result<Model> {
    let (options, packing) = read_metadata(file)?;
    let trits = packing.of_trits().filter(|_| packed(&options, packing));
    let packed = trits.is_some();
    check_count(file, &options, packed)?;
    let descriptions = describe(&options);
    let mut parameters = Vec::new();
    for description in descriptions.iter().filter(|d| !(packed && d.kind == ParameterKind::Ternary)) {
        parameters.push(read_floats(&context, file, description)?);
    }
    let linear = |parameters: &[Parameter], name: &str, options: &ModelOptions| {
        if let Some(packing) = trits {
            let description = descriptions.iter().find(|description| description.name == name);
            let description = description.ok_or_else(|| error!(Internal, "{name} is no parameter of the model"))?;
            return read_packed(&context, file, description, packing);
        }
        let index = parameters.iter().position(|parameter| parameter.name == name);
        let index = index.ok_or_else(|| error!(Internal, "{name} is no parameter of the model"))?;
        Linear::trainable(&context, &parameters[index], index, options)
    };
    let mut model = Model::assemble(context.clone(), options, DType::F32, parameters, linear)?;
    model.refresh()?;
    Ok(model)
}

fn read_metadata(file: &File) -> Result<(ModelOptions, Packing)> {
    let metadata = file.metadata();
    let field = |key: &str| metadata.get(key).map(String::as_str);
    match (field("format"), field("version")) {
        (Some(FORMAT), Some(VERSION)) => {}
        (Some(FORMAT), version) => {
            let version = version.unwrap_or("none");
            return Err(error!(Format, "the model file has version {version}, this library reads {VERSION}"));
        }
        _ => return Err(error!(Format, "the file holds no Setun model: its metadata has no format {FORMAT}")),
    }
    let json = field("options").ok_or_else(|| error!(Format, "the model file's metadata has no options"))?;
    let options: ModelOptions =
        serde_json::from_str(json).map_err(|e| error!(Format, "the model file's geometry cannot be read: {e}"))?;
    options.validate().map_err(|e| error!(Format, "the model file's geometry is wrong: {e}"))?;
    let name = field("packing").unwrap_or("none");
    let packing = Packing::ALL.into_iter().find(|packing| packing.name() == name);
    let packing = packing.ok_or_else(|| error!(Format, "the model file's packing is {name}, which is none"))?;
    Ok((options, packing))
}

/// Before anything is allocated by the numbers in the metadata: the file has as many tensors as they say.
fn check_count(file: &File, options: &ModelOptions, packed: bool) -> Result<()> {
    let linears = if options.ffn_gated { 7 } else { 6 };
    let per_layer = 4 + linears + if packed { linears } else { 0 };
    let expected = options.layers * per_layer + if options.tied_embedding { 2 } else { 3 };
    let found = file.names().count();
    ensure!(found == expected, Format, "the model file has {found} tensors, its geometry needs {expected}");
    Ok(())
}

fn read_floats(context: &Context, file: &File, description: &Description) -> Result<Parameter> {
    let Description { name, kind, dims, .. } = description;
    let found = file.tensor(name)?;
    ensure!(
        matches!(found.dtype, DType::F32 | DType::F16) && found.dims[..] == dims[..],
        Format,
        "tensor {name} is {} {:?}, expected f32 or f16 {dims:?}",
        found.dtype,
        found.dims
    );
    let mut tensor = Tensor::zeros(DType::F32, dims)?;
    let values = tensor.host_mut::<f32>()?;
    if found.dtype == DType::F16 {
        values.copy_from_slice(&safetensors::f16_bytes_to_f32(found.data)?);
    } else {
        bytemuck::cast_slice_mut(values).copy_from_slice(found.data);
    }
    let tensor = context.place(tensor)?;
    if let Some(element) = (context.kernels().first_non_finite)(context.launch(), &tensor.view())? {
        return Err(error!(Format, "element {element} of tensor {name} is not finite"));
    }
    Parameter::new(name.clone(), *kind, tensor)
}

fn read_packed(context: &Context, file: &File, description: &Description, packing: tensor::Packing) -> Result<Linear> {
    let Description { name, dims, .. } = description;
    let (rows, columns) = (dims[0], dims[1]);
    let (found, matrix) = (file.tensor(name)?, matrix(rows, columns, packing)?);
    let expected = stored_dims(&matrix, found.data.len());
    ensure!(
        found.dtype == DType::U8 && found.dims == expected,
        Format,
        "tensor {name} is {} {:?}, expected u8 {expected:?}",
        found.dtype,
        found.dims
    );
    // Before anything is allocated by the numbers in the metadata. A wrong size is no fault of the caller's.
    matrix.check_size(found.data).map_err(|e| error!(Format, "tensor {name}: {e}"))?;
    let mut packed = Tensor::zeros(DType::U8, &matrix.packed_as(tensor::Packing::TwoBit).shape(0))?;
    let read = repack(context, &matrix, found.data, tensor::Packing::TwoBit, packed.host_mut()?);
    read.map_err(|error| error.within(format_args!("tensor {name}")))?;
    Linear::packed(context, name.clone(), columns, packed, read_scale(file, &scale_name(name))?)
}

fn read_scale(file: &File, name: &str) -> Result<Tensor> {
    let found = file.tensor(name)?;
    ensure!(
        found.dtype == DType::F32 && found.dims == [1],
        Format,
        "tensor {name} is {} {:?}, expected f32 [1]",
        found.dtype,
        found.dims
    );
    let mut tensor = Tensor::zeros(DType::F32, &[1])?;
    tensor.write_bytes(found.data)?;
    let scale = tensor.host::<f32>()?[0];
    ensure!(scale.is_finite() && scale > 0.0, Format, "tensor {name} is {scale}, expected a positive number");
    Ok(tensor)
}
