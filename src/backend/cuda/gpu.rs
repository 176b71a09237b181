//! A device at work: its primary context, one stream, the kernels and the memory. Everything that is asked of it happens in
//! the order of the stream, so memory that is given back may be used again at once, by what comes later.
//!
//! All contexts of a process share the `Gpu` of a device. It is closed when the last of them, and the last tensor on it, is gone.

use super::argument::{Argument, MOST_ARGUMENTS, Pointer};
use super::driver::{check, done};
use super::memory::Memory;
use super::module::{Kernel, Modules};
use super::{Current, faults::Faults};
use crate::tensor::error::{Result, ensure};
use cust::context::Context;
use cust::device::DeviceAttribute;
use cust::sys::{
    CUdevice_attribute, CUstream, cuDeviceGetAttribute, cuLaunchKernel, cuMemsetD8Async, cuStreamCreateWithPriority,
    cuStreamDestroy_v2, cuStreamSynchronize,
};
use parking_lot::Mutex;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::{Arc, Weak};

/// What the kernels are compiled for: Ampere.
const LEAST_COMPUTE: (i32, i32) = (8, 0);

/// Dynamic shared memory of a block that a kernel gets without asking for it, and a little less: what it declares itself is
/// taken off the 48 KB.
const PLAIN_SHARED: u32 = 47 << 10;

pub struct Gpu {
    ordinal: u32,
    /// The process that opened it: a driver does not survive `fork`.
    process: u32,
    multiprocessors: u32,
    /// Of a block at most, in bytes, when it asks for it.
    shared_memory: usize,
    parts: ManuallyDrop<Parts>,
    context: ManuallyDrop<Context>,
}

/// What is made in the context, closed in this order.
struct Parts {
    modules: Modules,
    memory: Memory,
    faults: Faults,
    stream: CudaStream,
}

impl Gpu {
    /// The device of this number. DEVICE or ARGUMENT where there is none or it cannot be opened, STATE after a fork.
    pub fn open(ordinal: usize) -> Result<Arc<Gpu>> {
        static OPEN: Mutex<Vec<Weak<Gpu>>> = Mutex::new(Vec::new());
        // Refuses a forked child, which may find the lock held by a thread that it does not have.
        let device = super::device(ordinal)?;
        let ((major, minor), (least, _)) = (device.compute, LEAST_COMPUTE);
        ensure!(
            device.compute >= LEAST_COMPUTE,
            Unsupported,
            "cuda device {ordinal}, {}, has compute capability {major}.{minor}, expected {least}.0 or later",
            device.name
        );
        let mut open = OPEN.lock();
        open.retain(|gpu| gpu.strong_count() > 0);
        if let Some(gpu) = open.iter().filter_map(Weak::upgrade).find(|gpu| gpu.ordinal as usize == ordinal) {
            return Ok(gpu);
        }
        let gpu = Arc::new(Gpu::new(ordinal as u32)?);
        open.push(Arc::downgrade(&gpu));
        Ok(gpu)
    }

