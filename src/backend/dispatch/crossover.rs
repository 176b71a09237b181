//! From which size on a call is worth handing to the pool. Both rows give the same bits, so only speed hangs on it.
//!
//! The caller begins with a call at once, alone; a hand-off h later the other threads are there to share what is left. So
//! the pool takes calls that would last longer than h on one thread. Inside of a region (a training step is one) its threads
//! stand by, and h is much smaller than where they have to be woken. h is measured at the first call that asks, once per process
//! and number of threads, and looked at again now and then; the time of a call is its size times the time of a unit, learned from
//! calls that ran on one thread and were timed.

use super::shape::Unit;
use crate::backend::pool::Pool;
use crate::backend::team::Team;
use crate::tensor::sort_few;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// From where a call is made: what handing it over costs depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Outside of every region: the pool's threads have to be woken.
    Outside,
    /// In a region, where they stand by.
    Inside,
}

impl Caller {
    /// The calling thread's. A region of another context counts as well: it is nearly always one of the same program's.
    pub fn here() -> Caller {
        if Team::is_in_any() { Caller::Inside } else { Caller::Outside }
    }
}

/// Nanoseconds on one thread from which on the pool is faster: the caller works alone until the others have come.
pub fn worth(handoff: f64, threads: usize) -> f64 {
    if threads > 1 { handoff } else { f64::INFINITY }
}

/// The same in units of an operation that takes `nanoseconds` for each.
pub fn crossover(worth: f64, nanoseconds: f64) -> u64 {
    (worth / nanoseconds).ceil() as u64
}

/// What is known of an operation's speed on one thread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Nanoseconds a unit; assumed while no call was timed.
    pub nanoseconds: f64,
    /// Calls that were timed.
    pub samples: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Serial,
    /// Serial, and timed to learn the operation's speed.
    Timed,
    Pool,
}

/// So many timed calls are believed. The first ones write to memory that was never touched before.
const BELIEVED: u32 = 4;
/// Until then calls are timed that look up to so many times as long as the crossover: wrong assumptions cost a millisecond.
const DOUBT: f64 = 16.0;
/// One of so many calls is timed afterwards, also of those near the crossover that the pool would take.
const REPEAT: u64 = 64;
const NEAR: f64 = 4.0;

/// Who takes call number `call` of an operation, of `size` units, given what a hand-off is [`worth`].
pub fn choose(size: u64, speed: Speed, worth: f64, call: u64) -> Choice {
    let serial = size as f64 * speed.nanoseconds;
    if speed.samples < BELIEVED && serial < DOUBT * worth {
        return Choice::Timed;
    }
    let repeat = call.is_multiple_of(REPEAT);
    match serial < worth {
        true if repeat => Choice::Timed,
        true => Choice::Serial,
        false if repeat && serial < NEAR * worth => Choice::Timed,
        false => Choice::Pool,
    }
}

/// The speed of one operation at one CPU level, shared by all contexts of the process.
pub struct Rate {
    /// Nanoseconds a unit, as the bits of an f64; 0 while unknown.
    nanoseconds: AtomicU64,
    samples: AtomicU32,
}

impl Rate {
    pub const fn new() -> Rate {
        Rate { nanoseconds: AtomicU64::new(0), samples: AtomicU32::new(0) }
    }

    pub fn speed(&self, unit: Unit) -> Speed {
        match (self.samples.load(Ordering::Relaxed), f64::from_bits(self.nanoseconds.load(Ordering::Relaxed))) {
            (0, _) | (_, 0.0) => Speed { nanoseconds: unit.assumed(), samples: 0 },
            (samples, nanoseconds) => Speed { nanoseconds, samples },
        }
    }

    /// Nanoseconds a unit, if a call was timed.
    pub fn known(&self) -> Option<f64> {
        (self.samples.load(Ordering::Relaxed) > 0).then(|| f64::from_bits(self.nanoseconds.load(Ordering::Relaxed)))
    }

