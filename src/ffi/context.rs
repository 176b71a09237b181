//! CONTEXT: where it runs
//!
//! A context chooses a backend once: `scalar` (the readable reference), `simd` (vector code, one thread) or
//! `parallel` (the same vector code on a thread pool; bit for bit the same results, for every number of
//! threads). NULL, wherever a context is asked for, is the default context of the process: the best
//! backend, as many threads as the process may use. A context may be used by several threads at once, and
//! freed while objects made with it live on.
//!
//! On `parallel`, a call too small to be worth waking threads runs on the calling thread, as on `simd`. How
//! small that is, is measured on this machine while the program runs: what a hand-off to the pool takes, and
//! how fast each operation is. Of a larger call the calling thread does its part: whoever calls has a stack of
//! 256 KiB or more. Calls that come at once from several threads share the pool's, and do not wait for it. `setun_context_explain` says what would run a call and why,
//! `setun_context_statistics` what has run. The size of a call is the number of elements of its largest
//! tensor; for products, attention and the search for nearest centroids, the number of multiplications.
//!
//! `cuda` is an NVIDIA GPU of compute capability 8.0 or later. Its driver, libcuda.so.1, is looked for when it is
//! first asked about, and nothing needs it; `setun_device_count` and its kin say which GPUs there are. A context
//! made for it keeps models and their training there, and has the GPU make every call: what a call on memory of the
//! host reads is copied there, what it writes is copied back, and the call returns when that is done. The default
//! context lets a GPU take single calls: see `min_size_for_cuda`. All contexts of a process share a GPU and what they
//! keep of its memory.
//!
//!     setun_context_options options;
//!     setun_context_options_init(&options, sizeof options);
//!     options.threads = 2;
//!     setun_context *context = NULL;
//!     if (setun_context_create(&options, &context) != SETUN_OK) return fail(setun_last_error());
//!     setun_context_free(context);

use super::arguments::{self, check_apart, check_pointer, check_text, extent, one_of, size, store, store_text};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use super::options::{self, Versioned};
use crate::backend::cuda::{self, Absent};
use crate::backend::{Backend, Context, ContextOptions, Level, Multiplies, Operation};
use crate::tensor::Result;
use crate::tensor::error::error;
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
    /// An NVIDIA GPU. Where there is none, asking for it returns SETUN_ERR_DEVICE with the reason.
    Cuda = 4,
}

/// How to make a context. Fill it with `setun_context_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_context_options {
    pub struct_size: usize,
    /// A `setun_backend`. Default SETUN_BACKEND_AUTO.
    pub backend: i32,
    /// The GPU that `cuda` runs on, below `setun_device_count`; AUTO does without one that does not exist. Default 0.
    pub device: i32,
    /// Non-zero: AUTO lets a GPU take calls, where there is one: see `min_size_for_cuda`. Default 1.
    pub prefer_cuda: i32,
    /// Non-zero: AUTO takes `parallel`. Default 1.
    pub prefer_parallel: i32,
    /// Non-zero: AUTO takes `simd` where `parallel` is not wanted. Default 1.
    pub prefer_simd: i32,
    /// Threads that compute a call, the calling thread among them; 0 = as many as the process may use, at most
    /// 4096. Default 0.
    pub threads: i32,
    /// Non-zero: tell the log hook, at level INFO, what was chosen, now and at the first call of each
    /// operation on each backend. Default 0.
    pub verbose: i32,
    /// Non-zero: time every call, for `setun_context_statistics`. Default 0.
    pub benchmark_mode: i32,
    /// The size from which on AUTO has the GPU make a call; 0 = always, -1 = where this machine measured it to be
    /// faster, copies included, and only operations that give the same bits on every backend. A call that fails
    /// there is made again on the CPU, with a warning to the log hook. Default -1.
    pub min_size_for_cuda: i64,
    /// The size from which on `parallel` hands a call to its threads; 0 = always, -1 = the crossover that
    /// this machine measured. The results are the same bits. Default -1.
    pub min_size_for_parallel: i64,
}

