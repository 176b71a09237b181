//! Trits as a mask of those that are not zero and the signs of these: `tensor/packing.rs` says where they lie.

use super::ternary::{check_packed, check_two_bit, trit};
use crate::backend::Launch;
use crate::tensor::error::{ensure, error};
use crate::tensor::{MaskSign, Result, View, ViewMut};

pub fn mask_sign_bytes(_: &Launch, packed: &View, columns: usize) -> Result<usize> {
    let form = check_form("mask_sign_bytes", packed, columns)?;
    let bytes = packed.slice::<u8>()?;
    check_two_bit(bytes)?;
    form.bytes((0..form.blocks).map(|block| signs_of(&form, bytes, block).count().div_ceil(8)).sum())
}

pub fn pack_mask_sign(launch: &Launch, packed: &View, columns: usize, mask_sign: &mut ViewMut) -> Result<()> {
    let form = check_form("pack_mask_sign", packed, columns)?;
    check_size("pack_mask_sign", mask_sign_bytes(launch, packed, columns)?, mask_sign.count())?;
    let (from, to) = (packed.slice::<u8>()?, mask_sign.slice_mut::<u8>()?);
    to.fill(0);
    let width = columns.div_ceil(4);
    for row in 0..form.rows {
        for k in (0..columns).filter(|&k| trit(&from[row * width..], k) != 0) {
            to[form.mask() + row * form.mask_row + k / 8] |= 1 << (k % 8);
        }
    }
    let mut next = 0;
    for block in 0..form.blocks {
        to[4 * block..4 * block + 4].copy_from_slice(&(next as u32).to_le_bytes());
        let mut count = 0;
        for (i, negative) in signs_of(&form, from, block).enumerate() {
            to[form.signs() + next + i / 8] |= u8::from(negative) << (i % 8);
            count += 1;
        }
        next += usize::div_ceil(count, 8);
    }
    Ok(())
}

/// Whether each trit of a block that is not zero is negative.
fn signs_of<'a>(form: &MaskSign, packed: &'a [u8], block: usize) -> impl Iterator<Item = bool> + 'a {
    let (columns, width) = (form.columns, form.columns.div_ceil(4));
    let trits = form.rows_of(block).flat_map(move |row| (0..columns).map(move |k| trit(&packed[row * width..], k)));
    trits.filter(|&t| t != 0).map(|t| t < 0)
}

pub fn unpack_mask_sign(_: &Launch, mask_sign: &View, columns: usize, packed: &mut ViewMut) -> Result<()> {
    let form = MaskSign::new(packed.dim(0), columns);
    check_packed("unpack_mask_sign", packed.dims(), form.rows, columns, 4)?;
    let (from, to) = (mask_sign.slice::<u8>()?, packed.slice_mut::<u8>()?);
    check_mask_sign(&form, from)?;
    to.fill(0x55);
    let width = columns.div_ceil(4);
    each_trit(&form, from, |row, k, t| {
        let (byte, shift) = (&mut to[row * width + k / 4], 2 * (k % 4));
        *byte = *byte & !(3 << shift) | ((t + 1) as u8) << shift;
    });
    Ok(())
}

pub fn mask_sign_trits(_: &Launch, mask_sign: &View, trits: &mut ViewMut) -> Result<()> {
    let form = MaskSign::new(trits.dim(0), trits.dim(1));
    let (from, to) = (mask_sign.slice::<u8>()?, trits.slice_mut::<i8>()?);
    check_mask_sign(&form, from)?;
    to.fill(0);
    each_trit(&form, from, |row, k, t| to[row * form.columns + k] = t);
    Ok(())
}

/// Calls `each(row, column, t)` for every trit that is not zero.
fn each_trit(form: &MaskSign, bytes: &[u8], mut each: impl FnMut(usize, usize, i8)) {
    for block in 0..form.blocks {
        let mut next = 8 * (form.signs() + offset(bytes, block));
        for row in form.rows_of(block) {
            for k in (0..form.columns).filter(|&k| bit(bytes, 8 * (form.mask() + row * form.mask_row) + k)) {
                each(row, k, if bit(bytes, next) { -1 } else { 1 });
                next += 1;
            }
        }
    }
}

