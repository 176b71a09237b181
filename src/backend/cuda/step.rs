//! The optimizer's step, and what it would do. Where AdamW's states are floats it is one pass over corresponding elements; all
//! other forms go by blocks of codes, a warp each.

use super::argument::{Last, Philox, Pointer, Struct, arguments};
use super::module::Kernel;
use super::rows::{BLOCK, Divisor, adding};
use super::stage::{Stage, THREADS};
use crate::backend::scalar::step::{CODES, FLIP_BINS, check_factors, check_momentum, check_states};
use crate::backend::{Direction, Launch, StepRule};
use crate::tensor::error::ensure;
use crate::tensor::random::Stream;
use crate::tensor::{DType, Result, View, ViewMut};

/// A `StepRule`, as cuda/step.cuh has it.
#[repr(C)]
struct Rule {
    direction: u32,
    gradient_scale: f32,
    beta: f32,
    rate1: f32,
    rate2: f32,
    inverse1: f32,
    inverse2: f32,
    epsilon: f32,
    weight_decay: f32,
    rate: f32,
    lower: f32,
    upper: f32,
    threshold: f32,
}

// SAFETY: unsigned direction; float gradient_scale, beta, rate1, rate2, inverse1, inverse2, epsilon, weight_decay, rate, lower,
// upper, threshold.
unsafe impl Struct for Rule {}

impl From<&StepRule> for Rule {
    fn from(rule: &StepRule) -> Rule {
        let &StepRule { gradient_scale, beta, rate1, rate2, inverse1, inverse2, .. } = rule;
        let &StepRule { epsilon, weight_decay, rate, lower, upper, threshold, .. } = rule;
        let direction = match rule.direction {
            Direction::AdamW => 0,
            Direction::Factored => 1,
            Direction::Momentum => 2 + u32::from(rule.nesterov),
            Direction::Given => 4,
        };
        Rule {
            direction,
            gradient_scale,
            beta,
            rate1,
            rate2,
            inverse1,
            inverse2,
            epsilon,
            weight_decay,
            rate,
            lower,
            upper,
            threshold,
        }
    }
}

/// How numbers are kept, in cuda/step.cuh.
const NOTHING: u32 = 0;
const FLOATS: u32 = 1;
const BYTES: u32 = 2;
const FACTORS: u32 = 3;

#[repr(C)]
#[derive(Clone, Copy)]
struct Kept {
    data: Pointer,
    scales: Pointer,
    kind: Last<u32>,
}

// SAFETY: void *data; float *scales; unsigned kind.
unsafe impl Struct for Kept {}

impl Kept {
    fn nothing() -> Kept {
        Kept::new(Pointer(0), Pointer(0), NOTHING)
    }

    fn new(data: Pointer, scales: Pointer, kind: u32) -> Kept {
        Kept { data, scales, kind: kind.into() }
    }

    fn kind(dtype: DType) -> u32 {
        if dtype == DType::F32 { FLOATS } else { BYTES }
    }

    fn read(stage: &mut Stage, x: &View, scales: &View) -> Result<Kept> {
        let dtype = x.dtype();
        Ok(Kept::new(stage.input(x, dtype)?, stage.input(scales, DType::F32)?, Kept::kind(dtype)))
    }

    fn update<'v>(stage: &mut Stage<'v>, x: &'v mut ViewMut<'_>, scales: &'v mut ViewMut<'_>) -> Result<Kept> {
        let dtype = x.dtype();
        Ok(Kept::new(stage.update(x, dtype)?, stage.update(scales, DType::F32)?, Kept::kind(dtype)))
    }

    fn factors(stage: &mut Stage, v: &View) -> Result<Kept> {
        Ok(Kept::new(stage.input(v, DType::F32)?, Pointer(0), FACTORS))
    }
}

/// A gradient and the states of its parameter.
#[repr(C)]
struct States {
    gradient: Pointer,
    p: Kept,
    m: Kept,
    v: Kept,
    count: u64,
    rows: u64,
    columns: u64,
    by_columns: Divisor,
}

// SAFETY: const float *gradient; Kept p, m, v; u64 count, rows, columns; Divisor by_columns.
unsafe impl Struct for States {}

impl States {
    fn new(stage: &mut Stage, gradient: &View, [p, m, v]: [Kept; 3]) -> Result<States> {
        let (rows, columns) = (gradient.dim(0), gradient.dim(1));
        Ok(States {
            gradient: stage.input(gradient, DType::F32)?,
            p,
            m,
            v,
            count: gradient.count() as u64,
            rows: rows as u64,
            columns: columns as u64,
            by_columns: Divisor::new(columns.max(1)),
        })
    }

