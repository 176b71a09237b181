//! Steps of optimizers: see `scalar/step.rs`, whose roundings these are: nothing is fused.
//!
//! Blocks of [`CODES`] elements go through memory on the stack: states become floats there, or are left where they lie if they are
//! floats; a loop for each direction makes the directions of all, which an operation then takes up. So there are as many loops as
//! there are forms, directions and operations, and not their products. AdamW on floats has loops of its own: it is what most steps
//! are, and should take no longer than its memory.

use super::activation::absmax;
use super::elementwise::PhiloxStream;
use super::math::{by_vectors, load_up_to, map, store_up_to};
use super::reduce::{BLOCK, LANES, fold};
use super::step_codes::*;
use super::vector::{WIDE, Wide, WideIntegers, load, load_wide, write};
use bytemuck::cast;
use core::ptr::{copy_nonoverlapping, write_bytes};
use wide::f32x8;

/// Sums of `step_sums`.
pub const SUMS: usize = 5;
/// Bins of `step_flips`.
pub const FLIP_BINS: usize = 129;
/// What comes below the first octave of bins, in the bits of a float; a bin is so many of them.
const FIRST_BIN: i32 = ((127 - 16) << 23) - (1 << BIN_SHIFT);
const BIN_SHIFT: u32 = 20;
/// Scales below the normal numbers have few bits.
const LEAST_SCALE: f32 = f32::MIN_POSITIVE;

pub const ADAMW: u32 = 0;
pub const FACTORED: u32 = 1;
pub const MOMENTUM: u32 = 2;
pub const NESTEROV: u32 = 3;
pub const GIVEN: u32 = 4;

/// A `StepRule`, its direction as one of the numbers above.
#[repr(C)]
pub struct StepScalars {
    pub direction: u32,
    pub gradient_scale: f32,
    pub beta: f32,
    pub rate1: f32,
    pub rate2: f32,
    pub inverse1: f32,
    pub inverse2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    pub rate: f32,
    pub lower: f32,
    pub upper: f32,
    pub threshold: f32,
}

/// Floats, or codes and their scales; the others are null, and all are of what there is not.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StepNumbers {
    pub floats: *mut f32,
    pub codes: *mut u8,
    pub scales: *mut f32,
}

/// A tensor's gradient and states from an element on, the first of a block of codes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StepTensors {
    pub gradient: *const f32,
    pub p: StepNumbers,
    pub m: StepNumbers,
    pub v: StepNumbers,
    /// What v is the product of, for each row, for each column, and one for all; null where it is not.
    pub factors: *const f32,
    pub rows: usize,
    pub columns: usize,
    /// Of the first element.
    pub row: usize,
    pub column: usize,
}

type Floats = [f32; CODES];

/// Memory for a block.
struct Room {
    g: Floats,
    p: Floats,
    m: Floats,
    v: Floats,
    direction: Floats,
    new: Floats,
    other: Floats,
}

impl Room {
    #[inline(always)]
    fn new() -> Room {
        let zeros = [0.0; CODES];
        Room { g: zeros, p: zeros, m: zeros, v: zeros, direction: zeros, new: zeros, other: zeros }
    }
}

/// A block of states as floats, with 0 for those that there are not, and after the end of one that is shorter than others.
struct Block {
    count: usize,
    g: *const f32,
    p: *mut f32,
    m: *mut f32,
    v: *mut f32,
}

#[inline(never)]
unsafe fn gather(tensors: &StepTensors, at: usize, count: usize, room: &mut Room) -> Block {
    let gradient = StepNumbers {
        floats: tensors.gradient.cast_mut(),
        codes: core::ptr::null_mut(),
        scales: core::ptr::null_mut(),
    };
    let g = floats(&gradient, at, count, decode_parameter, room.g.as_mut_ptr());
    let p = floats(&tensors.p, at, count, decode_parameter, room.p.as_mut_ptr());
    let m = floats(&tensors.m, at, count, decode_m, room.m.as_mut_ptr());
    let v = floats(&tensors.v, at, count, decode_v, room.v.as_mut_ptr());
    if !tensors.factors.is_null() {
        factors(tensors, at, count, v);
    }
    if count < CODES {
        for x in [g, p, m, v] {
            write_bytes(x.add(count), 0, CODES - count);
        }
    }
    Block { count, g, p, m, v }
}

