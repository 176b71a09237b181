//! Rows to their nearest centroids: scores in tolerance with proven bounds, and f64 for the rows that they leave open. See
//! cuda/kmeans.cuh.

use super::argument::{Pointer, Struct, arguments};
use super::faults::Fault;
use super::module::Kernel;
use super::stage::{Stage, THREADS, blocks_of};
use crate::backend::Launch;
use crate::backend::projection::Projection;
use crate::backend::scalar::kmeans::{check_assign, check_rows};
use crate::tensor::error::{Result, error};
use crate::tensor::{DType, Device, View, ViewMut};

/// Rows and centroids of a tile, and columns of a stage, which have two parts of 16 bits of each number.
const TILE: usize = 128;
const DEPTH: usize = 32;
const SIDE: usize = 2 * 2 * TILE * DEPTH;
const HEADS: usize = 2 * TILE * size_of::<f32>();
const SCORE_THREADS: u32 = 256;
const NARROW_THREADS: usize = 128;
const SPREAD_THREADS: u32 = 512;
/// Rows of a block of `kmeans_exact`.
const EXACT_ROWS: usize = 4;
/// More columns have so large a bound that all rows would be open.
const MOST_COLUMNS: usize = 1 << 24;

/// The unit of the roundings of f32.
const UNIT: f64 = f32::EPSILON as f64 / 2.0;
/// e of cuda/kmeans.cuh.
const EACH: f64 = 1.0 / 4096.0;

/// The bounds of cuda/kmeans.cuh, for rows of so many columns.
#[repr(C)]
struct Errors {
    relative: f64,
    each: f64,
    all: f64,
    raise: f64,
}

// SAFETY: double relative, each, all, raise.
unsafe impl Struct for Errors {}

impl Errors {
    fn of(d: usize) -> Errors {
        let d = d as f64;
        let roundings = (d / 16.0 + 236.0) * UNIT;
        let relative = roundings / (1.0 - roundings) * (1.0 + 2.0 * roundings);
        Errors { relative, each: d.sqrt() * EACH, all: 4.0 * d * EACH * EACH, raise: 2.0 + 4.0 * relative }
    }
}

/// How far a sum of squares may be off: eight threads add up a row.
fn rounding(d: usize) -> f64 {
    (d as f64 / 8.0 + 32.0) * UNIT
}

/// As cuda/kmeans.cuh has it.
#[repr(C)]
struct Search {
    x: Pointer,
    rows: Pointer,
    centre: Pointer,
    frame: Pointer,
    packed: Pointer,
    heads: Pointer,
    found: Pointer,
    n: u64,
    count: u64,
    d: u64,
    k: u64,
    tiles_of_slice: u64,
    rounding: f32,
    smallest: f32,
}

// SAFETY: const float *x; const unsigned *rows; const float *centre; Frame *frame; const void *packed; const float
// (*heads)[2][TILE]; Found *found; u64 n, count, d, k, tiles_of_slice; float rounding, smallest.
unsafe impl Struct for Search {}

/// As cuda/kmeans.cu has it.
#[repr(C)]
struct Exact {
    x: Pointer,
    list: Pointer,
    length: Pointer,
    centroids: Pointer,
    labels: Pointer,
    bounds: Pointer,
    count: u64,
    n: u64,
    k: u64,
    d: u64,
}

// SAFETY: const float *x; const unsigned *list; const u64 *length; const double *centroids; unsigned *labels; float *bounds; u64
// count, n, k, d.
unsafe impl Struct for Exact {}

/// What is on the device: x[n, d], centroids[k, d], rows[count] or all of x, and where the labels and bounds go.
pub struct Assignment {
    pub x: Pointer,
    pub centroids: Pointer,
    pub rows: Pointer,
    pub labels: Pointer,
    pub bounds: Pointer,
    pub count: usize,
    pub n: usize,
    pub k: usize,
    pub d: usize,
}

