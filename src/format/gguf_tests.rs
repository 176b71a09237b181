use super::*;
use crate::tensor::ErrorKind;
use crate::tensor::random::{Purpose, Stream};

const BOTH: [BlockType; 2] = [BlockType::Tq1_0, BlockType::Tq2_0];

fn normal(count: usize, scale: f32) -> Vec<f32> {
    let stream = Stream::new(5, Purpose::Test, 0, 0);
    (0..count as u64).map(|i| scale * stream.normal(i)).collect()
}

fn encoded(kind: BlockType, weights: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0xAB; kind.size(weights.len()).unwrap()];
    encode(kind, weights, &mut blocks).unwrap();
    blocks
}

fn decoded(kind: BlockType, blocks: &[u8]) -> Vec<f32> {
    let mut weights = vec![-77.5; blocks.len() / kind.bytes() * BLOCK];
    decode(kind, blocks, &mut weights).unwrap();
    weights
}

/// The bytes as the places that the format gives to each weight, written out one weight at a time.
#[test]
fn every_weight_has_its_place() {
    for at in 0..BLOCK {
        for t in [-1.0f32, 1.0] {
            let mut weights = vec![0.0f32; BLOCK];
            weights[at] = 0.5 * t;
            let block = encoded(BlockType::Tq2_0, &weights);
            let mut expected = [0x55; 66];
            let (half, i, j) = (at / 128, at % 128 / 32, at % 32);
            expected[32 * half + j] = (expected[32 * half + j] & !(3 << (2 * i))) | ((t + 1.0) as u8) << (2 * i);
            expected[64..].copy_from_slice(&[0x00, 0x38]);
            assert_eq!(block, expected, "weight {at}");

            let (byte, place) = match at {
                0..160 => (at % 32, at / 32),
                160..240 => (32 + (at - 160) % 16, (at - 160) / 16),
                _ => (48 + (at - 240) % 4, (at - 240) / 4),
            };
            let digits = |byte: usize| if byte < 48 { [1i32, 1, 1, 1, 1] } else { [1, 1, 1, 1, 0] };
            let stored = |digits: [i32; 5]| {
                let v = digits.iter().fold(0, |v, digit| 3 * v + digit);
                (f64::from(v) * 256.0 / 243.0).ceil() as u8
            };
            let mut expected: Vec<u8> = (0..52).map(|byte| stored(digits(byte))).collect();
            let mut changed = digits(byte);
            changed[place] += t as i32;
            expected[byte] = stored(changed);
            expected.extend([0x00, 0x38]);
            assert_eq!(encoded(BlockType::Tq1_0, &weights), expected, "weight {at}");
        }
    }
}

#[test]
fn a_block_is_its_scale_times_the_nearest_trits() {
    for kind in BOTH {
        let weights = normal(4 * BLOCK, 0.3);
        let read = decoded(kind, &encoded(kind, &weights));
        for (block, read) in weights.chunks(BLOCK).zip(read.chunks(BLOCK)) {
            let most = block.iter().fold(0f32, |most, w| most.max(w.abs()));
            let scale = f16::from_f32(most).to_f32();
            for (&w, &r) in block.iter().zip(read) {
                let ratio = f64::from(w) / f64::from(most);
                // Half away from zero; nearer to the boundary than the reciprocal's rounding, either is right.
                if (ratio.abs() - 0.5).abs() > 1e-6 {
                    assert_eq!(r, scale * (ratio.abs() + 0.5).floor() as f32 * w.signum(), "{w} of {most}");
                }
            }
        }
    }
}

/// What a quantizer made, trits times one scale a group, keeps its trits, and the scale but for its rounding to f16.
#[test]
fn trits_survive_exactly() {
    let stream = Stream::new(6, Purpose::Test, 0, 0);
    let trits: Vec<i8> = (0..6 * BLOCK as u64).map(|i| stream.below(i, 3) as i8 - 1).collect();
    for scale in [1.0f32, 0.0371, 3.33e-5, 5e4] {
        let weights: Vec<f32> = trits.iter().map(|&t| scale * f32::from(t)).collect();
        for kind in BOTH {
            let blocks = encoded(kind, &weights);
            let read = decoded(kind, &blocks);
            let stored = f16::from_f32(scale).to_f32();
            assert!((stored / scale - 1.0).abs() <= f32::from(f16::EPSILON) / 2.0 || scale < 6.2e-5);
            assert!(read.iter().zip(&trits).all(|(&r, &t)| r == stored * f32::from(t)), "{} {scale}", kind.name());
            assert_eq!(encoded(kind, &read), blocks, "a second time");
        }
    }
}