fn bit(bytes: &[u8], i: usize) -> bool {
    bytes[i / 8] >> (i % 8) & 1 == 1
}

/// Where the signs of a block begin.
pub fn offset(bytes: &[u8], block: usize) -> usize {
    bytes[4 * block..4 * block + 4].iter().rev().fold(0, |offset, &byte| offset << 8 | usize::from(byte))
}

/// FORMAT for bytes that are no matrix of this form, naming the block or the byte.
pub fn check_mask_sign(form: &MaskSign, bytes: &[u8]) -> Result<()> {
    check_offsets(form, bytes)?;
    for block in 0..form.blocks {
        check_block(form, bytes, block)?;
    }
    Ok(())
}

/// The offsets begin at 0, rise, and end inside: what makes it safe to look at the blocks.
pub fn check_offsets(form: &MaskSign, bytes: &[u8]) -> Result<()> {
    let (there, least) = (bytes.len(), form.signs());
    ensure!(there >= least, Format, "the packed trits are cut: {there} bytes, offsets and mask take {least}");
    let signs = there - least;
    ensure!(form.blocks > 0 || signs == 0, Format, "the packed trits have {signs} bytes of signs for no rows");
    let mut last = 0;
    for block in 0..form.blocks {
        let next = offset(bytes, block);
        ensure!(
            (block > 0 || next == 0) && next >= last && next <= signs,
            Format,
            "the signs of block {block} begin at byte {next}, after {last} of the {signs} that there are"
        );
        last = next;
    }
    Ok(())
}

/// The mask of a block and its bytes of signs agree, and no bit that nothing stands for is set.
pub fn check_block(form: &MaskSign, bytes: &[u8], block: usize) -> Result<()> {
    let mut count = 0;
    for row in form.rows_of(block) {
        let start = form.mask() + row * form.mask_row;
        let mask = &bytes[start..start + form.mask_row];
        count += mask.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
        let past = form.columns % 8;
        if past != 0 && mask[form.mask_row - 1] >> past != 0 {
            let (at, byte) = (start + form.mask_row - 1, mask[form.mask_row - 1]);
            return Err(error!(
                Format,
                "byte {at} of the packed trits is {byte:#04x}, with a trit past the last column"
            ));
        }
    }
    let end = if block + 1 < form.blocks { offset(bytes, block + 1) } else { bytes.len() - form.signs() };
    let (needed, found) = (count.div_ceil(8), end - offset(bytes, block));
    ensure!(
        needed == found,
        Format,
        "block {block} of the packed trits has {count} that are not zero, whose signs take {needed} bytes, and {found}"
    );
    if count % 8 != 0 {
        let at = form.signs() + end - 1;
        let byte = bytes[at];
        ensure!(byte >> (count % 8) == 0, Format, "byte {at} of the packed trits is {byte:#04x}, with a sign too many");
    }
    Ok(())
}

/// packed is [n, ceil(columns / 4)].
pub fn check_form(name: &str, packed: &View, columns: usize) -> Result<MaskSign> {
    let form = MaskSign::new(packed.dim(0), columns);
    check_packed(name, packed.dims(), form.rows, columns, 4)?;
    Ok(form)
}

