//! Norms between the products of ternary layers: see `scalar/fused_norm.rs`. What is normalised is computed again in each pass
//! over a row, from inputs that the first pass has brought near.

use super::activation::code;
use super::math::{by_vectors, load_up_to, relu, store_up_to};
use super::norm::sum_of_products;
use super::reduce::{BLOCK, LANES, fold};
use super::vector::{narrow_signed, write};
use bytemuck::cast;
use wide::{f32x4, f32x8, f64x4, i32x8};

const LEAST_ABSMAX: f32 = 1e-5;

pub unsafe extern "C" fn rms_norm_quantize(
    x: *const f32,
    gain: *const f32,
    epsilon: f64,
    rows: usize,
    width: usize,
    codes: *mut i8,
    scales: *mut f32,
    inverse_rms: *mut f32,
) {
    let hidden = |at: usize, rest: usize| load_up_to(x.add(at), rest);
    quantize(hidden, gain, epsilon, rows, width, codes, scales, inverse_rms);
}

pub unsafe extern "C" fn squared_relu_norm_quantize(
    gate: *const f32,
    up: *const f32,
    gain: *const f32,
    epsilon: f64,
    rows: usize,
    width: usize,
    codes: *mut i8,
    scales: *mut f32,
    inverse_rms: *mut f32,
) {
    if up.is_null() {
        let hidden = |at: usize, rest: usize| {
            let r = relu(load_up_to(gate.add(at), rest));
            r * r
        };
        return quantize(hidden, gain, epsilon, rows, width, codes, scales, inverse_rms);
    }
    let hidden = |at: usize, rest: usize| {
        let r = relu(load_up_to(gate.add(at), rest));
        r * r * load_up_to(up.add(at), rest)
    };
    quantize(hidden, gain, epsilon, rows, width, codes, scales, inverse_rms);
}

/// `hidden(at, rest)` are up to eight values from element `at` on.
#[inline(always)]
unsafe fn quantize(
    hidden: impl Fn(usize, usize) -> f32x8,
    gain: *const f32,
    epsilon: f64,
    rows: usize,
    width: usize,
    codes: *mut i8,
    scales: *mut f32,
    inverse_rms: *mut f32,
) {
    let mut first = 0;
    while first < rows {
        // Four rows share one square root and three divisions.
        let count = if rows - first < 4 { rows - first } else { 4 };
        let mut squares = [0.0; 4];
        for (i, squares) in squares.iter_mut().enumerate().take(count) {
            *squares = square_sum(width, |j, rest| hidden((first + i) * width + j, rest));
        }
        let means = f64x4::new(squares) / f64x4::splat(if width > 0 { width as f64 } else { 1.0 });
        let inverse = (f64x4::ONE / (means + f64x4::splat(epsilon)).sqrt()).to_array().map(|inverse| inverse as f32);
        let mut largest = [LEAST_ABSMAX; 4];
        for (i, largest) in largest.iter_mut().enumerate().take(count) {
            let normed = normed(&hidden, gain, (first + i) * width, inverse[i & 3]);
            *largest = absmax(width, normed);
        }
        let factors = (f32x4::splat(127.0) / f32x4::new(largest)).to_array();
        let of_rows = (f32x4::new(largest) / f32x4::splat(127.0)).to_array();
        for i in 0..count {
            let at = (first + i) * width;
            *inverse_rms.add(first + i) = inverse[i & 3];
            *scales.add(first + i) = of_rows[i & 3];
            write_codes(width, normed(&hidden, gain, at, inverse[i & 3]), factors[i & 3], codes.add(at));
        }
        first += 4;
    }
}

/// The canonical sum of the squares of n values.
#[inline(always)]
unsafe fn square_sum(n: usize, value: impl Fn(usize, usize) -> f32x8) -> f64 {
    let mut total = 0.0;
    let mut start = 0;
    while start < n {
        let end = if n - start < BLOCK { n } else { start + BLOCK };
        let mut lanes = [f32x8::ZERO; 4];
        let mut i = start;
        while i + LANES <= end {
            for j in 0..4 {
                let v = value(i + 8 * j, 8);
                lanes[j] += v * v;
            }
            i += LANES;
        }
        for j in 0..4 {
            let at = i + 8 * j;
            if at < end {
                let v = value(at, end - at);
                lanes[j] += v * v;
            }
        }
        total += f64::from(fold(lanes));
        start += BLOCK;
    }
    total
}

/// The normalised values of a row that begins at element `row`.
#[inline(always)]
unsafe fn normed(
    hidden: &impl Fn(usize, usize) -> f32x8,
    gain: *const f32,
    row: usize,
    inverse: f32,
) -> impl Fn(usize, usize) -> f32x8 {
    let inverse = f32x8::splat(inverse);
    move |i, rest| unsafe { hidden(row + i, rest) * inverse * load_up_to(gain.add(i), rest) }
}

