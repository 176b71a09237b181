//! The model of f at one point: g's + s'Hs/2, with products H v by the caller's callback or from a quasi-Newton matrix.

use super::linear::{add, copied, dot, finite, norm, orthogonalize, scale};
use super::options::Report;
use super::{Functions, Halt};
use crate::tensor::{Result, reserve, vec_zeroed};

type Halting<T> = std::result::Result<T, Halt>;

/// Directions are kept with their products, orthonormal: a product along what is known costs nothing. So a step that was
/// refused, a further face, or a rank that is reached cost no evaluation again, and never more than n.
#[derive(Default)]
pub struct Products {
    basis: Vec<Vec<f64>>,
    images: Vec<Vec<f64>>,
    /// How many are kept.
    limit: usize,
    /// They were made at an earlier point.
    stale: bool,
}

impl Products {
    fn push(&mut self, direction: Vec<f64>, image: Vec<f64>) -> Result<()> {
        reserve(&mut self.basis, 1)?;
        reserve(&mut self.images, 1)?;
        self.basis.push(direction);
        self.images.push(image);
        Ok(())
    }

    fn clear(&mut self) {
        self.basis.clear();
        self.images.clear();
        self.stale = false;
    }
}

/// Up to this many variables products for all of them are no matter.
pub const SMALL: usize = 64;

/// Directions that are kept at most: 100, and fewer where each takes megabytes.
pub fn kept(n: usize) -> usize {
    (8_000_000 / n).clamp(20, 100)
}

/// Where products are taken.
pub struct At<'a> {
    pub x: &'a [f64],
    pub gradient: &'a [f64],
    /// In which every point that is evaluated lies.
    pub bounds: (&'a [f64], &'a [f64]),
}

/// What H is.
pub enum Curvature {
    /// By the caller's product, or by differences of gradients where there is none, or it is not finite.
    Products(Products),
    /// What the gradients so far have told.
    Learned(QuasiNewton),
}

impl Curvature {
    /// By products, `all` of which are kept if need be, or learned.
    pub fn new(products: bool, all: bool, n: usize) -> Curvature {
        let limit = if all { n } else { kept(n) };
        match products {
            true => Curvature::Products(Products { limit, ..Products::default() }),
            false => Curvature::Learned(QuasiNewton { limit, ..QuasiNewton::new(n) }),
        }
    }

    /// H d; `report` counts evaluations.
    pub fn times(
        &mut self,
        functions: &mut dyn Functions,
        at: &At,
        d: &[f64],
        report: &mut Report,
    ) -> Halting<Vec<f64>> {
        let products = match self {
            Curvature::Learned(learned) => return Ok(learned.times(d)?),
            Curvature::Products(products) => products,
        };
        let n = d.len();
        if !functions.has_product() && n <= SMALL && products.basis.is_empty() {
            // Along the axes a difference is as good as the axis allows, however unlike their scales are.
            for axis in 0..n {
                let mut unit: Vec<f64> = vec_zeroed(n)?;
                unit[axis] = 1.0;
                let image = evaluate(functions, at, &unit, report)?;
                products.push(unit, image)?;
            }
        }
        let (mut image, mut rest): (Vec<f64>, _) = (vec_zeroed(n)?, copied(d)?);
        let mut parts: Vec<f64> = vec_zeroed(products.basis.len())?;
        orthogonalize(&products.basis, &mut rest, &mut parts);
        for (part, known) in parts.iter().zip(&products.images) {
            add(*part, known, &mut image);
        }
        let (length, whole) = (norm(&rest), norm(d));
        if length <= 1e-11 * whole || products.basis.len() == n {
            return Ok(image);
        }
        scale(1.0 / length, &mut rest);
        let new = evaluate(functions, at, &rest, report)?;
        add(length, &new, &mut image);
        if products.basis.len() < products.limit {
            products.push(rest, new)?;
        }
        Ok(image)
    }

    /// A step was taken, along which the gradient changed; `keep` says that H has not.
    pub fn moved(&mut self, step: Vec<f64>, change: Vec<f64>, keep: bool) -> Result<()> {
        match self {
            Curvature::Learned(learned) => learned.learn(step, change),
            Curvature::Products(products) => {
                products.stale = true;
                if !keep {
                    products.clear();
                }
                Ok(())
            }
        }
    }

    /// A step was refused: what is from elsewhere may be why.
    pub fn doubt(&mut self) {
        if let Curvature::Products(products) = self
            && products.stale
        {
            products.clear();
        }
    }

    /// Where there is no way on: from a learned matrix to differences, from kept products to new ones; false where neither.
    pub fn improve(&mut self) -> bool {
        match self {
            Curvature::Learned(learned) => {
                *self = Curvature::Products(Products { limit: learned.limit, ..Products::default() });
                true
            }
            Curvature::Products(products) if products.stale => {
                products.clear();
                true
            }
            Curvature::Products(_) => false,
        }
    }
}

fn within(x: &[f64], (lower, upper): (&[f64], &[f64])) -> bool {
    x.iter().zip(lower).zip(upper).all(|((x, lower), upper)| lower <= x && x <= upper)
}

