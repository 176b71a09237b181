use super::cases::{Cases, Work, call, packed, prepare, zeros_of};
use crate::tensor::{DType, Packing, Result, Tensor};

pub fn cases(cases: &mut Cases) {
    for [n, k] in [[128usize, 512], [384, 1536], [4096, 4096], [32_768, 16_384]] {
        cases.only_gpu(n > 4096);
        let (sizes, two_bit, five) = (format!("{n} x {k}"), n * k / 4, n * k.div_ceil(5));
        let trits = n * k;
        let checked = |packing: Packing| format!("{sizes}, {}", packing.name());
        cases.add("check_trits", checked(Packing::FivePerByte), Work::elements(n * k, five, 0), move || {
            let five = fives(n, k)?;
            call(move |kernels, launch| (kernels.check_trits)(launch, Packing::FivePerByte, &five.view(), [n, k]))
        });
        cases.add("check_trits", checked(Packing::TwoBit), Work::elements(n * k, two_bit, 0), move || {
            let packed = packed(n, k, 1)?;
            call(move |kernels, launch| (kernels.check_trits)(launch, Packing::TwoBit, &packed.view(), [n, k]))
        });
        cases.add("pack_two_bit", &*sizes, Work::elements(n * k, trits, two_bit), move || {
            let (trits, mut packed) = (trits_of(n, k)?, zeros_of(DType::U8, &[n, k / 4])?);
            call(move |kernels, launch| (kernels.pack_two_bit)(launch, &trits.view(), &mut packed.view_mut()))
        });
        cases.add("unpack_two_bit", &*sizes, Work::elements(n * k, two_bit, trits), move || {
            let (packed, mut trits) = (packed(n, k, 1)?, zeros_of(DType::I8, &[n, k])?);
            call(move |kernels, launch| (kernels.unpack_two_bit)(launch, &packed.view(), &mut trits.view_mut()))
        });
        cases.add("five_trits", &*sizes, Work::elements(n * k, five, trits), move || {
            let (five, mut trits) = (fives(n, k)?, zeros_of(DType::I8, &[n, k])?);
            call(move |kernels, launch| (kernels.five_trits)(launch, &five.view(), &mut trits.view_mut()))
        });
        cases.add("pack_five", &*sizes, Work::elements(n * k, two_bit, five), move || {
            let (packed, mut five) = (packed(n, k, 1)?, zeros_of(DType::U8, &[n, k.div_ceil(5)])?);
            call(move |kernels, launch| (kernels.pack_five)(launch, &packed.view(), k, &mut five.view_mut()))
        });
        cases.add("unpack_five", &*sizes, Work::elements(n * k, five, two_bit), move || {
            let (five, mut packed) = (fives(n, k)?, zeros_of(DType::U8, &[n, k.div_ceil(4)])?);
            call(move |kernels, launch| (kernels.unpack_five)(launch, &five.view(), k, &mut packed.view_mut()))
        });
    }
}

/// Random trits, five a byte.
fn fives(n: usize, k: usize) -> Result<Tensor> {
    let (packed, mut five) = (packed(n, k, 1)?, zeros_of(DType::U8, &[n, k.div_ceil(5)])?);
    prepare(|kernels, launch| (kernels.pack_five)(launch, &packed.view(), k, &mut five.view_mut()))?;
    Ok(five)
}

/// Random trits, one a byte.
fn trits_of(n: usize, k: usize) -> Result<Tensor> {
    let (packed, mut trits) = (packed(n, k, 3)?, zeros_of(DType::I8, &[n, k])?);
    prepare(|kernels, launch| (kernels.unpack_two_bit)(launch, &packed.view(), &mut trits.view_mut()))?;
    Ok(trits)
}
