//! What the train section keeps behind its handles: a trainer with the caller's callback and token, and the options as read.

use super::arguments::{self, one_of, size};
use super::context::{self, setun_context};
use super::floating::outside;
use super::handle;
use super::library::{Token, UserData};
use super::model_object::{MarkInPanic, ModelObject, check_poison, geometry};
use super::optimizer_object;
use super::options;
use super::text::{tokenizer_kind, tokenizer_vocabulary};
use super::train::{
    c_metrics, setun_gradient_products, setun_gradient_quantization, setun_progress_callback, setun_train_options,
};
use crate::model::{ModelOptions, Products, Teacher, check_weight};
use crate::tensor::Result;
use crate::tensor::error::ensure;
use crate::train::{
    Dataset, GradientQuantization, Metrics, Plan, RunEnd, Tokenizer, TokenizerKind, TrainOptions, Trainer,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a `setun_trainer` names.
pub struct TrainerObject {
    trainer: Trainer,
    /// The model's mark: see `ModelObject`.
    poisoned: Arc<AtomicBool>,
    hooks: Hooks,
}

impl TrainerObject {
    pub fn new(
        model: &ModelObject,
        dataset: Arc<Dataset>,
        tokenizer_json: Option<String>,
        options: TrainingOptions,
    ) -> Result<TrainerObject> {
        check_poison(&model.poisoned)?;
        ensure!(model.model.try_read().is_some(), State, "model: another call is training it");
        let TrainingOptions { training, hooks, .. } = options;
        let cancelled = || hooks.cancelled();
        let trainer = Trainer::create(model.model.clone(), dataset, tokenizer_json, training, &cancelled)?;
        Ok(TrainerObject { trainer, poisoned: model.poisoned.clone(), hooks })
    }

    pub fn metrics(&self) -> &Metrics {
        self.trainer.metrics()
    }

    pub fn cluster_sizes(&self) -> Vec<usize> {
        self.trainer.cluster_sizes()
    }

    /// Trains to the end, with the caller's callback and token.
    pub fn run(&mut self) -> Result<RunEnd> {
        let hooks = self.hooks.clone();
        self.with(|trainer| trainer.run(&mut |metrics| hooks.progress(metrics), &|| hooks.cancelled()))
    }

    /// One step, unless the token is raised.
    pub fn step(&mut self) -> Result<Metrics> {
        let hooks = self.hooks.clone();
        self.with(|trainer| trainer.step(&|| hooks.cancelled()))
    }

    /// The validation loss, unless the token is raised.
    pub fn evaluate(&mut self) -> Result<f64> {
        let hooks = self.hooks.clone();
        self.with(|trainer| trainer.evaluate(&|| hooks.cancelled()))
    }

    /// Runs a call that may change the model; if it panics, the model is marked.
    pub fn with<R>(&mut self, work: impl FnOnce(&mut Trainer) -> Result<R>) -> Result<R> {
        check_poison(&self.poisoned)?;
        let _mark = MarkInPanic(&self.poisoned);
        work(&mut self.trainer)
    }
}

/// The caller's callback and cancel token.
#[derive(Clone)]
struct Hooks {
    progress: setun_progress_callback,
    user_data: UserData,
    token: Token,
}

impl Hooks {
    /// Tells the caller; false when it asks to stop.
    fn progress(&self, metrics: &Metrics) -> bool {
        match self.progress {
            None => true,
            // SAFETY: the header asks for a callback that takes metrics, valid during the call, and its user data.
            Some(progress) => outside(|| unsafe { progress(&c_metrics(metrics), self.user_data.pointer()) != 0 }),
        }
    }

    fn cancelled(&self) -> bool {
        self.token.is_raised()
    }
}

pub fn products(value: i32, name: &str) -> Result<Products> {
    let products = [
        (setun_gradient_products::F32 as i32, "f32", Products::F32),
        (setun_gradient_products::Int8 as i32, "int8", Products::Int8),
    ];
    one_of(value, name, &products)
}

/// What `setun_train_options` says, read once.
pub struct TrainingOptions {
    training: TrainOptions,
    hooks: Hooks,
    tokenizer: TokenizerKind,
    vocabulary: i64,
    validation_fraction: f64,
    context: *const setun_context,
}

impl TrainingOptions {
    /// # Safety
    /// `checkpoint_dir` is NULL or ends with a NUL.
    pub unsafe fn read(options: &setun_train_options) -> Result<TrainingOptions> {
        let count = |value: i64, name: &str| size(value, name).map(|value| value as u64);
        let checkpoint_dir = match options.checkpoint_dir.is_null() {
            true => None,
            // SAFETY: passed on to the caller.
            false => Some(unsafe { arguments::path(options.checkpoint_dir, "checkpoint_dir") }?.to_path_buf()),
        };
        let quantizations = [
            (setun_gradient_quantization::None as i32, "none", GradientQuantization::None),
            (setun_gradient_quantization::Int8 as i32, "int8", GradientQuantization::Int8),
            (setun_gradient_quantization::Ternary as i32, "ternary", GradientQuantization::Ternary),
        ];
        let token = Token::of(options.cancel)?;
        let method = optimizer_object::step_method(options.method)?;
        check_weight(options.distillation)?;
        let training = TrainOptions {
            batch_size: size(options.batch_size, "batch_size")?,
            learning_rate: options.learning_rate,
            max_epochs: count(options.max_epochs, "max_epochs")?,
            n_clusters: size(options.n_clusters, "n_clusters")?,
            cluster_balance: options.cluster_balance,
            input_gradient: products(options.input_gradient, "input_gradient")?,
            weight_gradient: products(options.weight_gradient, "weight_gradient")?,
            activation_checkpointing: options.activation_checkpointing != 0,
            gradient_release: options.gradient_release != 0,
            quantize_weights: options.quantize_weights != 0,
            quantize_gradients: one_of(options.quantize_gradients, "quantize_gradients", &quantizations)?,
            use_adaptive_lr: options.use_adaptive_lr != 0,
            checkpoint_dir,
            max_steps: count(options.max_steps, "max_steps")?,
            context_length: size(options.context_length, "context_length")?,
            accumulation: size(options.accumulation, "accumulation")?,
            schedule: optimizer_object::decay(options.schedule)?,
            warmup_steps: count(options.warmup_steps, "warmup_steps")?,
            minimum_lr_ratio: optimizer_object::known(options.minimum_lr_ratio).unwrap_or(method.minimum_lr_ratio()),
            weight_decay: options.weight_decay,
            beta1: options.beta1,
            beta2: options.beta2,
            epsilon: options.epsilon,
            clip: options.clip,
            method,
            momentum: options.momentum,
            muon_rms: options.muon_rms,
            precision: optimizer_object::precision(options.states)?,
            radius_mode: optimizer_object::radius_mode(options.radius_mode)?,
            radius_base: optimizer_object::radius_base(options.radius_base)?,
            radius: optimizer_object::known(options.radius),
            vector_radius: optimizer_object::known(options.vector_radius),
            flip_budget: options.flip_budget,
            guard: options.guard != 0,
            guard_interval: count(options.guard_interval, "guard_interval")?,
            lr_net: if options.lr_net.is_null() {
                None
            } else {
                Some(handle::shared(options.lr_net, "lr_net")?.clone())
            },
            teacher: if options.teacher.is_null() {
                None
            } else {
                let teacher = handle::shared(options.teacher, "teacher")?;
                check_poison(&teacher.poisoned)?;
                Some(Teacher::new(teacher.model.clone(), options.distillation)?)
            },
            seed: options.seed,
            log_interval: count(options.log_interval, "log_interval")?,
            evaluation_interval: count(options.evaluation_interval, "evaluation_interval")?,
            evaluation_windows: size(options.evaluation_windows, "evaluation_windows")?,
            checkpoint_interval: count(options.checkpoint_interval, "checkpoint_interval")?,
            keep_checkpoints: size(options.keep_checkpoints, "keep_checkpoints")?,
        };
        training.validate()?;
        Ok(TrainingOptions {
            training,
            hooks: Hooks { progress: options.progress, user_data: UserData(options.user_data), token },
            tokenizer: tokenizer_kind(options.tokenizer, "tokenizer")?,
            vocabulary: size(options.vocabulary, "vocabulary")? as i64,
            validation_fraction: options.validation_fraction,
            context: options.context,
        })
    }
}

/// The geometry that `setun_train` builds, and the seed of its weights. The vocabulary is set when the tokenizer is known.
///
/// # Safety
/// `options.model` is NULL or points to a struct as large as it says.
pub unsafe fn whole_geometry(options: &setun_train_options) -> Result<(ModelOptions, u64)> {
    // SAFETY: passed on to the caller.
    let model = unsafe { options::read(options.model, "model") }?;
    let mut made = geometry(&model)?;
    made.quantize_weights &= options.quantize_weights != 0;
    Ok((made, if options.model.is_null() { options.seed } else { model.seed }))
}

/// The whole way from a text to a model, with the caller's callback and token.
pub fn train(
    path: &Path,
    options: TrainingOptions,
    (geometry, seed): (ModelOptions, u64),
) -> Result<(ModelObject, Tokenizer)> {
    let TrainingOptions { training, hooks, tokenizer, vocabulary, validation_fraction, context } = options;
    let vocabulary = tokenizer_vocabulary(tokenizer, vocabulary)?;
    let plan = Plan { tokenizer, vocabulary, validation_fraction, geometry, seed, training };
    let context = context::resolve(context)?;
    let (model, tokenizer) =
        crate::train::train(context, path, plan, &mut |metrics| hooks.progress(metrics), &|| hooks.cancelled())?;
    Ok((ModelObject::new(model)?, tokenizer))
}
