//! Causal attention with grouped KV heads (Vaswani et al., arXiv 1706.03762; Ainslie et al., arXiv 2305.13245).

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut};

/// The sizes of one call: batch, queries, keys, query heads, KV heads, elements of a head.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub batch: usize,
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
}

impl Sizes {
    /// q[b, tq, h, e], k and v[b, tk, g, e], log_sum[b, h, tq].
    pub fn check(q: &View, k: &View, v: &View, log_sum: &[usize]) -> Result<Sizes> {
        ensure!(q.dims().len() == 4, Shape, "attention: q has shape {}, expected [b, t, h, e]", q.shape());
        ensure!(k.dims().len() == 4, Shape, "attention: k has shape {}, expected [b, t, g, e]", k.shape());
        ensure!(v.dims() == k.dims(), Shape, "attention: k has shape {}, v has {}", k.shape(), v.shape());
        let sizes = Sizes {
            batch: q.dim(0),
            queries: q.dim(1),
            keys: k.dim(1),
            heads: q.dim(2),
            kv_heads: k.dim(2),
            head: q.dim(3),
        };
        ensure!(k.dim(0) == q.dim(0), Shape, "attention: q has batch {}, k has {}", q.dim(0), k.dim(0));
        ensure!(k.dim(3) == q.dim(3), Shape, "attention: heads of q have {} elements, of k {}", q.dim(3), k.dim(3));
        ensure!(q.dim(1) <= k.dim(1), Shape, "attention: {} queries, but only {} keys", q.dim(1), k.dim(1));
        let grouped = sizes.kv_heads > 0 && sizes.heads.is_multiple_of(sizes.kv_heads);
        ensure!(grouped, Shape, "attention: {} heads cannot share {} KV heads", sizes.heads, sizes.kv_heads);
        let expected = [sizes.batch, sizes.heads, sizes.queries];
        ensure!(log_sum == expected, Shape, "attention: log_sum has shape {log_sum:?}, expected {expected:?}");
        Ok(sizes)
    }

    /// What is shaped like q, and what is shaped like k, in the backward pass.
    pub fn check_gradients(&self, q: &View, k: &View, queries: &[&[usize]], keys: &[&[usize]]) -> Result<()> {
        for (expected, all) in [(q.dims(), queries), (k.dims(), keys)] {
            for &dims in all {
                ensure!(dims == expected, Shape, "attention backward: got shape {dims:?}, expected {expected:?}");
            }
        }
        Ok(())
    }

    /// Keys that query i sees: the last query sees them all.
    pub fn visible(&self, i: usize) -> usize {
        i + 1 + self.keys - self.queries
    }

    fn query(&self, b: usize, i: usize, h: usize) -> usize {
        ((b * self.queries + i) * self.heads + h) * self.head
    }

    fn key(&self, b: usize, j: usize, h: usize) -> usize {
        ((b * self.keys + j) * self.kv_heads + h / (self.heads / self.kv_heads)) * self.head
    }

    /// Every (batch, head, query), in order.
    fn rows(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let row = move |r: usize| (r / (self.heads * self.queries), r / self.queries % self.heads, r % self.queries);
        (0..self.batch * self.heads * self.queries).map(row)
    }

    fn scale(&self) -> f64 {
        1.0 / (self.head as f64).sqrt()
    }
}

fn dot<T: Float>(a: &[T], b: &[T]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.f64() * b.f64()).sum()
}

pub fn attention(_: &Launch, q: &View, k: &View, v: &View, o: &mut ViewMut, log_sum: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(s: Sizes, q: &View, k: &View, v: &View, o: &mut ViewMut, log_sum: &mut ViewMut) -> Result<()> {
        let (q, k, v) = (q.slice::<T>()?, k.slice::<T>()?, v.slice::<T>()?);
        let (o, log_sum) = (o.slice_mut::<T>()?, log_sum.slice_mut::<T>()?);
        for (row, (b, h, i)) in s.rows().enumerate() {
            let q = &q[s.query(b, i, h)..][..s.head];
            let logits: Vec<f64> =
                (0..s.visible(i)).map(|j| dot(q, &k[s.key(b, j, h)..][..s.head]) * s.scale()).collect();
            let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|l| (l - most).exp()).sum();
            let o = &mut o[s.query(b, i, h)..][..s.head];
            for (c, o) in o.iter_mut().enumerate() {
                let term = |(j, l): (usize, &f64)| (l - most).exp() / sum * v[s.key(b, j, h) + c].f64();
                *o = T::of(logits.iter().enumerate().map(term).sum());
            }
            log_sum[row] = T::of(most + sum.ln());
        }
        Ok(())
    }
    let sizes = Sizes::check(q, k, v, log_sum.dims())?;
    ensure!(o.dims() == q.dims(), Shape, "attention: q has shape {}, o has {}", q.shape(), o.shape());
    by_float!(q, typed(sizes, q, k, v, o, log_sum))
}

/// With p = exp(logit - log_sum): dv = p do, dp = do . v, dlogit = p (dp - do . o), dq = dlogit k / sqrt(e),
/// dk = dlogit q / sqrt(e).
pub fn attention_backward(
    _: &Launch,
    q: &View,
    k: &View,
    v: &View,
    o: &View,
    log_sum: &View,
    d_o: &View,
    dq: &mut ViewMut,
    dk: &mut ViewMut,
    dv: &mut ViewMut,
) -> Result<()> {
    #[allow(clippy::too_many_arguments)]
    fn typed<T: Float>(
        s: Sizes,
        q: &View,
        k: &View,
        v: &View,
        o: &View,
        log_sum: &View,
        d_o: &View,
        dq: &mut ViewMut,
        dk: &mut ViewMut,
        dv: &mut ViewMut,
    ) -> Result<()> {
        let (q, k, v, o) = (q.slice::<T>()?, k.slice::<T>()?, v.slice::<T>()?, o.slice::<T>()?);
        let (log_sum, d_o) = (log_sum.slice::<T>()?, d_o.slice::<T>()?);
        let (dq, dk, dv) = (dq.slice_mut::<T>()?, dk.slice_mut::<T>()?, dv.slice_mut::<T>()?);
        dq.fill(T::ZERO);
        dk.fill(T::ZERO);
        dv.fill(T::ZERO);
        for (row, (b, h, i)) in s.rows().enumerate() {
            let query = s.query(b, i, h);
            let (q, o, d_o) = (&q[query..][..s.head], &o[query..][..s.head], &d_o[query..][..s.head]);
            let output = dot(d_o, o);
            for j in 0..s.visible(i) {
                let key = s.key(b, j, h);
                let (k, v) = (&k[key..][..s.head], &v[key..][..s.head]);
                let p = (dot(q, k) * s.scale() - log_sum[row].f64()).exp();
                let dlogit = T::of(p * (dot(d_o, v) - output) * s.scale());
                for c in 0..s.head {
                    dv[key + c] += T::of(p) * d_o[c];
                    dk[key + c] += dlogit * q[c];
                    dq[query + c] += dlogit * k[c];
                }
            }
        }
        Ok(())
    }
    let sizes = Sizes::check(q, k, v, log_sum.dims())?;
    sizes.check_gradients(q, k, &[o.dims(), d_o.dims(), dq.dims()], &[dk.dims(), dv.dims()])?;
    by_float!(q, typed(sizes, q, k, v, o, log_sum, d_o, dq, dk, dv))
}
