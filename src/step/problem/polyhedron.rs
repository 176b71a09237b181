//! Bounds and linear constraints, and the point of them that is nearest to another: Goldfarb and Idnani's dual active-set
//! method (Mathematical Programming 27, 1983) for the Hessian I. It starts from the point itself, takes in the constraint
//! that is violated most, and lets go of those whose multipliers would change sign; it ends with the nearest point, also at
//! degenerate vertices, or with the proof that there is none.

use super::linear::{DEPENDENT, Factor, add, copied, dot, norm};
use crate::tensor::error::ensure;
use crate::tensor::{Result, reserve, vec_zeroed};

/// lower <= x <= upper and row_lower <= rows x <= row_upper, the rows of length 1.
pub struct Polyhedron {
    pub n: usize,
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
    rows: Vec<f64>,
    row_lower: Vec<f64>,
    row_upper: Vec<f64>,
    /// The row of each of the caller's, for messages: (equality or not, its number).
    origin: Vec<(bool, usize)>,
    /// Equalities that are independent of each other, by the QR factorization of their normals.
    equalities: Factor,
    equal: Vec<usize>,
}

/// One side of a constraint: normal'x >= bound.
#[derive(Clone, Copy, PartialEq)]
pub enum Side {
    Lower(usize),
    Upper(usize),
    RowLower(usize),
    RowUpper(usize),
}

/// A point counts as on a constraint, or as not beyond it, within this, relative to what is compared.
const ON: f64 = 1e-11;
const BEYOND: f64 = 1e-13;

impl Polyhedron {
    pub fn new(n: usize) -> Result<Polyhedron> {
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        reserve(&mut lower, n)?;
        reserve(&mut upper, n)?;
        lower.resize(n, f64::NEG_INFINITY);
        upper.resize(n, f64::INFINITY);
        Ok(Polyhedron {
            n,
            lower,
            upper,
            rows: Vec::new(),
            row_lower: Vec::new(),
            row_upper: Vec::new(),
            origin: Vec::new(),
            equalities: Factor::default(),
            equal: Vec::new(),
        })
    }

    /// Adds lower <= a x <= upper; `origin` names it in messages. Where both are equal it is an equality.
    pub fn add_row(&mut self, a: &[f64], lower: f64, upper: f64, origin: (bool, usize)) -> Result<()> {
        let length = norm(a);
        let (kind, at) = (if origin.0 { "equality" } else { "inequality" }, origin.1);
        if length == 0.0 {
            ensure!(lower <= 0.0 && upper >= 0.0, Argument, "{kind} {at} is all zeros, and 0 is outside of its bounds");
            return Ok(());
        }
        ensure!(length.is_finite() && length >= 1e-150, Argument, "{kind} {at} has the length {length:e}");
        let (lower, upper) = (lower / length, upper / length);
        let mut row = copied(a)?;
        row.iter_mut().for_each(|a| *a /= length);
        if lower == upper {
            let (rest, parts) = self.equalities.split(&row)?;
            if norm(&rest) <= DEPENDENT {
                // What the others say about this one: b of them, through R'.
                let mut sides: Vec<f64> = vec_zeroed(self.equal.len())?;
                sides.iter_mut().zip(&self.equal).for_each(|(side, &row)| *side = self.row_lower[row]);
                self.equalities.solve_transposed(&mut sides);
                let implied = dot(&sides, &parts);
                let apart = (implied - lower).abs() > 1e-8 * (1.0 + lower.abs());
                let (b, other) = (lower * length, implied * length);
                ensure!(!apart, Argument, "{kind} {at} says {b}, the others before it imply {other}");
                return Ok(());
            }
            reserve(&mut self.equal, 1)?;
            self.equal.push(self.row_lower.len());
            self.equalities.push(rest, parts)?;
        }
        reserve(&mut self.rows, self.n)?;
        reserve(&mut self.row_lower, 1)?;
        reserve(&mut self.row_upper, 1)?;
        reserve(&mut self.origin, 1)?;
        self.rows.extend_from_slice(&row);
        self.row_lower.push(lower);
        self.row_upper.push(upper);
        self.origin.push(origin);
        Ok(())
    }

