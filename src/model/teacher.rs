//! Distillation (Hinton et al., arXiv 1503.02531): a model learns from another one's probabilities beside the text.
//!
//! With p of the model, q of the teacher and a weight w, the loss that is descended is (1 - w) CE(text, p) + w CE(q, p), at a
//! temperature of 1. Its gradient to the logits is p - (1 - w) one_hot - w q = (p - one_hot) - w (q - one_hot): that of the text, and
//! -w times that of the teacher's own logits, in place of which it is computed.

use super::{Activations, Model};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Cancelled, Result, View};
use parking_lot::RwLock;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// A model that another one learns from. Two are equal when their weights are.
#[derive(Clone)]
pub struct Teacher {
    model: Arc<RwLock<Model>>,
    weight: f64,
    /// Of its weights.
    fingerprint: u64,
}

impl PartialEq for Teacher {
    fn eq(&self, other: &Teacher) -> bool {
        (self.fingerprint, self.weight) == (other.fingerprint, other.weight)
    }
}

impl std::fmt::Debug for Teacher {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Teacher({:016x}, {})", self.fingerprint, self.weight)
    }
}

impl Teacher {
    /// ARGUMENT for a weight that is not above 0 and at most 1; STATE while a step changes the model.
    pub fn new(model: Arc<RwLock<Model>>, weight: f64) -> Result<Teacher> {
        check_weight(weight)?;
        let fingerprint = fingerprint(&*model.try_read().ok_or_else(busy)?)?;
        Ok(Teacher { model, weight, fingerprint })
    }

    /// Names weights and weight: what decides what is learned.
    pub fn name(&self) -> String {
        format!("{:016x} times {}", self.fingerprint, self.weight)
    }

    /// Whether `student` can learn from it, over windows of `length` tokens.
    pub fn check(&self, student: &Arc<RwLock<Model>>, length: usize) -> Result<()> {
        ensure!(!Arc::ptr_eq(&self.model, student), Argument, "teacher is the model itself, expected another one");
        let (teacher, student) = (self.model.try_read().ok_or_else(busy)?, student.try_read().ok_or_else(busy)?);
        let [there, here] = [&teacher, &student].map(|model| model.options().vocabulary);
        ensure!(there == here, Shape, "the teacher has a vocabulary of {there}, the model of {here}");
        let most = teacher.options().context_length;
        ensure!(length <= most, Shape, "the teacher has a context length of {most}, windows have {length} tokens");
        let [there, here] = [&teacher, &student].map(|model| model.device());
        ensure!(there == here, Argument, "the teacher is on {there:?}, the model on {here:?}");
        Ok(())
    }
}

/// ARGUMENT for a weight that is not above 0 and at most 1.
pub fn check_weight(weight: f64) -> Result<()> {
    ensure!(weight > 0.0 && weight <= 1.0, Argument, "distillation is {weight}, expected above 0 and at most 1");
    Ok(())
}

fn busy() -> crate::tensor::Error {
    error!(State, "the teacher is being trained")
}

fn fingerprint(model: &Model) -> Result<u64> {
    let mut sum = Xxh3::new();
    for parameter in model.parameters() {
        sum.update(parameter.name.as_bytes());
        sum.update(&parameter.tensor.read_bytes()?);
        sum.update(&parameter.scales.read_bytes()?);
    }
    for ternary in model.linears().filter_map(|linear| linear.ternary.as_ref()) {
        sum.update(&ternary.packed.read_bytes()?);
        sum.update(&ternary.scale.read_bytes()?);
    }
    Ok(sum.digest())
}

/// A teacher and the memory of its forward pass over one slice.
pub struct Lesson {
    teacher: Teacher,
    activations: Activations,
}

impl Lesson {
    pub fn new(teacher: &Teacher, windows: usize, length: usize) -> Result<Lesson> {
        let activations = Activations::new(&*teacher.model.try_read().ok_or_else(busy)?, windows, length)?;
        Ok(Lesson { teacher: teacher.clone(), activations })
    }

    /// What the teacher adds to the gradient of the logits, [m, vocabulary], which is `factor` (p - one_hot).
    pub fn pull(&mut self, text: (&[u32], &[u32]), factor: f64, cancelled: Cancelled) -> Result<View<'_>> {
        let Lesson { teacher: Teacher { model, weight, .. }, activations } = self;
        model.try_read().ok_or_else(busy)?.logit_gradient(activations, text, -*weight * factor, cancelled)
    }
}
