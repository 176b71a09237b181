use super::{EXACT, SIZES, check, dirty, integers, normal};
use crate::backend::simd::Level;
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Tensor};

const BLOCKS: [usize; 4] = [32, 96, 256, 4096];

fn stream() -> Stream {
    Stream::new(0xFEDC_BA98_7654_3210, Purpose::Gradient, 77, 5)
}

/// Normal numbers of many magnitudes, with zeros, denormals and the largest number among them.
fn gradient(n: usize) -> Tensor {
    let mut g = normal(&[n], 41);
    for (i, g) in g.host_mut::<f32>().unwrap().iter_mut().enumerate() {
        *g = match i % 97 {
            13 => 0.0,
            14 => -0.0,
            15 if i > 5000 => f32::MAX,
            16 => f32::from_bits(i as u32),
            _ => *g * 10f32.powi((i / 300 % 60) as i32 - 44),
        };
    }
    g
}

#[test]
fn quantize_gradients() {
    for n in SIZES.into_iter().chain([4097, 70_001]) {
        for block in BLOCKS {
            check(&format!("quantize_gradients {n} by {block}"), EXACT, |row| {
                let (g, blocks) = (gradient(n), n.div_ceil(block));
                let (mut codes, mut scales) = (dirty(DType::I8, &[n]), dirty(DType::F32, &[blocks]));
                let outputs = (&mut codes.view_mut(), &mut scales.view_mut());
                (row.kernels.quantize_gradients)(&row.launch, &g.view(), stream(), block, outputs.0, outputs.1)?;
                Ok(vec![codes, scales])
            });
        }
    }
}

/// What is infinite takes the end of the codes; a NaN does too, and has no part in the scale.
#[test]
fn gradients_that_are_not_finite() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX] {
        for (n, block) in [(1000, 32), (1024, 256), (1023, 256), (5000, 4096), (150_000, 140_000)] {
            check(&format!("quantize_gradients {n} by {block} with {bad}"), EXACT, |row| {
                let (mut g, blocks) = (normal(&[n], 48), n.div_ceil(block));
                g.host_mut::<f32>()?.iter_mut().skip(77).step_by(331).for_each(|g| *g = bad);
                let (mut codes, mut scales) = (dirty(DType::I8, &[n]), dirty(DType::F32, &[blocks]));
                let outputs = (&mut codes.view_mut(), &mut scales.view_mut());
                (row.kernels.quantize_gradients)(&row.launch, &g.view(), stream(), block, outputs.0, outputs.1)?;
                Ok(vec![codes, scales])
            });
        }
    }
}

#[test]
fn dequantize_gradients() {
    for n in SIZES.into_iter().chain([70_001]) {
        for block in BLOCKS {
            check(&format!("dequantize_gradients {n} by {block}"), EXACT, |row| {
                let codes = integers(&[n], 42, 255, |i| (i as i64 - 127) as i8);
                let (scales, mut g) = (normal(&[n.div_ceil(block)], 43), dirty(DType::F32, &[n]));
                (row.kernels.dequantize_gradients)(
                    &row.launch,
                    &codes.view(),
                    &scales.view(),
                    block,
                    &mut g.view_mut(),
                )?;
                Ok(vec![g])
            });
        }
    }
}

#[test]
fn ternarize_gradients() {
    for n in SIZES.into_iter().chain([4097, 70_001]) {
        for block in BLOCKS.into_iter().chain([8224]) {
            check(&format!("ternarize_gradients {n} by {block}"), EXACT, |row| {
                let (g, mut error, blocks) = (normal(&[n], 44), normal(&[n], 45), n.div_ceil(block));
                let (mut packed, mut scales) = (dirty(DType::U8, &[n.div_ceil(4)]), dirty(DType::F32, &[blocks]));
                // Zeros of both signs, and a block of nothing.
                error.host_mut::<f32>().unwrap().iter_mut().skip(3).step_by(7).for_each(|e| *e = -0.0);
                let mut g = g;
                for (i, g) in g.host_mut::<f32>().unwrap().iter_mut().enumerate() {
                    *g = if i % 5 == 0 || i / 100 == 13 { -0.0 } else { *g };
                }
                let (error_view, packed_view) = (&mut error.view_mut(), &mut packed.view_mut());
                let scales_view = &mut scales.view_mut();
                (row.kernels.ternarize_gradients)(&row.launch, &g.view(), block, error_view, packed_view, scales_view)?;
                Ok(vec![error, packed, scales])
            });
        }
    }
}

#[test]
fn ternary_blocks_beyond_f32_fail_alike_and_write_nothing() {
    check("ternarize_gradients of the largest numbers", EXACT, |row| {
        let n = 500;
        let (mut g, mut error) = (normal(&[n], 46), normal(&[n], 47));
        g.host_mut::<f32>().unwrap()[400..440].fill(f32::MAX);
        let before = error.host::<f32>().unwrap().to_vec();
        let (mut packed, mut scales) = (dirty(DType::U8, &[n.div_ceil(4)]), dirty(DType::F32, &[4]));
        let outputs = (&mut error.view_mut(), &mut packed.view_mut(), &mut scales.view_mut());
        let result = (row.kernels.ternarize_gradients)(&row.launch, &g.view(), 128, outputs.0, outputs.1, outputs.2);
        assert!(error.host::<f32>().unwrap() == before, "{}", row.name);
        assert!(packed.host::<u8>().unwrap().iter().all(|&byte| byte == 0xAB));
        result.map(|()| vec![])
    });
}

#[test]
fn wrong_blocks_and_sizes_fail_alike() {
    for (block, blocks) in [(0, 1), (31, 3), (32, 2)] {
        check(&format!("blocks of {block}"), EXACT, |row| {
            let (g, mut codes, mut scales) = (normal(&[65], 1), dirty(DType::I8, &[65]), dirty(DType::F32, &[blocks]));
            let outputs = (&mut codes.view_mut(), &mut scales.view_mut());
            (row.kernels.quantize_gradients)(&row.launch, &g.view(), stream(), block, outputs.0, outputs.1)?;
            Ok(vec![])
        });
    }
}

/// Elements that no test could hold in memory: random blocks on both sides of 2^32.
#[test]
fn the_bits_are_those_of_the_stream() {
    let philox = crate::backend::simd::PhiloxStream::from(stream());
    for level in Level::ALL.into_iter().filter(|level| level.available()) {
        for block in [0, 8, (1 << 32) - 8, 1 << 32, (1 << 40) + 16] {
            let (mut g, mut codes) = ([0.5f32; 37], [0i8; 37]);
            g[0] = 127.0;
            // SAFETY: both arrays have the stated length.
            let scale =
                unsafe { (level.spans().quantize_gradients)(&philox, block, g.as_ptr(), g.len(), codes.as_mut_ptr()) };
            assert_eq!((scale, codes[0]), (1.0, 127));
            for (i, &code) in codes.iter().enumerate().skip(1) {
                let up = stream().uniform(4 * block + i as u64) < 0.5;
                assert_eq!(code, i8::from(up), "{} block {block} element {i}", level.name());
            }
        }
    }
}
