//! The entries -a, 0 and a that n numbers are best written by. Those written as +-a are the largest magnitudes, and with S the sum of
//! weight times magnitude of the largest j and W that of their weights, a = S / W leaves an inertia of sum w x^2 - S^2 / W: so j is
//! the one with the largest S^2 / W. It is the least-squares scheme of `quantize/scheme.rs`, weighted.

use super::Line;
use super::buckets::{Buckets, Sums};
use super::item::value;
use crate::backend::Launch;
use crate::tensor::{Result, reserve};

fn gain([mass, sum]: Sums) -> f64 {
    if mass > 0.0 { sum * (sum / mass) } else { 0.0 }
}

fn plus(a: Sums, b: Sums) -> Sums {
    [a[0] + b[0], a[1] + b[1]]
}

/// Of magnitudes in buckets.
pub fn ternary(launch: &Launch, buckets: &mut dyn Buckets) -> Result<Line> {
    let count = buckets.count();
    // Of all buckets above each, and the largest gain of those that end where a bucket does.
    let mut above: Vec<Sums> = Vec::new();
    reserve(&mut above, count + 1)?;
    above.push([0.0; 2]);
    let (mut most, mut best, mut first) = (0.0, [0.0; 2], buckets.len());
    for i in (0..count).rev() {
        let sums = plus(above[above.len() - 1], buckets.bucket(i).sums);
        above.push(sums);
        if gain(sums) > most {
            (most, best, first) = (gain(sums), sums, buckets.start(i));
        }
    }
    // Within a bucket the gain is at most that of magnitudes that are all as large as its numbers can be: convex in how many, so at
    // the bucket's end.
    let mut wanted = Vec::new();
    for i in 0..count {
        let highest = match i + 1 < count {
            true => f64::from(value(buckets.bucket(i + 1).lowest)),
            false => (buckets.start(i)..buckets.end(i)).map(|at| buckets.value(at)).fold(0.0, f64::max),
        };
        let [mass, _] = buckets.bucket(i).sums;
        let bound = plus(above[count - 1 - i], [mass, mass * highest]);
        if gain(bound) * (1.0 + 1e-12) > most {
            wanted.push(i);
        }
    }
    buckets.sort(launch, &wanted);
    for &i in wanted.iter().rev() {
        let (mut sums, mut at) = (above[count - 1 - i], buckets.end(i));
        while at > buckets.start(i) {
            let (begin, end) = buckets.run(at - 1).unwrap_or((at - 1, at));
            let [mass, _] = buckets.sums(begin, end);
            sums = plus(sums, [mass, mass * buckets.value(begin)]);
            at = begin;
            // The fewest of equal gain, but for the roundings of sums in another order.
            if gain(sums) > most * (1.0 + 1e-15) {
                (most, best, first) = (gain(sums), sums, at);
            }
        }
    }
    let a = if best[0] > 0.0 { best[1] / best[0] } else { 0.0 };
    // The scheme's threshold is half of its scale, which is an f32; on either side, what is just there is 0.
    let h = 0.5 * a as f32;
    let below = (-h).next_down();
    let inertia = buckets.inertia(launch, &[first], &[0.0, a])?;
    let mut entries = Vec::new();
    reserve(&mut entries, 3)?;
    entries.extend([0.0 - a, 0.0, a]);
    let mut thresholds = Vec::new();
    reserve(&mut thresholds, 2)?;
    thresholds.extend([below, h]);
    Ok(Line { entries, thresholds, inertia, converged: true })
}
