//! Models to go on training from.

use super::file::{logits, model, read, trits};
use super::*;
use crate::model::file::{Packing, Rest, Storage, encode};
use crate::model::trainable;
use crate::tensor::ErrorKind;
use std::collections::BTreeMap;

fn packed(model: &Model) -> Model {
    let how = Storage::new(Packing::FivePerByte, Rest::F32);
    read(encode(model, how, None, &BTreeMap::new()).unwrap()).unwrap()
}

#[test]
fn a_packed_model_goes_on_with_the_same_trits() {
    for (gated, tied) in [(true, false), (false, true)] {
        let loaded = packed(&model(true, gated, tied));
        let copy = trainable(&loaded, true).unwrap();
        assert!(copy.trainable() && !loaded.trainable());
        for ((name, found, scale), (_, expected, of_loaded)) in trits(&copy).iter().zip(trits(&loaded)) {
            assert!(*found == expected, "{name}");
            assert!((scale / of_loaded - 1.0).abs() < 1e-6, "{name}: {scale}, was {of_loaded}");
        }
        for (x, y) in logits(&copy).iter().zip(logits(&loaded)) {
            assert!((x - y).abs() < 1e-4, "{x}, was {y}");
        }
        // In floats, the layer multiplies by what the trits stood for, without codes of its inputs.
        let twin = trainable(&loaded, false).unwrap();
        let linear = loaded.linears().next().unwrap();
        let effective = linear.effective(loaded.context()).unwrap().unwrap();
        let own = twin.parameters().iter().find(|p| p.name == linear.name).unwrap();
        assert_eq!(own.floats().unwrap(), effective.host::<f32>().unwrap());
    }
}

#[test]
fn floats_are_copied_whatever_they_are_for() {
    let ternary = model(true, true, false);
    let twin = trainable(&ternary, false).unwrap();
    assert!(!twin.options().quantize_weights && twin.linears().all(|linear| linear.ternary.is_none()));
    let back = trainable(&twin, true).unwrap();
    assert!(
        back.options() == ternary.options() && trits(&back) == trits(&ternary) && logits(&back) == logits(&ternary)
    );
    assert!(logits(&twin) != logits(&ternary));
    let f64_model = Model::with_dtype(context(Backend::Scalar), small(true, false, true), 1, DType::F64).unwrap();
    assert_eq!(trainable(&f64_model, true).err().unwrap().kind, ErrorKind::DType);
}

#[test]
fn a_layer_of_zeros_stays_one() {
    let mut zeros = model(true, false, true);
    let index = zeros.parameters().iter().position(|p| p.name.contains("q_proj")).unwrap();
    let count = zeros.parameters()[index].tensor.view().count();
    zeros.write_parameter(index, &vec![0.0; count]).unwrap();
    let copy = trainable(&zeros, true).unwrap();
    assert!(trits(&copy) == trits(&zeros) && logits(&copy) == logits(&zeros));
}
