use super::cases::{Cases, Work, call, normal, zeros_of};
use super::elementwise::{ELEMENTS, GPU};
use crate::tensor::DType;

pub fn cases(cases: &mut Cases) {
    for n in ELEMENTS {
        cases.only_gpu(n == GPU);
        cases.add("sum_squares", n.to_string(), Work::elements(n, 4 * n, 0), move || {
            let (x, mut sum) = (normal(&[n], 1)?, zeros_of(DType::F64, &[1])?);
            call(move |kernels, launch| (kernels.sum_squares)(launch, &x.view(), &mut sum.view_mut()))
        });
        cases.add("first_non_finite", n.to_string(), Work::elements(n, 4 * n, 0), move || {
            let x = normal(&[n], 1)?;
            call(move |kernels, launch| (kernels.first_non_finite)(launch, &x.view()).map(|_| ()))
        });
    }
}
