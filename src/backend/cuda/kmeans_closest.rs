//! Several nearest centroids of each row: see cuda/kmeans_closest.cu.

use super::argument::{Pointer, arguments};
use super::module::Kernel;
use super::stage::{MOST_BLOCKS, Stage, THREADS, narrow};
use crate::backend::Launch;
use crate::backend::scalar::kmeans_closest::check_closest;
use crate::tensor::error::{Result, error};
use crate::tensor::{DType, View, ViewMut};

/// Rows and centroids of a block of `kmeans_squares`.
const TILE_ROWS: usize = 16;
const TILE_CENTROIDS: usize = 32;
/// Distances that are there at a time, unless those of a tile of rows are more: they stay in the device's cache.
const TOGETHER: usize = 1 << 22;
/// So many of a row are sorted by a warp: those of the block's eight warps are what every block may have of shared memory.
const FEW: usize = 512;
/// A square, and whose it is.
const ENTRY: usize = size_of::<u64>() + size_of::<u32>();

pub fn kmeans_closest(
    launch: &Launch,
    x: &View,
    centroids: &View,
    labels: &mut ViewMut,
    distances: &mut ViewMut,
) -> Result<()> {
    check_closest(x.dims(), centroids.dims(), labels.dims(), distances.dims())?;
    let ([n, d], k, m) = ([x.dim(0), x.dim(1)], centroids.dim(0), labels.dim(1));
    let (few, many) = (narrow(k)?, narrow(m)?);
    let bits = many.next_power_of_two().trailing_zeros();
    let mut stage = Stage::new(launch)?;
    let (x, centroids) = (stage.input(x, DType::F32)?, stage.input(centroids, DType::F64)?);
    let (labels, distances) = (stage.output(labels, DType::U32)?, stage.output(distances, DType::F32)?);
    let rows = (TOGETHER / k / TILE_ROWS * TILE_ROWS).clamp(TILE_ROWS, n.max(TILE_ROWS)).min(n);
    let bytes = |size: usize| rows.checked_mul(k).and_then(|count| count.checked_mul(size));
    let too_many = || error!(Memory, "k-means: the distances from {k} centroids do not fit");
    let squares = stage.scratch(bytes(size_of::<u64>()).ok_or_else(too_many)?)?;
    let team = if k <= FEW { 32 } else { THREADS };
    let teams = (THREADS / team) as usize;
    let shared = teams * k * ENTRY;
    let (shared, numbers) = if shared <= stage.gpu.shared_memory() {
        (shared, Pointer(0))
    } else {
        (0, stage.scratch(bytes(size_of::<u32>()).ok_or_else(too_many)?)?)
    };
    for first in (0..n).step_by(rows.max(1)) {
        let count = rows.min(n - first);
        let (x, labels) = (x.at(first * d * size_of::<f32>()), labels.at(first * m * size_of::<u32>()));
        let distances = distances.at(first * m * size_of::<f32>());
        let count_wide = count as u64;
        let arguments = arguments![x, centroids, count_wide, k as u64, d as u64, squares];
        let tiles = count.div_ceil(TILE_ROWS) * k.div_ceil(TILE_CENTROIDS);
        // SAFETY: kmeans_squares(x, centroids, count, k, d, squares).
        unsafe { stage.launch(Kernel::kmeans_squares, tiles, THREADS, arguments) }?;
        let arguments = arguments![squares, numbers, count_wide, few, many, bits, team, labels, distances];
        let grid = [count.div_ceil(teams).min(MOST_BLOCKS) as u32, 1, 1];
        // SAFETY: kmeans_nearest(squares, numbers, count, k, m, bits, team, labels, distances), with the memory of its teams.
        unsafe { stage.gpu.launch(Kernel::kmeans_nearest, grid, [THREADS, 1, 1], shared as u32, arguments) }?;
    }
    stage.finish()
}
