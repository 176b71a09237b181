//! A case: one operation at one size. Its arguments are made when it is measured, once for all rows.
//!
//! ```text
//! cases.add("fill", n.to_string(), Work::elements(n, 0, 4 * n), move || {
//!     let mut y = zeros(&[n])?;
//!     call(move |kernels, launch| (kernels.fill)(launch, 1.0, &mut y.view_mut()))
//! });
//! ```

use crate::backend::cuda::{self, Gpu};
use crate::backend::launch::{Executor, Launch};
use crate::backend::table::Kernels;
use crate::backend::{Level, simd};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Element, Result, Tensor};
use std::cell::RefCell;
use std::sync::Arc;

/// Calls one entry of the table on arguments that it holds.
pub type Call = Box<dyn FnMut(&Kernels, &Launch) -> Result<()> + Send>;

pub struct Case {
    /// The name of the entry in [`Kernels`].
    pub operation: &'static str,
    pub sizes: String,
    pub work: Work,
    /// Whether it is measured, and not only compared.
    pub timed: bool,
    /// Whether it is of a size that is measured on a GPU only.
    pub only_gpu: bool,
    make: Box<dyn Fn() -> Result<Call>>,
}

impl Case {
    /// With its arguments on the host.
    pub fn call(&self) -> Result<Call> {
        (self.make)()
    }

    /// With its arguments on a device.
    pub fn call_on(&self, gpu: &Arc<Gpu>) -> Result<Call> {
        HOME.set(Some(gpu.clone()));
        let call = (self.make)();
        HOME.set(None);
        call
    }
}

#[derive(Default)]
pub struct Cases {
    pub all: Vec<Case>,
    only_gpu: bool,
}

impl Cases {
    /// Whether what is added from here on is of a size for GPUs, which a CPU would take seconds for.
    pub fn only_gpu(&mut self, only: bool) {
        self.only_gpu = only;
    }

    /// Adds a case of the entry `operation`: `make` makes the arguments and ends in [`call`].
    pub fn add(
        &mut self,
        operation: &'static str,
        sizes: impl Into<String>,
        work: Work,
        make: impl Fn() -> Result<Call> + 'static,
    ) {
        self.push(operation, sizes.into(), Some(work), Box::new(make));
    }

    /// Adds a case that is compared and not timed: of odd sizes, so that every tail of a loop runs.
    pub fn add_odd(
        &mut self,
        operation: &'static str,
        sizes: impl Into<String>,
        make: impl Fn() -> Result<Call> + 'static,
    ) {
        self.push(operation, sizes.into(), None, Box::new(make));
    }

    #[inline(never)] // into a hundred places
    fn push(
        &mut self,
        operation: &'static str,
        sizes: String,
        work: Option<Work>,
        make: Box<dyn Fn() -> Result<Call>>,
    ) {
        let (timed, only_gpu) = (work.is_some(), self.only_gpu && work.is_some());
        let work = work.unwrap_or(Work::elements(1, 0, 1));
        self.all.push(Case { operation, sizes, work, timed, only_gpu, make });
    }
}

/// The end of a `make`: what is timed.
pub fn call(call: impl FnMut(&Kernels, &Launch) -> Result<()> + Send + 'static) -> Result<Call> {
    Ok(Box::new(call))
}

/// Calls an entry once, to make what the arguments of a case depend on.
pub fn prepare(call: impl FnOnce(&Kernels, &Launch) -> Result<()>) -> Result<()> {
    let spans = Level::Baseline.spans();
    match home() {
        Some(gpu) => call(&cuda::KERNELS, &Launch::on(gpu, spans)),
        None => call(&simd::KERNELS, &Launch::new(Executor::Serial, spans)),
    }
}

/// What one call does: each byte of the arguments is counted once for being read and once for being written.
#[derive(Clone, Copy)]
pub struct Work {
    /// The size of the call: elements of its largest tensor, or multiplications of products.
    pub size: usize,
    pub read: usize,
    pub written: usize,
    pub products: Option<Arithmetic>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    Float,
    Int8,
    /// 8-bit integers with trits of two bits, which are unpacked for it.
    Packed,
}

impl Work {
    /// Of an operation on vectors of so many elements, in bytes.
    pub fn elements(size: usize, read: usize, written: usize) -> Work {
        Work { size, read, written, products: None }
    }

    /// Of so many multiplications of f32, each with an addition.
    pub fn float_products(size: usize, read: usize, written: usize) -> Work {
        Work { products: Some(Arithmetic::Float), ..Work::elements(size, read, written) }
    }

    /// Of so many multiplications of 8-bit integers, each with an addition.
    pub fn int8_products(size: usize, read: usize, written: usize) -> Work {
        Work { products: Some(Arithmetic::Int8), ..Work::elements(size, read, written) }
    }

