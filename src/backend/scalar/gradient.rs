//! Gradients as int8 codes, one scale a block, rounded at random so that the mean over the randomness is the gradient:
//! blocks as in "8-bit optimizers via block-wise quantization" (arXiv 2110.02861), rounding as in QSGD (arXiv 1610.02132).

use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::random::Stream;
use crate::tensor::{Result, View, ViewMut};

/// Scales below the normal numbers have few bits, and 0 divides nothing.
pub const LEAST_SCALE: f32 = f32::MIN_POSITIVE;
/// The largest scale whose 127-fold is finite; f32::MAX / 127 rounds up to the next one.
pub const LARGEST_SCALE: f32 = f32::from_bits((f32::MAX / 127.0).to_bits() - 1);

pub fn quantize_gradients(
    _: &Launch,
    g: &View,
    stream: Stream,
    block: usize,
    codes: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    check("quantize_gradients", g.count(), block, codes.count(), scales.count())?;
    let (g, codes, scales) = (g.slice::<f32>()?, codes.slice_mut::<i8>()?, scales.slice_mut::<f32>()?);
    for (i, g) in g.chunks(block).enumerate() {
        let absmax = g.iter().fold(0f32, |absmax, g| absmax.max(g.abs()));
        let scale = (absmax / 127.0).clamp(LEAST_SCALE, LARGEST_SCALE);
        let start = i * block;
        for (j, &g) in g.iter().enumerate() {
            let magnitude = (g / scale).abs().min(127.0);
            let below = magnitude.floor();
            let up = stream.uniform((start + j) as u64) < magnitude - below;
            let code = below as i8 + i8::from(up);
            codes[start + j] = if g < 0.0 { -code } else { code };
        }
        scales[i] = scale;
    }
    Ok(())
}

pub fn dequantize_gradients(_: &Launch, codes: &View, scales: &View, block: usize, g: &mut ViewMut) -> Result<()> {
    check("dequantize_gradients", g.count(), block, codes.count(), scales.count())?;
    let (codes, scales, g) = (codes.slice::<i8>()?, scales.slice::<f32>()?, g.slice_mut::<f32>()?);
    for (i, (g, &code)) in g.iter_mut().zip(codes).enumerate() {
        *g = scales[i / block] * f32::from(code);
    }
    Ok(())
}

