//! LR NET: a small network that adapts the learning rate
//!
//! 133 weights that look at what a step did to a parameter and say what to multiply its next learning rate by,
//! or its radius: your schedule stays the rule, and the network's factor is within 1 / c to c of it, c at most 4,
//! and moves by at most a third a step (its logarithm by 0.3). Until the last layer has weights, every factor is
//! exactly 1. It works with `setun_optimizer`, and with any other optimizer.
//!
//! Nine numbers without a unit go in: five of the parameter, whether it is ternary and whether it is a vector, and
//! two of the losses so far, which the network follows itself. A NaN or an infinity among them makes the factor 1
//! and leaves no trace. Factors are the same bits on every machine.
//!
//!     setun_lr_net *net = NULL;
//!     setun_lr_net_observation seen = {sizeof seen, SETUN_PARAMETER_KIND_MATRIX};
//!     double factor = 1;
//!     setun_lr_net_create(NULL, &net);
//!     setun_lr_net_observe_loss(net, loss);                  once a step
//!     seen.relative_step = step_rms / weight_rms;            and so on, for each parameter
//!     setun_lr_net_factor(net, 0, &seen, &factor);           multiply the learning rate by it
//!
//! The weights are trained by evolution strategies over many short runs: c_examples/meta_train.c. The last layer
//! can also learn during a run, by the hypergradient of Baydin et al. (arXiv 1703.04782): `setun_lr_net_learn`.

use super::arguments::{self, check_pointer, one_of, size, slice, slice_mut, store};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use super::optimizer::setun_parameter_kind;
use super::options::{self, Versioned};
use crate::step::{FEATURES, Kind, LrNet, LrNetOptions, MOST_PARAMETERS, Observation, WEIGHTS};
use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use std::ffi::c_char;

/// How to adapt. Fill it with `setun_lr_net_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_lr_net_options {
    pub struct_size: usize,
    /// c: factors are from 1 / c to c. 1 to 4. Default 4.
    pub largest_factor: f64,
    /// How far `setun_lr_net_learn` moves a weight of the last layer at most; 0 = it does not learn. 0 to 1.
    /// Default 0.
    pub online_rate: f64,
}

// SAFETY: repr(C), begins with struct_size, numbers of 8 bytes only: no padding.
unsafe impl Versioned for setun_lr_net_options {
    fn defaults() -> Self {
        let LrNetOptions { largest_factor, online_rate } = LrNetOptions::default();
        setun_lr_net_options { struct_size: size_of::<Self>(), largest_factor, online_rate }
    }
}

/// What the last step did to a parameter, and what its gradient says. Set `struct_size`; what is 0 is not known
/// yet, as before the first step.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_lr_net_observation {
    pub struct_size: usize,
    /// A `setun_parameter_kind`; SETUN_PARAMETER_KIND_AUTO is a matrix. Default SETUN_PARAMETER_KIND_AUTO.
    pub kind: i32,
    /// rms(step) / rms(weights) of the last step (in a `setun_optimizer` the ratio of its report). Seen by its
    /// logarithm, from 1e-6 to 1.
    pub relative_step: f64,
    /// The share of trits that the last step changed; 0 where there are none. Seen by its logarithm, from 1e-6.
    pub flip_rate: f64,
    /// The cosine of the gradient and of m, the running mean of the gradients before it.
    pub cosine: f64,
    /// mean(m^2) / mean(v), v being the running mean of squares, both of the gradients before this one and with
    /// Adam's corrections: .05 for noise alone with a beta1 of .9, 1 for gradients that stay the same. Seen by its
    /// logarithm, from 1e-2 to 1.
    pub signal: f64,
    /// The share of the run that is over: t / T, 0 to 1.
    pub progress: f64,
}

// SAFETY: repr(C), begins with struct_size, numbers only, ends with 8-byte ones: no padding at the end.
unsafe impl Versioned for setun_lr_net_observation {
    fn defaults() -> Self {
        setun_lr_net_observation {
            struct_size: size_of::<Self>(),
            kind: setun_parameter_kind::Auto as i32,
            relative_step: 0.0,
            flip_rate: 0.0,
            cosine: 0.0,
            signal: 0.0,
            progress: 0.0,
        }
    }
}

