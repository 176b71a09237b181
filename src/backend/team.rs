//! The calling thread and threads of a pool that stay together for many calls: a region, such as a training step. Between two
//! calls the helpers spin, so that handing out a call takes about a microsecond, where waking a thread takes from ten to a
//! hundred.
//!
//! Each thread begins with a part of the chunks of its own, the same in every call: what it wrote in one call is near it in the
//! next. Then it takes from the others' parts, so nobody waits for a helper that has not come: the caller begins at once, and
//! where other regions have the pool's threads it does all of the work itself. Nor does it wait for them at the end of the
//! region, when those that never came find that it is over.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

thread_local! {
    /// The team that this thread leads, while it does.
    static LED: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
    /// Whether this thread is a helper in the midst of a chunk. What the chunk calls runs where it is called: one that waited for
    /// other threads could be handed a helper's part of its own team meanwhile, and wait for itself.
    static HELPING: Cell<bool> = const { Cell::new(false) };
}

/// Rounds of spinning, some tens of microseconds, after which a helper lets others have its core between two looks.
const SPINS: u32 = 2000;

/// A call: `chunk(i)` for i in 0 .. count. The lifetime is that of `Team::run`, which does not return before all helpers have left.
#[derive(Clone, Copy)]
struct Call {
    chunk: *const (dyn Fn(usize) + Sync),
    count: usize,
}

/// On a cache line of its own.
#[repr(align(64))]
struct Next(AtomicUsize);

pub struct Team {
    /// Whose threads they are: an address that names the pool.
    pool: usize,
    /// Odd while a call is open; each call has a number of its own.
    number: AtomicUsize,
    call: UnsafeCell<Option<Call>>,
    /// For each thread, the leader first, the next chunk of its part.
    next: Vec<Next>,
    /// Helpers that may be looking at the call.
    inside: AtomicUsize,
    over: AtomicBool,
    /// Whether the leader is inside a call: one that is made by a chunk runs where it is made.
    busy: Cell<bool>,
    panicked: UnsafeCell<Option<Box<dyn Any + Send>>>,
    panicking: AtomicBool,
}

/// A helper's part in a region, for a thread of the pool.
pub struct Help {
    team: Arc<Team>,
    thread: usize,
}

impl Help {
    /// Returns when the region is over: at once, where it is so already.
    pub fn run(self) {
        self.team.help(self.thread);
    }
}

// SAFETY: `call` is written by the leader while `number` is even and no helper is inside, and read by those inside; `busy` is
// the leader's; `panicked` is written by the one helper that has set `panicking`, and read once all have left.
unsafe impl Sync for Team {}
// SAFETY: what a call points to is used under the rules above, on whatever thread; the rest may move.
unsafe impl Send for Team {}

impl Team {
    /// Calls `work` on this thread. `spawn` hands a task for one helper to the pool, whose name this is.
    pub fn lead<R>(pool: usize, threads: usize, spawn: impl Fn(Help), work: impl FnOnce() -> R) -> R {
        let team = Arc::new(Team {
            pool,
            number: AtomicUsize::new(0),
            call: UnsafeCell::new(None),
            next: (0..threads).map(|_| Next(AtomicUsize::new(0))).collect(),
            inside: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            busy: Cell::new(false),
            panicked: UnsafeCell::new(None),
            panicking: AtomicBool::new(false),
        });
        for thread in 1..threads {
            spawn(Help { team: team.clone(), thread });
        }
        // Dropped also when `work` unwinds: it sends the helpers away.
        let _led = Led { team: &team, before: LED.replace(Arc::as_ptr(&team)) };
        work()
    }

    /// Runs the call on the team of `pool` that this thread leads, or on a helper itself; false where this is neither.
    pub fn try_run(pool: usize, count: usize, chunk: &(dyn Fn(usize) + Sync)) -> bool {
        if HELPING.get() {
            (0..count).for_each(chunk);
            return true;
        }
        let team = LED.get();
        if team.is_null() {
            return false;
        }
        // SAFETY: what LED points to lives until `Led` is dropped, on this thread.
        let team = unsafe { &*team };
        if team.pool != pool {
            return false;
        }
        if team.busy.get() {
            (0..count).for_each(chunk)
        } else {
            team.run(count, chunk)
        }
        true
    }

