//! Causal attention with grouped KV heads. A unit of work is one KV head of one sequence with the query heads that read it:
//! no two units write the same element.

use super::chunks::{self, Shared};
use super::spans::AttentionShape;
use crate::backend::Launch;
use crate::backend::scalar::attention::Sizes;
use crate::backend::workspace::with_scratch;
use crate::tensor::error::ensure;
use crate::tensor::{Result, View, ViewMut};

/// Multiplications of the scores of a chunk, at least: some microseconds of work.
const WORK: usize = 1 << 14;

/// Where the unit (batch, KV head) begins, in elements of q and o, of k and v, and of log_sum.
struct Unit {
    query: usize,
    key: usize,
    log_sum: usize,
}

/// How a call is cut into units.
struct Units {
    sizes: Sizes,
    shape: AttentionShape,
}

/// One KV head and its query heads.
pub fn unit_of(sizes: &Sizes) -> AttentionShape {
    AttentionShape {
        queries: sizes.queries,
        keys: sizes.keys,
        heads: sizes.heads / sizes.kv_heads,
        dim: sizes.head,
        query_stride: sizes.heads * sizes.head,
        key_stride: sizes.kv_heads * sizes.head,
        scale: (1.0 / (sizes.head as f64).sqrt()) as f32,
    }
}

impl Units {
    fn new(sizes: Sizes) -> Units {
        Units { sizes, shape: unit_of(&sizes) }
    }

    fn unit(&self, i: usize) -> Unit {
        let (b, g) = (i / self.sizes.kv_heads, i % self.sizes.kv_heads);
        let head = g * self.shape.heads;
        Unit {
            query: b * self.sizes.queries * self.shape.query_stride + head * self.sizes.head,
            key: b * self.sizes.keys * self.shape.key_stride + g * self.sizes.head,
            log_sum: (b * self.sizes.heads + head) * self.sizes.queries,
        }
    }

    /// Calls `work(unit, scratch)` for every unit.
    fn run(&self, launch: &Launch, scratch: usize, work: impl Fn(Unit, *mut f32) + Sync) -> Result<()> {
        let shape = &self.shape;
        if shape.queries == 0 {
            return Ok(());
        }
        let cost = shape.queries.saturating_mul(shape.keys).saturating_mul(shape.heads * shape.dim);
        let size = (WORK / cost.max(1)).max(1);
        chunks::try_run(launch, self.sizes.batch * self.sizes.kv_heads, size, |units| {
            with_scratch::<f32, _>(scratch, |scratch| {
                units.for_each(|i| work(self.unit(i), scratch.as_mut_ptr()));
            })
        })
    }
}

pub fn attention(launch: &Launch, q: &View, k: &View, v: &View, o: &mut ViewMut, log_sum: &mut ViewMut) -> Result<()> {
    let sizes = Sizes::check(q, k, v, log_sum.dims())?;
    ensure!(o.dims() == q.dims(), Shape, "attention: q has shape {}, o has {}", q.shape(), o.shape());
    let (q, k, v) = (q.slice::<f32>()?, k.slice::<f32>()?, v.slice::<f32>()?);
    let (o, log_sum) = (Shared::new(o.slice_mut::<f32>()?), Shared::new(log_sum.slice_mut::<f32>()?));
    let units = Units::new(sizes);
    units.run(launch, units.shape.scratch(), |unit, scratch| {
        // SAFETY: the units lie inside the shapes that were checked, write disjoint heads, and the scratch memory has the
        // size that the span asks for.
        unsafe {
            (launch.spans.attention)(
                &units.shape,
                q.as_ptr().add(unit.query),
                k.as_ptr().add(unit.key),
                v.as_ptr().add(unit.key),
                o.as_mut_ptr().add(unit.query),
                log_sum.as_mut_ptr().add(unit.log_sum),
                scratch,
            );
        }
    })
}

#[allow(clippy::too_many_arguments)]
pub fn attention_backward(
    launch: &Launch,
    q: &View,
    k: &View,
    v: &View,
    o: &View,
    log_sum: &View,
    d_o: &View,
    dq: &mut ViewMut,
    dk: &mut ViewMut,
    dv: &mut ViewMut,
) -> Result<()> {
    let sizes = Sizes::check(q, k, v, log_sum.dims())?;
    sizes.check_gradients(q, k, &[o.dims(), d_o.dims(), dq.dims()], &[dk.dims(), dv.dims()])?;
    let (q, k, v, o) = (q.slice::<f32>()?, k.slice::<f32>()?, v.slice::<f32>()?, o.slice::<f32>()?);
    let (log_sum, d_o) = (log_sum.slice::<f32>()?, d_o.slice::<f32>()?);
    let (dq, dk, dv) = (dq.slice_mut::<f32>()?, dk.slice_mut::<f32>()?, dv.slice_mut::<f32>()?);
    if sizes.queries == 0 {
        dk.fill(0.0);
        dv.fill(0.0);
    }
    let (dq, dk, dv) = (Shared::new(dq), Shared::new(dk), Shared::new(dv));
    let units = Units::new(sizes);
    units.run(launch, units.shape.backward_scratch(), |unit, scratch| {
        // SAFETY: as in the forward pass.
        unsafe {
            (launch.spans.attention_backward)(
                &units.shape,
                q.as_ptr().add(unit.query),
                k.as_ptr().add(unit.key),
                v.as_ptr().add(unit.key),
                o.as_ptr().add(unit.query),
                log_sum.as_ptr().add(unit.log_sum),
                d_o.as_ptr().add(unit.query),
                dq.as_mut_ptr().add(unit.query),
                dk.as_mut_ptr().add(unit.key),
                dv.as_mut_ptr().add(unit.key),
                scratch,
            );
        }
    })
}
