//! Squared ReLU (So et al., arXiv 2109.08668), plain and gated, and their gradients.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut};

pub fn squared_relu(_: &Launch, x: &View, y: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(x: &View, y: &mut ViewMut) -> Result<()> {
        for (y, x) in y.slice_mut::<T>()?.iter_mut().zip(x.slice::<T>()?) {
            let positive = relu(*x);
            *y = positive * positive;
        }
        Ok(())
    }
    check("squared_relu", x.count(), &[y.count()])?;
    by_float!(x, typed(x, y))
}

pub fn squared_relu_backward(_: &Launch, x: &View, dy: &View, dx: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(x: &View, dy: &View, dx: &mut ViewMut) -> Result<()> {
        let (x, dy) = (x.slice::<T>()?, dy.slice::<T>()?);
        for ((dx, x), dy) in dx.slice_mut::<T>()?.iter_mut().zip(x).zip(dy) {
            *dx = *dy * (T::of(2.0) * relu(*x));
        }
        Ok(())
    }
    check("squared_relu backward", x.count(), &[dy.count(), dx.count()])?;
    by_float!(x, typed(x, dy, dx))
}

pub fn gated_squared_relu(_: &Launch, gate: &View, up: &View, y: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(gate: &View, up: &View, y: &mut ViewMut) -> Result<()> {
        let (gate, up) = (gate.slice::<T>()?, up.slice::<T>()?);
        for ((y, gate), up) in y.slice_mut::<T>()?.iter_mut().zip(gate).zip(up) {
            let positive = relu(*gate);
            *y = positive * positive * *up;
        }
        Ok(())
    }
    check("gated_squared_relu", gate.count(), &[up.count(), y.count()])?;
    by_float!(gate, typed(gate, up, y))
}

pub fn gated_squared_relu_backward(
    _: &Launch,
    gate: &View,
    up: &View,
    dy: &View,
    dgate: &mut ViewMut,
    dup: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(gate: &View, up: &View, dy: &View, dgate: &mut ViewMut, dup: &mut ViewMut) -> Result<()> {
        let (gate, up, dy) = (gate.slice::<T>()?, up.slice::<T>()?, dy.slice::<T>()?);
        let (dgate, dup) = (dgate.slice_mut::<T>()?, dup.slice_mut::<T>()?);
        for i in 0..gate.len() {
            let positive = relu(gate[i]);
            dgate[i] = dy[i] * up[i] * (T::of(2.0) * positive);
            dup[i] = dy[i] * (positive * positive);
        }
        Ok(())
    }
    check("gated_squared_relu backward", gate.count(), &[up.count(), dy.count(), dgate.count(), dup.count()])?;
    by_float!(gate, typed(gate, up, dy, dgate, dup))
}

/// max(x, 0), where NaN stays NaN: a broken value must reach the loss, where it is noticed.
fn relu<T: Float>(x: T) -> T {
    if x < T::ZERO { T::ZERO } else { x }
}