// SAFETY: repr(C), begins with struct_size, integers only, 8 + 8 * 4 + 2 * 8 bytes: no padding.
unsafe impl Versioned for setun_context_options {
    fn defaults() -> Self {
        setun_context_options {
            struct_size: size_of::<Self>(),
            backend: setun_backend::Auto as i32,
            device: 0,
            prefer_cuda: 1,
            prefer_parallel: 1,
            prefer_simd: 1,
            threads: 0,
            verbose: 0,
            benchmark_mode: 0,
            min_size_for_cuda: -1,
            min_size_for_parallel: -1,
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
/// SETUN_CPU_LEVEL (a name that setun_context_level gives) lowers it. Of a GPU's memory a process keeps what it used,
/// for the next call; SETUN_CUDA_MEMORY is the most that it takes, in bytes, and SETUN_CUDA_CACHE=0 has it give all
/// back at once. Both are read when the GPU is opened.
///
/// Returns ARGUMENT (a backend, device or number of threads that does not exist), UNSUPPORTED (a backend or level that
/// this build or machine lacks), MEMORY (the threads cannot be started), ABI; for SETUN_BACKEND_CUDA also DEVICE (no
/// driver, no device, or a driver that fails, in its own words), MEMORY (of the GPU), UNSUPPORTED (an older GPU),
/// ARGUMENT (a SETUN_CUDA_MEMORY that is no number) and STATE (the process was forked after the driver was loaded).
/// Calls on such a context may return DEVICE and MEMORY, and STATE in a forked child.
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
            device: size(i64::from(options.device), "device")?,
            prefer_cuda: options.prefer_cuda != 0,
            prefer_parallel: options.prefer_parallel != 0,
            prefer_simd: options.prefer_simd != 0,
            threads,
            min_size_for_cuda: least(options.min_size_for_cuda, "min_size_for_cuda")?,
            min_size_for_parallel: least(options.min_size_for_parallel, "min_size_for_parallel")?,
            verbose: options.verbose != 0,
            benchmark_mode: options.benchmark_mode != 0,
        })?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, Arc::new(context)) }
    })
}

/// A size, or None for -1, which asks for what was measured.
fn least(value: i64, name: &str) -> Result<Option<u64>> {
    match value {
        -1 => Ok(None),
        value => u64::try_from(value).map(Some).map_err(|_| error!(Argument, "{name} is {value}, expected -1 or more")),
    }
}

/// Says which backend was chosen: a `setun_backend`, never AUTO. Where a GPU may take single calls, it is the one that
/// makes the others. NULL = the default context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_backend(context: *const setun_context, out: *mut i32) -> setun_status {
    guard("context_backend", || {
        let backend = number(resolve(context)?.backend());
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, backend as i32, "out") }
    })
}

fn number(backend: Backend) -> setun_backend {
    match backend {
        Backend::Scalar => setun_backend::Scalar,
        Backend::Simd => setun_backend::Simd,
        Backend::Parallel => setun_backend::Parallel,
        Backend::Cuda => setun_backend::Cuda,
    }
}

/// Says how many threads run a call on the CPU: 1 but for `parallel`. NULL = the default context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_threads(context: *const setun_context, out: *mut i32) -> setun_status {
    guard("context_threads", || {
        let threads = resolve(context)?.threads();
        let threads = i32::try_from(threads).map_err(|_| error!(Internal, "{threads} threads"))?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, threads, "out") }
    })
}

/// Says which CPU level the vector code was compiled for: "baseline", "x86-64-v3", "x86-64-v4" or
/// "x86-64-v4+vnni". NULL = the default context. The string is static: never freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_level(context: *const setun_context, out: *mut *const c_char) -> setun_status {
    guard("context_level", || {
        let level = match resolve(context)?.level() {
            Level::Baseline => c"baseline",
            Level::V3 => c"x86-64-v3",
            Level::V4 => c"x86-64-v4",
            Level::V4Vnni => c"x86-64-v4+vnni",
        };
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, level.as_ptr(), "out") }
    })
}

