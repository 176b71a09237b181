//! Which weights share a scale.

use crate::tensor::Result;
use crate::tensor::error::ensure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// All of a matrix.
    Matrix,
    /// A row.
    Row,
    /// So many columns of a row, at least 1; the last group of a row may be shorter.
    Columns(usize),
}

impl Group {
    /// The scales of [rows, columns].
    pub fn scale_count(self, rows: usize, columns: usize) -> usize {
        match self {
            Group::Matrix => 1,
            Group::Row => rows,
            Group::Columns(width) => rows * columns.div_ceil(width),
        }
    }

    /// The group as kernels are told it, of rows with so many columns: 0 is the whole matrix.
    pub fn width(self, columns: usize) -> usize {
        match self {
            Group::Matrix => 0,
            Group::Row => columns.max(1),
            Group::Columns(width) => width,
        }
    }

    /// SHAPE unless there are as many scales as [rows, columns] need.
    pub fn check_count(self, rows: usize, columns: usize, count: usize) -> Result<()> {
        let expected = self.scale_count(rows, columns);
        ensure!(count == expected, Shape, "scale_count is {count}, [{rows}, {columns}] weights have {expected} scales");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_counted() {
        for (group, counts) in [(Group::Matrix, [1, 1, 1]), (Group::Row, [3, 0, 3]), (Group::Columns(4), [9, 0, 0])] {
            let found = [(3, 9), (0, 9), (3, 0)].map(|(rows, columns)| group.scale_count(rows, columns));
            assert_eq!(found, counts, "{group:?}");
        }
        let error = Group::Columns(4).check_count(3, 9, 3).unwrap_err();
        assert_eq!(error.message, "scale_count is 3, [3, 9] weights have 9 scales");
    }
}
