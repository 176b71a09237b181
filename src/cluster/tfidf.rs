//! Documents as hashed TF-IDF vectors, for clustering and routing.
//!
//! The terms of a document (words, tokens, pairs of neighbours) come as 64-bit hashes, which choose one of `dimensions` buckets:
//! feature hashing (Weinberger et al., arXiv 0902.2206). A bucket's count is weighted by how few documents have the bucket
//! (inverse document frequency: Spaerck Jones, 1972; smoothed, ln((1 + N) / (1 + df)) + 1), and the vector is scaled to length 1,
//! so that squared distances are 2 - 2 cosine. A signed term adds +1 or -1, as its hash says: then terms that meet in a bucket
//! add nothing to a product of two documents on average. Unsigned ones pull all documents together, the more the fewer buckets.
//!
//! What is heavy is reading text, which lies on the host and branches at every byte: so this runs on the context's threads, and
//! is no operation of the backends' table. Counts are whole numbers, the rest is done row by row in one order, and logarithms are
//! our own: the same documents give the same bits on every machine, backend and number of threads.

use crate::backend::{Context, stop};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Cancelled, Result, reserve, vec_zeroed};
use parking_lot::Mutex;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What the most vectors have; a row is then 4 MiB.
pub const MOST_DIMENSIONS: usize = 1 << 20;
/// Pieces that documents are cut into for the threads, at most, and what one is worth, in bytes and elements.
const PIECES: usize = 64;
const LEAST_PIECE: usize = 32_768;
/// What given weights lie between, if they are not 0: products with counts keep their square roots and inverses in f32.
const WEIGHTS: RangeInclusive<f32> = 1e-6..=1e6;

/// Documents, by the hashes of their terms.
pub trait Terms: Sync {
    fn count(&self) -> usize;

    /// About how much there is to read.
    fn bytes(&self) -> usize;

    /// Calls `term` with the hash of each term of a document, once for each time that it is there. May end early once
    /// `cancelled` returns true.
    fn each(&self, document: usize, cancelled: Cancelled, term: &mut dyn FnMut(u64));
}

#[derive(Clone, Copy)]
pub struct TfidfOptions {
    pub dimensions: usize,
    pub signed: bool,
    /// A count c weighs 1 + ln c.
    pub sublinear: bool,
}

pub struct Tfidf {
    options: TfidfOptions,
    /// What most counts weigh: logarithms take long.
    small: [f32; 64],
    /// Documents seen, and of those the ones that have each bucket; nothing where the weights were given.
    documents: u64,
    having: Vec<u64>,
    /// Empty before there are weights.
    idf: Vec<f32>,
}

impl Tfidf {
    pub fn new(options: TfidfOptions) -> Result<Tfidf> {
        let d = options.dimensions;
        ensure!((1..=MOST_DIMENSIONS).contains(&d), Argument, "dimensions is {d}, expected 1 to {MOST_DIMENSIONS}");
        let small = std::array::from_fn(|count| weight(count as f32, options.sublinear));
        Ok(Tfidf { options, small, documents: 0, having: Vec::new(), idf: Vec::new() })
    }

    pub fn dimensions(&self) -> usize {
        self.options.dimensions
    }

    /// The weight of each bucket, or nothing before there are any.
    pub fn idf(&self) -> &[f32] {
        &self.idf
    }

    /// Takes weights that another vectorizer learned.
    pub fn set_idf(&mut self, idf: &[f32]) -> Result<()> {
        let d = self.dimensions();
        ensure!(idf.len() == d, Shape, "there are {} weights for {d} dimensions", idf.len());
        if let Some(at) = idf.iter().position(|&w| w != 0.0 && !WEIGHTS.contains(&w)) {
            let (start, end) = (WEIGHTS.start(), WEIGHTS.end());
            return Err(error!(Argument, "idf[{at}] is {}, expected 0 or {start:e} to {end:e}", idf[at]));
        }
        let mut own = Vec::new();
        reserve(&mut own, d)?;
        own.extend_from_slice(idf);
        (self.documents, self.having, self.idf) = (0, Vec::new(), own);
        Ok(())
    }

    /// Learns the weights from these documents, and from those before if `on`. On failure nothing has changed.
    pub fn fit(&mut self, context: &Context, terms: &dyn Terms, on: bool, cancelled: Cancelled) -> Result<()> {
        ensure!(terms.count() > 0, Argument, "n is 0, expected at least one document");
        let mut having = self.document_frequencies(context, terms, cancelled)?;
        let mut documents = terms.count() as u64;
        if on {
            documents += self.documents;
            having.iter_mut().zip(&self.having).for_each(|(sum, before)| *sum += before);
        }
        let mut idf = vec_zeroed(having.len())?;
        for (idf, &having) in idf.iter_mut().zip(&having) {
            *idf = (ln((1 + documents) as f64 / (1 + having) as f64) + 1.0) as f32;
        }
        (self.documents, self.having, self.idf) = (documents, having, idf);
        Ok(())
    }

