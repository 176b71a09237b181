//! Products: float x float with any strides, int8 x ternary, and its gradient to the input.

use super::by_float;
use super::mask_sign::mask_sign_trits;
use super::scheme::Groups;
use super::ternary::{check_size, five_trits, unpack_two_bit};
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Element, Float, Packing, Result, View, ViewMut, vec_zeroed};
use std::borrow::Cow;
use std::ops::Range;

pub fn matmul(_: &Launch, a: &View, b: &View, accumulate: bool, c: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(a: &View, b: &View, accumulate: bool, c: &mut ViewMut) -> Result<()> {
        let (m, k, n) = (a.dim(0), a.dim(1), b.dim(1));
        check_matmul(a, b, c)?;
        let (a, b) = (gather::<T>(a)?, gather::<T>(b)?);
        let c = c.slice_mut::<T>()?;
        for i in 0..m {
            for j in 0..n {
                let sum = (0..k).fold(0.0, |sum, l| sum + a[i * k + l].f64() * b[l * n + j].f64());
                let old = if accumulate { c[i * n + j] } else { T::ZERO };
                c[i * n + j] = old + T::of(sum);
            }
        }
        Ok(())
    }
    by_float!(c, typed(a, b, accumulate, c))
}

/// a[m, k], b[k, n], c[m, n].
pub fn check_matmul(a: &View, b: &View, c: &ViewMut) -> Result<()> {
    for x in [a, b] {
        ensure!(x.dims().len() == 2, Shape, "matmul: an operand has shape {}, expected two dimensions", x.shape());
    }
    ensure!(a.dim(1) == b.dim(0), Shape, "matmul: a has {} columns, b has {} rows", a.dim(1), b.dim(0));
    let expected = [a.dim(0), b.dim(1)];
    ensure!(c.dims() == expected, Shape, "matmul: c has shape {:?}, expected {expected:?}", c.dims());
    Ok(())
}

/// A strided matrix in row-major order, so that the product above reads like its formula. Views are made by narrowing and
/// transposing row-major matrices, so one of the two strides is 1: every row, or else every column, is a slice.
fn gather<'a, T: Element>(x: &View<'a>) -> Result<Cow<'a, [T]>> {
    if x.is_contiguous() {
        return Ok(Cow::Borrowed(x.slice()?));
    }
    let columns = x.dim(1);
    let mut gathered = vec_zeroed::<T>(x.count())?;
    if x.strides()[1] == 1 {
        for (i, row) in gathered.chunks_exact_mut(columns).enumerate() {
            row.copy_from_slice(x.narrow(i, 1)?.slice()?);
        }
    } else {
        for j in 0..columns {
            let column = x.transpose().narrow(j, 1)?.slice::<T>()?;
            for (row, value) in gathered.chunks_exact_mut(columns).zip(column) {
                row[j] = *value;
            }
        }
    }
    Ok(Cow::Owned(gathered))
}

pub fn matmul_ternary(
    launch: &Launch,
    codes: &View,
    scales: &View,
    packing: Packing,
    packed: &View,
    group: usize,
    weight_scales: &View,
    base: Option<&View>,
    y: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(
        launch: &Launch,
        codes: &View,
        scales: &View,
        packing: Packing,
        packed: &View,
        group: usize,
        weight_scales: &View,
        base: Option<&View>,
        y: &mut ViewMut,
    ) -> Result<()> {
        let groups = check_ternary(codes, scales, packing, packed, group, weight_scales, y.dims())?;
        let (n, k) = (groups.rows, groups.columns);
        let (codes, scales, trits) =
            (codes.slice::<i8>()?, scales.slice::<T>()?, trits(launch, packing, packed, n, k)?);
        let base = check_base(base, y)?.map(|base| base.slice::<T>()).transpose()?;
        let (weight_scales, y) = (weight_scales.slice::<T>()?, y.slice_mut::<T>()?);
        if k == 0 {
            match base {
                Some(base) => y.copy_from_slice(base),
                None => y.fill(T::ZERO),
            }
            return Ok(());
        }
        for (i, scale) in scales.iter().enumerate() {
            for j in 0..n {
                // Exact: |sum| <= 127 * 2^24 < 2^31.
                let sum = |columns: Range<usize>| -> T {
                    let sum: i32 = columns.map(|l| i32::from(codes[i * k + l]) * i32::from(trits[j * k + l])).sum();
                    T::of(f64::from(sum))
                };
                let value = if groups.per_row == 1 {
                    sum(0..k) * (*scale * weight_scales[if groups.whole { 0 } else { j }])
                } else {
                    let parts = (0..groups.per_row).map(|g| (g, g * groups.width..k.min((g + 1) * groups.width)));
                    let total = parts.fold(T::ZERO, |total, (g, columns)| {
                        total + sum(columns) * weight_scales[j * groups.per_row + g]
                    });
                    total * *scale
                };
                y[i * n + j] = base.map_or(value, |base| base[i * n + j] + value);
            }
        }
        Ok(())
    }
    by_float!(y, typed(launch, codes, scales, packing, packed, group, weight_scales, base, y))
}

