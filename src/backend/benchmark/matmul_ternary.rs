use super::cases::{Call, Cases, Work, call, codes, normal, one, packed, zeros};
use crate::tensor::Result;

pub fn cases(cases: &mut Cases) {
    // Rows of x, rows of w, columns. In cache, of size S, two of inference; the last is beyond any cache.
    for [m, n, k] in [[64, 128, 128], [768, 128, 512], [2, 2048, 2048], [256, 2048, 2048], [1, 16_384, 16_384]] {
        let work = Work::int8_products(m * n * k, m * k + 4 * m + n * k / 4, 4 * m * n);
        cases.add("matmul_ternary", format!("{m} x {n} x {k}"), work, move || product(m, n, k));
    }
    for m in [1, 2, 3, 12, 13, 14, 19, 25, 37] {
        for [n, k] in [[7, 4], [33, 260], [97, 1028], [16, 8196]] {
            cases.add_odd("matmul_ternary", format!("{m} x {n} x {k}"), move || product(m, n, k));
        }
    }
    for [m, n, k] in [[64, 128, 128], [768, 128, 512], [256, 1024, 1024]] {
        let work = Work::float_products(m * n * k, 4 * m * n + n * k / 4, 4 * m * k);
        cases.add("matmul_ternary_backward", format!("{m} x {n} x {k}"), work, move || {
            let (dy, packed, one, mut dx) = (normal(&[m, n], 1)?, packed(n, k, 2)?, one()?, zeros(&[m, k])?);
            call(move |kernels, launch| {
                let (dy, packed, one) = (dy.view(), packed.view(), one.view());
                (kernels.matmul_ternary_backward)(launch, &dy, &packed, &one, &mut dx.view_mut())
            })
        });
    }
}

fn product(m: usize, n: usize, k: usize) -> Result<Call> {
    let (codes, scales, packed, one) = (codes(&[m, k], 1)?, normal(&[m], 2)?, packed(n, k, 3)?, one()?);
    let mut y = zeros(&[m, n])?;
    call(move |kernels, launch| {
        let (codes, scales, packed, one) = (codes.view(), scales.view(), packed.view(), one.view());
        (kernels.matmul_ternary)(launch, &codes, &scales, &packed, &one, &mut y.view_mut())
    })
}
