//! TRAIN: text in, ternary language model out
//!
//! `setun_train` does it all: reads a text, trains a tokenizer and a model, and hands both back. A
//! `setun_trainer` gives the steps one by one, on a model and data of yours. AdamW (arXiv 1711.05101), Muon or
//! momentum on 32-bit masters, or on 8-bit codes of them; gradients straight through the quantization.
//! Checkpoints are folders, written beside and renamed, each file with a checksum; a run that is resumed on
//! the same backend continues bit for bit as if it had never stopped. A step whose loss or gradient is not
//! finite is refused, and changes nothing (but for `gradient_release`); under the guard it is skipped, and the run
//! goes on.
//!
//!     setun_train_options options;
//!     setun_train_options_init(&options, sizeof options);
//!     options.max_epochs = 2;
//!     options.progress = print_loss;
//!     setun_model *model = NULL;
//!     if (setun_train("corpus.txt", &options, &model, NULL) != SETUN_OK) puts(setun_last_error());

use super::arguments::{self, check_apart, check_pointer, extent, optional, size, store};
use super::context::setun_context;
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::{setun_cancel, setun_status};
use super::lr_net::setun_lr_net;
use super::model::{setun_model, setun_model_options};
use super::options::{self, Versioned};
use super::step::{setun_radius_base, setun_radius_mode, setun_state_precision, setun_step_method};
use super::text::{setun_dataset, setun_tokenizer, setun_tokenizer_kind};
use super::trainer::{TrainerObject, TrainingOptions, train, whole_geometry};
use crate::tensor::Result;
use crate::tensor::error::ensure;
use crate::train::{Metrics, RunEnd};
use std::ffi::{c_char, c_void};
use std::sync::Arc;

/// How the learning rate goes after the warm-up.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_schedule {
    /// Down to minimum_lr_ratio along half a cosine.
    Cosine = 0,
    /// Not at all.
    Constant = 1,
    /// Down to minimum_lr_ratio along a line.
    Linear = 2,
    /// Not at all, and in the last fifth of what follows the warm-up down to minimum_lr_ratio along a line
    /// (arXiv 2404.06395).
    Stable = 3,
}

/// What gradients pass through before the update.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_gradient_quantization {
    /// Nothing.
    None = 0,
    /// 8-bit codes, rounded at random, as `setun_quantize_gradients` makes them.
    Int8 = 1,
    /// Trits, whose error is added to the next gradient, as `setun_ternarize_gradients` makes them.
    Ternary = 2,
}

/// In which numbers a gradient of a ternary layer is computed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_gradient_products {
    /// 32-bit floats.
    F32 = 0,
    /// 8-bit codes of the gradient of the layer's output, and exact sums of integers.
    Int8 = 1,
}

/// What is known after a step.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_metrics {
    pub struct_size: usize,
    /// Steps done.
    pub step: i64,
    /// Steps of the whole run.
    pub total_steps: i64,
    /// Passes over the training tokens so far.
    pub epoch: f64,
    /// Mean training loss of the step, nats a token.
    pub loss: f64,
    /// The one that the step was taken with.
    pub learning_rate: f64,
    /// The Euclidean norm of the gradient, before clipping.
    pub gradient_norm: f64,
    /// Mean loss over the validation part, nats a token; NaN when it was not measured at this step.
    pub validation_loss: f64,
    /// Training speed.
    pub tokens_per_second: f64,
    pub elapsed_seconds: f64,
    /// At the present speed.
    pub remaining_seconds: f64,
    /// What `use_adaptive_lr` multiplied the learning rate of the schedule by, which `learning_rate` contains;
    /// 1 when it is off.
    pub learning_rate_factor: f64,
    /// The share of the trits of all matrices that the step changed, by the thresholds from before it; NaN without
    /// ternary weights.
    pub flip_rate: f64,
    /// The largest rms(step) over rms(weights) of a parameter; NaN where the batch was skipped, as flip_rate then.
    pub step_ratio: f64,
    /// What the guard has left of radius or learning rate: 1 where none is missing.
    pub radius_factor: f64,
    /// Batches that the guard has skipped so far, and steps that it has undone.
    pub skipped_batches: i64,
    pub undone_steps: i64,
}