    /// Of views that were checked, to be read alone.
    fn read(stage: &mut Stage, direction: Direction, gradient: &View, views: [&View; 6]) -> Result<States> {
        let [p, p_scales, m, m_scales, v, v_scales] = views;
        let p = Kept::read(stage, p, p_scales)?;
        let m = match direction {
            Direction::Given => Kept::nothing(),
            _ => Kept::read(stage, m, m_scales)?,
        };
        let v = match direction {
            Direction::AdamW => Kept::read(stage, v, v_scales)?,
            Direction::Factored => Kept::factors(stage, v)?,
            _ => Kept::nothing(),
        };
        States::new(stage, gradient, [p, m, v])
    }
}

fn check_results(what: &str, found: usize, expected: usize) -> Result<()> {
    ensure!(found == expected, Shape, "{what} has {found} elements, expected {expected}");
    Ok(())
}

/// Has a kernel go over the blocks of codes, a warp each.
///
/// # Safety
/// As [`Stage::launch`].
unsafe fn by_blocks(
    stage: &Stage,
    kernel: Kernel,
    count: usize,
    arguments: &[super::argument::Argument],
) -> Result<()> {
    // SAFETY: passed on to the caller.
    unsafe { stage.warps(kernel, count.div_ceil(CODES), arguments) }
}

pub fn step_momentum(
    launch: &Launch,
    rule: &StepRule,
    gradient: &View,
    m: &mut ViewMut,
    m_scales: &mut ViewMut,
    direction: &mut ViewMut,
) -> Result<()> {
    check_momentum(gradient, &m.as_view(), &m_scales.as_view(), &direction.as_view())?;
    let (count, rule) = (gradient.count(), Rule::from(rule));
    let mut stage = Stage::new(launch)?;
    let gradient = stage.input(gradient, DType::F32)?;
    let m = Kept::update(&mut stage, m, m_scales)?;
    let direction = stage.output(direction, DType::F32)?;
    let arguments = arguments![&rule, gradient, &m, direction, count as u64];
    // SAFETY: step_momentum(rule, gradient, m, direction, count).
    unsafe { by_blocks(&stage, Kernel::step_momentum, count, arguments) }?;
    stage.finish()
}

/// Columns that a block of threads takes at a time, a thread for each of their 32 lanes (cuda/step.cu).
const COLUMNS: usize = 16;

pub fn step_factors(launch: &Launch, rule: &StepRule, gradient: &View, v: &View, new: &mut ViewMut) -> Result<()> {
    let [rows, columns] = check_factors(gradient, v, &new.as_view())?;
    let mut stage = Stage::new(launch)?;
    let (gradient, v) = (stage.input(gradient, DType::F32)?, stage.input(v, DType::F32)?);
    let new = stage.output(new, DType::F32)?;
    // The canonical blocks of a row, and of a column.
    let (of_row, of_column) = (columns.div_ceil(BLOCK), rows.div_ceil(BLOCK));
    let sums = stage.scratch((rows * of_row + columns * of_column) * size_of::<f32>())?;
    let (r, c) = (rows as u64, columns as u64);
    if rows * columns > 0 {
        let by_units = Divisor::new(of_row);
        let arguments = arguments![rule.gradient_scale, gradient, r, c, of_row as u64, &by_units, sums];
        // SAFETY: step_factors_rows(gradient_scale, gradient, rows, columns, units, by_units, sums).
        unsafe { stage.warps(Kernel::step_factors_rows, rows * of_row, arguments) }?;
        let (tiles, of_columns) = (columns.div_ceil(COLUMNS), sums.at(rows * of_row * size_of::<f32>()));
        let (units, by_tiles) = (of_column as u64, Divisor::new(tiles));
        let arguments = arguments![rule.gradient_scale, gradient, r, c, units, tiles as u64, &by_tiles, of_columns];
        let (kernel, threads) = (Kernel::step_factors_columns, 32 * COLUMNS as u32);
        // SAFETY: step_factors_columns(gradient_scale, gradient, rows, columns, units, tiles, by_tiles, sums).
        unsafe { stage.launch(kernel, tiles * of_column, threads, arguments) }?;
    }
    let arguments = arguments![rule.rate2, v, sums, r, c, of_row as u64, of_column as u64, new];
    // SAFETY: step_factors_means(rate, v, sums, rows, columns, row_units, column_units, now).
    unsafe { stage.warps(Kernel::step_factors_means, rows + columns, arguments) }?;
    let threads = adding(32 * of_column.min(32));
    // SAFETY: step_factors_whole(now, rows, columns).
    unsafe { stage.launch(Kernel::step_factors_whole, 1, threads, arguments![new, r, c]) }?;
    stage.finish()
}

