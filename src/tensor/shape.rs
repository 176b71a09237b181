//! Up to four dimensions, sizes checked for overflow once, when the shape is made.

use super::error::{Result, ensure, error};
use std::fmt;

pub const MAX_RANK: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// Fails with SHAPE on more than four dimensions, or when the element count overflows `isize`.
    pub fn new(dims: &[usize]) -> Result<Shape> {
        ensure!(dims.len() <= MAX_RANK, Shape, "a tensor has at most {MAX_RANK} dimensions, got {}", dims.len());
        let mut shape = Shape { dims: [1; MAX_RANK], rank: dims.len() as u8 };
        shape.dims[..dims.len()].copy_from_slice(dims);
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        // 8 bytes is the widest element: the byte count of any tensor of this shape then fits isize.
        match count {
            Some(n) if n <= isize::MAX as usize / 8 => Ok(shape),
            _ => Err(error!(Shape, "a tensor of shape {shape} has too many elements for this machine")),
        }
    }

    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    pub fn count(&self) -> usize {
        self.dims().iter().product()
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> [isize; MAX_RANK] {
        let mut strides = [1isize; MAX_RANK];
        for i in (1..self.rank()).rev() {
            strides[i - 1] = strides[i] * self.dims[i] as isize;
        }
        strides
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.dims().iter().map(usize::to_string).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
