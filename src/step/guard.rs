//! The guard of a run: batches that are no text are skipped before they change anything, and a step that made its own batch worse
//! is undone. It only ever shrinks a step.
//!
//! A loss, and the logarithm of a gradient norm, is compared with a running mean of those before it and with how far they lay from
//! it: z above [`GuardOptions::spike`] is a spike. Many in a row are no batches but the run's own level.
//!
//! On schedule the batch of a step is evaluated again after it. With d the change of the loss and e its standard error over the
//! batch's parts, d > 2 e rejects the step. The ratio of the actual to the predicted change, by which trust-region methods adapt
//! their radius, is no measure here: in small batches it stays high whatever the radius is, and would cancel the annealing.

use crate::tensor::Result;
use crate::tensor::error::{ensure, error};

#[derive(Clone, Debug, PartialEq)]
pub struct GuardOptions {
    /// Steps between two checks; 0: only batches are looked at, and no step is.
    pub interval: u64,
    /// How many standard deviations above the mean a spike is.
    pub spike: f64,
    /// Standard errors by which a step may make its batch worse.
    pub tolerance: f64,
}

impl Default for GuardOptions {
    fn default() -> Self {
        GuardOptions { interval: 16, spike: 6.0, tolerance: 2.0 }
    }
}

impl GuardOptions {
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [("guard_spike", self.spike), ("guard_tolerance", self.tolerance)] {
            ensure!(value > 0.0 && value.is_finite(), Argument, "{name} is {value}, expected a positive number");
        }
        Ok(())
    }
}

/// Losses that are seen before any can be a spike.
const FIRST: u64 = 20;
/// Over how many the mean runs. A loss that falls by s a step is s times as many below it, which counts as deviation: over 64 of
/// them, the first hundred steps of a run hide what twice their loss is.
const MEAN_WINDOW: f64 = 8.0;
/// Over how many the deviations from it do.
const DEVIATION_WINDOW: f64 = 64.0;
/// Spikes that are skipped in a row. A batch says nothing of the next one: so many say that the run has come to another level, and
/// would stay there if nothing were learned.
const IN_A_ROW: u64 = 8;
/// The least deviation, as a share of the mean for losses: that of a run which has nothing left to learn.
const LEAST_SHARE: f64 = 2e-3;
/// Of logarithms of norms, whose deviation in a calm run is about half of this. A good batch of a text has 2.4 times the norm of
/// others now and then; what is 3.3 times the mean, e^(6 x 0.2), is a spike.
const LEAST_LOGARITHM: f64 = 0.2;
/// Acts among the last 64 steps that are too many.
const CONSTANTLY: u32 = 32;

/// A running mean, and the mean square of how far each number lay from the mean of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Running {
    pub mean: f64,
    pub variance: f64,
}

impl Running {
    /// How many deviations x is above the mean.
    fn z(&self, x: f64, least: f64) -> f64 {
        (x - self.mean) / self.variance.sqrt().max(least)
    }

    /// Exponentially weighted; the first numbers all count alike.
    fn add(&mut self, x: f64, seen: u64) {
        let difference = x - self.mean;
        self.mean += (1.0 / (seen as f64 + 1.0)).max(1.0 / MEAN_WINDOW) * difference;
        // The first has none before it.
        if seen > 0 {
            let rate = (1.0 / seen as f64).max(1.0 / DEVIATION_WINDOW);
            self.variance += rate * (difference * difference - self.variance);
        }
    }
}

/// What a guard remembers; part of the checkpoints of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Guard {
    /// Of losses and of logarithms of gradient norms, over so many batches since the run came to its level.
    pub loss: Running,
    pub norm: Running,
    pub seen: u64,
    /// A bit for each of the last 64 steps, the newest the lowest: 1 where the guard acted.
    pub history: u64,
    /// Spikes since the last batch that was taken. A batch that is no number says nothing of the level: it does not count among
    /// them, nor end them.
    pub spikes: u64,
    pub skipped: u64,
    pub checked: u64,
    pub undone: u64,
}

/// Why a batch is skipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Skip {
    NotFinite,
    Loss { z: f64 },
    Norm { z: f64 },
}

