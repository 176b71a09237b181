//! Steps of optimizers: see `scalar/step.rs`, whose roundings these are: nothing is fused.
//!
//! Blocks of [`CODES`] elements go through memory on the stack: states become floats there, or are left where they lie if they are
//! floats; a loop for each direction makes the directions of all, which an operation then takes up. So there are as many loops as
//! there are forms, directions and operations, and not their products. AdamW on floats has loops of its own: it is what most steps
//! are, and should take no longer than its memory.

use super::activation::absmax;
use super::elementwise::PhiloxStream;
use super::math::{by_vectors, load_up_to, map, store_up_to};
use super::reduce::{BLOCK, LANES};
use super::step_codes::*;
use super::step_measures::{NO_TOTALS, Totals, add_block, add_terms, write_totals};
use super::vector::{WIDE, Wide, WideIntegers, load_wide, write};
use bytemuck::cast;
use core::ptr::{copy_nonoverlapping, write_bytes};
use wide::f32x8;

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

pub type Floats = [f32; CODES];

/// Memory for a block.
pub struct Room {
    pub g: Floats,
    pub p: Floats,
    pub m: Floats,
    pub v: Floats,
    pub direction: Floats,
    pub new: Floats,
    pub other: Floats,
}

impl Room {
    #[inline(always)]
    pub fn new() -> Room {
        let zeros = [0.0; CODES];
        Room { g: zeros, p: zeros, m: zeros, v: zeros, direction: zeros, new: zeros, other: zeros }
    }
}

/// A block of states as floats, with 0 for those that there are not, and after the end of one that is shorter than others.
pub struct Block {
    pub count: usize,
    pub g: *const f32,
    pub p: *mut f32,
    pub m: *mut f32,
    pub v: *mut f32,
}

/// The elements of the next block. The compiler is not told that there are few: it would write out each loop over them, eight
/// times as long and no faster.
#[inline(always)]
pub fn block_count(rest: usize) -> usize {
    core::hint::black_box(if rest < CODES { rest } else { CODES })
}

