//! Scales, trits and packed bytes are the same on every row.

use super::{EXACT, Row, SIZES, check, dirty, normal};
use crate::backend::launch::Launch;
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Result, Tensor, View, ViewMut};

/// Widths of groups, among them the whole matrix, some that end inside of bytes and vectors, and more than a row.
const GROUPS: [usize; 13] = [0, 1, 3, 7, 32, 63, 64, 65, 128, 256, 257, 1000, usize::MAX];

type Scheme = fn(&Launch, &View, usize, &mut ViewMut, &mut ViewMut) -> Result<()>;

/// The schemes that find both thresholds and scales.
fn schemes(row: &Row) -> [(&'static str, Scheme); 3] {
    let kernels = row.kernels;
    [("absmean", kernels.absmean), ("absmedian", kernels.absmedian), ("least_squares", kernels.least_squares)]
}

/// [rows, columns]: odd widths, widths that fill bytes, and enough for several chunks.
fn shapes() -> impl Iterator<Item = [usize; 2]> {
    let odd = SIZES.into_iter().flat_map(|columns| [[1, columns], [3, columns], [9, columns]]);
    odd.chain([[0, 8], [2, 20], [7, 128], [3, 1000], [5, 1003], [70, 1024], [600, 129], [40, 5000]])
}

/// A group of several chunks.
const LONG: [[usize; 2]; 4] = [[1, 140_000], [2, 140_003], [1000, 137], [3, 300_001]];

fn scales_of([n, k]: [usize; 2], group: usize) -> Tensor {
    if group == 0 { dirty(DType::F32, &[1]) } else { dirty(DType::F32, &[n, k.div_ceil(group)]) }
}

/// Runs every scheme on `w` by groups.
fn check_schemes(name: &str, w: &Tensor, group: usize) {
    let shape = [w.dims()[0], w.dims()[1]];
    for i in 0..3 {
        check(&format!("{name}, scheme {i} of {shape:?} by {group}"), EXACT, |row| {
            let (mut thresholds, mut scales) = (scales_of(shape, group), scales_of(shape, group));
            let scheme = schemes(row)[i].1;
            scheme(&row.launch, &w.view(), group, &mut thresholds.view_mut(), &mut scales.view_mut())?;
            Ok(vec![thresholds, scales])
        });
    }
    check(&format!("{name}, mean_above of {shape:?} by {group}"), EXACT, |row| {
        let (mut thresholds, mut scales) = (scales_of(shape, group), scales_of(shape, group));
        let count = thresholds.dims().iter().product::<usize>();
        let values = (0..count).map(|i| 0.25 * (i % 5) as f32);
        thresholds.host_mut::<f32>()?.iter_mut().zip(values).for_each(|(to, value)| *to = value);
        (row.kernels.mean_above)(&row.launch, &w.view(), group, &thresholds.view(), &mut scales.view_mut())?;
        Ok(vec![scales])
    });
}

/// Weights by `value` of a normal number and its place.
fn weights(shape: [usize; 2], seed: u32, value: impl Fn(f32, usize) -> f32) -> Tensor {
    let mut w = normal(&shape, seed);
    w.host_mut::<f32>().unwrap().iter_mut().enumerate().for_each(|(i, w)| *w = value(*w, i));
    w
}

#[test]
fn scales_of_normal_weights() {
    for shape in shapes() {
        for group in GROUPS {
            check_schemes("normal", &normal(&shape, 3), group);
        }
    }
    for shape in LONG {
        for group in [0, 65, 140_001, usize::MAX] {
            check_schemes("normal", &normal(&shape, 4), group);
        }
    }
}

#[test]
fn scales_of_weights_that_are_not_normal() {
    type Kind = (&'static str, fn(f32, usize) -> f32);
    let kinds: [Kind; 14] = [
        ("heavy tails", |w, _| w.powi(7)),
        ("very heavy tails", |w, _| w.powi(25)),
        ("exponential", |w, _| (8.0 * w).exp()),
        ("tied", |w, _| (4.0 * w).round() / 4.0),
        ("two values", |w, _| if w > 0.3 { 1.0 } else { -0.4 }),
        ("two scales", |w, i| if i % 3 == 0 { w } else { 1e-2 * w }),
        ("constant", |_, _| -0.7),
        ("denormal", |w, _| w * 1e-40),
        ("near the largest", |w, _| w.clamp(-1.0, 1.0) * 3e38),
        ("one outlier", |w, i| if i == 50 { 1e30 } else { 1e-3 * w }),
        ("zeros", |_, _| -0.0),
        // All k are as good, but for the roundings: no bin can be left out.
        ("equal errors", |_, i| (((i + 1) as f64).sqrt() - (i as f64).sqrt()) as f32),
        ("equal errors in runs", |_, i| {
            if i % 1000 < 300 { (((i + 1) as f64).sqrt() - (i as f64).sqrt()) as f32 } else { 0.0 }
        }),
        ("few values", |_, i| 0.9f32.powi((i % 150) as i32)),
    ];
    for shape in [[1, 64], [3, 1000], [2, 20_000], [1, 150_000]] {
        for (name, value) in kinds {
            let w = weights(shape, 5, value);
            for group in [0, 32, 256, 300, usize::MAX] {
                check_schemes(name, &w, group);
            }
        }
    }
}

#[test]
fn scales_of_weights_that_are_not_finite() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for shape in [[3, 200], [2, 1000], [1, 150_000]] {
            for at in [0, 199, shape[0] * shape[1] - 1] {
                let w = weights(shape, 6, |w, i| if i == at { bad } else { w });
                for group in [0, 64, 256, 300] {
                    check_schemes("not finite", &w, group);
                }
            }
        }
    }
}

