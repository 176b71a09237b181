//! Packed trits. Bytes that are no trits are found on the device, and named on the host: by the row that names them there.

use super::argument::{Pointer, arguments};
use super::mask_sign;
use super::module::Kernel;
use super::rows::Rows;
use super::stage::{Stage, THREADS};
use crate::backend::Launch;
use crate::backend::scalar::ternary::{check_packed, check_size};
use crate::backend::table::ON_HOST;
use crate::tensor::{DType, MaskSign, Packing, Result, View, ViewMut};

/// Bytes that a block of threads looks at in a step.
const LOOKED_AT: usize = 16 * THREADS as usize;

pub fn check_trits(launch: &Launch, packing: Packing, packed: &View, [rows, columns]: [usize; 2]) -> Result<()> {
    check_size("check_trits", packing, packed, [rows, columns])?;
    if packing == Packing::MaskSign {
        return mask_sign::check(launch, &MaskSign::new(rows, columns), packed);
    }
    let mut stage = Stage::new(launch)?;
    let (bytes, bad) = (stage.input(packed, DType::U8)?, stage.number(false)?);
    match packing {
        Packing::FivePerByte => check_five(&stage, bytes, [rows, columns], bad)?,
        _ => {
            check_two_bit(&stage, bytes, packed.count(), bad)?;
            let (used, rows) = (columns % 4, Rows::new(rows, columns.div_ceil(4)));
            if used > 0 {
                let arguments = arguments![bytes, &rows, used as u32, bad];
                // SAFETY: check_two_bit_ends(packed, bytes, used, bad), a thread for each row.
                unsafe { stage.launch(Kernel::check_two_bit_ends, rows.thread_blocks(), THREADS, arguments) }?;
            }
        }
    }
    if stage.finish_if_sound(bad)? {
        return Ok(());
    }
    (ON_HOST.check_trits)(launch, packing, packed, [rows, columns]) // names the byte
}

/// Has `bad` set where there is a code 3.
pub fn check_two_bit(stage: &Stage, bytes: Pointer, count: usize, bad: Pointer) -> Result<()> {
    let arguments = arguments![bytes, count as u64, bad];
    // SAFETY: check_two_bit(packed, count, bad).
    unsafe { stage.launch(Kernel::check_two_bit, count.div_ceil(LOOKED_AT), THREADS, arguments) }
}

/// Has `bad` set where there is a byte that no five trits make, or a trit past the last column.
fn check_five(stage: &Stage, bytes: Pointer, [rows, columns]: [usize; 2], bad: Pointer) -> Result<()> {
    let (width, used) = (columns.div_ceil(5), columns % 5);
    let count = rows * width;
    let arguments = arguments![bytes, count as u64, bad];
    // SAFETY: check_five(five, count, bad).
    unsafe { stage.launch(Kernel::check_five, count.div_ceil(LOOKED_AT), THREADS, arguments) }?;
    if used == 0 {
        return Ok(());
    }
    let rows = Rows::new(rows, width);
    let arguments = arguments![bytes, &rows, 3u32.pow(used as u32), bad];
    // SAFETY: check_five_ends(five, bytes, power, bad), a thread for each row.
    unsafe { stage.launch(Kernel::check_five_ends, rows.thread_blocks(), THREADS, arguments) }
}

pub fn pack_two_bit(launch: &Launch, trits: &View, packed: &mut ViewMut) -> Result<()> {
    let (rows, columns) = (trits.dim(0), trits.dim(1));
    check_packed("pack_two_bit", packed.dims(), rows, columns, 4)?;
    let mut stage = Stage::new(launch)?;
    let (trits, packed) = (stage.input(trits, DType::I8)?, stage.output(packed, DType::U8)?);
    let (bytes, columns) = Rows::of_bytes(rows, columns, 4);
    let arguments = arguments![trits, &bytes, columns, packed];
    // SAFETY: pack_two_bit(trits, bytes, columns, packed).
    unsafe { stage.launch(Kernel::pack_two_bit, bytes.wide_blocks(), THREADS, arguments) }?;
    stage.finish()
}

