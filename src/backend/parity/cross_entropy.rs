use super::{Row, Tolerance, check, dirty, integers, normal, tolerance};
use crate::tensor::{DType, Result, Tensor};

const SHAPES: [(usize, usize); 11] =
    [(0, 5), (1, 1), (7, 2), (3, 7), (65, 63), (257, 64), (100, 65), (768, 256), (9, 257), (4, 4099), (3, 50_257)];

const TOLERANCE: Tolerance = tolerance::CROSS_ENTROPY;

fn inputs(n: usize, v: usize, spread: f32) -> Result<(Tensor, Tensor)> {
    let mut logits = normal(&[n, v], 21);
    logits.host_mut::<f32>()?.iter_mut().for_each(|x| *x *= spread);
    Ok((logits, integers(&[n], 22, v.max(1) as u64, |i| i as u32)))
}

fn losses(row: &Row, n: usize, v: usize, spread: f32) -> Result<Vec<Tensor>> {
    let (logits, targets) = inputs(n, v, spread)?;
    let mut losses = dirty(DType::F32, &[n]);
    (row.kernels.cross_entropy)(&row.launch, &logits.view(), &targets.view(), &mut losses.view_mut())?;
    Ok(vec![losses])
}

fn gradient(row: &Row, n: usize, v: usize, spread: f32, factor: f64) -> Result<Vec<Tensor>> {
    let (mut logits, targets) = inputs(n, v, spread)?;
    let mut losses = dirty(DType::F32, &[n]);
    let launch = &row.launch;
    (row.kernels.cross_entropy_gradient)(
        launch,
        &targets.view(),
        factor,
        &mut logits.view_mut(),
        &mut losses.view_mut(),
    )?;
    Ok(vec![logits, losses])
}

#[test]
fn cross_entropy() {
    for (n, v) in SHAPES {
        check(&format!("cross_entropy [{n}, {v}]"), TOLERANCE, |row| losses(row, n, v, 1.0));
        check(&format!("confident cross_entropy [{n}, {v}]"), TOLERANCE, |row| losses(row, n, v, 40.0));
    }
}

#[test]
fn cross_entropy_gradient() {
    for (n, v) in SHAPES {
        let name = format!("cross_entropy gradient [{n}, {v}]");
        check(&name, TOLERANCE, |row| gradient(row, n, v, 1.0, 0.75));
        check(&format!("confident {name}"), TOLERANCE, |row| gradient(row, n, v, 40.0, 1.0));
    }
}

/// The row that computes the gradient reports the same losses, to the bit, as the one that does not.
#[test]
fn both_report_the_same_losses() {
    check("losses of both", TOLERANCE, |row| {
        let (plain, with) = (losses(row, 50, 65, 3.0)?, gradient(row, 50, 65, 3.0, 1.0)?);
        assert_eq!(plain[0].host::<f32>()?, with[1].host::<f32>()?);
        Ok(plain)
    });
}

#[test]
fn a_broken_logit_shows_in_the_loss() {
    for broken in [f32::NAN, f32::INFINITY] {
        check(&format!("cross_entropy with {broken}"), TOLERANCE, |row| {
            let (mut logits, targets) = inputs(2, 20, 1.0)?;
            logits.host_mut::<f32>()?[20 + 9] = broken;
            let mut losses = dirty(DType::F32, &[2]);
            (row.kernels.cross_entropy)(&row.launch, &logits.view(), &targets.view(), &mut losses.view_mut())?;
            let found = losses.host::<f32>()?;
            assert!(found[0].is_finite() && !found[1].is_finite(), "{found:?}");
            Ok(vec![Tensor::from_slice(&found[..1], &[1])?])
        });
    }
}

#[test]
fn a_target_outside_the_vocabulary_is_refused() {
    check("cross_entropy outside", TOLERANCE, |row| {
        let (logits, targets) = (normal(&[2, 8], 21), Tensor::from_slice(&[7u32, 8], &[2])?);
        let mut losses = dirty(DType::F32, &[2]);
        (row.kernels.cross_entropy)(&row.launch, &logits.view(), &targets.view(), &mut losses.view_mut())?;
        Ok(vec![losses])
    });
}
