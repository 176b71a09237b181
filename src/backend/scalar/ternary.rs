//! Packed trits: two bits a trit, five trits a byte. How they come from weights: `scheme.rs`.

use super::mask_sign::check_mask_sign;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{MaskSign, Packing, Result, View, ViewMut};

/// Trit k of a row packed two bits each.
pub fn trit(row: &[u8], k: usize) -> i32 {
    i32::from(row[k / 4] >> (2 * (k % 4)) & 3) - 1
}

pub fn pack_two_bit(_: &Launch, trits: &View, packed: &mut ViewMut) -> Result<()> {
    let (rows, columns) = (trits.dim(0), trits.dim(1));
    check_packed("pack_two_bit", packed.dims(), rows, columns, 4)?;
    let (trits, packed) = (trits.slice::<i8>()?, packed.slice_mut::<u8>()?);
    for (row, bytes) in trits.chunks(columns.max(1)).zip(packed.chunks_mut(columns.div_ceil(4).max(1))) {
        for (four, byte) in row.chunks(4).zip(bytes) {
            *byte = (0..4).map(|i| four.get(i).map_or(1, |&t| (t + 1) as u8) << (2 * i)).sum();
        }
    }
    Ok(())
}

pub fn unpack_two_bit(_: &Launch, packed: &View, trits: &mut ViewMut) -> Result<()> {
    let (rows, columns) = (trits.dim(0), trits.dim(1));
    check_packed("unpack_two_bit", packed.dims(), rows, columns, 4)?;
    let (packed, trits) = (packed.slice::<u8>()?, trits.slice_mut::<i8>()?);
    for (bytes, row) in packed.chunks(columns.div_ceil(4).max(1)).zip(trits.chunks_mut(columns.max(1))) {
        for (k, t) in row.iter_mut().enumerate() {
            *t = trit(bytes, k) as i8;
        }
    }
    Ok(())
}

pub fn check_trits(_: &Launch, packing: Packing, packed: &View, [rows, columns]: [usize; 2]) -> Result<()> {
    check_size("check_trits", packing, packed, [rows, columns])?;
    let bytes = packed.slice::<u8>()?;
    match packing {
        Packing::TwoBit => {
            check_two_bit(bytes)?;
            check_two_bit_ends(bytes, columns)
        }
        Packing::FivePerByte => check_five(bytes, columns),
        Packing::MaskSign => check_mask_sign(&MaskSign::new(rows, columns), bytes),
    }
}

/// Refuses the code 3.
pub fn check_two_bit(packed: &[u8]) -> Result<()> {
    for (i, &byte) in packed.iter().enumerate() {
        ensure!(
            byte & (byte >> 1) & 0x55 == 0,
            Format,
            "byte {i} of packed is {byte:#04x}, which holds a digit that is no trit"
        );
    }
    Ok(())
}

/// Refuses codes other than 1 past the last column.
fn check_two_bit_ends(packed: &[u8], columns: usize) -> Result<()> {
    let (width, used) = (columns.div_ceil(4), columns % 4);
    for (row, bytes) in packed.chunks(width.max(1)).enumerate() {
        let (i, byte) = (row * width + width - 1, bytes[width - 1]);
        ensure!(
            used == 0 || byte >> (2 * used) == 0x55 >> (2 * used),
            Format,
            "byte {i} of packed is {byte:#04x}, which holds a trit past the last of {columns} columns"
        );
    }
    Ok(())
}

pub fn pack_five(_: &Launch, packed: &View, columns: usize, five: &mut ViewMut) -> Result<()> {
    let rows = packed.dim(0);
    check_packed("pack_five", packed.dims(), rows, columns, 4)?;
    check_packed("pack_five", five.dims(), rows, columns, 5)?;
    let (packed, five) = (packed.slice::<u8>()?, five.slice_mut::<u8>()?);
    // First, so that a corrupt input leaves the output as it was.
    check_two_bit(packed)?;
    let (from, to) = (columns.div_ceil(4), columns.div_ceil(5));
    for (row, bytes) in packed.chunks(from.max(1)).zip(five.chunks_mut(to.max(1))) {
        for (j, byte) in bytes.iter_mut().enumerate() {
            // Horner from the last trit: byte = t0 + 3 t1 + 9 t2 + 27 t3 + 81 t4, digits t + 1.
            *byte = (0..5).rev().fold(0, |sum, i| {
                let k = 5 * j + i;
                let digit = if k < columns { (trit(row, k) + 1) as u8 } else { 1 };
                3 * sum + digit
            });
        }
    }
    Ok(())
}

