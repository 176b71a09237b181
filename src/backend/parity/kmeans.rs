//! Labels are those of distances in f64, and sums have one order: every row gives the same bits. Bounds differ, and hold.

use super::{EXACT, SIZES, check, dirty, integers, normal};
use crate::backend::projection::{self, Projection};
use crate::tensor::{DType, Result, Tensor};

/// As f64.
pub fn wide(x: &Tensor) -> Tensor {
    let wide: Vec<f64> = x.host::<f32>().unwrap().iter().map(|&x| f64::from(x)).collect();
    Tensor::from_slice(&wide, x.dims()).unwrap()
}

fn assign(
    row: &super::Row,
    x: &Tensor,
    centroids: &Tensor,
    rows: Option<&Tensor>,
    bounded: bool,
) -> Result<Vec<Tensor>> {
    assign_by(row, x, centroids, rows, None, bounded)
}

/// The labels; with `bounded`, after a look at the bounds.
fn assign_by(
    row: &super::Row,
    x: &Tensor,
    centroids: &Tensor,
    rows: Option<&Tensor>,
    projection: Option<&Projection>,
    bounded: bool,
) -> Result<Vec<Tensor>> {
    let n = x.dims()[0];
    let (mut labels, mut bounds) = (dirty(DType::U32, &[n]), dirty(DType::F32, &[if bounded { n } else { 0 }, 2]));
    let (labels_view, bounds_view) = (&mut labels.view_mut(), &mut bounds.view_mut());
    let rows_view = rows.map(Tensor::view);
    let (x_view, centroids_view) = (x.view(), centroids.view());
    let call = row.kernels.kmeans_assign;
    call(&row.launch, &x_view, rows_view.as_ref(), &centroids_view, projection, labels_view, bounds_view)?;
    if bounded {
        check_bounds(x, centroids, rows, &labels, &bounds);
    }
    Ok(vec![labels])
}

fn check_bounds(x: &Tensor, centroids: &Tensor, rows: Option<&Tensor>, labels: &Tensor, bounds: &Tensor) {
    let d = x.dims()[1];
    let (x, centroids) = (x.host::<f32>().unwrap(), centroids.host::<f64>().unwrap());
    let (labels, bounds) = (labels.host::<u32>().unwrap(), bounds.host::<f32>().unwrap());
    let listed: Vec<usize> = match rows {
        Some(rows) => rows.host::<u32>().unwrap().iter().map(|&row| row as usize).collect(),
        None => (0..labels.len()).collect(),
    };
    for row in 0..labels.len() {
        let (upper, lower) = (f64::from(bounds[2 * row]), f64::from(bounds[2 * row + 1]));
        if !listed.contains(&row) {
            assert_eq!((labels[row], upper, lower), (77, -77.5, -77.5), "row {row} is not listed");
            continue;
        }
        for (c, centroid) in centroids.chunks_exact(d.max(1)).enumerate() {
            let square = |(x, c): (&f32, &f64)| (f64::from(*x) - c).powi(2);
            let distance = x[row * d..][..d].iter().zip(centroid).map(square).sum::<f64>().sqrt();
            let slack = 1e-14 * distance;
            if c == labels[row] as usize {
                assert!(distance <= upper + slack, "row {row}: {distance} from its centroid, above {upper}");
            } else {
                assert!(distance >= lower - slack, "row {row}: {distance} from centroid {c}, below {lower}");
            }
        }
    }
}

struct Sums<'a> {
    x: &'a Tensor,
    weights: &'a Tensor,
    k: usize,
}

