//! k-means of numbers: clusters are intervals, so it is a matter of where they end.
//!
//! | file | what |
//! |---|---|
//! | `item.rs` | numbers as keys that sort, with weights or without |
//! | `plan.rs`, `buckets.rs` | the numbers in buckets that are sorted where a cluster ends, and sums of what lies between |
//! | `prefix.rs`, `optimal.rs` | the best clusters of places, by dynamic programming |
//! | `start.rs` | the start: the best clusters that end between buckets |
//! | `refine.rs` | all boundaries moved together to where the inertia is least |
//! | `lloyd.rs` | Lloyd's iteration, to its fixed point |
//! | `ternary.rs` | -a, 0 and a |
//!
//! Where the different numbers are few enough, the clusters are the best there are. Everything is a function of numbers, weights
//! and options: no result depends on threads or vector code.

mod buckets;
mod item;
mod lloyd;
mod optimal;
mod plan;
mod prefix;
mod refine;
mod start;
mod ternary;
#[cfg(test)]
mod tests;

use super::points::check_weights;
use crate::backend::{Context, Launch, release_large, with_scratch};
use crate::tensor::error::{ensure, error};
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Cancelled, Result, reserve, vec_zeroed};
use buckets::{Buckets, Items};
use item::{Item, Numbers};
use plan::Plan;
pub use start::threshold;

/// What the entries of a codebook may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constraint {
    None,
    /// -a, 0 and a, with a >= 0.
    Ternary,
}

#[derive(Clone, Copy, Debug)]
pub struct LineOptions {
    pub entries: usize,
    pub constraint: Constraint,
    /// Of Lloyd's, after the start.
    pub max_iterations: u64,
}

impl LineOptions {
    /// The entries of least squared error, without a constraint.
    pub fn of(entries: usize) -> LineOptions {
        LineOptions { entries, constraint: Constraint::None, max_iterations: 1_000_000 }
    }
}

pub const MOST_ENTRIES: usize = 1 << 16;

/// A codebook of numbers.
#[derive(Debug)]
pub struct Line {
    /// Ascending.
    pub entries: Vec<f64>,
    /// The label of x is how many of these are below it.
    pub thresholds: Vec<f32>,
    /// The sum of weight times squared distance from the entry.
    pub inertia: f64,
    /// The labels are those of a fixed point.
    pub converged: bool,
}

/// Squares of differences have to stay finite in f32 where others take them up.
const LARGEST: f32 = 2e18;

/// Finds the entries that n numbers are best written by. Zero weights count as nothing.
pub fn fit(context: &Context, x: &[f32], weights: &[f32], options: &LineOptions, cancelled: Cancelled) -> Result<Line> {
    let launch = context.launch();
    let k = options.entries;
    ensure!((1..=MOST_ENTRIES).contains(&k), Argument, "k is {k}, expected 1 to {MOST_ENTRIES}");
    ensure!(k <= x.len(), Argument, "k is {k}, more entries than the {} numbers", x.len());
    ensure!(u32::try_from(x.len()).is_ok(), Shape, "n is {}, expected at most {}", x.len(), u32::MAX);
    let ternary = options.constraint == Constraint::Ternary;
    ensure!(!ternary || k == 3, Argument, "k is {k}, the entries -a, 0 and a are 3");
    check(x, weights)?;
    let mask = if ternary { u32::MAX >> 1 } else { u32::MAX };
    let numbers = Numbers { x, weights, mask };
    let found = launch.executor.enter(|| {
        if weights.is_empty() {
            with_scratch::<u32, _>(x.len(), |items| run(launch, &numbers, items, options, cancelled))
        } else {
            with_scratch::<u64, _>(x.len(), |items| run(launch, &numbers, items, options, cancelled))
        }
    });
    release_large();
    let line = found??;
    if !line.converged {
        let most = options.max_iterations;
        log(LogLevel::Warning, format_args!("codebook: labels still changed after {most} iterations"));
    }
    Ok(line)
}

