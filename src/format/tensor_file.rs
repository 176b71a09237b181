//! Files of named arrays, read one at a time: .safetensors, and NumPy's .npy with its one array.

use super::files::read_part;
use super::npy;
use super::safetensors;
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Error, Result, Tensor, vec_zeroed};
use ::safetensors::tensor::Dtype;
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// How an element lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    F32,
    F64,
    F16,
    BF16,
    I8,
    U8,
    I32,
    U32,
}

impl Stored {
    fn of(dtype: Dtype) -> Option<Stored> {
        match dtype {
            Dtype::F32 => Some(Stored::F32),
            Dtype::F64 => Some(Stored::F64),
            Dtype::F16 => Some(Stored::F16),
            Dtype::BF16 => Some(Stored::BF16),
            Dtype::I8 => Some(Stored::I8),
            Dtype::U8 => Some(Stored::U8),
            Dtype::I32 => Some(Stored::I32),
            Dtype::U32 => Some(Stored::U32),
            _ => None,
        }
    }

    fn size(self) -> usize {
        match self {
            Stored::I8 | Stored::U8 => 1,
            Stored::F16 | Stored::BF16 => 2,
            Stored::F32 | Stored::I32 | Stored::U32 => 4,
            Stored::F64 => 8,
        }
    }

    /// The type of the tensor that it is read into.
    pub fn dtype(self) -> DType {
        match self {
            Stored::F32 | Stored::F64 | Stored::F16 | Stored::BF16 => DType::F32,
            Stored::I8 => DType::I8,
            Stored::U8 => DType::U8,
            Stored::I32 => DType::I32,
            Stored::U32 => DType::U32,
        }
    }
}

/// One array of a file.
pub struct Entry {
    pub name: String,
    /// None: a type that Setun does not read.
    pub stored: Option<Stored>,
    pub dims: Vec<usize>,
    type_name: String,
    offset: u64,
    fortran: bool,
}

impl Entry {
    pub fn count(&self) -> Result<usize> {
        let count = self.dims.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
        count.filter(|&n| n <= isize::MAX as usize / 8).ok_or_else(|| {
            error!(Format, "{} has the shape {:?}, more elements than a machine can address", self.name, self.dims)
        })
    }
}

pub struct TensorFile {
    path: PathBuf,
    file: File,
    pub entries: Vec<Entry>,
    pub metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Reads what the file says of itself, and no data. FORMAT for what is neither of the two kinds.
    pub fn open(path: &Path) -> Result<TensorFile> {
        let file = File::open(path).map_err(|e| Error::io("opening", path, &e))?;
        let metadata = file.metadata().map_err(|e| Error::io("reading", path, &e))?;
        ensure!(metadata.is_file(), Io, "reading {}: it is no file", path.display());
        let there = usize::try_from(metadata.len()).map_err(|_| {
            error!(Memory, "{} has {} bytes, too many for this machine", path.display(), metadata.len())
        })?;
        let result = (|| {
            let first = read_part(&file, path, 0, there.min(12))?;
            if first.starts_with(npy::MAGIC) {
                let extent = npy::Header::extent(&first)?;
                let header = npy::Header::parse(&read_part(&file, path, 0, within(extent, there)?)?)?;
                return Ok((vec![Entry::npy(path, header, extent, there)?], BTreeMap::new()));
            }
            let header = safetensors::Header::read(&file, path, there)?;
            let entry = |(name, place): (String, safetensors::Place)| Entry {
                name,
                stored: Stored::of(place.dtype),
                dims: place.dims,
                type_name: place.dtype.to_string(),
                offset: place.data.start as u64,
                fortran: false,
            };
            Ok((header.tensors.into_iter().map(entry).collect(), header.metadata))
        })();
        let (entries, metadata) = result.map_err(|e: Error| e.within(path.display()))?;
        Ok(TensorFile { path: path.to_owned(), file, entries, metadata })
    }

    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The bytes of an array, as they lie there.
    pub fn stored(&self, entry: &Entry) -> Result<(Stored, Vec<u8>)> {
        let stored = entry.stored.ok_or_else(|| {
            error!(Unsupported, "{} of {} has elements of type {}", entry.name, self.path.display(), entry.type_name)
        })?;
        let bytes = read_part(&self.file, &self.path, entry.offset, entry.count()? * stored.size())?;
        Ok((stored, bytes))
    }

