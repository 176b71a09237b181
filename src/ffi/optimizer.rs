//! OPTIMIZER: many parameters as one, in floats or codes, by methods of your choice
//!
//! A `setun_optimizer` steps any number of parameters together: clipped by the norm of all their gradients, refused or
//! taken as one, each with options of its own. It keeps their states, in floats or in codes of 8 bits, and is a
//! checkpoint. `setun_optimizer_step_guarded` skips batches that are none to learn from, and undoes a step that made
//! its own batch worse.
//!
//!     setun_optimizer *optimizer = NULL;
//!     const int64_t dims[2] = {rows, columns};
//!     setun_optimizer_create(NULL, &optimizer);
//!     setun_optimizer_add(optimizer, "w", w, dims, 2, NULL);
//!     const float *gradients[1] = {gradient};
//!     if (setun_optimizer_step(optimizer, gradients, 1, NULL) != SETUN_OK) puts(setun_last_error());
//!     setun_optimizer_free(optimizer);

use super::arguments::{self, check_apart, check_pointer, extent, size, slice, slice_mut, store};
use super::context;
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::setun_status;
use super::lr_net::setun_lr_net;
use super::optimizer_object::{OptimizerObject, guard_options, known, lend, parameter_options, step_options};
use super::options::{self, Versioned};
use super::step::{c_report, check_report, outcome, setun_optimizer_options, setun_step_report, write_report};
use super::tensor::shape;
use crate::step::{Kind, Optimizer, Parameter, ParameterOptions, Report};
use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use std::ffi::c_char;

/// What a parameter is to the network.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_parameter_kind {
    /// A matrix if it has two dimensions or more, else a vector.
    Auto = 0,
    /// The floats behind weights that are used as ternary ones; they step like a matrix.
    Ternary = 1,
    /// Has weight_decay and radius_floor.
    Matrix = 2,
    /// Gains and biases: no weight decay, and vector_floor.
    Vector = 3,
}

/// What one parameter has of its own. Fill it with `setun_parameter_options_init`; NAN = what the
/// optimizer's options say.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_parameter_options {
    pub struct_size: usize,
    /// A `setun_parameter_kind`. Default SETUN_PARAMETER_KIND_AUTO.
    pub kind: i32,
    /// Default NAN.
    pub weight_decay: f64,
    /// Default NAN.
    pub radius_floor: f64,
    /// Default NAN.
    pub lower: f64,
    /// Default NAN.
    pub upper: f64,
    /// Its own radius. Default NAN.
    pub radius: f64,
    /// Its own `setun_step_method`; -1 = the optimizer's. Default -1.
    pub method: i32,
    /// Leave it 0; it is not looked at.
    pub reserved: i32,
}

// SAFETY: repr(C), begins with struct_size, numbers only, ends with 8 bytes at a multiple of that: no padding at the end.
unsafe impl Versioned for setun_parameter_options {
    fn defaults() -> Self {
        setun_parameter_options {
            struct_size: size_of::<Self>(),
            kind: setun_parameter_kind::Auto as i32,
            weight_decay: f64::NAN,
            radius_floor: f64::NAN,
            lower: f64::NAN,
            upper: f64::NAN,
            radius: f64::NAN,
            method: -1,
            reserved: 0,
        }
    }
}

/// Parameters of several together, steps of many as one.
pub struct setun_optimizer {
    _opaque: [u8; 0],
}

impl Handle for setun_optimizer {
    type Object = OptimizerObject;
    const NAME: &'static str = "setun_optimizer";
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_parameter_options_init(options: *mut setun_parameter_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Makes an optimizer without parameters; `setun_optimizer_add` them. NULL options = the defaults. Free it
/// with `setun_optimizer_free`. Returns ARGUMENT (an option out of its range), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_create(
    options: *const setun_optimizer_options,
    out: *mut *mut setun_optimizer,
) -> setun_status {
    guard("optimizer_create", || {
        check_pointer(out, "out")?;
        // SAFETY: a struct as large as it says is the caller's contract.
        let options = unsafe { options::read(options, "options") }?;
        let optimizer = Optimizer::new(context::resolve(options.context)?, step_options(&options)?)?;
        let optimizer = OptimizerObject::new(optimizer, guard_options(&options)?);
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, optimizer) }
    })
}

