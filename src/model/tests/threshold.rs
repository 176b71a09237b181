//! The share of the mean magnitude up to which a weight is 0.

use super::file::{logits, model, read, trits};
use super::*;
use crate::model::file::{Packing, Rest, Storage, encode, save};
use crate::model::trainable;
use std::collections::BTreeMap;

fn with(weight_threshold: f64, backend: Backend, dtype: DType) -> Model {
    let options = ModelOptions { width: 64, hidden: 128, heads: 2, weight_threshold, ..small(true, true, false) };
    Model::with_dtype(context(backend), options, 7, dtype).unwrap()
}

fn stored(model: &Model, packing: Packing) -> Vec<u8> {
    encode(model, Storage::new(packing, Rest::F32), None, &BTreeMap::new()).unwrap()
}

/// Zeros among all trits of the linear layers.
fn zeros(model: &Model) -> f64 {
    let (mut zeros, mut all) = (0, 0);
    for linear in model.linears() {
        let values = linear.effective(model.context()).unwrap().unwrap();
        let values = values.host::<f32>().unwrap();
        zeros += values.iter().filter(|&&value| value == 0.0).count();
        all += values.len();
    }
    zeros as f64 / all as f64
}

#[test]
fn weights_above_the_share_are_not_zero_and_the_scale_stays() {
    for share in [0.0, 0.3, 0.5, 0.75, 0.99] {
        let (model, plain) = (with(share, Backend::Simd, DType::F32), with(0.5, Backend::Simd, DType::F32));
        for (linear, other) in model.linears().zip(plain.linears()) {
            let masters = model.parameters()[linear.master.unwrap()].floats().unwrap();
            let scale = linear.ternary.as_ref().unwrap().scale.host::<f32>().unwrap()[0];
            assert_eq!(scale, other.ternary.as_ref().unwrap().scale.host::<f32>().unwrap()[0]);
            let values = linear.effective(model.context()).unwrap().unwrap();
            for (&value, &master) in values.host::<f32>().unwrap().iter().zip(masters.iter()) {
                let expected = if master.abs() > share as f32 * scale { scale.copysign(master) } else { 0.0 };
                assert_eq!(value, expected, "{master} at {share} of {scale}");
            }
        }
        // Of normal weights: 2 Phi(share sqrt(2 / pi)) - 1.
        let expected = [(0.0, 0.0), (0.3, 0.189), (0.5, 0.310), (0.75, 0.450), (0.99, 0.570)];
        let (_, expected) = expected.into_iter().find(|(of, _)| *of == share).unwrap();
        assert!((zeros(&model) - expected).abs() < 0.01, "{} zeros at {share}", zeros(&model));
    }
    let double = with(0.75, Backend::Scalar, DType::F64);
    let linear = double.linears().next().unwrap();
    let scale = linear.ternary.as_ref().unwrap().scale.host::<f64>().unwrap()[0];
    assert_eq!(double.thresholds.host::<f64>().unwrap()[linear.master.unwrap()], 0.75 * scale);
}

#[test]
fn it_is_the_same_on_every_backend() {
    let of = |backend| {
        let model = with(0.75, backend, DType::F32);
        let trits = model.linears().map(|linear| linear.effective(model.context()).unwrap().unwrap());
        trits.map(|values| values.host::<f32>().unwrap().to_vec()).collect::<Vec<_>>()
    };
    let scalar = of(Backend::Scalar);
    assert!(scalar == of(Backend::Simd) && scalar == of(Backend::Parallel));
}

#[test]
fn files_and_copies_keep_it() {
    let sparse = with(0.75, Backend::Simd, DType::F32);
    for packing in [Packing::Full, Packing::MaskSign, Packing::TwoBit] {
        let loaded = read(stored(&sparse, packing)).unwrap();
        assert_eq!(loaded.options().weight_threshold, 0.75);
        assert_eq!(trits(&loaded), trits(&sparse));
        let copy = trainable(&loaded, true).unwrap();
        assert_eq!(copy.options().weight_threshold, 0.75);
        for ((name, found, _), (_, expected, _)) in trits(&copy).iter().zip(trits(&sparse)) {
            assert!(*found == expected, "{name}");
        }
    }
    // What was written before there was a share has that of BitNet, and what has it is written as before.
    let plain = String::from_utf8_lossy(&stored(&model(true, false, true), Packing::Full)).into_owned();
    assert!(!plain.contains("weight_threshold"));
    assert_eq!(read(stored(&model(true, false, true), Packing::Full)).unwrap().options().weight_threshold, 0.5);
    assert!(logits(&sparse) != logits(&with(0.5, Backend::Simd, DType::F32)));
}

/// At 0.75 mask and sign take 1 + .55 bits a weight, less than 1.6.
#[test]
fn half_of_zeros_are_smaller_by_mask_and_sign() {
    let folder = std::env::temp_dir().join(format!("setun-threshold-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let bytes = |share: f64, packing: Packing| {
        let (model, how) = (with(share, Backend::Simd, DType::F32), Storage::new(packing, Rest::F16));
        let report = save(&model, &folder.join("model"), how, None, &BTreeMap::new()).unwrap();
        report.linear_bytes as f64 / (report.linear_parameters as f64 / 8.0)
    };
    let (five, mask) = (bytes(0.75, Packing::FivePerByte), bytes(0.75, Packing::MaskSign));
    assert!((mask - 1.55).abs() < 0.04 && (five - 1.6).abs() < 0.04, "{mask} and {five} bits a weight");
    assert!(bytes(0.5, Packing::MaskSign) > 1.65);
    std::fs::remove_dir_all(&folder).unwrap();
}
