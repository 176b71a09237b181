//! Model files: what comes back, how large they are, and what is refused.

use super::super::parameters::ParameterKind;
use super::*;
use crate::format::safetensors::{self, Entry, File};
use crate::model::file::{FileReport, Packing, Rest, Storage, decode, encode, load, save};
use crate::model::linear::Linear;
use crate::tensor::{ErrorKind, never};
use std::collections::BTreeMap;

/// A folder that goes away with the test.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("setun-model-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.join("model.safetensors")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Widths that no packing divides, gains other than 1.
pub(super) fn model(quantize: bool, gated: bool, tied: bool) -> Model {
    let options = ModelOptions { width: 28, heads: 2, ..small(quantize, gated, tied) };
    let mut model = Model::new(context(Backend::Simd), options, 7).unwrap();
    for parameter in model.parameters_mut().iter_mut().filter(|p| p.kind == ParameterKind::Vector) {
        parameter.tensor.host_mut::<f32>().unwrap().iter_mut().enumerate().for_each(|(i, x)| *x += 0.1 * i as f32);
    }
    model.refresh().unwrap();
    model
}

fn bytes(model: &Model, packing: Packing, rest: Rest) -> Vec<u8> {
    encode(model, Storage::new(packing, rest), None, &BTreeMap::new()).unwrap()
}

pub(super) fn read(bytes: Vec<u8>) -> crate::tensor::Result<Model> {
    decode(context(Backend::Simd), &File::parse(bytes)?)
}

pub(super) fn logits(model: &Model) -> Vec<f32> {
    let (tokens, _) = text(model.options(), 2, 7);
    let mut activations = Activations::new(model, 2, 7).unwrap();
    model.logits(&mut activations, &tokens).unwrap().slice::<f32>().unwrap().to_vec()
}

pub(super) fn trits(model: &Model) -> Vec<(String, Vec<u8>, f32)> {
    let of = |linear: &linear::Linear| {
        let ternary = linear.ternary.as_ref().unwrap();
        let scale = ternary.scale.host::<f32>().unwrap()[0];
        (linear.name.clone(), ternary.packed.host::<u8>().unwrap().to_vec(), scale)
    };
    model.linears().map(of).collect()
}

#[test]
fn a_full_file_is_the_model() {
    for (quantize, gated, tied) in [(true, true, false), (true, false, true), (false, true, true)] {
        let model = model(quantize, gated, tied);
        // f16 for the rest is for packed files: a full one keeps every bit.
        for rest in [Rest::F32, Rest::F16] {
            let loaded = read(bytes(&model, Packing::Full, rest)).unwrap();
            assert!(loaded.trainable() && loaded.options() == model.options());
            assert_eq!(loaded.parameters().len(), model.parameters().len());
            for (a, b) in loaded.parameters().iter().zip(model.parameters()) {
                let bits = |p: &Parameter| -> Vec<u32> {
                    p.tensor.host::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
                };
                assert_eq!((&a.name, a.kind, bits(a)), (&b.name, b.kind, bits(b)));
            }
            let (tokens, targets) = text(model.options(), 2, 7);
            let gradient = |model: &Model| {
                let mut activations = Activations::training(model, 2, 7, GradientProducts::F32).unwrap();
                let mut gradients = Gradients::new(model).unwrap();
                let loss =
                    model.backward(&mut activations, (&tokens, &targets), 1.0, None, &mut gradients, &never).unwrap();
                let all: Vec<f32> =
                    gradients.tensors().iter().flat_map(|t| t.host::<f32>().unwrap().to_vec()).collect();
                (loss, all)
            };
            assert!(gradient(&loaded) == gradient(&model));
        }
    }
}

#[test]
fn a_packed_file_answers_as_the_trained_model() {
    for (gated, tied) in [(true, false), (false, true)] {
        let model = model(true, gated, tied);
        for packing in [Packing::TwoBit, Packing::FivePerByte, Packing::MaskSign] {
            let file = bytes(&model, packing, Rest::F32);
            let loaded = read(file.clone()).unwrap();
            assert!(!loaded.trainable());
            assert_eq!(loaded.parameter_count(), model.parameter_count());
            assert!(trits(&loaded) == trits(&model));
            assert!(logits(&loaded) == logits(&model));
            assert!(bytes(&loaded, packing, Rest::F32) == file);
        }
        for packing in [Packing::FivePerByte, Packing::MaskSign] {
            let other = read(bytes(&model, packing, Rest::F32)).unwrap();
            assert!(bytes(&other, Packing::TwoBit, Rest::F32) == bytes(&model, Packing::TwoBit, Rest::F32));
        }
    }
}