// SAFETY: repr(C), begins with struct_size, 8-byte numbers only: no padding.
unsafe impl Versioned for setun_metrics {
    fn defaults() -> Self {
        setun_metrics {
            struct_size: size_of::<Self>(),
            step: 0,
            total_steps: 0,
            epoch: 0.0,
            loss: f64::NAN,
            learning_rate: 0.0,
            gradient_norm: f64::NAN,
            validation_loss: f64::NAN,
            tokens_per_second: 0.0,
            elapsed_seconds: 0.0,
            remaining_seconds: 0.0,
            learning_rate_factor: f64::NAN,
            flip_rate: f64::NAN,
            step_ratio: f64::NAN,
            radius_factor: 1.0,
            skipped_batches: 0,
            undone_steps: 0,
        }
    }
}

/// Called on the training thread after every step. Return 0 to stop, anything else to go on. `metrics` is
/// valid during the call. It may use the model through `const` calls (save, loss), and not the trainer.
pub type setun_progress_callback =
    Option<unsafe extern "C" fn(metrics: *const setun_metrics, user_data: *mut c_void) -> i32>;

/// How to train. Fill it with `setun_train_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_train_options {
    pub struct_size: usize,
    /// Windows of text a batch. Default 32.
    pub batch_size: i64,
    /// Passes over the training tokens, which give the number of steps: windows are drawn at random.
    /// `max_steps` has precedence. Default 10.
    pub max_epochs: i64,
    /// Clusters of the training text, by k-means on hashed TF-IDF vectors of its windows, over which every
    /// batch is spread; 0 or 1 = windows are drawn evenly, as they are where there are fewer than 8 windows a
    /// cluster. Default 10.
    pub n_clusters: i64,
    /// The highest learning rate. Default 1e-3.
    pub learning_rate: f64,
    /// Non-zero: train ternary weights; 0: plain floats. A trainer's must agree with its model's;
    /// `setun_train` trains plain floats when either is 0. Default 1.
    pub quantize_weights: i32,
    /// A `setun_gradient_quantization`: what the summed gradient of every matrix passes through before the
    /// update, in blocks of 256. The memory is that of float gradients, and one byte more for each element of
    /// the largest matrix, or, with trits, eight for each element of every matrix. Default
    /// SETUN_GRADIENT_QUANTIZATION_INT8.
    pub quantize_gradients: i32,
    /// Non-zero: the peak of the learning rate is kept in a band that the weights the run starts from decide:
    /// where one step of AdamW moves them by 0.4% to 1.5% of their size, one of Muon by 1.2% to 4.4%. Inside the band
    /// the run is bit for bit that of the plain schedule; outside, the schedule is scaled to the nearer edge, by 32
    /// at most. For 4 layers x 128 the band is 0.8e-3 to 3e-3 with AdamW, 0.54e-3 to 2e-3 with Muon; momentum has
    /// none. Default 1.
    pub use_adaptive_lr: i32,
    /// Where checkpoints and metrics.jsonl go, a folder of this run's own, which is made; NULL = nowhere.
    /// Default NULL.
    pub checkpoint_dir: *const c_char,
    /// Steps of the run; 0 = as many as `max_epochs` takes. Default 0.
    pub max_steps: i64,
    /// Batches whose gradients are added before a step. Default 1.
    pub accumulation: i64,
    /// Tokens a window; 0 = the model's context length. Default 0.
    pub context_length: i64,
    /// A `setun_schedule`. Default SETUN_SCHEDULE_COSINE.
    pub schedule: i32,
    /// Steps in which the learning rate rises from 0. Default 100.
    pub warmup_steps: i64,
    /// The lowest learning rate, as a share of the highest; NAN = by the method, 0.01 of SETUN_STEP_METHOD_MUON, 0.1 of the
    /// others. Default NAN.
    pub minimum_lr_ratio: f64,
    /// Of matrices; gains have none. Default 0.1.
    pub weight_decay: f64,
    /// AdamW. Default 0.9.
    pub beta1: f64,
    /// AdamW. Default 0.99.
    pub beta2: f64,
    /// AdamW. Default 1e-8.
    pub epsilon: f64,
    /// The largest gradient norm, to which larger ones are scaled down; 0 = no limit. Default 1.
    pub clip: f64,
    /// Of the batches, of dropout, and of gradients and codes that are rounded at random; with a NULL `model`, of the initial weights too. Default 0.
    pub seed: u64,
    /// Steps between two lines in metrics.jsonl and in the log; 0 = only evaluations. Default 10.
    pub log_interval: i64,
    /// Steps between validations; 0 = only at the end. Default 0.
    pub evaluation_interval: i64,
    /// Windows in a validation; 0 = the whole part. Default 0.
    pub evaluation_windows: i64,
    /// Steps between checkpoints; 0 = only at the end. Default 0.
    pub checkpoint_interval: i64,
    /// How many checkpoints stay; older ones are removed; 0 = all stay. Default 3.
    pub keep_checkpoints: i64,
    /// Hears of the progress; NULL = nobody. Default NULL.
    pub progress: setun_progress_callback,
    /// Handed to `progress`. Default NULL.
    pub user_data: *mut c_void,
    /// Stops the run from another thread; NULL = no token. Default NULL.
    pub cancel: *const setun_cancel,
    /// For `setun_train`: the geometry; its vocabulary is the tokenizer's. NULL = the defaults. Default
    /// NULL.
    pub model: *const setun_model_options,
    /// For `setun_train`: a `setun_tokenizer_kind`. Default SETUN_TOKENIZER_BYTE.
    pub tokenizer: i32,
    /// For `setun_train`: the tokens that a BPE tokenizer learns. Default 1024.
    pub vocabulary: i64,
    /// For `setun_train`: the share of the text kept for validation, 0 to below 1. Default 0.1.
    pub validation_fraction: f64,
    /// For `setun_train`: where it runs; NULL = the default context. Default NULL.
    pub context: *const setun_context,
    /// How often a cluster is drawn: ~ size^(1 - cluster_balance). 0 = in proportion to its size, so that every
    /// window is as likely as without clusters; 1 = as often as any other. Default 0.
    pub cluster_balance: f64,
    /// A `setun_gradient_products`: how a ternary layer computes the gradient to its input. INT8 takes a scale
    /// for each token, and the nearest code of -127 to 127. Default SETUN_GRADIENT_PRODUCTS_INT8.
    pub input_gradient: i32,
    /// A `setun_gradient_products`: how a ternary layer computes the gradient to its weights. INT8 takes a
    /// scale for each output and 256 tokens, and codes of -32 to 32, rounded at random so that their mean is
    /// the gradient. Default SETUN_GRADIENT_PRODUCTS_INT8.
    pub weight_gradient: i32,
    /// 0 or 1: of each layer only the inputs of its two blocks are kept for the backward pass, which computes the
    /// rest anew (activation checkpointing, arXiv 1604.06174): less memory, about a fifth more work, the same
    /// numbers to the bit. May change when a run is resumed. Default 0.
    pub activation_checkpointing: i32,
    /// A `setun_step_method`; embedding and head go as AdamW does under MUON. Default SETUN_STEP_METHOD_ADAMW.
    pub method: i32,
    /// A `setun_state_precision`: COMPACT keeps the floats of ternary layers as codes of 8 bits too, from the
    /// creation of the trainer on, until another one keeps floats. Default SETUN_STATE_PRECISION_F32.
    pub states: i32,
    /// A `setun_radius_mode`, with `radius`. Default SETUN_RADIUS_MODE_OFF.
    pub radius_mode: i32,
    /// A `setun_radius_base`. Default SETUN_RADIUS_BASE_CURRENT.
    pub radius_base: i32,
    /// Non-zero: batches whose loss or gradient is no number or a spike are skipped, and every guard_interval
    /// steps the batch of the step is evaluated again, and a step that made it worse is undone, from
    /// a copy of parameters and states. The run ends with STATE where the guard acts in more than half of 64
    /// steps. Default 0.
    pub guard: i32,
    /// Of Muon and momentum. Default 0.95.
    pub momentum: f64,
    /// The rms of Muon's direction, which the learning rate multiplies. Default 1.
    pub muon_rms: f64,
    /// rms(step) over rms(weights) of each matrix, at most or exactly, at the peak of the schedule; NAN = that of the mode, as in
    /// `setun_optimizer_options`, with T the steps of the run. Default NAN.
    pub radius: f64,
    /// The largest share of the trits of a matrix that change in a step, by the model's threshold from before it, as in
    /// `setun_optimizer_options`; 1 = no limit. Default 1.
    pub flip_budget: f64,
    /// The radius of gains; NAN = the same. Default NAN.
    pub vector_radius: f64,
    /// Steps between two that the guard checks; 0 = it looks at batches only. Default 16.
    pub guard_interval: i64,
    /// A network, copied, whose factors multiply learning rate and radius of each parameter; NULL = none. Default
    /// NULL.
    pub lr_net: *const setun_lr_net,
    /// A model to learn from beside the text (distillation, arXiv 1503.02531): of the same vocabulary, on the same device, with at
    /// least the context of the run; packed ones will do. It is shared, and may not be changed while the trainer exists: a resumed run
    /// asks for the same weights. A step takes its forward pass too. NULL = none. Default NULL.
    pub teacher: *const setun_model,
    /// The weight of the teacher's probabilities, above 0 and at most 1; the text has the rest. The losses that are reported
    /// are those of the text. Default 0.7.
    pub distillation: f64,
    /// 0 or 1: each matrix takes its step as soon as the backward pass has its gradient, which is given up before the next one is
    /// there (as in LOMO, arXiv 2306.09782): there is room for those of a part of a layer, beside those of
    /// embedding, output layer and gains. The batch passes through the
    /// model at once, however long it is. The numbers are those of a run without where that takes the batch at once too
    /// (up to 4096 tokens, more on a device); it may not change when a run is resumed. ARGUMENT with clip other than 0,
    /// accumulation other than 1, a guard, an lr_net, or ternary quantize_gradients, which need all gradients at once. A
    /// token is seen until the first matrix steps. A step that is refused after that (a gradient that is no number while
    /// the loss is one; weights or an update beyond f32) or fails (memory) has changed some layers: the trainer then refuses
    /// with STATE to step, to evaluate and to save until it resumes from a checkpoint, so set checkpoint_interval; the
    /// model is of no use until then. Default 0.
    pub gradient_release: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: repr(C), begins with struct_size, numbers, pointers and a nullable function pointer, ends with 8 bytes at a