/// max(max |v|, 1e-5) of n values; NaN when one is. The bits of floats without sign are in the order of the floats.
#[inline(always)]
unsafe fn absmax(n: usize, value: impl Fn(usize, usize) -> f32x8) -> f32 {
    let mut lanes = [i32x8::splat(LEAST_ABSMAX.to_bits() as i32); 2];
    let mut i = 0;
    while i + 16 <= n {
        for j in 0..2 {
            lanes[j] = lanes[j].max(cast(value(i + 8 * j, 8).abs()));
        }
        i += 16;
    }
    while i < n {
        // What is past the end is 0 times the inverse: a NaN where that is infinite.
        let inside: i32x8 = i32x8::splat((n - i) as i32).simd_gt(i32x8::new([0, 1, 2, 3, 4, 5, 6, 7]));
        lanes[0] = lanes[0].max(cast::<f32x8, i32x8>(value(i, n - i).abs()) & inside);
        i += 8;
    }
    let eight = lanes[0].max(lanes[1]).to_array();
    f32::from_bits(eight.iter().fold(0, |a: i32, &b| if b > a { b } else { a }) as u32)
}

#[inline(always)]
unsafe fn write_codes(n: usize, value: impl Fn(usize, usize) -> f32x8, factor: f32, codes: *mut i8) {
    let factor = f32x8::splat(factor);
    let mut i = 0;
    while i + 32 <= n {
        write(codes.add(i), narrow_signed([0, 8, 16, 24].map(|j| code(value(i + j, 8) * factor))));
        i += 32;
    }
    if i < n {
        let left = |j: usize| (n - i).saturating_sub(j);
        let rounded =
            [0, 8, 16, 24].map(|j| if left(j) > 0 { code(value(i + j, left(j)) * factor) } else { i32x8::ZERO });
        core::ptr::copy_nonoverlapping(narrow_signed(rounded).as_ptr(), codes.add(i), n - i);
    }
}

pub unsafe extern "C" fn squared_relu_norm_backward(
    gate: *const f32,
    up: *const f32,
    gain: *const f32,
    inverse_rms: *const f32,
    dy: *const f32,
    rows: usize,
    width: usize,
    dgate: *mut f32,
    dup: *mut f32,
    dgain: *mut f32,
) {
    for row in 0..rows {
        let at = row * width;
        let (gate, dy, dgate, inverse) = (gate.add(at), dy.add(at), dgate.add(at), *inverse_rms.add(row));
        if up.is_null() {
            let hidden = |i: usize, rest: usize| {
                let r = relu(load_up_to(gate.add(i), rest));
                r * r
            };
            backward(hidden, gain, inverse, dy, width, dgain, |i, rest, dhidden| {
                let r = relu(load_up_to(gate.add(i), rest));
                store_up_to(dgate.add(i), dhidden * (r + r), rest);
            });
        } else {
            let (up, dup) = (up.add(at), dup.add(at));
            let hidden = |i: usize, rest: usize| {
                let r = relu(load_up_to(gate.add(i), rest));
                r * r * load_up_to(up.add(i), rest)
            };
            backward(hidden, gain, inverse, dy, width, dgain, |i, rest, dhidden| {
                let r = relu(load_up_to(gate.add(i), rest));
                let up = load_up_to(up.add(i), rest);
                store_up_to(dgate.add(i), dhidden * up * (r + r), rest);
                store_up_to(dup.add(i), dhidden * (r * r), rest);
            });
        }
    }
}

/// As `rms_norm_backward`, of a row: hands the gradient to what was normalised to `write`.
#[inline(always)]
unsafe fn backward(
    hidden: impl Fn(usize, usize) -> f32x8,
    gain: *const f32,
    inverse: f32,
    dy: *const f32,
    width: usize,
    dgain: *mut f32,
    write: impl Fn(usize, usize, f32x8),
) {
    let sum = sum_of_products(width, |i, rest| {
        (load_up_to(dy.add(i), rest) * load_up_to(gain.add(i), rest), hidden(i, rest))
    });
    let back = f32x8::splat(inverse * inverse * inverse * (sum / width as f32));
    let inverse = f32x8::splat(inverse);
    by_vectors(width, |i, rest| {
        let (u, d) = (hidden(i, rest), load_up_to(dy.add(i), rest) * inverse);
        let gains = dgain.add(i);
        store_up_to(gains, d.mul_add(u, load_up_to(gains, rest)), rest);
        write(i, rest, u.mul_neg_add(back, d * load_up_to(gain.add(i), rest)));
    });
}
