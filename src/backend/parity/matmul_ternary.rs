//! int8 x ternary products are exact in integers, so the floats are equal bit for bit; the gradient is a float product.

use super::{EXACT, Row, check, dirty, emulated, integers, normal, rows, tolerance};
use crate::tensor::{DType, Packing, Result, Tensor, View};

/// Random trits [n, k], packed.
fn packed(n: usize, k: usize) -> Tensor {
    ternarized(&normal(&[n, k], 12))
}

fn ternarized(w: &Tensor) -> Tensor {
    let threshold = Tensor::from_slice(&[0.5f32], &[1]).unwrap();
    let mut packed = dirty(DType::U8, &[w.dims()[0], w.dims()[1].div_ceil(4)]);
    let row = &rows()[0];
    (row.kernels.ternarize)(&row.launch, &w.view(), 0, &threshold.view(), &mut packed.view_mut()).unwrap();
    packed
}

/// Random trits [n, k] in a packing, with scales by groups.
struct Weights {
    n: usize,
    packing: Packing,
    packed: Tensor,
    group: usize,
    scales: Tensor,
}

impl Weights {
    fn new(packing: Packing, n: usize, k: usize, group: usize) -> Weights {
        let scales = if group == 0 { vec![1] } else { vec![n, k.div_ceil(group)] };
        let (packed, scales) = (in_packing(packing, packed(n, k), k), integers(&scales, 17, 9, |i| i as f32 / 20.0));
        Weights { n, packing, packed, group, scales }
    }

    fn product(&self, row: &Row, codes: &Tensor, scales: &Tensor) -> Result<Tensor> {
        self.product_with(row, codes, scales, None)
    }

    fn product_with(&self, row: &Row, codes: &Tensor, scales: &Tensor, base: Option<&View>) -> Result<Tensor> {
        let mut y = dirty(DType::F32, &[codes.dims()[0], self.n]);
        let (launch, to) = (&row.launch, &mut y.view_mut());
        let (codes, scales, packed, of_weights) = (codes.view(), scales.view(), self.packed.view(), self.scales.view());
        (row.kernels.matmul_ternary)(
            launch,
            &codes,
            &scales,
            self.packing,
            &packed,
            self.group,
            &of_weights,
            base,
            to,
        )?;
        Ok(y)
    }

    fn check(&self, codes: &Tensor) {
        let ([m, k], scales) = ([codes.dims()[0], codes.dims()[1]], normal(&[codes.dims()[0]], 13));
        let name = format!("matmul_ternary {m} x {} x {k}, {}, group {}", self.n, self.packing.name(), self.group);
        check(&name, EXACT, |row| Ok(vec![self.product(row, codes, &scales)?]));
        let base = normal(&[m, self.n], 19);
        check(&format!("{name}, with a base"), EXACT, |row| {
            Ok(vec![self.product_with(row, codes, &scales, Some(&base.view()))?])
        });
    }
}

fn in_packing(packing: Packing, two_bit: Tensor, k: usize) -> Tensor {
    let (row, n) = (&rows()[0], two_bit.dims()[0]);
    let (kernels, launch) = (row.kernels, &row.launch);
    match packing {
        Packing::TwoBit => two_bit,
        Packing::FivePerByte => {
            let mut five = dirty(DType::U8, &[n, k.div_ceil(5)]);
            (kernels.pack_five)(launch, &two_bit.view(), k, &mut five.view_mut()).unwrap();
            five
        }
        Packing::MaskSign => {
            let bytes = (kernels.mask_sign_bytes)(launch, &two_bit.view(), k).unwrap();
            let mut both = dirty(DType::U8, &[bytes]);
            (kernels.pack_mask_sign)(launch, &two_bit.view(), k, &mut both.view_mut()).unwrap();
            both
        }
    }
}

fn codes(m: usize, k: usize) -> Tensor {
    integers(&[m, k], 14, 255, |i| (i as i32 - 127) as i8)
}

#[test]
fn every_tail_of_rows_columns_and_depth() {
    for k in [0, 1, 3, 4, 5, 63, 64, 65, 127, 128, 129, 257, 2049] {
        for n in [0, 1, 4, 7, 15, 16, 17, 65] {
            let weights = Weights::new(Packing::TwoBit, n, k, 0);
            for m in [0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 18, 64] {
                weights.check(&codes(m, k));
            }
        }
    }
}

#[test]
fn several_blocks_and_panels_of_several_groups() {
    for [m, n, k] in [[800, 150, 36], [100, 70, 4100], [257, 65, 1030], [3, 1500, 1025], [1, 70, 20_001]] {
        Weights::new(Packing::TwoBit, n, k, 0).check(&codes(m, k));
    }
    // One row of x and many of the weights.
    for [n, k] in [[256, 64], [259, 2048], [301, 2113], [290, 6100], [270, 20_001], [260, 49_153]] {
        Weights::new(Packing::TwoBit, n, k, 0).check(&codes(1, k));
        Weights::new(Packing::TwoBit, n, k, k).check(&codes(1, k));
    }
}