/// Every operand has as many elements as the first.
pub fn check(name: &str, count: usize, others: &[usize]) -> Result<()> {
    for &other in others {
        ensure!(other == count, Shape, "{name}: operands have {count} and {other} elements");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    #[test]
    fn nan_stays_nan() {
        let (x, one, mut y) = ([f32::NAN, -2.0, 3.0], [1.0f32; 3], [0f32; 3]);
        let dims = [3];
        (KERNELS.squared_relu)(&launch(), &view(&x, &dims), &mut view_mut(&mut y, &dims)).unwrap();
        assert!(y[0].is_nan() && y[1..] == [0.0, 9.0], "{y:?}");
        let (x, dy) = (view(&x, &dims), view(&one, &dims));
        (KERNELS.squared_relu_backward)(&launch(), &x, &dy, &mut view_mut(&mut y, &dims)).unwrap();
        assert!(y[0].is_nan() && y[1..] == [0.0, 6.0], "{y:?}");
        (KERNELS.gated_squared_relu)(&launch(), &x, &dy, &mut view_mut(&mut y, &dims)).unwrap();
        assert!(y[0].is_nan() && y[1..] == [0.0, 9.0], "{y:?}");
    }

    const N: usize = 64;

    /// squared_relu of x, and its gradient for dy.
    fn plain<T: Float>(x: &[T], dy: &[T]) -> [Vec<T>; 2] {
        let [mut y, mut dx] = [x, x].map(|x| of::<T>(&vec![9.0; x.len()]));
        let dims = [x.len()];
        (KERNELS.squared_relu)(&launch(), &view(x, &dims), &mut view_mut(&mut y, &dims)).unwrap();
        (KERNELS.squared_relu_backward)(&launch(), &view(x, &dims), &view(dy, &dims), &mut view_mut(&mut dx, &dims))
            .unwrap();
        [y, dx]
    }

    /// gated_squared_relu of gate and up, and its gradients for dy.
    fn gated<T: Float>(gate: &[T], up: &[T], dy: &[T]) -> [Vec<T>; 3] {
        let [mut y, mut dgate, mut dup] = [gate, gate, gate].map(|x| of::<T>(&vec![9.0; x.len()]));
        let dims = [gate.len()];
        let (gate, up, dy) = (view(gate, &dims), view(up, &dims), view(dy, &dims));
        (KERNELS.gated_squared_relu)(&launch(), &gate, &up, &mut view_mut(&mut y, &dims)).unwrap();
        let (mut dgate_view, mut dup_view) = (view_mut(&mut dgate, &dims), view_mut(&mut dup, &dims));
        (KERNELS.gated_squared_relu_backward)(&launch(), &gate, &up, &dy, &mut dgate_view, &mut dup_view).unwrap();
        [y, dgate, dup]
    }

    fn square_of_positive(x: f64) -> f64 {
        if x > 0.0 { x.powi(2) } else { 0.0 }
    }

    #[test]
    fn values_are_the_formulas() {
        fn check<T: Float>() {
            let (x, up) = (numbers(47, N), numbers(48, N));
            let [y, _] = plain::<T>(&of(&x), &of(&up));
            let expected: Vec<f64> = x.iter().map(|&x| square_of_positive(x)).collect();
            assert_close("plain", &y, &expected, tolerance::<T>());
            let [y, ..] = gated::<T>(&of(&x), &of(&up), &of(&up));
            let expected: Vec<f64> = x.iter().zip(&up).map(|(&x, up)| square_of_positive(x) * up).collect();
            assert_close("gated", &y, &expected, tolerance::<T>());
        }
        check::<f32>();
        check::<f64>();
        assert_eq!(plain(&[-2.0f32, 0.0, 3.0], &[1.0, 1.0, 2.0]), [vec![0.0, 0.0, 9.0], vec![0.0, 0.0, 12.0]]);
    }

    #[test]
    fn the_backward_passes_are_the_gradients() {
        let (x, up, dy) = (numbers(49, N), numbers(50, N), numbers(51, N));
        // The second derivative jumps at 0, where differences of this step would be off.
        assert!(x.iter().all(|x| x.abs() > 1e-4));
        let [_, dx] = plain(&x, &dy);
        assert_close("dx", &dx, &differences(&x, |x| dot(&plain(x, &dy)[0], &dy)), DIFFERENCES);
        let [_, dgate, dup] = gated(&x, &up, &dy);
        assert_close("dgate", &dgate, &differences(&x, |x| dot(&gated(x, &up, &dy)[0], &dy)), DIFFERENCES);
        assert_close("dup", &dup, &differences(&up, |up| dot(&gated(&x, up, &dy)[0], &dy)), DIFFERENCES);
        let (x, up, dy) = (of::<f32>(&x), of::<f32>(&up), of::<f32>(&dy));
        let [_, dgate_f32, dup_f32] = gated(&x, &up, &dy);
        assert_close("f32 dx", &plain(&x, &dy)[1], &dx, 2e-6);
        assert_close("f32 dgate", &dgate_f32, &dgate, 2e-6);
        assert_close("f32 dup", &dup_f32, &dup, 2e-6);
    }

    #[test]
    fn empty_tensors_and_other_shapes_and_types() {
        assert!(plain::<f32>(&[], &[]).iter().all(Vec::is_empty));
        assert!(gated::<f32>(&[], &[], &[]).iter().all(Vec::is_empty));
        let tensors = || [(); 5].map(|()| zeros::<f32>(&[2, 3]));
        let backward = |[x, up, dy, dx, dup]: &mut [Tensor; 5]| {
            let (x, up, dy) = (x.view(), up.view(), dy.view());
            (KERNELS.gated_squared_relu_backward)(&launch(), &x, &up, &dy, &mut dx.view_mut(), &mut dup.view_mut())
        };
        refuses_other_types("gated backward", tensors(), backward);
        let three = || [(); 3].map(|()| zeros::<f32>(&[2, 3]));
        let gated = |[gate, up, y]: &mut [Tensor; 3]| {
            (KERNELS.gated_squared_relu)(&launch(), &gate.view(), &up.view(), &mut y.view_mut())
        };
        let plain_backward = |[x, dy, dx]: &mut [Tensor; 3]| {
            (KERNELS.squared_relu_backward)(&launch(), &x.view(), &dy.view(), &mut dx.view_mut())
        };
        refuses_other_types("gated", three(), gated);
        refuses_other_types("plain backward", three(), plain_backward);
        let plain = |[x, y]: &mut [Tensor; 2]| (KERNELS.squared_relu)(&launch(), &x.view(), &mut y.view_mut());
        refuses_other_types("plain", [zeros::<f32>(&[3]), zeros::<f32>(&[3])], plain);
        assert_eq!(kind(plain(&mut [zeros::<f32>(&[3]), zeros::<f32>(&[2])])), ErrorKind::Shape);
        for wrong in 0..5 {
            let mut tensors = tensors();
            tensors[wrong] = zeros::<f32>(&[7]);
            assert_eq!(kind(backward(&mut tensors)), ErrorKind::Shape, "argument {wrong}");
            if wrong < 3 {
                let mut three = three();
                three[wrong] = zeros::<f32>(&[7]);
                assert_eq!(kind(gated(&mut three)), ErrorKind::Shape, "argument {wrong}");
                assert_eq!(kind(plain_backward(&mut three)), ErrorKind::Shape, "argument {wrong}");
            }
        }
    }
}
