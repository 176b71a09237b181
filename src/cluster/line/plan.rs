//! Where the buckets of a line lie. A boundary is searched in its bucket, and before that by the buckets as a whole: so they are
//! to be small where there are many numbers, and narrow where few clusters divide much of the range.
//!
//! The range of keys is cut into cells of equal length, which are octaves or parts of such; by a sample of the numbers each cell
//! gets a power of two of buckets. With many clusters the optimum has a density of clusters that goes as the cube root of that of
//! the numbers (Panter and Dite, "Quantization distortion in pulse-count modulation", 1951): half of the buckets are dealt out
//! that way, half by the numbers.

use super::item::{Item, Numbers, value};
use crate::tensor::{Result, reserve};

const CELLS: usize = 2048;

/// Numbers of the sample, at most about twice as many; it takes eight that follow each other at a time.
const SAMPLE: usize = 1 << 18;
const TOGETHER: usize = 8;

pub struct Plan {
    low: u32,
    high: u32,
    /// The binary logarithm of a cell's length.
    length: u32,
    /// Of each cell: its first bucket, and the binary logarithm of the length of its buckets.
    cells: Box<[[u32; 2]; CELLS]>,
    /// The lowest key of each bucket.
    lowest: Vec<u32>,
    /// More numbers, or a larger share of the clusters, make a bucket worth cutting.
    numbers: usize,
    share: f64,
}

/// The share of clusters of `count` numbers in a range: (count * width^2)^(1/3), with the scale left open.
pub fn share(count: f64, low: u32, high: u32) -> f64 {
    let width = f64::from(value(high)) - f64::from(value(low));
    cube_root(count * width * width)
}

/// By arithmetic that is the same everywhere, which the C library's is not; within 1e-10 or so of normal numbers.
fn cube_root(x: f64) -> f64 {
    if x <= f64::MIN_POSITIVE {
        return 0.0;
    }
    // A third of the exponent, with the bias put right; then Newton.
    let mut root = f64::from_bits(x.to_bits() / 3 + 0x2AA0_0000_0000_0000);
    for _ in 0..4 {
        root -= (root - x / (root * root)) / 3.0;
    }
    root
}

impl Plan {
    /// For numbers with keys from `low` to `high`: about so many buckets.
    pub fn new(numbers: &Numbers, low: u32, high: u32, buckets: usize) -> Result<Plan> {
        let length = (u32::BITS - (high - low).leading_zeros()).saturating_sub(CELLS.ilog2());
        let mut counts = [0u32; CELLS];
        let n = numbers.x.len();
        let step = TOGETHER * n.div_ceil(SAMPLE);
        for at in (0..n).step_by(step) {
            numbers
                .part(at, n.min(at + TOGETHER))
                .each(|item: u64| counts[((item.key() - low) >> length) as usize] += 1);
        }
        let bottom = |cell: usize| low + ((cell as u32) << length);
        let top = |cell: usize| bottom(cell).saturating_add((1 << length) - 1).min(high);
        let cells = ((high - low) >> length) as usize + 1;
        let (mut sampled, mut shares) = (0.0, 0.0);
        for (cell, &count) in counts[..cells].iter().enumerate() {
            sampled += f64::from(count);
            shares += share(f64::from(count), bottom(cell), top(cell));
        }
        let (scale, half) = (n as f64 / f64::max(sampled, 1.0), buckets as f64 / 2.0);
        let mut plan = Plan {
            low,
            high,
            length,
            cells: Box::new([[0, length]; CELLS]),
            lowest: Vec::new(),
            numbers: (4.0 * n as f64 / buckets as f64).ceil() as usize,
            // The sample's scale: its cube root goes into every share.
            share: 4.0 * shares * cube_root(scale) / buckets as f64,
        };
        reserve(&mut plan.lowest, 2 * buckets + 2 * CELLS)?;
        for (cell, &count) in counts[..cells].iter().enumerate() {
            let count = f64::from(count);
            let mut wanted = half * count / f64::max(sampled, 1.0);
            if shares > 0.0 {
                wanted += half * share(count, bottom(cell), top(cell)) / shares;
            }
            let wanted = wanted.min(count * scale).ceil().max(1.0) as u64;
            let cut = wanted.next_power_of_two().ilog2().min(length);
            plan.cells[cell] = [plan.lowest.len() as u32, length - cut];
            reserve(&mut plan.lowest, 1 << cut)?;
            plan.lowest.extend((0..1 << cut).map(|i: u32| bottom(cell).saturating_add(i << (length - cut))));
        }
        Ok(plan)
    }

    pub fn buckets(&self) -> usize {
        self.lowest.len()
    }

    /// The bucket of a key from `low` to `high`.
    #[inline(always)]
    pub fn bucket(&self, key: u32) -> usize {
        let from = key - self.low;
        let [first, shift] = self.cells[(from >> self.length) as usize % CELLS];
        (first + ((from & ((1 << self.length) - 1)) >> shift)) as usize
    }

    pub fn lowest(&self, bucket: usize) -> u32 {
        self.lowest[bucket]
    }

    pub fn highest(&self) -> u32 {
        self.high
    }

    /// Buckets, after cutting, past which none is cut any more.
    pub fn most(&self) -> usize {
        4 * self.lowest.len()
    }

    pub fn is_large(&self, count: usize, low: u32, high: u32) -> bool {
        count > 1 && (count > self.numbers || share(count as f64, low, high) > self.share)
    }
}
