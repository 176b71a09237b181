//! From float weights to trits and scales, and back: every scheme finds a scale s and a threshold h for each group of weights;
//! a weight above h is +1, one below -h is -1, others are 0.

use super::by_float;
use super::reduce::{canonical_sum, canonical_sum_of};
use super::ternary::{check_packed, trit};
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::random::Stream;
use crate::tensor::{Float, Result, View, ViewMut, vec_zeroed};
use std::ops::Range;

/// The least scale of a mean or median: a tensor of zeros still has a threshold above zero (BitNet b1.58).
pub const LEAST_SCALE: f64 = 1e-5;

/// More weights in a group of `least_squares` could have a sum of integers beyond 64 bits.
pub const MAX_LEAST_SQUARES: usize = 1 << 33;

/// Which weights of w[n, k] share a scale: `width` columns of a row, the last group of a row being what is left; or all.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    pub rows: usize,
    pub columns: usize,
    /// At least 1; at most a row, but of the whole matrix.
    pub width: usize,
    /// 1 of the whole matrix.
    pub per_row: usize,
    pub whole: bool,
}

impl Groups {
    /// The groups of w, whose shape is `dims`; `group` is their width, or 0 for the whole matrix.
    pub fn new(name: &str, dims: &[usize], group: usize) -> Result<Groups> {
        ensure!(dims.len() == 2, Shape, "{name}: w has shape {dims:?}, expected two dimensions");
        let (rows, columns) = (dims[0], dims[1]);
        if group == 0 {
            return Ok(Groups { rows, columns, width: (rows * columns).max(1), per_row: 1, whole: true });
        }
        let width = group.min(columns).max(1);
        Ok(Groups { rows, columns, width, per_row: columns.div_ceil(width), whole: false })
    }

    pub fn count(&self) -> usize {
        if self.whole { 1 } else { self.rows * self.per_row }
    }

    /// SHAPE, unless `dims` is that of one number a group.
    pub fn check(&self, name: &str, dims: &[usize]) -> Result<()> {
        let expected = [self.rows, self.per_row];
        let expected = if self.whole { &[1][..] } else { &expected[..] };
        ensure!(dims == expected, Shape, "{name} has shape {dims:?}, expected {expected:?}");
        Ok(())
    }

    /// The weights of group i among all, row by row.
    pub fn weights(&self, i: usize) -> Range<usize> {
        if self.whole {
            return 0..self.rows * self.columns;
        }
        let row = i / self.per_row * self.columns;
        let start = i % self.per_row * self.width;
        row + start..row + self.columns.min(start + self.width)
    }

    /// The group of a weight.
    pub fn of(&self, row: usize, column: usize) -> usize {
        if self.whole { 0 } else { row * self.per_row + column / self.width }
    }
}

/// scales[i] = scale(group i, i) and thresholds[i] = half of it.
fn by_groups<T: Float>(
    name: &str,
    w: &View,
    group: usize,
    thresholds: &mut ViewMut,
    scales: &mut ViewMut,
    scale: impl Fn(&[T]) -> Result<T>,
) -> Result<()> {
    let groups = Groups::new(name, w.dims(), group)?;
    groups.check("thresholds", thresholds.dims()).map_err(|e| e.within(name))?;
    groups.check("scales", scales.dims()).map_err(|e| e.within(name))?;
    let (w, thresholds, scales) = (w.slice::<T>()?, thresholds.slice_mut::<T>()?, scales.slice_mut::<T>()?);
    for i in 0..groups.count() {
        scales[i] = scale(&w[groups.weights(i)])?;
        thresholds[i] = T::of(0.5) * scales[i];
    }
    Ok(())
}

/// max(scale, 1e-5), where NaN stays NaN.
fn at_least<T: Float>(scale: T) -> T {
    let least = T::of(LEAST_SCALE);
    if scale < least { least } else { scale }
}

pub fn absmean(_: &Launch, w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
        by_groups("absmean", w, group, thresholds, scales, |w: &[T]| {
            Ok(at_least(T::of(canonical_sum(w, T::abs) / w.len().max(1) as f64)))
        })
    }
    by_float!(w, typed(w, group, thresholds, scales))
}

