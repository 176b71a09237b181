use super::cases::{Cases, Work, call, normal, one, packed, prepare, zeros};
use crate::tensor::{DType, Tensor};

pub fn cases(cases: &mut Cases) {
    for [n, k] in [[128usize, 512], [384, 1536], [4096, 4096]] {
        let (sizes, floats, two_bit, five) = (format!("{n} x {k}"), 4 * n * k, n * k / 4, n * k.div_ceil(5));
        cases.add("absmean", &*sizes, Work::elements(n * k, floats, 0), move || {
            let (w, mut threshold, mut scale) = (normal(&[n, k], 1)?, zeros(&[1])?, zeros(&[1])?);
            call(move |kernels, launch| {
                (kernels.absmean)(launch, &w.view(), &mut threshold.view_mut(), &mut scale.view_mut())
            })
        });
        cases.add("ternarize", &*sizes, Work::elements(n * k, floats, two_bit), move || {
            let (w, mut threshold, mut packed) = (normal(&[n, k], 1)?, one()?, packed(n, k, 2)?);
            threshold.host_mut::<f32>()?[0] = 0.4; // half of the mean |w|
            call(move |kernels, launch| {
                (kernels.ternarize)(launch, &w.view(), &threshold.view(), &mut packed.view_mut())
            })
        });
        cases.add("deternarize", &*sizes, Work::elements(n * k, two_bit, floats), move || {
            let (packed, scale, mut w) = (packed(n, k, 1)?, one()?, zeros(&[n, k])?);
            call(move |kernels, launch| (kernels.deternarize)(launch, &packed.view(), &scale.view(), &mut w.view_mut()))
        });
        cases.add("pack_five", &*sizes, Work::elements(n * k, two_bit, five), move || {
            let (packed, mut five) = (packed(n, k, 1)?, Tensor::zeros(DType::U8, &[n, k.div_ceil(5)])?);
            call(move |kernels, launch| (kernels.pack_five)(launch, &packed.view(), k, &mut five.view_mut()))
        });
        cases.add("unpack_five", &*sizes, Work::elements(n * k, five, two_bit), move || {
            let (mut packed, mut five) = (packed(n, k, 1)?, Tensor::zeros(DType::U8, &[n, k.div_ceil(5)])?);
            prepare(|kernels, launch| (kernels.pack_five)(launch, &packed.view(), k, &mut five.view_mut()))?;
            call(move |kernels, launch| (kernels.unpack_five)(launch, &five.view(), k, &mut packed.view_mut()))
        });
    }
}