impl Guard {
    /// Why the batch with this loss and gradient norm is not to be learned from, if so. Remembers it.
    pub fn look(&mut self, options: &GuardOptions, loss: f64, norm: f64) -> Option<Skip> {
        let logarithm = norm.max(f64::MIN_POSITIVE).ln();
        let mut skip = if !(loss.is_finite() && norm.is_finite()) {
            Some(Skip::NotFinite)
        } else if self.seen < FIRST {
            None
        } else {
            let loss_z = self.loss.z(loss, LEAST_SHARE * self.loss.mean.abs());
            let norm_z = self.norm.z(logarithm, LEAST_LOGARITHM);
            match (loss_z > options.spike, norm_z > options.spike) {
                (true, _) => Some(Skip::Loss { z: loss_z }),
                (_, true) => Some(Skip::Norm { z: norm_z }),
                _ => None,
            }
        };
        if matches!(skip, Some(Skip::Loss { .. } | Skip::Norm { .. })) {
            if self.spikes >= IN_A_ROW {
                (self.loss, self.norm, self.seen) = Default::default();
                skip = None;
            }
            self.spikes += 1;
        }
        self.history = self.history << 1 | u64::from(skip.is_some());
        match skip {
            Some(_) => self.skipped += 1,
            None => {
                self.spikes = 0;
                self.loss.add(loss, self.seen);
                self.norm.add(logarithm, self.seen);
                self.seen += 1;
            }
        }
        skip
    }

    /// Whether the step of this number is to be checked.
    pub fn is_due(&self, options: &GuardOptions, step: u64) -> bool {
        options.interval > 0 && step.is_multiple_of(options.interval)
    }

    /// Whether a step may stay whose batch had these losses before and after it, part by part. Remembers it.
    pub fn judge(&mut self, options: &GuardOptions, before: &[f32], after: &[f32]) -> bool {
        let n = before.len().max(1) as f64;
        let change = |i: usize| f64::from(after[i]) - f64::from(before[i]);
        let mean = (0..before.len()).map(change).sum::<f64>() / n;
        let squares = (0..before.len()).map(|i| (change(i) - mean).powi(2)).sum::<f64>();
        // Of one part there is no deviation to know: any change counts.
        let error = if n > 1.0 { (squares / (n - 1.0) / n).sqrt() } else { 0.0 };
        self.judge_change(options, mean, error)
    }

    /// The same of the mean change and its standard error.
    pub fn judge_change(&mut self, options: &GuardOptions, mean: f64, error: f64) -> bool {
        let stays = mean <= options.tolerance * error;
        self.checked += 1;
        if !stays {
            self.undone += 1;
            self.history |= 1;
        }
        stays
    }

    /// STATE where the guard acts all the time: then the run is not one that skipping and undoing can help.
    pub fn check_health(&self) -> Result<()> {
        let acted = self.history.count_ones();
        if acted <= CONSTANTLY {
            return Ok(());
        }
        Err(error!(
            State,
            "the guard acted in {acted} of the last 64 steps ({} batches skipped, {} steps undone in all): the learning rate or \
             the radius is too high for this model, or the text is not what the model can learn",
            self.skipped,
            self.undone
        ))
    }

    /// As numbers of a checkpoint.
    pub fn to_numbers(self) -> [f64; 11] {
        let Guard { loss, norm, seen, history, spikes, skipped, checked, undone } = self;
        // Two halves of the history: a double counts no 64 bits.
        let halves = [(history >> 32) as f64, (history & 0xFFFF_FFFF) as f64];
        let counts = [seen as f64, skipped as f64, checked as f64, undone as f64];
        let [high, low] = halves;
        let [seen, skipped, checked, undone] = counts;
        [loss.mean, loss.variance, norm.mean, norm.variance, seen, high, low, skipped, checked, undone, spikes as f64]
    }