pub fn absmedian(_: &Launch, w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
        by_groups("absmedian", w, group, thresholds, scales, |w: &[T]| Ok(at_least(median(w)?)))
    }
    by_float!(w, typed(w, group, thresholds, scales))
}

/// The lower median of |w|; 0 of nothing.
fn median<T: Float>(w: &[T]) -> Result<T> {
    if !w.iter().all(|w| w.is_finite()) {
        return Ok(T::of(f64::NAN));
    }
    let mut magnitudes = vec_zeroed::<T>(w.len())?;
    magnitudes.iter_mut().zip(w).for_each(|(magnitude, w)| *magnitude = w.abs());
    magnitudes.sort_unstable_by(|a, b| a.f64().total_cmp(&b.f64()));
    Ok(if w.is_empty() { T::ZERO } else { magnitudes[(w.len() - 1) / 2] })
}

pub fn least_squares(_: &Launch, w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
        by_groups("least_squares", w, group, thresholds, scales, |w: &[T]| least_squares_scale(w))
    }
    by_float!(w, typed(w, group, thresholds, scales))
}

/// With the k largest magnitudes as +-s, the squared error is (sum of w^2) - 2 s P_k + k s^2, P_k being their sum: least, for
/// this k, at s = P_k / k, where it is (sum of w^2) - P_k^2 / k. So k maximizes P_k^2 / k; then half of s lies between the
/// k-th magnitude and the next. The sums are of integers, and so are exact in any order.
fn least_squares_scale<T: Float>(w: &[T]) -> Result<T> {
    check_least_squares(w.len())?;
    if !w.iter().all(|w| w.is_finite()) {
        return Ok(T::of(f64::NAN));
    }
    let largest = w.iter().fold(0.0, |largest: f64, w| largest.max(w.abs().f64()));
    if largest == 0.0 {
        return Ok(T::ZERO);
    }
    let e = exponent(largest);
    let mut m = vec_zeroed::<u32>(w.len())?;
    m.iter_mut().zip(w).for_each(|(m, w)| *m = times_power(w.abs().f64(), 31 - e) as u32);
    m.sort_unstable_by(|a, b| b.cmp(a));
    let (mut sum, mut best, mut mean) = (0u64, 0.0, 0.0);
    for k in 1..=m.len() {
        sum += u64::from(m[k - 1]);
        if k == m.len() || m[k - 1] > m[k] {
            let p = sum as f64;
            let f = (p * p) * (1.0 / k as f64);
            if f > best {
                (best, mean) = (f, p / k as f64);
            }
        }
    }
    Ok(T::of(times_power(mean, e - 31)))
}

pub fn check_least_squares(count: usize) -> Result<()> {
    ensure!(
        count <= MAX_LEAST_SQUARES,
        Shape,
        "least_squares: a group has {count} weights, at most {MAX_LEAST_SQUARES} can be summed exactly"
    );
    Ok(())
}

/// The least e with x < 2^e; x is positive and finite.
fn exponent(x: f64) -> i32 {
    match (x.to_bits() >> 52) as i32 {
        0 => 64 - x.to_bits().leading_zeros() as i32 - 1074,
        field => field - 1022,
    }
}

/// x * 2^power. In two steps, because the power alone may be out of range.
fn times_power(x: f64, power: i32) -> f64 {
    let two_to = |power: i32| f64::from_bits(((power + 1023) as u64) << 52);
    x * two_to(power / 2) * two_to(power - power / 2)
}