/// A scale a row, groups that end inside of bytes, of words, of planes and of panels, and that leave a rest.
#[test]
fn every_packing_and_group() {
    for packing in Packing::ALL {
        for k in [1, 5, 64, 129, 384, 1000, 2053] {
            for group in [0, 1, 7, 16, 32, 48, 64, 100, 128, 256, 640, 5000] {
                for n in [1, 13, 35] {
                    let weights = Weights::new(packing, n, k, group);
                    for m in [1, 4, 17] {
                        weights.check(&codes(m, k));
                    }
                }
            }
        }
        Weights::new(packing, 40, 9000, 4000).check(&codes(14, 9000));
        Weights::new(packing, 300, 0, 4).check(&codes(2, 0));
    }
}

/// A row of y is the same whatever the other rows of x are.
#[test]
fn rows_do_not_depend_on_each_other() {
    let k = 1000;
    for packing in Packing::ALL {
        for group in [0, 32, 100, 128, k] {
            let weights = Weights::new(packing, 50, k, group);
            let (all, scales) = (codes(40, k), normal(&[40], 13));
            for row in rows() {
                let together = weights.product(row, &all, &scales).unwrap();
                for i in [0, 17, 39] {
                    let x = Tensor::from_slice(&all.host::<i8>().unwrap()[i * k..(i + 1) * k], &[1, k]).unwrap();
                    let scale = Tensor::from_slice(&scales.host::<f32>().unwrap()[i..i + 1], &[1]).unwrap();
                    let alone = weights.product(row, &x, &scale).unwrap();
                    let expected = &together.host::<f32>().unwrap()[i * 50..(i + 1) * 50];
                    assert_eq!(alone.host::<f32>().unwrap(), expected, "{}, {packing:?}, {group}", row.name);
                }
            }
        }
    }
}

/// All weights +1 (or -1) and all codes +-127: the largest sums there are. 16-bit accumulators that are not emptied in time
/// overflow from k = 258 on; 32-bit sums of codes wrap from k = 2^23 on.
#[test]
fn extreme_sums_are_exact() {
    let sizes = [(256, 13, 17), (257, 2, 5), (4096, 1, 6), (4096, 19, 17), (65_535, 3, 5), (70_001, 13, 3)];
    for packing in Packing::ALL {
        for (k, m, n) in sizes {
            for (code, trit) in [(127, 1), (-127, 1), (127, -1), (-127, -1)] {
                extreme_sum(packing, k, m, n, code, trit);
            }
        }
    }
    for packing in if emulated() { &Packing::ALL[..1] } else { &Packing::ALL } {
        extreme_sum(*packing, 1 << 24, 2, 1, 127, 1);
        extreme_sum(*packing, 1 << 24, 1, 1, -127, 1);
    }
    extreme_sum(Packing::TwoBit, 9_000_000, 13, 1, 127, 1);
}

/// m x n sums of k times `code` times `trit`.
fn extreme_sum(packing: Packing, k: usize, m: usize, n: usize, code: i8, trit: i8) {
    let codes = Tensor::from_slice(&vec![code; m * k], &[m, k]).unwrap();
    let w = Tensor::from_slice(&vec![f32::from(trit); n * k], &[n, k]).unwrap();
    let (packed, one) = (in_packing(packing, ternarized(&w), k), Tensor::from_slice(&[1.0f32], &[1]).unwrap());
    let scales = Tensor::from_slice(&vec![1.0f32; m], &[m]).unwrap();
    let weights = Weights { n, packing, packed, group: 0, scales: one };
    // The longest sums on one thread alone, for the sake of the tests' time.
    for row in rows().iter().filter(|row| k < 1 << 23 || !row.parallel) {
        let y = weights.product(row, &codes, &scales).unwrap();
        let expected = (i64::from(code) * i64::from(trit) * k as i64) as f32;
        let exact = y.host::<f32>().unwrap().iter().all(|&y| y == expected);
        let name = packing.name();
        assert!(exact, "{}: {name}, k = {k}, code {code}, trit {trit}, m = {m}: not all are {expected}", row.name);
    }
}

/// The rounding of f32 sums of n terms, as for `matmul`.
#[test]
fn the_gradient_to_the_input() {
    let sizes =
        [[0, 5, 8], [3, 0, 8], [3, 5, 0], [1, 1, 1], [7, 63, 65], [65, 257, 130], [300, 300, 1030], [2, 600, 513]];
    for packing in Packing::ALL {
        for ([m, n, k], group) in sizes.into_iter().flat_map(|size| [0, 5, 64, 600, 2000].map(|group| (size, group))) {
            // The largest takes an emulated device seconds.
            if emulated() && m == 300 && (packing != Packing::TwoBit || ![5, 64].contains(&group)) {
                continue;
            }
            let accumulate = group == 64;
            let (dy, weights) = (normal(&[m, n], 16), Weights::new(packing, n, k, group));
            let name = format!("matmul_ternary_backward {m} x {n} x {k}, {}, group {group}", packing.name());
            check(&name, tolerance::products(n), |row| {
                let mut dx = if accumulate { normal(&[m, k], 18) } else { dirty(DType::F32, &[m, k]) };
                let (packed, scales) = (weights.packed.view(), weights.scales.view());
                let (launch, dy, to) = (&row.launch, &dy.view(), &mut dx.view_mut());
                (row.kernels.matmul_ternary_backward)(launch, dy, packing, &packed, group, &scales, accumulate, to)?;
                Ok(vec![dx])
            });
        }
    }
}
