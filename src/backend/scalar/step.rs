//! The optimizer's update of one tensor, in one pass, whatever form its states are kept in; and what it would do, in advance.
//!
//! | form | parameter | first moment m | second moment v |
//! |---|---|---|---|
//! | f32 | f32 | f32 | f32 |
//! | 8 bits (arXiv 2110.02861) | f32 | i8 | u8 |
//! | compact | i8 | i8 | sums of rows and columns (Adafactor, arXiv 1804.04235) |
//!
//! Codes share a scale by blocks of [`CODES`] elements. Every operation rounds as it is written here, nothing is fused: the same
//! inputs give the same bits on every row.

use super::feed_forward::check;
use super::reduce::{BLOCK, canonical_sum_of};
use crate::backend::{Direction, Launch, StepRule};
use crate::tensor::error::ensure;
use crate::tensor::random::Stream;
use crate::tensor::{DType, Result, View, ViewMut};

/// Elements that share a scale.
pub const CODES: usize = 256;
/// Scales below the normal numbers have few bits, and 0 divides nothing.
const LEAST_SCALE: f32 = f32::MIN_POSITIVE;
/// Of `step_sums`: the squares of direction and parameter, gradient times m, the squares of m, and v.
pub const SUMS: usize = 5;
/// The floats of scratch memory in which any row finds the sums of so many elements: those of each block.
pub const fn sums_scratch(count: usize) -> usize {
    SUMS * count.div_ceil(BLOCK)
}
/// Bins of `step_flips`: eight an octave, over sixteen octaves; number 0 takes what is below.
pub const FLIP_BINS: usize = 8 * 16 + 1;
/// The bits of 2^-16, below the first octave.
const FIRST_FLIP: u32 = (127 - 16) << 23;

/// m = scale * code |code| / 127^2: as fine for small ones as their size allows.
pub fn decode_m(code: i8, scale: f32) -> f32 {
    let code = i32::from(code);
    (code * code.abs()) as f32 * (1.0 / 16_129.0) * scale
}

/// The code of m in a block whose largest magnitude is `scale`; rounded to nearest.
pub fn encode_m(m: f32, scale: f32) -> i8 {
    let code = (((m.abs() / scale).sqrt() * 127.0 + 0.5).floor()).min(127.0) as i8;
    if m < 0.0 { -code } else { code }
}

/// v = scale * (code / 255)^4.
pub fn decode_v(code: u8, scale: f32) -> f32 {
    let square = (i32::from(code) * i32::from(code)) as f32 * (1.0 / 65_025.0);
    square * square * scale
}

/// The code of v >= 0 in a block whose largest is `scale`, rounded up with the probability of what is left, as v changes by
/// less than a code in a step. Never 0 for a v that is not: a root of it divides.
pub fn encode_v(v: f32, scale: f32, random: f32) -> u8 {
    let code = ((v / scale).sqrt().sqrt() * 255.0 + random).floor().min(255.0) as u8;
    if v > 0.0 { code.max(1) } else { code }
}

/// The scale of a block of parameters whose scale was `before` and whose largest magnitude now is `largest`. It stays while
/// that fits well: then what did not move keeps its code (a quotient that the two roundings leave above it is rounded up once in
/// 65536 times).
pub fn parameter_scale(largest: f32, before: f32) -> f32 {
    let stays = before >= LEAST_SCALE && largest <= before * 127.0 && largest >= before * 90.0;
    if stays { before } else { at_least(largest * (1.0 / 120.0)) }
}

/// max(scale, the least), where NaN stays NaN.
fn at_least(scale: f32) -> f32 {
    if scale < LEAST_SCALE { LEAST_SCALE } else { scale }
}

/// The code of a parameter, rounded up with the probability of what is left: right on average.
pub fn encode_parameter(p: f32, scale: f32, random: f32) -> i8 {
    let code = (p.abs() / scale + random).floor().min(127.0) as i8;
    if p < 0.0 { -code } else { code }
}

