//! Squared ReLU (So et al., arXiv 2109.08668), plain and gated, and their gradients.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut};

pub fn squared_relu(_: &Launch, x: &View, y: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(x: &View, y: &mut ViewMut) -> Result<()> {
        for (y, x) in y.slice_mut::<T>()?.iter_mut().zip(x.slice::<T>()?) {
            let positive = x.max(T::ZERO);
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
            *dx = *dy * (T::of(2.0) * x.max(T::ZERO));
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
            let positive = gate.max(T::ZERO);
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
            let positive = gate[i].max(T::ZERO);
            dgate[i] = dy[i] * up[i] * (T::of(2.0) * positive);
            dup[i] = dy[i] * (positive * positive);
        }
        Ok(())
    }
    check("gated_squared_relu backward", gate.count(), &[up.count(), dy.count(), dgate.count(), dup.count()])?;
    by_float!(gate, typed(gate, up, dy, dgate, dup))
}

/// Every operand has as many elements as the first.
pub fn check(name: &str, count: usize, others: &[usize]) -> Result<()> {
    for &other in others {
        ensure!(other == count, Shape, "{name}: operands have {count} and {other} elements");
    }
    Ok(())
}
