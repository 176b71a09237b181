//! Which row runs a call: a context fixes the row, the CPU level and the pool when it is made.

use super::launch::{Executor, Launch};
use super::pool::Pool;
use super::table::Kernels;
use super::{scalar, simd};
use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use crate::tensor::log::{LogLevel, log};
use std::sync::Arc;

/// The rows of the dispatch table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Scalar,
    Simd,
    Parallel,
    Cuda,
}

impl Backend {
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Scalar => "scalar",
            Backend::Simd => "simd",
            Backend::Parallel => "parallel",
            Backend::Cuda => "cuda",
        }
    }
}

pub use simd::Level;

#[derive(Clone, Debug)]
pub struct ContextOptions {
    /// The row to run on; None takes the best that the preferences below allow.
    pub backend: Option<Backend>,
    pub prefer_cuda: bool,
    pub prefer_parallel: bool,
    pub prefer_simd: bool,
    /// 0: as many as the process may use.
    pub threads: usize,
}

impl Default for ContextOptions {
    fn default() -> Self {
        ContextOptions { backend: None, prefer_cuda: true, prefer_parallel: true, prefer_simd: true, threads: 0 }
    }
}

/// The backends that a program works with, and what was chosen among them.
pub struct Context {
    backend: Backend,
    level: Level,
    launch: Launch,
    kernels: &'static Kernels,
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
        let backend = match options.backend {
            Some(Backend::Cuda) => {
                return Err(error!(Unsupported, "this build has no cuda backend; use auto, parallel, simd or scalar"));
            }
            Some(backend) => backend,
            None if options.prefer_parallel => Backend::Parallel,
            None if options.prefer_simd => Backend::Simd,
            None => Backend::Scalar,
        };
        if options.prefer_cuda && options.backend.is_none() {
            log(LogLevel::Debug, format_args!("this build has no cuda backend: {} runs instead", backend.name()));
        }
        let level = Level::detect()?;
        let executor = match backend {
            Backend::Parallel => Executor::Pool(Arc::new(Pool::new(options.threads)?)),
            _ => Executor::Serial,
        };
        let kernels = match backend {
            Backend::Scalar => &scalar::KERNELS,
            // `parallel` is the same kernels with the chunks handed to a pool: see `Executor`.
            _ => &simd::KERNELS,
        };
        Ok(Context { backend, level, launch: Launch { executor, spans: level.spans() }, kernels })
    }

    pub fn backend(&self) -> Backend {
        self.backend
    }

    pub fn level(&self) -> Level {
        self.level
    }

    pub fn threads(&self) -> usize {
        self.launch.executor.threads()
    }

    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }
}
