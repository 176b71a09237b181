//! A model as one .safetensors file.
//!
//! Tensors have the names of `parameters.rs`. A packed linear layer `x.weight` is stored as `x.weight` u8, a row of which is
//! ceil(columns / 4) bytes of four trits or ceil(columns / 5) of five, or which is flat, of mask and signs, and
//! `x.weight_scale` f32 [1]; `tensor/packing.rs` defines the bytes. With a codebook, the other matrices are stored as
//! `x.weight` u8, flat, codes as `setun_codebook_pack` writes them, and `x.weight_codebook` f32 [entries], ascending. Everything
//! else is f32 or f16. The metadata:
//!
//! ```text
//! format     "setun-model"
//! version    "1"
//! options    the ModelOptions as JSON
//! packing    "full", "two-bit", "five-per-byte" or "mask-sign"
//! codebook   the most entries that a codebook has, if matrices have one
//! tokenizer  the tokenizer as JSON, if there is one
//! xxh3       the checksum of the tensors' data, in the order of their names, and of the other metadata, in 16 hex digits
//! ```

use super::linear::Linear;
use super::parameters::{Description, Parameter, ParameterKind, describe};
use super::{Model, ModelOptions};
use crate::backend::Context;
use crate::cluster::{self, LineOptions};
use crate::format::files::{Sink, read_file, write_atomic};
use crate::format::safetensors::{self, File, Source, Sources};
use crate::quantize::{Matrix, repack};
use crate::tensor::error::{ensure, error};
use crate::tensor::{self, DType, Result, Tensor, never, reserve, vec_zeroed};
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

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    pub packing: Packing,
    pub rest: Rest,
    /// Entries of the codebook that each matrix has which is not packed, or as many as it has elements; 0: they are stored as
    /// `rest` says.
    pub codebook: usize,
}

impl Storage {
    pub fn new(packing: Packing, rest: Rest) -> Storage {
        Storage { packing, rest, codebook: 0 }
    }

    /// Whether linear layers are stored as trits.
    fn packs(&self, options: &ModelOptions) -> bool {
        options.quantize_weights && self.packing != Packing::Full
    }

    /// Whether floats are stored as f16.
    fn halves(&self) -> bool {
        self.packing != Packing::Full && self.rest == Rest::F16
    }
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

/// Of a codebook whose codes are bytes.
const MOST_ENTRIES: usize = 256;

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
/// UNSUPPORTED when a model that was loaded packed shall be stored in full; ARGUMENT for a codebook of more than 256 entries, or
/// of weights in full; STATE when a weight is not finite; FORMAT when one is beyond f16.
pub fn save(
    model: &Model,
    path: &Path,
    how: Storage,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<FileReport> {
    let stored = store_all(model, how)?;
    let bytes = encode_stored(&stored, model.options(), how, tokenizer_json, extra)?;
    write_atomic(path, &bytes)?;
    Ok(FileReport {
        parameters: model.parameter_count(),
        linear_parameters: model.linears().map(|linear| linear.rows * linear.columns).sum(),
        linear_bytes: stored.iter().filter(|stored| stored.linear).map(|stored| stored.data.len()).sum(),
        file_bytes: bytes.len(),
    })
}

/// The bytes that `save` writes.
#[cfg(test)]
pub fn encode(
    model: &Model,
    how: Storage,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    encode_stored(&store_all(model, how)?, model.options(), how, tokenizer_json, extra)
}

/// The same of a model in full, a tensor at a time.
pub fn full_sources<'a>(model: &'a Model, tokenizer_json: Option<&str>) -> Result<Sources<'a>> {
    let how = Storage::new(Packing::Full, Rest::F32);
    check(model, how)?;
    let source = |parameter: &'a Parameter| Source {
        name: parameter.name.clone(),
        dtype: DType::F32,
        dims: parameter.tensor.dims().to_vec(),
        emit: Box::new(|sink: &mut Sink| sink(bytemuck::cast_slice(&parameter.floats()?))),
    };
    let metadata = metadata(model.options(), how, tokenizer_json, &BTreeMap::new())?;
    let mut sources = Sources { tensors: model.parameters().iter().map(source).collect(), metadata };
    sources.seal()?;
    Ok(sources)
}

