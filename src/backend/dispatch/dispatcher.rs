//! Every call of a context passes here: the entries of [`DISPATCHED`](crate::backend::table::DISPATCHED) ask which row takes it,
//! and the row's own table does the work.

use super::crossover::{self, Caller, Choice, Handoffs, Rate, Speed, choose, worth};
use super::offload::{Offload, Place};
use super::shape::{self, Unit};
use super::statistics::Statistics;
use super::{Backend, Level};
use crate::backend::cuda;
use crate::backend::launch::{Executor, Launch};
use crate::backend::pool::Pool;
use crate::backend::table::{Kernels, Operation};
use crate::tensor::Error;
use crate::tensor::log::{LogLevel, log};
use std::sync::Arc;
use std::time::Instant;

/// From which size on the pool, or a GPU, takes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    Measured,
    Size(u64),
}

/// One of so many calls of an operation measures a hand-off again, a fraction of a millisecond.
const LOOK_AGAIN: u64 = 1024;

/// The speeds on one thread by level and operation. They are the machine's, so all contexts share them.
static RATES: [[Rate; Operation::ALL.len()]; Level::ALL.len()] =
    [const { [const { Rate::new() }; Operation::ALL.len()] }; Level::ALL.len()];

pub struct Dispatcher {
    /// Of the row below, whose kernels `parallel` uses too.
    pub kernels: &'static Kernels,
    /// What runs on the calling thread: `scalar` or `simd`.
    pub row: Backend,
    pub level: Level,
    pub serial: Launch,
    /// Present when there is a pool of two threads or more.
    pub pooled: Option<(Launch, Arc<Pool>)>,
    /// Present when a GPU may take calls, whether there is one or not.
    pub offload: Option<Offload>,
    pub least: Least,
    pub verbose: bool,
    pub benchmark: bool,
    pub handoffs: Handoffs,
    pub statistics: Statistics,
}

/// A call on its way: between [`Dispatcher::begin`] and [`Call::end`].
pub struct Call<'a> {
    dispatcher: &'a Dispatcher,
    operation: Operation,
    place: Place,
    /// Among the CPU's.
    choice: Choice,
    on_device: bool,
    size: u64,
    bytes: u64,
    start: Option<Instant>,
}

impl Dispatcher {
    /// `bytes` of tensors, of which some may be `on_device`.
    pub fn begin(&self, operation: Operation, shapes: &[&[usize]], bytes: u64, on_device: bool) -> Call<'_> {
        let size = shape::size(operation, shapes);
        let number = self.statistics.number(operation);
        let place = self.place(operation, size, bytes, on_device, number);
        let choice = if place.is_gpu() { Choice::Serial } else { self.choose(operation, size, number) };
        let mut call = Call { dispatcher: self, operation, place, choice, on_device, size, bytes, start: None };
        call.begin();
        call
    }

    fn place(&self, operation: Operation, size: u64, bytes: u64, on_device: bool, number: u64) -> Place {
        match &self.offload {
            None => Place::Cpu,
            Some(offload) if on_device => {
                if offload.launch().is_some() {
                    Place::Gpu
                } else {
                    Place::Cpu
                }
            }
            Some(offload) => {
                let expected = size as f64 * self.speed(operation).nanoseconds / self.executor().threads() as f64;
                offload.choose(operation, size, bytes, expected, number)
            }
        }
    }

    pub(super) fn choose(&self, operation: Operation, size: u64, number: u64) -> Choice {
        let Some((_, pool)) = &self.pooled else { return Choice::Serial };
        match self.least {
            Least::Size(least) if size >= least => Choice::Pool,
            Least::Size(_) => Choice::Serial,
            Least::Measured if size <= operation.unit().tiny() => Choice::Serial,
            Least::Measured => {
                let caller = Caller::here();
                if number % LOOK_AGAIN == LOOK_AGAIN - 1 {
                    self.handoffs.look_again(pool, caller);
                }
                choose(size, self.speed(operation), self.worth(pool, caller), number)
            }
        }
    }

    fn worth(&self, pool: &Pool, caller: Caller) -> f64 {
        worth(self.handoffs.get(pool, caller), pool.threads())
    }

    fn rate(&self, operation: Operation) -> &'static Rate {
        &RATES[self.level as usize][operation as usize]
    }

    pub fn speed(&self, operation: Operation) -> Speed {
        self.rate(operation).speed(operation.unit())
    }

    /// The size from which on the pool takes calls of a measured crossover, made by `caller`.
    pub fn crossover(&self, operation: Operation, pool: &Pool, caller: Caller) -> u64 {
        let size = crossover::crossover(self.worth(pool, caller), self.speed(operation).nanoseconds);
        size.max(operation.unit().tiny() + 1)
    }

    /// The executor that is not asked which row: for whoever enters the pool once for many calls.
    pub fn executor(&self) -> &Executor {
        self.pooled.as_ref().map_or(&self.serial.executor, |(launch, _)| &launch.executor)
    }
}

