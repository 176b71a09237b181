//! The loss over the validation split against one window at a time.

use super::*;
use crate::model::Activations;
use crate::tensor::{ErrorKind, never};

/// The mean over the given windows, each by itself.
fn one_by_one(model: &Model, dataset: &Dataset, windows: &[usize]) -> f64 {
    let length = geometry().context_length;
    let mut activations = Activations::new(model, 1, length).unwrap();
    let (mut tokens, mut targets) = (vec![0; length], vec![0; length]);
    let mut sum = 0.0;
    for &window in windows {
        dataset.window(Split::Validation, window, length, &mut tokens, &mut targets).unwrap();
        sum += model.loss(&mut activations, (&tokens, &targets), None, &never).unwrap();
    }
    sum / windows.len() as f64
}

#[test]
fn the_batch_size_does_not_matter() {
    for backend in [Backend::Scalar, Backend::Simd] {
        let context = context(backend, 1);
        let model = model(&context, geometry());
        let dataset = dataset();
        // 200 validation tokens: (200 - 1) / 8 = 24 windows.
        let exact = one_by_one(&model.read(), &dataset, &(0..24).collect::<Vec<_>>());
        for batch_size in [1, 4, 7, 24, 100] {
            let options = TrainOptions { batch_size, ..options() };
            let mut trainer = Trainer::new(model.clone(), dataset.clone(), None, options).unwrap();
            for _ in 0..2 {
                let loss = trainer.evaluate(&|| false).unwrap();
                assert!((loss - exact).abs() < 1e-6, "{backend:?}, batch {batch_size}: {loss}, expected {exact}");
            }
            // An evaluation between steps leaves them alone.
            trainer.step(&|| false).unwrap();
            let after = trainer.evaluate(&|| false).unwrap();
            let exact = one_by_one(&model.read(), &dataset, &(0..24).collect::<Vec<_>>());
            assert!((after - exact).abs() < 1e-6, "{backend:?}, batch {batch_size}: {after}, expected {exact}");
            *model.write() = Model::new(context.clone(), geometry(), 5).unwrap();
        }
    }
}

#[test]
fn a_limit_reads_windows_spread_over_the_split() {
    let model = model(&context(Backend::Simd, 1), geometry());
    let dataset = dataset();
    for (limit, windows) in [(5, vec![0, 4, 9, 14, 19]), (24, (0..24).collect()), (1000, (0..24).collect())] {
        let options = TrainOptions { evaluation_windows: limit, ..options() };
        let mut trainer = Trainer::new(model.clone(), dataset.clone(), None, options).unwrap();
        let (loss, exact) = (trainer.evaluate(&|| false).unwrap(), one_by_one(&model.read(), &dataset, &windows));
        assert!((loss - exact).abs() < 1e-6, "limit {limit}: {loss}, expected {exact}");
    }
}

#[test]
fn without_a_validation_split_a_run_does_not_evaluate() {
    let dataset = Arc::new(Dataset::from_tokens(tokens(500), VOCABULARY, 0.0).unwrap());
    let mut trainer = Trainer::new(model(&context(Backend::Simd, 1), geometry()), dataset, None, options()).unwrap();
    run(&mut trainer);
    assert_eq!(trainer.metrics().validation_loss, None);
    assert_eq!(trainer.evaluate(&|| false).unwrap_err().kind, ErrorKind::State);
}