pub fn kmeans_assign(
    launch: &Launch,
    x: &View,
    rows: Option<&View>,
    centroids: &View,
    _: Option<&Projection>,
    labels: &mut ViewMut,
    bounds: &mut ViewMut,
) -> Result<()> {
    check_assign(x.dims(), centroids.dims(), labels.count(), bounds.dims())?;
    if let Some(rows) = rows.filter(|rows| rows.device() == Device::Host) {
        check_rows(Some(rows), x.dim(0))?;
    }
    let ([n, d], k) = ([x.dim(0), x.dim(1)], centroids.dim(0));
    let count = rows.map_or(n, View::count);
    let mut stage = Stage::new(launch)?;
    let (x, centroids) = (stage.input(x, DType::F32)?, stage.input(centroids, DType::F64)?);
    let (listed, bounded) = (rows.is_some(), bounds.count() > 0);
    let rows = rows.map_or(Ok(Pointer(0)), |rows| stage.input(rows, DType::U32))?;
    // Rows that are not listed keep what they have.
    let (labels, bounds) = if listed {
        (stage.update(labels, DType::U32)?, stage.update(bounds, DType::F32)?)
    } else {
        (stage.output(labels, DType::U32)?, stage.output(bounds, DType::F32)?)
    };
    if listed && count > 0 {
        let arguments = arguments![rows, count as u64, n as u64, stage.gpu.faults().pointer(Fault::Row)];
        // SAFETY: kmeans_check_rows(rows, count, n, fault).
        unsafe { stage.launch(Kernel::kmeans_check_rows, count.div_ceil(THREADS as usize), THREADS, arguments) }?;
    }
    let bounds = if bounded { bounds } else { Pointer(0) };
    assign(&mut stage, &Assignment { x, centroids, rows, labels, bounds, count, n, k, d })?;
    stage.finish()
}

pub fn assign(stage: &mut Stage, given: &Assignment) -> Result<()> {
    // A list of rows of nothing was noted.
    if given.count == 0 || given.n == 0 {
        return Ok(());
    }
    let open = if given.d == 0 || given.d > MOST_COLUMNS { [given.rows, Pointer(0)] } else { search(stage, given)? };
    let &Assignment { x, centroids, labels, bounds, count, n, k, d, .. } = given;
    let [list, length] = open;
    let [total, n, k, d] = [count, n, k, d].map(|size| size as u64);
    let exact = Exact { x, list, length, centroids, labels, bounds, count: total, n, k, d };
    let blocks = count.div_ceil(EXACT_ROWS);
    // Only the device knows how long its list is.
    let blocks = if length == Pointer(0) { blocks } else { blocks.min(8 * stage.gpu.multiprocessors() as usize) };
    // SAFETY: kmeans_exact(exact).
    unsafe { stage.launch(Kernel::kmeans_exact, blocks, THREADS, arguments![&exact]) }
}

/// Labels all rows but those of a list, and says where that list and its length are.
fn search(stage: &mut Stage, given: &Assignment) -> Result<[Pointer; 2]> {
    let &Assignment { labels, bounds, count, d, .. } = given;
    let narrow = Narrow::of(d);
    let (mut search, slack) = pack(stage, given, narrow.as_ref())?;
    let slices = score(stage, &mut search, narrow.as_ref())?;
    let list = stage.scratch(count * size_of::<u32>())?;
    let raise = Errors::of(d).raise;
    // How far distances in f64 may be off, for each unit of |x'|^2.
    let ties = (d as f64 / 4.0 + 16.0) * (f64::EPSILON / 2.0) * 1.01;
    let arguments = arguments![&search, slices as u64, slack, raise, ties, 2.0 * rounding(d), list, labels, bounds];
    // SAFETY: kmeans_settle(search, slices, slack, raise, ties, rounding, list, labels, bounds).
    unsafe { stage.launch(Kernel::kmeans_settle, count.div_ceil(THREADS as usize), THREADS, arguments) }?;
    Ok([list, search.frame.at(2 * size_of::<f64>())])
}

/// The kernel for rows of a few columns, as how many it takes them, and the rows of a block.
struct Narrow {
    kernel: Kernel,
    width: usize,
    rows: usize,
}

impl Narrow {
    fn of(d: usize) -> Option<Narrow> {
        let (kernel, width, each) = match d {
            0..=2 => (Kernel::kmeans_scores_2, 2, 4),
            3..=4 => (Kernel::kmeans_scores_4, 4, 4),
            5..=8 => (Kernel::kmeans_scores_8, 8, 4),
            9..=16 => (Kernel::kmeans_scores_16, 16, 2),
            _ => return None,
        };
        Some(Narrow { kernel, width, rows: each * NARROW_THREADS })
    }
}

