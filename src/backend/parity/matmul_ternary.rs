//! int8 x ternary products are exact in integers, so the floats are equal bit for bit; the gradient is a float product.

use super::{EXACT, check, dirty, integers, normal, rows, tolerance};
use crate::tensor::{DType, Tensor};

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

fn product(name: &str, codes: &Tensor, packed: &Tensor) -> impl Fn(f32) {
    let (name, m, n) = (name.to_owned(), codes.dims()[0], packed.dims()[0]);
    let scales = normal(&[m], 13);
    let (codes, packed) = (codes.view(), packed.view());
    move |weight_scale| {
        let weight_scale = Tensor::from_slice(&[weight_scale], &[1]).unwrap();
        check(&name, EXACT, |row| {
            let mut y = dirty(DType::F32, &[m, n]);
            (row.kernels.matmul_ternary)(
                &row.launch,
                &codes,
                &scales.view(),
                &packed,
                &weight_scale.view(),
                &mut y.view_mut(),
            )?;
            Ok(vec![y])
        });
    }
}

#[test]
fn every_tail_of_rows_columns_and_depth() {
    for k in [0, 1, 3, 4, 5, 63, 64, 65, 127, 128, 129, 257, 2049] {
        for n in [0, 1, 4, 7, 15, 16, 17, 65] {
            let packed = packed(n, k);
            for m in [0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 18, 64] {
                let codes = integers(&[m, k], 14, 255, |i| (i as i32 - 127) as i8);
                product(&format!("matmul_ternary {m} x {n} x {k}"), &codes, &packed)(0.3);
            }
        }
    }
}

#[test]
fn several_blocks_and_panels_of_several_groups() {
    for [m, n, k] in [[800, 150, 36], [100, 70, 4100], [257, 65, 1030], [3, 1500, 1025], [1, 70, 20_001]] {
        let codes = integers(&[m, k], 15, 255, |i| (i as i32 - 127) as i8);
        product(&format!("matmul_ternary {m} x {n} x {k}"), &codes, &packed(n, k))(1.7);
    }
}

/// All weights +1 (or -1) and all codes +-127: the largest sums there are. 16-bit accumulators that are not emptied in time
/// overflow from k = 258 on; 32-bit sums of codes wrap from k = 2^23 on.
#[test]
fn extreme_sums_are_exact() {
    let sizes = [(256, 13, 17), (257, 2, 5), (4096, 1, 6), (4096, 19, 17), (70_000, 3, 5), (70_001, 13, 3)];
    for (k, m, n) in sizes {
        for (code, trit) in [(127, 1), (-127, 1), (127, -1), (-127, -1)] {
            extreme_sum(k, m, n, code, trit);
        }
    }
    extreme_sum(1 << 24, 2, 1, 127, 1);
    extreme_sum(9_000_000, 13, 1, 127, 1);
}

/// m x n sums of k times `code` times `trit`.
fn extreme_sum(k: usize, m: usize, n: usize, code: i8, trit: i8) {
    let codes = Tensor::from_slice(&vec![code; m * k], &[m, k]).unwrap();
    let w = Tensor::from_slice(&vec![f32::from(trit); n * k], &[n, k]).unwrap();
    let packed = ternarized(&w);
    let (scales, one) = (vec![1.0f32; m], Tensor::from_slice(&[1.0f32], &[1]).unwrap());
    let scales = Tensor::from_slice(&scales, &[m]).unwrap();
    // The longest sums on one thread alone, for the sake of the tests' time.
    for row in rows().iter().filter(|row| k < 1 << 23 || !row.parallel) {
        let mut y = dirty(DType::F32, &[m, n]);
        let operands = (&codes.view(), &scales.view(), &packed.view(), &one.view());
        let (launch, y_view) = (&row.launch, &mut y.view_mut());
        (row.kernels.matmul_ternary)(launch, operands.0, operands.1, operands.2, operands.3, y_view).unwrap();
        let expected = (i64::from(code) * i64::from(trit) * k as i64) as f32;
        let exact = y.host::<f32>().unwrap().iter().all(|&y| y == expected);
        assert!(exact, "{}: k = {k}, code {code}, trit {trit}, m = {m}: not all are {expected}", row.name);
    }
}

/// The rounding of f32 sums of n terms, as for `matmul`.
#[test]
fn the_gradient_to_the_input() {
    for [m, n, k] in
        [[0, 5, 8], [3, 0, 8], [3, 5, 0], [1, 1, 1], [7, 63, 65], [65, 257, 130], [300, 300, 1030], [2, 600, 513]]
    {
        let (dy, packed) = (normal(&[m, n], 16), packed(n, k));
        let weight_scale = Tensor::from_slice(&[0.4f32], &[1]).unwrap();
        check(&format!("matmul_ternary_backward {m} x {n} x {k}"), tolerance::products(n), |row| {
            let mut dx = dirty(DType::F32, &[m, k]);
            (row.kernels.matmul_ternary_backward)(
                &row.launch,
                &dy.view(),
                &packed.view(),
                &weight_scale.view(),
                &mut dx.view_mut(),
            )?;
            Ok(vec![dx])
        });
    }
}
