//! The optimizer's update of one tensor: `scalar/step.rs` for the vector units.

// The contracts have as many arguments as they need.
#![allow(clippy::too_many_arguments)]

use super::chunks::{self, Shared};
use super::spans::{self, FLIP_BINS, PhiloxStream, STEP_SUMS, StepNumbers, StepScalars, StepTensors};
use crate::backend::scalar::feed_forward::check;
use crate::backend::scalar::reduce::{BLOCK, LANES, canonical_sum_of};
use crate::backend::scalar::step::{
    CODES, check_counts, check_factors, check_momentum, check_states, check_sums, sums_scratch, towards,
};
use crate::backend::workspace::with_scratch;
use crate::backend::{Direction, Launch, StepRule};
use crate::tensor::random::Stream;
use crate::tensor::{DType, Result, View, ViewMut};
use parking_lot::Mutex;
use std::ops::Range;
use std::ptr::null_mut;

const _: () = assert!(chunks::LEAST.is_multiple_of(BLOCK) && BLOCK.is_multiple_of(CODES));
const _: () = assert!(FLIP_BINS == crate::backend::scalar::step::FLIP_BINS);
const _: () = assert!(STEP_SUMS == crate::backend::scalar::step::SUMS);

fn scalars(rule: &StepRule) -> StepScalars {
    StepScalars {
        direction: match rule.direction {
            Direction::AdamW => spans::ADAMW,
            Direction::Factored => spans::FACTORED,
            Direction::Momentum if rule.nesterov => spans::NESTEROV,
            Direction::Momentum => spans::MOMENTUM,
            Direction::Given => spans::GIVEN,
        },
        gradient_scale: rule.gradient_scale,
        beta: rule.beta,
        rate1: rule.rate1,
        rate2: rule.rate2,
        inverse1: rule.inverse1,
        inverse2: rule.inverse2,
        epsilon: rule.epsilon,
        weight_decay: rule.weight_decay,
        rate: rule.rate,
        lower: rule.lower,
        upper: rule.upper,
        threshold: rule.threshold,
    }
}

const NONE: StepNumbers = StepNumbers { floats: null_mut(), codes: null_mut(), scales: null_mut() };

/// To be read only: what is made of a view is written by nobody.
fn read(x: &View, scales: &View) -> Result<StepNumbers> {
    Ok(match x.dtype() {
        _ if x.count() == 0 => NONE,
        DType::I8 => StepNumbers {
            codes: x.slice::<i8>()?.as_ptr().cast_mut().cast(),
            scales: scales.slice::<f32>()?.as_ptr().cast_mut(),
            ..NONE
        },
        DType::U8 => StepNumbers {
            codes: x.slice::<u8>()?.as_ptr().cast_mut(),
            scales: scales.slice::<f32>()?.as_ptr().cast_mut(),
            ..NONE
        },
        _ => StepNumbers { floats: x.slice::<f32>()?.as_ptr().cast_mut(), ..NONE },
    })
}

/// To be written too.
fn written(x: &mut ViewMut, scales: &mut ViewMut) -> Result<StepNumbers> {
    Ok(match x.dtype() {
        _ if x.count() == 0 => NONE,
        DType::I8 => StepNumbers {
            codes: x.slice_mut::<i8>()?.as_mut_ptr().cast(),
            scales: scales.slice_mut::<f32>()?.as_mut_ptr(),
            ..NONE
        },
        DType::U8 => StepNumbers {
            codes: x.slice_mut::<u8>()?.as_mut_ptr(),
            scales: scales.slice_mut::<f32>()?.as_mut_ptr(),
            ..NONE
        },
        _ => StepNumbers { floats: x.slice_mut::<f32>()?.as_mut_ptr(), ..NONE },
    })
}

/// A tensor's gradient and states, of which chunks take disjoint parts.
struct Tensors(StepTensors);

// SAFETY: chunks are disjoint, and begin with a block of codes: they share what nobody writes.
unsafe impl Sync for Tensors {}

impl Tensors {
    /// v is left out where it is factors, which nobody writes.
    fn new(direction: Direction, gradient: &View, [p, m, v]: [StepNumbers; 3]) -> Result<Tensors> {
        let factored = direction == Direction::Factored;
        Ok(Tensors(StepTensors {
            gradient: gradient.slice::<f32>()?.as_ptr(),
            p,
            m,
            v: if factored { NONE } else { v },
            factors: if factored { v.floats } else { null_mut() },
            rows: gradient.dim(0),
            columns: gradient.dim(1),
            row: 0,
            column: 0,
        }))
    }