/// Adds the parameter `name`, the floats at `data` of the shape `dims` [rank], before the first step. NULL
/// options = a matrix or a vector by its rank, and the optimizer's options.
///
/// Nothing is copied: `data` must stay valid until the optimizer is freed, or at least unused by calls on
/// it. Between those calls you may read and write it. `data` is NULL only when a size is 0. What the states
/// take, `setun_state_precision` says. Returns ARGUMENT (a name that is empty or taken; data that overlaps another
/// parameter; misaligned; an option out of its range), SHAPE, STATE (after the first step), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_add(
    optimizer: *mut setun_optimizer,
    name: *const c_char,
    data: *mut f32,
    dims: *const i64,
    rank: i32,
    options: *const setun_parameter_options,
) -> setun_status {
    guard("optimizer_add", || {
        // SAFETY: a string that ends, `rank` sizes and a struct as large as it says are the caller's contract.
        let (name, dims, options) =
            unsafe { (arguments::text(name, "name")?, shape(dims, rank)?, options::read(options, "options")?) };
        let own = parameter_options(&options, dims.len())?;
        // SAFETY: the header asks the caller for the size, the lifetime and the exclusiveness.
        let tensor = unsafe { lend(data, &dims, "data") }?;
        handle::exclusive(optimizer, "optimizer")?.add(name, tensor, &own)
    })
}

/// Adds the ternary parameter `name` of the shape `dims` [rank] to an optimizer with compact states: as codes
/// of 8 bits, which are the optimizer's own. They begin as those of the floats at `initial`, which are read
/// once; read them with `setun_optimizer_read`. The kind is TERNARY, whatever the options say. Returns as
/// `setun_optimizer_add`, ARGUMENT where the states are not compact, or initial holds a NaN or an infinity, and
/// SHAPE unless there are two dimensions, and elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_add_compact(
    optimizer: *mut setun_optimizer,
    name: *const c_char,
    initial: *const f32,
    dims: *const i64,
    rank: i32,
    options: *const setun_parameter_options,
) -> setun_status {
    guard("optimizer_add_compact", || {
        // SAFETY: a string that ends, `rank` sizes and a struct as large as it says are the caller's contract.
        let (name, dims, options) =
            unsafe { (arguments::text(name, "name")?, shape(dims, rank)?, options::read(options, "options")?) };
        let own = ParameterOptions { kind: Kind::Ternary, ..parameter_options(&options, dims.len())? };
        // SAFETY: NULL and alignment are checked; the length is the caller's contract.
        let initial = unsafe { slice(initial, arguments::count::<f32>(&dims, "dims")?, "initial") }?;
        handle::exclusive(optimizer, "optimizer")?.add_compact(name, initial, &dims, &own)
    })
}

/// Writes the parameter `index`, in the order they were added from 0, to `out`, `count` floats: those of codes
/// as what they stand for. Returns ARGUMENT (no such parameter; misaligned), SHAPE (another count), MEMORY (a copy of
/// the parameter).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_read(
    optimizer: *const setun_optimizer,
    index: i64,
    out: *mut f32,
    count: i64,
) -> setun_status {
    guard("optimizer_read", || {
        let count = size(count, "count")?;
        let optimizer = handle::shared(optimizer, "optimizer")?;
        let floats = optimizer.floats(parameter_index(index, optimizer.get().parameters().len())?)?;
        let found = floats.count();
        ensure!(found == count, Shape, "count is {count}, the parameter has {found} elements");
        check_apart(&[extent("out", out, count)], &[])?;
        // SAFETY: NULL and alignment are checked; the length is the caller's contract.
        let out = unsafe { slice_mut(out, count, "out") }?;
        out.copy_from_slice(floats.host::<f32>()?);
        Ok(())
    })
}