// multiple of that: no padding at the end.
unsafe impl Versioned for setun_train_options {
    fn defaults() -> Self {
        setun_train_options {
            struct_size: size_of::<Self>(),
            batch_size: 32,
            max_epochs: 10,
            n_clusters: 10,
            learning_rate: 1e-3,
            quantize_weights: 1,
            quantize_gradients: setun_gradient_quantization::Int8 as i32,
            use_adaptive_lr: 1,
            checkpoint_dir: std::ptr::null(),
            max_steps: 0,
            accumulation: 1,
            context_length: 0,
            schedule: setun_schedule::Cosine as i32,
            warmup_steps: 100,
            minimum_lr_ratio: f64::NAN,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            clip: 1.0,
            seed: 0,
            log_interval: 10,
            evaluation_interval: 0,
            evaluation_windows: 0,
            checkpoint_interval: 0,
            keep_checkpoints: 3,
            progress: None,
            user_data: std::ptr::null_mut(),
            cancel: std::ptr::null(),
            model: std::ptr::null(),
            tokenizer: setun_tokenizer_kind::SetunTokenizerByte as i32,
            vocabulary: 1024,
            validation_fraction: 0.1,
            context: std::ptr::null(),
            cluster_balance: 0.0,
            input_gradient: setun_gradient_products::Int8 as i32,
            weight_gradient: setun_gradient_products::Int8 as i32,
            activation_checkpointing: 0,
            method: setun_step_method::Adamw as i32,
            states: setun_state_precision::F32 as i32,
            radius_mode: setun_radius_mode::Off as i32,
            radius_base: setun_radius_base::Current as i32,
            guard: 0,
            momentum: 0.95,
            muon_rms: 1.0,
            radius: f64::NAN,
            flip_budget: 1.0,
            vector_radius: f64::NAN,
            guard_interval: 16,
            lr_net: std::ptr::null(),
            teacher: std::ptr::null(),
            distillation: 0.7,
            gradient_release: 0,
            reserved: 0,
        }
    }
}

