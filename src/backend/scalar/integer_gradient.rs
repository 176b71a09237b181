//! The two gradients of a ternary layer in integers. The one to the input multiplies 8-bit codes of the output's gradient by
//! trits. The one to the weights multiplies them by the 8-bit codes of the input, block by block of tokens; there they are
//! rounded at random, so that the mean over the randomness is the gradient (arXiv 1502.02551, 2306.11987).

use super::by_float;
use super::ternary::unpack_two_bit;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::random::Stream;
use crate::tensor::{Float, Result, View, ViewMut, vec_zeroed};

/// Tokens of a block, which share a scale in each column: few enough for exact sums, many enough to add few of them as floats.
pub const TOKENS: usize = 256;
/// Columns whose random bytes make whole calls of the generator.
pub const COLUMNS: usize = 128;
/// The largest code. With 8-bit activations, four products fit into 16 bits.
const LARGEST_CODE: f64 = 32.0;
const LEAST_SCALE: f64 = f32::MIN_POSITIVE as f64;

pub fn quantize_columns(
    _: &Launch,
    g: &View,
    factors: &View,
    stream: Stream,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(
        g: &View,
        factors: &View,
        stream: Stream,
        codes: &mut ViewMut,
        scales: &mut ViewMut,
    ) -> Result<()> {
        let (m, n) = (g.dim(0), g.dim(1));
        let (g, factors) = (g.slice::<T>()?, factors.slice::<T>()?);
        let (codes, scales) = (codes.slice_mut::<i8>()?, scales.slice_mut::<T>()?);
        codes.fill(0);
        for (at, scale) in scales.iter_mut().enumerate() {
            let (block, j) = (at / n, at % n);
            let tokens = block * TOKENS..m.min((block + 1) * TOKENS);
            let value = |i: usize| g[i * n + j] * factors[i];
            let a = tokens.clone().fold(T::ZERO, |a, i| larger(a, value(i).abs()));
            *scale = larger(a * T::of(1.0 / LARGEST_CODE), T::of(LEAST_SCALE));
            let inverse = T::of(1.0) / *scale;
            for i in tokens {
                let (half, row) = (i % TOKENS / (TOKENS / 2), block * (TOKENS / 2) + i % (TOKENS / 2));
                let word = 32 * row * n.div_ceil(COLUMNS) + 8 * (j / 32) + j % 8;
                let byte = stream.bits(word as u64) >> (8 * (j / 8 % 4)) & 0xFF;
                let byte = if half == 0 { byte } else { 255 - byte };
                let number = value(i) * inverse + T::of((f64::from(byte) - 127.5) / 256.0);
                codes[at * TOKENS + i % TOKENS] = number.round_half_even().f64() as i8; // 0 for NaN
            }
        }
        Ok(())
    }
    check_columns(g, factors.count(), codes.dims(), scales.dims())?;
    by_float!(g, typed(g, factors, stream, codes, scales))
}

/// The larger of two; NaN when either is.
fn larger<T: Float>(a: T, b: T) -> T {
    if a >= b || a.f64().is_nan() { a } else { b }
}

pub fn check_columns(g: &View, factors: usize, codes: &[usize], scales: &[usize]) -> Result<()> {
    let (m, n) = (g.dim(0), g.dim(1));
    ensure!(factors == m, Shape, "quantize_columns: g has {m} rows, factors has {factors} elements");
    let expected = [m.div_ceil(TOKENS), n, TOKENS];
    ensure!(codes == expected, Shape, "quantize_columns: codes has shape {codes:?}, expected {expected:?}");
    let expected = [m.div_ceil(TOKENS), n];
    ensure!(scales == expected, Shape, "quantize_columns: scales has shape {scales:?}, expected {expected:?}");
    Ok(())
}

pub fn weight_gradient(_: &Launch, g: &View, scales: &View, codes: &View, dw: &mut ViewMut) -> Result<()> {
    fn typed<T: Float>(g: &View, scales: &View, codes: &View, dw: &mut ViewMut) -> Result<()> {
        let (n, k, m) = (dw.dim(0), dw.dim(1), codes.dim(0));
        let (g, scales, codes) = (g.slice::<i8>()?, scales.slice::<T>()?, codes.slice::<i8>()?);
        for (at, dw) in dw.slice_mut::<T>()?.iter_mut().enumerate() {
            let (j, l) = (at / k, at % k);
            for block in 0..m.div_ceil(TOKENS) {
                let at = block * n + j;
                let tokens = block * TOKENS..m.min((block + 1) * TOKENS);
                let g = &g[at * TOKENS..];
                let sum: i32 = tokens.zip(g).map(|(i, &g)| i32::from(g) * i32::from(codes[i * k + l])).sum();
                *dw += T::of(f64::from(sum)) * scales[at];
            }
        }
        Ok(())
    }
    check_weight(g.dims(), scales.dims(), codes, dw.dims())?;
    by_float!(dw, typed(g, scales, codes, dw))
}

