//! Packed bytes are the same on every row, and corrupt bytes are found by all.

use super::{EXACT, Row, SIZES, check, dirty, integers, normal};
use crate::backend::launch::{Executor, Launch};
use crate::backend::scalar;
use crate::backend::simd::Level;
use crate::tensor::{DType, Packing, Result, Tensor};

/// [rows, columns]: odd widths, widths that fill bytes, rows that end and begin anywhere in a vector, and enough for several
/// chunks.
pub fn shapes() -> impl Iterator<Item = [usize; 2]> {
    let odd = SIZES.into_iter().flat_map(|columns| [[1, columns], [3, columns]]);
    let long = [[0, 8], [2, 20], [7, 128], [3, 1000], [5, 1003], [70, 1024], [600, 129], [1, 140_000], [1, 140_003]];
    odd.chain(long).chain((300..345).map(|columns| [5, columns]))
}

/// Random trits, two bits each.
pub fn packed(rows: usize, columns: usize, seed: u32) -> Tensor {
    let trits = integers(&[rows, columns], seed, 3, |i| i as i8 - 1);
    let mut packed = dirty(DType::U8, &[rows, columns.div_ceil(4)]);
    let launch = Launch::new(Executor::Serial, Level::Baseline.spans());
    (scalar::KERNELS.pack_two_bit)(&launch, &trits.view(), &mut packed.view_mut()).unwrap();
    packed
}

fn ternarize(row: &Row, w: &Tensor, threshold: f32) -> Result<Tensor> {
    let threshold = Tensor::from_slice(&[threshold], &[1])?;
    let mut packed = dirty(DType::U8, &[w.dims()[0], w.dims()[1].div_ceil(4)]);
    (row.kernels.ternarize)(&row.launch, &w.view(), 0, &threshold.view(), &mut packed.view_mut())?;
    Ok(packed)
}

fn pack_five(row: &Row, packed: &Tensor, columns: usize) -> Result<Tensor> {
    let mut five = dirty(DType::U8, &[packed.dims()[0], columns.div_ceil(5)]);
    (row.kernels.pack_five)(&row.launch, &packed.view(), columns, &mut five.view_mut())?;
    Ok(five)
}

fn unpack_five(row: &Row, five: &Tensor, columns: usize) -> Result<Tensor> {
    let mut packed = dirty(DType::U8, &[five.dims()[0], columns.div_ceil(4)]);
    (row.kernels.unpack_five)(&row.launch, &five.view(), columns, &mut packed.view_mut())?;
    Ok(packed)
}

#[test]
fn five_a_byte_and_back() {
    for shape @ [_, columns] in shapes() {
        let w = normal(&shape, 4);
        check(&format!("pack_five {shape:?}"), EXACT, |row| {
            let packed = ternarize(row, &w, 0.4)?;
            let five = pack_five(row, &packed, columns)?;
            let back = unpack_five(row, &five, columns)?;
            assert_eq!(back.host::<u8>()?, packed.host::<u8>()?);
            Ok(vec![five])
        });
    }
}

/// Every row reports a corrupt byte by the same sentence: the vector rows leave that to the reference.
#[test]
fn corrupt_bytes_are_named() {
    let columns = 203;
    let w = normal(&[40, columns], 5);
    for at in [0, 17, 50, 51, 52, 1000, 2039] {
        for pair in 0..4 {
            check(&format!("pack_five with code {pair} of byte {at} corrupt"), EXACT, |row| {
                let mut packed = ternarize(row, &w, 0.5)?;
                packed.host_mut::<u8>()?[at] |= 3 << (2 * pair);
                let error = pack_five(row, &packed, columns).map(|_| ()).unwrap_err();
                assert!(error.message.contains(&format!("byte {at} ")), "{error}");
                Err(error)
            });
        }
    }
    for at in [0, 39, 40, 41, 777, 1639] {
        for byte in 243..=255 {
            check(&format!("unpack_five with byte {at} = {byte}"), EXACT, |row| {
                let mut five = pack_five(row, &ternarize(row, &w, 0.5)?, columns)?;
                five.host_mut::<u8>()?[at] = byte;
                let error = unpack_five(row, &five, columns).map(|_| ()).unwrap_err();
                assert!(error.message.contains(&format!("byte {at} ")), "{error}");
                Err(error)
            });
        }
    }
}