#[inline(never)]
pub unsafe fn gather(tensors: &StepTensors, at: usize, count: usize, room: &mut Room) -> Block {
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
pub struct Lanes {
    pub gradient_scale: Wide,
    pub beta: Wide,
    pub rate1: Wide,
    pub rate2: Wide,
    pub inverse1: Wide,
    pub inverse2: Wide,
    pub epsilon: Wide,
    pub weight_decay: Wide,
    pub rate: Wide,
    pub lower: Wide,
    pub upper: Wide,
    pub threshold: Wide,
}

impl Lanes {
    #[inline(always)]
    pub fn of(s: &StepScalars) -> Lanes {
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
    pub fn first_moment(&self, g: Wide, m: Wide) -> Wide {
        m + self.rate1 * (g - m)
    }

    #[inline(always)]
    pub fn second_moment(&self, g: Wide, v: Wide) -> Wide {
        v + self.rate2 * (g * g - v)
    }

    #[inline(always)]
    pub fn by_root(&self, m: Wide, v: Wide) -> Wide {
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

    /// p after the step; and 1 where the box holds it, 1 where its trit changes.
    #[inline(always)]
    fn moved(&self, p: Wide, direction: Wide) -> (Wide, [WideIntegers; 2]) {
        let moved = p - self.rate * direction;
        let inside = self.inside(moved);
        (inside, [differs(moved, inside), self.changes(p, inside)])
    }

    /// 1 where the trits differ.
    #[inline(always)]
    fn changes(&self, p: Wide, q: Wide) -> WideIntegers {
        let (h, negative) = (self.threshold, -self.threshold);
        #[cfg(target_feature = "avx512f")]
        {
            // Whether it is more than h is whether max(x, h) is not h; NaN is not.
            let above = |x: Wide| differs(x.fast_max(h), h);
            let below = |x: Wide| differs(x.fast_min(negative), negative);
            (above(p) ^ above(q)) | (below(p) ^ below(q))
        }
        #[cfg(not(target_feature = "avx512f"))]
        {
            let changed = (p.simd_gt(h) ^ q.simd_gt(h)) | (p.simd_lt(negative) ^ q.simd_lt(negative));
            WideIntegers::ZERO - cast::<Wide, WideIntegers>(changed)
        }
    }
}

/// 1 where the bits are not the same. Not by a mask where that has a register of its own kind, which takes longer to come by.
#[inline(always)]
fn differs(x: Wide, y: Wide) -> WideIntegers {
    let bits: WideIntegers = cast(x ^ y);
    #[cfg(target_feature = "avx512f")]
    return cast(cast::<WideIntegers, wide::u32x16>(bits).min(wide::u32x16::ONE));
    #[cfg(not(target_feature = "avx512f"))]
    return bits.simd_eq(WideIntegers::ZERO) + WideIntegers::ONE;
}

/// direction[count] with weight decay, and the new m and v, which may be written where the old ones are.
#[inline(never)]
pub unsafe fn directions(scalars: &StepScalars, block: &Block, direction: *mut f32, m: *mut f32, v: *mut f32) {
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
    mut sums: *mut f32,
) {
    let (scalars, tensors) = (&*scalars, &*tensors);
    let lanes = &Lanes::of(scalars);
    let mut found = [WideIntegers::ZERO; 2];
    let free = scalars.lower == f32::NEG_INFINITY && scalars.upper == f32::INFINITY && scalars.threshold.is_nan();
    let plain = free && is_plain(scalars, tensors);
    let mut room = Room::new();
    let mut at = 0;
    while at < n {
        let end = if n - at < BLOCK { n } else { at + BLOCK };
        let mut totals = NO_TOTALS;
        if plain {
            let to = end - (end - at) % CODES;
            plain_step(lanes, tensors, (at, to), &mut totals);
            at = to;
        }
        while at < end {
            let part = (at, block_count(end - at));
            if !sums.is_null() {
                add_block(scalars, lanes, tensors, part, &mut room, &mut totals);
            }
            step_block(scalars, lanes, tensors, (&*stream, first), part, &mut room, &mut found);
            at += part.1;
        }
        if !sums.is_null() {
            sums = write_totals(&totals, sums);
        }
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
        *scale = largest(block.v, count, LEAST_SCALE);
        encode_v(block.v, *scale, rounding, codes, count);
    });
    put(p, at, count, new, |scale, codes| {
        *scale = parameter_scale(largest(new, count, 0.0), *scale);
        encode_parameter(new, *scale, rounding, codes, count);
        decode_parameter(codes, *scale, new, count);
        write_bytes(block.p.add(count), 0, CODES - count);
        write_bytes(new.add(count), 0, CODES - count);
        let mut recounted = WideIntegers::ZERO;
        let mut i = 0;
        while i < count {
            recounted += lanes.changes(load_wide(block.p.add(i)), load_wide(new.add(i)));
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
        let (inside, [held, changed]) = lanes.moved(load_wide(p.add(i)), load_wide(direction.add(i)));
        write(new.add(i), inside);
        counts[0] += held;
        counts[1] += changed;
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
        *scale = largest(new, count, LEAST_SCALE);
        encode_m(new, *scale, codes, count);
    });
}

/// One copy of it for all codes.
#[inline(never)]
unsafe fn largest(x: *const f32, count: usize, least: f32) -> f32 {
    absmax(x, count, least)
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
pub fn is_plain(scalars: &StepScalars, tensors: &StepTensors) -> bool {
    let floats = |numbers: &StepNumbers| !numbers.floats.is_null();
    scalars.direction == ADAMW && floats(&tensors.p) && floats(&tensors.m) && floats(&tensors.v)
}

/// Without a box and trits, where there is nothing to count. With them it is better to go by blocks: more instructions than a
/// processor holds at a time would wait for each division. From `at` to `end`, some multiple of the lanes; the sums are made
/// whether they are wanted or not, so that there is one loop.
unsafe fn plain_step(lanes: &Lanes, tensors: &StepTensors, (at, end): (usize, usize), totals: &mut Totals) {
    let (g, p, m, v) = (tensors.gradient, tensors.p.floats, tensors.m.floats, tensors.v.floats);
    let mut sums = *totals;
    let mut i = at;
    while i < end {
        for j in 0..LANES / WIDE {
            let i = i + WIDE * j;
            let gradient = load_wide(g.add(i)) * lanes.gradient_scale;
            let (old, old_m, old_v) = (load_wide(p.add(i)), load_wide(m.add(i)), load_wide(v.add(i)));
            let (new_m, new_v) = (lanes.first_moment(gradient, old_m), lanes.second_moment(gradient, old_v));
            let direction = lanes.by_root(new_m, new_v) + lanes.weight_decay * old;
            write(p.add(i), old - lanes.rate * direction);
            write(m.add(i), new_m);
            write(v.add(i), new_v);
            add_terms(&mut sums, j, direction, [old, gradient, old_m, old_v]);
        }
        i += LANES;
    }
    *totals = sums;
}

// --- the other operations ---------------------------------------------------------------------------------------------------

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
        let count = block_count(n - at);
        let block = gather(tensors, at, count, &mut room);
        directions(scalars, &block, room.direction.as_mut_ptr(), block.m, room.new.as_mut_ptr());
        copy_nonoverlapping(room.direction.as_ptr(), direction.add(at), count);
        put_m(&tensors.m, at, count, block.m);
        at += count;
    }
}

pub unsafe extern "C" fn scale(factor: f32, x: *const f32, y: *mut f32, n: usize) {
    let factor = f32x8::splat(factor);
    map(x, y, n, |x| factor * x);
}