/// A training run.
pub struct setun_trainer {
    _opaque: [u8; 0],
}

impl Handle for setun_trainer {
    type Object = TrainerObject;
    const NAME: &'static str = "setun_trainer";
}

/// The metrics as C sees them.
pub fn c_metrics(metrics: &Metrics) -> setun_metrics {
    setun_metrics {
        struct_size: size_of::<setun_metrics>(),
        step: metrics.step as i64,
        total_steps: metrics.total_steps as i64,
        epoch: metrics.epoch,
        loss: metrics.loss,
        learning_rate: metrics.learning_rate,
        gradient_norm: metrics.gradient_norm,
        validation_loss: metrics.validation_loss.unwrap_or(f64::NAN),
        tokens_per_second: metrics.tokens_per_second,
        elapsed_seconds: metrics.elapsed_seconds,
        remaining_seconds: metrics.remaining_seconds,
        learning_rate_factor: metrics.learning_rate_factor,
        flip_rate: metrics.flip_rate,
        step_ratio: metrics.step_ratio,
        radius_factor: metrics.radius_factor,
        skipped_batches: metrics.skipped_batches as i64,
        undone_steps: metrics.undone_steps as i64,
    }
}

/// # Safety
/// `out` is NULL or points to a struct as large as it says.
unsafe fn check_metrics(out: *const setun_metrics) -> Result<()> {
    if out.is_null() {
        return Ok(());
    }
    // SAFETY: passed on to the caller.
    unsafe { options::check(out, "out") }
}

