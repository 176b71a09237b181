//! Queries, keys and values in one launch. See cuda/matmul_ternary_qkv.cu.

use super::argument::{Last, Pointer, Struct, arguments};
use super::matmul_ternary::{Columns, Form, UNIT, codes_of, trits_of};
use super::module::Kernel;
use super::stage::{Stage, blocks_of, narrow};
use crate::backend::Launch;
use crate::backend::scalar::matmul_ternary_qkv::check;
use crate::tensor::{DType, Packing, Result, View, ViewMut};

/// As cuda/matmul_ternary_qkv.cu has it.
#[repr(C)]
struct QkvProduct {
    codes: Pointer,
    scales: Pointer,
    trits: [Pointer; 3],
    weight_scales: [Pointer; 3],
    cosine: Pointer,
    sine: Pointer,
    y: [Pointer; 3],
    m: u64,
    length: u32,
    head: u32,
    q_rows: u32,
    kv_rows: u32,
    columns: Last<u32>,
}

// SAFETY: const signed char *codes; const float *scales; const unsigned char *q_trits, *k_trits, *v_trits; const float *q_scale,
// *k_scale, *v_scale, *cosine, *sine; float *q, *k, *v; u64 m; unsigned length, head, q_rows, kv_rows, columns.
unsafe impl Struct for QkvProduct {}

pub fn matmul_ternary_qkv(
    launch: &Launch,
    codes: &View,
    scales: &View,
    q_packed: &View,
    q_scale: &View,
    k_packed: &View,
    k_scale: &View,
    v_packed: &View,
    v_scale: &View,
    cosine: &View,
    sine: &View,
    q: &mut ViewMut,
    k: &mut ViewMut,
    v: &mut ViewMut,
) -> Result<()> {
    let weights = [(q_packed, q_scale), (k_packed, k_scale), (v_packed, v_scale)];
    let groups = check(codes, scales, weights, [cosine, sine], [q.dims(), k.dims(), v.dims()])?;
    let (m, columns) = (codes.dim(0), Columns::plain(codes.dim(1), UNIT));
    let (length, head) = (q.dim(1), q.dim(3));
    let [q_rows, kv_rows, _] = groups.map(|groups| groups.rows);
    let mut stage = Stage::new(launch)?;
    let (codes, scales) = (stage.input(codes, DType::I8)?, stage.input(scales, DType::F32)?);
    let mut packed = [Pointer(0); 3];
    let mut weight_scales = [Pointer(0); 3];
    for (i, (trits, scale)) in weights.into_iter().enumerate() {
        (packed[i], weight_scales[i]) = (stage.input(trits, DType::U8)?, stage.input(scale, DType::F32)?);
    }
    let (cosine, sine) = (stage.input(cosine, DType::F32)?, stage.input(sine, DType::F32)?);
    let y = [stage.output(q, DType::F32)?, stage.output(k, DType::F32)?, stage.output(v, DType::F32)?];
    if m == 0 || q_rows + kv_rows == 0 {
        return stage.finish();
    }
    let mut trits = [Pointer(0); 3];
    for (i, rows) in [q_rows, kv_rows, kv_rows].into_iter().enumerate() {
        trits[i] = trits_of(&mut stage, Packing::TwoBit, packed[i], rows, columns, 16)?;
    }
    narrow(m)?;
    let product = QkvProduct {
        codes: codes_of(&mut stage, codes, m, columns)?,
        scales,
        trits,
        weight_scales,
        cosine,
        sine,
        y,
        m: m as u64,
        length: narrow(length)?,
        head: narrow(head)?,
        q_rows: narrow(q_rows)?,
        kv_rows: narrow(kv_rows)?,
        columns: narrow(columns.pitch)?.into(),
    };
    // Rows of x and of the weights of a tile.
    let multiprocessors = stage.gpu.multiprocessors() as usize;
    let across = |width: usize| q_rows.div_ceil(width) + 2 * kv_rows.div_ceil(width);
    let tiles = |side: usize| m.div_ceil(side).saturating_mul(across(side));
    let form = match m {
        ..=8 => Form::few(Kernel::matmul_ternary_qkv_8, 8, 16),
        9..=16 => Form::few(Kernel::matmul_ternary_qkv_16, 16, 16),
        _ if tiles(128) < multiprocessors => Form::tile(Kernel::matmul_ternary_qkv_small, 64, 64, 128),
        _ => Form::tile(Kernel::matmul_ternary_qkv, 128, 128, 128),
    };
    let (grid, block) = ([blocks_of(&[m.div_ceil(form.rows), across(form.columns)])?, 1, 1], [form.threads, 1, 1]);
    // SAFETY: kernel(product), a block for each tile.
    unsafe { stage.gpu.launch(form.kernel, grid, block, form.shared(), arguments![&product]) }?;
    stage.finish()
}
