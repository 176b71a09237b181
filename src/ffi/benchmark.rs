//! BENCHMARK: how fast it runs here
//!
//! `setun_benchmark` times the operations of the library, at several sizes each, on every row of the
//! dispatch table: `scalar`, `simd` at each CPU level, `parallel`, `cuda`. Beside each time stands the share that it
//! reaches of what this machine can do at all: of its peak of arithmetic or of its memory bandwidth, both
//! measured in the same run. It takes about two minutes, more with a GPU, or some seconds when `quick`; other work on
//! the machine shows in the medians first.
//!
//!     static int32_t show(const setun_benchmark_result *r, void *user_data) {
//!         return printf("%s %s, %s: %g s\n", r->operation, r->sizes, r->backend_name, r->seconds) > 0;
//!     }
//!
//!     setun_benchmark_options options;
//!     setun_benchmark_options_init(&options, sizeof options);
//!     options.filter = "matmul";
//!     setun_benchmark(&options, show, NULL);

use super::arguments::{size, text};
use super::context::setun_backend;
use super::floating::outside;
use super::guard::guard;
use super::library::{Token, setun_cancel, setun_status};
use super::options::{self, Versioned};
use crate::backend::benchmark::{self, Options, Outcome};
use crate::backend::{Backend, Level};
use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use std::ffi::{CString, c_char, c_void};

/// What to measure. Fill it with `setun_benchmark_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_benchmark_options {
    pub struct_size: usize,
    /// Only operations with this in their name; NULL = all. Default NULL.
    pub filter: *const c_char,
    /// Only this CPU level, by a name that `setun_context_level` gives, at most that of the environment variable
    /// SETUN_CPU_LEVEL; NULL = each that build and machine have, and that SETUN_CPU_LEVEL leaves. `parallel` takes the best of them. Default NULL.
    pub level: *const c_char,
    /// Stops the run from another thread; NULL = no token. Default NULL.
    pub cancel: *const setun_cancel,
    /// For each operation, size and row; each is timed three times at the least. Above 0, at most 60.
    /// Default 0.08.
    pub seconds: f64,
    /// Threads of `parallel`; 0 = as many as the process may use. Default 0.
    pub threads: i32,
    /// Non-zero: measure the row. Without `scalar` there is no `speedup`. Default 1.
    pub scalar: i32,
    /// Default 1.
    pub simd: i32,
    /// Default 1.
    pub parallel: i32,
    /// Non-zero: measure what the machine can do. Without it there is no `share`. Default 1.
    pub ceilings: i32,
    /// Non-zero: only the smallest size of each operation, and 5 ms at most. Default 0.
    pub quick: i32,
    /// Non-zero: compare instead of timing. Every case is called once on `scalar`, on `simd` and `parallel` at every
    /// CPU level there is, and on `cuda`, if that is set and there is a device, with its arguments on the host;
    /// `scalar`, `simd`, `parallel`, `seconds` and `ceilings` are not read. `simd` and `cuda` may differ from `scalar`
    /// by the tolerance of the operation, where it has one, and `parallel` not at all from `simd`. Results say so in
    /// `agrees`. Default 0.
    pub parity: i32,
    /// Non-zero: measure the row `cuda` too, on the first device, with its arguments there; without a device there is
    /// no such row, and an error where all others are off. It has sizes of its own, which would take a CPU seconds.
    /// Default 1.
    pub cuda: i32,
}

// SAFETY: repr(C), begins with struct_size, numbers and pointers only, 5 * 8 + 8 * 4 bytes: no padding.
unsafe impl Versioned for setun_benchmark_options {
    fn defaults() -> Self {
        setun_benchmark_options {
            struct_size: size_of::<Self>(),
            filter: std::ptr::null(),
            level: std::ptr::null(),
            cancel: std::ptr::null(),
            seconds: 0.08,
            threads: 0,
            scalar: 1,
            simd: 1,
            parallel: 1,
            ceilings: 1,
            quick: 0,
            parity: 0,
            cuda: 1,
        }
    }
}

/// How fast one operation of one size ran on one row, or how high a ceiling is. Strings are valid during the
/// callback, and never NULL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_benchmark_result {
    /// The size of the struct as this library knows it.
    pub struct_size: usize,
    /// The operation, "matmul_ternary". Of a ceiling: "f32 peak", "int8 peak", "read" or "copy".
    pub operation: *const c_char,
    /// Its sizes, "256 x 2048 x 2048". Of a ceiling: how much memory it went through; "" for a peak.
    pub sizes: *const c_char,
    /// "scalar", "simd", "parallel" or "cuda".
    pub backend_name: *const c_char,
    /// The CPU level, "x86-64-v3"; "" on `scalar` and `cuda`, which have none.
    pub level: *const c_char,
    /// The unit of `rate`: "GFLOP/s", "GOP/s" (of 8-bit integers) or "GB/s".
    pub unit: *const c_char,
    /// The ceiling that bounds the call, "copy 16 MiB"; "" when none was measured.
    pub ceiling: *const c_char,
    /// Multiplications and additions of products in one call, and bytes of its arguments, each counted once
    /// when read and once when written.
    pub operations: f64,
    pub bytes: f64,
    /// Of one call: the least, which is what it takes when nothing interrupts it, and the median.
    pub seconds: f64,
    pub median_seconds: f64,
    /// `operations`, or `bytes` where an operation has no products, in billions a second at the least time.
    pub rate: f64,
    /// The least time that the ceilings leave (Williams, Waterman & Patterson, the roofline model) over
    /// `seconds`. Bandwidths are those of the size nearest to `bytes`; where smaller memory is faster, it can
    /// pass 1. NaN without ceilings.
    pub share: f64,
    /// The time on `scalar` over `seconds`; NaN where that was not measured.
    pub speedup: f64,
    /// How often it was timed.
    pub repeats: i64,
    /// The size of the call: the elements of its largest tensor, or the multiplications of products, attention and
    /// the search for nearest centroids. 0 of a ceiling.
    pub call_size: i64,
    /// A `setun_backend`.
    pub backend: i32,
    pub threads: i32,
    /// Non-zero: a ceiling and not an operation.
    pub is_ceiling: i32,
    /// Of a comparison: 1 where the row gives what it has to, 0 where it does not. -1 where nothing was compared.
    pub agrees: i32,
    /// The first element that is not as it has to be, in words; "" where none is.
    pub difference: *const c_char,
}

