//! Rotary position embedding (Su et al., arXiv 2104.09864), half rotation as in Llama and BitNet.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut};

pub fn rope(_: &Launch, cosine: &View, sine: &View, inverse: bool, x: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(cosine: &View, sine: &View, inverse: bool, x: &mut ViewMut) -> Result<()> {
        let (length, heads, e) = (x.dim(1), x.dim(2), x.dim(3));
        let half = e / 2;
        let (cosine, sine, x) = (cosine.slice::<T>()?, sine.slice::<T>()?, x.slice_mut::<T>()?);
        for (head, x) in x.chunks_exact_mut(e.max(1)).enumerate() {
            let position = head / heads % length;
            let (low, high) = x.split_at_mut(half);
            for i in 0..half {
                let c = cosine[position * half + i];
                let s = if inverse { -sine[position * half + i] } else { sine[position * half + i] };
                (low[i], high[i]) = (low[i] * c - high[i] * s, high[i] * c + low[i] * s);
            }
        }
        Ok(())
    }
    check(cosine.dims(), sine.dims(), x.dims())?;
    by_float!(x, typed(cosine, sine, inverse, x))
}

/// x[b, t, h, e] with even e; cosine and sine[t, e / 2].
pub fn check(cosine: &[usize], sine: &[usize], x: &[usize]) -> Result<()> {
    ensure!(
        x.len() == 4 && x[3].is_multiple_of(2),
        Shape,
        "rope: x has shape {x:?}, expected [b, t, h, e] with even e"
    );
    let expected = [x[1], x[3] / 2];
    ensure!(cosine == expected, Shape, "rope: cosine has shape {cosine:?}, expected {expected:?}");
    ensure!(sine == expected, Shape, "rope: sine has shape {sine:?}, expected {expected:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    /// cosine and sine[t, e / 2] of the angles t * 10000^(-2 i / e).
    fn tables<T: Float>(length: usize, e: usize) -> [Vec<T>; 2] {
        let angle = |i: usize| (i / (e / 2)) as f64 * 10_000f64.powf(-2.0 * (i % (e / 2)) as f64 / e as f64);
        let angles: Vec<f64> = (0..length * (e / 2)).map(angle).collect();
        [f64::cos, f64::sin].map(|f| angles.iter().map(|&a| T::of(f(a))).collect())
    }

    fn rope<T: Float>(x: &[T], dims: [usize; 4], inverse: bool) -> Vec<T> {
        let [cosine, sine] = tables::<T>(dims[1], dims[3]);
        let (mut y, table) = (x.to_vec(), [dims[1], dims[3] / 2]);
        (KERNELS.rope)(&launch(), &view(&cosine, &table), &view(&sine, &table), inverse, &mut view_mut(&mut y, &dims))
            .unwrap();
        y
    }

    #[test]
    fn pairs_turn_by_the_angle_of_their_position() {
        fn check<T: Float>(dims: [usize; 4]) {
            let [batch, length, heads, e] = dims;
            let x = numbers(33, batch * length * heads * e);
            let mut expected = x.clone();
            for b in 0..batch {
                for t in 0..length {
                    for h in 0..heads {
                        for i in 0..e / 2 {
                            let at = ((b * length + t) * heads + h) * e + i;
                            // A complex number times exp(i angle).
                            let angle = t as f64 * 10_000f64.powf(-2.0 * i as f64 / e as f64);
                            let (radius, argument) = (x[at].hypot(x[at + e / 2]), x[at + e / 2].atan2(x[at]));
                            expected[at] = radius * (argument + angle).cos();
                            expected[at + e / 2] = radius * (argument + angle).sin();
                        }
                    }
                }
            }
            assert_close(&format!("{dims:?}"), &rope::<T>(&of(&x), dims, false), &expected, tolerance::<T>());
        }
        for dims in [[1, 1, 1, 2], [2, 5, 3, 8], [1, 9, 2, 6], [3, 2, 1, 4]] {
            check::<f32>(dims);
            check::<f64>(dims);
        }
    }

    #[test]
    fn the_inverse_undoes_it() {
        let (dims, x) = ([2, 7, 3, 6], numbers(34, 2 * 7 * 3 * 6));
        let turned = rope(&x, dims, false);
        assert!(turned.iter().zip(&x).any(|(y, x)| (y - x).abs() > 0.5));
        assert_close("there and back", &rope(&turned, dims, true), &x, 1e-14);
        assert_close("back and there", &rope(&rope(&x, dims, true), dims, false), &x, 1e-14);
    }

    #[test]
    fn the_inverse_is_the_backward_pass() {
        let (dims, n) = ([2, 3, 2, 4], 48);
        let (x, dy) = (numbers(35, n), numbers(36, n));
        let expected = differences(&x, |x| dot(&rope(x, dims, false), &dy));
        assert_close("dx", &rope(&dy, dims, true), &expected, DIFFERENCES);
    }

    #[test]
    fn empty_tensors_and_other_shapes_and_types() {
        for dims in [[0, 3, 2, 4], [2, 0, 2, 4], [2, 3, 0, 4]] {
            assert!(rope::<f32>(&[], dims, false).is_empty());
        }
        let no_elements = view::<f32>(&[], &[3, 0]);
        let mut none = view_mut::<f32>(&mut [], &[2, 3, 2, 0]);
        (KERNELS.rope)(&launch(), &no_elements, &no_elements, false, &mut none).unwrap();
        let call = |cosine: &[usize], sine: &[usize], x: &[usize]| {
            let (cosine, sine, mut x) = (zeros::<f32>(cosine), zeros::<f32>(sine), zeros::<f32>(x));
            kind((KERNELS.rope)(&launch(), &cosine.view(), &sine.view(), false, &mut x.view_mut()))
        };
        assert_eq!(call(&[3, 2], &[3, 2], &[1, 3, 1, 5]), ErrorKind::Shape);
        assert_eq!(call(&[2, 2], &[3, 2], &[1, 3, 1, 4]), ErrorKind::Shape);
        assert_eq!(call(&[3, 2], &[3, 1], &[1, 3, 1, 4]), ErrorKind::Shape);
        assert_eq!(call(&[3, 2], &[3, 2], &[3, 1, 4]), ErrorKind::Shape);
        let tensors = [zeros::<f32>(&[3, 2]), zeros::<f32>(&[3, 2]), zeros::<f32>(&[1, 3, 1, 4])];
        refuses_other_types("rope", tensors, |[cosine, sine, x]| {
            (KERNELS.rope)(&launch(), &cosine.view(), &sine.view(), false, &mut x.view_mut())
        });
    }
}
