//! The safetensors format: a JSON header, then the tensors' bytes.
//!
//! Our metadata is one entry, "setun", holding a JSON object: the crate writes a map of several entries in an order that
//! changes from run to run, and a file should be the same bytes for the same model.

use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Error, Result, reserve};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use std::collections::{BTreeMap, HashMap};

/// The metadata entry that holds ours.
const KEY: &str = "setun";

/// One tensor of a file; `data` is little endian and row-major.
pub struct Entry<'a> {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<usize>,
    pub data: &'a [u8],
}

/// The bytes of a file.
pub fn encode(entries: &[Entry], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut views = Vec::new();
    for entry in entries {
        let view = TensorView::new(to_file(entry.dtype), entry.dims.clone(), entry.data);
        views.push((entry.name.as_str(), view.map_err(|e| error!(Internal, "safetensors: {}: {e}", entry.name))?));
    }
    let ours = serde_json::to_string(metadata).map_err(|e| error!(Internal, "safetensors: metadata: {e}"))?;
    let metadata = HashMap::from([(KEY.to_owned(), ours)]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| error!(Format, "safetensors: {e}"))
}

/// A file that was read: its header is checked, its tensors are found by name.
pub struct File {
    bytes: Vec<u8>,
    tensors: BTreeMap<String, Place>,
    metadata: BTreeMap<String, String>,
}

struct Place {
    dtype: Dtype,
    dims: Vec<usize>,
    start: usize,
    end: usize,
}

impl File {
    /// FORMAT, with what is wrong, unless `bytes` are a whole safetensors file.
    pub fn parse(bytes: Vec<u8>) -> Result<File> {
        let (header, parsed) = SafeTensors::read_metadata(&bytes).map_err(|e| explain(&e, bytes.len()))?;
        let data = 8 + header;
        let mut tensors = BTreeMap::new();
        for (name, info) in parsed.tensors() {
            let (start, end) = info.data_offsets;
            let place = Place { dtype: info.dtype, dims: info.shape.clone(), start: data + start, end: data + end };
            tensors.insert(name, place);
        }
        let mut metadata: BTreeMap<String, String> =
            parsed.metadata().clone().unwrap_or_default().into_iter().collect();
        if let Some(ours) = metadata.remove(KEY) {
            let ours: BTreeMap<String, String> =
                serde_json::from_str(&ours).map_err(|e| error!(Format, "the file's metadata is damaged: {e}"))?;
            metadata.extend(ours);
        }
        Ok(File { bytes, tensors, metadata })
    }

    /// Our metadata, or a foreign file's.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// FORMAT when the tensor is missing or of a type that Setun does not read.
    pub fn tensor(&self, name: &str) -> Result<Entry<'_>> {
        let place = self.tensors.get(name).ok_or_else(|| error!(Format, "the tensor {name} is missing"))?;
        let dtype = from_file(place.dtype)
            .ok_or_else(|| error!(Format, "the tensor {name} is of type {:?}, which is not read", place.dtype))?;
        Ok(Entry { name: name.into(), dtype, dims: place.dims.clone(), data: &self.bytes[place.start..place.end] })
    }
}

fn explain(error: &SafeTensorError, size: usize) -> Error {
    match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            error!(Format, "the file is truncated or has bytes too many: its {size} bytes are not what its header says")
        }
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            error!(Format, "the file of {size} bytes is truncated or no safetensors file")
        }
        other => error!(Format, "not a safetensors file: {other}"),
    }
}

fn to_file(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::F16 => Dtype::F16,
        DType::I8 => Dtype::I8,
        DType::U8 => Dtype::U8,
        DType::I32 => Dtype::I32,
        DType::U32 => Dtype::U32,
    }
}

fn from_file(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        Dtype::I32 => DType::I32,
        Dtype::U32 => DType::U32,
        _ => return None,
    })
}

/// IEEE half precision, round to nearest even. Values beyond its range are refused: they would become infinities.
pub fn f32_to_f16_bytes(values: &[f32]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reserve(&mut bytes, values.len().saturating_mul(2))?;
    for (i, &value) in values.iter().enumerate() {
        let half = half::f16::from_f32(value);
        ensure!(half.is_finite(), Format, "element {i} is {value}, which f16 cannot hold");
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    Ok(bytes)
}

/// `bytes` holds two bytes for each of `values`.
pub fn f16_bytes_to_f32(bytes: &[u8], values: &mut [f32]) {
    for (value, half) in values.iter_mut().zip(bytes.chunks_exact(2)) {
        *value = half::f16::from_le_bytes([half[0], half[1]]).to_f32();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ErrorKind;

    fn sample() -> Vec<u8> {
        let floats: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let entries = [
            Entry { name: "codes".into(), dtype: DType::U8, dims: vec![3], data: &[1, 2, 3] },
            Entry { name: "w".into(), dtype: DType::F32, dims: vec![2, 1], data: &floats },
        ];
        let metadata = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        encode(&entries, &metadata.into()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let file = File::parse(sample()).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["codes", "w"]);
        assert_eq!(file.metadata()["c"], "3");
        let w = file.tensor("w").unwrap();
        assert_eq!((w.dtype, w.dims.as_slice()), (DType::F32, &[2, 1][..]));
        assert_eq!(w.data[..4], 1.5f32.to_le_bytes());
        assert_eq!(file.tensor("codes").unwrap().data, [1, 2, 3]);
        assert_eq!(file.tensor("x").err().unwrap().message, "the tensor x is missing");
    }

    #[test]
    fn the_same_content_is_the_same_bytes() {
        let first = sample();
        assert!((0..20).all(|_| sample() == first));
    }

    #[test]
    fn every_truncation_and_every_foreign_file_is_refused() {
        let whole = sample();
        for length in 0..whole.len() {
            let error = File::parse(whole[..length].to_vec()).err().unwrap();
            assert_eq!(error.kind, ErrorKind::Format, "{length}: {error}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(File::parse(longer).is_err());
        for foreign in [&b"GGUF\x03\0\0\0abcdefghijkl"[..], &[255; 64], b"{\"a\": 1, \"b\": [2, 3]}"] {
            assert_eq!(File::parse(foreign.to_vec()).err().unwrap().kind, ErrorKind::Format);
        }
    }

    #[test]
    fn half_precision_round_trips_and_refuses_what_it_cannot_hold() {
        let values = [0.0, 1.0, -0.333_251_95, 65504.0, 6e-8];
        let bytes = f32_to_f16_bytes(&values).unwrap();
        let mut back = [0.0; 5];
        f16_bytes_to_f32(&bytes, &mut back);
        assert_eq!(back[..4], values[..4]);
        assert!((back[4] - 5.960_464_5e-8).abs() < 1e-12);
        assert_eq!(f32_to_f16_bytes(&[0.0, 1e5]).unwrap_err().message, "element 1 is 100000, which f16 cannot hold");
    }
}
