//! What a training run is told. `validate` is the one place that decides whether the numbers make sense.

use crate::model::{MOST_SLICES, Products, SLICE_TOKENS, Teacher, slices};
use crate::step::{Decay, GuardOptions, LrNet, Method, Precision, RadiusBase, RadiusMode};
use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use serde::Serialize;
use std::path::PathBuf;

/// What the gradient of every matrix passes through before the update: see `quantize/gradients.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GradientQuantization {
    None,
    /// Int8 codes, rounded at random.
    Int8,
    /// Trits, whose error is added to the next gradient.
    Ternary,
}

/// The options of a training run. Serialized into every checkpoint, so that a resume can compare them: see `record.rs`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainOptions {
    /// Sequences a micro-batch.
    pub batch_size: usize,
    /// The peak of the schedule.
    pub learning_rate: f64,
    /// The length of the run when `max_steps` is 0, in passes over the training tokens.
    pub max_epochs: u64,
    /// Clusters of the text that batches are balanced over: see `sampling.rs`; 0 and 1 draw windows evenly.
    pub n_clusters: usize,
    /// From 0, clusters come in proportion to their size, to 1, all equally often.
    pub cluster_balance: f64,
    /// Must agree with the model, whose own option decides.
    pub quantize_weights: bool,
    pub quantize_gradients: GradientQuantization,
    /// In which numbers a ternary layer computes the gradient to its input, and the one to its weights.
    pub input_gradient: Products,
    pub weight_gradient: Products,
    /// Keeps less for the backward pass, which computes it anew: more work, less memory, the same numbers.
    #[serde(skip)]
    pub activation_checkpointing: bool,
    /// Gives up the gradients of a layer as soon as it has taken its step: see `release.rs`. A batch of several slices is summed
    /// otherwise, so that a run has it from its first step to its last. Left out of the record where it is off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gradient_release: bool,
    /// The learning rate is kept in a band that the weights decide: see `adaptive.rs`.
    pub use_adaptive_lr: bool,
    /// Where checkpoints and metrics.jsonl go; None writes nothing.
    #[serde(skip)]
    pub checkpoint_dir: Option<PathBuf>,
    /// The length of the run in optimizer steps; 0 takes it from `max_epochs`.
    pub max_steps: u64,
    /// Tokens a sequence; 0 takes the model's.
    pub context_length: usize,
    /// Micro-batches whose gradients are summed into one step.
    pub accumulation: usize,
    pub schedule: Decay,
    /// Steps over which the learning rate rises linearly to its peak.
    pub warmup_steps: u64,
    /// The learning rate of the last step, as a part of the peak.
    pub minimum_lr_ratio: f64,
    /// Of the parameters of two dimensions; gains are not decayed.
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// The largest gradient norm; a longer gradient is scaled down to it. 0 turns clipping off.
    pub clip: f64,
    /// In which direction a parameter goes.
    pub method: Method,
    /// Of Muon and of momentum.
    pub momentum: f64,
    /// The rms of Muon's direction, which the learning rate multiplies.
    pub muon_rms: f64,
    /// In which numbers the optimizer keeps its states.
    pub precision: Precision,
    /// What a step may be at most, or is: see `step/options.rs`.
    pub radius_mode: RadiusMode,
    pub radius_base: RadiusBase,
    pub radius: Option<f64>,
    pub vector_radius: Option<f64>,
    /// The largest share of the trits of a matrix that change in a step.
    pub flip_budget: f64,
    /// Whether bad batches are skipped and bad steps undone, and every how many steps that is checked.
    pub guard: bool,
    pub guard_interval: u64,
    /// What multiplies the rate and the radius of each parameter; None: nothing does. Of two, the weights tell them apart.
    #[serde(serialize_with = "weights_of")]
    pub lr_net: Option<LrNet>,
    /// The model that is learned from, beside the text. Left out of the record where there is none, as earlier ones have it.
    #[serde(serialize_with = "name_of", skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Teacher>,
    /// Decides the batches and the dropout.
    pub seed: u64,
    /// Steps between two lines of metrics.jsonl; 0 writes a line for evaluations alone.
    pub log_interval: u64,
    /// Steps between two evaluations; 0 evaluates at the end only.
    pub evaluation_interval: u64,
    /// Validation windows an evaluation reads, spread evenly over the split; 0 reads all.
    pub evaluation_windows: usize,
    /// Steps between two checkpoints; 0 writes one at the end only.
    pub checkpoint_interval: u64,
    /// Checkpoints that stay on disk; 0 keeps all.
    pub keep_checkpoints: usize,
}

