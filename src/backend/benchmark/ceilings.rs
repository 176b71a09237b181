//! What bounds every operation on this machine, measured in the same run and at the same CPU level.

use super::cases::{Arithmetic, Work};
use super::timing::{Timing, time};
use super::{Outcome, Row};
use crate::backend::cuda::Gpu;
use crate::backend::launch::Executor;
use crate::backend::simd::{FLOAT_PEAK_ROUND, INT8_PEAK_CODES, INT8_PEAK_ROUND, READ_PEAK_BYTES, UNPACK_PEAK_ROUND};
use crate::backend::{Backend, Launch, Level};
use crate::tensor::{DType, Result, Tensor};
use parking_lot::Mutex;
use std::hint::black_box;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Peak(Arithmetic),
    Read,
    Copy,
}

/// One ceiling: what limits, how much memory the measurement went through, on how many threads.
struct Ceiling {
    kind: Kind,
    /// Of both sides together; 0 for a peak.
    bytes: usize,
    threads: usize,
    gpu: bool,
    name: String,
    /// Operations or bytes a second.
    rate: f64,
}

/// Memory that lies in the cache of a GPU, and memory that does not.
const GPU_SIZES: [(usize, &str); 2] = [(16 << 20, "16 MiB"), (1 << 30, "1 GiB")];

/// Memory that lies in the second cache of a core, in the last one of a processor, and in neither.
const SIZES: [(usize, &str); 3] = [(256 << 10, "256 KiB"), (16 << 20, "16 MiB"), (128 << 20, "128 MiB")];

#[derive(Default)]
pub struct Ceilings(Vec<Ceiling>);

