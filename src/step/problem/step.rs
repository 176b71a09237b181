//! One step: the minimum of the model over the region, near enough.
//!
//! Without inequalities the region is a ball in the null space of the equalities, and the step a trust-region step there. Else
//! rounds of two parts, as in Moré and Toraldo (SIAM J. Optim. 1, 1991) and Lin and Moré (SIAM J. Optim. 9, 1999): a step
//! along the projected gradient, which finds the constraints that hold and, being a projection, lets go of any number of them
//! at once, at degenerate vertices too; then trust-region steps on the face of those constraints, each to the next constraint
//! that stops it. Every part lowers the model. On a face the ball is a ball of the face, so it costs nothing that its centre
//! is elsewhere.

use super::linear::{add, copied, difference, dot, norm, orthogonalize, scale};
use super::model::{At, Curvature, kept};
use super::options::Report;
use super::polyhedron::Face;
use super::region::Region;
use super::subproblem::{Minimum, minimize};
use super::{Functions, Halt};
use crate::tensor::{Result as Plain, reserve, vec_zeroed};

type Result<T> = std::result::Result<T, Halt>;

/// The model at x, and how far to go with it.
pub struct Model<'a> {
    pub functions: &'a mut dyn Functions,
    pub curvature: &'a mut Curvature,
    pub report: &'a mut Report,
    /// The caller's, in which every point that is evaluated lies.
    pub own_bounds: (&'a [f64], &'a [f64]),
    pub x: &'a [f64],
    pub gradient: &'a [f64],
    pub region: &'a Region<'a>,
    /// How long the first step along the gradient may be.
    pub reach: f64,
    /// The ball's radius where the region has none.
    pub enclosing: f64,
    /// With all of the Hessian.
    pub exact: bool,
    /// So few variables that products for all of them are no matter.
    pub small: bool,
    /// What may remain of the gradient.
    pub forcing: f64,
    pub rounds: usize,
}

/// A point of the region, and the model there.
pub struct Place {
    pub y: Vec<f64>,
    pub step: Vec<f64>,
    /// H step.
    pub image: Vec<f64>,
    /// g + H step.
    pub slope: Vec<f64>,
    pub value: f64,
}