    /// Notes that `size` units took `elapsed` on one thread. A race between two threads loses a sample.
    pub fn learn(&self, size: u64, elapsed: Duration) {
        let sample = (elapsed.as_nanos() as f64).max(1.0) / size.max(1) as f64;
        let known = f64::from_bits(self.nanoseconds.load(Ordering::Relaxed));
        self.nanoseconds.store(learned(known, sample).to_bits(), Ordering::Relaxed);
        self.samples.fetch_add(1, Ordering::Relaxed);
    }
}

/// A faster sample is believed, a slower one by a quarter at most: interruptions and cold caches only ever add time.
fn learned(known: f64, sample: f64) -> f64 {
    if known == 0.0 { sample } else { sample.min(1.25 * known) }
}

// --- the hand-off ------------------------------------------------------------------------------------------------------------

/// What a hand-off takes in nanoseconds while it is being measured: the usual magnitude.
const ASSUMED: [f64; 2] = [20_000.0, 2_000.0];

/// Measured hand-offs by number of threads and [`Caller`].
static MEASURED: Mutex<BTreeMap<(usize, usize), f64>> = Mutex::new(BTreeMap::new());

/// A context's copy of the hand-offs to its pool.
pub struct Handoffs([AtomicU64; 2]);

const UNKNOWN: u64 = 0;
const MEASURING: u64 = 1;

impl Handoffs {
    pub const fn new() -> Handoffs {
        Handoffs([const { AtomicU64::new(UNKNOWN) }; 2])
    }

    /// Nanoseconds; measured at the first question, in less than three milliseconds. No lock is held meanwhile: another
    /// thread's call takes the usual magnitude.
    pub fn get(&self, pool: &Pool, caller: Caller) -> f64 {
        let slot = &self.0[caller as usize];
        let found = match slot.compare_exchange(UNKNOWN, MEASURING, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {
                let key = (pool.threads(), caller as usize);
                // Never waited for: a forked child may have a copy that was locked by a thread which it does not have.
                let known = MEASURED.try_lock().and_then(|measured| measured.get(&key).copied());
                let found = known.unwrap_or_else(|| measure(pool, caller));
                // The first answer stays, whoever else has measured meanwhile.
                let found = MEASURED.try_lock().map_or(found, |mut measured| *measured.entry(key).or_insert(found));
                slot.store(found.to_bits(), Ordering::Relaxed);
                return found;
            }
            Err(found) => found,
        };
        if found == MEASURING { ASSUMED[caller as usize] } else { f64::from_bits(found) }
    }

