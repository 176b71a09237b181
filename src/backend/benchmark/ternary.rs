use super::cases::{Cases, Work, call, packed, prepare};
use crate::tensor::{DType, Tensor};

pub fn cases(cases: &mut Cases) {
    for [n, k] in [[128usize, 512], [384, 1536], [4096, 4096]] {
        let (sizes, two_bit, five) = (format!("{n} x {k}"), n * k / 4, n * k.div_ceil(5));
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