    /// Takes rows away that were added after there were `rows`, of which `equal` were independent equalities.
    pub fn truncate(&mut self, (rows, equal): (usize, usize)) {
        self.rows.truncate(rows * self.n);
        self.row_lower.truncate(rows);
        self.row_upper.truncate(rows);
        self.origin.truncate(rows);
        self.equal.truncate(equal);
        self.equalities.truncate(equal);
    }

    /// What [`truncate`](Self::truncate) goes back to.
    pub fn mark(&self) -> (usize, usize) {
        (self.row_count(), self.equal.len())
    }

    pub fn row(&self, i: usize) -> &[f64] {
        &self.rows[i * self.n..(i + 1) * self.n]
    }

    pub fn row_count(&self) -> usize {
        self.row_lower.len()
    }

    pub fn is_equal_throughout(&self) -> bool {
        self.equal.len() == self.row_count()
    }

    fn is_equal(&self, row: usize) -> bool {
        self.row_lower[row] == self.row_upper[row]
    }

    /// How far x is outside of the constraint that it violates most.
    pub fn violation(&self, x: &[f64]) -> f64 {
        let mut most = 0.0f64;
        for ((x, lower), upper) in x.iter().zip(&self.lower).zip(&self.upper) {
            most = most.max(lower - x).max(x - upper);
        }
        for i in 0..self.row_count() {
            let value = dot(self.row(i), x);
            most = most.max(self.row_lower[i] - value).max(value - self.row_upper[i]);
        }
        most
    }

    /// x into the bounds, and onto those that it is within rounding of.
    fn tidy(&self, lower: &[f64], upper: &[f64], x: &mut [f64]) {
        for i in 0..self.n {
            let near = 4.0 * f64::EPSILON * x[i].abs();
            if x[i] <= lower[i] + near {
                x[i] = lower[i];
            } else if x[i] >= upper[i] - near {
                x[i] = upper[i];
            }
        }
    }

    /// The point nearest to `z` within the rows and the bounds `lower`, `upper`, which replace the polyhedron's own; None
    /// where there is no point, with the constraint that cannot be met.
    pub fn nearest(&self, lower: &[f64], upper: &[f64], z: &[f64]) -> Result<std::result::Result<Vec<f64>, Side>> {
        let mut y = copied(z)?;
        if self.row_count() > 0 {
            let mut dual = Dual::start(self, lower, upper, z)?;
            if let Some(side) = dual.run()? {
                return Ok(Err(side));
            }
            y = dual.polished()?;
        }
        self.tidy(lower, upper, &mut y);
        Ok(Ok(y))
    }

    /// The message for a constraint that cannot be met together with the others.
    pub fn name(&self, side: Side) -> String {
        match side {
            Side::Lower(i) => format!("lower bound {i}, {}", self.lower[i]),
            Side::Upper(i) => format!("upper bound {i}, {}", self.upper[i]),
            Side::RowLower(i) | Side::RowUpper(i) => match self.origin[i] {
                (true, row) => format!("equality {row}"),
                (false, row) => format!("inequality {row}"),
            },
        }
    }

    /// The constraints that `x` is on.
    pub fn active(&self, lower: &[f64], upper: &[f64], x: &[f64]) -> Result<Face> {
        let mut face = Face { fixed: vec_zeroed(self.n)?, rows: vec_zeroed(self.row_count())?, normals: Vec::new() };
        for i in 0..self.n {
            face.fixed[i] = u8::from(x[i] <= lower[i] || x[i] >= upper[i]);
        }
        let size = 1.0 + norm(x);
        for i in 0..self.row_count() {
            let value = dot(self.row(i), x);
            let on = ON * size;
            face.rows[i] = u8::from(value - self.row_lower[i] <= on || self.row_upper[i] - value <= on);
        }
        face.factor(self)?;
        Ok(face)
    }

