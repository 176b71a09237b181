//! What rows would do as seeds: see cuda/kmeans_seed.cu. What a projection would spare is not worth its own passes here.

use super::argument::{Last, Pointer, Struct, arguments};
use super::faults::Fault;
use super::module::Kernel;
use super::stage::{Stage, THREADS, narrow};
use crate::backend::Launch;
use crate::backend::projection::Projection;
use crate::backend::scalar::kmeans::{check_labels, stripe};
use crate::backend::scalar::kmeans_seed::{check_candidates, check_limits, check_seed};
use crate::tensor::{DType, Device, Result, View, ViewMut};

/// As cuda/kmeans_seed.cu has it.
#[repr(C)]
struct Seeds {
    x: Pointer,
    candidates: Pointer,
    labels: Pointer,
    limits: Pointer,
    least: Pointer,
    lower: Pointer,
    candidate_fault: Pointer,
    label_fault: Pointer,
    n: u64,
    d: u64,
    m: u64,
    seeds: Last<u32>,
}

// SAFETY: const float *x; const unsigned *candidates, *labels; const float *limits, *least; float *lower; u64 *candidate_fault,
// *label_fault; u64 n, d, m; unsigned seeds.
unsafe impl Struct for Seeds {}

pub fn kmeans_seed(
    launch: &Launch,
    x: &View,
    weights: &View,
    candidates: &View,
    _: Option<&Projection>,
    labels: &View,
    limits: &View,
    least: &View,
    lower: &mut ViewMut,
    gains: &mut ViewMut,
) -> Result<()> {
    check_seed(x.dims(), weights.count(), candidates.count(), least.count(), lower.dims(), gains.count())?;
    let ([n, d], m) = ([x.dim(0), x.dim(1)], gains.count());
    let seeds = check_limits(labels.count(), limits.dims(), n, m)?;
    if candidates.device() == Device::Host {
        check_candidates(candidates, n)?;
    }
    if labels.device() == Device::Host {
        check_labels(labels, seeds)?;
    }
    let (stripe, seeds, weighted) = (stripe(n), narrow(seeds)?, weights.count() > 0);
    let mut stage = Stage::new(launch)?;
    let (x, least) = (stage.input(x, DType::F32)?, stage.input(least, DType::F32)?);
    let weights = stage.input(weights, DType::F32)?;
    let candidates = stage.input(candidates, DType::U32)?;
    let (labels, limits) = (stage.input(labels, DType::U32)?, stage.input(limits, DType::F32)?);
    let (lower, gains) = (stage.output(lower, DType::F32)?, stage.output(gains, DType::F64)?);
    let [candidate_fault, label_fault] =
        [Fault::Candidate, Fault::Label].map(|fault| stage.gpu.faults().pointer(fault));
    let stripes = n.div_ceil(stripe);
    let of_stripes = stage.scratch(stripes * m * size_of::<f64>())?;
    let [n_wide, d, m_wide] = [n, d, m].map(|size| size as u64);
    let given = Seeds {
        x,
        candidates,
        labels,
        limits,
        least,
        lower,
        candidate_fault,
        label_fault,
        n: n_wide,
        d,
        m: m_wide,
        seeds: seeds.into(),
    };
    // SAFETY: kmeans_lower(seeds).
    unsafe { stage.launch(Kernel::kmeans_lower, n.div_ceil(THREADS as usize), THREADS, arguments![&given]) }?;
    let weights = if weighted { weights } else { Pointer(0) };
    let (stripe, stripes_wide) = (stripe as u64, stripes as u64);
    let arguments = arguments![least, lower, weights, n_wide, m_wide, stripe, stripes_wide, of_stripes];
    // SAFETY: kmeans_gains(least, lower, weights, n, m, stripe, stripes, of_stripes).
    unsafe { stage.launch(Kernel::kmeans_gains, stripes * m, THREADS, arguments) }?;
    let arguments = arguments![of_stripes, stripes_wide, m_wide, 0u64, gains, Pointer(0)];
    // SAFETY: kmeans_add_stripes(of_stripes, stripes, count, k, sums, masses), of which there are no masses.
    unsafe { stage.launch(Kernel::kmeans_add_stripes, m.div_ceil(THREADS as usize), THREADS, arguments) }?;
    stage.finish()
}
