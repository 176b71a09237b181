//! Attention of one token on keys and values that are kept in 8 bits: one scale for each token and head, as activations have.

use super::attention::Sizes;
use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, Shape, View, ViewMut, vec_zeroed};

/// q[h, e], k and v[t, g, e] with scales[t, g].
pub fn check(q: &View, [k, k_scales, v, v_scales]: [&View; 4], o: &[usize]) -> Result<Sizes> {
    const NAME: &str = "attention_cached";
    ensure!(q.dims().len() == 2, Shape, "{NAME}: q has shape {}, expected [h, e]", q.shape());
    ensure!(o == q.dims(), Shape, "{NAME}: q has shape {}, o has {o:?}", q.shape());
    ensure!(k.dims().len() == 3, Shape, "{NAME}: k has shape {}, expected [t, g, e]", k.shape());
    ensure!(v.dims() == k.dims(), Shape, "{NAME}: k has shape {}, v has {}", k.shape(), v.shape());
    let log_sum = Shape::new(&[1, q.dim(0), 1])?;
    let sizes = Sizes::check(
        &q.reshape(&[1, 1, q.dim(0), q.dim(1)])?,
        &k.reshape(&[1, k.dim(0), k.dim(1), k.dim(2)])?,
        &v.reshape(&[1, v.dim(0), v.dim(1), v.dim(2)])?,
        log_sum.dims(),
    )?;
    for scales in [k_scales, v_scales] {
        let expected = [k.dim(0), k.dim(1)];
        ensure!(
            scales.dims() == expected,
            Shape,
            "{NAME}: scales have shape {}, expected {expected:?}",
            scales.shape()
        );
    }
    Ok(sizes)
}

pub fn attention_cached(
    _: &Launch,
    q: &View,
    k: &View,
    k_scales: &View,
    v: &View,
    v_scales: &View,
    o: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(s: Sizes, q: &View, [k, k_scales, v, v_scales]: [&View; 4], o: &mut ViewMut) -> Result<()> {
        let (q, k, v, o) = (q.slice::<T>()?, k.slice::<i8>()?, v.slice::<i8>()?, o.slice_mut::<T>()?);
        let (k_scales, v_scales) = (k_scales.slice::<T>()?, v_scales.slice::<T>()?);
        let mut logits = vec_zeroed::<f64>(s.keys)?;
        for (h, (q, o)) in q.chunks(s.head.max(1)).zip(o.chunks_mut(s.head.max(1))).enumerate() {
            let group = h / (s.heads / s.kv_heads);
            let row = |j: usize| j * s.kv_heads + group;
            for (j, logit) in logits.iter_mut().enumerate() {
                let k = &k[row(j) * s.head..][..s.head];
                let product: f64 = q.iter().zip(k).map(|(q, &k)| q.f64() * f64::from(k)).sum();
                *logit = product * k_scales[row(j)].f64() * s.scale();
            }
            let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|l| (l - most).exp()).sum();
            for (c, o) in o.iter_mut().enumerate() {
                let term = |(j, l): (usize, &f64)| {
                    (l - most).exp() / sum * f64::from(v[row(j) * s.head + c]) * v_scales[row(j)].f64()
                };
                *o = T::of(logits.iter().enumerate().map(term).sum());
            }
        }
        Ok(())
    }
    let codes = [k, k_scales, v, v_scales];
    let sizes = check(q, codes, o.dims())?;
    by_float!(q, typed(sizes, q, codes, o))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::tensor::{DType, Tensor};

    /// The same as plain attention on what the codes stand for.
    #[test]
    fn codes_are_the_numbers_that_they_stand_for() {
        for [t, h, g, e] in [[1, 1, 1, 1], [5, 4, 2, 3], [9, 3, 3, 8], [3, 6, 1, 5]] {
            let q = of::<f64>(&numbers(1, h * e));
            let (k, v) = (of::<f64>(&numbers(2, t * g * e)), of::<f64>(&numbers(3, t * g * e)));
            let (mut codes, mut scales, mut floats) = (Vec::new(), Vec::new(), Vec::new());
            for x in [&k, &v] {
                let mut code = Tensor::zeros(DType::I8, &[t * g, e]).unwrap();
                let mut scale = Tensor::zeros(DType::F64, &[t * g]).unwrap();
                let mut float = Tensor::zeros(DType::F64, &[t * g, e]).unwrap();
                let x = view(x, &[t * g, e]);
                let (code_mut, scale_mut) = (&mut code.view_mut(), &mut scale.view_mut());
                (KERNELS.quantize_activations)(&launch(), &x, 1e-30, code_mut, scale_mut).unwrap();
                let dequantize = KERNELS.dequantize_activations;
                dequantize(&launch(), &code.view(), &scale.view(), &mut float.view_mut()).unwrap();
                codes.push(code);
                scales.push(scale);
                floats.push(float);
            }
            let (mut expected, mut found) = (of::<f64>(&vec![9.0; h * e]), of::<f64>(&vec![7.0; h * e]));
            let mut log_sum = of::<f64>(&vec![0.0; h]);
            let keys = [1, t, g, e];
            (KERNELS.attention)(
                &launch(),
                &view(&q, &[1, 1, h, e]),
                &floats[0].view().reshape(&keys).unwrap(),
                &floats[1].view().reshape(&keys).unwrap(),
                &mut view_mut(&mut expected, &[1, 1, h, e]),
                &mut view_mut(&mut log_sum, &[1, h, 1]),
            )
            .unwrap();
            let [k, v] = [0, 1].map(|i| codes[i].view().reshape(&[t, g, e]).unwrap());
            let [k_scales, v_scales] = [0, 1].map(|i| scales[i].view().reshape(&[t, g]).unwrap());
            let o = &mut view_mut(&mut found, &[h, e]);
            (KERNELS.attention_cached)(&launch(), &view(&q, &[h, e]), &k, &k_scales, &v, &v_scales, o).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-12, "{t} {h} {g} {e}: {found}, expected {expected}");
            }
        }
    }
}
