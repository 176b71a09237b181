//! Gradients in few bits, one scale a block. As int8 codes, rounded at random so that the mean over the randomness is the
//! gradient: blocks as in "8-bit optimizers via block-wise quantization" (arXiv 2110.02861), rounding as in QSGD (arXiv
//! 1610.02132). As trits, whose error is added to the next gradient (arXiv 1901.09847).

use super::reduce::canonical_sum_of;
use crate::backend::Launch;
use crate::tensor::error::{ensure, error};
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

/// The threshold in units of the mean magnitude (Ternary Weight Networks, arXiv 1605.04711).
pub const THRESHOLD: f32 = 0.7;

pub fn ternarize_gradients(
    _: &Launch,
    g: &View,
    block: usize,
    error: &mut ViewMut,
    packed: &mut ViewMut,
    scales: &mut ViewMut,
) -> Result<()> {
    check_ternary(g.count(), block, error.count(), packed.count(), scales.count())?;
    let (g, error, packed) = (g.slice::<f32>()?, error.slice_mut::<f32>()?, packed.slice_mut::<u8>()?);
    // All blocks are measured first, so that a call that fails has written nothing.
    let mut found = Vec::new();
    for (i, (g, error)) in g.chunks(block).zip(error.chunks(block)).enumerate() {
        let magnitude = |j: usize| (g[j] + error[j]).abs();
        let threshold = checked_threshold(i, canonical_sum_of(g.len(), magnitude), g.len())?;
        let above = |j: usize| magnitude(j) > threshold;
        let sum = canonical_sum_of(g.len(), |j| if above(j) { magnitude(j) } else { 0.0 });
        let count = (0..g.len()).filter(|&j| above(j)).count();
        found.push((threshold, scale(sum, count)));
    }
    for (i, (&(threshold, scale), out)) in found.iter().zip(scales.slice_mut::<f32>()?).enumerate() {
        let start = i * block;
        for j in start..g.len().min(start + block) {
            let x = g[j] + error[j];
            let t = i8::from(x > threshold) - i8::from(x < -threshold);
            error[j] = x - scale * f32::from(t);
            // A byte begins at code 1 four times, t = 0, also past the last element.
            let (byte, shift) = (&mut packed[j / 4], 2 * (j % 4));
            let others = if shift == 0 { 0x55 } else { *byte };
            *byte = others & !(3 << shift) | ((t + 1) as u8) << shift;
        }
        *out = scale;
    }
    Ok(())
}

/// The threshold of a block of `count` magnitudes with this sum, if their mean is one of f32. The mean of those above is then
/// one too: they sum to no more, and each is finite.
pub fn checked_threshold(block: usize, sum: f64, count: usize) -> Result<f32> {
    let mean = (sum / count as f64) as f32;
    if mean.is_finite() {
        return Ok(THRESHOLD * mean);
    }
    Err(error!(
        Argument,
        "ternarize_gradients: the mean magnitude of block {block} of gradient and error is beyond f32"
    ))
}

/// The mean of `count` magnitudes; 0 of none.
pub fn scale(sum: f64, count: usize) -> f32 {
    if count == 0 { 0.0 } else { (sum / count as f64) as f32 }
}

pub fn check_ternary(count: usize, block: usize, error: usize, packed: usize, scales: usize) -> Result<()> {
    check("ternarize_gradients", count, block, error, scales)?;
    let bytes = count.div_ceil(4);
    ensure!(packed == bytes, Shape, "ternarize_gradients: {count} trits take {bytes} bytes, packed has {packed}");
    Ok(())
}

