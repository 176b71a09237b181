//! The verb on every row that a context can have: AdamW and Muon by their formulas, the radius, the box and the flip budget, states
//! in fewer bits, what is refused, skipped and undone and what that leaves, checkpoints.

mod adamw;
mod bounded;
mod flips;
mod guard;
mod limits;
mod lr_net;
mod muon;
mod refusals;
mod schedule;
mod state;
mod states;

use super::report::Refusal;
use super::update::LARGEST_NORM;
use super::*;
use crate::backend::{Backend, Context, ContextOptions};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, ErrorKind, Result, Tensor, View};
use std::ops::{Deref, DerefMut};
use std::path::Path;
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

/// An optimizer and the weights that it steps.
struct Run {
    optimizer: Optimizer,
    weights: Held,
}

impl Run {
    fn new(context: &Arc<Context>, options: &StepOptions) -> Run {
        Run { optimizer: Optimizer::new(context.clone(), options.clone()).unwrap(), weights: Held::default() }
    }

    /// Over all of `SHAPES`.
    fn all(context: &Arc<Context>, options: &StepOptions) -> Run {
        let mut run = Run::new(context, options);
        for (i, (name, kind, dims)) in SHAPES.into_iter().enumerate() {
            run.add(name, &start(i), dims, &ParameterOptions::of(kind));
        }
        run
    }

    fn add(&mut self, name: &str, values: &[f32], dims: &[usize], own: &ParameterOptions) {
        self.try_add(name, Tensor::from_slice(values, dims).unwrap(), own).unwrap();
    }

    fn try_add(&mut self, name: &str, tensor: Tensor, own: &ParameterOptions) -> Result<()> {
        self.optimizer.add(name, &tensor, own)?;
        self.weights.push(tensor)
    }

    /// A ternary parameter of codes.
    fn add_codes(&mut self, name: &str, values: &[f32], dims: &[usize]) {
        let (context, index) = (self.optimizer.context().clone(), self.optimizer.parameters().len());
        let floats = Tensor::from_slice(values, dims).unwrap();
        self.weights.push_codes(&context, &floats, self.optimizer.options().seed, index).unwrap();
        self.optimizer.add(name, self.weights.values(index), &ParameterOptions::of(Kind::Ternary)).unwrap();
    }

    fn step(&mut self, gradients: &[Tensor]) -> Report {
        let views: Vec<View> = gradients.iter().map(Tensor::view).collect();
        let Run { optimizer, weights } = self;
        weights.find_thresholds(&optimizer.context().clone(), optimizer.parameters()).unwrap();
        optimizer.step(weights, &views).unwrap()
    }

    fn step_guarded(&mut self, guard: &GuardOptions, loss: f64, gradients: &[Tensor]) -> Result<Report> {
        let views: Vec<View> = gradients.iter().map(Tensor::view).collect();
        let Run { optimizer, weights } = self;
        weights.find_thresholds(&optimizer.context().clone(), optimizer.parameters())?;
        let norm = optimizer.norm(&views)?;
        optimizer.step_guarded(weights, &Batch { loss, guard: Some((guard, norm)) }, |_| Ok(views))
    }

    fn values(&self, i: usize) -> Vec<f32> {
        self.weights.floats(self.optimizer.context(), i).unwrap().host().unwrap().to_vec()
    }

    /// The floats of the caller.
    fn values_mut(&mut self, i: usize) -> &mut [f32] {
        self.weights.weight(i).values.host_mut().unwrap()
    }

    fn tensors(&self) -> Vec<&Tensor> {
        let of = |i: usize| {
            let states = self.optimizer.parameters()[i].states.named().map(|(_, tensor)| tensor);
            self.weights.tensors(i).into_iter().chain(states)
        };
        (0..self.optimizer.parameters().len()).flat_map(of).collect()
    }

    /// Every bit of the parameters and their states.
    fn bits(&self) -> Vec<u8> {
        self.tensors().iter().flat_map(|tensor| tensor.read_bytes().unwrap().to_vec()).collect()
    }

    /// Whether every float among them, and so every code, is a number.
    fn is_finite(&self) -> bool {
        let floats = self.tensors().into_iter().filter(|tensor| tensor.dtype() == DType::F32);
        floats.flat_map(|tensor| tensor.host::<f32>().unwrap()).all(|x| x.is_finite())
    }

    fn save(&self, path: &Path) -> Result<()> {
        self.optimizer.save(&self.weights, path)
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        self.optimizer.load(&mut self.weights, path)
    }

    fn keep(&mut self) {
        self.optimizer.keep(&mut self.weights).unwrap();
    }

    fn undo(&mut self) {
        self.optimizer.undo(&mut self.weights).unwrap();
    }
}

