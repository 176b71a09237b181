//! Copies between host and device. They pass through page-locked buffers: the caller's own memory is in use only during the
//! call, whatever kind of memory it is, and the device copies while the next piece is being read or written here.

use super::argument::Pointer;
use super::driver::done;
use super::gpu::Gpu;
use crate::tensor::{Buffer, Result};
use cust::sys::{
    CUevent, CUresult, cuEventCreate, cuEventDestroy_v2, cuEventQuery, cuEventRecord, cuEventSynchronize,
    cuMemAllocHost_v2, cuMemFreeHost, cuMemcpyDtoHAsync_v2, cuMemcpyHtoDAsync_v2,
};
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

/// Bytes of a buffer: long enough for the full speed of a bus, short enough to begin soon.
const SIZE: usize = 4 << 20;
/// Buffers that a device has at most.
const MOST: usize = 8;
/// Copies to the host that may be on their way at once.
const AHEAD: usize = 3;

thread_local! {
    /// Whether the last failing call on this thread left a host tensor that it was to change half changed.
    static HALF_WRITTEN: Cell<bool> = const { Cell::new(false) };
}

/// A call begins, which has written nothing: what an earlier one left, nobody may have asked for.
pub fn begin_call() {
    HALF_WRITTEN.set(false);
}

/// Asked after a failure: whether the call's arguments are no longer what they were. Answers once.
pub fn half_written() -> bool {
    HALF_WRITTEN.take()
}

/// A page-locked buffer, and the event that follows the last copy that was asked to use it.
struct Pinned {
    data: *mut c_void,
    event: CUevent,
}

// SAFETY: owned memory and a handle of the driver's; whoever holds the buffer uses it alone.
unsafe impl Send for Pinned {}

impl Pinned {
    /// None where the driver has no memory left for it: then copies do without.
    fn new() -> Option<Pinned> {
        const WITHOUT_TIMING: u32 = 2;
        let (mut data, mut event) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: a local; the context is current.
        done(unsafe { cuMemAllocHost_v2(&raw mut data, SIZE) }).ok()?;
        // SAFETY: as above.
        let made = done(unsafe { cuEventCreate(&raw mut event, WITHOUT_TIMING) });
        let pinned = Pinned { data, event };
        made.ok().map(|()| pinned)
    }

    fn is_at_rest(&self) -> bool {
        // SAFETY: the event lives as long as `self`.
        unsafe { cuEventQuery(self.event) == CUresult::CUDA_SUCCESS }
    }

    fn wait(&self) -> Result<()> {
        // SAFETY: as above.
        done(unsafe { cuEventSynchronize(self.event) })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if !self.event.is_null() {
            // SAFETY: made by `new`, and not used afterwards.
            let _ = unsafe { cuEventDestroy_v2(self.event) };
        }
        // SAFETY: as above; the driver waits for copies that still use it.
        let _ = unsafe { cuMemFreeHost(self.data) };
    }
}

/// The buffers of a device.
pub struct Buffers(Mutex<Queue>);

struct Queue {
    /// The one that was used longest ago stands first.
    idle: VecDeque<Pinned>,
    made: usize,
}

impl Buffers {
    pub const fn new() -> Buffers {
        Buffers(Mutex::new(Queue { idle: VecDeque::new(), made: 0 }))
    }

    /// A buffer that nothing uses; None where there is none to be had.
    fn take(&self) -> Result<Option<Lease<'_>>> {
        let mut queue = self.0.lock();
        let may_make = queue.made < MOST;
        let pinned = match queue.idle.front() {
            Some(first) if !may_make || first.is_at_rest() => queue.idle.pop_front(),
            _ if may_make => {
                let made = Pinned::new();
                queue.made += usize::from(made.is_some());
                made.or_else(|| queue.idle.pop_front())
            }
            _ => None,
        };
        drop(queue);
        let lease = pinned.map(|pinned| Lease { buffers: self, pinned: Some(pinned) });
        if let Some(lease) = &lease {
            lease.get().wait()?;
        }
        Ok(lease)
    }
}

/// A buffer in use; it goes back when this is dropped.
struct Lease<'a> {
    buffers: &'a Buffers,
    pinned: Option<Pinned>,
}

impl Lease<'_> {
    fn get(&self) -> &Pinned {
        self.pinned.as_ref().expect("it is there until the lease is dropped")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(pinned) = self.pinned.take() {
            self.buffers.0.lock().idle.push_back(pinned);
        }
    }
}

/// What is to be copied to the host.
#[derive(Clone, Copy)]
pub struct Download {
    pub from: Pointer,
    pub to: *mut u8,
    pub bytes: usize,
    /// The host tensor is changed, not only written: after half of it the call cannot be made again.
    pub changes: bool,
}

/// A piece that is on its way to the host.
struct Landing<'a> {
    lease: Lease<'a>,
    to: *mut u8,
    bytes: usize,
}