/// One step of all parameters. `gradients` holds `count` pointers, one for each parameter in the order they
/// were added, each to as many floats as its parameter has. `report`, unless NULL, is filled also when the
/// step is refused.
///
/// Returns ARGUMENT (another count; NULL, misaligned; a gradient that overlaps a parameter), STATE (refused, naming
/// parameter and element: no parameter and no state has changed; or no parameters; or busy), ABI, MEMORY (nothing has
/// changed; only where the products of Muon, or a device, find none in the midst of a step, parameters before that
/// one have stepped).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_step(
    optimizer: *mut setun_optimizer,
    gradients: *const *const f32,
    count: i64,
    report: *mut setun_step_report,
) -> setun_status {
    guard("optimizer_step", || {
        // SAFETY: a struct as large as it says and `count` pointers are the caller's contract.
        let gradients = unsafe {
            check_report(report)?;
            slice(gradients, size(count, "count")?, "gradients")?
        };
        // SAFETY: gradients as long as their parameters, and parameters that are alive, are the caller's contract.
        let done = unsafe { handle::exclusive(optimizer, "optimizer")?.step(gradients) }?;
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { write_report(report, &done) }?;
        outcome(done)
    })
}

/// The same, under a guard. `loss` is the mean loss of the batch that the gradients are of. A batch whose loss
/// or gradient norm is no number, or a spike above the last ones, is skipped: the status is OK, the outcome in
/// `report` SKIPPED, and nothing has changed. After eight spikes in a row the next is taken: then it is the run that is
/// at another level, not its batches. Spikes are seen once 20 batches were taken (and 20 more after a new level),
/// what is no number from the first batch on.
///
/// Every guard_interval steps `check_due` in the report is 1: then all is kept as it was before the step (in as
/// much memory as parameters and states take) until `setun_optimizer_judge`, which undoes the step or lets it
/// stay; without it, the next step lets it stay. Returns as `setun_optimizer_step`, and STATE where the batch would be
/// skipped and with it more than half of the last 64 were, or undone: the guard stops, and `report`, filled then too, has
/// the outcome SKIPPED. After a failure the guard has not seen the batch: it may come again.
///
/// Out of a stop leads any batch that is not skipped: it is taken as ever, and one of the 64 less. So lower learning
/// rate or radius, or leave such batches out. `setun_optimizer_step` steps along any that is finite, and the guard
/// remembers nothing of it. A larger guard_spike takes another optimizer, which may load a file of this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_step_guarded(
    optimizer: *mut setun_optimizer,
    gradients: *const *const f32,
    count: i64,
    loss: f64,
    report: *mut setun_step_report,
) -> setun_status {
    guard("optimizer_step_guarded", || {
        // SAFETY: a struct as large as it says and `count` pointers are the caller's contract.
        let gradients = unsafe {
            check_report(report)?;
            slice(gradients, size(count, "count")?, "gradients")?
        };
        // SAFETY: gradients as long as their parameters, and parameters that are alive, are the caller's contract.
        let done = unsafe { handle::exclusive(optimizer, "optimizer")?.step_guarded(gradients, loss) }?;
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { write_report(report, &done) }?;
        outcome(done)
    })
}