impl Deref for Run {
    type Target = Optimizer;

    fn deref(&self) -> &Optimizer {
        &self.optimizer
    }
}

impl DerefMut for Run {
    fn deref_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }
}

/// The gradients of a step, of a size that clipping at 1 acts on in two of three steps.
fn gradients(step: u32) -> Vec<Tensor> {
    let deviation = if step.is_multiple_of(3) { 1e-3 } else { 0.1 };
    let gradient = |i: usize| normal(count(i), 100 + i as u64, step, deviation);
    (0..SHAPES.len()).map(|i| Tensor::from_slice(&gradient(i), SHAPES[i].2).unwrap()).collect()
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
        ("radius is NaN", StepOptions { radius: Some(nan), ..good() }),
        ("radius is -1", StepOptions { radius: Some(-1.0), ..good() }),
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
        ("momentum is 1", StepOptions { momentum: 1.0, ..good() }),
        ("momentum is NaN", StepOptions { momentum: nan, ..good() }),
        ("muon_rms is 0", StepOptions { muon_rms: 0.0, ..good() }),
        ("muon_rms is 1001", StepOptions { muon_rms: 1001.0, ..good() }),
        ("muon_rms is NaN", StepOptions { muon_rms: nan, ..good() }),
        ("flip_budget is -0.1", StepOptions { flip_budget: -0.1, ..good() }),
        ("flip_budget is 1.5", StepOptions { flip_budget: 1.5, ..good() }),
        ("flip_budget is NaN", StepOptions { flip_budget: nan, ..good() }),
        (
            "total_steps is 0",
            StepOptions { schedule: Schedule { decay: Decay::Cosine, ..Schedule::CONSTANT }, ..good() },
        ),
        ("minimum_lr_ratio is 2", StepOptions { schedule: Schedule { minimum: 2.0, ..Schedule::CONSTANT }, ..good() }),
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
    let mut run = Run::new(&context(Backend::Simd, 1), &StepOptions::default());
    let Run { optimizer, weights } = &mut run;
    assert_eq!(optimizer.step(weights, &[]).unwrap_err().kind, ErrorKind::State);
    let tensor = |x: &[f32]| Tensor::from_slice(x, &[x.len()]).unwrap();
    let vector = ParameterOptions::of(Kind::Vector);
    run.add("a", &[1.0, 2.0], &[2], &vector);
    let mut refused = |name, tensor, own: &ParameterOptions| run.try_add(name, tensor, own).unwrap_err();
    assert_eq!(refused("a", tensor(&[1.0]), &vector).message, "there is a parameter a already");
    assert_eq!(refused("", tensor(&[1.0]), &vector).message, "name is empty");
    let half = Tensor::zeros(DType::F16, &[3]).unwrap();
    assert_eq!(refused("b", half, &vector).kind, ErrorKind::DType);
    let crossed = ParameterOptions { lower: Some(3.0), upper: Some(2.0), ..vector.clone() };
    assert!(refused("b", tensor(&[1.0]), &crossed).message.starts_with("parameter b: lower is 3"));
    let unknown = ParameterOptions { radius: Some(f64::NAN), ..vector.clone() };
    assert!(refused("b", tensor(&[1.0]), &unknown).message.starts_with("parameter b: radius is NaN"));
    let Run { optimizer, weights } = &mut run;
    assert_eq!(optimizer.step(weights, &[]).unwrap_err().kind, ErrorKind::Argument);
    assert_eq!(optimizer.step(weights, &[tensor(&[1.0]).view()]).unwrap_err().kind, ErrorKind::Shape);
    assert_eq!(optimizer.progress().steps, 0);
    run.step(&[tensor(&[1.0, 1.0])]);
    assert_eq!(run.try_add("b", tensor(&[1.0]), &vector).unwrap_err().kind, ErrorKind::State);
    assert_eq!(run.state_bytes(), 2 * 2 * 4);
}

/// `parallel` equals `simd` bit for bit, whatever the number of threads: parameters, states and reports.
#[test]
fn the_number_of_threads_changes_nothing() {
    let after_steps = |backend, threads| {
        let options = StepOptions { learning_rate: 0.05, lower: -0.2, ..StepOptions::default() };
        let mut run = Run::all(&context(backend, threads), &options);
        let reports: Vec<Report> = (1..=5).map(|t| run.step(&gradients(t))).collect();
        (run.bits(), reports)
    };
    let expected = after_steps(Backend::Simd, 1);
    assert!(expected.1.iter().any(|report| report.held > 0 && report.clamped > 0));
    for threads in [1, 2, 3, 8] {
        assert!(after_steps(Backend::Parallel, threads) == expected, "{threads} threads");
    }
}