pub fn check(name: &str, count: usize, block: usize, codes: usize, scales: usize) -> Result<()> {
    ensure!(
        block > 0 && block.is_multiple_of(32),
        Argument,
        "{name}: block is {block}, expected a positive multiple of 32"
    );
    ensure!(codes == count, Shape, "{name}: g has {count} elements, codes have {codes}");
    let blocks = count.div_ceil(block);
    ensure!(scales == blocks, Shape, "{name}: g has {blocks} blocks of {block}, scales has {scales} elements");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::{LARGEST_SCALE, LEAST_SCALE};
    use crate::tensor::random::{Purpose, Stream};

    fn stream(step: u32) -> Stream {
        Stream::new(11, Purpose::Gradient, step, 3)
    }

    fn quantize(g: &[f32], block: usize, step: u32) -> (Vec<i8>, Vec<f32>) {
        let (n, blocks) = (g.len(), g.len().div_ceil(block));
        let (mut codes, mut scales) = (vec![99i8; n], vec![-9.0f32; blocks]);
        let (mut codes_view, mut scales_view) = (view_mut(&mut codes, &[n]), view_mut(&mut scales, &[blocks]));
        let g = view(g, &[n]);
        (KERNELS.quantize_gradients)(&launch(), &g, stream(step), block, &mut codes_view, &mut scales_view).unwrap();
        (codes, scales)
    }

    fn dequantize(codes: &[i8], scales: &[f32], block: usize) -> Vec<f32> {
        let mut g = vec![-9.0f32; codes.len()];
        let n = [codes.len()];
        let (codes, scales) = (view(codes, &n), view(scales, &[scales.len()]));
        (KERNELS.dequantize_gradients)(&launch(), &codes, &scales, block, &mut view_mut(&mut g, &n)).unwrap();
        g
    }

    /// Each code is one of the two that enclose the exact quotient, and the upper one exactly when the stream's number is
    /// below what is left over: by the definition, in f64.
    #[test]
    fn codes_are_those_of_the_definition() {
        for (n, block) in [(1, 32), (31, 32), (257, 32), (257, 256), (1000, 64), (5, 1 << 40)] {
            let g = of::<f32>(&numbers(80, n));
            let (codes, scales) = quantize(&g, block, 1);
            for (i, block_of_g) in g.chunks(block).enumerate() {
                let absmax = block_of_g.iter().fold(0f32, |a, g| a.max(g.abs()));
                assert_eq!(scales[i], absmax / 127.0);
                assert!(codes[i * block..][..block_of_g.len()].iter().any(|code| code.abs() == 127));
            }
            for (i, (&code, &g)) in codes.iter().zip(&g).enumerate() {
                let quotient = f64::from(g / scales[i / block]).abs().min(127.0);
                let up = f64::from(stream(1).uniform(i as u64)) < quotient.fract();
                let expected = (quotient.trunc() + f64::from(u8::from(up))) * f64::from(g.signum());
                assert_eq!(f64::from(code), expected, "element {i} of {n} by {block}");
            }
        }
    }

    /// The mean over many streams lies within five of its standard errors of the gradient, for every element: a rounding
    /// between neighbours k and k + 1 has the variance f (1 - f) of one toss. Elements at 0, at a code, and at the extremes.
    #[test]
    fn the_mean_over_the_streams_is_the_gradient() {
        const STREAMS: u32 = 4000;
        let mut g = of::<f32>(&numbers(81, 70));
        (g[3], g[10], g[11], g[64]) = (0.0, 1e-4, -1e-4, 127.0);
        let (_, scales) = quantize(&g, 32, 0);
        let mut sums = vec![0.0f64; g.len()];
        for step in 0..STREAMS {
            let (codes, again) = quantize(&g, 32, step);
            assert_eq!(again, scales);
            for (i, (sum, &code)) in sums.iter_mut().zip(&codes).enumerate() {
                let exact = f64::from(g[i]) / f64::from(scales[i / 32]);
                assert!((f64::from(code) - exact).abs() <= 1.0 + 1e-5, "element {i}: {code} for {exact}");
                *sum += f64::from(code);
            }
        }
        let mut moved = 0;
        for (i, sum) in sums.iter().enumerate() {
            let (mean, exact) = (sum / f64::from(STREAMS), f64::from(g[i]) / f64::from(scales[i / 32]));
            let part = exact.abs().fract();
            let error = (part * (1.0 - part) / f64::from(STREAMS)).sqrt();
            assert!(
                (mean - exact).abs() <= 5.0 * error + 2e-5,
                "element {i}: mean {mean}, exact {exact}, error {error}"
            );
            moved += usize::from((mean - exact.round()).abs() > 5.0 * error + 2e-5);
        }
        // Else rounding to the nearest would pass this test too.
        assert!(moved > 40, "{moved} means differ from the nearest code");
    }

    #[test]
    fn zeros_denormals_and_the_largest_numbers() {
        assert_eq!(quantize(&[0.0, -0.0, 0.0], 32, 1), (vec![0; 3], vec![LEAST_SCALE]));
        // 127 times the least scale is a normal number; what is below takes few codes, and the mean holds.
        let tiny = f32::from_bits(3 << 20);
        let part = f64::from(tiny) / f64::from(LEAST_SCALE);
        let ones: i32 = (0..4000).map(|step| i32::from(quantize(&[tiny], 32, step).0[0])).sum();
        let error = (part * (1.0 - part) / 4000.0).sqrt();
        assert!((f64::from(ones) / 4000.0 - part).abs() < 5.0 * error, "{ones} of 4000, part {part}");
        let (codes, scales) = quantize(&[f32::MAX, f32::MIN, 0.0], 32, 1);
        assert_eq!((codes.as_slice(), scales.as_slice()), (&[127i8, -127, 0][..], &[LARGEST_SCALE][..]));
        let restored = dequantize(&codes, &scales, 32);
        assert!(restored.iter().all(|g| g.is_finite()) && restored[0] > f32::MAX * 0.999_999, "{restored:?}");
        assert!(
            (LARGEST_SCALE * 127.0).is_finite() && !(f32::from_bits(LARGEST_SCALE.to_bits() + 1) * 127.0).is_finite()
        );
    }

    #[test]
    fn dequantizing_multiplies_and_the_tail_block_has_its_own_scale() {
        let mut g = of::<f32>(&numbers(82, 257));
        g[256] = 1e-6;
        let (codes, scales) = quantize(&g, 256, 1);
        assert_eq!((codes[256], scales[1]), (127, 1e-6f32 / 127.0));
        let restored = dequantize(&codes, &scales, 256);
        for i in 0..g.len() {
            assert_eq!(restored[i], scales[i / 256] * f32::from(codes[i]));
            assert!((restored[i] - g[i]).abs() <= scales[i / 256] * 1.000_01, "element {i}");
        }
        assert_eq!(quantize(&[], 256, 1), (vec![], vec![]));
        assert!(dequantize(&[], &[], 256).is_empty());
    }

    #[test]
    fn wrong_shapes_types_and_blocks_are_refused() {
        let call = |n: usize, block: usize, codes: usize, scales: usize| {
            let (g, mut codes, mut scales) = (vec![0.0f32; n], vec![0i8; codes], vec![0.0f32; scales]);
            let (c, s) = (codes.len(), scales.len());
            let (mut codes, mut scales) = (view_mut(&mut codes, &[c]), view_mut(&mut scales, &[s]));
            let quantized =
                (KERNELS.quantize_gradients)(&launch(), &view(&g, &[n]), stream(0), block, &mut codes, &mut scales);
            let mut g = g.clone();
            let (codes, scales) = (codes.as_view(), scales.as_view());
            let back = (KERNELS.dequantize_gradients)(&launch(), &codes, &scales, block, &mut view_mut(&mut g, &[n]));
            [kind(quantized), kind(back)]
        };
        assert_eq!(call(40, 32, 39, 2), [ErrorKind::Shape; 2]);
        assert_eq!(call(40, 32, 40, 1), [ErrorKind::Shape; 2]);
        assert_eq!(call(40, 0, 40, 1), [ErrorKind::Argument; 2]);
        assert_eq!(call(40, 33, 40, 2), [ErrorKind::Argument; 2]);
        let tensors = || [zeros::<f32>(&[40]), zeros::<i8>(&[40]), zeros::<f32>(&[2])];
        refuses_other_types("quantize_gradients", tensors(), |[g, codes, scales]| {
            let (codes, scales) = (&mut codes.view_mut(), &mut scales.view_mut());
            (KERNELS.quantize_gradients)(&launch(), &g.view(), stream(0), 32, codes, scales)
        });
        refuses_other_types("dequantize_gradients", tensors(), |[g, codes, scales]| {
            (KERNELS.dequantize_gradients)(&launch(), &codes.view(), &scales.view(), 32, &mut g.view_mut())
        });
    }
}