impl Model<'_> {
    fn times(&mut self, d: &[f64]) -> Result<Vec<f64>> {
        if self.functions.cancelled() {
            return Err(Halt::Stopped);
        }
        let at = At { x: self.x, gradient: self.gradient, bounds: self.own_bounds };
        self.curvature.times(self.functions, &at, d, self.report)
    }

    pub fn minimum(&mut self) -> Result<Place> {
        let n = self.x.len();
        let mut place = Place {
            y: copied(self.x)?,
            step: vec_zeroed(n)?,
            image: vec_zeroed(n)?,
            slope: copied(self.gradient)?,
            value: 0.0,
        };
        if self.region.is_flat() {
            let face = self.region.active(&place.y)?;
            let d = self.face_step(&face, &place)?;
            self.advance(&mut place, &d)?;
            return Ok(place);
        }
        let first = self.region.stationarity(&place.y, &place.slope)?;
        let mut reach = self.reach / norm(&place.slope);
        for _ in 0..self.rounds {
            let before = place.value;
            if reach.is_finite() {
                // Far beyond the region nothing but digits would be lost.
                let most = 10.0 * self.reach / norm(&place.slope);
                reach = (4.0 * self.along_gradient(&mut place, reach.min(most))?).min(f64::MAX);
            }
            self.along_faces(&mut place)?;
            let left = self.region.stationarity(&place.y, &place.slope)?;
            if left <= self.forcing * first || before - place.value <= 1e-15 * place.value.abs() {
                break;
            }
        }
        Ok(place)
    }

    /// Moves by d, if that lowers the model; says whether it did.
    fn advance(&mut self, place: &mut Place, d: &[f64]) -> Result<bool> {
        let image = self.times(d)?;
        Ok(self.advance_known(place, d, &image, 1.0)?)
    }

    fn advance_known(&mut self, place: &mut Place, d: &[f64], image: &[f64], share: f64) -> Plain<bool> {
        let (mut step, mut whole) = (copied(&place.step)?, copied(&place.image)?);
        add(share, d, &mut step);
        add(share, image, &mut whole);
        let change = share * (dot(&place.slope, d) + 0.5 * share * dot(d, image));
        if change.is_nan() || change >= 0.0 {
            return Ok(false);
        }
        place.slope.copy_from_slice(self.gradient);
        add(1.0, &whole, &mut place.slope);
        place.value = dot(self.gradient, &step) + 0.5 * dot(&step, &whole);
        place.y.copy_from_slice(self.x);
        add(1.0, &step, &mut place.y);
        // Onto the bounds exactly: a sum may be beside them by rounding.
        for ((y, lower), upper) in place.y.iter_mut().zip(self.region.lower).zip(self.region.upper) {
            let near = 4.0 * f64::EPSILON * y.abs();
            *y = if *y <= lower + near {
                *lower
            } else if *y >= upper - near {
                *upper
            } else {
                *y
            };
        }
        (place.step, place.image) = (step, whole);
        Ok(true)
    }

    /// A step to the projection of y - t slope, with a t that lowers the model enough, or along the way there; the t.
    fn along_gradient(&mut self, place: &mut Place, reach: f64) -> Result<f64> {
        let mut t = reach;
        for _ in 0..30 {
            let d = self.region.descent(&place.y, &place.slope, t)?;
            let slope = dot(&place.slope, &d);
            if slope.is_nan() || slope >= 0.0 {
                return Ok(t);
            }
            let image = self.times(&d)?;
            let curvature = dot(&d, &image);
            if slope + 0.5 * curvature <= 0.1 * slope {
                self.advance_known(place, &d, &image, 1.0)?;
                return Ok(t);
            }
            // The minimum on the way there, at most 0.56 of it, is where to aim at.
            let share = -slope / curvature;
            if !self.small {
                self.advance_known(place, &d, &image, share)?;
                return Ok(t * share);
            }
            t *= share.max(0.05);
        }
        Ok(t)
    }

    fn along_faces(&mut self, place: &mut Place) -> Result<()> {
        let mut face = self.region.active(&place.y)?;
        for _ in 0..2 * self.x.len() + self.region.set.row_count() + 2 {
            if face.dimension() == 0 {
                return Ok(());
            }
            let d = self.face_step(&face, place)?;
            if norm(&d) <= 1e-16 * norm(&place.y) {
                return Ok(());
            }
            let (share, stop) = self.region.room(&face, &place.y, &d);
            let Some(stop) = stop else {
                self.advance(place, &d)?;
                return Ok(());
            };
            let image = self.times(&d)?;
            // As far as the constraint, or the whole way and back onto the region: what lowers the model more.
            let mut aim = copied(&place.y)?;
            add(1.0, &d, &mut aim);
            let bent = difference(&self.region.nearest(&aim)?, &place.y)?;
            let bent_image = self.times(&bent)?;
            let straight = share * (dot(&place.slope, &d) + 0.5 * share * dot(&d, &image));
            let around = dot(&place.slope, &bent) + 0.5 * dot(&bent, &bent_image);
            if around < straight {
                self.advance_known(place, &bent, &bent_image, 1.0)?;
                let next = self.region.active(&place.y)?;
                if next.dimension() >= face.dimension() {
                    return Ok(());
                }
                face = next;
            } else {
                if !self.advance_known(place, &d, &image, share)? && share > 0.0 {
                    return Ok(());
                }
                face.add(self.region.set, stop)?;
            }
        }
        Ok(())
    }

    /// The trust-region step on the face: in the space of the gradient, of where the ball's centre is, and of what then
    /// remains of the gradient, again and again: a Krylov space, as in Gould, Lucidi, Roma and Toint's method (SIAM J. Optim.
    /// 9, 1999), in which the subproblem is solved exactly.
    fn face_step(&mut self, face: &Face, place: &Place) -> Result<Vec<f64>> {
        let n = self.x.len();
        let mut slope = copied(&place.slope)?;
        face.project(&mut slope);
        let (mut offset, mut radius): (Vec<f64>, f64) = (vec_zeroed(n)?, self.enclosing);
        if let Some(ball) = self.region.ball {
            let whole = difference(&place.y, &ball.centre)?;
            offset.copy_from_slice(&whole);
            face.project(&mut offset);
            let outside = difference(&whole, &offset)?;
            let room = (ball.radius - norm(&outside)) * (ball.radius + norm(&outside));
            radius = room.max(0.0).sqrt();
        }
        let mut d: Vec<f64> = vec_zeroed(n)?;
        let steep = norm(&slope);
        if radius <= 1e-14 * self.enclosing || (steep.is_nan() || steep == 0.0) && !self.exact {
            return Ok(d);
        }
        let dimension = face.dimension();
        let mut space = Space::default();
        if norm(&offset) > 1e-12 * radius {
            self.grow(&mut space, face, &offset)?;
        }
        self.grow(&mut space, face, &slope)?;
        for axis in 0..if self.exact { n } else { 0 } {
            let mut unit: Vec<f64> = vec_zeroed(n)?;
            unit[axis] = 1.0;
            self.grow(&mut space, face, &unit)?;
        }
        loop {
            let (minimum, shift) = space.minimum(&slope, &offset, radius)?;
            d.fill(0.0);
            let mut rest = copied(&slope)?;
            add(minimum.multiplier, &offset, &mut rest);
            for (k, (w, image)) in space.basis.iter().zip(&space.images).enumerate() {
                let part = minimum.step[k] - shift[k];
                add(part, w, &mut d);
                add(part, image, &mut rest);
                add(part * minimum.multiplier, w, &mut rest);
            }
            face.project(&mut rest);
            let done = space.basis.len() >= dimension.min(if self.exact { n } else { kept(n) });
            if done || norm(&rest) <= self.forcing * steep || !self.grow(&mut space, face, &rest)? {
                return Ok(d);
            }
        }
    }

    /// Adds a direction; false where it was there.
    fn grow(&mut self, space: &mut Space, face: &Face, direction: &[f64]) -> Result<bool> {
        let mut w = copied(direction)?;
        let whole = norm(&w);
        if whole == 0.0 || !whole.is_finite() {
            return Ok(false);
        }
        scale(1.0 / whole, &mut w);
        // Twice: what little may be left the first time has few digits.
        for least in [1e-10, 0.5] {
            face.project(&mut w);
            orthogonalize(&space.basis, &mut w, &mut []);
            let length = norm(&w);
            if length <= least {
                return Ok(false);
            }
            scale(1.0 / length, &mut w);
        }
        let image = self.times(&w)?;
        space.push(w, image)?;
        Ok(true)
    }
}