#[test]
fn half_precision_rounds_the_rest_and_keeps_the_trits() {
    let model = model(true, true, false);
    let file = bytes(&model, Packing::FivePerByte, Rest::F16);
    let loaded = read(file.clone()).unwrap();
    assert!(trits(&loaded) == trits(&model));
    let floats = model.parameters().iter().filter(|p| p.kind != ParameterKind::Ternary);
    for (a, b) in loaded.parameters().iter().zip(floats) {
        assert_eq!(a.name, b.name);
        for (a, b) in a.tensor.host::<f32>().unwrap().iter().zip(b.tensor.host::<f32>().unwrap()) {
            // 11 bits of mantissa; below 2^-14 a step of 2^-24.
            assert!((a - b).abs() <= b.abs() / 2048.0 + 6e-8, "{a} {b}");
        }
    }
    let (a, b) = (logits(&loaded), logits(&model));
    assert!(a != b, "nothing was rounded");
    let size = |x: &mut dyn Iterator<Item = f32>| x.map(f32::abs).sum::<f32>() / a.len() as f32;
    let (error, size) = (size(&mut a.iter().zip(&b).map(|(a, b)| a - b)), size(&mut b.iter().copied()));
    assert!(error <= 0.05 * size, "mean error {error} of logits of mean size {size}");
    // The rounding of these floats is the whole difference.
    let mut rounded = model;
    for parameter in loaded.parameters() {
        let same = rounded.parameters_mut().iter_mut().find(|p| p.name == parameter.name).unwrap();
        same.tensor.host_mut::<f32>().unwrap().copy_from_slice(parameter.tensor.host().unwrap());
    }
    assert!(logits(&rounded) == a);
    // Rounded once: nothing is lost the second time.
    assert!(bytes(&loaded, Packing::FivePerByte, Rest::F16) == file);
}

#[test]
fn the_twin_has_no_trits_to_pack_and_is_stored_as_floats() {
    let twin = model(false, true, true);
    for packing in [Packing::TwoBit, Packing::FivePerByte, Packing::MaskSign] {
        let loaded = read(bytes(&twin, packing, Rest::F32)).unwrap();
        assert!(loaded.trainable() && logits(&loaded) == logits(&twin));
        let half = bytes(&twin, packing, Rest::F16);
        assert_eq!(File::parse(half.clone()).unwrap().metadata()["packing"], "full");
        assert!(half.len() < bytes(&twin, packing, Rest::F32).len() * 2 / 3);
        let (a, b) = (logits(&read(half).unwrap()), logits(&twin));
        let largest = b.iter().fold(0.0, |a: f32, l| a.max(l.abs()));
        assert!(a != b && a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 0.01 * largest));
    }
}

#[test]
fn a_packed_model_runs_and_does_not_train() {
    let model = model(true, false, true);
    let loaded = read(bytes(&model, Packing::TwoBit, Rest::F32)).unwrap();
    let error = Activations::training(&loaded, 1, 7, GradientProducts::F32).err().unwrap();
    assert_eq!(error.message, "model: it was loaded packed and cannot be trained");
    assert_eq!(Gradients::new(&loaded).err().unwrap().kind, ErrorKind::Unsupported);
    let mut decoder = Decoder::new(&loaded, KvCache::F32).unwrap();
    decoder.prompt(&loaded, &[1, 2, 3]).unwrap();
    let mut expected = Decoder::new(&model, KvCache::F32).unwrap();
    expected.prompt(&model, &[1, 2, 3]).unwrap();
    assert_eq!(decoder.next_logits(), expected.next_logits());
}