fn encode_stored(
    stored: &[Stored],
    options: &ModelOptions,
    how: Storage,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let metadata = metadata(options, how, tokenizer_json, extra)?;
    let mut sources = Sources { tensors: stored.iter().map(Stored::source).collect(), metadata };
    sources.seal()?;
    sources.encode()
}

/// Whether it can be stored that way.
fn check(model: &Model, how: Storage) -> Result<()> {
    let Storage { packing, codebook, .. } = how;
    ensure!(model.dtype() == DType::F32, DType, "model file: weights are {}, expected f32", model.dtype());
    ensure!(
        packing != Packing::Full || model.trainable(),
        Unsupported,
        "model file: the model was loaded packed; the weights that training needs are not there to be saved"
    );
    ensure!(codebook <= MOST_ENTRIES, Argument, "model file: codebook is {codebook}, expected at most {MOST_ENTRIES}");
    ensure!(
        codebook == 0 || packing != Packing::Full,
        Argument,
        "model file: codebook is {codebook}, expected 0 for weights in full, of which every bit is kept"
    );
    // Of packed layers too: a NaN among the float weights leaves trits that look sound.
    // (Codes of numbers are numbers.)
    for Parameter { name, tensor, .. } in model.parameters().iter().filter(|p| p.tensor.dtype() == DType::F32) {
        if let Some(element) = (model.context().kernels().first_non_finite)(model.context().launch(), &tensor.view())? {
            return Err(error!(State, "model file: element {element} of {name} is not finite; nothing was written"));
        }
    }
    Ok(())
}

/// All tensors as they are stored.
fn store_all(model: &Model, how: Storage) -> Result<Vec<Stored<'_>>> {
    check(model, how)?;
    let Storage { packing, codebook, .. } = how;
    let trits = packing.of_trits().filter(|_| how.packs(model.options()));
    let mut stored: Vec<Stored> = Vec::new();
    for parameter in model.parameters().iter().filter(|p| !(trits.is_some() && p.kind == ParameterKind::Ternary)) {
        let linear = model.linears().any(|linear| linear.name == parameter.name);
        if codebook > 0 && parameter.kind != ParameterKind::Vector {
            let codes = store_codes(model.context(), parameter, codebook)?;
            stored.extend(codes.map(|stored| Stored { linear, ..stored }));
        } else {
            stored.push(Stored { linear, ..store(parameter, how.halves())? });
        }
    }
    for (linear, packing) in model.linears().filter_map(|linear| Some((linear, trits?))) {
        stored.extend(store_packed(model.context(), linear, packing)?);
    }
    Ok(stored)
}

