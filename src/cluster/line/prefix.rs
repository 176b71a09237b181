//! What a cluster of places that follow each other costs, by sums of all places before them.

use super::buckets::Sums;
use crate::tensor::{Result, reserve};

/// A number in two parts, the second what the rounding of the first has left.
type Two = [f64; 2];

/// a + b (Knuth).
fn sum(a: f64, b: f64) -> Two {
    let sum = a + b;
    let kept = sum - a;
    [sum, (a - (sum - kept)) + (b - kept)]
}

/// a * b (Dekker, "A floating-point technique for extending the available precision", 1971).
fn product(a: f64, b: f64) -> Two {
    let halves = |x: f64| {
        let large = 134_217_729.0 * x;
        let high = large - (large - x);
        [high, x - high]
    };
    let (product, [a, c], [b, d]) = (a * b, halves(a), halves(b));
    [product, ((a * b - product) + a * d + c * b) + c * d]
}

fn add(to: &mut Two, [high, low]: Two) {
    let [sum, lost] = sum(to[0], high);
    *to = [sum, to[1] + (lost + low)];
}

fn difference(to: Two, from: Two) -> Two {
    let [high, lost] = sum(to[0], -from[0]);
    [high, lost + (to[1] - from[1])]
}

/// Sums of all places before one: a difference of two is as good as a sum of what lies between them, also where something far away
/// came before.
#[derive(Clone, Copy, Default)]
struct Prefix {
    mass: Two,
    sum: Two,
    square: Two,
}

pub struct Prefixes(Vec<Prefix>);

impl Prefixes {
    /// Of ascending places: their mass, and mass times number.
    pub fn new(places: &[Sums]) -> Result<Prefixes> {
        // Numbers are counted from the middle one, where most of them are near.
        let half = places.iter().map(|place| place[0]).sum::<f64>() / 2.0;
        let (mut below, mut center) = (0.0, 0.0);
        for [mass, sum] in places {
            below += mass;
            if below >= half {
                center = sum / mass;
                break;
            }
        }
        let (mut prefixes, mut prefix) = (Vec::new(), Prefix::default());
        reserve(&mut prefixes, places.len() + 1)?;
        prefixes.push(prefix);
        for &[mass, sum] in places {
            let x = sum / mass - center;
            let moment = product(mass, x);
            let [high, low] = product(moment[0], x);
            add(&mut prefix.mass, [mass, 0.0]);
            add(&mut prefix.sum, moment);
            add(&mut prefix.square, [high, low + moment[1] * x]);
            prefixes.push(prefix);
        }
        Ok(Prefixes(prefixes))
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// The inertia of the places from `from` to `to` as one cluster. One place costs nothing, not even what rounding makes of it.
    #[inline(always)]
    pub fn cost(&self, from: usize, to: usize) -> f64 {
        let (a, b) = (&self.0[from], &self.0[to]);
        let mass = b.mass[0] - a.mass[0];
        let sum = (b.sum[0] - a.sum[0]) + (b.sum[1] - a.sum[1]);
        let square = (b.square[0] - a.square[0]) + (b.square[1] - a.square[1]);
        let cost = square - sum * sum / mass;
        if from + 1 == to {
            0.0
        } else if cost > 1e-6 * square {
            cost
        } else {
            narrow(a, b)
        }
    }
}

/// The same where little is left of the difference: (square * mass - sum^2) / mass, in two parts.
#[cold]
fn narrow(a: &Prefix, b: &Prefix) -> f64 {
    let [mass, first, square] = [difference(b.mass, a.mass), difference(b.sum, a.sum), difference(b.square, a.square)];
    let [more, more_low] = product(square[0], mass[0]);
    let [less, less_low] = product(first[0], first[0]);
    let [rest, lost] = sum(more, -less);
    let low = (more_low + square[0] * mass[1] + square[1] * mass[0]) - (less_low + 2.0 * first[0] * first[1]);
    f64::max(rest + (lost + low), 0.0) / mass[0]
}