/// Says in a sentence or two what would run a call of an operation, and why: backend, CPU level, threads, the
/// crossover and what it was measured from, and why a GPU or none. For people: the wording may change.
///
/// `operation` is a name of `setun_operation_name`; NULL asks about the context as a whole. `call_size` is the
/// size of the call (see the head of this section); -1 asks where the crossover lies. At most `capacity` bytes
/// are written to `text`, always with a NUL at the end: a longer text is cut. `bytes`, unless it is NULL,
/// becomes the size of the whole text with its NUL (`text` NULL with capacity 0 only counts; 1000 is enough
/// today). NULL context = the default context. What is not known yet is found out: a hand-off to the threads
/// is measured (a millisecond), the driver of GPUs is loaded. Returns ARGUMENT for an operation that does not
/// exist, naming those like it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_explain(
    context: *const setun_context,
    operation: *const c_char,
    call_size: i64,
    text: *mut c_char,
    capacity: usize,
    bytes: *mut usize,
) -> setun_status {
    guard("context_explain", || {
        let context = resolve(context)?;
        let call_size = least(call_size, "call_size")?;
        check_text(text, capacity, bytes)?;
        let explanation = if operation.is_null() {
            context.explain_choice()
        } else {
            // SAFETY: not NULL; a NUL-terminated string is the caller's contract.
            let name = unsafe { arguments::text(operation, "operation") }?;
            context.explain(Operation::named(name)?, call_size)
        };
        // SAFETY: NULL is checked; room for `capacity` bytes is the caller's contract.
        unsafe { store_text(&explanation, text, capacity, bytes) }
    })
}

/// What has run of one operation in a context, on the backends that did the work. The arrays are indexed by
/// `setun_backend`; at SETUN_BACKEND_AUTO stands the sum over all backends. Set `struct_size` before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_statistics {
    pub struct_size: usize,
    /// The operation's name. Static: never freed.
    pub operation: *const c_char,
    pub calls: [i64; 5],
    /// The sizes of these calls, added: elements, or multiplications of products, attention and the
    /// search for nearest centroids.
    pub elements: [i64; 5],
    /// What they took, in seconds; 0 unless the context has `benchmark_mode`.
    pub seconds: [f64; 5],
    /// The bytes of all their tensors, each counted once a call.
    pub bytes: [i64; 5],
    /// A `setun_multiplies`: what `elements` counts.
    pub multiplies: i64,
}

/// What the sizes of an operation's calls count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_multiplies {
    /// Elements of the largest tensor.
    Nothing = 0,
    /// Multiplications of 32-bit floats, each with an addition.
    F32 = 1,
    /// Multiplications of 8-bit integers, or of these with trits, each with an addition.
    Int8 = 2,
}

// SAFETY: repr(C), begins with struct_size, then a pointer that is only written, integers and floats of 8 bytes: no padding.
unsafe impl Versioned for setun_statistics {
    fn defaults() -> Self {
        setun_statistics {
            struct_size: size_of::<Self>(),
            operation: c"".as_ptr(),
            calls: [0; 5],
            elements: [0; 5],
            seconds: [0.0; 5],
            bytes: [0; 5],
            multiplies: 0,
        }
    }
}

/// How many operations there are.
#[unsafe(no_mangle)]
pub extern "C" fn setun_operation_count() -> i64 {
    Operation::ALL.len() as i64
}

/// The name of operation number `index`, from 0; NULL past the last. Static: never freed.
#[unsafe(no_mangle)]
pub extern "C" fn setun_operation_name(index: i64) -> *const c_char {
    let operation = usize::try_from(index).ok().and_then(|index| Operation::ALL.get(index));
    operation.map_or(std::ptr::null(), |operation| operation.c_name().as_ptr())
}