impl StepRule {
    /// The direction in which the parameter p goes, with weight decay, and the new m and v. What a direction does not have is 0.
    fn element(&self, gradient: f32, p: f32, m: f32, v: f32) -> [f32; 3] {
        let g = gradient * self.gradient_scale;
        let (direction, m, v) = match self.direction {
            Direction::AdamW => {
                let m = m + self.rate1 * (g - m);
                let v = v + self.rate2 * (g * g - v);
                ((m * self.inverse1) / ((v * self.inverse2).sqrt() + self.epsilon), m, v)
            }
            // v comes as it will be: `step_factors` has updated it.
            Direction::Factored => {
                let m = m + self.rate1 * (g - m);
                ((m * self.inverse1) / ((v * self.inverse2).sqrt() + self.epsilon), m, v)
            }
            Direction::Momentum => {
                let m = self.beta * m + g;
                (if self.nesterov { g + self.beta * m } else { m }, m, v)
            }
            Direction::Given => (g, m, v),
        };
        [direction + self.weight_decay * p, m, v]
    }

    /// How much of the step from p along `direction` it takes until the trit of p changes; infinite where it does not.
    fn flip(&self, p: f32, direction: f32) -> f32 {
        let (h, move_by) = (self.threshold, self.rate * direction);
        // To the threshold that p meets on its way: up if it is negative, or inside and goes up.
        let distance = if p > h {
            if move_by > 0.0 { p - h } else { f32::INFINITY }
        } else if p < -h {
            if move_by < 0.0 { -h - p } else { f32::INFINITY }
        } else if move_by > 0.0 {
            p + h
        } else {
            h - p
        };
        // 0 / 0 of a parameter that stays: no flip.
        if move_by == 0.0 { f32::INFINITY } else { distance / move_by.abs() }
    }

    /// p in the box; NaN stays.
    fn inside(&self, p: f32) -> f32 {
        let p = if p < self.lower { self.lower } else { p };
        if p > self.upper { self.upper } else { p }
    }

    fn trit(&self, p: f32) -> i32 {
        i32::from(p > self.threshold) - i32::from(p < -self.threshold)
    }
}

/// The bin of a flip that takes this much of the step; None for one that takes all of it or more.
pub fn flip_bin(share: f32) -> Option<usize> {
    if share < 1.0 {
        Some((share.to_bits().max(FIRST_FLIP - (1 << 20)) - (FIRST_FLIP - (1 << 20))) as usize >> 20)
    } else {
        None
    }
}

/// Numbers as they are read: floats, or codes and their scales.
enum Numbers<'a> {
    Floats(&'a [f32]),
    Signed(&'a [i8], &'a [f32]),
    Unsigned(&'a [u8], &'a [f32]),
}

impl<'a> Numbers<'a> {
    fn new(x: &View<'a>, scales: &View<'a>) -> Result<Numbers<'a>> {
        Ok(match x.dtype() {
            DType::I8 => Numbers::Signed(x.slice()?, scales.slice()?),
            DType::U8 => Numbers::Unsigned(x.slice()?, scales.slice()?),
            _ => Numbers::Floats(x.slice()?),
        })
    }
}

/// A tensor's states as they are read.
struct States<'a> {
    p: Numbers<'a>,
    m: Numbers<'a>,
    v: Numbers<'a>,
    columns: usize,
}