unsafe fn floats(
    numbers: &StepNumbers,
    at: usize,
    count: usize,
    decode: unsafe fn(*const u8, f32, *mut f32, usize),
    room: *mut f32,
) -> *mut f32 {
    if !numbers.floats.is_null() {
        let there = numbers.floats.add(at);
        if count == CODES {
            return there;
        }
        copy_nonoverlapping(there, room, count);
    } else if !numbers.codes.is_null() {
        let (mut codes, mut short) = (numbers.codes.cast_const().add(at), [0; CODES]);
        if count < CODES {
            copy_nonoverlapping(codes, short.as_mut_ptr(), count);
            codes = short.as_ptr();
        }
        decode(codes, *numbers.scales.add(at / CODES), room, count);
    }
    room
}

/// v[count] of factors: those of rows times those of columns, times the last.
unsafe fn factors(tensors: &StepTensors, at: usize, count: usize, v: *mut f32) {
    let (columns, last) = (tensors.factors.add(tensors.rows), *tensors.factors.add(tensors.rows + tensors.columns));
    if tensors.columns == 0 {
        return;
    }
    let position = tensors.column + at;
    let (mut row, mut column) = (tensors.row + position / tensors.columns, position % tensors.columns);
    let mut i = 0;
    while i < count {
        let of_row = f32x8::splat(*tensors.factors.add(row));
        let length = if tensors.columns - column < count - i { tensors.columns - column } else { count - i };
        by_vectors(length, |j, rest| {
            let product = of_row * load_up_to(columns.add(column + j), rest) * f32x8::splat(last);
            store_up_to(v.add(i + j), product, rest);
        });
        i += length;
        (row, column) = (row + 1, 0);
    }
}

/// The scalars, one to a lane.
struct Lanes {
    gradient_scale: Wide,
    beta: Wide,
    rate1: Wide,
    rate2: Wide,
    inverse1: Wide,
    inverse2: Wide,
    epsilon: Wide,
    weight_decay: Wide,
    rate: Wide,
    lower: Wide,
    upper: Wide,
    threshold: Wide,
}

impl Lanes {
    #[inline(always)]
    fn of(s: &StepScalars) -> Lanes {
        Lanes {
            gradient_scale: Wide::splat(s.gradient_scale),
            beta: Wide::splat(s.beta),
            rate1: Wide::splat(s.rate1),
            rate2: Wide::splat(s.rate2),
            inverse1: Wide::splat(s.inverse1),
            inverse2: Wide::splat(s.inverse2),
            epsilon: Wide::splat(s.epsilon),
            weight_decay: Wide::splat(s.weight_decay),
            rate: Wide::splat(s.rate),
            lower: Wide::splat(s.lower),
            upper: Wide::splat(s.upper),
            threshold: Wide::splat(s.threshold),
        }
    }

    #[inline(always)]
    fn first_moment(&self, g: Wide, m: Wide) -> Wide {
        m + self.rate1 * (g - m)
    }

    #[inline(always)]
    fn second_moment(&self, g: Wide, v: Wide) -> Wide {
        v + self.rate2 * (g * g - v)
    }

    #[inline(always)]
    fn by_root(&self, m: Wide, v: Wide) -> Wide {
        (m * self.inverse1) / ((v * self.inverse2).sqrt() + self.epsilon)
    }

    /// p in the box, where it is not in it already: NaN stays, and so do zeros of either sign.
    #[inline(always)]
    fn inside(&self, p: Wide) -> Wide {
        // On x86 fast_max and fast_min are the comparisons: they answer the second operand where there is nothing between them.
        if cfg!(target_arch = "x86_64") {
            return self.upper.fast_min(self.lower.fast_max(p));
        }
        let p = p.simd_lt(self.lower).select(self.lower, p);
        p.simd_gt(self.upper).select(self.upper, p)
    }

    /// p after the step, and masks: of those that the box holds, and of those whose trit changes.
    #[inline(always)]
    fn moved(&self, p: Wide, direction: Wide) -> [Wide; 3] {
        let moved = p - self.rate * direction;
        let inside = self.inside(moved);
        let held = moved.simd_lt(self.lower) | moved.simd_gt(self.upper);
        [inside, held, self.changes(p, inside)]
    }

    /// The mask of trits that differ.
    #[inline(always)]
    fn changes(&self, p: Wide, q: Wide) -> Wide {
        let (h, negative) = (self.threshold, -self.threshold);
        (p.simd_gt(h) ^ q.simd_gt(h)) | (p.simd_lt(negative) ^ q.simd_lt(negative))
    }
}

