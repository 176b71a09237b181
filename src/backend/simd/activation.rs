//! Activations as int8 with one scale a row: `scalar/activation.rs` for the vector units.

use super::chunks::{self, Shared};
use crate::backend::Launch;
use crate::backend::scalar::activation::check;
use crate::tensor::{Result, View, ViewMut};

pub fn quantize_activations(
    launch: &Launch,
    x: &View,
    least: f64,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    let (rows, columns) = (x.dim(0), x.dim(1));
    check("quantize_activations", rows, columns, codes.dims(), scales.count())?;
    let x = x.slice::<f32>()?;
    let (codes, scales) = (Shared::new(codes.slice_mut::<i8>()?), Shared::new(scales.slice_mut::<f32>()?));
    chunks::run(launch, rows, chunks::rows(rows, columns), |range| {
        for row in range {
            let elements = row * columns..(row + 1) * columns;
            // SAFETY: different rows are disjoint.
            let (codes, scale) = unsafe { (codes.part(elements.clone()), scales.part(row..row + 1)) };
            let (x, codes) = (x[elements].as_ptr(), codes.as_mut_ptr());
            // SAFETY: x[columns] and codes[columns].
            let absmax = unsafe { (launch.spans.quantize_activations)(x, columns, least as f32, codes) };
            scale[0] = absmax / 127.0;
        }
    });
    Ok(())
}

pub fn dequantize_activations(launch: &Launch, codes: &View, scales: &View, x: &mut ViewMut) -> Result<()> {
    let (rows, columns) = (x.dim(0), x.dim(1));
    check("dequantize_activations", rows, columns, codes.dims(), scales.count())?;
    let (codes, scales) = (codes.slice::<i8>()?, scales.slice::<f32>()?);
    let x = Shared::new(x.slice_mut::<f32>()?);
    chunks::run(launch, rows, chunks::rows(rows, columns), |range| {
        for row in range {
            let elements = row * columns..(row + 1) * columns;
            // SAFETY: different rows are disjoint.
            let x = unsafe { x.part(elements.clone()) };
            // SAFETY: codes[columns] and x[columns].
            unsafe {
                (launch.spans.dequantize_activations)(codes[elements].as_ptr(), columns, scales[row], x.as_mut_ptr());
            }
        }
    });
    Ok(())
}
