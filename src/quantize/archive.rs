//! Packed matrices, and tensors that stay as they are, in a .safetensors file.
//!
//! A packed matrix `x` is stored as `x` u8 [bytes], its packed bytes, and `x_scale` f32 [scales]. The metadata names what is
//! packed, so that any reader of the format can list and copy the file:
//!
//! ```text
//! setun.packed    {"x": {"rows": 512, "columns": 768, "packing": "five-per-byte", "group": 0}, ...}
//! ```
//!
//! where `group` is 0 for one scale, -1 for one a row, else the columns that share one.

use super::{Group, Matrix, PackedTensor, Packing};
use crate::backend::Context;
use crate::format::files::write_atomic;
use crate::format::safetensors;
use crate::format::tensor_file::{self, TensorFile};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, Tensor, reserve, sort_few};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const PACKED: &str = "setun.packed";

/// What the metadata says of a packed matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    rows: usize,
    columns: usize,
    packing: String,
    group: i64,
}

/// What an entry is, and its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// dtype None: of a type that Setun does not read.
    Tensor {
        dtype: Option<DType>,
        dims: Vec<usize>,
    },
    Packed {
        matrix: Matrix,
        group: Group,
    },
}

pub struct Entry {
    pub name: String,
    pub kind: EntryKind,
    held: Held,
}

/// Where the contents are.
enum Held {
    /// In the file that was opened.
    File,
    Tensor(Tensor),
    Packed {
        bytes: Vec<u8>,
        scales: Vec<f32>,
    },
}

/// The entries of a file, or of one to be.
#[derive(Default)]
pub struct Archive {
    file: Option<TensorFile>,
    entries: Vec<Entry>,
}

