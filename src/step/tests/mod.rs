//! The verb on every row that a context can have: AdamW by its formula, the radius and the box, what is refused and what that
//! leaves, checkpoints.

mod adamw;
mod guard;
mod limits;
mod state;

use super::report::Refusal;
use super::update::LARGEST_NORM;
use super::*;
use crate::backend::{Backend, Context, ContextOptions};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{ErrorKind, Tensor, View};
use std::sync::Arc;

fn context(backend: Backend, threads: usize) -> Arc<Context> {
    let options = ContextOptions { backend: Some(backend), threads, ..ContextOptions::default() };
    Arc::new(Context::new(&options).unwrap())
}

fn contexts() -> Vec<Arc<Context>> {
    [Backend::Scalar, Backend::Simd, Backend::Parallel].into_iter().map(|backend| context(backend, 2)).collect()
}

fn normal(count: usize, seed: u64, step: u32, deviation: f32) -> Vec<f32> {
    let stream = Stream::new(seed, Purpose::Test, step, 0);
    (0..count as u64).map(|i| stream.normal(i) * deviation).collect()
}

/// A matrix, one of ternary masters past a chunk, biases that begin at 0, gains, and a parameter without elements.
const SHAPES: [(&str, Kind, &[usize]); 5] = [
    ("matrix", Kind::Matrix, &[7, 5]),
    ("masters", Kind::Ternary, &[300, 120]),
    ("biases", Kind::Vector, &[7]),
    ("gains", Kind::Vector, &[65]),
    ("nothing", Kind::Matrix, &[0, 4]),
];

fn count(i: usize) -> usize {
    SHAPES[i].2.iter().product()
}

fn start(i: usize) -> Vec<f32> {
    match SHAPES[i].0 {
        "biases" => vec![0.0; count(i)],
        "gains" => vec![1.0; count(i)],
        _ => normal(count(i), i as u64, 0, 0.1),
    }
}

fn optimizer(context: &Arc<Context>, options: &StepOptions) -> Optimizer {
    let mut optimizer = Optimizer::new(context.clone(), options.clone()).unwrap();
    for (i, (name, kind, dims)) in SHAPES.into_iter().enumerate() {
        let tensor = Tensor::from_slice(&start(i), dims).unwrap();
        optimizer.add(name, tensor, &ParameterOptions::of(kind)).unwrap();
    }
    optimizer
}

/// The gradients of a step, of a size that clipping at 1 acts on in two of three steps.
fn gradients(step: u32) -> Vec<Tensor> {
    let deviation = if step.is_multiple_of(3) { 1e-3 } else { 0.1 };
    let gradient = |i: usize| normal(count(i), 100 + i as u64, step, deviation);
    (0..SHAPES.len()).map(|i| Tensor::from_slice(&gradient(i), SHAPES[i].2).unwrap()).collect()
}

fn step(optimizer: &mut Optimizer, gradients: &[Tensor]) -> Report {
    let views: Vec<View> = gradients.iter().map(Tensor::view).collect();
    optimizer.step(&views).unwrap()
}

fn values(optimizer: &Optimizer, i: usize) -> Vec<f32> {
    optimizer.parameters()[i].tensor.host().unwrap().to_vec()
}

/// Every bit of the parameters and their states.
fn bits(optimizer: &Optimizer) -> Vec<u32> {
    let all = optimizer.parameters().iter().flat_map(|p| [&p.tensor, &p.m, &p.v]);
    all.flat_map(|tensor| tensor.host::<f32>().unwrap().iter().map(|x| x.to_bits())).collect()
}

fn rms(x: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = x.len().max(1) as f64;
    (x.map(|x| x * x).sum::<f64>() / count).sqrt()
}

fn off() -> StepOptions {
    StepOptions { radius_mode: RadiusMode::Off, ..StepOptions::default() }
}