impl<'a> States<'a> {
    fn new(name: &str, direction: Direction, gradient: &View, views: [&View<'a>; 6]) -> Result<States<'a>> {
        check_states(name, direction, gradient, views)?;
        let [p, p_scales, m, m_scales, v, v_scales] = views;
        let (p, m, v) = (Numbers::new(p, p_scales)?, Numbers::new(m, m_scales)?, Numbers::new(v, v_scales)?);
        Ok(States { p, m, v, columns: gradient.dim(1) })
    }

    /// p, m and v of element i; 0 for what there is not.
    fn element(&self, direction: Direction, i: usize) -> [f32; 3] {
        let p = match self.p {
            Numbers::Signed(codes, scales) => scales[i / CODES] * f32::from(codes[i]),
            Numbers::Floats(p) => p[i],
            Numbers::Unsigned(..) => unreachable!("`check_states` has seen its type"),
        };
        let m = match self.m {
            Numbers::Signed(codes, scales) => decode_m(codes[i], scales[i / CODES]),
            Numbers::Floats(m) if direction != Direction::Given => m[i],
            _ => 0.0,
        };
        let v = match (direction, &self.v) {
            (Direction::AdamW, Numbers::Unsigned(codes, scales)) => decode_v(codes[i], scales[i / CODES]),
            (Direction::AdamW, Numbers::Floats(v)) => v[i],
            (Direction::Factored, Numbers::Floats(v)) => {
                let rows = v.len() - 1 - self.columns;
                v[i / self.columns] * v[rows + i % self.columns] * v[rows + self.columns]
            }
            _ => 0.0,
        };
        [p, m, v]
    }
}

/// SHAPE or DTYPE unless the states are of a form that the direction has, and as many as the gradient's elements.
pub fn check_states(name: &str, direction: Direction, gradient: &View, views: [&View; 6]) -> Result<()> {
    let count = gradient.count();
    let scales = |x: &View| if x.dtype() == DType::F32 { 0 } else { count.div_ceil(CODES) };
    let [p, p_scales, m, m_scales, v, v_scales] = views;
    let of = |what: &str, x: &View, types: &[DType], expected: usize, of_scales: &View, scales: usize| {
        ensure!(types.contains(&x.dtype()), DType, "{name}: {what} is {}", x.dtype());
        ensure!(x.count() == expected, Shape, "{name}: {what} has {} elements, expected {expected}", x.count());
        let found = of_scales.count();
        ensure!(found == scales, Shape, "{name}: {what} has {found} scales, expected {scales}");
        Ok(())
    };
    of("parameter", p, &[DType::F32, DType::I8], count, p_scales, scales(p))?;
    let without = direction == Direction::Given;
    of(
        "m",
        m,
        &[DType::F32, DType::I8],
        if without { 0 } else { count },
        m_scales,
        if without { 0 } else { scales(m) },
    )?;
    match direction {
        Direction::AdamW => of("v", v, &[DType::F32, DType::U8], count, v_scales, scales(v)),
        Direction::Factored => {
            let [rows, columns] = matrix(name, gradient)?;
            of("v", v, &[DType::F32], rows + columns + 1, v_scales, 0)
        }
        _ => of("v", v, &[DType::F32], 0, v_scales, 0),
    }
}

/// Rows and columns of a matrix.
fn matrix(name: &str, gradient: &View) -> Result<[usize; 2]> {
    let (rows, columns) = (gradient.dim(0), gradient.dim(1));
    let found = gradient.count();
    ensure!(found == rows * columns, Shape, "{name}: gradient has {found} elements, expected those of a matrix");
    Ok([rows, columns])
}

pub fn step_momentum(
    _: &Launch,
    rule: &StepRule,
    gradient: &View,
    m: &mut ViewMut,
    m_scales: &mut ViewMut,
    direction: &mut ViewMut,
) -> Result<()> {
    check_momentum(gradient, &m.as_view(), &m_scales.as_view(), &direction.as_view())?;
    let (gradient, direction) = (gradient.slice::<f32>()?, direction.slice_mut::<f32>()?);
    let scales = m_scales.slice_mut::<f32>()?;
    for (block, start) in (0..gradient.len()).step_by(CODES).enumerate() {
        let range = start..gradient.len().min(start + CODES);
        let mut new = [0.0; CODES];
        for i in range.clone() {
            let m = match m.dtype() {
                DType::I8 => decode_m(m.as_view().slice::<i8>()?[i], scales[block]),
                _ => m.as_view().slice::<f32>()?[i],
            };
            [direction[i], new[i - start], _] = rule.element(gradient[i], 0.0, m, 0.0);
        }
        store_m(m, scales, range, &new)?;
    }
    Ok(())
}

pub fn check_momentum(gradient: &View, m: &View, m_scales: &View, direction: &View) -> Result<()> {
    let count = gradient.count();
    check("step_momentum", count, &[m.count(), direction.count()])?;
    ensure!(matches!(m.dtype(), DType::F32 | DType::I8), DType, "step_momentum: m is {}", m.dtype());
    let expected = if m.dtype() == DType::I8 { count.div_ceil(CODES) } else { 0 };
    let found = m_scales.count();
    ensure!(found == expected, Shape, "step_momentum: m has {found} scales, expected {expected}");
    Ok(())
}

/// Writes the m of one block.
fn store_m(m: &mut ViewMut, scales: &mut [f32], range: std::ops::Range<usize>, new: &[f32; CODES]) -> Result<()> {
    let new = &new[..range.len()];
    if m.dtype() == DType::F32 {
        m.slice_mut::<f32>()?[range].copy_from_slice(new);
        return Ok(());
    }
    let scale = at_least(largest(new));
    scales[range.start / CODES] = scale;
    for (code, &m) in m.slice_mut::<i8>()?[range].iter_mut().zip(new) {
        *code = encode_m(m, scale);
    }
    Ok(())
}

/// The largest magnitude; NaN where there is one, so that the block shows it.
fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |largest, x| if x.abs() <= largest || largest.is_nan() { largest } else { x.abs() })
}

