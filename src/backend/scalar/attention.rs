//! Causal attention with grouped KV heads (Vaswani et al., arXiv 1706.03762; Ainslie et al., arXiv 2305.13245).

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut, vec_zeroed};

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

    /// 1 / sqrt(e). For heads of no elements any finite value serves: every logit is then an empty sum, 0.
    pub fn scale(&self) -> f64 {
        1.0 / (self.head.max(1) as f64).sqrt()
    }
}

fn dot<T: Float>(a: &[T], b: &[T]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.f64() * b.f64()).sum()
}

pub fn attention(_: &Launch, q: &View, k: &View, v: &View, o: &mut ViewMut, log_sum: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(s: Sizes, q: &View, k: &View, v: &View, o: &mut ViewMut, log_sum: &mut ViewMut) -> Result<()> {
        let (q, k, v) = (q.slice::<T>()?, k.slice::<T>()?, v.slice::<T>()?);
        let (o, log_sum) = (o.slice_mut::<T>()?, log_sum.slice_mut::<T>()?);
        let mut logits = vec_zeroed::<f64>(s.keys)?;
        for (row, (b, h, i)) in s.rows().enumerate() {
            let q = &q[s.query(b, i, h)..][..s.head];
            let logits = &mut logits[..s.visible(i)];
            for (j, logit) in logits.iter_mut().enumerate() {
                *logit = dot(q, &k[s.key(b, j, h)..][..s.head]) * s.scale();
            }
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
#[allow(clippy::too_many_arguments)]
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

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    /// b, tq, tk, h, g, e.
    type Case = [usize; 6];

    const CASES: [Case; 7] = [
        [1, 1, 1, 1, 1, 1],
        [2, 3, 3, 2, 2, 4],
        [2, 3, 5, 4, 2, 3],
        [1, 1, 7, 6, 2, 5],
        [1, 4, 4, 6, 1, 2],
        [3, 2, 6, 3, 3, 2],
        [1, 6, 9, 4, 2, 3],
    ];

    fn counts([b, tq, tk, h, g, e]: Case) -> [usize; 2] {
        [b * tq * h * e, b * tk * g * e]
    }

    /// o and log_sum.
    fn attend<T: Float>(q: &[T], k: &[T], v: &[T], case: Case) -> Result<(Vec<T>, Vec<T>)> {
        let [b, tq, tk, h, g, e] = case;
        let (mut o, mut log_sum) = (of::<T>(&vec![9.0; q.len()]), of::<T>(&vec![9.0; b * h * tq]));
        let (queries, keys) = ([b, tq, h, e], [b, tk, g, e]);
        let (mut o_view, mut log_sum_view) = (view_mut(&mut o, &queries), view_mut(&mut log_sum, &[b, h, tq]));
        let (q, k, v) = (view(q, &queries), view(k, &keys), view(v, &keys));
        (KERNELS.attention)(&launch(), &q, &k, &v, &mut o_view, &mut log_sum_view)?;
        Ok((o, log_sum))
    }

    /// dq, dk, dv; what was there before is no part of them.
    fn backward<T: Float>(q: &[T], k: &[T], v: &[T], d_o: &[T], case: Case) -> [Vec<T>; 3] {
        let [b, tq, tk, h, g, e] = case;
        let (o, log_sum) = attend(q, k, v, case).unwrap();
        let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| of::<T>(&vec![9.0; x.len()]));
        let (queries, keys) = ([b, tq, h, e], [b, tk, g, e]);
        (KERNELS.attention_backward)(
            &launch(),
            &view(q, &queries),
            &view(k, &keys),
            &view(v, &keys),
            &view(&o, &queries),
            &view(&log_sum, &[b, h, tq]),
            &view(d_o, &queries),
            &mut view_mut(&mut dq, &queries),
            &mut view_mut(&mut dk, &keys),
            &mut view_mut(&mut dv, &keys),
        )
        .unwrap();
        [dq, dk, dv]
    }

    /// The softmax formula, index by index.
    fn formula(q: &[f64], k: &[f64], v: &[f64], [b, tq, tk, h, g, e]: Case) -> (Vec<f64>, Vec<f64>) {
        let (mut o, mut log_sum) = (vec![0.0; q.len()], vec![0.0; b * h * tq]);
        for s in 0..b {
            for head in 0..h {
                for i in 0..tq {
                    let kv = |j: usize, c: usize| ((s * tk + j) * g + head * g / h) * e + c;
                    let query = |c: usize| ((s * tq + i) * h + head) * e + c;
                    let last = i + tk - tq;
                    let weight =
                        |j: usize| ((0..e).map(|c| q[query(c)] * k[kv(j, c)]).sum::<f64>() / (e as f64).sqrt()).exp();
                    let sum: f64 = (0..=last).map(weight).sum();
                    log_sum[(s * h + head) * tq + i] = sum.ln();
                    for c in 0..e {
                        o[query(c)] = (0..=last).map(|j| weight(j) / sum * v[kv(j, c)]).sum();
                    }
                }
            }
        }
        (o, log_sum)
    }

    #[test]
    fn attention_is_the_softmax_formula() {
        fn check<T: Float>(case: Case) {
            let [queries, keys] = counts(case);
            let (q, k, v) = (numbers(37, queries), numbers(38, keys), numbers(39, keys));
            let (o, log_sum) = attend::<T>(&of(&q), &of(&k), &of(&v), case).unwrap();
            let expected = formula(&q, &k, &v, case);
            assert_close(&format!("o of {case:?}"), &o, &expected.0, tolerance::<T>());
            assert_close(&format!("log_sum of {case:?}"), &log_sum, &expected.1, tolerance::<T>());
        }
        for case in CASES {
            check::<f32>(case);
            check::<f64>(case);
        }
    }

    #[test]
    fn later_keys_are_not_seen() {
        let case = [1, 3, 5, 2, 1, 4];
        let [queries, keys] = counts(case);
        let (q, mut k, mut v) = (numbers(40, queries), numbers(41, keys), numbers(42, keys));
        let before = attend(&q, &k, &v, case).unwrap().0;
        // Key 3: seen by queries 1 and 2, not by query 0, whose last key is 2.
        k[3 * 4] += 1.0;
        v[3 * 4] += 1.0;
        let after = attend(&q, &k, &v, case).unwrap().0;
        assert_eq!(before[..8], after[..8]);
        assert!(before[8..16] != after[8..16] && before[16..] != after[16..]);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        // Logits 0, 4000 and 4000: the last two share all the weight.
        let (o, log_sum) = attend(&[200.0f32], &[0.0, 20.0, 20.0], &[5.0, 1.0, 2.0], [1, 1, 3, 1, 1, 1]).unwrap();
        assert_eq!(o, [1.5]);
        assert_eq!(log_sum, [4000.0 + std::f32::consts::LN_2]);
    }

    #[test]
    fn the_backward_pass_is_the_gradient() {
        for case in CASES {
            let [queries, keys] = counts(case);
            let (q, k, v, d_o) = (numbers(43, queries), numbers(44, keys), numbers(45, keys), numbers(46, queries));
            let loss = |q: &[f64], k: &[f64], v: &[f64]| dot(&attend(q, k, v, case).unwrap().0, &d_o);
            let expected = [
                differences(&q, |q| loss(q, &k, &v)),
                differences(&k, |k| loss(&q, k, &v)),
                differences(&v, |v| loss(&q, &k, v)),
            ];
            let found = backward(&q, &k, &v, &d_o, case);
            let found_f32 = backward::<f32>(&of(&q), &of(&k), &of(&v), &of(&d_o), case);
            for (i, name) in ["dq", "dk", "dv"].into_iter().enumerate() {
                assert_close(&format!("{name} of {case:?}"), &found[i], &expected[i], DIFFERENCES);
                assert_close(&format!("f32 {name} of {case:?}"), &found_f32[i], &expected[i], 5e-6);
            }
        }
    }

    #[test]
    fn empty_dimensions() {
        assert_eq!(attend::<f32>(&[], &[], &[], [0, 2, 3, 2, 1, 4]).unwrap(), (vec![], vec![]));
        assert_eq!(attend::<f32>(&[], &[], &[], [1, 0, 0, 2, 1, 4]).unwrap(), (vec![], vec![]));
        assert_eq!(attend::<f32>(&[], &[1.0; 8], &[1.0; 8], [1, 2, 2, 0, 1, 4]).unwrap(), (vec![], vec![]));
        // No queries: no gradient to the keys and values.
        let [dq, dk, dv] = backward::<f32>(&[], &[1.0; 12], &[1.0; 12], &[], [1, 0, 3, 2, 1, 4]);
        assert_eq!((dq, dk, dv), (vec![], vec![0.0; 12], vec![0.0; 12]));
        // Heads of no elements: every logit is an empty sum, 0.
        let (o, log_sum) = attend::<f64>(&[], &[], &[], [1, 2, 3, 1, 1, 0]).unwrap();
        assert!(o.is_empty());
        assert_close("log_sum", &log_sum, &[2f64.ln(), 3f64.ln()], 1e-15);
    }

    #[test]
    fn other_shapes_are_refused() {
        let refused = |case: Case| {
            let [queries, keys] = counts(case);
            kind(attend::<f32>(&vec![0.0; queries], &vec![0.0; keys], &vec![0.0; keys], case))
        };
        assert_eq!(refused([1, 4, 3, 2, 2, 4]), ErrorKind::Shape, "more queries than keys");
        assert_eq!(refused([1, 3, 3, 3, 2, 4]), ErrorKind::Shape, "heads that KV heads do not divide");
        assert_eq!(refused([1, 3, 3, 2, 0, 4]), ErrorKind::Shape, "no KV heads");
        let (q, k) = ([1, 3, 4, 2], [1, 5, 2, 2]);
        let dims: [&[usize]; 9] = [&q, &k, &k, &q, &[1, 4, 3], &q, &q, &k, &k];
        for wrong in 0..9 {
            for other in [&[2, 3, 4, 2][..], &[1, 3, 4, 3], &[24]] {
                let mut tensors = dims.map(zeros::<f32>);
                tensors[wrong] = zeros::<f32>(other);
                assert_eq!(kind(call_backward(&mut tensors)), ErrorKind::Shape, "argument {wrong}");
                if wrong < 5 {
                    assert_eq!(kind(call_forward(&mut tensors)), ErrorKind::Shape, "argument {wrong}");
                }
            }
        }
    }

    fn call_forward<const N: usize>(tensors: &mut [Tensor; N]) -> Result<()> {
        let [q, k, v, o, log_sum, ..] = &mut tensors[..] else { unreachable!("at least five tensors") };
        let (q, k, v) = (q.view(), k.view(), v.view());
        (KERNELS.attention)(&launch(), &q, &k, &v, &mut o.view_mut(), &mut log_sum.view_mut())
    }

    fn call_backward([q, k, v, o, log_sum, d_o, dq, dk, dv]: &mut [Tensor; 9]) -> Result<()> {
        let (q, k, v, o, log_sum, d_o) = (q.view(), k.view(), v.view(), o.view(), log_sum.view(), d_o.view());
        let (mut dq, mut dk, mut dv) = (dq.view_mut(), dk.view_mut(), dv.view_mut());
        (KERNELS.attention_backward)(&launch(), &q, &k, &v, &o, &log_sum, &d_o, &mut dq, &mut dk, &mut dv)
    }

    #[test]
    fn other_types_are_refused() {
        let (q, k) = ([1, 3, 4, 2], [1, 5, 2, 2]);
        let dims: [&[usize]; 9] = [&q, &k, &k, &q, &[1, 4, 3], &q, &q, &k, &k];
        refuses_other_types("attention_backward", dims.map(zeros::<f32>), call_backward);
        let dims: [&[usize]; 5] = [&q, &k, &k, &q, &[1, 4, 3]];
        refuses_other_types("attention", dims.map(zeros::<f32>), call_forward);
    }
}
