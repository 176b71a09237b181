use super::math::{load_up_to, store_up_to};
use wide::{f32x4, f32x8};

/// Sum over i < n of the products of the operands at i: four independent sums, so that the additions overlap.
#[inline(always)]
unsafe fn sum_of_products(n: usize, at: impl Fn(usize, usize) -> (f32x8, f32x8)) -> f32 {
    let mut sums = [f32x8::ZERO; 4];
    let mut i = 0;
    while i + 32 <= n {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let (a, b) = at(i + 8 * lane, 8);
            *sum = a.mul_add(b, *sum);
        }
        i += 32;
    }
    let [mut first, second, third, fourth] = sums;
    while i < n {
        let (a, b) = at(i, n - i);
        first = a.mul_add(b, first);
        i += 8;
    }
    ((first + second) + (third + fourth)).reduce_add()
}

pub unsafe extern "C" fn rms_norm(
    x: *const f32,
    gain: *const f32,
    epsilon: f32,
    rows: usize,
    width: usize,
    y: *mut f32,
    inverse_rms: *mut f32,
) {
    for row in 0..rows {
        let x = x.add(row * width);
        let y = y.add(row * width);
        let squares = sum_of_products(width, |i, rest| {
            let v = load_up_to(x.add(i), rest);
            (v, v)
        });
        let [root, ..] = f32x4::splat(squares / width.max(1) as f32 + epsilon).sqrt().to_array();
        let inverse = 1.0 / root;
        *inverse_rms.add(row) = inverse;
        let inverse = f32x8::splat(inverse);
        let mut i = 0;
        while i < width {
            let rest = width - i;
            let v = load_up_to(x.add(i), rest) * inverse * load_up_to(gain.add(i), rest);
            store_up_to(y.add(i), v, rest);
            i += 8;
        }
    }
}

/// With y = x r g and r = (mean(x^2) + epsilon)^(-1/2), so that dr/dx = -r^3 x / d:
/// dx = r (dy g) - x (r^3 / d) sum(dy g x), and dg = sum over rows of dy x r.
pub unsafe extern "C" fn rms_norm_backward(
    x: *const f32,
    gain: *const f32,
    inverse_rms: *const f32,
    dy: *const f32,
    accumulate: bool,
    rows: usize,
    width: usize,
    dx: *mut f32,
    dgain: *mut f32,
) {
    if accumulate {
        norm_backward::<true>(x, gain, inverse_rms, dy, rows, width, dx, dgain);
    } else {
        norm_backward::<false>(x, gain, inverse_rms, dy, rows, width, dx, dgain);
    }
}

#[inline(always)]
unsafe fn norm_backward<const ACCUMULATE: bool>(
    x: *const f32,
    gain: *const f32,
    inverse_rms: *const f32,
    dy: *const f32,
    rows: usize,
    width: usize,
    dx: *mut f32,
    dgain: *mut f32,
) {
    for row in 0..rows {
        let x = x.add(row * width);
        let dy = dy.add(row * width);
        let dx = dx.add(row * width);
        let inverse = *inverse_rms.add(row);
        let sum = sum_of_products(width, |i, rest| {
            (load_up_to(dy.add(i), rest) * load_up_to(gain.add(i), rest), load_up_to(x.add(i), rest))
        });
        let back = f32x8::splat(inverse * inverse * inverse * (sum / width as f32));
        let inverse = f32x8::splat(inverse);
        let mut i = 0;
        while i < width {
            let rest = width - i;
            let (u, d) = (load_up_to(x.add(i), rest), load_up_to(dy.add(i), rest) * inverse);
            let gradient = u.mul_neg_add(back, d * load_up_to(gain.add(i), rest));
            let to = dx.add(i);
            store_up_to(to, if ACCUMULATE { load_up_to(to, rest) + gradient } else { gradient }, rest);
            let to = dgain.add(i);
            store_up_to(to, d.mul_add(u, load_up_to(to, rest)), rest);
            i += 8;
        }
    }
}
