use super::matmul::{Steps, step_products};
use super::vector::{lanes_sum, read};
use wide::{f32x8, i32x8, u8x32};

/// Sums in flight: enough to hide the latency of the arithmetic, few enough to stay in registers. Divides 60.
const SUMS: usize = if cfg!(target_feature = "fma") { 12 } else { 5 };

/// Multiplications and additions in a round: 60 vectors.
pub const FLOAT_PEAK_ROUND: usize = 2 * 8 * 60;

pub unsafe extern "C" fn float_peak(factor: f32, rounds: usize) -> f32 {
    let (factor, term) = (f32x8::splat(factor), f32x8::splat(1.0 - factor));
    // Sums that differ, or the compiler would keep one for all.
    let mut sums = [f32x8::ZERO; SUMS];
    for i in 0..SUMS {
        sums[i] = f32x8::splat(i as f32);
    }
    for _ in 0..rounds {
        for _ in 0..60 / SUMS {
            for i in 0..SUMS {
                sums[i] = sums[i].mul_add(factor, term);
            }
        }
    }
    let mut total = f32x8::ZERO;
    for i in 0..SUMS {
        total += sums[i];
    }
    total.reduce_add()
}

pub const INT8_PEAK_CODES: usize = 4096;
/// Vectors of the other factor, that every code meets.
const FACTORS: usize = 4;
/// Multiplications and additions in a round: one pass over the codes.
pub const INT8_PEAK_ROUND: usize = 2 * FACTORS * INT8_PEAK_CODES;

/// As many factors as leave two sums for each of them in registers.
const TILE: usize = if cfg!(target_feature = "avx2") { 4 } else { 2 };

pub unsafe extern "C" fn int8_peak(codes: *const u8, rounds: usize) -> i32 {
    let mut total = i32x8::ZERO;
    for i in 0..FACTORS / TILE {
        let mut factors = [u8x32::ZERO; TILE];
        for j in 0..TILE {
            // Taken from the codes: a constant would let the compiler work ahead.
            factors[j] = read(codes.add(32 * (i * TILE + j)));
        }
        let mut sums = [[Steps::ZERO; 2]; TILE];
        for _ in 0..rounds {
            let mut at = 0;
            while at < INT8_PEAK_CODES {
                let pair: [u8x32; 2] = read(codes.add(at));
                for j in 0..TILE {
                    for half in 0..2 {
                        sums[j][half] += step_products(pair[half], bytemuck::cast(factors[j]));
                    }
                }
                at += 64;
            }
        }
        for j in 0..TILE {
            for half in 0..2 {
                // Any 256 bits will do: the sum keeps the work from being left out.
                total += bytemuck::cast::<Steps, i32x8>(sums[j][half]);
            }
        }
    }
    lanes_sum(total)
}

/// Bytes that are read at a time.
pub const READ_PEAK_BYTES: usize = 256;

pub unsafe extern "C" fn read_peak(x: *const u8, n: usize) -> i32 {
    let mut words = [i32x8::ZERO; 8];
    let mut i = 0;
    while i < n {
        let next: [i32x8; 8] = read(x.add(i));
        for j in 0..8 {
            words[j] ^= next[j];
        }
        i += READ_PEAK_BYTES;
    }
    let mut total = i32x8::ZERO;
    for j in 0..8 {
        total ^= words[j];
    }
    let mut result = 0;
    for word in total.to_array() {
        result ^= word;
    }
    result
}