pub fn check_size(name: &str, expected: usize, found: usize) -> Result<()> {
    ensure!(found == expected, Shape, "{name}: the trits take {expected} bytes, there are {found}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    fn pack(two_bit: &[u8], [n, k]: [usize; 2]) -> Vec<u8> {
        let packed = view(two_bit, &[n, k.div_ceil(4)]);
        let bytes = (KERNELS.mask_sign_bytes)(&launch(), &packed, k).unwrap();
        let mut found = vec![0xEE; bytes];
        (KERNELS.pack_mask_sign)(&launch(), &packed, k, &mut view_mut(&mut found, &[bytes])).unwrap();
        found
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        // 1 -1 0 0 0 -1 / 0 0 1 -1 1 0: one block, masks 0b100011 and 0b011100, signs - of + - - + - +.
        let two_bit = [0b01_01_00_10, 0b01_01_00_01, 0b00_10_01_01, 0b01_01_01_10];
        assert_eq!(pack(&two_bit, [2, 6]), [0, 0, 0, 0, 0b10_0011, 0b01_1100, 0b010110]);
        assert_eq!(pack(&[0x55, 0x55], [2, 3]), [0, 0, 0, 0, 0, 0]);
        assert_eq!(pack(&[], [0, 3]), [0u8; 0]);
    }

    #[test]
    fn blocks_have_offsets() {
        // Three rows of 2048 ones: each a block of 256 bytes of signs.
        let found = pack(&[0b10_10_10_10; 3 * 512], [3, 2048]);
        assert_eq!(found.len(), 12 + 3 * 256 + 3 * 256);
        assert_eq!(found[..12], [0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]);
        assert!(
            found[12..12 + 768].iter().all(|&mask| mask == 0xFF) && found[12 + 768..].iter().all(|&sign| sign == 0)
        );
    }

    #[test]
    fn trits_come_back() {
        for [n, k] in [[1, 1], [3, 7], [2, 63], [5, 65], [1, 4100], [700, 9], [3, 0]] {
            let trits: Vec<i8> = integers(9, n * k, 3).into_iter().map(|digit| digit as i8 - 1).collect();
            let mut two_bit = vec![0; n * k.div_ceil(4)];
            (KERNELS.pack_two_bit)(&launch(), &view(&trits, &[n, k]), &mut view_mut(&mut two_bit, &[n, k.div_ceil(4)]))
                .unwrap();
            let packed = pack(&two_bit, [n, k]);
            let (mut back, mut again) = (vec![9i8; n * k], vec![0xEE; two_bit.len()]);
            let from = view(&packed, &[packed.len()]);
            (KERNELS.mask_sign_trits)(&launch(), &from, &mut view_mut(&mut back, &[n, k])).unwrap();
            (KERNELS.unpack_mask_sign)(&launch(), &from, k, &mut view_mut(&mut again, &[n, k.div_ceil(4)])).unwrap();
            assert_eq!((back, again), (trits, two_bit), "{n} x {k}");
        }
    }

    /// Whatever the bytes: what is not refused is the one form of what it decodes to.
    #[test]
    fn every_flipped_bit_is_refused_or_means_another_matrix() {
        let [n, k] = [5, 461];
        let trits: Vec<i8> = integers(10, n * k, 3).into_iter().map(|digit| digit as i8 - 1).collect();
        let mut two_bit = vec![0; n * k.div_ceil(4)];
        (KERNELS.pack_two_bit)(&launch(), &view(&trits, &[n, k]), &mut view_mut(&mut two_bit, &[n, k.div_ceil(4)]))
            .unwrap();
        let good = pack(&two_bit, [n, k]);
        let unpack = |bytes: &[u8]| {
            let mut packed = vec![0; two_bit.len()];
            let result = (KERNELS.unpack_mask_sign)(
                &launch(),
                &view(bytes, &[bytes.len()]),
                k,
                &mut view_mut(&mut packed, &[n, k.div_ceil(4)]),
            );
            result.map(|()| packed)
        };
        let (mut refused, mut other) = (0, 0);
        for bit in 0..good.len() * 8 {
            let mut damaged = good.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match unpack(&damaged) {
                Err(error) => {
                    assert_eq!(error.kind, crate::tensor::ErrorKind::Format);
                    refused += 1;
                }
                Ok(packed) => {
                    assert_eq!(pack(&packed, [n, k]), damaged, "bit {bit}");
                    other += 1;
                }
            }
        }
        // A sign may be another; a mask bit only where the number of bytes of signs stays.
        assert!(refused > 32 && other > n * k / 2, "{refused} and {other}");
        for length in (0..good.len()).chain([good.len() + 1]) {
            let mut cut = good.clone();
            cut.resize(length, 0);
            assert_eq!(unpack(&cut).unwrap_err().kind, crate::tensor::ErrorKind::Format, "{length}");
        }
    }
}
