//! The safetensors format: `header bytes: u64 | header: JSON | data`, all little endian. The header maps each tensor's name to
//! its type, shape and place in the data; `__metadata__` maps strings to strings.
//!
//! Reading and its checks are the `safetensors` crate's. Writing is here, since the crate keeps metadata in a hash map: the
//! same tensors would give other bytes each time, and checkpoints are compared by checksum.

use super::files::{Sink, read_part};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, reserve, sort_few, vec_zeroed};
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const METADATA: &str = "__metadata__";

/// A tensor to write. `data` are its elements, row-major, little endian.
pub struct Entry<'a> {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<usize>,
    pub data: &'a [u8],
}

/// A tensor of a [`File`]. The data may lie at any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    pub dtype: DType,
    pub dims: &'a [usize],
    pub data: &'a [u8],
}

const DTYPES: [(DType, Dtype); 7] = [
    (DType::F32, Dtype::F32),
    (DType::F64, Dtype::F64),
    (DType::F16, Dtype::F16),
    (DType::I8, Dtype::I8),
    (DType::U8, Dtype::U8),
    (DType::I32, Dtype::I32),
    (DType::U32, Dtype::U32),
];

fn stored_type(dtype: DType) -> Dtype {
    let pair = DTYPES.iter().find(|(ours, _)| *ours == dtype);
    pair.expect("the table has every element type").1
}

/// Hands on the bytes of a tensor, in one piece or several, as often as it is asked to.
pub type Emit<'a> = dyn Fn(&mut Sink) -> Result<()> + 'a;

/// A tensor that is made when it is written, so that a file takes the memory of one at a time.
pub struct Source<'a> {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<usize>,
    pub emit: Box<Emit<'a>>,
}

/// A file that is still to be written.
pub struct Sources<'a> {
    pub tensors: Vec<Source<'a>>,
    pub metadata: BTreeMap<String, String>,
}