/// # Safety
/// `out` is NULL or points to a writable struct as large as it says.
unsafe fn write_metrics(out: *mut setun_metrics, metrics: &Metrics) -> Result<()> {
    if out.is_null() {
        return Ok(());
    }
    // SAFETY: passed on to the caller.
    unsafe { options::write(out, c_metrics(metrics), "out") }
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_train_options_init(options: *mut setun_train_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Trains a model on the text at the path `text`, a UTF-8 file or a folder of them. NULL options = the
/// defaults.
///
/// Hands back the model and, unless `tokenizer` is NULL, the tokenizer; free both. A progress callback that
/// returns 0 ends the run early with OK: the model is as far as it got. With `checkpoint_dir`, the run is
/// saved at its end, also when it was stopped or cancelled, and every checkpoint holds the tokenizer.
///
/// Returns ARGUMENT, SHAPE (the text is too short for one window; says how many tokens are needed), IO,
/// FORMAT, CANCELLED (nothing is handed back: what is in checkpoint_dir is continued with
/// `setun_trainer_resume`), STATE (the loss or gradient is not finite any more: the last
/// good state is saved in checkpoint_dir, but with gradient_release; or checkpoint_dir holds another run), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_train(
    text: *const c_char,
    options: *const setun_train_options,
    model: *mut *mut setun_model,
    tokenizer: *mut *mut setun_tokenizer,
) -> setun_status {
    guard("train", || {
        check_pointer(model, "model")?;
        if !tokenizer.is_null() {
            check_pointer(tokenizer, "tokenizer")?;
        }
        // SAFETY: structs as large as they say and strings that end are the caller's contract.
        let (text, options) = unsafe { (arguments::path(text, "text")?, options::read(options, "options")?) };
        // SAFETY: as above.
        let (options, geometry) = unsafe { (TrainingOptions::read(&options)?, whole_geometry(&options)?) };
        let (trained, made) = train(text, options, geometry)?;
        // SAFETY: checked above, or NULL; valid pointers are the caller's contract.
        unsafe {
            if !tokenizer.is_null() {
                handle::give(tokenizer, Arc::new(made))?;
            }
            handle::give(model, trained)
        }
    })
}

/// Prepares to train `model` on `dataset`. The tokenizer, unless NULL, goes into the checkpoints. NULL
/// options = the defaults.
///
/// The trainer keeps model and data set alive. Free it with `setun_trainer_free`. Strings and structs of
/// the options are copied; the callback's user data must stay valid. Returns ARGUMENT, SHAPE (a vocabulary
/// that does not fit, or too few tokens for one window), UNSUPPORTED (a model loaded from a packed file has
/// no float masters), STATE (another call is training it), CANCELLED (while windows of the text were
/// clustered), ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trainer_create(
    model: *mut setun_model,
    dataset: *const setun_dataset,
    tokenizer: *const setun_tokenizer,
    options: *const setun_train_options,
    out: *mut *mut setun_trainer,
) -> setun_status {
    guard("trainer_create", || {
        check_pointer(out, "out")?;
        // SAFETY: structs as large as they say and strings that end are the caller's contract.
        let options = unsafe { TrainingOptions::read(&options::read(options, "options")?) }?;
        let model = handle::exclusive(model, "model")?;
        let dataset = Arc::clone(&*handle::shared(dataset, "dataset")?);
        let json = match tokenizer.is_null() {
            true => None,
            false => Some(handle::shared(tokenizer, "tokenizer")?.to_json()?),
        };
        let trainer = TrainerObject::new(&model, dataset, json, options)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, trainer) }
    })
}

