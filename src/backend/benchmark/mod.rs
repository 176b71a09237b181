//! How fast it runs: every operation on every row at several sizes, beside what the machine can do at all.
//!
//! | file | what |
//! |---|---|
//! | `cases.rs` | [`Case`]: one operation at one size, its arguments and its work |
//! | `ceilings.rs` | what bounds them on this machine, measured: arithmetic, reading, copying |
//! | `comparing.rs`, `recording.rs` | whether every row gives what the reference gives |
//! | `timing.rs` | seconds of one call, on a machine that does other things too |
//! | the others | the cases of an operation or a group, under the names of `scalar/` |
//!
//! A new kernel adds its cases to the file of its group, in one call; a test counts the entries of [`Kernels`].
//!
//! The share of the ceiling is that of the roofline model (Williams, Waterman & Patterson, CACM 52(4), 2009): a call takes at
//! least its arithmetic at the peak rate, and at least its bytes at the bandwidth of where they lie; the ceiling that it is
//! measured against is the one that takes longer.

mod activation;
mod attention;
mod attention_cached;
mod cases;
mod ceilings;
mod codebook;
mod comparing;
mod cross_entropy;
mod elementwise;
mod embedding;
mod feed_forward;
mod fused_norm;
mod gradient;
mod integer_gradient;
mod kmeans;
mod mask_sign;
mod matmul;
mod matmul_ternary;
mod matmul_ternary_qkv;
mod norm;
pub mod recording;
mod reduce;
mod rope;
mod scheme;
mod step;
mod ternary;
#[cfg(test)]
mod tests;
mod timing;

use super::dispatch::MAX_THREADS;
use super::launch::{Executor, Launch};
use super::pool::Pool;
use super::table::Kernels;
use super::{Backend, Level, cuda, scalar, simd};
use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use crate::tensor::log::{LogLevel, log};
use cases::{Call, Case, Cases};
use ceilings::Ceilings;
use std::sync::Arc;
use timing::{Timing, time};

/// Every case there is; the first of an operation is its smallest.
fn cases() -> Vec<Case> {
    let mut cases = Cases::default();
    for add in [
        elementwise::cases,
        reduce::cases,
        scheme::cases,
        ternary::cases,
        mask_sign::cases,
        activation::cases,
        matmul::cases,
        matmul_ternary::cases,
        matmul_ternary_qkv::cases,
        integer_gradient::cases,
        embedding::cases,
        norm::cases,
        fused_norm::cases,
        rope::cases,
        attention::cases,
        attention_cached::cases,
        feed_forward::cases,
        cross_entropy::cases,
        step::cases,
        gradient::cases,
        kmeans::cases,
        codebook::cases,
    ] {
        add(&mut cases);
        cases.only_gpu(false);
    }
    cases.all
}

/// What to measure.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Only operations with this in their name.
    pub filter: &'a str,
    pub scalar: bool,
    pub simd: bool,
    pub parallel: bool,
    /// Whether to measure the first GPU, if there is one.
    pub cuda: bool,
    /// Only this CPU level. None: every one there is; `parallel` then takes the best.
    pub level: Option<Level>,
    /// Of `parallel`; 0: as many as the process may use.
    pub threads: usize,
    /// For each case and row.
    pub seconds: f64,
    /// Whether to measure the ceilings.
    pub ceilings: bool,
    /// The smallest size of each operation, in a few milliseconds.
    pub quick: bool,
    /// Whether to compare the rows instead of timing them; then `parallel` runs at every level, and so do the sizes that are
    /// not timed.
    pub parity: bool,
}

/// How fast one operation of one size ran on one row, or how high a ceiling is.
pub struct Outcome<'a> {
    pub operation: &'a str,
    pub sizes: &'a str,
    pub is_ceiling: bool,
    /// See [`cases::Work`]; 0 of a ceiling.
    pub call_size: usize,
    pub backend: Backend,
    /// None on `scalar` and `cuda`, which have none.
    pub level: Option<Level>,
    pub threads: usize,
    pub timing: Timing,
    /// Of one call: multiplications and additions of the kind that the peaks count, and bytes.
    pub operations: f64,
    pub bytes: f64,
    /// In billions of `unit`, at the shortest time.
    pub rate: f64,
    pub unit: &'static str,
    /// The ceiling that bounds the call, and how much of it the call reached.
    pub ceiling: Option<(&'a str, f64)>,
    /// The time on `scalar` over the time here.
    pub speedup: Option<f64>,
    /// Whether the call gave what it has to; None where nothing was compared.
    pub agrees: Option<bool>,
    /// The first element that it did not, in words.
    pub difference: String,
}

/// One way to run an operation.
struct Row {
    backend: Backend,
    level: Option<Level>,
    kernels: &'static Kernels,
    launch: Launch,
}

impl Row {
    fn new(backend: Backend, level: Option<Level>, executor: Executor) -> Row {
        let kernels = if backend == Backend::Scalar { &scalar::KERNELS } else { &simd::KERNELS };
        let spans = level.unwrap_or(Level::Baseline).spans();
        Row { backend, level, kernels, launch: Launch::new(executor, spans) }
    }

    fn threads(&self) -> usize {
        self.launch.executor.threads()
    }
}

