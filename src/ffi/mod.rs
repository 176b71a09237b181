//! What C sees: every export converts its arguments, guards the boundary and calls the room below. No arithmetic here.
//!
//! | file | what |
//! |---|---|
//! | `guard.rs` | status codes, the last error, the one place where panics stop |
//! | `floating.rs` | the floating-point environment that results depend on |
//! | `handle.rs` | the handle table: create, borrow, free |
//! | `options.rs` | structs that begin with their size |
//! | `arguments.rs` | pointers, sizes, strings |
//! | `kmeans_object.rs`, `model_object.rs`, `trainer.rs` | what the cluster, model and train sections keep behind their handles |
//! | `optimizer_object.rs`, `problem_object.rs` | what the optimizer and problem sections keep behind their handles |
//! | the others | one per section of `include/setun.h` |
//!
//! `tests/header.rs` generates the header from the section files: the module comment of each opens its section, and types,
//! fields and functions bring their own. A C type is written here under its C name.

// Types and enum variants have their C names.
#![allow(non_camel_case_types, clippy::enum_variant_names)]

mod arguments;
mod backward;
mod benchmark;
mod cluster;
mod codebook;
mod context;
mod file;
mod floating;
mod generate;
mod gradient;
mod guard;
mod handle;
mod kmeans_object;
mod library;
mod lr_net;
mod matmul;
mod model;
mod model_object;
mod optimizer;
mod optimizer_object;
mod options;
mod pack;
mod problem;
mod problem_object;
mod quantize;
mod step;
mod tensor;
mod text;
mod tfidf;
mod train;
mod trainer;
