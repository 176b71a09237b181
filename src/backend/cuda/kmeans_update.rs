//! The sums of clusters, whole iterations, and the distances of rows from the centroids of their labels.

use super::argument::{Pointer, Struct, arguments};
use super::faults::Fault;
use super::kmeans::{Assignment, assign};
use super::module::Kernel;
use super::rows::Divisor;
use super::stage::{Stage, THREADS};
use crate::backend::Launch;
use crate::backend::projection::Projection;
use crate::backend::scalar::kmeans::{check_assign, check_distances, check_labels, check_update, stripe};
use crate::tensor::error::ensure;
use crate::tensor::{DType, Device, Result, View, ViewMut};

/// Columns of a block of `kmeans_update`.
const COLUMNS: usize = 32;
/// Blocks of it that a multiprocessor has at least, where the stripes can be shared out.
const BLOCKS: usize = 8;

/// As cuda/kmeans_update.cu has it.
#[repr(C)]
struct Clusters {
    x: Pointer,
    weights: Pointer,
    rows: Pointer,
    starts: Pointer,
    k: u64,
    d: u64,
    parts: u64,
    stripe: u64,
    column_blocks: u64,
    by_column_blocks: Divisor,
}

// SAFETY: const float *x, *weights; const unsigned *rows, *starts; u64 k, d, parts, stripe, column_blocks; Divisor
// by_column_blocks.
unsafe impl Struct for Clusters {}

/// What is on the device: x[n, d], labels[n], weights[n] or none, and where sums[k, d] and masses[k] go.
struct Update {
    x: Pointer,
    labels: Pointer,
    weights: Pointer,
    sums: Pointer,
    masses: Pointer,
    n: usize,
    k: usize,
    d: usize,
}

fn weights_of(stage: &mut Stage, weights: &View) -> Result<Pointer> {
    let pointer = stage.input(weights, DType::F32)?;
    Ok(if weights.count() > 0 { pointer } else { Pointer(0) })
}

/// Labels on the host are looked at before anything is done, as on the other rows; those on the device only the kernels see.
fn check_labels_here(labels: &View, k: usize) -> Result<()> {
    match labels.device() {
        Device::Host => check_labels(labels, k).map(|_| ()),
        Device::Cuda(_) => Ok(()),
    }
}

pub fn kmeans_update(
    launch: &Launch,
    x: &View,
    labels: &View,
    weights: &View,
    changed: Option<&View>,
    sums: &mut ViewMut,
    masses: &mut ViewMut,
) -> Result<()> {
    check_update(x.dims(), labels.count(), weights.count(), sums.dims(), masses.count())?;
    let (n, k, d) = (x.dim(0), masses.count(), x.dim(1));
    let marks = changed.map_or(k, View::count);
    ensure!(marks == k, Shape, "k-means: {marks} marks of change for {k} clusters");
    ensure!(n == 0 || k > 0, Shape, "k-means: there are {n} labels and no cluster");
    check_labels_here(labels, k)?;
    let mut stage = Stage::new(launch)?;
    let (x, labels) = (stage.input(x, DType::F32)?, stage.input(labels, DType::U32)?);
    let weights = weights_of(&mut stage, weights)?;
    let (sums, masses) = (stage.output(sums, DType::F64)?, stage.output(masses, DType::F64)?);
    let arguments = arguments![labels, n as u64, k as u32, stage.gpu.faults().pointer(Fault::Label)];
    // SAFETY: kmeans_check_labels(labels, n, k, fault).
    unsafe { stage.launch(Kernel::kmeans_check_labels, n.div_ceil(THREADS as usize), THREADS, arguments) }?;
    update(&mut stage, &Update { x, labels, weights, sums, masses, n, k, d })?;
    stage.finish()
}

