use super::*;
use crate::tensor::ErrorKind;

fn metadata() -> BTreeMap<String, String> {
    [("setun", "1"), ("tokenizer", "{\"a\":\"\\u0000é\n\"}"), ("a", ""), ("z", "last")]
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .into()
}

fn entry<'a>(name: &str, dtype: DType, dims: &[usize], data: &'a [u8]) -> Entry<'a> {
    Entry { name: name.to_string(), dtype, dims: dims.to_vec(), data }
}

fn sample() -> Vec<u8> {
    let bytes: Vec<u8> = (0..=255).collect();
    let entries = [
        entry("codes", DType::U8, &[5], &bytes[..5]),
        entry("model.layers.0.weight", DType::F32, &[2, 3], &bytes[10..34]),
        entry("half", DType::F16, &[3], &bytes[40..46]),
        entry("none", DType::F32, &[0, 7], &[]),
        entry("scalar", DType::F64, &[], &bytes[50..58]),
        entry("more", DType::I8, &[1, 1, 3], &bytes[60..63]),
        entry("counts", DType::U32, &[2], &bytes[70..78]),
        entry("signed", DType::I32, &[1], &bytes[80..84]),
    ];
    encode(&entries, &metadata()).unwrap()
}

#[test]
fn every_type_comes_back() {
    let file = File::parse(sample()).unwrap();
    assert_eq!(file.metadata(), &metadata());
    let names: Vec<&str> = file.names().collect();
    assert_eq!(names, ["codes", "counts", "half", "model.layers.0.weight", "more", "none", "scalar", "signed"]);
    let bytes = |from: u8, to: u8| (from..to).collect::<Vec<u8>>();
    let check = |name: &str, dtype: DType, dims: &[usize], data: Vec<u8>| {
        assert_eq!(file.tensor(name).unwrap(), EntryRef { dtype, dims, data: &data });
    };
    check("codes", DType::U8, &[5], bytes(0, 5));
    check("model.layers.0.weight", DType::F32, &[2, 3], bytes(10, 34));
    check("half", DType::F16, &[3], bytes(40, 46));
    check("none", DType::F32, &[0, 7], vec![]);
    check("scalar", DType::F64, &[], bytes(50, 58));
    check("more", DType::I8, &[1, 1, 3], bytes(60, 63));
    check("counts", DType::U32, &[2], bytes(70, 78));
    check("signed", DType::I32, &[1], bytes(80, 84));
    let error = file.tensor("other").unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Format, "the tensor other is missing"));
}

/// The crate's own reader agrees, and every tensor is aligned to its element.
#[test]
fn other_readers_read_it() {
    let bytes = sample();
    let other = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(other.len(), 8);
    for (name, tensor) in other.iter() {
        let size = tensor.dtype().bitsize() / 8;
        let offset = tensor.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(offset % size, 0, "{name}");
    }
    assert_eq!(encode(&[], &BTreeMap::new()).unwrap(), b"\x08\0\0\0\0\0\0\0{}      ");
    assert_eq!(File::parse(encode(&[], &BTreeMap::new()).unwrap()).unwrap().names().count(), 0);
}

#[test]
fn the_same_tensors_give_the_same_bytes() {
    let data = [7u8; 8];
    let mut entries = ["b", "c", "a"].map(|name| entry(name, DType::F32, &[2], &data));
    let first = encode(&entries, &metadata()).unwrap();
    entries.reverse();
    assert_eq!(encode(&entries, &metadata()).unwrap(), first);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let data = [0u8; 8];
    let refused = |entries: &[Entry]| encode(entries, &BTreeMap::new()).unwrap_err();
    let error = refused(&[entry("w", DType::F32, &[3], &data)]);
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Shape, "tensor w is f32 [3], got 8 bytes for it"));
    assert_eq!(refused(&[entry("w", DType::F32, &[usize::MAX, 8], &data)]).kind, ErrorKind::Shape);
    let twice = [entry("w", DType::F32, &[2], &data), entry("w", DType::U8, &[8], &data)];
    assert_eq!(refused(&twice).kind, ErrorKind::Argument);
    assert_eq!(refused(&[entry(METADATA, DType::F32, &[2], &data)]).kind, ErrorKind::Argument);
}

