use super::cases::{Cases, Work, call, codes, constant, normal, zeros};

pub fn cases(cases: &mut Cases) {
    // Keys, heads, size of a head: in cache, of sizes S and M, a long text.
    for [t, h, e] in [[32, 2, 32], [64, 4, 32], [256, 6, 64], [16_384, 16, 64]] {
        let work = Work::float_products(2 * t * h * e, 2 * t * h * (e + 4) + 4 * h * e, 4 * h * e);
        cases.add("attention_cached", format!("{t} keys, {h} heads of {e}"), work, move || {
            let (q, mut o) = (normal(&[h, e], 1)?, zeros(&[h, e])?);
            let (k, v) = (codes(&[t, h, e], 2)?, codes(&[t, h, e], 3)?);
            let (k_scales, v_scales) = (constant(&[t, h], 1.0 / 64.0)?, constant(&[t, h], 1.0 / 64.0)?);
            call(move |kernels, launch| {
                let (k, k_scales, v, v_scales) = (&k.view(), &k_scales.view(), &v.view(), &v_scales.view());
                (kernels.attention_cached)(launch, &q.view(), k, k_scales, v, v_scales, &mut o.view_mut())
            })
        });
    }
}