impl Default for TrainOptions {
    fn default() -> Self {
        TrainOptions {
            batch_size: 32,
            learning_rate: 1e-3,
            max_epochs: 10,
            n_clusters: 10,
            cluster_balance: 0.0,
            quantize_weights: true,
            quantize_gradients: GradientQuantization::Int8,
            input_gradient: Products::Int8,
            weight_gradient: Products::Int8,
            activation_checkpointing: false,
            gradient_release: false,
            use_adaptive_lr: true,
            checkpoint_dir: None,
            max_steps: 0,
            context_length: 0,
            accumulation: 1,
            schedule: Decay::Cosine,
            warmup_steps: 100,
            minimum_lr_ratio: 0.1,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            clip: 1.0,
            method: Method::AdamW,
            momentum: 0.95,
            muon_rms: 1.0,
            precision: Precision::F32,
            radius_mode: RadiusMode::Off,
            radius_base: RadiusBase::Current,
            radius: None,
            vector_radius: None,
            flip_budget: 1.0,
            guard: false,
            guard_interval: 16,
            lr_net: None,
            teacher: None,
            seed: 0,
            log_interval: 10,
            evaluation_interval: 0,
            evaluation_windows: 0,
            checkpoint_interval: 0,
            keep_checkpoints: 3,
        }
    }
}

impl TrainOptions {
    /// ARGUMENT, naming the option, its value and what is expected.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.batch_size > 0, Argument, "batch_size is 0, expected at least 1");
        ensure!(self.accumulation > 0, Argument, "accumulation is 0, expected at least 1");
        self.check_accumulation(self.context_length.max(1))?;
        self.tokens_per_step(self.context_length.max(1))?;
        ensure!(
            self.max_steps > 0 || self.max_epochs > 0,
            Argument,
            "max_steps and max_epochs are both 0, expected one of them to say how long to train"
        );
        // The kernels compute in f32: what vanishes or overflows there is as wrong as a zero or an infinity.
        positive("learning_rate", self.learning_rate)?;
        positive("epsilon", self.epsilon)?;
        super::optimizer::step_options(&TrainOptions { max_steps: self.max_steps.max(1), ..self.clone() })
            .validate()?;
        not_negative("weight_decay", self.weight_decay)?;
        not_negative("clip", self.clip)?;
        super::release::check(self)?;
        for (name, share) in [("minimum_lr_ratio", self.minimum_lr_ratio), ("cluster_balance", self.cluster_balance)] {
            ensure!((0.0..=1.0).contains(&share), Argument, "{name} is {share}, expected 0 to 1");
        }
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            ensure!(beta >= 0.0 && (beta as f32) < 1.0, Argument, "{name} is {beta}, expected 0 to less than 1");
        }
        Ok(())
    }

    /// None when the guard is off.
    pub fn guard_options(&self) -> Option<GuardOptions> {
        self.guard.then(|| GuardOptions { interval: self.guard_interval, ..GuardOptions::default() })
    }

    fn check_accumulation(&self, context_length: usize) -> Result<()> {
        // On a device there are fewer.
        let most = MOST_SLICES / slices(self.batch_size, context_length, SLICE_TOKENS);
        ensure!(self.accumulation <= most, Argument, "accumulation is {}, expected at most {most}", self.accumulation);
        Ok(())
    }

    /// Tokens that one optimizer step reads.
    pub fn tokens_per_step(&self, context_length: usize) -> Result<usize> {
        let tokens =
            self.batch_size.checked_mul(context_length).and_then(|tokens| tokens.checked_mul(self.accumulation));
        match tokens {
            Some(tokens) if tokens <= isize::MAX as usize / 8 => Ok(tokens),
            _ => Err(error!(
                Argument,
                "batch_size {} * context_length {context_length} * accumulation {} is more tokens a step than this machine can count",
                self.batch_size,
                self.accumulation
            )),
        }
    }

    /// The same options with `context_length` and `max_steps` filled in, for a model of `model_context` positions and
    /// `train_tokens` tokens of text. An epoch is ceil(train tokens / tokens a step) steps.
    pub fn resolve(&self, model_context: usize, train_tokens: usize) -> Result<TrainOptions> {
        self.validate()?;
        let mut resolved = self.clone();
        if self.context_length == 0 {
            resolved.context_length = model_context;
        }
        ensure!(
            resolved.context_length <= model_context,
            Argument,
            "context_length is {}, the model has {model_context} positions",
            resolved.context_length
        );
        resolved.check_accumulation(resolved.context_length)?;
        let tokens_per_step = resolved.tokens_per_step(resolved.context_length)?;
        if self.max_steps == 0 {
            let epoch = train_tokens.div_ceil(tokens_per_step) as u64;
            resolved.max_steps = epoch.saturating_mul(self.max_epochs);
        }
        // The step is a 32-bit word of the random counter.
        ensure!(
            u32::try_from(resolved.max_steps).is_ok(),
            Argument,
            "the run would take {} steps, expected at most {}",
            resolved.max_steps,
            u32::MAX
        );
        Ok(resolved)
    }
}

fn weights_of<S: serde::Serializer>(net: &Option<LrNet>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let hash = |net: &LrNet| xxhash_rust::xxh3::xxh3_64(&net.weights().map(f64::to_le_bytes).concat());
    net.as_ref().map(|net| super::record::hex(hash(net))).serialize(serializer)
}

