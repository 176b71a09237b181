use super::cases::{Cases, Work, call, normal, zeros};

pub fn cases(cases: &mut Cases) {
    for [m, d] in [[64, 128], [768, 128], [4096, 384], [32_768, 512], [131_072, 1024]] {
        cases.only_gpu(m > 32_768);
        let (sizes, bytes) = (format!("{m} x {d}"), 4 * m * d);
        cases.add("rms_norm", &*sizes, Work::elements(m * d, bytes, bytes), move || {
            let (x, gain, mut y, mut inverse) = (normal(&[m, d], 1)?, normal(&[d], 2)?, zeros(&[m, d])?, zeros(&[m])?);
            call(move |kernels, launch| {
                let (y, inverse) = (&mut y.view_mut(), &mut inverse.view_mut());
                (kernels.rms_norm)(launch, &x.view(), &gain.view(), 1e-5, y, inverse)
            })
        });
        cases.add("rms_norm_backward", &*sizes, Work::elements(m * d, 2 * bytes, bytes), move || {
            let (x, gain, inverse) = (normal(&[m, d], 1)?, normal(&[d], 2)?, normal(&[m], 3)?);
            let (dy, mut dx, mut dgain) = (normal(&[m, d], 4)?, zeros(&[m, d])?, zeros(&[d])?);
            call(move |kernels, launch| {
                let (x, gain, inverse, dy) = (&x.view(), &gain.view(), &inverse.view(), &dy.view());
                let (dx, dgain) = (&mut dx.view_mut(), &mut dgain.view_mut());
                (kernels.rms_norm_backward)(launch, x, gain, inverse, dy, false, dx, dgain)
            })
        });
    }
}