impl Sums<'_> {
    fn empty(&self) -> [Tensor; 2] {
        [dirty(DType::F64, &[self.k, self.x.dims()[1]]), dirty(DType::F64, &[self.k])]
    }

    fn update(&self, row: &super::Row, labels: &Tensor) -> Result<Vec<Tensor>> {
        let [mut sums, mut masses] = self.empty();
        let (sums_view, masses_view) = (&mut sums.view_mut(), &mut masses.view_mut());
        let (x, weights) = (self.x.view(), self.weights.view());
        (row.kernels.kmeans_update)(&row.launch, &x, &labels.view(), &weights, None, sums_view, masses_view)?;
        Ok(vec![sums, masses])
    }

    fn iterate(&self, row: &super::Row, centroids: &Tensor) -> Result<Vec<Tensor>> {
        let [mut sums, mut masses] = self.empty();
        let n = self.x.dims()[0];
        let (mut labels, mut bounds) = (dirty(DType::U32, &[n]), dirty(DType::F32, &[n, 2]));
        let (labels_view, bounds_view) = (&mut labels.view_mut(), &mut bounds.view_mut());
        let (sums_view, masses_view) = (&mut sums.view_mut(), &mut masses.view_mut());
        let (x, weights, centroids_view) = (self.x.view(), self.weights.view(), centroids.view());
        let call = row.kernels.kmeans_iterate;
        call(&row.launch, &x, &weights, &centroids_view, None, labels_view, bounds_view, sums_view, masses_view)?;
        check_bounds(self.x, centroids, None, &labels, &bounds);
        Ok(vec![labels, sums, masses])
    }
}

fn distances(row: &super::Row, x: &Tensor, labels: &Tensor, centroids: &Tensor) -> Result<Vec<Tensor>> {
    let mut distances = dirty(DType::F32, &[x.dims()[0]]);
    let distances_view = &mut distances.view_mut();
    (row.kernels.kmeans_distances)(&row.launch, &x.view(), &labels.view(), &centroids.view(), distances_view)?;
    Ok(vec![distances])
}

/// Sums of some labels, then of others by what has changed.
#[test]
fn clusters_that_did_not_change_may_be_left_as_they_are() {
    let (n, k, d) = (5000, 40, 33);
    let (x, weights) = (normal(&[n, d], 1), normal(&[n], 4));
    let (before, mut now) = (labels(n, k), labels(n, k));
    let mut changed = vec![0u32; k];
    for i in (0..n).step_by(700) {
        let label = &mut now.host_mut::<u32>().unwrap()[i];
        changed[*label as usize] = 1;
        *label = (*label + 7) % k as u32;
        changed[*label as usize] = 1;
    }
    assert!(changed.contains(&0));
    let changed = Tensor::from_slice(&changed, &[k]).unwrap();
    let all = Sums { x: &x, weights: &weights, k };
    check("kmeans_update where something changed", EXACT, |row| {
        let mut found = all.update(row, &before)?;
        let (sums, masses) = found.split_at_mut(1);
        let (sums, masses) = (&mut sums[0].view_mut(), &mut masses[0].view_mut());
        let (x, weights) = (x.view(), weights.view());
        (row.kernels.kmeans_update)(&row.launch, &x, &now.view(), &weights, Some(&changed.view()), sums, masses)?;
        Ok(found)
    });
    // The reference is that of a single update: `changed` only spares work.
    check("kmeans_update of the labels after the change", EXACT, |row| all.update(row, &now));
    let few = Tensor::from_slice(&[1u32; 3], &[3]).unwrap();
    check("too few marks of change", EXACT, |row| {
        let [mut sums, mut masses] = all.empty();
        let (sums_view, masses_view) = (&mut sums.view_mut(), &mut masses.view_mut());
        let (x, weights) = (x.view(), weights.view());
        (row.kernels.kmeans_update)(&row.launch, &x, &now.view(), &weights, Some(&few.view()), sums_view, masses_view)?;
        Ok(vec![sums, masses])
    });
}

fn labels(n: usize, k: usize) -> Tensor {
    integers(&[n], 3, k as u64, |i| i as u32)
}

