//! Where the loss is going, from the losses of the steps: two numbers that stay the same when all losses are multiplied, and
//! when a number is added to all.
//!
//! ```text
//! fast, slow   running means of the loss over the last 10 and 100 steps
//! noise        the standard deviation of one loss about its course: half the mean square of l_t - l_(t - 1), over 100 steps
//!              (von Neumann et al. 1941), and its root
//! trend        (fast - slow) / noise: negative while the loss falls
//! height       (fast - the least that fast has been) / noise
//! ```
//!
//! A quotient x becomes x / (1 + |x|). A running mean over n steps is the plain mean of the first n.

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trend {
    count: u64,
    last: f64,
    fast: f64,
    slow: f64,
    variance: f64,
    least: f64,
    /// The last loss was a NaN, an infinity, or so far from the one before that their distance has no square.
    lost: bool,
}

const FAST: f64 = 10.0;
const SLOW: f64 = 100.0;
/// f64 counts so far exactly.
const MOST: u64 = 1 << 53;

/// How many numbers [`Trend::numbers`] has.
pub const NUMBERS: usize = 7;

impl Trend {
    /// The loss of one more step. One that is not finite leaves no trace but that nothing is known until the next.
    pub fn observe(&mut self, loss: f64) {
        let mut next = *self;
        next.count = (self.count + 1).min(MOST);
        if self.count == 0 {
            next = Trend { count: 1, last: loss, fast: loss, slow: loss, least: loss, ..next };
        } else {
            let mean = |mean: f64, x: f64, over: f64, count: u64| mean + (x - mean) / over.min(count as f64);
            let change = loss - self.last;
            next.fast = mean(self.fast, loss, FAST, next.count);
            next.slow = mean(self.slow, loss, SLOW, next.count);
            next.variance = mean(self.variance, change * change / 2.0, SLOW, self.count);
            next.least = self.least.min(next.fast);
            next.last = loss;
        }
        next.lost = false;
        let known = [next.last, next.fast, next.slow, next.variance].iter().all(|x| x.is_finite());
        *self = if known { next } else { Trend { lost: true, ..*self } };
    }

    /// Trend and height; 0 before the second loss.
    pub fn features(&self) -> Option<[f64; 2]> {
        let noise = self.variance.sqrt();
        let share = |x: f64| if x == 0.0 { 0.0 } else { x / (x.abs() + noise) };
        let found = [self.fast - self.slow, self.fast - self.least];
        (!self.lost && found.iter().all(|x| x.is_finite())).then(|| found.map(share))
    }

    /// All of it, for a checkpoint.
    pub fn numbers(&self) -> [f64; NUMBERS] {
        let Trend { count, last, fast, slow, variance, least, lost } = *self;
        [count as f64, last, fast, slow, variance, least, f64::from(lost)]
    }

    /// None for numbers that no losses leave.
    pub fn of(numbers: [f64; NUMBERS]) -> Option<Trend> {
        let [count, last, fast, slow, variance, least, lost] = numbers;
        let trend = Trend { count: count as u64, last, fast, slow, variance, least, lost: lost == 1.0 };
        let finite = numbers.iter().all(|x| x.is_finite());
        let empty = [last, fast, slow, variance, least].iter().all(|&x| x == 0.0);
        let possible = variance >= 0.0 && least <= fast && trend.count <= MOST && (trend.count > 0 || empty);
        // What is read is written again as it was: no count of 1.5, no other sign of a zero.
        let same = trend.numbers().iter().zip(numbers).all(|(a, b)| a.to_bits() == b.to_bits());
        (finite && possible && same).then_some(trend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::random::{Purpose, Stream};

    fn after(losses: impl IntoIterator<Item = f64>) -> Trend {
        let mut trend = Trend::default();
        losses.into_iter().for_each(|loss| trend.observe(loss));
        trend
    }

    fn noisy(steps: u64, slope: f64) -> impl Iterator<Item = f64> {
        let stream = Stream::new(3, Purpose::Test, 0, 0);
        (0..steps).map(move |i| 5.0 + slope * i as f64 + 0.1 * f64::from(stream.normal(i)))
    }

    #[test]
    fn it_tells_falling_from_level_and_rising() {
        let [falling, level, rising] = [-0.01, 0.0, 0.01].map(|slope| after(noisy(300, slope)).features().unwrap());
        assert!(falling[0] < -0.5 && level[0].abs() < 0.4 && rising[0] > 0.5, "{falling:?} {level:?} {rising:?}");
        assert!(falling[1] < 0.4 && rising[1] > 0.9, "{falling:?} {rising:?}");
    }

    #[test]
    fn it_has_no_unit_and_no_zero_point() {
        let plain = after(noisy(200, 0.002)).features().unwrap();
        let doubled = after(noisy(200, 0.002).map(|loss| 1024.0 * loss)).features().unwrap();
        let moved = after(noisy(200, 0.002).map(|loss| loss + 8.0)).features().unwrap();
        assert_eq!(plain, doubled);
        assert!(plain.iter().zip(moved).all(|(a, b)| (a - b).abs() < 1e-9), "{plain:?} {moved:?}");
    }

    #[test]
    fn a_loss_without_noise_is_no_division_by_zero() {
        assert_eq!(Trend::default().features(), Some([0.0, 0.0]));
        assert_eq!(after([2.0; 40]).features(), Some([0.0, 0.0]));
        assert_eq!(after([2.0]).features(), Some([0.0, 0.0]));
    }

    #[test]
    fn a_loss_that_is_not_finite_leaves_no_trace() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            let mut trend = after(noisy(20, -0.1));
            let before = trend;
            trend.observe(bad);
            assert_eq!((trend.features(), Trend { lost: false, ..trend }), (None, before));
            trend.observe(4.0);
            let mut other = before;
            other.observe(4.0);
            assert_eq!(trend, other);
        }
        assert_eq!(after([f64::NAN, 1.0]), after([1.0]));
    }

    #[test]
    fn its_numbers_are_all_of_it() {
        for trend in [Trend::default(), after(noisy(50, 0.1)), after([1.0, f64::NAN]), after([f64::NAN])] {
            assert_eq!(Trend::of(trend.numbers()), Some(trend));
        }
        let good = after(noisy(50, 0.1)).numbers();
        for (at, bad) in [
            (0, 1.5),
            (0, -1.0),
            (0, 1e300),
            (0, 0.0),
            (4, -1.0),
            (5, 1e9),
            (6, 0.5),
            (1, f64::NAN),
            (2, f64::INFINITY),
        ] {
            let mut numbers = good;
            numbers[at] = bad;
            assert_eq!(Trend::of(numbers), None, "{at} {bad}");
        }
    }
}
