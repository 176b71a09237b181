//! The CUDA driver, its devices, and the row that runs on them, through `cust`.
//!
//! | file | what |
//! |---|---|
//! | `driver.rs` | the driver's library, loaded when it is first asked for |
//! | `functions.rs` | the driver's functions, as `cust` wants them linked |
//! | `gpu.rs` | [`Gpu`]: a device at work, its context, stream and kernels |
//! | `argument.rs` | what kernels are given |
//! | `module.rs` | which kernels there are, compiled by the driver when they are first needed |
//! | `memory.rs` | the device's memory |
//! | `pinned.rs` | copies between host and device |
//! | `faults.rs` | what kernels complain of |
//! | `stage.rs` | the arguments of a call, brought to the device |
//! | `host.rs` | the arguments of a call that the host does after all, brought to it |
//! | `tensor.rs` | tensors that live on the device |
//! | `table.rs` | the row |
//! | `pack.rs`, `unpack.rs` | the kernels as they are packed in the library |
//! | `find_cuda_helper/` | takes the place of the build script that looks for a CUDA toolkit |
//! | the others | the launches of a group of operations, under the names of `scalar/` and of `cuda/` |
//!
//! A process asks the driver once. A driver does not survive `fork`: a child of a process that had loaded it gets STATE.

// The kernel contracts have as many arguments as they need.
#![allow(clippy::too_many_arguments)]

mod activation;
mod argument;
mod attention;
mod attention_cached;
mod codebook;
mod cross_entropy;
#[cfg(test)]
pub mod device_views;
mod driver;
mod elementwise;
mod embedding;
mod faults;
mod feed_forward;
mod functions;
mod fused_norm;
mod gpu;
mod gradient;
pub mod host;
mod integer_gradient;
mod kmeans;
mod kmeans_closest;
mod kmeans_seed;
mod kmeans_update;
mod magnitudes;
mod mask_sign;
mod matmul;
mod matmul_ternary;
mod matmul_ternary_qkv;
mod memory;
mod module;
mod norm;
#[cfg(test)]
mod pack;
mod pinned;
mod reduce;
mod rope;
mod rows;
mod scheme;
mod sort;
mod stage;
mod step;
mod table;
mod tensor;
mod ternary;
mod unpack;

use crate::tensor::error::{Result, ensure, error};
use cust::context::{Context, CurrentContext};
use cust::device::DeviceAttribute;
use cust::{CudaApiVersion, CudaFlags};
use driver::{check, failure};
use once_cell::sync::OnceCell;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::ptr;

pub use gpu::Gpu;
pub use pinned::half_written;
pub use table::KERNELS;

/// CUDA 11.2: the kernels are PTX 7.0, of CUDA 11.0, and no older driver than this was looked at.
const LEAST_VERSION: (i32, i32) = (11, 2);

/// What the driver says of a device without touching it.
#[derive(Clone, Debug)]
pub struct Device {
    pub name: String,
    /// Bytes.
    pub memory: usize,
    /// Compute capability, major and minor.
    pub compute: (i32, i32),
}

/// Why there are no devices to use.
#[derive(Clone, Debug)]
pub enum Absent {
    /// No driver, or one without a device: a machine like others.
    Nothing(String),
    /// A driver that does not work.
    Broken(String),
}

impl Absent {
    pub fn reason(&self) -> &str {
        match self {
            Absent::Nothing(reason) | Absent::Broken(reason) => reason,
        }
    }
}

struct Answer {
    process: u32,
    devices: std::result::Result<Vec<Device>, Absent>,
}

/// The devices of this machine, at least one, or why there are none. STATE in a forked child, if the driver was loaded before.
pub fn devices() -> Result<std::result::Result<&'static [Device], &'static Absent>> {
    static ANSWER: OnceCell<Answer> = OnceCell::new();
    let answer = ANSWER.get_or_init(|| Answer { process: std::process::id(), devices: ask() });
    // Without a driver nothing was begun that a fork could break.
    ensure!(
        answer.process == std::process::id() || driver::load().is_err(),
        State,
        "the cuda driver was loaded before this process was forked, and does not survive that: use it in the parent, or in a \
         process that is started anew"
    );
    Ok(answer.devices.as_deref())
}

