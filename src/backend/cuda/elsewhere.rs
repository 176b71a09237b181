//! Platforms that this build has no way to a CUDA driver on: the same functions, and one answer.

use super::simd;
use super::table::Kernels;
use crate::tensor::error::{Result, error};
use crate::tensor::{DType, Tensor, View, ViewMut};
use std::convert::Infallible;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Device {
    pub name: String,
    pub memory: usize,
    pub compute: (i32, i32),
}

#[derive(Clone, Debug)]
pub enum Absent {
    Nothing(String),
}

const REASON: &str = "no driver: this build looks for one on Linux on x86-64 and aarch64 only";

impl Absent {
    pub fn reason(&self) -> &str {
        match self {
            Absent::Nothing(reason) => reason,
        }
    }
}

/// There is none.
pub struct Gpu(Infallible);

impl Gpu {
    pub fn open(_ordinal: usize) -> Result<Arc<Gpu>> {
        Err(error!(Device, "{REASON}"))
    }

    pub fn zeros(self: &Arc<Gpu>, _dtype: DType, _dims: &[usize]) -> Result<Tensor> {
        match self.0 {}
    }

    pub fn upload_view(self: &Arc<Gpu>, _view: &View) -> Result<Tensor> {
        match self.0 {}
    }

    pub fn copy_view(&self, _from: &View, _to: &mut ViewMut) -> Result<()> {
        match self.0 {}
    }

    pub fn finish(&self) -> Result<()> {
        match self.0 {}
    }

    pub fn time_of_copies(&self) -> Result<(f64, f64)> {
        match self.0 {}
    }
}

/// Never called: it takes a [`Gpu`].
pub const KERNELS: Kernels = simd::KERNELS;

pub fn half_written() -> bool {
    false
}

pub fn devices() -> Result<std::result::Result<&'static [Device], &'static Absent>> {
    static ABSENT: once_cell::sync::Lazy<Absent> = once_cell::sync::Lazy::new(|| Absent::Nothing(REASON.into()));
    Ok(Err(&ABSENT))
}

pub fn device(_ordinal: usize) -> Result<&'static Device> {
    Err(error!(Device, "{REASON}"))
}

pub fn free_memory(_ordinal: usize) -> Result<usize> {
    Err(error!(Device, "{REASON}"))
}
