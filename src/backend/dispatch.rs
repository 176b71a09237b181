//! Which row runs a call, and why. A context fixes the rows to choose from, the CPU level and the pool when it is made; its
//! [`Dispatcher`] then decides call by call between the calling thread and the pool.
//!
//! | file | what |
//! |---|---|
//! | `dispatch/dispatcher.rs` | [`Dispatcher`]: every call passes here |
//! | `dispatch/shape.rs` | how large a call is |
//! | `dispatch/offload.rs` | which calls go to a GPU |
//! | `dispatch/crossover.rs` | from which size on the pool is faster: hand-offs and speeds, measured |
//! | `dispatch/statistics.rs` | what ran where |
//! | `dispatch/explain.rs` | the reasons, in words |

mod crossover;
mod dispatcher;
mod explain;
mod offload;
pub mod shape;
mod statistics;

use super::cuda::Gpu;
use super::launch::{Executor, Launch};
use super::pool::Pool;
use super::table::{DISPATCHED, Kernels, Operation};
use super::{cuda, scalar, simd};
use crate::tensor::error::ensure;
use crate::tensor::log::{self, LogLevel, log};
use crate::tensor::{DType, Device, ErrorKind, Result, Tensor, View};
use crossover::Handoffs;
use dispatcher::Least;
use offload::Offload;
use statistics::Statistics;
use std::sync::Arc;

pub use dispatcher::Dispatcher;
pub use shape::Multiplies;
pub use simd::Level;
pub use statistics::Tally;

/// The rows of the dispatch table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Scalar,
    Simd,
    Parallel,
    Cuda,
}

impl Backend {
    pub const ALL: [Backend; 4] = [Backend::Scalar, Backend::Simd, Backend::Parallel, Backend::Cuda];

    pub const fn name(self) -> &'static str {
        match self {
            Backend::Scalar => "scalar",
            Backend::Simd => "simd",
            Backend::Parallel => "parallel",
            Backend::Cuda => "cuda",
        }
    }
}

#[derive(Clone, Debug)]
pub struct ContextOptions {
    /// The row to run on; None takes the best that the preferences below allow.
    pub backend: Option<Backend>,
    /// The GPU that `cuda` runs on.
    pub device: usize,
    pub prefer_cuda: bool,
    pub prefer_parallel: bool,
    pub prefer_simd: bool,
    /// 0: as many as the process may use.
    pub threads: usize,
    /// The size of a call, in the operation's unit, from which on it goes to the GPU; None: where that was measured to be faster,
    /// and gives the same bits.
    pub min_size_for_cuda: Option<u64>,
    /// The same for the pool.
    pub min_size_for_parallel: Option<u64>,
    /// Tells the log what was chosen, now and at the first call of each operation on each row.
    pub verbose: bool,
    /// Times every call.
    pub benchmark_mode: bool,
}

impl Default for ContextOptions {
    fn default() -> Self {
        ContextOptions {
            backend: None,
            device: 0,
            prefer_cuda: true,
            prefer_parallel: true,
            prefer_simd: true,
            threads: 0,
            min_size_for_cuda: None,
            min_size_for_parallel: None,
            verbose: false,
            benchmark_mode: false,
        }
    }
}

/// The backends that a program works with, and what was chosen among them.
pub struct Context {
    backend: Backend,
    /// Why this backend.
    why: &'static str,
    asked: ContextOptions,
    launch: Launch,
    dispatcher: Arc<Dispatcher>,
}

/// Threads above this are refused: a typing error, not a machine.
pub const MAX_THREADS: usize = 4096;

impl Context {
    pub fn new(options: &ContextOptions) -> Result<Context> {
        ensure!(
            options.threads <= MAX_THREADS,
            Argument,
            "threads is {}, more than the {MAX_THREADS} allowed",
            options.threads
        );
        let (backend, why) = choose(options);
        let level = Level::detect()?;
        let (kernels, row) = match backend {
            Backend::Scalar => (&scalar::KERNELS, Backend::Scalar),
            // `parallel` is the same kernels with the chunks handed to a pool: see `Executor`.
            _ => (&simd::KERNELS, Backend::Simd),
        };
        let spans = level.spans();
        let launch = |executor| Launch::new(executor, spans);
        let pooled = match backend {
            Backend::Parallel => {
                let pool = Arc::new(Pool::new(options.threads)?);
                // With one thread the calling thread is as good, and needs no hand-off.
                (pool.threads() > 1).then(|| (launch(Executor::Pool(pool.clone())), pool))
            }
            _ => None,
        };
        let least = |size: Option<u64>| size.map_or(Least::Measured, Least::Size);
        let offload = match options.backend {
            None if !options.prefer_cuda => None,
            None | Some(Backend::Cuda) => {
                let insists = backend == Backend::Cuda;
                Some(Offload::new(options.device, insists, least(options.min_size_for_cuda), spans)?)
            }
            Some(_) => None,
        };
        let dispatcher = Arc::new(Dispatcher {
            kernels,
            row,
            level,
            serial: launch(Executor::Serial),
            pooled,
            offload,
            least: least(options.min_size_for_parallel),
            verbose: options.verbose,
            benchmark: options.benchmark_mode,
            handoffs: Handoffs::new(),
            statistics: Statistics::new(),
        });
        let launch = launch(Executor::Dispatched(dispatcher.clone()));
        let context = Context { backend, why, asked: options.clone(), launch, dispatcher };
        context.announce();
        Ok(context)
    }

