//! The trust-region subproblem, exactly: min g's + s'Hs/2 with |s| <= radius.
//!
//! Moré and Sorensen (SIAM J. Sci. Stat. Comput. 4, 1983): s is a solution if and only if (H + lambda I) s = -g with
//! H + lambda I positive semidefinite, lambda >= 0 and lambda (radius - |s|) = 0. Newton's method on 1/|s(lambda)| = 1/radius,
//! each step one Cholesky factorization, inside of bounds of lambda. In the hard case g has no part along the eigenvectors of
//! the least eigenvalue: s(lambda) stays inside of the region, and a multiple of such an eigenvector z, found by inverse
//! iteration, reaches the boundary; -z'Hz bounds lambda from below.

use super::linear::{add, cholesky, copied, dot, largest, norm, scale, solve_lower, solve_lower_transposed};
use crate::tensor::{Result, vec_zeroed};

/// A solution of the subproblem.
pub struct Minimum {
    pub step: Vec<f64>,
    /// lambda, 0 inside of the region.
    pub multiplier: f64,
    /// g's + s'Hs/2, not above 0.
    pub value: f64,
}

/// Relative to |H|, or to g where that is more.
const PRECISION: f64 = 4e-16;

/// Of `h` [n, n] the symmetric part counts; all numbers are finite, the radius is above 0.
pub fn minimize(h: &[f64], g: &[f64], radius: f64) -> Result<Minimum> {
    let n = g.len();
    // In units of the radius and of the largest of |H| and |g|/radius nothing overflows and bounds are relative.
    let bound = (0..n).map(|i| h[i * n..(i + 1) * n].iter().map(|x| x.abs()).sum::<f64>()).fold(0.0, f64::max);
    let unit = bound.max(norm(g) / radius);
    if unit == 0.0 || !unit.is_finite() {
        return Ok(Minimum { step: vec_zeroed(n)?, multiplier: 0.0, value: 0.0 });
    }
    let (mut scaled, mut slope): (Vec<f64>, _) = (vec_zeroed(n * n)?, copied(g)?);
    for i in 0..n {
        (0..n).for_each(|k| scaled[i * n + k] = 0.5 * (h[i * n + k] / unit) + 0.5 * (h[k * n + i] / unit));
    }
    slope.iter_mut().for_each(|x| *x = *x / unit / radius);
    let mut search = Search { h: &scaled, g: &slope, n, l: vec_zeroed(n * n)?, low: 0.0, high: 0.0 };
    let (mut step, multiplier) = search.run()?;
    // Not outside by a rounding either.
    let length = norm(&step).max(1.0);
    scale(1.0 / length, &mut step);
    let mut value = dot(&slope, &step);
    for i in 0..n {
        value += 0.5 * step[i] * dot(&scaled[i * n..(i + 1) * n], &step);
    }
    scale(radius, &mut step);
    Ok(Minimum { step, multiplier: multiplier * unit, value: value * unit * radius * radius })
}

/// lambda is in low ..= high, in the region of radius 1.
struct Search<'a> {
    h: &'a [f64],
    g: &'a [f64],
    n: usize,
    l: Vec<f64>,
    low: f64,
    high: f64,
}

