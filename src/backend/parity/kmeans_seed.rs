//! Distances and sums are canonical: every row gives the same bits, with a projection or without.

use super::kmeans::first_dimensions;
use super::{EXACT, SIZES, check, dirty, integers, normal};
use crate::backend::projection::Projection;
use crate::tensor::{DType, Result, Tensor};

struct Seeds<'a> {
    x: &'a Tensor,
    weights: &'a Tensor,
    least: &'a Tensor,
    projection: Option<&'a Projection>,
    /// The nearest seed of each row, and for each candidate and seed whom that spares.
    known: Option<(&'a Tensor, &'a Tensor)>,
}

impl Seeds<'_> {
    fn of(&self, row: &super::Row, candidates: &Tensor) -> Result<Vec<Tensor>> {
        let (n, m) = (self.least.count(), candidates.count());
        let (mut lower, mut gains) = (dirty(DType::F32, &[m, n]), dirty(DType::F64, &[m]));
        let (to, sums) = (&mut lower.view_mut(), &mut gains.view_mut());
        let (x, weights, candidates, least) =
            (self.x.view(), self.weights.view(), candidates.view(), self.least.view());
        let nothing = (Tensor::zeros(DType::U32, &[0])?, Tensor::zeros(DType::F32, &[0, 0])?);
        let (labels, limits) = self.known.unwrap_or((&nothing.0, &nothing.1));
        let (labels, limits) = (labels.view(), limits.view());
        let call = row.kernels.kmeans_seed;
        call(&row.launch, &x, &weights, &candidates, self.projection, &labels, &limits, &least, to, sums)?;
        Ok(vec![lower, gains])
    }
}

fn candidates(m: usize, n: usize) -> Tensor {
    integers(&[if n > 0 { m } else { 0 }], 6, n.max(1) as u64, |i| i as u32)
}

/// About half of the distances are below these.
fn distances(n: usize, d: usize) -> Tensor {
    integers(&[n], 5, 1000, |i| 2.0 * d as f32 * (0.5 + i as f32 / 1000.0))
}

#[test]
fn kmeans_seed() {
    for n in SIZES.into_iter().chain([5000]) {
        for (m, d) in [(1, 1), (2, 7), (8, 32), (5, 257), (17, 300), (3, 4097), (2, 9000), (0, 3), (2, 0)] {
            if n * m * d > 1 << 26 {
                continue;
            }
            for weighted in [false, true] {
                let (x, least) = (normal(&[n, d], 1), distances(n, d));
                let weights = normal(&[if weighted { n } else { 0 }], 4);
                let seeds = Seeds { x: &x, weights: &weights, least: &least, projection: None, known: None };
                let what = format!("kmeans_seed of [{n}, {d}], {m} candidates, weighted: {weighted}");
                check(&what, EXACT, |row| seeds.of(row, &candidates(m, n)));
            }
        }
    }
}

#[test]
fn projections_change_nothing() {
    for (n, m, d, axes) in [(100, 8, 48, 15), (300, 20, 65, 31), (3000, 5, 50, 7), (30, 1, 330, 63)] {
        for (rest, centred) in [(1.0, false), (0.1, true), (0.0, false)] {
            let x = normal(&[n, d], 1);
            let scaled = |(i, &x): (usize, &f32)| if i % d < axes { x } else { x * rest };
            let x: Vec<f32> = x.host::<f32>().unwrap().iter().enumerate().map(scaled).collect();
            let x = Tensor::from_slice(&x, &[n, d]).unwrap();
            let centre = if centred { normal(&[d], 3).host::<f32>().unwrap().to_vec() } else { Vec::new() };
            let projection = first_dimensions(&x, axes, centre);
            let (weights, least) = (normal(&[n], 4), distances(n, axes));
            let seeds = Seeds { x: &x, weights: &weights, least: &least, projection: Some(&projection), known: None };
            let what = format!("kmeans_seed of [{n}, {d}] by {axes}, {m} candidates");
            check(&what, EXACT, |row| seeds.of(row, &candidates(m, n)));
        }
    }
}