pub fn check_weight(g: &[usize], scales: &[usize], codes: &View, dw: &[usize]) -> Result<()> {
    let (m, k) = (codes.dim(0), codes.dim(1));
    ensure!(dw.len() == 2 && dw[1] == k, Shape, "weight_gradient: dw has shape {dw:?}, codes have {k} columns");
    let expected = [m.div_ceil(TOKENS), dw[0], TOKENS];
    ensure!(g == expected, Shape, "weight_gradient: g has shape {g:?}, expected {expected:?}");
    let expected = [m.div_ceil(TOKENS), dw[0]];
    ensure!(scales == expected, Shape, "weight_gradient: scales has shape {scales:?}, expected {expected:?}");
    Ok(())
}

pub fn matmul_ternary_transposed(
    launch: &Launch,
    codes: &View,
    scales: &View,
    packed: &View,
    weight_scale: &View,
    accumulate: bool,
    dx: &mut ViewMut,
) -> Result<()> {
    fn typed<T: Float>(
        codes: &View,
        scales: &View,
        trits: &[i8],
        weight_scale: &View,
        accumulate: bool,
        dx: &mut ViewMut,
    ) -> Result<()> {
        let (n, k) = (codes.dim(1), dx.dim(1));
        let (codes, scales, weight_scale) = (codes.slice::<i8>()?, scales.slice::<T>()?, weight_scale.slice::<T>()?);
        for (at, dx) in dx.slice_mut::<T>()?.iter_mut().enumerate() {
            let (i, l) = (at / k, at % k);
            let sum: i64 = (0..n).map(|j| i64::from(codes[i * n + j]) * i64::from(trits[j * k + l])).sum();
            let value = T::of(sum as f64) * (scales[i] * weight_scale[0]);
            *dx = if accumulate { *dx + value } else { value };
        }
        Ok(())
    }
    check_transposed(codes, scales.count(), packed.dims(), weight_scale.count(), dx.dims())?;
    let [n, k] = [codes.dim(1), dx.dim(1)];
    let mut trits = vec_zeroed::<i8>(n * k)?;
    unpack_two_bit(launch, packed, &mut ViewMut::of(&mut trits, &[n, k])?)?;
    by_float!(dx, typed(codes, scales, &trits, weight_scale, accumulate, dx))
}

