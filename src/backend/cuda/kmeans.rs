//! The two halves of an iteration of k-means.

use super::argument::{Pointer, arguments};
use super::faults::Fault;
use super::module::Kernel;
use super::rows::Divisor;
use super::stage::{Stage, THREADS};
use crate::backend::Launch;
use crate::backend::scalar::kmeans::{check_assign, check_update};
use crate::tensor::error::ensure;
use crate::tensor::{DType, Result, View, ViewMut};

/// Threads of a block of each kernel, and the rows of a block where rows are wide.
const ASSIGN_THREADS: u32 = 128;
const WIDE_ROWS: usize = 8;
/// Columns of a block of `kmeans_update`.
const COLUMNS: usize = 32;

pub fn kmeans_assign(
    launch: &Launch,
    x: &View,
    centroids: &View,
    labels: &mut ViewMut,
    distances: &mut ViewMut,
) -> Result<()> {
    check_assign(x.dims(), centroids.dims(), labels.count(), distances.count())?;
    let (n, k, d) = (x.dim(0), centroids.dim(0) as u32, x.dim(1));
    let mut stage = Stage::new(launch)?;
    let (x, centroids) = (stage.input(x, DType::F32)?, stage.input(centroids, DType::F32)?);
    let (labels, distances) = (stage.output(labels, DType::U32)?, stage.output(distances, DType::F32)?);
    // Each thread has some rows.
    let (kernel, rows) = match d {
        0..=1 => (Kernel::kmeans_assign_1, 4),
        2 => (Kernel::kmeans_assign_2, 4),
        3..=4 => (Kernel::kmeans_assign_4, 4),
        5..=8 => (Kernel::kmeans_assign_8, 4),
        9..=16 => (Kernel::kmeans_assign_16, 2),
        17..=32 => (Kernel::kmeans_assign_32, 1),
        _ => {
            let arguments = arguments![x, centroids, n as u64, k, d as u64, labels, distances];
            // SAFETY: kmeans_assign_wide(x, centroids, n, k, d, labels, distances).
            unsafe { stage.launch(Kernel::kmeans_assign_wide, n.div_ceil(WIDE_ROWS), ASSIGN_THREADS, arguments) }?;
            return stage.finish();
        }
    };
    let arguments = arguments![x, centroids, n as u64, k, d as u32, labels, distances];
    // SAFETY: kmeans_assign_..(x, centroids, n, k, d, labels, distances).
    unsafe { stage.launch(kernel, n.div_ceil(ASSIGN_THREADS as usize * rows), ASSIGN_THREADS, arguments) }?;
    stage.finish()
}

/// The rows are sorted by label, in index order within each; then blocks of threads share clusters and columns.
pub fn kmeans_update(
    launch: &Launch,
    x: &View,
    labels: &View,
    weights: &View,
    sums: &mut ViewMut,
    masses: &mut ViewMut,
) -> Result<()> {
    check_update(x.dims(), labels.count(), weights.count(), sums.dims(), masses.count())?;
    let (n, k, d) = (x.dim(0), masses.count(), x.dim(1));
    ensure!(n == 0 || k > 0, Shape, "k-means: there are {n} labels and no cluster");
    let mut stage = Stage::new(launch)?;
    let (x, labels) = (stage.input(x, DType::F32)?, stage.input(labels, DType::U32)?);
    let weighted = weights.count() > 0;
    let weights = stage.input(weights, DType::F32)?;
    let weights = if weighted { weights } else { Pointer(0) };
    let (sums, masses) = (stage.output(sums, DType::F64)?, stage.output(masses, DType::F64)?);
    let threads_of = |count: usize| count.div_ceil(THREADS as usize);
    let arguments = arguments![labels, n as u64, k as u32, stage.gpu.faults().pointer(Fault::Label)];
    // SAFETY: kmeans_check_labels(labels, n, k, fault).
    unsafe { stage.launch(Kernel::kmeans_check_labels, threads_of(n), THREADS, arguments) }?;
    let bits = usize::BITS - k.saturating_sub(1).leading_zeros();
    let sorter = stage.sorter(n, bits, true)?;
    let [sorted, rows] = sorter.sort(&stage, labels, n, Pointer(0))?;
    let starts = stage.scratch((k + 1) * size_of::<u32>())?;
    let arguments = arguments![sorted, n as u64, k as u32, starts];
    // SAFETY: kmeans_starts(labels, n, k, starts).
    unsafe { stage.launch(Kernel::kmeans_starts, threads_of(n + 1), THREADS, arguments) }?;
    let column_blocks = (d + usize::from(weighted)).div_ceil(COLUMNS).max(1);
    let by_column_blocks = Divisor::new(column_blocks);
    let arguments =
        arguments![x, weights, rows, starts, k as u32, d as u64, column_blocks as u64, &by_column_blocks, sums, masses];
    // SAFETY: kmeans_update(x, weights, rows, starts, k, d, column_blocks, by_column_blocks, sums, masses).
    unsafe { stage.launch(Kernel::kmeans_update, k * column_blocks, THREADS, arguments) }?;
    stage.finish()
}
