//! Numbers as the nearest entries of a codebook. Codes that are no entries are found on the device, and named on the host.

use super::argument::arguments;
use super::module::Kernel;
use super::stage::{Stage, narrow};
use crate::backend::Launch;
use crate::backend::scalar::codebook::{bits, check_codes, check_labels};
use crate::backend::table::ON_HOST;
use crate::tensor::{DType, Result, View, ViewMut};

pub fn codebook_labels(launch: &Launch, x: &View, thresholds: &View, labels: &mut ViewMut) -> Result<()> {
    check_labels(x, &labels.as_view())?;
    let (n, count) = (x.count(), narrow(thresholds.count())?);
    let mut stage = Stage::new(launch)?;
    let (x, thresholds) = (stage.input(x, DType::F32)?, stage.input(thresholds, DType::F32)?);
    let labels = stage.output(labels, DType::U32)?;
    // SAFETY: codebook_labels(x, thresholds, count, labels, n).
    unsafe { stage.map(Kernel::codebook_labels, n, arguments![x, thresholds, count, labels, n as u64]) }?;
    stage.finish()
}

pub fn codebook_pack(launch: &Launch, x: &View, thresholds: &View, packed: &mut ViewMut) -> Result<()> {
    let (n, count) = (x.count(), narrow(thresholds.count())?);
    let entries = thresholds.count() + 1;
    check_codes("codebook_pack", n, entries, &packed.as_view())?;
    let mut stage = Stage::new(launch)?;
    let (x, thresholds) = (stage.input(x, DType::F32)?, stage.input(thresholds, DType::F32)?);
    let packed = stage.output(packed, DType::U8)?;
    let (kernel, threads) =
        if bits(entries) == 4 { (Kernel::codebook_pack_two, n.div_ceil(2)) } else { (Kernel::codebook_pack, n) };
    // SAFETY: codebook_pack(x, thresholds, count, packed, n), and the other of the same.
    unsafe { stage.map(kernel, threads, arguments![x, thresholds, count, packed, n as u64]) }?;
    stage.finish()
}

pub fn codebook_unpack(launch: &Launch, packed: &View, entries: &View, y: &mut ViewMut) -> Result<()> {
    let (n, k, bytes) = (y.count(), entries.count(), packed.count());
    check_codes("codebook_unpack", n, k, packed)?;
    let width = bits(k) as u32;
    let mut stage = Stage::new(launch)?;
    let (from, table) = (stage.input(packed, DType::U8)?, stage.input(entries, DType::F32)?);
    let to = stage.output(y, DType::F32)?;
    let bad = stage.number(false)?;
    // SAFETY: codebook_check(packed, n, entries, bits, bad).
    unsafe { stage.map(Kernel::codebook_check, bytes, arguments![from, n as u64, k as u32, width, bad]) }?;
    // SAFETY: codebook_unpack(packed, entries, bits, bad, y, n).
    unsafe { stage.map(Kernel::codebook_unpack, n, arguments![from, table, width, bad, to, n as u64]) }?;
    if stage.finish_if_sound(bad)? {
        return Ok(());
    }
    (ON_HOST.codebook_unpack)(launch, packed, entries, y) // names the code
}
