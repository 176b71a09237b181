//! Links nothing: the `cu*` symbols that `cust` asks for are defined by `src/backend/cuda/driver.rs`.
pub fn include_cuda() {}
