//! A packed weight matrix that has been checked once and is kept ready for products.

use super::packing::{Matrix, with_two_bit};
use super::report::{self, Report};
use super::{Group, Quantization, product, scheme};
use crate::backend::Context;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Packing, Result, View, ViewMut, vec_zeroed};
use std::sync::Arc;

pub struct PackedTensor {
    context: Arc<Context>,
    matrix: Matrix,
    packed: Vec<u8>,
    scale: f32,
}

impl PackedTensor {
    /// Quantizes w[n, k] f32, with one scale.
    pub fn new(context: Arc<Context>, w: &View, packing: Packing, how: &Quantization) -> Result<PackedTensor> {
        ensure!(how.group == Group::Matrix, Unsupported, "group is {:?}, expected that of the matrix", how.group);
        ensure!(w.dims().len() == 2, Shape, "w has shape {}, expected [n, k]", w.shape());
        let weights = w.slice::<f32>().map_err(|e| e.within("w"))?;
        let matrix = Matrix::new(w.dim(0), w.dim(1), packing)?;
        let mut packed = vec_zeroed(matrix.bytes())?;
        let mut scale = [0.0];
        let used = scheme::quantize(&context, &matrix, how, weights, &mut packed, &mut scale)?;
        packed.truncate(used);
        Ok(PackedTensor { context, matrix, packed, scale: scale[0] })
    }

    /// A matrix that was packed before. FORMAT for bytes that are no trits and for scales that are not finite.
    pub fn from_parts(
        context: Arc<Context>,
        matrix: Matrix,
        group: Group,
        packed: Vec<u8>,
        scales: Vec<f32>,
    ) -> Result<PackedTensor> {
        matrix.check_packed(&context, &packed)?;
        group.check_count(matrix.rows(), matrix.columns(), scales.len())?;
        if let Some(index) = scales.iter().position(|scale| !scale.is_finite()) {
            return Err(error!(Format, "scales[{index}] is {}, expected a finite number", scales[index]));
        }
        ensure!(group == Group::Matrix, Unsupported, "group is {group:?}, expected that of the matrix");
        Ok(PackedTensor { context, matrix, packed, scale: scales[0] })
    }

    /// What it is made of: the size, which weights share a scale, the packed bytes and the scales.
    pub fn parts(&self) -> (Matrix, Group, &[u8], &[f32]) {
        (self.matrix, Group::Matrix, &self.packed, std::slice::from_ref(&self.scale))
    }

    /// Copies the scales.
    pub fn scales(&self, scales: &mut [f32]) -> Result<()> {
        super::check_length("scales", scales.len(), 1)?;
        scales[0] = self.scale;
        Ok(())
    }

    /// The bytes of the trits.
    pub fn bytes(&self) -> usize {
        self.packed.len()
    }

    /// y[.., n] f32 = x[.., k] f32 * (scale * t[n, k])^T.
    pub fn matmul(&self, x: &View, y: &mut ViewMut) -> Result<()> {
        let (n, k) = (self.matrix.rows(), self.matrix.columns());
        let (columns, outer) = x.dims().split_last().unwrap_or((&1, &[]));
        ensure!(*columns == k, Shape, "x has {columns} columns, weight has {k}");
        let expected = [outer, &[n]].concat();
        ensure!(y.dims() == expected, Shape, "y has shape {}, expected {expected:?}", y.shape());
        let m = outer.iter().product();
        let x = x.slice::<f32>().map_err(|e| e.within("x"))?;
        let y = y.slice_mut::<f32>().map_err(|e| e.within("y"))?;
        with_two_bit(&self.context, &self.matrix, &self.packed, |two_bit| {
            product::matmul_two_bit(&self.context, &self.matrix, x, m, two_bit, self.scale, y)
        })
    }

    /// What packing w[n, k] f32 cost.
    pub fn measure(&self, w: &View) -> Result<Report> {
        let expected = [self.matrix.rows(), self.matrix.columns()];
        ensure!(w.dims() == expected, Shape, "w has shape {}, expected {expected:?}", w.shape());
        let weights = w.slice::<f32>().map_err(|e| e.within("w"))?;
        let (matrix, group, packed, scales) = self.parts();
        report::measure(&self.context, &matrix, group, weights, packed, scales)
    }

    /// w[n, k] f32 = scale * t.
    pub fn dequantize(&self, w: &mut ViewMut) -> Result<()> {
        let expected = [self.matrix.rows(), self.matrix.columns()];
        ensure!(w.dims() == expected, Shape, "w has shape {}, expected {expected:?}", w.shape());
        let weights = w.slice_mut::<f32>().map_err(|e| e.within("w"))?;
        scheme::dequantize(&self.context, &self.matrix, Group::Matrix, &self.packed, &[self.scale], weights)
    }
}