impl Call<'_> {
    /// The GPU's, if the call is there.
    fn offload(&self) -> Option<&Offload> {
        self.dispatcher.offload.as_ref().filter(|_| self.place.is_gpu())
    }

    /// The row that does the work.
    fn row(&self) -> Backend {
        match self.offload() {
            Some(_) => Backend::Cuda,
            None if self.choice == Choice::Pool => Backend::Parallel,
            None => self.dispatcher.row,
        }
    }

    fn begin(&mut self) {
        let (dispatcher, operation, row) = (self.dispatcher, self.operation, self.row());
        dispatcher.statistics.count(operation, row, self.size, self.bytes);
        if dispatcher.verbose && dispatcher.statistics.is_news(operation, row) {
            log(LogLevel::Info, dispatcher.explain_call(operation, self.size, row));
        }
        let timed = matches!(self.place, Place::TimedCpu | Place::TimedGpu) || self.choice == Choice::Timed;
        self.start = (timed || dispatcher.benchmark).then(Instant::now);
    }

    pub fn kernels(&self) -> &'static Kernels {
        if self.offload().is_some() { &cuda::KERNELS } else { self.dispatcher.kernels }
    }

    pub fn launch(&self) -> &Launch {
        match (&self.dispatcher.pooled, self.offload().and_then(Offload::launch)) {
            (_, Some(launch)) => launch,
            (Some((launch, _)), None) if self.choice == Choice::Pool => launch,
            _ => &self.dispatcher.serial,
        }
    }

    /// False when the call has to be made again, elsewhere. A call that failed has not done its work: its time says nothing
    /// about the speed.
    pub fn end(&mut self, error: Option<&Error>) -> bool {
        if let (Some(error), Some(offload)) = (error, self.offload())
            && !self.on_device
            && offload.excuses(self.operation, error)
        {
            self.dispatcher.statistics.uncount(self.operation, Backend::Cuda, self.size, self.bytes);
            self.place = Place::Cpu;
            // No sample: it would be one of a machine in trouble.
            self.choice = match &self.dispatcher.pooled {
                Some(_) => Choice::Pool,
                None => Choice::Serial,
            };
            self.begin();
            return false;
        }
        let Some(start) = self.start else { return true };
        let elapsed = start.elapsed();
        if self.dispatcher.benchmark {
            self.dispatcher.statistics.time(self.operation, self.row(), elapsed);
        }
        if error.is_none() {
            if self.choice == Choice::Timed {
                self.dispatcher.rate(self.operation).learn(self.size, elapsed);
            }
            if let Some(offload) = &self.dispatcher.offload {
                offload.learn(self.operation, self.place, self.size, self.bytes, elapsed);
            }
        }
        true
    }
}

/// A number with its unit: "12000 elements".
pub fn amount(size: u64, unit: Unit) -> String {
    format!("{size} {}", unit.name())
}
