//! What kernels complain of: an index outside of what it points into. They skip it, and note it in a word of host memory that
//! the device can write, which the next call that waits for the device turns into an error.

use super::argument::Pointer;
use super::driver::done;
use crate::backend::scalar::embedding::check_indices;
use crate::tensor::error::{Result, error};
use crate::tensor::{Device, View};
use cust::sys::{cuMemAllocHost_v2, cuMemFreeHost};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

const OUTSIDE: &str = "outside of what there is";

/// Whose index it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Token,
    Target,
    Label,
    Row,
    Candidate,
}

impl Fault {
    /// Each, its name and what is wrong with it.
    const ALL: [(Fault, &str, &str); 5] = [
        (Fault::Token, "token", OUTSIDE),
        (Fault::Target, "target", OUTSIDE),
        (Fault::Label, "label", OUTSIDE),
        (Fault::Row, "row", "outside of what there is, or not above the one before it"),
        (Fault::Candidate, "candidate", OUTSIDE),
    ];
}

/// Indices on the host are looked at before anything is done, as on the other rows; those on the device only the kernels see.
pub fn check_here(name: &str, indices: &View, bound: usize) -> Result<()> {
    match indices.device() {
        Device::Host => check_indices(name, indices, bound).map(|_| ()),
        Device::Cuda(_) => Ok(()),
    }
}

/// What a word holds while nothing is wrong. Otherwise position << 32 | index, of the first that is wrong: the least.
const NONE: u64 = u64::MAX;

pub struct Faults(NonNull<AtomicU64>);

// SAFETY: atomic words, read by this process when the device has finished.
unsafe impl Send for Faults {}
// SAFETY: as above.
unsafe impl Sync for Faults {}

impl Faults {
    /// The context is current.
    pub fn new() -> Result<Faults> {
        let mut words = ptr::null_mut();
        // SAFETY: `words` is a local.
        done(unsafe { cuMemAllocHost_v2(&raw mut words, size_of::<u64>() * Fault::ALL.len()) })?;
        let words = NonNull::new(words.cast()).ok_or_else(|| error!(Memory, "the cuda driver gave no host memory"))?;
        let faults = Faults(words);
        Fault::ALL.iter().for_each(|&(fault, ..)| faults.word(fault).store(NONE, Ordering::Relaxed));
        Ok(faults)
    }

    fn word(&self, fault: Fault) -> &AtomicU64 {
        // SAFETY: `new` allocated a word for each.
        unsafe { self.0.add(fault as usize).as_ref() }
    }

    /// The word's address, which is the same on the device: host and device share one address space.
    pub fn pointer(&self, fault: Fault) -> Pointer {
        Pointer(ptr::from_ref(self.word(fault)).addr() as u64)
    }

    /// What kernels that have finished complained of, once.
    pub fn check(&self) -> Result<()> {
        for (fault, name, wrong) in Fault::ALL {
            let found = self.word(fault).swap(NONE, Ordering::Relaxed);
            if found != NONE {
                let (position, index) = (found >> 32, found as u32);
                return Err(error!(Shape, "{name} {position} is {index}, {wrong}"));
            }
        }
        Ok(())
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, and not used afterwards.
        let _ = unsafe { cuMemFreeHost(self.0.as_ptr().cast()) };
    }
}
