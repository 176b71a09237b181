//! How fast ternary operations and products run on one thread at the best level, and on two, printed:
//! `cargo test --release --lib -- --ignored --nocapture --test-threads 1 throughput`.

use super::throughput::{report, seconds};
use super::{dirty, integers, normal, rows};
use crate::tensor::{DType, Tensor};

#[test]
#[ignore = "prints speeds"]
fn throughput_of_ternary_weights() {
    for [n, k] in [[128, 512], [384, 1536], [2048, 2048]] {
        let elements = (n * k) as f64;
        let w = normal(&[n, k], 1);
        let name = |operation: &str| format!("{operation} [{n}, {k}]");
        let (mut threshold, mut scale) = (dirty(DType::F32, &[1]), dirty(DType::F32, &[1]));
        let mut packed = dirty(DType::U8, &[n, k / 4]);
        let scalar = &rows()[0];
        let (h, s) = (&mut threshold.view_mut(), &mut scale.view_mut());
        (scalar.kernels.absmean)(&scalar.launch, &w.view(), h, s).unwrap();
        (scalar.kernels.ternarize)(&scalar.launch, &w.view(), &h.as_view(), &mut packed.view_mut()).unwrap();
        report(&name("absmean"), elements, " elements", |row| {
            let (mut h, mut s) = (dirty(DType::F32, &[1]), dirty(DType::F32, &[1]));
            seconds(|| (row.kernels.absmean)(&row.launch, &w.view(), &mut h.view_mut(), &mut s.view_mut()))
        });
        report(&name("ternarize"), elements, " elements", |row| {
            let mut packed = dirty(DType::U8, &[n, k / 4]);
            seconds(|| (row.kernels.ternarize)(&row.launch, &w.view(), &h.as_view(), &mut packed.view_mut()))
        });
        report(&name("absmean + ternarize"), elements, " elements", |row| {
            let (mut h, mut s) = (dirty(DType::F32, &[1]), dirty(DType::F32, &[1]));
            let mut packed = dirty(DType::U8, &[n, k / 4]);
            seconds(|| {
                (row.kernels.absmean)(&row.launch, &w.view(), &mut h.view_mut(), &mut s.view_mut())?;
                (row.kernels.ternarize)(&row.launch, &w.view(), &h.view(), &mut packed.view_mut())
            })
        });
        report(&name("deternarize"), elements, " elements", |row| {
            let mut w = dirty(DType::F32, &[n, k]);
            seconds(|| (row.kernels.deternarize)(&row.launch, &packed.view(), &s.as_view(), &mut w.view_mut()))
        });
        let mut five = dirty(DType::U8, &[n, k.div_ceil(5)]);
        (scalar.kernels.pack_five)(&scalar.launch, &packed.view(), k, &mut five.view_mut()).unwrap();
        report(&name("pack_five"), elements, " elements", |row| {
            let mut five = dirty(DType::U8, &[n, k.div_ceil(5)]);
            seconds(|| (row.kernels.pack_five)(&row.launch, &packed.view(), k, &mut five.view_mut()))
        });
        report(&name("unpack_five"), elements, " elements", |row| {
            let mut packed = dirty(DType::U8, &[n, k / 4]);
            seconds(|| (row.kernels.unpack_five)(&row.launch, &five.view(), k, &mut packed.view_mut()))
        });
        report(&name("quantize_activations"), elements, " elements", |row| {
            let (mut codes, mut scales) = (dirty(DType::I8, &[n, k]), dirty(DType::F32, &[n]));
            let launch = &row.launch;
            seconds(|| {
                (row.kernels.quantize_activations)(launch, &w.view(), &mut codes.view_mut(), &mut scales.view_mut())
            })
        });
        report(&name("sum_squares"), elements, " elements", |row| {
            let mut sum = Tensor::zeros(DType::F64, &[1]).unwrap();
            seconds(|| (row.kernels.sum_squares)(&row.launch, &w.view(), &mut sum.view_mut()))
        });
        report(&name("first_non_finite"), elements, " elements", |row| {
            seconds(|| (row.kernels.first_non_finite)(&row.launch, &w.view()).map(|_| ()))
        });
    }
}

#[test]
#[ignore = "prints speeds"]
fn throughput_of_products() {
    let shapes = [
        [1, 2048, 2048],
        [2, 2048, 2048],
        [4, 2048, 2048],
        [5, 2048, 2048],
        [8, 2048, 2048],
        [32, 2048, 2048],
        [256, 2048, 2048],
        [256, 2048, 512],
        [768, 128, 128],
        [768, 512, 128],
        [768, 128, 512],
        [384, 384, 384],
        [384, 1536, 384],
        [1, 8192, 8192],
    ];
    for [m, n, k] in shapes {
        let operations = 2.0 * (m * n * k) as f64;
        let codes = integers(&[m, k], 1, 255, |i| (i as i32 - 127) as i8);
        let packed =
            integers(&[n, k / 4], 2, 81, |i| ((i % 3) | (i / 3 % 3) << 2 | (i / 9 % 3) << 4 | (i / 27) << 6) as u8);
        let (scales, one) = (normal(&[m], 3), Tensor::from_slice(&[1.0f32], &[1]).unwrap());
        report(&format!("matmul_ternary {m} x {n} x {k}"), operations, "OP", |row| {
            let mut y = dirty(DType::F32, &[m, n]);
            let (codes, scales, packed, one) = (codes.view(), scales.view(), packed.view(), one.view());
            let launch = &row.launch;
            seconds(|| (row.kernels.matmul_ternary)(launch, &codes, &scales, &packed, &one, &mut y.view_mut()))
        });
        let (x, w) = (normal(&[m, k], 4), normal(&[n, k], 5));
        report(&format!("matmul         {m} x {n} x {k}"), operations, "OP", |row| {
            let mut y = dirty(DType::F32, &[m, n]);
            let w = w.view().transpose();
            seconds(|| (row.kernels.matmul)(&row.launch, &x.view(), &w, false, &mut y.view_mut()))
        });
    }
    for [m, n, k] in [[768, 128, 512], [256, 2048, 2048]] {
        let operations = 2.0 * (m * n * k) as f64;
        let (dy, packed) = (normal(&[m, n], 1), integers(&[n, k / 4], 2, 3, |i| (i * 0x55) as u8));
        report(&format!("matmul_ternary_backward {m} x {n} x {k}"), operations, "OP", |row| {
            let (mut dx, one) = (dirty(DType::F32, &[m, k]), Tensor::from_slice(&[1.0f32], &[1]).unwrap());
            let launch = &row.launch;
            seconds(|| {
                (row.kernels.matmul_ternary_backward)(
                    launch,
                    &dy.view(),
                    &packed.view(),
                    &one.view(),
                    &mut dx.view_mut(),
                )
            })
        });
    }
    // Gradients of weights: dy transposed by x, k tokens.
    for [m, n, k] in [[128, 128, 768], [512, 128, 768], [384, 384, 16_384]] {
        let (dy, x) = (normal(&[k, m], 1), normal(&[k, n], 2));
        report(&format!("matmul, weight gradient {m} x {n} x {k}"), 2.0 * (m * n * k) as f64, "OP", |row| {
            let mut c = dirty(DType::F32, &[m, n]);
            let dy = dy.view().transpose();
            seconds(|| (row.kernels.matmul)(&row.launch, &dy, &x.view(), true, &mut c.view_mut()))
        });
    }
}
