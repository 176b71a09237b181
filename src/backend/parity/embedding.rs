use super::{EXACT, SIZES, check, dirty, integers, normal};
use crate::tensor::{DType, Tensor};

fn tokens(n: usize, vocabulary: usize) -> Tensor {
    integers(&[n], 4, vocabulary as u64, |i| i as u32)
}

#[test]
fn embedding() {
    for n in SIZES {
        for (v, d) in [(1, 1), (7, 63), (65, 64), (300, 257)] {
            check(&format!("embedding {n} of [{v}, {d}]"), EXACT, |row| {
                let mut y = dirty(DType::F32, &[n, d]);
                let table = normal(&[v, d], 5);
                (row.kernels.embedding)(&row.launch, &tokens(n, v).view(), &table.view(), &mut y.view_mut())?;
                Ok(vec![y])
            });
        }
    }
}

/// Few rows, so that many tokens add to the same one: the order of the sum shows in its last bits.
#[test]
fn embedding_backward() {
    for n in SIZES.into_iter().chain([1000]) {
        for (v, d) in [(1, 1), (3, 63), (65, 64), (20, 257), (5, 0)] {
            check(&format!("embedding backward {n} of [{v}, {d}]"), EXACT, |row| {
                let (dy, mut dtable) = (normal(&[n, d], 6), normal(&[v, d], 7));
                (row.kernels.embedding_backward)(
                    &row.launch,
                    &tokens(n, v).view(),
                    &dy.view(),
                    &mut dtable.view_mut(),
                )?;
                Ok(vec![dtable])
            });
        }
    }
}

#[test]
fn a_token_outside_the_table_is_refused() {
    check("embedding outside", EXACT, |row| {
        let (tokens, table) = (Tensor::from_slice(&[0u32, 3], &[2])?, normal(&[3, 8], 5));
        let mut y = dirty(DType::F32, &[2, 8]);
        (row.kernels.embedding)(&row.launch, &tokens.view(), &table.view(), &mut y.view_mut())?;
        Ok(vec![y])
    });
    check("embedding backward outside", EXACT, |row| {
        let (tokens, dy) = (Tensor::from_slice(&[0u32, 3], &[2])?, normal(&[2, 8], 5));
        let mut dtable = dirty(DType::F32, &[3, 8]);
        (row.kernels.embedding_backward)(&row.launch, &tokens.view(), &dy.view(), &mut dtable.view_mut())?;
        Ok(vec![dtable])
    });
}
