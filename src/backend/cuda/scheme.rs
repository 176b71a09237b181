//! From weights to trits and scales, and back. The two schemes that rank magnitudes are in `magnitudes.rs`.

use super::argument::{Last, Philox, Pointer, Struct, arguments};
use super::module::Kernel;
use super::rows::{BLOCK, Divisor, Groups as DeviceGroups, Rows, adding};
use super::stage::{Stage, THREADS};
use crate::backend::Launch;
use crate::backend::scalar::scheme::Groups;
use crate::backend::scalar::ternary::check_packed;
use crate::tensor::random::Stream;
use crate::tensor::{DType, Result, View, ViewMut};

/// Groups up to this wide are done four by a warp.
const FEW: usize = 256;

pub fn absmean(launch: &Launch, w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()> {
    let groups = Groups::new("absmean", w.dims(), group)?;
    groups.check("absmean: thresholds", thresholds.dims())?;
    groups.check("absmean: scales", scales.dims())?;
    let mut stage = Stage::new(launch)?;
    let w = stage.input(w, DType::F32)?;
    let (thresholds, scales) = (stage.output(thresholds, DType::F32)?, stage.output(scales, DType::F32)?);
    let given = DeviceGroups::from(&groups);
    if groups.width <= BLOCK {
        let arguments = arguments![w, &given, thresholds, scales];
        // SAFETY: absmean_groups(w, groups, thresholds, scales).
        unsafe { stage.warps(Kernel::absmean_groups, warps_of(&groups), arguments) }?;
        return stage.finish();
    }
    let (units, by_units) = units_of(&groups);
    let sums = stage.scratch(groups.count() * units * size_of::<f32>())?;
    let arguments = arguments![w, &given, units as u64, &by_units, sums];
    // SAFETY: absmean_blocks(w, groups, units, by_units, sums).
    unsafe { stage.few_warps(Kernel::absmean_blocks, groups.count() * units, arguments) }?;
    let arguments = arguments![&given, units as u64, sums, thresholds, scales];
    // SAFETY: absmean_of_blocks(groups, units, sums, thresholds, scales).
    unsafe { stage.launch(Kernel::absmean_of_blocks, groups.count(), adding(units), arguments) }?;
    stage.finish()
}

pub fn mean_above(launch: &Launch, w: &View, group: usize, thresholds: &View, scales: &mut ViewMut) -> Result<()> {
    let groups = Groups::new("mean_above", w.dims(), group)?;
    groups.check("mean_above: thresholds", thresholds.dims())?;
    groups.check("mean_above: scales", scales.dims())?;
    let mut stage = Stage::new(launch)?;
    let (w, thresholds) = (stage.input(w, DType::F32)?, stage.input(thresholds, DType::F32)?);
    let scales = stage.output(scales, DType::F32)?;
    let given = DeviceGroups::from(&groups);
    if groups.width <= BLOCK {
        let arguments = arguments![w, &given, thresholds, scales];
        // SAFETY: mean_above_groups(w, groups, thresholds, scales).
        unsafe { stage.warps(Kernel::mean_above_groups, warps_of(&groups), arguments) }?;
        return stage.finish();
    }
    let (units, by_units) = units_of(&groups);
    let blocks = groups.count() * units;
    let (sums, counts) = (stage.scratch(blocks * size_of::<f32>())?, stage.scratch(blocks * size_of::<u32>())?);
    let arguments = arguments![w, &given, units as u64, &by_units, thresholds, sums, counts];
    // SAFETY: mean_above_blocks(w, groups, units, by_units, thresholds, sums, counts).
    unsafe { stage.warps(Kernel::mean_above_blocks, blocks, arguments) }?;
    let arguments = arguments![&given, units as u64, sums, counts, scales];
    // SAFETY: mean_above_of_blocks(groups, units, sums, counts, scales).
    unsafe { stage.launch(Kernel::mean_above_of_blocks, groups.count(), adding(units), arguments) }?;
    stage.finish()
}

fn warps_of(groups: &Groups) -> usize {
    if groups.width <= FEW { groups.count().div_ceil(4) } else { groups.count() }
}

/// The canonical blocks of each group.
fn units_of(groups: &Groups) -> (usize, Divisor) {
    let units = groups.width.div_ceil(BLOCK);
    (units, Divisor::new(units))
}

/// The thresholds or scales of the groups (`Shared` in cuda/scheme.cu).
#[repr(C)]
struct Shared {
    values: Pointer,
    width: u64,
    per_row: u64,
    by_width: Divisor,
    whole: Last<u32>,
}

// SAFETY: const float *values; u64 width, per_row; Divisor by_width; unsigned whole.
unsafe impl Struct for Shared {}

impl Shared {
    fn new(groups: &Groups, values: Pointer) -> Shared {
        let (width, per_row) = (groups.width as u64, groups.per_row as u64);
        Shared { values, width, per_row, by_width: Divisor::new(groups.width), whole: u32::from(groups.whole).into() }
    }
}

pub fn ternarize(launch: &Launch, w: &View, group: usize, thresholds: &View, packed: &mut ViewMut) -> Result<()> {
    let groups = Groups::new("ternarize", w.dims(), group)?;
    groups.check("ternarize: thresholds", thresholds.dims())?;
    check_packed("ternarize", packed.dims(), groups.rows, groups.columns, 4)?;
    let mut stage = Stage::new(launch)?;
    let (w, thresholds) = (stage.input(w, DType::F32)?, stage.input(thresholds, DType::F32)?);
    let packed = stage.output(packed, DType::U8)?;
    let (groups, bytes, columns) = as_one_row(groups);
    let thresholds = Shared::new(&groups, thresholds);
    let arguments = arguments![w, &bytes, columns, &thresholds, packed];
    // SAFETY: ternarize(w, bytes, columns, thresholds, packed).
    unsafe { stage.launch(Kernel::ternarize, bytes.blocks(), THREADS, arguments) }?;
    stage.finish()
}

pub fn ternarize_stochastic(
    launch: &Launch,
    w: &View,
    group: usize,
    scales: &View,
    stream: Stream,
    packed: &mut ViewMut,
) -> Result<()> {
    let groups = Groups::new("ternarize_stochastic", w.dims(), group)?;
    groups.check("ternarize_stochastic: scales", scales.dims())?;
    check_packed("ternarize_stochastic", packed.dims(), groups.rows, groups.columns, 4)?;
    let mut stage = Stage::new(launch)?;
    let (w, scales) = (stage.input(w, DType::F32)?, stage.input(scales, DType::F32)?);
    let packed = stage.output(packed, DType::U8)?;
    let (groups, bytes, columns) = as_one_row(groups);
    let (scales, stream) = (Shared::new(&groups, scales), Philox::from(stream));
    let arguments = arguments![w, &bytes, columns, &scales, &stream, packed];
    // SAFETY: ternarize_stochastic(w, bytes, columns, scales, stream, packed).
    unsafe { stage.launch(Kernel::ternarize_stochastic, bytes.blocks(), THREADS, arguments) }?;
    stage.finish()
}

pub fn deternarize(launch: &Launch, packed: &View, group: usize, scales: &View, w: &mut ViewMut) -> Result<()> {
    let groups = Groups::new("deternarize", w.dims(), group)?;
    groups.check("deternarize: scales", scales.dims())?;
    check_packed("deternarize", packed.dims(), groups.rows, groups.columns, 4)?;
    let mut stage = Stage::new(launch)?;
    let (packed, scales) = (stage.input(packed, DType::U8)?, stage.input(scales, DType::F32)?);
    let w = stage.output(w, DType::F32)?;
    let (groups, bytes, columns) = as_one_row(groups);
    let scales = Shared::new(&groups, scales);
    let arguments = arguments![packed, &bytes, columns, &scales, w];
    // SAFETY: deternarize(packed, bytes, columns, scales, w).
    unsafe { stage.launch(Kernel::deternarize, bytes.blocks(), THREADS, arguments) }?;
    stage.finish()
}

/// The packed bytes, two bits a trit, and the columns. Rows that fill their bytes and their groups lie together as one row
/// would, with its groups.
fn as_one_row(mut groups: Groups) -> (Groups, Rows, u64) {
    let Groups { rows, columns, width, whole, .. } = groups;
    if columns.is_multiple_of(4) && (whole || columns.is_multiple_of(width)) {
        groups.per_row *= if whole { 1 } else { rows };
        (groups.rows, groups.columns) = (1, rows * columns);
    }
    let bytes = Rows::new(groups.rows, groups.columns.div_ceil(4));
    (groups, bytes, groups.columns as u64)
}
