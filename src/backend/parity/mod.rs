//! Parity: every operation on every backend and CPU level against the reference row, over odd sizes. One file per operation.
//!
//! A test describes one case as a closure that makes its inputs, calls one entry of [`Kernels`] and returns what was written.
//! [`check`] runs it on the `scalar` row, which is the oracle; on `simd` at each CPU level, which must agree (integers
//! exactly, floats within the tolerance that stands beside the operation); and on `parallel` with 1, 2, 3 and 8 threads,
//! which must equal `simd` bit for bit.
//!
//! The environment variable SETUN_PARITY_CUDA adds `cuda`, on the first device: with tensors on the host, and on the device.
//! "1" compares all rows, "only" leaves out those of the CPU.

mod activation;
mod attention;
mod attention_cached;
mod codebook;
mod cross_entropy;
mod elementwise;
mod embedding;
mod feed_forward;
mod fused_norm;
mod gradient;
mod integer_gradient;
mod kmeans;
mod kmeans_closest;
mod kmeans_seed;
mod mask_sign;
mod matmul;
mod matmul_ternary;
mod matmul_ternary_qkv;
mod norm;
mod reduce;
mod rope;
mod scheme;
mod step;
mod ternary;

use super::launch::{Executor, Launch};
use super::pool::Pool;
use super::scalar;
use super::simd::{self, Level};
use super::table::Kernels;
use super::tolerance::{self, first_difference};
pub use super::tolerance::{EXACT, Tolerance, relative};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Element, Error, Result, Tensor};
use std::sync::{Arc, OnceLock};

/// Lengths around the vector widths and past a few blocks of them.
pub const SIZES: [usize; 7] = [0, 1, 7, 63, 64, 65, 257];

const THREADS: [usize; 4] = [1, 2, 3, 8];

/// One way to run an operation.
pub struct Row {
    name: String,
    level: Option<Level>,
    parallel: bool,
    pub kernels: &'static Kernels,
    pub launch: Launch,
}

/// Runs `case` on every row and compares. A case that fails on the reference row must fail on all, with the same kind of
/// error.
pub fn check(name: &str, tolerance: Tolerance, case: impl Fn(&Row) -> Result<Vec<Tensor>>) {
    let rows = rows();
    let expected = case(&rows[0]);
    let mut simd = None;
    for row in &rows[1..] {
        let place = format!("{name} on {}", row.name);
        let result = case(row);
        if row.parallel {
            let (level, serial) = simd.as_ref().expect("the simd row of a level comes before its parallel rows");
            assert_eq!(*level, row.level);
            compare(&place, serial, &result, EXACT);
        } else {
            compare(&place, &expected, &result, tolerance);
            simd = Some((row.level, result));
        }
    }
}

/// The reference first, then for each level `simd` and `parallel` with each number of threads.
fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let baseline = Level::Baseline.spans();
        let launch = Launch::new(Executor::Serial, baseline);
        let mut rows =
            vec![Row { name: "scalar".into(), level: None, parallel: false, kernels: &scalar::KERNELS, launch }];
        let cuda = std::env::var("SETUN_PARITY_CUDA").unwrap_or_default();
        if !cuda.is_empty() {
            rows.extend(cuda_rows());
        }
        if cuda == "only" {
            return rows;
        }
        let pools = THREADS.map(|threads| Arc::new(Pool::new(threads).expect("a test can start its threads")));
        for level in Level::ALL.into_iter().filter(|level| level.available()) {
            let row = |name: String, parallel, executor| Row {
                name,
                level: Some(level),
                parallel,
                kernels: &simd::KERNELS,
                launch: Launch::new(executor, level.spans()),
            };
            rows.push(row(format!("simd, {}", level.name()), false, Executor::Serial));
            for pool in &pools {
                let name = format!("parallel with {} threads, {}", pool.threads(), level.name());
                rows.push(row(name, true, Executor::Pool(pool.clone())));
            }
        }
        rows
    })
}

/// Whether the device is one of `cuda/emulate`, which takes its time: then some tests have fewer of their largest cases.
pub fn emulated() -> bool {
    static EMULATED: OnceLock<bool> = OnceLock::new();
    let asked = || super::cuda::device(0).is_ok_and(|device| device.name == "Setun emulation");
    *EMULATED.get_or_init(|| std::env::var_os("SETUN_PARITY_CUDA").is_some() && asked())
}

