use super::math::{by_vectors, load_up_to, map_two, store_up_to};
use wide::{f32x4, f32x8};

/// Sum over i < n of the products of the operands at i: four independent sums, so that the additions overlap.
#[inline(always)]
pub unsafe fn sum_of_products(n: usize, at: impl Fn(usize, usize) -> (f32x8, f32x8)) -> f32 {
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
    let mut first = 0;
    while first < rows {
        // Four rows share one square root and one division, which would otherwise take as long as a short row.
        let count = if rows - first < 4 { rows - first } else { 4 };
        let mut means = [0.0; 4];
        for (i, mean) in means.iter_mut().enumerate().take(count) {
            let x = x.add((first + i) * width);
            let squares = sum_of_products(width, |i, rest| {
                let v = load_up_to(x.add(i), rest);
                (v, v)
            });
            *mean = squares / width.max(1) as f32;
        }
        let inverse = f32x4::ONE / (f32x4::new(means) + f32x4::splat(epsilon)).sqrt();
        for (i, inverse) in inverse.to_array().into_iter().enumerate().take(count) {
            let row = first + i;
            *inverse_rms.add(row) = inverse;
            let inverse = f32x8::splat(inverse);
            map_two(x.add(row * width), gain, y.add(row * width), width, |x, gain| x * inverse * gain);
        }
        first += 4;
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
    let mut first = 0;
    while first < rows {
        let at = first * width;
        let (x, dy, dx) = (x.add(at), dy.add(at), dx.add(at));
        let inverse_rms = inverse_rms.add(first);
        // Rows together share the loads of gain and dgain; each element of dgain still sums its rows in order.
        if first + ROWS <= rows {
            backward_of_rows::<ROWS>(x, gain, inverse_rms, dy, accumulate, width, dx, dgain);
            first += ROWS;
        } else {
            backward_of_rows::<1>(x, gain, inverse_rms, dy, accumulate, width, dx, dgain);
            first += 1;
        }
    }
}

/// Two, not four: rows whose length is a multiple of 4 KiB fall on the same place of the first-level cache, which holds
/// eight lines: two rows of x, dy and dx, gain and dgain.
const ROWS: usize = 2;

#[inline(always)]
unsafe fn backward_of_rows<const N: usize>(
    x: *const f32,
    gain: *const f32,
    inverse_rms: *const f32,
    dy: *const f32,
    accumulate: bool,
    width: usize,
    dx: *mut f32,
    dgain: *mut f32,
) {
    let (mut inverses, mut backs) = ([f32x8::ZERO; N], [f32x8::ZERO; N]);
    // One row after the other: rows read in turns are no stream that the processor would fetch ahead.
    for (row, (to, back)) in inverses.iter_mut().zip(&mut backs).enumerate() {
        let (x, dy) = (x.add(row * width), dy.add(row * width));
        let sum = sum_of_products(width, |i, rest| {
            (load_up_to(dy.add(i), rest) * load_up_to(gain.add(i), rest), load_up_to(x.add(i), rest))
        });
        let inverse = *inverse_rms.add(row);
        *to = f32x8::splat(inverse);
        *back = f32x8::splat(inverse * inverse * inverse * (sum / width as f32));
    }
    by_vectors(width, |i, rest| {
        let gain = load_up_to(gain.add(i), rest);
        let mut sum = load_up_to(dgain.add(i), rest);
        for (row, (inverse, back)) in inverses.into_iter().zip(backs).enumerate() {
            let at = row * width + i;
            let (u, d) = (load_up_to(x.add(at), rest), load_up_to(dy.add(at), rest) * inverse);
            sum = d.mul_add(u, sum);
            let gradient = u.mul_neg_add(back, d * gain);
            let to = dx.add(at);
            store_up_to(to, if accumulate { load_up_to(to, rest) + gradient } else { gradient }, rest);
        }
        store_up_to(dgain.add(i), sum, rest);
    });
}
