use super::{SIZES, check, dirty, normal, tolerance};
use crate::tensor::{DType, Tensor};

/// About where a GPU's kernels for one width end and those for the next begin.
pub const LONG: [(usize, usize); 20] = [
    (19, 385),
    (17, 512),
    (3, 513),
    (40, 768),
    (9, 1023),
    (2, 1024),
    (70, 1025),
    (5, 1535),
    (9, 1536),
    (3, 1537),
    (2, 2047),
    (3, 2048),
    (2, 2049),
    (1, 8192),
    (17, 8193),
    (3, 9001),
    (2, 12_288),
    (1, 16_384),
    (2, 16_385),
    (2, 17_000),
];

/// Rows and widths: the odd sizes, those of the reference models, and enough rows for many chunks.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    let odd = SIZES.into_iter().flat_map(|d| [0, 1, 5].map(|m| (m, d)));
    odd.chain([(768, 128), (300, 384), (3, 8192), (9000, 7)]).chain(LONG)
}

#[test]
fn rms_norm() {
    for (m, d) in shapes() {
        check(&format!("rms_norm [{m}, {d}]"), tolerance::RMS_NORM, |row| {
            let (x, gain) = (normal(&[m, d], 8), normal(&[d], 9));
            let (mut y, mut inverse) = (dirty(DType::F32, &[m, d]), dirty(DType::F32, &[m]));
            let launch = &row.launch;
            (row.kernels.rms_norm)(launch, &x.view(), &gain.view(), 1e-5, &mut y.view_mut(), &mut inverse.view_mut())?;
            Ok(vec![y, inverse])
        });
    }
}

/// Epsilon decides where x is tiny, and a row of zeros is no NaN.
#[test]
fn rms_norm_of_small_rows() {
    check("rms_norm of small rows", tolerance::RMS_NORM, |row| {
        let mut x = normal(&[4, 40], 8);
        for (i, x) in x.host_mut::<f32>()?.iter_mut().enumerate() {
            *x *= [0.0, 1e-20, 1e-3, 1e15][i / 40];
        }
        let gain = normal(&[40], 9);
        let (mut y, mut inverse) = (dirty(DType::F32, &[4, 40]), dirty(DType::F32, &[4]));
        let launch = &row.launch;
        (row.kernels.rms_norm)(launch, &x.view(), &gain.view(), 1e-5, &mut y.view_mut(), &mut inverse.view_mut())?;
        assert!(y.host::<f32>()?.iter().all(|y| y.is_finite()));
        Ok(vec![y, inverse])
    });
}

#[test]
fn rms_norm_backward() {
    for (m, d) in shapes() {
        for accumulate in [false, true] {
            check(
                &format!("rms_norm backward [{m}, {d}], accumulate {accumulate}"),
                tolerance::rms_norm_backward(m),
                |row| {
                    let (x, gain, dy) = (normal(&[m, d], 8), normal(&[d], 9), normal(&[m, d], 10));
                    let inverse: Vec<f32> = x
                        .host::<f32>()?
                        .chunks(d.max(1))
                        .map(|x| 1.0 / (x.iter().map(|x| x * x).sum::<f32>() / d as f32 + 1e-5).sqrt())
                        .chain(std::iter::repeat(1.0))
                        .take(m)
                        .collect();
                    let inverse = Tensor::from_slice(&inverse, &[m])?;
                    let (mut dx, mut dgain) = (normal(&[m, d], 11), normal(&[d], 12));
                    (row.kernels.rms_norm_backward)(
                        &row.launch,
                        &x.view(),
                        &gain.view(),
                        &inverse.view(),
                        &dy.view(),
                        accumulate,
                        &mut dx.view_mut(),
                        &mut dgain.view_mut(),
                    )?;
                    Ok(vec![dx, dgain])
                },
            );
        }
    }
}