impl Gpu {
    /// Copies to the device; when this returns, `from` may be changed. The caller has [entered](Gpu::enter).
    ///
    /// # Safety
    /// There are so many bytes at both addresses.
    pub unsafe fn upload(&self, to: Pointer, from: *const u8, bytes: usize) -> Result<()> {
        for start in (0..bytes).step_by(SIZE) {
            let (to, from, bytes) = (to.at(start).0, from.wrapping_add(start), SIZE.min(bytes - start));
            let Some(lease) = self.memory().pinned.take()? else {
                // SAFETY: the caller's contract; `wait` ends the use of `from`.
                done(unsafe { cuMemcpyHtoDAsync_v2(to, from.cast(), bytes, self.stream()) })?;
                self.wait()?;
                continue;
            };
            let pinned = lease.get();
            // SAFETY: the caller's contract; the buffer has SIZE bytes, and nothing uses it.
            unsafe { ptr::copy_nonoverlapping(from, pinned.data.cast(), bytes) };
            // SAFETY: the caller's contract; the buffer is not touched before its event has come.
            done(unsafe { cuMemcpyHtoDAsync_v2(to, pinned.data, bytes, self.stream()) })?;
            self.record(pinned)?;
        }
        Ok(())
    }

    /// What copies take, in nanoseconds: a few bytes to the device and back, and then each byte, in one direction.
    pub fn time_of_copies(self: &Arc<Gpu>) -> Result<(f64, f64)> {
        let _current = self.enter()?;
        let Some(block) = self.block(SIZE)? else { return Ok((0.0, 0.0)) };
        let mut host = Buffer::zeroed(SIZE)?;
        let (there, to) = (block.pointer(), host.as_mut_ptr());
        let time = |bytes: usize| {
            let start = Instant::now();
            // SAFETY: the block and the buffer have SIZE bytes, which `bytes` does not exceed.
            unsafe { self.upload(there, to, bytes) }?;
            // SAFETY: as above.
            unsafe { self.download(&[Download { from: there, to, bytes, changes: false }]) }?;
            Ok(start.elapsed().as_nanos() as f64)
        };
        // The first copies make buffers, and touch memory that was never used.
        let _: f64 = time(SIZE)?;
        let few = time(8)?.min(time(8)?);
        let many = time(SIZE)?.min(time(SIZE)?);
        Ok((few, (many - few).max(0.0) / (2 * SIZE) as f64))
    }

    /// Has the buffer's event follow what was asked so far.
    fn record(&self, pinned: &Pinned) -> Result<()> {
        // SAFETY: the event lives as long as the buffer.
        done(unsafe { cuEventRecord(pinned.event, self.stream()) }).inspect_err(|_| {
            // The buffer goes back without its event: nothing may use it by then.
            let _ = self.wait();
        })
    }

    /// Copies to the host, when everything asked so far is done and no kernel has complained. The caller has
    /// [entered](Gpu::enter).
    ///
    /// # Safety
    /// There are so many bytes at all the addresses.
    pub unsafe fn download(&self, downloads: &[Download]) -> Result<()> {
        let mut written = false;
        // SAFETY: the caller's contract.
        let result = unsafe { self.download_pieces(downloads, &mut written) };
        let changes = downloads.iter().any(|download| download.changes);
        HALF_WRITTEN.set(result.is_err() && written && changes);
        result
    }

    unsafe fn download_pieces(&self, downloads: &[Download], written: &mut bool) -> Result<()> {
        let mut landing = VecDeque::with_capacity(AHEAD);
        for download in downloads {
            for start in (0..download.bytes).step_by(SIZE) {
                let (from, to) = (download.from.at(start).0, download.to.wrapping_add(start));
                let bytes = SIZE.min(download.bytes - start);
                if landing.len() == AHEAD {
                    self.land(landing.pop_front(), written)?;
                }
                let Some(lease) = self.memory().pinned.take()? else {
                    while !landing.is_empty() {
                        self.land(landing.pop_front(), written)?;
                    }
                    self.synchronize()?;
                    *written = true;
                    // SAFETY: the caller's contract.
                    done(unsafe { cuMemcpyDtoHAsync_v2(to.cast(), from, bytes, self.stream()) })?;
                    self.wait()?;
                    continue;
                };
                let pinned = lease.get();
                // SAFETY: the caller's contract; the buffer has SIZE bytes, and nothing uses it before its event has come.
                done(unsafe { cuMemcpyDtoHAsync_v2(pinned.data, from, bytes, self.stream()) })?;
                self.record(pinned)?;
                landing.push_back(Landing { lease, to, bytes });
            }
        }
        while !landing.is_empty() {
            self.land(landing.pop_front(), written)?;
        }
        Ok(())
    }

    /// Waits for a piece, and hands it over.
    fn land(&self, landing: Option<Landing>, written: &mut bool) -> Result<()> {
        let Some(Landing { lease, to, bytes }) = landing else { return Ok(()) };
        lease.get().wait()?;
        // Kernels that came before it have finished.
        self.faults().check()?;
        *written = true;
        // SAFETY: `download`'s contract; the buffer holds the piece.
        unsafe { ptr::copy_nonoverlapping(lease.get().data.cast(), to, bytes) };
        Ok(())
    }
}
