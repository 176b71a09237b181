use super::math::{by_vectors, load_up_to, store_up_to};
use wide::f32x8;

pub unsafe extern "C" fn rope(
    cosine: *const f32,
    sine: *const f32,
    sign: f32,
    first: usize,
    rows: usize,
    stride: usize,
    positions: usize,
    heads: usize,
    half: usize,
    x: *mut f32,
) {
    let sign = f32x8::splat(sign);
    let mut position = first;
    for row in 0..rows {
        let cosine = cosine.add(position * half);
        let sine = sine.add(position * half);
        for head in 0..heads {
            let front = x.add(row * stride + head * 2 * half);
            let back = front.add(half);
            by_vectors(half, |i, rest| {
                let (u, v) = (load_up_to(front.add(i), rest), load_up_to(back.add(i), rest));
                let (c, s) = (load_up_to(cosine.add(i), rest), load_up_to(sine.add(i), rest) * sign);
                store_up_to(front.add(i), u * c - v * s, rest);
                store_up_to(back.add(i), v * c + u * s, rest);
            });
        }
        position += 1;
        if position == positions {
            position = 0;
        }
    }
}
