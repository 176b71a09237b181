//! The loop: batches in, gradients, one update a step; and around it reports, evaluations and checkpoints.
//!
//! A step is a function of (parameters, m, v, step, options, dataset) alone: batches and dropout are drawn from
//! (seed, step, micro-batch). So a run that stopped and was resumed is, on the same backend and level, bit for bit the run
//! that never stopped.

use super::checkpoint::{self, Checkpoint};
use super::cluster_loss::ClusterLoss;
use super::config::TrainOptions;
use super::dataset::{Dataset, Split};
use super::done::Done;
use super::metrics::{self, Metrics, Pace};
use super::record::{Record, Run, Text, hex};
use super::sampling::{Clusters, Sampling};
use super::state;
use super::step::{Torn, Work};
use super::tokenizer::Tokenizer;
use crate::backend::Context;
use crate::model::{Model, ModelOptions, file};
use crate::quantize::GradientCodes;
use crate::step::Precision;
use crate::tensor::error::{ensure, error};
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Cancelled, Error, ErrorKind, Result};
use parking_lot::RwLock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// How a run ended that was neither an error nor cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// All steps are done.
    Finished,
    /// The progress callback said so.
    Stopped,
}

pub struct Trainer {
    model: Arc<RwLock<Model>>,
    context: Arc<Context>,
    model_options: ModelOptions,
    tokenizer_json: Option<String>,
    tokenizer_fingerprint: Option<String>,
    text: Text,
    /// Resolved: `context_length` and `max_steps` filled in.
    options: TrainOptions,
    train_tokens: usize,
    tokens_per_step: usize,
    /// Large, and moved about while a trainer is made.
    work: Box<Work>,
    /// Optimizer steps done.
    step: u64,
    elapsed: f64,
    pace: Pace,
    metrics: Metrics,
    /// What the last step measured.
    done: Done,
    /// Whether the report of the last step is still to come: its evaluation, its line of metrics.jsonl and its progress
    /// call. Of a run that was stopped between the two; it is the first thing that the run does when it goes on.
    owes_report: bool,
    /// Whether `checkpoint_dir` is known to hold this run and no other: see `claim_folder`.
    claimed: bool,
}

impl Trainer {
    /// `create`, which nobody gives up.
    #[cfg(test)]
    pub fn new(
        model: Arc<RwLock<Model>>,
        dataset: Arc<Dataset>,
        tokenizer_json: Option<String>,
        options: TrainOptions,
    ) -> Result<Trainer> {
        Trainer::create(model, dataset, tokenizer_json, options, &crate::tensor::never)
    }