    /// Whether this thread leads a team of `pool`, or is a helper: a region that it enters is one already.
    pub fn is_inside(pool: usize) -> bool {
        let team = LED.get();
        // SAFETY: as above.
        HELPING.get() || !team.is_null() && unsafe { (*team).pool } == pool
    }

    /// Whether this thread leads a team of any pool, or is a helper.
    pub fn is_in_any() -> bool {
        HELPING.get() || !LED.get().is_null()
    }

    fn run<'a>(&self, count: usize, chunk: &'a (dyn Fn(usize) + Sync + 'a)) {
        // SAFETY: only the lifetime changes, and nobody uses the call after `Open` is dropped.
        let chunk: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(chunk) };
        // SAFETY: no call is open, and no helper is inside.
        unsafe { *self.call.get() = Some(Call { chunk, count }) };
        for (thread, next) in self.next.iter().enumerate() {
            next.0.store(self.part(thread, count).start, SeqCst);
        }
        self.busy.set(true);
        self.panicking.store(false, SeqCst);
        self.number.fetch_add(1, SeqCst);
        let open = Open { team: self };
        self.take(0, Call { chunk, count });
        drop(open);
        if self.panicking.swap(false, SeqCst) {
            // SAFETY: all helpers have left.
            if let Some(payload) = unsafe { (*self.panicked.get()).take() } {
                resume_unwind(payload);
            }
        }
    }

    /// The chunks that a thread begins with.
    fn part(&self, thread: usize, count: usize) -> Range<usize> {
        let threads = self.next.len();
        count * thread / threads..count * (thread + 1) / threads
    }

    /// Takes chunks while there are any: the thread's own, then those of the threads after it.
    fn take(&self, thread: usize, call: Call) {
        let threads = self.next.len();
        for owner in (thread..threads).chain(0..thread) {
            let end = self.part(owner, call.count).end;
            loop {
                let i = self.next[owner].0.fetch_add(1, SeqCst);
                if i >= end {
                    break;
                }
                // SAFETY: the call is open, or this is the leader: what it points to is alive.
                unsafe { (*call.chunk)(i) };
            }
        }
    }

    /// What a helper does until the region is over. Not for a leader that waits for something in the midst of its region, and is
    /// handed this by rayon meanwhile: it would wait for itself.
    fn help(&self, thread: usize) {
        if !LED.get().is_null() {
            return;
        }
        let (mut seen, mut idle) = (0, 0);
        while !self.over.load(SeqCst) {
            let number = self.number.load(SeqCst);
            if number == seen || number.is_multiple_of(2) {
                idle += 1;
                if idle < SPINS {
                    std::hint::spin_loop();
                } else if rayon::yield_now() != Some(rayon::Yield::Executed) {
                    // Others who use the pool were asked for work first.
                    std::thread::yield_now();
                }
                continue;
            }
            (seen, idle) = (number, 0);
            self.inside.fetch_add(1, SeqCst);
            // Either the leader sees who is inside, and waits, or this sees that it has closed the call.
            if self.number.load(SeqCst) == number {
                HELPING.set(true);
                // SAFETY: the call is open, and does not change before this thread has left.
                if let Some(call) = unsafe { *self.call.get() }
                    && let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.take(thread, call)))
                    && !self.panicking.swap(true, SeqCst)
                {
                    // SAFETY: this is the only thread that has set `panicking` since the leader cleared it.
                    unsafe { *self.panicked.get() = Some(payload) };
                }
                HELPING.set(false);
            }
            self.inside.fetch_sub(1, SeqCst);
        }
    }
}

/// An open call; dropping it, also while unwinding, closes it and waits for those inside.
struct Open<'a> {
    team: &'a Team,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let team = self.team;
        team.number.fetch_add(1, SeqCst);
        let mut spins = 0;
        while team.inside.load(SeqCst) > 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        team.busy.set(false);
    }
}