pub fn step_factors(_: &Launch, rule: &StepRule, gradient: &View, v: &View, new: &mut ViewMut) -> Result<()> {
    let [rows, columns] = check_factors(gradient, v, &new.as_view())?;
    let (gradient, v, new) = (gradient.slice::<f32>()?, v.slice::<f32>()?, new.slice_mut::<f32>()?);
    let square = |i: usize, j: usize| {
        let g = gradient[i * columns + j] * rule.gradient_scale;
        g * g
    };
    for i in 0..rows {
        new[i] = towards(rule, v[i], canonical_sum_of(columns, |j| square(i, j)), columns);
    }
    for j in 0..columns {
        new[rows + j] = towards(rule, v[rows + j], canonical_sum_of(rows, |i| square(i, j)), rows);
    }
    let sum = canonical_sum_of(rows, |i| new[i]);
    new[rows + columns] = if sum > 0.0 { (rows as f64 / sum) as f32 } else { 0.0 };
    Ok(())
}

/// A running mean, after one more mean of so many squares; that of none is 0.
pub fn towards(rule: &StepRule, before: f32, sum: f64, count: usize) -> f32 {
    before + rule.rate2 * ((sum / count.max(1) as f64) as f32 - before)
}

/// Rows and columns of the gradient.
pub fn check_factors(gradient: &View, v: &View, new: &View) -> Result<[usize; 2]> {
    let [rows, columns] = matrix("step_factors", gradient)?;
    for (what, found) in [("v", v.count()), ("new", new.count())] {
        let expected = rows + columns + 1;
        ensure!(found == expected, Shape, "step_factors: {what} has {found} elements, expected {expected}");
    }
    Ok([rows, columns])
}

pub fn step_sums(
    _: &Launch,
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
    let states = States::new("step_sums", rule.direction, gradient, views)?;
    let sums = check_sums(sums)?;
    let gradient = gradient.slice::<f32>()?;
    let mut totals = [0.0; SUMS];
    // A block at a time, in as much memory.
    let mut terms = [[0f32; SUMS]; BLOCK];
    for start in (0..gradient.len()).step_by(BLOCK) {
        let range = start..gradient.len().min(start + BLOCK);
        for (i, terms) in range.clone().zip(&mut terms) {
            let [p, m, v] = states.element(rule.direction, i);
            let [direction, ..] = rule.element(gradient[i], p, m, v);
            let g = gradient[i] * rule.gradient_scale;
            *terms = [direction * direction, p * p, g * m, m * m, v];
        }
        for (which, total) in totals.iter_mut().enumerate() {
            *total += canonical_sum_of(range.len(), |i| terms[i][which]);
        }
    }
    sums.iter_mut().zip(totals).for_each(|(sum, total)| *sum += total);
    Ok(())
}

pub fn check_sums<'a>(sums: &'a mut ViewMut) -> Result<&'a mut [f64]> {
    ensure!(sums.count() == SUMS, Shape, "step_sums: sums has {} elements, expected {SUMS}", sums.count());
    sums.slice_mut()
}

pub fn check_counts<'a>(what: &str, counts: &'a mut ViewMut, expected: usize) -> Result<&'a mut [u32]> {
    let found = counts.count();
    ensure!(found == expected, Shape, "{what} has {found} elements, expected {expected}");
    counts.slice_mut()
}