/// direction[count] with weight decay, and the new m and v, which may be written where the old ones are.
#[inline(never)]
unsafe fn directions(scalars: &StepScalars, block: &Block, direction: *mut f32, m: *mut f32, v: *mut f32) {
    let lanes = &Lanes::of(scalars);
    let to = [direction, m, v];
    match scalars.direction {
        ADAMW => elements(lanes, block, to, |g, m, v| {
            let (m, v) = (lanes.first_moment(g, m), lanes.second_moment(g, v));
            [lanes.by_root(m, v), m, v]
        }),
        FACTORED => elements(lanes, block, to, |g, m, v| {
            let m = lanes.first_moment(g, m);
            [lanes.by_root(m, v), m, v]
        }),
        MOMENTUM => elements(lanes, block, to, |g, m, v| {
            let m = lanes.beta * m + g;
            [m, m, v]
        }),
        NESTEROV => elements(lanes, block, to, |g, m, v| {
            let m = lanes.beta * m + g;
            [g + lanes.beta * m, m, v]
        }),
        _ => elements(lanes, block, to, |g, m, v| [g, m, v]),
    }
    // An epsilon of 0 makes NaN of what there is not.
    write_bytes(direction.add(block.count), 0, CODES - block.count);
}

#[inline(always)]
unsafe fn elements(lanes: &Lanes, block: &Block, to: [*mut f32; 3], element: impl Fn(Wide, Wide, Wide) -> [Wide; 3]) {
    let mut i = 0;
    while i < block.count {
        let g = load_wide(block.g.add(i)) * lanes.gradient_scale;
        let [direction, m, v] = element(g, load_wide(block.m.add(i)), load_wide(block.v.add(i)));
        write(to[0].add(i), direction + lanes.weight_decay * load_wide(block.p.add(i)));
        write(to[1].add(i), m);
        write(to[2].add(i), v);
        i += WIDE;
    }
}

// --- the step ----------------------------------------------------------------------------------------------------------------

pub unsafe extern "C" fn step(
    scalars: *const StepScalars,
    tensors: *const StepTensors,
    stream: *const PhiloxStream,
    first: u64,
    n: usize,
    counts: *mut u32,
) {
    let (scalars, tensors) = (&*scalars, &*tensors);
    let lanes = &Lanes::of(scalars);
    let mut found = [WideIntegers::ZERO; 2];
    let mut at = 0;
    if is_plain(scalars, tensors) {
        at = n - n % CODES;
        plain_step(lanes, tensors, at, &mut found);
    }
    let mut room = Room::new();
    while at < n {
        let count = if n - at < CODES { n - at } else { CODES };
        step_block(scalars, lanes, tensors, (&*stream, first), (at, count), &mut room, &mut found);
        at += count;
    }
    for (i, found) in found.into_iter().enumerate() {
        let lanes: [u32; WIDE] = cast(found);
        *counts.add(i) = lanes.iter().fold(0, |sum: u32, &lane| sum.wrapping_add(lane));
    }
}

#[inline(always)]
unsafe fn step_block(
    scalars: &StepScalars,
    lanes: &Lanes,
    tensors: &StepTensors,
    (stream, first): (&PhiloxStream, u64),
    (at, count): (usize, usize),
    room: &mut Room,
    found: &mut [WideIntegers; 2],
) {
    let StepTensors { p, m, v, .. } = tensors;
    let block = gather(tensors, at, count, room);
    let direction = room.direction.as_mut_ptr();
    directions(scalars, &block, direction, block.m, block.v);
    if count < CODES {
        // What is past the end goes nowhere, from inside the box.
        let mut i = count;
        while i < CODES {
            *block.p.add(i) = scalars.lower.max(0.0).min(scalars.upper);
            i += 1;
        }
    }
    let new = if p.codes.is_null() { block.p } else { room.new.as_mut_ptr() };
    let [holds, mut changes] = move_block(lanes, block.p, direction, new, count);
    let rounding = &Rounding { stream, first: first + at as u64 };
    put_m(m, at, count, block.m);
    put(v, at, count, block.v, |scale, codes| {
        *scale = absmax(block.v, count, LEAST_SCALE);
        encode_v(block.v, *scale, rounding, codes, count);
    });
    put(p, at, count, new, |scale, codes| {
        *scale = parameter_scale(absmax(new, count, 0.0), *scale);
        encode_parameter(new, *scale, rounding, codes, count);
        decode_parameter(codes, *scale, new, count);
        write_bytes(block.p.add(count), 0, CODES - count);
        write_bytes(new.add(count), 0, CODES - count);
        let mut recounted = WideIntegers::ZERO;
        let mut i = 0;
        while i < count {
            let changed = lanes.changes(load_wide(block.p.add(i)), load_wide(new.add(i)));
            recounted -= cast::<Wide, WideIntegers>(changed);
            i += WIDE;
        }
        changes = recounted;
    });
    found[0] += holds;
    found[1] += changes;
}

