//! Every way to multiply runs here, at the level that the tests are compiled for: with its instruction where the level has it,
//! else with the portable form beside it. So only the instructions themselves are left to the machines that have them.

use super::super::dots::{Dpbusd, Halves, Maddubs, WideMaddubs};
use super::super::matmul_rows::{Job, split_codes_by};
use super::*;

/// Numbers below `bound`, from a linear congruence (Numerical Recipes).
fn numbers(count: usize, bound: u32) -> Vec<u32> {
    let mut state = 7u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % bound
    };
    (0..count).map(next).collect()
}

/// x[m, k], codes[n, k], and their products by the plainest loops.
struct Problem {
    m: usize,
    n: usize,
    k: usize,
    x: Vec<i8>,
    codes: Vec<u8>,
    expected: Vec<i32>,
}

impl Problem {
    fn new(m: usize, n: usize, k: usize, x: Vec<i8>, codes: Vec<u8>) -> Problem {
        let product = |row: usize, column: usize| {
            (0..k).map(|i| i32::from(x[row * k + i]) * i32::from(codes[column * k + i])).sum()
        };
        let expected = (0..m * n).map(|i| product(i / n, i % n)).collect();
        Problem { m, n, k, x, codes, expected }
    }

    fn random(m: usize, n: usize, k: usize) -> Problem {
        let x = numbers(m * k, 255).into_iter().map(|x| (x as i32 - 127) as i8).collect();
        let codes = numbers(n * k, 3).into_iter().map(|code| code as u8).collect();
        Problem::new(m, n, k, x, codes)
    }

    /// The largest sums there are, of either sign.
    fn extreme(m: usize, n: usize, k: usize, x: i8) -> Problem {
        Problem::new(m, n, k, vec![x; m * k], vec![2; n * k])
    }

    /// Codes as digits to a base, so many a byte.
    fn packed(&self, base: u8, digits: usize) -> Vec<u8> {
        let rows = self.codes.chunks_exact(self.k);
        rows.flat_map(|row| row.chunks(digits).map(|some| some.iter().rev().fold(0, |byte, code| byte * base + code)))
            .collect()
    }

    /// The tile over one panel: n is at most 16.
    fn check_panel<D: Dots>(&self, way: &str) {
        let (bytes, stride) = (self.k.div_ceil(4), self.k.next_multiple_of(16));
        let mut panel = vec![0; stride / 4 * 64];
        let (mut x, mut totals) = (vec![77; self.m * stride], vec![5; self.m * PANEL]);
        // SAFETY: sizes as the entries state them.
        unsafe {
            unpack_panel(self.packed(4, 4).as_ptr(), bytes, self.n, bytes, panel.as_mut_ptr());
            for (from, to) in self.x.chunks(self.k).zip(x.chunks_mut(stride)) {
                let sum = arrange_codes(from.as_ptr(), self.k, to.as_mut_ptr());
                assert_eq!(sum, from.iter().map(|&x| i32::from(x)).sum::<i32>());
            }
            panel_product_by::<D>(x.as_ptr(), stride, self.m, panel.as_ptr(), stride / 4, totals.as_mut_ptr());
        }
        for (i, total) in totals.iter().enumerate() {
            let (row, column) = (i / PANEL, i % PANEL);
            let product = if column < self.n { self.expected[row * self.n + column] } else { 0 };
            assert_eq!(*total, 5 + product, "{way}: {} x {} x {}, row {row}, column {column}", self.m, self.n, self.k);
        }
    }

    /// The rows as they lie, four or five codes a byte: m is 1 or 2.
    fn check_rows<D: Dots>(&self, way: &str) {
        for (base, digits) in [(4, 4), (3, 5)] {
            let (packed, bytes) = (self.packed(base, digits), self.k.div_ceil(digits));
            let stride = bytes.next_multiple_of(D::WIDTH) * digits;
            let mut planes = vec![77; self.m * stride];
            let mut totals = vec![-77; self.m * self.n];
            // SAFETY: sizes as the entries state them.
            unsafe {
                for (x, planes) in self.x.chunks(self.k).zip(planes.chunks_mut(stride)) {
                    let sum = split_codes_by(x.as_ptr(), self.k, digits, D::WIDTH, planes.as_mut_ptr());
                    assert_eq!(sum, x.iter().map(|&x| i32::from(x)).sum::<i32>());
                }
                let (planes, packed, totals) = (planes.as_ptr(), packed.as_ptr(), totals.as_mut_ptr());
                let (rows, part_bytes) = (self.n, bytes);
                let job = Job { planes, stride, packed, bytes, rows, part_bytes, groups: 1, totals };
                job.products::<D>(self.m, digits, 1);
            }
            assert_eq!(totals, self.expected, "{way}: {} x {} x {}, {digits} a byte", self.m, self.n, self.k);
        }
    }

    fn check_every_way(&self) {
        macro_rules! check {
            ($($way:ident)*) => {
                $(if self.n <= PANEL {
                    self.check_panel::<$way>(stringify!($way));
                }
                if self.m <= 2 {
                    self.check_rows::<$way>(stringify!($way));
                })*
            };
        }
        check!(Halves Maddubs WideMaddubs Dpbusd Native);
    }
}

#[test]
fn every_way_makes_the_same_sums() {
    for m in [1, 2, 3, 5, 6, 7, 11, 12, 13, 23, 24, 25, 49] {
        for n in [1, 7, 15, 16] {
            for k in [4, 60, 64, 68, 252, 256, 260, 1028] {
                Problem::random(m, n, k).check_every_way();
            }
        }
    }
    for m in [1, 2] {
        for n in [1, 3, 7, 8, 9, 13, 16, 33] {
            for k in [1, 3, 4, 5, 127, 128, 129, 255, 256, 257, 1023, 4096, 4100] {
                Problem::random(m, n, k).check_every_way();
            }
        }
    }
}

/// 16-bit sums that are not emptied in time overflow from 258 columns on.
#[test]
fn no_way_overflows() {
    for x in [127, -127] {
        for k in [252, 256, 260, 264, 4096, 8196] {
            Problem::extreme(2, 9, k, x).check_every_way();
            Problem::extreme(13, 16, k, x).check_every_way();
        }
    }
}