    /// The driver is asked only if somebody wants to hear the answer: it takes part of a second where there is one.
    fn announce(&self) {
        if self.asked.verbose {
            log(LogLevel::Info, format_args!("context: {}", self.explain_choice()));
        } else if self.asked.backend.is_none() && self.asked.prefer_cuda && log::heard(LogLevel::Debug) {
            let cuda = self.explain_cuda(None, None);
            log(LogLevel::Debug, format_args!("context: {cuda}; {} runs the rest", self.backend.name()));
        }
    }

    /// Of a context that may choose, the CPU's row: a GPU takes single calls from it.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// What the last bits of floats hang on, besides the CPU level: "parallel", or "parallel, cuda from 1000000" where a GPU takes
    /// calls from a given size on.
    pub fn arithmetic(&self) -> String {
        let name = self.backend.name();
        match &self.dispatcher.offload {
            Some(Offload { insists: false, least: Least::Size(least), ordinal, .. })
                if cuda::device(*ordinal).is_ok() =>
            {
                format!("{name}, cuda from {least}")
            }
            _ => name.into(),
        }
    }

    /// Whether two such names stand for the same last bits: `parallel` has those of `simd`.
    pub fn same_arithmetic(one: &str, other: &str) -> bool {
        fn behind(name: &str) -> Option<&str> {
            name.strip_prefix("parallel").or_else(|| name.strip_prefix("simd"))
        }
        one == other || behind(one).is_some_and(|rest| behind(other) == Some(rest))
    }

    pub fn level(&self) -> Level {
        self.dispatcher.level
    }

    pub fn threads(&self) -> usize {
        self.launch.executor.threads()
    }

    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// The table to call, with this context's [`Context::launch`]: its entries find the row that takes the call.
    pub fn kernels(&self) -> &'static Kernels {
        const { &DISPATCHED }
    }

    /// A tensor of zeros where this context's kernels work best: on the device, if the context was made for one.
    pub fn zeros(&self, dtype: DType, dims: &[usize]) -> Result<Tensor> {
        match self.home() {
            Some(gpu) => gpu.zeros(dtype, dims),
            None => Tensor::zeros(dtype, dims),
        }
    }

    /// A tensor of zeros on the host, or where this context's kernels work best: beside others that are on `device`.
    pub fn zeros_beside(&self, device: Device, dtype: DType, dims: &[usize]) -> Result<Tensor> {
        if device == Device::Host { Tensor::zeros(dtype, dims) } else { self.zeros(dtype, dims) }
    }

    /// The same elements there.
    pub fn place(&self, tensor: Tensor) -> Result<Tensor> {
        match self.home() {
            Some(gpu) if tensor.device() == Device::Host => gpu.upload_view(&tensor.view()),
            _ => Ok(tensor),
        }
    }

    /// A copy there of what is on the host, for many calls to read. None where the kernels read it on the host, or where the
    /// device has no room to keep it: then each call brings what it needs.
    pub fn copy(&self, view: &View) -> Result<Option<Tensor>> {
        match self.home().map(|gpu| gpu.upload_view(view)).transpose() {
            Err(error) if error.kind == ErrorKind::Memory => Ok(None),
            copy => copy,
        }
    }

    /// Whether the context was made for a device: its kernels have to be brought what lies on the host.
    pub fn on_device(&self) -> bool {
        self.home().is_some()
    }

    /// The device that this context's tensors live on.
    fn home(&self) -> Option<&Arc<Gpu>> {
        let offload = self.dispatcher.offload.as_ref().filter(|offload| offload.insists)?;
        offload.launch()?.gpu().ok()
    }

    /// What a row has done of an operation since the context was made or its statistics were reset.
    pub fn tally(&self, operation: Operation, row: Backend) -> Tally {
        self.dispatcher.statistics.of(operation, row)
    }

    pub fn reset_statistics(&self) {
        self.dispatcher.statistics.reset();
    }
}

fn choose(options: &ContextOptions) -> (Backend, &'static str) {
    match options.backend {
        Some(backend) => (backend, "the context asked for it"),
        None if options.prefer_parallel => (Backend::Parallel, "prefer_parallel is set"),
        None if options.prefer_simd => (Backend::Simd, "prefer_parallel is 0, prefer_simd is set"),
        None => (Backend::Scalar, "prefer_parallel and prefer_simd are 0"),
    }
}

#[cfg(test)]
mod tests;