pub fn check(name: &str, count: usize, block: usize, codes: usize, scales: usize) -> Result<()> {
    ensure!(
        block > 0 && block.is_multiple_of(32),
        Argument,
        "{name}: block is {block}, expected a positive multiple of 32"
    );
    ensure!(codes == count, Shape, "{name}: g has {count} elements, what goes with them {codes}");
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

    fn ternarize(g: &[f32], block: usize, error: &mut [f32]) -> Result<(Vec<u8>, Vec<f32>)> {
        let (n, blocks) = (g.len(), g.len().div_ceil(block));
        let (mut packed, mut scales) = (vec![0xEE; n.div_ceil(4)], vec![7.0; blocks]);
        let result = (KERNELS.ternarize_gradients)(
            &launch(),
            &view(g, &[n]),
            block,
            &mut view_mut(error, &[n]),
            &mut view_mut(&mut packed, &[n.div_ceil(4)]),
            &mut view_mut(&mut scales, &[blocks]),
        );
        assert!(result.is_ok() || (packed.iter().all(|&b| b == 0xEE) && scales.iter().all(|&s| s == 7.0)));
        result.map(|()| (packed, scales))
    }

    #[test]
    fn known_ternary_gradients() {
        // |x| are 1, 2, 3, 4 and 28 zeros: the mean is 10 / 32, the threshold 0.21875, the scale 10 / 4.
        let mut g = [0f32; 34];
        (g[0], g[1], g[2], g[31], g[33]) = (1.0, -2.0, 3.0, 3.5, -8.0);
        let mut error = [0f32; 34];
        error[31] = 0.5;
        let (packed, scales) = ternarize(&g, 32, &mut error).unwrap();
        assert_eq!(scales, [2.5, 8.0]);
        // Codes 2 0 2 1, then 1 1 1 2 at the end of the block; the second block is 1 0 and no more.
        assert_eq!((packed[0], packed[7], packed[8]), (2 + 32 + 64, 1 + 4 + 16 + 128, 1 + 16 + 64));
        assert!(packed[1..7].iter().all(|&byte| byte == 0x55));
        assert_eq!((error[0], error[1], error[2], error[31], error[3], error[33]), (-1.5, 0.5, 0.5, 1.5, 0.0, 0.0));
    }

    /// What is sent over the steps, and what is still owed, is the sum of the gradients; and the debt stays bounded.
    #[test]
    fn nothing_is_lost_over_the_steps() {
        let (n, block, steps) = (300, 96, 200);
        let (mut error, mut sent, mut sum) = (vec![0f32; n], vec![0f64; n], vec![0f64; n]);
        let mut largest = 0f64;
        for step in 0..steps {
            let g = of::<f32>(&numbers(100 + step, n));
            let (packed, scales) = ternarize(&g, block, &mut error).unwrap();
            for i in 0..n {
                let t = f64::from(packed[i / 4] >> (2 * (i % 4)) & 3) - 1.0;
                sent[i] += f64::from(scales[i / block]) * t;
                sum[i] += f64::from(g[i]);
                largest = largest.max(f64::from(error[i].abs()));
            }
        }
        for i in 0..n {
            assert!((sent[i] + f64::from(error[i]) - sum[i]).abs() < 1e-3, "{i}");
        }
        assert!(largest < 20.0, "the largest debt is {largest}");
    }

    /// The scale is the best for its trits: the error of a step is below the gradient.
    #[test]
    fn a_step_takes_away_what_it_can() {
        let g = of::<f32>(&numbers(5, 4096));
        let mut error = vec![0f32; 4096];
        ternarize(&g, 4096, &mut error).unwrap();
        let square = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let left = square(&error) / square(&g);
        // Uniform or normal numbers leave about a fifth.
        assert!(left < 0.3, "{left}");
    }

    #[test]
    fn means_beyond_f32_are_refused_and_write_nothing() {
        let mut g = vec![1f32; 200];
        g[100..164].fill(f32::MAX);
        let mut error = vec![1f32; 200];
        let failed = ternarize(&g, 64, &mut error).unwrap_err();
        assert!(failed.message.contains("block 1 of gradient"), "{failed}");
        assert!(error.iter().all(|&e| e == 1.0));
        let (packed, scales) = ternarize(&[], 32, &mut []).unwrap();
        assert!(packed.is_empty() && scales.is_empty());
    }
}