    fn new(ordinal: u32) -> Result<Gpu> {
        let current = Current::get()?;
        let device = check(cust::device::Device::get_device(ordinal))?;
        let multiprocessors = check(device.get_attribute(DeviceAttribute::MultiprocessorCount))?.max(1) as u32;
        let (mut shared, most) = (0, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
        // SAFETY: `shared` is a local.
        done(unsafe { cuDeviceGetAttribute(&raw mut shared, most, device.as_raw()) })?;
        // A failure from here on drops what was made before it, in reverse order.
        let context = check(Context::new(device))?;
        // `Context::new` does the same, and does not look at what comes of it.
        current.set(&context)?;
        let stream = CudaStream::new()?;
        let faults = Faults::new()?;
        let memory = Memory::new()?;
        let parts = Parts { modules: Modules::new(), memory, faults, stream };
        Ok(Gpu {
            ordinal,
            process: std::process::id(),
            multiprocessors,
            shared_memory: shared.max(0) as usize,
            parts: ManuallyDrop::new(parts),
            context: ManuallyDrop::new(context),
        })
    }

    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Whether this process opened it: a forked child leaves it, and every lock around it, to the parent.
    pub(super) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    pub fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    pub fn shared_memory(&self) -> usize {
        self.shared_memory
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.parts.memory
    }

    #[cfg(test)]
    pub(super) fn modules(&self) -> &Modules {
        &self.parts.modules
    }

    pub fn faults(&self) -> &Faults {
        &self.parts.faults
    }

    pub(super) fn stream(&self) -> CUstream {
        self.parts.stream.0
    }

    /// Makes the device's context the thread's current one, until the answer is dropped.
    pub fn enter(&self) -> Result<Current> {
        ensure!(
            self.is_ours(),
            State,
            "cuda device {} was opened before this process was forked: use it in the parent",
            self.ordinal
        );
        Current::enter(&self.context)
    }

    /// Waits for everything asked so far; the caller has [entered](Gpu::enter).
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the stream lives as long as `self`.
        done(unsafe { cuStreamSynchronize(self.stream()) })
    }

    /// The same, and asks what kernels complained of: also those that other threads asked for.
    pub fn synchronize(&self) -> Result<()> {
        self.wait()?;
        self.faults().check()
    }

    /// Has so many bytes of the device's memory set to `byte`; the caller has [entered](Gpu::enter).
    ///
    /// # Safety
    /// There are so many.
    pub unsafe fn set_bytes(&self, pointer: Pointer, byte: u8, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's contract.
        done(unsafe { cuMemsetD8Async(pointer.0, byte, bytes, self.stream()) })
    }

    /// Asks for a run of a kernel: `grid` blocks of `block` threads, each block with `shared` bytes of dynamic memory. The caller
    /// has [entered](Gpu::enter).
    ///
    /// # Safety
    /// The arguments are those of the kernel, in type, number and order, and what they point to on the device is there.
    pub unsafe fn launch(
        &self,
        kernel: Kernel,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        arguments: &[Argument],
    ) -> Result<()> {
        assert!(arguments.len() <= MOST_ARGUMENTS, "a kernel of so many arguments");
        let run = || {
            let function = self.parts.modules.function(kernel)?;
            if shared > PLAIN_SHARED {
                self.parts.modules.allow_shared(kernel, function, shared)?;
            }
            let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
            let mut places = [ptr::null_mut(); MOST_ARGUMENTS];
            for (place, argument) in places.iter_mut().zip(arguments) {
                *place = argument.place();
            }
            let (places, extra) = (places.as_mut_ptr(), ptr::null_mut());
            // SAFETY: as above; the arguments are the caller's contract, and are copied before this returns.
            done(unsafe { cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared, self.stream(), places, extra) })
        };
        run().map_err(|error| error.within(kernel.name()))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        if let Ok(_current) = self.enter() {
            let _ = self.wait();
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.parts) };
        }
        // SAFETY: as above. The parts that were made in it are gone, or go with it.
        unsafe { ManuallyDrop::drop(&mut self.context) };
    }
}

struct CudaStream(CUstream);

// SAFETY: a handle of the driver's, which any thread may use.
unsafe impl Send for CudaStream {}
// SAFETY: as above.
unsafe impl Sync for CudaStream {}

impl CudaStream {
    /// One that does not wait for the legacy default stream, which a host program may use: cust's own drops that flag.
    fn new() -> Result<CudaStream> {
        const NON_BLOCKING: u32 = 1;
        let mut stream = ptr::null_mut();
        // SAFETY: `stream` is a local; the context is current.
        done(unsafe { cuStreamCreateWithPriority(&raw mut stream, NON_BLOCKING, 0) })?;
        Ok(CudaStream(stream))
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and not used afterwards. Nobody could do anything about a failure.
        let _ = unsafe { cuStreamDestroy_v2(self.0) };
    }
}