/// The centroids as the search wants them, and the slack of each.
fn pack(stage: &mut Stage, given: &Assignment, narrow: Option<&Narrow>) -> Result<(Search, Pointer)> {
    let &Assignment { x, centroids, rows, count, n, k, d, .. } = given;
    let (stages, tiles) = (d.div_ceil(DEPTH), k.div_ceil(TILE));
    let bytes = match narrow {
        Some(narrow) => tiles.checked_mul(TILE * narrow.width * size_of::<f32>()),
        None => tiles.checked_mul(stages).and_then(|sides| sides.checked_mul(SIDE)),
    };
    let bytes = bytes.ok_or_else(|| error!(Memory, "k-means: {k} centroids of {d} numbers do not fit"))?;
    let (packed, heads) = (stage.scratch(bytes)?, stage.scratch(tiles * HEADS)?);
    let slack = stage.scratch(tiles * TILE * size_of::<f32>())?;
    let centre = stage.scratch(stages * DEPTH * size_of::<f32>())?;
    let spreads = stage.scratch(stages * 4 * size_of::<f64>())?;
    let frame = stage.scratch(3 * size_of::<u64>())?;
    let [n, count, d_wide, k_wide] = [n, count, d, k].map(|size| size as u64);
    let arguments = arguments![centroids, k_wide, 1.0 / k as f64, d_wide, stages as u64, centre, spreads];
    // SAFETY: kmeans_spread(centroids, k, inverse_k, d, blocks, centre, spreads), a block for 32 columns, as a stage has.
    unsafe { stage.launch(Kernel::kmeans_spread, stages, SPREAD_THREADS, arguments) }?;
    let arguments = arguments![spreads, stages as u64, k_wide, centre, frame];
    // SAFETY: kmeans_frame(spreads, blocks, k, centre, frame).
    unsafe { stage.launch(Kernel::kmeans_frame, 1, THREADS, arguments) }?;
    let (width, errors) = (narrow.map_or(0, |narrow| narrow.width as u32), Errors::of(d));
    let arguments = arguments![centroids, k_wide, d_wide, width, centre, frame, &errors, packed, heads, slack];
    // SAFETY: kmeans_pack(centroids, k, d, width, centre, frame, errors, packed, heads, slack).
    unsafe { stage.warps(Kernel::kmeans_pack, tiles * TILE, arguments) }?;
    let (rounding, smallest) = ((1.0 + 2.0 * rounding(d)) as f32, (d as f64 * 2f64.powi(-100)) as f32);
    let (found, tiles_of_slice) = (Pointer(0), tiles as u64);
    let search = Search {
        x,
        rows,
        centre,
        frame,
        packed,
        heads,
        found,
        n,
        count,
        d: d_wide,
        k: k_wide,
        tiles_of_slice,
        rounding,
        smallest,
    };
    Ok((search, slack))
}

/// The two least scores of each row, among the centroids of each of so many slices.
fn score(stage: &mut Stage, search: &mut Search, narrow: Option<&Narrow>) -> Result<usize> {
    let (tiles, count) = ((search.k as usize).div_ceil(TILE), search.count as usize);
    let blocks = count.div_ceil(narrow.map_or(TILE, |narrow| narrow.rows));
    // Where rows alone do not give all multiprocessors something, the centroids are shared out, too.
    let wanted = (2 * stage.gpu.multiprocessors() as usize).div_ceil(blocks).min(tiles);
    let tiles_of_slice = tiles.div_ceil(wanted);
    let slices = tiles.div_ceil(tiles_of_slice);
    let bytes = count.checked_mul(slices * 4 * size_of::<f32>());
    let bytes = bytes.ok_or_else(|| error!(Memory, "k-means: the scores of {count} rows do not fit"))?;
    search.found = stage.scratch(bytes)?;
    search.tiles_of_slice = tiles_of_slice as u64;
    let (blocks, slices_wide) = (blocks_of(&[blocks])?, blocks_of(&[slices])?);
    if let Some(narrow) = narrow {
        let (grid, block) = ([blocks, slices_wide, 1], [NARROW_THREADS as u32, 1, 1]);
        // SAFETY: kernel(search), blocks for all rows and slices.
        unsafe { stage.gpu.launch(narrow.kernel, grid, block, 0, arguments![&*search]) }?;
        return Ok(slices);
    }
    // Two stages of the centroids, and the squares and norms of the rows.
    let shared = |sides: usize| sides * SIDE + 2 * (SIDE + HEADS) + TILE * 2 * size_of::<f32>();
    let resident = shared((search.d as usize).div_ceil(DEPTH));
    let (kernel, shared) = if resident <= stage.gpu.shared_memory() {
        (Kernel::kmeans_scores, resident)
    } else {
        (Kernel::kmeans_scores_long, shared(2))
    };
    let (grid, block) = ([blocks, slices_wide, 1], [SCORE_THREADS, 1, 1]);
    // SAFETY: kernel(search), a block for 128 rows and a slice, with the memory of its stages and norms.
    unsafe { stage.gpu.launch(kernel, grid, block, shared as u32, arguments![&*search]) }?;
    Ok(slices)
}