/// H v of a unit vector: the caller's or, where there is none that is finite, a difference of gradients inside of the bounds. If
/// that is not finite either, it counts as 0: the model is linear there, and the radius sees to the rest.
fn evaluate(functions: &mut dyn Functions, at: &At, v: &[f64], report: &mut Report) -> Halting<Vec<f64>> {
    let n = v.len();
    let mut image: Vec<f64> = vec_zeroed(n)?;
    if functions.has_product() {
        report.products += 1;
        if !functions.product(at.x, v, &mut image) {
            return Err(Halt::Stopped);
        }
        if finite(&image) {
            return Ok(image);
        }
    }
    // Half of the digits of x along v; away from a bound that is nearer.
    let size: f64 = at.x.iter().zip(v).map(|(x, v)| (x * v).abs()).sum();
    let mut h = f64::EPSILON.sqrt() * (size + 0.01);
    let mut point = copied(at.x)?;
    add(h, v, &mut point);
    if !within(&point, at.bounds) {
        add(-2.0 * h, v, &mut point);
        h = -h;
        if !within(&point, at.bounds) {
            return on_both_sides(functions, at, v, h, report);
        }
    }
    report.gradients += 1;
    if !functions.gradient(&point, &mut image) {
        return Err(Halt::Stopped);
    }
    image.iter_mut().zip(at.gradient).for_each(|(image, g)| *image = (*image - g) / h);
    if !finite(&image) {
        image.fill(0.0);
    }
    Ok(image)
}

/// H v where neither x + h v nor x - h v is within the bounds, as the sum of two differences: along the elements of v that h can
/// take, and back along the others. What is within h of both of its bounds stays where it is, as it does in any step.
fn on_both_sides(functions: &mut dyn Functions, at: &At, v: &[f64], h: f64, report: &mut Report) -> Halting<Vec<f64>> {
    let (lower, upper) = at.bounds;
    let inside = |i: usize, h: f64| {
        let moved = at.x[i] + h * v[i];
        lower[i] <= moved && moved <= upper[i]
    };
    let (mut image, mut gradient): (Vec<f64>, Vec<f64>) = (vec_zeroed(v.len())?, vec_zeroed(v.len())?);
    for along in [h, -h] {
        let mut point = copied(at.x)?;
        for (i, x) in point.iter_mut().enumerate() {
            if inside(i, along) && (along == h || !inside(i, h)) {
                *x += along * v[i];
            }
        }
        report.gradients += 1;
        if !functions.gradient(&point, &mut gradient) {
            return Err(Halt::Stopped);
        }
        image.iter_mut().zip(&gradient).zip(at.gradient).for_each(|((image, new), g)| *image += (new - g) / along);
    }
    if !finite(&image) {
        image.fill(0.0);
    }
    Ok(image)
}

/// A limited-memory symmetric rank-one matrix (Nocedal and Wright, section 6.2): gamma I + sum sign u u', from the last steps s
/// and changes y of the gradient. Unlike BFGS's it learns negative curvature, and it is not damped where there is some.
pub struct QuasiNewton {
    pairs: Vec<(Vec<f64>, Vec<f64>)>,
    terms: Vec<(f64, Vec<f64>)>,
    gamma: f64,
    memory: usize,
    /// Of the products that may follow.
    limit: usize,
}

impl QuasiNewton {
    pub fn new(n: usize) -> QuasiNewton {
        QuasiNewton { pairs: Vec::new(), terms: Vec::new(), gamma: 1.0, memory: (4 * n + 20).min(60), limit: 0 }
    }

    fn times(&self, d: &[f64]) -> Result<Vec<f64>> {
        let mut image = copied(d)?;
        scale(self.gamma, &mut image);
        for (sign, u) in &self.terms {
            add(sign * dot(u, d), u, &mut image);
        }
        Ok(image)
    }

    /// Learns that H s = y.
    pub fn learn(&mut self, s: Vec<f64>, y: Vec<f64>) -> Result<()> {
        let (curvature, length) = (dot(&s, &y), norm(&s));
        if !curvature.is_finite() || length == 0.0 {
            return Ok(());
        }
        let full = self.pairs.len() >= self.memory;
        if full {
            self.pairs.remove(0);
        }
        reserve(&mut self.pairs, 1)?;
        let first = self.pairs.is_empty();
        if first || full {
            let latest = dot(&y, &y) / curvature.abs().max(1e-12 * dot(&y, &y));
            if latest.is_finite() && latest > 0.0 {
                self.gamma = latest;
            }
        }
        self.pairs.push((s, y));
        let mut first = self.pairs.len() - 1;
        if full {
            self.terms.clear();
            first = 0;
        }
        let pairs = std::mem::take(&mut self.pairs);
        let updated = pairs[first..].iter().try_for_each(|(s, y)| self.update(s, y));
        self.pairs = pairs;
        updated
    }

    fn update(&mut self, s: &[f64], y: &[f64]) -> Result<()> {
        let mut rest = self.times(s)?;
        rest.iter_mut().zip(y).for_each(|(r, y)| *r = y - *r);
        let inner = dot(&rest, s);
        // The safeguard of Nocedal and Wright (6.26).
        if inner.abs() >= 1e-8 * norm(s) * norm(&rest) && inner != 0.0 {
            scale(1.0 / inner.abs().sqrt(), &mut rest);
            if finite(&rest) {
                reserve(&mut self.terms, 1)?;
                self.terms.push((inner.signum(), rest));
            }
        }
        Ok(())
    }
}
