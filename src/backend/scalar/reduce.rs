//! Sums that decide integers are canonical: the same bits on every row, level and thread count.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::{Float, Result, View, ViewMut};

/// Elements of one canonical block.
pub const BLOCK: usize = 4096;
/// Accumulators of one block.
pub const LANES: usize = 32;

/// The canonical sum of `term(x)`: blocks of 4096; element i of a block adds into lane i mod 32; the lanes fold 16, 8, 4, 2,
/// 1 (lane j takes lane j + 16, then j + 8, ...); block sums add in f64 in index order.
pub fn canonical_sum<T: Float>(x: &[T], term: impl Fn(T) -> T) -> f64 {
    let mut total = 0.0;
    for block in x.chunks(BLOCK) {
        let mut lanes = [T::ZERO; LANES];
        for (i, &value) in block.iter().enumerate() {
            lanes[i % LANES] += term(value);
        }
        let mut width = LANES / 2;
        while width > 0 {
            for j in 0..width {
                lanes[j] = lanes[j] + lanes[j + width];
            }
            width /= 2;
        }
        total += lanes[0].f64();
    }
    total
}

pub fn sum_squares(_: &Launch, x: &View, sum: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(x: &View, sum: &mut ViewMut) -> Result<()> {
        let squares = canonical_sum(x.slice::<T>()?, |v| v * v);
        for sum in sum.slice_mut::<f64>()? {
            *sum += squares;
        }
        Ok(())
    }
    by_float!(x, typed(x, sum))
}

pub fn first_non_finite(_: &Launch, x: &View) -> Result<Option<usize>> {
    fn typed<T: Float>(x: &View) -> Result<Option<usize>> {
        Ok(x.slice::<T>()?.iter().position(|v| !v.is_finite()))
    }
    by_float!(x, typed(x))
}