pub fn step_flips(
    _: &Launch,
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
    let states = States::new("step_flips", rule.direction, gradient, views)?;
    let (gradient, bins) = (gradient.slice::<f32>()?, check_counts("step_flips: bins", bins, FLIP_BINS)?);
    for (i, &g) in gradient.iter().enumerate() {
        let [p, m, v] = states.element(rule.direction, i);
        let [direction, ..] = rule.element(g, p, m, v);
        if let Some(bin) = flip_bin(rule.flip(p, direction)) {
            bins[bin] += 1;
        }
    }
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
    if sums.count() > 0 {
        let [p, p_scales, m, m_scales, v, v_scales] = views.each_ref();
        step_sums(launch, rule, gradient, p, p_scales, m, m_scales, v, v_scales, sums)?;
    }
    let (values, count) = (gradient.slice::<f32>()?, gradient.count());
    let counts = check_counts("step: counts", counts, 2)?;
    let [mut clamped, mut flipped] = [0u32; 2];
    for start in (0..count).step_by(CODES) {
        let range = start..count.min(start + CODES);
        let mut new = [[0.0; CODES]; 3];
        {
            let views = [&*parameter, &*parameter_scales, &*m, &*m_scales, &*v, &*v_scales].map(ViewMut::as_view);
            let states = States::new("step", rule.direction, gradient, views.each_ref())?;
            for i in range.clone() {
                let [p, m, v] = states.element(rule.direction, i);
                let direction;
                [direction, new[1][i - start], new[2][i - start]] = rule.element(values[i], p, m, v);
                let moved = p - rule.rate * direction;
                let inside = rule.inside(moved);
                clamped += u32::from(moved < rule.lower || moved > rule.upper);
                new[0][i - start] = inside;
            }
        }
        let before = trits(rule, parameter, parameter_scales, range.clone())?;
        store_parameter(parameter, parameter_scales.slice_mut()?, stream, range.clone(), &new[0])?;
        let after = trits(rule, parameter, parameter_scales, range.clone())?;
        flipped += (0..range.len()).filter(|&i| before[i] != after[i]).count() as u32;
        if rule.direction != Direction::Given {
            store_m(m, m_scales.slice_mut()?, range.clone(), &new[1])?;
        }
        if rule.direction == Direction::AdamW {
            store_v(v, v_scales.slice_mut()?, stream, range, &new[2])?;
        }
    }
    (counts[0], counts[1]) = (counts[0] + clamped, counts[1] + flipped);
    Ok(())
}

/// The trits of a block by the rule's threshold; 0 where there is none.
fn trits(rule: &StepRule, p: &ViewMut, scales: &ViewMut, range: std::ops::Range<usize>) -> Result<[i32; CODES]> {
    let (p, scales, mut trits) = (p.as_view(), scales.as_view(), [0; CODES]);
    for i in range.clone() {
        let value = match p.dtype() {
            DType::I8 => scales.slice::<f32>()?[i / CODES] * f32::from(p.slice::<i8>()?[i]),
            _ => p.slice::<f32>()?[i],
        };
        trits[i - range.start] = rule.trit(value);
    }
    Ok(trits)
}

fn store_parameter(
    p: &mut ViewMut,
    scales: &mut [f32],
    stream: Stream,
    range: std::ops::Range<usize>,
    new: &[f32; CODES],
) -> Result<()> {
    let new = &new[..range.len()];
    if p.dtype() == DType::F32 {
        p.slice_mut::<f32>()?[range].copy_from_slice(new);
        return Ok(());
    }
    let scale = &mut scales[range.start / CODES];
    *scale = parameter_scale(largest(new), *scale);
    for ((i, code), &p) in range.clone().zip(&mut p.slice_mut::<i8>()?[range]).zip(new) {
        *code = encode_parameter(p, *scale, stream.rounding(i as u64));
    }
    Ok(())
}

fn store_v(
    v: &mut ViewMut,
    scales: &mut [f32],
    stream: Stream,
    range: std::ops::Range<usize>,
    new: &[f32; CODES],
) -> Result<()> {
    let new = &new[..range.len()];
    if v.dtype() == DType::F32 {
        v.slice_mut::<f32>()?[range].copy_from_slice(new);
        return Ok(());
    }
    let scale = at_least(largest(new));
    scales[range.start / CODES] = scale;
    for ((i, code), &v) in range.clone().zip(&mut v.slice_mut::<u8>()?[range]).zip(new) {
        *code = encode_v(v, scale, stream.rounding(i as u64));
    }
    Ok(())
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
