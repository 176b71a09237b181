//! Products: float x float with any strides, int8 x ternary, and its gradient to the input.

use super::by_float;
use super::ternary::trit;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Element, Float, Result, View, ViewMut};

pub fn matmul(_: &Launch, a: &View, b: &View, accumulate: bool, c: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(a: &View, b: &View, accumulate: bool, c: &mut ViewMut) -> Result<()> {
        let (m, k, n) = (a.dim(0), a.dim(1), b.dim(1));
        check_matmul(a, b, c)?;
        let (a, b) = (gather::<T>(a)?, gather::<T>(b)?);
        let c = c.slice_mut::<T>()?;
        for i in 0..m {
            for j in 0..n {
                let sum = (0..k).fold(0.0, |sum, l| sum + a[i * k + l].f64() * b[l * n + j].f64());
                let old = if accumulate { c[i * n + j] } else { T::ZERO };
                c[i * n + j] = old + T::of(sum);
            }
        }
        Ok(())
    }
    by_float!(c, typed(a, b, accumulate, c))
}

/// a[m, k], b[k, n], c[m, n].
pub fn check_matmul(a: &View, b: &View, c: &ViewMut) -> Result<()> {
    ensure!(a.dim(1) == b.dim(0), Shape, "matmul: a has {} columns, b has {} rows", a.dim(1), b.dim(0));
    let expected = [a.dim(0), b.dim(1)];
    ensure!(c.dims() == expected, Shape, "matmul: c has shape {:?}, expected {expected:?}", c.dims());
    Ok(())
}

/// A strided matrix copied to row-major order, so that the product above reads like its formula.
fn gather<T: Element>(x: &View) -> Result<Vec<T>> {
    if x.is_contiguous() {
        return Ok(x.slice::<T>()?.to_vec());
    }
    // The only strided views are transposes: row-major once the two dimensions are exchanged again.
    let (rows, columns) = (x.dim(0), x.dim(1));
    let transposed = x.transpose().slice::<T>()?;
    Ok((0..rows * columns).map(|i| transposed[i % columns * rows + i / columns]).collect())
}

pub fn matmul_ternary(
    _: &Launch,
    codes: &View,
    scales: &View,
    packed: &View,
    weight_scale: &View,
    y: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(codes: &View, scales: &View, packed: &View, weight_scale: &View, y: &mut ViewMut) -> Result<()> {
        let (m, k, n) = (codes.dim(0), codes.dim(1), packed.dim(0));
        check_ternary([m, n, k], scales.count(), packed, weight_scale, y)?;
        let (codes, scales, packed) = (codes.slice::<i8>()?, scales.slice::<T>()?, packed.slice::<u8>()?);
        let (weight_scale, y, bytes) = (weight_scale.slice::<T>()?[0], y.slice_mut::<T>()?, k.div_ceil(4));
        for i in 0..m {
            let factor = scales[i] * weight_scale;
            for j in 0..n {
                let row = &packed[j * bytes..][..bytes];
                // Exact: |sum| <= 127 * 2^24 < 2^31.
                let sum: i32 = (0..k).map(|l| i32::from(codes[i * k + l]) * trit(row, l)).sum();
                y[i * n + j] = T::of(f64::from(sum)) * factor;
            }
        }
        Ok(())
    }
    by_float!(y, typed(codes, scales, packed, weight_scale, y))
}

/// Shapes of `matmul_ternary` for the sizes [m, n, k].
pub fn check_ternary(sizes: [usize; 3], scales: usize, packed: &View, weight_scale: &View, y: &ViewMut) -> Result<()> {
    let [m, n, k] = sizes;
    let bytes = [n, k.div_ceil(4)];
    ensure!(packed.dims() == bytes, Shape, "matmul: packed has shape {:?}, expected {bytes:?}", packed.dims());
    ensure!(k <= 1 << 24, Shape, "matmul: {k} columns, more than the 2^24 for which sums are exact");
    ensure!(scales == m, Shape, "matmul: x has {m} rows, scales has {scales} elements");
    ensure!(weight_scale.count() == 1, Shape, "matmul: weight scale has {} elements, expected 1", weight_scale.count());
    ensure!(y.dims() == [m, n], Shape, "matmul: y has shape {:?}, expected [{m}, {n}]", y.dims());
    Ok(())
}

pub fn matmul_ternary_backward(
    _: &Launch,
    dy: &View,
    packed: &View,
    weight_scale: &View,
    dx: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(dy: &View, packed: &View, weight_scale: &View, dx: &mut ViewMut) -> Result<()> {
        let (m, n, k) = (dy.dim(0), dy.dim(1), dx.dim(1));
        check_ternary_backward(dy, packed, weight_scale, dx)?;
        let (dy, packed, scale) = (dy.slice::<T>()?, packed.slice::<u8>()?, weight_scale.slice::<T>()?[0]);
        let (dx, bytes) = (dx.slice_mut::<T>()?, k.div_ceil(4));
        for i in 0..m {
            for l in 0..k {
                let term = |j: usize| dy[i * n + j].f64() * f64::from(trit(&packed[j * bytes..], l));
                dx[i * k + l] = T::of((0..n).map(term).fold(0.0, |sum, term| sum + term)) * scale;
            }
        }
        Ok(())
    }
    by_float!(dx, typed(dy, packed, weight_scale, dx))
}

/// dy[m, n], packed[n, ceil(k / 4)], dx[m, k].
pub fn check_ternary_backward(dy: &View, packed: &View, weight_scale: &View, dx: &ViewMut) -> Result<()> {
    let bytes = [dy.dim(1), dx.dim(1).div_ceil(4)];
    ensure!(packed.dims() == bytes, Shape, "matmul backward: packed has shape {:?}, expected {bytes:?}", packed.dims());
    ensure!(dx.dim(0) == dy.dim(0), Shape, "matmul backward: dy has {} rows, dx has {}", dy.dim(0), dx.dim(0));
    let scales = weight_scale.count();
    ensure!(scales == 1, Shape, "matmul backward: weight scale has {scales} elements, expected 1");
    Ok(())
}