/// Orthonormal directions W of a face, H W, and W'HW by rows.
#[derive(Default)]
struct Space {
    basis: Vec<Vec<f64>>,
    images: Vec<Vec<f64>>,
    /// Of each direction with itself and those before it.
    inner: Vec<Vec<f64>>,
}

impl Space {
    fn push(&mut self, w: Vec<f64>, image: Vec<f64>) -> Plain<()> {
        reserve(&mut self.basis, 1)?;
        reserve(&mut self.images, 1)?;
        reserve(&mut self.inner, 1)?;
        let mut row = Vec::new();
        reserve(&mut row, self.basis.len() + 1)?;
        for (other, other_image) in self.basis.iter().zip(&self.images) {
            row.push(0.5 * (dot(&w, other_image) + dot(other, &image)));
        }
        row.push(dot(&w, &image));
        self.inner.push(row);
        self.basis.push(w);
        self.images.push(image);
        Ok(())
    }

    /// The minimum over the space inside of the ball, in coordinates from its centre, and where y is in those.
    fn minimum(&self, slope: &[f64], offset: &[f64], radius: f64) -> Plain<(Minimum, Vec<f64>)> {
        let k = self.basis.len();
        let (mut h, mut g, mut shift): (Vec<f64>, Vec<f64>, Vec<f64>) =
            (vec_zeroed(k * k)?, vec_zeroed(k)?, vec_zeroed(k)?);
        for i in 0..k {
            for j in 0..=i {
                h[i * k + j] = self.inner[i][j];
                h[j * k + i] = self.inner[i][j];
            }
            shift[i] = dot(&self.basis[i], offset);
        }
        for i in 0..k {
            g[i] = dot(&self.basis[i], slope) - dot(&h[i * k..(i + 1) * k], &shift);
        }
        Ok((minimize(&h, &g, radius)?, shift))
    }
}