impl Archive {
    pub fn open(path: &Path) -> Result<Archive> {
        let file = TensorFile::open(path)?;
        let entries = listed(&file).map_err(|e| e.within(path.display()))?;
        Ok(Archive { file: Some(file), entries })
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    /// The entry of an index.
    pub fn entry(&self, index: usize) -> Result<&Entry> {
        let count = self.entries.len();
        self.entries.get(index).ok_or_else(|| error!(Argument, "index is {index}, the file has {count} entries"))
    }

    /// A tensor: floats as f32, integers as they are. ARGUMENT for a packed matrix.
    pub fn read(&self, index: usize) -> Result<Tensor> {
        let entry = self.entry(index)?;
        match (&entry.kind, &entry.held) {
            (EntryKind::Packed { .. }, _) => Err(error!(Argument, "{} is packed, expected a tensor", entry.name)),
            (_, Held::Tensor(tensor)) => copied(tensor),
            _ => self.stored(&entry.name),
        }
    }

    /// A packed matrix, checked. ARGUMENT for a tensor; FORMAT for bytes that are no trits and for scales that are not finite.
    pub fn read_packed(&self, index: usize, context: Arc<Context>) -> Result<PackedTensor> {
        let entry = self.entry(index)?;
        let EntryKind::Packed { matrix, group } = &entry.kind else {
            return Err(error!(Argument, "{} is a tensor, expected a packed matrix", entry.name));
        };
        let (bytes, scales) = match &entry.held {
            Held::Packed { bytes, scales } => (copy(bytes)?, copy(scales)?),
            _ => {
                let file = self.file()?;
                let (_, bytes) = file.stored(find(file, &entry.name)?)?;
                (bytes, copy(self.stored(&scale_name(&entry.name))?.host::<f32>()?)?)
            }
        };
        PackedTensor::from_parts(context, *matrix, *group, bytes, scales).map_err(|e| e.within(&entry.name))
    }

    fn file(&self) -> Result<&TensorFile> {
        self.file.as_ref().ok_or_else(|| error!(Internal, "no file was opened"))
    }

    fn stored(&self, name: &str) -> Result<Tensor> {
        let file = self.file()?;
        file.read(find(file, name)?)
    }

    /// Adds a copy of a tensor.
    pub fn add(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let kind = EntryKind::Tensor { dtype: Some(tensor.dtype()), dims: tensor.dims().to_vec() };
        self.push(name, kind, Held::Tensor(copied(tensor)?))
    }

    /// Adds a copy of a packed matrix.
    pub fn add_packed(&mut self, name: &str, packed: &PackedTensor) -> Result<()> {
        let (matrix, group, bytes, scales) = packed.parts();
        let held = Held::Packed { bytes: copy(bytes)?, scales: copy(scales)? };
        self.push(name, EntryKind::Packed { matrix, group }, held)
    }

    /// ARGUMENT for a name that is taken, also by the scales of a packed matrix.
    fn push(&mut self, name: &str, kind: EntryKind, held: Held) -> Result<()> {
        let clash = |entry: &&Entry| {
            let packed = |kind: &EntryKind| matches!(kind, EntryKind::Packed { .. });
            entry.name == name
                || (packed(&entry.kind) && scale_name(&entry.name) == name)
                || (packed(&kind) && entry.name == scale_name(name))
        };
        if let Some(other) = self.entries.iter().find(clash) {
            return Err(error!(Argument, "the name '{name}' is taken by the entry '{}' or its scales", other.name));
        }
        reserve(&mut self.entries, 1)?;
        self.entries.push(Entry { name: name.to_owned(), kind, held });
        Ok(())
    }

    /// Writes all entries into a .safetensors file, which is replaced whole or not at all; returns its size.
    pub fn save(&self, path: &Path) -> Result<usize> {
        let bytes = self.encode()?;
        write_atomic(path, &bytes)?;
        Ok(bytes.len())
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut read: BTreeMap<String, Tensor> = BTreeMap::new();
        let mut described = BTreeMap::new();
        for entry in &self.entries {
            if let EntryKind::Packed { matrix, group } = &entry.kind {
                described.insert(entry.name.clone(), describe(matrix, *group));
            }
            if let Held::File = entry.held {
                for name in stored_names(entry) {
                    read.insert(name.clone(), self.stored(&name)?);
                }
            }
        }
        let mut entries = Vec::new();
        let mut add = |name: String, dtype: DType, dims: &[usize], data| {
            entries.push(safetensors::Entry { name, dtype, dims: dims.to_vec(), data });
        };
        for entry in &self.entries {
            match &entry.held {
                Held::File => {}
                Held::Tensor(tensor) => add(entry.name.clone(), tensor.dtype(), tensor.dims(), bytes_of(tensor)?),
                Held::Packed { bytes, scales } => {
                    add(entry.name.clone(), DType::U8, &[bytes.len()], bytes);
                    add(scale_name(&entry.name), DType::F32, &[scales.len()], bytemuck::cast_slice(scales));
                }
            }
        }
        for (name, tensor) in &read {
            add(name.clone(), tensor.dtype(), tensor.dims(), bytes_of(tensor)?);
        }
        let mut metadata = self.file.as_ref().map(|file| file.metadata.clone()).unwrap_or_default();
        metadata.remove(PACKED);
        if !described.is_empty() {
            let json = serde_json::to_string(&described).map_err(|e| error!(Internal, "packed matrices: {e}"))?;
            metadata.insert(PACKED.into(), json);
        }
        safetensors::encode(&entries, &metadata)
    }
}

fn find<'a>(file: &'a TensorFile, name: &str) -> Result<&'a tensor_file::Entry> {
    file.find(name).ok_or_else(|| error!(Internal, "{name} has left the file"))
}

/// Little endian is the byte order of the format and of every target of this library.
fn bytes_of(tensor: &Tensor) -> Result<&[u8]> {
    Ok(match tensor.dtype() {
        DType::F32 => bytemuck::cast_slice(tensor.host::<f32>()?),
        DType::I8 => bytemuck::cast_slice(tensor.host::<i8>()?),
        DType::U8 => tensor.host::<u8>()?,
        DType::I32 => bytemuck::cast_slice(tensor.host::<i32>()?),
        DType::U32 => bytemuck::cast_slice(tensor.host::<u32>()?),
        other => return Err(error!(DType, "a tensor of {other} cannot be added to a file, expected f32 or integers")),
    })
}

fn copied(tensor: &Tensor) -> Result<Tensor> {
    match tensor.dtype() {
        DType::F32 => Tensor::from_slice(tensor.host::<f32>()?, tensor.dims()),
        DType::I8 => Tensor::from_slice(tensor.host::<i8>()?, tensor.dims()),
        DType::U8 => Tensor::from_slice(tensor.host::<u8>()?, tensor.dims()),
        DType::I32 => Tensor::from_slice(tensor.host::<i32>()?, tensor.dims()),
        DType::U32 => Tensor::from_slice(tensor.host::<u32>()?, tensor.dims()),
        other => Err(error!(DType, "a tensor of {other} cannot be added to a file, expected f32 or integers")),
    }
}

