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

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    fn losses<T: Float>(logits: &[T], targets: &[u32], v: usize) -> Result<Vec<T>> {
        let n = targets.len();
        let mut losses = of::<T>(&vec![9.0; n]);
        let (logits, targets) = (view(logits, &[n, v]), view(targets, &[n]));
        (KERNELS.cross_entropy)(&launch(), &logits, &targets, &mut view_mut(&mut losses, &[n]))?;
        Ok(losses)
    }

    /// The gradient, and the losses that come with it.
    fn gradient<T: Float>(logits: &[T], targets: &[u32], v: usize, factor: f64) -> Result<[Vec<T>; 2]> {
        let n = targets.len();
        let (mut gradient, mut losses) = (logits.to_vec(), of::<T>(&vec![9.0; n]));
        let (mut gradient_view, mut losses_view) = (view_mut(&mut gradient, &[n, v]), view_mut(&mut losses, &[n]));
        (KERNELS.cross_entropy_gradient)(
            &launch(),
            &view(targets, &[n]),
            factor,
            &mut gradient_view,
            &mut losses_view,
        )?;
        Ok([gradient, losses])
    }

    #[test]
    fn losses_are_the_formula() {
        fn check<T: Float>(n: usize, v: usize) {
            let (logits, targets) = (numbers(52, n * v), integers(53, n, v as u64));
            let formula = |i: usize| {
                let row = &logits[i * v..][..v];
                -(row[targets[i] as usize].exp() / row.iter().map(|x| x.exp()).sum::<f64>()).ln()
            };
            let expected: Vec<f64> = (0..n).map(formula).collect();
            assert_close("losses", &losses::<T>(&of(&logits), &targets, v).unwrap(), &expected, tolerance::<T>());
            let [_, same] = gradient::<T>(&of(&logits), &targets, v, 1.0).unwrap();
            assert_close("losses with the gradient", &same, &expected, tolerance::<T>());
        }
        for (n, v) in [(1, 1), (4, 7), (3, 256), (0, 5)] {
            check::<f32>(n, v);
            check::<f64>(n, v);
        }
    }

    #[test]
    fn known_losses() {
        // The loss is a difference of numbers as large as the logits: it is good to their last bit, 1.2e-10 at 1e6.
        let close = |logits: &[f64], expected: f64| {
            let largest = logits.iter().filter(|x| x.is_finite()).fold(1.0, |a: f64, x| a.max(x.abs()));
            let tolerance = 2.0 * f64::EPSILON * largest;
            assert_close("loss", &losses(logits, &[1], logits.len()).unwrap(), &[expected], tolerance);
        };
        close(&[3.0; 5], 5f64.ln());
        close(&[1e6, 1e6], 2f64.ln());
        close(&[1e6, 0.0], 1e6);
        close(&[0.0, 1e6], 0.0);
        close(&[f64::NEG_INFINITY, 2.0, 2.0], 2f64.ln());
        assert_eq!(losses(&[5000.0f32, 4000.0], &[1], 2).unwrap(), [1000.0]);
    }

    /// A denominator of 2^20 equal terms next to one, which an f32 sum in order would lose digits of.
    #[test]
    fn large_vocabularies_lose_nothing() {
        let v = (1 << 20) + 1;
        let mut logits = vec![0.0f32; v];
        logits[0] = 17.0;
        let expected = (17f64.exp() + (1 << 20) as f64).ln() - 17.0;
        assert_close("loss", &losses(&logits, &[0], v).unwrap(), &[expected], 1e-7);
    }

    #[test]
    fn the_gradient_is_that_of_the_losses() {
        let (n, v, factor) = (3, 6, 0.25);
        let (logits, targets) = (numbers(54, n * v), [5, 0, 2]);
        let loss = |logits: &[f64]| factor * losses(logits, &targets, v).unwrap().iter().sum::<f64>();
        let expected = differences(&logits, loss);
        assert_close("dlogits", &gradient(&logits, &targets, v, factor).unwrap()[0], &expected, DIFFERENCES);
        let [in_f32, _] = gradient::<f32>(&of(&logits), &targets, v, factor).unwrap();
        assert_close("f32 dlogits", &in_f32, &expected, 1e-7);
        let [large, _] = gradient(&[1e6f32, 0.0], &[1], 2, 1.0).unwrap();
        assert_eq!(large, [1.0, -1.0]);
    }

    #[test]
    fn targets_outside_the_vocabulary_are_refused_before_anything_is_written() {
        for bad in [3, u32::MAX] {
            let (targets, mut logits, mut sums) = ([0, bad], [1.0f32; 6], [9.0f32; 2]);
            let (targets, mut sums_view) = (view(&targets, &[2]), view_mut(&mut sums, &[2]));
            let result = (KERNELS.cross_entropy)(&launch(), &view(&logits, &[2, 3]), &targets, &mut sums_view);
            let error = result.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Shape);
            assert!(error.message.contains("target 1") && error.message.contains(&bad.to_string()), "{error}");
            let mut logits_view = view_mut(&mut logits, &[2, 3]);
            let result = (KERNELS.cross_entropy_gradient)(&launch(), &targets, 1.0, &mut logits_view, &mut sums_view);
            assert_eq!(kind(result), ErrorKind::Shape);
            assert_eq!((logits, sums), ([1.0; 6], [9.0; 2]));
        }
        assert_eq!(kind(losses::<f32>(&[], &[0], 0)), ErrorKind::Shape);
        assert!(losses::<f32>(&[], &[], 0).unwrap().is_empty());
    }

    #[test]
    fn other_shapes_and_types_are_refused() {
        let forward = |[logits, targets, losses]: &mut [Tensor; 3]| {
            (KERNELS.cross_entropy)(&launch(), &logits.view(), &targets.view(), &mut losses.view_mut())
        };
        let backward = |[logits, targets, losses]: &mut [Tensor; 3]| {
            let (mut logits, mut losses) = (logits.view_mut(), losses.view_mut());
            (KERNELS.cross_entropy_gradient)(&launch(), &targets.view(), 1.0, &mut logits, &mut losses)
        };
        let tensors = || [zeros::<f32>(&[2, 3]), zeros::<u32>(&[2]), zeros::<f32>(&[2])];
        refuses_other_types("cross_entropy", tensors(), forward);
        refuses_other_types("cross_entropy_gradient", tensors(), backward);
        for (wrong, dims) in [(0, &[3, 2][..]), (0, &[6]), (0, &[2, 3, 1]), (1, &[3]), (2, &[1])] {
            let mut tensors = tensors();
            tensors[wrong] = Tensor::zeros(tensors[wrong].dtype(), dims).unwrap();
            assert_eq!(kind(forward(&mut tensors)), ErrorKind::Shape, "argument {wrong} of {dims:?}");
            assert_eq!(kind(backward(&mut tensors)), ErrorKind::Shape, "argument {wrong} of {dims:?}");
        }
    }
}
