use super::{EXACT, SIZES, check, dirty, normal};
use crate::tensor::DType;

fn sizes() -> impl Iterator<Item = usize> {
    SIZES.into_iter().chain([70_001])
}

#[test]
fn squared_relu() {
    for n in sizes() {
        check(&format!("squared_relu {n}"), EXACT, |row| {
            let (x, mut y) = (normal(&[n], 18), dirty(DType::F32, &[n]));
            (row.kernels.squared_relu)(&row.launch, &x.view(), &mut y.view_mut())?;
            Ok(vec![y])
        });
    }
}

#[test]
fn squared_relu_backward() {
    for n in sizes() {
        check(&format!("squared_relu backward {n}"), EXACT, |row| {
            let (x, dy, mut dx) = (normal(&[n], 18), normal(&[n], 19), dirty(DType::F32, &[n]));
            (row.kernels.squared_relu_backward)(&row.launch, &x.view(), &dy.view(), &mut dx.view_mut())?;
            Ok(vec![dx])
        });
    }
}

#[test]
fn gated_squared_relu() {
    for n in sizes() {
        check(&format!("gated_squared_relu {n}"), EXACT, |row| {
            let (gate, up, mut y) = (normal(&[n], 18), normal(&[n], 19), dirty(DType::F32, &[n]));
            (row.kernels.gated_squared_relu)(&row.launch, &gate.view(), &up.view(), &mut y.view_mut())?;
            Ok(vec![y])
        });
    }
}

#[test]
fn gated_squared_relu_backward() {
    for n in sizes() {
        check(&format!("gated_squared_relu backward {n}"), EXACT, |row| {
            let (gate, up, dy) = (normal(&[n], 18), normal(&[n], 19), normal(&[n], 20));
            let (mut dgate, mut dup) = (dirty(DType::F32, &[n]), dirty(DType::F32, &[n]));
            (row.kernels.gated_squared_relu_backward)(
                &row.launch,
                &gate.view(),
                &up.view(),
                &dy.view(),
                &mut dgate.view_mut(),
                &mut dup.view_mut(),
            )?;
            Ok(vec![dgate, dup])
        });
    }
}

#[test]
fn operands_of_other_sizes_are_refused() {
    check("squared_relu of other sizes", EXACT, |row| {
        let (x, mut y) = (normal(&[9], 18), dirty(DType::F32, &[8]));
        (row.kernels.squared_relu)(&row.launch, &x.view(), &mut y.view_mut())?;
        Ok(vec![y])
    });
}
