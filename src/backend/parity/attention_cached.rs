use super::{check, dirty, integers, normal, tolerance};
use crate::tensor::DType;

#[test]
fn attention_cached() {
    // Keys, heads, KV heads, elements of a head.
    for [t, h, g, e] in [
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
        [3000, 6, 3, 40],
    ] {
        let code = |i: u64| (i as i32 - 127) as i8;
        let (q, k, v) = (normal(&[h, e], 30), integers(&[t, g, e], 31, 255, code), integers(&[t, g, e], 32, 255, code));
        // Numbers about as large as standard normal ones.
        let (mut k_scales, mut v_scales) = (normal(&[t, g], 33), normal(&[t, g], 34));
        for scales in [&mut k_scales, &mut v_scales] {
            scales.host_mut::<f32>().unwrap().iter_mut().for_each(|scale| *scale = (1.0 + scale.abs()) / 128.0);
        }
        check(&format!("attention_cached {t} {h} {g} {e}"), tolerance::ATTENTION, |row| {
            let mut o = dirty(DType::F32, &[h, e]);
            let (k, k_scales, v, v_scales) = (&k.view(), &k_scales.view(), &v.view(), &v_scales.view());
            let attend = row.kernels.attention_cached;
            attend(&row.launch, &q.view(), k, k_scales, v, v_scales, &mut o.view_mut())?;
            Ok(vec![o])
        });
    }
}
