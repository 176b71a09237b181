//! Attention of one token on keys and values in 8 bits, by chunks of keys.

use super::argument::arguments;
use super::attention::{AttentionSizes, Chunks};
use super::module::Kernel;
use super::stage::{Stage, blocks_of};
use crate::backend::Launch;
use crate::backend::scalar::attention_cached::check;
use crate::tensor::{DType, Result, View, ViewMut};

pub fn attention_cached(
    launch: &Launch,
    q: &View,
    k: &View,
    k_scales: &View,
    v: &View,
    v_scales: &View,
    o: &mut ViewMut,
) -> Result<()> {
    let sizes = check(q, [k, k_scales, v, v_scales], o.dims())?;
    let mut stage = Stage::new(launch)?;
    let q = stage.input(q, DType::F32)?;
    let (k, k_scales) = (stage.input(k, DType::I8)?, stage.input(k_scales, DType::F32)?);
    let (v, v_scales) = (stage.input(v, DType::I8)?, stage.input(v_scales, DType::F32)?);
    let o = stage.output(o, DType::F32)?;
    if sizes.heads * sizes.head == 0 {
        return stage.finish();
    }
    let given = AttentionSizes::new(&sizes)?;
    let chunks = Chunks::new(&mut stage, &sizes)?;
    let (grid, threads) = ([chunks.blocks(&sizes)?, 1, 1], chunks.threads());
    let arguments = arguments![&given, &chunks, q, k, k_scales, v, v_scales];
    // SAFETY: attention_cached(sizes, chunks, q, k, k_scales, v, v_scales).
    unsafe { stage.gpu.launch(Kernel::attention_cached, grid, threads, chunks.shared(), arguments) }?;
    let (grid, arguments) = ([blocks_of(&[sizes.heads])?, 1, 1], arguments![&given, &chunks, o]);
    // SAFETY: attention_cached_join(sizes, chunks, o).
    unsafe { stage.gpu.launch(Kernel::attention_cached_join, grid, threads, 0, arguments) }?;
    stage.finish()
}