#[test]
fn options_out_of_their_range_are_refused_by_name() {
    let good = StepOptions::default;
    let (nan, infinity) = (f64::NAN, f64::INFINITY);
    let cases: Vec<(&str, StepOptions)> = vec![
        ("learning_rate is -0.1", StepOptions { learning_rate: -0.1, ..good() }),
        ("learning_rate is NaN", StepOptions { learning_rate: nan, ..good() }),
        ("learning_rate is 1", StepOptions { learning_rate: 1e39, ..good() }),
        ("beta1 is 1", StepOptions { beta1: 1.0, ..good() }),
        ("beta2 is 0.99999999999", StepOptions { beta2: 0.999_999_999_99, ..good() }),
        ("beta2 is -0.1", StepOptions { beta2: -0.1, ..good() }),
        ("epsilon is 0", StepOptions { epsilon: 0.0, ..good() }),
        ("epsilon is 2", StepOptions { epsilon: 2.0, ..good() }),
        ("epsilon is NaN", StepOptions { epsilon: nan, ..good() }),
        ("weight_decay is -1", StepOptions { weight_decay: -1.0, ..good() }),
        ("clip is inf", StepOptions { clip: infinity, ..good() }),
        ("radius is NaN", StepOptions { radius: nan, ..good() }),
        ("radius is -1", StepOptions { radius: -1.0, ..good() }),
        ("radius_floor is -1", StepOptions { floor: -1.0, ..good() }),
        ("vector_floor is inf", StepOptions { vector_floor: infinity, ..good() }),
        ("lower is 2, upper is 1", StepOptions { lower: 2.0, upper: 1.0, ..good() }),
        ("lower is NaN", StepOptions { lower: nan, ..good() }),
        ("lower is inf", StepOptions { lower: infinity, ..good() }),
        ("upper is -inf", StepOptions { upper: -infinity, ..good() }),
        // As f32 these are infinities, or more than a later step could measure.
        ("lower is 1", StepOptions { lower: 1e39, ..good() }),
        ("upper is -1", StepOptions { upper: -1e39, ..good() }),
        ("lower is 1", StepOptions { lower: 1e19, ..good() }),
    ];
    for (expected, options) in cases {
        let error = options.validate().expect_err(expected);
        assert_eq!(error.kind, ErrorKind::Argument, "{error}");
        assert!(error.message.starts_with(expected), "'{error}' does not start with '{expected}'");
    }
    good().validate().unwrap();
}

#[test]
fn parameters_are_added_once_and_before_the_first_step() {
    let context = context(Backend::Simd, 1);
    let mut optimizer = Optimizer::new(context, StepOptions::default()).unwrap();
    assert_eq!(optimizer.step(&[]).unwrap_err().kind, ErrorKind::State);
    let tensor = |x: &[f32]| Tensor::from_slice(x, &[x.len()]).unwrap();
    let vector = ParameterOptions::of(Kind::Vector);
    optimizer.add("a", tensor(&[1.0, 2.0]), &vector).unwrap();
    let mut refused = |name, tensor, own: &ParameterOptions| optimizer.add(name, tensor, own).unwrap_err();
    assert_eq!(refused("a", tensor(&[1.0]), &vector).message, "there is a parameter a already");
    assert_eq!(refused("", tensor(&[1.0]), &vector).message, "name is empty");
    let half = Tensor::zeros(crate::tensor::DType::F16, &[3]).unwrap();
    assert_eq!(refused("b", half, &vector).kind, ErrorKind::DType);
    let crossed = ParameterOptions { lower: Some(3.0), upper: Some(2.0), ..vector.clone() };
    assert!(refused("b", tensor(&[1.0]), &crossed).message.starts_with("parameter b: lower is 3"));
    let gradient = tensor(&[1.0, 1.0]);
    assert_eq!(optimizer.step(&[]).unwrap_err().kind, ErrorKind::Argument);
    assert_eq!(optimizer.step(&[tensor(&[1.0]).view()]).unwrap_err().kind, ErrorKind::Shape);
    assert_eq!(optimizer.progress().steps, 0);
    optimizer.step(&[gradient.view()]).unwrap();
    assert_eq!(optimizer.add("b", tensor(&[1.0]), &vector).unwrap_err().kind, ErrorKind::State);
    assert_eq!(optimizer.state_bytes(), 2 * 2 * 4);
}

/// `parallel` equals `simd` bit for bit, whatever the number of threads: parameters, states and reports.
#[test]
fn the_number_of_threads_changes_nothing() {
    let run = |backend, threads| {
        let options = StepOptions { learning_rate: 0.05, lower: -0.2, ..StepOptions::default() };
        let mut optimizer = optimizer(&context(backend, threads), &options);
        let reports: Vec<Report> = (1..=5).map(|t| step(&mut optimizer, &gradients(t))).collect();
        (bits(&optimizer), reports)
    };
    let expected = run(Backend::Simd, 1);
    assert!(expected.1.iter().any(|report| report.held > 0 && report.clamped > 0));
    for threads in [1, 2, 3, 8] {
        assert!(run(Backend::Parallel, threads) == expected, "{threads} threads");
    }
}
