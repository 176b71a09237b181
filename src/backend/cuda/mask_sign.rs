//! Trits as mask and signs. What is no such matrix is found on the device, and named on the host: by the row that names it there.

use super::argument::{Pointer, Struct, arguments};
use super::module::Kernel;
use super::rows::Divisor;
use super::stage::Stage;
use super::ternary::check_two_bit;
use crate::backend::Launch;
use crate::backend::scalar::mask_sign::{check_form, check_size};
use crate::backend::scalar::ternary::check_packed;
use crate::backend::table::ON_HOST;
use crate::tensor::{DType, MaskSign, Packing, Result, View, ViewMut};

/// `MaskSign` in cuda/mask_sign.cu.
#[repr(C)]
struct Form {
    rows: u64,
    columns: u64,
    block_rows: u64,
    blocks: u64,
    mask_row: u64,
    packed_row: u64,
    by_mask_row: Divisor,
}

// SAFETY: u64 rows, columns, block_rows, blocks, mask_row, packed_row; Divisor by_mask_row.
unsafe impl Struct for Form {}

impl From<&MaskSign> for Form {
    fn from(form: &MaskSign) -> Form {
        Form {
            rows: form.rows as u64,
            columns: form.columns as u64,
            block_rows: form.block_rows as u64,
            blocks: form.blocks as u64,
            mask_row: form.mask_row as u64,
            packed_row: form.columns.div_ceil(4) as u64,
            by_mask_row: Divisor::new(form.mask_row.max(1)),
        }
    }
}

pub fn mask_sign_bytes(launch: &Launch, packed: &View, columns: usize) -> Result<usize> {
    let form = check_form("mask_sign_bytes", packed, columns)?;
    let mut stage = Stage::new(launch)?;
    let (from, bad) = (stage.input(packed, DType::U8)?, stage.number(false)?);
    check_two_bit(&stage, from, packed.count(), bad)?;
    let [_, total] = offsets(&mut stage, from, &form)?;
    let [bad, total] = stage.look([bad, total])?;
    drop(stage);
    if bad == 0 { form.bytes(total as usize) } else { (ON_HOST.mask_sign_bytes)(launch, packed, columns) } // names the byte
}

/// The place of the signs of each block among all, and the bytes of all of them.
fn offsets(stage: &mut Stage, packed: Pointer, form: &MaskSign) -> Result<[Pointer; 2]> {
    let (sizes, total) = (stage.scratch(form.blocks * size_of::<u64>())?, stage.number(false)?);
    let given = Form::from(form);
    // SAFETY: mask_sign_sizes(packed, form, sizes), a warp for each block.
    unsafe { stage.warps(Kernel::mask_sign_sizes, form.blocks, arguments![packed, &given, sizes]) }?;
    stage.running_sums(sizes, form.blocks, (Pointer(0), 1), total)?;
    Ok([sizes, total])
}

pub fn pack_mask_sign(launch: &Launch, packed: &View, columns: usize, mask_sign: &mut ViewMut) -> Result<()> {
    let form = check_form("pack_mask_sign", packed, columns)?;
    let there = mask_sign.count();
    let mut stage = Stage::new(launch)?;
    let (packed, mask_sign) = (stage.input(packed, DType::U8)?, stage.output(mask_sign, DType::U8)?);
    let [offsets, total] = offsets(&mut stage, packed, &form)?;
    let [total] = stage.look([total])?;
    check_size("pack_mask_sign", form.bytes(total as usize)?, there)?;
    let given = Form::from(&form);
    let arguments = arguments![packed, &given, offsets, mask_sign];
    // SAFETY: pack_mask_sign(packed, form, offsets, mask_sign), a warp for each block.
    unsafe { stage.warps(Kernel::pack_mask_sign, form.blocks, arguments) }?;
    stage.finish()
}

/// FORMAT for bytes that are no matrix of this form.
pub fn check(launch: &Launch, form: &MaskSign, bytes: &View) -> Result<()> {
    let name_it = || (ON_HOST.check_trits)(launch, Packing::MaskSign, bytes, [form.rows, form.columns]);
    if !has_size(form, bytes) {
        return name_it();
    }
    let mut stage = Stage::new(launch)?;
    let from = stage.input(bytes, DType::U8)?;
    let bad = begin_check(&mut stage, form, from, bytes.count())?;
    if stage.finish_if_sound(bad)? { Ok(()) } else { name_it() }
}

/// Whether there are as many bytes as a matrix of this form can have.
fn has_size(form: &MaskSign, bytes: &View) -> bool {
    bytes.count() >= form.signs() && (form.blocks > 0 || bytes.count() == form.signs())
}

/// A word that is set where the bytes are no matrix of this form; they have its size.
fn begin_check(stage: &mut Stage, form: &MaskSign, bytes: Pointer, count: usize) -> Result<Pointer> {
    let (bad, given) = (stage.number(false)?, Form::from(form));
    let arguments = arguments![bytes, count as u64, &given, bad];
    // SAFETY: check_mask_sign(mask_sign, bytes, form, bad), a warp for each block.
    unsafe { stage.warps(Kernel::check_mask_sign, form.blocks, arguments) }?;
    Ok(bad)
}

pub fn unpack_mask_sign(launch: &Launch, mask_sign: &View, columns: usize, packed: &mut ViewMut) -> Result<()> {
    let form = MaskSign::new(packed.dim(0), columns);
    check_packed("unpack_mask_sign", packed.dims(), form.rows, columns, 4)?;
    if decode(launch, &form, mask_sign, Kernel::unpack_mask_sign, packed, DType::U8)? {
        return Ok(());
    }
    (ON_HOST.unpack_mask_sign)(launch, mask_sign, columns, packed) // names the byte or the block
}

pub fn mask_sign_trits(launch: &Launch, mask_sign: &View, trits: &mut ViewMut) -> Result<()> {
    let form = MaskSign::new(trits.dim(0), trits.dim(1));
    if decode(launch, &form, mask_sign, Kernel::mask_sign_trits, trits, DType::I8)? {
        return Ok(());
    }
    (ON_HOST.mask_sign_trits)(launch, mask_sign, trits) // names the byte or the block
}

/// Checks and decodes; false, and nothing is written, where the bytes are no matrix of this form.
fn decode(
    launch: &Launch,
    form: &MaskSign,
    bytes: &View,
    kernel: Kernel,
    to: &mut ViewMut,
    dtype: DType,
) -> Result<bool> {
    let mut stage = Stage::new(launch)?;
    let (from, to) = (stage.input(bytes, DType::U8)?, stage.output(to, dtype)?);
    if !has_size(form, bytes) {
        return Ok(false);
    }
    let (bad, given) = (begin_check(&mut stage, form, from, bytes.count())?, Form::from(form));
    let arguments = arguments![from, bytes.count() as u64, &given, bad, to];
    // SAFETY: kernel(mask_sign, bytes, form, bad, to), a warp for each block.
    unsafe { stage.warps(kernel, form.blocks, arguments) }?;
    stage.finish_if_sound(bad)
}
