use super::math::{exp, load_part, map, max, max_lane, store_part};
use super::vector::{load, store};
use wide::{f32x8, f64x2};

/// Sums in f32 lanes hold this many elements at most before they are added up in f64, so that a vocabulary of any size
/// loses no digits.
const BLOCK: usize = 4096;

pub unsafe extern "C" fn cross_entropy(
    logits: *const f32,
    targets: *const u32,
    rows: usize,
    width: usize,
    losses: *mut f32,
) {
    for row in 0..rows {
        let logits = logits.add(row * width);
        let most = largest(logits, width);
        let sum = sum_of_exp(logits, width, most, |_, _, _| ());
        *losses.add(row) = loss(sum, most, *logits.add(*targets.add(row) as usize));
    }
}

pub unsafe extern "C" fn cross_entropy_gradient(
    targets: *const u32,
    factor: f32,
    rows: usize,
    width: usize,
    logits: *mut f32,
    losses: *mut f32,
) {
    for row in 0..rows {
        let logits = logits.add(row * width);
        let target = logits.add(*targets.add(row) as usize);
        let most = largest(logits, width);
        let chosen = *target;
        let sum = sum_of_exp(logits, width, most, |at, v, rest| {
            let at = logits.add(at);
            if rest >= 8 { store(at, v) } else { store_part(at, v, rest) }
        });
        *losses.add(row) = loss(sum, most, chosen);
        let share = f32x8::splat((f64::from(factor) / sum) as f32);
        map(logits, logits, width, |v| v * share);
        *target -= factor;
    }
}

/// ln(sum of exp(logit)) - chosen, with sum = the sum of exp(logit - most).
#[inline(always)]
fn loss(sum: f64, most: f32, chosen: f32) -> f32 {
    let [logarithm, _] = f64x2::splat(sum).ln().to_array();
    (logarithm + (f64::from(most) - f64::from(chosen))) as f32
}

#[inline(always)]
unsafe fn largest(x: *const f32, n: usize) -> f32 {
    let mut most = [f32x8::splat(f32::NEG_INFINITY); 4];
    let mut i = 0;
    while i + 32 <= n {
        for (lane, most) in most.iter_mut().enumerate() {
            *most = max(load(x.add(i + 8 * lane)), *most);
        }
        i += 32;
    }
    let [mut first, second, third, fourth] = most;
    while i + 8 <= n {
        first = max(load(x.add(i)), first);
        i += 8;
    }
    if i < n {
        first = max(load_part(x.add(i), n - i, f32::NEG_INFINITY), first);
    }
    max_lane(max(max(first, second), max(third, fourth)))
}

/// The sum of exp(x - most); `with` gets each vector of exponentials, its index and how many elements there are from it on.
#[inline(always)]
unsafe fn sum_of_exp(x: *const f32, n: usize, most: f32, with: impl Fn(usize, f32x8, usize)) -> f64 {
    let most = f32x8::splat(most);
    let mut total = 0.0f64;
    let mut i = 0;
    while i < n {
        let end = if n - i > BLOCK { i + BLOCK } else { n };
        let mut sums = [f32x8::ZERO; 2];
        while i + 16 <= end {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let at = i + 8 * lane;
                let v = exp(load(x.add(at)) - most);
                with(at, v, 8);
                *sum += v;
            }
            i += 16;
        }
        let [mut first, second] = sums;
        while i < end {
            let rest = end - i;
            let v = if rest >= 8 { load(x.add(i)) } else { load_part(x.add(i), rest, f32::NEG_INFINITY) };
            let v = exp(v - most);
            with(i, v, rest);
            first += v;
            i += 8;
        }
        i = end;
        total += f64::from((first + second).reduce_add());
    }
    total
}