impl Ceilings {
    /// Measures all for one thread and, where a row has more, for those; false when `report` stopped it.
    pub fn measure(
        &mut self,
        rows: &[Row],
        seconds: f64,
        quick: bool,
        report: &mut dyn FnMut(&Outcome) -> bool,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<bool> {
        let level = rows.iter().filter_map(|row| row.level).max();
        let level = level.map_or_else(Level::detect, Ok)?;
        let alone = Row::new(Backend::Simd, Some(level), Executor::Serial);
        let sizes = if quick { &SIZES[..1] } else { &SIZES };
        let mut arguments = vec![(Kind::Peak(Arithmetic::Float), 0, ""), (Kind::Peak(Arithmetic::Int8), 0, "")];
        arguments.push((Kind::Peak(Arithmetic::Packed), 0, ""));
        for kind in [Kind::Read, Kind::Copy] {
            arguments.extend(sizes.iter().map(|&(bytes, text)| (kind, bytes, text)));
        }
        let gpu = rows.iter().find(|row| row.backend == Backend::Cuda);
        // The rows of a GPU alone need no ceilings of the CPU.
        let alone = (rows.len() > usize::from(gpu.is_some())).then_some(&alone);
        let copies =
            GPU_SIZES[..if quick { 1 } else { 2 }].iter().map(|&(bytes, text)| (Kind::Copy, bytes, text)).collect();
        for row in [alone, rows.iter().find(|row| row.threads() > 1), gpu].into_iter().flatten() {
            let on_gpu = row.backend == Backend::Cuda;
            for &(kind, bytes, sizes) in if on_gpu { &copies } else { &arguments } {
                let launch = &row.launch;
                let (amount, timing) = match on_gpu {
                    true => copy_on(launch.gpu()?, bytes, seconds, cancelled)?,
                    false => launch.executor.enter(|| measured(kind, bytes, launch, seconds, cancelled))?,
                };
                let (operation, unit) = kind.names();
                let (operations, moved) = if bytes == 0 { (amount, 0.0) } else { (0.0, amount) };
                let outcome = Outcome {
                    operation,
                    sizes,
                    is_ceiling: true,
                    call_size: 0,
                    backend: row.backend,
                    level: row.level,
                    threads: row.threads(),
                    timing,
                    operations,
                    bytes: moved,
                    rate: amount / timing.minimum / 1e9,
                    unit,
                    ceiling: None,
                    speedup: None,
                    agrees: None,
                    difference: String::new(),
                };
                let name = format!("{operation} {sizes}").trim_end().to_owned();
                let (threads, rate) = (row.threads(), amount / timing.minimum);
                self.0.push(Ceiling { kind, bytes, threads, gpu: on_gpu, name, rate });
                if !report(&outcome) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The ceiling that bounds `work` on a row, and the least seconds that it leaves; None where none was measured.
    pub fn bound(&self, work: &Work, row: &Row) -> Option<(&str, f64)> {
        let gpu = row.backend == Backend::Cuda;
        let limits = [
            work.products.map(|kind| (Kind::Peak(kind), work.operations())),
            // What hardly writes is bound by reading alone, which takes a GPU as long as copying.
            Some((if 8 * work.written < work.read && !gpu { Kind::Read } else { Kind::Copy }, work.bytes())),
        ];
        let least = limits.into_iter().flatten().filter_map(|(kind, amount)| {
            let of_kind = self
                .0
                .iter()
                .filter(|ceiling| ceiling.kind == kind && (ceiling.threads, ceiling.gpu) == (row.threads(), gpu));
            // The memory nearest in size to the arguments.
            let distance = |ceiling: &&Ceiling| (work.bytes().max(1.0) / ceiling.bytes.max(1) as f64).ln().abs();
            let nearest = of_kind.min_by(|a, b| distance(a).total_cmp(&distance(b)));
            nearest.map(|ceiling| (ceiling.name.as_str(), amount / ceiling.rate))
        });
        least.max_by(|(_, a), (_, b)| a.total_cmp(b))
    }
}

impl Kind {
    /// The name, and the unit of the rate in billions a second.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::Peak(Arithmetic::Float) => ("f32 peak", "GFLOP/s"),
            Kind::Peak(Arithmetic::Int8) => ("int8 peak", "GOP/s"),
            Kind::Peak(Arithmetic::Packed) => ("unpack peak", "GOP/s"),
            Kind::Read => ("read", "GB/s"),
            Kind::Copy => ("copy", "GB/s"),
        }
    }
}

/// What one call does, and how long it takes.
fn measured(
    kind: Kind,
    bytes: usize,
    launch: &Launch,
    seconds: f64,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<(f64, Timing)> {
    let timed: Timed = &|call| {
        let call = || {
            call();
            Ok(())
        };
        time(seconds, cancelled, call, || Ok(()))
    };
    match kind {
        Kind::Peak(arithmetic) => peak(arithmetic, launch, timed),
        Kind::Read => read(bytes, launch, timed),
        Kind::Copy => copy(bytes, launch, timed),
    }
}

type Timed<'a> = &'a dyn Fn(&dyn Fn()) -> Result<Timing>;

/// More parts than threads, so that a thread that starts late leaves its share to the others.
fn parts(launch: &Launch) -> usize {
    match launch.executor.threads() {
        1 => 1,
        threads => 4 * threads,
    }
}

/// Arithmetic on registers, or nearly: some twenty microseconds a part.
fn peak(arithmetic: Arithmetic, launch: &Launch, timed: Timed) -> Result<(f64, Timing)> {
    let (parts, codes) = (parts(launch), [1u8; INT8_PEAK_CODES]);
    let rounds = if arithmetic == Arithmetic::Float { 2000 } else { 200 };
    let timing = timed(&|| {
        launch.executor.run(parts, &|_| {
            // SAFETY: the codes are as many as the entries state; the first has no pointers.
            unsafe {
                let codes = black_box(&codes).as_ptr();
                match arithmetic {
                    Arithmetic::Float => _ = black_box((launch.spans.float_peak)(black_box(0.5), rounds)),
                    Arithmetic::Int8 => _ = black_box((launch.spans.int8_peak)(codes, rounds)),
                    Arithmetic::Packed => _ = black_box((launch.spans.unpack_peak)(codes, rounds)),
                }
            }
        });
    })?;
    let a_round = match arithmetic {
        Arithmetic::Float => FLOAT_PEAK_ROUND,
        Arithmetic::Int8 => INT8_PEAK_ROUND,
        Arithmetic::Packed => UNPACK_PEAK_ROUND,
    };
    Ok(((parts * rounds * a_round) as f64, timing))
}

/// Memory that was written, so that it is really there.
fn touched(bytes: usize) -> Result<Tensor> {
    let mut memory = Tensor::zeros(DType::U8, &[bytes])?;
    memory.host_mut::<u8>()?.fill(1);
    Ok(memory)
}

fn read(bytes: usize, launch: &Launch, timed: Timed) -> Result<(f64, Timing)> {
    let memory = touched(bytes)?;
    let parts: Vec<&[u8]> =
        memory.host()?.chunks(bytes.div_ceil(parts(launch)).next_multiple_of(READ_PEAK_BYTES)).collect();
    let timing = timed(&|| {
        launch.executor.run(parts.len(), &|i| {
            // SAFETY: the part is as long as stated.
            black_box(unsafe { (launch.spans.read_peak)(parts[i].as_ptr(), parts[i].len()) });
        });
    })?;
    Ok((bytes as f64, timing))
}

/// The C library's memcpy, which knows the processor's best way: past its caches when the caches are too small.
fn copy(bytes: usize, launch: &Launch, timed: Timed) -> Result<(f64, Timing)> {
    let (from, mut to) = (touched(bytes / 2)?, touched(bytes / 2)?);
    let size = (bytes / 2).div_ceil(parts(launch)).next_multiple_of(READ_PEAK_BYTES);
    let pairs = from.host::<u8>()?.chunks(size).zip(to.host_mut::<u8>()?.chunks_mut(size));
    let parts: Vec<_> = pairs.map(Mutex::new).collect();
    let timing = timed(&|| {
        launch.executor.run(parts.len(), &|i| {
            let (from, to) = &mut *parts[i].lock();
            to.copy_from_slice(black_box(from));
        });
    })?;
    Ok((bytes as f64, timing))
}

/// The driver's copy on the device.
fn copy_on(gpu: &Arc<Gpu>, bytes: usize, seconds: f64, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<(f64, Timing)> {
    let (from, mut to) = (gpu.zeros(DType::U8, &[bytes / 2])?, gpu.zeros(DType::U8, &[bytes / 2])?);
    let timing = time(seconds, cancelled, || gpu.copy_view(&from.view(), &mut to.view_mut()), || gpu.finish())?;
    Ok((bytes as f64, timing))
}