#[test]
fn ternarize_and_back() {
    for shape in shapes().chain(LONG) {
        let w = normal(&shape, 3);
        for group in if shape[0] * shape[1] > 100_000 { vec![0, 128, 257] } else { GROUPS.to_vec() } {
            let mut values = scales_of(shape, group);
            let numbers = normal(&[values.dims().iter().product()], 7);
            let numbers = numbers.host::<f32>().unwrap();
            values.host_mut::<f32>().unwrap().iter_mut().zip(numbers).for_each(|(to, x)| *to = x.abs());
            check(&format!("ternarize {shape:?} by {group}"), EXACT, |row| {
                let dims = [shape[0], shape[1].div_ceil(4)];
                let (mut packed, mut back) = (dirty(DType::U8, &dims), dirty(DType::F32, &shape));
                let mut rounded = dirty(DType::U8, &dims);
                let (launch, w, values) = (&row.launch, w.view(), values.view());
                (row.kernels.ternarize)(launch, &w, group, &values, &mut packed.view_mut())?;
                (row.kernels.deternarize)(launch, &packed.view(), group, &values, &mut back.view_mut())?;
                let stream = Stream::new(1 << 40, Purpose::Test, 5, 6);
                (row.kernels.ternarize_stochastic)(launch, &w, group, &values, stream, &mut rounded.view_mut())?;
                Ok(vec![packed, back, rounded])
            });
        }
    }
}

#[test]
fn the_threshold_itself_is_zero_and_nan_too() {
    let h = 0.6f32;
    let (above, below) = (f32::from_bits(h.to_bits() + 1), f32::from_bits(h.to_bits() - 1));
    let cases = [
        (h, 1),
        (-h, 1),
        (above, 2),
        (-above, 0),
        (below, 1),
        (f32::NAN, 1),
        (f32::INFINITY, 2),
        (f32::NEG_INFINITY, 0),
        (-0.0, 1),
        (f32::MIN_POSITIVE / 4.0, 1),
    ];
    let w: Vec<f32> = (0..260).map(|i| cases[i % 10].0).collect();
    let w = Tensor::from_slice(&w, &[1, 260]).unwrap();
    let threshold = Tensor::from_slice(&[h], &[1]).unwrap();
    check("ternarize at the threshold", EXACT, |row| {
        let mut packed = dirty(DType::U8, &[1, 65]);
        (row.kernels.ternarize)(&row.launch, &w.view(), 0, &threshold.view(), &mut packed.view_mut())?;
        let bytes = packed.host::<u8>()?;
        for i in 0..260 {
            assert_eq!(bytes[i / 4] >> (2 * (i % 4)) & 3, cases[i % 10].1, "weight {i}");
        }
        Ok(vec![packed])
    });
}

/// A trit is told from the sign of a weight: also from that of the least there are.
#[test]
fn the_least_numbers_have_a_sign() {
    let least = [1e-45f32, -1e-45, 3e-43, -3e-43, 1e-40, -1e-40, 0.0, -0.0];
    let w: Vec<f32> = (0..160).map(|i| least[i % 8]).collect();
    let w = Tensor::from_slice(&w, &[1, 160]).unwrap();
    let threshold = Tensor::from_slice(&[0f32], &[1]).unwrap();
    check("ternarize above 0", EXACT, |row| {
        let mut packed = dirty(DType::U8, &[1, 40]);
        (row.kernels.ternarize)(&row.launch, &w.view(), 0, &threshold.view(), &mut packed.view_mut())?;
        assert!(packed.host::<u8>()?.chunks(2).all(|bytes| bytes == [0b0010_0010, 0b0101_0010]));
        Ok(vec![packed])
    });
}