#[test]
fn corners() {
    for kind in BOTH {
        let mut weights = vec![0.0f32; BLOCK];
        weights[7] = -0.0;
        assert!(decoded(kind, &encoded(kind, &weights)).iter().all(|w| w.to_bits() == 0));
        // 65519 is the last that rounds to 65504; ties at a half go away from zero.
        weights[..5].copy_from_slice(&[65519.0, 32759.5, -32759.5, 32759.4, -1.0]);
        let read = decoded(kind, &encoded(kind, &weights));
        assert_eq!(read[..5], [65504.0, 65504.0, -65504.0, 0.0, 0.0]);
        // A scale that an f16 has not becomes 0, and one whose reciprocal an f32 has not is 0.
        for tiny in [1e-8f32, 1e-40, f32::from_bits(1)] {
            let read = decoded(kind, &encoded(kind, &vec![tiny; BLOCK]));
            assert!(read.iter().all(|&w| w == 0.0));
        }
        assert!(encoded(kind, &[]).is_empty());
    }
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_written() {
    for kind in BOTH {
        for (bad, sentence) in [
            (f32::NAN, "weights: element 300 is NaN, expected a finite number"),
            (f32::NEG_INFINITY, "weights: element 300 is -inf, expected a finite number"),
            (-65520.0, "weights: element 300 is -65520, and the scale of a block is at most 65504"),
        ] {
            let mut weights = normal(2 * BLOCK, 1.0);
            weights[300] = bad;
            weights[400] = f32::INFINITY;
            let mut blocks = vec![0xAB; 2 * kind.bytes()];
            let error = encode(kind, &weights, &mut blocks).unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Argument, sentence));
            assert!(blocks.iter().all(|&byte| byte == 0xAB));
        }
        assert_eq!(kind.size(255).unwrap_err().message, "count is 255, expected a multiple of 256");
        assert_eq!(kind.size(usize::MAX - 255).is_err(), kind.bytes() > BLOCK);
        let error = encode(kind, &[0.0; 256], &mut [0; 10]).unwrap_err();
        assert_eq!(error.message, format!("blocks has 10 bytes, 256 weights in {} take {}", kind.name(), kind.bytes()));
    }
}

/// Every byte at every place: it is read, and written again as it was, or refused.
#[test]
fn bytes_that_no_writer_makes_are_refused() {
    for kind in BOTH {
        let good = encoded(kind, &normal(2 * BLOCK, 1.0));
        for at in 0..kind.trit_bytes() {
            let mut accepted = 0;
            for byte in 0..=255 {
                let mut blocks = good.clone();
                blocks[kind.bytes() + at] = byte;
                let mut weights = vec![-77.5; 2 * BLOCK];
                match decode(kind, &blocks, &mut weights) {
                    Ok(()) => {
                        accepted += 1;
                        weights.iter_mut().for_each(|w| *w = w.signum() * f32::from(u8::from(*w != 0.0)));
                        let trits = &encoded(kind, &weights)[kind.bytes()..][..kind.trit_bytes()];
                        assert_eq!(trits, &blocks[kind.bytes()..][..kind.trit_bytes()]);
                    }
                    Err(error) => {
                        let sentence =
                            format!("blocks: block 1: byte {at} is {byte}, which no trits have in {}", kind.name());
                        assert_eq!((error.kind, error.message), (ErrorKind::Format, sentence));
                        assert!(weights.iter().all(|&w| w == -77.5));
                    }
                }
            }
            let expected = match (kind, at) {
                (BlockType::Tq2_0, _) => 81,
                (BlockType::Tq1_0, 0..48) => 243,
                (BlockType::Tq1_0, _) => 81,
            };
            assert_eq!(accepted, expected, "{} byte {at}", kind.name());
        }
        for (bits, accepted) in
            [(f16::INFINITY, false), (f16::NAN, false), (f16::MAX, true), (f16::from_f32(-1.0), true)]
        {
            let mut blocks = good.clone();
            blocks[kind.trit_bytes()..][..2].copy_from_slice(&bits.to_le_bytes());
            assert_eq!(decode(kind, &blocks, &mut vec![0.0; 2 * BLOCK]).is_ok(), accepted, "{bits}");
        }
    }
}
