//! How many thresholds of a codebook are below a number.

use super::vector::{load, write};
use wide::{f32x8, i32x8};

/// Up to so many thresholds are all compared.
const FEW: usize = 15;

/// The labels of 8 numbers, by 2^p - 1 thresholds.
#[inline(always)]
unsafe fn labels8(x: *const f32, thresholds: *const f32, count: usize) -> i32x8 {
    // Of all thresholds 15 at even distances, one after the other: what four steps of halving would look at.
    let step = (count + 1) / 16;
    let numbers = load(x);
    let mut labels = i32x8::ZERO;
    for i in 1..=FEW {
        // All ones, -1, where the threshold is below.
        let threshold = f32x8::splat(*thresholds.add(step * i - 1));
        labels -= bytemuck::cast::<f32x8, i32x8>(threshold.simd_lt(numbers));
    }
    if count == FEW {
        return labels;
    }
    // A sum of shifted comparisons: which way a step goes is as good as random, and no branch may ask.
    let mut found = labels.to_array();
    let mut shift = step.trailing_zeros();
    for label in &mut found {
        *label <<= shift;
    }
    while shift > 0 {
        shift -= 1;
        let thresholds = thresholds.add((1 << shift) - 1);
        for i in 0..8 {
            found[i] += i32::from(*thresholds.add(found[i] as usize) < *x.add(i)) << shift;
        }
    }
    i32x8::new(found)
}

/// The same of the first n of 8.
#[inline(always)]
unsafe fn labels_part(x: *const f32, n: usize, thresholds: *const f32, count: usize) -> [i32; 8] {
    let mut part = [0f32; 8];
    core::ptr::copy_nonoverlapping(x, part.as_mut_ptr(), n);
    labels8(part.as_ptr(), thresholds, count).to_array()
}

pub unsafe extern "C" fn codebook_labels(
    x: *const f32,
    n: usize,
    thresholds: *const f32,
    count: usize,
    labels: *mut u32,
) {
    let mut i = 0;
    while i + 8 <= n {
        write(labels.add(i), labels8(x.add(i), thresholds, count));
        i += 8;
    }
    if i < n {
        let part = labels_part(x.add(i), n - i, thresholds, count);
        core::ptr::copy_nonoverlapping(part.as_ptr().cast(), labels.add(i), n - i);
    }
}

pub unsafe extern "C" fn codebook_pack(x: *const f32, n: usize, thresholds: *const f32, count: usize, packed: *mut u8) {
    let mut i = 0;
    if count > FEW {
        while i < n {
            let rest = if n - i < 8 { n - i } else { 8 };
            let part = if rest < 8 {
                labels_part(x.add(i), rest, thresholds, count)
            } else {
                labels8(x.add(i), thresholds, count).to_array()
            };
            let bytes = part.map(|label| label as u8);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), packed.add(i), rest);
            i += 8;
        }
        return;
    }
    let codes = |labels: [i32; 8]| {
        let mut word = 0u32;
        let mut i = 0;
        while i < 8 {
            word |= (labels[i] as u32) << (4 * i);
            i += 1;
        }
        word.to_le_bytes()
    };
    while i + 8 <= n {
        write(packed.add(i / 2), codes(labels8(x.add(i), thresholds, count).to_array()));
        i += 8;
    }
    if i < n {
        let mut part = labels_part(x.add(i), n - i, thresholds, count);
        let mut past = n - i;
        while past < 8 {
            part[past] = 0;
            past += 1;
        }
        core::ptr::copy_nonoverlapping(codes(part).as_ptr(), packed.add(i / 2), (n - i).div_ceil(2));
    }
}

pub unsafe extern "C" fn codebook_unpack(packed: *const u8, n: usize, table: *const f32, bits: usize, y: *mut f32) {
    let entry = |code: u8| *table.add(code as usize);
    let mut i = 0;
    if bits == 8 {
        while i < n {
            *y.add(i) = entry(*packed.add(i));
            i += 1;
        }
        return;
    }
    while i + 2 <= n {
        let byte = *packed.add(i / 2);
        *y.add(i) = entry(byte & 15);
        *y.add(i + 1) = entry(byte >> 4);
        i += 2;
    }
    if i < n {
        *y.add(i) = entry(*packed.add(i / 2) & 15);
    }
}
