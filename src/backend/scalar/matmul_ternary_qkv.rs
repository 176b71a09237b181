//! Queries, keys and values of a ternary attention layer: three products of the same codes, two of them turned.

use super::matmul::{check_ternary, matmul_ternary};
use super::rope;
use super::scheme::Groups;
use crate::backend::Launch;
use crate::tensor::error::ensure;
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
    check(codes, scales, weights, [cosine, sine], [q.dims(), k.dims(), v.dims()])?;
    for ((packed, scale), y) in weights.into_iter().zip([q.reborrow(), k.reborrow(), v.reborrow()]) {
        let dims = matrix(y.dims());
        matmul_ternary(launch, codes, scales, Packing::TwoBit, packed, 0, scale, None, &mut y.reshape(&dims)?)?;
    }
    rope::rope(launch, cosine, sine, false, q)?;
    rope::rope(launch, cosine, sine, false, k)
}

/// Of [b, t, h, e]: [b t, h e].
fn matrix(dims: &[usize]) -> [usize; 2] {
    [dims[0] * dims[1], dims[2] * dims[3]]
}

/// Shapes of the whole; of each of the three weights, what its scale belongs to.
pub fn check(
    codes: &View,
    scales: &View,
    weights: [(&View, &View); 3],
    [cosine, sine]: [&View; 2],
    [q, k, v]: [&[usize]; 3],
) -> Result<[Groups; 3]> {
    const NAME: &str = "matmul_ternary_qkv";
    rope::check(cosine.dims(), sine.dims(), q)?;
    rope::check(cosine.dims(), sine.dims(), k)?;
    ensure!(v == k, Shape, "{NAME}: k has shape {k:?}, v has {v:?}");
    ensure!(
        k[0] == q[0] && k[3] == q[3],
        Shape,
        "{NAME}: q has shape {q:?}, k has {k:?}, expected the same batch and head"
    );
    let [of_q, of_k, of_v] = weights;
    let groups = |(packed, scale): (&View, &View), y: &[usize]| {
        check_ternary(codes, scales, Packing::TwoBit, packed, 0, scale, &matrix(y))
    };
    Ok([groups(of_q, q)?, groups(of_k, k)?, groups(of_v, v)?])
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::tensor::{DType, Tensor};

    /// Each is the product with its own weights, and only q and k are turned.
    #[test]
    fn three_products_two_of_them_turned() {
        let (codes, scales) = ([3i8, -5, 100, 0, 7, -127, 1, 2, 50, 9], of::<f64>(&[0.5, 0.25]));
        // One head of two elements; rows of five trits.
        let weights: [[[i32; 5]; 2]; 3] = [
            [[1, 0, -1, 1, 0], [0, 1, 1, 0, -1]],
            [[-1, -1, 0, 0, 1], [1, 1, 1, 1, 1]],
            [[0, 0, 1, -1, 1], [-1, 0, 0, 1, 0]],
        ];
        let weight_scales = [[0.1], [0.2], [0.3]];
        let packed = weights.map(|rows| {
            let byte = |row: &[i32; 5], j: usize| -> u8 {
                (0..4).map(|i| ((row.get(4 * j + i).unwrap_or(&0) + 1) as u8) << (2 * i)).sum()
            };
            rows.iter().flat_map(|row| [byte(row, 0), byte(row, 1)]).collect::<Vec<u8>>()
        });
        let (cosine, sine) = (of::<f64>(&[1.0, 0.6]), of::<f64>(&[0.0, 0.8]));
        let mut found = [(); 3].map(|()| Tensor::zeros(DType::F64, &[1, 2, 1, 2]).unwrap());
        let [packed_q, packed_k, packed_v] = &packed;
        let [scale_q, scale_k, scale_v] = &weight_scales;
        let [q, k, v] = &mut found;
        (KERNELS.matmul_ternary_qkv)(
            &launch(),
            &view(&codes, &[2, 5]),
            &view(&scales, &[2]),
            &view(packed_q, &[2, 2]),
            &view(scale_q, &[1]),
            &view(packed_k, &[2, 2]),
            &view(scale_k, &[1]),
            &view(packed_v, &[2, 2]),
            &view(scale_v, &[1]),
            &view(&cosine, &[2, 1]),
            &view(&sine, &[2, 1]),
            &mut q.view_mut(),
            &mut k.view_mut(),
            &mut v.view_mut(),
        )
        .unwrap();
        for (i, found) in found.iter().enumerate() {
            for token in 0..2 {
                let y = weights[i].map(|row| {
                    let sum: i32 = (0..5).map(|l| i32::from(codes[5 * token + l]) * row[l]).sum();
                    f64::from(sum) * scales[token] * weight_scales[i][0]
                });
                let (c, s) = if i < 2 { (cosine[token], sine[token]) } else { (1.0, 0.0) };
                let expected = [y[0] * c - y[1] * s, y[1] * c + y[0] * s];
                let found = &found.host::<f64>().unwrap()[2 * token..][..2];
                assert_close(&format!("{i}, token {token}"), found, &expected, 1e-12);
            }
        }
    }
}
