//! Queries, keys and values: three products in one pass, the heads of two of them turned while they are in the cache.

use super::chunks::Shared;
use super::matmul_ternary::{Codes, Product, Rotation, products};
use super::rope::rope;
use super::weights::Weights;
use crate::backend::Launch;
use crate::backend::scalar::matmul_ternary_qkv::check;
use crate::backend::scalar::scheme::Groups;
use crate::tensor::{Packing, Result, View, ViewMut};

#[allow(clippy::too_many_arguments)]
pub fn matmul_ternary_qkv(
    launch: &Launch,
    codes: &View,
    scales: &View,
    q_packed: &View,
    q_scale: &View,
    k_packed: &View,
    k_scale: &View,
    v_packed: &View,
    v_scale: &View,
    cosine: &View,
    sine: &View,
    q: &mut ViewMut,
    k: &mut ViewMut,
    v: &mut ViewMut,
) -> Result<()> {
    let weights = [(q_packed, q_scale), (k_packed, k_scale), (v_packed, v_scale)];
    let groups = check(codes, scales, weights, [cosine, sine], [q.dims(), k.dims(), v.dims()])?;
    let rotation = Rotation { cosine: cosine.slice()?, sine: sine.slice()?, positions: q.dim(1), half: q.dim(3) / 2 };
    let (codes, scales, m) = (codes.slice::<i8>()?, scales.slice::<f32>()?, codes.dim(0));
    if codes.is_empty() || q.count() == 0 {
        for y in [q.reborrow(), k.reborrow(), v.reborrow()] {
            y.into_slice::<f32>()?.fill(0.0);
        }
        rope(launch, cosine, sine, false, q)?;
        return rope(launch, cosine, sine, false, k);
    }
    let [of_q, of_k, of_v] = weights;
    let list = [
        product(of_q, &groups[0], Some(rotation), q.reborrow())?,
        product(of_k, &groups[1], Some(rotation), k.reborrow())?,
        product(of_v, &groups[2], None, v.reborrow())?,
    ];
    products(launch, &Codes { m, codes, scales }, &list)
}

fn product<'a>(
    (packed, scale): (&View<'a>, &View<'a>),
    groups: &Groups,
    rotation: Option<Rotation<'a>>,
    y: ViewMut<'a>,
) -> Result<Product<'a>> {
    let weights = Weights::new(Packing::TwoBit, packed.slice()?, groups, scale.slice()?);
    Ok(Product { weights, base: None, rotation, y: Shared::new(y.into_slice()?) })
}