impl<'a> Sources<'a> {
    /// SHAPE where the data of an entry are not as many as its shape says.
    pub fn of(entries: &[Entry<'a>], metadata: BTreeMap<String, String>) -> Result<Sources<'a>> {
        let mut tensors = Vec::new();
        for &Entry { ref name, dtype, ref dims, data } in entries {
            let there = data.len();
            let fits = bytes_of(dtype, dims) == Some(there);
            ensure!(fits, Shape, "tensor {name} is {dtype} {dims:?}, got {there} bytes for it");
            let emit = Box::new(move |sink: &mut Sink| sink(data));
            tensors.push(Source { name: name.clone(), dtype, dims: dims.clone(), emit });
        }
        Ok(Sources { tensors, metadata })
    }

    /// The same tensors, in any order, and metadata always give the same bytes.
    pub fn write(&self, sink: &mut Sink) -> Result<()> {
        let (order, header) = self.in_order()?;
        Self::hand_on(&order, &header, sink)
    }

    fn hand_on(order: &[&Source], header: &str, sink: &mut Sink) -> Result<()> {
        sink(&(header.len() as u64).to_le_bytes())?;
        sink(header.as_bytes())?;
        for source in order {
            let (mut left, name) = (bytes_of(source.dtype, &source.dims).unwrap_or(0), &source.name);
            (source.emit)(&mut |bytes| {
                left = left.checked_sub(bytes.len()).ok_or_else(|| error!(Internal, "tensor {name} is too long"))?;
                sink(bytes)
            })?;
            ensure!(left == 0, Internal, "tensor {name} is {left} bytes too short");
        }
        Ok(())
    }

    /// Puts the checksum of everything into the metadata: [`File::check_sum`] is its other half. The header stands before what the
    /// sum is of, so every tensor is made once for it and once when it is written.
    pub fn seal(&mut self) -> Result<()> {
        sort_few(&mut self.tensors, |a, b| a.name < b.name);
        let mut sum = Xxh3::new();
        for source in &self.tensors {
            (source.emit)(&mut |piece| {
                sum.update(piece);
                Ok(())
            })?;
        }
        let sum = sealed(sum, &self.metadata);
        let taken = self.metadata.insert(CHECKSUM.to_string(), sum);
        ensure!(taken.is_none(), Argument, "the metadata key {CHECKSUM} is the file format's own");
        Ok(())
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let data: usize = self.tensors.iter().filter_map(|source| bytes_of(source.dtype, &source.dims)).sum();
        let (order, header) = self.in_order()?;
        let mut bytes = Vec::new();
        reserve(&mut bytes, 8 + header.len() + data)?;
        Self::hand_on(&order, &header, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn in_order(&self) -> Result<(Vec<&Source<'_>>, String)> {
        let mut order: Vec<&Source> = self.tensors.iter().collect();
        // Wide elements first, then by name: as the header is padded to 8 bytes, every tensor is aligned to its element.
        sort_few(&mut order, |a, b| (b.dtype.size(), &a.name) < (a.dtype.size(), &b.name));
        let header = header(&order, &self.metadata)?;
        Ok((order, header))
    }
}

/// The bytes of a file. The same entries, in any order, and metadata always give the same bytes.
pub fn encode(entries: &[Entry], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    Sources::of(entries, metadata.clone())?.encode()
}

fn bytes_of(dtype: DType, dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d))
}

/// `{"__metadata__":{..},"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},..}`, padded with spaces.
fn header(order: &[&Source], metadata: &BTreeMap<String, String>) -> Result<String> {
    let mut fields = Vec::new();
    if !metadata.is_empty() {
        fields.push(format!("{}:{}", json(METADATA)?, json(metadata)?));
    }
    let mut offset = 0usize;
    let mut names = std::collections::BTreeSet::new();
    for Source { name, dtype, dims, .. } in order {
        let dtype = *dtype;
        ensure!(name != METADATA && names.insert(name), Argument, "the tensor name {name} is taken");
        let end = bytes_of(dtype, dims).and_then(|bytes| offset.checked_add(bytes));
        let end = end.ok_or_else(|| error!(Shape, "tensor {name} is {dtype} {dims:?}, which no file holds"))?;
        let info = TensorInfo { dtype: stored_type(dtype), shape: dims.to_vec(), data_offsets: (offset, end) };
        fields.push(format!("{}:{}", json(name)?, json(&info)?));
        offset = end;
    }
    let mut header = format!("{{{}}}", fields.join(","));
    let padding = header.len().next_multiple_of(8) - header.len();
    header.extend(std::iter::repeat_n(' ', padding));
    Ok(header)
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(value).map_err(|e| error!(Internal, "a safetensors header cannot be written: {e}"))
}

/// A parsed file. Every failure to parse is FORMAT.
#[derive(Debug)]
pub struct File {
    bytes: Vec<u8>,
    header: Header,
}

/// A file that stays where it is: a tensor of it takes memory while it is used.
pub struct OpenFile {
    file: std::fs::File,
    path: PathBuf,
    header: Header,
}

/// What a file says of its tensors.
#[derive(Debug)]
pub struct Header {
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Place>,
}

/// Where a tensor lies in a file, in bytes from its beginning.
#[derive(Debug)]
pub struct Place {
    pub dtype: Dtype,
    pub dims: Vec<usize>,
    pub data: Range<usize>,
}

impl Header {
    /// Of an open file of `there` bytes, of which no more is read.
    pub fn read(file: &std::fs::File, path: &Path, there: usize) -> Result<Header> {
        let extent = Header::extent(&read_part(file, path, 0, there.min(8))?, there)?;
        Header::parse(&read_part(file, path, 0, extent)?, there)
    }

    /// The bytes of a file of `there` bytes that the header takes, of which the first eight say so.
    pub fn extent(first: &[u8], there: usize) -> Result<usize> {
        let length = first
            .first_chunk::<8>()
            .ok_or_else(|| error!(Format, "not a safetensors file: it has {there} bytes, the shortest has 10"))?;
        let length = u64::from_le_bytes(*length);
        let end = usize::try_from(length).ok().and_then(|length| length.checked_add(8)).filter(|&end| end <= there);
        end.ok_or_else(|| {
            error!(
                Format,
                "truncated, or not a safetensors file: it has {there} bytes, and would begin with a header of {length}"
            )
        })
    }

    /// From the first bytes of a file of `there` bytes, as many as `extent` says.
    pub fn parse(first: &[u8], there: usize) -> Result<Header> {
        let start = first.len();
        check_ends(&first[8..], (there - start) as u64)?;
        let header: Metadata =
            serde_json::from_slice(&first[8..]).map_err(|e| error!(Format, "damaged safetensors header: {e}"))?;
        let metadata = header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        let place = |(name, info): (String, &TensorInfo)| {
            let (from, to) = info.data_offsets;
            (name, Place { dtype: info.dtype, dims: info.shape.clone(), data: start + from..start + to })
        };
        let tensors: BTreeMap<String, Place> = header.tensors().into_iter().map(place).collect();
        let end = tensors.values().map(|place| place.data.end).max().unwrap_or(start);
        ensure!(end == there, Format, "damaged safetensors file: it is longer than its tensors");
        Ok(Header { metadata, tensors })
    }

    fn find(&self, name: &str) -> Result<(DType, &Place)> {
        let place = self.tensors.get(name).ok_or_else(|| error!(Format, "the tensor {name} is missing"))?;
        let dtype = DTYPES.iter().find(|(_, stored)| *stored == place.dtype).map(|(dtype, _)| *dtype);
        let dtype = dtype.ok_or_else(|| {
            let ours: Vec<String> = DTYPES.iter().map(|(_, stored)| stored.to_string()).collect();
            error!(Format, "tensor {name} has elements of type {}, expected one of {}", place.dtype, ours.join(", "))
        })?;
        Ok((dtype, place))
    }

    fn check(&self, name: &str, dtype: DType, dims: &[usize]) -> Result<()> {
        let (found, place) = self.find(name)?;
        let fits = found == dtype && place.dims == dims;
        ensure!(fits, Format, "{name} is {found} {:?}, expected {dtype} {dims:?}", place.dims);
        Ok(())
    }
}

impl File {
    pub fn parse(bytes: Vec<u8>) -> Result<File> {
        let extent = Header::extent(&bytes, bytes.len())?;
        let header = Header::parse(&bytes[..extent], bytes.len())?;
        Ok(File { bytes, header })
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// FORMAT when the file has no tensor of that name, or one of a type that Setun does not use.
    pub fn tensor(&self, name: &str) -> Result<EntryRef<'_>> {
        let (dtype, Place { dims, data, .. }) = self.header.find(name)?;
        Ok(EntryRef { dtype, dims, data: &self.bytes[data.clone()] })
    }

    /// FORMAT unless the tensor is of this type and shape; names both.
    pub fn check(&self, name: &str, dtype: DType, dims: &[usize]) -> Result<()> {
        self.header.check(name, dtype, dims)
    }

    /// FORMAT unless the file is the one that was sealed; one that was not says nothing.
    pub fn check_sum(&self) -> Result<()> {
        let Some(said) = self.metadata().get(CHECKSUM) else { return Ok(()) };
        let mut sum = Xxh3::new();
        self.header.tensors.values().for_each(|place| sum.update(&self.bytes[place.data.clone()]));
        let found = sealed(sum, self.metadata());
        ensure!(found == *said, Format, "damaged: it has the checksum {found}, its header says {said}");
        Ok(())
    }

    /// The elements of a tensor of f64, and its shape.
    pub fn doubles(&self, name: &str) -> Result<(&[usize], Vec<f64>)> {
        let EntryRef { dtype, dims, data } = self.tensor(name)?;
        Ok((dims, doubles(name, dtype, data)?))
    }
}

impl OpenFile {
    /// An open file of `there` bytes; `path` is its name in errors.
    pub fn new(file: std::fs::File, path: &Path, there: usize) -> Result<OpenFile> {
        let header = Header::read(&file, path, there)?;
        Ok(OpenFile { file, path: path.to_owned(), header })
    }

    /// The elements of a tensor. FORMAT as [`File::tensor`]; IO when they cannot be read.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let (_, Place { data, .. }) = self.header.find(name)?;
        read_part(&self.file, &self.path, data.start as u64, data.len())
    }

    /// As [`File::check`].
    pub fn check(&self, name: &str, dtype: DType, dims: &[usize]) -> Result<()> {
        self.header.check(name, dtype, dims)
    }

    /// As [`File::doubles`].
    pub fn doubles(&self, name: &str) -> Result<(&[usize], Vec<f64>)> {
        let (dtype, Place { dims, .. }) = self.header.find(name)?;
        Ok((dims, doubles(name, dtype, &self.bytes(name)?)?))
    }
}

fn doubles(name: &str, dtype: DType, data: &[u8]) -> Result<Vec<f64>> {
    ensure!(dtype == DType::F64, Format, "{name} is {dtype}, expected {}", DType::F64);
    let (eights, _) = data.as_chunks::<8>();
    let mut values = Vec::new();
    reserve(&mut values, eights.len())?;
    values.extend(eights.iter().map(|bytes| f64::from_le_bytes(*bytes)));
    Ok(values)
}

/// The key of a checksum among the metadata.
pub const CHECKSUM: &str = "xxh3";

/// What of the metadata the checksum is of.
fn summed(metadata: &BTreeMap<String, String>) -> impl Iterator<Item = &[u8]> {
    let fields = metadata.iter().filter(|(key, _)| *key != CHECKSUM);
    fields.flat_map(|(key, value)| [key.as_bytes(), &[0], value.as_bytes(), &[0]])
}

/// The sum of the tensors, in the order of their names, and of the metadata.
fn sealed(mut sum: Xxh3, metadata: &BTreeMap<String, String>) -> String {
    summed(metadata).for_each(|part| sum.update(part));
    format!("{:016x}", sum.digest())
}

/// The xxh3-64 of these bytes one after the other, in hexadecimal digits.
pub fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut sum = Xxh3::new();
    parts.into_iter().for_each(|part| sum.update(part));
    format!("{:016x}", sum.digest())
}

