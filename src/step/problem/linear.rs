//! The dense linear algebra of the solver, in f64 and one fixed order: products, Cholesky, and orthonormal bases that grow. What
//! everything calls is not inlined: the solver is small before it is fast, its time is that of the caller's functions.

use crate::tensor::{Result, reserve, vec_zeroed};

#[inline(never)]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The Euclidean norm; scaled where squares would overflow or vanish.
#[inline(never)]
pub fn norm(a: &[f64]) -> f64 {
    let plain = dot(a, a);
    if plain.is_finite() && plain > 1e-280 {
        return plain.sqrt();
    }
    let largest = largest(a);
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * a.iter().map(|a| (a / largest) * (a / largest)).sum::<f64>().sqrt()
}

/// The largest magnitude; NaN where there is one.
pub fn largest(a: &[f64]) -> f64 {
    a.iter().fold(0.0, |most: f64, a| if a.abs() > most || a.is_nan() { a.abs() } else { most })
}

/// y += alpha x.
#[inline(never)]
pub fn add(alpha: f64, x: &[f64], y: &mut [f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += alpha * x);
}

#[inline(never)]
pub fn scale(alpha: f64, x: &mut [f64]) {
    x.iter_mut().for_each(|x| *x *= alpha);
}

#[inline(never)]
pub fn copied(x: &[f64]) -> Result<Vec<f64>> {
    let mut copy = Vec::new();
    reserve(&mut copy, x.len())?;
    copy.extend_from_slice(x);
    Ok(copy)
}

#[inline(never)]
pub fn difference(a: &[f64], b: &[f64]) -> Result<Vec<f64>> {
    let mut difference = copied(a)?;
    add(-1.0, b, &mut difference);
    Ok(difference)
}

#[inline(never)]
pub fn finite(a: &[f64]) -> bool {
    a.iter().all(|a| a.is_finite())
}

/// The lower factor L of A + shift I = L L' into `l`; false where that is not positive definite.
pub fn cholesky(a: &[f64], n: usize, shift: f64, l: &mut [f64]) -> bool {
    for i in 0..n {
        for j in 0..=i {
            let inner = dot(&l[i * n..i * n + j], &l[j * n..j * n + j]);
            let value = a[i * n + j] + if i == j { shift } else { 0.0 } - inner;
            if i != j {
                l[i * n + j] = value / l[j * n + j];
            } else if value > 0.0 && value.is_finite() {
                l[i * n + i] = value.sqrt();
            } else {
                return false;
            }
        }
    }
    true
}

/// x = L^-1 x.
pub fn solve_lower(l: &[f64], n: usize, x: &mut [f64]) {
    for i in 0..n {
        x[i] = (x[i] - dot(&l[i * n..i * n + i], &x[..i])) / l[i * n + i];
    }
}

/// x = L'^-1 x.
pub fn solve_lower_transposed(l: &[f64], n: usize, x: &mut [f64]) {
    for i in (0..n).rev() {
        x[i] /= l[i * n + i];
        let xi = x[i];
        for j in 0..i {
            x[j] -= l[i * n + j] * xi;
        }
    }
}

/// Takes the parts along the orthonormal `basis` out of x, twice, so that what is left is orthogonal to rounding; their
/// coefficients are added to `parts`, where that has room.
#[inline(never)]
pub fn orthogonalize(basis: &[Vec<f64>], x: &mut [f64], parts: &mut [f64]) {
    for _ in 0..2 {
        for (k, vector) in basis.iter().enumerate() {
            let part = dot(vector, x);
            add(-part, vector, x);
            if let Some(sum) = parts.get_mut(k) {
                *sum += part;
            }
        }
    }
}

/// A unit vector that is linearly dependent on others keeps less than this of its length when they are taken out.
pub const DEPENDENT: f64 = 1e-10;

/// N = Q R, column by column: the normals of active constraints.
#[derive(Default)]
pub struct Factor {
    /// Orthonormal, as many as there are normals.
    pub q: Vec<Vec<f64>>,
    /// The columns of R, each as long as its number from 1.
    pub r: Vec<Vec<f64>>,
}

impl Factor {
    pub fn len(&self) -> usize {
        self.q.len()
    }

    pub fn copy(&self) -> Result<Factor> {
        let mut other = Factor::default();
        reserve(&mut other.q, self.len())?;
        reserve(&mut other.r, self.len())?;
        for (q, r) in self.q.iter().zip(&self.r) {
            other.q.push(copied(q)?);
            other.r.push(copied(r)?);
        }
        Ok(other)
    }

    pub fn truncate(&mut self, columns: usize) {
        self.q.truncate(columns);
        self.r.truncate(columns);
    }

    /// What of `normal` is orthogonal to the columns, and its coefficients.
    pub fn split(&self, normal: &[f64]) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mut rest, mut parts) = (copied(normal)?, vec_zeroed(self.len())?);
        orthogonalize(&self.q, &mut rest, &mut parts);
        Ok((rest, parts))
    }

    /// Adds the column of which [`split`](Self::split) made `rest` and `parts`.
    pub fn push(&mut self, mut rest: Vec<f64>, mut parts: Vec<f64>) -> Result<()> {
        let length = norm(&rest);
        scale(1.0 / length, &mut rest);
        reserve(&mut parts, 1)?;
        parts.push(length);
        reserve(&mut self.q, 1)?;
        reserve(&mut self.r, 1)?;
        self.q.push(rest);
        self.r.push(parts);
        Ok(())
    }

    /// x = R^-1 x.
    pub fn solve(&self, x: &mut [f64]) {
        for k in (0..self.len()).rev() {
            x[k] /= self.r[k][k];
            let xk = x[k];
            add(-xk, &self.r[k][..k], &mut x[..k]);
        }
    }

    /// x = R'^-1 x.
    pub fn solve_transposed(&self, x: &mut [f64]) {
        for k in 0..self.len() {
            x[k] = (x[k] - dot(&self.r[k][..k], &x[..k])) / self.r[k][k];
        }
    }

    /// Takes column `k` out: what follows is upper Hessenberg, and rotations of rows j, j + 1 make it triangular again.
    pub fn remove(&mut self, k: usize) {
        self.r.remove(k);
        for j in k..self.r.len() {
            let (a, b) = (self.r[j][j], self.r[j][j + 1]);
            let length = a.hypot(b);
            let (c, s) = (a / length, b / length);
            for column in &mut self.r[j..] {
                let (a, b) = (column[j], column[j + 1]);
                (column[j], column[j + 1]) = (c * a + s * b, c * b - s * a);
            }
            let (head, tail) = self.q.split_at_mut(j + 1);
            for (a, b) in head[j].iter_mut().zip(&mut tail[0]) {
                (*a, *b) = (c * *a + s * *b, c * *b - s * *a);
            }
            self.r[j].truncate(j + 1);
        }
        self.q.pop();
    }
}
