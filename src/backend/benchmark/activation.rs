use super::cases::{Cases, Work, call, codes, normal, zeros, zeros_of};
use crate::tensor::DType;

pub fn cases(cases: &mut Cases) {
    for [m, k] in [[32, 512], [4096, 384], [8192, 2048], [65_536, 2048]] {
        cases.only_gpu(m > 8192);
        let (sizes, floats, bytes) = (format!("{m} x {k}"), 4 * m * k, m * k + 4 * m);
        cases.add("quantize_activations", &*sizes, Work::elements(m * k, floats, bytes), move || {
            let (x, mut codes, mut scales) = (normal(&[m, k], 1)?, zeros_of(DType::I8, &[m, k])?, zeros(&[m])?);
            call(move |kernels, launch| {
                (kernels.quantize_activations)(launch, &x.view(), 1e-5, &mut codes.view_mut(), &mut scales.view_mut())
            })
        });
        cases.add("dequantize_activations", &*sizes, Work::elements(m * k, bytes, floats), move || {
            let (codes, scales, mut x) = (codes(&[m, k], 1)?, normal(&[m], 2)?, zeros(&[m, k])?);
            call(move |kernels, launch| {
                (kernels.dequantize_activations)(launch, &codes.view(), &scales.view(), &mut x.view_mut())
            })
        });
    }
}
