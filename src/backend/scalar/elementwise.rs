//! Fill, add, dropout.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::random::Stream;
use crate::tensor::{Float, Result, View, ViewMut};

pub fn fill(_: &Launch, value: f64, y: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(value: f64, y: &mut ViewMut) -> Result<()> {
        y.slice_mut::<T>()?.fill(T::of(value));
        Ok(())
    }
    by_float!(y, typed(value, y))
}

pub fn add(_: &Launch, x: &View, y: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(x: &View, y: &mut ViewMut) -> Result<()> {
        let (x, y) = (x.slice::<T>()?, y.slice_mut::<T>()?);
        ensure!(x.len() == y.len(), Shape, "add: x has {} elements, y has {}", x.len(), y.len());
        for (y, x) in y.iter_mut().zip(x) {
            *y += *x;
        }
        Ok(())
    }
    by_float!(x, typed(x, y))
}

pub fn dropout(_: &Launch, rate: f32, stream: Stream, x: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(rate: f32, stream: Stream, x: &mut ViewMut) -> Result<()> {
        // 1 / (1 - rate) is rounded once, in f32, on every row.
        let kept = T::of(f64::from(1.0 / (1.0 - rate)));
        for (i, x) in x.slice_mut::<T>()?.iter_mut().enumerate() {
            *x = if stream.uniform(i as u64) >= rate { *x * kept } else { T::ZERO };
        }
        Ok(())
    }
    by_float!(x, typed(rate, stream, x))
}
