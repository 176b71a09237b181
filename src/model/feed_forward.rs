//! The feed-forward block: norm, up (and gate), squared ReLU, sub-norm, down.

use super::activations::{Backward, FeedForwardActivations};
use super::linear::{Input, Linear, Norm};
use super::transformer::Pass;
use crate::tensor::{Result, Tensor};

/// Linear layers, and indices of the gains among the parameters.
pub struct FeedForward {
    pub norm: usize,
    pub gate: Option<Linear>,
    pub up: Linear,
    pub sub_norm: usize,
    pub down: Linear,
}

impl FeedForward {
    /// y[m, width] = the residual stream after the block, for x[m, width] before it; under dropout only what the block adds.
    pub fn forward(&self, pass: &Pass, x: &Tensor, a: &mut FeedForwardActivations, y: &mut Tensor) -> Result<()> {
        self.recompute(pass, x, a)?;
        self.down.forward(pass, &a.sub_input, pass.base(x).as_ref(), &mut y.view_mut())
    }

    /// The same activations as `forward` leaves, without its result.
    pub fn recompute(&self, pass: &Pass, x: &Tensor, a: &mut FeedForwardActivations) -> Result<()> {
        a.input.store_norm(pass.context, pass.norm(x.view(), self.norm), &mut a.inverse_rms)?;
        self.up.forward(pass, &a.input, None, &mut a.up.view_mut())?;
        if let (Some(linear), Some(gate)) = (&self.gate, &mut a.gate) {
            linear.forward(pass, &a.input, None, &mut gate.view_mut())?;
        }
        self.store_hidden(pass, a)
    }

    /// The input of `down`: the norm of max(gate, 0)^2 * up, or of max(up, 0)^2.
    fn store_hidden(&self, pass: &Pass, a: &mut FeedForwardActivations) -> Result<()> {
        let (launch, kernels) = (pass.context.launch(), pass.context.kernels());
        let (up, gate, inverse_rms) = (a.up.view(), a.gate.as_ref().map(Tensor::view), &mut a.sub_inverse_rms);
        match (&mut a.sub_input, &mut a.hidden) {
            (Input::Codes { codes, scales }, _) => {
                let Norm { gain, epsilon, .. } = pass.norm(up, self.sub_norm);
                let (codes, scales, inverse_rms) =
                    (&mut codes.view_mut(), &mut scales.view_mut(), &mut inverse_rms.view_mut());
                match &gate {
                    Some(gate) => (kernels.gated_squared_relu_norm_quantize)(
                        launch,
                        gate,
                        &up,
                        &gain,
                        epsilon,
                        codes,
                        scales,
                        inverse_rms,
                    ),
                    None => {
                        let fused = kernels.squared_relu_norm_quantize;
                        fused(launch, &up, &gain, epsilon, codes, scales, inverse_rms)
                    }
                }
            }
            (input, Some(hidden)) => {
                match &gate {
                    Some(gate) => (kernels.gated_squared_relu)(launch, gate, &up, &mut hidden.view_mut())?,
                    None => (kernels.squared_relu)(launch, &up, &mut hidden.view_mut())?,
                }
                input.store_norm(pass.context, pass.norm(hidden.view(), self.sub_norm), inverse_rms)
            }
            (Input::Values(_), None) => unreachable!("the f32 twin keeps its hidden values"),
        }
    }

    /// From the gradient of the input of `down`, `b.up`, to those of `up`, in its place, and of `gate`.
    fn hidden_backward(
        &self,
        pass: &Pass,
        a: &FeedForwardActivations,
        b: &mut Backward,
        gradients: &mut [Tensor],
    ) -> Result<()> {
        let (launch, kernels) = (pass.context.launch(), pass.context.kernels());
        let (up, inverse_rms) = (a.up.view(), a.sub_inverse_rms.view());
        let gain = &pass.parameters[self.sub_norm].tensor.view();
        let dgain = &mut gradients[self.sub_norm].view_mut();
        let dhidden = &mut b.hidden;
        let Some(hidden) = &a.hidden else {
            // The gradient that comes in is where what goes out has to be: they change places.
            std::mem::swap(&mut b.up, dhidden);
            let (dy, dup) = (dhidden.view(), &mut b.up.view_mut());
            return match (&a.gate, &mut b.gate) {
                (Some(gate), Some(dgate)) => {
                    let (gate, dgate) = (gate.view(), &mut dgate.view_mut());
                    let fused = kernels.gated_squared_relu_norm_backward;
                    fused(launch, &gate, &up, gain, &inverse_rms, &dy, dgate, dup, dgain)
                }
                _ => (kernels.squared_relu_norm_backward)(launch, &up, gain, &inverse_rms, &dy, dup, dgain),
            };
        };
        let (hidden, dy) = (hidden.view(), b.up.view());
        let to = &mut dhidden.view_mut();
        (kernels.rms_norm_backward)(launch, &hidden, gain, &inverse_rms, &dy, false, to, dgain)?;
        let (dhidden, dup) = (dhidden.view(), &mut b.up.view_mut());
        match (&a.gate, &mut b.gate) {
            (Some(gate), Some(dgate)) => {
                let (gate, dgate) = (gate.view(), &mut dgate.view_mut());
                (kernels.gated_squared_relu_backward)(launch, &gate, &up, &dhidden, dgate, dup)
            }
            _ => (kernels.squared_relu_backward)(launch, &up, &dhidden, dup),
        }
    }

    /// From the gradient of the block's output, `b.residual`, under dropout `b.masked`, to those of up and gate; adds to the
    /// gradients of the parameters in between.
    pub fn backward_down(
        &self,
        pass: &Pass,
        a: &FeedForwardActivations,
        b: &mut Backward,
        gradients: &mut [Tensor],
    ) -> Result<()> {
        let dy = if pass.dropout { b.masked.view() } else { b.residual.view() };
        let dx = (false, &mut b.up.view_mut());
        self.down.backward(pass, &dy, &a.sub_input, &mut b.linear, dx, gradients)?;
        self.hidden_backward(pass, a, b, gradients)
    }

    /// From there on: adds the block's part to the gradient of the residual stream, `b.residual`, and to the gradients of the other
    /// parameters; x is what `forward` was given.
    pub fn backward_up(
        &self,
        pass: &Pass,
        x: &Tensor,
        a: &FeedForwardActivations,
        b: &mut Backward,
        gradients: &mut [Tensor],
    ) -> Result<()> {
        let dx = (false, &mut b.normed.view_mut());
        self.up.backward(pass, &b.up.view(), &a.input, &mut b.linear, dx, gradients)?;
        if let (Some(linear), Some(dgate)) = (&self.gate, &b.gate) {
            let dx = (true, &mut b.normed.view_mut());
            linear.backward(pass, &dgate.view(), &a.input, &mut b.linear, dx, gradients)?;
        }
        pass.norm_backward(x.view(), self.norm, &a.inverse_rms, &b.normed, &mut b.residual, gradients)
    }
}