pub fn check_transposed(
    codes: &View,
    scales: usize,
    packed: &[usize],
    weight_scale: usize,
    dx: &[usize],
) -> Result<()> {
    let name = "matmul_ternary_transposed";
    let (m, n) = (codes.dim(0), codes.dim(1));
    ensure!(n <= 1 << 24, Shape, "{name}: {n} rows, more than the 2^24 for which sums are exact");
    ensure!(dx.len() == 2 && dx[0] == m, Shape, "{name}: dx has shape {dx:?}, codes have {m} rows");
    ensure!(scales == m, Shape, "{name}: codes have {m} rows, scales has {scales} elements");
    let expected = [n, dx[1].div_ceil(4)];
    ensure!(packed == expected, Shape, "{name}: packed has shape {packed:?}, expected {expected:?}");
    ensure!(weight_scale == 1, Shape, "{name}: weight_scale has {weight_scale} elements, expected 1");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::{LEAST_SCALE, TOKENS};
    use crate::tensor::random::{Purpose, Stream};

    fn stream(step: u32) -> Stream {
        Stream::new(11, Purpose::OutputGradient, step, 3)
    }

    /// codes[blocks, n, 256] and scales[blocks, n] of g[m, n].
    fn quantize<T: Float>(g: &[T], factors: &[T], n: usize, step: u32) -> (Vec<i8>, Vec<T>) {
        let m = factors.len();
        let blocks = m.div_ceil(TOKENS);
        let (mut codes, mut scales) = (vec![99i8; blocks * n * TOKENS], of::<T>(&vec![9.0; blocks * n]));
        let (mut to, mut of_columns) =
            (view_mut(&mut codes, &[blocks, n, TOKENS]), view_mut(&mut scales, &[blocks, n]));
        let (g, factors) = (view(g, &[m, n]), view(factors, &[m]));
        (KERNELS.quantize_columns)(&launch(), &g, &factors, stream(step), &mut to, &mut of_columns).unwrap();
        (codes, scales)
    }

    /// Each code is one of the two that enclose the quotient, the largest is +-32 but for rounding, and what is past m is 0.
    #[test]
    fn codes_enclose_the_quotient() {
        fn check<T: Float>() {
            for (m, n) in [(1, 1), (5, 3), (300, 130), (257, 40)] {
                let (g, factors) = (of::<T>(&numbers(90, m * n)), of::<T>(&numbers(91, m)));
                let (codes, scales) = quantize(&g, &factors, n, 1);
                for j in 0..n {
                    let last = &codes[(m / TOKENS * n + j) * TOKENS..][m % TOKENS..TOKENS];
                    assert!(last.iter().all(|&code| code == 0));
                    for i in 0..m {
                        let value = (g[i * n + j] * factors[i]).f64();
                        let scale = scales[i / TOKENS * n + j].f64();
                        let code = f64::from(codes[(i / TOKENS * n + j) * TOKENS + i % TOKENS]);
                        assert!((code - value / scale).abs() < 1.0, "{code} for {value} by {scale}");
                        assert!(code.abs() <= 32.0);
                    }
                    for block in 0..m.div_ceil(TOKENS) {
                        let tokens = block * TOKENS..m.min((block + 1) * TOKENS);
                        let a = tokens.map(|i| (g[i * n + j] * factors[i]).f64().abs()).fold(0.0, f64::max);
                        assert_eq!(scales[block * n + j].f64(), a / 32.0);
                    }
                }
            }
        }
        check::<f32>();
        check::<f64>();
    }

    /// The mean over many streams lies within five standard errors, and half a step of the 256 random bytes, of the value.
    #[test]
    fn the_mean_over_the_streams_is_the_gradient() {
        const STREAMS: u32 = 3000;
        let (m, n) = (10, 9);
        let (g, factors) = (numbers(92, m * n), numbers(93, m));
        let mut sums = vec![0.0; m * n];
        let mut scales = Vec::new();
        for step in 0..STREAMS {
            let (codes, of_columns) = quantize(&g, &factors, n, step);
            for (at, sum) in sums.iter_mut().enumerate() {
                *sum += f64::from(codes[at % n * TOKENS + at / n]);
            }
            scales = of_columns;
        }
        for (at, sum) in sums.iter().enumerate() {
            let quotient = g[at] * factors[at / n] / scales[at % n];
            let part = quotient.rem_euclid(1.0);
            let error = (part * (1.0 - part) / f64::from(STREAMS)).sqrt();
            let found = sum / f64::from(STREAMS);
            assert!((found - quotient).abs() < 5.0 * error + 1.0 / 500.0, "element {at}: {found} for {quotient}");
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_the_scale() {
        let (_, scales) = quantize(&[1.0f32, f32::NAN, f32::INFINITY, 0.0, 1.0, 1.0, 1.0, 0.0], &[1.0, 2.0], 4, 1);
        assert!(scales[1].is_nan() && scales[2] == f32::INFINITY, "{scales:?}");
        assert_eq!((scales[0], scales[3]), (2.0 / 32.0, LEAST_SCALE as f32));
    }

    /// dw of integers times powers of two is exact; and from the codes of a gradient, it is the product to a few parts in a hundred.
    #[test]
    fn the_gradient_to_the_weights_is_its_formula() {
        let (m, n, k) = (600usize, 5, 7);
        let code = |i: usize, bound: usize| ((i * 7919 % (2 * bound + 1)) as i32 - bound as i32) as i8;
        let g: Vec<i8> = (0..3 * n * TOKENS).map(|i| code(i, 32)).collect();
        let x: Vec<i8> = (0..m * k).map(|i| code(i + 3, 127)).collect();
        let scales = [0.5f32, 0.25, 2.0].repeat(n)[..3 * n].to_vec();
        let mut dw = vec![1.0f32; n * k];
        let (g_view, scales_view, x_view) = (view(&g, &[3, n, TOKENS]), view(&scales, &[3, n]), view(&x, &[m, k]));
        (KERNELS.weight_gradient)(&launch(), &g_view, &scales_view, &x_view, &mut view_mut(&mut dw, &[n, k])).unwrap();
        for (at, &dw) in dw.iter().enumerate() {
            let (j, l) = (at / k, at % k);
            let term = |i: usize| {
                let product = f64::from(g[(i / TOKENS * n + j) * TOKENS + i % TOKENS]) * f64::from(x[i * k + l]);
                product * f64::from(scales[i / TOKENS * n + j])
            };
            assert_eq!(f64::from(dw), 1.0 + (0..m).map(term).sum::<f64>());
        }
        let (gradient, factors) = (of::<f32>(&numbers(94, m * n)), of::<f32>(&numbers(95, m)));
        let (codes, scales) = quantize(&gradient, &factors, n, 0);
        let (codes, scales, mut dw) = (view(&codes, &[3, n, TOKENS]), view(&scales, &[3, n]), vec![0.0f32; n * k]);
        (KERNELS.weight_gradient)(&launch(), &codes, &scales, &x_view, &mut view_mut(&mut dw, &[n, k])).unwrap();
        let exact = |at: usize| {
            let term = |i: usize| f64::from(gradient[i * n + at / k] * factors[i]) * f64::from(x[i * k + at % k]);
            (0..m).map(term).sum::<f64>()
        };
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let error = norm(&mut (0..n * k).map(|at| f64::from(dw[at]) - exact(at)));
        assert!(error < 0.05 * norm(&mut (0..n * k).map(exact)), "{error}");
    }

    #[test]
    fn the_transposed_product_is_its_formula() {
        fn check<T: Float>(accumulate: bool) {
            let (m, n, k) = (3, 9, 6);
            let codes: Vec<i8> = (0..m * n).map(|i| (i * 29 % 255) as i8).collect();
            let trits: Vec<i8> = (0..n * k).map(|i| (i * 5 % 3) as i8 - 1).collect();
            let mut packed = vec![0u8; n * 2];
            (KERNELS.pack_two_bit)(&launch(), &view(&trits, &[n, k]), &mut view_mut(&mut packed, &[n, 2])).unwrap();
            let (scales, scale, mut dx) = (of::<T>(&[0.5, 0.25, 2.0]), of::<T>(&[3.0]), of::<T>(&vec![1.0; m * k]));
            (KERNELS.matmul_ternary_transposed)(
                &launch(),
                &view(&codes, &[m, n]),
                &view(&scales, &[m]),
                &view(&packed, &[n, 2]),
                &view(&scale, &[1]),
                accumulate,
                &mut view_mut(&mut dx, &[m, k]),
            )
            .unwrap();
            for (at, dx) in dx.iter().enumerate() {
                let (i, l) = (at / k, at % k);
                let sum: f64 = (0..n).map(|j| f64::from(codes[i * n + j]) * f64::from(trits[j * k + l])).sum();
                let old = if accumulate { 1.0 } else { 0.0 };
                assert_eq!(dx.f64(), old + sum * 3.0 * [0.5, 0.25, 2.0][i]);
            }
        }
        for accumulate in [false, true] {
            check::<f32>(accumulate);
            check::<f64>(accumulate);
        }
    }

    #[test]
    fn other_types_and_shapes_are_refused() {
        let tensors = || [zeros::<f32>(&[8, 3]), zeros::<f32>(&[8]), zeros::<i8>(&[1, 3, 256]), zeros::<f32>(&[1, 3])];
        let stream = stream(1);
        let quantize = |[g, factors, codes, scales]: &mut [Tensor; 4]| {
            let (codes, scales) = (&mut codes.view_mut(), &mut scales.view_mut());
            (KERNELS.quantize_columns)(&launch(), &g.view(), &factors.view(), stream, codes, scales)
        };
        refuses_other_types("quantize_columns", tensors(), quantize);
        let mut wrong = tensors();
        wrong[2] = zeros::<i8>(&[1, 3, 8]);
        assert_eq!(kind(quantize(&mut wrong)), ErrorKind::Shape);
        let tensors =
            || [zeros::<i8>(&[1, 3, 256]), zeros::<f32>(&[1, 3]), zeros::<i8>(&[8, 5]), zeros::<f32>(&[3, 5])];
        let gradient = |[g, scales, codes, dw]: &mut [Tensor; 4]| {
            (KERNELS.weight_gradient)(&launch(), &g.view(), &scales.view(), &codes.view(), &mut dw.view_mut())
        };
        refuses_other_types("weight_gradient", tensors(), gradient);
        let mut wrong = tensors();
        wrong[1] = zeros::<f32>(&[2, 3]);
        assert_eq!(kind(gradient(&mut wrong)), ErrorKind::Shape);
        let tensors = || {
            let codes = [zeros::<i8>(&[8, 3]), zeros::<f32>(&[8]), zeros::<u8>(&[3, 2])];
            let [codes, scales, packed] = codes;
            [codes, scales, packed, zeros::<f32>(&[1]), zeros::<f32>(&[8, 5])]
        };
        let product = |[codes, scales, packed, scale, dx]: &mut [Tensor; 5]| {
            let (codes, scales, packed, scale) = (&codes.view(), &scales.view(), &packed.view(), &scale.view());
            (KERNELS.matmul_ternary_transposed)(&launch(), codes, scales, packed, scale, false, &mut dx.view_mut())
        };
        refuses_other_types("matmul_ternary_transposed", tensors(), product);
        let mut wrong = tensors();
        wrong[2] = zeros::<u8>(&[3, 1]);
        assert_eq!(kind(product(&mut wrong)), ErrorKind::Shape);
    }
}