    /// The vectors [n, dimensions] of the documents; one without a term is zeros. When cancelled, some rows of x may be there.
    pub fn transform(&self, context: &Context, terms: &dyn Terms, x: &mut [f32], cancelled: Cancelled) -> Result<()> {
        let (n, d) = (terms.count(), self.dimensions());
        ensure!(!self.idf.is_empty(), State, "there are no document frequencies yet: fit or set them first");
        ensure!(n.checked_mul(d) == Some(x.len()), Shape, "x has {} elements for [{n}, {d}]", x.len());
        let piece = self.piece(terms);
        let given_up = AtomicBool::new(false);
        let cancelled = &|| stop::asked(&given_up, cancelled);
        let pieces = Mutex::new(x.chunks_mut(piece * d).enumerate());
        context.launch().executor.run(n.div_ceil(piece), &|_| {
            let Some((number, rows)) = pieces.lock().next() else { return };
            for (i, row) in rows.chunks_exact_mut(d).enumerate().take_while(|_| !cancelled()) {
                self.vector(terms, number * piece + i, row, cancelled);
            }
        });
        ensure!(!given_up.load(Relaxed), Cancelled, "the vectors of {n} documents were cancelled");
        Ok(())
    }

    fn bucket(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.options.dimensions as u128) >> 64) as usize
    }

    /// Documents in a piece: a function of the documents and dimensions alone.
    fn piece(&self, terms: &dyn Terms) -> usize {
        let n = terms.count();
        let work = terms.bytes().saturating_add(n.saturating_mul(self.dimensions()));
        n.div_ceil((work / LEAST_PIECE).clamp(1, PIECES)).max(1)
    }

    fn vector(&self, terms: &dyn Terms, document: usize, row: &mut [f32], cancelled: Cancelled) {
        let TfidfOptions { signed, sublinear, .. } = self.options;
        row.fill(0.0);
        // Buckets are chosen by the first bits of a hash, signs by the last one.
        terms.each(document, cancelled, &mut |hash| {
            row[self.bucket(hash)] += if signed && hash & 1 == 1 { -1.0 } else { 1.0 };
        });
        let mut squares = 0.0;
        for (x, idf) in row.iter_mut().zip(&self.idf) {
            let count = x.abs();
            let weight = self.small.get(count as usize).copied().unwrap_or_else(|| weight(count, sublinear));
            *x = weight.copysign(*x) * idf;
            squares += f64::from(*x) * f64::from(*x);
        }
        if squares > 0.0 {
            let factor = (1.0 / squares.sqrt()) as f32;
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }

    /// How many documents have each bucket.
    fn document_frequencies(&self, context: &Context, terms: &dyn Terms, cancelled: Cancelled) -> Result<Vec<u64>> {
        let (n, piece) = (terms.count(), self.piece(terms));
        let given_up = AtomicBool::new(false);
        let cancelled = &|| stop::asked(&given_up, cancelled);
        let sums = Mutex::new(Ok(vec_zeroed::<u64>(self.dimensions())?));
        context.launch().executor.run(n.div_ceil(piece), &|i| {
            let found = self.found(terms, i * piece..n.min((i + 1) * piece), cancelled);
            let mut sums = sums.lock();
            match (&mut *sums, found) {
                (Ok(sums), Ok(found)) => sums.iter_mut().zip(&found).for_each(|(sum, have)| *sum += u64::from(have[1])),
                (sums, Err(error)) => *sums = Err(error),
                (Err(_), Ok(_)) => {}
            }
        });
        ensure!(!given_up.load(Relaxed), Cancelled, "reading {n} documents was cancelled");
        sums.into_inner()
    }

    /// Of each bucket: the last of these documents that has it, counted from 1, and how many have it.
    fn found(&self, terms: &dyn Terms, documents: Range<usize>, cancelled: Cancelled) -> Result<Vec<[u32; 2]>> {
        let mut found: Vec<[u32; 2]> = vec_zeroed(self.dimensions())?;
        for (document, number) in documents.zip(1..) {
            terms.each(document, cancelled, &mut |hash| {
                let [last, have] = &mut found[self.bucket(hash)];
                *have += u32::from(*last != number);
                *last = number;
            });
        }
        Ok(found)
    }
}

/// What a count weighs.
fn weight(count: f32, sublinear: bool) -> f32 {
    if sublinear && count > 1.0 { (1.0 + ln(f64::from(count))) as f32 } else { count }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): each bit of the key decides about every bit.
pub fn mix(key: u64) -> u64 {
    let key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let key = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    key ^ (key >> 31)
}

/// The natural logarithm of a normal number >= 1. That of the system's library has other last bits on other machines; this one
/// is additions, products and quotients, which have not.
///
/// x = m 2^e with m in [1/sqrt 2, sqrt 2), ln m = 2 artanh s = 2 (s + s^3 / 3 + s^5 / 5 + ...), s = (m - 1) / (m + 1): |s| < 0.172,
/// so that what follows the twelfth term is below 2e-20.
fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let exponent = (x.to_bits() >> 52) as i32 - 1023;
    let m = f64::from_bits(x.to_bits() & MANTISSA | 1023 << 52);
    let (m, exponent) = if m < std::f64::consts::SQRT_2 { (m, exponent) } else { (m / 2.0, exponent + 1) };
    let s = (m - 1.0) / (m + 1.0);
    let sum = (0..12).rev().fold(0.0, |sum, k| sum * (s * s) + 1.0 / f64::from(2 * k + 1));
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * s * sum
}

#[cfg(test)]
#[path = "tfidf_tests.rs"]
mod tests;
