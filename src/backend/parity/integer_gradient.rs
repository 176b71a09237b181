//! Sums are of integers and each float is rounded once: all rows give the same bits.

use super::{EXACT, SIZES, check, dirty, integers, normal, rows};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Tensor};

fn shapes() -> impl Iterator<Item = [usize; 2]> {
    let odd = SIZES.into_iter().flat_map(|n| [0, 1, 3, 4, 6, 255, 256, 259].map(|m| [m, n]));
    odd.chain([[768, 128], [520, 384], [1030, 200]])
}

fn quantized(name: &str, g: &Tensor, factors: &Tensor) {
    let [m, n] = [g.dims()[0], g.dims()[1]];
    check(name, EXACT, |row| {
        let mut codes = dirty(DType::I8, &[m.div_ceil(256), n, 256]);
        let mut scales = dirty(DType::F32, &[m.div_ceil(256), n]);
        let stream = Stream::new(3, Purpose::Test, 2, 1);
        let (launch, to) = (&row.launch, &mut codes.view_mut());
        (row.kernels.quantize_columns)(launch, &g.view(), &factors.view(), stream, to, &mut scales.view_mut())?;
        Ok(vec![codes, scales])
    });
}

#[test]
fn quantize_columns() {
    for [m, n] in shapes() {
        quantized(&format!("quantize_columns [{m}, {n}]"), &normal(&[m, n], 31), &normal(&[m], 32));
    }
}

#[test]
fn quantize_columns_of_what_is_no_number_of_that_range() {
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-38, 1e-45, 0.0, -0.0] {
        for at in [0, 70, 300 * 130 - 1] {
            let mut g = normal(&[300, 130], 31);
            g.host_mut::<f32>().unwrap()[at] = special;
            quantized(&format!("quantize_columns with {special} at {at}"), &g, &normal(&[300], 32));
        }
        let all = Tensor::from_slice(&[special; 9 * 40], &[9, 40]).unwrap();
        quantized(&format!("quantize_columns of nothing but {special}"), &all, &normal(&[9], 32));
        let factors = Tensor::from_slice(&[special; 9], &[9]).unwrap();
        quantized(&format!("quantize_columns times {special}"), &normal(&[9, 40], 31), &factors);
    }
}

/// Codes of a gradient of n columns and m tokens, zeros past them.
fn gradient_codes(n: usize, m: usize, code: impl Fn(u64) -> i8) -> Tensor {
    let mut codes = integers(&[m.div_ceil(256), n, 256], 33, 65, code);
    let last = m.div_ceil(256).saturating_sub(1) * n;
    for row in codes.host_mut::<i8>().unwrap().chunks_mut(256).skip(last) {
        row[(m - 1) % 256 + 1..].fill(0);
    }
    codes
}

fn weight_gradient(m: usize, n: usize, k: usize, g: &Tensor, codes: &Tensor) {
    let scales = normal(&[m.div_ceil(256), n], 34);
    check(&format!("weight_gradient {m} x {n} x {k}"), EXACT, |row| {
        let mut dw = normal(&[n, k], 35);
        let (launch, to) = (&row.launch, &mut dw.view_mut());
        (row.kernels.weight_gradient)(launch, &g.view(), &scales.view(), &codes.view(), to)?;
        Ok(vec![dw])
    });
}

#[test]
fn every_tail_of_tokens_rows_and_columns() {
    for m in [0, 1, 2, 4, 5, 7, 8, 9, 255, 256, 257, 600] {
        for n in [0, 1, 3, 4, 5, 9, 48, 70] {
            for k in [0, 1, 8, 15, 16, 17, 32, 33, 63, 130] {
                let g = gradient_codes(n, m, |i| (i as i32 - 32) as i8);
                weight_gradient(m, n, k, &g, &integers(&[m, k], 36, 255, |i| (i as i32 - 127) as i8));
            }
        }
    }
    let [m, n, k] = [1030, 400, 300];
    let g = gradient_codes(n, m, |i| (i as i32 - 32) as i8);
    weight_gradient(m, n, k, &g, &integers(&[m, k], 36, 255, |i| (i as i32 - 127) as i8));
}

/// The largest sums there are: 16-bit numbers that are added once too often overflow.
#[test]
fn extreme_sums_are_exact() {
    for (g, code) in [(32, 127), (-32, 127), (32, -127), (-32, -127)] {
        for m in [4, 8, 12, 256, 515] {
            weight_gradient(m, 21, 40, &gradient_codes(21, m, |_| g), &integers(&[m, 40], 1, 2, |_| code));
        }
    }
}

fn packed(n: usize, k: usize) -> Tensor {
    let (w, threshold) = (normal(&[n, k], 12), Tensor::from_slice(&[0.5f32], &[1]).unwrap());
    let mut packed = dirty(DType::U8, &[n, k.div_ceil(4)]);
    let row = &rows()[0];
    (row.kernels.ternarize)(&row.launch, &w.view(), 0, &threshold.view(), &mut packed.view_mut()).unwrap();
    packed
}

fn transposed([m, n, k]: [usize; 3], accumulate: bool, codes: &Tensor, packed: &Tensor) {
    let (scales, scale) = (normal(&[m], 37), Tensor::from_slice(&[0.37f32], &[1]).unwrap());
    let name = format!("matmul_ternary_transposed {m} x {n} x {k}, accumulate {accumulate}");
    check(&name, EXACT, |row| {
        let mut dx = normal(&[m, k], 38);
        let (codes, scales, packed) = (codes.view(), scales.view(), packed.view());
        let (launch, to) = (&row.launch, &mut dx.view_mut());
        (row.kernels.matmul_ternary_transposed)(launch, &codes, &scales, &packed, &scale.view(), accumulate, to)?;
        Ok(vec![dx])
    });
}

#[test]
fn every_tail_of_rows_columns_and_depth() {
    for n in [0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 130, 257] {
        for k in [0, 1, 3, 4, 5, 15, 16, 17, 64, 65, 130] {
            for m in [0, 1, 2, 5, 7, 12, 13, 97] {
                let codes = integers(&[m, n], 39, 255, |i| (i as i32 - 127) as i8);
                transposed([m, n, k], m % 2 == 0, &codes, &packed(n, k));
            }
        }
    }
    for [m, n, k] in [[400, 1030, 150], [70, 9000, 33]] {
        let codes = integers(&[m, n], 39, 255, |i| (i as i32 - 127) as i8);
        transposed([m, n, k], true, &codes, &packed(n, k));
    }
}

#[test]
fn extreme_sums_of_the_transposed_product_are_exact() {
    for (code, byte) in [(127, 0xAA), (-127, 0xAA), (127, 0x00), (-127, 0x00)] {
        for n in [4, 256, 260, 4097] {
            let codes = integers(&[7, n], 1, 2, |_| code);
            transposed([7, n, 16], false, &codes, &Tensor::from_slice(&vec![byte; n * 4], &[n, 4]).unwrap());
        }
    }
}
