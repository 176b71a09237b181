use super::cases::{Cases, Work, call, normal, prepare, steps, zeros, zeros_of};
use super::elementwise::{ELEMENTS, GPU};
use crate::tensor::{DType, Result, Tensor};

pub fn cases(cases: &mut Cases) {
    for n in ELEMENTS {
        cases.only_gpu(n == GPU);
        for k in [16, 256] {
            let (sizes, bytes) = (format!("{n}, {k} entries"), if k == 16 { n / 2 } else { n });
            cases.add("codebook_labels", &*sizes, Work::elements(n, 4 * n, 4 * n), move || {
                let (x, thresholds, mut labels) = (normal(&[n], 1)?, steps(k - 1)?, zeros_of(DType::U32, &[n])?);
                call(move |kernels, launch| {
                    (kernels.codebook_labels)(launch, &x.view(), &thresholds.view(), &mut labels.view_mut())
                })
            });
            cases.add("codebook_pack", &*sizes, Work::elements(n, 4 * n, bytes), move || {
                let (x, thresholds, mut packed) = (normal(&[n], 1)?, steps(k - 1)?, zeros_of(DType::U8, &[bytes])?);
                call(move |kernels, launch| {
                    (kernels.codebook_pack)(launch, &x.view(), &thresholds.view(), &mut packed.view_mut())
                })
            });
            cases.add("codebook_unpack", &*sizes, Work::elements(n, bytes, 4 * n), move || {
                let (packed, entries, mut y) = (packed(n, k, bytes)?, normal(&[k], 2)?, zeros(&[n])?);
                call(move |kernels, launch| {
                    (kernels.codebook_unpack)(launch, &packed.view(), &entries.view(), &mut y.view_mut())
                })
            });
        }
    }
}

/// The codes of normal numbers.
fn packed(n: usize, k: usize, bytes: usize) -> Result<Tensor> {
    let (x, thresholds, mut packed) = (normal(&[n], 1)?, steps(k - 1)?, zeros_of(DType::U8, &[bytes])?);
    prepare(|kernels, launch| (kernels.codebook_pack)(launch, &x.view(), &thresholds.view(), &mut packed.view_mut()))?;
    Ok(packed)
}
