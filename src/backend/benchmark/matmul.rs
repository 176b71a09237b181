use super::cases::{Cases, Work, call, normal, zeros};

/// Rows of x, rows of w, columns. In cache, of size S, two of inference, one beyond any cache; one for a GPU.
const PRODUCTS: [[usize; 3]; 6] =
    [[64, 128, 128], [768, 128, 512], [2, 2048, 2048], [256, 2048, 2048], [1, 4096, 8192], [4096, 4096, 4096]];

pub fn cases(cases: &mut Cases) {
    for [m, n, k] in PRODUCTS {
        cases.only_gpu(m == 4096);
        let work = Work::float_products(m * n * k, 4 * (m * k + n * k), 4 * m * n);
        // As of a linear layer: w is [n, k].
        cases.add("matmul", format!("{m} x {n} x {k}"), work, move || {
            let (x, w, mut y) = (normal(&[m, k], 1)?, normal(&[n, k], 2)?, zeros(&[m, n])?);
            call(move |kernels, launch| {
                (kernels.matmul)(launch, &x.view(), &w.view().transpose(), false, &mut y.view_mut())
            })
        });
    }
    cases.only_gpu(false);
    for [m, n, k] in [[512, 128, 768], [384, 384, 16_384]] {
        let work = Work::float_products(m * n * k, 4 * (m * k + n * k + m * n), 4 * m * n);
        // As of a weight's gradient: dy [k, m] transposed by x [k, n], k tokens.
        cases.add("matmul", format!("{m} x {n} x {k}, gradient"), work, move || {
            let (dy, x, mut dw) = (normal(&[k, m], 1)?, normal(&[k, n], 2)?, zeros(&[m, n])?);
            call(move |kernels, launch| {
                (kernels.matmul)(launch, &dy.view().transpose(), &x.view(), true, &mut dw.view_mut())
            })
        });
    }
}
