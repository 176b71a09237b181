//! Where a step may end: the polyhedron, in bounds that may be narrower than its own, and inside of one ball.

use super::linear::{add, copied, difference, dot, finite, norm};
use super::polyhedron::{Face, Polyhedron, Side};
use crate::tensor::error::error;
use crate::tensor::{Error, Result};

pub struct Ball {
    pub centre: Vec<f64>,
    pub radius: f64,
}

impl Ball {
    fn distance(&self, x: &[f64]) -> Result<f64> {
        Ok(norm(&difference(x, &self.centre)?))
    }
}

pub struct Region<'a> {
    pub set: &'a Polyhedron,
    pub lower: &'a [f64],
    pub upper: &'a [f64],
    pub ball: Option<&'a Ball>,
}

impl Region<'_> {
    fn nearest_on_polyhedron(&self, z: &[f64]) -> Result<Vec<f64>> {
        let found = self.set.nearest(self.lower, self.upper, z)?;
        let found = found.map_err(|side| {
            empty(format_args!("{} cannot be met together with the other constraints", self.set.name(side)))
        })?;
        match finite(&found) {
            true => Ok(found),
            false => Err(error!(Argument, "the constraints are too far from the point, {:e}, to be met", norm(z))),
        }
    }

    /// The nearest point to z. With the ball it is y(t), the nearest point of the polyhedron to c + t (z - c), for the t of 0
    /// to 1 that puts it on the ball: |y(t) - c| does not fall with t, and y(t) is linear between changes of the active set.
    pub fn nearest(&self, z: &[f64]) -> Result<Vec<f64>> {
        let outer = self.nearest_on_polyhedron(z)?;
        let Some(ball) = self.ball else { return Ok(outer) };
        let (c, radius) = (&ball.centre, ball.radius);
        let mut high = (1.0, ball.distance(&outer)?, outer);
        if high.1 <= radius * (1.0 + 1e-15) {
            return Ok(high.2);
        }
        let inner = self.nearest_on_polyhedron(c)?;
        let mut low = (0.0, ball.distance(&inner)?, inner);
        if low.1 > radius {
            let least = low.1;
            // On the ball but for rounding: its only point.
            return match least <= radius * (1.0 + 1e-9) {
                true => Ok(low.2),
                false => Err(empty(format_args!(
                    "the ball of radius {radius} does not meet the other constraints, which are {least} from its centre"
                ))),
            };
        }
        for turn in 0..100 {
            if low.1 >= radius * (1.0 - 1e-14) || high.0 - low.0 <= 1e-16 {
                break;
            }
            let share = crossing(&difference(&low.2, c)?, &difference(&high.2, &low.2)?, radius);
            // Were it linear in between, this were the place; every third turn halves, for where it is not.
            let share = if turn % 3 == 2 { 0.5 } else { share.clamp(1e-6, 1.0) };
            let t = low.0 + share * (high.0 - low.0);
            let mut aim = difference(z, c)?;
            aim.iter_mut().zip(c).for_each(|(a, c)| *a = c + t * *a);
            let point = self.nearest_on_polyhedron(&aim)?;
            let distance = ball.distance(&point)?;
            if distance <= radius * (1.0 + 1e-15) {
                low = (t, distance, point);
            } else {
                high = (t, distance, point);
            }
        }
        Ok(low.2)
    }

    /// The nearest point to x - t g, less x: how far the projected gradient goes.
    pub fn descent(&self, x: &[f64], g: &[f64], t: f64) -> Result<Vec<f64>> {
        let mut aim = copied(x)?;
        add(-t, g, &mut aim);
        let mut d = self.nearest(&aim)?;
        add(-1.0, x, &mut d);
        Ok(d)
    }

    /// |P(x - g) - x|, P the nearest point; along a part of a g so long that the digits of x would be lost in it.
    pub fn stationarity(&self, x: &[f64], g: &[f64]) -> Result<f64> {
        let t = (1e6 * (1.0 + norm(x)) / norm(g)).min(1.0);
        Ok(norm(&self.descent(x, g, t)?) / t)
    }

    pub fn active(&self, x: &[f64]) -> Result<Face> {
        self.set.active(self.lower, self.upper, x)
    }

    pub fn room(&self, face: &Face, x: &[f64], d: &[f64]) -> (f64, Option<Side>) {
        self.set.room(self.lower, self.upper, face, x, d)
    }

    /// How far x is outside.
    pub fn violation(&self, x: &[f64]) -> Result<f64> {
        let beyond = match self.ball {
            Some(ball) => ball.distance(x)? - ball.radius,
            None => 0.0,
        };
        Ok(beyond.max(self.set.violation(x)))
    }

    /// A step along the null space of the equalities keeps everything there is but the ball.
    pub fn is_flat(&self) -> bool {
        let open = |(lower, upper): (&f64, &f64)| lower.is_infinite() && upper.is_infinite();
        self.set.is_equal_throughout() && self.lower.iter().zip(self.upper).all(open)
    }
}

fn empty(why: std::fmt::Arguments) -> Error {
    error!(Argument, "the constraints have no common point: {why}")
}

/// The share of `d`, 0 to 1, with |a + share d| = radius, for |a| <= radius.
pub fn crossing(a: &[f64], d: &[f64], radius: f64) -> f64 {
    let (square, inner) = (dot(d, d), dot(a, d));
    let room = (radius - norm(a)) * (radius + norm(a));
    if square == 0.0 || room <= 0.0 {
        return 0.0;
    }
    let root = (inner * inner + square * room).sqrt();
    // The form that does not cancel.
    if inner > 0.0 { room / (inner + root) } else { (root - inner) / square }
}
