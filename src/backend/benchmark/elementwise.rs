use super::cases::{Cases, Work, call, normal, zeros};
use crate::tensor::random::{Purpose, Stream};

/// Elements of vectors: in the cache of a core, an activation of size M, beyond any cache.
pub const ELEMENTS: [usize; 4] = [1 << 14, 4096 * 384, 1 << 24, GPU];

/// Beyond the cache of a GPU.
pub const GPU: usize = 1 << 27;

pub fn cases(cases: &mut Cases) {
    for n in ELEMENTS {
        cases.only_gpu(n == GPU);
        cases.add("fill", n.to_string(), Work::elements(n, 0, 4 * n), move || {
            let mut y = zeros(&[n])?;
            call(move |kernels, launch| (kernels.fill)(launch, 1.0, &mut y.view_mut()))
        });
        cases.add("add", n.to_string(), Work::elements(n, 8 * n, 4 * n), move || {
            let (x, mut y) = (normal(&[n], 1)?, normal(&[n], 2)?);
            call(move |kernels, launch| (kernels.add)(launch, &x.view(), &mut y.view_mut()))
        });
        cases.add("dropout", n.to_string(), Work::elements(n, 4 * n, 4 * n), move || {
            // Zeros, which stay what they are however often the call is repeated.
            let (mut x, stream) = (zeros(&[n])?, Stream::new(1, Purpose::Dropout, 2, 3));
            call(move |kernels, launch| (kernels.dropout)(launch, 0.1, stream, &mut x.view_mut()))
        });
        cases.add("clamp", n.to_string(), Work::elements(n, 4 * n, 4 * n), move || {
            let mut x = normal(&[n], 1)?;
            call(move |kernels, launch| (kernels.clamp)(launch, -1.0, 1.0, &mut x.view_mut()).map(|_| ()))
        });
    }
    cases.only_gpu(false);
    cases.add_odd("dropout", "1037 of normal numbers", || {
        let (mut x, stream) = (normal(&[1037], 1)?, Stream::new(1, Purpose::Dropout, 2, 3));
        call(move |kernels, launch| (kernels.dropout)(launch, 0.1, stream, &mut x.view_mut()))
    });
}
