//! int8 x ternary products for few rows of x (`matmul.rs` has the equation): straight from the packed bytes, a register of
//! them at a time. x is split into planes, so that digit i of packed byte j meets element j of plane i.

use super::dots::{Dots, Native, Register};
use super::matmul::{eight, first, sums_of_four};
use super::vector::{lanes_sum, narrow_signed, read, store, to_float, write};
use bytemuck::Zeroable;
use wide::{f32x8, i32x4, i32x8};

/// Bytes of a plane: a register of the level.
pub const PLANE: usize = <Native as Dots>::WIDTH;

pub unsafe extern "C" fn split_codes(x: *const i8, n: usize, digits: usize, planes: *mut i8) -> i32 {
    split_codes_by(x, n, digits, PLANE, planes)
}

#[inline(always)]
pub unsafe fn split_codes_by(x: *const i8, n: usize, digits: usize, plane: usize, planes: *mut i8) -> i32 {
    let block = plane * digits;
    let mut sum = i32x8::ZERO;
    let mut at = 0;
    while at < n {
        let mut rest = [0i8; 5 * 64];
        let from = if n - at < block {
            core::ptr::copy_nonoverlapping(x.add(at), rest.as_mut_ptr(), n - at);
            rest.as_ptr()
        } else {
            x.add(at)
        };
        let to = planes.add(at);
        let mut j = 0;
        while j < plane {
            let from = from.add(j * digits);
            if digits == 4 {
                let words: [i32x8; 4] = read(from);
                for i in 0..4 {
                    let bytes = words.map(|word| (word << (24 - 8 * i as u32)) >> 24);
                    write(to.add(i * plane + j), narrow_signed(bytes));
                }
            } else {
                for k in 0..32 {
                    for i in 0..5 {
                        *to.add(i * plane + j + k) = *from.add(5 * k + i);
                    }
                }
            }
            for i in 0..digits {
                sum += sums_of_four(read(to.add(i * plane + j)));
            }
            j += 32;
        }
        at += block;
    }
    lanes_sum(sum)
}

pub unsafe extern "C" fn row_products(
    planes: *const i8,
    stride: usize,
    x_rows: usize,
    packed: *const u8,
    digits: usize,
    bytes: usize,
    rows: usize,
    part_bytes: usize,
    split: usize,
    groups: usize,
    totals: *mut i32,
) {
    let job = Job { planes, stride, packed, bytes, rows, part_bytes, groups, totals };
    job.products::<Native>(x_rows, digits, split);
}

/// Whether two rows of x are multiplied together, so that packed bytes come apart once for both. Not at the baseline, where that would
/// be a third of all that is compiled for it, nor with AVX-512 that has no VNNI, which one generation of processors had.
const PAIRS: bool =
    cfg!(any(all(target_feature = "avx2", not(target_feature = "avx512bw")), target_feature = "avx512vnni", test));

/// The arguments of `row_products`.
pub struct Job {
    pub planes: *const i8,
    pub stride: usize,
    pub packed: *const u8,
    pub bytes: usize,
    pub rows: usize,
    pub part_bytes: usize,
    pub groups: usize,
    pub totals: *mut i32,
}

