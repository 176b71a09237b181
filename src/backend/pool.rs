//! A thread pool, one per process id. A forked child finds no threads in its copy of the parent's, so it makes some of its own at
//! first use and leaks the copy (what its locks were doing when the parent forked is not known).

use super::crew::Threads;
use super::team::Team;
use crate::tensor::Result;
use parking_lot::Mutex;
use std::mem::ManuallyDrop;
use std::sync::Arc;

pub struct Pool {
    threads: usize,
    /// The process that made `home`.
    process: u32,
    home: ManuallyDrop<Threads>,
    /// Those of a forked child. The home process never locks it, so that no child finds it locked by a thread that it
    /// does not have.
    forked: Mutex<Option<(u32, Arc<ManuallyDrop<Threads>>)>>,
}

impl Pool {
    /// A pool for calls on `threads` threads, of which the caller is one; 0 means as many as the process may use.
    pub fn new(threads: usize) -> Result<Pool> {
        let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
        let home = ManuallyDrop::new(Threads::start(threads)?);
        Ok(Pool { threads, process: std::process::id(), home, forked: Mutex::new(None) })
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `chunk(i)` for i in 0 .. chunks, on this thread and those of the pool. The chunks of all operations come as one type:
    /// what is behind this is compiled once.
    pub fn run(&self, chunks: usize, chunk: &(dyn Fn(usize) + Sync)) {
        self.enter_with(chunks.saturating_sub(1), || {
            if !Team::try_run(self.name(), chunks, chunk) {
                (0..chunks).for_each(chunk);
            }
        });
    }

    /// Calls `work` on this thread; while it runs, those of the pool stand by for what it hands out.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        self.enter_with(self.threads - 1, work)
    }

    fn enter_with<R>(&self, helpers: usize, work: impl FnOnce() -> R) -> R {
        if self.threads == 1 || helpers == 0 || Team::is_inside(self.name()) {
            return work();
        }
        if self.process == std::process::id() {
            return self.home.crew.lead(self.name(), helpers, work);
        }
        match self.forked_threads() {
            Some(threads) => threads.crew.lead(self.name(), helpers, work),
            // A forked child that cannot start threads still gets its result.
            None => work(),
        }
    }

    fn name(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn forked_threads(&self) -> Option<Arc<ManuallyDrop<Threads>>> {
        let process = std::process::id();
        let mut forked = self.forked.lock();
        match &*forked {
            Some((owner, threads)) if *owner == process => Some(threads.clone()),
            _ => {
                let fresh = Arc::new(ManuallyDrop::new(Threads::start(self.threads).ok()?));
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
            // SAFETY: dropped once, here, and `self` is not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.home) }
        } else if let Some((owner, threads)) = self.forked.get_mut()
            && *owner == process
            && let Some(threads) = Arc::get_mut(threads)
        {
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(threads) }
        }
    }
}
