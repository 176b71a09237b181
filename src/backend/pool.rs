//! The thread pool: rayon's, one per process id. A forked child finds no threads in its copy of the parent's pool, so it
//! makes one of its own at first use and leaks the copy (joining threads that do not exist would hang).

use crate::tensor::Result;
use crate::tensor::error::error;
use parking_lot::Mutex;
use rayon::prelude::*;
use std::mem::ManuallyDrop;
use std::sync::Arc;

pub struct Pool {
    threads: usize,
    current: Mutex<(u32, Arc<ManuallyDrop<rayon::ThreadPool>>)>,
}

impl Pool {
    /// A pool of `threads` threads; 0 means as many as the process may use.
    pub fn new(threads: usize) -> Result<Pool> {
        let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
        Ok(Pool { threads, current: Mutex::new((std::process::id(), Arc::new(ManuallyDrop::new(build(threads)?)))) })
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    pub fn run(&self, chunks: usize, chunk: &(impl Fn(usize) + Sync)) {
        self.enter(|| (0..chunks).into_par_iter().with_max_len(1).for_each(chunk));
    }

    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self.pool() {
            Some(pool) => pool.install(work),
            // A forked child that cannot start threads still gets its result, from the calling thread.
            None => work(),
        }
    }

    fn pool(&self) -> Option<Arc<ManuallyDrop<rayon::ThreadPool>>> {
        let process = std::process::id();
        let mut current = self.current.lock();
        if current.0 != process {
            let fresh = Arc::new(ManuallyDrop::new(build(self.threads).ok()?));
            std::mem::forget(std::mem::replace(&mut *current, (process, fresh)));
        }
        Some(current.1.clone())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let (process, pool) = self.current.get_mut();
        if *process == std::process::id()
            && let Some(pool) = Arc::get_mut(pool)
        {
            // SAFETY: the pool is dropped once, here, and `self` is not used afterwards.
            unsafe { ManuallyDrop::drop(pool) }
        }
    }
}

fn build(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("setun-{i}"))
        .build()
        .map_err(|e| error!(Memory, "cannot start {threads} threads: {e}"))
}
