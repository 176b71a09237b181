//! The threads of a pool, and the regions that want their help. They are rayon's threads, which begin with one task for the life
//! of the pool: so none of them is ever handed something else while it waits.
//!
//! A region is led by the thread that enters it, which begins at once and asks for helpers. Threads that have nothing to do go
//! where the fewest help; one that finds nothing to do in its region for a while goes on to another that asks. Whoever is woken
//! wakes the next, if there is need. Nothing is allocated once there were as many regions at a time before.

use super::team::{Led, Team};
use crate::tensor::error::error;
use crate::tensor::{Result, reserve};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Rounds of spinning, some tens of microseconds, before a thread without a region falls asleep.
const SPINS: u32 = 2000;

/// Teams that are kept for the next regions.
const KEPT: usize = 16;

pub struct Crew {
    /// Threads that compute in a region, its leader's with them.
    threads: usize,
    /// Both of the standard library: its threads sleep on the address itself. parking_lot keeps a list of the sleeping, which a
    /// forked child inherits; there the list names threads that do not exist, at addresses that new ones get.
    state: Mutex<State>,
    wake: Condvar,
    begun: Condvar,
    /// Helpers that all regions still ask for: what those look at who spin.
    asked: AtomicUsize,
}

#[derive(Default)]
struct State {
    open: Vec<Asking>,
    free: Vec<Arc<Team>>,
    asleep: usize,
    /// Threads that have begun: they ask for no more memory.
    begun: usize,
    closing: bool,
}

struct Asking {
    team: Arc<Team>,
    /// Helpers that it has, and that it still asks for.
    helpers: usize,
    asked: usize,
}

/// The threads themselves; dropping it lets them end.
pub struct Threads {
    pub crew: Arc<Crew>,
    _pool: Option<rayon::ThreadPool>,
}

/// What a thread takes: its stack, and small blocks that rayon and the standard library cannot do without.
const THREAD_BYTES: usize = (2 << 20) + (64 << 10);

impl Threads {
    /// Threads for regions of `threads`, of which the leader's is one.
    pub fn start(threads: usize) -> Result<Threads> {
        let (state, [wake, begun]) = (Mutex::default(), [(); 2].map(|()| Condvar::new()));
        let crew = Arc::new(Crew { threads, state, wake, begun, asked: AtomicUsize::new(0) });
        let helpers = threads - 1;
        if helpers == 0 {
            return Ok(Threads { crew, _pool: None });
        }
        // A thread that finds no memory for its small blocks ends the process. So all of it is asked for first, and given back.
        let mut room = Vec::<u8>::new();
        reserve(&mut room, threads.saturating_mul(THREAD_BYTES))
            .map_err(|e| error!(Memory, "cannot start {threads} threads: {e}"))?;
        drop(room);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(helpers)
            .thread_name(|i| format!("setun-{}", i + 1))
            .start_handler({
                let crew = crew.clone();
                move |_| crew.work()
            })
            .build()
            .map_err(|e| error!(Memory, "cannot start {threads} threads: {e}"))?;
        crew.wait_for(helpers);
        Ok(Threads { crew, _pool: Some(pool) })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.crew.state().closing = true;
        self.crew.wake.notify_all();
    }
}

impl Crew {
    /// Calls `work` on this thread, as the leader of a region that asks for up to `helpers` helpers. `pool` is the name that
    /// calls inside of it are made by.
    pub fn lead<R>(&self, pool: usize, helpers: usize, work: impl FnOnce() -> R) -> R {
        let team = self.open(pool, helpers.min(self.threads - 1));
        // Both are dropped also when `work` unwinds.
        let _region = Region { team: &team, crew: self };
        // SAFETY: dropped before `team`, on this thread.
        let _led = unsafe { Led::new(Arc::as_ptr(&team)) };
        work()
    }

    /// Nothing panics while it is held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, pool: usize, helpers: usize) -> Arc<Team> {
        let mut state = self.state();
        // A team is used again when nobody looks at it any more.
        let free = state.free.iter_mut().position(|team| Arc::get_mut(team).is_some());
        let mut team = match free {
            Some(i) => state.free.swap_remove(i),
            None => Arc::new(Team::new(self.threads)),
        };
        if let Some(team) = Arc::get_mut(&mut team) {
            team.begin(pool);
        }
        state.open.push(Asking { team: team.clone(), helpers: 0, asked: helpers });
        self.asked.fetch_add(helpers, SeqCst);
        let sleeping = state.asleep > 0 && helpers > 0;
        drop(state);
        if sleeping {
            self.wake.notify_one();
        }
        team
    }

    fn close(&self, team: &Arc<Team>) {
        let mut state = self.state();
        if let Some(i) = state.open.iter().position(|asking| Arc::ptr_eq(&asking.team, team)) {
            let closed = state.open.swap_remove(i);
            self.asked.fetch_sub(closed.asked, SeqCst);
            if state.free.len() < KEPT {
                state.free.push(closed.team);
            }
        }
    }

    /// Waits until so many threads have begun. One that begins later would ask for its blocks when there may be no memory left.
    fn wait_for(&self, helpers: usize) {
        let mut state = self.state();
        while state.begun < helpers {
            state = self.begun.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a thread does for the life of the pool.
    fn work(&self) {
        self.state().begun += 1;
        self.begun.notify_one();
        while let Some((team, number)) = self.join() {
            team.help(number, || self.others_ask());
            self.leave(team);
        }
    }

    /// Waits for a region that asks for help; the thread's number in it. None when the pool is dropped.
    fn join(&self) -> Option<(Arc<Team>, usize)> {
        for _ in 0..SPINS {
            if self.asked.load(SeqCst) > 0 {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = self.state();
        loop {
            let asking = state.open.iter_mut().filter(|asking| asking.asked > 0);
            if let Some(asking) = asking.min_by_key(|asking| asking.helpers) {
                asking.asked -= 1;
                asking.helpers += 1;
                let found = (asking.team.clone(), asking.helpers);
                let more = self.asked.fetch_sub(1, SeqCst) > 1 && state.asleep > 0;
                drop(state);
                if more {
                    self.wake.notify_one();
                }
                return Some(found);
            }
            if state.closing {
                return None;
            }
            state.asleep += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep -= 1;
        }
    }

    fn leave(&self, team: Arc<Team>) {
        let mut state = self.state();
        if let Some(asking) = state.open.iter_mut().find(|asking| Arc::ptr_eq(&asking.team, &team)) {
            asking.helpers -= 1;
            asking.asked += 1;
            self.asked.fetch_add(1, SeqCst);
        }
    }

    /// Whether a helper that has nothing to do is asked for somewhere: its own region has it already.
    fn others_ask(&self) -> bool {
        self.asked.load(SeqCst) > 0
    }
}

/// An open region; dropping it sends the helpers away, and waits for none of them.
struct Region<'a> {
    team: &'a Arc<Team>,
    crew: &'a Crew,
}

impl Drop for Region<'_> {
    fn drop(&mut self) {
        self.team.end();
        self.crew.close(self.team);
    }
}
