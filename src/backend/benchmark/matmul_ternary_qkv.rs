use super::cases::{Call, Cases, Work, call, codes, normal, packed, zeros};
use crate::tensor::Result;

pub fn cases(cases: &mut Cases) {
    // Windows, tokens, heads, size of a head: one token of size M, in cache, of size S, many of M.
    for [b, t, h, e] in [[1, 1, 6, 64], [1, 64, 4, 32], [12, 64, 4, 32], [4, 256, 6, 64], [64, 256, 6, 64]] {
        cases.only_gpu(b == 64);
        let (m, n): (usize, usize) = (b * t, h * e);
        let (read, written) = (m * n + 4 * m + 3 * n * n.div_ceil(4) + 4 * t * e, 12 * m * n);
        let work = match m {
            1 => Work::packed_products(3 * n * n, read, written),
            _ => Work::int8_products(3 * m * n * n, read, written),
        };
        let name = format!("{b} x {t}, {h} heads of {e}");
        cases.add("matmul_ternary_qkv", name, work, move || products([b, t, h, h, e, h * e]));
    }
    cases.only_gpu(false);
    for [b, t, h, g, e, d] in [[1, 5, 4, 2, 32, 260], [3, 7, 6, 3, 24, 68], [2, 65, 3, 1, 40, 1028]] {
        let name = format!("{b} x {t}, {h} and {g} heads of {e}, width {d}");
        cases.add_odd("matmul_ternary_qkv", name, move || products([b, t, h, g, e, d]));
    }
}

fn products([b, t, h, g, e, d]: [usize; 6]) -> Result<Call> {
    let (codes, scales) = (codes(&[b * t, d], 1)?, normal(&[b * t], 2)?);
    let (to_q, to_k, to_v) = (packed(h * e, d, 3)?, packed(g * e, d, 4)?, packed(g * e, d, 5)?);
    let (of_q, of_k, of_v) = (normal(&[1], 6)?, normal(&[1], 7)?, normal(&[1], 8)?);
    let (cosine, sine) = (normal(&[t, e / 2], 9)?, normal(&[t, e / 2], 10)?);
    let (mut q, mut k, mut v) = (zeros(&[b, t, h, e])?, zeros(&[b, t, g, e])?, zeros(&[b, t, g, e])?);
    call(move |kernels, launch| {
        (kernels.matmul_ternary_qkv)(
            launch,
            &codes.view(),
            &scales.view(),
            &to_q.view(),
            &of_q.view(),
            &to_k.view(),
            &of_k.view(),
            &to_v.view(),
            &of_v.view(),
            &cosine.view(),
            &sine.view(),
            &mut q.view_mut(),
            &mut k.view_mut(),
            &mut v.view_mut(),
        )
    })
}
