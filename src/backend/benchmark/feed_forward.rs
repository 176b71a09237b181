use super::cases::{Cases, Work, call, normal, zeros};
use super::elementwise::{ELEMENTS, GPU};

pub fn cases(cases: &mut Cases) {
    for n in ELEMENTS {
        cases.only_gpu(n == GPU);
        cases.add("squared_relu", n.to_string(), Work::elements(n, 4 * n, 4 * n), move || {
            let (x, mut y) = (normal(&[n], 1)?, zeros(&[n])?);
            call(move |kernels, launch| (kernels.squared_relu)(launch, &x.view(), &mut y.view_mut()))
        });
        cases.add("squared_relu_backward", n.to_string(), Work::elements(n, 8 * n, 4 * n), move || {
            let (x, dy, mut dx) = (normal(&[n], 1)?, normal(&[n], 2)?, zeros(&[n])?);
            call(move |kernels, launch| {
                (kernels.squared_relu_backward)(launch, &x.view(), &dy.view(), &mut dx.view_mut())
            })
        });
        cases.add("gated_squared_relu", n.to_string(), Work::elements(n, 8 * n, 4 * n), move || {
            let (gate, up, mut y) = (normal(&[n], 1)?, normal(&[n], 2)?, zeros(&[n])?);
            call(move |kernels, launch| {
                (kernels.gated_squared_relu)(launch, &gate.view(), &up.view(), &mut y.view_mut())
            })
        });
        cases.add("gated_squared_relu_backward", n.to_string(), Work::elements(n, 12 * n, 8 * n), move || {
            let (gate, up, dy) = (normal(&[n], 1)?, normal(&[n], 2)?, normal(&[n], 3)?);
            let (mut dgate, mut dup) = (zeros(&[n])?, zeros(&[n])?);
            call(move |kernels, launch| {
                let (dgate, dup) = (&mut dgate.view_mut(), &mut dup.view_mut());
                (kernels.gated_squared_relu_backward)(launch, &gate.view(), &up.view(), &dy.view(), dgate, dup)
            })
        });
    }
}