/// What has run of operation number `index` since the context was made or its statistics were reset, on
/// behalf of every thread and object that uses the context. Calls that are running may be counted or not.
///
/// `out->struct_size` says how much of the struct to write. NULL context = the default context. Returns
/// ARGUMENT (an index not below `setun_operation_count`), ABI.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_statistics(
    context: *const setun_context,
    index: i64,
    out: *mut setun_statistics,
) -> setun_status {
    guard("context_statistics", || {
        let context = resolve(context)?;
        let count = Operation::ALL.len();
        let operation = usize::try_from(index).ok().and_then(|index| Operation::ALL.get(index));
        let operation = *operation.ok_or_else(|| error!(Argument, "index is {index}, expected 0 to {}", count - 1))?;
        let multiplies = match operation.multiplies() {
            Multiplies::Nothing => setun_multiplies::Nothing,
            Multiplies::F32 => setun_multiplies::F32,
            Multiplies::Int8 => setun_multiplies::Int8,
        };
        let mut statistics = setun_statistics {
            operation: operation.c_name().as_ptr(),
            multiplies: multiplies as i64,
            ..Versioned::defaults()
        };
        for backend in Backend::ALL {
            let tally = context.tally(operation, backend);
            for at in [setun_backend::Auto as usize, number(backend) as usize] {
                statistics.calls[at] += tally.calls as i64;
                statistics.elements[at] = statistics.elements[at].saturating_add_unsigned(tally.size);
                statistics.seconds[at] += tally.seconds;
                statistics.bytes[at] = statistics.bytes[at].saturating_add_unsigned(tally.bytes);
            }
        }
        // SAFETY: NULL and size are checked; that many writable bytes are the caller's contract.
        unsafe { options::write(out, statistics, "out") }
    })
}

/// Sets the statistics of all operations to 0. NULL context = the default context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_reset_statistics(context: *const setun_context) -> setun_status {
    guard("context_reset_statistics", || {
        resolve(context)?.reset_statistics();
        Ok(())
    })
}

/// Frees the context; NULL is fine. Models and packed tensors that were made with it keep working.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_context_free(context: *mut setun_context) {
    guard_silent("context_free", || handle::free(context));
}

/// Counts the NVIDIA GPUs that the CUDA driver shows. A machine without the driver or without a GPU has 0:
/// that is no error, and `setun_context_explain` says which.
///
/// The first question loads the driver, if there is one, and the process keeps the answer. Returns DEVICE (a
/// driver that is too old or fails, in its own words), STATE (the process was forked after the driver was
/// loaded).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_device_count(out: *mut i32) -> setun_status {
    guard("device_count", || {
        let count = match cuda::devices()? {
            Ok(devices) => i32::try_from(devices.len()).unwrap_or(i32::MAX),
            Err(Absent::Nothing(_)) => 0,
            Err(broken) => return Err(error!(Device, "{}", broken.reason())),
        };
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, count, "out") }
    })
}

/// The name of a GPU, "NVIDIA H100 80GB HBM3". `device` is below `setun_device_count`.
///
/// At most `capacity` bytes are written to `text`, always with a NUL at the end; `bytes`, unless it is NULL,
/// becomes the size of the whole name with its NUL (`text` NULL with capacity 0 only counts; 256 is enough).
/// Returns ARGUMENT (a device that does not exist), DEVICE (no driver, no device, or a driver that fails, in
/// its own words), STATE (the process was forked after the driver was loaded).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_device_name(
    device: i32,
    text: *mut c_char,
    capacity: usize,
    bytes: *mut usize,
) -> setun_status {
    guard("device_name", || {
        let ordinal = size(i64::from(device), "device")?;
        check_text(text, capacity, bytes)?;
        let device = cuda::device(ordinal)?;
        // SAFETY: NULL is checked; room for `capacity` bytes is the caller's contract.
        unsafe { store_text(&device.name, text, capacity, bytes) }
    })
}

/// The memory of a GPU in bytes: how much is free now, and how much there is. Either may be NULL.
///
/// What is free is known only on an open device: this opens it for the call (part of a second), and leaves
/// the calling thread's CUDA context what it was. Returns as `setun_device_name`, or MEMORY (too little is free on the GPU
/// to open it).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_device_memory(device: i32, free: *mut usize, total: *mut usize) -> setun_status {
    guard("device_memory", || {
        let ordinal = size(i64::from(device), "device")?;
        let wanted = |pointer: *const usize| usize::from(!pointer.is_null());
        check_apart(&[extent("free", free, wanted(free)), extent("total", total, wanted(total))], &[])?;
        for (pointer, name) in [(free, "free"), (total, "total")] {
            if !pointer.is_null() {
                check_pointer(pointer, name)?;
            }
        }
        let device = cuda::device(ordinal)?;
        if !free.is_null() {
            let bytes = cuda::free_memory(ordinal)?;
            // SAFETY: checked; a valid pointer is the caller's contract.
            unsafe { store(free, bytes, "free") }?;
        }
        if total.is_null() {
            return Ok(());
        }
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(total, device.memory, "total") }
    })
}