/// Moves a block of parameters; counts, by lanes, those that the box held and the trits that changed.
#[inline(always)]
unsafe fn move_block(
    lanes: &Lanes,
    p: *const f32,
    direction: *const f32,
    new: *mut f32,
    count: usize,
) -> [WideIntegers; 2] {
    let mut counts = [WideIntegers::ZERO; 2];
    let mut i = 0;
    while i < count {
        let [inside, held, changed] = lanes.moved(load_wide(p.add(i)), load_wide(direction.add(i)));
        write(new.add(i), inside);
        counts[0] -= cast::<Wide, WideIntegers>(held);
        counts[1] -= cast::<Wide, WideIntegers>(changed);
        i += WIDE;
    }
    counts
}

/// Puts back a block of states; `encode` is given its scale and as many codes as a block has.
#[inline(always)]
unsafe fn put(numbers: &StepNumbers, at: usize, count: usize, new: *const f32, encode: impl FnOnce(*mut f32, *mut u8)) {
    if !numbers.floats.is_null() {
        if count < CODES {
            copy_nonoverlapping(new, numbers.floats.add(at), count);
        }
    } else if !numbers.codes.is_null() {
        let (codes, mut short) = (numbers.codes.add(at), [0; CODES]);
        let scale = numbers.scales.add(at / CODES);
        if count < CODES {
            encode(scale, short.as_mut_ptr());
            copy_nonoverlapping(short.as_ptr(), codes, count);
        } else {
            encode(scale, codes);
        }
    }
}

#[inline(never)]
unsafe fn put_m(m: &StepNumbers, at: usize, count: usize, new: *const f32) {
    put(m, at, count, new, |scale, codes| {
        *scale = absmax(new, count, LEAST_SCALE);
        encode_m(new, *scale, codes, count);
    });
}

/// It stays where it fits well.
#[inline(always)]
fn parameter_scale(largest: f32, before: f32) -> f32 {
    if before >= LEAST_SCALE && largest <= before * 127.0 && largest >= before * 90.0 {
        return before;
    }
    let scale = largest * (1.0 / 120.0);
    // NaN stays.
    if scale < LEAST_SCALE { LEAST_SCALE } else { scale }
}

/// Whether these are AdamW's states as floats.
#[inline(always)]
fn is_plain(scalars: &StepScalars, tensors: &StepTensors) -> bool {
    let floats = |numbers: &StepNumbers| !numbers.floats.is_null();
    scalars.direction == ADAMW && floats(&tensors.p) && floats(&tensors.m) && floats(&tensors.v)
}

/// n is a multiple of a block.
unsafe fn plain_step(lanes: &Lanes, tensors: &StepTensors, n: usize, found: &mut [WideIntegers; 2]) {
    let (g, p, m, v) = (tensors.gradient, tensors.p.floats, tensors.m.floats, tensors.v.floats);
    let [mut held_count, mut changed_count] = *found;
    let mut i = 0;
    while i < n {
        let gradient = load_wide(g.add(i)) * lanes.gradient_scale;
        let new_m = lanes.first_moment(gradient, load_wide(m.add(i)));
        let new_v = lanes.second_moment(gradient, load_wide(v.add(i)));
        let old = load_wide(p.add(i));
        let direction = lanes.by_root(new_m, new_v) + lanes.weight_decay * old;
        let [inside, held, changed] = lanes.moved(old, direction);
        write(p.add(i), inside);
        write(m.add(i), new_m);
        write(v.add(i), new_v);
        held_count -= cast::<Wide, WideIntegers>(held);
        changed_count -= cast::<Wide, WideIntegers>(changed);
        i += WIDE;
    }
    *found = [held_count, changed_count];
}