/// Those who ask for them have a device.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cuda_rows() -> [Row; 2] {
    use super::{cuda, table};
    let gpu = cuda::Gpu::open(0).unwrap_or_else(|error| panic!("SETUN_PARITY_CUDA is set: {error}"));
    let tables = [("cuda", &cuda::KERNELS), ("cuda, with tensors on the device", &table::ON_DEVICE)];
    tables.map(|(name, kernels)| {
        let launch = Launch::on(gpu.clone(), Level::Baseline.spans());
        Row { name: name.into(), level: None, parallel: false, kernels, launch }
    })
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn cuda_rows() -> [Row; 0] {
    panic!("SETUN_PARITY_CUDA is set: this platform has no cuda")
}

fn compare(place: &str, expected: &Result<Vec<Tensor>>, found: &Result<Vec<Tensor>>, tolerance: Tolerance) {
    match (expected, found) {
        (Ok(expected), Ok(found)) => {
            assert_eq!(expected.len(), found.len(), "{place}: number of results");
            for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare_tensors(&format!("{place}, result {i}"), expected, found, tolerance);
            }
        }
        (Err(expected), Err(found)) => {
            assert_eq!(expected.kind, found.kind, "{place}: expected '{expected}', found '{found}'");
        }
        (Ok(_), Err(found)) => panic!("{place}: failed with '{found}'"),
        (Err(expected), Ok(_)) => panic!("{place}: expected the error '{expected}'"),
    }
}

fn compare_tensors(place: &str, expected: &Tensor, found: &Tensor, tolerance: Tolerance) {
    assert_eq!(expected.dtype(), found.dtype(), "{place}: type");
    assert_eq!(expected.dims(), found.dims(), "{place}: shape");
    assert!(expected.dtype() != DType::F16, "{place}: no operation writes f16");
    let difference = first_difference(expected, found, tolerance).unwrap();
    if let Some((i, expected_element, found_element)) = difference {
        panic!("{place}: element {i} of {:?}: expected {expected_element}, found {found_element}", expected.dims());
    }
}

/// Standard normal numbers; `seed` names the tensor.
pub fn normal(dims: &[usize], seed: u32) -> Tensor {
    let stream = Stream::new(u64::from(seed), Purpose::Test, 0, 0);
    let count = dims.iter().product::<usize>();
    let data: Vec<f32> = (0..count as u64).map(|i| stream.normal(i)).collect();
    Tensor::from_slice(&data, dims).unwrap()
}

/// Integers 0 .. bound, as `T` by `convert`.
pub fn integers<T: Element>(dims: &[usize], seed: u32, bound: u64, convert: impl Fn(u64) -> T) -> Tensor {
    let stream = Stream::new(u64::from(seed), Purpose::Test, 1, 0);
    let count = dims.iter().product::<usize>();
    let data: Vec<T> = (0..count as u64).map(|i| convert(stream.below(i, bound))).collect();
    Tensor::from_slice(&data, dims).unwrap()
}

/// A tensor whose old contents would show in the result if an operation forgot to overwrite them.
pub fn dirty(dtype: DType, dims: &[usize]) -> Tensor {
    let mut tensor = Tensor::zeros(dtype, dims).unwrap();
    match dtype {
        DType::F32 => tensor.host_mut::<f32>().unwrap().fill(-77.5),
        DType::F64 => tensor.host_mut::<f64>().unwrap().fill(-77.5),
        DType::I8 => tensor.host_mut::<i8>().unwrap().fill(-77),
        DType::U8 => tensor.host_mut::<u8>().unwrap().fill(0xAB),
        DType::I32 => tensor.host_mut::<i32>().unwrap().fill(-77),
        DType::U32 => tensor.host_mut::<u32>().unwrap().fill(77),
        DType::F16 => {}
    }
    tensor
}

#[test]
fn the_comparison_sees_a_difference() {
    let differs = |x: f32, y: f32, tolerance| {
        let tensor = |x: f32| Ok(vec![Tensor::from_slice(&[1.0f32, x], &[2]).unwrap()]);
        fails(|| compare("a test of the harness", &tensor(x), &tensor(y), tolerance))
    };
    assert!(differs(1.0, 1.0 + f32::EPSILON, EXACT));
    assert!(differs(0.0, -0.0, EXACT));
    assert!(differs(f32::NAN, 1.0, relative(1e9)));
    assert!(differs(100.0, 101.1, relative(0.01)));
    assert!(!differs(100.0, 101.0, relative(0.01)));
    assert!(!differs(f32::NAN, f32::NAN, EXACT));
    let failed: Result<Vec<Tensor>> = Err(Error::new(crate::tensor::ErrorKind::Format, "byte 3"));
    assert!(fails(|| compare("a test of the harness", &Ok(vec![]), &failed, EXACT)));
}

fn fails(test: impl Fn()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)).is_err()
}
