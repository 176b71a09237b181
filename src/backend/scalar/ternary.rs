//! Ternary weights: the absmean scheme, two bits a trit, five trits a byte.

use super::by_float;
use super::reduce::{canonical_sum, check_single};
use crate::backend::Launch;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Float, Result, View, ViewMut};

/// The least scale: a tensor of zeros still has a threshold above zero (BitNet b1.58).
pub const LEAST_SCALE: f64 = 1e-5;

pub fn absmean(_: &Launch, w: &View, threshold: &mut ViewMut, scale: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(w: &View, threshold: &mut ViewMut, scale: &mut ViewMut) -> Result<()> {
        let w = w.slice::<T>()?;
        let gamma = T::of(canonical_sum(w, T::abs) / w.len().max(1) as f64);
        let gamma = gamma.max(T::of(LEAST_SCALE));
        scale.slice_mut::<T>()?.fill(gamma);
        threshold.slice_mut::<T>()?.fill(T::of(0.5) * gamma);
        Ok(())
    }
    check_single("absmean: threshold", threshold.count())?;
    check_single("absmean: scale", scale.count())?;
    by_float!(w, typed(w, threshold, scale))
}

pub fn ternarize(_: &Launch, w: &View, threshold: &View, packed: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(w: &View, threshold: &View, packed: &mut ViewMut) -> Result<()> {
        check_matrix("ternarize", w.dims())?;
        let (rows, columns) = (w.dim(0), w.dim(1));
        check_packed("ternarize", packed.dims(), rows, columns, 4)?;
        let (w, threshold) = (w.slice::<T>()?, threshold.slice::<T>()?);
        check_single("ternarize: threshold", threshold.len())?;
        let h = threshold[0];
        let packed = packed.slice_mut::<u8>()?;
        for (row, bytes) in rows_of(w, columns).zip(packed.chunks_mut(columns.div_ceil(4).max(1))) {
            for (four, byte) in row.chunks(4).zip(bytes) {
                *byte = (0..4).map(|i| four.get(i).map_or(1, |&w| code(w, h)) << (2 * i)).sum();
            }
        }
        Ok(())
    }
    by_float!(w, typed(w, threshold, packed))
}

/// t + 1 for the trit t = (w > h) - (w < -h).
fn code<T: Float>(w: T, h: T) -> u8 {
    1 + u8::from(w > h) - u8::from(w < -h)
}

pub fn deternarize(_: &Launch, packed: &View, scale: &View, w: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(packed: &View, scale: &View, w: &mut ViewMut) -> Result<()> {
        check_matrix("deternarize", w.dims())?;
        let (rows, columns) = (w.dim(0), w.dim(1));
        check_packed("deternarize", packed.dims(), rows, columns, 4)?;
        let (packed, scale) = (packed.slice::<u8>()?, scale.slice::<T>()?);
        check_single("deternarize: scale", scale.len())?;
        let bytes = columns.div_ceil(4);
        for (n, row) in w.slice_mut::<T>()?.chunks_mut(columns.max(1)).enumerate() {
            for (k, w) in row.iter_mut().enumerate() {
                *w = scale[0] * T::of(f64::from(trit(&packed[n * bytes..], k)));
            }
        }
        Ok(())
    }
    by_float!(w, typed(packed, scale, w))
}

/// Trit k of a row packed two bits each.
pub fn trit(row: &[u8], k: usize) -> i32 {
    i32::from(row[k / 4] >> (2 * (k % 4)) & 3) - 1
}

pub fn pack_five(_: &Launch, packed: &View, columns: usize, five: &mut ViewMut) -> Result<()> {
    let rows = packed.dim(0);
    check_packed("pack_five", packed.dims(), rows, columns, 4)?;
    check_packed("pack_five", five.dims(), rows, columns, 5)?;
    let (packed, five) = (packed.slice::<u8>()?, five.slice_mut::<u8>()?);
    // Checked first, so that a corrupt input leaves the output as it was.
    for (i, &byte) in packed.iter().enumerate() {
        ensure!(
            byte & (byte >> 1) & 0x55 == 0,
            Format,
            "byte {i} of the packed trits is {byte:#04x}, which holds the code 3"
        );
    }
    let (from, to) = (columns.div_ceil(4), columns.div_ceil(5));
    for (row, bytes) in packed.chunks(from.max(1)).zip(five.chunks_mut(to.max(1))) {
        for (j, byte) in bytes.iter_mut().enumerate() {
            // Horner from the last trit: byte = t0 + 3 t1 + 9 t2 + 27 t3 + 81 t4, digits t + 1.
            *byte = (0..5).rev().fold(0, |sum, i| {
                let k = 5 * j + i;
                let digit = if k < columns { (trit(row, k) + 1) as u8 } else { 1 };
                3 * sum + digit
            });
        }
    }
    Ok(())
}