/// t[n, k].
fn trits(launch: &Launch, packing: Packing, packed: &View, n: usize, k: usize) -> Result<Vec<i8>> {
    let mut trits = vec_zeroed::<i8>(n * k)?;
    let view = &mut ViewMut::of(&mut trits, &[n, k])?;
    let packed = &match packing {
        Packing::TwoBit => packed.reshape(&[n, k.div_ceil(4)])?,
        Packing::FivePerByte => packed.reshape(&[n, k.div_ceil(5)])?,
        Packing::MaskSign => *packed,
    };
    match packing {
        Packing::TwoBit => unpack_two_bit(launch, packed, view)?,
        Packing::FivePerByte => five_trits(launch, packed, view)?,
        Packing::MaskSign => mask_sign_trits(launch, packed, view)?,
    }
    Ok(trits)
}

/// The same, with the shape of y.
pub fn check_base<'a, 'b>(base: Option<&'a View<'b>>, y: &ViewMut) -> Result<Option<&'a View<'b>>> {
    if let Some(base) = base {
        let (found, expected) = (base.dims(), y.dims());
        ensure!(found == expected, Shape, "matmul: base has shape {found:?}, y has {expected:?}");
    }
    Ok(base)
}

/// Shapes of `matmul_ternary`; what the weight scales belong to.
pub fn check_ternary(
    codes: &View,
    scales: &View,
    packing: Packing,
    packed: &View,
    group: usize,
    weight_scales: &View,
    y: &[usize],
) -> Result<Groups> {
    let (m, n, k) = (codes.dim(0), y.get(1).copied().unwrap_or(1), codes.dim(1));
    ensure!(k <= 1 << 24, Shape, "matmul: {k} columns, more than the 2^24 for which sums are exact");
    ensure!(scales.count() == m, Shape, "matmul: x has {m} rows, scales has {} elements", scales.count());
    ensure!(y == [m, n], Shape, "matmul: y has shape {y:?}, expected [{m}, {n}]");
    check_weights("matmul", [n, k], packing, packed, group, weight_scales)
}

fn check_weights(
    name: &str,
    dims: [usize; 2],
    packing: Packing,
    packed: &View,
    group: usize,
    weight_scales: &View,
) -> Result<Groups> {
    check_size(name, packing, packed, dims)?;
    let groups = Groups::new(name, &dims, group)?;
    groups.check("weight scales", weight_scales.dims()).map_err(|e| e.within(name))?;
    Ok(groups)
}