pub fn unpack_five(_: &Launch, five: &View, columns: usize, packed: &mut ViewMut) -> Result<()> {
    let rows = five.dim(0);
    check_packed("unpack_five", five.dims(), rows, columns, 5)?;
    check_packed("unpack_five", packed.dims(), rows, columns, 4)?;
    let (five, packed) = (five.slice::<u8>()?, packed.slice_mut::<u8>()?);
    check_five(five, columns)?;
    let (from, to) = (columns.div_ceil(5), columns.div_ceil(4));
    for (bytes, row) in five.chunks(from.max(1)).zip(packed.chunks_mut(to.max(1))) {
        for (j, byte) in row.iter_mut().enumerate() {
            *byte = (0..4).map(|i| digit(bytes, 4 * j + i, columns) << (2 * i)).sum();
        }
    }
    Ok(())
}

pub fn five_trits(_: &Launch, five: &View, trits: &mut ViewMut) -> Result<()> {
    let (rows, columns) = (trits.dim(0), trits.dim(1));
    check_packed("five_trits", five.dims(), rows, columns, 5)?;
    let (five, trits) = (five.slice::<u8>()?, trits.slice_mut::<i8>()?);
    check_five(five, columns)?;
    for (bytes, row) in five.chunks(columns.div_ceil(5).max(1)).zip(trits.chunks_mut(columns.max(1))) {
        for (k, t) in row.iter_mut().enumerate() {
            *t = digit(bytes, k, columns) as i8 - 1;
        }
    }
    Ok(())
}

/// Digit t + 1 of column k of a row of five trits a byte; 1 past the last column.
#[inline]
fn digit(row: &[u8], k: usize, columns: usize) -> u8 {
    if k < columns { row[k / 5] / [1, 3, 9, 27, 81][k % 5] % 3 } else { 1 }
}

/// Refuses bytes that no five trits make, and digits other than 1 past the last column.
fn check_five(five: &[u8], columns: usize) -> Result<()> {
    let width = columns.div_ceil(5);
    for (i, &byte) in five.iter().enumerate() {
        ensure!(byte < 243, Format, "byte {i} of packed is {byte}, but five trits make at most 242");
        let left = columns - i % width * 5;
        let padding_is_zero = (left.min(5)..5).all(|i| byte / [1, 3, 9, 27, 81][i] % 3 == 1);
        ensure!(
            padding_is_zero,
            Format,
            "byte {i} of packed is {byte}, which holds a trit past the last of {columns} columns"
        );
    }
    Ok(())
}

/// SHAPE unless `packed`, seen flat, has a size that [rows, columns] trits can have.
pub fn check_size(name: &str, packing: Packing, packed: &View, [rows, columns]: [usize; 2]) -> Result<()> {
    let found = packed.count();
    let bytes = match packing {
        Packing::TwoBit => rows * columns.div_ceil(4),
        Packing::FivePerByte => rows * columns.div_ceil(5),
        // With as many signs as the mask has bits, which `check_trits` sees.
        Packing::MaskSign => found.max(MaskSign::new(rows, columns).signs()),
    };
    ensure!(found == bytes, Shape, "{name}: packed has {found} bytes, [{rows}, {columns}] trits take {bytes}");
    Ok(())
}

