//! Rotary position embedding (Su et al., arXiv 2104.09864), half rotation as in Llama and BitNet.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut};

pub fn rope(_: &Launch, cosine: &View, sine: &View, inverse: bool, x: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(cosine: &View, sine: &View, inverse: bool, x: &mut ViewMut) -> Result<()> {
        let (length, heads, e) = (x.dim(1), x.dim(2), x.dim(3));
        let half = e / 2;
        let (cosine, sine, x) = (cosine.slice::<T>()?, sine.slice::<T>()?, x.slice_mut::<T>()?);
        for (head, x) in x.chunks_exact_mut(e.max(1)).enumerate() {
            let position = head / heads % length;
            let (low, high) = x.split_at_mut(half);
            for i in 0..half {
                let c = cosine[position * half + i];
                let s = if inverse { -sine[position * half + i] } else { sine[position * half + i] };
                (low[i], high[i]) = (low[i] * c - high[i] * s, high[i] * c + low[i] * s);
            }
        }
        Ok(())
    }
    check(cosine.dims(), sine.dims(), x.dims())?;
    by_float!(x, typed(cosine, sine, inverse, x))
}

/// x[b, t, h, e] with even e; cosine and sine[t, e / 2].
pub fn check(cosine: &[usize], sine: &[usize], x: &[usize]) -> Result<()> {
    ensure!(
        x.len() == 4 && x[3].is_multiple_of(2),
        Shape,
        "rope: x has shape {x:?}, expected [b, t, h, e] with even e"
    );
    let expected = [x[1], x[3] / 2];
    ensure!(cosine == expected, Shape, "rope: cosine has shape {cosine:?}, expected {expected:?}");
    ensure!(sine == expected, Shape, "rope: sine has shape {sine:?}, expected {expected:?}");
    Ok(())
}
