//! Attention of one token on keys and values in 8 bits: `scalar/attention_cached.rs` for the vector units. A unit of work is one KV
//! head with the query heads that read it.

use super::attention::unit_of;
use super::chunks::{self, Shared};
use crate::backend::Launch;
use crate::backend::scalar::attention_cached::check;
use crate::backend::workspace::with_scratch;
use crate::tensor::{Result, View, ViewMut};

/// Multiplications of the scores of a chunk, at least: a microsecond or two, which is enough where the threads stand by.
const WORK: usize = 1 << 14;

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
    let (q, k, v) = (q.slice::<f32>()?, k.slice::<i8>()?, v.slice::<i8>()?);
    let (k_scales, v_scales) = (k_scales.slice::<f32>()?, v_scales.slice::<f32>()?);
    let o = Shared::new(o.slice_mut::<f32>()?);
    let shape = unit_of(&sizes);
    let (groups, width) = (sizes.kv_heads, shape.heads * shape.dim);
    let size = (WORK / (shape.keys * width).max(1)).max(1);
    chunks::try_run(launch, groups, size, |units| {
        with_scratch::<f32, _>(shape.scratch(), |scratch| {
            for group in units {
                let at = group * shape.dim;
                // SAFETY: the units lie inside the shapes that were checked, write disjoint heads, and the scratch memory has the
                // size that the span asks for.
                unsafe {
                    (launch.spans.attention_cached)(
                        &shape,
                        q.as_ptr().add(group * width),
                        k.as_ptr().wrapping_add(at),
                        k_scales.as_ptr().wrapping_add(group),
                        v.as_ptr().wrapping_add(at),
                        v_scales.as_ptr().wrapping_add(group),
                        groups,
                        o.as_mut_ptr().add(group * width),
                        scratch.as_mut_ptr(),
                    );
                }
            }
        })
    })
}