    /// The longest share, up to 1, of `d` that keeps x + share d inside, and the constraint that ends it; those of the
    /// face are kept anyway.
    pub fn room(&self, lower: &[f64], upper: &[f64], face: &Face, x: &[f64], d: &[f64]) -> (f64, Option<Side>) {
        let (mut share, mut stop) = (1.0, None);
        let mut meet = |distance: f64, speed: f64, side: Side| {
            if speed > 0.0 && distance < share * speed {
                (share, stop) = (distance.max(0.0) / speed, Some(side));
            }
        };
        for i in (0..self.n).filter(|&i| face.fixed[i] == 0) {
            meet(x[i] - lower[i], -d[i], Side::Lower(i));
            meet(upper[i] - x[i], d[i], Side::Upper(i));
        }
        let tiny = 1e-14 * norm(d);
        for i in (0..self.row_count()).filter(|&i| face.rows[i] == 0) {
            let (value, speed) = (dot(self.row(i), x), dot(self.row(i), d));
            if speed.abs() > tiny {
                meet(value - self.row_lower[i], -speed, Side::RowLower(i));
                meet(self.row_upper[i] - value, speed, Side::RowUpper(i));
            }
        }
        (share, stop)
    }
}

/// Constraints that are kept as equalities: variables and rows, and the directions along all of them.
pub struct Face {
    pub fixed: Vec<u8>,
    pub rows: Vec<u8>,
    /// An orthonormal basis of the rows' normals, among the variables that are free.
    normals: Vec<Vec<f64>>,
}

impl Face {
    fn factor(&mut self, of: &Polyhedron) -> Result<()> {
        self.normals.clear();
        for i in (0..of.row_count()).filter(|&i| self.rows[i] != 0) {
            let mut normal = copied(of.row(i))?;
            normal.iter_mut().zip(&self.fixed).filter(|(_, fixed)| **fixed != 0).for_each(|(a, _)| *a = 0.0);
            super::linear::orthogonalize(&self.normals, &mut normal, &mut []);
            let length = norm(&normal);
            if length > DEPENDENT {
                super::linear::scale(1.0 / length, &mut normal);
                reserve(&mut self.normals, 1)?;
                self.normals.push(normal);
            }
        }
        Ok(())
    }

    /// Adds a constraint.
    pub fn add(&mut self, of: &Polyhedron, side: Side) -> Result<()> {
        match side {
            Side::Lower(i) | Side::Upper(i) => self.fixed[i] = 1,
            Side::RowLower(i) | Side::RowUpper(i) => self.rows[i] = 1,
        }
        self.factor(of)
    }

    /// How many directions there are.
    pub fn dimension(&self) -> usize {
        self.fixed.iter().filter(|&&fixed| fixed == 0).count().saturating_sub(self.normals.len())
    }

    /// d without what leaves the constraints.
    pub fn project(&self, d: &mut [f64]) {
        d.iter_mut().zip(&self.fixed).filter(|(_, fixed)| **fixed != 0).for_each(|(d, _)| *d = 0.0);
        super::linear::orthogonalize(&self.normals, d, &mut []);
    }
}

/// Goldfarb and Idnani's iteration.
struct Dual<'a> {
    set: &'a Polyhedron,
    lower: &'a [f64],
    upper: &'a [f64],
    z: &'a [f64],
    y: Vec<f64>,
    factor: Factor,
    /// What the columns of the factor stand for, the equalities first.
    sides: Vec<Side>,
    multipliers: Vec<f64>,
    /// Violated by rounding only: dependent on others that hold.
    waived: Vec<Side>,
}