#[allow(clippy::too_many_arguments)]
pub fn matmul_ternary_backward(
    launch: &Launch,
    dy: &View,
    packing: Packing,
    packed: &View,
    group: usize,
    weight_scales: &View,
    accumulate: bool,
    dx: &mut ViewMut,
) -> Result<()> {
    #[allow(clippy::too_many_arguments)]
    fn typed<T: Float>(
        launch: &Launch,
        dy: &View,
        packing: Packing,
        packed: &View,
        group: usize,
        weight_scales: &View,
        accumulate: bool,
        dx: &mut ViewMut,
    ) -> Result<()> {
        let groups = check_ternary_backward(dy, packing, packed, group, weight_scales, dx)?;
        let (n, k) = (groups.rows, groups.columns);
        let (dy, trits, weight_scales) =
            (dy.slice::<T>()?, trits(launch, packing, packed, n, k)?, weight_scales.slice::<T>()?);
        let scale = |j: usize, l: usize| {
            weight_scales[if groups.whole { 0 } else { j * groups.per_row + l / groups.width }].f64()
        };
        for (at, dx) in dx.slice_mut::<T>()?.iter_mut().enumerate() {
            let (i, l) = (at / k, at % k);
            let weight = |j: usize| scale(j, l) * f64::from(trits[j * k + l]);
            let old = if accumulate { dx.f64() } else { 0.0 };
            *dx = T::of((0..n).fold(old, |sum, j| sum + dy[i * n + j].f64() * weight(j)));
        }
        Ok(())
    }
    by_float!(dx, typed(launch, dy, packing, packed, group, weight_scales, accumulate, dx))
}

