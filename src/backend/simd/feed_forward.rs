//! Squared ReLU, plain and gated, and their gradients.

use super::chunks::{self, Shared};
use crate::backend::Launch;
use crate::backend::scalar::feed_forward::check;
use crate::tensor::{Result, View, ViewMut};

pub fn squared_relu(launch: &Launch, x: &View, y: &mut ViewMut) -> Result<()> {
    check("squared_relu", x.count(), &[y.count()])?;
    let (x, y) = (x.slice::<f32>()?, Shared::new(y.slice_mut::<f32>()?));
    chunks::run(launch, x.len(), chunks::elements(x.len()), |range| {
        let x = &x[range.clone()];
        // SAFETY: chunks are disjoint, and both have the length of the range.
        unsafe { (launch.spans.squared_relu)(x.as_ptr(), y.part(range).as_mut_ptr(), x.len()) }
    });
    Ok(())
}

pub fn squared_relu_backward(launch: &Launch, x: &View, dy: &View, dx: &mut ViewMut) -> Result<()> {
    check("squared_relu backward", x.count(), &[dy.count(), dx.count()])?;
    let (x, dy, dx) = (x.slice::<f32>()?, dy.slice::<f32>()?, Shared::new(dx.slice_mut::<f32>()?));
    chunks::run(launch, x.len(), chunks::elements(x.len()), |range| {
        let (x, dy) = (&x[range.clone()], &dy[range.clone()]);
        // SAFETY: chunks are disjoint, and all have the length of the range.
        unsafe {
            (launch.spans.squared_relu_backward)(x.as_ptr(), dy.as_ptr(), dx.part(range).as_mut_ptr(), x.len());
        }
    });
    Ok(())
}

pub fn gated_squared_relu(launch: &Launch, gate: &View, up: &View, y: &mut ViewMut) -> Result<()> {
    check("gated_squared_relu", gate.count(), &[up.count(), y.count()])?;
    let (gate, up, y) = (gate.slice::<f32>()?, up.slice::<f32>()?, Shared::new(y.slice_mut::<f32>()?));
    chunks::run(launch, gate.len(), chunks::elements(gate.len()), |range| {
        let (gate, up) = (&gate[range.clone()], &up[range.clone()]);
        // SAFETY: chunks are disjoint, and all have the length of the range.
        unsafe {
            (launch.spans.gated_squared_relu)(gate.as_ptr(), up.as_ptr(), y.part(range).as_mut_ptr(), gate.len());
        }
    });
    Ok(())
}

pub fn gated_squared_relu_backward(
    launch: &Launch,
    gate: &View,
    up: &View,
    dy: &View,
    dgate: &mut ViewMut,
    dup: &mut ViewMut,
) -> Result<()> {
    check("gated_squared_relu backward", gate.count(), &[up.count(), dy.count(), dgate.count(), dup.count()])?;
    let (gate, up, dy) = (gate.slice::<f32>()?, up.slice::<f32>()?, dy.slice::<f32>()?);
    let (dgate, dup) = (Shared::new(dgate.slice_mut::<f32>()?), Shared::new(dup.slice_mut::<f32>()?));
    chunks::run(launch, gate.len(), chunks::elements(gate.len()), |range| {
        let (gate, up, dy) = (&gate[range.clone()], &up[range.clone()], &dy[range.clone()]);
        // SAFETY: chunks are disjoint, and all have the length of the range.
        unsafe {
            let (dgate, dup) = (dgate.part(range.clone()).as_mut_ptr(), dup.part(range).as_mut_ptr());
            let inputs = (gate.as_ptr(), up.as_ptr(), dy.as_ptr());
            (launch.spans.gated_squared_relu_backward)(inputs.0, inputs.1, inputs.2, dgate, dup, gate.len());
        }
    });
    Ok(())
}
