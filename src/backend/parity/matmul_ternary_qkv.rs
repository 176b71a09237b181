use super::{EXACT, check, dirty, integers, normal};
use crate::tensor::{DType, ErrorKind, Tensor};

/// Trits at two bits, [n, ceil(k / 4)].
fn weights(n: usize, k: usize, seed: u32) -> Tensor {
    integers(&[n, k.div_ceil(4)], seed, 81, |i| {
        (0..4).fold(0, |byte: u8, j| byte | ((i / 3u64.pow(j) % 3) << (2 * j)) as u8)
    })
}

fn angles(t: usize, half: usize) -> [Tensor; 2] {
    [normal(&[t, half], 40), normal(&[t, half], 41)]
}

/// Batch, length, heads, KV heads, elements of a head, width.
fn products([b, t, h, g, e, d]: [usize; 6]) {
    let codes = integers(&[b * t, d], 30, 255, |i| (i as i32 - 127) as i8);
    let scales = normal(&[b * t], 31);
    let weights = [weights(h * e, d, 32), weights(g * e, d, 33), weights(g * e, d, 34)];
    let weight_scales = [35, 36, 37].map(|seed| normal(&[1], seed));
    let [cosine, sine] = angles(t, e / 2);
    check(&format!("matmul_ternary_qkv {b} {t} {h} {g} {e} {d}"), EXACT, |row| {
        let mut q = dirty(DType::F32, &[b, t, h, e]);
        let (mut k, mut v) = (dirty(DType::F32, &[b, t, g, e]), dirty(DType::F32, &[b, t, g, e]));
        let [to_q, to_k, to_v] = [0, 1, 2].map(|i| weights[i].view());
        let [of_q, of_k, of_v] = [0, 1, 2].map(|i| weight_scales[i].view());
        (row.kernels.matmul_ternary_qkv)(
            &row.launch,
            &codes.view(),
            &scales.view(),
            &to_q,
            &of_q,
            &to_k,
            &of_k,
            &to_v,
            &of_v,
            &cosine.view(),
            &sine.view(),
            &mut q.view_mut(),
            &mut k.view_mut(),
            &mut v.view_mut(),
        )?;
        Ok(vec![q, k, v])
    });
}

#[test]
fn queries_keys_and_values() {
    for sizes in [
        [0, 3, 2, 1, 8, 16],
        [2, 0, 2, 1, 8, 16],
        [1, 1, 1, 1, 2, 1],
        [1, 1, 6, 6, 64, 384],
        [1, 1, 6, 2, 64, 1000],
        [1, 5, 4, 2, 32, 128],
        [1, 12, 3, 3, 6, 63],
        [1, 13, 4, 1, 24, 65],
        [2, 64, 4, 4, 32, 128],
        [3, 65, 6, 3, 64, 384],
        [1, 257, 2, 1, 136, 257],
        [2, 70, 3, 1, 96, 64],
        [2, 31, 5, 5, 14, 2052],
        [4, 200, 3, 1, 40, 0],
        [4, 50, 3, 1, 0, 16],
        [1, 3, 2, 0, 8, 16],
        [1, 30, 2, 0, 8, 16],
    ] {
        products(sizes);
    }
}

#[test]
fn wrong_shapes_are_refused() {
    // q, k, v; rows and columns of the weights; positions and half of the angles.
    let right: [&[usize]; 5] = [&[2, 3, 4, 6], &[2, 3, 2, 6], &[2, 3, 2, 6], &[12, 9], &[3, 3]];
    let wrong: [(usize, &[usize]); 8] = [
        (0, &[2, 3, 4, 5]),
        (0, &[6, 4, 6]),
        (1, &[3, 2, 2, 6]),
        (1, &[1, 3, 2, 6]),
        (2, &[2, 3, 4, 6]),
        (3, &[12, 13]),
        (4, &[3, 2]),
        (4, &[2, 3]),
    ];
    for (number, dims) in wrong {
        let mut shapes = right;
        shapes[number] = dims;
        check(&format!("matmul_ternary_qkv {shapes:?}"), EXACT, |row| {
            let codes = Tensor::zeros(DType::I8, &[6, 9])?;
            let scale = normal(&[1], 1);
            let [to_q, to_kv] = [weights(24, shapes[3][1], 2), weights(shapes[3][0], shapes[3][1], 3)];
            let [mut q, mut k, mut v] = [0, 1, 2].map(|i| dirty(DType::F32, shapes[i]));
            let [cosine, sine] = angles(shapes[4][0], shapes[4][1]);
            let result = (row.kernels.matmul_ternary_qkv)(
                &row.launch,
                &codes.view(),
                &normal(&[6], 4).view(),
                &to_q.view(),
                &scale.view(),
                &to_kv.view(),
                &scale.view(),
                &to_kv.view(),
                &scale.view(),
                &cosine.view(),
                &sine.view(),
                &mut q.view_mut(),
                &mut k.view_mut(),
                &mut v.view_mut(),
            );
            assert_eq!(result.as_ref().unwrap_err().kind, ErrorKind::Shape);
            result.map(|()| Vec::new())
        });
    }
}