/// Every tensor ends inside the `data` bytes after the header. That tells a truncated file from a foreign one, and keeps the
/// sums of lengths in the checks that follow far from overflow.
fn check_ends(header: &[u8], data: u64) -> Result<()> {
    let length = header.len();
    let header: serde_json::Value = serde_json::from_slice(header)
        .map_err(|e| error!(Format, "not a safetensors file: its header of {length} bytes is not JSON: {e}"))?;
    let fields = header.as_object().ok_or_else(|| error!(Format, "not a safetensors file: its header is no object"))?;
    for (name, info) in fields.iter().filter(|(name, _)| *name != METADATA) {
        let end = info.get("data_offsets").and_then(|offsets| offsets.get(1)?.as_u64());
        let end = end.ok_or_else(|| error!(Format, "the safetensors header does not say where tensor {name} ends"))?;
        ensure!(end <= data, Format, "truncated: tensor {name} ends at byte {end} of the data, which has {data} bytes");
    }
    Ok(())
}

/// The f16 nearest to each value, as bytes. FORMAT for what is or would become an infinity or NaN: f16 ends at 65504.
pub fn f32_to_f16_bytes(values: &[f32]) -> Result<Vec<u8>> {
    let mut halves: Vec<f16> = Vec::new();
    reserve(&mut halves, values.len())?;
    halves.resize(values.len(), f16::ZERO);
    halves.convert_from_f32_slice(values);
    if let Some(index) = halves.iter().position(|half| !half.is_finite()) {
        return Err(error!(Format, "element {index} is {}, which f16 cannot hold", values[index]));
    }
    let mut bytes = Vec::new();
    reserve(&mut bytes, 2 * values.len())?;
    bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
    Ok(bytes)
}

/// The values of f16 bytes, which may lie at any address.
pub fn f16_bytes_to_f32(bytes: &[u8]) -> Result<Vec<f32>> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    ensure!(rest.is_empty(), Format, "{} bytes are no whole number of f16 elements", bytes.len());
    let mut values: Vec<f32> = vec_zeroed(pairs.len())?;
    for (value, pair) in values.iter_mut().zip(pairs) {
        *value = f16::from_le_bytes(*pair).to_f32();
    }
    Ok(values)
}

#[cfg(test)]
#[path = "safetensors_tests.rs"]
mod tests;