    /// A trainer at step 0 that trains `model` where it stands. `tokenizer_json` travels in the checkpoints. CANCELLED once
    /// `cancelled` returns true, which is asked while the windows of a large text are clustered.
    pub fn create(
        model: Arc<RwLock<Model>>,
        dataset: Arc<Dataset>,
        tokenizer_json: Option<String>,
        options: TrainOptions,
        cancelled: Cancelled,
    ) -> Result<Trainer> {
        options.validate()?;
        let guard = model.try_read().ok_or_else(in_use)?;
        let model_options = guard.options().clone();
        ensure!(
            guard.trainable(),
            Unsupported,
            "the model was loaded from a packed file: it has no masters to train, setun_model_copy makes a model that has"
        );
        ensure!(
            options.quantize_weights == model_options.quantize_weights,
            Argument,
            "quantize_weights is {} for the trainer and {} for the model",
            options.quantize_weights,
            model_options.quantize_weights
        );
        ensure!(
            dataset.vocabulary() <= model_options.vocabulary,
            Shape,
            "the dataset has a vocabulary of {}, the model of {}",
            dataset.vocabulary(),
            model_options.vocabulary
        );
        let tokenizer = tokenizer_json.as_deref().map(Tokenizer::from_json).transpose()?;
        if let Some(tokenizer) = &tokenizer {
            let (there, here) = (tokenizer.vocabulary(), model_options.vocabulary);
            ensure!(there <= here, Shape, "the tokenizer has a vocabulary of {there}, the model of {here}");
            let data = dataset.vocabulary();
            ensure!(there == data, Shape, "the tokenizer has a vocabulary of {there}, the dataset of {data}");
        }
        let train_tokens = dataset.tokens(Split::Train).len();
        let options = options.resolve(model_options.context_length, train_tokens)?;
        dataset.check(options.context_length)?;
        if let Some(teacher) = &options.teacher {
            teacher.check(&model, options.context_length)?;
        }
        let text = Text {
            fingerprint: hex(dataset.fingerprint()),
            train_tokens,
            validation_tokens: dataset.tokens(Split::Validation).len(),
        };
        let context = guard.context().clone();
        drop(guard);
        if options.gradient_release && options.checkpoint_dir.is_some() && options.checkpoint_interval == 0 {
            log(
                LogLevel::Warning,
                format_args!(
                    "a step that fails with gradient_release leads back to a checkpoint: there is none with checkpoint_interval 0"
                ),
            );
        }
        // What may be cancelled comes before the model changes.
        let sampling = Sampling::new(&context, &dataset, &options, cancelled)?;
        model.try_write().ok_or_else(in_use)?.keep_codes(options.precision == Precision::Compact, options.seed)?;
        let guard = model.try_read().ok_or_else(in_use)?;
        let work = Box::new(Work::new(&guard, dataset, &options, sampling)?);
        drop(guard);
        let mut trainer = Trainer {
            model,
            context,
            model_options,
            tokenizer_json,
            tokenizer_fingerprint: tokenizer.map(|tokenizer| hex(tokenizer.fingerprint())),
            text,
            train_tokens,
            tokens_per_step: options.tokens_per_step(options.context_length)?,
            options,
            work,
            step: 0,
            elapsed: 0.0,
            pace: Pace::default(),
            metrics: Metrics::default(),
            done: Done::NOTHING,
            owes_report: false,
            claimed: false,
        };
        trainer.metrics = trainer.report(&Done::NOTHING);
        Ok(trainer)
    }

    /// The last report; NaN where nothing was measured yet.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What goes wrong in step `number`.
    #[cfg(test)]
    pub fn inject(&mut self, number: u64, fault: super::step::Fault) {
        self.work.faults.push((number, fault));
    }

    /// Nothing goes wrong any more.
    #[cfg(test)]
    pub fn mend_faults(&mut self) {
        self.work.faults.clear();
    }

    /// How many windows of the training split each cluster has; empty when windows are drawn evenly.
    pub fn cluster_sizes(&self) -> Vec<usize> {
        self.work.clusters().map_or(Vec::new(), Clusters::sizes)
    }

    /// One optimizer step. STATE when all steps are done, when the model is in use elsewhere, or when the loss or the
    /// gradient is not finite; CANCELLED once `cancelled`, asked before each product of a layer, returns true. On any failure
    /// nothing has changed, but with `gradient_release`: see `release.rs`.
    pub fn step(&mut self, cancelled: Cancelled) -> Result<Metrics> {
        let total = self.options.max_steps;
        ensure!(self.step < total, State, "training is finished: all {total} steps are done");
        self.claim_folder()?;
        let started = Instant::now();
        let (options, work, step) = (&self.options, &mut self.work, self.step);
        let mut guard = self.model.try_write().ok_or_else(in_use)?;
        let model = &mut *guard;
        let done = self.context.launch().executor.enter(|| work.step(model, options, step, cancelled))?;
        drop(guard);
        let seconds = started.elapsed().as_secs_f64();
        self.pace.record(seconds);
        self.elapsed += seconds;
        self.step += 1;
        self.owes_report = false;
        self.done = done;
        self.metrics = self.report(&done);
        Ok(self.metrics.clone())
    }

