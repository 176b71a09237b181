//! Softmax cross-entropy, in nats, and its gradient in place of the logits.

use super::by_float;
use super::embedding::check_indices;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Float, Result, View, ViewMut};

pub fn cross_entropy(_: &Launch, logits: &View, targets: &View, losses: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(logits: &View, targets: &[u32], losses: &mut ViewMut) -> Result<()> {
        let v = logits.dim(1);
        let logits = logits.slice::<T>()?;
        for ((row, &target), loss) in logits.chunks(v.max(1)).zip(targets).zip(losses.slice_mut::<T>()?) {
            *loss = T::of(log_sum(row) - row[target as usize].f64());
        }
        Ok(())
    }
    check(logits.dims(), targets.count(), losses.count())?;
    let targets = check_indices("target", targets, logits.dim(1))?;
    by_float!(logits, typed(logits, targets, losses))
}

pub fn cross_entropy_gradient(
    _: &Launch,
    targets: &View,
    factor: f64,
    logits: &mut ViewMut,
    losses: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(targets: &[u32], factor: f64, logits: &mut ViewMut, losses: &mut ViewMut) -> Result<()> {
        let v = logits.dim(1);
        let logits = logits.slice_mut::<T>()?;
        for ((row, &target), loss) in logits.chunks_mut(v.max(1)).zip(targets).zip(losses.slice_mut::<T>()?) {
            let total = log_sum(row);
            *loss = T::of(total - row[target as usize].f64());
            for (i, logit) in row.iter_mut().enumerate() {
                let one_hot = if i == target as usize { 1.0 } else { 0.0 };
                *logit = T::of(factor * ((logit.f64() - total).exp() - one_hot));
            }
        }
        Ok(())
    }
    check(logits.dims(), targets.count(), losses.count())?;
    let targets = check_indices("target", targets, logits.dim(1))?;
    by_float!(logits, typed(targets, factor, logits, losses))
}

/// ln(sum of exp(x)), the maximum taken out first.
fn log_sum<T: Float>(x: &[T]) -> f64 {
    let most = x.iter().map(|v| v.f64()).fold(f64::NEG_INFINITY, f64::max);
    most + x.iter().map(|v| (v.f64() - most).exp()).sum::<f64>().ln()
}

/// logits[n, v], targets[n], losses[n].
pub fn check(logits: &[usize], targets: usize, losses: usize) -> Result<()> {
    ensure!(logits.len() == 2, Shape, "cross_entropy: logits have shape {logits:?}, expected two dimensions");
    ensure!(targets == logits[0], Shape, "cross_entropy: {} rows of logits, {targets} targets", logits[0]);
    ensure!(losses == logits[0], Shape, "cross_entropy: {} rows of logits, {losses} losses", logits[0]);
    Ok(())
}
