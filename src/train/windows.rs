//! Windows of tokens as hashed TF-IDF vectors, for clustering: tokens and pairs of neighbours are the terms.

use super::dataset::Tokens;
use crate::cluster::{Terms, Tfidf, TfidfOptions, mix};
use crate::tensor::{Cancelled, Result};

/// Buckets: enough to tell topics apart, and a window costs 1 KB.
pub const DIMENSION: usize = 256;
/// Tokens that are read at once.
const BLOCK: usize = 256;

pub fn vectorizer() -> Result<Tfidf> {
    Tfidf::new(TfidfOptions { dimensions: DIMENSION, signed: false, sublinear: false })
}

/// Windows of `length` tokens, each from its `start` on.
pub struct Windows<'a> {
    /// One seed for tokens, one for pairs.
    seeds: [u64; 2],
    tokens: Tokens<'a>,
    length: usize,
    count: usize,
    start: &'a (dyn Fn(usize) -> usize + Sync),
}

impl<'a> Windows<'a> {
    pub fn new(
        seed: u64,
        tokens: Tokens<'a>,
        length: usize,
        count: usize,
        start: &'a (dyn Fn(usize) -> usize + Sync),
    ) -> Windows<'a> {
        Windows { seeds: [mix(seed), mix(!seed)], tokens, length, count, start }
    }
}

impl Terms for Windows<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn bytes(&self) -> usize {
        self.count.saturating_mul(self.length).saturating_mul(size_of::<u32>())
    }

    fn each(&self, window: usize, cancelled: Cancelled, term: &mut dyn FnMut(u64)) {
        // Buckets are chosen by the first bits of a hash: these are the last ones of `mix`.
        let mut add = |key: u64| term(mix(key).rotate_right(DIMENSION.ilog2()));
        let (mut block, mut before) = ([0; BLOCK], None);
        for at in (0..self.length).step_by(BLOCK) {
            if cancelled() {
                return;
            }
            let block = &mut block[..BLOCK.min(self.length - at)];
            self.tokens.read((self.start)(window) + at, block);
            for &mut token in block {
                add(self.seeds[0] ^ u64::from(token));
                if let Some(before) = before.replace(token) {
                    add(self.seeds[1] ^ (u64::from(before) << 32 | u64::from(token)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Context, ContextOptions};
    use crate::tensor::never;

    fn dot(x: &[f32], y: &[f32]) -> f32 {
        x.iter().zip(y).map(|(x, y)| x * y).sum()
    }

    /// The vectors of windows at multiples of `stride`, of weights that were learned from them.
    fn vectors(seed: u64, text: &[u32], length: usize, stride: usize) -> (Tfidf, Vec<f32>) {
        let options = ContextOptions { backend: Some(Backend::Parallel), threads: 2, ..ContextOptions::default() };
        let context = Context::new(&options).unwrap();
        let start = |i: usize| i * stride;
        let count = (text.len() - length) / stride + 1;
        let windows = Windows::new(seed, Tokens::Wide(text), length, count, &start);
        let mut vectorizer = vectorizer().unwrap();
        vectorizer.fit(&context, &windows, false, &never).unwrap();
        let mut found = vec![0.0; count * DIMENSION];
        vectorizer.transform(&context, &windows, &mut found, &never).unwrap();
        (vectorizer, found)
    }

    #[test]
    fn windows_that_share_tokens_are_closer() {
        // Windows: 0 and 1 hold the same tokens in another order, 2 holds others.
        let vectors = |seed| vectors(seed, &[1, 2, 3, 4, 4, 3, 2, 1, 7, 8, 9, 10], 4, 4).1;
        for seed in 0..20 {
            let found = vectors(seed);
            let row = |i: usize| &found[i * DIMENSION..][..DIMENSION];
            for i in 0..3 {
                assert!((dot(row(i), row(i)) - 1.0).abs() < 1e-6);
            }
            let (near, far) = (dot(row(0), row(1)), dot(row(0), row(2)));
            assert!(near > 0.2 && near < 0.99, "seed {seed}: the order of tokens counts too: {near}");
            assert!(far < near, "seed {seed}: {far} is not below {near}");
        }
        assert_ne!(vectors(1), vectors(2), "the seed decides the buckets");
        assert_eq!(vectors(1), vectors(1));
    }

    fn bucket(key: u64) -> usize {
        mix(key) as usize % DIMENSION
    }

    #[test]
    fn what_every_window_has_counts_least() {
        // Token 5 is in each of the windows of two, the other token in one alone.
        let (vectorizer, _) = vectors(3, &[5, 1, 5, 2, 5, 3, 5, 4], 2, 2);
        let idf = |token: u64| vectorizer.idf()[bucket(mix(3) ^ token)];
        assert!((idf(5) - 1.0).abs() < 1e-6);
        assert!((idf(1) - (5.0f32 / 2.0).ln() - 1.0).abs() < 1e-6);
    }

    /// A resumed run finds the clusters that it began with: bits, also of windows longer than what is read at once.
    #[test]
    fn vectors_are_the_formula_to_the_bit() {
        let text: Vec<u32> = (0..20_000).map(|i| (mix(i) % 50 * (i / 4000)) as u32).collect();
        for (length, stride) in [(1, 100), (300, 150), (256, 256), (1000, 1000)] {
            let (vectorizer, found) = vectors(9, &text, length, stride);
            let counts: Vec<_> = (0..=(text.len() - length) / stride)
                .map(|i| {
                    let (window, mut counts) = (&text[i * stride..][..length], [0.0f32; DIMENSION]);
                    window.iter().for_each(|&t| counts[bucket(mix(9) ^ u64::from(t))] += 1.0);
                    let pairs = window.windows(2).map(|p| u64::from(p[0]) << 32 | u64::from(p[1]));
                    pairs.for_each(|pair| counts[bucket(mix(!9) ^ pair)] += 1.0);
                    counts
                })
                .collect();
            for (j, idf) in vectorizer.idf().iter().enumerate() {
                let having = counts.iter().filter(|counts| counts[j] > 0.0).count();
                assert_eq!(*idf, (((1 + counts.len()) as f64 / (1 + having) as f64).ln() + 1.0) as f32);
            }
            for (counts, found) in counts.iter().zip(found.chunks(DIMENSION)) {
                let weighted: Vec<f32> = counts.iter().zip(vectorizer.idf()).map(|(count, idf)| count * idf).collect();
                let squares: f64 = weighted.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                let factor = (1.0 / squares.sqrt()) as f32;
                assert!(weighted.iter().zip(found).all(|(x, found)| (x * factor).to_bits() == found.to_bits()));
            }
        }
    }
}
