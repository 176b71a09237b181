//! Runs that learn from another model.

use super::*;
use crate::model::Teacher;
use crate::tensor::ErrorKind;

fn teacher(context: &Arc<Context>, seed: u64, weight: f64) -> Option<Teacher> {
    let made = Model::new(context.clone(), ModelOptions { layers: 1, ..geometry() }, seed).unwrap();
    Some(Teacher::new(Arc::new(RwLock::new(made)), weight).unwrap())
}

#[test]
fn a_resumed_run_is_the_one_that_never_stopped_and_asks_for_the_same_teacher() {
    let context = context(Backend::Simd, 1);
    let ended = |stops: &[usize], taught: Option<Teacher>| {
        let scratch = Scratch::new();
        let options = TrainOptions { checkpoint_dir: Some(scratch.path()), teacher: taught, ..options() };
        let mut done = 0;
        for &stop in stops {
            let mut trainer = trainer(&context, options.clone());
            if done > 0 {
                trainer.resume(&scratch.path(), false).unwrap();
            }
            steps(&mut trainer, stop - done);
            trainer.save().unwrap();
            done = stop;
        }
        if stops.len() > 1 {
            for other in [None, teacher(&context, 8, 0.5), teacher(&context, 7, 0.4)] {
                let mut trainer = trainer(&context, TrainOptions { teacher: other, ..options.clone() });
                let error = trainer.resume(&scratch.path(), false).unwrap_err();
                assert!(error.kind == ErrorKind::Argument && error.message.contains("teacher"), "{error}");
            }
        }
        state(&scratch.path().join("step-00000020"))
    };
    let whole = ended(&[20], teacher(&context, 7, 0.5));
    assert!(ended(&[6, 20], teacher(&context, 7, 0.5)) == whole);
    assert!(ended(&[20], None) != whole && ended(&[20], teacher(&context, 7, 0.4)) != whole);
}

/// The losses that are reported are those of the text, and the model comes to predict as the teacher does.
#[test]
fn a_model_comes_near_its_teacher() {
    let context = context(Backend::Simd, 1);
    let of = |options: TrainOptions| {
        let model = model(&context, geometry());
        (Trainer::new(model.clone(), dataset(), None, options).unwrap(), model)
    };
    let (mut good, teacher) = of(TrainOptions { max_steps: 150, ..options() });
    run(&mut good);
    let apart = |taught: Option<Teacher>| {
        let (mut student, own) = of(TrainOptions { max_steps: 60, seed: 9, teacher: taught, ..options() });
        let first = student.step(&|| false).unwrap().loss;
        run(&mut student);
        let predicted = |model: &Model| {
            let tokens: Vec<u32> = tokens(64);
            let mut activations = crate::model::Activations::new(model, 8, 8).unwrap();
            model.logits(&mut activations, &tokens).unwrap().slice::<f32>().unwrap().to_vec()
        };
        let (a, b) = (predicted(&own.read()), predicted(&teacher.read()));
        let (n, mut sum) = (VOCABULARY, 0.0);
        for (a, b) in a.chunks(n).zip(b.chunks(n)) {
            let of = |row: &[f32]| {
                let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                row.iter().map(|&x| f64::from(x).exp() / total).collect::<Vec<f64>>()
            };
            sum += of(b).iter().zip(of(a)).map(|(q, p)| q * (q / p).ln()).sum::<f64>();
        }
        (first, sum)
    };
    let (first, alone) = apart(None);
    let (with, taught) = apart(Some(Teacher::new(teacher.clone(), 0.9).unwrap()));
    assert_eq!(first, with);
    assert!(taught < 0.9 * alone, "{taught}, alone {alone}");
}
