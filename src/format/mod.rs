//! Bytes in, bytes out: files that are written whole or not at all, and safetensors.

pub mod files;
pub mod safetensors;
