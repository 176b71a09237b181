//! A packed weight matrix that has been checked once and is kept ready for products.

use super::packing::Matrix;
use super::product::{self, Weights};
use super::report::{self, Report};
use super::{Group, Quantization, scheme};
use crate::backend::Context;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Packing, Result, View, ViewMut, vec_zeroed};
use std::sync::Arc;

pub struct PackedTensor {
    context: Arc<Context>,
    matrix: Matrix,
    group: Group,
    packed: Vec<u8>,
    scales: Vec<f32>,
}

impl PackedTensor {
    /// Quantizes w[n, k] f32.
    pub fn new(context: Arc<Context>, w: &View, packing: Packing, how: &Quantization) -> Result<PackedTensor> {
        ensure!(w.dims().len() == 2, Shape, "w has shape {}, expected [n, k]", w.shape());
        let weights = w.slice::<f32>().map_err(|e| e.within("w"))?;
        let matrix = Matrix::new(w.dim(0), w.dim(1), packing)?;
        let mut packed = vec_zeroed(matrix.bytes())?;
        let mut scales = vec_zeroed(how.group.scale_count(matrix.rows(), matrix.columns()))?;
        let used = scheme::quantize(&context, &matrix, how, weights, &mut packed, &mut scales)?;
        packed.truncate(used);
        Ok(PackedTensor { context, matrix, group: how.group, packed, scales })
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
        Ok(PackedTensor { context, matrix, group, packed, scales })
    }

    /// What it is made of: the size, which weights share a scale, the packed bytes and the scales.
    pub fn parts(&self) -> (Matrix, Group, &[u8], &[f32]) {
        (self.matrix, self.group, &self.packed, &self.scales)
    }

    /// Copies the scales.
    pub fn scales(&self, scales: &mut [f32]) -> Result<()> {
        super::check_length("scales", scales.len(), self.scales.len())?;
        scales.copy_from_slice(&self.scales);
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
        let fits = y.dims().split_last().is_some_and(|(&last, others)| last == n && others == outer);
        ensure!(fits, Shape, "y has shape {}, expected {:?}", y.shape(), [outer, &[n]].concat());
        let m = outer.iter().product();
        let x = x.slice::<f32>().map_err(|e| e.within("x"))?;
        let y = y.slice_mut::<f32>().map_err(|e| e.within("y"))?;
        let weights = Weights { matrix: self.matrix, group: self.group, packed: &self.packed, scales: &self.scales };
        product::matmul_checked(&self.context, &weights, x, m, y)
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
        scheme::dequantize(&self.context, &self.matrix, self.group, &self.packed, &self.scales, weights)
    }
}
