//! Fill, add, dropout, clamp.

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

pub fn scale(_: &Launch, factor: f32, x: &View, y: &mut ViewMut) -> Result<()> {
    let (x, y) = (x.slice::<f32>()?, y.slice_mut::<f32>()?);
    ensure!(x.len() == y.len(), Shape, "scale: x has {} elements, y has {}", x.len(), y.len());
    for (y, x) in y.iter_mut().zip(x) {
        *y = factor * x;
    }
    Ok(())
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

pub fn clamp(_: &Launch, low: f64, high: f64, x: &mut ViewMut) -> Result<usize> {
    fn typed<T: Float>(low: f64, high: f64, x: &mut ViewMut) -> Result<usize> {
        let (low, high) = (T::of(low), T::of(high));
        let mut outside = 0;
        for x in x.slice_mut::<T>()? {
            let nearest = if *x < low {
                low
            } else if *x > high {
                high
            } else {
                continue;
            };
            *x = nearest;
            outside += 1;
        }
        Ok(outside)
    }
    by_float!(x, typed(low, high, x))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::tensor::random::{Purpose, Stream};

    const STREAM: Stream = Stream { seed: 5, purpose: Purpose::Dropout, step: 3, tensor: 2 };

    #[test]
    fn fill_rounds_the_value_to_the_type() {
        let (mut x, mut y) = ([1.0f32; 5], [1.0f64; 5]);
        (KERNELS.fill)(&launch(), 0.1, &mut view_mut(&mut x, &[5])).unwrap();
        (KERNELS.fill)(&launch(), 0.1, &mut view_mut(&mut y, &[5])).unwrap();
        assert_eq!((x, y), ([0.1f32; 5], [0.1f64; 5]));
        (KERNELS.fill)(&launch(), 0.1, &mut view_mut::<f32>(&mut [], &[0])).unwrap();
    }

    #[test]
    fn add_adds() {
        fn check<T: Float + std::fmt::Debug>() {
            let (x, mut y) = (of::<T>(&[1.0, -2.0, 3.0]), of::<T>(&[10.0, 20.0, 30.0]));
            (KERNELS.add)(&launch(), &view(&x, &[3]), &mut view_mut(&mut y, &[3])).unwrap();
            assert_eq!(y, of::<T>(&[11.0, 18.0, 33.0]));
            let longer = (KERNELS.add)(&launch(), &view(&x, &[3]), &mut view_mut(&mut y[..2], &[2]));
            assert_eq!(kind(longer), ErrorKind::Shape);
            (KERNELS.add)(&launch(), &view::<T>(&[], &[0, 4]), &mut view_mut::<T>(&mut [], &[0, 4])).unwrap();
        }
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn dropout_keeps_the_elements_that_the_stream_says() {
        const N: usize = 20_000;
        for rate in [0.0f32, 0.25, 0.9] {
            let x = of::<f32>(&numbers(0, N));
            let mut y = x.clone();
            (KERNELS.dropout)(&launch(), rate, STREAM, &mut view_mut(&mut y, &[N])).unwrap();
            let mut kept = 0;
            for i in 0..N {
                if STREAM.uniform(i as u64) < rate {
                    assert_eq!(y[i], 0.0);
                } else {
                    kept += 1;
                    assert_eq!(y[i], x[i] * (1.0 / (1.0 - rate)));
                }
            }
            let expected = N as f64 * f64::from(1.0 - rate);
            let deviation = (expected * f64::from(rate)).sqrt();
            assert!((f64::from(kept) - expected).abs() <= 5.0 * deviation, "{kept} kept at rate {rate}");
        }
    }

    #[test]
    fn dropout_of_the_gradient_is_the_gradient_of_dropout() {
        let (x, dy) = (numbers(1, 40), numbers(2, 40));
        let drop = |x: &[f64]| {
            let mut y = x.to_vec();
            (KERNELS.dropout)(&launch(), 0.4, STREAM, &mut view_mut(&mut y, &[5, 8])).unwrap();
            y
        };
        assert_close("dx", &drop(&dy), &differences(&x, |x| dot(&dy, &drop(x))), DIFFERENCES);
    }

    #[test]
    fn clamp_moves_what_is_outside_and_counts_it() {
        fn check<T: Float + std::fmt::Debug>() {
            let clamp = |low, high, x: &[f64]| {
                let mut x = of::<T>(x);
                let count = x.len();
                let outside = (KERNELS.clamp)(&launch(), low, high, &mut view_mut(&mut x, &[count])).unwrap();
                (outside, to_f64(&x))
            };
            let x = [-3.0, -1.0, -0.5, 0.0, 2.0, 2.5];
            assert_eq!(clamp(-1.0, 2.0, &x), (2, vec![-1.0, -1.0, -0.5, 0.0, 2.0, 2.0]));
            assert_eq!(clamp(f64::NEG_INFINITY, 0.0, &x), (2, vec![-3.0, -1.0, -0.5, 0.0, 0.0, 0.0]));
            assert_eq!(clamp(f64::NEG_INFINITY, f64::INFINITY, &x), (0, x.to_vec()));
            assert_eq!(clamp(1.0, 1.0, &[f64::INFINITY, f64::NEG_INFINITY]), (2, vec![1.0, 1.0]));
            let (outside, nan) = clamp(0.0, 1.0, &[f64::NAN]);
            assert!(outside == 0 && nan[0].is_nan());
            assert_eq!(clamp(0.0, 1.0, &[]), (0, vec![]));
        }
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn other_types_are_refused() {
        refuses_other_types("fill", [zeros::<f32>(&[3])], |[y]| (KERNELS.fill)(&launch(), 1.0, &mut y.view_mut()));
        refuses_other_types("add", [zeros::<f32>(&[3]), zeros::<f32>(&[3])], |[x, y]| {
            (KERNELS.add)(&launch(), &x.view(), &mut y.view_mut())
        });
        refuses_other_types("dropout", [zeros::<f32>(&[3])], |[x]| {
            (KERNELS.dropout)(&launch(), 0.5, STREAM, &mut x.view_mut())
        });
        refuses_other_types("clamp", [zeros::<f32>(&[3])], |[x]| {
            (KERNELS.clamp)(&launch(), 0.0, 1.0, &mut x.view_mut()).map(|_| ())
        });
    }
}