/// Does one step and nothing else: no evaluation, checkpoint, line of metrics.jsonl or callback, which are
/// `setun_trainer_run`'s. `out`, unless NULL, learns the metrics; set its `struct_size` first.
///
/// Returns STATE (the run is over; or the loss or gradient is not finite, then the step is refused and
/// nothing changed, but as gradient_release says; or checkpoint_dir holds another run; or another call uses the model; or an earlier step with
/// gradient_release, or a resume, failed in its midst), CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trainer_step(trainer: *mut setun_trainer, out: *mut setun_metrics) -> setun_status {
    guard("trainer_step", || {
        // SAFETY: NULL is checked; a struct as large as it says is the caller's contract.
        unsafe { check_metrics(out) }?;
        let metrics = handle::exclusive(trainer, "trainer")?.step()?;
        // SAFETY: as above.
        unsafe { write_metrics(out, &metrics) }
    })
}

/// Does all the remaining steps, with validations, checkpoints and progress calls. `finished`, unless NULL,
/// becomes 1 when the run reached its end and 0 when the progress callback stopped it; both are OK, and
/// saved when there is a `checkpoint_dir`. Returns also CANCELLED (saved likewise), STATE (as `setun_trainer_step`), IO.
///
/// A raised token is seen inside of a step or a validation, before each of its matrix products: the step is
/// given up, and changes nothing; the validation is done first when the run goes on, in this trainer or in
/// one that resumes. So a run ends with the same bits and reports wherever it was stopped. With gradient_release a step
/// whose first layers have taken it is done first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trainer_run(trainer: *mut setun_trainer, finished: *mut i32) -> setun_status {
    guard("trainer_run", || {
        let end = handle::exclusive(trainer, "trainer")?.run()?;
        if finished.is_null() {
            return Ok(());
        }
        // SAFETY: not NULL; a valid pointer is the caller's contract.
        unsafe { store(finished, i32::from(end == RunEnd::Finished), "finished") }
    })
}

/// Measures the mean loss over the validation part, nats a token. Returns STATE (the part is too short for
/// one window; or a step with gradient_release, or a resume, failed in its midst).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trainer_evaluate(trainer: *mut setun_trainer, loss: *mut f64) -> setun_status {
    guard("trainer_evaluate", || {
        check_pointer(loss, "loss")?;
        let mean = handle::exclusive(trainer, "trainer")?.evaluate()?;
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { store(loss, mean, "loss") }
    })
}

/// Writes a checkpoint into `checkpoint_dir`. Returns STATE (there is no checkpoint_dir; or a step with gradient_release,
/// or a resume, failed in its midst), IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trainer_save(trainer: *mut setun_trainer) -> setun_status {
    guard("trainer_save", || handle::exclusive(trainer, "trainer")?.with(|trainer| trainer.save().map(|_| ())))
}