/// `dims` is [rows, ceil(columns / per_byte)].
pub fn check_packed(name: &str, dims: &[usize], rows: usize, columns: usize, per_byte: usize) -> Result<()> {
    let expected = [rows, columns.div_ceil(per_byte)];
    ensure!(dims == expected, Shape, "{name}: packed bytes have shape {dims:?}, expected {expected:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    fn pack_five(packed: &[u8], [n, k]: [usize; 2], five: &mut [u8]) -> Result<()> {
        let (packed, mut five) = (view(packed, &[n, k.div_ceil(4)]), view_mut(five, &[n, k.div_ceil(5)]));
        (KERNELS.pack_five)(&launch(), &packed, k, &mut five)
    }

    fn unpack_five(five: &[u8], [n, k]: [usize; 2], packed: &mut [u8]) -> Result<()> {
        let (five, mut packed) = (view(five, &[n, k.div_ceil(5)]), view_mut(packed, &[n, k.div_ceil(4)]));
        (KERNELS.unpack_five)(&launch(), &five, k, &mut packed)
    }

    /// Rows of trits as bytes of `per_byte` digits t + 1 in this base, by the sum in the contract.
    fn pack(trits: &[i32], [n, k]: [usize; 2], per_byte: usize, base: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for row in 0..n {
            for j in 0..k.div_ceil(per_byte) {
                let digit = |i: usize| {
                    let column = j * per_byte + i;
                    (if column < k { trits[row * k + column] + 1 } else { 1 }) * base.pow(i as u32)
                };
                bytes.push((0..per_byte).map(digit).sum::<i32>() as u8);
            }
        }
        bytes
    }

    fn trits(tensor: u32, count: usize) -> Vec<i32> {
        integers(tensor, count, 3).into_iter().map(|digit| digit as i32 - 1).collect()
    }

    #[test]
    fn the_bytes_are_as_the_contract_draws_them() {
        let five = |trits: &[i32]| {
            let mut five = [0];
            pack_five(&pack(trits, [1, trits.len()], 4, 4), [1, trits.len()], &mut five).unwrap();
            five[0]
        };
        assert_eq!(five(&[-1; 5]), 0);
        assert_eq!(five(&[0; 5]), 121);
        assert_eq!(five(&[1; 5]), 242);
        assert_eq!(five(&[1, -1, 0, -1, -1]), 2 + 9);
        assert_eq!(five(&[-1, 1]), 6 + 9 + 27 + 81);
    }

    #[test]
    fn five_trits_a_byte_and_back() {
        for n in [0, 1, 3] {
            for k in 0..=41 {
                let t = trits(10, n * k);
                let (packed, mut five) = (pack(&t, [n, k], 4, 4), vec![0xEE; n * k.div_ceil(5)]);
                pack_five(&packed, [n, k], &mut five).unwrap();
                assert_eq!(five, pack(&t, [n, k], 5, 3), "{k} columns");
                let mut back = vec![0xEE; packed.len()];
                unpack_five(&five, [n, k], &mut back).unwrap();
                assert_eq!(back, packed, "{k} columns");
            }
        }
    }

    #[test]
    fn bytes_that_no_five_trits_make_are_refused_by_name() {
        for byte in 0..=255u8 {
            let mut packed = [0xEE; 6];
            let result = unpack_five(&[121, 0, 242, byte], [2, 10], &mut packed);
            if byte < 243 {
                result.unwrap();
                continue;
            }
            let error = result.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Format);
            assert!(error.message.contains("byte 3") && error.message.contains(&byte.to_string()), "{error}");
            assert_eq!(packed, [0xEE; 6], "a refused input leaves the output as it was");
        }
    }

    #[test]
    fn digits_past_the_last_column_must_be_one() {
        for used in 1..5usize {
            for byte in 0..243u8 {
                let digits: Vec<u8> = (0..5).map(|i| byte / 3u8.pow(i) % 3).collect();
                // Two rows of 5 + used columns; the second row's last byte is the one under test.
                let mut packed = vec![0xEE; 2 * (5 + used).div_ceil(4)];
                let result = unpack_five(&[242, 121, 0, byte], [2, 5 + used], &mut packed);
                if digits[used..].iter().all(|&digit| digit == 1) {
                    result.unwrap();
                } else {
                    let error = result.unwrap_err();
                    assert_eq!(error.kind, ErrorKind::Format);
                    assert!(error.message.contains("byte 3"), "{error}");
                }
            }
        }
    }

    #[test]
    fn the_code_three_is_refused_by_name() {
        for position in 0..4 {
            // The last two positions of the last byte lie past the sixth column: no trit stands there, but no 3 may either.
            let corrupt = 0b0101_0101 | 3 << (2 * position);
            let mut five = [0xEE; 4];
            let error = pack_five(&[0x55, 0x55, 0x55, corrupt], [2, 6], &mut five).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Format);
            assert!(error.message.contains("byte 3"), "{error}");
            assert_eq!(five, [0xEE; 4], "a refused input leaves the output as it was");
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let (four, mut five) = (zeros::<u8>(&[2, 3]), zeros::<u8>(&[2, 2]));
        for columns in [8, 11, 13] {
            let result = (KERNELS.pack_five)(&launch(), &four.view(), columns, &mut five.view_mut());
            assert_eq!(kind(result), ErrorKind::Shape, "{columns} columns");
        }
    }

    #[test]
    fn other_types_are_refused() {
        let tensors = || [zeros::<u8>(&[2, 2]), zeros::<u8>(&[2, 1])];
        refuses_other_types("pack_five", tensors(), |[packed, five]| {
            (KERNELS.pack_five)(&launch(), &packed.view(), 5, &mut five.view_mut())
        });
        refuses_other_types("unpack_five", tensors(), |[packed, five]| {
            (KERNELS.unpack_five)(&launch(), &five.view(), 5, &mut packed.view_mut())
        });
    }
}
