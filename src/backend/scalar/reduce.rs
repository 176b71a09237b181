//! Sums that decide integers are canonical: the same bits on every row, level and thread count.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut};

/// Elements of one canonical block.
pub const BLOCK: usize = 4096;
/// Accumulators of one block.
pub const LANES: usize = 32;

/// The canonical sum of `term(x)`: blocks of 4096; element i of a block adds into lane i mod 32; the lanes fold 16, 8, 4, 2,
/// 1 (lane j takes lane j + 16, then j + 8, ...); block sums add in f64 in index order.
pub fn canonical_sum<T: Float>(x: &[T], term: impl Fn(T) -> T) -> f64 {
    canonical_sum_of(x.len(), |i| term(x[i]))
}

/// The canonical sum of `term(i)` for i in 0 .. count.
pub fn canonical_sum_of<T: Float>(count: usize, term: impl Fn(usize) -> T) -> f64 {
    let mut total = 0.0;
    for start in (0..count).step_by(BLOCK) {
        let mut lanes = [T::ZERO; LANES];
        for i in start..count.min(start + BLOCK) {
            lanes[(i - start) % LANES] += term(i);
        }
        let mut width = LANES / 2;
        while width > 0 {
            for j in 0..width {
                lanes[j] += lanes[j + width];
            }
            width /= 2;
        }
        total += lanes[0].f64();
    }
    total
}

/// A result or scale that is one number.
pub fn check_single(what: &str, count: usize) -> Result<()> {
    ensure!(count == 1, Shape, "{what} has {count} elements, expected 1");
    Ok(())
}

pub fn sum_squares(_: &Launch, x: &View, sum: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(x: &View, sum: &mut ViewMut) -> Result<()> {
        let squares = canonical_sum(x.slice::<T>()?, |v| v * v);
        sum.slice_mut::<f64>()?[0] += squares;
        Ok(())
    }
    check_single("sum_squares: sum", sum.count())?;
    by_float!(x, typed(x, sum))
}

pub fn first_non_finite(_: &Launch, x: &View) -> Result<Option<usize>> {
    fn typed<T: Float>(x: &View) -> Result<Option<usize>> {
        Ok(x.slice::<T>()?.iter().position(|v| !v.is_finite()))
    }
    by_float!(x, typed(x))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::canonical_sum;

    /// Numbers of many magnitudes, so that every order of summation gives other bits.
    fn wide<T: Float>(n: usize) -> Vec<T> {
        numbers(3, n).iter().enumerate().map(|(i, x)| T::of(x * f64::from(10f32.powi(i as i32 % 7 - 3)))).collect()
    }

    fn sum_squares<T: Float>(x: &[T], start: f64) -> f64 {
        let mut sum = [start];
        (KERNELS.sum_squares)(&launch(), &view(x, &[x.len()]), &mut view_mut(&mut sum, &[1])).unwrap();
        sum[0]
    }

    #[test]
    fn sums_are_bit_for_bit_those_of_the_definition() {
        fn check<T: Float>() {
            for n in CANONICAL_SIZES {
                let x = wide::<T>(n);
                let absolute: Vec<T> = x.iter().map(|x| x.abs()).collect();
                let squares: Vec<T> = x.iter().map(|x| *x * *x).collect();
                assert_eq!(canonical_sum(&x, T::abs).to_bits(), canonical(&absolute).to_bits(), "{n} elements");
                assert_eq!(sum_squares(&x, 0.0).to_bits(), canonical(&squares).to_bits(), "{n} elements");
            }
        }
        check::<f32>();
        check::<f64>();
    }

    /// Else the test above could not tell the definition from another order or a fused multiply-add.
    #[test]
    fn other_orders_and_fused_squares_give_other_bits() {
        let x = wide::<f32>(4096);
        let found = canonical_sum(&x, |x| x * x);
        let in_order = x.iter().fold(0.0f32, |sum, x| sum + x * x);
        let in_f64: f64 = x.iter().map(|&x| f64::from(x * x)).sum();
        let mut fused = [0.0f32; 32];
        x.iter().enumerate().for_each(|(i, &x)| fused[i % 32] = x.mul_add(x, fused[i % 32]));
        let squares: Vec<f32> = x.iter().map(|x| x * x).collect();
        let lanes: Vec<f32> = (0..32).map(|j| squares.iter().skip(j).step_by(32).fold(0.0, |s, x| s + x)).collect();
        let lanes_in_order = lanes.iter().fold(0.0f32, |sum, x| sum + x);
        assert_ne!(found, f64::from(in_order));
        assert_ne!(found, in_f64);
        assert_ne!(found, f64::from(lanes_in_order));
        assert_ne!(fused.to_vec(), lanes);
        assert!((found / in_f64 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_sum_is_added_to_what_was_there() {
        assert_eq!(sum_squares(&[3.0f32, 4.0], 0.5), 25.5);
        assert_eq!(sum_squares::<f32>(&[], 0.5), 0.5);
        let two = (KERNELS.sum_squares)(&launch(), &view(&[1.0f32], &[1]), &mut view_mut(&mut [0.0f64; 2], &[2]));
        assert_eq!(kind(two), ErrorKind::Shape);
        let none = (KERNELS.sum_squares)(&launch(), &view(&[1.0f32], &[1]), &mut view_mut::<f64>(&mut [], &[0]));
        assert_eq!(kind(none), ErrorKind::Shape);
    }

    #[test]
    fn the_first_number_that_is_not_finite_is_found() {
        fn check<T: Float>() {
            let find = |x: &[T]| (KERNELS.first_non_finite)(&launch(), &view(x, &[x.len()])).unwrap();
            let mut x = of::<T>(&numbers(4, 100));
            assert_eq!(find(&x), None);
            assert_eq!(find(&[]), None);
            x[99] = T::of(f64::NAN);
            assert_eq!(find(&x), Some(99));
            x[40] = T::of(f64::NEG_INFINITY);
            assert_eq!(find(&x), Some(40));
            x[0] = T::of(f64::INFINITY);
            assert_eq!(find(&x), Some(0));
        }
        check::<f32>();
        check::<f64>();
        assert_eq!((KERNELS.first_non_finite)(&launch(), &view(&[f32::MAX, f32::MIN, 1e-45], &[3])).unwrap(), None);
    }

    #[test]
    fn other_types_are_refused() {
        let wrong = (KERNELS.first_non_finite)(&launch(), &view(&[1u8], &[1]));
        assert_eq!(kind(wrong), ErrorKind::DType);
        let f32_sum = (KERNELS.sum_squares)(&launch(), &view(&[1.0f32], &[1]), &mut view_mut(&mut [0.0f32], &[1]));
        assert_eq!(kind(f32_sum), ErrorKind::DType);
        let integers = (KERNELS.sum_squares)(&launch(), &view(&[1u8], &[1]), &mut view_mut(&mut [0.0f64], &[1]));
        assert_eq!(kind(integers), ErrorKind::DType);
    }
}
