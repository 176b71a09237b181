use super::cases::{Cases, Work, call, codes, normal, packed, small_codes, zeros, zeros_of};
use crate::tensor::DType;
use crate::tensor::random::{Purpose, Stream};

pub fn cases(cases: &mut Cases) {
    // Tokens, rows and columns of the weights: those of the sizes S and M.
    for [m, n, k] in
        [[768, 128, 128], [768, 512, 128], [768, 128, 512], [2048, 384, 384], [2048, 1536, 384], [16_384, 1536, 384]]
    {
        cases.only_gpu(m == 16_384);
        let (floats, codes_bytes) = (4 * m * n, m * n);
        cases.add(
            "quantize_columns",
            format!("{m} x {n}, {k}"),
            Work::elements(m * n, floats, codes_bytes),
            move || {
                let (g, factors) = (normal(&[m, n], 1)?, normal(&[m], 2)?);
                let (mut to, mut scales) =
                    (zeros_of(DType::I8, &[m.div_ceil(256), n, 256])?, zeros(&[m.div_ceil(256), n])?);
                let stream = Stream::new(1, Purpose::OutputGradient, 2, 3);
                call(move |kernels, launch| {
                    let (to, scales) = (&mut to.view_mut(), &mut scales.view_mut());
                    (kernels.quantize_columns)(launch, &g.view(), &factors.view(), stream, to, scales)
                })
            },
        );
        let work = Work::int8_products(m * n * k, codes_bytes + m * k + 4 * n * k, 4 * n * k);
        cases.add("weight_gradient", format!("{n} x {k} x {m}"), work, move || {
            let (g, scales) = (small_codes(&[m.div_ceil(256), n, 256], 1)?, normal(&[m.div_ceil(256), n], 2)?);
            let (codes, mut dw) = (codes(&[m, k], 3)?, zeros(&[n, k])?);
            call(move |kernels, launch| {
                (kernels.weight_gradient)(launch, &g.view(), &scales.view(), &codes.view(), &mut dw.view_mut())
            })
        });
        let work = Work::int8_products(m * n * k, m * n + n * k / 4, 4 * m * k);
        cases.add("matmul_ternary_transposed", format!("{m} x {k} x {n}"), work, move || {
            let (codes, scales, packed) = (codes(&[m, n], 1)?, normal(&[m], 2)?, packed(n, k, 3)?);
            let (scale, mut dx) = (normal(&[1], 4)?, zeros(&[m, k])?);
            call(move |kernels, launch| {
                let (codes, scales, packed, scale) = (&codes.view(), &scales.view(), &packed.view(), &scale.view());
                (kernels.matmul_ternary_transposed)(launch, codes, scales, packed, scale, false, &mut dx.view_mut())
            })
        });
    }
}