// --- what a step would do ------------------------------------------------------------------------------------------------------

pub unsafe extern "C" fn step_sums(scalars: *const StepScalars, tensors: *const StepTensors, n: usize, sums: *mut f32) {
    let (scalars, tensors) = (&*scalars, &*tensors);
    let lanes = &Lanes::of(scalars);
    let mut room = Room::new();
    let (mut at, mut number) = (0, 0);
    while at < n {
        let end = if n - at < BLOCK { n } else { at + BLOCK };
        let mut totals = [[Wide::ZERO; LANES / WIDE]; SUMS];
        if is_plain(scalars, tensors) {
            let to = end - (end - at) % CODES;
            plain_sums(lanes, tensors, at, to, &mut totals);
            at = to;
        }
        while at < end {
            let count = if end - at < CODES { end - at } else { CODES };
            let block = gather(tensors, at, count, &mut room);
            let direction = room.direction.as_mut_ptr();
            directions(scalars, &block, direction, room.new.as_mut_ptr(), room.other.as_mut_ptr());
            // What is missing of the last is 0 in all, and adds +0 to lanes that are not -0: no bit changes.
            let mut i = 0;
            while i < count {
                for j in 0..LANES / WIDE {
                    let at = i + WIDE * j;
                    let [p, m, v] = [block.p, block.m, block.v].map(|x| load_wide(x.add(at)));
                    let g = load_wide(block.g.add(at)) * lanes.gradient_scale;
                    add_terms(&mut totals, j, load_wide(direction.add(at)), p, g, m, v);
                }
                i += LANES;
            }
            at += count;
        }
        for which in 0..SUMS {
            *sums.add(SUMS * number + which) = fold(cast(totals[which]));
        }
        number += 1;
    }
}

type Totals = [[Wide; LANES / WIDE]; SUMS];

#[inline(always)]
fn add_terms(totals: &mut Totals, j: usize, d: Wide, p: Wide, g: Wide, m: Wide, v: Wide) {
    let terms = [d * d, p * p, g * m, m * m, v];
    for (total, term) in totals.iter_mut().zip(terms) {
        total[j] += term;
    }
}

/// Of the elements from `at` to `end`, a multiple of the lanes.
unsafe fn plain_sums(lanes: &Lanes, tensors: &StepTensors, at: usize, end: usize, totals: &mut Totals) {
    let inputs = [tensors.gradient, tensors.p.floats, tensors.m.floats, tensors.v.floats];
    let mut sums = *totals;
    let mut i = at;
    while i < end {
        for j in 0..LANES / WIDE {
            let [g, p, m, v] = inputs.map(|x| load_wide(x.add(i + WIDE * j)));
            let g = g * lanes.gradient_scale;
            let d = lanes.by_root(lanes.first_moment(g, m), lanes.second_moment(g, v)) + lanes.weight_decay * p;
            add_terms(&mut sums, j, d, p, g, m, v);
        }
        i += LANES;
    }
    *totals = sums;
}

pub unsafe extern "C" fn step_flips(
    scalars: *const StepScalars,
    tensors: *const StepTensors,
    n: usize,
    bins: *mut u32,
) {
    // Several, as one waits for what it has just written; the last bin is for what does not flip.
    const TABLES: usize = 4;
    const BINS: usize = FLIP_BINS + 1;
    let (scalars, tensors) = (&*scalars, &*tensors);
    let lanes = &Lanes::of(scalars);
    let mut room = Room::new();
    let mut tables = [0u32; TABLES * BINS];
    let table = tables.as_mut_ptr();
    let mut at = 0;
    while at < n {
        let count = if n - at < CODES { n - at } else { CODES };
        let block = gather(tensors, at, count, &mut room);
        let direction = room.direction.as_mut_ptr();
        directions(scalars, &block, direction, room.new.as_mut_ptr(), room.other.as_mut_ptr());
        let mut i = 0;
        while i < count {
            let (share, flips) = lanes.flip(load_wide(block.p.add(i)), load_wide(direction.add(i)));
            if flips.any() {
                let bin = cast::<Wide, WideIntegers>(share).max(WideIntegers::splat(FIRST_BIN))
                    - WideIntegers::splat(FIRST_BIN);
                let bin = cast::<WideIntegers, Wide>(
                    (bin >> BIN_SHIFT as i32).min(WideIntegers::splat(FLIP_BINS as i32 - 1)),
                );
                let none = cast::<WideIntegers, Wide>(WideIntegers::splat(FLIP_BINS as i32));
                for (j, bin) in cast::<Wide, [u32; WIDE]>(flips.select(bin, none)).into_iter().enumerate() {
                    *table.add(BINS * (j % TABLES) + bin as usize) += 1;
                }
            }
            i += WIDE;
        }
        at += count;
    }
    for i in 0..FLIP_BINS {
        *bins.add(i) = (0..TABLES).fold(0, |sum, j| sum + *table.add(BINS * j + i));
    }
}

