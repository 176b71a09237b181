//! Platforms that this build has no way to a CUDA driver on: the same functions, and one answer.

use crate::tensor::error::{Result, error};

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
