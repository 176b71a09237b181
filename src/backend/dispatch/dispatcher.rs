//! Every call of a context passes here: the entries of [`DISPATCHED`](crate::backend::table::DISPATCHED) ask which row takes it,
//! and the row's own table does the work.

use super::crossover::{self, Caller, Choice, Handoffs, Rate, Speed, choose, worth};
use super::shape::{self, Unit};
use super::statistics::Statistics;
use super::{Backend, Level};
use crate::backend::launch::{Executor, Launch};
use crate::backend::pool::Pool;
use crate::backend::table::{Kernels, Operation};
use crate::tensor::log::{LogLevel, log};
use std::sync::Arc;
use std::time::Instant;

/// From which size on the pool takes a call.
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
    row: Backend,
    size: u64,
    learn: bool,
    start: Option<Instant>,
}

impl Dispatcher {
    pub fn begin(&self, operation: Operation, shapes: &[&[usize]], bytes: u64) -> Call<'_> {
        let size = shape::size(operation, shapes);
        let number = self.statistics.number(operation);
        let choice = self.choose(operation, size, number);
        let row = if choice == Choice::Pool { Backend::Parallel } else { self.row };
        self.statistics.count(operation, row, size, bytes);
        if self.verbose && self.statistics.is_news(operation, row) {
            log(LogLevel::Info, self.explain_call(operation, size, row));
        }
        let learn = choice == Choice::Timed;
        let start = (learn || self.benchmark).then(Instant::now);
        Call { dispatcher: self, operation, row, size, learn, start }
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
    pub fn kernels(&self) -> &'static Kernels {
        self.dispatcher.kernels
    }

    pub fn launch(&self) -> &Launch {
        match &self.dispatcher.pooled {
            Some((launch, _)) if self.row == Backend::Parallel => launch,
            _ => &self.dispatcher.serial,
        }
    }

    /// A call that failed has not done its work: its time says nothing about the speed.
    pub fn end(self, succeeded: bool) {
        let Some(start) = self.start else { return };
        let elapsed = start.elapsed();
        if self.dispatcher.benchmark {
            self.dispatcher.statistics.time(self.operation, self.row, elapsed);
        }
        if self.learn && succeeded {
            self.dispatcher.rate(self.operation).learn(self.size, elapsed);
        }
    }
}

/// A number with its unit: "12000 elements".
pub fn amount(size: u64, unit: Unit) -> String {
    format!("{size} {}", unit.name())
}
