//! Fill, add, dropout, clamp.

use super::chunks::{self, ELEMENTS, Shared};
use super::spans::PhiloxStream;
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::random::Stream;
use crate::tensor::{Result, View, ViewMut};
use std::sync::atomic::{AtomicUsize, Ordering};

pub fn fill(launch: &Launch, value: f64, y: &mut ViewMut) -> Result<()> {
    let y = y.slice_mut::<f32>()?;
    let count = y.len();
    let y = Shared::new(y);
    chunks::run(launch, count, chunks::elements(count), |range| {
        // SAFETY: chunks are disjoint, and `part` has checked the range.
        unsafe {
            let y = y.part(range);
            (launch.spans.fill)(value as f32, y.as_mut_ptr(), y.len());
        }
    });
    Ok(())
}

pub fn add(launch: &Launch, x: &View, y: &mut ViewMut) -> Result<()> {
    let (x, y) = (x.slice::<f32>()?, y.slice_mut::<f32>()?);
    ensure!(x.len() == y.len(), Shape, "add: x has {} elements, y has {}", x.len(), y.len());
    let y = Shared::new(y);
    chunks::run(launch, x.len(), chunks::elements(x.len()), |range| {
        let x = &x[range.clone()];
        // SAFETY: chunks are disjoint, and both have the length of the range.
        unsafe { (launch.spans.add)(x.as_ptr(), y.part(range).as_mut_ptr(), x.len()) }
    });
    Ok(())
}

pub fn dropout(launch: &Launch, rate: f32, stream: Stream, x: &mut ViewMut) -> Result<()> {
    /// Random bits cost more than memory: smaller chunks. A multiple of the 32 elements of 8 blocks.
    const CHUNK: usize = ELEMENTS / 4;
    // uniform = (bits >> 8) / 2^24 >= rate is bits >> 8 >= rate * 2^24, where the product is exact in f64.
    let threshold = (f64::from(rate) * 16_777_216.0).ceil() as u32;
    let scale = 1.0 / (1.0 - rate);
    let stream = PhiloxStream::from(stream);
    let x = x.slice_mut::<f32>()?;
    let count = x.len();
    let x = Shared::new(x);
    chunks::run(launch, count, CHUNK, |range| {
        let block = range.start as u64 / 4;
        // SAFETY: chunks are disjoint, and `part` has checked the range.
        unsafe {
            let x = x.part(range);
            (launch.spans.dropout)(&stream, block, threshold, scale, x.as_mut_ptr(), x.len());
        }
    });
    Ok(())
}

pub fn clamp(launch: &Launch, low: f64, high: f64, x: &mut ViewMut) -> Result<usize> {
    let x = x.slice_mut::<f32>()?;
    let count = x.len();
    let (x, outside) = (Shared::new(x), AtomicUsize::new(0));
    chunks::run(launch, count, chunks::elements(count), |range| {
        // SAFETY: chunks are disjoint, and `part` has checked the range.
        let found = unsafe {
            let x = x.part(range);
            (launch.spans.clamp)(low as f32, high as f32, x.as_mut_ptr(), x.len())
        };
        outside.fetch_add(found, Ordering::Relaxed);
    });
    Ok(outside.into_inner())
}

impl From<Stream> for PhiloxStream {
    fn from(stream: Stream) -> PhiloxStream {
        PhiloxStream {
            key: [stream.seed as u32, (stream.seed >> 32) as u32],
            purpose: stream.purpose as u32,
            step: stream.step,
            tensor: stream.tensor,
        }
    }
}
