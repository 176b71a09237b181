//! Numbers as the nearest entries of a codebook: `scalar/codebook.rs` for the vector units.

use super::chunks::{self, Shared};
use crate::backend::Launch;
use crate::backend::scalar::codebook::{bits, check_codes, check_entries, check_labels};
use crate::tensor::{Result, View, ViewMut, reserve};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The thresholds and infinities up to the next 2^p - 1, 15 at least: a search halves them p times, wherever it goes.
fn filled(thresholds: &[f32]) -> Result<Vec<f32>> {
    let mut filled = Vec::new();
    let size = (thresholds.len() + 1).next_power_of_two().max(16) - 1;
    reserve(&mut filled, size)?;
    filled.extend_from_slice(thresholds);
    filled.resize(size, f32::INFINITY);
    Ok(filled)
}

pub fn codebook_labels(launch: &Launch, x: &View, thresholds: &View, labels: &mut ViewMut) -> Result<()> {
    check_labels(x, &labels.as_view())?;
    let (x, thresholds) = (x.slice::<f32>()?, filled(thresholds.slice()?)?);
    let labels = Shared::new(labels.slice_mut::<u32>()?);
    chunks::run(launch, x.len(), chunks::elements(x.len()), |range| {
        let x = &x[range.clone()];
        // SAFETY: chunks are disjoint, both have the length of the range, and there are 2^p - 1 thresholds.
        unsafe {
            let to = labels.part(range).as_mut_ptr();
            (launch.spans.codebook_labels)(x.as_ptr(), x.len(), thresholds.as_ptr(), thresholds.len(), to);
        }
    });
    Ok(())
}

pub fn codebook_pack(launch: &Launch, x: &View, thresholds: &View, packed: &mut ViewMut) -> Result<()> {
    let entries = thresholds.count() + 1;
    check_codes("codebook_pack", x.count(), entries, &packed.as_view())?;
    let (x, thresholds) = (x.slice::<f32>()?, filled(thresholds.slice()?)?);
    let (a_byte, packed) = (8 / bits(entries), Shared::new(packed.slice_mut::<u8>()?));
    // Chunks are multiples of two numbers.
    chunks::run(launch, x.len(), chunks::elements(x.len()), |range| {
        let x = &x[range.clone()];
        // SAFETY: chunks are disjoint, the bytes are those of the range, and there are 2^p - 1 thresholds.
        unsafe {
            let to = packed.part(range.start / a_byte..range.end.div_ceil(a_byte)).as_mut_ptr();
            (launch.spans.codebook_pack)(x.as_ptr(), x.len(), thresholds.as_ptr(), thresholds.len(), to);
        }
    });
    Ok(())
}

pub fn codebook_unpack(launch: &Launch, packed: &View, entries: &View, y: &mut ViewMut) -> Result<()> {
    let (n, k) = (y.count(), entries.count());
    check_codes("codebook_unpack", n, k, packed)?;
    let (packed, entries, y) = (packed.slice::<u8>()?, entries.slice::<f32>()?, y.slice_mut::<f32>()?);
    check(launch, packed, n, k)?;
    let mut table = [0f32; 256];
    table[..k].copy_from_slice(entries);
    let (a_byte, y) = (8 / bits(k), Shared::new(y));
    chunks::run(launch, n, chunks::elements(n), |range| {
        let packed = &packed[range.start / a_byte..];
        // SAFETY: chunks are disjoint, and the bytes from the range's first on hold its codes; the table has an entry for each.
        unsafe {
            let y = y.part(range);
            (launch.spans.codebook_unpack)(packed.as_ptr(), y.len(), table.as_ptr(), bits(k), y.as_mut_ptr());
        }
    });
    Ok(())
}

/// All codes are below k, and nothing stands past the last.
fn check(launch: &Launch, packed: &[u8], n: usize, k: usize) -> Result<()> {
    let sound = AtomicBool::new(true);
    let wide = bits(k) == 8;
    // Codes in the high half of a byte are compared there.
    let (low, high) = if wide { (255, k as u32 - 1) } else { (15, (k as u32 - 1) << 4 | 15) };
    chunks::run(launch, packed.len(), chunks::elements(packed.len()), |range| {
        let most = packed[range].iter().fold([0; 2], |[a, b]: [u8; 2], &byte| [a.max(byte & low), b.max(byte)]);
        if u32::from(most[0]) > k as u32 - 1 || u32::from(most[1]) > high {
            sound.store(false, Relaxed);
        }
    });
    // The half past the last code of 4 bits is 0.
    let odd = !wide && n % 2 == 1 && packed.last().is_some_and(|&last| last >> 4 != 0);
    if sound.into_inner() && !odd { Ok(()) } else { check_entries(packed, n, k) } // names the code
}
