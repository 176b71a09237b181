//! Which calls go to a GPU. A context that was made for `cuda` sends all there. One that may choose sends those of
//! `min_size_for_cuda` and more; without one, those that were measured to be faster there, copies included, and only of
//! operations that give the same bits on every row: then only speed hangs on what was measured.
//!
//! Opening a device takes part of a second, so a context that measures does it when calls that might be faster there have taken
//! as long on the CPU: at most, it is twice as slow as if it had known. A call that fails there is made again on the CPU.

use super::crossover::Rate;
use super::dispatcher::Least;
use crate::backend::cuda::{self, Gpu};
use crate::backend::launch::Launch;
use crate::backend::simd::Spans;
use crate::backend::table::Operation;
use crate::backend::tolerance;
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Error, ErrorKind, Result};
use once_cell::sync::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A call that the CPU does in fewer nanoseconds is not worth the hand-off to a device.
const TEMPTING: f64 = 100_000.0;
/// Nanoseconds of calls on the CPU that are worth finding out whether a device is faster.
const OPENING: u64 = 300_000_000;
/// One of so many calls is made where it is thought to be slower, if not by more than the factor.
const REPEAT: u64 = 64;
const NEAR: f64 = 4.0;

/// Where a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Cpu,
    /// Timed, because a GPU might be faster.
    TimedCpu,
    Gpu,
    TimedGpu,
}

impl Place {
    pub fn is_gpu(self) -> bool {
        matches!(self, Place::Gpu | Place::TimedGpu)
    }
}

/// The GPU of a context.
pub struct Offload {
    pub ordinal: usize,
    /// The context was made for it: there is no choice, and errors are the caller's.
    pub insists: bool,
    pub least: Least,
    spans: &'static Spans,
    device: OnceCell<Option<Open>>,
    /// Why there is none, or none any more.
    lost: OnceCell<String>,
    /// Nanoseconds that calls have taken which might have been faster there, while the device was not open.
    owed: AtomicU64,
    /// By operation: on the CPU, and on the GPU without copies.
    rates: Vec<[Rate; 2]>,
    /// By operation: whether its first call on the GPU is over, for which the driver compiled the kernel.
    warm: Vec<AtomicBool>,
}

/// An open device.
struct Open {
    launch: Launch,
    /// Nanoseconds of a copy there and back, and of a byte of it.
    copy: (f64, f64),
}

impl Open {
    /// Nanoseconds of copying a call's bytes.
    fn moved(&self, bytes: u64) -> f64 {
        self.copy.0 + self.copy.1 * bytes as f64
    }
}

impl Offload {
    pub fn new(ordinal: usize, insists: bool, least: Least, spans: &'static Spans) -> Result<Offload> {
        let rates = Operation::ALL.iter().map(|_| [const { Rate::new() }; 2]).collect();
        let warm = Operation::ALL.iter().map(|_| AtomicBool::new(false)).collect();
        let (device, lost, owed) = (OnceCell::new(), OnceCell::new(), AtomicU64::new(0));
        let offload = Offload { ordinal, insists, least, spans, device, lost, owed, rates, warm };
        if insists {
            offload.device.get_or_try_init(|| offload.open().map(Some))?;
        }
        Ok(offload)
    }

    fn open(&self) -> Result<Open> {
        let gpu = Gpu::open(self.ordinal)?;
        // Copies matter where there is a choice by time.
        let measured = !self.insists && self.least == Least::Measured;
        let copy = if measured { gpu.time_of_copies()? } else { (0.0, 0.0) };
        Ok(Open { launch: Launch::on(gpu, self.spans), copy })
    }

    /// The device, opened now if it was not; None where that cannot be.
    fn device(&self) -> Option<&Open> {
        let device = self.device.get_or_init(|| {
            // No driver or no device is how most machines are.
            if let Ok(Err(absent @ cuda::Absent::Nothing(_))) = cuda::devices() {
                self.lost.get_or_init(|| absent.reason().into());
                return None;
            }
            self.open().inspect_err(|error| self.give_up(error)).ok()
        });
        device.as_ref()
    }

    pub fn launch(&self) -> Option<&Launch> {
        self.device().map(|device| &device.launch)
    }

    fn give_up(&self, error: &Error) {
        if self.lost.set(error.to_string()).is_ok() {
            log(LogLevel::Warning, format_args!("cuda is no longer used: {error}; the CPU takes its calls"));
        }
    }