/// The GPU's row, on the first device; None where there is none and other rows are measured. The log hears of a device that
/// cannot be used.
fn gpu(needed: bool) -> Result<Option<Row>> {
    match cuda::Gpu::open(0) {
        Ok(gpu) => {
            let launch = Launch::on(gpu, Level::Baseline.spans());
            Ok(Some(Row { backend: Backend::Cuda, level: None, kernels: &cuda::KERNELS, launch }))
        }
        Err(error) if needed => Err(error),
        Err(error) => {
            if !matches!(cuda::devices(), Ok(Err(cuda::Absent::Nothing(_)))) {
                log(LogLevel::Warning, format_args!("cuda is left out: {error}"));
            }
            Ok(None)
        }
    }
}

/// The reference first, so that the others can be compared with it.
fn rows(options: &Options) -> Result<Vec<Row>> {
    let best = Level::detect()?;
    let chosen = |level: &Level| level.available() && *level <= best && options.level.is_none_or(|only| only == *level);
    let levels: Vec<Level> = Level::ALL.into_iter().filter(chosen).collect();
    if let (Some(only), true) = (options.level, levels.is_empty()) {
        return Err(error!(Argument, "level is '{}', above SETUN_CPU_LEVEL, '{}'", only.name(), best.name()));
    }
    let mut rows = Vec::new();
    if options.parity {
        // What `simd` is compared with, and for each level `simd` before the `parallel` that has to equal it.
        let executor = Executor::Pool(Arc::new(Pool::new(options.threads)?));
        rows.push(Row::new(Backend::Scalar, None, Executor::Serial));
        for level in levels.into_iter().map(Some) {
            rows.push(Row::new(Backend::Simd, level, Executor::Serial));
            rows.push(Row::new(Backend::Parallel, level, executor.clone()));
        }
        if options.cuda {
            rows.extend(gpu(false)?);
        }
        return Ok(rows);
    }
    if options.scalar {
        rows.push(Row::new(Backend::Scalar, None, Executor::Serial));
    }
    if options.simd {
        rows.extend(levels.iter().map(|&level| Row::new(Backend::Simd, Some(level), Executor::Serial)));
    }
    if options.parallel
        && let Some(&level) = levels.last()
    {
        let executor = Executor::Pool(Arc::new(Pool::new(options.threads)?));
        rows.push(Row::new(Backend::Parallel, Some(level), executor));
    }
    let asked = options.scalar || options.simd || options.parallel;
    ensure!(asked || options.cuda, Argument, "scalar, simd, parallel and cuda are all off, expected at least one");
    if options.cuda {
        rows.extend(gpu(!asked)?);
    }
    Ok(rows)
}

/// The cases that the options leave.
fn selected(options: &Options) -> Result<Vec<Case>> {
    let mut cases = cases();
    cases.retain(|case| case.operation.contains(options.filter) && (case.timed || options.parity));
    ensure!(!cases.is_empty(), Argument, "filter is '{}', which is in the name of no operation", options.filter);
    if options.quick {
        let mut seen = Vec::new();
        cases.retain(|case| {
            let first = !case.timed || !seen.contains(&case.operation);
            seen.push(case.operation);
            first
        });
    }
    Ok(cases)
}

/// Measures or compares, and hands each result to `report`, ceilings first; it returns false to stop.
pub fn run(
    options: &Options,
    report: &mut dyn FnMut(&Outcome) -> bool,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    ensure!(
        options.threads <= MAX_THREADS,
        Argument,
        "threads is {}, more than the {MAX_THREADS} allowed",
        options.threads
    );
    if options.parity {
        return comparing::compare(options, report, cancelled);
    }
    let (cases, rows) = (selected(options)?, rows(options)?);
    let seconds = if options.quick { options.seconds.min(0.005) } else { options.seconds };
    let mut ceilings = Ceilings::default();
    if options.ceilings && !ceilings.measure(&rows, seconds, options.quick, report, cancelled)? {
        return Ok(());
    }
    for case in &cases {
        // One set of arguments for the rows of the CPU, which is gone before the GPU's is made.
        let mut shared: Option<Call> = None;
        let mut reference = None;
        for row in rows.iter().filter(|row| row.backend == Backend::Cuda || !case.only_gpu) {
            let launch = &row.launch;
            let timing = if row.backend == Backend::Cuda {
                shared = None;
                let (gpu, mut call) = (launch.gpu()?, case.call_on(launch.gpu()?)?);
                time(seconds, cancelled, || call(row.kernels, launch), || gpu.finish())?
            } else {
                let call = match &mut shared {
                    Some(call) => call,
                    none => none.insert(case.call()?),
                };
                // As a training step does: the threads of the pool stand by.
                launch.executor.enter(|| time(seconds, cancelled, || call(row.kernels, launch), || Ok(())))?
            };
            if row.backend == Backend::Scalar {
                reference = Some(timing.minimum);
            }
            if !report(&outcome(case, row, timing, &ceilings, reference)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn outcome<'a>(
    case: &'a Case,
    row: &Row,
    timing: Timing,
    ceilings: &'a Ceilings,
    reference: Option<f64>,
) -> Outcome<'a> {
    let (amount, unit) = case.work.rate();
    Outcome {
        operation: case.operation,
        sizes: &case.sizes,
        is_ceiling: false,
        call_size: case.work.size,
        backend: row.backend,
        level: row.level,
        threads: row.threads(),
        timing,
        operations: case.work.operations(),
        bytes: case.work.bytes(),
        rate: amount / timing.minimum / 1e9,
        unit,
        ceiling: ceilings.bound(&case.work, row).map(|(name, least)| (name, least / timing.minimum)),
        speedup: reference.map(|reference| reference / timing.minimum),
        agrees: None,
        difference: String::new(),
    }
}