    /// The loss over the validation split in nats a token; STATE when the split holds no window or the model is in use
    /// elsewhere, CANCELLED when `cancelled` returns true.
    pub fn evaluate(&mut self, cancelled: Cancelled) -> Result<f64> {
        self.work.check_whole()?;
        let started = Instant::now();
        let guard = self.model.try_read().ok_or_else(in_use)?;
        let (model, work) = (&*guard, &mut self.work);
        let loss = self.context.launch().executor.enter(|| work.evaluate(model, cancelled));
        drop(guard);
        self.elapsed += started.elapsed().as_secs_f64();
        let loss = loss.map_err(|error| error.within(format_args!("after step {}", self.step)))?;
        self.metrics.validation_loss = Some(loss);
        Ok(loss)
    }

    /// Trains to the last step, with the evaluations, reports and checkpoints of the options. `progress` is called after
    /// each step; when it returns false the run stops. `cancelled` is asked before each product of a layer; once it returns
    /// true the step or the evaluation is abandoned and the run ends with CANCELLED. An abandoned evaluation is done first
    /// when the run goes on: its reports do not depend on where it was stopped. A run with a `checkpoint_dir` is saved
    /// however it ends, but for one whose last step some layers alone have taken (`release.rs`); one that fails keeps all its older
    /// checkpoints beside that.
    pub fn run(&mut self, progress: &mut dyn FnMut(&Metrics) -> bool, cancelled: Cancelled) -> Result<RunEnd> {
        self.claim_folder()?;
        if self.owes_report
            && let Some(folder) = &self.options.checkpoint_dir
        {
            // A report that failed half-way may have left half a line.
            metrics::truncate(folder, self.step - 1)?;
        }
        while self.owes_report || self.step < self.options.max_steps {
            match self.advance(progress, cancelled) {
                Ok(true) => {}
                Ok(false) => {
                    self.save_if_asked()?;
                    return Ok(RunEnd::Stopped);
                }
                Err(error) if error.kind == ErrorKind::Cancelled => {
                    self.save_if_asked()?;
                    return Err(error!(Cancelled, "training was cancelled after step {}", self.step));
                }
                Err(error) => {
                    // A refused step has changed nothing, or says so: the state is still that of the last good one.
                    if self.options.checkpoint_dir.is_some()
                        && self.step > 0
                        && let Err(also) = self.save_beside()
                    {
                        log(LogLevel::Error, format_args!("the state after step {} is not saved: {also}", self.step));
                    }
                    return Err(error);
                }
            }
        }
        Ok(RunEnd::Finished)
    }

    /// One step of a run with its report, or the report that the last step is owed; false when `progress` asks to stop.
    fn advance(&mut self, progress: &mut dyn FnMut(&Metrics) -> bool, cancelled: Cancelled) -> Result<bool> {
        if !self.owes_report {
            self.step(cancelled)?;
            self.owes_report = true;
        }
        let step = self.step;
        let last = step == self.options.max_steps;
        let due = |interval: u64| interval > 0 && step.is_multiple_of(interval);
        let evaluates = (last || due(self.options.evaluation_interval)) && self.work.evaluation().windows() > 0;
        if evaluates {
            self.evaluate(cancelled)?;
        }
        if evaluates || due(self.options.log_interval) {
            self.write_metrics()?;
        }
        self.owes_report = false;
        if last || due(self.options.checkpoint_interval) {
            self.save_if_asked()?;
        }
        Ok(progress(&self.metrics) || last)
    }

    fn write_metrics(&self) -> Result<()> {
        let Metrics { step, total_steps, loss, .. } = self.metrics;
        let validation = self.metrics.validation_loss.map_or(String::new(), |loss| format!(", validation {loss:.4}"));
        log(LogLevel::Info, format_args!("step {step} of {total_steps}: loss {loss:.4}{validation}"));
        match &self.options.checkpoint_dir {
            Some(folder) => metrics::append(folder, &self.metrics),
            None => Ok(()),
        }
    }

