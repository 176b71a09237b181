use super::cases::{Cases, Work, call, normal, zeros, zeros_of};
use crate::tensor::DType;

pub fn cases(cases: &mut Cases) {
    // Tokens and widths of the sizes S and M; the last beyond the cache of a GPU.
    for [m, d] in [[768, 128], [768, 512], [4096, 384], [4096, 1536], [65_536, 1536]] {
        cases.only_gpu(m > 4096);
        let (sizes, n, bytes) = (format!("{m} x {d}"), m * d, 4 * m * d);
        cases.add("rms_norm_quantize", &*sizes, Work::elements(n, bytes, n), move || {
            let (x, gain) = (normal(&[m, d], 1)?, normal(&[d], 2)?);
            let (mut codes, mut scales, mut inverse) = (zeros_of(DType::I8, &[m, d])?, zeros(&[m])?, zeros(&[m])?);
            call(move |kernels, launch| {
                let (codes, scales, inverse) = (&mut codes.view_mut(), &mut scales.view_mut(), &mut inverse.view_mut());
                (kernels.rms_norm_quantize)(launch, &x.view(), &gain.view(), 1e-5, codes, scales, inverse)
            })
        });
        cases.add("squared_relu_norm_quantize", &*sizes, Work::elements(n, bytes, n), move || {
            let (x, gain) = (normal(&[m, d], 1)?, normal(&[d], 2)?);
            let (mut codes, mut scales, mut inverse) = (zeros_of(DType::I8, &[m, d])?, zeros(&[m])?, zeros(&[m])?);
            call(move |kernels, launch| {
                let (codes, scales, inverse) = (&mut codes.view_mut(), &mut scales.view_mut(), &mut inverse.view_mut());
                (kernels.squared_relu_norm_quantize)(launch, &x.view(), &gain.view(), 1e-5, codes, scales, inverse)
            })
        });
        cases.add("gated_squared_relu_norm_quantize", &*sizes, Work::elements(n, 2 * bytes, n), move || {
            let (x, up, gain) = (normal(&[m, d], 1)?, normal(&[m, d], 3)?, normal(&[d], 2)?);
            let (mut codes, mut scales, mut inverse) = (zeros_of(DType::I8, &[m, d])?, zeros(&[m])?, zeros(&[m])?);
            call(move |kernels, launch| {
                let (x, up, gain) = (&x.view(), &up.view(), &gain.view());
                let (codes, scales, inverse) = (&mut codes.view_mut(), &mut scales.view_mut(), &mut inverse.view_mut());
                (kernels.gated_squared_relu_norm_quantize)(launch, x, up, gain, 1e-5, codes, scales, inverse)
            })
        });
        cases.add("squared_relu_norm_backward", &*sizes, Work::elements(n, 2 * bytes, bytes), move || {
            let (x, gain, inverse, dy) = (normal(&[m, d], 1)?, normal(&[d], 2)?, normal(&[m], 3)?, normal(&[m, d], 4)?);
            let (mut dx, mut dgain) = (zeros(&[m, d])?, zeros(&[d])?);
            call(move |kernels, launch| {
                let (x, gain, inverse, dy) = (&x.view(), &gain.view(), &inverse.view(), &dy.view());
                let (dx, dgain) = (&mut dx.view_mut(), &mut dgain.view_mut());
                (kernels.squared_relu_norm_backward)(launch, x, gain, inverse, dy, dx, dgain)
            })
        });
        cases.add("gated_squared_relu_norm_backward", &*sizes, Work::elements(n, 3 * bytes, 2 * bytes), move || {
            let (gate, up, gain, inverse) =
                (normal(&[m, d], 1)?, normal(&[m, d], 5)?, normal(&[d], 2)?, normal(&[m], 3)?);
            let (dy, mut dgate, mut dup, mut dgain) =
                (normal(&[m, d], 4)?, zeros(&[m, d])?, zeros(&[m, d])?, zeros(&[d])?);
            call(move |kernels, launch| {
                let (gate, up, gain, inverse) = (&gate.view(), &up.view(), &gain.view(), &inverse.view());
                let (dgate, dup, dgain) = (&mut dgate.view_mut(), &mut dup.view_mut(), &mut dgain.view_mut());
                let call = kernels.gated_squared_relu_norm_backward;
                call(launch, gate, up, gain, inverse, &dy.view(), dgate, dup, dgain)
            })
        });
    }
}
