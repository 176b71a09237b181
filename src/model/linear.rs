//! One linear layer, y = x W^T. The ternary layer multiplies int8 activations by trits; its f32 twin multiplies floats.
//!
//! The gradients are straight-through (Bengio et al., arXiv 1308.3432): both quantizers count as the identity and their
//! scales as constants, so dx = dy W_t with the ternary weights, and dW = dy^T x_q with the quantized input.

use super::transformer::Pass;
use super::{ModelOptions, Parameter};
use crate::backend::Context;
use crate::tensor::{DType, Packing, Result, Tensor, View, ViewMut};

/// The form in which a ternary layer runs.
pub struct Ternary {
    /// [rows, ceil(columns / 4)] u8, two bits a trit.
    pub packed: Tensor,
    /// [1] float.
    pub scale: Tensor,
    /// scale * t as floats, [rows, columns]: what the gradient to the input multiplies. Only in a model that trains.
    unpacked: Option<Tensor>,
    /// [1] float: |w| at or below it becomes 0.
    threshold: Tensor,
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
    pub fn trainable(parameter: &Parameter, index: usize, options: &ModelOptions) -> Result<Linear> {
        let (rows, columns) = (parameter.tensor.dims()[0], parameter.tensor.dims()[1]);
        let dtype = parameter.tensor.dtype();
        let ternary = if options.quantize_weights {
            Some(Ternary {
                packed: Tensor::zeros(DType::U8, &[rows, columns.div_ceil(4)])?,
                scale: Tensor::zeros(dtype, &[1])?,
                unpacked: Some(Tensor::zeros(dtype, &[rows, columns])?),
                threshold: Tensor::zeros(dtype, &[1])?,
            })
        } else {
            None
        };
        Ok(Linear { name: parameter.name.clone(), rows, columns, master: Some(index), ternary })
    }

    /// A layer that only runs: trits packed two bits each, [rows, ceil(columns / 4)], and their scale [1].
    pub fn packed(name: String, columns: usize, packed: Tensor, scale: Tensor) -> Result<Linear> {
        let threshold = Tensor::zeros(scale.dtype(), &[1])?;
        let rows = packed.dims()[0];
        let ternary = Some(Ternary { packed, scale, unpacked: None, threshold });
        Ok(Linear { name, rows, columns, master: None, ternary })
    }

    /// Quantizes the float weights anew: after every change to them.
    pub fn refresh(&mut self, context: &Context, parameters: &[Parameter]) -> Result<()> {
        let (Some(master), Some(ternary)) = (self.master, &mut self.ternary) else { return Ok(()) };
        let (launch, kernels) = (context.launch(), context.kernels());
        let w = parameters[master].tensor.view();
        (kernels.absmean)(launch, &w, 0, &mut ternary.threshold.view_mut(), &mut ternary.scale.view_mut())?;
        (kernels.ternarize)(launch, &w, 0, &ternary.threshold.view(), &mut ternary.packed.view_mut())?;
        if let Some(unpacked) = &mut ternary.unpacked {
            (kernels.deternarize)(launch, &ternary.packed.view(), 0, &ternary.scale.view(), &mut unpacked.view_mut())?;
        }
        Ok(())
    }

    /// y[m, rows] = x W^T.
    pub fn forward(&self, pass: &Pass, x: &Input, y: &mut ViewMut) -> Result<()> {
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
                y,
            ),
            (None, Input::Values(x), Some(master)) => {
                (kernels.matmul)(launch, &x.view(), &pass.parameters[master].tensor.view().transpose(), false, y)
            }
            _ => unreachable!("the layers and inputs of one model are all ternary or all float"),
        }
    }

    /// dx[m, columns] = dy[m, rows] W, or += when `accumulate`.
    pub fn backward_input(&self, pass: &Pass, dy: &View, accumulate: bool, dx: &mut ViewMut) -> Result<()> {
        pass.check()?;
        let weight = match (&self.ternary, self.master) {
            (Some(Ternary { unpacked: Some(unpacked), .. }), _) => unpacked,
            (None, Some(master)) => &pass.parameters[master].tensor,
            _ => unreachable!("a model without float weights has no gradients"),
        };
        (pass.context.kernels().matmul)(pass.context.launch(), dy, &weight.view(), accumulate, dx)
    }

    /// dW[rows, columns] += dy[m, rows]^T x[m, columns], x as `Input::values` gives it.
    pub fn backward_weight(&self, pass: &Pass, dy: &View, x: &View, gradients: &mut [Tensor]) -> Result<()> {
        pass.check()?;
        let Some(master) = self.master else { unreachable!("a model without float weights has no gradients") };
        let (launch, matmul) = (pass.context.launch(), pass.context.kernels().matmul);
        matmul(launch, &dy.transpose(), x, true, &mut gradients[master].view_mut())
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
    pub fn new(options: &ModelOptions, dtype: DType, m: usize, k: usize) -> Result<Input> {
        Ok(if options.quantize_weights {
            Input::Codes { codes: Tensor::zeros(DType::I8, &[m, k])?, scales: Tensor::zeros(dtype, &[m])? }
        } else {
            Input::Values(Tensor::zeros(dtype, &[m, k])?)
        })
    }

    /// Stores norm(x) * gain, quantized where the model is; `scratch` has room for m * k floats.
    pub fn store_norm(
        &mut self,
        context: &Context,
        norm: Norm,
        inverse_rms: &mut Tensor,
        scratch: &mut Tensor,
    ) -> Result<()> {
        let (launch, kernels) = (context.launch(), context.kernels());
        let inverse_rms = &mut inverse_rms.view_mut();
        match self {
            Input::Values(values) => {
                (kernels.rms_norm)(launch, &norm.x, &norm.gain, norm.epsilon, &mut values.view_mut(), inverse_rms)
            }
            Input::Codes { codes, scales } => {
                let mut normed = front(scratch, norm.x.dims())?;
                (kernels.rms_norm)(launch, &norm.x, &norm.gain, norm.epsilon, &mut normed, inverse_rms)?;
                let (codes, scales) = (&mut codes.view_mut(), &mut scales.view_mut());
                (kernels.quantize_activations)(launch, &normed.as_view(), codes, scales)
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
                scratch.view().narrow(0, dims[0] * dims[1])?.reshape(&dims)
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