#[test]
fn the_report_states_the_sizes() {
    let scratch = Scratch::new("report");
    let path = scratch.file();
    let model = Model::new(context(Backend::Simd), ModelOptions::default(), 1).unwrap();
    let linear_parameters = 4 * (4 * 128 * 128 + 2 * 128 * 512);
    let parameters = linear_parameters + 256 * 128 + 4 * (3 * 128 + 512) + 128;
    let signs = |linear: &Linear| {
        let two_bit = linear.ternary.as_ref().unwrap().packed.host::<u8>().unwrap();
        // Blocks of 16 or 4 rows of 128 or 512 weights are 512 bytes; the signs of each begin with a byte.
        let nonzero = |bytes: &[u8]| bytes.iter().map(|byte| 4 - (byte & 0x55).count_ones() as usize).sum::<usize>();
        two_bit.chunks(512).map(|bytes| 4 + nonzero(bytes).div_ceil(8)).sum::<usize>()
    };
    let mask_sign = linear_parameters / 8 + model.linears().map(signs).sum::<usize>() + 24 * 4;
    let cases = [
        (Packing::MaskSign, Rest::F16, mask_sign, 2),
        (Packing::Full, Rest::F32, 4 * linear_parameters, 4),
        (Packing::TwoBit, Rest::F32, linear_parameters / 4 + 24 * 4, 4),
        // Rows of 128 take 26 bytes, of 512 103.
        (Packing::FivePerByte, Rest::F16, 4 * ((4 * 128 + 512) * 26 + 128 * 103) + 24 * 4, 2),
    ];
    for (packing, rest, linear_bytes, width) in cases {
        let tokenizer = Some("{\"kind\":\"byte\"}");
        let extra = BTreeMap::from([("note".to_string(), "hello".to_string())]);
        let report = save(&model, &path, Storage::new(packing, rest), tokenizer, &extra).unwrap();
        let file_bytes = std::fs::metadata(&path).unwrap().len() as usize;
        assert_eq!(report, FileReport { parameters, linear_parameters, linear_bytes, file_bytes });
        assert_eq!(parameters, model.parameter_count());
        let tensors = linear_bytes + (parameters - linear_parameters) * width;
        assert!(file_bytes > tensors && file_bytes < tensors + 10_000, "{file_bytes}, tensors {tensors}");
        let file = File::parse(std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(file.metadata()["tokenizer"], "{\"kind\":\"byte\"}");
        assert_eq!(file.metadata()["note"], "hello");
        assert!(load(context(Backend::Simd), &path).unwrap().options() == model.options());
    }
}

#[test]
fn what_a_model_does_not_have_is_not_saved() {
    let none = BTreeMap::new();
    let packed = read(bytes(&model(true, false, true), Packing::TwoBit, Rest::F32)).unwrap();
    assert_eq!(
        encode(&packed, Storage::new(Packing::Full, Rest::F32), None, &none).unwrap_err().kind,
        ErrorKind::Unsupported
    );
    let taken = BTreeMap::from([("options".to_string(), "mine".to_string())]);
    let error = encode(&model(false, false, true), Storage::new(Packing::Full, Rest::F32), None, &taken).unwrap_err();
    assert_eq!(error.message, "model file: the metadata key options is the file format's own");
}

#[test]
fn unsound_weights_never_replace_a_file() {
    let scratch = Scratch::new("unsound");
    let path = scratch.file();
    let none = BTreeMap::new();
    let mut model = model(true, false, true);
    save(&model, &path, Storage::new(Packing::FivePerByte, Rest::F16), None, &none).unwrap();
    let good = std::fs::read(&path).unwrap();
    let cases = [
        // A ternary weight, which packing alone would hide.
        (2, f32::NAN, ErrorKind::State, "element 5 of model.layers.0.self_attn.q_proj.weight is not finite"),
        (1, f32::INFINITY, ErrorKind::State, "element 5 of model.layers.0.input_layernorm.weight is not finite"),
        (
            1,
            1e5,
            ErrorKind::Format,
            "model.layers.0.input_layernorm.weight: element 5 is 100000, which f16 cannot hold",
        ),
    ];
    for (index, value, kind, message) in cases {
        let kept = model.parameters_mut()[index].tensor.host_mut::<f32>().unwrap();
        let kept = std::mem::replace(&mut kept[5], value);
        model.refresh().unwrap();
        let error = save(&model, &path, Storage::new(Packing::FivePerByte, Rest::F16), None, &none).unwrap_err();
        assert!(error.kind == kind && error.message.contains(message), "{error}");
        model.parameters_mut()[index].tensor.host_mut::<f32>().unwrap()[5] = kept;
    }
    assert!(std::fs::read(&path).unwrap() == good);
}

/// The file with its metadata and tensors changed by `change`, written anew.
pub(super) fn changed(
    file: &[u8],
    change: impl Fn(&mut BTreeMap<String, String>, &mut Vec<(String, Entry)>),
) -> Vec<u8> {
    let file = File::parse(file.to_vec()).unwrap();
    let mut metadata = file.metadata().clone();
    let entry = |name: &str| {
        let found = file.tensor(name).unwrap();
        (name.to_string(), Entry { name: name.into(), dtype: found.dtype, dims: found.dims.to_vec(), data: found.data })
    };
    let mut entries: Vec<(String, Entry)> = file.names().map(entry).collect();
    change(&mut metadata, &mut entries);
    // What is wrong with it is not that it was damaged.
    assert!(metadata.remove("xxh3").is_some());
    let entries: Vec<Entry> = entries.into_iter().map(|(_, entry)| entry).collect();
    safetensors::encode(&entries, &metadata).unwrap()
}

#[test]
fn a_wrong_file_says_what_is_wrong() {
    let model = model(true, false, true);
    let file = bytes(&model, Packing::TwoBit, Rest::F32);
    let refuse = |file: Vec<u8>, message: &str| {
        let error = read(file).err().unwrap();
        assert!(error.kind == ErrorKind::Format && error.message.contains(message), "{error}");
    };
    let with_metadata = |key: &str, value: &str| {
        changed(&file, |metadata, _| {
            metadata.insert(key.into(), value.into());
        })
    };
    refuse(with_metadata("format", "pt"), "the file holds no Setun model: its metadata has no format setun-model");
    refuse(with_metadata("version", "2"), "the model file has version 2, this library reads 1");
    refuse(with_metadata("packing", "zip"), "packing is zip");
    refuse(with_metadata("packing", "full"), "tensors, its geometry needs");
    refuse(with_metadata("packing", "five-per-byte"), "expected u8 [28, 6]");
    refuse(with_metadata("options", "{}"), "geometry cannot be read");
    let geometry = |change: fn(&mut ModelOptions)| {
        let mut options = model.options().clone();
        change(&mut options);
        with_metadata("options", &serde_json::to_string(&options).unwrap())
    };
    refuse(geometry(|o| o.heads = 3), "geometry is wrong: model: width 28 is not a multiple of heads 3");
    refuse(geometry(|o| o.layers = 1 << 16), "tensors, its geometry needs");
    refuse(geometry(|o| o.hidden = 20), "expected");
    refuse(geometry(|o| o.quantize_weights = false), "tensors, its geometry needs");
    let linear = "model.layers.1.mlp.down_proj.weight";
    let with_tensor = |name: &str, data: &[u8]| {
        changed(&file, |_, entries| {
            let (_, entry) = entries.iter_mut().find(|(n, _)| n == name).unwrap();
            assert_eq!(entry.data.len(), data.len());
            entry.data = Box::leak(data.to_vec().into_boxed_slice());
        })
    };
    // Rows of 19 trits: 5 bytes, of which the last holds 3.
    let mut trits = File::parse(file.clone()).unwrap().tensor(linear).unwrap().data.to_vec();
    trits[7] = 0b01_11_01_01;
    refuse(
        with_tensor(linear, &trits),
        "down_proj.weight: byte 7 of packed is 0x75, which holds a digit that is no trit",
    );
    trits[7] = 0b01_01_01_01;
    trits[9] = 0b00_01_01_01;
    refuse(
        with_tensor(linear, &trits),
        "down_proj.weight: byte 9 of packed is 0x15, which holds a trit past the last of 19 columns",
    );
    let scale = format!("{linear}_scale");
    for bad in [f32::NAN, f32::INFINITY, -1.0, 0.0] {
        refuse(with_tensor(&scale, &bad.to_le_bytes()), "down_proj.weight_scale is");
    }
    let mut gains = File::parse(file.clone()).unwrap().tensor("model.norm.weight").unwrap().data.to_vec();
    gains[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    refuse(with_tensor("model.norm.weight", &gains), "element 2 of tensor model.norm.weight is not finite");
    let renamed = changed(&file, |_, entries| entries[0].1.name = "model.other".into());
    refuse(renamed, "is missing");
    let foreign = safetensors::encode(&[], &BTreeMap::new()).unwrap();
    refuse(foreign, "the file holds no Setun model");
}

#[test]
fn a_damaged_file_never_gives_another_model() {
    for packing in [Packing::Full, Packing::TwoBit, Packing::FivePerByte, Packing::MaskSign] {
        let file = bytes(&model(true, false, true), packing, Rest::F16);
        let whole = logits(&read(file.clone()).unwrap());
        for length in (0..file.len()).step_by(97) {
            assert_eq!(read(file[..length].to_vec()).err().unwrap().kind, ErrorKind::Format);
        }
        let mut read_all_the_same = 0;
        for index in (0..file.len()).step_by(7).chain([file.len() - 1]) {
            let mut damaged = file.clone();
            damaged[index] ^= 1 << (index % 8);
            match read(damaged) {
                Err(error) => assert_eq!(error.kind, ErrorKind::Format, "byte {index}: {error}"),
                // Of the name of the checksum.
                Ok(model) => {
                    assert!(logits(&model) == whole, "byte {index}");
                    read_all_the_same += 1;
                }
            }
        }
        assert!(read_all_the_same <= 4, "{read_all_the_same} damages were not seen");
    }
    let scratch = Scratch::new("absent");
    let error = load(context(Backend::Simd), &scratch.file()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Io);
}