/// Continues from `checkpoint`: one checkpoint's folder, or a `checkpoint_dir`, of which the newest is
/// taken.
///
/// The trainer must be made with the same model geometry, data set and options. A checkpoint of another
/// backend (simd and parallel count as one) or CPU level is refused unless `allow_other_backend` is non-zero: the run would
/// not end with the same bits. On failure nothing has changed, unless files fail (IO) or memory ends (MEMORY)
/// after all were verified, while tensors are read: then the trainer says STATE until a resume succeeds. Returns ARGUMENT (a checkpoint of another run;
/// says what differs), IO, FORMAT (damaged, naming the file and the newest good checkpoint before it),
/// MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trainer_resume(
    trainer: *mut setun_trainer,
    checkpoint: *const c_char,
    allow_other_backend: i32,
) -> setun_status {
    guard("trainer_resume", || {
        // SAFETY: NULL is checked; a NUL at the end is the caller's contract.
        let checkpoint = unsafe { arguments::path(checkpoint, "checkpoint") }?;
        let mut trainer = handle::exclusive(trainer, "trainer")?;
        trainer.with(|trainer| trainer.resume(checkpoint, allow_other_backend != 0))
    })
}

/// Says the metrics of the last step; set the `struct_size` of `out` first. Returns STATE while another
/// call uses the trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trainer_metrics(trainer: *const setun_trainer, out: *mut setun_metrics) -> setun_status {
    guard("trainer_metrics", || {
        check_pointer(out, "out")?;
        let trainer = handle::shared(trainer, "trainer")?;
        // SAFETY: not NULL; a struct as large as it says is the caller's contract.
        unsafe { write_metrics(out, trainer.metrics()) }
    })
}

/// Says the training loss of each cluster of the text, nats a token: the mean over its windows in the steps
/// since the last multiple of `log_interval` (of `evaluation_interval` where that is 0); NaN for a cluster without one. `sizes` learns how many windows
/// of the training text each has, `clusters` how many clusters there are: 0 when windows are drawn evenly.
///
/// `losses` and `sizes` have room for `capacity` numbers; each output may be NULL. Returns SHAPE (capacity is
/// below the number of clusters, and losses or sizes are not NULL), STATE while another call uses the trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trainer_cluster_losses(
    trainer: *const setun_trainer,
    losses: *mut f64,
    sizes: *mut i64,
    capacity: i64,
    clusters: *mut i64,
) -> setun_status {
    guard("trainer_cluster_losses", || {
        let trainer = handle::shared(trainer, "trainer")?;
        let (means, windows) = (trainer.metrics().cluster_loss.clone().unwrap_or_default(), trainer.cluster_sizes());
        let (count, room) = (windows.len(), size(capacity, "capacity")?);
        arguments::count::<f64>(&[room], "capacity")?;
        if !losses.is_null() || !sizes.is_null() {
            ensure!(count <= room, Shape, "capacity is {room}, there are {count} clusters");
        }
        let wanted = |given: bool, count: usize| if given { count } else { 0 };
        let outputs = [
            extent("losses", losses, wanted(!losses.is_null(), count)),
            extent("sizes", sizes, wanted(!sizes.is_null(), count)),
            extent("clusters", clusters, wanted(!clusters.is_null(), 1)),
        ];
        check_apart(&outputs, &[])?;
        // SAFETY: NULL is allowed, alignment and overlap are checked; room for `capacity` numbers is the caller's contract.
        let (losses, sizes, clusters) = unsafe {
            (optional(losses, count, "losses")?, optional(sizes, count, "sizes")?, optional(clusters, 1, "clusters")?)
        };
        losses.iter_mut().zip(&means).for_each(|(out, mean)| *out = mean.unwrap_or(f64::NAN));
        sizes.iter_mut().zip(&windows).for_each(|(out, &windows)| *out = windows as i64);
        clusters.fill(count as i64);
        Ok(())
    })
}

/// Frees the trainer; NULL is fine. The model stays, as far trained as it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_trainer_free(trainer: *mut setun_trainer) {
    guard_silent("trainer_free", || handle::free(trainer));
}
