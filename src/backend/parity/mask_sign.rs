//! Packed bytes and trits are the same on every row, by either way to deposit bits, and damage is found by all.

use super::ternary::{packed, shapes};
use super::{EXACT, Row, check, dirty};
use crate::backend::simd::Level;
use crate::tensor::{DType, MaskSign, Packing, Result, Tensor};

fn pack(row: &Row, two_bit: &Tensor, columns: usize) -> Result<Tensor> {
    let bytes = (row.kernels.mask_sign_bytes)(&row.launch, &two_bit.view(), columns)?;
    let mut found = dirty(DType::U8, &[bytes]);
    (row.kernels.pack_mask_sign)(&row.launch, &two_bit.view(), columns, &mut found.view_mut())?;
    Ok(found)
}

#[test]
fn mask_and_sign_and_back() {
    for [rows, columns] in shapes() {
        let two_bit = packed(rows, columns, 8);
        check(&format!("pack_mask_sign {rows} x {columns}"), EXACT, |row| {
            let bytes = pack(row, &two_bit, columns)?;
            let (mut again, mut trits) = (dirty(DType::U8, two_bit.dims()), dirty(DType::I8, &[rows, columns]));
            (row.kernels.unpack_mask_sign)(&row.launch, &bytes.view(), columns, &mut again.view_mut())?;
            assert_eq!(again.host::<u8>()?, two_bit.host::<u8>()?);
            (row.kernels.mask_sign_trits)(&row.launch, &bytes.view(), &mut trits.view_mut())?;
            (row.kernels.check_trits)(&row.launch, Packing::MaskSign, &bytes.view(), [rows, columns])?;
            Ok(vec![bytes, trits])
        });
    }
}

/// No signs, or one for each trit: those of a block begin anywhere in a word, and end there.
#[test]
fn matrices_of_one_trit() {
    for [rows, columns] in [[1, 32], [3, 96], [3, 2080], [5, 1056], [2, 131_072], [3, 2051]] {
        for trit in [-1i8, 0, 1] {
            check(&format!("pack_mask_sign {rows} x {columns} of {trit}"), EXACT, |row| {
                let trits = Tensor::from_slice(&vec![trit; rows * columns], &[rows, columns])?;
                let mut two_bit = dirty(DType::U8, &[rows, columns.div_ceil(4)]);
                (row.kernels.pack_two_bit)(&row.launch, &trits.view(), &mut two_bit.view_mut())?;
                let (bytes, mut again) = (pack(row, &two_bit, columns)?, dirty(DType::I8, &[rows, columns]));
                (row.kernels.mask_sign_trits)(&row.launch, &bytes.view(), &mut again.view_mut())?;
                assert_eq!(again.host::<i8>()?, trits.host::<i8>()?);
                Ok(vec![bytes])
            });
        }
    }
}

#[test]
fn damage_is_told_alike() {
    for columns in [461, 480] {
        damage_of(9, columns);
    }
}

fn damage_of(rows: usize, columns: usize) {
    let two_bit = packed(rows, columns, 9);
    let form = MaskSign::new(rows, columns);
    // Offsets, masks and their padding, signs, all over.
    for at in [0, 1, 3, 4, 6, form.mask(), form.mask() + 57, form.mask() + 300, form.signs(), form.signs() + 90] {
        for bit in [0, 4, 7] {
            check(&format!("mask_sign_trits with bit {bit} of byte {at} flipped"), EXACT, |row| {
                let mut bytes = pack(row, &two_bit, columns)?;
                bytes.host_mut::<u8>()?[at] ^= 1 << bit;
                let mut trits = dirty(DType::I8, &[rows, columns]);
                let result = (row.kernels.mask_sign_trits)(&row.launch, &bytes.view(), &mut trits.view_mut());
                assert!(result.is_ok() || trits.host::<i8>()?.iter().all(|&t| t == -77));
                let checked = (row.kernels.check_trits)(&row.launch, Packing::MaskSign, &bytes.view(), [rows, columns]);
                assert_eq!(checked, result);
                result.map(|()| vec![trits])
            });
        }
    }
    check("pack_mask_sign with the code 3", EXACT, |row| {
        let mut two_bit = packed(rows, columns, 9);
        two_bit.host_mut::<u8>()?[77] |= 0x0C;
        pack(row, &two_bit, columns).map(|_| vec![])
    });
}

/// What processors use whose instructions for it are slow.
#[test]
fn bits_are_deposited_in_steps_as_by_instructions() {
    for level in Level::ALL.into_iter().filter(|level| level.available()) {
        let spans = level.spans();
        for columns in [1, 7, 63, 64, 65, 257, 1000] {
            let two_bit = packed(3, columns, 10);
            let two_bit = two_bit.host::<u8>().unwrap();
            let form = MaskSign::new(3, columns);
            let mut found = Vec::new();
            for (pack, unpack, trits) in [
                (spans.pack_mask_sign, spans.unpack_mask_sign, spans.mask_sign_trits),
                (spans.pack_mask_sign_in_steps, spans.unpack_mask_sign_in_steps, spans.mask_sign_trits_in_steps),
            ] {
                let (mut mask, mut signs) = (vec![0u8; 3 * form.mask_row], vec![0u8; (3 * columns).div_ceil(8)]);
                let (mut back, mut bytes) = (vec![0u8; columns.div_ceil(4)], vec![0i8; columns]);
                // SAFETY: three rows and what they take at most; then the first row of them.
                unsafe {
                    let n = signs.len();
                    pack(two_bit.as_ptr(), 3, columns, mask.as_mut_ptr(), signs.as_mut_ptr(), n);
                    unpack(mask.as_ptr(), columns, signs.as_ptr(), 0, n, back.as_mut_ptr());
                    trits(mask.as_ptr(), columns, signs.as_ptr(), 0, n, bytes.as_mut_ptr());
                }
                assert_eq!(back, two_bit[..columns.div_ceil(4)], "{} {columns}", level.name());
                found.push((mask, signs, bytes));
            }
            assert!(found[0] == found[1], "{} {columns}", level.name());
        }
    }
}
