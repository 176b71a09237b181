//! Verb 2: exact, deterministic k-means of points that are rows of f32, of single numbers, and of texts as points.
//!
//! | file | what |
//! |---|---|
//! | `points.rs` | [`Points`]: the data and its weights, checked before work starts |
//! | `options.rs` | [`KMeansOptions`], and [`Report`]: what a run tells |
//! | `start.rs` | the first centroids: k-means++, k-means||, or random rows |
//! | `lloyd.rs` | the iterations of one run, to a fixed point |
//! | `sphere.rs` | directions instead of places |
//! | `balance.rs` | clusters of a limited size |
//! | `bounds.rs` | the bounds that spare points which stay where they are the search |
//! | `projection.rs` | the points in a few dimensions, which spare long runs most of the distances |
//! | `kmeans.rs` | [`KMeans`]: restarts, warm starts, batches of a stream, assignment of new points |
//! | `route.rs` | new points to several centroids, with weights |
//! | `tfidf.rs` | [`Tfidf`]: documents as hashed TF-IDF vectors |
//! | `text.rs` | words of a text, and windows that cut none |
//! | `line/` | [`fit_line`]: the entries that single numbers are best written by |
//! | `codebook.rs` | numbers as codes of entries, and back |
//!
//! Everything is a function of (points, weights, options) alone: labels are those of f64 distances, sums have one order, and
//! random numbers have no state. So labels and centroids are the same bits on every backend, CPU level and number of threads.

mod balance;
mod bounds;
mod codebook;
mod kmeans;
mod line;
mod lloyd;
mod options;
mod points;
mod projection;
mod route;
mod sphere;
mod start;
#[cfg(test)]
mod tests;
mod text;
mod tfidf;

pub use codebook::{labels, pack, size as codebook_size, unpack};
pub use kmeans::{Hooks, KMeans};
pub use line::{Constraint, LineOptions, fit as fit_line};
pub use options::{KMeansOptions, Report, Start};
pub use points::Points;
pub use text::{Documents, WordOptions, windows};
pub use tfidf::{Terms, Tfidf, TfidfOptions, mix};