pub fn unpack_five(_: &Launch, five: &View, columns: usize, packed: &mut ViewMut) -> Result<()> {
    let rows = five.dim(0);
    check_packed("unpack_five", five.dims(), rows, columns, 5)?;
    check_packed("unpack_five", packed.dims(), rows, columns, 4)?;
    let (five, packed) = (five.slice::<u8>()?, packed.slice_mut::<u8>()?);
    let (from, to) = (columns.div_ceil(5), columns.div_ceil(4));
    for (i, &byte) in five.iter().enumerate() {
        check_five(i, byte, columns - (i % from * 5).min(columns))?;
    }
    for (bytes, row) in five.chunks(from.max(1)).zip(packed.chunks_mut(to.max(1))) {
        for (j, byte) in row.iter_mut().enumerate() {
            *byte = (0..4).map(|i| digit(bytes, 4 * j + i, columns) << (2 * i)).sum();
        }
    }
    Ok(())
}

/// Digit t + 1 of column k of a row of five trits a byte; 1 past the last column.
fn digit(row: &[u8], k: usize, columns: usize) -> u8 {
    if k < columns { row[k / 5] / [1, 3, 9, 27, 81][k % 5] % 3 } else { 1 }
}

/// Refuses bytes that no five trits make, and digits other than 1 past the `left` columns that the byte still holds.
pub fn check_five(index: usize, byte: u8, left: usize) -> Result<()> {
    ensure!(byte < 243, Format, "byte {index} of the packed trits is {byte}, but five trits make at most 242");
    let padding_is_zero = (left.min(5)..5).all(|i| byte / [1, 3, 9, 27, 81][i] % 3 == 1);
    if padding_is_zero {
        Ok(())
    } else {
        Err(error!(Format, "byte {index} of the packed trits is {byte}, with a trit past the last column"))
    }
}

/// Weights are w[n, k].
fn check_matrix(name: &str, w: &[usize]) -> Result<()> {
    ensure!(w.len() == 2, Shape, "{name}: w has shape {w:?}, expected two dimensions");
    Ok(())
}

/// `dims` is [rows, ceil(columns / per_byte)].
pub fn check_packed(name: &str, dims: &[usize], rows: usize, columns: usize, per_byte: usize) -> Result<()> {
    let expected = [rows, columns.div_ceil(per_byte)];
    ensure!(dims == expected, Shape, "{name}: packed bytes have shape {dims:?}, expected {expected:?}");
    Ok(())
}