pub fn mean_above(_: &Launch, w: &View, group: usize, thresholds: &View, scales: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(w: &View, group: usize, thresholds: &View, scales: &mut ViewMut) -> Result<()> {
        let groups = Groups::new("mean_above", w.dims(), group)?;
        groups.check("mean_above: thresholds", thresholds.dims())?;
        groups.check("mean_above: scales", scales.dims())?;
        let (w, thresholds, scales) = (w.slice::<T>()?, thresholds.slice::<T>()?, scales.slice_mut::<T>()?);
        for i in 0..groups.count() {
            let (w, h) = (&w[groups.weights(i)], thresholds[i]);
            // NaN is not at most h, and stays in the sum.
            let at_most = |w: T| w.abs() <= h;
            let count = w.iter().filter(|w| !at_most(**w)).count();
            let sum = canonical_sum_of(w.len(), |i| if at_most(w[i]) { T::ZERO } else { w[i].abs() });
            scales[i] = T::of(sum / count.max(1) as f64);
        }
        Ok(())
    }
    by_float!(w, typed(w, group, thresholds, scales))
}

pub fn ternarize(_: &Launch, w: &View, group: usize, thresholds: &View, packed: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(w: &View, group: usize, thresholds: &View, packed: &mut ViewMut) -> Result<()> {
        let groups = Groups::new("ternarize", w.dims(), group)?;
        groups.check("ternarize: thresholds", thresholds.dims())?;
        let (w, thresholds) = (w.slice::<T>()?, thresholds.slice::<T>()?);
        pack("ternarize", &groups, packed, |row, column| {
            let (w, h) = (w[row * groups.columns + column], thresholds[groups.of(row, column)]);
            i32::from(w > h) - i32::from(w < -h)
        })
    }
    by_float!(w, typed(w, group, thresholds, packed))
}

pub fn ternarize_stochastic(
    _: &Launch,
    w: &View,
    group: usize,
    scales: &View,
    stream: Stream,
    packed: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(w: &View, group: usize, scales: &View, stream: Stream, packed: &mut ViewMut) -> Result<()> {
        let groups = Groups::new("ternarize_stochastic", w.dims(), group)?;
        groups.check("ternarize_stochastic: scales", scales.dims())?;
        let (w, scales) = (w.slice::<T>()?, scales.slice::<T>()?);
        pack("ternarize_stochastic", &groups, packed, |row, column| {
            let i = row * groups.columns + column;
            let u = T::of(f64::from(stream.uniform(i as u64)));
            let rounded_up = u * scales[groups.of(row, column)] < w[i].abs();
            i32::from(rounded_up && w[i] > T::ZERO) - i32::from(rounded_up && w[i] < T::ZERO)
        })
    }
    by_float!(w, typed(w, group, scales, stream, packed))
}

/// packed[n, ceil(k / 4)] of the trits that `trit` gives for rows and columns.
fn pack(name: &str, groups: &Groups, packed: &mut ViewMut, trit: impl Fn(usize, usize) -> i32) -> Result<()> {
    let (rows, columns) = (groups.rows, groups.columns);
    check_packed(name, packed.dims(), rows, columns, 4)?;
    let width = columns.div_ceil(4);
    for (row, bytes) in packed.slice_mut::<u8>()?.chunks_mut(width.max(1)).enumerate() {
        for (j, byte) in bytes.iter_mut().enumerate() {
            let code = |k: usize| if k < columns { (trit(row, k) + 1) as u8 } else { 1 };
            *byte = (0..4).map(|i| code(4 * j + i) << (2 * i)).sum();
        }
    }
    Ok(())
}

pub fn deternarize(_: &Launch, packed: &View, group: usize, scales: &View, w: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(packed: &View, group: usize, scales: &View, w: &mut ViewMut) -> Result<()> {
        let groups = Groups::new("deternarize", w.dims(), group)?;
        groups.check("deternarize: scales", scales.dims())?;
        check_packed("deternarize", packed.dims(), groups.rows, groups.columns, 4)?;
        let (packed, scales) = (packed.slice::<u8>()?, scales.slice::<T>()?);
        let bytes = groups.columns.div_ceil(4);
        for (n, row) in w.slice_mut::<T>()?.chunks_mut(groups.columns.max(1)).enumerate() {
            for (k, w) in row.iter_mut().enumerate() {
                *w = scales[groups.of(n, k)] * T::of(f64::from(trit(&packed[n * bytes..], k)));
            }
        }
        Ok(())
    }
    by_float!(w, typed(packed, group, scales, w))
}

#[cfg(test)]
#[path = "scheme_tests.rs"]
mod tests;
