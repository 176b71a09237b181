//! One linear layer, y = x W^T. The ternary layer multiplies int8 activations by trits; its f32 twin multiplies floats.
//!
//! The gradients are straight-through (Bengio et al., arXiv 1308.3432): both quantizers count as the identity and their
//! scales as constants, so dx = dy W_t with the ternary weights, and dW = dy^T x_q with the quantized input.

use super::transformer::Pass;
use super::{ModelOptions, Parameter};
use crate::backend::{Context, TOKENS, codes};
use crate::quantize::{Group, Matrix, dequantize};
use crate::tensor::random::Purpose;
use crate::tensor::{DType, Packing, Result, Shape, Tensor, View, ViewMut};
use serde::Serialize;

/// The form in which a ternary layer runs.
pub struct Ternary {
    /// [rows, ceil(columns / 4)] u8, two bits a trit.
    pub packed: Tensor,
    /// [1] float.
    pub scale: Tensor,
}

pub struct Linear {
    pub name: String,
    pub rows: usize,
    pub columns: usize,
    /// Index of the float weights among the model's parameters; None in a model that was loaded packed.
    pub master: Option<usize>,
    /// None in the f32 twin.
    pub ternary: Option<Ternary>,
}

impl Linear {
    /// A layer over the float parameter at `index`; `refresh` must follow.
    pub fn trainable(context: &Context, parameter: &Parameter, index: usize, options: &ModelOptions) -> Result<Linear> {
        let (rows, columns) = (parameter.tensor.dims()[0], parameter.tensor.dims()[1]);
        let dtype = parameter.tensor.dtype();
        let ternary = if options.quantize_weights {
            Some(Ternary {
                packed: context.zeros(DType::U8, &[rows, columns.div_ceil(4)])?,
                scale: context.zeros(dtype, &[1])?,
            })
        } else {
            None
        };
        Ok(Linear { name: parameter.name.clone(), rows, columns, master: Some(index), ternary })
    }

    /// A layer that only runs: trits packed two bits each, [rows, ceil(columns / 4)], and their scale [1].
    pub fn packed(context: &Context, name: String, columns: usize, packed: Tensor, scale: Tensor) -> Result<Linear> {
        let rows = packed.dims()[0];
        let (packed, scale) = (context.place(packed)?, context.place(scale)?);
        let ternary = Some(Ternary { packed, scale });
        Ok(Linear { name, rows, columns, master: None, ternary })
    }

    /// The weights that it multiplies by, [rows, columns] f32 on the host: scale * t. None in the f32 twin.
    pub fn effective(&self, context: &Context) -> Result<Option<Tensor>> {
        let Some(ternary) = &self.ternary else { return Ok(None) };
        let matrix = Matrix::new(self.rows, self.columns, Packing::TwoBit)?;
        let scale = ternary.scale.read::<f32>()?;
        let mut values = Tensor::zeros(DType::F32, &[self.rows, self.columns])?;
        dequantize(context, &matrix, Group::Matrix, &ternary.packed.read()?, &scale, values.host_mut()?)?;
        Ok(Some(values))
    }

    /// Quantizes the float weights anew: after every change to them. `decoded` has room for them where they are codes; `thresholds`
    /// has one for each parameter. `share` is `weight_threshold` of the options.
    pub fn refresh(
        &mut self,
        context: &Context,
        parameters: &[Parameter],
        decoded: &mut Tensor,
        thresholds: &mut Tensor,
        share: f64,
    ) -> Result<()> {
        let (Some(master), Some(ternary)) = (self.master, &mut self.ternary) else { return Ok(()) };
        let (launch, kernels) = (context.launch(), context.kernels());
        let Parameter { tensor, scales, .. } = &parameters[master];
        let w = match tensor.dtype() {
            DType::I8 => {
                codes::decode_into(context, tensor, scales, &mut front(decoded, tensor.dims())?)?;
                front_of(decoded, tensor.dims())?
            }
            _ => tensor.view(),
        };
        let threshold = &mut thresholds.view_mut().narrow(master, 1)?;
        (kernels.absmean)(launch, &w, 0, threshold, &mut ternary.scale.view_mut())?;
        // The scheme's is half of the scale.
        if share != 0.5 {
            match threshold.dtype() {
                DType::F64 => threshold.slice_mut::<f64>()?[0] = share * ternary.scale.host::<f64>()?[0],
                _ => (kernels.scale)(launch, share as f32, &ternary.scale.view(), threshold)?,
            }
        }
        (kernels.ternarize)(launch, &w, 0, &threshold.as_view(), &mut ternary.packed.view_mut())
    }

