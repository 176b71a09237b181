use super::*;
use crate::format::safetensors::{Entry as Written, encode};
use crate::format::scratch::Scratch;
use crate::tensor::ErrorKind;

fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = npy::MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes());
    bytes.extend(data);
    bytes
}

fn bytes_of<T: bytemuck::Pod>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn open(scratch: &Scratch, name: &str, bytes: &[u8]) -> Result<TensorFile> {
    let path = scratch.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    TensorFile::open(&path)
}

#[test]
fn floats_of_every_width_become_f32() {
    let scratch = Scratch::new();
    let values = [1.5f32, -2.0, 0.25];
    let halves = values.map(|v| f16::from_f32(v).to_bits());
    let doubles = values.map(f64::from);
    for (descr, data) in [("<f4", bytes_of(&values)), ("<f2", bytes_of(&halves)), ("<f8", bytes_of(&doubles))] {
        let file = open(&scratch, "w.npy", &npy(descr, "False", "(3,)", data)).unwrap();
        let entry = file.find("w").unwrap();
        assert_eq!(file.read(entry).unwrap().host::<f32>().unwrap(), values, "{descr}");
    }
    // bf16 has no name in .npy.
    let brains = values.map(bf16::from_f32);
    let header = r#"{"b":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(brains.iter().flat_map(|b| b.to_le_bytes()));
    let file = open(&scratch, "b.safetensors", &bytes).unwrap();
    assert_eq!(file.read(&file.entries[0]).unwrap().host::<f32>().unwrap(), values);
}

#[test]
fn integers_stay_what_they_are() {
    let scratch = Scratch::new();
    let file = open(&scratch, "i.npy", &npy("|i1", "False", "(2, 2)", bytes_of(&[1i8, -2, 3, -4]))).unwrap();
    let tensor = file.read(&file.entries[0]).unwrap();
    assert_eq!((tensor.host::<i8>().unwrap(), tensor.dims()), (&[1i8, -2, 3, -4][..], &[2, 2][..]));
    let file = open(&scratch, "u.npy", &npy("<u4", "False", "()", bytes_of(&[7u32]))).unwrap();
    assert_eq!(file.read(&file.entries[0]).unwrap().host::<u32>().unwrap(), [7]);
}

#[test]
fn fortran_order_becomes_row_major() {
    let scratch = Scratch::new();
    // a[i][j] = 10 i + j, columns first.
    let stored = [0f32, 10.0, 1.0, 11.0, 2.0, 12.0];
    let file = open(&scratch, "f.npy", &npy("<f4", "True", "(2, 3)", bytes_of(&stored))).unwrap();
    let tensor = file.read(&file.entries[0]).unwrap();
    assert_eq!(tensor.host::<f32>().unwrap(), [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
    let stored: Vec<i32> = (0..24).map(|at| 100 * (at % 2) + 10 * (at / 2 % 3) + at / 6).collect();
    let file = open(&scratch, "g.npy", &npy("<i4", "True", "(2, 3, 4)", bytes_of(&stored))).unwrap();
    let expected: Vec<i32> = (0..24).map(|at| 100 * (at / 12) + 10 * (at / 4 % 3) + at % 4).collect();
    assert_eq!(file.read(&file.entries[0]).unwrap().host::<i32>().unwrap(), expected);
}

#[test]
fn the_arrays_of_a_safetensors_file_are_read_by_name() {
    let scratch = Scratch::new();
    let (a, b) = ([1f32, 2.0], [3i8]);
    let written =
        |name: &str, dtype, dims: &[usize], data| Written { name: name.into(), dtype, dims: dims.into(), data };
    let entries = [written("a", DType::F32, &[1, 2], bytes_of(&a)), written("b", DType::I8, &[1], bytes_of(&b))];
    let metadata = BTreeMap::from([("k".to_string(), "v".to_string())]);
    let bytes = encode(&entries, &metadata).unwrap();
    let file = open(&scratch, "x.safetensors", &bytes).unwrap();
    assert_eq!(file.metadata, metadata);
    assert_eq!(file.read(file.find("a").unwrap()).unwrap().host::<f32>().unwrap(), a);
    assert_eq!(file.read(file.find("b").unwrap()).unwrap().host::<i8>().unwrap(), b);
    assert!(file.find("c").is_none());
    for end in 0..bytes.len() {
        let error = open(&scratch, "cut.safetensors", &bytes[..end]).err().expect("it is cut");
        assert_eq!(error.kind, ErrorKind::Format, "{end}: {error}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let scratch = Scratch::new();
    let fails = |bytes: &[u8], kind, says: &str| {
        let error = open(&scratch, "bad.npy", bytes).err().expect("it cannot be opened");
        assert!(error.kind == kind && error.message.contains(says), "{error}");
    };
    fails(
        &npy("<f4", "False", "(3,)", &[0; 8]),
        ErrorKind::Format,
        "truncated: the array takes 12 bytes, the file has 8",
    );
    fails(&npy("<f4", "False", "(3,)", &[0; 13]), ErrorKind::Format, "takes 12 bytes, the file has 13");
    fails(&npy("<f4", "False", "(9999999999, 9999999999)", &[]), ErrorKind::Format, "more elements");
    fails(b"\x93NUMPY", ErrorKind::Format, "truncated");
    fails(b"hello, world", ErrorKind::Format, "safetensors");
    let large = npy("<f8", "False", "(2,)", bytes_of(&[1.0, 1e300]));
    let file = open(&scratch, "large.npy", &large).unwrap();
    let error = file.read(&file.entries[0]).err().expect("f32 ends at 3.4e38");
    assert!(error.message.contains("element 1 of large is beyond f32"), "{error}");
    let five = open(&scratch, "five.npy", &npy("<f4", "False", "(1, 1, 1, 1, 1)", &[0; 4])).unwrap();
    assert_eq!(five.read(&five.entries[0]).err().expect("five dimensions").kind, ErrorKind::Shape);
    assert_eq!(TensorFile::open(scratch.path()).err().expect("a folder").kind, ErrorKind::Io);
    assert_eq!(TensorFile::open(&scratch.path().join("none")).err().expect("nothing").kind, ErrorKind::Io);
}
