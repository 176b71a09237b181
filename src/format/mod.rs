//! Bytes in, bytes out: files that are replaced whole or not at all, and the safetensors format.

pub mod files;
pub mod safetensors;

#[cfg(test)]
pub mod scratch;