/// ARGUMENT, naming the first, for numbers that are not finite or too large, and for weights that are negative, not finite, or
/// all 0.
fn check(x: &[f32], weights: &[f32]) -> Result<()> {
    // Without their sign, the bits of floats are ordered as their magnitudes are, and those of infinity and NaN are above.
    let magnitude = |x: f32| x.to_bits() & (u32::MAX >> 1);
    if x.iter().fold(0, |most, &x| most.max(magnitude(x))) > LARGEST.to_bits() {
        let at = x.iter().position(|&x| magnitude(x) > LARGEST.to_bits()).unwrap_or_default();
        ensure!(x[at].is_finite(), Argument, "x[{at}] is {}, expected a finite number", x[at]);
        return Err(error!(Argument, "x[{at}] is {:e}: scale the numbers to at most {LARGEST:e}", x[at]));
    }
    check_weights(weights)
}

fn run<T: Item>(
    launch: &Launch,
    numbers: &Numbers,
    items: &mut [T],
    options: &LineOptions,
    cancelled: Cancelled,
) -> Result<Line> {
    ensure!(!cancelled(), Cancelled, "cancelled before the numbers were sorted");
    let (mut low, mut high) = (u32::MAX, 0);
    for &x in numbers.x {
        let key = numbers.key(x);
        (low, high) = (low.min(key), high.max(key));
    }
    let target = (64 * options.entries).clamp(2048, 1 << 16).min(numbers.x.len());
    let plan = Plan::new(numbers, low, high, target)?;
    entries_of(launch, &mut Items::new(launch, numbers, &plan, items, cancelled)?, high, options, cancelled)
}

/// Of numbers in buckets, the highest of which has the key `high`.
fn entries_of(
    launch: &Launch,
    buckets: &mut dyn Buckets,
    high: u32,
    options: &LineOptions,
    cancelled: Cancelled,
) -> Result<Line> {
    let k = options.entries;
    if options.constraint == Constraint::Ternary {
        return ternary::ternary(launch, buckets);
    }
    let mut ends = match start::distinct(launch, buckets, k)? {
        Some(few) if few.starts.len() <= k => return each(&few.places, k),
        Some(few) => {
            let mut ends = optimal::optimal(&few.places, k, 0.0, cancelled)?;
            ends.iter_mut().for_each(|end| *end = few.starts[*end]);
            ends
        }
        None => start::start(launch, buckets, k, high, cancelled)?,
    };
    start::complete(launch, buckets, k, &mut ends)?;
    let mut sums = vec_zeroed(k)?;
    refine::update(buckets, &ends, &mut sums);
    refine::refine(launch, buckets, &mut ends, &mut sums, cancelled)?;
    let converged = lloyd::lloyd(launch, buckets, &mut ends, &mut sums, options.max_iterations, cancelled)?;
    let mut entries: Vec<f64> = Vec::new();
    reserve(&mut entries, k)?;
    entries.extend(sums.iter().map(|[mass, sum]| sum / mass));
    let inertia = buckets.inertia(launch, &ends, &entries)?;
    Ok(Line { thresholds: thresholds(&entries)?, entries, inertia, converged })
}

/// An entry for each different number; the rest repeat the last.
fn each(places: &[[f64; 2]], k: usize) -> Result<Line> {
    let mut entries: Vec<f64> = Vec::new();
    reserve(&mut entries, k)?;
    entries.extend(places.iter().map(|[mass, sum]| sum / mass));
    entries.resize(k, entries[places.len() - 1]);
    Ok(Line { thresholds: thresholds(&entries)?, entries, inertia: 0.0, converged: true })
}

/// Between ascending entries, the highest number that is at least as near to the lower: the label of x is how many are below it.
/// Of equal entries the first is the label: the thresholds between them are that to the next one, or infinity.
pub fn thresholds(entries: &[f64]) -> Result<Vec<f32>> {
    let mut found: Vec<f32> = vec_zeroed(entries.len().saturating_sub(1))?;
    let mut next = f32::INFINITY;
    for (i, to) in found.iter_mut().enumerate().rev() {
        if entries[i] < entries[i + 1] {
            next = threshold(entries[i], entries[i + 1]);
        }
        *to = next;
    }
    Ok(found)
}
