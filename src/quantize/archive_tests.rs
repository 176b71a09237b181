use super::*;
use crate::backend::ContextOptions;
use crate::format::scratch::Scratch;
use crate::quantize::Quantization;
use crate::tensor::{ErrorKind, View};

fn context() -> Arc<Context> {
    Arc::new(Context::new(&ContextOptions::default()).unwrap())
}

fn packed(context: &Arc<Context>, packing: Packing) -> PackedTensor {
    let weights: Vec<f32> = (0..7 * 13).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
    PackedTensor::new(context.clone(), &View::of(&weights, &[7, 13]).unwrap(), packing, &Quantization::default())
        .unwrap()
}

fn saved(scratch: &Scratch, archive: &Archive) -> Vec<u8> {
    let path = scratch.path().join("out.safetensors");
    let size = archive.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), size);
    bytes
}

fn opened(scratch: &Scratch, bytes: &[u8]) -> Result<Archive> {
    let path = scratch.path().join("in.safetensors");
    std::fs::write(&path, bytes).unwrap();
    Archive::open(&path)
}

fn sample(context: &Arc<Context>) -> Archive {
    let mut archive = Archive::default();
    for packing in Packing::ALL {
        archive.add_packed(packing.name(), &packed(context, packing)).unwrap();
    }
    archive.add("norm", &Tensor::from_slice(&[1.5f32, 2.5], &[2]).unwrap()).unwrap();
    archive.add("counts", &Tensor::from_slice(&[3u32], &[1, 1]).unwrap()).unwrap();
    archive
}

#[test]
fn what_is_saved_comes_back_and_saves_alike() {
    let (scratch, context) = (Scratch::new(), context());
    let archive = sample(&context);
    let bytes = saved(&scratch, &archive);
    let again = opened(&scratch, &bytes).unwrap();
    let names: Vec<&str> = again.entries().iter().map(|entry| entry.name.as_str()).collect();
    let mut expected: Vec<&str> = archive.entries().iter().map(|entry| entry.name.as_str()).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for entry in archive.entries() {
        let (index, before) = (again.find(&entry.name).unwrap(), archive.find(&entry.name).unwrap());
        assert_eq!(again.entry(index).unwrap().kind, entry.kind);
        match entry.kind {
            EntryKind::Packed { .. } => {
                let [a, b] = [(&again, index), (&archive, before)]
                    .map(|(archive, i)| archive.read_packed(i, context.clone()).unwrap());
                assert_eq!(a.parts(), b.parts());
                assert_eq!(again.read(index).err().expect("it is packed").kind, ErrorKind::Argument);
            }
            EntryKind::Tensor { .. } => {
                let [a, b] = [again.read(index).unwrap(), archive.read(before).unwrap()];
                assert_eq!((a.dtype(), a.dims()), (b.dtype(), b.dims()));
                assert_eq!(bytes_of(&a).unwrap(), bytes_of(&b).unwrap());
                assert_eq!(
                    again.read_packed(index, context.clone()).err().expect("a tensor").kind,
                    ErrorKind::Argument
                );
            }
        }
    }
    assert_eq!(saved(&scratch, &again), bytes);
}

#[test]
fn names_are_taken_once() {
    let context = context();
    let mut archive = sample(&context);
    let tensor = Tensor::from_slice(&[1f32], &[1]).unwrap();
    for name in ["norm", "two-bit", "two-bit_scale"] {
        let error = archive.add(name, &tensor).unwrap_err();
        assert!(error.kind == ErrorKind::Argument && error.message.contains(name), "{error}");
    }
    archive.add("late_scale", &tensor).unwrap();
    assert!(archive.add_packed("late", &packed(&context, Packing::TwoBit)).is_err());
    assert_eq!(archive.entry(9).err().expect("there are six").message, "index is 9, the file has 6 entries");
}

#[test]
fn damage_is_found_and_never_panics() {
    let (scratch, context) = (Scratch::new(), context());
    let bytes = saved(&scratch, &sample(&context));
    let mut read = 0;
    for bit in (0..bytes.len() * 8).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let Ok(archive) = opened(&scratch, &damaged) else { continue };
        for index in 0..archive.entries().len() {
            read += usize::from(archive.read(index).is_ok());
            if let Ok(packed) = archive.read_packed(index, context.clone()) {
                let (matrix, _, bytes, _) = packed.parts();
                matrix.check_packed(&context, bytes).unwrap();
            }
        }
    }
    assert!(read > 0);
    for end in (0..bytes.len()).step_by(7) {
        assert_eq!(opened(&scratch, &bytes[..end]).err().expect("it is cut").kind, ErrorKind::Format);
    }
}

#[test]
fn metadata_that_does_not_fit_is_format() {
    let scratch = Scratch::new();
    let write = |json: &str, bytes: usize, scales: usize| {
        let (data, factors) = (vec![0x55u8; bytes], vec![0u8; 4 * scales]);
        let entry = |name: &str, dtype, count: usize, data| safetensors::Entry {
            name: name.into(),
            dtype,
            dims: vec![count],
            data,
        };
        let entries = [entry("w", DType::U8, bytes, &data[..]), entry("w_scale", DType::F32, scales, &factors[..])];
        safetensors::encode(&entries, &BTreeMap::from([(PACKED.to_string(), json.to_string())])).unwrap()
    };
    let good = r#"{"w":{"rows":2,"columns":8,"packing":"two-bit","group":0}}"#;
    assert!(opened(&scratch, &write(good, 4, 1)).is_ok());
    for (json, says) in [
        ("[]", "setun.packed"),
        (r#"{"w":{"rows":2,"columns":8,"packing":"three","group":0}}"#, "'three'"),
        (r#"{"w":{"rows":2,"columns":8,"packing":"two-bit","group":-2}}"#, "groups of -2"),
        (r#"{"w":{"rows":2,"columns":-8,"packing":"two-bit","group":0}}"#, "setun.packed"),
        (r#"{"w":{"rows":2,"columns":99999999999,"packing":"two-bit","group":0}}"#, "w: "),
        (r#"{"v":{"rows":2,"columns":8,"packing":"two-bit","group":0}}"#, "v is missing"),
        (r#"{"w":{"rows":2,"columns":8,"packing":"two-bit","group":-1}}"#, "w_scale is"),
    ] {
        let error = opened(&scratch, &write(json, 4, 1)).err().expect("it does not fit");
        assert!(error.kind == ErrorKind::Format && error.message.contains(says), "{error}");
    }
    let error = opened(&scratch, &write(good, 3, 1)).err().expect("a byte is missing");
    assert!(error.kind == ErrorKind::Format && error.message.contains("packed has 3 bytes"), "{error}");
}
