use super::{Tolerance, check, dirty, integers, normal, tolerance};
use crate::tensor::{DType, ErrorKind, Tensor};

/// Keys, heads, KV heads, elements of a head.
type Sizes = [usize; 4];

/// Numbers of the size of standard normal ones, q times `scale`.
fn cached(name: &str, tolerance: Tolerance, [t, h, g, e]: Sizes, scale: f32) {
    let code = |i: u64| (i as i32 - 127) as i8;
    let (mut q, k) = (normal(&[h, e], 30), integers(&[t, g, e], 31, 255, code));
    let v = integers(&[t, g, e], 32, 255, code);
    q.host_mut::<f32>().unwrap().iter_mut().for_each(|q| *q *= scale);
    let (mut k_scales, mut v_scales) = (normal(&[t, g], 33), normal(&[t, g], 34));
    for scales in [&mut k_scales, &mut v_scales] {
        scales.host_mut::<f32>().unwrap().iter_mut().for_each(|scale| *scale = (1.0 + scale.abs()) / 128.0);
    }
    check(&format!("attention_cached {name} {t} {h} {g} {e}"), tolerance, |row| {
        let mut o = dirty(DType::F32, &[h, e]);
        let (k, k_scales, v, v_scales) = (&k.view(), &k_scales.view(), &v.view(), &v_scales.view());
        let attend = row.kernels.attention_cached;
        attend(&row.launch, &q.view(), k, k_scales, v, v_scales, &mut o.view_mut())?;
        assert!(o.host::<f32>()?.iter().all(|o| o.is_finite()));
        Ok(vec![o])
    });
}

#[test]
fn attention_cached() {
    for sizes in [
        [0, 2, 1, 8],
        [1, 1, 1, 1],
        [7, 4, 4, 32],
        [8, 2, 2, 64],
        [256, 6, 6, 64],
        [257, 6, 2, 63],
        [19, 4, 1, 72],
        [33, 3, 1, 136],
        [64, 8, 8, 16],
        [15, 5, 5, 7],
        [200, 9, 1, 128],
        [9000, 2, 2, 64],
        [3000, 6, 3, 40],
    ] {
        cached("of", tolerance::ATTENTION, sizes, 1.0);
    }
}

/// Logits far beyond what exp can hold.
#[test]
fn large_logits() {
    cached("large", Tolerance { absolute: 2e-3, relative: 1e-5 }, [64, 4, 4, 32], 1000.0);
}

/// A row that held a NaN has the scale NaN and codes of 0.
#[test]
fn what_is_not_a_number_shows() {
    for broken in [0, 1] {
        check("attention_cached of NaN", tolerance::ATTENTION, |row| {
            let (q, codes) = (normal(&[2, 16], 30), Tensor::zeros(DType::I8, &[9, 2, 16])?);
            let mut scales = [normal(&[9, 2], 33), normal(&[9, 2], 34)];
            scales[broken].host_mut::<f32>()?[7] = f32::NAN;
            let mut o = dirty(DType::F32, &[2, 16]);
            let (codes, o_view) = (&codes.view(), &mut o.view_mut());
            let attend = row.kernels.attention_cached;
            attend(&row.launch, &q.view(), codes, &scales[0].view(), codes, &scales[1].view(), o_view)?;
            let of_head = |head: usize| o.host::<f32>().unwrap()[16 * head..][..16].iter().all(|o| o.is_nan());
            assert!(!of_head(0) && of_head(1), "{}", row.name);
            Ok(vec![o])
        });
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let shapes = [
        [&[3, 8][..], &[5, 2, 8], &[5, 2], &[3, 8]],
        [&[4, 8], &[5, 2, 9], &[5, 2], &[4, 8]],
        [&[4, 8], &[5, 2, 8], &[2, 5], &[4, 8]],
        [&[4, 8], &[5, 2, 8], &[5, 2], &[8, 4]],
        [&[1, 4, 8], &[5, 2, 8], &[5, 2], &[1, 4, 8]],
        [&[4, 8], &[10, 8], &[5, 2], &[4, 8]],
    ];
    for shapes in shapes {
        check(&format!("attention_cached {shapes:?}"), tolerance::ATTENTION, |row| {
            let [q, scales] = [shapes[0], shapes[2]].map(|dims| normal(dims, 1));
            let (codes, mut o) = (Tensor::zeros(DType::I8, shapes[1])?, dirty(DType::F32, shapes[3]));
            let (codes, scales, o) = (&codes.view(), &scales.view(), &mut o.view_mut());
            let result = (row.kernels.attention_cached)(&row.launch, &q.view(), codes, scales, codes, scales, o);
            assert_eq!(result.as_ref().unwrap_err().kind, ErrorKind::Shape);
            result.map(|()| Vec::new())
        });
    }
}