/// The device of this number. DEVICE, with the reason, where there is none.
pub fn device(ordinal: usize) -> Result<&'static Device> {
    let devices = devices()?.map_err(|absent| error!(Device, "{}", absent.reason()))?;
    devices.get(ordinal).ok_or_else(|| error!(Argument, "device is {ordinal}, expected below {}", devices.len()))
}

/// Opens the device, and returns how many bytes of its memory are free now. The caller's current context stays what it was.
pub fn free_memory(ordinal: usize) -> Result<usize> {
    device(ordinal)?;
    let current = Current::get()?;
    let device = check(cust::device::Device::get_device(ordinal as u32))?;
    let context = check(Context::new(device))?;
    // `Context::new` does the same, and does not look at what comes of it.
    current.set(&context)?;
    let (free, _) = check(cust::memory::mem_get_info())?;
    drop(current);
    Ok(free)
}

/// Puts the context that was this thread's current one back, also after an error: the host program may use CUDA too.
pub struct Current {
    before: cust::sys::CUcontext,
    changed: Cell<bool>,
}

impl Current {
    fn get() -> Result<Current> {
        let mut before = ptr::null_mut();
        // SAFETY: `before` is a local.
        driver::done(unsafe { cust::sys::cuCtxGetCurrent(&raw mut before) })?;
        // Making a context makes it the current one.
        Ok(Current { before, changed: Cell::new(true) })
    }

    fn set(&self, context: &Context) -> Result<()> {
        self.changed.set(true);
        check(CurrentContext::set_current(context))
    }

    /// The same of a context that exists: nothing is set where it is the current one already.
    fn enter(context: &Context) -> Result<Current> {
        let current = Current::get()?;
        match context.as_raw() == current.before {
            true => current.changed.set(false),
            false => current.set(context)?,
        }
        Ok(current)
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if self.changed.get() {
            // SAFETY: NULL, or a context that was current on this thread when this call began.
            let _ = unsafe { cust::sys::cuCtxSetCurrent(self.before) };
        }
    }
}

fn ask() -> std::result::Result<Vec<Device>, Absent> {
    driver::load().map_err(|reason| Absent::Nothing(format!("no driver: {reason}")))?;
    let broken = |reason: crate::tensor::Error| Absent::Broken(reason.message);
    let version = check(CudaApiVersion::get()).map_err(broken)?;
    check_version((version.major(), version.minor())).map_err(Absent::Broken)?;
    match cust::init(CudaFlags::empty()) {
        Err(cust::error::CudaError::NoDevice) => return Err(Absent::Nothing(format!("no device: {}", failure()))),
        result => check(result).map_err(broken)?,
    }
    let count = check(cust::device::Device::num_devices()).map_err(broken)? as i32;
    if count <= 0 {
        let (major, minor) = (version.major(), version.minor());
        return Err(Absent::Nothing(format!("no device: the driver, for CUDA {major}.{minor}, reports {count}")));
    }
    (0..count as u32).map(|ordinal| describe(ordinal).map_err(broken)).collect()
}

fn check_version(version: (i32, i32)) -> std::result::Result<(), String> {
    let ((major, minor), (least_major, least_minor)) = (version, LEAST_VERSION);
    if version >= LEAST_VERSION {
        return Ok(());
    }
    Err(format!("driver too old: it is for CUDA {major}.{minor}, expected {least_major}.{least_minor} or later"))
}

fn describe(ordinal: u32) -> Result<Device> {
    let device = check(cust::device::Device::get_device(ordinal))?;
    let attribute = |attribute| check(device.get_attribute(attribute));
    Ok(Device {
        name: name(&device)?,
        memory: check(device.total_memory())?,
        compute: (
            attribute(DeviceAttribute::ComputeCapabilityMajor)?,
            attribute(DeviceAttribute::ComputeCapabilityMinor)?,
        ),
    })
}

/// As cust's own, which panics where the name is not UTF-8 or fills its buffer.
fn name(device: &cust::device::Device) -> Result<String> {
    let mut text = [0 as c_char; 256];
    // SAFETY: the length leaves the last byte, which is 0.
    let code = unsafe { cust::sys::cuDeviceGetName(text.as_mut_ptr(), text.len() as c_int - 1, device.as_raw()) };
    driver::done(code)?;
    // SAFETY: the last byte at the latest is 0.
    Ok(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
}

#[cfg(test)]
mod emulated;
#[cfg(test)]
mod emulated_driver;
#[cfg(test)]
mod tests;