/// Shapes of `matmul_ternary_backward`; what the weight scales belong to.
pub fn check_ternary_backward(
    dy: &View,
    packing: Packing,
    packed: &View,
    group: usize,
    weight_scales: &View,
    dx: &ViewMut,
) -> Result<Groups> {
    ensure!(dx.dim(0) == dy.dim(0), Shape, "matmul backward: dy has {} rows, dx has {}", dy.dim(0), dx.dim(0));
    check_weights("matmul backward", [dy.dim(1), dx.dim(1)], packing, packed, group, weight_scales)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::tensor::Packing;

    const TWO: Packing = Packing::TwoBit;

    /// a[m, k] b[k, n] by the formula.
    fn product(a: &[f64], b: &[f64], [m, n, k]: [usize; 3]) -> Vec<f64> {
        let entry = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
        (0..m * n).map(|i| entry(i / n, i % n)).collect()
    }

    fn transposed(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
        (0..rows * columns).map(|i| x[i % rows * columns + i / rows]).collect()
    }

    const SIZES: [[usize; 3]; 9] =
        [[1, 1, 1], [1, 7, 5], [3, 1, 4], [4, 5, 1], [5, 6, 7], [17, 9, 33], [0, 3, 2], [3, 0, 2], [2, 3, 0]];

    #[test]
    fn matmul_is_its_formula_on_all_transposes() {
        fn check<T: Float>(sizes: [usize; 3], transpose: [bool; 2], accumulate: bool) {
            let [m, n, k] = sizes;
            let (a, b, old) = (numbers(11, m * k), numbers(12, k * n), numbers(13, m * n));
            let (a_rows, b_rows) = (of::<T>(&a), of::<T>(&b));
            let (a_columns, b_columns) = (of::<T>(&transposed(&a, m, k)), of::<T>(&transposed(&b, k, n)));
            let (a_rows, a_columns) = (view(&a_rows, &[m, k]), view(&a_columns, &[k, m]).transpose());
            let (b_rows, b_columns) = (view(&b_rows, &[k, n]), view(&b_columns, &[n, k]).transpose());
            let (a_view, b_view) =
                (if transpose[0] { a_columns } else { a_rows }, if transpose[1] { b_columns } else { b_rows });
            let mut c = of::<T>(&old);
            (KERNELS.matmul)(&launch(), &a_view, &b_view, accumulate, &mut view_mut(&mut c, &[m, n])).unwrap();
            let mut expected = product(&a, &b, sizes);
            if accumulate {
                expected.iter_mut().zip(&old).for_each(|(c, old)| *c += old);
            }
            assert_close(&format!("{sizes:?} {transpose:?} {accumulate}"), &c, &expected, tolerance::<T>());
        }
        for sizes in SIZES {
            for case in 0..8 {
                let (transpose, accumulate) = ([case & 1 > 0, case & 2 > 0], case & 4 > 0);
                check::<f32>(sizes, transpose, accumulate);
                check::<f64>(sizes, transpose, accumulate);
            }
        }
    }

    /// Columns 2 .. 5 of a matrix of 7, then those as rows: neither is contiguous.
    #[test]
    fn matmul_takes_any_strides() {
        let x = numbers(14, 4 * 7);
        let columns = view(&x, &[4, 7]).transpose().narrow(2, 3).unwrap();
        assert_eq!((columns.dims(), columns.strides()), (&[3, 4][..], &[1, 7][..]));
        let rows = columns.transpose();
        assert!(!columns.is_contiguous() && !rows.is_contiguous());
        let block: Vec<f64> = (0..12).map(|i| x[i / 3 * 7 + 2 + i % 3]).collect();
        let block_transposed = transposed(&block, 4, 3);
        let (mut c, mut d) = ([0.0; 9], [0.0; 16]);
        (KERNELS.matmul)(&launch(), &columns, &rows, false, &mut view_mut(&mut c, &[3, 3])).unwrap();
        assert_close("columns by rows", &c, &product(&block_transposed, &block, [3, 3, 4]), 1e-14);
        (KERNELS.matmul)(&launch(), &rows, &columns, false, &mut view_mut(&mut d, &[4, 4])).unwrap();
        assert_close("rows by columns", &d, &product(&block, &block_transposed, [4, 4, 3]), 1e-14);
    }

    #[test]
    fn gradients_of_a_product_are_products_with_transposes() {
        let (m, n, k) = (3, 4, 5);
        let (a, b, dc) = (numbers(15, m * k), numbers(16, k * n), numbers(17, m * n));
        let loss = |a: &[f64], b: &[f64]| {
            let mut c = vec![9.0; m * n];
            let (a, b) = (view(a, &[m, k]), view(b, &[k, n]));
            (KERNELS.matmul)(&launch(), &a, &b, false, &mut view_mut(&mut c, &[m, n])).unwrap();
            dot(&c, &dc)
        };
        let (mut da, mut db) = (vec![0.0; m * k], vec![0.0; k * n]);
        let dc_view = view(&dc, &[m, n]);
        let (a_view, b_view) = (view(&a, &[m, k]).transpose(), view(&b, &[k, n]).transpose());
        (KERNELS.matmul)(&launch(), &dc_view, &b_view, false, &mut view_mut(&mut da, &[m, k])).unwrap();
        (KERNELS.matmul)(&launch(), &a_view, &dc_view, false, &mut view_mut(&mut db, &[k, n])).unwrap();
        assert_close("da", &da, &differences(&a, |a| loss(a, &b)), DIFFERENCES);
        assert_close("db", &db, &differences(&b, |b| loss(&a, b)), DIFFERENCES);
    }

    /// Trits and their bytes.
    fn weights([n, k]: [usize; 2]) -> (Vec<i64>, Vec<u8>) {
        let codes = integers(18, n * k, 3);
        let byte = |row: usize, j: usize| {
            (0..4)
                .map(|i| if 4 * j + i < k { codes[row * k + 4 * j + i] << (2 * i) } else { 1 << (2 * i) })
                .sum::<u32>() as u8
        };
        let packed = (0..n).flat_map(|row| (0..k.div_ceil(4)).map(move |j| (row, j))).map(|(row, j)| byte(row, j));
        (codes.iter().map(|&code| i64::from(code) - 1).collect(), packed.collect())
    }

    fn matmul_ternary<T: Float>(codes: &[i8], scales: &[T], packed: &[u8], scale: T, [m, n, k]: [usize; 3]) -> Vec<T> {
        let mut y = of::<T>(&vec![9.0; m * n]);
        let (codes, scales) = (view(codes, &[m, k]), view(scales, &[m]));
        let (packed, scale) = (view(packed, &[n, k.div_ceil(4)]), [scale]);
        (KERNELS.matmul_ternary)(
            &launch(),
            &codes,
            &scales,
            Packing::TwoBit,
            &packed,
            0,
            &view(&scale, &[1]),
            None,
            &mut view_mut(&mut y, &[m, n]),
        )
        .unwrap();
        y
    }

    #[test]
    fn matmul_ternary_is_the_integer_sum_scaled_once() {
        fn check<T: Float>([m, n, k]: [usize; 3]) {
            let codes: Vec<i8> = integers(19, m * k, 255).iter().map(|&q| (q as i32 - 127) as i8).collect();
            let (trits, packed) = weights([n, k]);
            let scales: Vec<T> = of(&numbers(20, m));
            let y = matmul_ternary(&codes, &scales, &packed, T::of(0.37), [m, n, k]);
            for i in 0..m {
                for j in 0..n {
                    let sum: i64 = (0..k).map(|l| i64::from(codes[i * k + l]) * trits[j * k + l]).sum();
                    let expected = T::of(sum as f64) * (scales[i] * T::of(0.37));
                    assert_eq!(y[i * n + j].f64(), expected.f64(), "[{m}, {n}, {k}] at {i}, {j}");
                }
            }
        }
        for sizes in SIZES.into_iter().chain([[2, 3, 64], [2, 3, 257]]) {
            check::<f32>(sizes);
            check::<f64>(sizes);
        }
    }

    #[test]
    fn the_largest_sums_are_exact() {
        const K: usize = 1 << 24;
        let mut codes = vec![127i8; K];
        let (plus, minus) = (vec![0b1010_1010u8; K / 4], vec![0u8; K / 4]);
        let limit = 127.0 * K as f64;
        assert_eq!(matmul_ternary(&codes, &[1.0f64], &plus, 1.0, [1, 1, K]), [limit]);
        assert_eq!(matmul_ternary(&codes, &[1.0f64], &minus, 1.0, [1, 1, K]), [-limit]);
        codes[K - 1] = 126;
        assert_eq!(matmul_ternary(&codes, &[1.0f64], &plus, 1.0, [1, 1, K]), [limit - 1.0]);
    }

    #[test]
    fn matmul_ternary_backward_is_the_gradient_to_the_input() {
        fn check<T: Float>([m, n, k]: [usize; 3], tolerance: f64) {
            let ((trits, packed), x, dy) = (weights([n, k]), numbers(21, m * k), numbers(22, m * n));
            let scale = T::of(0.37);
            // y = x (scale t)^T, in which x stands for what the codes stand for.
            let loss = |x: &[f64]| -> f64 {
                let y = |i: usize, j: usize| {
                    (0..k).map(|l| x[i * k + l] * scale.f64() * trits[j * k + l] as f64).sum::<f64>()
                };
                (0..m * n).map(|i| dy[i] * y(i / n, i % n)).sum()
            };
            let mut dx = of::<T>(&vec![9.0; m * k]);
            let (dy_typed, packed) = (of::<T>(&dy), view(&packed, &[n, k.div_ceil(4)]));
            let mut dx_view = view_mut(&mut dx, &[m, k]);
            (KERNELS.matmul_ternary_backward)(
                &launch(),
                &view(&dy_typed, &[m, n]),
                Packing::TwoBit,
                &packed,
                0,
                &view(&[scale], &[1]),
                false,
                &mut dx_view,
            )
            .unwrap();
            assert_close(&format!("dx of [{m}, {n}, {k}]"), &dx, &differences(&x, loss), tolerance);
        }
        for sizes in SIZES {
            check::<f32>(sizes, 2e-6);
            check::<f64>(sizes, DIFFERENCES);
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let matmul = |a: &[usize], b: &[usize], c: &[usize]| {
            let (a, b, mut c) = (zeros::<f32>(a), zeros::<f32>(b), zeros::<f32>(c));
            kind((KERNELS.matmul)(&launch(), &a.view(), &b.view(), false, &mut c.view_mut()))
        };
        assert_eq!(matmul(&[2, 3], &[4, 5], &[2, 5]), ErrorKind::Shape);
        assert_eq!(matmul(&[2, 3], &[3, 5], &[5, 2]), ErrorKind::Shape);
        assert_eq!(matmul(&[2, 3], &[3, 5], &[10]), ErrorKind::Shape);
        assert_eq!(matmul(&[2], &[1, 5], &[2, 5]), ErrorKind::Shape);
        assert_eq!(matmul(&[2, 3], &[3, 5, 2], &[2, 5]), ErrorKind::Shape);
        let ternary = |codes: &[usize], scales: usize, packed: &[usize], scale: usize, y: &[usize]| {
            let (codes, scales, packed) = (zeros::<i8>(codes), zeros::<f32>(&[scales]), zeros::<u8>(packed));
            let (scale, mut y) = (zeros::<f32>(&[scale]), zeros::<f32>(y));
            let (codes, scales, packed, scale) = (codes.view(), scales.view(), packed.view(), scale.view());
            kind((KERNELS.matmul_ternary)(&launch(), &codes, &scales, TWO, &packed, 0, &scale, None, &mut y.view_mut()))
        };
        assert_eq!(ternary(&[2, 9], 3, &[4, 3], 1, &[2, 4]), ErrorKind::Shape);
        assert_eq!(ternary(&[2, 9], 2, &[4, 2], 1, &[2, 4]), ErrorKind::Shape);
        assert_eq!(ternary(&[2, 9], 2, &[4, 3], 2, &[2, 4]), ErrorKind::Shape);
        assert_eq!(ternary(&[2, 9], 2, &[4, 3], 1, &[4, 2]), ErrorKind::Shape);
        let columns = (1 << 24) + 4;
        assert_eq!(ternary(&[1, columns], 1, &[1, columns / 4], 1, &[1, 1]), ErrorKind::Shape);
        let backward = |dy: &[usize], packed: &[usize], dx: &[usize]| {
            let (dy, packed, scale, mut dx) =
                (zeros::<f32>(dy), zeros::<u8>(packed), zeros::<f32>(&[1]), zeros::<f32>(dx));
            let (dy, packed, scale) = (dy.view(), packed.view(), scale.view());
            kind((KERNELS.matmul_ternary_backward)(&launch(), &dy, TWO, &packed, 0, &scale, false, &mut dx.view_mut()))
        };
        assert_eq!(backward(&[2, 4], &[4, 2], &[2, 9]), ErrorKind::Shape);
        assert_eq!(backward(&[2, 4], &[3, 3], &[2, 9]), ErrorKind::Shape);
        assert_eq!(backward(&[2, 4], &[4, 3], &[3, 9]), ErrorKind::Shape);
    }

    #[test]
    fn other_types_are_refused() {
        refuses_other_types(
            "matmul",
            [zeros::<f32>(&[2, 3]), zeros::<f32>(&[3, 4]), zeros::<f32>(&[2, 4])],
            |[a, b, c]| (KERNELS.matmul)(&launch(), &a.view(), &b.view(), false, &mut c.view_mut()),
        );
        let [codes, scales, packed, scale, y] =
            [zeros::<i8>(&[2, 5]), zeros::<f32>(&[2]), zeros::<u8>(&[3, 2]), zeros::<f32>(&[1]), zeros::<f32>(&[2, 3])];
        refuses_other_types(
            "matmul_ternary",
            [codes, scales, packed, scale, y],
            |[codes, scales, packed, scale, y]| {
                let (codes, scales, packed, scale) = (codes.view(), scales.view(), packed.view(), scale.view());
                (KERNELS.matmul_ternary)(&launch(), &codes, &scales, TWO, &packed, 0, &scale, None, &mut y.view_mut())
            },
        );
        let tensors = [zeros::<f32>(&[2, 3]), zeros::<u8>(&[3, 2]), zeros::<f32>(&[1]), zeros::<f32>(&[2, 5])];
        refuses_other_types("matmul_ternary_backward", tensors, |[dy, packed, scale, dx]| {
            let (dy, packed, scale) = (dy.view(), packed.view(), scale.view());
            (KERNELS.matmul_ternary_backward)(&launch(), &dy, TWO, &packed, 0, &scale, false, &mut dx.view_mut())
        });
    }
}
