//! k-means seen from outside: against an independent brute force in f64, over hard sets, and its promises.

mod balance;
mod bounds;
mod cuda;
mod lloyd;
mod projection;
mod refusals;
mod route;
mod sphere;
mod start;
mod stream;

use super::{Hooks, KMeans, KMeansOptions, Points, Report, Start};
use crate::backend::{Backend, Context, ContextOptions};
use crate::tensor::Result;
use crate::tensor::random::{Purpose, Stream};
use std::sync::Arc;

pub fn context() -> Arc<Context> {
    context_of(Backend::Simd, 1)
}

pub fn context_of(backend: Backend, threads: usize) -> Arc<Context> {
    Arc::new(Context::new(&ContextOptions { backend: Some(backend), threads, ..ContextOptions::default() }).unwrap())
}

pub fn options(clusters: usize) -> KMeansOptions {
    KMeansOptions { clusters, ..KMeansOptions::default() }
}

pub fn normal(count: usize, seed: u32) -> Vec<f32> {
    let stream = Stream::new(7, Purpose::Test, 2, seed);
    (0..count as u64).map(|i| stream.normal(i)).collect()
}

pub fn below(count: usize, seed: u32, bound: u64) -> Vec<f32> {
    let stream = Stream::new(7, Purpose::Test, 3, seed);
    (0..count as u64).map(|i| stream.below(i, bound) as f32).collect()
}

/// `n` points around `centers` centers that lie far apart.
pub fn blobs(n: usize, d: usize, centers: usize) -> Vec<f32> {
    let (middles, mut x) = (normal(centers * d, 11), normal(n * d, 12));
    for (i, x) in x.iter_mut().enumerate() {
        *x += 10.0 * middles[i / d % centers * d + i % d];
    }
    x
}

/// What a fit gives.
#[derive(Debug, PartialEq)]
pub struct Fitted {
    pub labels: Vec<u32>,
    pub centroids: Vec<f32>,
    pub report: Report,
    pub inertias: Vec<f64>,
}

pub fn try_fit(kmeans: &mut KMeans, x: &[f32], d: usize, weights: &[f32]) -> Result<Fitted> {
    let mut inertias = Vec::new();
    let mut progress = |report: &Report| {
        inertias.push(report.inertia);
        true
    };
    let points = Points::new(x, x.len() / d, d, weights)?;
    let labels = kmeans.fit(&points, Hooks { progress: Some(&mut progress), cancelled: &|| false })?;
    Ok(Fitted { labels, centroids: kmeans.centroids().to_vec(), report: *kmeans.report().unwrap(), inertias })
}

pub fn fit(options: KMeansOptions, x: &[f32], d: usize, weights: &[f32]) -> Fitted {
    try_fit(&mut KMeans::new(context(), options).unwrap(), x, d, weights).unwrap()
}

/// From given centroids.
pub fn fit_from(start: &[f32], x: &[f32], d: usize, weights: &[f32]) -> Fitted {
    let options = KMeansOptions { start: Start::Given, ..options(start.len() / d) };
    let mut kmeans = KMeans::new(context(), options).unwrap();
    kmeans.set_centroids(start, d).unwrap();
    try_fit(&mut kmeans, x, d, weights).unwrap()
}

pub fn distance(x: &[f32], c: &[f32]) -> f64 {
    x.iter().zip(c).map(|(&x, &c)| (f64::from(x) - f64::from(c)).powi(2)).sum()
}

/// The inertia of a partition, centroids being the means: in f64, by the definition.
pub fn inertia_of(x: &[f32], d: usize, weights: &[f32], labels: &[u32], k: usize) -> f64 {
    let weight = |i: usize| weights.get(i).map_or(1.0, |&w| f64::from(w));
    let mut total = 0.0;
    for cluster in 0..k {
        let members: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] as usize == cluster).collect();
        let mass: f64 = members.iter().map(|&i| weight(i)).sum();
        for j in 0..d {
            let value = |i: usize| f64::from(x[i * d + j]);
            let mean = members.iter().map(|&i| weight(i) * value(i)).sum::<f64>() / mass;
            total += members.iter().map(|&i| weight(i) * (value(i) - mean).powi(2)).sum::<f64>();
        }
    }
    total
}
