use super::cases::{Cases, Work, call, indices, normal, zeros, zeros_of};
use crate::tensor::DType;

/// [points, dimensions, clusters].
const SIZES: [[usize; 3]; 4] = [[1024, 16, 8], [17_000, 256, 10], [20_000, 64, 64], [1_000_000, 128, 1024]];

pub fn cases(cases: &mut Cases) {
    for [n, d, k] in SIZES {
        cases.only_gpu(n == 1_000_000);
        let sizes = format!("{n} x {d}, {k} clusters");
        let (points, centroids) = (4 * n * d, 4 * k * d);
        cases.add("kmeans_assign", &sizes[..], Work::float_products(n * d * k, points + centroids, 8 * n), move || {
            let (x, centroids) = (normal(&[n, d], 1)?, normal(&[k, d], 2)?);
            let (mut labels, mut distances) = (zeros_of(DType::U32, &[n])?, zeros(&[n])?);
            call(move |kernels, launch| {
                let (labels, distances) = (&mut labels.view_mut(), &mut distances.view_mut());
                (kernels.kmeans_assign)(launch, &x.view(), &centroids.view(), labels, distances)
            })
        });
        cases.add("kmeans_update", &sizes[..], Work::elements(n * d, points + 4 * n, 8 * k * (d + 1)), move || {
            let (x, labels, weights) = (normal(&[n, d], 1)?, indices(&[n], 2, k)?, zeros(&[0])?);
            let (mut sums, mut masses) = (zeros_of(DType::F64, &[k, d])?, zeros_of(DType::F64, &[k])?);
            call(move |kernels, launch| {
                let (sums, masses) = (&mut sums.view_mut(), &mut masses.view_mut());
                (kernels.kmeans_update)(launch, &x.view(), &labels.view(), &weights.view(), sums, masses)
            })
        });
    }
}
