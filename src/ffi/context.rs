//! CONTEXT: where it runs
//!
//! A context chooses a backend once: `scalar` (the readable reference), `simd` (vector code, one thread) or
//! `parallel` (the same vector code on a thread pool; bit for bit the same results, for every number of
//! threads). NULL, wherever a context is asked for, is the default context of the process: the best
//! backend, as many threads as the process may use. A context may be used by several threads at once, and
//! freed while objects made with it live on.
//!
//!     setun_context_options options;
//!     setun_context_options_init(&options, sizeof options);
//!     options.threads = 2;
//!     setun_context *context = NULL;
//!     if (setun_context_create(&options, &context) != SETUN_OK) return fail(setun_last_error());
//!     setun_context_free(context);

use super::arguments::{check_pointer, one_of, size, store};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use super::options::{self, Versioned};
use crate::backend::{Backend, Context, ContextOptions, Level};
use crate::tensor::Result;
use crate::tensor::error::error;
use crate::tensor::log::{LogLevel, log};
use once_cell::sync::OnceCell;
use std::ffi::c_char;
use std::sync::Arc;

/// The rows of the dispatch table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_backend {
    /// The best that the `prefer_` options allow.
    Auto = 0,
    /// The reference: one thread, plain loops; what the others are tested against.
    Scalar = 1,
    /// Vector code on the calling thread.
    Simd = 2,
    /// The same vector code on a thread pool.
    Parallel = 3,
    /// An NVIDIA GPU. This build has none: asking for it returns SETUN_ERR_UNSUPPORTED.
    Cuda = 4,
}

/// How to make a context. Fill it with `setun_context_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_context_options {
    pub struct_size: usize,
    /// A `setun_backend`. Default SETUN_BACKEND_AUTO.
    pub backend: i32,
    /// Non-zero: AUTO takes `cuda` where this build and machine have it. Default 1.
    pub prefer_cuda: i32,
    /// Non-zero: AUTO takes `parallel`. Default 1.
    pub prefer_parallel: i32,
    /// Non-zero: AUTO takes `simd` where `parallel` is not wanted. Default 1.
    pub prefer_simd: i32,
    /// Threads of the pool; 0 = as many as the process may use, at most 4096. Default 0.
    pub threads: i32,
    /// Non-zero: tell the log hook what was chosen. Default 0.
    pub verbose: i32,
}

// SAFETY: repr(C), begins with struct_size, integers only, 8 + 6 * 4 bytes: no padding.
unsafe impl Versioned for setun_context_options {
    fn defaults() -> Self {
        setun_context_options {
            struct_size: size_of::<Self>(),
            backend: setun_backend::Auto as i32,
            prefer_cuda: 1,
            prefer_parallel: 1,
            prefer_simd: 1,
            threads: 0,
            verbose: 0,
        }
    }
}

/// The backend, CPU level and threads that calls run on.
pub struct setun_context {
    _opaque: [u8; 0],
}

impl Handle for setun_context {
    type Object = Arc<Context>;
    const NAME: &'static str = "setun_context";
}

/// The context of a handle; the process default, made at first use, for NULL.
pub fn resolve(context: *const setun_context) -> Result<Arc<Context>> {
    static DEFAULT: OnceCell<Arc<Context>> = OnceCell::new();
    if context.is_null() {
        return DEFAULT.get_or_try_init(|| Context::new(&ContextOptions::default()).map(Arc::new)).cloned();
    }
    Ok(Arc::clone(&*handle::shared(context, "context")?))
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_options_init(options: *mut setun_context_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Makes a context and its thread pool. NULL options = the defaults. Free it with `setun_context_free`.
///
/// The CPU level is the best that this build contains and this machine has; the environment variable
/// SETUN_CPU_LEVEL ("baseline", "x86-64-v3") lowers it. Returns ARGUMENT (a backend or a number of threads
/// that does not exist), UNSUPPORTED (a backend or level that this build or machine lacks), MEMORY (the
/// threads cannot be started), ABI.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_create(
    options: *const setun_context_options,
    out: *mut *mut setun_context,
) -> setun_status {
    guard("context_create", || {
        check_pointer(out, "out")?;
        // SAFETY: NULL is checked; the struct's size field is honoured; the rest is the caller's contract.
        let options = unsafe { options::read(options, "options") }?;
        let backends = [
            (setun_backend::Auto as i32, "auto", None),
            (setun_backend::Scalar as i32, "scalar", Some(Backend::Scalar)),
            (setun_backend::Simd as i32, "simd", Some(Backend::Simd)),
            (setun_backend::Parallel as i32, "parallel", Some(Backend::Parallel)),
            (setun_backend::Cuda as i32, "cuda", Some(Backend::Cuda)),
        ];
        let backend = one_of(options.backend, "backend", &backends)?;
        let threads = size(i64::from(options.threads), "threads")?;
        let context = Context::new(&ContextOptions {
            backend,
            prefer_cuda: options.prefer_cuda != 0,
            prefer_parallel: options.prefer_parallel != 0,
            prefer_simd: options.prefer_simd != 0,
            threads,
        })?;
        if options.verbose != 0 {
            let (backend, level, threads) = (context.backend().name(), context.level().name(), context.threads());
            log(LogLevel::Info, format_args!("context: backend {backend}, level {level}, threads {threads}"));
        }
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, Arc::new(context)) }
    })
}

/// Says which backend was chosen: a `setun_backend`, never AUTO. NULL = the default context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_backend(context: *const setun_context, out: *mut i32) -> setun_status {
    guard("context_backend", || {
        let backend = match resolve(context)?.backend() {
            Backend::Scalar => setun_backend::Scalar,
            Backend::Simd => setun_backend::Simd,
            Backend::Parallel => setun_backend::Parallel,
            Backend::Cuda => setun_backend::Cuda,
        };
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, backend as i32, "out") }
    })
}

/// Says how many threads run a call: 1 but for `parallel`. NULL = the default context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_threads(context: *const setun_context, out: *mut i32) -> setun_status {
    guard("context_threads", || {
        let threads = resolve(context)?.threads();
        let threads = i32::try_from(threads).map_err(|_| error!(Internal, "{threads} threads"))?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, threads, "out") }
    })
}

/// Says which CPU level the vector code was compiled for: "baseline" or "x86-64-v3". NULL = the default
/// context. The string is static: never freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_level(context: *const setun_context, out: *mut *const c_char) -> setun_status {
    guard("context_level", || {
        let level = match resolve(context)?.level() {
            Level::Baseline => c"baseline",
            Level::V3 => c"x86-64-v3",
        };
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, level.as_ptr(), "out") }
    })
}

/// Frees the context; NULL is fine. Models and packed tensors that were made with it keep working.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_free(context: *mut setun_context) {
    guard_silent("context_free", || handle::free(context));
}
