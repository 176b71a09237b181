//! Windows of tokens as hashed TF-IDF vectors, for clustering.
//!
//! Of each window, tokens and pairs of neighbours are counted into buckets by a seeded hash (feature hashing: Weinberger et
//! al., arXiv 0902.2206), each bucket is weighted by how few windows have it (inverse document frequency: Spaerck Jones, 1972;
//! smoothed, ln((1 + N) / (1 + df)) + 1), and the vector is scaled to length 1, so that squared distances are 2 - 2 cosine.

use super::dataset::Tokens;
use crate::tensor::{Result, vec_zeroed};

/// Buckets: enough to tell topics apart, and a window costs 1 KB.
pub const DIMENSION: usize = 256;

pub struct Vectorizer {
    /// One seed for tokens, one for pairs.
    seeds: [u64; 2],
    idf: [f32; DIMENSION],
}

impl Vectorizer {
    /// Learns the document frequencies from the windows that start at `starts`.
    pub fn new(seed: u64, tokens: Tokens, length: usize, starts: impl Iterator<Item = usize>) -> Result<Vectorizer> {
        let mut vectorizer = Vectorizer { seeds: [mix(seed), mix(!seed)], idf: [1.0; DIMENSION] };
        let mut window = vec_zeroed(length)?;
        let (mut windows, mut having) = (0u64, [0u64; DIMENSION]);
        for start in starts {
            tokens.read(start, &mut window);
            windows += 1;
            for (having, &count) in having.iter_mut().zip(&vectorizer.counts(&window)) {
                *having += u64::from(count > 0.0);
            }
        }
        for (idf, &having) in vectorizer.idf.iter_mut().zip(&having) {
            *idf = (((1 + windows) as f64 / (1 + having) as f64).ln() + 1.0) as f32;
        }
        Ok(vectorizer)
    }

    /// The vectors [count, DIMENSION] of the windows that start at `starts`.
    pub fn vectors(
        &self,
        tokens: Tokens,
        length: usize,
        starts: impl ExactSizeIterator<Item = usize>,
    ) -> Result<Vec<f32>> {
        let mut vectors = vec_zeroed(starts.len() * DIMENSION)?;
        let mut window = vec_zeroed(length)?;
        for (vector, start) in vectors.chunks_exact_mut(DIMENSION).zip(starts) {
            tokens.read(start, &mut window);
            let mut squares = 0.0;
            for (x, (count, idf)) in vector.iter_mut().zip(self.counts(&window).iter().zip(&self.idf)) {
                *x = count * idf;
                squares += f64::from(*x) * f64::from(*x);
            }
            // A window has a token, so its vector has a length.
            let factor = (1.0 / squares.sqrt()) as f32;
            vector.iter_mut().for_each(|x| *x *= factor);
        }
        Ok(vectors)
    }

    fn counts(&self, window: &[u32]) -> [f32; DIMENSION] {
        let mut counts = [0.0; DIMENSION];
        let mut add = |key: u64| counts[mix(key) as usize % DIMENSION] += 1.0;
        for &token in window {
            add(self.seeds[0] ^ u64::from(token));
        }
        for pair in window.windows(2) {
            add(self.seeds[1] ^ (u64::from(pair[0]) << 32 | u64::from(pair[1])));
        }
        counts
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): each bit of the key decides about every bit.
fn mix(key: u64) -> u64 {
    let key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let key = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    key ^ (key >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(x: &[f32], y: &[f32]) -> f32 {
        x.iter().zip(y).map(|(x, y)| x * y).sum()
    }

    /// Windows: 0 and 1 hold the same tokens in another order, 2 holds others.
    const TEXT: [u32; 12] = [1, 2, 3, 4, 4, 3, 2, 1, 7, 8, 9, 10];

    fn vectors(seed: u64) -> Vec<f32> {
        let tokens = Tokens::Wide(&TEXT);
        let starts = [0, 4, 8].into_iter();
        Vectorizer::new(seed, tokens, 4, starts.clone()).unwrap().vectors(tokens, 4, starts).unwrap()
    }

    #[test]
    fn windows_that_share_tokens_are_closer() {
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

    #[test]
    fn what_every_window_has_counts_least() {
        // Token 5 is in each of the windows of two, the other token in one alone.
        let text = [5, 1, 5, 2, 5, 3, 5, 4];
        let tokens = Tokens::Wide(&text);
        let vectorizer = Vectorizer::new(3, tokens, 2, [0, 2, 4, 6].into_iter()).unwrap();
        let bucket = |token: u64| mix(vectorizer.seeds[0] ^ token) as usize % DIMENSION;
        assert!((vectorizer.idf[bucket(5)] - 1.0).abs() < 1e-6);
        assert!((vectorizer.idf[bucket(1)] - (5.0f32 / 2.0).ln() - 1.0).abs() < 1e-6);
    }
}
