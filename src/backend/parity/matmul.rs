//! Float products, within the rounding of f32 sums.

use super::{check, dirty, normal, tolerance};
use crate::tensor::{DType, Tensor};

fn product([m, n, k]: [usize; 3], transposed: [bool; 2], accumulate: bool) {
    let stored = |rows: usize, columns: usize, transposed: bool, seed: u32| {
        normal(&if transposed { [columns, rows] } else { [rows, columns] }, seed)
    };
    let a = stored(m, k, transposed[0], 9);
    let b = stored(k, n, transposed[1], 10);
    let name = format!("matmul {m} x {n} x {k}, transposed {transposed:?}, accumulate {accumulate}");
    check(&name, tolerance::products(k), |row| {
        let a = if transposed[0] { a.view().transpose() } else { a.view() };
        let b = if transposed[1] { b.view().transpose() } else { b.view() };
        let mut c = if accumulate { normal(&[m, n], 11) } else { dirty(DType::F32, &[m, n]) };
        (row.kernels.matmul)(&row.launch, &a, &b, accumulate, &mut c.view_mut())?;
        Ok(vec![c])
    });
}

const ORDERS: [[bool; 2]; 4] = [[false, false], [false, true], [true, false], [true, true]];

#[test]
fn small_and_odd_shapes_in_every_order() {
    for m in [0, 1, 2, 7, 8, 9, 65] {
        for n in [0, 1, 7, 64, 65] {
            for k in [0, 1, 2, 3, 63, 257] {
                for order in ORDERS {
                    product([m, n, k], order, false);
                }
                product([m, n, k], [false, true], true);
            }
        }
    }
}

#[test]
fn shapes_of_several_blocks() {
    for shape in [[300, 130, 70], [768, 128, 64], [128, 128, 768], [3, 1100, 130], [1, 1100, 257]] {
        for order in ORDERS {
            product(shape, order, true);
        }
    }
}

#[test]
fn tall_products_are_sliced_along_k() {
    for accumulate in [false, true] {
        product([65, 130, 5000], [true, false], accumulate);
        product([7, 9, 8192], [false, false], accumulate);
    }
}

#[test]
fn an_empty_inner_dimension_gives_zeros_or_leaves_c() {
    let (a, b) = (Tensor::zeros(DType::F32, &[3, 0]).unwrap(), Tensor::zeros(DType::F32, &[0, 5]).unwrap());
    for row in super::rows() {
        for (accumulate, expected) in [(false, 0.0), (true, -77.5)] {
            let mut c = dirty(DType::F32, &[3, 5]);
            (row.kernels.matmul)(&row.launch, &a.view(), &b.view(), accumulate, &mut c.view_mut()).unwrap();
            assert_eq!(c.host::<f32>().unwrap(), [expected; 15], "{}", row.name);
        }
    }
}