    /// An array as a tensor: floats of any width as f32, integers as they are. FORMAT, naming the first, for an f64 that is
    /// finite and no f32 is.
    pub fn read(&self, entry: &Entry) -> Result<Tensor> {
        let (stored, mut bytes) = self.stored(entry)?;
        if entry.fortran && entry.dims.len() > 1 {
            bytes = row_major(&bytes, &entry.dims, stored.size())?;
        }
        let mut tensor = Tensor::zeros(stored.dtype(), &entry.dims)?;
        match stored {
            Stored::F16 => convert(&bytes, tensor.host_mut()?, |b| f16::from_le_bytes(b).to_f32()),
            Stored::BF16 => convert(&bytes, tensor.host_mut()?, |b| bf16::from_le_bytes(b).to_f32()),
            Stored::F64 => {
                convert(&bytes, tensor.host_mut()?, |b| f64::from_le_bytes(b) as f32);
                let lost = |(b, v): (&[u8; 8], &f32)| v.is_infinite() && f64::from_le_bytes(*b).is_finite();
                if let Some(i) = bytes.as_chunks::<8>().0.iter().zip(tensor.host::<f32>()?).position(lost) {
                    return Err(error!(Format, "element {i} of {} is beyond f32", entry.name));
                }
            }
            // Little endian is the byte order of the formats and of every target of this library.
            Stored::F32 => bytemuck::cast_slice_mut(tensor.host_mut::<f32>()?).copy_from_slice(&bytes),
            Stored::I8 => bytemuck::cast_slice_mut(tensor.host_mut::<i8>()?).copy_from_slice(&bytes),
            Stored::U8 => tensor.host_mut::<u8>()?.copy_from_slice(&bytes),
            Stored::I32 => bytemuck::cast_slice_mut(tensor.host_mut::<i32>()?).copy_from_slice(&bytes),
            Stored::U32 => bytemuck::cast_slice_mut(tensor.host_mut::<u32>()?).copy_from_slice(&bytes),
        }
        Ok(tensor)
    }
}

impl Entry {
    fn npy(path: &Path, header: npy::Header, extent: usize, there: usize) -> Result<Entry> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let npy::Header { stored, dims, fortran } = header;
        let type_name = format!("{stored:?}");
        let entry = Entry { name, stored: Some(stored), dims, type_name, offset: extent as u64, fortran };
        let (data, needed) = (there - extent, entry.count()? * stored.size());
        ensure!(data >= needed, Format, "truncated: the array takes {needed} bytes, the file has {data} for it");
        ensure!(data == needed, Format, "the array takes {needed} bytes, the file has {data} for it");
        Ok(entry)
    }
}

fn within(extent: usize, there: usize) -> Result<usize> {
    ensure!(extent <= there, Format, "truncated: the header takes {extent} bytes, the file has {there}");
    Ok(extent)
}

fn convert<const N: usize>(bytes: &[u8], values: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (to, from) in values.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *to = value(*from);
    }
}

/// Elements of `size` bytes that lie with the first index fastest, with the last index fastest.
fn row_major(bytes: &[u8], dims: &[usize], size: usize) -> Result<Vec<u8>> {
    let mut rearranged: Vec<u8> = vec_zeroed(bytes.len())?;
    let mut index = vec![0usize; dims.len()];
    for element in rearranged.chunks_exact_mut(size) {
        let place = index.iter().zip(dims).rev().fold(0, |place, (&i, &dim)| place * dim + i);
        element.copy_from_slice(&bytes[place * size..(place + 1) * size]);
        for (i, &dim) in index.iter_mut().zip(dims).rev() {
            *i += 1;
            if *i < dim {
                break;
            }
            *i = 0;
        }
    }
    Ok(rearranged)
}

#[cfg(test)]
#[path = "tensor_file_tests.rs"]
mod tests;
