//! Learning from another model.

use super::*;
use crate::model::Teacher;
use crate::model::teacher::Lesson;
use crate::tensor::{ErrorKind, never};
use parking_lot::RwLock;

const LENGTH: usize = 7;

fn made(seed: u64, dtype: DType) -> Arc<RwLock<Model>> {
    let backend = if dtype == DType::F64 { Backend::Scalar } else { Backend::Simd };
    Arc::new(RwLock::new(Model::with_dtype(context(backend), small(false, false, false), seed, dtype).unwrap()))
}

fn activations(model: &Model) -> Activations {
    Activations::training(model, 2, LENGTH, GradientProducts::F32).unwrap()
}

/// The gradient for a teacher, f32.
fn gradient(student: &Model, teacher: Option<&Teacher>) -> Vec<f32> {
    let mut activations = activations(student);
    activations.lesson = teacher.map(|teacher| Box::new(Lesson::new(teacher, 2, LENGTH).unwrap()));
    let (tokens, targets) = text(student.options(), 2, LENGTH);
    let mut gradients = Gradients::new(student).unwrap();
    student.backward(&mut activations, (&tokens, &targets), 1.0, None, &mut gradients, &never).unwrap();
    gradients.tensors().iter().flat_map(|tensor| tensor.host::<f32>().unwrap().to_vec()).collect()
}

#[test]
fn a_teacher_of_the_same_weights_has_nothing_to_say() {
    let (student, teacher) = (made(3, DType::F32), made(3, DType::F32));
    let teacher = Teacher::new(teacher, 1.0).unwrap();
    assert!(gradient(&student.read(), Some(&teacher)).iter().all(|&g| g == 0.0));
}

/// The loss (1 - w) CE(text, p) + w CE(q, p) of the model, from the logits of both.
fn loss(student: &Model, teacher: &Model, weight: f64) -> f64 {
    let (tokens, targets) = text(student.options(), 2, LENGTH);
    let probabilities = |model: &Model| {
        let mut activations = Activations::new(model, 2, LENGTH).unwrap();
        let logits = model.logits(&mut activations, &tokens).unwrap().slice::<f64>().unwrap().to_vec();
        let rows = logits.chunks(model.options().vocabulary);
        let softmax = |row: &[f64]| {
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            row.iter().map(|x| x.exp() / sum).collect::<Vec<f64>>()
        };
        rows.map(softmax).collect::<Vec<_>>()
    };
    let (p, q) = (probabilities(student), probabilities(teacher));
    let of_row = |(i, target): (usize, &u32)| {
        let soft: f64 = p[i].iter().zip(&q[i]).map(|(p, q)| -q * p.ln()).sum();
        -(1.0 - weight) * p[i][*target as usize].ln() + weight * soft
    };
    targets.iter().enumerate().map(of_row).sum::<f64>() / targets.len() as f64
}

#[test]
fn the_gradient_is_that_of_both_losses() {
    for weight in [0.3, 1.0] {
        let (student, teacher) = (made(1, DType::F64), made(2, DType::F64));
        let lesson = Lesson::new(&Teacher::new(teacher.clone(), weight).unwrap(), 2, LENGTH).unwrap();
        let mut student = student.write();
        let mut activations = activations(&student);
        activations.lesson = Some(Box::new(lesson));
        let (tokens, targets) = text(student.options(), 2, LENGTH);
        let mut gradients = Gradients::new(&student).unwrap();
        student.backward(&mut activations, (&tokens, &targets), 1.0, None, &mut gradients, &never).unwrap();
        for index in 0..student.parameters().len() {
            let found = gradients.tensors()[index].host::<f64>().unwrap().to_vec();
            for at in [0, found.len() / 2, found.len() - 1] {
                let mut moved = |by: f64| {
                    student.parameters_mut()[index].tensor.host_mut::<f64>().unwrap()[at] += by;
                    loss(&student, &teacher.read(), weight)
                };
                let step = 1e-5;
                let (up, down) = (moved(step), moved(-2.0 * step));
                moved(step);
                let expected = (up - down) / (2.0 * step);
                assert!(
                    (found[at] - expected).abs() < 1e-7 + 1e-5 * expected.abs(),
                    "{index}, {at}: {}, {expected}",
                    found[at]
                );
            }
        }
    }
}

#[test]
fn who_cannot_teach_is_told_why() {
    let student = made(1, DType::F32);
    for weight in [0.0, -0.5, 1.5, f64::NAN] {
        let error = Teacher::new(student.clone(), weight).unwrap_err();
        assert!(error.kind == ErrorKind::Argument && error.message.starts_with("distillation is "), "{error}");
    }
    let refused = |teacher: &Arc<RwLock<Model>>, length: usize| {
        Teacher::new(teacher.clone(), 0.5).unwrap().check(&student, length).unwrap_err().message
    };
    assert_eq!(refused(&student, LENGTH), "teacher is the model itself, expected another one");
    let other = |change: fn(&mut ModelOptions)| {
        let mut options = small(false, false, false);
        change(&mut options);
        Arc::new(RwLock::new(Model::new(context(Backend::Simd), options, 1).unwrap()))
    };
    let short = other(|options| options.context_length = 4);
    assert_eq!(refused(&short, LENGTH), "the teacher has a context length of 4, windows have 7 tokens");
    assert!(refused(&other(|options| options.vocabulary += 1), LENGTH).starts_with("the teacher has a vocabulary of "));
    let teacher = made(2, DType::F32);
    let held = teacher.write();
    assert_eq!(Teacher::new(teacher.clone(), 0.5).unwrap_err().kind, ErrorKind::State);
    drop(held);
    // Weights and weight tell two apart.
    let of = |seed: u64, weight: f64| Teacher::new(made(seed, DType::F32), weight).unwrap();
    assert!(of(1, 0.5) == of(1, 0.5) && of(1, 0.5) != of(2, 0.5) && of(1, 0.5) != of(1, 0.4));
    assert!(of(1, 0.5).name() != of(2, 0.5).name());
}