/// Sums of `step_sums`.
const SUMS: usize = 5;

pub fn step_sums(
    launch: &Launch,
    rule: &StepRule,
    gradient: &View,
    parameter: &View,
    parameter_scales: &View,
    m: &View,
    m_scales: &View,
    v: &View,
    v_scales: &View,
    sums: &mut ViewMut,
) -> Result<()> {
    let views = [parameter, parameter_scales, m, m_scales, v, v_scales];
    check_states("step_sums", rule.direction, gradient, views)?;
    check_results("step_sums: sums", sums.count(), SUMS)?;
    let blocks = gradient.count().div_ceil(BLOCK);
    let mut stage = Stage::new(launch)?;
    let states = States::read(&mut stage, rule.direction, gradient, views)?;
    let totals = stage.update(sums, DType::F64)?;
    let (rule, sums) = (Rule::from(rule), stage.scratch(SUMS * blocks * size_of::<f32>())?);
    // SAFETY: step_sums_blocks(rule, states, sums), a block of threads for each canonical block.
    unsafe { stage.launch(Kernel::step_sums_blocks, blocks, THREADS, arguments![&rule, &states, sums]) }?;
    // SAFETY: step_sums(sums, totals, blocks).
    unsafe { stage.launch(Kernel::step_sums, SUMS, adding(blocks), arguments![sums, totals, blocks as u64]) }?;
    stage.finish()
}

pub fn step_flips(
    launch: &Launch,
    rule: &StepRule,
    gradient: &View,
    parameter: &View,
    parameter_scales: &View,
    m: &View,
    m_scales: &View,
    v: &View,
    v_scales: &View,
    bins: &mut ViewMut,
) -> Result<()> {
    let views = [parameter, parameter_scales, m, m_scales, v, v_scales];
    check_states("step_flips", rule.direction, gradient, views)?;
    check_results("step_flips: bins", bins.count(), FLIP_BINS)?;
    let mut stage = Stage::new(launch)?;
    let states = States::read(&mut stage, rule.direction, gradient, views)?;
    let (bins, rule) = (stage.update(bins, DType::U32)?, Rule::from(rule));
    // SAFETY: step_flips(rule, states, bins).
    unsafe { by_blocks(&stage, Kernel::step_flips, gradient.count(), arguments![&rule, &states, bins]) }?;
    stage.finish()
}

pub fn step(
    launch: &Launch,
    rule: &StepRule,
    stream: Stream,
    gradient: &View,
    parameter: &mut ViewMut,
    parameter_scales: &mut ViewMut,
    m: &mut ViewMut,
    m_scales: &mut ViewMut,
    v: &mut ViewMut,
    v_scales: &mut ViewMut,
    counts: &mut ViewMut,
    sums: &mut ViewMut,
) -> Result<()> {
    let views = [&*parameter, &*parameter_scales, &*m, &*m_scales, &*v, &*v_scales].map(ViewMut::as_view);
    check_states("step", rule.direction, gradient, views.each_ref())?;
    check_results("step: counts", counts.count(), 2)?;
    if sums.count() > 0 {
        let [p, p_scales, m, m_scales, v, v_scales] = views.each_ref();
        step_sums(launch, rule, gradient, p, p_scales, m, m_scales, v, v_scales, sums)?;
    }
    let (count, direction) = (gradient.count(), rule.direction);
    let mut stage = Stage::new(launch)?;
    let p = Kept::update(&mut stage, parameter, parameter_scales)?;
    let m = match direction {
        Direction::Given => Kept::nothing(),
        _ => Kept::update(&mut stage, m, m_scales)?,
    };
    let v = match direction {
        Direction::AdamW => Kept::update(&mut stage, v, v_scales)?,
        Direction::Factored => Kept::factors(&mut stage, &v.as_view())?,
        _ => Kept::nothing(),
    };
    let states = States::new(&mut stage, gradient, [p, m, v])?;
    let counts = stage.update(counts, DType::U32)?;
    let (rule, stream) = (Rule::from(rule), Philox::from(stream));
    if direction == Direction::AdamW && [p, m, v].iter().all(|kept| kept.kind.value == FLOATS) {
        let arguments = arguments![&rule, states.gradient, p.data, m.data, v.data, counts, count as u64];
        // SAFETY: step_adamw(rule, gradient, p, m, v, counts, count).
        unsafe { stage.map(Kernel::step_adamw, count, arguments) }?;
    } else {
        // SAFETY: step_blocks(rule, stream, states, counts).
        unsafe { by_blocks(&stage, Kernel::step_blocks, count, arguments![&rule, &stream, &states, counts]) }?;
    }
    stage.finish()
}