    fn report(&self, done: &Done) -> Metrics {
        let pace = self.pace.seconds_per_step();
        let total_steps = self.options.max_steps;
        Metrics {
            step: self.step,
            total_steps,
            epoch: self.step as f64 * self.tokens_per_step as f64 / self.train_tokens as f64,
            loss: done.loss,
            learning_rate: done.learning_rate,
            learning_rate_factor: done.learning_rate_factor,
            gradient_norm: done.gradient_norm,
            flip_rate: done.flip_rate,
            step_ratio: done.step_ratio,
            radius_factor: done.radius_factor,
            skipped_batches: done.skipped,
            undone_steps: done.undone,
            validation_loss: None,
            cluster_loss: self.work.cluster_loss().map(ClusterLoss::means),
            tokens_per_second: if pace > 0.0 { self.tokens_per_step as f64 / pace } else { 0.0 },
            elapsed_seconds: self.elapsed,
            remaining_seconds: pace * (total_steps - self.step) as f64,
        }
    }

    /// Writes a checkpoint of the state after the last step and removes the surplus ones. STATE without a
    /// `checkpoint_dir`, or when the state is not finite: a bad state never takes a good one's place.
    pub fn save(&mut self) -> Result<PathBuf> {
        let path = self.save_beside()?;
        if let Some(folder) = &self.options.checkpoint_dir {
            checkpoint::prune(folder, self.step, self.options.keep_checkpoints);
        }
        Ok(path)
    }

    /// `save` without removing any checkpoint.
    fn save_beside(&mut self) -> Result<PathBuf> {
        let Some(folder) = self.options.checkpoint_dir.clone() else {
            return Err(error!(State, "the trainer has no checkpoint_dir to save to"));
        };
        self.claim_folder()?;
        self.work.check_whole().map_err(|error| error.within(format_args!("step {} is not saved", self.step)))?;
        let guard = self.model.try_read().ok_or_else(in_use)?;
        state::check_finite(&guard, &self.work.optimizer)
            .map_err(|error| error.within(format_args!("step {} is not saved", self.step)))?;
        let model = file::full_sources(&guard, self.tokenizer_json.as_deref())?;
        let errors = self.work.codes.as_ref().map_or(&[][..], GradientCodes::errors);
        let optimizer = state::optimizer_sources(guard.parameters(), &self.work.optimizer, self.work.adaptive, errors)?;
        let mut record = Record::new(self.step, self.elapsed, &self.identity())?;
        record.owed = self.owes_report.then_some(self.done);
        record.cluster_losses = self.work.cluster_loss().map(ClusterLoss::sums);
        let path = checkpoint::write(&folder, record, &model, &optimizer)?;
        log(LogLevel::Info, format_args!("saved {}", path.display()));
        Ok(path)
    }

    /// For a run: step 0 holds nothing that its options would not make again.
    fn save_if_asked(&mut self) -> Result<()> {
        if self.options.checkpoint_dir.is_some() && self.step > 0 {
            self.save()?;
        }
        Ok(())
    }