fn copy<T: Clone>(values: &[T]) -> Result<Vec<T>> {
    let mut copied = Vec::new();
    reserve(&mut copied, values.len())?;
    copied.extend_from_slice(values);
    Ok(copied)
}

/// The names under which an entry is in a file.
fn stored_names(entry: &Entry) -> Vec<String> {
    match entry.kind {
        EntryKind::Tensor { .. } => vec![entry.name.clone()],
        EntryKind::Packed { .. } => vec![entry.name.clone(), scale_name(&entry.name)],
    }
}

fn scale_name(name: &str) -> String {
    format!("{name}_scale")
}

fn describe(matrix: &Matrix, group: Group) -> Described {
    Described {
        rows: matrix.rows(),
        columns: matrix.columns(),
        packing: matrix.packing().name().into(),
        group: match group {
            Group::Matrix => 0,
            Group::Row => -1,
            Group::Columns(width) => width as i64,
        },
    }
}

/// The entries of a file that was opened: what the metadata calls packed, and the tensors beside.
fn listed(file: &TensorFile) -> Result<Vec<Entry>> {
    let described: BTreeMap<String, Described> = match file.metadata.get(PACKED) {
        None => BTreeMap::new(),
        Some(json) => serde_json::from_str(json).map_err(|e| error!(Format, "the metadata {PACKED} is wrong: {e}"))?,
    };
    let mut entries = Vec::new();
    for (name, described) in &described {
        let (matrix, group) = described.parse(name)?;
        let stored = check_stored(file, name, tensor_file::Stored::U8, None)?;
        matrix.check_count_of_bytes(stored).map_err(|e| error!(Format, "tensor {name}: {e}"))?;
        let count = group.scale_count(matrix.rows(), matrix.columns());
        check_stored(file, &scale_name(name), tensor_file::Stored::F32, Some(count))?;
        entries.push(Entry { name: name.clone(), kind: EntryKind::Packed { matrix, group }, held: Held::File });
    }
    let is_scale = |name: &str| name.strip_suffix("_scale").is_some_and(|of| described.contains_key(of));
    for found in file.entries.iter().filter(|e| !described.contains_key(&e.name) && !is_scale(&e.name)) {
        found.count()?;
        let kind = EntryKind::Tensor { dtype: found.stored.map(|stored| stored.dtype()), dims: found.dims.clone() };
        entries.push(Entry { name: found.name.clone(), kind, held: Held::File });
    }
    sort_few(&mut entries, |a, b| a.name < b.name);
    Ok(entries)
}

impl Described {
    fn parse(&self, name: &str) -> Result<(Matrix, Group)> {
        let packing = Packing::ALL.into_iter().find(|packing| packing.name() == self.packing);
        let packing =
            packing.ok_or_else(|| error!(Format, "{name} has the packing '{}', which is none", self.packing))?;
        let matrix = Matrix::new(self.rows, self.columns, packing).map_err(|e| error!(Format, "{name}: {e}"))?;
        let group = match self.group {
            0 => Group::Matrix,
            -1 => Group::Row,
            width => Group::Columns(
                usize::try_from(width).map_err(|_| error!(Format, "{name} has groups of {width} columns"))?,
            ),
        };
        Ok((matrix, group))
    }
}

/// Whether the file has this tensor, flat; FORMAT otherwise.
fn check_stored(file: &TensorFile, name: &str, stored: tensor_file::Stored, count: Option<usize>) -> Result<usize> {
    let found = file.find(name).ok_or_else(|| error!(Format, "the tensor {name} is missing"))?;
    ensure!(
        found.stored == Some(stored) && found.dims.len() == 1 && count.is_none_or(|count| found.dims[0] == count),
        Format,
        "tensor {name} is {:?} {:?}, expected {stored:?} [{}]",
        found.stored,
        found.dims,
        count.map_or_else(|| "bytes".into(), |count| count.to_string())
    );
    Ok(found.dims[0])
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
