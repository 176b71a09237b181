use super::cases::{Cases, Work, call, normal, zeros};

pub fn cases(cases: &mut Cases) {
    // Windows, tokens, heads, size of a head.
    for [b, t, h, e] in [[1, 64, 4, 32], [12, 64, 4, 32], [16, 256, 6, 64], [64, 1024, 4, 64]] {
        let bytes = 4 * b * t * h * e;
        cases.add(
            "rope",
            format!("{b} x {t}, {h} heads of {e}"),
            Work::elements(b * t * h * e, bytes, bytes),
            move || {
                let (cosine, sine) = (normal(&[t, e / 2], 1)?, normal(&[t, e / 2], 2)?);
                // Zeros stay zeros under these tables, which are no rotation.
                let mut x = zeros(&[b, t, h, e])?;
                call(move |kernels, launch| {
                    (kernels.rope)(launch, &cosine.view(), &sine.view(), false, &mut x.view_mut())
                })
            },
        );
    }
}