impl<'a> Dual<'a> {
    fn start(set: &'a Polyhedron, lower: &'a [f64], upper: &'a [f64], z: &'a [f64]) -> Result<Dual<'a>> {
        let (mut sides, mut multipliers) = (Vec::new(), Vec::new());
        reserve(&mut sides, set.equal.len())?;
        reserve(&mut multipliers, set.equal.len())?;
        sides.extend(set.equal.iter().map(|&row| Side::RowLower(row)));
        multipliers.resize(set.equal.len(), 0.0);
        let (y, factor) = (copied(z)?, set.equalities.copy()?);
        let mut dual = Dual { set, lower, upper, z, y, factor, sides, multipliers, waived: Vec::new() };
        dual.y = dual.polished()?;
        Ok(dual)
    }

    /// z - Q R'^-1 (N'z - b): the nearest point on all active constraints; a second time from there, for the digits that a
    /// z from far away has lost.
    fn polished(&self) -> Result<Vec<f64>> {
        let mut y = copied(self.z)?;
        for _ in 0..2 {
            let mut apart = Vec::new();
            reserve(&mut apart, self.sides.len())?;
            apart.extend(self.sides.iter().map(|&side| -self.distance(&y, side)));
            self.factor.solve_transposed(&mut apart);
            for (part, q) in apart.iter().zip(&self.factor.q) {
                add(*part, q, &mut y);
            }
        }
        Ok(y)
    }

    /// normal'x - bound.
    fn distance(&self, x: &[f64], side: Side) -> f64 {
        match side {
            Side::Lower(i) => x[i] - self.lower[i],
            Side::Upper(i) => self.upper[i] - x[i],
            Side::RowLower(i) => dot(self.set.row(i), x) - self.set.row_lower[i],
            Side::RowUpper(i) => self.set.row_upper[i] - dot(self.set.row(i), x),
        }
    }

    fn normal(&self, side: Side) -> Result<Vec<f64>> {
        let mut normal = vec_zeroed(self.set.n)?;
        match side {
            Side::Lower(i) => normal[i] = 1.0,
            Side::Upper(i) => normal[i] = -1.0,
            Side::RowLower(i) => add(1.0, self.set.row(i), &mut normal),
            Side::RowUpper(i) => add(-1.0, self.set.row(i), &mut normal),
        }
        Ok(normal)
    }

    /// The constraint that is violated most.
    fn worst(&self) -> Option<Side> {
        let (mut worst, mut most) = (None, BEYOND * (1.0 + norm(&self.y)));
        let mut look = |side: Side| {
            let beyond = -self.distance(&self.y, side);
            if beyond > most && !self.sides.contains(&side) && !self.waived.contains(&side) {
                (worst, most) = (Some(side), beyond);
            }
        };
        for i in 0..self.set.n {
            [Side::Lower(i), Side::Upper(i)].into_iter().for_each(&mut look);
        }
        for i in (0..self.set.row_count()).filter(|&i| !self.set.is_equal(i)) {
            [Side::RowLower(i), Side::RowUpper(i)].into_iter().for_each(&mut look);
        }
        worst
    }

    /// None at the nearest point, else a constraint that cannot be met.
    fn run(&mut self) -> Result<Option<Side>> {
        let equal = self.set.equal.len();
        // Each turn changes the active set; the method is finite, the limit is for rounding.
        for _ in 0..20 * (self.set.n + self.set.row_count()) + 100 {
            let Some(side) = self.worst() else { return Ok(None) };
            let normal = self.normal(side)?;
            let mut multiplier = 0.0;
            loop {
                let (rest, parts) = self.factor.split(&normal)?;
                let mut change = copied(&parts)?;
                self.factor.solve(&mut change);
                let (mut longest, mut leaving) = (f64::INFINITY, None);
                for (k, (u, r)) in self.multipliers.iter().zip(&change).enumerate().skip(equal) {
                    if *r > 1e-13 && u / r < longest {
                        (longest, leaving) = (u / r, Some(k));
                    }
                }
                let length = norm(&rest);
                let full = match length > DEPENDENT {
                    true => -self.distance(&self.y, side) / (length * length),
                    false => f64::INFINITY,
                };
                if full.is_infinite() && leaving.is_none() {
                    self.y = self.polished()?;
                    if -self.distance(&self.y, side) <= 1e-9 * (1.0 + norm(&self.y)) {
                        reserve(&mut self.waived, 1)?;
                        self.waived.push(side);
                        break;
                    }
                    return Ok(Some(side));
                }
                let share = longest.min(full);
                self.multipliers.iter_mut().zip(&change).for_each(|(u, r)| *u -= share * r);
                multiplier += share;
                if full.is_finite() {
                    add(share, &rest, &mut self.y);
                }
                if full <= longest {
                    reserve(&mut self.sides, 1)?;
                    reserve(&mut self.multipliers, 1)?;
                    self.factor.push(rest, parts)?;
                    self.sides.push(side);
                    self.multipliers.push(multiplier);
                    break;
                }
                if let Some(k) = leaving {
                    self.factor.remove(k);
                    self.sides.remove(k);
                    self.multipliers.remove(k);
                }
            }
        }
        Ok(None)
    }
}