impl Search<'_> {
    fn run(&mut self) -> Result<(Vec<f64>, f64)> {
        let n = self.n;
        self.bounds();
        let mut lambda = self.low;
        let mut best = None;
        for _ in 0..200 {
            if !cholesky(self.h, n, lambda, &mut self.l) {
                self.low = self.low.max(lambda);
                if self.high - self.low <= PRECISION * self.high {
                    if let Some(best) = best {
                        return Ok(best);
                    }
                    // Rounding put the bound below what is positive definite.
                    self.high = self.high.max(PRECISION) * (1.0 + 4.0 * PRECISION);
                }
                lambda = self.between();
                continue;
            }
            let step = self.newton_step()?;
            let length = norm(&step);
            let inside = length <= 1.0;
            if (lambda == 0.0 && inside) || (length - 1.0).abs() <= PRECISION * 4.0 {
                return Ok((step, lambda));
            }
            let mut inverse = copied(&step)?;
            solve_lower(&self.l, n, &mut inverse);
            let next = lambda + (length - 1.0) * (length / norm(&inverse)).powi(2);
            if inside {
                self.high = self.high.min(lambda);
                let (candidate, curvature) = self.to_boundary(&step)?;
                self.low = self.low.max(lambda - curvature);
                // Where lambda is 0 but for rounding, the minimum inside is one, and going further would gain nothing.
                let flat = lambda <= PRECISION * n as f64;
                best = Some(if flat { (copied(&step)?, 0.0) } else { (candidate, lambda) });
            } else {
                self.low = self.low.max(lambda);
                if best.is_none() {
                    best = Some((step.iter().map(|s| s / length).collect(), lambda));
                }
            }
            // Newton's method has come as far as rounding lets it.
            if (next - lambda).abs() <= PRECISION * lambda && (length - 1.0).abs() < 1e-9 {
                return Ok((step, lambda));
            }
            if self.high - self.low <= PRECISION * self.high {
                break;
            }
            lambda = if next > self.low && next < self.high { next } else { self.between() };
        }
        match best {
            Some((step, lambda)) => Ok((step, lambda)),
            None => Ok((vec_zeroed(n)?, lambda)),
        }
    }

    /// From the diagonal, and from |H| <= 1, which is what the units make of it.
    fn bounds(&mut self) {
        let slope = norm(self.g);
        let diagonal = self.h.iter().step_by(self.n + 1).fold(f64::INFINITY, |least, h| least.min(*h));
        self.low = (slope - 1.0).max(-diagonal).max(0.0);
        self.high = (slope + 1.0) * (1.0 + 1e-15);
    }

    fn between(&self) -> f64 {
        (self.low * self.high).sqrt().max(self.low + 0.01 * (self.high - self.low))
    }

    /// -(H + lambda I)^-1 g.
    fn newton_step(&self) -> Result<Vec<f64>> {
        let mut step = copied(self.g)?;
        scale(-1.0, &mut step);
        solve_lower(&self.l, self.n, &mut step);
        solve_lower_transposed(&self.l, self.n, &mut step);
        Ok(step)
    }

    /// The step and what of a vector of least curvature takes it to the boundary, to the side where the model is lower; and
    /// z'(H + lambda I)z for that vector.
    fn to_boundary(&self, step: &[f64]) -> Result<(Vec<f64>, f64)> {
        let n = self.n;
        let mut z: Vec<f64> = vec_zeroed(n)?;
        // A fixed start without symmetry, so that no eigenvector of a plain matrix is orthogonal to it.
        z.iter_mut().enumerate().for_each(|(i, z)| *z = 1.0 + 0.5 * (1.3 * i as f64 + 0.7).sin());
        let mut curvature = 0.0;
        for _ in 0..4 {
            solve_lower(&self.l, n, &mut z);
            solve_lower_transposed(&self.l, n, &mut z);
            let length = norm(&z);
            if length == 0.0 || !length.is_finite() {
                break;
            }
            scale(1.0 / length, &mut z);
        }
        // |L'z|^2
        for j in 0..n {
            let part: f64 = (j..n).map(|i| self.l[i * n + j] * z[i]).sum();
            curvature += part * part;
        }
        let (inner, room) = (dot(step, &z), 1.0 - dot(step, step));
        let root = (inner * inner + room).max(0.0).sqrt();
        let far = -(inner + inner.signum() * root);
        let near = if far == 0.0 { root } else { -room / far };
        let mut candidate = copied(step)?;
        add(if largest(&z).is_finite() { near } else { 0.0 }, &z, &mut candidate);
        Ok((candidate, curvature))
    }
}