impl Job {
    #[inline(always)]
    pub unsafe fn products<D: Dots>(&self, x_rows: usize, digits: usize, split: usize) {
        if PAIRS && x_rows != 1 {
            return self.pair::<D>(digits, split);
        }
        for x in 0..x_rows {
            let planes = self.planes.add(x * self.stride);
            let job = Job { planes, totals: self.totals.add(x * self.groups * self.rows), ..*self };
            match (digits, split) {
                (4, 1) => job.one::<D, 4, 1>(),
                (4, 2) => job.one::<D, 4, 2>(),
                (4, 4) => job.one::<D, 4, 4>(),
                (4, _) if D::WIDTH == 64 => job.one::<D, 4, 8>(),
                (_, _) => job.one::<D, 5, 1>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn pair<D: Dots>(&self, digits: usize, split: usize) {
        match (digits, split) {
            (4, 1) => self.two::<D, 4, 1>(),
            (4, 2) => self.two::<D, 4, 2>(),
            (4, 4) => self.two::<D, 4, 4>(),
            (4, _) if D::WIDTH == 64 => self.two::<D, 4, 8>(),
            (_, _) => self.two::<D, 5, 1>(),
        }
    }

    #[inline(always)]
    unsafe fn one<D: Dots, const P: usize, const S: usize>(&self) {
        let mut row = 0;
        if D::ROWS == 8 {
            while row + 8 <= self.rows {
                self.parts::<D, P, S, 8, 1>(row);
                row += 8;
            }
        }
        while row + 4 <= self.rows {
            self.parts::<D, P, S, 4, 1>(row);
            row += 4;
        }
        while row < self.rows {
            self.parts::<D, P, S, 1, 1>(row);
            row += 1;
        }
    }

    #[inline(always)]
    unsafe fn two<D: Dots, const P: usize, const S: usize>(&self) {
        let mut row = 0;
        while row + 4 <= self.rows {
            self.parts::<D, P, S, 4, 2>(row);
            row += 4;
        }
        while row < self.rows {
            self.parts::<D, P, S, 1, 2>(row);
            row += 1;
        }
    }

    /// The totals of R weight rows and X rows of x, part by part.
    #[inline(always)]
    unsafe fn parts<D: Dots, const P: usize, const S: usize, const R: usize, const X: usize>(&self, row: usize) {
        let packed = self.packed.add(row * self.bytes);
        let (mut planes, mut from, mut group) = (self.planes, 0, 0);
        while group < self.groups {
            let count = if self.bytes - from < self.part_bytes { self.bytes - from } else { self.part_bytes };
            let sums = part::<D, P, R, X>(planes, self.stride, packed.add(from), self.bytes, count);
            for x in 0..X {
                let mut r = 0;
                while r < R {
                    let to = self.totals.add((x * self.groups + group) * self.rows + row + r);
                    for (i, four) in ends::<D, S, R>(&sums[x], r).into_iter().enumerate() {
                        if group + i < self.groups {
                            let to = to.add(i * self.rows);
                            if R == 1 {
                                *to = four.to_array()[0];
                            } else {
                                write(to, four);
                            }
                        }
                    }
                    r += 4;
                }
            }
            planes = planes.add(count.next_multiple_of(D::WIDTH) * P);
            from += count;
            group += S;
        }
    }
}

/// The sums of four rows from r on, or of one, by S equal parts of their lanes.
#[inline(always)]
fn ends<D: Dots, const S: usize, const R: usize>(sums: &[D::Totals; R], r: usize) -> [i32x4; S] {
    let mut pairs = [i32x4::ZERO; 8];
    for half in 0..D::WIDTH / 32 {
        let lanes = core::array::from_fn(|i| if r + i < R { eight(&sums[r + i], half) } else { i32x8::ZERO });
        let four = lane_pairs(lanes);
        for i in 0..4 {
            pairs[4 * half + i] = four[i];
        }
    }
    let per = D::WIDTH / 8 / S;
    let mut ends = [i32x4::ZERO; S];
    for i in 0..S {
        for j in 0..per {
            ends[i] += pairs[i * per + j];
        }
    }
    ends
}

/// The sums of lanes 2 i and 2 i + 1 of four vectors, for i in 0..4.
#[inline(always)]
fn lane_pairs(v: [i32x8; 4]) -> [i32x4; 4] {
    #[cfg(target_feature = "avx2")]
    // SAFETY: compiled for a target that has AVX2.
    unsafe {
        use bytemuck::cast;
        use core::arch::x86_64::{_mm256_hadd_epi32, _mm256_shuffle_ps};
        let low = cast(_mm256_hadd_epi32(cast(v[0]), cast(v[1])));
        let high = cast(_mm256_hadd_epi32(cast(v[2]), cast(v[3])));
        let even: [i32x4; 2] = cast(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
        let odd: [i32x4; 2] = cast(_mm256_shuffle_ps::<0b11_01_11_01>(low, high));
        [even[0], odd[0], even[1], odd[1]]
    }
    #[cfg(not(target_feature = "avx2"))]
    {
        let v = v.map(i32x8::to_array);
        core::array::from_fn(|i| i32x4::new(core::array::from_fn(|row| v[row][2 * i].wrapping_add(v[row][2 * i + 1]))))
    }
}

/// Bytes that are asked for ahead of their turn: R rows at a time are more streams than processors foresee.
const AHEAD: usize = 4096;

#[inline(always)]
fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address will do.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(p.cast())
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// [X][R] sums of the products of `count` packed bytes of P digits.
#[inline(always)]
unsafe fn part<D: Dots, const P: usize, const R: usize, const X: usize>(
    planes: *const i8,
    stride: usize,
    packed: *const u8,
    bytes: usize,
    count: usize,
) -> [[D::Totals; R]; X] {
    let mut sums = [[D::Totals::zeroed(); R]; X];
    let whole = count - count % D::WIDTH;
    // Where the rows of a later pass stand.
    let ahead = if R * bytes < AHEAD { AHEAD } else { R * bytes };
    let mut j = 0;
    while j < whole {
        // P steps for each register of packed bytes.
        let most = D::WIDTH * (D::STEPS / P);
        let end = if whole - j < most { whole } else { j + most };
        let mut steps = [[D::Sums::zeroed(); R]; X];
        while j < end {
            for r in 0..R {
                prefetch(packed.wrapping_add(r * bytes + j + ahead));
                step::<D, P, R, X>(&mut steps, r, read(packed.add(r * bytes + j)), planes.add(j * P), stride);
            }
            j += D::WIDTH;
        }
        flush::<D, R, X>(&mut sums, &steps);
    }
    if j < count {
        let mut steps = [[D::Sums::zeroed(); R]; X];
        for r in 0..R {
            let rest = first(packed.add(r * bytes + j), count - j);
            step::<D, P, R, X>(&mut steps, r, rest, planes.add(j * P), stride);
        }
        flush::<D, R, X>(&mut sums, &steps);
    }
    sums
}

/// Adds the products of a register of packed bytes of weight row r with the planes of X rows.
#[inline(always)]
unsafe fn step<D: Dots, const P: usize, const R: usize, const X: usize>(
    steps: &mut [[D::Sums; R]; X],
    r: usize,
    packed: D::Bytes,
    planes: *const i8,
    stride: usize,
) {
    if P == 4 {
        for i in 0..4 {
            let codes = packed.codes(i as u32);
            for x in 0..X {
                steps[x][r] = D::step(steps[x][r], codes, read(planes.add(x * stride + i * D::WIDTH)));
            }
        }
    } else {
        let digits = packed.digits();
        for i in 0..5 {
            for x in 0..X {
                steps[x][r] = D::step(steps[x][r], digits[i], read(planes.add(x * stride + i * D::WIDTH)));
            }
        }
    }
}

#[inline(always)]
fn flush<D: Dots, const R: usize, const X: usize>(sums: &mut [[D::Totals; R]; X], steps: &[[D::Sums; R]; X]) {
    for x in 0..X {
        for r in 0..R {
            sums[x][r] += D::totals(steps[x][r]);
        }
    }
}

pub unsafe extern "C" fn scale_groups(
    totals: *const i32,
    rows: usize,
    groups: usize,
    sums: *const i32,
    scales: *const f32,
    factor: f32,
    y: *mut f32,
) {
    let mut row = 0;
    while row + 8 <= rows {
        let mut total = f32x8::ZERO;
        let mut group = 0;
        while group + 8 <= groups {
            let mut block = [f32x8::ZERO; 8];
            for r in 0..8 {
                block[r] = read(scales.add((row + r) * groups + group));
            }
            let block = f32x8::transpose(block);
            for g in 0..8 {
                let exact =
                    read::<i32x8, i32>(totals.add((group + g) * rows + row)) - i32x8::splat(*sums.add(group + g));
                total += to_float(exact) * block[g];
            }
            group += 8;
        }
        while group < groups {
            let mut eight = [0.0; 8];
            for r in 0..8 {
                eight[r] = *scales.add((row + r) * groups + group);
            }
            let exact = read::<i32x8, i32>(totals.add(group * rows + row)) - i32x8::splat(*sums.add(group));
            total += to_float(exact) * f32x8::new(eight);
            group += 1;
        }
        store(y.add(row), total * f32x8::splat(factor));
        row += 8;
    }
    while row < rows {
        let mut total = 0.0;
        for group in 0..groups {
            let exact = (*totals.add(group * rows + row)).wrapping_sub(*sums.add(group));
            total += exact as f32 * *scales.add(row * groups + group);
        }
        *y.add(row) = total * factor;
        row += 1;
    }
}
