//! A region, such as a training step: the thread that leads it, and helpers that stay for many calls. Between two calls the
//! helpers spin, so that handing out a call takes about a microsecond, where waking a thread takes from ten to a hundred.
//!
//! Each thread begins with a part of the chunks of its own, the same in every call: what it wrote in one call is near it in the
//! next. Then it takes from the others' parts, so nobody waits for a helper that has not come. `crew.rs` has the helpers.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

thread_local! {
    /// The team that this thread leads, while it does.
    static LED: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
    /// Whether this thread is a helper in the midst of a chunk. What the chunk calls runs where it is called.
    static HELPING: Cell<bool> = const { Cell::new(false) };
}

/// Rounds of spinning, some tens of microseconds, after which a helper lets others have its core between two looks, and goes if
/// it is wanted elsewhere.
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
    /// The name of the pool whose calls these are.
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

// SAFETY: `call` is written by the leader while `number` is even and no helper is inside, and read by those inside; `busy` is
// the leader's; `panicked` is written by the one helper that has set `panicking`, and read once all have left.
unsafe impl Sync for Team {}
// SAFETY: what a call points to is used under the rules above, on whatever thread; the rest may move.
unsafe impl Send for Team {}

impl Team {
    /// For regions of so many threads, the leader among them; `begin` makes it one.
    pub fn new(threads: usize) -> Team {
        Team {
            pool: 0,
            number: AtomicUsize::new(0),
            call: UnsafeCell::new(None),
            next: (0..threads).map(|_| Next(AtomicUsize::new(0))).collect(),
            inside: AtomicUsize::new(0),
            over: AtomicBool::new(true),
            busy: Cell::new(false),
            panicked: UnsafeCell::new(None),
            panicking: AtomicBool::new(false),
        }
    }

    /// A new region, whose calls come from the pool of this name.
    pub fn begin(&mut self, pool: usize) {
        self.pool = pool;
        *self.over.get_mut() = false;
    }

    /// Sends the helpers away.
    pub fn end(&self) {
        self.over.store(true, SeqCst);
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

    /// What a helper, the one of this number, does until the region is over, or until it has nothing to do and is wanted elsewhere.
    pub fn help(&self, thread: usize, wanted_elsewhere: impl Fn() -> bool) {
        let thread = thread.min(self.next.len() - 1);
        let (mut seen, mut idle) = (0, 0);
        while !self.over.load(SeqCst) {
            let number = self.number.load(SeqCst);
            if number == seen || number.is_multiple_of(2) {
                idle += 1;
                if idle < SPINS {
                    std::hint::spin_loop();
                } else if wanted_elsewhere() {
                    return;
                } else {
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

/// This thread leads the team until it is dropped.
pub struct Led {
    before: *const Team,
}

impl Led {
    /// # Safety
    /// The team outlives what is returned, which is dropped on this thread.
    pub unsafe fn new(team: *const Team) -> Led {
        Led { before: LED.replace(team) }
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        LED.set(self.before);
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

    /// Threads that lead at the same time share the pool's, and wait for none of them.
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

    /// While one thread leads a region and waits in it, a call of another thread is done; so are those of more threads than there
    /// are helpers.
    #[test]
    fn nobody_waits_for_a_region_of_others() {
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