#[test]
fn kmeans_assign() {
    for n in SIZES {
        for (k, d) in [(1, 1), (2, 7), (3, 32), (4, 33), (5, 63), (64, 64), (65, 257), (17, 321), (3, 4097), (7, 0)] {
            let (x, centroids) = (normal(&[n, d], 1), wide(&normal(&[k, d], 2)));
            for bounded in [false, true] {
                check(&format!("kmeans_assign of [{n}, {d}] to {k}"), EXACT, |row| {
                    assign(row, &x, &centroids, None, bounded)
                });
            }
            let some: Vec<u32> = (0..n as u32).filter(|i| i % 3 != 1).collect();
            let some = Tensor::from_slice(&some, &[some.len()]).unwrap();
            check(&format!("kmeans_assign of some of [{n}, {d}] to {k}"), EXACT, |row| {
                assign(row, &x, &centroids, Some(&some), true)
            });
        }
    }
}

/// Centroids of more panels than are multiplied at a time, in several slices of the dimensions.
#[test]
fn many_centroids_of_many_dimensions() {
    for (n, k, d) in [(100, 300, 700), (600, 131, 20), (1030, 140, 430)] {
        let (x, centroids) = (normal(&[n, d], 1), wide(&normal(&[k, d], 2)));
        check(&format!("kmeans_assign of [{n}, {d}] to {k}"), EXACT, |row| assign(row, &x, &centroids, None, true));
    }
}

/// Integers of few values and centroids that are there twice: most distances tie, and the order of comparison shows.
#[test]
fn ties_go_to_the_lowest_index_on_every_row() {
    for (n, k, d) in [(257, 12, 2), (400, 9, 5), (64, 31, 40), (50, 40, 330)] {
        let few = |count: usize, seed: u32| integers(&[count, d], seed, 3, |i| i as f32);
        check(&format!("kmeans_assign with ties, [{n}, {d}] to {k}"), EXACT, |row| {
            assign(row, &few(n, 5), &wide(&few(k, 6)), None, true)
        });
    }
}

/// Distances that f32 cannot tell apart, or not in the form of a product: f64 decides.
#[test]
fn near_ties_are_decided_in_f64() {
    // At 1e-5 and 1e-4, some of the rows are clear.
    let cases = [(0.0, 1.0), (1e4, 1.0), (3e6, 1.0), (0.0, 1e-20), (5.0, 0.0), (0.0, 1.0), (0.0, 1.0)];
    for ((offset, spread), nudge) in cases.into_iter().zip([1e-9, 1e-9, 1e-7, 1e-29, 1e-12, 1e-5, 1e-4]) {
        for (n, k, d) in [(200usize, 20usize, 3usize), (70, 33, 40)] {
            let x: Vec<f32> = normal(&[n, d], 1).host::<f32>().unwrap().iter().map(|x| offset + spread * x).collect();
            // Each centroid is there four times, as far apart as nothing in f32.
            let places = normal(&[k.div_ceil(4), d], 2);
            let places = places.host::<f32>().unwrap();
            let centroid = |i: usize| {
                let noise = ((i * 2_654_435_761) % 1000) as f64 / 1000.0 - 0.5;
                f64::from(offset) + f64::from(spread) * f64::from(places[i / d / 4 * d + i % d]) + nudge * noise
            };
            let centroids: Vec<f64> = (0..k * d).map(centroid).collect();
            let (x, centroids) =
                (Tensor::from_slice(&x, &[n, d]).unwrap(), Tensor::from_slice(&centroids, &[k, d]).unwrap());
            check(&format!("near ties at {offset}, [{n}, {d}] to {k}"), EXACT, |row| {
                assign(row, &x, &centroids, None, true)
            });
        }
    }
}

/// Rows that are so much larger than what centroids differ by that f64 does not see the difference either, or just sees it.
#[test]
fn ties_of_f64_are_ties() {
    for size in [1.0f32, 1e4, 1e8, 1e12, 1e17] {
        for (n, k, d) in [(30, 20, 1), (40, 33, 3), (25, 7, 70)] {
            let x: Vec<f32> = integers(&[n, d], 1, 3, |i| size * (1.0 + i as f32)).host::<f32>().unwrap().to_vec();
            for small in [1.0, 1e-4, 1e-9, 1e-12, 1e-16, 1e-20] {
                let some = normal(&[k, d], 2);
                let centroids: Vec<f64> = some.host::<f32>().unwrap().iter().map(|&c| small * f64::from(c)).collect();
                let (x, centroids) =
                    (Tensor::from_slice(&x, &[n, d]).unwrap(), Tensor::from_slice(&centroids, &[k, d]).unwrap());
                check(&format!("rows of {size}, centroids of {small}, [{n}, {d}] to {k}"), EXACT, |row| {
                    assign(row, &x, &centroids, None, true)
                });
            }
        }
    }
}