/// A file that is made in pieces, however often, is the one that is made at once.
#[test]
fn pieces_make_the_same_file() {
    let bytes: Vec<u8> = (0..=255).collect();
    let parts = [("b", DType::F32, vec![2, 3], 24), ("a", DType::F64, vec![2], 16), ("c", DType::U8, vec![0], 0)];
    let entries = parts.clone().map(|(name, dtype, dims, count)| entry(name, dtype, &dims, &bytes[..count]));
    let source = |name: &str, dtype: DType, dims: &[usize], count: usize| Source {
        name: name.to_string(),
        dtype,
        dims: dims.to_vec(),
        emit: Box::new({
            let bytes = &bytes;
            move |sink: &mut Sink| bytes[..count].chunks(7).try_for_each(&mut *sink)
        }),
    };
    let written = |sources: &Sources| {
        let mut file = Vec::new();
        let done = sources.write(&mut |piece| {
            file.extend_from_slice(piece);
            Ok(())
        });
        done.map(|()| file)
    };
    let tensors = parts.iter().map(|(name, dtype, dims, count)| source(name, *dtype, dims, *count)).collect();
    let whole = Sources { tensors, metadata: metadata() };
    let expected = encode(&entries, &metadata()).unwrap();
    assert_eq!(written(&whole).unwrap(), expected);
    assert_eq!(written(&whole).unwrap(), expected);
    for (dims, count, kind) in [
        (vec![3], 11, ErrorKind::Internal),
        (vec![3], 13, ErrorKind::Internal),
        (vec![usize::MAX, 8], 0, ErrorKind::Shape),
    ] {
        let wrong = Sources { tensors: vec![source("w", DType::F32, &dims, count)], metadata: BTreeMap::new() };
        assert_eq!(written(&wrong).unwrap_err().kind, kind, "{dims:?} {count}");
    }
    // A full disk.
    let full = whole.write(&mut |_| Err(error!(Io, "no space left"))).unwrap_err();
    assert_eq!((full.kind, full.message.as_str()), (ErrorKind::Io, "no space left"));
}

#[test]
fn a_file_truncated_anywhere_is_a_format_error() {
    let whole = sample();
    for length in 0..whole.len() {
        let error = File::parse(whole[..length].to_vec()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Format, "{length}: {error}");
        assert!(error.message.contains("truncated") || length < 8, "{length}: {error}");
    }
    let mut longer = whole;
    longer.push(0);
    let error = File::parse(longer).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Format);
    assert!(error.message.contains("longer than its tensors"), "{error}");
}

/// Any byte changed to any of a few values: an error or a file whose tensors can all be asked for, never a panic.
#[test]
fn a_damaged_file_never_panics() {
    let whole = sample();
    let mut failures = 0;
    for position in 0..whole.len() {
        for value in [0, 1, b'0', b'9', b'"', b'{', b'}', 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[position] = value;
            match File::parse(damaged) {
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Format, "{error}");
                    failures += 1;
                }
                Ok(file) => file.names().for_each(|name| {
                    let _ = file.tensor(name);
                }),
            }
        }
    }
    assert!(failures > 1000, "{failures}");
}