/// Hears each result as it comes, on the thread that called. Return 0 to stop, anything else to go on.
pub type setun_benchmark_callback =
    Option<unsafe extern "C" fn(result: *const setun_benchmark_result, user_data: *mut c_void) -> i32>;

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_benchmark_options_init(options: *mut setun_benchmark_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Measures, and hands each result to `callback`: the ceilings, on one thread and on those of `parallel`;
/// then each operation, size by size and row by row, `scalar` first. NULL options = the defaults.
///
/// A call is measured as a training step makes it, while the threads of the pool stand by; its arguments are the
/// same on all rows. It takes up to 0.5 GB of memory; with a GPU up to 1.7 GB, and there up to 2.7 GB for an
/// operation, which it keeps for the next as long as there is room. Returns OK also when the callback stopped it;
/// ARGUMENT (a filter that no operation has, no row at all, seconds or threads out of range, a level that does not
/// exist or is above SETUN_CPU_LEVEL), UNSUPPORTED (a level that this build or machine lacks), DEVICE (`cuda` alone,
/// and there is none; or a device that fails), CANCELLED, MEMORY, ABI.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_benchmark(
    options: *const setun_benchmark_options,
    callback: setun_benchmark_callback,
    user_data: *mut c_void,
) -> setun_status {
    guard("benchmark", || {
        let callback = callback.ok_or_else(|| error!(Argument, "callback is NULL"))?;
        // SAFETY: NULL is checked; the struct's size field is honoured; the rest is the caller's contract.
        let options = unsafe { options::read(options, "options") }?;
        // SAFETY: NUL-terminated strings are the caller's contract.
        let chosen = unsafe { chosen(&options) }?;
        let token = Token::of(options.cancel)?;
        // SAFETY: the caller promised a callback for these arguments.
        let mut report =
            |outcome: &Outcome| tell(outcome, |result| outside(|| unsafe { callback(result, user_data) }) != 0);
        benchmark::run(&chosen, &mut report, &|| token.is_raised())
    })
}

/// # Safety
/// The strings are NULL or end with a NUL, and nobody writes them during `'a`.
unsafe fn chosen<'a>(options: &setun_benchmark_options) -> Result<Options<'a>> {
    let seconds = options.seconds;
    ensure!(seconds > 0.0 && seconds <= 60.0, Argument, "seconds is {seconds}, expected above 0, at most 60");
    let filter = match options.filter.is_null() {
        true => "",
        // SAFETY: passed on to the caller.
        false => unsafe { text(options.filter, "filter") }?,
    };
    let level = match options.level.is_null() {
        true => None,
        // SAFETY: passed on to the caller.
        false => Some(Level::named(unsafe { text(options.level, "level") }?, "level")?),
    };
    Ok(Options {
        filter,
        scalar: options.scalar != 0,
        simd: options.simd != 0,
        parallel: options.parallel != 0,
        level,
        threads: size(i64::from(options.threads), "threads")?,
        seconds,
        cuda: options.cuda != 0,
        ceilings: options.ceilings != 0,
        quick: options.quick != 0,
        parity: options.parity != 0,
    })
}

/// Hands `outcome` on as C sees it.
fn tell(outcome: &Outcome, hear: impl FnOnce(&setun_benchmark_result) -> bool) -> bool {
    let (ceiling, share) = outcome.ceiling.unwrap_or(("", f64::NAN));
    let level = outcome.level.map_or("", Level::name);
    let backend = match outcome.backend {
        Backend::Scalar => setun_backend::Scalar,
        Backend::Simd => setun_backend::Simd,
        Backend::Parallel => setun_backend::Parallel,
        Backend::Cuda => setun_backend::Cuda,
    };
    let difference = outcome.difference.as_str();
    let strings = [outcome.operation, outcome.sizes, outcome.backend.name(), level, outcome.unit, ceiling, difference];
    let strings = strings.map(|string| CString::new(string).unwrap_or_default());
    let [operation, sizes, backend_name, level, unit, ceiling, difference] =
        strings.each_ref().map(|string| string.as_ptr());
    hear(&setun_benchmark_result {
        struct_size: size_of::<setun_benchmark_result>(),
        operation,
        sizes,
        backend_name,
        level,
        unit,
        ceiling,
        operations: outcome.operations,
        bytes: outcome.bytes,
        seconds: outcome.timing.minimum,
        median_seconds: outcome.timing.median,
        rate: outcome.rate,
        share,
        speedup: outcome.speedup.unwrap_or(f64::NAN),
        repeats: outcome.timing.repeats as i64,
        call_size: outcome.call_size as i64,
        backend: backend as i32,
        threads: outcome.threads as i32,
        is_ceiling: i32::from(outcome.is_ceiling),
        agrees: outcome.agrees.map_or(-1, i32::from),
        difference,
    })
}