/// By way of the first dimensions of all: a basis of unit vectors.
pub fn first_dimensions(x: &Tensor, axes: usize, centre: Vec<f32>) -> Projection {
    let d = x.dims()[1];
    let x = x.host::<f32>().unwrap();
    let mut basis = vec![0.0f32; axes * d];
    (0..axes).for_each(|i| basis[i * d + i] = 1.0);
    let error = 1e-3;
    let (mut points, mut squares, mut norms) = (Vec::new(), Vec::new(), Vec::new());
    for row in x.chunks_exact(d) {
        let row: Vec<f32> = row.iter().enumerate().map(|(j, x)| x - centre.get(j).unwrap_or(&0.0)).collect();
        let length = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let norm = length(&row) as f32 * (1.0 + 1e-6);
        points.extend_from_slice(&row[..axes]);
        points.push(projection::rest(f64::from(norm), length(&row[..axes]), error) as f32);
        squares.push(length(&row).powi(2) as f32);
        norms.push(norm);
    }
    Projection::new(basis, centre, points, squares, norms, error)
}

/// On every CPU level: what a projection spares changes nothing. The rest of a centroid counts for much here, or for nothing.
#[test]
fn projections_change_nothing() {
    for (n, k, d, axes) in [(100, 24, 48, 15), (70, 40, 65, 31), (300, 130, 50, 7), (30, 17, 330, 63), (9, 3, 20, 4)] {
        for (rest, centred) in [(1.0, false), (0.1, true), (0.0, false)] {
            let flattened = |dims: &[usize], seed| {
                let tensor = normal(dims, seed);
                let scaled = |(i, &x): (usize, &f32)| if i % d < axes { x } else { x * rest };
                let scaled: Vec<f32> = tensor.host::<f32>().unwrap().iter().enumerate().map(scaled).collect();
                Tensor::from_slice(&scaled, dims).unwrap()
            };
            let (x, centroids) = (flattened(&[n, d], 1), wide(&flattened(&[k, d], 2)));
            let centre = if centred { normal(&[d], 3).host::<f32>().unwrap().to_vec() } else { Vec::new() };
            let projection = first_dimensions(&x, axes, centre);
            let some: Vec<u32> = (0..n as u32).filter(|i| i % 4 != 1).collect();
            let some = Tensor::from_slice(&some, &[some.len()]).unwrap();
            for rows in [None, Some(&some)] {
                check(&format!("kmeans_assign of [{n}, {d}] to {k} by {axes}"), EXACT, |row| {
                    assign_by(row, &x, &centroids, rows, Some(&projection), true)
                });
            }
        }
    }
}

#[test]
fn numbers_at_the_ends_of_the_range() {
    let extremes = [0.0f32, -0.0, 1e-45, -1e-40, 1e-23, 1e17, -1e17, 3e17, -3e17, 1.0];
    let some = |dims: &[usize], seed: u32| integers(dims, seed, 10, |i| extremes[i as usize]);
    let tiny = |dims: &[usize], seed: u32| integers(dims, seed, 5, |i| extremes[i as usize]);
    for (n, k, d) in [(65, 9, 33), (65, 40, 5)] {
        check("kmeans_assign of extremes", EXACT, |row| {
            assign(row, &some(&[n, d], 7), &wide(&some(&[k, d], 8)), None, true)
        });
        check("kmeans_assign of denormals", EXACT, |row| {
            assign(row, &tiny(&[n, d], 7), &wide(&tiny(&[k, d], 8)), None, true)
        });
        let labels = labels(n, k);
        let (x, weights) = (some(&[n, d], 7), some(&[n], 9));
        check("kmeans_update of extremes", EXACT, |row| Sums { x: &x, weights: &weights, k }.update(row, &labels));
        check("kmeans_distances of extremes", EXACT, |row| distances(row, &x, &labels, &wide(&some(&[k, d], 8))));
    }
}

