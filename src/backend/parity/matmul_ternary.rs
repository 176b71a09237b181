//! int8 x ternary products are exact in integers, so the floats are equal bit for bit; the gradient is a float product.

use super::{EXACT, Tolerance, check, dirty, integers, normal, rows};
use crate::tensor::{DType, Tensor};

/// Random trits [n, k], packed.
fn packed(n: usize, k: usize) -> Tensor {
    let (w, threshold) = (normal(&[n, k], 12), Tensor::from_slice(&[0.5f32], &[1]).unwrap());
    let mut packed = dirty(DType::U8, &[n, k.div_ceil(4)]);
    let row = &rows()[0];
    (row.kernels.ternarize)(&row.launch, &w.view(), &threshold.view(), &mut packed.view_mut()).unwrap();
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
            for m in [0, 1, 2, 3, 4, 5, 6, 7, 13, 64] {
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
    for (k, m, n) in
        [(256, 7, 17), (257, 2, 5), (4096, 1, 6), (4096, 9, 17), (70_000, 3, 5), (70_001, 6, 3), (1 << 24, 5, 1)]
    {
        for (code, weight, sign) in [(127i8, 0b10_10_10_10u8, 1), (-127, 0b10_10_10_10, -1), (127, 0, -1), (-127, 0, 1)]
        {
            let longest = k == 1 << 24;
            if longest && (code, sign) != (127, 1) {
                continue; // one case of 84 million codes is enough
            }
            let codes = Tensor::from_slice(&vec![code; m * k], &[m, k]).unwrap();
            let bytes = k.div_ceil(4);
            let mut weights = vec![weight; n * bytes];
            if k % 4 != 0 {
                // Past the last column stands code 1.
                let kept = (1u8 << (2 * (k % 4))) - 1;
                weights.iter_mut().skip(bytes - 1).step_by(bytes).for_each(|last| *last = weight & kept | 0x55 & !kept);
            }
            let packed = Tensor::from_slice(&weights, &[n, bytes]).unwrap();
            let (scales, one) = (Tensor::from_slice(&vec![1.0f32; m], &[m]).unwrap(), [1.0f32]);
            let weight_scale = Tensor::from_slice(&one, &[1]).unwrap();
            for row in rows().iter().filter(|row| !longest || !row.parallel) {
                let mut y = dirty(DType::F32, &[m, n]);
                (row.kernels.matmul_ternary)(
                    &row.launch,
                    &codes.view(),
                    &scales.view(),
                    &packed.view(),
                    &weight_scale.view(),
                    &mut y.view_mut(),
                )
                .unwrap();
                let expected = (sign * 127 * k as i64) as f32;
                assert!(y.host::<f32>().unwrap().iter().all(|&y| y == expected), "{}: k = {k}, code {code}", row.name);
            }
        }
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
        let epsilon = f64::from(f32::EPSILON);
        let tolerance = Tolerance { absolute: 2.0 * epsilon * n as f64, relative: 4.0 * epsilon };
        check(&format!("matmul_ternary_backward {m} x {n} x {k}"), tolerance, |row| {
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