/// Decides about the last step, of which `check_due` was 1: with the losses `before` and `after` it of the n
/// parts of its batch, n at least 1. Where their mean has risen by more than guard_tolerance standard errors of
/// that rise (or of one part: at all), or is no number, the step is undone bit for bit, the radius is a quarter
/// (with the mode off: the learning rate) and grows back by 5% a step, and `undone`, unless NULL, becomes 1,
/// else 0. Returns STATE (no step waits for it; or, once the step is undone, more than half of the last 64 batches
/// were skipped or undone: then `undone` is not written, and steps go on as after a stop of
/// `setun_optimizer_step_guarded`), ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_judge(
    optimizer: *mut setun_optimizer,
    before: *const f32,
    after: *const f32,
    n: i64,
    undone: *mut i32,
) -> setun_status {
    guard("optimizer_judge", || {
        let n = size(n, "n")?;
        ensure!(n > 0, Argument, "n is 0, expected at least 1");
        check_apart(
            &[extent("undone", undone, usize::from(!undone.is_null()))],
            &[extent("before", before, n), extent("after", after, n)],
        )?;
        // SAFETY: NULL and alignment are checked; the lengths are the caller's contract.
        let (before, after) = unsafe { (slice(before, n, "before")?, slice(after, n, "after")?) };
        let judged = handle::exclusive(optimizer, "optimizer")?.judge(before, after)?;
        if undone.is_null() {
            return Ok(());
        }
        // SAFETY: not NULL; a valid pointer is the caller's contract.
        unsafe { store(undone, i32::from(judged), "undone") }
    })
}

/// Gives the optimizer a copy of the network `net`: from now on its factors multiply learning rate and radius of
/// each parameter. NULL takes it away. Losses reach it by `setun_optimizer_step_guarded`; without them it sees none.
/// `setun_optimizer_judge` takes back what it has learned in a step that is undone, but not this. Returns ARGUMENT
/// (a handle that is none), STATE (busy).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_set_lr_net(
    optimizer: *mut setun_optimizer,
    net: *const setun_lr_net,
) -> setun_status {
    guard("optimizer_set_lr_net", || {
        let net = if net.is_null() { None } else { Some(handle::shared(net, "net")?.clone()) };
        handle::exclusive(optimizer, "optimizer")?.get_mut().set_net(net);
        Ok(())
    })
}

/// Hands out a copy of the optimizer's network, with what it has learned; free it with `setun_lr_net_free`. Returns
/// STATE (there is none), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_lr_net(
    optimizer: *const setun_optimizer,
    out: *mut *mut setun_lr_net,
) -> setun_status {
    guard("optimizer_lr_net", || {
        check_pointer(out, "out")?;
        let optimizer = handle::shared(optimizer, "optimizer")?;
        let net = optimizer.get().net().ok_or_else(|| error!(State, "the optimizer has no network"))?.clone();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, net) }
    })
}

/// Says what the last step did to the parameter `index`, in the order they were added from 0, or, for -1, to
/// all of them. Set the `struct_size` of `out` first. Returns ARGUMENT (no such parameter).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_report(
    optimizer: *const setun_optimizer,
    index: i64,
    out: *mut setun_step_report,
) -> setun_status {
    guard("optimizer_report", || {
        check_pointer(out, "out")?;
        let optimizer = handle::shared(optimizer, "optimizer")?;
        let (all, parameters) = (optimizer.last(), optimizer.get().parameters());
        let report = match index {
            -1 => c_report(&all),
            _ => parameter_report(&all, &parameters[parameter_index(index, parameters.len())?]),
        };
        // SAFETY: not NULL; a struct as large as it says is the caller's contract.
        unsafe { options::write(out, report, "out") }
    })
}

/// ARGUMENT unless it is one of so many.
fn parameter_index(index: i64, count: usize) -> Result<usize> {
    let found = usize::try_from(index).ok().filter(|&index| index < count);
    found.ok_or_else(|| error!(Argument, "index is {index}, the optimizer has {count} parameters"))
}

fn parameter_report(all: &Report, Parameter { report, .. }: &Parameter) -> setun_step_report {
    setun_step_report {
        learning_rate: report.learning_rate,
        gradient_norm: report.gradient_norm,
        step_rms: report.step_rms,
        weight_rms: report.weight_rms,
        ratio: report.ratio,
        held: i64::from(report.held),
        clamped: report.clamped as i64,
        flips: report.flips as i64,
        trits: report.trits as i64,
        flip_share: report.flip_share,
        cosine: report.cosine,
        signal: report.signal,
        ..c_report(all)
    }
}

