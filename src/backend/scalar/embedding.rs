//! Rows of a table by index, and their gradient.

use super::by_float;
use crate::backend::Launch;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Float, Result, View, ViewMut};

pub fn embedding(_: &Launch, tokens: &View, table: &View, y: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(tokens: &[u32], table: &View, y: &mut ViewMut) -> Result<()> {
        let d = table.dim(1);
        let (table, y) = (table.slice::<T>()?, y.slice_mut::<T>()?);
        for (y, &token) in y.chunks_exact_mut(d.max(1)).zip(tokens) {
            y.copy_from_slice(&table[token as usize * d..][..d]);
        }
        Ok(())
    }
    check_rows("embedding", table.dims(), tokens.count(), y.dims())?;
    let tokens = check_indices("token", tokens, table.dim(0))?;
    by_float!(table, typed(tokens, table, y))
}

pub fn embedding_backward(_: &Launch, tokens: &View, dy: &View, dtable: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(tokens: &[u32], dy: &View, dtable: &mut ViewMut) -> Result<()> {
        let d = dy.dim(1);
        let (dy, dtable) = (dy.slice::<T>()?, dtable.slice_mut::<T>()?);
        for (dy, &token) in dy.chunks_exact(d.max(1)).zip(tokens) {
            for (sum, dy) in dtable[token as usize * d..][..d].iter_mut().zip(dy) {
                *sum += *dy;
            }
        }
        Ok(())
    }
    check_rows("embedding backward", dtable.dims(), tokens.count(), dy.dims())?;
    let tokens = check_indices("token", tokens, dtable.dim(0))?;
    by_float!(dy, typed(tokens, dy, dtable))
}

/// table[v, d] and rows[n, d].
pub fn check_rows(name: &str, table: &[usize], n: usize, rows: &[usize]) -> Result<()> {
    let expected = [n, table.get(1).copied().unwrap_or(1)];
    ensure!(rows == expected, Shape, "{name}: rows have shape {rows:?}, expected {expected:?}");
    Ok(())
}

/// The indices as a slice, all below `bound`.
pub fn check_indices<'a>(what: &str, indices: &View<'a>, bound: usize) -> Result<&'a [u32]> {
    let indices = indices.slice::<u32>()?;
    match indices.iter().position(|&i| i as usize >= bound) {
        None => Ok(indices),
        Some(at) => Err(error!(Shape, "{what} {at} is {}, outside the vocabulary of {bound}", indices[at])),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    fn embed<T: Float>(tokens: &[u32], table: &[T], [v, d]: [usize; 2]) -> Vec<T> {
        let mut y = of::<T>(&vec![9.0; tokens.len() * d]);
        let mut y_view = view_mut(&mut y, &[tokens.len(), d]);
        (KERNELS.embedding)(&launch(), &view(tokens, &[tokens.len()]), &view(table, &[v, d]), &mut y_view).unwrap();
        y
    }

    fn backward<T: Float>(tokens: &[u32], dy: &[T], dtable: &mut [T], [v, d]: [usize; 2]) {
        let mut dtable = view_mut(dtable, &[v, d]);
        (KERNELS.embedding_backward)(
            &launch(),
            &view(tokens, &[tokens.len()]),
            &view(dy, &[tokens.len(), d]),
            &mut dtable,
        )
        .unwrap();
    }

    #[test]
    fn rows_are_taken_by_index() {
        let table: Vec<f32> = vec![0.0, 1.0, 10.0, 11.0, 20.0, 21.0];
        assert_eq!(embed(&[2, 0, 2], &table, [3, 2]), [20.0, 21.0, 0.0, 1.0, 20.0, 21.0]);
        assert!(embed::<f64>(&[], &[1.0, 2.0], [1, 2]).is_empty());
        assert!(embed::<f32>(&[], &[], [0, 3]).is_empty());
        assert!(embed::<f32>(&[1, 0], &[], [2, 0]).is_empty());
    }

    #[test]
    fn the_backward_pass_is_the_gradient_and_adds() {
        let (tokens, v, d) = ([3, 1, 3, 3, 0], 5, 4);
        let (table, dy, old) = (numbers(23, v * d), numbers(24, tokens.len() * d), numbers(25, v * d));
        let mut dtable = old.clone();
        backward(&tokens, &dy, &mut dtable, [v, d]);
        let expected = differences(&table, |table| dot(&embed(&tokens, table, [v, d]), &dy));
        let added: Vec<f64> = dtable.iter().zip(&old).map(|(new, old)| new - old).collect();
        assert_close("dtable", &added, &expected, DIFFERENCES);
        backward::<f64>(&[], &[], &mut dtable, [v, d]);
        backward::<f64>(&[0, 0], &[], &mut [], [1, 0]);
    }

    /// 2^24 + 1 rounds to 2^24 in f32, so the order shows.
    #[test]
    fn every_row_sums_in_token_order() {
        let large = 16_777_216.0f32;
        let mut dtable = [0.0f32; 2];
        backward(&[0, 0, 0, 1, 1, 1], &[large, 1.0, -large, large, -large, 1.0], &mut dtable, [2, 1]);
        assert_eq!(dtable, [0.0, 1.0]);
    }

    #[test]
    fn tokens_outside_the_table_are_refused_before_anything_is_written() {
        for bad in [3, u32::MAX] {
            let (tokens, mut rows, mut table) = ([0, bad], [9.0f32; 4], [1.0f32; 6]);
            let tokens = view(&tokens, &[2]);
            let result =
                (KERNELS.embedding)(&launch(), &tokens, &view(&table, &[3, 2]), &mut view_mut(&mut rows, &[2, 2]));
            let error = result.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Shape);
            assert!(error.message.contains("token 1") && error.message.contains(&bad.to_string()), "{error}");
            assert_eq!(rows, [9.0; 4]);
            let mut table_view = view_mut(&mut table, &[3, 2]);
            let result = (KERNELS.embedding_backward)(&launch(), &tokens, &view(&rows, &[2, 2]), &mut table_view);
            assert_eq!(kind(result), ErrorKind::Shape);
            assert_eq!(table, [1.0; 6]);
        }
        let (tokens, empty) = (zeros::<u32>(&[1]), view::<f32>(&[], &[0, 2]));
        let result = (KERNELS.embedding)(&launch(), &tokens.view(), &empty, &mut view_mut(&mut [0.0f32; 2], &[1, 2]));
        assert_eq!(kind(result), ErrorKind::Shape);
    }

    #[test]
    fn other_shapes_and_types_are_refused() {
        for rows in [[2, 3], [3, 2], [6, 1]] {
            let (tokens, mut table, mut y) = (zeros::<u32>(&[2]), zeros::<f32>(&[4, 2]), zeros::<f32>(&rows));
            let there = (KERNELS.embedding)(&launch(), &tokens.view(), &table.view(), &mut y.view_mut());
            let back = (KERNELS.embedding_backward)(&launch(), &tokens.view(), &y.view(), &mut table.view_mut());
            assert_eq!((kind(there), kind(back)), (ErrorKind::Shape, ErrorKind::Shape));
        }
        let tensors = || [zeros::<u32>(&[2]), zeros::<f32>(&[4, 3]), zeros::<f32>(&[2, 3])];
        refuses_other_types("embedding", tensors(), |[tokens, table, y]| {
            (KERNELS.embedding)(&launch(), &tokens.view(), &table.view(), &mut y.view_mut())
        });
        refuses_other_types("embedding_backward", tensors(), |[tokens, dtable, dy]| {
            (KERNELS.embedding_backward)(&launch(), &tokens.view(), &dy.view(), &mut dtable.view_mut())
        });
    }
}
