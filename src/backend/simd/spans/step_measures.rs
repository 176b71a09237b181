//! What a step would do: its sums and its flips. See `scalar/step.rs`, whose roundings these are.

use super::reduce::{BLOCK, LANES, fold};
use super::step::{Lanes, Room, StepScalars, StepTensors, block_count, directions, gather, is_plain};
use super::step_codes::CODES;
use super::vector::{WIDE, Wide, WideIntegers, load_wide};
use bytemuck::cast;

/// Sums of `step_sums`.
pub const SUMS: usize = 5;
/// Bins of `step_flips`.
pub const FLIP_BINS: usize = 129;
/// What comes below the first octave of bins, in the bits of a float; a bin is so many of them.
const FIRST_BIN: i32 = ((127 - 16) << 23) - (1 << BIN_SHIFT);
const BIN_SHIFT: u32 = 20;

pub unsafe extern "C" fn step_sums(
    scalars: *const StepScalars,
    tensors: *const StepTensors,
    n: usize,
    mut sums: *mut f32,
) {
    let (scalars, tensors) = (&*scalars, &*tensors);
    let lanes = &Lanes::of(scalars);
    let mut room = Room::new();
    let mut at = 0;
    while at < n {
        let end = if n - at < BLOCK { n } else { at + BLOCK };
        let mut totals = NO_TOTALS;
        if is_plain(scalars, tensors) {
            let to = end - (end - at) % CODES;
            plain_sums(lanes, tensors, at, to, &mut totals);
            at = to;
        }
        while at < end {
            let count = block_count(end - at);
            add_block(scalars, lanes, tensors, (at, count), &mut room, &mut totals);
            at += count;
        }
        sums = write_totals(&totals, sums);
    }
}

/// The lanes of the sums of a canonical block.
pub type Totals = [[Wide; LANES / WIDE]; SUMS];
pub const NO_TOTALS: Totals = [[Wide::ZERO; LANES / WIDE]; SUMS];

/// Adds what `count` elements from `at` on, one block of codes, would do.
#[inline(never)]
pub unsafe fn add_block(
    scalars: &StepScalars,
    lanes: &Lanes,
    tensors: &StepTensors,
    (at, count): (usize, usize),
    room: &mut Room,
    totals: &mut Totals,
) {
    let block = gather(tensors, at, count, room);
    let direction = room.direction.as_mut_ptr();
    directions(scalars, &block, direction, room.new.as_mut_ptr(), room.other.as_mut_ptr());
    // What is missing of the last is 0 in all, and adds +0 to lanes that are not -0: no bit changes.
    let mut i = 0;
    while i < count {
        for j in 0..LANES / WIDE {
            let at = i + WIDE * j;
            let [p, m, v] = [block.p, block.m, block.v].map(|x| load_wide(x.add(at)));
            let g = load_wide(block.g.add(at)) * lanes.gradient_scale;
            add_terms(totals, j, load_wide(direction.add(at)), [p, g, m, v]);
        }
        i += LANES;
    }
}

/// Writes the sums of a canonical block; where the next ones go.
#[inline(always)]
pub unsafe fn write_totals(totals: &Totals, sums: *mut f32) -> *mut f32 {
    for which in 0..SUMS {
        *sums.add(which) = fold(cast(totals[which]));
    }
    sums.add(SUMS)
}

/// From a direction and the states before the step.
#[inline(always)]
pub fn add_terms(totals: &mut Totals, j: usize, d: Wide, [p, g, m, v]: [Wide; 4]) {
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
            add_terms(&mut sums, j, d, [p, g, m, v]);
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
        let count = block_count(n - at);
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
