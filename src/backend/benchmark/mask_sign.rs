use super::cases::{Cases, Work, call, packed, prepare, zeros_of};
use crate::tensor::{DType, MaskSign, Packing, Result, Tensor};

/// Random trits of two bits each, and the same as mask and signs.
fn both(n: usize, k: usize) -> Result<(Tensor, Tensor)> {
    let (two_bit, mut bytes) = (packed(n, k, 1)?, 0);
    prepare(|kernels, launch| {
        bytes = (kernels.mask_sign_bytes)(launch, &two_bit.view(), k)?;
        Ok(())
    })?;
    let mut mask_sign = zeros_of(DType::U8, &[bytes])?;
    prepare(|kernels, launch| (kernels.pack_mask_sign)(launch, &two_bit.view(), k, &mut mask_sign.view_mut()))?;
    Ok((two_bit, mask_sign))
}

pub fn cases(cases: &mut Cases) {
    for [n, k] in [[128usize, 512], [384, 1536], [4096, 4096], [32_768, 16_384]] {
        cases.only_gpu(n > 4096);
        let (sizes, trits, two_bit) = (format!("{n} x {k}"), n * k, n * k / 4);
        // A third of these trits are zeros.
        let form = MaskSign::new(n, k);
        let bytes = form.signs() + (form.largest() - form.signs()) * 2 / 3;
        cases.add("mask_sign_bytes", &*sizes, Work::elements(n * k, two_bit, 0), move || {
            let two_bit = packed(n, k, 1)?;
            call(move |kernels, launch| (kernels.mask_sign_bytes)(launch, &two_bit.view(), k).map(|_| ()))
        });
        cases.add("pack_mask_sign", &*sizes, Work::elements(n * k, two_bit, bytes), move || {
            let (two_bit, mut mask_sign) = both(n, k)?;
            call(move |kernels, launch| (kernels.pack_mask_sign)(launch, &two_bit.view(), k, &mut mask_sign.view_mut()))
        });
        cases.add("unpack_mask_sign", &*sizes, Work::elements(n * k, bytes, two_bit), move || {
            let (mut two_bit, mask_sign) = both(n, k)?;
            call(move |kernels, launch| {
                (kernels.unpack_mask_sign)(launch, &mask_sign.view(), k, &mut two_bit.view_mut())
            })
        });
        let checked = format!("{sizes}, {}", Packing::MaskSign.name());
        cases.add("check_trits", checked, Work::elements(n * k, bytes, 0), move || {
            let (_, mask_sign) = both(n, k)?;
            call(move |kernels, launch| (kernels.check_trits)(launch, Packing::MaskSign, &mask_sign.view(), [n, k]))
        });
        cases.add("mask_sign_trits", &*sizes, Work::elements(n * k, bytes, trits), move || {
            let (_, mask_sign) = both(n, k)?;
            let mut trits = zeros_of(DType::I8, &[n, k])?;
            call(move |kernels, launch| (kernels.mask_sign_trits)(launch, &mask_sign.view(), &mut trits.view_mut()))
        });
    }
}
