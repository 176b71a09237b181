use super::cases::{Cases, Work, call, indices, normal, zeros};

pub fn cases(cases: &mut Cases) {
    // Tokens, vocabulary.
    for [n, v] in [[64, 65], [768, 256], [256, 50_257], [8192, 50_257]] {
        cases.only_gpu(n == 8192);
        let (sizes, bytes) = (format!("{n} x {v}"), 4 * n * v);
        cases.add("cross_entropy", &*sizes, Work::elements(n * v, bytes, 4 * n), move || {
            let (logits, targets, mut losses) = (normal(&[n, v], 1)?, indices(&[n], 2, v)?, zeros(&[n])?);
            call(move |kernels, launch| {
                (kernels.cross_entropy)(launch, &logits.view(), &targets.view(), &mut losses.view_mut())
            })
        });
        cases.add("cross_entropy_gradient", &*sizes, Work::elements(n * v, bytes, bytes), move || {
            let (mut logits, targets, mut losses) = (normal(&[n, v], 1)?, indices(&[n], 2, v)?, zeros(&[n])?);
            call(move |kernels, launch| {
                let (logits, losses) = (&mut logits.view_mut(), &mut losses.view_mut());
                (kernels.cross_entropy_gradient)(launch, &targets.view(), 1.0, logits, losses)
            })
        });
    }
}
