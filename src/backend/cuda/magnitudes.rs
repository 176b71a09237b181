//! The schemes that rank magnitudes, `absmedian` and `least_squares`. Groups of up to 1024 weights are sorted in registers, of a
//! thread or of a warp. Longer ones take a block of threads each; where they are few and long, the whole device does one after
//! the other.

use super::argument::{Pointer, arguments};
use super::module::Kernel;
use super::rows::Groups as DeviceGroups;
use super::sort::Sorter;
use super::stage::{Stage, THREADS};
use crate::backend::Launch;
use crate::backend::scalar::scheme::{Groups, check_least_squares};
use crate::tensor::{DType, Result, View, ViewMut};

/// Groups up to this wide are sorted by a thread, and by a warp.
const TINY: usize = 8;
const SORTED: usize = 1024;
/// Groups up to this wide are one block of threads' work, also where they are few.
const MEDIUM: usize = 1 << 16;
/// From so many groups on, each is one block of threads' work, if its weights can be counted in 32 bits.
const MANY: usize = 64;
/// Threads of a block that looks at long groups.
const WIDE: u32 = 1024;

pub fn absmedian(
    launch: &Launch,
    w: &View,
    group: usize,
    thresholds: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    let groups = checked("absmedian", w, group, thresholds, scales)?;
    let mut stage = Stage::new(launch)?;
    let w = stage.input(w, DType::F32)?;
    let (thresholds, scales) = (stage.output(thresholds, DType::F32)?, stage.output(scales, DType::F32)?);
    let kernels = [
        Kernel::absmedian_8,
        Kernel::absmedian_32,
        Kernel::absmedian_128,
        Kernel::absmedian_256,
        Kernel::absmedian_512,
        Kernel::absmedian_1024,
    ];
    if by_groups(&stage, &groups, w, kernels, Kernel::absmedian_groups, [thresholds, scales])? {
        return stage.finish();
    }
    let (counts, selection) = (stage.scratch(COUNTS)?, stage.scratch(SELECTION)?);
    // SAFETY: the blocks were taken for these bytes.
    unsafe {
        stage.gpu.set_bytes(counts, 0, COUNTS)?;
        stage.gpu.set_bytes(selection, 0, SELECTION)?;
    }
    for group in 0..groups.count() {
        let (w, count) = weights_of(&groups, group, w);
        for pass in 0..3i32 {
            let arguments = arguments![w, count as u64, pass, selection, counts];
            // SAFETY: absmedian_counts(w, count, pass, selection, counts).
            unsafe { stage.launch(Kernel::absmedian_counts, blocks(&stage, count, 1 << 16), WIDE, arguments) }?;
            let arguments = arguments![count as u64, pass, group as u64, counts, selection, thresholds, scales];
            // SAFETY: absmedian_select(count, pass, group, counts, selection, thresholds, scales).
            unsafe { stage.launch(Kernel::absmedian_select, 1, WIDE, arguments) }?;
        }
    }
    stage.finish()
}

/// Bytes of u64 counts[2048] and of a `Selection` in cuda/magnitudes.cu.
const COUNTS: usize = 2048 * 8;
const SELECTION: usize = 16;

pub fn least_squares(
    launch: &Launch,
    w: &View,
    group: usize,
    thresholds: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    let groups = checked("least_squares", w, group, thresholds, scales)?;
    if groups.count() > 0 {
        check_least_squares(groups.weights(0).len())?;
    }
    let mut stage = Stage::new(launch)?;
    let w = stage.input(w, DType::F32)?;
    let (thresholds, scales) = (stage.output(thresholds, DType::F32)?, stage.output(scales, DType::F32)?);
    let kernels = [
        Kernel::least_squares_8,
        Kernel::least_squares_32,
        Kernel::least_squares_128,
        Kernel::least_squares_256,
        Kernel::least_squares_512,
        Kernel::least_squares_1024,
    ];
    if by_groups(&stage, &groups, w, kernels, Kernel::least_squares_groups, [thresholds, scales])? {
        return stage.finish();
    }
    let scratch = Scratch::new(&mut stage, groups.width)?;
    for group in 0..groups.count() {
        let (w, count) = weights_of(&groups, group, w);
        least_squares_of(&stage, &scratch, w, count, group as u64, [thresholds, scales])?;
    }
    stage.finish()
}

/// The bins of a histogram, the integers of a tile, and the bytes of a `Search` and a `Best`, in cuda/magnitudes.cuh and
/// magnitudes.cu.
const BINS: usize = 26 * 64;
const HISTOGRAM: usize = 1 << 16;
const TILE: usize = 4096;
const SEARCH: usize = 72;
/// Where in a `Search` stands how many integers were gathered.
const GATHERED: usize = 56;
const BEST: usize = 24;

/// Memory for one long group after the other.
struct Scratch {
    search: Pointer,
    /// Counts and sums.
    histogram: Pointer,
    keys: Pointer,
    sorter: Sorter,
    sums: Pointer,
    found: Pointer,
}

