//! The whole way: from a text through tokenizer, data set and model to a training run.

use super::config::TrainOptions;
use super::dataset::Dataset;
use super::metrics::Metrics;
use super::text::read_text;
use super::tokenizer::{Tokenizer, TokenizerKind};
use super::trainer::Trainer;
use crate::backend::Context;
use crate::model::{Model, ModelOptions};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Cancelled, Result};
use parking_lot::RwLock;
use std::path::Path;
use std::sync::Arc;

/// What is to be made of a text.
pub struct Plan {
    pub tokenizer: TokenizerKind,
    /// The tokens that byte-pair encoding learns.
    pub vocabulary: usize,
    /// The share of the text, at its end, that is only measured.
    pub validation_fraction: f64,
    /// The model's geometry; its vocabulary will be the tokenizer's.
    pub geometry: ModelOptions,
    /// Of the initial weights.
    pub seed: u64,
    /// `quantize_weights` will be the geometry's.
    pub training: TrainOptions,
}

/// Trains a model, and its tokenizer, on the text at `path`. A run that `progress` stops gives the model as far as it got;
/// CANCELLED once `cancelled` returns true, at every stage.
pub fn train(
    context: Arc<Context>,
    path: &Path,
    plan: Plan,
    progress: &mut dyn FnMut(&Metrics) -> bool,
    cancelled: Cancelled,
) -> Result<(Model, Tokenizer)> {
    let Plan { tokenizer: kind, vocabulary, validation_fraction, mut geometry, seed, mut training } = plan;
    let text = read_text(path, cancelled)?;
    let tokenizer = Tokenizer::train(kind, &text, vocabulary, cancelled)?;
    let dataset = Dataset::from_text(&text, &tokenizer, validation_fraction, cancelled)?;
    drop(text);
    ensure!(!cancelled(), Cancelled, "training was cancelled before the first step");
    geometry.vocabulary = tokenizer.vocabulary();
    training.quantize_weights = geometry.quantize_weights;
    let model = Arc::new(RwLock::new(Model::new(context, geometry, seed)?));
    let json = Some(tokenizer.to_json()?);
    let mut trainer = Trainer::create(model.clone(), Arc::new(dataset), json, training, cancelled)?;
    trainer.run(progress, cancelled)?;
    drop(trainer);
    let model = Arc::into_inner(model).ok_or_else(|| error!(Internal, "the trainer left its model in use"))?;
    Ok((model.into_inner(), tokenizer))
}
