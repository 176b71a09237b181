//! Which windows a batch reads: anywhere, or balanced over clusters of the text.
//!
//! Clusters: the training split is cut into windows side by side, each becomes a vector (`windows.rs`), and our k-means sorts
//! the vectors into `n_clusters` clusters, once, at the start. Each place where a window of a batch may start belongs to the
//! window that its middle lies in, and so to a cluster.
//!
//! A batch of b windows is drawn by strata: number i takes a point t, uniform in [i / b, (i + 1) / b), on a line on which the
//! clusters lie one after the other with lengths ~ starts^(1 - cluster_balance); the place of t inside its cluster says which
//! of the cluster's starts. So with a balance of 0 every start is as likely as in plain sampling, and each batch is spread over
//! the clusters (stratified sampling: less variance, no shift); with 1 every cluster comes as often as any other.
//!
//! Draws are a function of (seed, step, micro-batch), the clusters of (text, options): a resumed run makes the same ones.

use super::config::TrainOptions;
use super::dataset::{Dataset, Split};
use super::windows::{DIMENSION, Windows, vectorizer};
use crate::backend::Context;
use crate::cluster::{Hooks, KMeans, KMeansOptions, Points, Terms, Tfidf};
use crate::tensor::error::ensure;
use crate::tensor::log::{LogLevel, log};
use crate::tensor::random::Stream;
use crate::tensor::{Cancelled, Result, reserve, vec_zeroed};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Fewer windows a cluster, and clusters say nothing about the text.
const LEAST_WINDOWS: usize = 8;
/// Windows that k-means sees, unless so many clusters need more, spread evenly over the text; the others are assigned to what it finds.
const MOST_FITTED: usize = 16_384;
/// The first iterations find nearly all that there is to find, and a start is not to last.
const ITERATIONS: u64 = 20;
const TOLERANCE: f64 = 1e-3;

pub enum Sampling {
    Plain,
    Clustered(Clusters),
}

impl Sampling {
    /// `options` are resolved. Too few windows, or windows too much alike, are no error: sampling is plain, and the log says so.
    /// CANCELLED once `cancelled` returns true.
    pub fn new(
        context: &Arc<Context>,
        dataset: &Dataset,
        options: &TrainOptions,
        cancelled: Cancelled,
    ) -> Result<Sampling> {
        let k = options.n_clusters;
        if k < 2 {
            return Ok(Sampling::Plain);
        }
        let there = dataset.windows(Split::Train, options.context_length);
        if there / LEAST_WINDOWS < k {
            let needed = k.saturating_mul(LEAST_WINDOWS);
            let why = format!("the training split has {there} windows, n_clusters = {k} needs {needed}");
            log(LogLevel::Info, format_args!("{why}: windows are drawn evenly"));
            return Ok(Sampling::Plain);
        }
        let mut labels = window_labels(context, dataset, options, cancelled)?;
        let k = compact(&mut labels, k)?;
        if k < 2 {
            log(LogLevel::Info, "the windows of the training split are all alike: they are drawn evenly");
            return Ok(Sampling::Plain);
        }
        let starts = dataset.tokens(Split::Train).len() - options.context_length;
        let clusters = Clusters::new(&labels, k, options.context_length, starts, options.cluster_balance)?;
        let sizes = clusters.sizes();
        let (least, most) = (sizes.iter().min().unwrap_or(&0), sizes.iter().max().unwrap_or(&0));
        log(
            LogLevel::Info,
            format_args!(
                "{k} clusters of {least} to {most} of the {there} windows, cluster_balance {}",
                options.cluster_balance
            ),
        );
        Ok(Sampling::Clustered(clusters))
    }

    pub fn clusters(&self) -> Option<&Clusters> {
        match self {
            Sampling::Plain => None,
            Sampling::Clustered(clusters) => Some(clusters),
        }
    }

    /// Fills `tokens` and `targets`, [rows, length], and says the cluster of each row in `rows`, if there are clusters.
    pub fn batch(
        &self,
        dataset: &Dataset,
        stream: Stream,
        length: usize,
        rows: &mut [u32],
        tokens: &mut [u32],
        targets: &mut [u32],
    ) -> Result<()> {
        let Sampling::Clustered(clusters) = self else {
            return dataset.batch(Split::Train, stream, rows.len(), length, tokens, targets);
        };
        let (source, count) = (dataset.tokens(Split::Train), rows.len() as f64);
        let windows = tokens.chunks_exact_mut(length).zip(targets.chunks_exact_mut(length));
        for (i, (cluster, (tokens, targets))) in rows.iter_mut().zip(windows).enumerate() {
            let (drawn, start) = clusters.draw((i as f64 + stream.uniform_f64(i as u64)) / count);
            *cluster = drawn as u32;
            source.window(start, tokens, targets);
        }
        Ok(())
    }
}