pub fn unpack_two_bit(launch: &Launch, packed: &View, trits: &mut ViewMut) -> Result<()> {
    let (rows, columns) = (trits.dim(0), trits.dim(1));
    check_packed("unpack_two_bit", packed.dims(), rows, columns, 4)?;
    let mut stage = Stage::new(launch)?;
    let (packed, trits) = (stage.input(packed, DType::U8)?, stage.output(trits, DType::I8)?);
    let (bytes, columns) = Rows::of_bytes(rows, columns, 4);
    let arguments = arguments![packed, &bytes, columns, trits];
    // SAFETY: unpack_two_bit(packed, bytes, columns, trits).
    unsafe { stage.launch(Kernel::unpack_two_bit, bytes.wide_blocks(), THREADS, arguments) }?;
    stage.finish()
}

pub fn pack_five(launch: &Launch, packed: &View, columns: usize, five: &mut ViewMut) -> Result<()> {
    let rows = packed.dim(0);
    check_packed("pack_five", packed.dims(), rows, columns, 4)?;
    check_packed("pack_five", five.dims(), rows, columns, 5)?;
    let mut stage = Stage::new(launch)?;
    let (from, to) = (stage.input(packed, DType::U8)?, stage.output(five, DType::U8)?);
    let bad = stage.number(false)?;
    check_two_bit(&stage, from, packed.count(), bad)?;
    let (bytes, parts) = (Rows::new(rows, columns.div_ceil(5)), Rows::parts(rows, columns.div_ceil(5)));
    let arguments = arguments![from, columns.div_ceil(4) as u64, &bytes, &parts, columns as u64, bad, to];
    // SAFETY: pack_five(packed, from, bytes, parts, columns, bad, five).
    unsafe { stage.launch(Kernel::pack_five, parts.blocks(), THREADS, arguments) }?;
    if stage.finish_if_sound(bad)? {
        return Ok(());
    }
    (ON_HOST.pack_five)(launch, packed, columns, five) // names the byte
}

pub fn unpack_five(launch: &Launch, five: &View, columns: usize, packed: &mut ViewMut) -> Result<()> {
    let rows = five.dim(0);
    check_packed("unpack_five", five.dims(), rows, columns, 5)?;
    check_packed("unpack_five", packed.dims(), rows, columns, 4)?;
    let mut stage = Stage::new(launch)?;
    let (from, to) = (stage.input(five, DType::U8)?, stage.output(packed, DType::U8)?);
    let bad = stage.number(false)?;
    check_five(&stage, from, [rows, columns], bad)?;
    let (bytes, parts) = (Rows::new(rows, columns.div_ceil(4)), Rows::parts(rows, columns.div_ceil(4)));
    let arguments = arguments![from, columns.div_ceil(5) as u64, &bytes, &parts, bad, to];
    // SAFETY: unpack_five(five, from, bytes, parts, bad, packed).
    unsafe { stage.launch(Kernel::unpack_five, parts.blocks(), THREADS, arguments) }?;
    if stage.finish_if_sound(bad)? {
        return Ok(());
    }
    (ON_HOST.unpack_five)(launch, five, columns, packed) // names the byte
}

pub fn five_trits(launch: &Launch, five: &View, trits: &mut ViewMut) -> Result<()> {
    let (rows, columns) = (trits.dim(0), trits.dim(1));
    check_packed("five_trits", five.dims(), rows, columns, 5)?;
    let mut stage = Stage::new(launch)?;
    let (from, to) = (stage.input(five, DType::U8)?, stage.output(trits, DType::I8)?);
    let bad = stage.number(false)?;
    check_five(&stage, from, [rows, columns], bad)?;
    let (fours, parts) = (Rows::new(rows, columns.div_ceil(4)), Rows::parts(rows, columns));
    let arguments = arguments![from, columns.div_ceil(5) as u64, &fours, &parts, columns as u64, bad, to];
    // SAFETY: five_trits(five, from, fours, parts, columns, bad, trits).
    unsafe { stage.launch(Kernel::five_trits, parts.blocks(), THREADS, arguments) }?;
    if stage.finish_if_sound(bad)? {
        return Ok(());
    }
    (ON_HOST.five_trits)(launch, five, trits) // names the byte
}
