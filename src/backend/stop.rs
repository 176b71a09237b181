//! Giving up in the middle of an operation: once somebody asks for it, the chunks that have not begun are left out.

use crate::tensor::error::ensure;
use crate::tensor::{Cancelled, Result};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Who is asked before each chunk, and whether one was left out.
#[derive(Clone, Copy)]
pub struct Stop {
    cancelled: *const (dyn Fn() -> bool + Sync),
    skipped: *const AtomicBool,
}

// SAFETY: both are only read through shared references to what is Sync.
unsafe impl Send for Stop {}
// SAFETY: as above.
unsafe impl Sync for Stop {}

thread_local! {
    /// That of the work that this thread is at.
    static STOP: Cell<Option<Stop>> = const { Cell::new(None) };
}

struct Restore(Option<Stop>);

impl Drop for Restore {
    fn drop(&mut self) {
        STOP.set(self.0);
    }
}

/// Does `work`, whose operations ask `cancelled` before each of their chunks. CANCELLED if one was left out: what they wrote is of no
/// use then. `work` calls nothing of the caller's, whose operations would be left out too.
pub fn stoppable<R>(cancelled: Cancelled, what: &str, work: impl FnOnce() -> Result<R>) -> Result<R> {
    let skipped = AtomicBool::new(false);
    // SAFETY: only the lifetime is another one; the guard takes the pointer back before what it points to is gone.
    let cancelled: *const (dyn Fn() -> bool + Sync) =
        unsafe { std::mem::transmute::<Cancelled, &'static (dyn Fn() -> bool + Sync)>(cancelled) };
    let guard = Restore(STOP.replace(Some(Stop { cancelled, skipped: &skipped })));
    let result = work();
    drop(guard);
    ensure!(!skipped.load(Relaxed), Cancelled, "{what} was cancelled");
    result
}

/// That of this thread. It holds until the operation that asks for it ends.
pub fn current() -> Option<Stop> {
    STOP.get()
}

/// Whether the next chunk is to be left out.
#[inline(never)]
pub fn left_out(stop: &Option<Stop>) -> bool {
    let Some(stop) = stop else { return false };
    // SAFETY: the operation has not ended, nor has `stoppable`, whose these are.
    let (cancelled, skipped) = unsafe { (&*stop.cancelled, &*stop.skipped) };
    asked(skipped, cancelled)
}

/// Asks until the answer is yes, which is remembered: what was left out then does not come back when a token is taken back.
pub fn asked(given_up: &AtomicBool, cancelled: Cancelled) -> bool {
    let now = given_up.load(Relaxed) || cancelled();
    if now {
        given_up.store(true, Relaxed);
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Launch;
    use crate::backend::launch::Executor;
    use crate::backend::pool::Pool;
    use crate::backend::simd::{Level, chunks};
    use crate::tensor::ErrorKind;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn chunks_that_have_not_begun_are_left_out() {
        let pooled = Executor::Pool(Arc::new(Pool::new(3).unwrap()));
        for executor in [Executor::Serial, pooled] {
            let launch = Launch::new(executor, Level::Baseline.spans());
            let (asked, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let chunk = |_| {
                done.fetch_add(1, Relaxed);
            };
            // Once: a token that is taken back does not make what was left out come back.
            let cancelled = || asked.fetch_add(1, Relaxed) == 7;
            let result = stoppable(&cancelled, "counting", || {
                chunks::run(&launch, 1000, 10, chunk);
                Ok(())
            });
            let error = result.unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Cancelled, "counting was cancelled"));
            assert!((4..=12).contains(&done.load(Relaxed)), "{}", done.load(Relaxed));
            chunks::run(&launch, 1000, 10, chunk);
            assert!(done.load(Relaxed) >= 104 && current().is_none());
            assert_eq!(stoppable(&|| false, "counting", || Ok(3)).unwrap(), 3);
        }
    }
}