    fn of(name: &str, direction: Direction, gradient: &View, views: [&View; 6]) -> Result<Tensors> {
        check_states(name, direction, gradient, views)?;
        let [p, p_scales, m, m_scales, v, v_scales] = views;
        Tensors::new(direction, gradient, [read(p, p_scales)?, read(m, m_scales)?, read(v, v_scales)?])
    }

    /// From an element on, a multiple of those that share a scale.
    fn from(&self, start: usize) -> StepTensors {
        let numbers = |x: StepNumbers| StepNumbers {
            floats: if x.floats.is_null() { x.floats } else { x.floats.wrapping_add(start) },
            codes: if x.codes.is_null() { x.codes } else { x.codes.wrapping_add(start) },
            scales: if x.scales.is_null() { x.scales } else { x.scales.wrapping_add(start / CODES) },
        };
        let StepTensors { gradient, p, m, v, columns, .. } = self.0;
        let (row, column) = (start / columns.max(1), start % columns.max(1));
        let [p, m, v] = [p, m, v].map(numbers);
        StepTensors { gradient: gradient.wrapping_add(start), p, m, v, row, column, ..self.0 }
    }
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
    let (scalars, count) = (scalars(rule), gradient.count());
    // There is no v, factored or not.
    let tensors = Tensors::new(Direction::Momentum, gradient, [NONE, written(m, m_scales)?, NONE])?;
    let direction = Shared::new(direction.slice_mut::<f32>()?);
    chunks::run(launch, count, chunks::elements(count), |range| {
        let tensors = tensors.from(range.start);
        // SAFETY: chunks are disjoint, and all have the length of the range.
        unsafe {
            let direction = direction.part(range.clone()).as_mut_ptr();
            (launch.spans.step_momentum)(&scalars, &tensors, range.len(), direction);
        }
    });
    Ok(())
}

pub fn step_factors(launch: &Launch, rule: &StepRule, gradient: &View, v: &View, new: &mut ViewMut) -> Result<()> {
    /// Lanes of a chunk: each reads the rows that add into them.
    const CHUNK: usize = 2;
    let [rows, columns] = check_factors(gradient, v, &new.as_view())?;
    let (gradient, v, new) = (gradient.slice::<f32>()?, v.slice::<f32>()?, new.slice_mut::<f32>()?);
    let (new_rows, rest) = new.split_at_mut(rows);
    // Whole vectors of columns, one at least, so that there are lanes.
    let stride = columns.next_multiple_of(8).max(8);
    with_scratch::<f64, _>(stride, |totals| {
        totals.fill(0.0);
        with_scratch::<f32, _>(LANES * stride, |lanes| {
            for start in (0..rows).step_by(BLOCK) {
                let block = start..rows.min(start + BLOCK);
                let (shared_lanes, shared_rows) = (Shared::new(lanes), Shared::new(new_rows));
                chunks::run(launch, LANES, CHUNK, |range| {
                    // SAFETY: lanes of different chunks are disjoint.
                    let lanes = unsafe { shared_lanes.part(range.start * stride..range.end * stride) };
                    lanes.fill(0.0);
                    for (lane, sums) in range.zip(lanes.chunks_exact_mut(stride)) {
                        for i in block.clone().skip(lane).step_by(LANES) {
                            let g = &gradient[i * columns..][..columns];
                            let scale = rule.gradient_scale;
                            // SAFETY: both have the stated length.
                            let sum = unsafe {
                                (launch.spans.step_factor_row)(g.as_ptr(), columns, scale, sums.as_mut_ptr())
                            };
                            // SAFETY: a row is in one lane.
                            let row = unsafe { shared_rows.part(i..i + 1) };
                            row[0] = towards(rule, v[i], sum, columns);
                        }
                    }
                });
                let totals = Shared::new(totals);
                let lanes = &*lanes;
                chunks::run(launch, stride, chunks::LEAST / 8, |range| {
                    // SAFETY: chunks are disjoint, of whole vectors, and inside the lanes.
                    unsafe {
                        let lanes = lanes.as_ptr().add(range.start);
                        let totals = totals.part(range.clone()).as_mut_ptr();
                        (launch.spans.step_factor_columns)(lanes, stride, range.len(), totals);
                    }
                });
            }
        })?;
        for (j, (new, &total)) in rest.iter_mut().zip(&totals[..columns]).enumerate() {
            *new = towards(rule, v[rows + j], total, rows);
        }
        Result::Ok(())
    })??;
    let sum = canonical_sum_of(rows, |i| new_rows[i]);
    rest[columns] = if sum > 0.0 { (rows as f64 / sum) as f32 } else { 0.0 };
    Ok(())
}

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
    let tensors = Tensors::of("step_sums", rule.direction, gradient, views)?;
    let sums = check_sums(sums)?;
    let (scalars, count) = (scalars(rule), gradient.count());
    by_block_sums(launch, count, sums, |range, sums| {
        // SAFETY: all have the length of the range, and its blocks as many sums; nothing of the tensors is written.
        unsafe { (launch.spans.step_sums)(&scalars, &tensors.from(range.start), range.len(), sums) };
    })
}