    /// Measures one more hand-off, so that a process that began on a busy machine does not keep what it found there.
    pub fn look_again(&self, pool: &Pool, caller: Caller) {
        let slot = &self.0[caller as usize];
        let known = slot.load(Ordering::Relaxed);
        if known != UNKNOWN && known != MEASURING {
            let found = learned(f64::from_bits(known), meet(pool));
            // Whoever has measured meanwhile knows as much.
            let _ = slot.compare_exchange(known, found.to_bits(), Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// The lower quartile of some hand-offs, in nanoseconds: what other programs on the machine take is no part of it.
fn measure(pool: &Pool, caller: Caller) -> f64 {
    const TIMES: usize = 9;
    let mut found = [0.0; TIMES];
    for time in &mut found {
        if caller == Caller::Outside {
            // Between the calls of a program the pool's threads fall asleep.
            spin(Duration::from_micros(50));
        }
        *time = meet(pool);
    }
    sort_few(&mut found, |a, b| a.total_cmp(b).is_lt());
    found[TIMES / 4]
}

/// Two chunks that wait for each other: done when two threads are at work. On a machine too busy for that, they give up.
/// Returns the nanoseconds until then.
fn meet(pool: &Pool) -> f64 {
    const PATIENCE: Duration = Duration::from_micros(200);
    let (start, arrived) = (Instant::now(), AtomicUsize::new(0));
    pool.run(2, &|_| {
        let start = Instant::now();
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < 2 && start.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
    });
    start.elapsed().as_nanos() as f64
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Speed = Speed { nanoseconds: 0.5, samples: BELIEVED };

    #[test]
    fn the_crossover_is_where_the_others_still_find_work() {
        for threads in [2, 3, 8] {
            let worth = worth(10_000.0, threads);
            assert_eq!(crossover(worth, 0.5), 20_000);
            assert_eq!(choose(19_999, KNOWN, worth, 1), Choice::Serial);
            assert_eq!(choose(20_000, KNOWN, worth, 1), Choice::Pool);
        }
        assert_eq!(choose(u64::MAX, KNOWN, worth(10_000.0, 1), 1), Choice::Serial);
    }

    #[test]
    fn an_unknown_speed_is_timed_unless_the_call_is_large() {
        let unknown = Speed { nanoseconds: 0.5, samples: 0 };
        let worth = 20_000.0;
        assert_eq!(choose(100, unknown, worth, 1), Choice::Timed);
        assert_eq!(choose(600_000, unknown, worth, 1), Choice::Timed);
        assert_eq!(choose(700_000, unknown, worth, 1), Choice::Pool);
        assert_eq!(choose(600_000, Speed { samples: BELIEVED - 1, ..unknown }, worth, 1), Choice::Timed);
        assert_eq!(choose(600_000, KNOWN, worth, 1), Choice::Pool);
    }

    #[test]
    fn a_known_speed_is_looked_at_again_now_and_then() {
        let worth = 20_000.0;
        for (size, usual, again) in [
            (100, Choice::Serial, Choice::Timed),
            (100_000, Choice::Pool, Choice::Timed),
            (1 << 20, Choice::Pool, Choice::Pool),
        ] {
            assert_eq!(choose(size, KNOWN, worth, REPEAT - 1), usual);
            assert_eq!(choose(size, KNOWN, worth, REPEAT), again);
        }
    }

    #[test]
    fn fast_samples_are_believed_and_slow_ones_little() {
        assert_eq!(learned(0.0, 3.0), 3.0);
        assert_eq!(learned(3.0, 1.0), 1.0);
        assert_eq!(learned(1.0, 100.0), 1.25);
        assert_eq!(learned(1.0, 1.1), 1.1);
        let rate = Rate::new();
        assert_eq!(rate.speed(Unit::Elements), Speed { nanoseconds: Unit::Elements.assumed(), samples: 0 });
        rate.learn(1000, Duration::from_nanos(400));
        assert_eq!(rate.speed(Unit::Elements), Speed { nanoseconds: 0.4, samples: 1 });
        rate.learn(0, Duration::ZERO);
        assert!(rate.speed(Unit::Elements).nanoseconds > 0.0);
    }

    #[test]
    fn a_hand_off_is_measured_once_from_each_side() {
        let pool = Pool::new(2).unwrap();
        let (one, two) = (Handoffs::new(), Handoffs::new());
        assert_eq!(Caller::here(), Caller::Outside);
        assert_eq!(pool.enter(Caller::here), Caller::Inside);
        let outside = one.get(&pool, Caller::Outside);
        let inside = pool.enter(|| one.get(&pool, Caller::Inside));
        assert!(outside >= 100.0 && inside >= 100.0 && outside < 1e9 && inside < 1e9, "{outside} and {inside}");
        assert_eq!([one.get(&pool, Caller::Outside), one.get(&pool, Caller::Inside)], [outside, inside]);
        assert_eq!([two.get(&pool, Caller::Outside), two.get(&pool, Caller::Inside)], [outside, inside]);
        one.look_again(&pool, Caller::Outside);
        let again = one.get(&pool, Caller::Outside);
        assert!(again >= 100.0 && again <= 1.25 * outside, "{again} after {outside}");
        Handoffs::new().look_again(&pool, Caller::Outside);
    }
}
