//! The feed-forward block: norm, up (and gate), squared ReLU, sub-norm, down.

use super::activations::{Backward, FeedForwardActivations};
use super::linear::Linear;
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
    /// y[m, width] = the block's output for the residual stream x[m, width].
    pub fn forward(
        &self,
        pass: &Pass,
        x: &Tensor,
        a: &mut FeedForwardActivations,
        scratch: &mut Tensor,
        y: &mut Tensor,
    ) -> Result<()> {
        let context = pass.context;
        let (launch, kernels) = (context.launch(), context.kernels());
        a.input.store_norm(context, pass.norm(x.view(), self.norm), &mut a.inverse_rms, scratch)?;
        self.up.forward(pass, &a.input, &mut a.up.view_mut())?;
        if let (Some(linear), Some(gate)) = (&self.gate, &mut a.gate) {
            linear.forward(pass, &a.input, &mut gate.view_mut())?;
            (kernels.gated_squared_relu)(launch, &gate.view(), &a.up.view(), &mut a.hidden.view_mut())?;
        } else {
            (kernels.squared_relu)(launch, &a.up.view(), &mut a.hidden.view_mut())?;
        }
        let norm = pass.norm(a.hidden.view(), self.sub_norm);
        a.sub_input.store_norm(context, norm, &mut a.sub_inverse_rms, scratch)?;
        self.down.forward(pass, &a.sub_input, &mut y.view_mut())
    }

    /// Adds the block's part to the gradient of the residual stream, `b.residual`, and to the parameters' gradients.
    pub fn backward(
        &self,
        pass: &Pass,
        x: &Tensor,
        a: &FeedForwardActivations,
        scratch: &mut Tensor,
        b: &mut Backward,
        gradients: &mut [Tensor],
    ) -> Result<()> {
        let (context, parameters) = (pass.context, pass.parameters);
        let (launch, kernels) = (context.launch(), context.kernels());
        {
            let dy = if pass.dropout.is_some() { b.masked.view() } else { b.residual.view() };
            self.down.backward_weight(pass, &dy, &a.sub_input.values(context, scratch)?, gradients)?;
            self.down.backward_input(pass, &dy, false, &mut b.up.view_mut())?;
        }
        (kernels.rms_norm_backward)(
            launch,
            &a.hidden.view(),
            &parameters[self.sub_norm].tensor.view(),
            &a.sub_inverse_rms.view(),
            &b.up.view(),
            false,
            &mut b.hidden.view_mut(),
            &mut gradients[self.sub_norm].view_mut(),
        )?;
        if let (Some(gate), Some(dgate)) = (&a.gate, &mut b.gate) {
            let (dgate, dup) = (&mut dgate.view_mut(), &mut b.up.view_mut());
            let backward = kernels.gated_squared_relu_backward;
            backward(launch, &gate.view(), &a.up.view(), &b.hidden.view(), dgate, dup)?;
        } else {
            (kernels.squared_relu_backward)(launch, &a.up.view(), &b.hidden.view(), &mut b.up.view_mut())?;
        }
        let input = a.input.values(context, scratch)?;
        self.up.backward_weight(pass, &b.up.view(), &input, gradients)?;
        self.up.backward_input(pass, &b.up.view(), false, &mut b.normed.view_mut())?;
        if let (Some(linear), Some(dgate)) = (&self.gate, &b.gate) {
            linear.backward_weight(pass, &dgate.view(), &input, gradients)?;
            linear.backward_input(pass, &dgate.view(), true, &mut b.normed.view_mut())?;
        }
        pass.norm_backward(x.view(), self.norm, &a.inverse_rms, &b.normed, &mut b.residual, gradients)
    }
}
