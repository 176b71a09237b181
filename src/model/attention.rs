//! The attention block: norm, queries, keys and values, rotation, attention, sub-norm, output projection.

use super::activations::{AttentionActivations, Backward};
use super::linear::{Input, Linear, Norm};
use super::transformer::Pass;
use crate::tensor::{Result, Tensor, View, ViewMut};

/// Linear layers, and indices of the gains among the parameters.
pub struct Attention {
    pub norm: usize,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub sub_norm: usize,
    pub o: Linear,
}

impl Attention {
    /// y[m, width] = the residual stream after the block, for x[m, width] before it; under dropout only what the block adds.
    pub fn forward(&self, pass: &Pass, x: &Tensor, a: &mut AttentionActivations, y: &mut Tensor) -> Result<()> {
        self.attend(pass, x, a)?;
        self.output(pass, x, a, y)
    }

    /// The same activations as `forward` leaves, without its result.
    pub fn recompute(&self, pass: &Pass, x: &Tensor, a: &mut AttentionActivations) -> Result<()> {
        self.attend(pass, x, a)?;
        self.store_output(pass, a)
    }

    fn attend(&self, pass: &Pass, x: &Tensor, a: &mut AttentionActivations) -> Result<()> {
        let (q, k, v) = (&mut a.q.view_mut(), &mut a.k.view_mut(), &mut a.v.view_mut());
        self.project(pass, x, (&mut a.input, &mut a.inverse_rms), [q, k, v])?;
        let (launch, kernels) = (pass.context.launch(), pass.context.kernels());
        let (output, log_sum) = (&mut a.output.view_mut(), &mut a.log_sum.view_mut());
        pass.check()?;
        (kernels.attention)(launch, &q.as_view(), &k.as_view(), &v.as_view(), output, log_sum)
    }

    /// q, k and v, each [batch, length, heads, head], of the residual stream x[m, width]; q and k rotated.
    pub fn project(
        &self,
        pass: &Pass,
        x: &Tensor,
        (input, inverse_rms): (&mut Input, &mut Tensor),
        [q, k, v]: [&mut ViewMut; 3],
    ) -> Result<()> {
        input.store_norm(pass.context, pass.norm(x.view(), self.norm), inverse_rms)?;
        if let (Input::Codes { codes, scales }, [Some(to_q), Some(to_k), Some(to_v)]) =
            (&*input, [&self.q, &self.k, &self.v].map(|linear| linear.ternary.as_ref()))
        {
            pass.check()?;
            return (pass.context.kernels().matmul_ternary_qkv)(
                pass.context.launch(),
                &codes.view(),
                &scales.view(),
                &to_q.packed.view(),
                &to_q.scale.view(),
                &to_k.packed.view(),
                &to_k.scale.view(),
                &to_v.packed.view(),
                &to_v.scale.view(),
                &pass.cosine,
                &pass.sine,
                q,
                k,
                v,
            );
        }
        for (linear, out) in [(&self.q, &mut *q), (&self.k, &mut *k), (&self.v, v)] {
            linear.forward(pass, input, None, &mut matrix(out.reborrow())?)?;
        }
        pass.rope(false, q)?;
        pass.rope(false, k)
    }

    /// y as `forward` has it, from what the heads read, `a.output`.
    pub fn output(&self, pass: &Pass, x: &Tensor, a: &mut AttentionActivations, y: &mut Tensor) -> Result<()> {
        self.store_output(pass, a)?;
        self.o.forward(pass, &a.sub_input, pass.base(x).as_ref(), &mut y.view_mut())
    }

    /// The input of the output projection.
    fn store_output(&self, pass: &Pass, a: &mut AttentionActivations) -> Result<()> {
        let norm = pass.norm(flat(&a.output)?, self.sub_norm);
        a.sub_input.store_norm(pass.context, norm, &mut a.sub_inverse_rms)
    }

    /// From the gradient of the block's output, `b.residual`, under dropout `b.masked`, to those of queries, keys and values; adds
    /// to the gradients of the parameters in between.
    pub fn backward_output(
        &self,
        pass: &Pass,
        a: &AttentionActivations,
        b: &mut Backward,
        gradients: &mut [Tensor],
    ) -> Result<()> {
        let context = pass.context;
        let (launch, kernels) = (context.launch(), context.kernels());
        {
            let dy = if pass.dropout { b.masked.view() } else { b.residual.view() };
            let dx = (false, &mut b.normed.view_mut());
            self.o.backward(pass, &dy, &a.sub_input, &mut b.linear, dx, gradients)?;
        }
        let Norm { x: output, gain, .. } = pass.norm(flat(&a.output)?, self.sub_norm);
        (kernels.rms_norm_backward)(
            launch,
            &output,
            &gain,
            &a.sub_inverse_rms.view(),
            &b.normed.view(),
            false,
            &mut matrix(b.output.view_mut())?,
            &mut gradients[self.sub_norm].view_mut(),
        )?;
        pass.check()?;
        (kernels.attention_backward)(
            launch,
            &a.q.view(),
            &a.k.view(),
            &a.v.view(),
            &a.output.view(),
            &a.log_sum.view(),
            &b.output.view(),
            &mut b.q.view_mut(),
            &mut b.k.view_mut(),
            &mut b.v.view_mut(),
        )?;
        pass.rope(true, &mut b.q.view_mut())?;
        pass.rope(true, &mut b.k.view_mut())
    }

    /// From there on: adds the block's part to the gradient of the residual stream, `b.residual`, and to the gradients of the other
    /// parameters; x is what `forward` was given.
    pub fn backward_input(
        &self,
        pass: &Pass,
        x: &Tensor,
        a: &AttentionActivations,
        b: &mut Backward,
        gradients: &mut [Tensor],
    ) -> Result<()> {
        for (i, (linear, dy)) in [(&self.q, &b.q), (&self.k, &b.k), (&self.v, &b.v)].into_iter().enumerate() {
            let dy = flat(dy)?;
            let dx = (i > 0, &mut b.normed.view_mut());
            linear.backward(pass, &dy, &a.input, &mut b.linear, dx, gradients)?;
        }
        pass.norm_backward(x.view(), self.norm, &a.inverse_rms, &b.normed, &mut b.residual, gradients)
    }
}

/// [batch, length, heads, head] seen as [m, heads * head].
fn flat(x: &Tensor) -> Result<View<'_>> {
    let [b, t, h, e] = sizes(x.dims());
    x.view().reshape(&[b * t, h * e])
}

fn matrix(x: ViewMut<'_>) -> Result<ViewMut<'_>> {
    let [b, t, h, e] = sizes(x.dims());
    x.reshape(&[b * t, h * e])
}

fn sizes(dims: &[usize]) -> [usize; 4] {
    [dims[0], dims[1], dims[2], dims[3]]
}