/// Of rows that are told to be no nearer, which they are, nothing is looked at; the others are found all the same.
#[test]
fn what_is_known_of_the_seeds_changes_nothing() {
    let (n, m, d, seeds) = (3000, 5, 20, 7);
    let none = Tensor::zeros(DType::F32, &[0]).unwrap();
    // Rows about as many middles as there are seeds, which are the first rows.
    let (middles, noise) = (normal(&[seeds, d], 2), normal(&[n, d], 1));
    let middles = middles.host::<f32>().unwrap();
    let values: Vec<f32> =
        noise.host::<f32>().unwrap().iter().enumerate().map(|(i, x)| x + 2.0 * middles[i % (seeds * d)]).collect();
    let labels: Vec<u32> = (0..n as u32).map(|i| i % seeds as u32).collect();
    let candidates = candidates(m, n);
    let row = |i: usize| &values[i * d..][..d];
    let between = |i: usize, j: usize| row(i).iter().zip(row(j)).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    let least: Vec<f32> = (0..n).map(|i| between(i, labels[i] as usize)).collect();
    let limit = |i: usize| 0.249 * between(candidates.host::<u32>().unwrap()[i / seeds] as usize, i % seeds);
    let limits: Vec<f32> = (0..m * seeds).map(limit).collect();
    // True of all rows: what the limits spare is no nearer.
    let nearer = |c: usize, i: usize| {
        between(i, candidates.host::<u32>().unwrap()[c] as usize) < least[i]
            && least[i] <= limits[c * seeds + labels[i] as usize]
    };
    let spares = |c: usize, i: usize| least[i] <= limits[c * seeds + labels[i] as usize];
    let spared = (0..m * n).filter(|&at| spares(at / n, at % n)).count();
    assert!(spared > n && spared < m * n - n && !(0..m * n).any(|at| nearer(at / n, at % n)), "{spared}");
    let x = Tensor::from_slice(&values, &[n, d]).unwrap();
    let (labels, limits) =
        (Tensor::from_slice(&labels, &[n]).unwrap(), Tensor::from_slice(&limits, &[m, seeds]).unwrap());
    let least = Tensor::from_slice(&least, &[n]).unwrap();
    let projection = first_dimensions(&x, 7, Vec::new());
    for projection in [None, Some(&projection)] {
        let seeds = Seeds { x: &x, weights: &none, least: &least, projection, known: Some((&labels, &limits)) };
        check("kmeans_seed with what is known", EXACT, |row| seeds.of(row, &candidates));
    }
}

#[test]
fn numbers_at_the_ends_of_the_range() {
    let extremes = [0.0f32, -0.0, 1e-45, -1e-40, 1e-23, 1e17, -1e17, 3e17];
    let x = integers(&[65, 33], 7, 8, |i| extremes[i as usize]);
    let none = Tensor::zeros(DType::F32, &[0]).unwrap();
    for least in [0.0, 1e-45, f32::MAX] {
        let least = integers(&[65], 1, 1, |_| least);
        let seeds = Seeds { x: &x, weights: &none, least: &least, projection: None, known: None };
        check("kmeans_seed of extremes", EXACT, |row| seeds.of(row, &candidates(4, 65)));
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let (x, none) = (normal(&[9, 2], 1), Tensor::zeros(DType::F32, &[0]).unwrap());
    let refused = |name: &str, weights: &Tensor, least: &Tensor, candidates: &[u32]| {
        let candidates = Tensor::from_slice(candidates, &[candidates.len()]).unwrap();
        let seeds = Seeds { x: &x, weights, least, projection: None, known: None };
        check(name, EXACT, |row| seeds.of(row, &candidates));
    };
    let known = |name: &str, labels: &[u32], dims: &[usize]| {
        let (labels, limits) = (Tensor::from_slice(labels, &[labels.len()]).unwrap(), normal(dims, 2));
        let (candidates, least) = (Tensor::from_slice(&[4u32], &[1]).unwrap(), distances(9, 2));
        let known = Some((&labels, &limits));
        let seeds = Seeds { x: &x, weights: &none, least: &least, projection: None, known };
        check(name, EXACT, |row| seeds.of(row, &candidates));
    };
    known("a label past the last seed", &[0, 1, 2, 0, 3, 1, 2, 0, 1], &[1, 3]);
    known("too few labels", &[0, 1, 2], &[1, 3]);
    known("limits of other candidates", &[0, 1, 2, 0, 2, 1, 2, 0, 1], &[2, 3]);
    refused("a candidate past the last row", &none, &distances(9, 2), &[0, 9]);
    refused("too few distances", &none, &distances(8, 2), &[0]);
    refused("too few weights", &normal(&[8], 1), &distances(9, 2), &[0]);
}
