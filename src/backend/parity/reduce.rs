//! Canonical sums are the same bits everywhere; so is the first index that is not finite.

use super::{EXACT, SIZES, check, normal};
use crate::tensor::{DType, ErrorKind, Tensor};

/// Around a canonical block, and more than one chunk.
const LONG: [usize; 6] = [4095, 4096, 4097, 8224, 131_073, 400_003];

#[test]
fn sum_squares_is_canonical() {
    for n in SIZES.into_iter().chain(LONG) {
        let x = normal(&[n], n as u32);
        check(&format!("sum_squares of {n}"), EXACT, |row| {
            let mut sum = Tensor::from_slice(&[0.25f64], &[1])?;
            (row.kernels.sum_squares)(&row.launch, &x.view(), &mut sum.view_mut())?;
            Ok(vec![sum])
        });
    }
}

#[test]
fn the_first_non_finite_is_found_wherever_it_stands() {
    for n in SIZES.into_iter().chain([33, 400_003]) {
        for at in [None, Some(0), Some(n / 2), Some(n.saturating_sub(1)), Some(31), Some(n.saturating_sub(34))] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = normal(&[n], 1);
                let x_values = x.host_mut::<f32>().unwrap();
                let Some(at) = at else { continue };
                if at >= n {
                    continue;
                }
                x_values[at] = bad;
                x_values[n - 1] = bad; // a later one, in another chunk of the long input
                check(&format!("first_non_finite at {at} of {n}"), EXACT, |row| {
                    let found = (row.kernels.first_non_finite)(&row.launch, &x.view())?;
                    assert_eq!(found, Some(at));
                    Ok(vec![])
                });
            }
        }
        let mut x = normal(&[n], 2);
        x.host_mut::<f32>().unwrap().iter_mut().for_each(|x| *x = x.signum() * f32::MAX);
        check("first_non_finite of the largest finite numbers", EXACT, |row| {
            assert_eq!((row.kernels.first_non_finite)(&row.launch, &x.view())?, None);
            Ok(vec![])
        });
    }
}

#[test]
fn the_vector_rows_refuse_f64() {
    let x = Tensor::zeros(DType::F64, &[8]).unwrap();
    for row in &super::rows()[1..] {
        let mut sum = Tensor::zeros(DType::F64, &[1]).unwrap();
        let refused = (row.kernels.sum_squares)(&row.launch, &x.view(), &mut sum.view_mut()).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::DType);
    }
}