    /// y[m, rows] = x W^T, and what is to be added to it.
    pub fn forward(&self, pass: &Pass, x: &Input, base: Option<&View>, y: &mut ViewMut) -> Result<()> {
        pass.check()?;
        let (launch, kernels) = (pass.context.launch(), pass.context.kernels());
        match (&self.ternary, x, self.master) {
            (Some(ternary), Input::Codes { codes, scales }, _) => (kernels.matmul_ternary)(
                launch,
                &codes.view(),
                &scales.view(),
                Packing::TwoBit,
                &ternary.packed.view(),
                0,
                &ternary.scale.view(),
                base,
                y,
            ),
            (None, Input::Values(x), Some(master)) => {
                (kernels.matmul)(launch, &x.view(), &pass.parameters[master].tensor.view().transpose(), false, y)?;
                base.map_or(Ok(()), |base| (kernels.add)(launch, base, y))
            }
            _ => unreachable!("the layers and inputs of one model are all ternary or all float"),
        }
    }

    /// From the gradient dy[m, rows] of the output: dW[rows, columns] += dy^T x for the input x, and dx[m, columns] = dy W, or +=
    /// when `accumulate`.
    pub fn backward(
        &self,
        pass: &Pass,
        dy: &View,
        x: &Input,
        work: &mut LinearBackward,
        (accumulate, dx): (bool, &mut ViewMut),
        gradients: &mut [Tensor],
    ) -> Result<()> {
        let Some(master) = self.master else { unreachable!("a model without float weights has no gradients") };
        let dw = &mut gradients[master].view_mut();
        let (launch, kernels) = (pass.context.launch(), pass.context.kernels());
        pass.check()?;
        match (x, &mut work.columns) {
            (Input::Codes { codes, scales }, Some(columns)) => {
                let (g, of_columns) = columns.quantize(pass, dy, scales, master)?;
                (kernels.weight_gradient)(launch, &g, &of_columns, &codes.view(), dw)?;
            }
            _ => (kernels.matmul)(launch, &dy.transpose(), &x.values(pass.context, &mut work.floats)?, true, dw)?,
        }
        pass.check()?;
        match (&self.ternary, &mut work.rows) {
            (Some(ternary), Some(rows)) => {
                let (codes, scales) = rows.quantize(pass, dy)?;
                let (packed, scale) = (ternary.packed.view(), ternary.scale.view());
                (kernels.matmul_ternary_transposed)(launch, &codes, &scales, &packed, &scale, accumulate, dx)
            }
            (Some(ternary), None) => {
                let (packed, scale) = (ternary.packed.view(), ternary.scale.view());
                (kernels.matmul_ternary_backward)(launch, dy, Packing::TwoBit, &packed, 0, &scale, accumulate, dx)
            }
            (None, _) => (kernels.matmul)(launch, dy, &pass.parameters[master].tensor.view(), accumulate, dx),
        }
    }
}

/// In which numbers a gradient of a ternary layer is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    /// 8-bit codes of the gradient of the output, and integer sums.
    Int8,
    F32,
}

/// The same for both gradients. Layers of the f32 twin know only floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GradientProducts {
    pub input: Products,
    pub weight: Products,
}

impl GradientProducts {
    #[cfg(test)]
    pub const INT8: GradientProducts = GradientProducts { input: Products::Int8, weight: Products::Int8 };
    #[cfg(test)]
    pub const F32: GradientProducts = GradientProducts { input: Products::F32, weight: Products::F32 };
}

/// What the backward passes of all linear layers work in.
pub struct LinearBackward {
    rows: Option<RowCodes>,
    columns: Option<ColumnCodes>,
    /// Room for the widest input as floats; empty where nothing is multiplied as floats.
    floats: Tensor,
}

impl LinearBackward {
    /// For m tokens, and layers of at most so many rows and columns.
    pub fn new(
        context: &Context,
        options: &ModelOptions,
        dtype: DType,
        products: GradientProducts,
        m: usize,
        [rows, columns]: [usize; 2],
    ) -> Result<LinearBackward> {
        let ternary = options.quantize_weights;
        let of_rows = ternary && products.input == Products::Int8;
        let of_columns = ternary && products.weight == Products::Int8;
        let floats = if ternary && !of_columns { Shape::new(&[m, columns])?.count() } else { 0 };
        Ok(LinearBackward {
            rows: if of_rows { Some(RowCodes::new(context, dtype, m, rows)?) } else { None },
            columns: if of_columns { Some(ColumnCodes::new(context, dtype, m, rows)?) } else { None },
            floats: context.zeros(dtype, &[floats])?,
        })
    }
}

/// The least absolute maximum of a row of gradients, which are far smaller than activations: its inverse is no infinity.
const LEAST_GRADIENT: f64 = 1e-30;

/// A gradient [m, n] in 8 bits, one scale a row.
struct RowCodes {
    codes: Tensor,
    scales: Tensor,
}

impl RowCodes {
    fn new(context: &Context, dtype: DType, m: usize, n: usize) -> Result<RowCodes> {
        let codes = context.zeros(DType::I8, &[Shape::new(&[m, n])?.count()])?;
        Ok(RowCodes { codes, scales: context.zeros(dtype, &[m])? })
    }

