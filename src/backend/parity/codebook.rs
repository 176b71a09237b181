use super::{EXACT, SIZES, check, dirty, normal};
use crate::tensor::{DType, Result, Tensor};

/// Past a chunk, and odd.
const LARGE: usize = 70_001;

/// Entries of codes of 4 bits and 8, at both ends and between.
const ENTRIES: [usize; 8] = [1, 2, 3, 15, 16, 17, 200, 256];

/// Ascending thresholds of so many entries; the last are infinite.
fn thresholds(entries: usize) -> Result<Tensor> {
    let mut values: Vec<f32> = (1..entries).map(|i| (i as f32 / entries as f32 - 0.5) * 4.0).collect();
    if let Some(last) = values.last_mut().filter(|_| entries > 3) {
        *last = f32::INFINITY;
    }
    Tensor::from_slice(&values, &[entries - 1])
}

fn bytes(n: usize, entries: usize) -> usize {
    if entries <= 16 { n.div_ceil(2) } else { n }
}

#[test]
fn labels() {
    for n in SIZES.into_iter().chain([LARGE]) {
        for entries in ENTRIES.into_iter().chain([257, 1000, 65536]) {
            check(&format!("codebook_labels of {n} by {entries}"), EXACT, |row| {
                let (x, thresholds, mut labels) = (normal(&[n], 1), thresholds(entries)?, dirty(DType::U32, &[n]));
                let to = &mut labels.view_mut();
                (row.kernels.codebook_labels)(&row.launch, &x.view(), &thresholds.view(), to)?;
                Ok(vec![labels])
            });
        }
    }
}

#[test]
fn pack_and_unpack() {
    for n in SIZES.into_iter().chain([LARGE]) {
        for entries in ENTRIES {
            check(&format!("codebook_pack and codebook_unpack of {n} by {entries}"), EXACT, |row| {
                let (x, thresholds) = (normal(&[n], 1), thresholds(entries)?);
                let mut packed = dirty(DType::U8, &[bytes(n, entries)]);
                let to = &mut packed.view_mut();
                (row.kernels.codebook_pack)(&row.launch, &x.view(), &thresholds.view(), to)?;
                let (table, mut y) = (normal(&[entries], 2), dirty(DType::F32, &[n]));
                (row.kernels.codebook_unpack)(&row.launch, &packed.view(), &table.view(), &mut y.view_mut())?;
                Ok(vec![packed, y])
            });
        }
    }
}

/// Every row refuses the same codes, and leaves what it would have written as it was.
#[test]
fn codes_that_are_no_entries_are_refused() {
    for (n, entries) in [(1, 3), (2, 15), (9, 15), (9, 17), (LARGE, 10), (LARGE, 255)] {
        for at in [0, n / 2, n - 1] {
            check(&format!("codebook_unpack of {n} by {entries}, bad at {at}"), EXACT, |row| {
                let mut packed = Tensor::zeros(DType::U8, &[bytes(n, entries)])?;
                let (byte, code) = if entries <= 16 { (at / 2, entries << (4 * (at % 2))) } else { (at, entries) };
                packed.host_mut::<u8>()?[byte] = code as u8;
                let (table, mut y) = (normal(&[entries], 2), normal(&[n], 3));
                let result =
                    (row.kernels.codebook_unpack)(&row.launch, &packed.view(), &table.view(), &mut y.view_mut());
                let message = result.unwrap_err().message;
                assert_eq!(message, format!("code {at} of packed is {entries}, the codebook has {entries} entries"));
                Ok(vec![y])
            });
        }
    }
    check("codebook_unpack of what is past the end", EXACT, |row| {
        let (packed, table, mut y) = (Tensor::from_slice(&[0u8, 0x10], &[2])?, normal(&[16], 2), normal(&[3], 3));
        (row.kernels.codebook_unpack)(&row.launch, &packed.view(), &table.view(), &mut y.view_mut())?;
        Ok(vec![y])
    });
    check("codebook_pack into another size", EXACT, |row| {
        let (x, thresholds, mut packed) = (normal(&[7], 1), thresholds(16)?, dirty(DType::U8, &[3]));
        (row.kernels.codebook_pack)(&row.launch, &x.view(), &thresholds.view(), &mut packed.view_mut())?;
        Ok(vec![packed])
    });
    check("codebook_labels into another size", EXACT, |row| {
        let (x, thresholds, mut labels) = (normal(&[7], 1), thresholds(16)?, dirty(DType::U32, &[6]));
        (row.kernels.codebook_labels)(&row.launch, &x.view(), &thresholds.view(), &mut labels.view_mut())?;
        Ok(vec![labels])
    });
}