/// # Safety
/// `pointer` is NULL or points to a struct as large as it says.
unsafe fn observed(pointer: *const setun_lr_net_observation) -> Result<Observation> {
    check_pointer(pointer, "observation")?;
    // SAFETY: passed on to the caller.
    let seen = unsafe { options::read(pointer, "observation") }?;
    let kinds = [
        (setun_parameter_kind::Auto as i32, "auto", Kind::Matrix),
        (setun_parameter_kind::Ternary as i32, "ternary", Kind::Ternary),
        (setun_parameter_kind::Matrix as i32, "matrix", Kind::Matrix),
        (setun_parameter_kind::Vector as i32, "vector", Kind::Vector),
    ];
    Ok(Observation {
        kind: one_of(seen.kind, "kind", &kinds)?,
        relative_step: seen.relative_step,
        flip_rate: seen.flip_rate,
        cosine: seen.cosine,
        signal: seen.signal,
        progress: seen.progress,
    })
}

fn parameter(index: i64) -> Result<usize> {
    let number = usize::try_from(index).ok().filter(|&index| index < MOST_PARAMETERS);
    number.ok_or_else(|| error!(Argument, "index is {index}, expected 0 to {}", MOST_PARAMETERS - 1))
}

/// A network and what it keeps of each parameter.
pub struct setun_lr_net {
    _opaque: [u8; 0],
}

impl Handle for setun_lr_net {
    type Object = LrNet;
    const NAME: &'static str = "setun_lr_net";
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_options_init(options: *mut setun_lr_net_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Makes a network with the weights that the library comes with: those of this version have a last layer of zeros, and
/// every factor is 1. NULL options = the defaults. Free it with `setun_lr_net_free`. Returns ARGUMENT (an option out of
/// its range), ABI.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_create(
    options: *const setun_lr_net_options,
    out: *mut *mut setun_lr_net,
) -> setun_status {
    guard("lr_net_create", || {
        check_pointer(out, "out")?;
        // SAFETY: a struct as large as it says is the caller's contract.
        let setun_lr_net_options { largest_factor, online_rate, .. } = unsafe { options::read(options, "options") }?;
        let net = LrNet::new(LrNetOptions { largest_factor, online_rate })?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, net) }
    })
}

/// Tells the loss of a step, before the factors of that step are asked for. After one that is not finite factors
/// are 1 until the next loss. Returns ARGUMENT (a handle that is none), STATE (busy).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_observe_loss(net: *mut setun_lr_net, loss: f64) -> setun_status {
    guard("lr_net_observe_loss", || {
        handle::exclusive(net, "net")?.observe_loss(loss);
        Ok(())
    })
}

/// Writes what to multiply the learning rate of the parameter `index` by in its next step, and remembers it: call
/// it once a step for each parameter. Parameters are numbered from 0 to 65535 as you like, or all steps of a run are
/// those of parameter 0. A NaN or an infinity in the observation, or a negative number where there can be none, is
/// no error: the factor is 1.
///
/// Returns ARGUMENT (index, kind), ABI, MEMORY: 100 bytes for each parameter up to `index`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_factor(
    net: *mut setun_lr_net,
    index: i64,
    observation: *const setun_lr_net_observation,
    factor: *mut f64,
) -> setun_status {
    guard("lr_net_factor", || {
        check_pointer(factor, "factor")?;
        let index = parameter(index)?;
        // SAFETY: a struct as large as it says is the caller's contract.
        let seen = unsafe { observed(observation) }?;
        let found = handle::exclusive(net, "net")?.factor(index, &seen)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(factor, found, "factor") }
    })
}