fn name_of<S: serde::Serializer>(teacher: &Option<Teacher>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    teacher.as_ref().map(Teacher::name).serialize(serializer)
}

fn positive(name: &str, value: f64) -> Result<()> {
    let rounded = value as f32;
    ensure!(rounded > 0.0 && rounded.is_finite(), Argument, "{name} is {value}, expected a positive number");
    Ok(())
}

fn not_negative(name: &str, value: f64) -> Result<()> {
    ensure!(value >= 0.0 && (value as f32).is_finite(), Argument, "{name} is {value}, expected 0 to 3.4e38");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::slice;
    use crate::tensor::ErrorKind;

    #[test]
    fn the_defaults_are_valid() {
        TrainOptions::default().validate().unwrap();
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let good = TrainOptions::default;
        let cases: Vec<(&str, TrainOptions)> = vec![
            ("batch_size is 0", TrainOptions { batch_size: 0, ..good() }),
            ("accumulation is 0", TrainOptions { accumulation: 0, ..good() }),
            ("accumulation is 65537", TrainOptions { accumulation: 65537, ..good() }),
            ("batch_size 9223372036854775807 *", TrainOptions { batch_size: usize::MAX / 2, ..good() }),
            (
                "batch_size 32 * context_length 4611686018427387904 *",
                TrainOptions { context_length: 1 << 62, ..good() },
            ),
            ("max_steps and max_epochs", TrainOptions { max_epochs: 0, ..good() }),
            ("learning_rate is -0.001", TrainOptions { learning_rate: -1e-3, ..good() }),
            ("learning_rate is NaN", TrainOptions { learning_rate: f64::NAN, ..good() }),
            ("learning_rate is 0", TrainOptions { learning_rate: 0.0, ..good() }),
            ("learning_rate is 1", TrainOptions { learning_rate: 1e39, ..good() }),
            ("epsilon is 0", TrainOptions { epsilon: 1e-60, ..good() }),
            ("weight_decay is -1", TrainOptions { weight_decay: -1.0, ..good() }),
            ("clip is inf", TrainOptions { clip: f64::INFINITY, ..good() }),
            ("minimum_lr_ratio is 1.5", TrainOptions { minimum_lr_ratio: 1.5, ..good() }),
            ("minimum_lr_ratio is NaN", TrainOptions { minimum_lr_ratio: f64::NAN, ..good() }),
            ("cluster_balance is -0.1", TrainOptions { cluster_balance: -0.1, ..good() }),
            ("cluster_balance is NaN", TrainOptions { cluster_balance: f64::NAN, ..good() }),
            ("beta1 is 1", TrainOptions { beta1: 1.0, ..good() }),
            ("beta2 is 0.99999999999", TrainOptions { beta2: 0.999_999_999_99, ..good() }),
            ("beta2 is NaN", TrainOptions { beta2: f64::NAN, ..good() }),
        ];
        for (expected, options) in cases {
            let error = options.validate().expect_err(expected);
            assert_eq!(error.kind, ErrorKind::Argument, "{error}");
            assert!(error.message.starts_with(expected), "'{error}' does not start with '{expected}'");
        }
    }

    /// Slices are known once the length of the windows is: each has random numbers of its own.
    #[test]
    fn batches_are_cut_into_equal_slices() {
        let of = |batch, length| slice(batch, length, SLICE_TOKENS);
        assert_eq!([of(12, 64), of(64, 256), of(65, 256), of(1, 1 << 20), of(3, 4096)], [12, 16, 13, 1, 1]);
        assert_eq!([slice(64, 256, 16_384), slice(65, 256, 16_384)], [64, 33]);
        let many = TrainOptions { batch_size: 64, accumulation: 20_000, max_steps: 1, ..TrainOptions::default() };
        many.validate().unwrap();
        let error = many.resolve(256, 1000).unwrap_err();
        assert_eq!(error.message, "accumulation is 20000, expected at most 16384");
        many.resolve(64, 1000).unwrap();
        assert_eq!(of(many.batch_size, 64), 64);
    }

    #[test]
    fn an_epoch_reads_about_every_token_once() {
        let options = TrainOptions { batch_size: 3, accumulation: 2, max_epochs: 4, ..TrainOptions::default() };
        // 3 * 2 * 8 = 48 tokens a step, ceil(1000 / 48) = 21 steps an epoch.
        let resolved = options.resolve(8, 1000).unwrap();
        assert_eq!((resolved.context_length, resolved.max_steps), (8, 84));
        assert_eq!(TrainOptions { max_steps: 5, ..options.clone() }.resolve(8, 1000).unwrap().max_steps, 5);
        assert_eq!(
            TrainOptions { context_length: 9, ..options.clone() }.resolve(8, 1000).unwrap_err().message,
            "context_length is 9, the model has 8 positions"
        );
        let endless = TrainOptions { max_epochs: u64::MAX, ..options }.resolve(8, 1000).unwrap_err();
        assert_eq!(endless.kind, ErrorKind::Argument, "{endless}");
    }
}
