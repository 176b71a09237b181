use super::cases::{Call, Cases, Work, call, constant, normal, packed, zeros};
use crate::backend::launch::Launch;
use crate::backend::table::Kernels;
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Result, Tensor, View, ViewMut};

/// One scale for the matrix, for 128 columns, and for the row.
const GROUPS: [(usize, &str); 3] = [(0, "one scale"), (128, "groups of 128"), (usize::MAX, "rows")];

/// A number for each group.
fn all([n, k]: [usize; 2], group: usize, number: f32) -> Result<Tensor> {
    if group == 0 { constant(&[1], number) } else { constant(&[n, k.div_ceil(group)], number) }
}

type Scheme = fn(&Kernels) -> fn(&Launch, &View, usize, &mut ViewMut, &mut ViewMut) -> Result<()>;

fn scheme(shape: [usize; 2], group: usize, kernel: Scheme) -> Result<Call> {
    let (w, mut thresholds, mut scales) = (normal(&shape, 1)?, all(shape, group, 0.0)?, all(shape, group, 0.0)?);
    call(move |kernels, launch| {
        kernel(kernels)(launch, &w.view(), group, &mut thresholds.view_mut(), &mut scales.view_mut())
    })
}

pub fn cases(cases: &mut Cases) {
    for shape @ [n, k] in [[128usize, 512], [384, 1536], [4096, 4096], [16_384, 8192]] {
        cases.only_gpu(n > 4096);
        let (floats, two_bit) = (4 * n * k, n * k / 4);
        for (group, name) in GROUPS {
            let sizes = format!("{n} x {k}, {name}");
            let read = Work::elements(n * k, floats, 0);
            cases.add("absmean", &*sizes, read, move || scheme(shape, group, |kernels| kernels.absmean));
            cases.add("absmedian", &*sizes, read, move || scheme(shape, group, |kernels| kernels.absmedian));
            cases.add("least_squares", &*sizes, read, move || scheme(shape, group, |kernels| kernels.least_squares));
            cases.add("mean_above", &*sizes, read, move || {
                let (w, thresholds) = (normal(&shape, 1)?, all(shape, group, 0.6)?);
                let mut means = all(shape, group, 0.0)?;
                call(move |kernels, launch| {
                    (kernels.mean_above)(launch, &w.view(), group, &thresholds.view(), &mut means.view_mut())
                })
            });
            cases.add("ternarize", &*sizes, Work::elements(n * k, floats, two_bit), move || {
                // Half of the mean |w|.
                let (w, thresholds, mut packed) = (normal(&shape, 1)?, all(shape, group, 0.4)?, packed(n, k, 2)?);
                call(move |kernels, launch| {
                    (kernels.ternarize)(launch, &w.view(), group, &thresholds.view(), &mut packed.view_mut())
                })
            });
            cases.add("ternarize_stochastic", &*sizes, Work::elements(n * k, floats, two_bit), move || {
                let (w, scales, mut packed) = (normal(&shape, 1)?, all(shape, group, 0.8)?, packed(n, k, 2)?);
                let stream = Stream::new(0, Purpose::Initialize, 0, 0);
                call(move |kernels, launch| {
                    let (w, scales) = (w.view(), scales.view());
                    (kernels.ternarize_stochastic)(launch, &w, group, &scales, stream, &mut packed.view_mut())
                })
            });
            cases.add("deternarize", &*sizes, Work::elements(n * k, two_bit, floats), move || {
                let (packed, scales, mut w) = (packed(n, k, 1)?, all(shape, group, 1.0)?, zeros(&shape)?);
                call(move |kernels, launch| {
                    (kernels.deternarize)(launch, &packed.view(), group, &scales.view(), &mut w.view_mut())
                })
            });
        }
    }
}