#[test]
fn foreign_files_say_what_is_wrong() {
    let with_header = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let tensor = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!("{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
    };
    // Eight tensors of 2^61 bytes: their lengths add up to 0 in 64 bits.
    let step = 1u64 << 61;
    let huge =
        (0..8).map(|i| format!("\"{i}\":{}", tensor("U8", &format!("[{step}]"), i * step, (i + 1).wrapping_mul(step))));
    let huge = format!("{{{}}}", huge.collect::<Vec<_>>().join(","));
    let cases = [
        (b"GGUF\x03\0\0\0 and much more".to_vec(), "not a safetensors file"),
        (b"PK\x03\x04 a zip file, as PyTorch writes".to_vec(), "not a safetensors file"),
        (vec![0xff; 64], "not a safetensors file"),
        (vec![0; 64], "is not JSON"),
        (with_header("[1, 2]", 0), "its header is no object"),
        (with_header("{\"w\":{}}", 0), "where tensor w ends"),
        (with_header("{\"w\":7}", 0), "where tensor w ends"),
        (with_header("{\"__metadata__\":{\"a\":1}}", 0), "damaged safetensors header"),
        (with_header(&"[".repeat(100_000), 0), "is not JSON"),
        (with_header(&format!("{{\"w\":{}}}", tensor("F32", "[4]", 0, 16)), 12), "truncated: tensor w ends at byte 16"),
        (with_header(&format!("{{\"w\":{}}}", tensor("F32", "[4]", 0, 12)), 12), "invalid shape, data type, or offset"),
        (with_header(&format!("{{\"w\":{}}}", tensor("F32", "[3]", 4, 16)), 16), "invalid offset for tensor `w`"),
        (with_header(&format!("{{\"w\":{}}}", tensor("F32", "[3]", 16, 4)), 16), "invalid offset for tensor `w`"),
        (with_header(&format!("{{\"w\":{}}}", tensor("F33", "[3]", 0, 12)), 12), "unknown variant"),
        (with_header(&format!("{{\"w\":{}}}", tensor("F32", "[9223372036854775807, 9]", 0, 12)), 12), "overflow"),
        (with_header(&huge, 0), "truncated"),
    ];
    for (bytes, expected) in cases {
        let error = File::parse(bytes).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Format, "{error}");
        assert!(error.message.contains(expected), "expected {expected:?} in: {error}");
    }
    let file = File::parse(with_header(&format!("{{\"w\":{}}}", tensor("BF16", "[2]", 0, 4)), 4)).unwrap();
    let error = file.tensor("w").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Format);
    assert!(error.message.contains("tensor w has elements of type BF16, expected one of F32,"), "{error}");
}

#[test]
fn f16_rounds_to_nearest_and_comes_back() {
    let values = [0.0, -0.0, 1.0, -2.5, 65504.0, 6e-8, 1.0 / 3.0];
    let bytes = f32_to_f16_bytes(&values).unwrap();
    assert_eq!(bytes[4..6], 0x3c00u16.to_le_bytes());
    let back = f16_bytes_to_f32(&bytes).unwrap();
    for (value, back) in values.iter().zip(&back) {
        assert_eq!(back.to_bits(), f16::from_f32(*value).to_f32().to_bits(), "{value}");
        assert!((value - back).abs() <= value.abs() / 2048.0 + 3e-8, "{value} {back}");
    }
    // Of bytes at an odd address too.
    assert_eq!(f16_bytes_to_f32(&[&[7], &bytes[..]].concat()[1..]).unwrap(), back);
    // Every f16 survives the way to f32 and back.
    let all: Vec<u8> =
        (0..=u16::MAX).filter(|bits| f16::from_bits(*bits).is_finite()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(f32_to_f16_bytes(&f16_bytes_to_f32(&all).unwrap()).unwrap(), all);
}

#[test]
fn f16_refuses_what_it_cannot_hold() {
    for value in [65520.0, -1e30, f32::INFINITY, f32::NAN] {
        let error = f32_to_f16_bytes(&[1.0, 65519.9, value]).unwrap_err();
        let message = format!("element 2 is {value}, which f16 cannot hold");
        assert_eq!((error.kind, error.message), (ErrorKind::Format, message));
    }
    assert_eq!(f16_bytes_to_f32(&[0; 3]).unwrap_err().kind, ErrorKind::Format);
}