impl Lanes {
    /// How much of the step it takes until the trit of p changes, and the mask of those that do before its end.
    #[inline(always)]
    fn flip(&self, p: Wide, direction: Wide) -> (Wide, Wide) {
        let (h, zero) = (self.threshold, Wide::ZERO);
        let move_by = self.rate * direction;
        let (down, up) = (move_by.simd_gt(zero), move_by.simd_lt(zero));
        let (above, below) = (p.simd_gt(h), p.simd_lt(-h));
        let inside = down.select(p + h, h - p);
        let distance = above.select(p - h, below.select(-h - p, inside));
        let share = distance / move_by.abs();
        // From above only down, from below only up, from inside anywhere, but from one of them.
        let flips = share.simd_lt(Wide::ONE) & (down | up);
        (share, above.select(flips & down, below.select(flips & up, flips)))
    }
}

// --- the other operations -------------------------------------------------------------------------------------------------------

pub unsafe extern "C" fn step_momentum(
    scalars: *const StepScalars,
    tensors: *const StepTensors,
    n: usize,
    direction: *mut f32,
) {
    let (scalars, tensors) = (&*scalars, &*tensors);
    let mut room = Room::new();
    let mut at = 0;
    while at < n {
        let count = if n - at < CODES { n - at } else { CODES };
        let block = gather(tensors, at, count, &mut room);
        directions(scalars, &block, room.direction.as_mut_ptr(), block.m, room.new.as_mut_ptr());
        copy_nonoverlapping(room.direction.as_ptr(), direction.add(at), count);
        put_m(&tensors.m, at, count, block.m);
        at += count;
    }
}

/// The canonical sum of (g[n] * scale)^2 of a row, each added to lanes[n] too.
pub unsafe extern "C" fn step_factor_row(g: *const f32, n: usize, scale: f32, lanes: *mut f32) -> f64 {
    let scale = f32x8::splat(scale);
    let mut sum = 0.0;
    let mut start = 0;
    while start < n {
        let count = if n - start < BLOCK { n - start } else { BLOCK };
        let mut totals = [f32x8::ZERO; 4];
        let mut add = |j: usize, at: usize, rest: usize| {
            let g = load_up_to(g.add(at), rest) * scale;
            totals[j] += g * g;
            store_up_to(lanes.add(at), load_up_to(lanes.add(at), rest) + g * g, rest);
        };
        let mut i = 0;
        while i + LANES <= count {
            for j in 0..LANES / 8 {
                add(j, start + i + 8 * j, 8);
            }
            i += LANES;
        }
        // What is missing of a vector adds +0.
        for j in 0..LANES / 8 {
            let at = i + 8 * j;
            if at < count {
                add(j, start + at, count - at);
            }
        }
        sum += f64::from(fold(totals));
        start += count;
    }
    sum
}

/// totals[n] += the fold of lanes[LANES][stride] of each column. n is a multiple of 8.
pub unsafe extern "C" fn step_factor_columns(lanes: *const f32, stride: usize, n: usize, totals: *mut f64) {
    let mut i = 0;
    while i < n {
        let mut sums = [f32x8::ZERO; LANES / 2];
        for j in 0..LANES / 2 {
            sums[j] = load(lanes.add(j * stride + i)) + load(lanes.add((j + LANES / 2) * stride + i));
        }
        let mut width = LANES / 4;
        while width > 0 {
            for j in 0..width {
                sums[j] += sums[j + width];
            }
            width /= 2;
        }
        for (j, sum) in sums[0].to_array().into_iter().enumerate() {
            *totals.add(i + j) += f64::from(sum);
        }
        i += 8;
    }
}

pub unsafe extern "C" fn scale(factor: f32, x: *const f32, y: *mut f32, n: usize) {
    let factor = f32x8::splat(factor);
    map(x, y, n, |x| factor * x);
}
