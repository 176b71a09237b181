//! Ternary weights: the absmean scheme, two bits a trit, five trits a byte.

use super::by_float;
use super::reduce::canonical_sum;
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
    by_float!(w, typed(w, threshold, scale))
}

pub fn ternarize(_: &Launch, w: &View, threshold: &View, packed: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(w: &View, threshold: &View, packed: &mut ViewMut) -> Result<()> {
        let (rows, columns) = (w.dim(0), w.dim(1));
        check_packed("ternarize", packed.dims(), rows, columns, 4)?;
        let (w, threshold) = (w.slice::<T>()?, threshold.slice::<T>()?);
        ensure!(threshold.len() == 1, Shape, "ternarize: threshold has {} elements, expected 1", threshold.len());
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
        let (rows, columns) = (w.dim(0), w.dim(1));
        check_packed("deternarize", packed.dims(), rows, columns, 4)?;
        let (packed, scale) = (packed.slice::<u8>()?, scale.slice::<T>()?);
        ensure!(scale.len() == 1, Shape, "deternarize: scale has {} elements, expected 1", scale.len());
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
