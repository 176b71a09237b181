//! Random numbers without state: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11).
//!
//! The key is the user's 64-bit seed. The 128-bit counter names what the number is for:
//!
//! ```text
//! word 0  block, low 32 bits            block = element / 4; the element's number is word element % 4 of the output
//! word 1  purpose << 24 | block, next 24 bits
//! word 2  step
//! word 3  tensor
//! ```
//!
//! So the same (seed, purpose, step, tensor, element) gives the same bits on every backend, in any order, after any resume.

/// What a stream of numbers is used for. The values are part of the checkpoint format: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    Initialize = 1,
    Batch = 2,
    Dropout = 3,
    Sample = 4,
    Gradient = 6,
    Cluster = 7,
    Quantize = 8,
    OutputGradient = 9,
    Update = 10,
    #[cfg(test)]
    Test = 255,
}

/// One stream: everything but the element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub seed: u64,
    pub purpose: Purpose,
    pub step: u32,
    pub tensor: u32,
}

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox4x32 on one counter.
pub fn philox(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let [mut k0, mut k1] = key;
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIER[0]) * u64::from(c0);
        let p1 = u64::from(MULTIPLIER[1]) * u64::from(c2);
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [c0, c1, c2, c3]
}

impl Stream {
    pub fn new(seed: u64, purpose: Purpose, step: u32, tensor: u32) -> Stream {
        Stream { seed, purpose, step, tensor }
    }

    /// The four words of block `block`, that is of elements `4 * block .. 4 * block + 4`.
    pub fn block(&self, block: u64) -> [u32; 4] {
        let counter =
            [block as u32, (self.purpose as u32) << 24 | ((block >> 32) as u32 & 0x00FF_FFFF), self.step, self.tensor];
        philox([self.seed as u32, (self.seed >> 32) as u32], counter)
    }

    /// 32 uniform bits.
    pub fn bits(&self, element: u64) -> u32 {
        self.block(element / 4)[(element % 4) as usize]
    }

    /// Uniform in [0, 1): the top 24 bits.
    pub fn uniform(&self, element: u64) -> f32 {
        (self.bits(element) >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// What rounds element `element` at random: in (0, 1), 16 bits, so that a block of Philox is enough for eight.
    pub fn rounding(&self, element: u64) -> f32 {
        let word = self.block(element / 8)[(element % 8 / 2) as usize];
        ((word >> (16 * (element % 2)) & 0xFFFF) as f32 + 0.5) * (1.0 / 65_536.0)
    }

    /// Uniform in [0, 1): 53 bits.
    pub fn uniform_f64(&self, element: u64) -> f64 {
        const STEPS: u64 = 1 << 53;
        self.below(element, STEPS) as f64 / STEPS as f64
    }

    /// Standard normal by Box-Muller in f64, two words a number: element i uses half of block i / 2.
    pub fn normal(&self, element: u64) -> f32 {
        let words = self.block(element / 2);
        let (a, b) = if element.is_multiple_of(2) { (words[0], words[1]) } else { (words[2], words[3]) };
        let u = (f64::from(a) + 1.0) / 4_294_967_296.0; // (0, 1]
        let angle = std::f64::consts::TAU * (f64::from(b) / 4_294_967_296.0);
        ((-2.0 * u.ln()).sqrt() * angle.cos()) as f32
    }

    /// Uniform in 0 .. bound, without bias worth naming: 64 bits scaled by multiplication.
    pub fn below(&self, element: u64, bound: u64) -> u64 {
        let words = self.block(element / 2);
        let (a, b) = if element.is_multiple_of(2) { (words[0], words[1]) } else { (words[2], words[3]) };
        let bits = u64::from(a) << 32 | u64::from(b);
        ((u128::from(bits) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn philox_matches_the_published_vectors() {
        assert_eq!(philox([0, 0], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = u32::MAX;
        assert_eq!(philox([ones; 2], [ones; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox([0xa409_3822, 0x299f_31d0], pi), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let stream = Stream::new(7, Purpose::Test, 0, 0);
        let n = 200_000u64;
        let (mut sum, mut squares) = (0.0f64, 0.0f64);
        for i in 0..n {
            let x = f64::from(stream.normal(i));
            sum += x;
            squares += x * x;
        }
        let mean = sum / n as f64;
        assert!(mean.abs() < 5.0 / (n as f64).sqrt(), "mean {mean}");
        assert!((squares / n as f64 - 1.0).abs() < 0.02, "variance {}", squares / n as f64);
    }

    #[test]
    fn streams_that_differ_in_any_field_differ() {
        let base = Stream::new(1, Purpose::Batch, 2, 3);
        let others = [
            Stream { seed: 1 << 40 | 1, ..base },
            Stream { purpose: Purpose::Dropout, ..base },
            Stream { step: 3, ..base },
            Stream { tensor: 4, ..base },
        ];
        for other in others {
            assert_ne!(base.block(0), other.block(0));
        }
    }
}
