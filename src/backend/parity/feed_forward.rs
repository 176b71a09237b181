use super::{EXACT, SIZES, check, dirty, normal};
use crate::tensor::{DType, Tensor};

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

/// Elements that break a maximum, at every place of a vector and of the rest.
fn broken(n: usize, seed: u32) -> Tensor {
    let mut x = normal(&[n], seed);
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0];
    for (i, x) in x.host_mut::<f32>().unwrap().iter_mut().enumerate().filter(|(i, _)| i % 3 == seed as usize % 3) {
        *x = special[i / 3 % special.len()];
    }
    x
}

#[test]
fn what_is_not_finite_is_the_same_on_every_row() {
    for n in sizes() {
        check(&format!("feed-forward {n} of broken numbers"), EXACT, |row| {
            let (gate, up, dy) = (broken(n, 18), broken(n, 19), broken(n, 20));
            let out = || dirty(DType::F32, &[n]);
            let (mut y, mut dx, mut gated, mut dgate, mut dup) = (out(), out(), out(), out(), out());
            let (kernels, launch) = (row.kernels, &row.launch);
            (kernels.squared_relu)(launch, &gate.view(), &mut y.view_mut())?;
            (kernels.squared_relu_backward)(launch, &gate.view(), &dy.view(), &mut dx.view_mut())?;
            (kernels.gated_squared_relu)(launch, &gate.view(), &up.view(), &mut gated.view_mut())?;
            let backward = kernels.gated_squared_relu_backward;
            backward(launch, &gate.view(), &up.view(), &dy.view(), &mut dgate.view_mut(), &mut dup.view_mut())?;
            Ok(vec![y, dx, gated, dgate, dup])
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