/// Says the common radius of the next step, before the schedule: the options' or the last that was set (of NAN, that
/// of AdamW with d = 128, see `setun_optimizer_options`), and of it what refused updates and undone steps have left.
/// Returns ARGUMENT (out is NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_radius(optimizer: *const setun_optimizer, out: *mut f64) -> setun_status {
    guard("optimizer_radius", || {
        let radius = handle::shared(optimizer, "optimizer")?.get().radius();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, radius, "out") }
    })
}

/// Sets the radius, 0 or more, for a schedule of yours, or NAN for that of the mode: of all parameters but those with
/// a radius of their own, and of vectors while vector_radius is NAN. A file that is loaded sets it too. What refused
/// updates have taken of it stays taken, until it has grown back. Returns ARGUMENT (negative, or beyond f32), STATE
/// (busy).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_set_radius(optimizer: *mut setun_optimizer, radius: f64) -> setun_status {
    guard("optimizer_set_radius", || handle::exclusive(optimizer, "optimizer")?.get_mut().set_radius(known(radius)))
}

/// Sets the learning rate, 0 or more, for a schedule of yours; a file that is loaded sets it too. Returns ARGUMENT
/// (negative, a NaN, or beyond f32), STATE (busy).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_set_learning_rate(
    optimizer: *mut setun_optimizer,
    learning_rate: f64,
) -> setun_status {
    guard("optimizer_set_learning_rate", || {
        handle::exclusive(optimizer, "optimizer")?.get_mut().set_learning_rate(learning_rate)
    })
}

/// Says how many bytes the states take, beside your parameters and gradients, and what the optimizer keeps of
/// weights of its own. Returns ARGUMENT (out is NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_state_bytes(
    optimizer: *const setun_optimizer,
    out: *mut usize,
) -> setun_status {
    guard("optimizer_state_bytes", || {
        let bytes = handle::shared(optimizer, "optimizer")?.state_bytes();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, bytes, "out") }
    })
}

/// Writes the parameters, their states, the count of steps, the learning rate, the radius, what the guard remembers,
/// the rms of each parameter before its first step, what the last step did to it, and the network, if there is one, to
/// the file `path` (safetensors: parameter.<name>, m.<name>, v.<name>, and with _scale at the end of the first word the
/// scales of codes; initial_rms, previous; lr_net.*), or replaces it, whole or not at all. A step that waits for
/// `setun_optimizer_judge` is saved as one that stays: judge first. Returns STATE (a parameter holds a NaN or an
/// infinity: nothing is written), IO, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_save(optimizer: *const setun_optimizer, path: *const c_char) -> setun_status {
    guard("optimizer_save", || {
        // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
        let path = unsafe { arguments::path(path, "path") }?;
        handle::shared(optimizer, "optimizer")?.save(path)
    })
}

/// Continues from a file of `setun_optimizer_save`: writes your parameters too. The optimizer must have
/// parameters of the same names and shapes, with states of the same kind, and a network where the file has one, whose
/// weights and states it takes over; the options of create and add, and the network's online_rate, are not in the file.
/// But the learning rate and the radius are: set them after it, if they shall be others.
///
/// With the same options, on the same backend and CPU level, the steps that follow are bit for bit those of an
/// optimizer that never stopped. On failure nothing has changed. Returns IO, FORMAT (damaged, or with other
/// parameters, another method or states, a network or none, naming which), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_load(optimizer: *mut setun_optimizer, path: *const c_char) -> setun_status {
    guard("optimizer_load", || {
        // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
        let path = unsafe { arguments::path(path, "path") }?;
        handle::exclusive(optimizer, "optimizer")?.load(path)
    })
}

/// Frees the optimizer and its states; NULL is fine. Your parameters stay, as far as they have come.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_optimizer_free(optimizer: *mut setun_optimizer) {
    guard_silent("optimizer_free", || handle::free(optimizer));
}