/// Leadership; dropping it, also while unwinding, sends the helpers away.
struct Led<'a> {
    team: &'a Team,
    before: *const Team,
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        LED.set(self.before);
        self.team.over.store(true, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::pool::Pool;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Arc, mpsc};

    #[test]
    fn every_chunk_runs_once_on_several_threads() {
        let pool = Pool::new(3).unwrap();
        pool.enter(|| {
            for count in [0, 1, 2, 3, 100, 1000].repeat(50) {
                let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                pool.run(count, &|i| {
                    seen[i].fetch_add(1, SeqCst);
                });
                assert!(seen.iter().all(|seen| seen.load(SeqCst) == 1));
            }
        });
        // Two chunks that wait for each other need two threads.
        let met = AtomicUsize::new(0);
        pool.enter(|| {
            pool.run(2, &|_| {
                met.fetch_add(1, SeqCst);
                while met.load(SeqCst) < 2 {
                    std::thread::yield_now();
                }
            });
        });
    }

    #[test]
    fn calls_and_regions_nest() {
        for threads in [2, 3, 4] {
            let pool = Pool::new(threads).unwrap();
            let other = Pool::new(2).unwrap();
            let sum = AtomicUsize::new(0);
            for _ in 0..50 {
                pool.enter(|| {
                    pool.enter(|| {
                        pool.run(4, &|i| {
                            pool.run(3, &|j| {
                                sum.fetch_add(i * 3 + j, SeqCst);
                            });
                            pool.enter(|| {
                                pool.run(2, &|_| {
                                    sum.fetch_add(1, SeqCst);
                                });
                            });
                            other.enter(|| {
                                other.run(2, &|_| {
                                    sum.fetch_add(1, SeqCst);
                                });
                            });
                        });
                    });
                });
            }
            assert_eq!(sum.into_inner(), 50 * (66 + 8 + 8));
        }
    }

    #[test]
    fn a_panic_comes_back_and_the_pool_goes_on() {
        let pool = Pool::new(3).unwrap();
        for bad in [0, 7, 63] {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pool.enter(|| {
                    pool.run(64, &|i| {
                        if i == bad {
                            std::panic::panic_any(i)
                        }
                    })
                });
            }));
            assert_eq!(caught.unwrap_err().downcast_ref::<usize>(), Some(&bad));
        }
        let count = AtomicUsize::new(0);
        pool.enter(|| {
            pool.run(10, &|_| {
                count.fetch_add(1, SeqCst);
            });
        });
        assert_eq!(count.into_inner(), 10);
    }

    /// Threads that lead at the same time share the pool's: each region waits for one of them at most.
    #[test]
    fn several_lead_at_once() {
        let pool = Arc::new(Pool::new(3).unwrap());
        let leaders: Vec<_> = (0..6)
            .map(|_| {
                let pool = pool.clone();
                std::thread::spawn(move || {
                    for _ in 0..50 {
                        let count = AtomicUsize::new(0);
                        pool.enter(|| {
                            for _ in 0..5 {
                                pool.run(20, &|_| {
                                    count.fetch_add(1, SeqCst);
                                });
                            }
                        });
                        assert_eq!(count.into_inner(), 100);
                    }
                })
            })
            .collect();
        leaders.into_iter().for_each(|leader| leader.join().unwrap());
    }

    /// While one thread leads a region, another thread's call is done by the helpers.
    #[test]
    fn others_who_use_the_pool_do_not_wait_for_the_region() {
        let pool = Arc::new(Pool::new(2).unwrap());
        let (started, has_started) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let other = std::thread::spawn({
            let pool = pool.clone();
            move || {
                has_started.recv().unwrap();
                let count = AtomicUsize::new(0);
                pool.run(8, &|_| {
                    count.fetch_add(1, SeqCst);
                });
                done.send(count.into_inner()).unwrap();
            }
        });
        pool.enter(move || {
            started.send(()).unwrap();
            assert_eq!(is_done.recv().unwrap(), 8);
        });
        other.join().unwrap();
    }
}