    /// None for numbers that no guard has. Ten have no count of spikes in a row: it begins at 0.
    pub fn from_numbers(numbers: &[f64]) -> Option<Guard> {
        let (&[mean, variance, norm_mean, norm_variance, seen, high, low, skipped, checked, undone], rest) =
            numbers.split_first_chunk::<10>()?;
        let spikes = match *rest {
            [] => 0.0,
            [spikes] => spikes,
            _ => return None,
        };
        let counts = [seen, high, low, skipped, checked, undone, spikes];
        let whole = counts.iter().all(|&x| x >= 0.0 && x.fract() == 0.0 && x < 2f64.powi(53));
        let finite = [mean, variance, norm_mean, norm_variance].iter().all(|x| x.is_finite());
        let fits =
            whole && finite && high < 2f64.powi(32) && low < 2f64.powi(32) && variance >= 0.0 && norm_variance >= 0.0;
        fits.then_some(Guard {
            loss: Running { mean, variance },
            norm: Running { mean: norm_mean, variance: norm_variance },
            seen: seen as u64,
            history: (high as u64) << 32 | low as u64,
            spikes: spikes as u64,
            skipped: skipped as u64,
            checked: checked as u64,
            undone: undone as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::random::{Purpose, Stream};

    fn losses(count: u64) -> impl Iterator<Item = f64> {
        let stream = Stream::new(1, Purpose::Test, 0, 0);
        (0..count).map(move |i| 3.0 * (-(i as f64) / 300.0).exp() + 1.5 + 0.05 * f64::from(stream.normal(i)))
    }

    #[test]
    fn a_healthy_run_is_left_alone() {
        let (mut guard, options) = (Guard::default(), GuardOptions::default());
        for loss in losses(2000) {
            assert_eq!(guard.look(&options, loss, loss), None);
        }
        guard.check_health().unwrap();
        assert_eq!((guard.seen, guard.skipped, guard.history), (2000, 0, 0));
    }

    #[test]
    fn bad_batches_are_skipped_and_leave_the_mean_alone() {
        let (mut guard, options) = (Guard::default(), GuardOptions::default());
        losses(500).for_each(|loss| assert_eq!(guard.look(&options, loss, 1.0), None));
        let before = guard;
        assert!(matches!(guard.look(&options, 6.0, 1.0), Some(Skip::Loss { z }) if z > 6.0));
        assert!(matches!(guard.look(&options, before.loss.mean, 1000.0), Some(Skip::Norm { z }) if z > 6.0));
        for (loss, norm) in [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (1.0, f64::NAN)] {
            assert_eq!(guard.look(&options, loss, norm), Some(Skip::NotFinite));
        }
        assert_eq!((guard.loss, guard.norm, guard.seen), (before.loss, before.norm, before.seen));
        assert_eq!((guard.skipped, guard.history), (5, 0b11111));
        // A loss that falls is no spike, however far, and no norm of three times the mean.
        assert_eq!(guard.look(&options, 0.01, 3.0), None);
        assert_eq!(guard.look(&options, 0.01, 1e-3), None);
    }

    /// The loss of a run in its first hundred steps, as that of size S: from 4.2 to 2.5, with noise of .05.
    #[test]
    fn a_bad_batch_is_seen_while_the_loss_falls() {
        let (options, stream) = (GuardOptions::default(), Stream::new(2, Purpose::Test, 0, 0));
        let fall = |i: u64| 2.4 + 1.8 * (-(i as f64) / 40.0).exp() + 0.05 * f64::from(stream.normal(i));
        for bad in [50, 70, 90, 120, 180] {
            let mut guard = Guard::default();
            for i in 0..bad {
                assert_eq!(guard.look(&options, fall(i), 1.0), None, "batch {i}");
            }
            assert!(matches!(guard.look(&options, 2.0 * fall(bad), 1.0), Some(Skip::Loss { .. })), "batch {bad}");
        }
    }

    #[test]
    fn spikes_in_a_row_are_another_level() {
        let (options, level) = (GuardOptions::default(), 4.5);
        for norm in [1.0, 5.0] {
            let mut guard = Guard::default();
            losses(500).for_each(|loss| assert_eq!(guard.look(&options, loss, 1.0), None));
            let loss = if norm > 1.0 { guard.loss.mean } else { level };
            for i in 0..8 {
                assert!(guard.look(&options, loss, norm).is_some(), "{i}");
            }
            // The ninth is taken, and what comes after is measured by it.
            assert_eq!(guard.look(&options, loss, norm), None);
            assert_eq!((guard.loss.mean, guard.seen, guard.skipped), (loss, 1, 8));
            (0..30).for_each(|_| assert_eq!(guard.look(&options, loss, norm), None));
            assert!(guard.look(&options, 2.0 * loss, norm).is_some());
            guard.check_health().unwrap();
        }
        // What is no number stays out, however often, and what is no spike after it is nothing new.
        let mut guard = Guard::default();
        losses(500).for_each(|loss| assert_eq!(guard.look(&options, loss, 1.0), None));
        (0..20).for_each(|_| assert_eq!(guard.look(&options, f64::NAN, 1.0), Some(Skip::NotFinite)));
        let mean = guard.loss.mean;
        let calm = guard;
        assert_eq!(guard.look(&options, mean, 1.0), None);
        assert_eq!(guard.seen, 501);
        // Nor is a spike after it more than the first, and batches that are no numbers do not end a run of spikes.
        guard = calm;
        for i in 0..8 {
            assert!(matches!(guard.look(&options, level, 1.0), Some(Skip::Loss { .. })), "{i}");
            assert_eq!(guard.look(&options, f64::NAN, 1.0), Some(Skip::NotFinite));
        }
        assert_eq!(guard.look(&options, level, 1.0), None);
        // An undone step is no spike either.
        guard = calm;
        for _ in 0..9 {
            assert_eq!(guard.look(&options, mean, 1.0), None);
            assert!(!guard.judge(&options, &[1.0], &[2.0]));
        }
        assert!(matches!(guard.look(&options, level, 1.0), Some(Skip::Loss { .. })));
    }

    #[test]
    fn a_step_is_judged_by_the_error_of_the_change() {
        let (mut guard, options) = (Guard::default(), GuardOptions::default());
        assert!(guard.judge(&options, &[1.0, 2.0, 3.0], &[0.9, 1.9, 2.9]));
        // Worse by .1 everywhere: no error at all. Worse on average by .1, with an error of .1.
        assert!(!guard.judge(&options, &[1.0, 2.0, 3.0], &[1.1, 2.1, 3.1]));
        assert!(guard.judge(&options, &[0.0; 3], &[0.1, 0.1 + 0.173, 0.1 - 0.173]));
        assert_eq!((guard.checked, guard.undone, guard.history), (3, 1, 1));
        assert!(!guard.judge(&options, &[1.0], &[f32::NAN]), "a loss that is no number is worse than any");
    }

    #[test]
    fn a_run_that_needs_it_all_the_time_is_stopped() {
        let (mut guard, options) = (Guard::default(), GuardOptions::default());
        for _ in 0..32 {
            guard.look(&options, f64::NAN, 1.0);
            guard.check_health().unwrap();
        }
        guard.look(&options, f64::NAN, 1.0);
        let error = guard.check_health().unwrap_err();
        assert!(error.message.starts_with("the guard acted in 33 of the last 64 steps"), "{error}");
        for _ in 0..64 {
            guard.look(&options, 1.0, 1.0);
        }
        guard.check_health().unwrap();
    }

    #[test]
    fn it_survives_as_numbers() {
        let (mut guard, options) = (Guard::default(), GuardOptions::default());
        for loss in losses(100) {
            guard.look(&options, if loss > 4.4 { f64::NAN } else { loss }, 2.0);
        }
        guard.judge(&options, &[1.0], &[2.0]);
        guard.look(&options, 40.0, 2.0);
        assert_eq!((guard.spikes, Guard::from_numbers(&guard.to_numbers())), (1, Some(guard)));
        assert_eq!(Guard::from_numbers(&guard.to_numbers()[..10]), Some(Guard { spikes: 0, ..guard }));
        let mut bad = guard.to_numbers();
        for (at, value) in [(0, f64::NAN), (1, -1.0), (4, 0.5), (5, 2f64.powi(32)), (9, -1.0), (10, 1.5)] {
            bad[at] = value;
            assert_eq!(Guard::from_numbers(&bad), None);
            bad = guard.to_numbers();
        }
        assert_eq!(Guard::from_numbers(&bad[2..]), None);
        assert_eq!(Guard::from_numbers(&[&bad[..], &[0.0]].concat()), None);
    }
}