#[test]
fn trits_past_the_last_column_are_refused() {
    for columns in [1usize, 2, 3, 4, 5, 18] {
        for byte in 0..=255u8 {
            let width = columns.div_ceil(5);
            let mut bytes = vec![121u8; 2 * width];
            bytes[2 * width - 1] = byte;
            let five = Tensor::from_slice(&bytes, &[2, width]).unwrap();
            check(&format!("unpack_five of {byte} for {columns} columns"), EXACT, |row| {
                Ok(vec![unpack_five(row, &five, columns)?])
            });
        }
    }
}

/// Two bits and five a byte; mask and signs: `mask_sign.rs`.
#[test]
fn what_holds_no_trits_is_told_alike() {
    for [rows, columns] in shapes().chain([[0, 7], [3, 0]]) {
        let two_bit = packed(rows, columns, 8);
        let five = pack_five(&super::rows()[0], &two_bit, columns).unwrap();
        for (packing, good, bad) in [(Packing::TwoBit, &two_bit, 0b01_11_01_01), (Packing::FivePerByte, &five, 243)] {
            let told = |name: &str, bytes: &Tensor| {
                check(&format!("check_trits {rows} x {columns} {} {name}", packing.name()), EXACT, |row| {
                    (row.kernels.check_trits)(&row.launch, packing, &bytes.view(), [rows, columns]).map(|()| vec![])
                });
            };
            told("sound", good);
            // A byte that is none, the first, one in the middle and the last; a trit past the last column.
            let bytes = good.count();
            let damage = [(0, bad), (bytes / 2, bad), (bytes.saturating_sub(1), bad), (bytes.saturating_sub(1), 0)];
            for (at, byte) in damage.into_iter().filter(|(at, _)| *at < bytes) {
                let mut damaged = good.host::<u8>().unwrap().to_vec();
                damaged[at] = byte;
                told(&format!("with byte {at} = {byte}"), &Tensor::from_slice(&damaged, good.dims()).unwrap());
            }
            let longer = Tensor::zeros(DType::U8, &[bytes + 1]).unwrap();
            told("of another size", &longer);
        }
    }
}

#[test]
fn two_bits_and_back() {
    for [rows, columns] in shapes() {
        check(&format!("pack_two_bit {rows} x {columns}"), EXACT, |row| {
            let trits = integers(&[rows, columns], 6, 3, |i| i as i8 - 1);
            let (mut bytes, mut back) =
                (dirty(DType::U8, &[rows, columns.div_ceil(4)]), dirty(DType::I8, trits.dims()));
            (row.kernels.pack_two_bit)(&row.launch, &trits.view(), &mut bytes.view_mut())?;
            (row.kernels.unpack_two_bit)(&row.launch, &bytes.view(), &mut back.view_mut())?;
            assert_eq!(back.host::<i8>()?, trits.host::<i8>()?);
            Ok(vec![bytes])
        });
    }
}

#[test]
fn trits_of_five_a_byte() {
    for [rows, columns] in shapes() {
        let two_bit = packed(rows, columns, 7);
        check(&format!("five_trits {rows} x {columns}"), EXACT, |row| {
            let five = pack_five(row, &two_bit, columns)?;
            let mut trits = dirty(DType::I8, &[rows, columns]);
            (row.kernels.five_trits)(&row.launch, &five.view(), &mut trits.view_mut())?;
            Ok(vec![trits])
        });
    }
    // Every byte there is, wherever it lies among 32.
    let bytes: Vec<u8> = (0..243 * 37).map(|i| (i % 243) as u8).collect();
    let five = Tensor::from_slice(&bytes, &[1, bytes.len()]).unwrap();
    check("five_trits of every byte", EXACT, |row| {
        let mut trits = dirty(DType::I8, &[1, 5 * 243 * 37]);
        (row.kernels.five_trits)(&row.launch, &five.view(), &mut trits.view_mut())?;
        Ok(vec![trits])
    });
    for byte in 243..=255u8 {
        let mut bytes = bytes.clone();
        bytes[5000] = byte;
        let five = Tensor::from_slice(&bytes, &[1, bytes.len()]).unwrap();
        check(&format!("five_trits of {byte}"), EXACT, |row| {
            let mut trits = dirty(DType::I8, &[1, 5 * 243 * 37]);
            (row.kernels.five_trits)(&row.launch, &five.view(), &mut trits.view_mut()).map(|()| vec![])
        });
    }
}