/// The cluster of each window of the training split.
fn window_labels(
    context: &Arc<Context>,
    dataset: &Dataset,
    options: &TrainOptions,
    cancelled: Cancelled,
) -> Result<Vec<u32>> {
    let (tokens, length) = (dataset.tokens(Split::Train), options.context_length);
    let there = dataset.windows(Split::Train, length);
    let fitted = there.min(MOST_FITTED.max(options.n_clusters.saturating_mul(LEAST_WINDOWS)));
    let spread = |i: usize| (i as u128 * there as u128 / fitted as u128) as usize * length;
    let some = Windows::new(options.seed, tokens, length, fitted, &spread);
    let mut vectorizer = vectorizer()?;
    vectorizer.fit(context, &some, false, cancelled)?;
    let vectors = vectors(context, &vectorizer, &some, cancelled)?;
    let mut kmeans = KMeans::new(
        context.clone(),
        KMeansOptions {
            candidates: 1,
            clusters: options.n_clusters,
            max_iterations: ITERATIONS,
            tolerance: TOLERANCE,
            seed: options.seed,
            ..KMeansOptions::default()
        },
    )?;
    let hooks = Hooks { progress: None, cancelled };
    let labels = kmeans.fit(&Points::new(&vectors, fitted, DIMENSION, &[])?, hooks)?;
    if fitted == there {
        return Ok(labels);
    }
    let mut labels = vec_zeroed(there)?;
    for (block, labels) in labels.chunks_mut(MOST_FITTED).enumerate() {
        ensure!(!cancelled(), Cancelled, "clustering the windows of the text was cancelled");
        let start = |i: usize| (block * MOST_FITTED + i) * length;
        let windows = Windows::new(options.seed, tokens, length, labels.len(), &start);
        let vectors = self::vectors(context, &vectorizer, &windows, cancelled)?;
        kmeans.assign(&Points::new(&vectors, labels.len(), DIMENSION, &[])?, labels, &mut [])?;
    }
    Ok(labels)
}

fn vectors(context: &Context, vectorizer: &Tfidf, windows: &Windows, cancelled: Cancelled) -> Result<Vec<f32>> {
    let mut vectors = vec_zeroed(windows.count() * DIMENSION)?;
    vectorizer.transform(context, windows, &mut vectors, cancelled)?;
    Ok(vectors)
}

/// Renumbers the labels so that no cluster is empty; returns how many there are.
fn compact(labels: &mut [u32], k: usize) -> Result<usize> {
    let mut numbers = vec_zeroed::<u32>(k)?;
    labels.iter().for_each(|&label| numbers[label as usize] = 1);
    let mut count = 0;
    for number in &mut numbers {
        count += std::mem::replace(number, count);
    }
    labels.iter_mut().for_each(|label| *label = numbers[*label as usize]);
    Ok(count as usize)
}

/// The starts of all windows, one cluster after the other.
pub struct Clusters {
    length: usize,
    /// The windows sorted by cluster, and the sum of their starts up to and with each.
    windows: Vec<u32>,
    ends: Vec<u64>,
    /// The windows, and the starts, up to and with each cluster.
    window_ends: Vec<usize>,
    cluster_ends: Vec<u64>,
    /// The end of each cluster on the line that is drawn from, 0 to 1.
    line: Vec<f64>,
    fingerprint: u64,
}

impl Clusters {
    /// The `labels` of windows side by side, each label below `k` and none without a window.
    fn new(labels: &[u32], k: usize, length: usize, starts: usize, balance: f64) -> Result<Clusters> {
        let mut windows: Vec<u32> = Vec::new();
        reserve(&mut windows, labels.len())?;
        windows.extend(0..labels.len() as u32);
        windows.sort_by_key(|&window| labels[window as usize]);
        let mut ends: Vec<u64> = Vec::new();
        reserve(&mut ends, labels.len())?;
        let (mut window_ends, mut cluster_ends, mut line) = (vec_zeroed(k)?, vec_zeroed(k)?, vec_zeroed(k)?);
        let mut sum = 0;
        for (place, &window) in windows.iter().enumerate() {
            let [first, last] = owned(window as usize, labels.len(), length, starts);
            sum += (last - first) as u64;
            ends.push(sum);
            let cluster = labels[window as usize] as usize;
            (window_ends[cluster], cluster_ends[cluster]) = (place + 1, sum);
        }
        let (mut before, mut total) = (0, 0.0);
        for (place, &end) in line.iter_mut().zip(&cluster_ends) {
            total += ((end - before) as f64).powf(1.0 - balance);
            (*place, before) = (total, end);
        }
        line.iter_mut().for_each(|place| *place /= total);
        let mut hash = Xxh3::new();
        labels.iter().for_each(|label| hash.update(&label.to_le_bytes()));
        let fingerprint = hash.digest();
        Ok(Clusters { length, windows, ends, window_ends, cluster_ends, line, fingerprint })
    }

    pub fn count(&self) -> usize {
        self.line.len()
    }

    /// Windows of each cluster.
    pub fn sizes(&self) -> Vec<usize> {
        let mut before = 0;
        self.window_ends.iter().map(|&end| end - std::mem::replace(&mut before, end)).collect()
    }

    /// Of the cluster of every window: a checkpoint records it, so that a resume knows that it has the same clusters.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The cluster at place t of the line, 0 <= t < 1, and the start there.
    fn draw(&self, t: f64) -> (usize, usize) {
        let cluster = self.line.partition_point(|&end| end <= t).min(self.count() - 1);
        let (from, first) = match cluster {
            0 => (0.0, 0),
            _ => (self.line[cluster - 1], self.cluster_ends[cluster - 1]),
        };
        let count = self.cluster_ends[cluster] - first;
        let inside = (t - from) / (self.line[cluster] - from);
        let number = first + ((inside * count as f64) as u64).min(count - 1);
        let place = self.ends.partition_point(|&end| end <= number);
        let window = self.windows[place] as usize;
        let before = if place == 0 { 0 } else { self.ends[place - 1] };
        (cluster, owned_from(window, self.length) + (number - before) as usize)
    }
}

/// The first start whose middle lies in the window.
fn owned_from(window: usize, length: usize) -> usize {
    (window * length).saturating_sub(length / 2)
}

/// The starts [first, last) that belong to a window; the last window has all that remain.
fn owned(window: usize, windows: usize, length: usize, starts: usize) -> [usize; 2] {
    let last = if window + 1 == windows { starts } else { owned_from(window + 1, length) };
    [owned_from(window, length), last]
}

#[cfg(test)]
#[path = "sampling_tests.rs"]
mod tests;
