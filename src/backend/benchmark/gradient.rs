use super::cases::{Cases, Work, call, codes, normal, zeros, zeros_of};
use super::elementwise::{ELEMENTS, GPU};
use crate::tensor::DType;
use crate::tensor::random::{Purpose, Stream};

/// Elements that share a scale.
const BLOCK: usize = 256;

pub fn cases(cases: &mut Cases) {
    for n in ELEMENTS {
        cases.only_gpu(n == GPU);
        let scales = n.div_ceil(BLOCK);
        let (floats, packed) = (4 * n, n + 4 * scales);
        cases.add("quantize_gradients", n.to_string(), Work::elements(n, floats, packed), move || {
            let (g, mut codes, mut out) = (normal(&[n], 1)?, zeros_of(DType::I8, &[n])?, zeros(&[scales])?);
            let stream = Stream::new(1, Purpose::Gradient, 2, 3);
            call(move |kernels, launch| {
                let (codes, out) = (&mut codes.view_mut(), &mut out.view_mut());
                (kernels.quantize_gradients)(launch, &g.view(), stream, BLOCK, codes, out)
            })
        });
        cases.add("dequantize_gradients", n.to_string(), Work::elements(n, packed, floats), move || {
            let (codes, scales, mut g) = (codes(&[n], 1)?, normal(&[scales], 2)?, zeros(&[n])?);
            call(move |kernels, launch| {
                (kernels.dequantize_gradients)(launch, &codes.view(), &scales.view(), BLOCK, &mut g.view_mut())
            })
        });
        let (bytes, owed) = (n.div_ceil(4), 2 * floats);
        let work = Work::elements(n, owed, floats + bytes + 4 * scales);
        cases.add("ternarize_gradients", n.to_string(), work, move || {
            let (g, mut error) = (normal(&[n], 1)?, normal(&[n], 2)?);
            let (mut packed, mut out) = (zeros_of(DType::U8, &[bytes])?, zeros(&[scales])?);
            call(move |kernels, launch| {
                let (error, packed, out) = (&mut error.view_mut(), &mut packed.view_mut(), &mut out.view_mut());
                (kernels.ternarize_gradients)(launch, &g.view(), BLOCK, error, packed, out)
            })
        });
    }
}
