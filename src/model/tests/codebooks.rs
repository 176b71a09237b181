//! Model files whose matrices have codebooks.

use super::super::parameters::ParameterKind;
use super::file::{changed, logits, model, read, trits};
use super::*;
use crate::format::safetensors::File;
use crate::model::file::{Packing, Rest, Storage, encode};
use crate::tensor::{DType, ErrorKind};
use std::collections::{BTreeMap, BTreeSet};

fn bytes(model: &Model, packing: Packing, codebook: usize) -> Vec<u8> {
    let how = Storage { packing, rest: Rest::F32, codebook };
    encode(model, how, None, &BTreeMap::new()).unwrap()
}

/// Gives a model the floats of another one, where that has them.
fn copy(from: &Model, to: &mut Model) {
    for parameter in from.parameters() {
        let index = to.parameters().iter().position(|p| p.name == parameter.name).unwrap();
        to.write_parameter(index, &parameter.floats().unwrap()).unwrap();
    }
}

#[test]
fn the_file_answers_as_the_model_that_holds_its_matrices() {
    for (quantize, gated, tied) in [(true, true, false), (true, false, true), (false, false, false)] {
        for codebook in [2, 16, 256] {
            let mut model = model(quantize, gated, tied);
            let file = bytes(&model, Packing::FivePerByte, codebook);
            let loaded = read(file.clone()).unwrap();
            for (p, own) in loaded.parameters().iter().flat_map(|p| model.parameters().iter().map(move |own| (p, own)))
            {
                if p.name != own.name {
                    continue;
                }
                let (found, values) = (p.floats().unwrap(), own.floats().unwrap());
                if p.kind == ParameterKind::Vector {
                    assert_eq!(found, values, "{}", p.name);
                    continue;
                }
                let book: BTreeSet<u32> = found.iter().map(|x| x.to_bits()).collect();
                assert!(book.len() <= codebook.min(values.len()));
                let book: Vec<f32> = book.into_iter().map(f32::from_bits).collect();
                for (x, y) in values.iter().zip(found.iter()) {
                    let nearest = book.iter().map(|entry| (entry - x).abs()).fold(f32::INFINITY, f32::min);
                    assert_eq!((x - y).abs(), nearest, "{}: {x} became {y}", p.name);
                }
            }
            if quantize {
                assert!(trits(&loaded) == trits(&model));
            }
            copy(&loaded, &mut model);
            assert!(logits(&loaded) == logits(&model));
            // What is stored is stored again as it is.
            assert!(bytes(&loaded, Packing::FivePerByte, codebook) == file);
        }
    }
}

#[test]
fn sixteen_entries_take_half_a_byte_each() {
    let options = ModelOptions { vocabulary: 1000, tied_embedding: false, ..ModelOptions::default() };
    let model = Model::new(context(Backend::Simd), options, 1).unwrap();
    let file = |codebook| {
        let how = Storage { packing: Packing::FivePerByte, rest: Rest::F16, codebook };
        encode(&model, how, None, &BTreeMap::new()).unwrap().len() as i64
    };
    // Two tables of 1000 x 128, a codebook of 64 bytes each, and a line of the header for it.
    let saved = file(0) - file(16);
    let expected = 2 * (2 * 128_000 - 64_000 - 64);
    assert!((saved - expected).abs() < 400, "{saved}, expected {expected}");
    let expected = 2 * (2 * 128_000 - 128_000 - 1024);
    assert!((file(0) - file(256) - expected).abs() < 400);
}

#[test]
fn what_no_codebook_holds_is_refused() {
    let mut model = model(true, false, false);
    let refuse = |model: &Model, packing, codebook| {
        encode(model, Storage { packing, rest: Rest::F32, codebook }, None, &BTreeMap::new()).unwrap_err()
    };
    let error = refuse(&model, Packing::TwoBit, 257);
    assert_eq!(
        (error.kind, &*error.message),
        (ErrorKind::Argument, "model file: codebook is 257, expected at most 256")
    );
    let error = refuse(&model, Packing::Full, 16);
    assert!(error.kind == ErrorKind::Argument && error.message.contains("codebook is 16, expected 0"), "{error}");
    model.parameters_mut()[0].tensor.host_mut::<f32>().unwrap()[3] = 3e18;
    let error = refuse(&model, Packing::TwoBit, 16);
    assert!(error.message.contains("model.embed_tokens.weight"), "{error}");
}

#[test]
fn a_wrong_codebook_says_what_is_wrong() {
    let file = bytes(&model(true, false, false), Packing::TwoBit, 5);
    let (table, book) = ("model.embed_tokens.weight", "model.embed_tokens.weight_codebook");
    let refuse = |file: Vec<u8>, message: &str| {
        let error = read(file).err().unwrap();
        assert!(error.kind == ErrorKind::Format && error.message.contains(message), "{error}");
    };
    let with = |name: &str, dtype: DType, dims: Vec<usize>, data: Vec<u8>| {
        changed(&file, |_, entries| {
            let (_, entry) = entries.iter_mut().find(|(n, _)| n == name).unwrap();
            (entry.dtype, entry.dims, entry.data) = (dtype, dims.clone(), Box::leak(data.clone().into_boxed_slice()));
        })
    };
    let parsed = File::parse(file.clone()).unwrap();
    let codes = parsed.tensor(table).unwrap().data.to_vec();
    let entries: Vec<f32> =
        parsed.tensor(book).unwrap().data.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x)).collect();
    let floats = |x: &[f32]| bytemuck::cast_slice::<f32, u8>(x).to_vec();
    let mut wrong = codes.clone();
    wrong[7] = 0x51;
    refuse(with(table, DType::U8, vec![codes.len()], wrong), "tensor model.embed_tokens.weight: ");
    refuse(with(table, DType::U8, vec![codes.len() - 1], codes[1..].to_vec()), "for codes of [");
    refuse(with(table, DType::U8, vec![1, codes.len()], codes.clone()), "for codes of [");
    refuse(with(book, DType::F32, vec![0], vec![]), "expected f32 of 1 to 256 entries");
    refuse(with(book, DType::F32, vec![5, 1], floats(&entries)), "expected f32 of 1 to 256 entries");
    refuse(with(book, DType::I32, vec![5], floats(&entries)), "expected f32 of 1 to 256 entries");
    refuse(with(book, DType::F32, vec![300], vec![0; 1200]), "expected f32 of 1 to 256 entries");
    let mut turned = entries.clone();
    turned.swap(1, 2);
    refuse(with(book, DType::F32, vec![5], floats(&turned)), "they have to ascend");
    let mut unsound = entries;
    unsound[4] = f32::NAN;
    refuse(with(book, DType::F32, vec![5], floats(&unsound)), "expected a finite number");
    let gone = changed(&file, |metadata, _| drop(metadata.remove("codebook")));
    refuse(gone, "tensors, its geometry needs");
    let renamed = changed(&file, |_, entries| {
        entries.iter_mut().find(|(n, _)| n == book).unwrap().1.name = "model.other".into();
    });
    refuse(renamed, "is missing");
    let mut read_all_the_same = 0;
    for index in (0..file.len()).step_by(5) {
        let mut damaged = file.clone();
        damaged[index] ^= 1 << (index % 8);
        match read(damaged) {
            Err(error) => assert_eq!(error.kind, ErrorKind::Format, "byte {index}: {error}"),
            // Of the name of the checksum.
            Ok(_) => read_all_the_same += 1,
        }
    }
    assert!(read_all_the_same <= 4, "{read_all_the_same} damages were not seen");
}
