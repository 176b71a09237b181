//! The trainer's tests: tiny models on the scalar and simd rows, seen from outside through steps, files and errors.

mod adaptive;
mod cancel;
mod cuda;
mod evaluation;
mod folders;
mod gradients;
mod guarded;
mod lr_net;
mod optimizer;
mod refusals;
mod release;
mod resume;
mod teacher;
mod training;

use super::checkpoint;
use super::dataset::{Dataset, Split};
use super::{GradientQuantization, RunEnd, TrainOptions, Trainer};
use crate::backend::{Backend, Context, ContextOptions};
use crate::model::{Model, ModelOptions};
use crate::step::Decay;
use parking_lot::RwLock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub const VOCABULARY: usize = 23;

pub fn context(backend: Backend, threads: usize) -> Arc<Context> {
    Arc::new(Context::new(&ContextOptions { backend: Some(backend), threads, ..ContextOptions::default() }).unwrap())
}

pub fn geometry() -> ModelOptions {
    ModelOptions {
        vocabulary: VOCABULARY,
        context_length: 8,
        width: 16,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        hidden: 24,
        ..ModelOptions::default()
    }
}

pub fn model(context: &Arc<Context>, options: ModelOptions) -> Arc<RwLock<Model>> {
    Arc::new(RwLock::new(Model::new(context.clone(), options, 5).unwrap()))
}

/// A text in which every token but one decides the next: t -> 3 t + 1 mod 22, interrupted by token 22.
pub fn tokens(count: usize) -> Vec<u32> {
    let mut token = 0;
    (0..count)
        .map(|i| {
            token = (3 * token + 1) % 22;
            if i % 17 == 16 { 22 } else { token }
        })
        .collect()
}

pub fn dataset() -> Arc<Dataset> {
    Arc::new(Dataset::from_tokens(tokens(1000), VOCABULARY, 0.2).unwrap())
}

pub fn options() -> TrainOptions {
    TrainOptions {
        batch_size: 4,
        learning_rate: 1e-2,
        max_steps: 20,
        warmup_steps: 4,
        seed: 3,
        n_clusters: 0,
        ..TrainOptions::default()
    }
}

pub fn trainer(context: &Arc<Context>, options: TrainOptions) -> Trainer {
    trainer_of(context, geometry(), options)
}

pub fn trainer_of(context: &Arc<Context>, geometry: ModelOptions, options: TrainOptions) -> Trainer {
    Trainer::new(model(context, geometry), dataset(), None, options).unwrap()
}

/// A character tokenizer as large as the dataset's, from `first` on.
pub fn letters(first: char) -> String {
    let text: String = (first..).take(VOCABULARY).collect();
    crate::train::Tokenizer::character(&text).unwrap().to_json().unwrap()
}

pub fn run(trainer: &mut Trainer) {
    assert_eq!(trainer.run(&mut |_| true, &|| false).unwrap(), RunEnd::Finished);
}

pub fn steps(trainer: &mut Trainer, count: usize) {
    for _ in 0..count {
        trainer.step(&|| false).unwrap();
    }
}

/// Parameters and optimizer states, as the bytes of a checkpoint's two tensor files.
pub fn state(checkpoint: &Path) -> [Vec<u8>; 2] {
    [checkpoint::MODEL_FILE, checkpoint::OPTIMIZER_FILE].map(|name| std::fs::read(checkpoint.join(name)).unwrap())
}

/// The state after the options' run, taken in one go or in two with a new process's view in between.
pub fn final_state(contexts: &[Arc<Context>], geometry: &ModelOptions, options: &TrainOptions) -> [Vec<u8>; 2] {
    let scratch = Scratch::new();
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options.clone() };
    let each = options.max_steps as usize / contexts.len();
    for (part, context) in contexts.iter().enumerate() {
        let mut trainer = trainer_of(context, geometry.clone(), options.clone());
        if part > 0 {
            trainer.resume(&scratch.path(), false).unwrap();
            assert_eq!(trainer.metrics().step as usize, part * each);
        }
        steps(&mut trainer, each);
        trainer.save().unwrap();
    }
    state(&scratch.path().join("step-00000020"))
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A folder that goes away with the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("setun-train-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> PathBuf {
        self.0.clone()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}
