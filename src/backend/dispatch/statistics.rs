//! What ran where: for each operation and row how many calls, of how much, and, in benchmark mode, how long.

use super::Backend;
use crate::backend::table::Operation;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What one row did of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    pub calls: u64,
    /// The sum of the calls' sizes.
    pub size: u64,
    /// Of the calls' tensors, each counted once a call.
    pub bytes: u64,
    /// 0 unless the context measures (`benchmark_mode`).
    pub seconds: f64,
}

#[derive(Default)]
struct Row {
    calls: AtomicU64,
    size: AtomicU64,
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
}

#[derive(Default)]
struct Counts {
    rows: [Row; Backend::ALL.len()],
    /// Of all rows, never reset: the dispatcher numbers calls by it.
    calls: AtomicU64,
    /// A bit for each row that has been reported to the log.
    reported: AtomicU64,
}

pub struct Statistics(Vec<Counts>);

impl Statistics {
    pub fn new() -> Statistics {
        Statistics(Operation::ALL.iter().map(|_| Counts::default()).collect())
    }

    /// The number of this call among those of the operation, from 0.
    pub fn number(&self, operation: Operation) -> u64 {
        self.0[operation as usize].calls.fetch_add(1, Ordering::Relaxed)
    }

    pub fn count(&self, operation: Operation, row: Backend, size: u64, bytes: u64) {
        let row = &self.0[operation as usize].rows[row as usize];
        row.calls.fetch_add(1, Ordering::Relaxed);
        row.size.fetch_add(size, Ordering::Relaxed);
        row.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes a call back that is counted elsewhere.
    pub fn uncount(&self, operation: Operation, row: Backend, size: u64, bytes: u64) {
        let row = &self.0[operation as usize].rows[row as usize];
        // The statistics may have been reset since.
        let less = |count: &AtomicU64, by: u64| {
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_sub(by)));
        };
        less(&row.calls, 1);
        less(&row.size, size);
        less(&row.bytes, bytes);
    }

    pub fn time(&self, operation: Operation, row: Backend, elapsed: Duration) {
        let row = &self.0[operation as usize].rows[row as usize];
        row.nanoseconds.fetch_add(elapsed.as_nanos() as u64, Ordering::Relaxed);
    }

    /// True for the first call of an operation on a row.
    pub fn is_news(&self, operation: Operation, row: Backend) -> bool {
        let bit = 1 << row as usize;
        self.0[operation as usize].reported.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    pub fn of(&self, operation: Operation, row: Backend) -> Tally {
        let row = &self.0[operation as usize].rows[row as usize];
        Tally {
            calls: row.calls.load(Ordering::Relaxed),
            size: row.size.load(Ordering::Relaxed),
            bytes: row.bytes.load(Ordering::Relaxed),
            seconds: row.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }

    pub fn reset(&self) {
        for row in self.0.iter().flat_map(|counts| &counts.rows) {
            row.calls.store(0, Ordering::Relaxed);
            row.size.store(0, Ordering::Relaxed);
            row.bytes.store(0, Ordering::Relaxed);
            row.nanoseconds.store(0, Ordering::Relaxed);
        }
    }
}