    /// Continues from a checkpoint: the folder of one, or a checkpoint_dir, of which the newest is taken. Fails with FORMAT
    /// when that one is damaged, naming the newest good one before it, and with ARGUMENT when it is of another run (both
    /// values are named), or of another backend or CPU level unless `allow_other_backend`. On failure nothing has changed, but
    /// for IO and MEMORY after the files were verified: then only a resume leads on.
    pub fn resume(&mut self, folder: &Path, allow_other_backend: bool) -> Result<()> {
        if let Some(own) = &self.options.checkpoint_dir {
            checkpoint::remove_left_overs(own)?;
        }
        let Checkpoint { path, record, model, optimizer } = checkpoint::find(folder)?;
        let refused = |error: Error| error.within(format_args!("checkpoint {} cannot be resumed", path.display()));
        for difference in self.identity().accept(&record.run, allow_other_backend).map_err(refused)? {
            log(LogLevel::Warning, format_args!("resuming {} elsewhere: {difference}", path.display()));
        }
        ensure!(
            record.step <= self.options.max_steps,
            Argument,
            "checkpoint {} stands at step {}, the run has {}",
            path.display(),
            record.step,
            self.options.max_steps
        );
        let mut guard = self.model.try_write().ok_or_else(in_use)?;
        state::check_tensors(&guard, &self.work.optimizer, &model, &optimizer).map_err(refused)?;
        let errors = self.work.codes.as_mut().map_or(&mut [][..], GradientCodes::errors_mut);
        state::check_errors(&guard, &optimizer, errors).map_err(refused)?;
        let adaptive = self.work.adaptive.map(|_| state::read_adaptive(&optimizer)).transpose().map_err(refused)?;
        // From here on nothing can be wrong but what the disk and the memory do.
        #[cfg(test)]
        self.work.spoil_checkpoint(record.step, &path.join(checkpoint::MODEL_FILE));
        self.work.torn = Some(Torn::Resume);
        state::restore(&mut guard, &mut self.work.optimizer, &model, &optimizer)?;
        let errors = self.work.codes.as_mut().map_or(&mut [][..], GradientCodes::errors_mut);
        state::restore_errors(&guard, &optimizer, errors)?;
        let inside = self.options.checkpoint_dir.as_deref().is_some_and(|own| is_parent(own, &path));
        if inside && let Some(own) = &self.options.checkpoint_dir {
            let reported = if record.owed.is_some() { record.step.saturating_sub(1) } else { record.step };
            metrics::truncate(own, reported)?;
        }
        self.work.torn = None;
        self.work.restore_cluster_loss(record.cluster_losses.as_ref());
        drop(guard);
        self.work.adaptive = adaptive;
        self.claimed = inside;
        self.step = record.step;
        self.elapsed = record.elapsed_seconds;
        self.pace = Pace::default();
        let owed = record.owed.filter(|_| record.step > 0);
        self.owes_report = owed.is_some();
        self.done = owed.unwrap_or(Done::NOTHING);
        self.metrics = self.report(&self.done);
        log(LogLevel::Info, format_args!("resumed {}", path.display()));
        Ok(())
    }

    fn identity(&self) -> Run<'_> {
        Run {
            backend: self.context.arithmetic(),
            level: self.context.level().name(),
            model: &self.model_options,
            options: &self.options,
            text: self.text.clone(),
            tokenizer: self.tokenizer_fingerprint.clone(),
            clusters: self.work.clusters().map(|clusters| hex(clusters.fingerprint())),
        }
    }

    /// Before the first write: the folder exists, holds nothing half written and no other run's checkpoints, and its
    /// metrics end at this step.
    fn claim_folder(&mut self) -> Result<()> {
        let Some(folder) = &self.options.checkpoint_dir else { return Ok(()) };
        if self.claimed {
            return Ok(());
        }
        std::fs::create_dir_all(folder).map_err(|e| Error::io("creating", folder, &e))?;
        checkpoint::remove_left_overs(folder)?;
        if let Some((_, path)) = checkpoint::list(folder)?.last() {
            return Err(error!(
                State,
                "checkpoint_dir holds {} of an earlier run: resume from it, or choose another folder",
                path.display()
            ));
        }
        metrics::set_aside(folder)?;
        self.claimed = true;
        Ok(())
    }
}

fn in_use() -> Error {
    error!(State, "the model is in use by another call")
}

/// Whether `path` lies directly in `folder`, whatever way they are written.
fn is_parent(folder: &Path, path: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    matches!((real(folder), real(path)), (Some(folder), Some(path)) if path.parent() == Some(&folder))
}
