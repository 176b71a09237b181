//! Products on the packed form: y = x W^T with W ~ scale * t [n, k] and x quantized to 8 bits a row, summed as integers.

use super::packing::Matrix;
use super::scheme::{check_scales, shared};
use super::{Group, check_finite, check_length};
use crate::backend::{Context, LEAST_ABSMAX, with_scratch};
use crate::tensor::{Result, View, ViewMut};

/// x[m, k] to codes[m, k] and scales[m], x ~ scale * code. ARGUMENT for a NaN or an infinity, naming the first; then nothing is
/// written.
pub fn quantize_activations(
    context: &Context,
    x: &[f32],
    m: usize,
    k: usize,
    codes: &mut [i8],
    scales: &mut [f32],
) -> Result<()> {
    with_codes(context, x, m, k, |found, of_rows| {
        codes.copy_from_slice(found);
        scales.copy_from_slice(of_rows);
        Ok(())
    })
}

/// Calls `use_them` with the codes and the scales of x[m, k].
fn with_codes(
    context: &Context,
    x: &[f32],
    m: usize,
    k: usize,
    use_them: impl FnOnce(&[i8], &[f32]) -> Result<()>,
) -> Result<()> {
    with_scratch::<f32, _>(m, |scales| {
        with_scratch::<i8, _>(m * k, |codes| {
            let (x_view, mut codes_view) = (View::of(x, &[m, k])?, ViewMut::of(codes, &[m, k])?);
            let quantize = context.kernels().quantize_activations;
            quantize(context.launch(), &x_view, LEAST_ABSMAX, &mut codes_view, &mut ViewMut::of(scales, &[m])?)?;
            // What is not finite shows in the scale of its row.
            if scales.iter().any(|scale| !scale.is_finite()) {
                check_finite(context, x, "x")?;
            }
            use_them(codes, scales)
        })?
    })?
}

/// The weights of a product: the size and packing, which of them share a scale, the packed bytes and the scales.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub matrix: Matrix,
    pub group: Group,
    pub packed: &'a [u8],
    pub scales: &'a [f32],
}

impl Weights<'_> {
    /// SHAPE, FORMAT and ARGUMENT, as the parts say.
    fn check(&self, context: &Context) -> Result<()> {
        self.group.check_count(self.matrix.rows(), self.matrix.columns(), self.scales.len())?;
        check_scales(self.scales)?;
        self.matrix.check_packed(context, self.packed)
    }
}

/// y[m, n] = x[m, k] * (scale * t[n, k])^T.
pub fn matmul(context: &Context, weights: &Weights, x: &[f32], m: usize, y: &mut [f32]) -> Result<()> {
    weights.check(context)?;
    matmul_checked(context, weights, x, m, y)
}

/// The same with weights that were checked.
pub fn matmul_checked(context: &Context, weights: &Weights, x: &[f32], m: usize, y: &mut [f32]) -> Result<()> {
    let &Weights { matrix, group, packed, scales } = weights;
    let (n, k) = (matrix.rows(), matrix.columns());
    check_length("x", x.len(), m * k)?;
    check_length("y", y.len(), m * n)?;
    if x.is_empty() || y.is_empty() {
        check_finite(context, x, "x")?;
        y.fill(0.0);
        return Ok(());
    }
    with_codes(context, x, m, k, |codes, of_rows| {
        (context.kernels().matmul_ternary)(
            context.launch(),
            &View::of(codes, &[m, k])?,
            &View::of(of_rows, &[m])?,
            matrix.packing(),
            &View::of(packed, &[packed.len()])?,
            group.width(k),
            &shared(scales, group, n)?,
            None,
            &mut ViewMut::of(y, &[m, n])?,
        )
    })
}

/// dx[m, k] = dy[m, n] * (scale * t[n, k]): the gradient to the input, straight through its quantization.
pub fn matmul_backward(context: &Context, weights: &Weights, dy: &[f32], m: usize, dx: &mut [f32]) -> Result<()> {
    let &Weights { matrix, group, packed, scales } = weights;
    let (n, k) = (matrix.rows(), matrix.columns());
    check_length("dy", dy.len(), m * n)?;
    check_length("dx", dx.len(), m * k)?;
    weights.check(context)?;
    check_finite(context, dy, "dy")?;
    if dy.is_empty() || dx.is_empty() {
        dx.fill(0.0);
        return Ok(());
    }
    (context.kernels().matmul_ternary_backward)(
        context.launch(),
        &View::of(dy, &[m, n])?,
        matrix.packing(),
        &View::of(packed, &[packed.len()])?,
        group.width(k),
        &shared(scales, group, n)?,
        false,
        &mut ViewMut::of(dx, &[m, k])?,
    )
}
