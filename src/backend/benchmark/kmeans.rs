use super::cases::{Cases, Work, call, constant, indices, normal, normal_f64, zeros, zeros_of};
use crate::tensor::DType;

/// [points, dimensions, clusters].
const SIZES: [[usize; 3]; 5] =
    [[1024, 16, 8], [17_000, 256, 10], [20_000, 64, 64], [6000, 784, 100], [1_000_000, 128, 1024]];

pub fn cases(cases: &mut Cases) {
    for [n, d, k] in SIZES {
        cases.only_gpu(n == 1_000_000);
        let sizes = format!("{n} x {d}, {k} clusters");
        let (points, means) = (4 * n * d, 8 * k * (d + 1));
        let centroids = move || normal_f64(&[k, d], 2);
        let bounds = || zeros(&[0, 2]);
        cases.add("kmeans_assign", &sizes[..], Work::float_products(n * d * k, points + means, 4 * n), move || {
            let (x, centroids) = (normal(&[n, d], 1)?, centroids()?);
            let (mut labels, mut bounds) = (zeros_of(DType::U32, &[n])?, bounds()?);
            call(move |kernels, launch| {
                let (labels, bounds) = (&mut labels.view_mut(), &mut bounds.view_mut());
                (kernels.kmeans_assign)(launch, &x.view(), None, &centroids.view(), None, labels, bounds)
            })
        });
        let read = points + means;
        cases.add("kmeans_iterate", &sizes[..], Work::float_products(n * d * k, read, 4 * n + means), move || {
            let (x, weights, centroids) = (normal(&[n, d], 1)?, zeros(&[0])?, centroids()?);
            let (mut labels, mut bounds) = (zeros_of(DType::U32, &[n])?, bounds()?);
            let (mut sums, mut masses) = (zeros_of(DType::F64, &[k, d])?, zeros_of(DType::F64, &[k])?);
            call(move |kernels, launch| {
                let (labels, bounds) = (&mut labels.view_mut(), &mut bounds.view_mut());
                let (sums, masses) = (&mut sums.view_mut(), &mut masses.view_mut());
                let (x, weights, centroids) = (&x.view(), &weights.view(), &centroids.view());
                (kernels.kmeans_iterate)(launch, x, weights, centroids, None, labels, bounds, sums, masses)
            })
        });
        cases.add("kmeans_update", &sizes[..], Work::elements(n * d, points + 4 * n, means), move || {
            let (x, labels, weights) = (normal(&[n, d], 1)?, indices(&[n], 2, k)?, zeros(&[0])?);
            let (mut sums, mut masses) = (zeros_of(DType::F64, &[k, d])?, zeros_of(DType::F64, &[k])?);
            call(move |kernels, launch| {
                let (sums, masses) = (&mut sums.view_mut(), &mut masses.view_mut());
                (kernels.kmeans_update)(launch, &x.view(), &labels.view(), &weights.view(), None, sums, masses)
            })
        });
        cases.add("kmeans_distances", &sizes[..], Work::elements(n * d, points + means + 4 * n, 4 * n), move || {
            let (x, labels, centroids) = (normal(&[n, d], 1)?, indices(&[n], 2, k)?, centroids()?);
            let mut distances = zeros(&[n])?;
            call(move |kernels, launch| {
                let distances = &mut distances.view_mut();
                (kernels.kmeans_distances)(launch, &x.view(), &labels.view(), &centroids.view(), distances)
            })
        });
        let some = 4.min(k);
        let found = 8 * n * some;
        cases.add("kmeans_closest", &sizes[..], Work::float_products(n * d * k, points + means, found), move || {
            let (x, centroids) = (normal(&[n, d], 1)?, centroids()?);
            let (mut labels, mut distances) = (zeros_of(DType::U32, &[n, some])?, zeros(&[n, some])?);
            call(move |kernels, launch| {
                let (labels, distances) = (&mut labels.view_mut(), &mut distances.view_mut());
                (kernels.kmeans_closest)(launch, &x.view(), &centroids.view(), labels, distances)
            })
        });
        // Candidates of greedy k-means++; between normal rows, nearly all distances are above 1.8 d.
        let drawn = 2 + (k as f64).ln() as usize;
        let lower = 4 * n * drawn;
        cases.add("kmeans_seed", &sizes[..], Work::elements(n * d, points + 4 * n, lower), move || {
            let (x, weights, candidates) = (normal(&[n, d], 1)?, zeros(&[0])?, indices(&[drawn], 2, n)?);
            let (labels, limits) = (zeros_of(DType::U32, &[0])?, zeros(&[0, 0])?);
            let least = constant(&[n], 1.8 * d as f32)?;
            let (mut lower, mut gains) = (zeros(&[drawn, n])?, zeros_of(DType::F64, &[drawn])?);
            call(move |kernels, launch| {
                let (x, weights, candidates) = (&x.view(), &weights.view(), &candidates.view());
                let (labels, limits, least) = (&labels.view(), &limits.view(), &least.view());
                let (lower, gains) = (&mut lower.view_mut(), &mut gains.view_mut());
                (kernels.kmeans_seed)(launch, x, weights, candidates, None, labels, limits, least, lower, gains)
            })
        });
    }
}
