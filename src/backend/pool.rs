//! The thread pool: rayon's, one per process id. A forked child finds no threads in its copy of the parent's pool, so it
//! makes one of its own at first use and leaks the copy (joining threads that do not exist would hang).

use super::team::Team;
use crate::tensor::error::error;
use crate::tensor::{Result, reserve};
use parking_lot::Mutex;
use rayon::prelude::*;
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

    /// The chunks of all operations come as one type: rayon's machinery is compiled once, and not for each of them.
    pub fn run(&self, chunks: usize, chunk: &(dyn Fn(usize) + Sync)) {
        if !Team::try_run(self.name(), chunks, chunk) {
            self.inside(|| (0..chunks).into_par_iter().with_max_len(1).for_each(chunk));
        }
    }

    /// Calls `work` on one of the threads; while it runs, the others stand by for what it hands out.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if Team::is_inside(self.name()) {
            return work();
        }
        self.inside(|| Team::lead(self.name(), self.threads, work))
    }

    fn name(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if self.process == std::process::id() {
            return self.home.install(work);
        }
        match self.forked_pool() {
            Some(pool) => pool.install(work),
            // A forked child that cannot start threads still gets its result, from the calling thread.
            None => work(),
        }
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
