//! What the tests of the reference kernels share. Kernels are called through [`KERNELS`], so that its entries are tested too.

pub use super::KERNELS;
use crate::backend::Level;
use crate::backend::launch::{Executor, Launch};
pub use crate::tensor::error::ErrorKind;
use crate::tensor::random::{Purpose, Stream};
pub use crate::tensor::{DType, Element, Float, Result, Tensor, View, ViewMut};

pub fn launch() -> Launch {
    Launch::new(Executor::Serial, Level::Baseline.spans())
}

pub fn view<'a, T: Element>(x: &'a [T], dims: &[usize]) -> View<'a> {
    View::of(x, dims).unwrap()
}

pub fn view_mut<'a, T: Element>(x: &'a mut [T], dims: &[usize]) -> ViewMut<'a> {
    ViewMut::of(x, dims).unwrap()
}

/// Standard normal numbers, the same ones for the same `tensor`. They are f32, so that both element types hold them.
pub fn numbers(tensor: u32, count: usize) -> Vec<f64> {
    let stream = Stream::new(1958, Purpose::Test, 0, tensor);
    (0..count).map(|i| f64::from(stream.normal(i as u64))).collect()
}

/// Uniform integers below `bound`.
pub fn integers(tensor: u32, count: usize, bound: u64) -> Vec<u32> {
    let stream = Stream::new(1958, Purpose::Test, 1, tensor);
    (0..count).map(|i| stream.below(i as u64, bound) as u32).collect()
}

pub fn of<T: Float>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&x| T::of(x)).collect()
}

pub fn to_f64<T: Float>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.f64()).collect()
}

pub fn dot(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// How far a result of type T may be from its formula in f64, in parts of max(1, |result|).
pub fn tolerance<T: Float>() -> f64 {
    if T::DTYPE == DType::F64 { 1e-13 } else { 2e-6 }
}

pub fn assert_close<T: Float>(what: &str, found: &[T], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (x, &y)) in found.iter().zip(expected).enumerate() {
        let difference = (x.f64() - y).abs();
        assert!(difference <= tolerance * y.abs().max(1.0), "{what}: element {i} is {}, expected {y}", x.f64());
    }
}

/// The gradient of `f` at `x` by central differences.
pub fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut x = x.to_vec();
    let at = |x: &mut Vec<f64>, i: usize, value: f64| {
        let old = std::mem::replace(&mut x[i], value);
        let result = f(x);
        x[i] = old;
        result
    };
    (0..x.len())
        .map(|i| {
            let (above, below) = (x[i] + STEP, x[i] - STEP);
            (at(&mut x, i, above) - at(&mut x, i, below)) / (above - below)
        })
        .collect()
}

/// Central differences with a step of 1e-5 are wrong by its square times the third derivative, and by rounding.
pub const DIFFERENCES: f64 = 1e-8;

/// The canonical sum of `terms` as its definition reads, lane by lane and fold by fold.
pub fn canonical<T: Float>(terms: &[T]) -> f64 {
    let fold = |lanes: &[T]| -> Vec<T> {
        let half = lanes.len() / 2;
        (0..half).map(|j| lanes[j] + lanes[half + j]).collect()
    };
    let mut total = 0.0;
    for start in (0..terms.len()).step_by(4096) {
        let end = terms.len().min(start + 4096);
        let mut lane_sums = Vec::new();
        for lane in 0..32 {
            let mut sum = T::of(0.0);
            for i in (start + lane..end).step_by(32) {
                sum += terms[i];
            }
            lane_sums.push(sum);
        }
        let (of_16, of_8) = (fold(&lane_sums), fold(&fold(&lane_sums)));
        assert_eq!((of_16.len(), of_8.len()), (16, 8));
        total += fold(&fold(&fold(&of_8)))[0].f64();
    }
    total
}

/// Lengths at the edges of lanes and blocks.
pub const CANONICAL_SIZES: [usize; 9] = [0, 1, 31, 32, 33, 4095, 4096, 4097, 3 * 4096 + 17];

pub fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.kind,
    }
}

/// `call` works with `tensors`, and answers DTYPE when any one of them has another element type.
pub fn refuses_other_types<const N: usize>(
    what: &str,
    tensors: [Tensor; N],
    call: impl Fn(&mut [Tensor; N]) -> Result<()>,
) {
    let mut tensors = tensors;
    call(&mut tensors).unwrap_or_else(|error| panic!("{what}: {error}"));
    for i in 0..N {
        for other in [DType::I32, DType::F16, DType::U8, DType::F64] {
            if other == tensors[i].dtype() || (other == DType::F64 && N == 1) {
                continue;
            }
            let other = Tensor::zeros(other, tensors[i].dims()).unwrap();
            let right = std::mem::replace(&mut tensors[i], other);
            assert_eq!(kind(call(&mut tensors)), ErrorKind::DType, "{what}: argument {i} as {}", tensors[i].dtype());
            tensors[i] = right;
        }
    }
}

pub fn zeros<T: Element>(dims: &[usize]) -> Tensor {
    Tensor::zeros(T::DTYPE, dims).unwrap()
}