/// The rows of a matrix; none when it has no columns.
fn rows_of<T>(x: &[T], columns: usize) -> std::slice::Chunks<'_, T> {
    x.chunks(columns.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    fn absmean<T: Float>(w: &[T]) -> (T, T) {
        let (mut threshold, mut scale) = ([T::ZERO], [T::ZERO]);
        let (mut threshold_view, mut scale_view) = (view_mut(&mut threshold, &[1]), view_mut(&mut scale, &[1]));
        (KERNELS.absmean)(&launch(), &view(w, &[w.len()]), &mut threshold_view, &mut scale_view).unwrap();
        (threshold[0], scale[0])
    }

    fn ternarize<T: Float>(w: &[T], [n, k]: [usize; 2], threshold: T) -> Vec<u8> {
        let mut packed = vec![0xAA; n * k.div_ceil(4)];
        let mut packed_view = view_mut(&mut packed, &[n, k.div_ceil(4)]);
        (KERNELS.ternarize)(&launch(), &view(w, &[n, k]), &view(&[threshold], &[1]), &mut packed_view).unwrap();
        packed
    }

    fn pack_five(packed: &[u8], [n, k]: [usize; 2], five: &mut [u8]) -> Result<()> {
        let (packed, mut five) = (view(packed, &[n, k.div_ceil(4)]), view_mut(five, &[n, k.div_ceil(5)]));
        (KERNELS.pack_five)(&launch(), &packed, k, &mut five)
    }

    fn unpack_five(five: &[u8], [n, k]: [usize; 2], packed: &mut [u8]) -> Result<()> {
        let (five, mut packed) = (view(five, &[n, k.div_ceil(5)]), view_mut(packed, &[n, k.div_ceil(4)]));
        (KERNELS.unpack_five)(&launch(), &five, k, &mut packed)
    }

    /// Rows of trits as bytes of `per_byte` digits t + 1 in this base, by the sum in the contract.
    fn pack(trits: &[i32], [n, k]: [usize; 2], per_byte: usize, base: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for row in 0..n {
            for j in 0..k.div_ceil(per_byte) {
                let digit = |i: usize| {
                    let column = j * per_byte + i;
                    (if column < k { trits[row * k + column] + 1 } else { 1 }) * base.pow(i as u32)
                };
                bytes.push((0..per_byte).map(digit).sum::<i32>() as u8);
            }
        }
        bytes
    }

    fn trits(tensor: u32, count: usize) -> Vec<i32> {
        integers(tensor, count, 3).into_iter().map(|digit| digit as i32 - 1).collect()
    }

    #[test]
    fn absmean_of_known_weights() {
        assert_eq!(absmean(&[1.0f32, -2.0, 3.0, 0.0]), (0.75, 1.5));
        assert_eq!(absmean(&[1.0f64, -2.0, 3.0, 0.0]), (0.75, 1.5));
        assert_eq!(absmean(&[0.0f32; 7]), (0.5e-5, 1e-5));
        assert_eq!(absmean(&[1e-6f32; 7]), (0.5e-5, 1e-5));
        assert_eq!(absmean::<f32>(&[]), (0.5e-5, 1e-5));
    }

    #[test]
    fn absmean_rests_on_the_canonical_sum() {
        for n in CANONICAL_SIZES.into_iter().filter(|&n| n > 0) {
            let w = of::<f32>(&numbers(7, n));
            let absolute: Vec<f32> = w.iter().map(|w| w.abs()).collect();
            let gamma = (canonical(&absolute) / n as f64) as f32;
            assert_eq!(absmean(&w), (gamma / 2.0, gamma), "{n} weights");
        }
    }

    #[test]
    fn trits_are_the_rounded_quotient_of_the_paper() {
        let w = of::<f32>(&numbers(8, 3 * 1001));
        let (threshold, scale) = absmean(&w);
        let expected: Vec<i32> =
            w.iter().map(|&w| (f64::from(w) / f64::from(scale)).round_ties_even().clamp(-1.0, 1.0) as i32).collect();
        for t in [-1, 0, 1] {
            assert!(expected.iter().filter(|&&e| e == t).count() > 500);
        }
        assert_eq!(ternarize(&w, [3, 1001], threshold), pack(&expected, [3, 1001], 4, 4));
    }

    #[test]
    fn the_threshold_itself_is_zero() {
        let h = 0.3f32;
        let w = [h, -h, h.next_up(), -h.next_up(), h.next_down(), f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
        assert_eq!(ternarize(&w, [1, 9], h), pack(&[0, 0, 1, -1, 0, 0, 1, -1, 0], [1, 9], 4, 4));
    }

    #[test]
    fn the_bytes_are_as_the_contract_draws_them() {
        // 0 + (1 << 2) + (2 << 4) + (2 << 6), then one trit and three positions past the end.
        assert_eq!(ternarize(&[-9.0f32, 0.0, 9.0, 9.0, -9.0], [1, 5], 1.0), [164, 0b0101_0100]);
        let five = |trits: &[i32]| {
            let mut five = [0];
            pack_five(&pack(trits, [1, trits.len()], 4, 4), [1, trits.len()], &mut five).unwrap();
            five[0]
        };
        assert_eq!(five(&[-1; 5]), 0);
        assert_eq!(five(&[0; 5]), 121);
        assert_eq!(five(&[1; 5]), 242);
        assert_eq!(five(&[1, -1, 0, -1, -1]), 2 + 9);
        assert_eq!(five(&[-1, 1]), 6 + 9 + 27 + 81);
    }

    #[test]
    fn deternarized_weights_are_scale_times_trit() {
        fn check<T: Float>() {
            for k in 0..=9 {
                let t = trits(9, 3 * k);
                let mut w = of::<T>(&vec![7.0; 3 * k]);
                let packed = pack(&t, [3, k], 4, 4);
                let (packed, scale) = (view(&packed, &[3, k.div_ceil(4)]), [T::of(0.3)]);
                (KERNELS.deternarize)(&launch(), &packed, &view(&scale, &[1]), &mut view_mut(&mut w, &[3, k])).unwrap();
                let expected: Vec<f64> = t.iter().map(|&t| f64::from(t) * scale[0].f64()).collect();
                assert_eq!(to_f64(&w), expected, "{k} columns");
                assert_eq!(ternarize(&w, [3, k], T::of(0.15)), pack(&t, [3, k], 4, 4), "{k} columns");
            }
        }
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn five_trits_a_byte_and_back() {
        for n in [0, 1, 3] {
            for k in 0..=41 {
                let t = trits(10, n * k);
                let (packed, mut five) = (pack(&t, [n, k], 4, 4), vec![0xEE; n * k.div_ceil(5)]);
                pack_five(&packed, [n, k], &mut five).unwrap();
                assert_eq!(five, pack(&t, [n, k], 5, 3), "{k} columns");
                let mut back = vec![0xEE; packed.len()];
                unpack_five(&five, [n, k], &mut back).unwrap();
                assert_eq!(back, packed, "{k} columns");
            }
        }
    }

    #[test]
    fn bytes_that_no_five_trits_make_are_refused_by_name() {
        for byte in 0..=255u8 {
            let mut packed = [0xEE; 6];
            let result = unpack_five(&[121, 0, 242, byte], [2, 10], &mut packed);
            if byte < 243 {
                result.unwrap();
                continue;
            }
            let error = result.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Format);
            assert!(error.message.contains("byte 3") && error.message.contains(&byte.to_string()), "{error}");
            assert_eq!(packed, [0xEE; 6], "a refused input leaves the output as it was");
        }
    }

    #[test]
    fn digits_past_the_last_column_must_be_one() {
        for used in 1..5usize {
            for byte in 0..243u8 {
                let digits: Vec<u8> = (0..5).map(|i| byte / 3u8.pow(i) % 3).collect();
                // Two rows of 5 + used columns; the second row's last byte is the one under test.
                let mut packed = vec![0xEE; 2 * (5 + used).div_ceil(4)];
                let result = unpack_five(&[242, 121, 0, byte], [2, 5 + used], &mut packed);
                if digits[used..].iter().all(|&digit| digit == 1) {
                    result.unwrap();
                } else {
                    let error = result.unwrap_err();
                    assert_eq!(error.kind, ErrorKind::Format);
                    assert!(error.message.contains("byte 3"), "{error}");
                }
            }
        }
    }

    #[test]
    fn the_code_three_is_refused_by_name() {
        for position in 0..4 {
            // The last two positions of the last byte lie past the sixth column: no trit stands there, but no 3 may either.
            let corrupt = 0b0101_0101 | 3 << (2 * position);
            let mut five = [0xEE; 4];
            let error = pack_five(&[0x55, 0x55, 0x55, corrupt], [2, 6], &mut five).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Format);
            assert!(error.message.contains("byte 3"), "{error}");
            assert_eq!(five, [0xEE; 4], "a refused input leaves the output as it was");
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let call = |w: &[usize], h: usize, packed: &[usize]| {
            let (w, h, mut packed) = (zeros::<f32>(w), zeros::<f32>(&[h]), zeros::<u8>(packed));
            let there = kind((KERNELS.ternarize)(&launch(), &w.view(), &h.view(), &mut packed.view_mut()));
            let mut w = w;
            let back = kind((KERNELS.deternarize)(&launch(), &packed.view(), &h.view(), &mut w.view_mut()));
            assert_eq!((there, back), (ErrorKind::Shape, ErrorKind::Shape));
        };
        call(&[2, 5], 1, &[2, 1]);
        call(&[2, 5], 1, &[1, 2]);
        call(&[2, 5], 2, &[2, 2]);
        call(&[2, 5, 3], 1, &[2, 2]);
        let (w, mut one, mut two) = (zeros::<f32>(&[3]), zeros::<f32>(&[1]), zeros::<f32>(&[2]));
        let (one, two) = (&mut one.view_mut(), &mut two.view_mut());
        assert_eq!(kind((KERNELS.absmean)(&launch(), &w.view(), one, two)), ErrorKind::Shape);
        assert_eq!(kind((KERNELS.absmean)(&launch(), &w.view(), two, one)), ErrorKind::Shape);
        let (four, mut five) = (zeros::<u8>(&[2, 3]), zeros::<u8>(&[2, 2]));
        for columns in [8, 11, 13] {
            let result = (KERNELS.pack_five)(&launch(), &four.view(), columns, &mut five.view_mut());
            assert_eq!(kind(result), ErrorKind::Shape, "{columns} columns");
        }
    }

    #[test]
    fn other_types_are_refused() {
        refuses_other_types("absmean", [zeros::<f32>(&[4]), zeros::<f32>(&[1]), zeros::<f32>(&[1])], |[w, h, s]| {
            (KERNELS.absmean)(&launch(), &w.view(), &mut h.view_mut(), &mut s.view_mut())
        });
        let tensors = || [zeros::<f32>(&[2, 5]), zeros::<f32>(&[1]), zeros::<u8>(&[2, 2])];
        refuses_other_types("ternarize", tensors(), |[w, h, packed]| {
            (KERNELS.ternarize)(&launch(), &w.view(), &h.view(), &mut packed.view_mut())
        });
        refuses_other_types("deternarize", tensors(), |[w, scale, packed]| {
            (KERNELS.deternarize)(&launch(), &packed.view(), &scale.view(), &mut w.view_mut())
        });
        let tensors = || [zeros::<u8>(&[2, 2]), zeros::<u8>(&[2, 1])];
        refuses_other_types("pack_five", tensors(), |[packed, five]| {
            (KERNELS.pack_five)(&launch(), &packed.view(), 5, &mut five.view_mut())
        });
        refuses_other_types("unpack_five", tensors(), |[packed, five]| {
            (KERNELS.unpack_five)(&launch(), &five.view(), 5, &mut packed.view_mut())
        });
    }
}