/// The rows are sorted by label, in index order within each; then blocks of threads share clusters and columns. Where these are
/// few, they share stripes, too, of which each leaves its sums.
fn update(stage: &mut Stage, given: &Update) -> Result<()> {
    let &Update { x, labels, weights, sums, masses, n, k, d } = given;
    let bits = usize::BITS - k.saturating_sub(1).leading_zeros();
    let [sorted, rows] = stage.sorter(n, bits, true)?.sort(stage, labels, n, Pointer(0))?;
    let (stripe, column_blocks) = (stripe(n), (d + usize::from(weights != Pointer(0))).div_ceil(COLUMNS).max(1));
    let few = k * column_blocks < BLOCKS * stage.gpu.multiprocessors() as usize;
    let parts = if few { n.div_ceil(stripe).max(1) } else { 1 };
    let starts = stage.scratch((k * parts + 1) * size_of::<u32>())?;
    let height = if parts > 1 { stripe } else { n.max(1) };
    let arguments = arguments![sorted, rows, n as u64, k as u32, parts as u64, height as u64, starts];
    // SAFETY: kmeans_starts(labels, rows, n, k, parts, height, starts).
    unsafe { stage.launch(Kernel::kmeans_starts, (n + 1).div_ceil(THREADS as usize), THREADS, arguments) }?;
    let pitch = k * d + k;
    let [to_sums, to_masses] = if parts > 1 {
        let of_stripes = stage.scratch(parts * pitch * size_of::<f64>())?;
        [of_stripes, of_stripes.at(k * d * size_of::<f64>())]
    } else {
        [sums, masses]
    };
    let clusters = Clusters {
        x,
        weights,
        rows,
        starts,
        k: k as u64,
        d: d as u64,
        parts: parts as u64,
        stripe: stripe as u64,
        column_blocks: column_blocks as u64,
        by_column_blocks: Divisor::new(column_blocks),
    };
    let arguments = arguments![&clusters, to_sums, to_masses, pitch as u64];
    // SAFETY: kmeans_update(clusters, sums, masses, pitch).
    unsafe { stage.launch(Kernel::kmeans_update, k * parts * column_blocks, THREADS, arguments) }?;
    if parts <= 1 {
        return Ok(());
    }
    let arguments = arguments![to_sums, parts as u64, (k * d) as u64, k as u64, sums, masses];
    // SAFETY: kmeans_add_stripes(of_stripes, stripes, count, k, sums, masses).
    unsafe { stage.launch(Kernel::kmeans_add_stripes, pitch.div_ceil(THREADS as usize), THREADS, arguments) }
}

/// The labels stay on the device between the two halves.
pub fn kmeans_iterate(
    launch: &Launch,
    x: &View,
    weights: &View,
    centroids: &View,
    _: Option<&Projection>,
    labels: &mut ViewMut,
    bounds: &mut ViewMut,
    sums: &mut ViewMut,
    masses: &mut ViewMut,
) -> Result<()> {
    check_update(x.dims(), labels.count(), weights.count(), sums.dims(), masses.count())?;
    check_assign(x.dims(), centroids.dims(), labels.count(), bounds.dims())?;
    let (n, k, d) = (x.dim(0), centroids.dim(0), x.dim(1));
    let clusters = masses.count();
    ensure!(k == clusters, Shape, "k-means: {k} centroids and {clusters} masses");
    let mut stage = Stage::new(launch)?;
    let (x, centroids) = (stage.input(x, DType::F32)?, stage.input(centroids, DType::F64)?);
    let weights = weights_of(&mut stage, weights)?;
    let bounded = bounds.count() > 0;
    let (labels, bounds) = (stage.output(labels, DType::U32)?, stage.output(bounds, DType::F32)?);
    let (sums, masses) = (stage.output(sums, DType::F64)?, stage.output(masses, DType::F64)?);
    let (rows, bounds) = (Pointer(0), if bounded { bounds } else { Pointer(0) });
    assign(&mut stage, &Assignment { x, centroids, rows, labels, bounds, count: n, n, k, d })?;
    update(&mut stage, &Update { x, labels, weights, sums, masses, n, k, d })?;
    stage.finish()
}

pub fn kmeans_distances(
    launch: &Launch,
    x: &View,
    labels: &View,
    centroids: &View,
    distances: &mut ViewMut,
) -> Result<()> {
    check_distances(x.dims(), labels.count(), centroids.dims(), distances.count())?;
    let (n, k, d) = (x.dim(0), centroids.dim(0), x.dim(1));
    check_labels_here(labels, k)?;
    let mut stage = Stage::new(launch)?;
    let (x, labels) = (stage.input(x, DType::F32)?, stage.input(labels, DType::U32)?);
    let centroids = stage.input(centroids, DType::F64)?;
    let distances = stage.output(distances, DType::F32)?;
    let fault = stage.gpu.faults().pointer(Fault::Label);
    let arguments = arguments![x, labels, centroids, n as u64, k as u32, d as u64, distances, fault];
    // SAFETY: kmeans_distances(x, labels, centroids, n, k, d, distances, fault).
    unsafe { stage.warps(Kernel::kmeans_distances, n, arguments) }?;
    stage.finish()
}