/// Has `of` write the five sums of each canonical block of a range, and adds them up in order.
fn by_block_sums(
    launch: &Launch,
    count: usize,
    sums: &mut [f64],
    of: impl Fn(Range<usize>, *mut f32) + Sync,
) -> Result<()> {
    with_scratch::<f32, _>(sums_scratch(count), |block_sums| {
        let shared = Shared::new(block_sums);
        chunks::run(launch, count, chunks::elements(count), |range| {
            let blocks = STEP_SUMS * (range.start / BLOCK)..STEP_SUMS * range.end.div_ceil(BLOCK);
            // SAFETY: chunks start at multiples of a block, so the blocks of different chunks are disjoint.
            of(range, unsafe { shared.part(blocks).as_mut_ptr() });
        });
        let mut totals = [0.0; STEP_SUMS];
        for block in block_sums.as_chunks::<STEP_SUMS>().0 {
            totals.iter_mut().zip(block).for_each(|(total, &sum)| *total += f64::from(sum));
        }
        sums.iter_mut().zip(totals).for_each(|(sum, total)| *sum += total);
    })
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
    let tensors = Tensors::of("step_flips", rule.direction, gradient, views)?;
    let bins = Mutex::new(check_counts("step_flips: bins", bins, FLIP_BINS)?);
    let (scalars, count) = (scalars(rule), gradient.count());
    chunks::run(launch, count, chunks::elements(count), |range| {
        let (tensors, mut found) = (tensors.from(range.start), [0u32; FLIP_BINS]);
        // SAFETY: the states have the length of the range, and are not written.
        unsafe { (launch.spans.step_flips)(&scalars, &tensors, range.len(), found.as_mut_ptr()) };
        bins.lock().iter_mut().zip(found).for_each(|(bin, found)| *bin += found);
    });
    Ok(())
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
    let counts = Mutex::new(check_counts("step: counts", counts, 2)?);
    let states = [written(parameter, parameter_scales)?, written(m, m_scales)?, written(v, v_scales)?];
    let tensors = Tensors::new(rule.direction, gradient, states)?;
    let (scalars, stream, count) = (scalars(rule), PhiloxStream::from(stream), gradient.count());
    let part = |range: Range<usize>, sums: *mut f32| {
        let (tensors, mut found) = (tensors.from(range.start), [0u32; 2]);
        // SAFETY: chunks are disjoint and start with a block of codes; all have the length of the range, and sums are none, or
        // those of its blocks.
        unsafe {
            let first = range.start as u64;
            (launch.spans.step)(&scalars, &tensors, &stream, first, range.len(), found.as_mut_ptr(), sums);
        }
        counts.lock().iter_mut().zip(found).for_each(|(count, found)| *count += found);
    };
    if sums.count() > 0 {
        return by_block_sums(launch, count, check_sums(sums)?, part);
    }
    chunks::run(launch, count, chunks::elements(count), |range| part(range, null_mut()));
    Ok(())
}

pub fn scale(launch: &Launch, factor: f32, x: &View, y: &mut ViewMut) -> Result<()> {
    check("scale", x.count(), &[y.count()])?;
    let (x, y) = (x.slice::<f32>()?, Shared::new(y.slice_mut::<f32>()?));
    chunks::run(launch, x.len(), chunks::elements(x.len()), |range| {
        let x = &x[range.clone()];
        // SAFETY: chunks are disjoint, and both have the length of the range.
        unsafe { (launch.spans.scale)(factor, x.as_ptr(), y.part(range).as_mut_ptr(), x.len()) }
    });
    Ok(())
}
