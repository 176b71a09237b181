use super::cases::{Cases, Work, call, normal, prepare, zeros};

pub fn cases(cases: &mut Cases) {
    // Windows, queries, keys, heads, size of a head: in cache, of sizes S and M; then the next token of a long text.
    for shape in [[1, 32, 32, 2, 32], [12, 64, 64, 4, 32], [4, 256, 256, 6, 64]] {
        forward(cases, shape);
        backward(cases, shape);
    }
    cases.only_gpu(true);
    forward(cases, [64, 256, 256, 6, 64]);
    backward(cases, [64, 256, 256, 6, 64]);
    cases.only_gpu(false);
    forward(cases, [1, 1, 256, 6, 64]);
    forward(cases, [1, 1, 16_384, 16, 64]);
}

fn sizes([b, tq, tk, h, e]: [usize; 5]) -> String {
    format!("{b} x {tq} of {tk}, {h} heads of {e}")
}

/// Multiplications of one product of queries and keys, as far as the mask leaves them.
fn product([b, tq, tk, h, e]: [usize; 5]) -> usize {
    b * h * e * (tq * (2 * tk - tq + 1) / 2)
}

fn forward(cases: &mut Cases, shape: [usize; 5]) {
    let [b, tq, tk, h, e] = shape;
    let (queries, keys) = (4 * b * tq * h * e, 4 * b * tk * h * e);
    let work = Work::float_products(2 * product(shape), queries + 2 * keys, queries);
    cases.add("attention", sizes(shape), work, move || {
        let (q, k, v) = (normal(&[b, tq, h, e], 1)?, normal(&[b, tk, h, e], 2)?, normal(&[b, tk, h, e], 3)?);
        let (mut o, mut log_sum) = (zeros(&[b, tq, h, e])?, zeros(&[b, h, tq])?);
        call(move |kernels, launch| {
            let (o, log_sum) = (&mut o.view_mut(), &mut log_sum.view_mut());
            (kernels.attention)(launch, &q.view(), &k.view(), &v.view(), o, log_sum)
        })
    });
}

fn backward(cases: &mut Cases, shape: [usize; 5]) {
    let [b, tq, tk, h, e] = shape;
    let (queries, keys) = (4 * b * tq * h * e, 4 * b * tk * h * e);
    let work = Work::float_products(5 * product(shape), 3 * queries + 2 * keys, queries + 2 * keys);
    cases.add("attention_backward", sizes(shape), work, move || {
        let (q, k, v) = (normal(&[b, tq, h, e], 1)?, normal(&[b, tk, h, e], 2)?, normal(&[b, tk, h, e], 3)?);
        let (mut o, mut log_sum, d_o) = (zeros(&[b, tq, h, e])?, zeros(&[b, h, tq])?, normal(&[b, tq, h, e], 4)?);
        let (mut dq, mut dk, mut dv) = (zeros(&[b, tq, h, e])?, zeros(&[b, tk, h, e])?, zeros(&[b, tk, h, e])?);
        prepare(|kernels, launch| {
            let (o, log_sum) = (&mut o.view_mut(), &mut log_sum.view_mut());
            (kernels.attention)(launch, &q.view(), &k.view(), &v.view(), o, log_sum)
        })?;
        call(move |kernels, launch| {
            let (q, k, v, o) = (&q.view(), &k.view(), &v.view(), &o.view());
            let (dq, dk, dv) = (&mut dq.view_mut(), &mut dk.view_mut(), &mut dv.view_mut());
            (kernels.attention_backward)(launch, q, k, v, o, &log_sum.view(), &d_o.view(), dq, dk, dv)
        })
    });
}
