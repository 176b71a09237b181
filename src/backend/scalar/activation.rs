//! Activations as int8 with one scale a row.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut};

/// The least absolute maximum of a row: a row of zeros quantizes to zeros.
pub const LEAST_ABSMAX: f64 = 1e-5;

pub fn quantize_activations(_: &Launch, x: &View, codes: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(x: &View, codes: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
        let (rows, columns) = (x.dim(0), x.dim(1));
        check("quantize_activations", rows, columns, codes.dims(), scales.count())?;
        let (x, codes, scales) = (x.slice::<T>()?, codes.slice_mut::<i8>()?, scales.slice_mut::<T>()?);
        for (row, scale) in scales.iter_mut().enumerate() {
            let x = &x[row * columns..][..columns];
            let a = x.iter().fold(T::of(LEAST_ABSMAX), |a, &v| a.max(v.abs()));
            let factor = T::of(127.0) / a;
            for (code, &v) in codes[row * columns..][..columns].iter_mut().zip(x) {
                *code = (v * factor).round_half_even().f64().clamp(-127.0, 127.0) as i8;
            }
            *scale = a / T::of(127.0);
        }
        Ok(())
    }
    by_float!(x, typed(x, codes, scales))
}

pub fn dequantize_activations(_: &Launch, codes: &View, scales: &View, x: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(codes: &View, scales: &View, x: &mut ViewMut) -> Result<()> {
        let (rows, columns) = (x.dim(0), x.dim(1));
        check("dequantize_activations", rows, columns, codes.dims(), scales.count())?;
        let (codes, scales, x) = (codes.slice::<i8>()?, scales.slice::<T>()?, x.slice_mut::<T>()?);
        for (i, (x, &code)) in x.iter_mut().zip(codes).enumerate() {
            *x = scales[i / columns] * T::of(f64::from(code));
        }
        Ok(())
    }
    by_float!(x, typed(codes, scales, x))
}

pub fn check(name: &str, rows: usize, columns: usize, codes: &[usize], scales: usize) -> Result<()> {
    ensure!(codes == [rows, columns], Shape, "{name}: x has shape [{rows}, {columns}], codes have {codes:?}");
    ensure!(scales == rows, Shape, "{name}: x has {rows} rows, scales has {scales} elements");
    Ok(())
}
