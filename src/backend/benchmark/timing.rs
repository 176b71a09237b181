//! Seconds of one call, on a machine that does other things too.

use crate::tensor::error::ensure;
use crate::tensor::{Result, sort_few};
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
/// clock and short enough to fit between two interruptions; `finish` waits for what the calls of a batch only asked for. Fails with
/// what a call fails with, or with CANCELLED.
pub fn time(
    seconds: f64,
    cancelled: &(dyn Fn() -> bool + Sync),
    mut call: impl FnMut() -> Result<()>,
    finish: impl Fn() -> Result<()>,
) -> Result<Timing> {
    let mut timed = |calls: u32| -> Result<Duration> {
        ensure!(!cancelled(), Cancelled, "the benchmark was cancelled");
        let start = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        finish()?;
        Ok(start.elapsed())
    };
    let batch = Duration::from_millis(2).min(Duration::from_secs_f64(seconds / 10.0));
    // The first call also fills caches and scratch memory; it counts only where there is no time for another.
    let mut one = timed(1)?;
    let (started, mut times) = (Instant::now(), Vec::with_capacity(MOST));
    if one.as_secs_f64() > seconds {
        times.push(one.as_secs_f64());
    } else if one < batch {
        one = timed(1)?.min(timed(1)?);
    }
    let calls = (batch.as_nanos() / one.as_nanos().max(20)).clamp(1, 1_000_000) as u32;
    while times.len() < FEWEST || (times.len() < MOST && started.elapsed().as_secs_f64() < seconds) {
        times.push(timed(calls)?.as_secs_f64() / f64::from(calls));
    }
    sort_few(&mut times, |a, b| a.total_cmp(b).is_lt());
    let (n, middle) = (times.len(), times.len() / 2);
    let median = if n.is_multiple_of(2) { (times[middle - 1] + times[middle]) / 2.0 } else { times[middle] };
    Ok(Timing { minimum: times[0].max(1e-12), median: median.max(1e-12), repeats: n })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ErrorKind;
    use crate::tensor::error::error;
    use std::thread::sleep;

    #[test]
    fn a_long_call_is_timed_three_times_and_a_short_one_in_batches() {
        let mut calls = 0;
        let timing = time(
            1e-3,
            &|| false,
            || {
                calls += 1;
                sleep(Duration::from_millis(5 * calls));
                Ok(())
            },
            || Ok(()),
        );
        let timing = timing.unwrap();
        assert_eq!((calls, timing.repeats), (3, 3));
        assert!(timing.minimum >= 0.005 && timing.median >= 0.010 && timing.minimum < timing.median);

        let mut calls = 0;
        let timing = time(
            1e-3,
            &|| false,
            || {
                calls += 1;
                Ok(())
            },
            || Ok(()),
        );
        assert!(calls > 100 * timing.unwrap().repeats, "{calls} calls");
    }

    #[test]
    fn a_call_that_fails_ends_it() {
        let failed = time(1e-3, &|| false, || Err(error!(Shape, "no")), || Ok(())).err();
        assert_eq!(failed.expect("the call failed").kind, ErrorKind::Shape);
        let cancelled = time(1e-3, &|| true, || Ok(()), || Ok(())).err();
        assert_eq!(cancelled.expect("it was cancelled").kind, ErrorKind::Cancelled);
        let failed = time(1e-3, &|| false, || Ok(()), || Err(error!(Device, "no"))).err();
        assert_eq!(failed.expect("what it waited for failed").kind, ErrorKind::Device);
    }
}