    /// Who takes call number `number` of an operation, which the CPU is thought to do in `expected` nanoseconds.
    pub fn choose(&self, operation: Operation, size: u64, bytes: u64, expected: f64, number: u64) -> Place {
        if self.insists {
            return Place::Gpu;
        }
        if self.lost.get().is_some() {
            return Place::Cpu;
        }
        match self.least {
            Least::Size(least) if size >= least && self.device().is_some() => Place::Gpu,
            Least::Size(_) => Place::Cpu,
            Least::Measured if expected < TEMPTING || !tolerance::is_exact(operation) => Place::Cpu,
            Least::Measured => self.measured(operation, size, bytes, expected, number),
        }
    }

    fn measured(&self, operation: Operation, size: u64, bytes: u64, expected: f64, number: u64) -> Place {
        if self.device.get().is_none()
            && self.owed.fetch_add(expected as u64, Ordering::Relaxed).saturating_add(expected as u64) < OPENING
        {
            return Place::Cpu;
        }
        let Some(device) = self.device() else { return Place::Cpu };
        let (here, there) = self.nanoseconds(operation, size, bytes, device);
        choose(here, there, number)
    }

    /// What a call takes on the CPU, if that is known, and on the GPU, at least.
    fn nanoseconds(&self, operation: Operation, size: u64, bytes: u64, device: &Open) -> (Option<f64>, f64) {
        let [here, there] = self.rates[operation as usize].each_ref().map(Rate::known);
        (here.map(|rate| rate * size as f64), device.moved(bytes) + there.unwrap_or(0.0) * size as f64)
    }

    /// Notes what a timed call took.
    pub fn learn(&self, operation: Operation, place: Place, size: u64, bytes: u64, elapsed: Duration) {
        let [here, there] = &self.rates[operation as usize];
        match (place, self.device.get()) {
            (Place::TimedCpu, _) => here.learn(size, elapsed),
            (Place::TimedGpu, Some(Some(device))) if self.warm[operation as usize].swap(true, Ordering::Relaxed) => {
                there.learn(size, elapsed.saturating_sub(Duration::from_nanos(device.moved(bytes) as u64)));
            }
            _ => {}
        }
    }

    /// What is known of a call's times on both, in nanoseconds; None while the device is not open.
    pub fn times(&self, operation: Operation, size: u64, bytes: u64) -> Option<(Option<f64>, f64)> {
        let device = self.device.get()?.as_ref()?;
        Some(self.nanoseconds(operation, size, bytes, device))
    }

    /// Whether the CPU may make a call again that failed on the GPU.
    pub fn excuses(&self, operation: Operation, error: &Error) -> bool {
        let half_written = cuda::half_written();
        if self.insists || half_written {
            return false;
        }
        match error.kind {
            ErrorKind::Memory => {
                log(LogLevel::Warning, format_args!("{}: {error}; the CPU takes this call", operation.name()));
                true
            }
            ErrorKind::Device | ErrorKind::State => {
                self.give_up(error);
                true
            }
            _ => false,
        }
    }

    /// Why it is not used, or not any more.
    pub fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }
}

/// The first call is timed on the CPU, and then whichever is faster takes them; both are looked at again now and then.
fn choose(here: Option<f64>, there: f64, number: u64) -> Place {
    let Some(here) = here else { return Place::TimedCpu };
    let again = number % REPEAT == REPEAT - 1;
    match there < here {
        true if again && here < NEAR * there => Place::TimedCpu,
        true => Place::TimedGpu,
        false if again && there < NEAR * here => Place::TimedGpu,
        false => Place::TimedCpu,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_takes_the_calls_and_the_other_is_looked_at_again() {
        assert_eq!(choose(None, 0.0, 5), Place::TimedCpu, "the CPU is timed first");
        assert_eq!(choose(Some(10.0), 5.0, 5), Place::TimedGpu);
        assert_eq!(choose(Some(5.0), 10.0, 5), Place::TimedCpu);
        assert_eq!(choose(Some(10.0), 5.0, REPEAT - 1), Place::TimedCpu);
        assert_eq!(choose(Some(5.0), 10.0, REPEAT - 1), Place::TimedGpu);
        assert_eq!(choose(Some(100.0), 5.0, REPEAT - 1), Place::TimedGpu, "much slower is not worth another look");
        assert_eq!(choose(Some(5.0), 100.0, REPEAT - 1), Place::TimedCpu);
    }
}
