//! What a kernel is given besides its views: who runs its chunks, and with which vector code; on `cuda`, which device.

use super::cuda::Gpu;
use super::dispatch::Dispatcher;
use super::pool::Pool;
use super::simd::Spans;
use super::stop;
use crate::tensor::Result;
use crate::tensor::error::error;
use std::sync::Arc;

/// Runs the chunks of an operation. A chunk is a function of shape only, never of the thread count; that is why `parallel`
/// equals `simd` bit for bit.
#[derive(Clone)]
pub enum Executor {
    Serial,
    Pool(Arc<Pool>),
    /// A context's: what runs a call is decided when the call comes. Kernels are given one of the other two.
    Dispatched(Arc<Dispatcher>),
}

impl Executor {
    /// Calls `chunk(i)` once for each i in 0 .. chunks, in any order, on any thread; returns when all are done. Inside
    /// [`stop::stoppable`], those that have not begun when somebody asks for it are left out.
    pub fn run(&self, chunks: usize, chunk: &(dyn Fn(usize) + Sync)) {
        if let Executor::Dispatched(dispatcher) = self {
            return dispatcher.executor().run(chunks, chunk);
        }
        let stop = stop::current();
        let chunk = |i| {
            if !stop::left_out(&stop) {
                chunk(i);
            }
        };
        match self {
            Executor::Pool(pool) if chunks > 1 && pool.threads() > 1 => pool.run(chunks, &chunk),
            _ => (0..chunks).for_each(chunk),
        }
    }

    /// Runs `work` while the pool's threads stand by, so that every `run` inside starts at once instead of waking them anew.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        match self {
            Executor::Pool(pool) if pool.threads() > 1 => pool.enter(work),
            Executor::Dispatched(dispatcher) => dispatcher.executor().enter(work),
            _ => work(),
        }
    }

    pub fn threads(&self) -> usize {
        match self {
            Executor::Serial => 1,
            Executor::Pool(pool) => pool.threads(),
            Executor::Dispatched(dispatcher) => dispatcher.executor().threads(),
        }
    }

    pub fn dispatcher(&self) -> Option<&Dispatcher> {
        match self {
            Executor::Dispatched(dispatcher) => Some(dispatcher),
            _ => None,
        }
    }
}

pub struct Launch {
    pub executor: Executor,
    pub spans: &'static Spans,
    gpu: Option<Arc<Gpu>>,
}

impl Launch {
    /// On the rows of the CPU.
    pub fn new(executor: Executor, spans: &'static Spans) -> Launch {
        Launch { executor, spans, gpu: None }
    }

    /// On `cuda`; what the host does after all, to say what is wrong with bytes, it does alone.
    pub fn on(gpu: Arc<Gpu>, spans: &'static Spans) -> Launch {
        Launch { executor: Executor::Serial, spans, gpu: Some(gpu) }
    }

    /// The device of `cuda`.
    pub fn gpu(&self) -> Result<&Arc<Gpu>> {
        self.gpu.as_ref().ok_or_else(|| error!(Device, "expected tensors on the host: this context has no cuda device"))
    }
}
