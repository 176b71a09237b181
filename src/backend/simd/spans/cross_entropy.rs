use super::math::{exp, load_part, map, max, max_lane, store_up_to};
use super::vector::load;
use wide::{f32x8, f64x4};

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
    by_fours(rows, losses, |row| {
        let logits = logits.add(row * width);
        let chosen = *logits.add(*targets.add(row) as usize);
        let most = largest(logits, width);
        Row { sum: sum_of_exp(logits, width, most, |_, _, _| ()), distance: f64::from(most) - f64::from(chosen) }
    });
}

pub unsafe extern "C" fn cross_entropy_gradient(
    targets: *const u32,
    factor: f32,
    rows: usize,
    width: usize,
    logits: *mut f32,
    losses: *mut f32,
) {
    by_fours(rows, losses, |row| {
        let logits = logits.add(row * width);
        let target = logits.add(*targets.add(row) as usize);
        let chosen = *target;
        let most = largest(logits, width);
        let sum = sum_of_exp(logits, width, most, |at, v, rest| store_up_to(logits.add(at), v, rest));
        let share = f32x8::splat((f64::from(factor) / sum) as f32);
        map(logits, logits, width, |v| v * share);
        *target -= factor;
        Row { sum, distance: f64::from(most) - f64::from(chosen) }
    });
}

/// What makes a loss: ln(sum of exp(logit - most)) + (most - chosen).
struct Row {
    sum: f64,
    distance: f64,
}

/// The losses of all rows: four share one logarithm.
#[inline(always)]
unsafe fn by_fours(rows: usize, losses: *mut f32, of_row: impl Fn(usize) -> Row) {
    let mut first = 0;
    while first < rows {
        let count = if rows - first < 4 { rows - first } else { 4 };
        let (mut sums, mut distances) = ([1.0; 4], [0.0; 4]);
        for (i, (sum, distance)) in sums.iter_mut().zip(&mut distances).enumerate().take(count) {
            let row = of_row(first + i);
            (*sum, *distance) = (row.sum, row.distance);
        }
        let found = f64x4::new(sums).ln() + f64x4::new(distances);
        for (i, loss) in found.to_array().into_iter().enumerate().take(count) {
            *losses.add(first + i) = loss as f32;
        }
        first += 4;
    }
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
