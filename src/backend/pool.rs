//! The thread pool: rayon's, one per process id. A forked child finds no threads in its copy of the parent's pool, so it
//! makes one of its own at first use and leaks the copy (joining threads that do not exist would hang).

use super::team::{Help, Team};
use crate::tensor::error::error;
use crate::tensor::{Result, reserve};
use parking_lot::Mutex;
use std::mem::ManuallyDrop;
use std::sync::Arc;

pub struct Pool {
    threads: usize,
    /// The process that made `home`.
    process: u32,
    home: ManuallyDrop<rayon::ThreadPool>,
    /// The pool of a forked child. The home process never locks it, so that no child finds it locked by a thread that it
    /// does not have.
    forked: Mutex<Option<(u32, Arc<ManuallyDrop<rayon::ThreadPool>>)>>,
}

impl Pool {
    /// A pool of `threads` threads; 0 means as many as the process may use.
    pub fn new(threads: usize) -> Result<Pool> {
        let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
        let home = ManuallyDrop::new(build(threads)?);
        Ok(Pool { threads, process: std::process::id(), home, forked: Mutex::new(None) })
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `chunk(i)` for i in 0 .. chunks, on this thread and those of the pool.
    pub fn run(&self, chunks: usize, chunk: &(dyn Fn(usize) + Sync)) {
        self.enter(|| {
            if !Team::try_run(self.name(), chunks, chunk) {
                (0..chunks).for_each(chunk);
            }
        });
    }

    /// Calls `work` on this thread; while it runs, those of the pool stand by for what it hands out.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        if self.threads == 1 || Team::is_inside(self.name()) {
            return work();
        }
        if self.process == std::process::id() {
            let spawn = |help: Help| self.home.spawn(move || help.run());
            return Team::lead(self.name(), self.threads, spawn, work);
        }
        match self.forked_pool() {
            Some(pool) => Team::lead(self.name(), self.threads, |help| pool.spawn(move || help.run()), work),
            // A forked child that cannot start threads still gets its result.
            None => work(),
        }
    }

    fn name(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn forked_pool(&self) -> Option<Arc<ManuallyDrop<rayon::ThreadPool>>> {
        let process = std::process::id();
        let mut forked = self.forked.lock();
        match &*forked {
            Some((owner, pool)) if *owner == process => Some(pool.clone()),
            _ => {
                let fresh = Arc::new(ManuallyDrop::new(build(self.threads).ok()?));
                // What is replaced, if anything, is a copy of a parent's: it is leaked.
                std::mem::forget(forked.replace((process, fresh.clone())));
                Some(fresh)
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let process = std::process::id();
        if self.process == process {
            // SAFETY: the pool is dropped once, here, and `self` is not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.home) }
        } else if let Some((owner, pool)) = self.forked.get_mut()
            && *owner == process
            && let Some(pool) = Arc::get_mut(pool)
        {
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(pool) }
        }
    }
}

/// What a thread takes: its stack, and small blocks that rayon and the standard library cannot do without.
const THREAD_BYTES: usize = (2 << 20) + (64 << 10);

fn build(threads: usize) -> Result<rayon::ThreadPool> {
    // A thread that finds no memory for its small blocks ends the process. So all of it is asked for first, and given back.
    let mut room = Vec::<u8>::new();
    reserve(&mut room, threads.saturating_add(1).saturating_mul(THREAD_BYTES))
        .map_err(|e| error!(Memory, "cannot start {threads} threads: {e}"))?;
    drop(room);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("setun-{i}"))
        .build()
        .map_err(|e| error!(Memory, "cannot start {threads} threads: {e}"))
}