#[test]
fn kmeans_update() {
    for n in SIZES.into_iter().chain([5000]) {
        for (k, d) in [(1, 1), (2, 7), (5, 63), (64, 64), (65, 257), (300, 16), (3, 0)] {
            for weighted in [false, true] {
                let (x, weights) = (normal(&[n, d], 1), normal(&[if weighted { n } else { 0 }], 4));
                check(&format!("kmeans_update of [{n}, {d}], {k} clusters, weighted: {weighted}"), EXACT, |row| {
                    Sums { x: &x, weights: &weights, k }.update(row, &labels(n, k))
                });
            }
        }
    }
}

#[test]
fn kmeans_iterate() {
    for n in SIZES.into_iter().chain([5000]) {
        for (k, d) in [(1, 1), (2, 7), (5, 63), (64, 64), (300, 130), (3, 0)] {
            if n * k * d > 1 << 26 {
                continue;
            }
            for weighted in [false, true] {
                let (x, weights) = (normal(&[n, d], 1), normal(&[if weighted { n } else { 0 }], 4));
                let centroids = wide(&normal(&[k, d], 2));
                check(&format!("kmeans_iterate of [{n}, {d}], {k} clusters, weighted: {weighted}"), EXACT, |row| {
                    Sums { x: &x, weights: &weights, k }.iterate(row, &centroids)
                });
            }
        }
    }
}

#[test]
fn kmeans_distances() {
    for n in SIZES {
        for (k, d) in [(1, 1), (2, 7), (5, 63), (64, 64), (65, 257), (3, 4097), (3, 0)] {
            let (x, centroids) = (normal(&[n, d], 1), wide(&normal(&[k, d], 2)));
            check(&format!("kmeans_distances of [{n}, {d}], {k} clusters"), EXACT, |row| {
                distances(row, &x, &labels(n, k), &centroids)
            });
        }
    }
}

#[test]
fn wrong_arguments_are_refused_by_every_row() {
    let none = Tensor::zeros(DType::F32, &[0]).unwrap();
    let x = normal(&[9, 2], 1);
    let assign = |name: &str, x: &Tensor, centroids: &Tensor, rows: Option<&[u32]>| {
        let rows = rows.map(|rows| Tensor::from_slice(rows, &[rows.len()]).unwrap());
        check(name, EXACT, |row| assign(row, x, centroids, rows.as_ref(), true));
    };
    assign("rows and no centroid", &x, &wide(&normal(&[0, 2], 2)), None);
    assign("centroids of another width", &x, &wide(&normal(&[2, 3], 2)), None);
    assign("centroids of f32", &x, &normal(&[2, 2], 2), None);
    assign("rows of integers", &integers(&[9, 1], 3, 3, |i| i as u32), &wide(&normal(&[2, 1], 2)), None);
    assign("a row past the last", &x, &wide(&normal(&[2, 2], 2)), Some(&[0, 9]));
    assign("a row that comes twice", &x, &wide(&normal(&[2, 2], 2)), Some(&[4, 4]));
    check("a label past the clusters", EXACT, |row| Sums { x: &x, weights: &none, k: 2 }.update(row, &labels(9, 8)));
    check("too few weights", EXACT, |row| Sums { x: &x, weights: &normal(&[8], 2), k: 2 }.update(row, &labels(9, 2)));
    check("too few weights of an iteration", EXACT, |row| {
        Sums { x: &x, weights: &normal(&[8], 2), k: 2 }.iterate(row, &wide(&normal(&[2, 2], 2)))
    });
    check("more centroids than sums", EXACT, |row| {
        Sums { x: &x, weights: &none, k: 2 }.iterate(row, &wide(&normal(&[5, 2], 2)))
    });
    check("distances from a label past the clusters", EXACT, |row| {
        distances(row, &x, &labels(9, 8), &wide(&normal(&[2, 2], 2)))
    });
}