/// Writes the nine `features` [9] that the network sees of an observation after the losses so far, each from -1 to
/// 1: relative step, flip rate, cosine, signal, trend of the loss, its height above the least, progress, ternary,
/// vector. All are NAN where the factor would be 1 for a number that is none. Nothing is remembered. Returns
/// ARGUMENT (kind), ABI.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_features(
    net: *const setun_lr_net,
    observation: *const setun_lr_net_observation,
    features: *mut f64,
) -> setun_status {
    guard("lr_net_features", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let seen = unsafe { observed(observation) }?;
        // SAFETY: NULL and alignment are checked; room for nine is the caller's contract.
        let features = unsafe { slice_mut(features, FEATURES, "features") }?;
        let found = handle::shared(net, "net")?.features(&seen);
        features.copy_from_slice(&found.unwrap_or([f64::NAN; FEATURES]));
        Ok(())
    })
}

/// Tells what became of the last step of the parameter `index`, with the gradient g after it: `hypergradient` is
/// -(g . s) / (|g| |s|), s being what the step added to the weights. Above 0, g still points down along s: the step
/// was too short, and factors grow, by the last layer's 13 weights, which move by online_rate times it. What is
/// beyond -1 and 1 counts as -1 and 1.
///
/// Nothing happens with an online_rate of 0, before the first factor of that parameter, and for a NaN or an
/// infinity. Returns ARGUMENT (index).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_learn(net: *mut setun_lr_net, index: i64, hypergradient: f64) -> setun_status {
    guard("lr_net_learn", || {
        let index = parameter(index)?;
        handle::exclusive(net, "net")?.learn(index, hypergradient);
        Ok(())
    })
}

/// Copies the weights, `count` = 133: of the hidden layer [12, 9] and its bias [12], of the last layer [12] and its
/// bias. Returns ARGUMENT (another count).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_weights(net: *const setun_lr_net, weights: *mut f64, count: i64) -> setun_status {
    guard("lr_net_weights", || {
        let room = size(count, "count")?;
        ensure!(room == WEIGHTS, Argument, "count is {count}, the network has {WEIGHTS} weights");
        // SAFETY: NULL and alignment are checked; the length is the caller's contract.
        let weights = unsafe { slice_mut(weights, room, "weights") }?;
        weights.copy_from_slice(handle::shared(net, "net")?.weights());
        Ok(())
    })
}

/// Sets the weights, in the order of `setun_lr_net_weights`; what is kept of parameters stays. Returns ARGUMENT
/// (another count; a weight that is not from -16 to 16, naming it: then nothing has changed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_set_weights(
    net: *mut setun_lr_net,
    weights: *const f64,
    count: i64,
) -> setun_status {
    guard("lr_net_set_weights", || {
        // SAFETY: NULL and alignment are checked; the length is the caller's contract.
        let weights = unsafe { slice(weights, size(count, "count")?, "weights") }?;
        handle::exclusive(net, "net")?.set_weights(weights)
    })
}

/// Writes weights, largest_factor, and what is kept of losses and parameters to the file `path` (safetensors, with
/// "format": "setun-lr-net" in its metadata), or replaces it, whole or not at all. Returns IO, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_save(net: *const setun_lr_net, path: *const c_char) -> setun_status {
    guard("lr_net_save", || {
        // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
        let path = unsafe { arguments::path(path, "path") }?;
        handle::shared(net, "net")?.save(path)
    })
}

/// Continues from a file of `setun_lr_net_save`, with its largest_factor and this network's online_rate: the factors
/// that follow are bit for bit those of the network that was saved. For trained weights alone, `setun_lr_net_reset`
/// after it. On failure nothing has changed. Returns IO, FORMAT (damaged, or no network; says what), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_load(net: *mut setun_lr_net, path: *const c_char) -> setun_status {
    guard("lr_net_load", || {
        // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
        let path = unsafe { arguments::path(path, "path") }?;
        handle::exclusive(net, "net")?.load(path)
    })
}

/// Forgets losses and parameters, for another run. The weights stay, with what the last layer has learned. Returns
/// ARGUMENT (a handle that is none), STATE (busy).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_reset(net: *mut setun_lr_net) -> setun_status {
    guard("lr_net_reset", || {
        handle::exclusive(net, "net")?.reset();
        Ok(())
    })
}

/// Frees the network; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_lr_net_free(net: *mut setun_lr_net) {
    guard_silent("lr_net_free", || handle::free(net));
}