    /// The same with packed trits, of which each meets one other number: what it takes to unpack them counts.
    pub fn packed_products(size: usize, read: usize, written: usize) -> Work {
        Work { products: Some(Arithmetic::Packed), ..Work::elements(size, read, written) }
    }

    pub fn bytes(&self) -> f64 {
        (self.read + self.written) as f64
    }

    /// Multiplications and additions of products.
    pub fn operations(&self) -> f64 {
        if self.products.is_some() { 2.0 * self.size as f64 } else { 0.0 }
    }

    /// What the rate of the operation counts, and its unit in billions a second.
    pub fn rate(&self) -> (f64, &'static str) {
        match self.products {
            Some(Arithmetic::Float) => (self.operations(), "GFLOP/s"),
            Some(Arithmetic::Int8 | Arithmetic::Packed) => (self.operations(), "GOP/s"),
            None => (self.bytes(), "GB/s"),
        }
    }
}

thread_local! {
    /// Where the arguments of the case that is being made belong.
    static HOME: RefCell<Option<Arc<Gpu>>> = const { RefCell::new(None) };
}

fn home() -> Option<Arc<Gpu>> {
    HOME.with_borrow(Clone::clone)
}

/// A tensor of the host, where it belongs.
fn placed(tensor: Tensor) -> Result<Tensor> {
    match home() {
        Some(gpu) => gpu.upload_view(&tensor.view()),
        None => Ok(tensor),
    }
}

/// Elements that are made one by one; longer tensors repeat them, which no operation's speed knows of.
const PATTERN: usize = 1 << 14;

/// A tensor of `value(i)`.
fn filled<T: Element>(dims: &[usize], value: &dyn Fn(u64) -> T) -> Result<Tensor> {
    let mut tensor = Tensor::zeros(T::DTYPE, dims)?;
    let data = tensor.host_mut::<T>()?;
    let (pattern, rest) = data.split_at_mut(PATTERN.min(data.len()));
    pattern.iter_mut().zip(0..).for_each(|(x, i)| *x = value(i));
    rest.chunks_mut(PATTERN).for_each(|chunk| chunk.copy_from_slice(&pattern[..chunk.len()]));
    placed(tensor)
}

fn stream(seed: u32) -> Stream {
    Stream::new(0, Purpose::Initialize, 0, seed)
}

/// Standard normal f32; `seed` names the tensor.
#[inline(never)] // as `zeros_of`
pub fn normal(dims: &[usize], seed: u32) -> Result<Tensor> {
    filled(dims, &|i| stream(seed).normal(i))
}

/// The same numbers as f64.
#[inline(never)] // as `zeros_of`
pub fn normal_f64(dims: &[usize], seed: u32) -> Result<Tensor> {
    filled(dims, &|i| f64::from(stream(seed).normal(i)))
}

/// u32 below `bound`.
#[inline(never)] // as `zeros_of`
pub fn indices(dims: &[usize], seed: u32, bound: usize) -> Result<Tensor> {
    filled(dims, &|i| stream(seed).below(i, bound as u64) as u32)
}

/// Codes of -127 ..= 127.
#[inline(never)] // as `zeros_of`
pub fn codes(dims: &[usize], seed: u32) -> Result<Tensor> {
    filled(dims, &|i| (stream(seed).below(i, 255) as i32 - 127) as i8)
}

/// Codes as of a gradient, -32 ..= 32.
pub fn small_codes(dims: &[usize], seed: u32) -> Result<Tensor> {
    filled(dims, &|i| (stream(seed).below(i, 65) as i32 - 32) as i8)
}

/// Trits, four a byte: [n, k] as [n, ceil(k / 4)] u8. k is a multiple of 4.
pub fn packed(n: usize, k: usize, seed: u32) -> Result<Tensor> {
    let trits = |i: u64| (i % 3) | (i / 3 % 3) << 2 | (i / 9 % 3) << 4 | (i / 27) << 6;
    filled(&[n, k / 4], &|i| trits(stream(seed).below(i, 81)) as u8)
}

/// f32, all the same.
#[inline(never)] // as `zeros_of`
pub fn constant(dims: &[usize], value: f32) -> Result<Tensor> {
    filled(dims, &|_| value)
}

/// f32 that ascend in even steps, from -3 to 3.
pub fn steps(count: usize) -> Result<Tensor> {
    filled(&[count], &|i| 6.0 * (i + 1) as f32 / (count + 1) as f32 - 3.0)
}

/// f32 zeros.
#[inline(never)] // as `zeros_of`
pub fn zeros(dims: &[usize]) -> Result<Tensor> {
    zeros_of(DType::F32, dims)
}

#[inline(never)] // it is called for every tensor of every case
pub fn zeros_of(dtype: DType, dims: &[usize]) -> Result<Tensor> {
    match home() {
        Some(gpu) => gpu.zeros(dtype, dims),
        None => Tensor::zeros(dtype, dims),
    }
}
