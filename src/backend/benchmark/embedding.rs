use super::cases::{Cases, Work, call, indices, normal, zeros};

pub fn cases(cases: &mut Cases) {
    // Tokens, width, vocabulary.
    for [n, d, v] in [[64, 128, 256], [4096, 384, 256], [32_768, 512, 32_768]] {
        let (sizes, bytes) = (format!("{n} x {d} of {v}"), 4 * n * d);
        cases.add("embedding", &*sizes, Work::elements(n * d, bytes + 4 * n, bytes), move || {
            let (tokens, table, mut y) = (indices(&[n], 1, v)?, normal(&[v, d], 2)?, zeros(&[n, d])?);
            call(move |kernels, launch| (kernels.embedding)(launch, &tokens.view(), &table.view(), &mut y.view_mut()))
        });
        cases.add("embedding_backward", &*sizes, Work::elements(n * d, 2 * bytes + 4 * n, bytes), move || {
            let (tokens, dy, mut table) = (indices(&[n], 1, v)?, normal(&[n, d], 2)?, zeros(&[v, d])?);
            call(move |kernels, launch| {
                (kernels.embedding_backward)(launch, &tokens.view(), &dy.view(), &mut table.view_mut())
            })
        });
    }
}
