//! Bytes in, bytes out.
//!
//! | file | what |
//! |---|---|
//! | `files.rs` | files that are replaced whole or not at all |
//! | `gguf.rs` | the ternary blocks of GGUF |
//! | `safetensors.rs` | the safetensors format |
//! | `npy.rs` | the header of NumPy's .npy format |
//! | `tensor_file.rs` | the arrays of a file of either kind, read one at a time |

pub mod files;
pub mod gguf;
mod npy;
pub mod safetensors;
pub mod tensor_file;

#[cfg(test)]
pub mod scratch;
