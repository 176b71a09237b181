//! Softmax cross-entropy, in nats, and its gradient in place of the logits.
//!
//! Targets on the host are looked at before anything is done, as on the other rows. Those on the device only the kernels see:
//! they leave rows with a target that is no column as they are, and the error comes when somebody waits for the device.

use super::argument::{Pointer, Struct, arguments};
use super::faults::{Fault, check_here};
use super::module::Kernel;
use super::stage::{MOST_THREADS, Stage, THREADS};
use crate::backend::Launch;
use crate::backend::scalar::cross_entropy::check;
use crate::tensor::{DType, Result, View, ViewMut};

/// Rows up to this take a warp, longer ones a block: of few threads, or, where so many rows at a time would not stay in the
/// second-level cache between the two times that they are read, of many.
const WARP_ROW: usize = 1024;
const SHORT_ROW: usize = 8192;

/// As cuda/cross_entropy.cu has it.
#[repr(C)]
struct Losses {
    targets: Pointer,
    losses: Pointer,
    n: u64,
    v: u64,
    fault: Pointer,
}

// SAFETY: const unsigned *targets; float *losses; u64 n, v, *fault.
unsafe impl Struct for Losses {}

fn threads(v: usize) -> u32 {
    if v <= SHORT_ROW { THREADS } else { MOST_THREADS }
}

pub fn cross_entropy(launch: &Launch, logits: &View, targets: &View, losses: &mut ViewMut) -> Result<()> {
    check(logits.dims(), targets.count(), losses.count())?;
    let (n, v) = (logits.dim(0), logits.dim(1));
    check_here("target", targets, v)?;
    let mut stage = Stage::new(launch)?;
    let (logits, targets) = (stage.input(logits, DType::F32)?, stage.input(targets, DType::U32)?);
    let losses = stage.output(losses, DType::F32)?;
    let fault = stage.gpu.faults().pointer(Fault::Target);
    let rows = Losses { targets, losses, n: n as u64, v: v as u64, fault };
    // SAFETY: cross_entropy_1024(logits, rows), and the other has the same.
    unsafe {
        match v <= WARP_ROW {
            true => stage.warps(Kernel::cross_entropy_1024, n, arguments![logits, &rows]),
            false => stage.launch(Kernel::cross_entropy_long, n, threads(v), arguments![logits, &rows]),
        }
    }?;
    stage.finish()
}

pub fn cross_entropy_gradient(
    launch: &Launch,
    targets: &View,
    factor: f64,
    logits: &mut ViewMut,
    losses: &mut ViewMut,
) -> Result<()> {
    check(logits.dims(), targets.count(), losses.count())?;
    let (n, v) = (logits.dim(0), logits.dim(1));
    check_here("target", targets, v)?;
    let mut stage = Stage::new(launch)?;
    let targets = stage.input(targets, DType::U32)?;
    let (logits, losses) = (stage.update(logits, DType::F32)?, stage.output(losses, DType::F32)?);
    let fault = stage.gpu.faults().pointer(Fault::Target);
    let rows = Losses { targets, losses, n: n as u64, v: v as u64, fault };
    let arguments = arguments![logits, &rows, factor];
    // SAFETY: cross_entropy_gradient_1024(logits, rows, factor), and the other has the same.
    unsafe {
        match v <= WARP_ROW {
            true => stage.warps(Kernel::cross_entropy_gradient_1024, n, arguments),
            false => stage.launch(Kernel::cross_entropy_gradient_long, n, threads(v), arguments),
        }
    }?;
    stage.finish()
}
