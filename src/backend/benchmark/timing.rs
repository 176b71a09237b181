//! Seconds of one call, on a machine that does other things too.

use crate::tensor::Result;
use crate::tensor::error::ensure;
use std::time::{Duration, Instant};

/// Seconds of one call.
#[derive(Clone, Copy)]
pub struct Timing {
    /// What the call takes when nothing interrupts it.
    pub minimum: f64,
    pub median: f64,
    /// How often it was timed.
    pub repeats: usize,
}

const FEWEST: usize = 3;
const MOST: usize = 1000;

/// Times `call` for about `seconds`, and `FEWEST` times at the least. What is timed is a batch of calls, long enough for the
/// clock and short enough to fit between two interruptions. Fails with what a call fails with, or with CANCELLED.
pub fn time(
    seconds: f64,
    cancelled: &(dyn Fn() -> bool + Sync),
    mut call: impl FnMut() -> Result<()>,
) -> Result<Timing> {
    let mut timed = |calls: u32| -> Result<Duration> {
        ensure!(!cancelled(), Cancelled, "the benchmark was cancelled");
        let start = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        Ok(start.elapsed())
    };
    let batch = Duration::from_millis(2).min(Duration::from_secs_f64(seconds / 10.0));
    // The first call also fills caches and scratch memory; it counts only where there is no time for another.
    let mut one = timed(1)?;
    if one < batch {
        one = timed(1)?.min(timed(1)?);
    }
    let one = one.max(Duration::from_nanos(20));
    let calls = (batch.as_nanos() / one.as_nanos()).clamp(1, 1_000_000) as u32;
    let (started, mut times) = (Instant::now(), Vec::with_capacity(MOST));
    while times.len() < FEWEST || (times.len() < MOST && started.elapsed().as_secs_f64() < seconds) {
        times.push(timed(calls)?.as_secs_f64() / f64::from(calls));
    }
    times.sort_by(f64::total_cmp);
    let (n, middle) = (times.len(), times.len() / 2);
    let median = if n.is_multiple_of(2) { (times[middle - 1] + times[middle]) / 2.0 } else { times[middle] };
    Ok(Timing { minimum: times[0].max(1e-12), median: median.max(1e-12), repeats: n })
}
