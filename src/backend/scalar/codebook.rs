//! Numbers as the nearest entries of a codebook.

use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Result, View, ViewMut};

/// Bits of the code of a codebook with this many entries: two codes a byte, or one.
pub fn bits(entries: usize) -> usize {
    if entries <= 16 { 4 } else { 8 }
}

/// SHAPE unless `codes` has the bytes of n codes of so many entries, 1 to 256.
pub fn check_codes(operation: &str, n: usize, entries: usize, codes: &View) -> Result<()> {
    ensure!((1..=256).contains(&entries), Shape, "{operation}: there are {entries} entries, expected 1 to 256");
    let (bytes, there) = ((n * bits(entries)).div_ceil(8), codes.count());
    ensure!(there == bytes, Shape, "{operation}: {n} codes of {entries} entries are {bytes} bytes, packed has {there}");
    Ok(())
}

/// SHAPE unless there is a label for each number.
pub fn check_labels(x: &View, labels: &View) -> Result<()> {
    let (n, there) = (x.count(), labels.count());
    ensure!(n == there, Shape, "codebook_labels: x has {n} elements, labels have {there}");
    Ok(())
}

/// FORMAT, with the position, for a code that is no entry, and for what stands past the last code.
#[inline]
pub fn check_entries(packed: &[u8], n: usize, entries: usize) -> Result<()> {
    for i in 0..n {
        let code = code(packed, bits(entries), i);
        ensure!(code < entries, Format, "code {i} of packed is {code}, the codebook has {entries} entries");
    }
    let past = if bits(entries) == 4 && n % 2 == 1 { packed[n / 2] >> 4 } else { 0 };
    ensure!(past == 0, Format, "packed holds {past} past the last of {n} codes, expected 0");
    Ok(())
}

#[inline]
fn code(packed: &[u8], bits: usize, i: usize) -> usize {
    usize::from(if bits == 8 { packed[i] } else { packed[i / 2] >> (4 * (i % 2)) & 15 })
}

fn label(x: f32, thresholds: &[f32]) -> usize {
    thresholds.iter().filter(|&&threshold| threshold < x).count()
}

pub fn codebook_labels(_: &Launch, x: &View, thresholds: &View, labels: &mut ViewMut) -> Result<()> {
    check_labels(x, &labels.as_view())?;
    let (x, thresholds) = (x.slice::<f32>()?, thresholds.slice::<f32>()?);
    for (to, &x) in labels.slice_mut::<u32>()?.iter_mut().zip(x) {
        *to = label(x, thresholds) as u32;
    }
    Ok(())
}

pub fn codebook_pack(_: &Launch, x: &View, thresholds: &View, packed: &mut ViewMut) -> Result<()> {
    let entries = thresholds.count() + 1;
    check_codes("codebook_pack", x.count(), entries, &packed.as_view())?;
    let (x, thresholds) = (x.slice::<f32>()?, thresholds.slice::<f32>()?);
    let a_byte = 8 / bits(entries);
    for (byte, x) in packed.slice_mut::<u8>()?.iter_mut().zip(x.chunks(a_byte)) {
        *byte = x.iter().enumerate().map(|(i, &x)| (label(x, thresholds) as u8) << (4 * i)).sum();
    }
    Ok(())
}

pub fn codebook_unpack(_: &Launch, packed: &View, entries: &View, y: &mut ViewMut) -> Result<()> {
    let (n, k) = (y.count(), entries.count());
    check_codes("codebook_unpack", n, k, packed)?;
    let (packed, entries, y) = (packed.slice::<u8>()?, entries.slice::<f32>()?, y.slice_mut::<f32>()?);
    check_entries(packed, n, k)?;
    for (i, y) in y.iter_mut().enumerate() {
        *y = entries[code(packed, bits(k), i)];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    #[test]
    fn two_codes_of_up_to_16_entries_share_a_byte() {
        let (x, thresholds) = ([-1.0f32, 0.5, 0.6, 7.0, 9.0], [0.5f32, 8.0]);
        let mut packed = [0xFFu8; 3];
        let (x, t) = (view(&x, &[5]), view(&thresholds, &[2]));
        (KERNELS.codebook_pack)(&launch(), &x, &t, &mut view_mut(&mut packed, &[3])).unwrap();
        assert_eq!(packed, [0x00, 0x11, 0x02]);
        let mut labels = [7u32; 5];
        (KERNELS.codebook_labels)(&launch(), &x, &t, &mut view_mut(&mut labels, &[5])).unwrap();
        assert_eq!(labels, [0, 0, 1, 1, 2]);
        let mut y = [0f32; 5];
        let unpack = |packed: &[u8], y: &mut [f32]| {
            let (n, entries) = (y.len(), [-1.0f32, 2.0, 10.0]);
            (KERNELS.codebook_unpack)(&launch(), &view(packed, &[3]), &view(&entries, &[3]), &mut view_mut(y, &[n]))
        };
        unpack(&packed, &mut y).unwrap();
        assert_eq!(y, [-1.0, -1.0, 2.0, 2.0, 10.0]);
        let refused = |packed: &[u8]| unpack(packed, &mut [0f32; 5]).unwrap_err();
        assert_eq!(refused(&[0, 0x31, 2]).message, "code 3 of packed is 3, the codebook has 3 entries");
        assert_eq!(refused(&[0, 0, 0x12]).message, "packed holds 1 past the last of 5 codes, expected 0");
        assert_eq!(refused(&[0, 0, 0x12]).kind, ErrorKind::Format);
        assert_eq!(unpack(&packed, &mut [0f32; 7]).unwrap_err().kind, ErrorKind::Shape);
    }

    #[test]
    fn more_entries_take_a_byte_each() {
        let thresholds: Vec<f32> = (0..255).map(|i| i as f32 + 0.5).collect();
        let x: Vec<f32> = (0..256).map(|i| i as f32).collect();
        let mut packed = [0u8; 256];
        let to = &mut view_mut(&mut packed, &[256]);
        (KERNELS.codebook_pack)(&launch(), &view(&x, &[256]), &view(&thresholds, &[255]), to).unwrap();
        assert!((0..256).all(|i| usize::from(packed[i]) == i));
        let short = (KERNELS.codebook_pack)(
            &launch(),
            &view(&x, &[256]),
            &view(&thresholds, &[255]),
            &mut view_mut(&mut packed[..255], &[255]),
        );
        assert_eq!(short.unwrap_err().kind, ErrorKind::Shape);
    }
}