impl Scratch {
    /// For up to `count` weights: all of them may have to be sorted.
    fn new(stage: &mut Stage, count: usize) -> Result<Scratch> {
        let tiles = count.div_ceil(TILE);
        Ok(Scratch {
            search: stage.scratch(SEARCH)?,
            histogram: stage.scratch(2 * BINS * 8)?,
            keys: stage.scratch(count * 4)?,
            sorter: stage.sorter(count, 32, false)?,
            sums: stage.scratch(tiles * 8)?,
            found: stage.scratch(tiles * BEST)?,
        })
    }
}

/// One group, by the whole device: a histogram of its integers tells in which few of them the answer can be; those are gathered
/// and sorted, and every k among them is looked at.
fn least_squares_of(
    stage: &Stage,
    scratch: &Scratch,
    w: Pointer,
    count: usize,
    group: u64,
    [thresholds, scales]: [Pointer; 2],
) -> Result<()> {
    let Scratch { search, histogram: counts, keys, sorter, sums, found } = scratch;
    let (search, counts, keys, sums, found) = (*search, *counts, *keys, *sums, *found);
    // SAFETY: the blocks were taken for these bytes.
    unsafe {
        stage.gpu.set_bytes(search, 0, SEARCH)?;
        stage.gpu.set_bytes(counts, 0, 2 * BINS * 8)?;
    }
    let (n, of_bins, gathered) = (count as u64, counts.at(BINS * 8), search.at(GATHERED));
    let (parts, tiles) = (blocks(stage, count, 8 * THREADS as usize), count.div_ceil(TILE));
    // SAFETY: largest_magnitude(w, count, search).
    unsafe { stage.launch(Kernel::largest_magnitude, parts, THREADS, arguments![w, n, search]) }?;
    let arguments = arguments![w, n, search, counts, of_bins];
    // SAFETY: least_squares_histogram(w, count, search, counts, sums).
    unsafe { stage.launch(Kernel::least_squares_histogram, blocks(stage, count, HISTOGRAM), WIDE, arguments) }?;
    // SAFETY: least_squares_interval(counts, sums, search).
    unsafe { stage.launch(Kernel::least_squares_interval, 1, WIDE, arguments![counts, of_bins, search]) }?;
    // SAFETY: least_squares_gather(w, count, search, keys).
    unsafe { stage.launch(Kernel::least_squares_gather, parts, THREADS, arguments![w, n, search, keys]) }?;
    let [sorted, _] = sorter.sort(stage, keys, count, gathered)?;
    // SAFETY: least_squares_sums(keys, search, sums).
    unsafe { stage.launch(Kernel::least_squares_sums, tiles, THREADS, arguments![sorted, search, sums]) }?;
    stage.running_sums(sums, tiles, (gathered, TILE as u32), Pointer(0))?;
    // SAFETY: least_squares_tiles(keys, search, starts, found).
    unsafe { stage.launch(Kernel::least_squares_tiles, tiles, THREADS, arguments![sorted, search, sums, found]) }?;
    let arguments = arguments![search, found, group, thresholds, scales];
    // SAFETY: least_squares_scale(search, found, group, thresholds, scales).
    unsafe { stage.launch(Kernel::least_squares_scale, 1, WIDE, arguments) }
}

fn checked(name: &str, w: &View, group: usize, thresholds: &ViewMut, scales: &ViewMut) -> Result<Groups> {
    let groups = Groups::new(name, w.dims(), group)?;
    groups.check("thresholds", thresholds.dims()).map_err(|e| e.within(name))?;
    groups.check("scales", scales.dims()).map_err(|e| e.within(name))?;
    Ok(groups)
}

/// Has all groups done at once, by a warp or a block of threads each; false where they are few and long.
fn by_groups(
    stage: &Stage,
    groups: &Groups,
    w: Pointer,
    kernels: [Kernel; 6],
    wide: Kernel,
    [thresholds, scales]: [Pointer; 2],
) -> Result<bool> {
    let (count, width, given) = (groups.count(), groups.width, DeviceGroups::from(groups));
    let arguments = arguments![w, &given, thresholds, scales];
    if width <= SORTED {
        let which = [TINY, 32, 128, 256, 512].iter().filter(|&&up_to| width > up_to).count();
        let threads = if which == 0 { count } else { count * 32 };
        // SAFETY: kernel(w, groups, thresholds, scales), a thread for each group, or a warp.
        unsafe { stage.launch(kernels[which], threads.div_ceil(THREADS as usize), THREADS, arguments) }?;
        return Ok(true);
    }
    let takes_blocks = width <= MEDIUM || (count >= MANY && width <= u32::MAX as usize);
    if takes_blocks {
        // SAFETY: wide(w, groups, thresholds, scales), a block for each group.
        unsafe { stage.launch(wide, count, WIDE, arguments) }?;
    }
    Ok(takes_blocks)
}

/// The first weight of a group of w, and how many there are.
fn weights_of(groups: &Groups, group: usize, w: Pointer) -> (Pointer, usize) {
    let weights = groups.weights(group);
    (w.at(weights.start * size_of::<f32>()), weights.len())
}

/// Blocks of threads for `count` weights, each of which takes `part` of them at a time: as many as find room at once.
fn blocks(stage: &Stage, count: usize, part: usize) -> usize {
    count.div_ceil(part).min(8 * stage.gpu.multiprocessors() as usize)
}
