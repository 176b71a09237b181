//! Setun: train, compress and run 1.58-bit (ternary) language models behind a C ABI.
//!
//! The layers, from the top. Arrows run downward only.
//!
//! | layer | what it is | may use |
//! |---|---|---|
//! | [`ffi`] | what C sees: every export converts, guards and calls; no arithmetic | everything below |
//! | [`train`] | verb 4: text in, ternary language model out | model, cluster, quantize, format, backend, tensor |
//! | [`model`] | the transformer, layer by layer, forward and backward; the sampler | quantize, format, backend, tensor |
//! | [`quantize`] | verb 1: f32 to ternary and back, packings, products | backend, tensor |
//! | [`cluster`] | verb 2: exact, deterministic k-means | backend, tensor |
//! | [`step`] | verb 3: constrained updates of parameters that the caller owns | format, backend, tensor |
//! | [`format`] | bytes in, bytes out: safetensors | tensor |
//! | [`backend`] | where it runs: one table of kernels per row, chosen per context | tensor |
//! | [`tensor`] | the common ground: tensors, views, errors, random numbers | nothing |
//!
//! The verbs and the model are safe Rust that knows neither C nor SIMD; the backends know nothing of the verbs.

mod backend;
mod cluster;
mod ffi;
mod format;
mod model;
mod quantize;
mod step;
mod tensor;
mod train;