    fn quantize(&mut self, pass: &Pass, dy: &View) -> Result<(View<'_>, View<'_>)> {
        let dims = [dy.dim(0), dy.dim(1)];
        let codes = &mut front(&mut self.codes, &dims)?;
        let quantize = pass.context.kernels().quantize_activations;
        quantize(pass.context.launch(), dy, LEAST_GRADIENT, codes, &mut self.scales.view_mut())?;
        Ok((front_of(&self.codes, &dims)?, self.scales.view()))
    }
}

/// A gradient [m, n] times the scales of an input, in 8 bits, column by column: see `Kernels::quantize_columns`.
struct ColumnCodes {
    codes: Tensor,
    scales: Tensor,
}

impl ColumnCodes {
    fn new(context: &Context, dtype: DType, m: usize, n: usize) -> Result<ColumnCodes> {
        let (codes, scales) = (Shape::new(&ColumnCodes::codes(m, n))?, Shape::new(&ColumnCodes::scales(m, n))?);
        let codes = context.zeros(DType::I8, &[codes.count()])?;
        Ok(ColumnCodes { codes, scales: context.zeros(dtype, &[scales.count()])? })
    }

    fn codes(m: usize, n: usize) -> [usize; 3] {
        [m.div_ceil(TOKENS), n, TOKENS]
    }

    fn scales(m: usize, n: usize) -> [usize; 2] {
        [m.div_ceil(TOKENS), n]
    }

    /// `number` is that of the layer's parameter.
    fn quantize(&mut self, pass: &Pass, dy: &View, of_input: &Tensor, number: usize) -> Result<(View<'_>, View<'_>)> {
        let (m, n) = (dy.dim(0), dy.dim(1));
        let (of_codes, of_scales) = (ColumnCodes::codes(m, n), ColumnCodes::scales(m, n));
        let (codes, scales) = (&mut front(&mut self.codes, &of_codes)?, &mut front(&mut self.scales, &of_scales)?);
        let stream = pass.draw.stream(Purpose::OutputGradient, number);
        let quantize = pass.context.kernels().quantize_columns;
        quantize(pass.context.launch(), dy, &of_input.view(), stream, codes, scales)?;
        Ok((front_of(&self.codes, &of_codes)?, front_of(&self.scales, &of_scales)?))
    }
}

/// The input of one or several linear layers, in the form that forward and backward share.
pub enum Input {
    /// codes[m, k] i8 and scales[m]: the ternary model's.
    Codes { codes: Tensor, scales: Tensor },
    /// values[m, k]: the f32 twin's.
    Values(Tensor),
}

impl Input {
    pub fn new(context: &Context, options: &ModelOptions, dtype: DType, [m, k]: [usize; 2]) -> Result<Input> {
        Ok(if options.quantize_weights {
            Input::Codes { codes: context.zeros(DType::I8, &[m, k])?, scales: context.zeros(dtype, &[m])? }
        } else {
            Input::Values(context.zeros(dtype, &[m, k])?)
        })
    }

    /// Stores norm(x) * gain, quantized where the model is.
    pub fn store_norm(&mut self, context: &Context, norm: Norm, inverse_rms: &mut Tensor) -> Result<()> {
        let (launch, kernels) = (context.launch(), context.kernels());
        let inverse_rms = &mut inverse_rms.view_mut();
        match self {
            Input::Values(values) => {
                (kernels.rms_norm)(launch, &norm.x, &norm.gain, norm.epsilon, &mut values.view_mut(), inverse_rms)
            }
            Input::Codes { codes, scales } => {
                let (codes, scales) = (&mut codes.view_mut(), &mut scales.view_mut());
                let fused = kernels.rms_norm_quantize;
                fused(launch, &norm.x, &norm.gain, norm.epsilon, codes, scales, inverse_rms)
            }
        }
    }

    /// The input as floats [m, k], which the weight gradient multiplies; `scratch` has room for them.
    pub fn values<'a>(&'a self, context: &Context, scratch: &'a mut Tensor) -> Result<View<'a>> {
        match self {
            Input::Values(values) => Ok(values.view()),
            Input::Codes { codes, scales } => {
                let dims = [codes.dims()[0], codes.dims()[1]];
                let mut values = front(scratch, &dims)?;
                let dequantize = context.kernels().dequantize_activations;
                dequantize(context.launch(), &codes.view(), &scales.view(), &mut values)?;
                front_of(scratch, &dims)
            }
        }
    }
}

/// What `Input::store_norm` normalises.
pub struct Norm<'a> {
    pub x: View<'a>,
    pub gain: View<'a>,
    pub epsilon: f64,
}

/// The first elements of a one-dimensional scratch tensor, under the given shape.
pub fn front<'a>(scratch: &'a mut Tensor, dims: &[usize]) -> Result<ViewMut<'a>> {
    scratch.view_mut().narrow(0, dims.iter().product())?.reshape(dims)
}

fn front_of<'a>(scratch: &'a Tensor, dims: &[usize]) -> Result<View<'a>> {
    scratch.view().narrow(0, dims.iter().product())?.reshape(dims)
}