fn metadata(
    options: &ModelOptions,
    how: Storage,
    tokenizer_json: Option<&str>,
    extra: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let json = serde_json::to_string(options).map_err(|e| error!(Internal, "the model options have no JSON: {e}"))?;
    let stored = if how.packs(options) { how.packing } else { Packing::Full };
    let codebook = (how.codebook > 0).then(|| how.codebook.to_string());
    let mut metadata = extra.clone();
    let own = [("format", FORMAT), ("version", VERSION), ("options", &json), ("packing", stored.name())];
    let more = codebook.as_deref().map(|entries| ("codebook", entries));
    for (key, value) in own.into_iter().chain(more).chain(tokenizer_json.map(|json| ("tokenizer", json))) {
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
    fn source(&self) -> Source<'_> {
        let emit = Box::new(|sink: &mut Sink| sink(&self.data));
        Source { name: self.name.clone(), dtype: self.dtype, dims: self.dims.clone(), emit }
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

/// The codes of a matrix, and the entries of its codebook: those that leave the least squared error.
fn store_codes<'a>(context: &Context, parameter: &'a Parameter, entries: usize) -> Result<[Stored<'a>; 2]> {
    let (name, values) = (&parameter.name, parameter.floats()?);
    let how = LineOptions::of(entries.min(values.len()));
    let found = cluster::fit_line(context, &values, &[], &how, &never).map_err(|error| error.within(name))?;
    let mut book: Vec<f32> = vec_zeroed(found.entries.len())?;
    book.iter_mut().zip(&found.entries).for_each(|(to, &entry)| *to = entry as f32);
    let mut codes = vec_zeroed(cluster::codebook_size(values.len(), book.len())?)?;
    cluster::pack(context, &values, &book, &mut codes)?;
    let (bytes, entries) = (codes.len(), book.len());
    let book = Cow::Owned(bytemuck::cast_slice(&book).to_vec());
    Ok([
        Stored { name: name.clone(), linear: false, dtype: DType::U8, dims: vec![bytes], data: Cow::Owned(codes) },
        Stored { name: codebook_name(name), linear: false, dtype: DType::F32, dims: vec![entries], data: book },
    ])
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

fn codebook_name(matrix: &str) -> String {
    format!("{matrix}_codebook")
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
    file.check_sum()?;
    let trits = packing.of_trits().filter(|_| options.quantize_weights);
    let packed = trits.is_some();
    let has_codebooks = file.metadata().contains_key("codebook");
    check_count(file, &options, packed, has_codebooks)?;
    let descriptions = describe(&options);
    let mut parameters = Vec::new();
    reserve(&mut parameters, descriptions.len())?;
    for description in descriptions.iter().filter(|d| !(packed && d.kind == ParameterKind::Ternary)) {
        let has_codebook = has_codebooks && description.kind != ParameterKind::Vector;
        parameters.push(read_floats(&context, file, description, has_codebook)?);
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
fn check_count(file: &File, options: &ModelOptions, packed: bool, has_codebooks: bool) -> Result<()> {
    let linears = if options.ffn_gated { 7 } else { 6 };
    // A scale or a codebook beside each.
    let per_layer = 4 + linears + if packed || has_codebooks { linears } else { 0 };
    let tables = if options.tied_embedding { 1 } else { 2 };
    let expected = options.layers * per_layer + 1 + if has_codebooks { 2 * tables } else { tables };
    let found = file.names().count();
    ensure!(found == expected, Format, "the model file has {found} tensors, its geometry needs {expected}");
    Ok(())
}

fn read_floats(context: &Context, file: &File, description: &Description, has_codebook: bool) -> Result<Parameter> {
    let Description { name, kind, dims, .. } = description;
    let found = file.tensor(name)?;
    if !has_codebook {
        ensure!(
            matches!(found.dtype, DType::F32 | DType::F16) && found.dims[..] == dims[..],
            Format,
            "tensor {name} is {} {:?}, expected f32 or f16 {dims:?}",
            found.dtype,
            found.dims
        );
    }
    // Of codes, before anything is allocated by the numbers in the metadata.
    let book = if has_codebook { Some(read_codebook(file, description)?) } else { None };
    let mut tensor = Tensor::zeros(DType::F32, dims)?;
    let values = tensor.host_mut::<f32>()?;
    if let Some(book) = book {
        let read = cluster::unpack(context, found.data, &book, values);
        read.map_err(|e| error!(Format, "tensor {name}: {e}"))?;
    } else if found.dtype == DType::F16 {
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

/// The entries of a matrix of codes.
fn read_codebook(file: &File, description: &Description) -> Result<Vec<f32>> {
    let Description { name, dims, .. } = description;
    let (codes, own) = (file.tensor(name)?, codebook_name(name));
    let found = file.tensor(&own)?;
    ensure!(
        found.dtype == DType::F32 && found.dims.len() == 1 && (1..=MOST_ENTRIES).contains(&found.dims[0]),
        Format,
        "tensor {own} is {} {:?}, expected f32 of 1 to {MOST_ENTRIES} entries",
        found.dtype,
        found.dims
    );
    let count = dims.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
    let expected = count.map(|count| cluster::codebook_size(count, found.dims[0])).transpose()?;
    ensure!(
        codes.dtype == DType::U8 && codes.dims.len() == 1 && Some(codes.dims[0]) == expected,
        Format,
        "tensor {name} is {} {:?}, expected u8 {expected:?} for codes of {dims:?}",
        codes.dtype,
        codes.dims
    );
    let mut book = vec_zeroed(found.dims[0])?;
    bytemuck::cast_slice_mut(&mut book).copy_from_slice(found.data);
    Ok(book)
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
