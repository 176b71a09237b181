use super::{EXACT, SIZES, check, dirty, normal};
use crate::backend::simd::Level;
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, ErrorKind, Tensor};

/// Past a chunk, and no multiple of a vector.
const LARGE: usize = 70_001;

fn sizes() -> impl Iterator<Item = usize> {
    SIZES.into_iter().chain([LARGE])
}

#[test]
fn fill() {
    for n in sizes() {
        check(&format!("fill {n}"), EXACT, |row| {
            let mut y = dirty(DType::F32, &[n]);
            (row.kernels.fill)(&row.launch, -1.375, &mut y.view_mut())?;
            assert!(y.host::<f32>()?.iter().all(|&y| y == -1.375));
            Ok(vec![y])
        });
    }
}

#[test]
fn add() {
    for n in sizes() {
        check(&format!("add {n}"), EXACT, |row| {
            let (x, mut y) = (normal(&[n], 1), normal(&[n], 2));
            (row.kernels.add)(&row.launch, &x.view(), &mut y.view_mut())?;
            Ok(vec![y])
        });
    }
    check("add of other sizes", EXACT, |row| {
        let (x, mut y) = (normal(&[3], 1), normal(&[4], 2));
        (row.kernels.add)(&row.launch, &x.view(), &mut y.view_mut())?;
        Ok(vec![y])
    });
}

#[test]
fn clamp() {
    let nowhere = (f64::NEG_INFINITY, f64::INFINITY);
    for n in sizes() {
        for (low, high) in [(-0.5, 0.75), (f64::NEG_INFINITY, -0.25), (0.1, 0.1), nowhere] {
            check(&format!("clamp {n} to {low} .. {high}"), EXACT, |row| {
                let mut x = normal(&[n], 4);
                if let Some(last) = x.host_mut::<f32>()?.last_mut() {
                    *last = f32::NAN;
                }
                let outside = (row.kernels.clamp)(&row.launch, low, high, &mut x.view_mut())?;
                Ok(vec![x, Tensor::from_slice(&[outside as u32], &[1])?])
            });
        }
    }
}

#[test]
fn dropout() {
    let stream = Stream::new(0x1234_5678_9ABC_DEF0, Purpose::Dropout, 1_000_003, 17);
    for n in sizes() {
        for rate in [0.0, 0.1, 0.5, 0.999] {
            check(&format!("dropout {n} at {rate}"), EXACT, |row| {
                let mut x = normal(&[n], 3);
                (row.kernels.dropout)(&row.launch, rate, stream, &mut x.view_mut())?;
                Ok(vec![x])
            });
        }
    }
}

/// The words of elements that no test could hold in memory: blocks on both sides of 2^32.
#[test]
fn dropout_uses_the_bits_of_the_stream() {
    let stream = Stream::new(u64::MAX / 3, Purpose::Dropout, 5, u32::MAX);
    let philox = crate::backend::simd::PhiloxStream::from(stream);
    for level in Level::ALL.into_iter().filter(|level| level.available()) {
        for block in [0, 8, (1 << 32) - 8, 1 << 32, (1 << 40) + 16] {
            let mut x = [1.0f32; 37];
            let threshold = 1 << 23;
            // SAFETY: the slice has the stated length.
            unsafe { (level.spans().dropout)(&philox, block, threshold, 2.0, x.as_mut_ptr(), x.len()) };
            for (i, &x) in x.iter().enumerate() {
                let kept = stream.uniform(4 * block + i as u64) >= 0.5;
                assert_eq!(x, if kept { 2.0 } else { 0.0 }, "{} block {block} element {i}", level.name());
            }
        }
    }
}

#[test]
fn other_types_are_refused() {
    let launch = crate::backend::Launch::new(crate::backend::launch::Executor::Serial, Level::Baseline.spans());
    let mut y = Tensor::zeros(DType::F64, &[4]).unwrap();
    let result = (crate::backend::simd::KERNELS.fill)(&launch, 0.0, &mut y.view_mut());
    assert_eq!(result.unwrap_err().kind, ErrorKind::DType);
}
