//! The flip budget: how much of a step leaves so many trits of a ternary parameter as they are.
//!
//! Trits before and after the step are those by the threshold from before it. The next forward pass quantizes with the absmean of
//! the weights after it, which moves the threshold: by that one more trits may have changed than the budget has, or fewer.

use crate::backend::FLIP_BINS;

/// Bins of an octave, and the value at which the first one begins: see `flip_bin` of the reference kernel.
const PER_OCTAVE: usize = 8;
const FIRST: f64 = 1.0 / 65_536.0;

/// The largest share of the step, at the beginning of a bin, with at most `allowed` changes before it; 1 where the whole step has
/// no more. Below the first bin it is half of where that begins: a step is never nothing.
pub fn share(bins: &[u32], allowed: u64) -> f64 {
    debug_assert_eq!(bins.len(), FLIP_BINS);
    let mut changes = 0u64;
    for (bin, &count) in bins.iter().enumerate() {
        changes += u64::from(count);
        if changes > allowed {
            return begin(bin);
        }
    }
    1.0
}

fn begin(bin: usize) -> f64 {
    let Some(bin) = bin.checked_sub(1) else { return 0.5 * FIRST };
    FIRST * (1.0 + (bin % PER_OCTAVE) as f64 / PER_OCTAVE as f64) * 2f64.powi((bin / PER_OCTAVE) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_ends_before_the_bin_that_is_too_much() {
        let mut bins = [0u32; FLIP_BINS];
        assert_eq!(share(&bins, 0), 1.0);
        // One octave below the whole step, in the fifth eighth: from 0.5 * (1 + 4 / 8).
        bins[1 + 15 * 8 + 4] = 3;
        assert_eq!(share(&bins, 3), 1.0);
        assert_eq!(share(&bins, 2), 0.75);
        bins[1] = 1;
        assert_eq!(share(&bins, 3), 0.75);
        assert_eq!(share(&bins, 0), FIRST);
        bins[0] = 1;
        assert_eq!(share(&bins, 0), 0.5 * FIRST);
        assert_eq!(begin(FLIP_BINS), 1.0);
    }
}
